"""Planted defects: each promise of the daemon has a test that fails when it is broken.

A mutant is one small change that would cost a city something, and names the test that must notice
it. `python -m hil mutants` plants them one by one in copies of the source (docs/mutants.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import answering, devices, people, sending, storing, times, wholes, windows
from .mutant import Mutant, StaleError

CATALOGUE: Mapping[str, Sequence[Mutant]] = {
    "The spool": storing.MUTANTS,
    "Delivery": sending.MUTANTS,
    "Windows and quality": windows.MUTANTS,
    "People": people.MUTANTS,
    "Time": times.MUTANTS,
    "What the city asks": answering.MUTANTS,
    "Devices and buses": devices.MUTANTS,
    "Alerts, configuration, the daemon": wholes.MUTANTS,
}
MUTANTS: Sequence[Mutant] = [mutant for floor in CATALOGUE.values() for mutant in floor]

__all__ = ["CATALOGUE", "MUTANTS", "Mutant", "StaleError"]
