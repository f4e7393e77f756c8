"""Counts of people against the truth, event by event; and the recordings in which it is known.

A count is found if it is of the same direction as a crossing and within 1.5 s of it; each crossing
and each count is used once. What remains of the counts is false; a crossing that was missed while
one of the other direction was counted in its place is swapped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from math import comb
from pathlib import Path
from typing import Any

from drivers import grideye
from drivers.base import Crossing, FrameError

NEAR_S = 1.5  # how far a count may be from its crossing
FRAMES_PER_S = 10  # of the recordings
CONFIDENCE = 0.95

Counts = Sequence[tuple[float, str]]  # seconds, direction


@dataclass(frozen=True, slots=True)
class Score:
    """How counts compare with the truth."""

    crossings: int = 0
    counted: int = 0
    found: int = 0
    swapped: int = 0

    @property
    def false(self) -> int:
        """Counts to which no crossing belongs."""
        return self.counted - self.found

    @property
    def error_percent(self) -> float:
        """How many too many were counted; negative: too few."""
        return 100.0 * (self.counted - self.crossings) / self.crossings if self.crossings else 0.0

    @property
    def merit(self) -> int:
        """What a choice between two constants is made by."""
        return self.found - self.false - self.swapped

    def __add__(self, other: Score) -> Score:
        """Return both together."""
        return Score(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Score)))


def compare(truth: Counts, counts: Counts, near_s: float = NEAR_S) -> Score:
    """Compare event by event."""
    false, missed = list(counts), []
    for at_s, way in truth:
        near = [each for each in false if each[1] == way and abs(each[0] - at_s) <= near_s]
        if near:
            false.remove(min(near, key=lambda each: abs(each[0] - at_s)))
        else:
            missed.append((at_s, way))
    swapped = sum(
        any(way != other and abs(at_s - other_s) <= near_s for other_s, other in false)
        for at_s, way in missed
    )
    return Score(len(truth), len(counts), len(truth) - len(missed), swapped)


def clopper_pearson(hits: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact binomial confidence interval of a share.

    Its ends are the shares with which `hits` or more, and `hits` or fewer, out of `of` have the
    probability (1 - confidence) / 2. Source: Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    tail = (1.0 - confidence) / 2

    def at_most(k: int, share: float) -> float:
        return sum(comb(of, i) * share**i * (1 - share) ** (of - i) for i in range(k + 1))

    def where(holds: Callable[[float], bool]) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low

    lower = 0.0 if hits == 0 else where(lambda share: 1 - at_most(hits - 1, share) < tail)
    upper = 1.0 if hits == of else where(lambda share: at_most(hits, share) > tail)
    return lower, upper


class _Played:
    """An I2C bus on which frames follow each other, and a clock that goes by them."""

    def __init__(self, images: Iterable[tuple[float, bytes]]) -> None:
        self._images = iter(images)
        self._at_s = 0.0
        self._image = b""

    def step(self) -> bool:
        self._at_s, self._image = next(self._images, (self._at_s, b""))
        return bool(self._image)

    def now_ns(self) -> int:
        return round(self._at_s * 1e9)

    def read(self, address: int, write: bytes, length: int) -> bytes:
        return self._image if length == grideye.FRAME_BYTES else b""

    def write(self, address: int, data: bytes) -> None:
        """Accept it."""


def count_images(images: Iterable[tuple[float, bytes]], **options: Any) -> Counts:
    """Return what a Grid-EYE's driver counts in (seconds, register image)."""
    bus = _Played(images)
    chosen = grideye.GridEye.Options.model_validate({"warmup_s": 0.0, **options})
    driver = grideye.GridEye(bus, chosen, bus.now_ns)
    driver.open()
    counts: list[tuple[float, str]] = []
    while bus.step():
        with suppress(FrameError):
            counts += crossings(driver.poll())
    return counts


def crossings(observed: Iterable[object], begin_s: float = 0.0) -> Counts:
    """Return the counts among what a driver observed, in seconds since `begin_s`."""
    return [
        (each.at_boot_ns / 1e9 - begin_s, each.direction)
        for each in observed
        if isinstance(each, Crossing)
    ]


Recording = tuple[list[tuple[float, bytes]], Counts]  # images with their times, and the truth


def recordings_folder() -> Path | None:
    """Return where recordings are; None if they are not there."""
    folder = Path(os.environ.get("YUKIMI_RECORDINGS", "../shared/recordings")) / "grideye"
    return folder if (folder / "ground_truth.json").exists() else None


@cache
def recordings() -> Mapping[str, Recording]:
    """Read the labelled recordings, by name; label 3 is towards. Empty where there are none."""
    folder = recordings_folder()
    if folder is None:
        return {}
    labels = json.loads((folder / "ground_truth.json").read_text())
    found = {}
    for path in sorted(folder.glob("*.regs80_FF.bin")):
        name, capture = path.name.partition(".")[0], path.read_bytes()
        size = grideye.FRAME_BYTES
        images = [
            (at // size / FRAMES_PER_S, capture[at : at + size])
            for at in range(0, len(capture), size)
        ]
        truth = [
            (event["mid_frame"] / FRAMES_PER_S, "towards" if event["label"] == 3 else "away")
            for event in labels.get(name, {}).get("events", [])
        ]
        found[name] = (images, truth)
    return found
