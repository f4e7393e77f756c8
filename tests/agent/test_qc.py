"""QARTOD's tests: the flags of `ioos_qc` on the same series, and the same over windows."""

from __future__ import annotations

import csv
import math
import random
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from ioos_qc import qartod

import drivers
from agent.qc import (
    FAIL,
    GOOD,
    MISSING,
    NOT_EVALUATED,
    STRETCHES,
    SUSPECT,
    Judge,
    Plateau,
    gross_range,
    rate_of_change,
    spike,
    worst,
)
from drivers import limits
from drivers.base import Limits

NAN = math.nan

# Few different numbers, so that they meet, and any; sometimes none.
SAMPLE = st.one_of(
    st.integers(-8, 8).map(lambda n: n / 2), st.floats(-1e3, 1e3), st.just(NAN), st.just(20.0)
)
SERIES = st.lists(SAMPLE, min_size=1, max_size=40)
LIMIT = st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.75, 10.0])


def flags_of(found: Any) -> list[int]:
    return [int(flag) for flag in np.ma.getdata(found)]


def times_s(steps: Sequence[int], start_s: int = 0) -> list[int]:
    return [start_s + int(each) for each in np.cumsum([0, *steps])]


@st.composite
def timed(draw: st.DrawFn, samples: st.SearchStrategy[float] = SAMPLE) -> tuple[list[int], Any]:
    """Return a series with its times in whole milliseconds, irregular and strictly ascending."""
    values = draw(st.lists(samples, min_size=1, max_size=40))
    steps = st.integers(1, 20_000)
    return times_s([draw(steps) for _ in values[1:]]), values


# Against the reference


@given(SERIES, st.lists(SAMPLE.filter(math.isfinite), min_size=4, max_size=4), st.booleans())
@example([NAN, 0.0, 3.0], [0.0, 1.0, 2.0, 3.0], True)
def test_the_gross_range_is_that_of_ioos_qc(
    values: list[float], ends: list[float], has_suspect: bool
) -> None:
    low, likely_low, likely_high, high = sorted(ends)
    fail, suspect = (low, high), (likely_low, likely_high) if has_suspect else None
    theirs = qartod.gross_range_test(values, fail, suspect)
    assert list(gross_range(values, fail, suspect)) == flags_of(theirs)


@given(SERIES, LIMIT | st.none(), LIMIT | st.none())
@example([1.0], 1.0, None)
@example([1.0, 5.0], 1.0, None)
@example([1.0, NAN, 100.0, 101.0, 1.0, 2.0], 10.0, 3.0)
def test_a_spike_is_what_ioos_qc_calls_one(
    values: list[float], fail: float | None, suspect: float | None
) -> None:
    assume(fail is None or suspect is None or suspect <= fail)
    theirs = qartod.spike_test(values, suspect_threshold=suspect, fail_threshold=fail)
    assert list(spike(range(len(values)), values, fail, suspect)) == flags_of(theirs)


@given(timed(), LIMIT)
def test_a_rate_is_what_ioos_qc_calls_one(
    series: tuple[list[int], list[float]], a_s: float
) -> None:
    """It cuts times to whole seconds, so it is told milliseconds, and a limit for each of them."""
    times_ms, values = series
    theirs = qartod.rate_of_change_test(values, times_ms, threshold=a_s / 1000)
    ours = rate_of_change([float(each) for each in times_ms], values, a_s / 1000)
    assert list(ours) == flags_of(theirs)


@given(st.lists(st.sampled_from([GOOD, NOT_EVALUATED, SUSPECT, FAIL, MISSING]), min_size=1))
def test_the_worst_flag_is_that_of_ioos_qc(flags: list[int]) -> None:
    (theirs,) = qartod.qartod_compare([np.array([flag]) for flag in flags])
    assert worst(flags) == theirs


