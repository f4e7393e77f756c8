"""What happens to the gateway's computer: its clock, its power, what else runs on it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal, every
from ..stage import Stage
from .base import Acts, Fault, StageName


class _Clock(Fault):
    acts: ClassVar[Acts] = "clock"


class ClockStep(_Clock):
    """Somebody sets the system clock wrong, and nobody vouches for it; healed, it is right."""

    verb: Literal["clock_step"]
    by_s: float = Field(ge=-1e9, le=1e9)  # thirty years

    def _begin(self, stage: Stage) -> Heal:
        return every(stage.clock.step(self.by_s), stage.clock.lose_sync())


class ClockUnsynced(_Clock):
    """Network time goes away: the kernel says so, and the clock drifts; healed, it is right."""

    verb: Literal["clock_unsynced"]
    drift_ppm: float = Field(default=0.0, ge=-500, le=500)

    def _begin(self, stage: Stage) -> Heal:
        clock = stage.clock
        return every(clock.drift(self.drift_ppm), clock.lose_sync(), stage.tell_time)


class PowerCut(Fault):
    """End this life at this very point: what was not synced is gone. `for`: until power is back."""

    verb: Literal["power_cut"]
    acts: ClassVar[Acts] = "power"

    def _begin(self, stage: Stage) -> Heal:
        stage.cut_power()
        return stage.restore_power


class MemoryPressure(Fault):
    """Take memory from the machine until so much is left."""

    verb: Literal["memory_pressure"]
    acts: ClassVar[Acts] = "machine"
    stages: ClassVar[tuple[StageName, ...]] = ("vpi",)
    left_mib: int = Field(ge=1)

    def _begin(self, stage: Stage) -> Heal:
        return stage.machine.take_memory(self.left_mib)


class CpuContention(Fault):
    """Let others want the processor too: so many busy processes."""

    verb: Literal["cpu_contention"]
    acts: ClassVar[Acts] = "machine"
    stages: ClassVar[tuple[StageName, ...]] = ("vpi",)
    processes: int = Field(ge=1, le=64)

    def _begin(self, stage: Stage) -> Heal:
        return stage.machine.burn(self.processes)


FAULTS: tuple[type[Fault], ...] = (
    ClockStep,
    ClockUnsynced,
    PowerCut,
    MemoryPressure,
    CpuContention,
)
