"""Pins: edges with the kernel's time stamps, through gpiozero.

Drivers see `PinBus`: they ask for some pins once and take the edges since their last poll. The
pin factory comes from outside: the system's own on a Pi (lgpio), gpiozero's MockFactory on the
bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Pull = Literal["up", "down", "none"]


@dataclass(frozen=True, slots=True)
class Edge:
    """A pin changed to the electrical level `level` (0 or 1) at `at_boot_ns`."""

    pin: int
    level: int
    at_boot_ns: int


class PinWatch(Protocol):
    """The pins of one driver."""

    def edges(self) -> list[Edge]:
        """Take the edges since the last call, oldest first. Raises BusError if some were lost."""
        ...

    def level(self, pin: int) -> int:
        """Return the electrical level now."""
        ...

    def close(self) -> None:
        """Give the pins back. Never raises."""
        ...


class PinBus(Protocol):
    """All pins of the board."""

    def watch(self, pins: Sequence[int], *, pull: Pull) -> PinWatch:
        """Take `pins` (BCM numbers) as inputs. Raises BusError if one is taken or unknown."""
        ...
