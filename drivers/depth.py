"""Depth of snow from a distance: how a ranger hangs over the ground, in one place for all of them.

A ranger says how far the surface is along its beam. The depth is what that is short of the bare
ground, along the ground's normal, less what the ranger says over bare ground although nothing lies
there:

    depth = (mount_height_cm - distance) * cos(slope_deg) - zero_cm

The distance is the true one: who corrects the speed of sound, and that it happens once, is each
driver's own concern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field

from . import base
from .base import Limits, Quantity, Reading, Reason
from .limits import DEPTH_CM, OUTLIER_CM

DEPTH_LOW_CM = -50.0


def depth(high_cm: float) -> Quantity:
    """Return the depth that a ranger can say, up to `high_cm`."""
    # Noise around bare ground gives small negative depths; cutting them off would bias the mean.
    means = "depth of snow: mounting height less distance"
    return Quantity("depth_cm", "cm", means, DEPTH_LOW_CM, high_cm, limits=DEPTH_CM)


def distance(low_cm: float, high_cm: float, means: str) -> Quantity:
    """Return the distance that a ranger can say."""
    limits = Limits(range=(low_cm, high_cm), outlier=OUTLIER_CM)
    return Quantity("distance_cm", "cm", means, low_cm, high_cm, limits=limits)


class MountedOptions(base.Options):
    """How a ranger hangs over the ground."""

    mount_height_cm: float | None = Field(
        default=None,
        gt=0.0,
        le=2200.0,
        description="from the sensor's face to the bare ground, along the beam",
    )
    zero_cm: float = Field(
        default=0.0,
        ge=-50.0,
        le=50.0,
        description="the depth that it says over bare ground while this is 0, as found when it was "
        "commissioned; it is subtracted",
    )
    slope_deg: float = Field(
        default=0.0,
        ge=0.0,
        le=60.0,
        description="angle between the beam and the normal of the ground: depth is along the "
        "normal; 0 for level ground below, and for an ultrasonic sensor that hangs square to a "
        "slope",
    )

    def missing_to_measure(self) -> list[str]:
        """Say that depth needs the mounting height."""
        if self.mount_height_cm is None:
            return ["mount_height_cm: the height of the sensor's face above the bare ground"]
        return []

    def depth_cm(self, distance_cm: float) -> float | None:
        """Return the depth where the surface is `distance_cm` away; None without a height."""
        if self.mount_height_cm is None:
            return None
        along_beam_cm = self.mount_height_cm - distance_cm
        return along_beam_cm * math.cos(math.radians(self.slope_deg)) - self.zero_cm


class Overhead:
    """What a ranger over the ground reports: the distance, and the depth where it can be told."""

    def __init__(self, distance: Quantity, depth: Quantity, options: MountedOptions) -> None:
        self._distance, self._depth, self._options = distance, depth, options
        known = (distance,) if options.mount_height_cm is None else (distance, depth)
        self.quantities: Mapping[str, Quantity] = {each.name: each for each in known}

    def measured(self, distance_cm: float, at_boot_ns: int) -> list[Reading]:
        """Return the readings of a true distance; of one that cannot be there is no depth.

        A depth that cannot be leaves the distance, which may be true: it looks into a ditch.
        """
        found = [_within(self._distance, round(distance_cm, 2), at_boot_ns)]
        depth_cm = self._options.depth_cm(distance_cm)
        if depth_cm is not None:
            value = math.inf if found[0].value is None else round(depth_cm, 2)
            found.append(_within(self._depth, value, at_boot_ns))
        return found

    def nothing(self, reason: Reason, at_boot_ns: int) -> list[Reading]:
        """Return that there is neither, and why."""
        return [Reading(name, None, at_boot_ns, (reason,)) for name in self.quantities]


def _within(quantity: Quantity, value: float, at_boot_ns: int) -> Reading:
    is_sayable = (quantity.low is None or value >= quantity.low) and (
        quantity.high is None or value <= quantity.high
    )
    if is_sayable:
        return Reading(quantity.name, value, at_boot_ns)
    return Reading(quantity.name, None, at_boot_ns, ("out_of_range",))
