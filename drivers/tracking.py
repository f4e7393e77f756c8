"""Count people who cross a line, from what a sensor over a passage sees of them.

Three steps, each of use alone: `Background` says how much warmer each pixel of a thermal field is
than the place itself, `find_people` says where in such a field people are, and `LineCounter`
follows points from frame to frame and counts those that pass a line. The last knows nothing of
heat or pixels: a radar's targets go in as they are.

Tracks live for seconds, in memory. Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .base import Direction

PixelField = npt.NDArray[np.float64]  # shape (rows, columns), degC or K

# Clothed people stand 2 K to 8 K out of a floor at room temperature, hats and coats at the lower
# end; one pixel's noise is 0.2 K.
PERSON_K = 1.5

# Two who touch are two if it is this much colder between them than at the fainter of both:
# well above noise, and above the step from a head to its shoulders.
SADDLE_K = 1.0

# One pixel alone is a hot cup, or a flaw of the sensor.
PERSON_PIXELS = 2

# Who stands still for less than 45 s is not in the coldest quarter of a minute; a floor that
# warms by 1 K a minute is followed with an error of 0.75 K.
BACKGROUND_SAMPLES = 60
BACKGROUND_STEP_S = 1.0
BACKGROUND_QUANTILE = 0.25

# How fast a track believes a change of pace: a step takes half a second.
PACE_S = 0.5

# A passage seen by one small sensor holds a handful of people; the rest is noise.
MAX_TRACKS = 16


class Point(NamedTuple):
    """Where somebody is, in the sensor's own unit of length."""

    along: float  # on the axis of travel, increasing "towards"
    across: float


class Background:
    """A thermal field without the people in it, learnt per pixel as temperatures drift.

    It is the coldest quarter of one sample a second over the last minute. A running mean would
    take in a part of everybody who passes; learning only where nobody seems to be would never
    let go of what once was warm when the gateway started.
    """

    def __init__(self) -> None:
        self._samples: deque[PixelField] = deque(maxlen=BACKGROUND_SAMPLES)
        self._level_c: PixelField = np.empty(0)
        self._sampled_s = -np.inf

    @property
    def level_c(self) -> PixelField | None:
        """The field without people as it is known so far; None before the first field."""
        return self._level_c if self._samples else None

    def excess_k(self, field_c: PixelField, at_s: float) -> PixelField:
        """Return how much warmer each pixel is than its background, having learnt from it.

        `field_c`: shape (rows, columns), the same at every call; degC, no NaN.
        """
        if at_s - self._sampled_s >= BACKGROUND_STEP_S:
            self._sampled_s = at_s
            self._samples.append(field_c)
            self._level_c = np.quantile(np.stack(self._samples), BACKGROUND_QUANTILE, axis=0)
        return field_c - self._level_c


