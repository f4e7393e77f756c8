"""A filesystem that passes everything on to a folder, until it is told to be slow or to fail.

`python -m hil.faults.fuse BELOW MOUNT_POINT` serves it, in a process of its own. On stdin come the
faults of the moment, a JSON document a line, each answered by a line. When stdin ends the process
unmounts what is at both paths, so that nothing is left of a bench that was killed.

mfusepy is what of Python's bindings is kept (2026), has a wheel and needs no compiler: fusepy and
refuse rest since 2018 and 2020, pyfuse3 comes as source.
"""

# ruff: noqa: D102  (the operations are FUSE's own, by its names)

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .disk import READY, Kind

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mfusepy as fuse

_STAT = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino")
_TIMES = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
_STATFS = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files")
_FOR_WRITING = os.O_WRONLY | os.O_RDWR


class Passage(fuse.Operations):  # type: ignore[misc]
    """The way to the folder below, and what is on it."""

    use_ns = True

    def __init__(self, below: Path, began: Callable[[], None]) -> None:
        self._below = below
        self._began = began
        self._dice = Random(0)
        self._changed = threading.Condition()
        self._slow: list[tuple[frozenset[Kind], float]] = []
        self._failing: list[tuple[frozenset[Kind], int, float]] = []

    def obey(self, faults: dict[str, Any]) -> None:
        """Take the faults of the moment in place of those before; whoever waits looks again."""
        with self._changed:
            self._slow = [(frozenset(kinds), by_s) for kinds, by_s in faults["slow"]]
            self._failing = [(frozenset(k), number, share) for k, number, share in faults["fail"]]
            self._dice.seed(faults["seed"])
            self._changed.notify_all()

    def init(self, path: str) -> None:
        self._began()

    # What is only passed on

    def access(self, path: str, amode: int) -> int:
        return 0 if os.access(self._at(path), amode) else -errno.EACCES

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._at(path)) if fh is None else os.fstat(fh)
        told: dict[str, Any] = {name: getattr(found, name) for name in _STAT}
        return told | {name.removesuffix("_ns"): getattr(found, name) for name in _TIMES}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *(each.name for each in os.scandir(self._at(path)))]

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        return {name: getattr(found, name) for name in (*_STATFS, "f_frsize", "f_namemax")}

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    # What may be slow, or fail

    def open(self, path: str, flags: int) -> int:
        self._suffer("write" if flags & _FOR_WRITING else "read")
        return os.open(self._at(path), flags)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._suffer("write")
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._suffer("read")
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._suffer("write")
        return os.pwrite(fh, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._suffer("sync")
        (os.fdatasync if datasync else os.fsync)(fh)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._suffer("sync")
        folder = os.open(self._at(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._suffer("write")
        os.truncate(self._at(path) if fh is None else fh, length)
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        self._suffer("write")
        if mode:
            return -errno.EOPNOTSUPP
        os.posix_fallocate(fh, offset, size)
        return 0

    def unlink(self, path: str) -> int:
        return self._change(os.unlink, self._at(path))

    def rename(self, old: str, new: str) -> int:
        return self._change(os.rename, self._at(old), self._at(new))

    def mkdir(self, path: str, mode: int) -> int:
        return self._change(os.mkdir, self._at(path), mode)

    def rmdir(self, path: str) -> int:
        return self._change(os.rmdir, self._at(path))

    def chmod(self, path: str, mode: int) -> int:
        return self._change(os.chmod, self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> int:
        return self._change(os.chown, self._at(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._suffer("write")
        os.utime(self._at(path), ns=times or (time.time_ns(),) * 2)
        return 0

    def _change(self, act: Callable[..., None], *arguments: Any) -> int:
        self._suffer("write")
        act(*arguments)
        return 0

    def _at(self, path: str) -> str:
        return f"{self._below}{path}"

    def _suffer(self, kind: Kind) -> None:
        """Wait as long as it is slow, then fail if it does. Raises OSError."""
        with self._changed:
            late_s = sum(by_s for kinds, by_s in self._slow if kind in kinds)
            if late_s:
                self._changed.wait(late_s)
            for kinds, number, share in self._failing:
                if kind in kinds and self._dice.random() < share:
                    raise OSError(number, os.strerror(number))


def main() -> int:
    """Serve, obey, and leave nothing mounted."""
    below, mount_point = Path(sys.argv[1]), Path(sys.argv[2])

    def say(word: str) -> None:
        print(word, flush=True)

    passage = Passage(below, lambda: say(READY))
    is_orphan = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            passage.obey(json.loads(line))
            say("done")
        is_orphan.set()
        for path in (mount_point, below):
            subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    fuse.FUSE(passage, str(mount_point), foreground=True, default_permissions=True)
    if is_orphan.is_set():  # it ends with the first unmounting; the other is still to come
        listener.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
