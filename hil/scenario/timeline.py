"""When each fault begins and ends: what comes again and again is drawn from the seed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from .verbs.base import Fault


@dataclass(frozen=True, slots=True)
class Episode:
    """One time that a fault is there."""

    fault: Fault
    begin_s: float
    end_s: float  # infinity: for good; the beginning itself, where it is a moment


def episodes(faults: Sequence[Fault], *, seed: int, lasts_s: float) -> list[Episode]:
    """Return every episode in the order of their beginnings."""
    found = [
        episode
        for number, fault in enumerate(faults)
        for episode in _of(fault, Random(f"{seed} {number} {fault.verb}"), lasts_s)
    ]
    return sorted(found, key=lambda each: each.begin_s)


def _of(fault: Fault, dice: Random, lasts_s: float) -> Iterator[Episode]:
    until_s = min(lasts_s, lasts_s if fault.until is None else fault.until)
    at_s = fault.at or 0.0
    while at_s < until_s:
        begin_s = at_s + (dice.uniform(0.0, fault.jitter) if fault.jitter else 0.0)
        if begin_s < until_s:
            yield Episode(fault, begin_s, _end_s(fault, begin_s))
        if fault.every is None:
            return
        at_s += fault.every


def _end_s(fault: Fault, begin_s: float) -> float:
    if fault.is_moment:
        return begin_s
    return begin_s + fault.for_ if fault.for_ else math.inf
