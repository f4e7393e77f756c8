"""What is far from the densest quarter is an outlier, even where most samples are."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.robust import BLOCK_SAMPLES, outliers

FLOOR_CM = 3.0


def kept(values: list[float]) -> list[float]:
    wrong = outliers(values, FLOOR_CM)
    return [value for value, is_wrong in zip(values, wrong, strict=True) if not is_wrong]


def snowing(share: float, n: int, seed: int = 1) -> list[float]:
    """Return depths of 40 cm, of which flakes anywhere in the beam hide a share."""
    dice = random.Random(seed)
    return [
        dice.uniform(60.0, 300.0) if dice.random() < share else dice.gauss(40.0, 0.3)
        for _ in range(n)
    ]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6])
def test_the_surface_is_found_behind_falling_snow(share: float) -> None:
    for seed in range(50):
        found = kept(snowing(share, 400, seed))
        assert statistics.median(found) == pytest.approx(40.0, abs=0.2)
        assert len(found) >= 0.9 * (1 - share - 0.1) * 400


def test_a_median_alone_does_not_find_it() -> None:
    assert statistics.median(snowing(0.6, 400)) > 60.0


def test_what_only_trembles_is_kept() -> None:
    dice = random.Random(2)
    for sigma_cm in (0.1, 0.5, 1.0, 3.0):
        values = [dice.gauss(40.0, sigma_cm) for _ in range(2000)]
        assert len(kept(values)) >= 0.98 * len(values)


def test_what_rises_evenly_is_kept() -> None:
    assert all(len(kept([i * 0.05 for i in range(n)])) == n for n in (10, 240, 2400))


def test_a_plough_within_a_long_window_is_no_outlier() -> None:
    before, after = [40.0] * (10 * BLOCK_SAMPLES), [3.0] * (10 * BLOCK_SAMPLES)
    assert kept(before + after) == before + after


@settings(deadline=None)
@given(st.lists(st.floats(-50.0, 1000.0), max_size=600), st.floats(0.0, 10.0))
def test_something_is_always_kept_and_what_is_near_another_is_judged_alike(
    values: list[float], floor_cm: float
) -> None:
    wrong = outliers(values, floor_cm)
    assert len(wrong) == len(values)
    assert not values or not all(wrong)
    if len(values) <= BLOCK_SAMPLES and any(wrong):
        good = [v for v, is_wrong in zip(values, wrong, strict=True) if not is_wrong]
        bad = [v for v, is_wrong in zip(values, wrong, strict=True) if is_wrong]
        assert all(v < min(good) or v > max(good) for v in bad)
        assert max(values) - min(values) > floor_cm


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 900.0], [1.0, 1.0, 900.0]])
def test_of_few_nobody_can_say_which_is_the_odd_one(values: list[float]) -> None:
    assert outliers(values, FLOOR_CM) == [False] * len(values)
