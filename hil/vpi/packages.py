"""Debian packages to try: the one that is shipped, and versions of it that never were.

They are made from the checkout as `make deb` makes them, compressed in less time.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .layers import run
from .rootfs import PROJECT

GOOD, BAD = "8.0.0-1", "9.0.0-1"  # newer than any that there is


def build_packages(folder: Path) -> None:
    """Fill `folder` with old.deb, as shipped, and good.deb and bad.deb. Raises BuildError."""
    build = (sys.executable, "deb/package.py", "--fast", "--out", folder)
    said = run(*build, "--release", "bookworm", "--architecture", "amd64", cwd=PROJECT)
    old = Path(said.strip()).rename(folder / "old.deb")
    variant(old, folder, GOOD, lambda _tree: None).rename(folder / "good.deb")
    variant(old, folder, BAD, _break).rename(folder / "bad.deb")


def variant(package: Path, out: Path, version: str, edit: Callable[[Path], None]) -> Path:
    """Make another version of a package; `edit` changes its files."""
    tree = out / f"tree-{version}"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text(
        "".join(f"Version: {version}\n" if line.startswith("Version:") else line for line in lines)
    )
    edit(tree)
    file = out / f"yukimi_{version}.deb"
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--build", tree, file], check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(tree)
    return file


def _break(tree: Path) -> None:
    """Let it end at once, whatever it is asked."""
    (tree / "opt/yukimi/bin/yukimi").write_text("#!/bin/sh\nexit 1\n")
