"""How well people are counted: on recordings with known crossings, and with simulated crowds.

    python -m hil bench counting                  # everything, a few minutes
    python -m hil bench counting --only crowds    # or: recordings, constants, scenes
    python -m hil bench counting --markdown       # the tables of docs/counting.md
    python -m hil bench counting --json

`hil.crossings` says what is found, false and swapped. Recordings are read from the folder that
$YUKIMI_RECORDINGS names; without it the first two tables are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import exp, log
from random import Random
from types import ModuleType
from typing import Any

from drivers import grideye, thermal, tracking
from hil.crossings import (
    FRAMES_PER_S,
    Counts,
    Score,
    clopper_pearson,
    compare,
    count_images,
    recordings,
)
from hil.devices.grideye import GridEyeDevice

from .crowds import CROWDS, score_crowd
from .figures import document
from .scenes import SITUATIONS

RATES_PER_MINUTE = (5, 30, 60)
MOST_WRONG_PERCENT = {5: 3.0, 30: 5.0, 60: 10.0}
PERSONS = 2000
SCENE_SEEDS = range(4000, 4020)  # none that the method was written with
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)


def score_recordings() -> dict[str, Score]:
    """Count in each recording."""
    return {name: compare(truth, count_images(im)) for name, (im, truth) in recordings().items()}


# The constants: what each costs where it is wrong.


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of the method, as the Grid-EYE uses it."""

    name: str
    module: ModuleType

    @property
    def _is_of_passage(self) -> bool:
        return self.module is grideye

    @property
    def value(self) -> float:
        """Return it."""
        holder = grideye.PASSAGE if self._is_of_passage else self.module
        return float(getattr(holder, self.name))

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Let the method use `factor` times its value."""
        kept: Any = grideye.PASSAGE if self._is_of_passage else getattr(self.module, self.name)
        changed = self.value * factor
        if isinstance(getattr(self.module, self.name, None), int):
            changed = max(1, round(changed))
        if self._is_of_passage:
            fields: Any = {self.name: changed}
            grideye.PASSAGE = replace(grideye.PASSAGE, **fields)
        else:
            setattr(self.module, self.name, min(changed, 1.0) if self.name in SHARES else changed)
        try:
            yield
        finally:
            setattr(self.module, "PASSAGE" if self._is_of_passage else self.name, kept)


SHARES = frozenset(("QUANTILE", "COLD_SHARE", "MOST", "USUAL_SHARE", "CALM_SHARE"))
CONSTANTS = (
    *(
        Constant(name, thermal)
        for name in (
            "PERSON_K", "PERSON_SIGMAS", "SADDLE_K", "SADDLE_SIGMAS", "PERSON_PIXELS",
            "WIDEST_PIXELS", "CLEAR", "SAMPLES", "SAMPLE_S", "FIRST_SAMPLES", "QUANTILE",
            "ABOVE_MEAN", "HOLD_S", "USUAL_SHARE", "PATTERN_K", "COLD_SHARE", "MOST", "NOISE_K",
            "LEAST_NOISE_K", "MOST_NOISE_K", "CALM_SHARE", "ARRIVAL_SAMPLES",
        )
    ),
    *(
        Constant(name, tracking)
        for name in (
            "PACE_S", "WALK_S", "TOGETHER_S", "ALONE_S", "PART_S", "SHAPE_FRAMES", "MAX_TRACKS",
        )
    ),
    *(
        Constant(name, grideye)
        for name in (
            "line", "clearance", "travel", "slack", "run_per_s", "frame_s", "memory_s", "abreast",
        )
    ),
)  # fmt: skip


def _scaled_scores(number: int) -> dict[float, dict[str, Score]]:
    constant, scores = CONSTANTS[number], {}
    for factor in FACTORS:
        with constant.scaled(factor):
            scores[factor] = score_recordings()
    return scores


def chosen_without(scores: Mapping[float, Mapping[str, Score]], left_out: str) -> float:
    """Return the factor that the other recordings choose: the middle of the best."""
    merits = {
        factor: sum(score.merit for name, score in each.items() if name != left_out)
        for factor, each in scores.items()
    }
    best = sorted(factor for factor, merit in merits.items() if merit == max(merits.values()))
    middle = exp(sum(map(log, best)) / len(best))
    return min(best, key=lambda factor: (abs(log(factor / middle)), factor))


# Scenes.


def score_scene(name: str, seeds: Iterable[int]) -> Score:
    """Count in a situation, with several seeds."""
    return sum((compare(*play_scene(name, seed)) for seed in seeds), Score())


def play_scene(name: str, seed: int, **options: Any) -> tuple[Counts, Counts]:
    """Return the truth and the counts of one situation."""
    situation = SITUATIONS[name]
    scene = situation.build(Random(seed))
    device = GridEyeDevice(scene, seed=seed)
    dice = Random(seed)

    def images() -> Iterator[tuple[float, bytes]]:
        for frame in range(round(situation.seconds * FRAMES_PER_S)):
            at_s = frame / FRAMES_PER_S
            device.write(grideye.FIRST_PIXEL_REGISTER, at_s)
            image = device.read(grideye.FRAME_BYTES, at_s)
            if dice.random() < situation.keeps_frames:
                yield at_s, image

    counts = count_images(images(), **options)
    return [each for each in scene.crossings if each[0] >= 0.0], counts


# Tables.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--only", choices=sorted(PARTS), help="one table")
    parser.add_argument("--persons", type=int, default=PERSONS, help="in each crowd")
    parser.add_argument(
        "--thorough", action="store_true", help="every constant in every scene, too: half an hour"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables of the docs")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a target is missed."""
    values: dict[str, float] = {}
    with ProcessPoolExecutor() as pool:
        for name, part in PARTS.items():
            if arguments.only in (None, name):
                values |= part(pool, arguments)
    if arguments.json:
        print(document(values))
    return int(any(name.endswith("_missed_targets") and value for name, value in values.items()))


