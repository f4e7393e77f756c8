"""What breaks on a serial line: whoever shares the wires suffers it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal, every
from ..stage import Stage
from .base import Acts, Fault


class _OnTheLine(Fault):
    acts: ClassVar[Acts] = "serial"

    def _on_each(self, stage: Stage, begin: Callable[[Any], Heal]) -> Heal:
        """Break each port of the sensor: one, or the two of a pair."""
        return every(*(begin(port) for port in stage.ports(self.sensor)))


class SerialGarble(_OnTheLine):
    """Turn one bit in a share of the bytes, in either direction."""

    verb: Literal["serial_garble"]
    share: float = Field(gt=0, le=1)

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.garble(self.share))


class SerialDrop(_OnTheLine):
    """Lose a share of the bytes, in either direction."""

    verb: Literal["serial_drop"]
    share: float = Field(gt=0, le=1)

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.drop(self.share))


class SerialDuplicate(_OnTheLine):
    """Let the host hear twice a share of what devices say."""

    verb: Literal["serial_duplicate"]
    share: float = Field(gt=0, le=1)

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.duplicate(self.share))


class SerialDelay(_OnTheLine):
    """Let the host hear late what devices say."""

    verb: Literal["serial_delay"]
    delay_s: float = Field(gt=0)

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.delay(self.delay_s))


class SerialStall(_OnTheLine):
    """Hold back every byte, as an adapter does that hangs; healed, it comes at once, or is lost."""

    verb: Literal["serial_stall"]
    loses: bool = False

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.stall(lose=self.loses))


class SerialWrongBaud(_OnTheLine):
    """Let the devices speak another speed than the one that is configured."""

    verb: Literal["serial_wrong_baud"]
    baud: int = Field(ge=50, le=4_000_000)

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.mistune(self.baud))


class SerialFlood(_OnTheLine):
    """Let the host hear rubbish before, after and within what devices say."""

    verb: Literal["serial_flood"]
    bytes_per_s: float = Field(gt=0)

    def _begin(self, stage: Stage) -> Heal:
        return self._on_each(stage, lambda port: port.line.flood(self.bytes_per_s))


class SerialSilence(_OnTheLine):
    """Cut the wire of this one device; its neighbours on the line go on."""

    verb: Literal["serial_silence"]

    def _begin(self, stage: Stage) -> Heal:
        own = stage.devices(self.sensor)

        def cut(port: Any) -> Heal:
            heal: Heal = port.line.silence(*(each for each in own if each in port.line.devices))
            return heal

        return self._on_each(stage, cut)


class SerialUnplug(_OnTheLine):
    """Pull the adapter out; healed, it is back, under another kernel name where one is given."""

    verb: Literal["serial_unplug"]
    back_as: str | None = None  # "ttyUSB1": as the kernel numbers what comes back too early

    def _begin(self, stage: Stage) -> Heal:
        for port in stage.ports(self.sensor):
            port.unplug()
        return lambda: self._plug(stage)

    def _plug(self, stage: Stage) -> None:
        for port in stage.ports(self.sensor):
            stage.plug(port, self.back_as)


FAULTS: tuple[type[Fault], ...] = (
    SerialGarble,
    SerialDrop,
    SerialDuplicate,
    SerialDelay,
    SerialStall,
    SerialWrongBaud,
    SerialFlood,
    SerialSilence,
    SerialUnplug,
)
