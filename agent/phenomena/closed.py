"""A closed window of a measuring sensor, and what is made of it for the city.

A `Phenomenon` sees a sensor's windows in order, each once, and adds to its record what the city
asks about. It is pure: time is in the windows. What it must remember over a restart is its `state`,
a small JSON object; one that cannot be understood is left, as if it were the first life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from drivers.base import Reason

from ..quality import Flag

TRUSTED: frozenset[Flag] = frozenset(("good", "suspect"))


class Closed(NamedTuple):
    """One closed window: the record's values by quantity, and the flag of each."""

    start_ns: int  # UTC
    end_ns: int
    boot_end_ns: int  # the end on the clock that does not step
    is_timed: bool  # UTC is known, so that its hours are the hours of the day
    values: Mapping[str, Mapping[str, Any] | None]  # the contract's objects; None: nothing valid
    flags: Mapping[str, Flag]

    def number(self, quantity: str, statistic: str = "median") -> float | None:
        """Return a statistic of a quantity; None where there is none that may be believed."""
        value = self._believed(quantity)
        number = None if value is None else value.get(statistic)
        return None if number is None else float(number)

    def mode(self, quantity: str) -> str | None:
        """Return the most frequent name of a class; None where none may be believed."""
        value = self._believed(quantity)
        return None if value is None else value.get("mode")

    def _believed(self, quantity: str) -> Mapping[str, Any] | None:
        return self.values.get(quantity) if self.flags.get(quantity) in TRUSTED else None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a phenomenon knows beyond what its sensor's record says, for the alert rules."""

    storm_cm: float | None = None  # new snow without a break
    # Why a value of the latest window is suspect though its samples agree, by quantity.
    doubts: Mapping[str, Reason] = field(default_factory=dict)


NO_FACTS = Facts()


class Phenomenon(Protocol):
    """What is computed from one sensor's windows, beyond their statistics."""

    @property
    def facts(self) -> Facts:
        """What it knows after the last window, for the alert rules."""
        ...

    def derive(self, closed: Closed) -> dict[str, object]:
        """Return the values to add to the window's record, as JSON has them."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what the next life must know, as JSON has it."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what the last life's `state` returned. Raises ValueError where it makes no sense."""
        ...
