"""Debian systems to install the package in: each test has a copy of its own, without a network.

The copy is an overlay over a system made once (deb/rootfs.py). Commands run in a container of
systemd's, plainly or with systemd booted in it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

WAIT_S = 480.0  # for anything that must happen, on a loaded machine
NSPAWN = ("systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network")
numbers = itertools.count(1)


def need_root() -> None:
    """Skip where such systems cannot be made; in CI, fail."""
    missing = [tool for tool in ("mmdebstrap", "systemd-nspawn") if shutil.which(tool) is None]
    why = f"needs {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "needs root"
    if why and os.environ.get("CI"):
        pytest.fail(why)
    if why:
        pytest.skip(why)


class System:
    """A Debian system that may be changed; a context manager."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base, self._folder = base, folder
        # systemd-nspawn names its own folders after this one.
        self.root = folder / f"root-{os.getpid()}-{next(numbers)}"
        self._leader: int | None = None
        self._container: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        upper, work = self._folder / "upper", self._folder / "work"
        for folder in (self.root, upper, work):
            folder.mkdir(parents=True)
        layers = f"lowerdir={self._base},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_power()
        subprocess.run(["umount", "-l", self.root], check=True)

    def put(self, file: Path, name: str = "") -> str:
        """Copy a package in; return where it is inside."""
        (self.root / "packages").mkdir(exist_ok=True)
        shutil.copy(file, self.root / "packages" / (name or file.name))
        return f"/packages/{name or file.name}"

    def run(self, command: str, *, code: int | None = 0) -> str:
        """Run a shell's command; return what it said on both streams."""
        command = f"exec 2>&1; {command}"  # systemd-nspawn's own stderr is not the system's
        if self._leader is None:
            start = [*NSPAWN, "-D", str(self.root), "--as-pid2", "/bin/sh", "-c", command]
        else:
            start = ["nsenter", "-t", str(self._leader), "-a", "/bin/sh", "-c", command]
        done = subprocess.run(
            start,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            timeout=WAIT_S,
            check=False,
        )
        assert code is None or done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def boot(self) -> None:
        """Start systemd in it, and wait until it runs."""
        self._container = subprocess.Popen(
            [*NSPAWN, "-b", "--link-journal=no", "-D", self.root],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait(lambda: self._find_leader() is not None)
        self._leader = self._find_leader()
        self.run("systemctl is-system-running --wait", code=None)

    def _find_leader(self) -> int | None:
        """Return the process of systemd once it listens; its parent has passing children too."""
        assert self._container is not None
        pid = self._container.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            root = Path(f"/proc/{child}/root")
            with suppress(OSError):  # gone again
                if not root.samefile("/") and (root / "run/systemd/private").exists():
                    return int(child)
        return None

    def cut_power(self) -> None:
        """End everything in it at once."""
        if self._container is not None:
            if self._leader is not None:
                subprocess.run(["kill", "-KILL", str(self._leader)], check=False)
            self._container.kill()
            self._container.wait()
        self._container = self._leader = None

    def version(self) -> str:
        """Return dpkg's status and version of the package."""
        show = "dpkg-query -W -f '${db:Status-Abbrev}${Version}' yukimi"
        return self.run(show, code=None).strip()


def wait(is_so: Callable[[], bool], poll_s: float = 0.1) -> None:
    """Wait until something is so."""
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(poll_s)
