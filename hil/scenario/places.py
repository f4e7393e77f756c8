"""Where the gateway's state lies: a folder, or a disk that can be broken.

Where power is cut, it is an ext4 of its own that is shut down without writing its log, as root; for
others the life just ends, and a note in the report says so. Disk faults need root and FUSE.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Self

from ..faults import ext4
from ..faults.disk import FaultyDisk
from ..faults.ext4 import Ext4Image
from ..faults.ongoing import Heal
from .series import UnavailableError

NOT_ROOT = (
    "Power cuts ended the gateway's life only: losing what was not synced needs root and a loop"
    " device."
)


class Place:
    """The folder of the spool; a context."""

    def __init__(
        self,
        folder: Path,
        broken: Collection[str],
        dice: Random,
        note: Callable[[str], None],
    ) -> None:
        """`broken` says what the scenario breaks."""
        self.folder = folder / "state"
        self._base = folder
        self._broken = broken
        self._dice = dice
        self._note = note
        self._image: Ext4Image | None = None  # where only power is cut
        self._disk: FaultyDisk | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make it. Raises UnavailableError where disks cannot be broken and must be."""
        if "disk" in self._broken:
            try:
                self._disk = self._stack.enter_context(FaultyDisk(dice=self._dice))
            except ext4.UnavailableError as exc:
                raise UnavailableError(str(exc)) from exc
            self.folder = self._disk.mount_point
            return self
        if "power" in self._broken:
            image = Ext4Image(self._base)
            try:
                image.make()
            except (ext4.UnavailableError, OSError):
                self._note(NOT_ROOT)
            else:
                self._image = image
                self._stack.callback(image.close)
                self.folder = image.mount_point / "state"
        self.folder.mkdir()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def disk(self) -> FaultyDisk:
        """The disk. Raises UnavailableError where it cannot be broken."""
        if self._disk is None:
            raise UnavailableError("this disk cannot be broken")
        return self._disk

    def cut_power(self) -> Heal:
        """Lose what was not synced; return what mounts what is left, once the files are closed."""
        if self._disk is not None:
            return self._disk.cut_power()
        if self._image is not None:
            self._image.cut()
            return self._image.power_on
        copy = self._base / "left"
        shutil.copytree(self.folder, copy)

        def put_back() -> None:
            shutil.rmtree(self.folder)
            copy.rename(self.folder)

        return put_back

    def used_bytes(self) -> int:
        """Return the size of all files in it."""
        return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
