"""The rules behind `quality.flag`, as they are written."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.qc import Verdict
from agent.quality import Flag, Quality, grade, grade_people, overall
from drivers.base import PEOPLE_REASONS, REASONS, Reason

NOTHING: Counter[Reason] = Counter()


def test_enough_samples_are_good() -> None:
    assert grade(60, 60, NOTHING, ()) == Quality("good", 60, 60)


@pytest.mark.parametrize(
    ("n", "flag"), [(0, "missing"), (1, "suspect"), (29, "suspect"), (30, "good"), (61, "good")]
)
def test_fewer_than_half_of_the_expected_samples_are_suspect(n: int, flag: Flag) -> None:
    assert grade(n, 60, NOTHING, ()).flag == flag


def test_a_window_too_short_to_expect_a_sample_is_not_evaluated() -> None:
    assert grade(0, 0, NOTHING, ("partial",)) == Quality("not_evaluated", 0, 0, ("partial",))


def test_a_window_too_short_in_which_the_device_failed_is_missing() -> None:
    assert grade(0, 0, Counter({"bus_error": 1}), ()).flag == "missing"


def test_a_value_that_is_not_good_says_why() -> None:
    seen: Counter[Reason] = Counter({"bus_error": 3, "obstructed": 1})
    assert grade(10, 60, seen, ()).reasons == ("obstructed", "bus_error")
    assert grade(0, 60, seen, ()).reasons == ("obstructed", "bus_error")


def test_a_good_value_does_not_complain_of_a_single_error() -> None:
    assert grade(59, 60, Counter({"frame_error": 1}), ()).reasons == ()


def test_the_windows_own_reasons_are_always_told() -> None:
    assert grade(60, 60, NOTHING, ("partial",)) == Quality("good", 60, 60, ("partial",))


def test_a_reason_counted_zero_times_is_none() -> None:
    assert grade(0, 60, Counter({"stuck": 0}), ()).reasons == ()


@given(st.sets(st.sampled_from(REASONS)), st.sets(st.sampled_from(REASONS)), st.integers(0, 900))
def test_a_people_window_never_gives_a_reason_that_tells_of_persons(
    seen: set[Reason], window: set[Reason], alive_s: int
) -> None:
    quality = grade_people(alive_s, 900, Counter(dict.fromkeys(seen, 1)), window)
    assert set(quality.reasons) <= PEOPLE_REASONS
    assert set(quality.reasons) >= window & PEOPLE_REASONS


def test_a_record_is_as_bad_as_its_worst_value() -> None:
    quality = overall(
        {
            "depth_cm": Quality("good", 60, 60),
            "distance_cm": Quality("suspect", 12, 60, ("weak_signal",)),
        }
    )
    assert quality == Quality("suspect", 60, 60, ("weak_signal",))


def test_not_evaluated_is_better_than_suspect_and_worse_than_good() -> None:
    flags: tuple[Flag, ...] = ("good", "not_evaluated", "suspect", "bad", "missing")
    for better, worse in pairwise(flags):
        pair = {"a": Quality(worse, 1, 1), "b": Quality(better, 1, 1)}
        assert overall(pair).flag == worse


def test_values_that_are_missing_for_different_reasons_all_tell_theirs() -> None:
    quality = overall(
        {
            "ice_mm": Quality("missing", 0, 60, ("weak_signal",)),
            "water_film_mm": Quality("missing", 0, 60, ("out_of_range",)),
            "friction": Quality("suspect", 1, 60, ("stuck",)),
        }
    )
    assert quality.reasons == ("out_of_range", "weak_signal")


def test_the_json_is_the_contracts() -> None:
    assert Quality("good", 60, 60).json() == {"flag": "good", "n": 60, "expected": 60}
    assert Quality("missing", 0, 60, ("stale",)).json() == {
        "flag": "missing",
        "n": 0,
        "expected": 60,
        "reasons": ["stale"],
    }


# What the tests of quality found


def found(rejected: int = 0, doubted: int = 0) -> Verdict:
    return Verdict(Counter(spike=rejected), Counter(rate=doubted))


@pytest.mark.parametrize(
    ("n", "rejected", "doubted", "flag"),
    [
        (0, 1, 0, "bad"),  # something came, and nothing passed
        (29, 31, 0, "bad"),
        (30, 30, 0, "suspect"),  # half of them passed
        (48, 12, 0, "good"),  # a fifth
        (47, 13, 0, "suspect"),
        (60, 0, 12, "good"),
        (60, 0, 13, "suspect"),
        (54, 6, 7, "suspect"),  # both together
        (1, 0, 1, "suspect"),  # of one sample all is in doubt
        (29, 0, 0, "suspect"),  # as without tests
    ],
)
def test_the_flag_follows_from_what_passed(n: int, rejected: int, doubted: int, flag: Flag) -> None:
    quality = grade(n, 60 if n + rejected > 1 else 1, NOTHING, (), found(rejected, doubted))
    assert (quality.flag, quality.n) == (flag, n)


def test_a_sample_that_was_rejected_came_even_where_none_was_expected() -> None:
    assert grade(0, 0, NOTHING, (), found(rejected=1)).flag == "bad"


def test_a_value_that_is_not_good_says_what_the_tests_found() -> None:
    assert grade(40, 60, Counter({"stale": 1}), (), found(20, 3)).reasons == (
        "spike",
        "rate",
        "stale",
    )
    assert grade(59, 60, NOTHING, (), found(1)).reasons == ()


@given(
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(0, 100),
    st.booleans(),
)
def test_the_flag_is_the_first_written_rule_that_holds(
    n: int, rejected: int, doubted: int, expected: int, has_failed: bool
) -> None:
    """The table of docs/quality.md, in its order."""
    doubted = min(n, doubted)
    came = n + rejected
    rules: list[tuple[Flag, bool]] = [
        ("not_evaluated", came == 0 and expected == 0 and not has_failed),
        ("missing", came == 0),
        ("bad", n < came / 2),
        ("suspect", n < expected / 2 or rejected + doubted > came / 5),
        ("good", True),
    ]
    seen: Counter[Reason] = Counter({"bus_error": 1} if has_failed else {})
    flag = grade(n, expected, seen, (), found(rejected, doubted)).flag
    assert flag == next(name for name, holds in rules if holds)


def test_a_record_tells_the_reasons_of_every_value_that_is_null() -> None:
    quality = overall(
        {
            "ice_mm": Quality("missing", 0, 60, ("weak_signal",)),
            "surface_temperature_c": Quality("bad", 0, 60, ("out_of_range",)),
            "friction": Quality("bad", 10, 60, ("spike",)),
        }
    )
    assert quality == Quality("missing", 10, 60, ("out_of_range", "weak_signal"))
