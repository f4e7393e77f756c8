"""Where a scenario is played: what there is to be broken, whatever it is made of.

`process` is one such place; a virtual machine is another. Verbs know only this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..faults.ongoing import Heal


class Network(Protocol):
    """The way from the gateway to the broker."""

    def cut(self) -> Heal:
        """End all connections and refuse new ones."""
        ...

    def stall(self) -> Heal:
        """Move no byte."""
        ...

    def reset(self) -> None:
        """Answer every connection with a reset."""
        ...

    def vanish(self) -> Heal:
        """Let every connection die without a word; new ones are carried."""
        ...

    def portal(self) -> Heal:
        """End all connections, and answer new ones with a web page."""
        ...

    def lose(self, share: float) -> Heal:
        """Lose this share of the segments."""
        ...

    def delay(self, by_s: float) -> Heal:
        """Let everything arrive later by this."""
        ...

    def throttle(self, bytes_per_s: float) -> Heal:
        """Carry no more than this."""
        ...


class Broker(Protocol):
    """The city's broker."""

    def kill(self) -> Heal:
        """End it without warning; healed, it starts again."""
        ...

    def refuse(self) -> Heal:
        """Refuse what is published, "not authorised"."""
        ...

    def refuse_logins(self) -> Heal:
        """Let nobody in any more."""
        ...

    def refuse_messages(self, code: int) -> Heal:
        """Answer messages by this reason code."""
        ...

    def never_acknowledge(self) -> Heal:
        """Take every message, and say so to nobody."""
        ...

    def throttle(self, bytes_per_s: float) -> Heal:
        """Take and give no more than this."""
        ...


class Disk(Protocol):
    """Where the spool lies."""

    def fill(self, *, leave_bytes: int = 0) -> Heal:
        """Let something else take all the space but this."""
        ...

    def fail_io(self, *, share: float = 1.0) -> Heal:
        """Let this share of all calls end in EIO."""
        ...

    def refuse_writes(self) -> Heal:
        """Let every change end in EROFS."""
        ...

    def slow(self, by_s: float) -> Heal:
        """Let each write and sync take so much longer."""
        ...


class SystemClock(Protocol):
    """What the gateway's kernel takes for the time."""

    def step(self, by_s: float) -> Heal:
        """Set UTC ahead by so much, or back; healed, set it right again."""
        ...

    def drift(self, ppm: float) -> Heal:
        """Let it run too fast by so much while nobody corrects it."""
        ...

    def lose_sync(self) -> Heal:
        """Leave it without anybody who corrects it."""
        ...


class Computer(Protocol):
    """What else runs there."""

    def take_memory(self, left_mib: int) -> Heal:
        """Leave so much to everybody else."""
        ...

    def burn(self, processes: int) -> Heal:
        """Keep so many processors busy."""
        ...

    def lose_dns(self) -> Heal:
        """Let no name be found."""
        ...


class Stage(Protocol):
    """What verbs act on."""

    @property
    def network(self) -> Network:
        """The way to the broker."""
        ...

    @property
    def broker(self) -> Broker:
        """The city's broker."""
        ...

    @property
    def disk(self) -> Disk:
        """Where the spool lies. Raises UnavailableError where it cannot be broken."""
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

    def pins(self, sensor: str) -> tuple[int, ...]:
        """Return the pins that a sensor has, BCM numbers."""
        ...

    def address(self, sensor: str) -> int:
        """Return a sensor's address on it."""
        ...

    def twin(self, sensor: str) -> Any:
        """Build another device like the one behind a sensor."""
        ...

    def tell_time(self) -> None:
        """Let network time set a clock that began in 1970."""
        ...

    def cut_power(self) -> None:
        """Let the gateway be without power from now on."""
        ...

    def restore_power(self) -> None:
        """Let it boot."""
        ...