def _print(arguments: argparse.Namespace, head: Sequence[str], rows: list[list[str]]) -> None:
    if arguments.json:
        return
    if arguments.markdown:
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
        print("".join(f"| {' | '.join(row)} |\n" for row in rows))
        return
    widths = [max(len(row[i]) for row in [list(head), *rows]) for i in range(len(head))]
    for row in [list(head), *rows]:
        print("  ".join(f"{each:<{w}}" for each, w in zip(row, widths, strict=True)).rstrip())
    print()


def _share(hits: int, of: int) -> str:
    if not of:
        return "-"
    low, high = clopper_pearson(hits, of)
    return f"{100 * hits / of:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _recordings(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, float]:
    scores = score_recordings()
    rows = []
    for name, score in [*scores.items(), ("all", sum(scores.values(), Score()))]:
        recall, precision = (_share(score.found, of) for of in (score.crossings, score.counted))
        figures = (score.crossings, score.found, score.false, score.swapped)
        rows.append([name, *map(str, figures), recall, precision])
    if scores:
        head = ("recording", "crossings", "found", "false", "swapped", "recall", "precision")
        _print(arguments, head, rows)
    return {f"recording_{name}_found": float(score.found) for name, score in scores.items()}


def _missed_scenes(number: int, factor: float) -> str:
    """Name the situations whose target is missed with a constant that is wrong by a factor."""
    with CONSTANTS[number].scaled(factor):
        missed = [name for name in SITUATIONS if not scene_holds(name, score_scene(name, (1, 2)))]
    return ", ".join(missed)


def _constants_in_scenes(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> None:
    numbers = range(len(CONSTANTS))
    cells = [pool.map(_missed_scenes, numbers, [factor] * len(numbers)) for factor in (0.7, 1.4)]
    rows = [
        [f"`{constant.name}`", less, more]
        for constant, less, more in zip(CONSTANTS, *cells, strict=True)
        if less or more
    ]
    _print(arguments, ("constant", "x0.7: missed", "x1.4: missed"), rows)


def _constants(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, float]:
    if arguments.thorough:
        _constants_in_scenes(pool, arguments)
    if not recordings():
        return {}
    everything = list(pool.map(_scaled_scores, range(len(CONSTANTS))))
    rows, lost = [], 0
    for constant, scores in zip(CONSTANTS, everything, strict=True):
        cells = []
        for factor in (0.7, 1.4):
            score = sum(scores[factor].values(), Score())
            cells.append(f"{score.found} / {score.false} / {score.swapped}")
        left_out = []
        for name in scores[1.0]:
            factor = chosen_without(scores, name)
            score = scores[factor][name]
            lost += score.crossings - score.found + score.false
            left_out.append(f"x{factor:g}: {score.found} of {score.crossings}, {score.false}")
        rows.append([f"`{constant.name}`", f"{constant.value:g}", *cells, *left_out])
    _print(arguments, ("constant", "value", "x0.7", "x1.4", *recordings()), rows)
    return {"constants_left_out_lost": float(lost)}


def _scenes(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, float]:
    names = list(SITUATIONS)
    scores = list(pool.map(score_scene, names, [SCENE_SEEDS] * len(names)))
    rows, missed = [], 0
    for name, score in zip(names, scores, strict=True):
        situation = SITUATIONS[name]
        holds = scene_holds(name, score)
        missed += not holds
        figures = (score.crossings, score.found, score.false, score.swapped)
        judged = "" if not situation.least_found else "pass" if holds else "MISS"
        rows.append([name, situation.about, *map(str, figures), judged])
    head = ("situation", "what happens", "crossings", "found", "false", "swapped", "")
    _print(arguments, head, rows)
    return {"scenes_missed_targets": float(missed)}


def scene_holds(name: str, score: Score) -> bool:
    """Whether a situation's target is reached: found, at most 2 % false, nothing swapped."""
    least = SITUATIONS[name].least_found
    is_found = score.found >= least * score.crossings
    return not least or (is_found and score.false <= 0.02 * score.crossings and not score.swapped)


def _crowds(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, float]:
    cases = [(name, rate) for rate in RATES_PER_MINUTE for name in CROWDS]
    names, rates = zip(*cases, strict=True)
    scores = dict(
        zip(
            cases,
            pool.map(score_crowd, names, rates, [arguments.persons] * len(cases)),
            strict=True,
        )
    )
    rows, missed, values = [], 0, {}
    for name, crowd in CROWDS.items():
        cells = []
        for rate in RATES_PER_MINUTE:
            score = scores[name, rate]
            values[f"crowd_{name.replace(', ', '_')}_{rate}_error_percent"] = score.error_percent
            is_wrong = abs(score.error_percent) > MOST_WRONG_PERCENT[rate]
            missed += crowd.is_judged and is_wrong
            judged = "" if not crowd.is_judged else " MISS" if is_wrong else " pass"
            cells.append(
                f"{score.error_percent:+.1f} %{judged} ({score.crossings}: "
                f"{score.crossings - score.found} missed, {score.false} false, "
                f"{score.swapped} swapped)"
            )
        rows.append([name, crowd.about, *cells])
    head = ("sensor", "crowd", *(f"{rate} a minute" for rate in RATES_PER_MINUTE))
    _print(arguments, head, rows)
    return values | {"crowds_missed_targets": float(missed)}


PARTS: Mapping[str, Callable[[ProcessPoolExecutor, argparse.Namespace], dict[str, float]]] = {
    "recordings": _recordings,
    "constants": _constants,
    "scenes": _scenes,
    "crowds": _crowds,
}