PLATEAU = st.lists(
    st.tuples(st.sampled_from([0.0, 0.4, 0.9, 1.0, 1.5, 30.0]), st.integers(1, 60)),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(PLATEAU, st.integers(4, 60), st.integers(0, 60), st.sampled_from([0.0, 0.5, 1.0, 1.2]))
@example([(0.0, 60), (0.9, 60), (0.0, 60)], 30, 30, 1.0)
def test_a_flat_line_is_what_ioos_qc_calls_one_or_a_thirty_second_later(
    runs: list[tuple[float, int]], suspect_s: int, more_s: int, tolerance: float
) -> None:
    values = [value for value, length in runs for _ in range(length)]
    fail_s = suspect_s + more_s
    # Its tolerance of 0 finds nothing: less than any difference means equal.
    theirs = flags_of(
        qartod.flat_line_test(values, range(len(values)), suspect_s, fail_s, tolerance or 1e-9)
    )
    ours = list(Plateau(fail_s, suspect_s, tolerance).flags(range(len(values)), values))
    late = math.ceil(fail_s / STRETCHES) if tolerance else 0
    for at, flag in enumerate(ours):
        assert flag <= theirs[at]  # what we flag, it flags too
        begun = theirs[max(0, at - late) : at + 1]
        assert len(begun) <= late or flag >= min(begun)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.4, 0.9, 5.0, NAN]), min_size=3, max_size=120),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_with_gaps_too_what_is_flagged_as_flat_is_flagged_by_ioos_qc(
    values: list[float], tolerance: float
) -> None:
    theirs = flags_of(qartod.flat_line_test(values, range(len(values)), 8, 16, tolerance or 1e-9))
    for ours, reference in zip(
        Plateau(16, 8, tolerance).flags(range(len(values)), values), theirs, strict=True
    ):
        assert ours <= reference
        assert (ours == MISSING) == (reference == MISSING)


# Over windows


def believing(own: Limits, interval_s: float = 1.0) -> Judge:
    return Judge(own, interval_s)


