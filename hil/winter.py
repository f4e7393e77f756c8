"""A recorded winter below a simulated snow gauge: what the city is told, beside the truth.

The depth of snow and the air's temperature are real series, hour by hour, and straight lines
between the hours: so the truth is known at every instant. The device turns it into the bytes that
it would say, with its noise, falling snow in its beam, missing echoes, a thermometer that the sun
warms, and where the record has a gap, its code for "no echo". The bytes go through the real driver,
the real aggregate and the real `Snow`. Nothing waits: a winter takes as long as its arithmetic.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Literal

from agent.aggregate import Measured
from agent.phenomena.closed import Closed
from agent.phenomena.snow import DEPTH, Snow
from agent.qc import Judge
from agent.quality import grade
from drivers.base import Limits, Observation, Quantity
from drivers.maxbotix import MaxBotix, MaxBotixOptions
from drivers.sr50a import Sr50a, Sr50aOptions

from .buses import SimulatedSerial
from .devices.maxbotix import MaxBotixDevice
from .devices.sr50a import Sr50aDevice
from .rig import Now

SERIES = ("snowex_ME_hourly.csv", "csas_SASP_1hr_2010-2024.csv")
HOUR_S = 3600
WINDOW_S = 60
MOUNT_CM = 350.0

# In the beam while it snows: so many flakes answer for each centimetre an hour, and no more.
FLAKES_PER_CM_H = 0.15
FLAKES_MOST = 0.65
NO_ECHO_SHARE = 0.05
GOOD_FLAKE_SHARE = 0.2
PASSER_CM = 120.0  # how high somebody below stands

PLOUGHED_FROM_CM = 12.0  # since the last clearing
PLOUGHED_TO_CM = 3.0
PLOUGHED_AT_S = 1230.0  # after the hour

Correction = Literal["once", "none", "twice"]


@dataclass(frozen=True, slots=True)
class Winter:
    """A winter hour by hour, from its first hour on; None where nothing was recorded."""

    name: str
    begin_ns: int  # UTC, on an hour
    depths_cm: Sequence[float | None]
    air_c: Sequence[float]

    def snowfall_cm(self) -> list[float | None]:
        """Return each hour's snowfall as the JMA defines it, from the second hour on."""
        return [
            None if before is None or now is None else max(0.0, now - before)
            for before, now in pairwise(self.depths_cm)
        ]


