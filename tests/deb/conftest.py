"""Systems and packages, each made once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deb.package import RELEASES
from deb.rootfs import rootfs
from tests.deb.systems import System, need_root

PROJECT = Path(__file__).resolve().parents[2]
Build = Callable[[str, str], Path]


@contextmanager
def alone(name: str, folder: Path) -> Iterator[None]:
    """Let one process at a time make something for all."""
    with (folder / f"{name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def build_package(release: str, architecture: str, out: Path) -> Path:
    """Build the package as `make deb` does, but compressed in less time."""
    done = subprocess.run(
        [
            *(sys.executable, "deb/package.py", "--fast", "--out", str(out)),
            *("--release", release, "--architecture", architecture),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build each package once, whatever the number of processes that share the tests."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "packages"
    out.mkdir(exist_ok=True)

    def built(release: str, architecture: str) -> Path:
        with alone(f"{release}-{architecture}", out):
            there = [*out.glob(f"*~deb{RELEASES[release][0]}_{architecture}.deb")]
            return there[0] if there else build_package(release, architecture, out)

    return built


def fresh_system(release: str, folder: Path) -> System:
    """Return a fresh system of a release, to be entered."""
    need_root()
    with alone(release, Path("/var/lock")):
        return System(rootfs(release), folder)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Callable[[str], System]]:
    """Give a fresh system of a release."""
    with ExitStack() as stack:
        yield lambda release: stack.enter_context(fresh_system(release, tmp_path / release))