def find_people(excess_k: PixelField, least_pixels: int = PERSON_PIXELS) -> list[Point]:
    """Return the centre of each person in a field: along = column, across = row, in pixels.

    `excess_k`: shape (rows, columns), K above the background. A person is a summit of
    `least_pixels` or more that stands PERSON_K above the background, and SADDLE_K above the saddle
    to any warmer summit. Pixels are taken from the warmest down and join the summit of their
    warmest neighbour; where summits meet, one that does not stand out falls to the warmest.
    """
    heights_k = {at: float(excess_k[at]) for at in np.ndindex(*excess_k.shape)}
    summits: list[list[tuple[int, ...]]] = []  # pixels of each, its peak first; warmest first
    owner: dict[tuple[int, ...], int] = {}  # pixel -> index in `summits`
    for at in sorted(heights_k, key=heights_k.__getitem__, reverse=True):
        height_k = heights_k[at]
        if height_k < PERSON_K:
            break
        row, column = at
        around = [(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        near = [other for other in around if other in owner]
        if not near:
            owner[at] = len(summits)
            summits.append([at])
            continue
        meeting = sorted({owner[other] for other in near})
        for lower in meeting[1:]:
            if heights_k[summits[lower][0]] - height_k < SADDLE_K:
                owner.update(dict.fromkeys(summits[lower], meeting[0]))
                summits[meeting[0]] += summits[lower]
                summits[lower] = []
        home = owner[max(near, key=heights_k.__getitem__)]
        owner[at] = home
        summits[home].append(at)
    return [_centre(pixels, heights_k) for pixels in summits if len(pixels) >= least_pixels]


def _centre(pixels: Sequence[tuple[int, ...]], heights_k: dict[tuple[int, ...], float]) -> Point:
    weight_k = sum(heights_k[at] for at in pixels)
    return Point(
        along=sum(heights_k[at] * at[1] for at in pixels) / weight_k,
        across=sum(heights_k[at] * at[0] for at in pixels) / weight_k,
    )


@dataclass(frozen=True, slots=True)
class Passage:
    """What a place and its sensor allow; lengths in the unit of the points.

    A crossing counts once the track is `clearance` past the line and has come `travel` from its
    furthest point on the side where it began or last arrived: who sways on the line, or turns
    back at it, is not counted. Nor is what was seen in fewer than `frames` frames: a flicker.
    """

    line: float  # where on the axis of travel people are counted
    clearance: float
    travel: float
    reach: float  # how far from its expected place a person may appear in the next frame
    memory_s: float  # how long a track outlives its person's last point
    frames: int = 1


@dataclass(slots=True)
class _Track:
    at: Point
    seen_s: float
    way: int  # +1: is on the low side of the line, and can only cross towards; -1: away
    origin: float  # the furthest it was on that side, of `along`
    pace_along: float = 0.0  # per second
    pace_across: float = 0.0
    frames: int = 1  # in which it was seen

    def distance(self, point: Point, now_s: float) -> float:
        """Return how far `point` is from where the person should be by now."""
        ahead_s = now_s - self.seen_s
        return hypot(
            point.along - self.at.along - self.pace_along * ahead_s,
            point.across - self.at.across - self.pace_across * ahead_s,
        )

    def move(self, to: Point, now_s: float) -> None:
        passed_s = now_s - self.seen_s
        share_per_s = 1.0 / (PACE_S + passed_s)
        self.pace_along += share_per_s * (to.along - self.at.along - self.pace_along * passed_s)
        self.pace_across += share_per_s * (to.across - self.at.across - self.pace_across * passed_s)
        self.at, self.seen_s = to, now_s
        self.frames += 1

    def cross(self, passage: Passage) -> Direction | None:
        """Return the direction of a crossing that the last move completed."""
        travel = self.way * (self.at.along - self.origin)
        past_line = self.way * (self.at.along - passage.line)
        if travel < 0:
            self.origin = self.at.along
        if travel < passage.travel or past_line < passage.clearance:
            return None
        if self.frames < passage.frames:
            return None
        direction: Direction = "towards" if self.way > 0 else "away"
        self.way, self.origin = -self.way, self.at.along
        return direction


class LineCounter:
    """Follow points, at most MAX_TRACKS at once, and tell when one crosses the line."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._tracks: list[_Track] = []

    @property
    def tracks(self) -> int:
        """How many tracks are held at present."""
        return len(self._tracks)

    def update(self, points: Sequence[Point], now_s: float) -> list[Direction]:
        """Take all points of one frame, and return the crossings that they complete.

        `now_s` never goes back. Points go to tracks, the nearest pair first. A point left over
        begins a track; a track left over goes on at its pace, unseen, until it is forgotten.
        """
        passage = self._passage
        self._tracks = [t for t in self._tracks if now_s - t.seen_s <= passage.memory_s]
        pairs = sorted(
            (distance, t, p)
            for t, track in enumerate(self._tracks)
            for p, point in enumerate(points)
            if (distance := track.distance(point, now_s)) <= passage.reach
        )
        free_tracks, free_points = set(range(len(self._tracks))), set(range(len(points)))
        crossings: list[Direction] = []
        for _, t, p in pairs:
            if t in free_tracks and p in free_points:
                free_tracks.remove(t)
                free_points.remove(p)
                self._tracks[t].move(points[p], now_s)
                if direction := self._tracks[t].cross(passage):
                    crossings.append(direction)
        for p in sorted(free_points)[: MAX_TRACKS - len(self._tracks)]:
            along = points[p].along
            way = 1 if along < passage.line else -1
            self._tracks.append(_Track(points[p], now_s, way, origin=along))
        return crossings