LIMITS = st.builds(
    Limits,
    range=st.sampled_from([None, (-5.0, 5.0)]),
    suspect_range=st.sampled_from([None, (-3.0, 3.0)]),
    spike=st.sampled_from([None, 3.0]),
    suspect_spike=st.sampled_from([None, 1.0]),
    rate_per_s=st.sampled_from([None, 0.5, 2.0]),
    flat_s=st.sampled_from([None, 12.0]),
    suspect_flat_s=st.sampled_from([None, 6.0]),
    flat_tolerance=st.sampled_from([0.0, 1.2]),
    outlier=st.none(),
)
FINITE = st.integers(-16, 16).map(lambda n: n / 2)
# Runs that stand still or hover, and single values.
RUNS = st.lists(
    st.tuples(FINITE, st.integers(1, 20), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=8
).map(lambda runs: [value + at % 3 * hover for value, n, hover in runs for at in range(n)])


def cut(n: int, pieces: list[int]) -> list[slice]:
    ends = [0, *sorted({min(each, n) for each in pieces} | {n})]
    return [slice(begin, end) for begin, end in pairwise(ends) if begin < end]


@settings(deadline=None)
@given(RUNS, st.lists(st.integers(1, 60), max_size=6), LIMITS)
def test_windows_change_no_flag_but_one_of_the_flat_line_by_a_thirty_second(
    values: list[float], pieces: list[int], own: Limits
) -> None:
    """Where the sample after a window is known, as it is at one sample a second."""
    times = [float(each) for each in range(len(values))]
    whole = believing(own).flags(times, values, None)
    judge = believing(own)
    found: dict[str, list[int]] = {}
    for each in cut(len(values), pieces):
        after = (times[each.stop], values[each.stop]) if each.stop < len(values) else None
        for name, flags in judge.flags(times[each], values[each], after).items():
            found.setdefault(name, []).extend(flags)
    if own.flat_tolerance and "stuck" in found:
        # A stretch may begin where a window does, so that either way may notice a little earlier.
        stuck = found.pop("stuck")
        whole = {name: flags for name, flags in whole.items() if name != "stuck"}
        fail_s = own.flat_s or 1e6
        exact = flags_of(
            qartod.flat_line_test(
                whole_of(values, own), times, own.suspect_flat_s or fail_s, fail_s, 1.2
            )
        )
        for at, flag in enumerate(stuck):
            assert flag in (MISSING, *range(exact[at] + 1))
            if at and own.range is None:  # no gaps, and 12 s / 32 is less than a sample
                assert flag >= min(exact[at - 1 : at + 1])
    assert found == {name: list(flags) for name, flags in whole.items()}


def whole_of(values: list[float], own: Limits) -> list[float]:
    low, high = own.range or (-math.inf, math.inf)
    return [value if low <= value <= high else NAN for value in values]


@settings(deadline=None)
@given(RUNS, LIMITS)
def test_all_tests_together_are_ioos_qc_without_what_is_out_of_range(
    values: list[float], own: Limits
) -> None:
    times = range(len(values))
    cleaned = whole_of(values, own)
    found = believing(own).flags([float(each) for each in times], values, None)
    if own.range or own.suspect_range:
        span = own.range or (-1e9, 1e9)
        theirs = qartod.gross_range_test(values, span, own.suspect_range)
        assert list(found["out_of_range"]) == flags_of(theirs)
    if own.spike or own.suspect_spike:
        theirs = qartod.spike_test(cleaned, own.suspect_spike, own.spike)
        assert list(found["spike"]) == flags_of(theirs)
    if own.rate_per_s:
        theirs = qartod.rate_of_change_test(cleaned, times, own.rate_per_s)
        assert list(found["rate"]) == flags_of(theirs)


@settings(deadline=None)
@given(RUNS, st.lists(st.integers(1, 60), max_size=6), LIMITS)
def test_every_sample_is_used_or_counted_as_rejected(
    values: list[float], pieces: list[int], own: Limits
) -> None:
    judge = believing(own)
    for each in cut(len(values), pieces):
        times = array("d", range(len(values))[each])
        kept, verdict = judge.sift(times, array("d", values[each]))
        assert len(kept) + verdict.rejected.total() == len(values[each])
        assert verdict.doubted.total() <= len(kept)
        assert set(verdict.rejected) <= {"out_of_range", "spike", "stuck"}
        assert set(kept) <= set(values[each])


def sifted(judge: Judge, *values: float, start_s: float = 0.0, step_s: float = 1.0) -> Any:
    times = array("d", (start_s + step_s * at for at in range(len(values))))
    kept, verdict = judge.sift(times, array("d", values))
    return list(kept), dict(verdict.rejected), dict(verdict.doubted)


def test_one_absurd_value_costs_itself_alone() -> None:
    judge = believing(Limits(range=(-45.0, 50.0), spike=5.0, rate_per_s=1.0))
    assert sifted(judge, 4.0, 4.1, 85.0, 4.2, 4.1) == (
        [4.0, 4.1, 4.2, 4.1],
        {"out_of_range": 1},
        {},
    )


def test_a_spike_of_more_than_twice_the_limit_takes_its_neighbours_along() -> None:
    """As in QARTOD: a mean with an absurd neighbour is absurd."""
    judge = believing(Limits(spike=5.0))
    assert sifted(judge, 4.0, 4.0, 4.0, 15.0, 4.0, 4.0, 4.0)[1] == {"spike": 3}
    judge = believing(Limits(spike=5.0))
    assert sifted(judge, 4.0, 4.0, 4.0, 13.0, 4.0, 4.0, 4.0)[1] == {"spike": 1}


def test_a_step_stays_where_it_is_less_than_twice_the_limit() -> None:
    judge = believing(Limits(spike=5.0, suspect_spike=2.0))
    kept, rejected, doubted = sifted(judge, 4.0, 4.0, 12.0, 12.0)
    assert (kept, rejected, doubted) == ([4.0, 4.0, 12.0, 12.0], {}, {"spike": 2})


def test_over_an_outage_nothing_spikes() -> None:
    judge = believing(Limits(spike=5.0))
    sifted(judge, 20.0, 20.0)
    assert sifted(judge, 5.0, 5.1, start_s=3600.0)[1] == {}
    close = believing(Limits(spike=5.0))
    sifted(close, 20.0, 20.0)
    assert sifted(close, 5.0, 5.1, start_s=2.0)[1] == {"spike": 1}  # what was a spike without it


def test_where_a_sensor_is_asked_once_an_hour_nothing_spikes() -> None:
    hourly, each_minute = (
        believing(Limits(spike=5.0), interval_s) for interval_s in (3600.0, 60.0)
    )
    assert sifted(hourly, 4.0, 15.0, 4.0, step_s=3600.0)[1] == {}
    assert sifted(each_minute, 4.0, 15.0, 4.0, step_s=60.0)[1] == {"spike": 1}


def test_several_samples_of_one_instant_have_no_rate() -> None:
    judge = believing(Limits(rate_per_s=0.1))
    assert sifted(judge, 1.0, 2.0, 3.0, step_s=0.0) == ([1.0, 2.0, 3.0], {}, {})


def test_the_last_sample_of_a_window_is_judged_once_the_next_has_come() -> None:
    own = Limits(spike=3.0)
    alone, beside = believing(own), believing(own)
    times, values = array("d", [0.0, 1.0, 2.0]), array("d", [4.0, 4.0, 9.0])
    assert alone.sift(times, values)[1].rejected == {}
    assert beside.sift(times, values, after=(3.0, 4.0))[1].rejected == {"spike": 1}


def test_a_silence_ends_a_plateau() -> None:
    """Nobody knows that it was flat while nobody asked."""
    held, silent = Plateau(None, 1000.0, 0.0), Plateau(None, 1000.0, 0.0)
    times = [250.0 * at for at in range(5)]
    assert list(held.flags(times, [1.0] * 5)) == [GOOD, GOOD, GOOD, GOOD, SUSPECT]
    times = [0.0, 251.0, 502.0, 753.0, 1004.0]
    assert list(silent.flags(times, [1.0] * 5)) == [GOOD] * 5


@pytest.mark.parametrize("seed", range(4))
def test_a_plateau_remembers_little_however_long_it_hovers(seed: int) -> None:
    noise = random.Random(seed)
    plateau = Plateau(3600.0, 600.0, 1.0)
    for minute in range(400):
        times = [60.0 * minute + second for second in range(60)]
        flags = plateau.flags(times, [noise.uniform(0.0, 0.99) for _ in times])
        remembered = [plateau._starts_s, plateau._lows, plateau._highs]
        assert {len(each) for each in remembered} <= set(range(STRETCHES + 2))
    assert set(flags) == {FAIL}
    assert list(plateau.flags([24_000.0], [50.0])) == [GOOD]


# The defaults

WINTERS = {  # column -> (file, limits, factor to our unit)
    "LoAir_Min_C": ("csas_SASP_1hr_2010-2024.csv", limits.AIR_C, 1.0),
    "UpAir_Max_C": ("csas_SASP_1hr_2010-2024.csv", limits.AIR_C, 1.0),
    "Lo_RH": ("csas_SASP_1hr_2010-2024.csv", limits.HUMIDITY_PERCENT, 1.0),
    "Sno_IR_C": ("csas_SASP_1hr_2010-2024.csv", limits.SURFACE_C, 1.0),
    "Sno_Gd_C": ("csas_SASP_1hr_2010-2024.csv", limits.SURFACE_C, 1.0),
    "Sno_Height_M": ("csas_SASP_1hr_2010-2024.csv", limits.DEPTH_CM, 100.0),
    "AirTC_10ft_Avg": ("snowex_ME_hourly.csv", limits.AIR_C, 1.0),
    "RH_10ft": ("snowex_ME_hourly.csv", limits.HUMIDITY_PERCENT, 1.0),
    "SnowDepthFilter(m)": ("snowex_ME_hourly.csv", limits.DEPTH_CM, 100.0),
}


@pytest.mark.parametrize("column", WINTERS)
def test_the_defaults_reject_nothing_of_a_real_winter(recordings: Path, column: str) -> None:
    file, believed, factor = WINTERS[column]
    with (recordings / "snow" / file).open(encoding="utf-8") as lines:
        rows = [float(row[column]) * factor for row in csv.DictReader(lines) if row[column]]
    values = array("d", (value for value in rows if value > -999))  # less is their code for a gap
    assert len(values) > 300
    hours = array("d", (3600.0 * hour for hour in range(len(values))))
    # Outliers are told within a window, and these hours are many.
    believed = believed._replace(outlier=None)
    kept, verdict = Judge(believed, 3600.0).sift(hours, values)
    assert not verdict.rejected
    assert kept == values
    values[100] = 5000.0
    assert Judge(believed, 3600.0).sift(hours, values)[1].rejected == {"out_of_range": 1}


@pytest.mark.parametrize("name", drivers.DRIVERS)
def test_the_defaults_are_in_order(name: str) -> None:
    for quantity in drivers.load(name).spec.quantities:
        own = quantity.limits
        assert own == Limits() or not quantity.is_class
        for outer, inner in ((own.spike, own.suspect_spike), (own.flat_s, own.suspect_flat_s)):
            assert outer is None or inner is None or inner <= outer
        if own.range and own.suspect_range:
            assert own.range[0] <= own.suspect_range[0] < own.suspect_range[1] <= own.range[1]


def test_by_default_nothing_is_rejected_for_standing_still() -> None:
    quantities = [q for name in drivers.DRIVERS for q in drivers.load(name).spec.quantities]
    assert any(q.limits.suspect_flat_s for q in quantities)
    assert not any(q.limits.flat_s for q in quantities)
