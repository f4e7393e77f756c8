"""An ext4 in a file, mounted as root: its power can be cut, and it can break as real ones do."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

FS_IOC_SHUTDOWN = 0x8004587D  # linux/fs.h, as ext4 and xfs know it
SHUTDOWN_LOG_FLUSH, SHUTDOWN_NO_LOG_FLUSH = 1, 2
IMAGE_BYTES = 16 * 2**20


class UnavailableError(Exception):
    """Disks cannot be broken here; the message says what is missing."""


class Ext4Image:
    """The image, and the folder that it is mounted on.

    With `breaks_read_only` the kernel makes it read-only at its first error, as Debian's root is.
    With `keeps_its_word` only, nothing is on the disk before somebody asks for it: no commit every
    five seconds, and no help for who renames a file that was never synced.
    """

    def __init__(
        self,
        folder: Path,
        *,
        breaks_read_only: bool = False,
        keeps_its_word: bool = False,
        size_bytes: int = IMAGE_BYTES,
    ) -> None:
        self.mount_point = folder / "disk"
        self.mount_point.mkdir()
        self._image = folder / "image"
        self._size_bytes = size_bytes
        self._options = "loop"
        if breaks_read_only:
            self._options += ",errors=remount-ro"
        if keeps_its_word:
            self._options += ",commit=3600,noauto_da_alloc"
        self._is_mounted = False

    def make(self) -> None:
        """Make it anew, empty, and mount it. Raises UnavailableError."""
        self.close()
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def cut(self, *, names_survive: bool = False) -> None:
        """From now on nothing reaches the image: what was not synced is lost.

        If `names_survive`, the kernel has just committed its journal: what was made, renamed and
        removed is so, and only what was written into files and not synced is lost.
        """
        how = SHUTDOWN_LOG_FLUSH if names_survive else SHUTDOWN_NO_LOG_FLUSH
        folder = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(folder)

    def fail(self) -> None:
        """Let the kernel find an error in it, whoever has files open. Raises UnavailableError."""
        device = run("findmnt", "-n", "-o", "SOURCE", str(self.mount_point)).strip()
        trigger = Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error")
        try:
            trigger.write_text("yukimi's bench\n")
        except OSError as exc:
            raise UnavailableError(f"{trigger}: {exc.strerror}") from exc

    def repair(self) -> None:
        """Check it, as a boot does, and mount it again. Raises UnavailableError."""
        self._leave()
        run("fsck.ext4", "-p", "-f", str(self._image), good=(0, 1))  # 1: errors corrected
        self._mount()

    def power_on(self) -> None:
        """Forget what was in memory, and mount what is on the image."""
        self._leave()
        self._mount()

    def save(self, name: str) -> None:
        """Unmount it, and keep what is on it under a name."""
        # Where a container that was begun meanwhile still holds it, unmounting writes nothing.
        run("sync", "--file-system", str(self.mount_point))
        self.close()
        _copy(self._image, self._image.with_name(f"image.{name}"))

    def go_back(self, name: str) -> None:
        """Mount what was kept under a name."""
        self.close()
        self._image.unlink()
        _copy(self._image.with_name(f"image.{name}"), self._image)
        self._mount()

    def close(self) -> None:
        """Unmount it; the loop device goes with it. Raises UnavailableError if it is in use."""
        if self._is_mounted:
            run("umount", str(self.mount_point))
            self._is_mounted = False

    def abandon(self) -> None:
        """Unmount it for one who cannot any more."""
        with suppress(UnavailableError):
            run("umount", "--lazy", str(self.mount_point))

    def _leave(self) -> None:
        """Unmount it, and go on with a copy.

        Where a container that was begun meanwhile still holds the old filesystem, the kernel would
        give it back for the same file, dead as it is.
        """
        self.close()
        copy = self._image.with_name("image.copy")
        _copy(self._image, copy)
        copy.rename(self._image)

    def _mount(self) -> None:
        run("mount", "-o", self._options, str(self._image), str(self.mount_point))
        self._is_mounted = True


def _copy(image: Path, target: Path) -> None:
    run("cp", "--sparse=always", str(image), str(target))


def run(*command: str, good: Sequence[int] = (0,)) -> str:
    """Run a command of the system's; return what it said. Raises UnavailableError with that."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, env={"PATH": path, "LC_ALL": "C"}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as exc:
        raise UnavailableError(f"no {command[0]}: install e2fsprogs and mount") from exc
    if done.returncode not in good:
        raise UnavailableError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
