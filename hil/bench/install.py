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
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise BenchError("no uv: pip install -e '.[dev]'")
    lock = hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "yukimi" / f"bare-{lock}"
    command = [uv, "sync", "--quiet", "--frozen", "--no-editable", "--compile-bytecode"]
    command += ["--reinstall-package", "yukimi", "--project", str(ROOT), "--python", sys.executable]
    done = subprocess.run(
        command,
        check=False,
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BenchError(f"no environment without extras could be made:\n{done.stderr}")
    return Install(folder)
