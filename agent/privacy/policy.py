"""What is published about people, as data: the policy, its hash, and the release of a count.

The rule of the house: a window's true counts enter `release` once and are forgotten; what comes
out is all that anything behind it ever sees.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from config.exact import fraction

from .sampler import RandBelow, ci95, discrete_laplace, noise_sd

DAY_LIMIT = Fraction(3, 8)


class Policy(NamedTuple):
    """The flow stream: one count per direction and window, each crossing in exactly one."""

    window_s: int
    epsilon: Fraction  # per crossing
    day_limit: Fraction = DAY_LIMIT  # of epsilon, for one crossing and all that is published of it

    def json(self) -> dict[str, Any]:
        """Return the policy in full, as the ledger says it."""
        flow = {"window_s": self.window_s, "epsilon": str(self.epsilon)}
        return {"flow": flow, "day_limit": str(self.day_limit)}

    @staticmethod
    def of_json(said: Mapping[str, Any]) -> Policy:
        """Return what `json` said. Raises KeyError, TypeError and ValueError on nonsense."""
        flow = said["flow"]
        limit = fraction(said["day_limit"])
        return Policy(int(flow["window_s"]), fraction(flow["epsilon"]), limit)

    @property
    def sha256(self) -> str:
        """The hash that status messages and the ledger carry, so that a change cannot go unseen."""
        text = json.dumps(self.json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def release(
        self, counts: Mapping[str, int], rand_below: RandBelow | None = None
    ) -> dict[str, object]:
        """Return the record's `values` for a window's true counts by direction, after noise.

        `count` is `unclamped` with negatives cut to 0: the one to show; `unclamped` is without
        bias: the one to sum. Directions are disjoint, so each is noised with the whole epsilon.
        """
        values: dict[str, object] = {}
        for direction, count in counts.items():
            noise = (
                discrete_laplace(self.epsilon)
                if rand_below is None
                else discrete_laplace(self.epsilon, rand_below)
            )
            unclamped = count + noise
            values[direction] = {"count": max(0, unclamped), "unclamped": unclamped}
        return values | self.accuracy()

    def withheld(self, directions: tuple[str, ...]) -> dict[str, object]:
        """Return the `values` of a window in which the sensor never worked: no count at all."""
        return dict.fromkeys(directions) | self.accuracy()

    def accuracy(self) -> dict[str, object]:
        """Return what tells a reader how far a released figure may be off."""
        return accuracy(self.epsilon)


def accuracy(epsilon: Fraction) -> dict[str, object]:
    """Return what tells a reader how far a figure released with `epsilon` may be off."""
    return {
        "epsilon": str(epsilon),
        "noise_sd": round(noise_sd(epsilon), 2),
        "ci95": ci95(epsilon),
    }
