"""Which samples of a window belong together, and which something else made.

Falling snow, a passer-by or a second reflection answers a ranger in place of the surface, in heavy
snow more often than the surface itself. The median, and a Hampel filter around it, stand only while
fewer than half of the samples are wrong; but echoes of flakes come from anywhere, and those of the
surface from one place. So the densest quarter of the samples says where that place is, and what
lies far from it is an outlier. It holds while the surface gives more than a third of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

# So many samples are judged together: 36 s of a fast ultrasonic ranger. In a longer stretch what
# is measured may move by itself.
BLOCK_SAMPLES = 240

FEWEST = 4  # of fewer nobody can say which is the odd one
AGREEING = 3  # two may agree by chance
DENSEST_SHARE = 0.25
WIDE_SIGMA = 4.0


def outliers(values: Sequence[float], floor: float) -> list[bool]:
    """Tell for each of `values`, in the order in which they were measured, whether it is far off.

    Far off is farther from the densest quarter of its block than four standard deviations, which
    are told from the width of that quarter, and farther than `floor`: what the device and a
    surface at rest may differ by, in the unit of `values`.
    """
    blocks = math.ceil(len(values) / BLOCK_SAMPLES)
    edges = [len(values) * i // blocks for i in range(blocks + 1)] if blocks else []
    found: list[bool] = []
    for begin, end in pairwise(edges):
        found += _outliers(values[begin:end], floor)
    return found


def _outliers(block: Sequence[float], floor: float) -> list[bool]:
    n = len(block)
    if n < FEWEST or max(block) - min(block) <= floor:
        return [False] * n
    ranked = sorted(block)
    held = max(AGREEING, math.ceil(DENSEST_SHARE * n))
    begin = min(range(n - held + 1), key=lambda i: ranked[i + held - 1] - ranked[i])
    low, high = ranked[begin], ranked[begin + held - 1]
    sigma = (high - low) / 2 / NormalDist().inv_cdf((1 + held / n) / 2)
    limit = max(floor, WIDE_SIGMA * sigma)
    centre = (low + high) / 2
    return [abs(value - centre) > limit for value in block]
