"""Folders that are built once and kept: each under a key of all that goes into it.

A layer is a folder of the cache whose name ends in a hash of its inputs. It is built beside its
place and moved there when it is whole, so that one that exists is complete, and a second run needs
neither network nor time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = 3  # of one kind; what is older goes


class BuildError(Exception):
    """The virtual Pi cannot be built here; the message says what is missing."""


def cache_folder() -> Path:
    """Return where layers are kept: $YUKIMI_VPI_CACHE, else the user's cache."""
    own = os.environ.get("YUKIMI_VPI_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else home / "yukimi-vpi"


def key_of(*inputs: Path | str) -> str:
    """Return a hash of files, of all files in folders, and of texts."""
    digest = hashlib.sha256()
    for each in inputs:
        for part in _parts(each):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]


def _parts(each: Path | str) -> Iterable[bytes]:
    if isinstance(each, str):
        yield each.encode()
    elif each.name == "__pycache__":
        return
    elif each.is_dir():
        for file in sorted(each.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(each)).encode()
                yield file.read_bytes()
    else:
        yield each.read_bytes()


def layer(
    kind: str, key: str, build: Callable[[Path], None], *, say: Callable[[str], None]
) -> Path:
    """Return the folder of a layer, built by `build` if it is not there. Raises BuildError."""
    cache = cache_folder()
    place = cache / f"{kind}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        _build(place, kind, build, say)
        os.utime(place)
        _forget_old(cache, kind)
    return place


def _build(
    place: Path, kind: str, build: Callable[[Path], None], say: Callable[[str], None]
) -> None:
    if not place.exists():
        cache = place.parent
        say(f"building {place.name}")
        began_s = time.monotonic()
        unfinished = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=cache))
        try:
            unfinished.chmod(0o755)
            build(unfinished)
            unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        say(f"built {place.name} in {time.monotonic() - began_s:.0f} s")


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Let others who want to build wait: mostly they want the same."""
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old(cache: Path, kind: str) -> None:
    places = sorted(cache.glob(f"{kind}-*"), key=lambda place: place.stat().st_mtime)
    for place in places[:-KEPT]:
        shutil.rmtree(place, ignore_errors=True)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command of the system's; return what it printed. Raises BuildError."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    # A pip inside the guest's tree has nothing to do with the settings of one outside.
    is_inside = command[0] == "chroot"
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (is_inside and name.startswith("PIP_"))
    }
    try:
        done = subprocess.run(
            [str(each) for each in command],
            cwd=cwd,
            env={**kept, "PATH": path, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as exc:
        raise BuildError(f"no {command[0]}: `make vpi` installs what is needed") from exc
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BuildError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{tail}")
    return done.stdout
