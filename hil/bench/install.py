"""The gateway as it is installed: a virtual environment of its own, from the lock, without extras.

What a tool of a developer brings along is neither in its memory nor on its disk. It is made once
for each lock, in the user's cache; the gateway itself is installed anew each time, compiled as an
installer compiles it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .process import BenchError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Install:
    """An environment with the gateway and what it needs."""

    folder: Path

    @property
    def python(self) -> str:
        """Return its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def size_mb(self) -> float:
        """Return what it takes on a disk: every file's bytes, links not followed."""
        files = (
            file for file in self.folder.rglob("*") if file.is_file() and not file.is_symlink()
        )
        return sum(file.stat().st_size for file in files) / 2**20


def install() -> Install:
    """Return the environment, made or renewed. Raises BenchError."""
    lock = hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest()[:12]
    folder = _cache() / f"bare-{lock}"
    sync = ["sync", "--frozen", "--no-editable", "--compile-bytecode"]
    sync += ["--reinstall-package", "yukimi", "--project", str(ROOT), "--python", sys.executable]
    _uv(sync, folder)
    return Install(folder)


def environment(name: str, *packages: str) -> Path:
    """Return the folder of an environment of others, made where there is none. Raises BenchError.

    `packages` are pinned: what is measured twice is the same twice.
    """
    asked_for = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = _cache() / f"{name}-{asked_for}"
    is_complete = folder / "complete"
    if not is_complete.exists():
        _uv(["venv", "--clear", "--seed", "--python", sys.executable, str(folder)], folder)
        python = str(folder / "bin" / "python")
        _uv(["pip", "install", "--compile-bytecode", "--python", python, *packages], folder)
        is_complete.touch()
    return folder


def site_packages(folder: Path) -> Path:
    """Return where an environment's packages are."""
    return next((folder / "lib").glob("python3*")) / "site-packages"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yukimi"


def _uv(arguments: list[str], folder: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise BenchError("no uv: pip install -e '.[dev]'")
    # An environment has what its own list says, whatever constrains ours.
    theirs = {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "VIRTUAL_ENV")}
    done = subprocess.run(
        [uv, "--quiet", *arguments],
        env=theirs | {"UV_PROJECT_ENVIRONMENT": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BenchError(f"{folder} could not be made:\n{done.stderr}")
