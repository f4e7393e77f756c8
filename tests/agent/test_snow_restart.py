"""Snow over a restart: what it was off for, a clock that is late or never known, any state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.phenomena.closed import Closed, Phenomenon
from agent.phenomena.snow import CLOCK_WAIT_S, Snow
from tests.agent.test_snow import BOOTED_NS, MINUTE_NS, minutes, mode, ramp, window, winters


def test_a_reboot_within_the_hour_keeps_the_hours_snowfall() -> None:
    first, second = Snow(), Snow()
    minutes(first, [*[10.0] * 60, *ramp(10.0, 12.0, 30)])
    second.restore(json.loads(json.dumps(first.state())))
    found = [
        second.derive(window(minute, cm, boot_ns=95 * MINUTE_NS))
        for minute, cm in enumerate(ramp(12.5, 14.0, 24), start=97)
    ]
    (told,) = [each["snowfall_cm"] for each in found if "snowfall_cm" in each]
    assert told == pytest.approx(4.0, abs=0.05)
    assert found[-1]["new_snow_cm"] == pytest.approx(4.0, abs=0.4)


def test_a_reboot_on_the_hour_loses_the_record_that_would_have_told_it_and_no_more() -> None:
    snow = Snow()
    minutes(snow, [10.0] * 119)
    found = minutes(snow, ramp(10.0, 14.0, 58), begin=122 + 1)  # windows 120-122 never were
    assert found[57]["snowfall_cm"] == pytest.approx(4.0, abs=0.2)


def restarted(snow: Snow) -> Snow:
    other = Snow()
    other.restore(json.loads(json.dumps(snow.state(), allow_nan=False)))
    return other


def stormed(fallen_cm: float) -> Snow:
    """Return what a storm of four hours left, over 20 cm, at minute 240."""
    snow = Snow()
    minutes(snow, ramp(20.0, 20.0 + fallen_cm, 240))
    return snow


def booted(
    snow: Snow, off_min: int, depths_cm: Iterable[float], *, untimed: int, boot_s: int = 40
) -> list[dict[str, Any]]:
    """Boot after a while without power; the clock is that of the last life for some windows."""
    up = 240 + off_min
    found = []
    for i, cm in enumerate(depths_cm):
        is_timed = i >= untimed
        now = window(up + i if is_timed else 240 + i, cm, is_timed=is_timed)
        found.append(snow.derive(now._replace(boot_end_ns=boot_s * 10**9 + i * MINUTE_NS)))
    return found


@pytest.mark.parametrize("boot_s", [40, 10**6])  # behind the last life's boot clock, or ahead
@pytest.mark.parametrize("untimed", [0, 1, 9])
def test_what_fell_while_it_was_off_is_judged_by_the_time_that_it_was_off(
    untimed: int, boot_s: int
) -> None:
    calm = restarted(stormed(9.0))
    booted(calm, 2880, ramp(29.0, 31.0, 120), untimed=untimed, boot_s=boot_s)
    assert calm.storm_cm == pytest.approx(2.3, abs=0.3)  # two days: another storm

    snowed = restarted(stormed(3.0))
    found = booted(snowed, 480, [37.0] * 60, untimed=untimed, boot_s=boot_s)
    assert snowed.storm_cm == pytest.approx(14.1, abs=0.3)
    assert found[-1]["new_snow_cm"] == pytest.approx(17.0, abs=0.3)

    settled = restarted(stormed(9.0))
    found = booted(settled, 2880, [24.0] * 60, untimed=untimed, boot_s=boot_s)
    assert found[-1]["new_snow_cm"] == pytest.approx(9.0, abs=0.4)  # no clearing


def test_while_the_clock_may_still_tell_how_long_it_was_off_nothing_is_derived() -> None:
    snow = restarted(stormed(12.0))
    before = snow.state()
    assert booted(snow, 0, [32.0] * 9, untimed=9) == [{"ground": None}] * 9
    assert snow.storm_cm is None
    assert snow.state() == before  # another restart costs nothing


@pytest.mark.parametrize("window_s", [10, 60, 600, 900, 3600])
def test_it_waits_ten_minutes_for_the_clock_and_no_more(window_s: int) -> None:
    snow, waited_s = restarted(stormed(5.0)), 0
    while waited_s < 4000:
        waited_s += window_s
        closed = window(240, 25.0, is_timed=False)
        start_ns, boot_ns = closed.end_ns - window_s * 10**9, (20 + waited_s) * 10**9
        derived = snow.derive(closed._replace(start_ns=start_ns, boot_end_ns=boot_ns))
        assert ("new_snow_cm" in derived) == (waited_s >= CLOCK_WAIT_S)


@pytest.mark.parametrize("depth_cm", [8.0, 22.0, 40.0, 160.0])
@pytest.mark.parametrize("boot_s", [40, 10**6])
def test_across_a_time_that_nobody_knows_there_is_neither_a_step_nor_a_clearing(
    depth_cm: float, boot_s: int
) -> None:
    snow = restarted(stormed(9.0))
    found = booted(snow, 0, [*[depth_cm] * 60, *[4.0] * 15], untimed=75, boot_s=boot_s)
    new_cm = 9.0 + max(0.0, depth_cm - 29.0)  # what settled takes nothing away
    assert found[59]["new_snow_cm"] == pytest.approx(new_cm, abs=0.4)
    assert mode(found[59]) == "snow"
    assert found[-1]["new_snow_cm"] == 0  # from then on it is as ever


def test_who_stands_below_after_a_time_that_nobody_knows_is_no_snow() -> None:
    snow = restarted(stormed(9.0))
    found = booted(snow, 0, [*[29.0] * 5, *[140.0] * 9, *[29.0] * 20], untimed=34)
    assert found[-1]["new_snow_cm"] == pytest.approx(9.0, abs=0.4)
    assert {mode(each) for each in found[10:14]} == {"unknown"}


def test_a_clock_that_went_back_tells_nothing() -> None:
    snow = restarted(stormed(9.0))
    found = booted(snow, -120, [20.0] * 60, untimed=0)
    assert found[-1]["new_snow_cm"] == pytest.approx(9.0, abs=0.4)
    assert [each["snowfall_cm"] for each in found if "snowfall_cm" in each] == [None]


def test_a_car_that_left_while_nobody_knew_the_time_leaves_the_snow() -> None:
    snow = Snow()
    minutes(snow, [*ramp(10.0, 16.0, 120), *[156.0] * 30])
    found = booted(restarted(snow), 0, [16.0] * 60, untimed=60)
    assert mode(found[-1]) == "snow"
    assert found[-1]["new_snow_cm"] == pytest.approx(6.0, abs=0.3)


@settings(deadline=None)
@given(winters(), st.integers(0, 59), st.data())
def test_a_restart_at_any_window_changes_nothing(
    depths: list[float | None], begin: int, data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(depths)))
    whole, first, second = Snow(), Snow(), Snow()
    expected = minutes(whole, depths, begin + 1)
    found = minutes(first, depths[:stop], begin + 1)
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    found += minutes(second, depths[stop:], begin + 1 + stop)
    assert found == expected
    assert json.dumps(second.state()) == json.dumps(whole.state())
    assert second.storm_cm == (whole.storm_cm if stop < len(depths) else None)


@settings(deadline=None)
@given(
    winters(),
    st.integers(0, 59),
    st.sampled_from([10, 60, 600, 900, 3600]),
    st.integers(0, 600),
    st.lists(st.none() | st.floats(-5.0, 200.0), max_size=9),
    st.data(),
)
def test_a_boot_that_learns_the_time_late_changes_nothing(
    depths: list[float | None],
    begin: int,
    window_s: int,
    off_min: int,
    junk: list[float | None],
    data: st.DataObject,
) -> None:
    stop = data.draw(st.integers(1, max(1, len(depths) - 1)))

    def at(i: int, cm: float | None, boot_ns: int) -> Closed:
        end_ns = BOOTED_NS + (begin + i) * window_s * 10**9
        end_ns += off_min * MINUTE_NS // (window_s * 10**9) * window_s * 10**9 * (i >= stop)
        told = window(0, cm)
        return told._replace(
            start_ns=end_ns - window_s * 10**9,
            end_ns=end_ns,
            boot_end_ns=end_ns - boot_ns,
        )

    whole, first = Snow(), Snow()
    expected = [whole.derive(at(i, cm, BOOTED_NS)) for i, cm in enumerate(depths)]
    storm_cm = whole.storm_cm
    found = [first.derive(at(i, cm, BOOTED_NS)) for i, cm in enumerate(depths[:stop])]
    second = restarted(first)
    if first.state():
        for i, cm in enumerate(junk):
            assert second.derive(window(i, cm, is_timed=False)) == {"ground": None}
    life_ns = data.draw(st.integers(0, 10**18))
    found += [second.derive(at(i, cm, life_ns)) for i, cm in enumerate(depths[stop:], stop)]
    assert found == expected
    assert len(depths) <= stop or second.storm_cm == storm_cm


def test_a_storm_ends_unseen_too_and_a_restart_tells_the_same() -> None:
    snow = stormed(9.0)
    minutes(snow, [None] * 300, begin=241)
    assert snow.storm_cm == pytest.approx(9.0, abs=0.4)
    minutes(snow, [None] * 120, begin=541)
    assert snow.storm_cm == 0.0
    other = restarted(snow)
    other.derive(window(661, None))
    assert other.storm_cm == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"level_cm": "deep"},
        {"level_cm": float("nan")},
        {"at_ns": None},
        {"rises": None},
        {"rises": {"low_cm": 1.0}},
        {"recent": [1, 2]},
        {"pending": {"depths": []}},
        {"pending": {"since_ns": 0, "at_ns": 0, "first_cm": None, "cm": 60.0}},
        {"level_cm": 10**400},
        {"level_ns": 10**400},
        {"ground": 7},
        {"ground": "mud"},
        {"recent": [[0, float("nan")]]},
        {"recent": [["0", 1.0]]},
        {"is_gap": None},
        {"nonsense": 1},
    ],
)
def test_a_state_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    snow = Snow()
    minutes(snow, [10.0] * 5)
    state = snow.state()
    with pytest.raises(ValueError, match="state of snow"):
        Snow().restore({**state, **change})
    other = Snow()
    other.restore(state)
    assert other.state() == state


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, 10**18])
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["snow", "unknown"]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each),
    max_leaves=5,
)


def mutate(data: st.DataObject, value: Any) -> Any:
    """Return a JSON value that differs somewhere, at any depth."""
    if not isinstance(value, dict | list):
        return data.draw(JSON)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    if not keys or data.draw(st.integers(0, 5)) == 0:
        return data.draw(JSON)
    key = data.draw(st.sampled_from(keys))
    other = value.copy()
    if data.draw(st.integers(0, 5)) == 0:
        del other[key]
    else:
        other[key] = mutate(data, value[key])
    return other


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_whatever_a_file_holds_is_refused_or_lived_with(data: st.DataObject) -> None:
    snow = Snow()
    last_cm = data.draw(st.sampled_from([[30.0], [130.0] * 3, [3.0] * 15, [None]]))
    minutes(snow, [*ramp(20.0, 30.0, 120), *last_cm])
    state = mutate(data, json.loads(json.dumps(snow.state())))
    other = Snow()
    try:
        other.restore(state)
    except ValueError:
        return
    for minute, cm in enumerate([*[60.0] * 15, None, *[1.0] * 15] * 3, 140):
        derived = other.derive(window(minute, cm, boot_ns=135 * MINUTE_NS))
        json.dumps([derived, other.state(), other.storm_cm], allow_nan=False)


def test_a_first_life_has_no_state() -> None:
    snow: Phenomenon = Snow()
    assert snow.state() == {}
    snow.restore({})
    assert snow.state() == {}
