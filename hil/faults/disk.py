"""A disk that fills up, slows down, fails, turns read-only and loses its power; as root.

An ext4 in a file, with a filesystem above it that is slow or fails when it is told to. What the
kernel does by itself is its own: no space left, read-only after an error, what a cut leaves.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Literal, Self

from .ext4 import Ext4Image, UnavailableError, run
from .ongoing import Heal, Ongoing

Kind = Literal["read", "write", "sync"]

START_S = 20.0
READY = "ready"  # the first word of the filesystem in user space
_PREFIX = "yukimi-disk-"
_OWNED = re.compile(rf"/{_PREFIX}(\d+)-")
_BALLAST = "ballast"
_CHUNK_BYTES = 65536
_ALL: tuple[Kind, ...] = ("read", "write", "sync")


class FaultyDisk:
    """A folder, `mount_point`, for a spool to live on; a context manager.

    Faults add up. Two of them need a boot to heal, as on a street: before `turn_read_only` and
    `cut_power` are healed, whoever has files open must have ended.
    """

    def __init__(self, *, dice: Random | None = None) -> None:
        """Make and mount it. Raises UnavailableError."""
        if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise UnavailableError("breaking disks needs root and /dev/fuse")
        sweep()
        self._dice = dice or Random(0)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self.mount_point = self._folder / "state"
        self.mount_point.mkdir()
        self._slow = Ongoing[tuple[tuple[Kind, ...], float]]()
        self._failing = Ongoing[tuple[tuple[Kind, ...], int, float]]()
        self._process: subprocess.Popen[str] | None = None
        self._image = Ext4Image(self._folder, breaks_read_only=True)
        self._image.make()
        self._serve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fill(self, *, leave_bytes: int = 0) -> Heal:
        """Let something else take all the space but this."""
        ballast = self._image.mount_point / _BALLAST
        with ballast.open("ab", buffering=0) as file:
            for chunk in (_CHUNK_BYTES, 1024):
                with suppress(OSError):
                    while self._free_bytes() > leave_bytes:
                        file.write(bytes(chunk))
        return lambda: ballast.unlink(missing_ok=True)

    def slow(self, by_s: float, *kinds: Kind) -> Heal:
        """Let each of these kinds of calls, or each write and sync, take so much longer."""
        return self._told(self._slow.begin((kinds or ("write", "sync"), by_s)))

    def fail_io(self, *kinds: Kind, share: float = 1.0) -> Heal:
        """Let this share of these kinds of calls, or of all, end in EIO.

        Reads of what the kernel has in its cache go on, as from any disk.
        """
        return self._told(self._failing.begin((kinds or _ALL, errno.EIO, share)))

    def refuse_writes(self) -> Heal:
        """Let every change end in EROFS; healed, it is as if nothing had been."""
        return self._told(self._failing.begin((("write",), errno.EROFS, 1.0)))

    def turn_read_only(self) -> Heal:
        """Let the kernel find an error and make it read-only; healed by a check and a mount."""
        self._image.fail()
        return self._rebooted(self._image.repair)

    def cut_power(self) -> Heal:
        """Lose what was not synced; nothing is written from now on until it is mounted again."""
        self._image.cut()
        return self._rebooted(self._image.power_on)

    def heal(self) -> None:
        """Undo what needs no boot: slowness, failures, refusals and what fills it."""
        self._slow.heal()
        self._failing.heal()
        self._tell()
        with suppress(OSError):  # read-only
            (self._image.mount_point / _BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave nothing behind, whoever has files open."""
        self._end()
        try:
            self._image.close()
        except UnavailableError:
            self._image.abandon()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _free_bytes(self) -> int:
        found = os.statvfs(self._image.mount_point)
        return found.f_bfree * found.f_frsize

    def _rebooted(self, mount: Heal) -> Heal:
        def heal() -> None:
            self._end()
            mount()
            self._serve()

        return heal

    def _serve(self) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hil.faults.fuse",
                str(self._image.mount_point),
                str(self.mount_point),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._hear() != READY:
            self.close()
            raise UnavailableError("the filesystem in user space does not start: apt install fuse3")
        self._tell()

    def _end(self) -> None:
        """Unmount what is above; the image stays."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(UnavailableError):
            run("umount", "--lazy", str(self.mount_point))
        # It ends by itself when nobody has the mount any more; a container that was begun
        # meanwhile may have a copy for hours. It keeps nothing back, so nothing is lost.
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            if end is not None:
                end.close()

    def _told(self, end: Heal) -> Heal:
        self._tell()

        def heal() -> None:
            end()
            self._tell()

        return heal

    def _tell(self) -> None:
        if self._process is None or self._process.stdin is None:
            return
        faults = {
            "slow": list(self._slow),
            "fail": list(self._failing),
            "seed": self._dice.getrandbits(32),
        }
        self._process.stdin.write(json.dumps(faults) + "\n")
        self._process.stdin.flush()
        if self._hear() != "done":
            raise UnavailableError("the filesystem in user space died")

    def _hear(self) -> str:
        if self._process is None or self._process.stdout is None:
            return ""
        if not select.select([self._process.stdout], [], [], START_S)[0]:
            return ""
        return self._process.stdout.readline().strip()


def sweep() -> None:
    """Unmount and remove what benches left behind that were killed."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed(mounted):  # the upper before the lower
        if _is_orphan(path):
            with suppress(UnavailableError):  # its own last process was faster
                run("umount", "--lazy", path)
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_orphan(f"{folder}/"):
            shutil.rmtree(folder, ignore_errors=True)


def _is_orphan(path: str) -> bool:
    owner = _OWNED.search(path)
    return owner is not None and not Path(f"/proc/{owner[1]}").exists()
