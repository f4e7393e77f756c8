"""Moving a spool to another path, so that the records in it leave from there.

Nothing else may have it open: the locks of both paths are held meanwhile. SQLite first folds the
write-ahead log into the file, which then is complete in itself. Within a filesystem it is renamed.
Across filesystems a copy is made beside, synced and renamed into place before the original goes. A
power cut at any step leaves a complete spool at one path, or the same spool, byte for byte, at
both; the next call finishes what was begun. Where the paths hold different files nothing is
touched: which of them may go is for a human to say.
"""

from __future__ import annotations

import errno
import filecmp
import os
import sqlite3
import stat
from contextlib import ExitStack, closing
from pathlib import Path

from .notify import notify
from .replacing import sync_folder
from .spool import SpoolError, claim

CHUNK_BYTES = 2**20
LONGEST_CHUNK_US = 60_000_000


class BothHoldError(SpoolError):
    """Both paths hold a spool, and they differ."""


def holds_spool(path: Path) -> bool:
    """Whether there is a file with something in it; where nobody can tell, there may be."""
    try:
        return _size_bytes(path) > 0
    except OSError:
        return True


def clash(old: Path, new: Path) -> str | None:
    """Say why the records at `old` cannot go to `new`; None where they can."""
    if not (holds_spool(old) and holds_spool(new)):
        return None
    try:
        if old.samefile(new) or _is_copy(old, new):
            return None
    except OSError as exc:
        return f"{new} and {old}, where the records of this gateway wait: {exc}"
    return _both(old, new)


def move(old: Path, new: Path) -> None:
    """Move what is at `old`, if there is anything, to `new`. Raises SpoolError."""
    source, target = old.resolve(), new.resolve()
    if source == target or not holds_spool(source):
        return
    with ExitStack() as claims:
        for path in (old, new):
            claims.enter_context(claim(path))
        try:
            if target.exists() and source.samefile(target):
                return
            _complete(source)
            if _size_bytes(target) > 0:
                if not _is_copy(source, target):
                    raise BothHoldError(_both(old, new))
            else:
                for part in _parts(target):  # a log without its database would enter ours
                    part.unlink(missing_ok=True)
                _transfer(source, target)
                sync_folder(target.parent)
            source.unlink(missing_ok=True)  # of what was copied, now or before a power cut
            sync_folder(source.parent)
        except OSError as exc:
            raise SpoolError(f"{old}: cannot be moved to {new}: {exc}") from exc
        except sqlite3.Error as exc:
            raise SpoolError(f"{old}: cannot be moved: {exc}") from exc


def _complete(file: Path) -> None:
    """Fold the write-ahead log into the file."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA busy_timeout = 2000")
        database.execute("PRAGMA synchronous = FULL")
        # A full checkpoint, and no log any more; the spool's next opening brings it back.
        mode = database.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    if mode != "delete":
        raise SpoolError(f"{file}: cannot be moved while another program reads it")


def _transfer(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        beside = target.with_name(f"{target.name}.moving")
        _copy(source, beside)
        beside.rename(target)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while chunk := read.read(CHUNK_BYTES):
            written.write(chunk)
            notify(f"WATCHDOG=1\nEXTEND_TIMEOUT_USEC={LONGEST_CHUNK_US}")  # a slow card, 512 MiB
        written.flush()
        os.fsync(written.fileno())
    target.chmod(source.stat().st_mode & 0o777)


def _is_copy(old: Path, new: Path) -> bool:
    """Whether `new` is the copy that an interrupted move left."""
    if any(part.exists() for part in (*_parts(old), *_parts(new))):
        return False  # one of them has lived since
    return filecmp.cmp(old, new, shallow=False)


def _both(old: Path, new: Path) -> str:
    return (
        f"{new} and {old}, where the records of this gateway wait, are both there and cannot be"
        f" made one: move {new} away, or delete it; or name {old} again"
    )


def _size_bytes(file: Path) -> int:
    """Return how much is in a file, 0 without one. Raises OSError where nobody can tell."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _parts(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal")]
