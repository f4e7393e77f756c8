"""Where a scenario is played: what there is to be broken, whatever it is made of.

`process` is one such place; a virtual machine is another. Verbs know only this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..faults.ongoing import Heal


class Network(Protocol):
    """The way from the gateway to the broker."""

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        ...

    def stall(self) -> None:
        """Move no byte."""
        ...

    def reset(self) -> None:
        """Answer every connection with a reset."""
        ...

    def resume(self) -> None:
        """Carry again."""
        ...


class SystemClock(Protocol):
    """What the gateway's kernel takes for the time."""

    def set_wrong(self, by_s: float) -> None:
        """Move it, and let nobody vouch for it."""
        ...

    def drift(self, ppm: float) -> None:
        """Let nobody vouch for it any more, and let it run too fast by so much."""
        ...

    def set_right(self) -> None:
        """Let network time set it, and vouch for it."""
        ...


class Computer(Protocol):
    """What else runs there."""

    def take_memory(self, left_mib: int) -> Heal:
        """Leave so much to everybody else."""
        ...

    def burn(self, processes: int) -> Heal:
        """Keep so many processors busy."""
        ...


class Stage(Protocol):
    """What verbs act on."""

    @property
    def network(self) -> Network:
        """The way to the broker."""
        ...

    @property
    def clock(self) -> SystemClock:
        """The gateway's clock."""
        ...

    @property
    def machine(self) -> Computer:
        """The gateway's computer."""
        ...

    def ports(self, sensor: str) -> Sequence[Any]:
        """Return the serial port that a sensor is on, or the two of a pair."""
        ...

    def devices(self, sensor: str) -> Sequence[Any]:
        """Return the device behind a sensor, or the two of a pair."""
        ...

    def plug(self, port: Any, kernel_name: str | None) -> None:
        """Plug a serial port in again."""
        ...

    def bus(self, sensor: str) -> Any:
        """Return the I2C bus that a sensor is on."""
        ...

    def address(self, sensor: str) -> int:
        """Return a sensor's address on it."""
        ...

    def twin(self, sensor: str) -> Any:
        """Build another device like the one behind a sensor."""
        ...

    def kill_broker(self) -> None:
        """End it without warning."""
        ...

    def start_broker(self) -> None:
        """Start it again."""
        ...

    def cut_power(self) -> None:
        """Let the gateway be without power from now on."""
        ...

    def restore_power(self) -> None:
        """Let it boot."""
        ...
