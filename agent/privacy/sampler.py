"""The discrete Laplace distribution, sampled exactly.

Integers only, randomness from the operating system: a sampler that computes in floating point
leaves gaps in its output by which the input can be told (Mironov 2012). The method is that of
Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (2020), algorithms
1 and 2. P[X = x] = (1 - a) / (1 + a) * a^|x| with a = exp(-epsilon).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from fractions import Fraction

RandBelow = Callable[[int], int]


def discrete_laplace(epsilon: Fraction, rand_below: RandBelow = secrets.randbelow) -> int:
    """Return one sample; a count with sensitivity 1 plus it is epsilon-differentially private.

    `rand_below(n)` returns a uniform integer in [0, n). Raises ValueError unless epsilon > 0.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be greater than 0, not {epsilon}")
    numerator, denominator = epsilon.numerator, epsilon.denominator
    while True:
        uniform = rand_below(denominator)
        if not _bernoulli_exp_below_one(uniform, denominator, rand_below):
            continue
        geometric = 0
        while _bernoulli_exp_below_one(1, 1, rand_below):
            geometric += 1
        magnitude = (uniform + denominator * geometric) // numerator
        negative = rand_below(2) == 1
        if negative and magnitude == 0:
            continue  # zero would be counted twice
        return -magnitude if negative else magnitude


def _bernoulli_exp_below_one(numerator: int, denominator: int, rand_below: RandBelow) -> bool:
    """Return True with probability exp(-numerator/denominator), for a ratio in [0, 1]."""
    k = 1
    while rand_below(denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def noise_sd(epsilon: Fraction) -> float:
    """Return the standard deviation of the noise, in counts."""
    return math.sqrt(2 * math.exp(-epsilon)) / -math.expm1(-epsilon)


def ci95(epsilon: Fraction) -> int:
    """Return the smallest k with P[|noise| <= k] >= 0.95."""
    # P[|X| > k] = 2 a^(k+1) / (1 + a)
    a = math.exp(-epsilon)
    return max(0, math.ceil(-math.log(0.05 * (1 + a) / 2) / epsilon - 1))
