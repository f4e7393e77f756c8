"""The mechanism against OpenDP's, whose privacy map was proved by others."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from agent.privacy.policy import Policy
from agent.privacy.sampler import ci95, discrete_laplace

dp = pytest.importorskip(
    "opendp.prelude",
    reason="opendp is 265 MB, and in no extra but its own: pip install '.[oracle]'",
)
dp.enable_features("contrib")

EPSILONS = [Fraction(text) for text in ("1/8", "1/4", "3/8", "1")]
SAMPLES = 20_000
CHANCE_Z = 4.75  # one in a million


def measurement(epsilon: Fraction) -> Any:
    """OpenDP's noise on a count: the discrete Laplace law at scale 1 / epsilon."""
    return dp.m.make_laplace(
        dp.atom_domain(T=int), dp.absolute_distance(T=int), scale=float(1 / epsilon)
    )


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("crossings", [1, 4, 12])
def test_so_many_crossings_cost_so_many_times_epsilon(epsilon: Fraction, crossings: int) -> None:
    assert measurement(epsilon).map(crossings) == pytest.approx(float(crossings * epsilon))


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_less_noise_would_not_do(epsilon: Fraction) -> None:
    least = dp.binary_search_param(
        lambda scale: dp.m.make_laplace(
            dp.atom_domain(T=int), dp.absolute_distance(T=int), scale=scale
        ),
        1,
        float(epsilon),
    )
    assert least == pytest.approx(float(1 / epsilon), rel=1e-6)


@pytest.mark.parametrize("epsilon", [Fraction(1, 4), Fraction(1)])
def test_what_a_window_releases_follows_the_law_of_opendps(epsilon: Fraction) -> None:
    policy, theirs = Policy(900, epsilon), measurement(epsilon)
    ours = Counter(_released(policy, 40) for _ in range(SAMPLES))
    others = Counter(theirs(40) for _ in range(SAMPLES))
    assert abs(misfit_z(ours, others)) < CHANCE_Z


def test_a_law_that_is_a_little_narrower_is_told_apart() -> None:
    ours = Counter(discrete_laplace(Fraction(3, 10)) for _ in range(SAMPLES))
    theirs = measurement(Fraction(1, 4))
    others = Counter(theirs(0) for _ in range(SAMPLES))
    assert misfit_z(ours, others) > CHANCE_Z


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_stated_accuracy_is_opendps(epsilon: Fraction) -> None:
    accuracy = dp.discrete_laplacian_scale_to_accuracy(float(1 / epsilon), 0.05)
    assert ci95(epsilon) == math.ceil(accuracy) - 1  # theirs is the least that is reached so rarely


def _released(policy: Policy, count: int) -> int:
    total = policy.release({"total": count})["total"]
    assert isinstance(total, dict)
    figure: int = total["unclamped"]
    return figure


def misfit_z(one: Counter[int], two: Counter[int]) -> float:
    """Chi-square of two samples of one size, as a standard normal's value (Wilson, Hilferty)."""
    both = one + two
    cells = [x for x, count in both.items() if count >= 50]
    rest = one.total() - sum(one[x] for x in cells), two.total() - sum(two[x] for x in cells)
    pairs = [(one[x], two[x]) for x in cells] + ([rest] if sum(rest) else [])
    chi2 = sum((a - b) ** 2 / (a + b) for a, b in pairs)
    degrees = len(pairs) - 1
    spread = 2 / (9 * degrees)
    cube_root: float = (chi2 / degrees) ** (1 / 3)
    return (cube_root - (1 - spread)) / math.sqrt(spread)
