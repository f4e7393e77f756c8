"""What breaks under the spool: as root and with FUSE, on this stage as on any."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal
from ..spans import Size
from ..stage import Stage
from .base import Acts, Fault, StageName


class _Disk(Fault):
    acts: ClassVar[Acts] = "disk"


class DiskFull(_Disk):
    """Let something else take all the space but so much; the spool's log keeps its own."""

    verb: Literal["disk_full"]
    left_bytes: Size = 0

    def _begin(self, stage: Stage) -> Heal:
        return stage.disk.fill(leave_bytes=self.left_bytes)


class DiskError(_Disk):
    """Let a share of all reads, writes and syncs end in EIO."""

    verb: Literal["disk_error"]
    share: float = Field(default=1.0, gt=0, le=1)

    def _begin(self, stage: Stage) -> Heal:
        return stage.disk.fail_io(share=self.share)


class DiskReadOnly(_Disk):
    """Let every change end in EROFS."""

    verb: Literal["disk_read_only"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.disk.refuse_writes()


class DiskSlow(_Disk):
    """Let each write and sync take so much longer."""

    verb: Literal["disk_slow"]
    stages: ClassVar[tuple[StageName, ...]] = ("vpi",)
    delay_s: float = Field(gt=0)

    def _begin(self, stage: Stage) -> Heal:
        return stage.disk.slow(self.delay_s)


FAULTS: tuple[type[Fault], ...] = (DiskFull, DiskError, DiskReadOnly, DiskSlow)
