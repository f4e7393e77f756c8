"""What no driver may say, whatever its device does; and how a broken promise is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

from drivers.base import (
    REASONS,
    Crossing,
    Fix,
    NoGlimpseError,
    Observation,
    Quantity,
    Reading,
    Spec,
    Trouble,
    glimpses,
)


class BrokenPromiseError(AssertionError):
    """A driver does not do what every driver does. The text says what to do about it."""


def broken(what: str) -> NoReturn:
    """Say what is wrong, and what to do."""
    __tracebackhide__ = True  # pytest shows who said it
    raise BrokenPromiseError(what)


def expect(is_so: object, otherwise: str) -> None:
    """Break off with `otherwise` unless it is so."""
    __tracebackhide__ = True
    if not is_so:
        broken(otherwise)


def expect_lawful(
    spec: Spec,
    observations: Sequence[Observation],
    now_ns: int,
    quantities: Mapping[str, Quantity],
) -> None:
    """Look at what no driver may say, whatever its device does."""
    for seen in observations:
        expect(
            seen.at_boot_ns <= now_ns,
            f"{seen} is in the future: take the time just before the bus transaction",
        )
        if spec.kind == "people":
            try:
                glimpses([seen])
            except NoGlimpseError as exc:
                broken(str(exc))
            if isinstance(seen, Crossing):
                expect(
                    seen.direction in spec.directions,
                    "a crossing in a direction that Spec.directions does not name",
                )
            continue
        match seen:
            case Reading():
                _expect_lawful_reading(spec, seen, quantities)
            case Trouble():
                expect(seen.reason in REASONS, f'"{seen.reason}" is none of the fixed reasons')
            case Fix():
                lawful = abs(seen.latitude_deg) <= 90 and abs(seen.longitude_deg) <= 180
                expect(lawful, f"{seen} is nowhere on earth")
            case _:
                broken(f"{spec.kind} is not people, and it reported {seen}")


def _expect_lawful_reading(spec: Spec, seen: Reading, quantities: Mapping[str, Quantity]) -> None:
    strange = [reason for reason in seen.reasons if reason not in REASONS]
    expect(not strange, f"{seen}: {strange} are none of the fixed reasons")
    if seen.value is None:
        expect(seen.reasons, f"{seen}: a reading without a value says why it has none")
    quantity = quantities.get(seen.quantity)
    if quantity is None:
        expect(
            spec.bus == "serial" and seen.quantity.startswith("channel_"),
            f"{seen}: `quantities` does not name it, so nobody knows its unit",
        )
        return
    if seen.value is None:
        return
    if quantity.is_class:
        expect(
            seen.value in quantity.classes,
            f"{seen}: it is a class, and Quantity.classes does not name {seen.value!r}",
        )
        return
    expect(
        isinstance(seen.value, (int, float)) and math.isfinite(seen.value),
        f"{seen}: a value is a finite number; NaN, infinity and texts become value None",
    )
    low = -math.inf if quantity.low is None else quantity.low
    high = math.inf if quantity.high is None else quantity.high
    expect(
        low <= float(seen.value) <= high,
        f"{seen}: outside the {low:g} to {high:g} that Spec.quantities gives; such a value becomes "
        'Reading(quantity, None, at, ("out_of_range",))',
    )


def values_of(observations: Sequence[Observation]) -> list[tuple[str, object]]:
    """Return what was measured, without its time: names and values, places."""
    found: list[tuple[str, object]] = []
    for seen in observations:
        match seen:
            case Reading(value=value) if value is not None:
                found.append((seen.quantity, value))
            case Crossing():
                found.append(("crossing", seen.direction))
            case Fix():
                found.append(("fix", (seen.latitude_deg, seen.longitude_deg)))
    return found
