"""Small files in one step: after a power cut the old one or the new one is there, whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .relocate import sync_folder

Owner = tuple[int, int]  # user, group


def replace_file(file: Path, content: bytes) -> None:
    """Write beside, sync, rename, sync the folder; readable by its owner only. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        os.fchmod(stream.fileno(), 0o600)  # what an earlier attempt left may have another mode
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    sync_folder(file.parent)


def create_file(file: Path, content: bytes, mode: int, owner: Owner | None = None) -> None:
    """Write a file that is not there yet; whatever interrupts it, it is whole or not there.

    Raises FileExistsError where there is one, which stays as it is; OSError.
    """
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            if owner is not None:
                os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), mode)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.link(beside, file)  # unlike a rename it never takes the place of another
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(file.parent)
