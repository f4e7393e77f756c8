"""A new file that is there whole or not at all, and never in the place of another.

Written beside under a name of its own, synced, renamed: a cut of the power, a full disk or Ctrl-C
leaves nothing under the name that was asked for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .relocate import sync_folder


@contextmanager
def new_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a file to write to; it appears at `path` when all went well.

    Raises FileExistsError where something is there already, OSError.
    """
    _refuse_old(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(beside, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _refuse_old(path)  # a rename would replace it
        beside.rename(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.absolute().parent)


def _refuse_old(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path}: is there already, and is not overwritten; name another")
