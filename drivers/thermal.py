"""Where people are in what a thermal array sees from above, and which of them cross a line.

Three steps: `Background` says how much warmer each pixel is than the place itself, `find_people`
says where in that warmth people are, `tracking.LineCounter` follows them. Lengths are pixels, along
the columns and across the rows. Whoever is seen lives here for seconds and leaves as a crossing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .base import OPPOSITE, Direction, Scene, Withheld
from .tracking import LineCounter, Passage, Point

PixelField = npt.NDArray[np.float64]  # shape (rows, columns), degC or K
PixelMask = npt.NDArray[np.bool_]  # of the same shape
Pixel = tuple[int, int]  # row, column
Heights = dict[Pixel, float]  # K above the background

# Clothed people stand 2 K to 8 K out of a floor at room temperature, hats and coats at the lower
# end. What is warm must stand out of the noise, too, which is measured: by chance one pixel in some
# hundred thousand does so far.
PERSON_K = 1.0
PERSON_SIGMAS = 4.5

# Two who touch are two if it is this much colder between them than at the fainter of both. The
# difference of two pixels has 1.4 times the noise of one, and a body is not smooth.
SADDLE_K = 0.8
SADDLE_SIGMAS = 4.0

# One pixel alone is a hot cup, or a flaw of the sensor.
PERSON_PIXELS = 2

# What spans so many, which is 2.9 m, is a draught, or the sun in a doorway.
WIDEST_PIXELS = 8

# Of somebody whose peak is so many times warmer than is needed to be seen, the shape is known; of
# others only the warmest spots stand out.
CLEAR = 3.0

# The place is what is seen of it in a minute, at its warmest but for a quarter: after a gust of
# cold air it is what it was before, and a floor that warms by 1 K a minute is followed by 0.25 K.
SAMPLES = 60
SAMPLE_S = 0.95  # each tenth frame, however its time trembles
FIRST_SAMPLES = 10  # are taken as they come
QUANTILE = 0.75
ABOVE_MEAN = 0.67  # where the quantile lies, in standard deviations

# Where people are nothing is learnt, so that who stands for a minute is seen; then it is furniture,
# as is a heater.
HOLD_S = 75.05

# People come within seconds; what gets warm more slowly is learnt as it comes.
ARRIVAL_SAMPLES = 8
USUAL_SHARE = 0.2  # of a new sample in what it is then taken to be

# Floors differ by a kelvin from pixel to pixel. Until they are known, what is warmer than the
# coldest quarter of all pixels by more than this is somebody who was there from the start.
PATTERN_K = 1.0

# A place most of which became warmer, or colder, by the same did so for another reason than people:
# a gust that has reached so much of it leaves the rest on one side. Of a single row of pixels they
# may well cover most.
COLD_SHARE = 0.25
MOST = 0.6

NOISE_K = 0.25  # until it is measured: what sensors of this kind have
LEAST_NOISE_K, MOST_NOISE_K = 0.05, 0.5  # what is believed
CALM_SHARE, CALM_VARIANCE = 0.75, 0.37  # of the pixels, and of the variance of all in the calmest


class Background(Withheld):
    """A thermal field without the people in it, learnt per pixel as temperatures drift.

    People never become part of it unless they stand in one place for longer than HOLD_S; what was
    learnt of them is forgotten as soon as they leave.
    """

    __slots__ = (
        "_furniture",
        "_held_since_s",
        "_level_c",
        "_noise2_k2",
        "_offset_k",
        "_sampled_s",
        "_samples",
        "_seen_c",
        "_usual_c",
        "noise_k",
    )

    def __init__(self) -> None:
        self._samples: deque[PixelField] = deque(maxlen=SAMPLES)
        self._level_c: PixelField = np.empty(0)
        self._held_since_s: PixelField = np.empty(0)  # per pixel; NaN = nobody is there
        self._seen_c: deque[PixelField] = deque(maxlen=ARRIVAL_SAMPLES)  # people and all
        self._usual_c: PixelField = np.empty(0)  # what is seen, smoothed, people and all
        self._furniture: PixelMask = np.empty(0, np.bool_)
        self._noise2_k2: deque[float] = deque([NOISE_K**2], maxlen=SAMPLES)
        self.noise_k = NOISE_K  # one pixel's standard deviation, where nobody is
        self._sampled_s = -np.inf
        self._offset_k = 0.0  # by which all of the place is warmer than what is learnt

    @property
    def level_c(self) -> PixelField | None:
        """The field without people as it is known so far; None before the first field."""
        return self._level_c + self._offset_k if self._samples else None

    @property
    def person_k(self) -> float:
        """How warm somebody is at least."""
        return max(PERSON_K, PERSON_SIGMAS * self.noise_k)

    @property
    def saddle_k(self) -> float:
        """How much colder it is between two people at least."""
        return max(SADDLE_K, SADDLE_SIGMAS * self.noise_k)

    def excess_k(self, field_c: PixelField) -> PixelField:
        """Return how much warmer each pixel is than the place without people.

        `field_c`: shape (rows, columns), the same at every call; degC, no NaN.
        """
        if not self._samples:
            ground_c = np.quantile(field_c, COLD_SHARE)
            self._level_c = np.minimum(field_c, ground_c + PATTERN_K) + ABOVE_MEAN * NOISE_K
            self._held_since_s = np.full(field_c.shape, np.nan)
            self._usual_c = field_c.copy()
            self._furniture = np.zeros(field_c.shape, np.bool_)
        excess_k = field_c - self._level_c - self._offset_k
        in_order_k = np.sort(excess_k, axis=None)
        last = in_order_k.size - 1
        warmer_k = float(in_order_k[round(COLD_SHARE * last)])
        colder_k = float(in_order_k[round(MOST * last)])
        moved_k = 0.0
        if min(field_c.shape) > 1 and colder_k - warmer_k < self.person_k:
            moved_k = max(0.0, warmer_k) + min(0.0, colder_k)
        if abs(moved_k) > self.noise_k:
            self._offset_k += moved_k
        return np.asarray(excess_k - moved_k)

    def learn(self, field_c: PixelField, people: PixelMask, at_s: float) -> None:
        """Take a field as a sample of the place, but for the pixels where people are."""
        is_first = len(self._samples) < FIRST_SAMPLES
        if at_s - self._sampled_s < SAMPLE_S and not is_first:
            return
        self._sampled_s = at_s
        field_c = field_c - self._offset_k
        self._seen_c.append(field_c)
        is_warm = field_c - self._level_c > self.noise_k
        there = _widened(people) & is_warm
        rose_k = field_c - np.min(self._seen_c, axis=0)
        came = there & (is_first | (rose_k > self.person_k))
        self._held_since_s[~there] = np.nan
        self._held_since_s[came & np.isnan(self._held_since_s)] = at_s
        there &= ~np.isnan(self._held_since_s)
        step_k = USUAL_SHARE * (field_c - self._usual_c)
        self._usual_c += np.where(step_k > 0.0, step_k / 4, step_k)  # whoever passes is warmer
        furniture = _widened(at_s - self._held_since_s > HOLD_S) & is_warm
        vacated = self._furniture & (field_c - self._level_c < -self.person_k)
        self._furniture = (self._furniture | furniture) & ~vacated
        for anew, now_c in ((furniture, self._usual_c), (vacated, field_c)):
            self._level_c[anew] = now_c[anew] + ABOVE_MEAN * self.noise_k
            for sample in self._samples:
                sample[anew] = self._level_c[anew]
        self._held_since_s[furniture] = np.nan
        there &= ~furniture
        self._measure_noise(field_c, there)
        self._samples.append(np.where(there | furniture | vacated, self._level_c, field_c))
        self._level_c = np.quantile(np.stack(self._samples), QUANTILE, axis=0)

    def _measure_noise(self, field_c: PixelField, there: PixelMask) -> None:
        if not self._samples or there.all():
            return
        moved_k = (field_c - self._samples[-1])[~there]
        moved_k = moved_k - np.median(moved_k)
        calm_k2 = np.sort(moved_k**2)[: max(1, round(CALM_SHARE * moved_k.size))]
        self._noise2_k2.append(float(np.mean(calm_k2)) / CALM_VARIANCE / 2)
        sigma_k = float(np.sqrt(np.median(self._noise2_k2)))
        self.noise_k = min(max(LEAST_NOISE_K, sigma_k), MOST_NOISE_K)


def _widened(mask: PixelMask) -> PixelMask:
    """Return `mask` and the pixels around it."""
    rows, columns = mask.shape
    padded = np.pad(mask, 1)
    around = [padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)]
    return np.asarray(np.logical_or.reduce(around), np.bool_)


def find_people(
    excess_k: PixelField,
    person_k: float,
    saddle_k: float,
    least_pixels: int,
) -> tuple[list[Point], PixelMask]:
    """Return the centre of each person in a field, and the pixels where people are.

    A centre's `along` is the column, `across` the row, in pixels.
    `excess_k`: shape (rows, columns), K above the background. A person is a summit of
    `least_pixels` or more that stands `person_k` above the background, and `saddle_k` above the
    saddle to any warmer summit. Pixels are taken from the warmest down and join the summit of their
    warmest neighbour; where summits meet, one that does not stand out falls to the warmest.
    """
    warm = np.argwhere(excess_k >= person_k).tolist()
    heights_k: Heights = {(row, column): float(excess_k[row, column]) for row, column in warm}
    summits: list[list[Pixel]] = []  # pixels of each, its peak first; warmest first
    owner: dict[Pixel, int] = {}  # pixel -> index in `summits`
    for at in sorted(heights_k, key=heights_k.__getitem__, reverse=True):
        height_k = heights_k[at]
        row, column = at
        around = [(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        near = [other for other in around if other in owner]
        if not near:
            owner[at] = len(summits)
            summits.append([at])
            continue
        meeting = sorted({owner[other] for other in near})
        for lower in meeting[1:]:
            if heights_k[summits[lower][0]] - height_k < saddle_k:
                owner.update(dict.fromkeys(summits[lower], meeting[0]))
                summits[meeting[0]] += summits[lower]
                summits[lower] = []
        home = owner[max(near, key=heights_k.__getitem__)]
        owner[at] = home
        summits[home].append(at)
    people = [each for each in summits if len(each) >= least_pixels]
    mask = np.zeros(excess_k.shape, np.bool_)
    for pixels in people:
        mask[tuple(zip(*pixels, strict=True))] = True
    if min(excess_k.shape) > 1:
        people = [each for each in people if not _is_too_wide(each)]
    return [_centre(pixels, heights_k, CLEAR * person_k) for pixels in people], mask


def _is_too_wide(pixels: Sequence[Pixel]) -> bool:
    return any(max(axis) - min(axis) + 1 >= WIDEST_PIXELS for axis in zip(*pixels, strict=True))


def _centre(pixels: Sequence[Pixel], heights_k: Heights, clear_k: float) -> Point:
    weight_k = sum(heights_k[at] for at in pixels)
    across = sum(heights_k[at] * at[0] for at in pixels) / weight_k
    along = sum(heights_k[at] * at[1] for at in pixels) / weight_k
    if heights_k[pixels[0]] < clear_k:
        return Point(along, across)
    width2 = sum(heights_k[at] * (at[0] - across) ** 2 for at in pixels) / weight_k
    depth2 = sum(heights_k[at] * (at[1] - along) ** 2 for at in pixels) / weight_k
    return Point(along, across, depth2, width2)


class ThermalCounter(Withheld):
    """One array over one passage: from its fields to crossings, and to a picture of the last."""

    __slots__ = ("_background", "_counter", "_excess_k", "_field_c", "_flip", "_passage", "_pixels")

    def __init__(
        self, passage: Passage, *, flip: bool = False, least_pixels: int | None = None
    ) -> None:
        self._passage = passage
        self._flip = flip
        self._pixels = PERSON_PIXELS if least_pixels is None else least_pixels
        self._background = Background()
        self._counter = LineCounter(passage)
        self._field_c: PixelField = np.empty(0)  # the last
        self._excess_k: PixelField = np.empty((0, 0))

    @property
    def level_c(self) -> PixelField | None:
        """The field without people as it is known so far; None before the first field."""
        return self._background.level_c

    def take(self, field_c: PixelField, at_s: float, *, counts: bool = True) -> list[Direction]:
        """Take one field and return the crossings that it completes; one read twice has none.

        `field_c`: shape (rows, columns), degC, no NaN; the columns lie along the way people walk.
        Unless it `counts`, only the place is learnt.
        """
        if np.array_equal(field_c, self._field_c):
            return []
        self._field_c = field_c
        background = self._background
        self._excess_k = background.excess_k(field_c)
        people, mask = find_people(
            self._excess_k, background.person_k, background.saddle_k, self._pixels
        )
        background.learn(field_c, mask, at_s)
        if not counts:
            return []
        return [self._named(way) for way in self._counter.update(people, at_s)]

    def picture(self) -> Scene | None:
        """Return what the last field showed; None before there was one."""
        rows, columns = self._excess_k.shape
        if not columns:
            return None
        return Scene(
            forward=self._named("towards"),
            unit="pixels",
            along=(0.0, columns - 1.0),
            across=(0.0, rows - 1.0),
            line=self._passage.line,
            warmth_k=tuple(tuple(map(float, row)) for row in self._excess_k),
            people=tuple((n, at.along, at.across) for n, at in self._counter.followed()),
        )

    def _named(self, way: Direction) -> Direction:
        return OPPOSITE[way] if self._flip else way
