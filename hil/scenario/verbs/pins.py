"""What breaks at a pin: contacts that bounce, wires that are shorted, motors nearby."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal, every
from ..stage import Stage
from .base import Acts, Fault


class _AtThePin(Fault):
    acts: ClassVar[Acts] = "gpio"

    pin: int | None = Field(default=None, ge=0, le=27)  # BCM; left out: each of the sensor's

    def _pins(self, stage: Stage) -> tuple[int, ...]:
        return stage.pins(self.sensor) if self.pin is None else (self.pin,)


class PinBounce(_AtThePin):
    """Let each change be followed by so many edges more, within a time."""

    verb: Literal["pin_bounce"]
    edges: int = Field(ge=2, le=100)
    within_s: float = Field(gt=0, le=1)

    def _begin(self, stage: Stage) -> Heal:
        board = stage.bus(self.sensor)
        return every(*(board.bounce(self.edges, self.within_s, pin) for pin in self._pins(stage)))


class PinStuck(_AtThePin):
    """Hold the pin at a level; healed, it shows what it should by then."""

    verb: Literal["pin_stuck"]
    level: Literal[0, 1]

    def _begin(self, stage: Stage) -> Heal:
        board = stage.bus(self.sensor)
        return every(*(board.stick_pin(pin, self.level) for pin in self._pins(stage)))


class PinGlitch(_AtThePin):
    """Let short spikes of the other level come by chance, so many a second on average."""

    verb: Literal["pin_glitch"]
    per_s: float = Field(gt=0, le=1000)
    width_s: float = Field(default=0.0005, gt=0, le=0.1)

    def _begin(self, stage: Stage) -> Heal:
        board = stage.bus(self.sensor)
        return every(*(board.glitch(pin, self.per_s, self.width_s) for pin in self._pins(stage)))


FAULTS: tuple[type[Fault], ...] = (PinBounce, PinStuck, PinGlitch)
