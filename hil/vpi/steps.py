"""A run on the virtual Pi, one step after the other.

Each is timed and said when it is done; the first that fails ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .qmp import MachineError

PANICS = 2  # of the guest's kernel under emulation, which are nobody's fault here

T = TypeVar("T")


@dataclass(slots=True)
class Findings:
    """What one run showed: each step, and how long it took."""

    steps: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)


def take(steps: Iterable[Callable[[], None]], found: Findings, say: Callable[[str], None]) -> None:
    """Take the steps. Raises MachineError at the first that fails."""
    for step in steps:
        began_s = time.monotonic()
        step()
        name = step.__name__.strip("_").replace("_", " ")
        found.steps[name] = round(time.monotonic() - began_s, 1)
        say(f"{found.steps[name]:6.1f} s  {name}")


def must(holds: bool, otherwise: str) -> None:
    """Raise MachineError where it does not hold."""
    if not holds:
        raise MachineError(otherwise)


def without_panic(play: Callable[[], T]) -> T:
    """Play it, and anew where the guest's own kernel fell over in the middle of it."""
    for _ in range(PANICS):
        try:
            return play()
        except MachineError as exc:
            if "Kernel panic" not in str(exc):
                raise
    return play()
