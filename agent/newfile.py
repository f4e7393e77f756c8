"""A new file that is there whole or not at all, and never in the place of another.

Written beside under a name of its own, synced, renamed: a cut of the power, a full disk or Ctrl-C
leaves nothing under the name that was asked for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .replacing import sync_folder

Owner = tuple[int, int]  # user, group


@contextmanager
def new_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a file to write to; it appears at `path` when all went well.

    Raises FileExistsError where something is there already, OSError.
    """
    _refuse_old(path)
    with _written(path, mode, _name) as file:
        yield file


@contextmanager
def named_beside(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to; it takes the place of what is at `path` when all went well.

    Raises OSError.
    """
    with _written(path, 0o600, Path.rename) as file:
        yield file


def create_file(path: Path, content: bytes, mode: int, owner: Owner | None = None) -> None:
    """Write a small file that is not there yet, with exactly this mode. Raises as `new_file`."""
    with new_file(path, 0o600) as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), mode)
        file.write(content)


@contextmanager
def _written(path: Path, mode: int, name: Callable[[Path, Path], object]) -> Iterator[BinaryIO]:
    """Give a file to write to, beside `path`; once it is on the disk it gets its name."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(beside, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        name(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.absolute().parent)


def _name(beside: Path, path: Path) -> None:
    """Give a file its name, if nothing has it."""
    try:
        os.link(beside, path)  # which, unlike a rename, never replaces what came meanwhile
    except FileExistsError:
        _refuse_old(path)
        raise
    except OSError:  # a filesystem without links, such as a stick's
        _refuse_old(path)
        beside.rename(path)
    else:
        beside.unlink()


def _refuse_old(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path}: is there already, and is not overwritten; name another")
