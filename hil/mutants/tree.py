"""Copies of the source to plant defects in, and pytest in them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Literal

from .mutant import Mutant

# What tests may look at; what is not there is not copied.
PARTS = (
    *("agent", "config", "drivers", "hil", "tests", "docs", "systemd"),
    *("pyproject.toml", "constraints.txt", "Makefile", "README.md", "CHANGELOG.md"),
)
TEST_TIMEOUT_S = 120  # more than any of them needs on a busy machine
RUN_TIMEOUT_S = 1200.0  # of all the tests that one process runs

Result = Literal["passed", "failed", "error", "skipped"]
RESULTS: Mapping[str, Result] = {"failure": "failed", "error": "error", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class Case:
    """What became of one test."""

    name: str
    result: Result
    message: str = ""  # the exception in a line
    text: str = ""  # all that was told


@dataclass(frozen=True, slots=True)
class Told:
    """What a run of pytest said; no cases where it did not come to an end."""

    cases: Sequence[Case]
    output: str
    took_s: float
    in_time: bool = True


class Tree:
    """A copy of the source in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def copied(cls, source: Path, folder: Path, *, with_caches: bool = False) -> Tree:
        """Copy the source; caches stay right, because the copies keep their times."""
        folder.mkdir(parents=True)
        leave = shutil.ignore_patterns("node_modules", *(() if with_caches else ("__pycache__",)))
        for part in PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, folder / part, ignore=leave)
            elif (source / part).exists():
                shutil.copy2(source / part, folder / part)
        return cls(folder)

    def plant(self, mutant: Mutant) -> None:
        """Change the file. Raises StaleError."""
        file = self.folder / mutant.file
        file.write_text(mutant.applied(self.folder), encoding="utf-8")
        # A cache is told from its source by size and whole seconds: this one would pass for right.
        Path(cache_from_source(str(file))).unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def pytest(self, nodes: Sequence[str], number: int = 0, *options: str) -> Told:
        """Run these tests with this source, and nothing of the one it was copied from."""
        report = self.folder / f"report-{number}.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--hypothesis-profile=hasty", f"--timeout={TEST_TIMEOUT_S}"]
        command += [f"--junitxml={report}", *options, *nodes]
        began_s = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder), "CI": "true"},  # CI: no chance
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # what its tests have started ends with it
        )
        in_time = True
        try:
            output, _ = child.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if not in_time:
            output = f"no end after {RUN_TIMEOUT_S:.0f} s"
        cases = _cases(report) if in_time and report.exists() else ()
        return Told(cases, output, time.monotonic() - began_s, in_time)


def _cases(report: Path) -> list[Case]:
    cases = []
    for element in ET.parse(report).iter("testcase"):  # noqa: S314  (pytest wrote it just now)
        name = f"{element.get('classname')}::{element.get('name')}"
        # A test may fail and its fixture err after it: the test's own word counts.
        said = {child.tag: child for child in element}
        for tag, result in RESULTS.items():
            if tag in said:
                told = "\n".join(each.text or "" for each in said.values())
                cases.append(Case(name, result, said[tag].get("message") or "", told))
                break
        else:
            cases.append(Case(name, "passed"))
    return cases