def read(path: Path) -> Winter:
    """Return the winter in a file of the recordings. Raises OSError, ValueError."""
    with path.open(encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    if "TIMESTAMP" in rows[0]:
        begin = datetime.fromisoformat(rows[0]["TIMESTAMP"]).replace(tzinfo=UTC)
        depths, airs = "DistanceSensToGnd(m)", ["AirTC_10ft_Avg"]
    else:  # its hours are 100 to 2400, and name the hour's end
        first = rows[0]
        begin = datetime(int(first["Year"]), 1, 1, tzinfo=UTC)
        begin += timedelta(days=int(first["DOY"]) - 1, hours=int(first["Hour"]) // 100)
        depths, airs = "Sno_Height_M", ["UpAir_Min_C", "UpAir_Max_C"]
    air_c, last_c = [], 0.0
    for row in rows:
        told = [each for each in (_number(row[name]) for name in airs) if each is not None]
        last_c = sum(told) / len(told) if told else last_c
        air_c.append(last_c)
    metres = [_number(row[depths]) for row in rows]
    depths_cm = [None if each is None else round(100 * each, 1) for each in metres]
    return Winter(path.stem, round(begin.timestamp()) * 1_000_000_000, depths_cm, air_c)


def _number(text: str) -> float | None:
    """Return a figure; None for an empty field or the code for a gap."""
    return float(text) if text and float(text) > -999.0 else None


class Truth:
    """The depth at every instant: straight from hour to hour, in seconds from the beginning.

    With `ploughed` the same snow falls on a street: it begins with 10 cm, is cleared at twenty past
    the hour once 12 cm have fallen and 6 cm lie, and never settles below the ground.
    """

    def __init__(self, winter: Winter, *, ploughed: bool = False) -> None:
        self.winter = winter
        self.clearings_s: list[float] = []
        self._at_s: list[float] = []
        self._cm: list[float | None] = []
        self.snowfall_cm: list[float | None] = []
        if ploughed:
            self._plough()
        else:
            self._at_s = [float(HOUR_S * hour) for hour in range(len(winter.depths_cm))]
            self._cm = list(winter.depths_cm)
            self.snowfall_cm = winter.snowfall_cm()

    @property
    def end_s(self) -> float:
        """The last instant."""
        return float(HOUR_S * (len(self.winter.depths_cm) - 1))

    def depth_cm(self, at_s: float) -> float | None:
        """Return the depth; None in a gap."""
        i = min(bisect_right(self._at_s, at_s), len(self._at_s) - 1)
        before, after = self._cm[i - 1], self._cm[i]
        if before is None or after is None:
            return None
        begin_s, end_s = self._at_s[i - 1], self._at_s[i]
        return before + (after - before) * (at_s - begin_s) / (end_s - begin_s)

    def rate_cm_per_h(self, at_s: float) -> float:
        """Return how fast it rises; 0 in a gap."""
        hour = min(int(at_s // HOUR_S), len(self.snowfall_cm) - 1)
        return self.snowfall_cm[hour] or 0.0

    def air_c(self, at_s: float) -> float:
        """Return the air's temperature."""
        air_c = self.winter.air_c
        hour, part = divmod(max(0.0, at_s) / HOUR_S, 1)
        i = min(int(hour), len(air_c) - 2)
        return air_c[i] + (air_c[i + 1] - air_c[i]) * part

    def _plough(self) -> None:
        cm, fallen_cm = 10.0, 0.0
        self._at_s, self._cm = [0.0], [cm]
        for hour, (before, now) in enumerate(pairwise(self.winter.depths_cm)):
            begin_s = HOUR_S * hour
            if before is None or now is None:
                self._at_s.append(begin_s + HOUR_S)
                self._cm.append(None if now is None else cm)
                self.snowfall_cm.append(None)
                continue
            end_cm = max(0.0, cm + now - before)
            change_cm = end_cm - cm
            if fallen_cm >= PLOUGHED_FROM_CM and cm > 2 * PLOUGHED_TO_CM:
                at_s = begin_s + PLOUGHED_AT_S
                fallen_cm = 0.0
                self.clearings_s.append(at_s)
                self._at_s += [at_s, at_s]
                self._cm += [cm + change_cm * PLOUGHED_AT_S / HOUR_S, PLOUGHED_TO_CM]
                end_cm = max(0.0, PLOUGHED_TO_CM + change_cm * (1 - PLOUGHED_AT_S / HOUR_S))
            fallen_cm += max(0.0, change_cm)
            cm = end_cm
            self._at_s.append(begin_s + HOUR_S)
            self._cm.append(cm)
            self.snowfall_cm.append(max(0.0, change_cm))


@dataclass(frozen=True, slots=True)
class Setup:
    """Which gauge hangs there, and what is left out for a control."""

    device: Literal["maxbotix-hrxl", "campbell-sr50a"]
    every_s: int = WINDOW_S  # one window of a minute each
    correction: Correction = "once"
    rejects: bool = True
    passers: int = 0  # windows in which somebody stands below
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One window: what was true in its middle, and what was told."""

    end_s: float
    true_cm: float | None  # None: a gap
    depth_cm: float | None
    is_doubted: bool
    has_passer: bool
    derived: Mapping[str, Any]


@dataclass(slots=True)
class Account:
    """A winter as it was told, beside the truth."""

    truth: Truth
    told: list[Told] = field(default_factory=list)
    samples: int = 0
    rejected: int = 0

    def depth_rms_cm(self) -> float:
        """Return the error of every depth that is told, but for where somebody stood below."""
        return _rms(
            each.depth_cm - each.true_cm
            for each in self.told
            if each.depth_cm is not None and each.true_cm is not None and not each.has_passer
        )

    def believed_rms_cm(self) -> float:
        """Return the error of the depths that are told without a doubt."""
        return _rms(
            each.depth_cm - each.true_cm
            for each in self.told
            if each.depth_cm is not None and each.true_cm is not None and not each.is_doubted
        )

    def hours_known(self) -> float:
        """Return the share of the hours with a true snowfall for which one is told."""
        known = [said is not None for true, said in self.snowfall_cm() if true is not None]
        return sum(known) / len(known)

    def snowfall_errors_cm(self) -> list[float]:
        """Return the error of each hour's snowfall, where both are known."""
        return [
            said - true
            for true, said in self.snowfall_cm()
            if true is not None and said is not None
        ]

    def snowfall_rms_cm(self) -> float:
        """Return the error of the hours' snowfall."""
        return _rms(self.snowfall_errors_cm())

    def snowfall_cm(self) -> list[tuple[float | None, float | None]]:
        """Return (true, told) of each hour."""
        said = [each for each in self.told if each.end_s % HOUR_S == 0]
        return [
            (true, each.derived["snowfall_cm"])
            for true, each in zip(self.truth.snowfall_cm, said, strict=True)
        ]

    def clearings_s(self) -> list[float]:
        """Return when new snow began anew."""
        news = [each for each in self.told if "new_snow_cm" in each.derived]
        return [
            b.end_s
            for a, b in pairwise(news)
            if b.derived["new_snow_cm"] < a.derived["new_snow_cm"] - 5.0
        ]


def _rms(errors: Iterable[float]) -> float:
    squares = [each * each for each in errors]
    return math.sqrt(sum(squares) / len(squares))


def sun_c(at_s: float) -> float:
    """Return how much too warm a thermometer is: 1 K at noon, nothing at night."""
    return max(0.0, math.sin(2 * math.pi * (at_s / 86_400.0 - 0.25)))


# Measures the window that ends then: what the driver made of the device's bytes.
Measure = Callable[[float], Sequence[Observation]]


def live(truth: Truth, setup: Setup) -> Account:
    """Live through a winter with a gauge."""
    account = Account(truth)
    steps = range(setup.every_s, int(truth.end_s) + 1, setup.every_s)
    passers = set(Random(setup.seed).sample(steps, setup.passers))
    below_cm = [0.0]  # what somebody below adds

    def surface_cm(at_s: float) -> float:
        depth_cm = truth.depth_cm(at_s)
        return -1e6 if depth_cm is None else depth_cm + below_cm[0]  # no echo from there

    make = _maxbotix if setup.device == "maxbotix-hrxl" else _sr50a
    measure, quantities, expected = make(truth, setup, surface_cm)
    judges = {
        name: Judge(q.limits if setup.rejects else Limits(), WINDOW_S / expected)
        for name, q in quantities.items()
    }
    snow = Snow()
    for end_s in steps:
        below_cm[0] = PASSER_CM if end_s in passers else 0.0
        tally = Measured(quantities)
        for observation in measure(float(end_s)):
            tally.add(observation)
        account.samples += tally.n(DEPTH)
        tally.sift(judges)
        account.rejected += tally.verdict(DEPTH).outliers
        closed = _closed(tally, quantities, expected, truth.winter.begin_ns, end_s)
        derived = snow.derive(closed)
        account.told.append(
            Told(
                end_s,
                truth.depth_cm(end_s - WINDOW_S / 2),
                closed.number(DEPTH),
                DEPTH in snow.doubts,
                end_s in passers,
                derived,
            )
        )
    return account


def _closed(
    tally: Measured, quantities: Mapping[str, Quantity], expected: int, begin_ns: int, end_s: int
) -> Closed:
    end_ns = end_s * 1_000_000_000
    return Closed(
        begin_ns + end_ns - WINDOW_S * 1_000_000_000,
        begin_ns + end_ns,
        end_ns,
        True,
        {name: tally.value(name) for name in quantities},
        {
            name: grade(tally.n(name), expected, tally.failed[name], (), tally.verdict(name)).flag
            for name in quantities
        },
    )


def _flakes(truth: Truth, at_s: float) -> float:
    return min(FLAKES_MOST, FLAKES_PER_CM_H * truth.rate_cm_per_h(at_s))


def _maxbotix(
    truth: Truth, setup: Setup, surface_cm: Callable[[float], float]
) -> tuple[Measure, Mapping[str, Quantity], int]:
    device = MaxBotixDevice(
        surface_cm,
        mount_height_cm=MOUNT_CM,
        air_c=truth.air_c,
        thermometer_error_c=sun_c,
        no_target_share=NO_ECHO_SHARE,
        rogue_share=0.005,
        seed=setup.seed,
    )
    now = Now(0.0)
    options = MaxBotixOptions(mount_height_cm=MOUNT_CM)
    driver = MaxBotix(SimulatedSerial([], now), options, now.ns)
    device.speak(0.0)

    def measure(end_s: float) -> Sequence[Observation]:
        device.miss(end_s - WINDOW_S)
        device.snowflake_share = _flakes(truth, end_s - 1)
        return driver.feed(device.speak(end_s), round(end_s * 1e9))

    return measure, driver.quantities, int(driver.rate_hz * WINDOW_S)


def _sr50a(
    truth: Truth, setup: Setup, surface_cm: Callable[[float], float]
) -> tuple[Measure, Mapping[str, Quantity], int]:
    is_corrected_inside = setup.correction == "twice"
    fields: list[Any] = ["quality", "diagnostics"]
    told: dict[str, Any] = {"model": "sr50a", "temperature_from": "air-1"}
    if setup.correction == "none":
        told = {"model": "sr50a", "assume_temperature_c": 0.0}
    elif is_corrected_inside:  # and the configuration denies it
        fields.insert(1, "temperature")
        told = {"model": "sr50at", "corrects_itself": False}
    device = Sr50aDevice(
        surface_cm,
        air_c=truth.air_c,
        mount_height_cm=MOUNT_CM,
        fields=fields,
        has_thermometer=is_corrected_inside,
        noise_mm=2.0,
        good_flake_share=GOOD_FLAKE_SHARE,
        no_echo_share=NO_ECHO_SHARE,
        turnaround_s=(0.0, 0.0),
        seed=setup.seed,
    )
    now = Now(0.0)
    port = SimulatedSerial([device], now, wait_s=now.advance)
    port.open()
    driver = Sr50a(port, Sr50aOptions(mount_height_cm=MOUNT_CM, **told), now.ns)

    def measure(end_s: float) -> Sequence[Observation]:
        device.snowflake_share = _flakes(truth, end_s - 1)
        if setup.correction == "once":
            driver.hear_temperature(
                truth.air_c(end_s - WINDOW_S) + sun_c(end_s), round((end_s - WINDOW_S) * 1e9)
            )
        found: list[Observation] = []
        for at_s in range(int(end_s) - WINDOW_S, int(end_s), round(driver.interval_s)):
            now.s = float(at_s) + 1.0
            found += driver.poll()
        return found

    return measure, driver.quantities, int(driver.rate_hz * WINDOW_S)
