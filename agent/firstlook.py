"""One look at each sensor of a plan that does not run yet: does it answer, and what does it say.

Of a people sensor it is told whether it works and nothing else: what passes before it meanwhile is
dropped as it comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from drivers.base import Alive, Clock, DriverError, FrameError, Trouble

from . import kernel
from .direct import SILENT_AFTER, Assembly, Direct, Opener, ReadSet, read_sets
from .openbus import open_bus
from .plan import PlannedSensor

LONGEST_S = 30.0  # a receiver that looks for satellites may take longer; it is said so

State = Literal["ok", "warmup", "no_value", "garbled", "silent"]


@dataclass(frozen=True, slots=True)
class Value:
    """What a sensor says of one quantity."""

    quantity: str
    value: float | str | None
    unit: str
    reasons: tuple[str, ...] = ()  # why there is none, or why it is doubtful


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a sensor."""

    sensor: str
    state: State
    values: tuple[Value, ...] = ()  # none of a people sensor
    identity: str = ""
    error: str = ""


def look_at(
    sensor: PlannedSensor,
    *,
    longest_s: float = LONGEST_S,
    opener: Opener = open_bus,
    now_ns: Clock = kernel.boot_ns,
    wait_s: Callable[[float], object] = time.sleep,
) -> Look:
    """Ask a sensor once. Raises nothing but a driver's bug: what is wrong is in the answer."""
    assembly: list[Assembly] = []
    direct = Direct(
        sensor,
        lambda entry: assembly[0].note(entry) if assembly else None,
        opener=opener,
        now_ns=now_ns,
        wait_s=wait_s,
    )
    timeout_s = min(direct.usual_s(1), direct.warmup_s + longest_s)
    try:
        with direct:
            if sensor.counts_people:
                return _of_people(direct, timeout_s)
            assembly.append(Assembly(direct.driver))
            return _of_things(direct, assembly[0], timeout_s)
    except FrameError as exc:
        return Look(sensor.table.id, "garbled", error=str(exc))
    except DriverError as exc:
        return Look(sensor.table.id, "silent", error=str(exc))


def _of_things(direct: Direct, assembly: Assembly, timeout_s: float) -> Look:
    found = ReadSet(0.0)
    for found in read_sets(direct, assembly, timeout_s, _nothing):
        if found.has_value:
            break
    units = {name: quantity.unit for name, quantity in direct.driver.quantities.items()}
    values = [
        Value(name, reading.value, units.get(name, "1"), reading.reasons)
        for name, reading in found.readings.items()
    ]
    if found.fix is not None:
        values.append(Value("latitude_deg", round(found.fix.latitude_deg, 6), "deg"))
        values.append(Value("longitude_deg", round(found.fix.longitude_deg, 6), "deg"))
    state: State = "ok" if found.has_value else "warmup" if found.is_warmup else "no_value"
    return Look(direct.sensor.table.id, state, tuple(values), direct.driver.identity)


def _of_people(direct: Direct, timeout_s: float) -> Look:
    name = direct.sensor.table.id
    state: State = "silent"
    error: DriverError | None = None
    failures = 0
    for told in direct.rounds(timeout_s):
        if told.error is not None:
            error = told.error
            failures += 1
            if failures >= SILENT_AFTER:
                break
            continue
        failures = 0
        if any(isinstance(seen, Alive) for seen in told.observations):
            return Look(name, "ok", identity=direct.driver.identity)
        if any(isinstance(seen, Trouble) and seen.reason == "warmup" for seen in told.observations):
            state = "warmup"
    if state == "warmup" and error is None:
        return Look(name, "warmup", identity=direct.driver.identity)
    if error is not None:
        raise error
    return Look(name, "silent", error="it did not begin to count in time")


def _nothing() -> None:
    return None
