"""Snow for the city: the JMA's snowfall, new snow that only a clearing takes away, steps."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.phenomena.closed import Closed
from agent.phenomena.snow import (
    BARE_TO_CM,
    BREAK_S,
    DRIFT_CM_PER_H,
    HOUR_NS,
    SNOW_FROM_CM,
    STEP_CM,
    TURN_CM,
    Snow,
)

MINUTE_NS = 60 * 10**9
BOOTED_NS = 1_800_000_000 * 10**9 // HOUR_NS * HOUR_NS  # on an hour of UTC


def window(
    end_minute: int, depth_cm: float | None, *, boot_ns: int = 0, is_timed: bool = True, n: int = 60
) -> Closed:
    """Return the window of a minute; UTC and the boot clock begin at minute 0."""
    end_ns = end_minute * MINUTE_NS
    value = None if depth_cm is None else {"median": depth_cm, "sd": 0.2, "n": n}
    return Closed(
        BOOTED_NS + end_ns - MINUTE_NS,
        BOOTED_NS + end_ns,
        end_ns - boot_ns,
        is_timed,
        {"depth_cm": value},
        {"depth_cm": "missing" if depth_cm is None else "good"},
    )


def minutes(snow: Snow, depths_cm: Iterable[float | None], begin: int = 1) -> list[dict[str, Any]]:
    return [snow.derive(window(begin + i, cm)) for i, cm in enumerate(depths_cm)]


def mode(derived: dict[str, Any]) -> str | None:
    return None if derived["ground"] is None else derived["ground"]["mode"]


def ramp(a_cm: float, b_cm: float, n: int) -> list[float]:
    return [a_cm + (b_cm - a_cm) * i / n for i in range(1, n + 1)]


# --- snowfall as the JMA defines it ---


def recorded_depths_cm(recordings: Path, name: str) -> list[float | None]:
    column = {"snowex_ME_hourly.csv": "DistanceSensToGnd(m)"}.get(name, "Sno_Height_M")
    with (recordings / "snow" / name).open() as file:
        texts = [row[column] for row in csv.DictReader(file)]
    return [None if t == "" or float(t) < -100 else round(100 * float(t), 1) for t in texts]


@pytest.mark.parametrize("name", ["snowex_ME_hourly.csv", "csas_SASP_1hr_2010-2024.csv"])
@pytest.mark.parametrize("window_s", [60, 600, 3600])
def test_of_a_recorded_winter_every_hours_snowfall_is_the_jmas(
    recordings: Path, name: str, window_s: int
) -> None:
    hours = recorded_depths_cm(recordings, name)
    snow, per_hour = Snow(), 3600 // window_s
    ours: list[object] = []
    for hour, (before, now) in enumerate(pairwise([None, *hours])):
        for i in range(1, per_hour + 1):
            whole = before is not None and now is not None
            cm = before + (now - before) * i / per_hour if whole else now if i == per_hour else None
            end_minute = hour * 60 + i * window_s // 60
            derived = snow.derive(window(end_minute, None if cm is None else round(cm, 3)))
        ours.append(derived["snowfall_cm"])
    jma = [
        None if before is None or now is None else pytest.approx(max(0.0, now - before), abs=1e-9)
        for before, now in pairwise([None, *hours])
    ]
    assert ours == jma
    assert sum(each for each in ours if isinstance(each, float | int)) > 20


def test_only_the_window_that_closes_an_hour_tells_snowfall() -> None:
    found = minutes(Snow(), ramp(10.0, 14.0, 180))
    assert [i for i, each in enumerate(found, 1) if "snowfall_cm" in each] == [60, 120, 180]
    assert found[119]["snowfall_cm"] == pytest.approx(4.0 / 3, abs=0.001)


def test_an_hour_without_a_depth_on_it_is_a_gap_and_so_is_the_next() -> None:
    depths: list[float | None] = [10.0] * 240
    depths[100:150] = [None] * 50  # around minute 120
    found = minutes(Snow(), depths)
    told = {i: each["snowfall_cm"] for i, each in enumerate(found, 1) if "snowfall_cm" in each}
    assert told == {60: 0, 120: None, 180: None, 240: 0}
    assert found[110] == {"ground": None}


def test_a_window_lost_on_the_hour_costs_nothing() -> None:
    depths: list[float | None] = [10.0] * 60 + ramp(10.0, 16.0, 60) + ramp(16.0, 16.0, 60)
    depths[57:60] = [None] * 3
    depths[118:122] = [None] * 4
    found = minutes(Snow(), depths)
    assert found[119]["snowfall_cm"] == pytest.approx(6.0, abs=0.3)
    assert found[179]["snowfall_cm"] == pytest.approx(0.0, abs=0.3)


def test_time_that_is_not_known_has_no_hours() -> None:
    snow = Snow()
    for minute in range(1, 200):
        derived = snow.derive(window(minute, 10.0 + minute / 60, is_timed=False))
        assert "snowfall_cm" not in derived
    assert snow.derive(window(240, 14.0))["snowfall_cm"] is None


def test_what_may_not_be_believed_is_no_depth() -> None:
    snow = Snow()
    minutes(snow, [10.0] * 60)
    closed = window(61, 300.0)
    bad = closed._replace(flags={})
    assert snow.derive(bad) == {"ground": None}


# --- new snow ---


def test_settling_takes_nothing_from_new_snow_and_what_falls_later_is_added() -> None:
    found = minutes(
        Snow(), [10.0] * 30 + ramp(10.0, 20.0, 300) + ramp(20.0, 15.0, 600) + ramp(15.0, 21.0, 300)
    )
    assert found[330 + 600 - 1]["new_snow_cm"] == pytest.approx(10.0, abs=0.2)
    assert found[-1]["new_snow_cm"] == pytest.approx(16.0, abs=0.4)


def test_a_calm_month_with_noise_and_warm_days_brings_no_new_snow() -> None:
    noise = random.Random(1)
    drift = (0.6 * math.sin(2 * math.pi * i / 1440) + noise.gauss(0.0, 0.2) for i in range(43_200))
    found = minutes(Snow(), (40.0 + each for each in drift))
    assert found[-1]["new_snow_cm"] < 1.0
    # What the same noise makes of a plain sum of positive differences, hour by hour.
    assert sum(each.get("snowfall_cm") or 0.0 for each in found) > 60.0


def test_a_storm_begins_anew_after_a_break_and_new_snow_goes_on() -> None:
    snow = Snow()
    shower = ramp(10.0, 16.0, 120)
    lull = [16.0] * round(BREAK_S / 60 - 60)
    minutes(snow, [*[10.0] * 20, *shower, *lull])
    assert snow.storm_cm == pytest.approx(6.0, abs=0.2)
    at = 20 + 120 + len(lull) + 1
    minutes(snow, ramp(16.0, 20.0, 60), begin=at)  # a lull is no break
    assert snow.storm_cm == pytest.approx(10.0, abs=0.4)
    at += 60
    minutes(snow, [20.0] * round(BREAK_S / 60 + 30), begin=at)
    assert snow.storm_cm == 0.0
    at += round(BREAK_S / 60 + 30)
    (*_, last) = minutes(snow, ramp(20.0, 23.0, 60), begin=at)
    assert snow.storm_cm == pytest.approx(3.0, abs=0.3)
    assert last["new_snow_cm"] == pytest.approx(13.0, abs=0.5)


# --- steps ---


def test_a_plough_begins_new_snow_anew_and_the_hours_snowfall_is_what_fell() -> None:
    snow = Snow()
    fallen = ramp(10.0, 22.0, 180)
    found = minutes(snow, [*[10.0] * 60, *fallen[:150], *(cm - 17.0 for cm in fallen[150:])])
    found += minutes(snow, ramp(5.0, 9.0, 60), begin=241)
    told = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    # The plough comes in the last but one. The first began with the gateway.
    assert told == [0, *(pytest.approx(4.0, abs=0.15) for _ in range(4))]
    assert found[209]["new_snow_cm"] == pytest.approx(10.0, abs=0.4)
    assert found[-1]["new_snow_cm"] == pytest.approx(6.0, abs=0.5)
    assert snow.storm_cm == pytest.approx(6.0, abs=0.5)


@pytest.mark.parametrize("minutes_below", [1, 3, 9])
def test_who_stands_below_is_no_snow(minutes_below: int) -> None:
    snow = Snow()
    minutes(snow, [10.0] * 100)
    for minute in range(101, 101 + minutes_below):
        derived = snow.derive(window(minute, 130.0))
        assert mode(derived) == "unknown"
        assert derived["new_snow_cm"] == 0
        assert snow.doubts == {"depth_cm": "obstructed"}
    found = minutes(snow, [10.0] * 100, begin=101 + minutes_below)
    assert snow.doubts == {}
    assert [each["snowfall_cm"] for each in found if "snowfall_cm" in each] == [0, 0]
    assert {mode(each) for each in found} == {"snow"}
    assert found[-1]["new_snow_cm"] == 0


def test_a_depth_on_the_hour_that_somebody_hid_is_a_gap() -> None:
    depths = [10.0] * 118 + [130.0] * 4 + [10.0] * 120
    found = minutes(Snow(), depths)
    told = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    assert told[1:] == [None, None, 0]


def test_a_plough_on_the_hour_costs_that_hour_only() -> None:
    depths = [*ramp(10.0, 14.0, 118), *([2.0] * 2), *ramp(2.0, 5.0, 60), *[5.0] * 60]
    found = minutes(Snow(), depths)
    told = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    assert told[1] is None  # it was not known yet whether the depth would stay
    assert told[2] == pytest.approx(3.0, abs=0.1)
    assert found[-1]["new_snow_cm"] == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("window_s", [10, 300, 600, 900, 3600])
def test_a_plough_is_seen_through_windows_of_any_length(window_s: int) -> None:
    snow, step_min = Snow(), window_s / 60
    depths_cm = [20.0 if i * step_min < 300 else 3.0 for i in range(round(600 / step_min))]
    ends_min = [(i + 1) * step_min for i in range(len(depths_cm))]
    fallen_cm = [min(6.0, max(0.0, (end_min - 60) / 30)) for end_min in ends_min]
    found = []
    for i, (lying_cm, new_cm) in enumerate(zip(depths_cm, fallen_cm, strict=True), 1):
        end_ns = BOOTED_NS + i * window_s * 10**9
        value = {"median": lying_cm + new_cm, "sd": 0.2, "n": 60}
        span = (end_ns - window_s * 10**9, end_ns, i * window_s * 10**9)
        found.append(snow.derive(Closed(*span, True, {"depth_cm": value}, {"depth_cm": "good"})))
    news = [each["new_snow_cm"] for each in found]
    assert max(news) == pytest.approx(6.0, abs=0.3)  # type: ignore[type-var]
    assert news[-1] == 0
    (_, *told) = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    assert sum(each or 0.0 for each in told) == pytest.approx(6.0, abs=0.1)  # type: ignore[misc]


def test_what_a_plough_throws_up_is_no_snowfall_and_a_parked_car_clears_nothing() -> None:
    snow = Snow()
    parked = [*[10.0] * 30, *ramp(10.0, 16.0, 120), *[156.0] * 300, *[16.0] * 210]
    found = minutes(snow, parked)
    assert [each["snowfall_cm"] for each in found if "snowfall_cm" in each][1:] == [
        pytest.approx(3.0, abs=0.1),
        pytest.approx(1.5, abs=0.1),
        *[0.0] * (len(parked) // 60 - 3),
    ]
    news = [each["new_snow_cm"] for each in found]
    assert max(news) == news[-1] == pytest.approx(6.0, abs=0.2)


def test_a_car_over_bare_ground_is_not_snow_for_a_day() -> None:
    snow = Snow()
    found = minutes(snow, [*[0.1] * 60, *[140.0] * 120, *[0.1] * 60])
    assert {mode(each) for each in found[:60]} == {"no_snow"}
    assert {mode(each) for each in found[60:180]} == {"unknown"}
    assert mode(found[-1]) == "no_snow"
    minutes(snow, [40.0] * 1500, begin=241)
    assert mode(snow.derive(window(241 + 1500, 40.0))) == "snow"


# --- bare ground ---


def test_snow_and_no_snow_have_a_band_between_them() -> None:
    snow = Snow()
    assert mode(snow.derive(window(1, 1.5))) == "unknown"
    found = minutes(snow, ramp(1.5, 0.0, 60) + ramp(0.0, 3.0, 300) + ramp(3.0, 0.0, 300), begin=2)
    modes = [mode(each) for each in found]
    changes = [b for a, b in pairwise(modes) if a != b]
    assert changes == ["no_snow", "snow", "no_snow"]
    assert modes[60 + 150 + 20] == "no_snow" or SNOW_FROM_CM > BARE_TO_CM


def test_bare_ground_is_a_clearing_and_the_first_snow_counts_from_the_ground() -> None:
    found = minutes(Snow(), ramp(8.0, 0.0, 600) + [0.2] * 60 + ramp(0.0, 5.0, 300))
    assert mode(found[650]) == "no_snow"
    assert found[650]["new_snow_cm"] == 0
    assert found[-1]["new_snow_cm"] == pytest.approx(5.0, abs=0.3)


def test_far_below_the_ground_nobody_knows_what_it_sees() -> None:
    assert mode(Snow().derive(window(1, -8.0))) == "unknown"


# --- any winter ---

CHANGES = st.one_of(
    st.floats(-0.3, 0.3),  # settling, snowfall, noise
    st.floats(-0.3, 0.3),
    st.floats(-60.0, 60.0),  # ploughs, cars, persons
    st.none(),  # nothing measured
)


@st.composite
def winters(draw: st.DrawFn) -> list[float | None]:
    cm, depths = draw(st.floats(0.0, 100.0)), list[float | None]()
    for change, lasts in draw(st.lists(st.tuples(CHANGES, st.integers(1, 40)), max_size=40)):
        if change is None:
            depths += [None] * lasts
            continue
        if abs(change) > 0.3:
            cm = max(-5.0, cm + change)
        for _ in range(lasts):
            cm = max(-5.0, cm + (change if abs(change) <= 0.3 else 0.0))
            depths.append(round(cm, 2))
    return depths


@settings(deadline=None)
@given(winters(), st.integers(0, 59))
def test_new_snow_shrinks_at_a_clearing_only_and_no_hour_has_less_than_none(
    depths: list[float | None], begin: int
) -> None:
    snow, before = Snow(), 0.0
    for minute, cm in enumerate(depths, begin + 1):
        derived = snow.derive(window(minute, cm))
        json.dumps(derived, allow_nan=False)
        if "snowfall_cm" in derived:
            assert (minute % 60) == 0
            assert derived["snowfall_cm"] is None or derived["snowfall_cm"] >= 0
        new_cm = derived.get("new_snow_cm", before)
        assert new_cm >= 0
        if new_cm < before:  # all at once
            assert new_cm <= 2 * STEP_CM
        assert snow.storm_cm is None or 0 <= snow.storm_cm <= max(new_cm, 0) + 0.2
        before = new_cm


@settings(deadline=None)
@given(st.lists(st.floats(-0.05, 0.3), min_size=1, max_size=48))
def test_the_hours_snowfall_adds_up_to_the_new_snow(rates_cm_per_min: list[float]) -> None:
    """Hour by hour even: what the hours tell is the new snow, but for turns below a centimetre."""
    cm, depths = 10.0, [10.0] * 60
    for rate in rates_cm_per_min:
        for _ in range(60):
            cm = max(3.0, cm + rate / 10)
            depths.append(cm)
    depths += [cm] * 60
    found = minutes(Snow(), depths)
    fallen = sum(each.get("snowfall_cm") or 0.0 for each in found)
    turns = sum(1 for a, b in pairwise([0.0, *rates_cm_per_min]) if a <= 0 < b)
    new_cm = found[-1]["new_snow_cm"]
    assert new_cm <= fallen + 0.1
    assert new_cm >= fallen - (TURN_CM + 0.3) * (turns + 1) - DRIFT_CM_PER_H * len(depths) / 60


def test_a_jump_long_before_the_hour_is_no_depth_on_it() -> None:
    hidden: list[float | None] = [None] * 70
    found = minutes(
        Snow(), [*ramp(20.0, 21.0, 60), *[21.0] * 5, 5.0, *hidden, *ramp(7.0, 8.0, 104)]
    )
    told = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    assert told == [pytest.approx(1.0, abs=0.1), None, None, pytest.approx(0.6, abs=0.1)]


@pytest.mark.parametrize("window_s", [10, 60])
def test_a_step_is_what_it_was_when_it_was_first_seen(window_s: int) -> None:
    """Snow that falls in the ten minutes until a step is believed is snowfall."""
    snow, found = Snow(), []
    for i in range(1, 3 * 3600 // window_s + 1):
        at_min = i * window_s / 60
        cm = 10.0 + 12.0 * at_min / 60 + (40.0 if at_min > 90 else 0.0)
        end_ns = BOOTED_NS + i * window_s * 10**9
        span = {"start_ns": end_ns - window_s * 10**9, "end_ns": end_ns}
        found.append(snow.derive(window(0, cm)._replace(**span, boot_end_ns=end_ns)))
    told = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    assert told[1:] == [pytest.approx(12.0, abs=0.3)] * 2
