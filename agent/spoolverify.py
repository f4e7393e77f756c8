"""Whether what waits in a spool is what was put in, number by number. Pure.

Of each run and stream: produced = waiting + lost (in gaps that wait) + gone. What is gone was
acknowledged, one by one and not in order, so that a hole among the waiting numbers is no fault. A
fault is an entry that is not what was written, a record filed under a number that is not its own, a
number that is there twice, and one above all that were given out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .numbers import Numbers, Range
from .spoolview import Figures, Waiting

PROBLEMS_KEPT = 100
RANGES_SHOWN = 20


@dataclass(slots=True)
class _Page:
    """One stream of one run."""

    there: Numbers = field(default_factory=Numbers)
    waiting: int = 0
    lost: int = 0
    highest: int = 0


class Examination:
    """Takes all that waits, and finds what is wrong."""

    def __init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """All comes once more."""
        self._pages: dict[tuple[str, str], _Page] = defaultdict(_Page)
        self.problems: list[str] = []
        self.wrong = 0  # all problems; only the first are kept
        self.entries = 0

    def take(self, entry: Waiting) -> Iterator[bytes]:
        """Take one entry."""
        self.entries += 1
        what = self._what_is_wrong(entry)
        if what is not None:
            self._note(f"entry {entry.id}: {what}")
        yield from ()

    def close(self, figures: Figures) -> None:
        """Hold the numbers against those that were given out."""
        produced = {run.run: run.produced for run in figures.runs}
        for (run, stream), page in sorted(self._pages.items()):
            told = produced.get(run, {}).get(stream, 0)
            if page.highest > told:
                self._note(
                    f"run {run}, {stream}: number {page.highest} waits, and only {told} were"
                    " given out"
                )

    def streams(self, figures: Figures) -> list[dict[str, Any]]:
        """Return the account of each stream of each run, oldest run first."""
        lines = []
        for run in figures.runs:
            names = {stream for name, stream in self._pages if name == run.run}
            for stream in sorted(names | run.produced.keys()):
                page = self._pages.get((run.run, stream), _Page())
                told = max(run.produced.get(stream, 0), page.highest)
                ranges: list[Range] = list(page.there.ranges())
                lines.append(
                    {
                        "run": run.run,
                        "stream": stream,
                        "produced": told,
                        "waiting": page.waiting,
                        "lost": page.lost,
                        "gone": told - page.waiting - page.lost,
                        "ranges": [list(each) for each in ranges[:RANGES_SHOWN]],
                        "more_ranges": max(0, len(ranges) - RANGES_SHOWN),
                    }
                )
        return lines

    def _note(self, problem: str) -> None:
        self.wrong += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(problem)

    def _what_is_wrong(self, entry: Waiting) -> str | None:
        if entry.run is None or entry.stream is None:
            return "nobody knows of which run and stream it is"
        if not entry.is_whole:
            return "is not what was written: its checksum is another"
        try:
            spans, said = entry.spans(), [json.loads(body) for body in entry.bodies()]
            inside = [
                (each["stream"], each.get("first", each["seq"]), each["seq"]) for each in said
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            return f"does not say which number it has: {exc}"
        if _numbers(spans) != _numbers(inside):
            return f"is filed as {spans[:3]}, and says itself that it is {inside[:3]}"
        for stream, first, last in spans:
            page = self._pages[entry.run, stream]
            if page.there.overlaps(first, last):
                return f"run {entry.run}, {stream}: {first} to {last} is there twice"
            page.there.add(first, last)
            page.highest = max(page.highest, last)
            if entry.gap is None:
                page.waiting += last - first + 1
            else:
                page.lost += last - first + 1
        return None


def _numbers(spans: list[tuple[str, int, int]]) -> dict[str, list[Range]]:
    found: dict[str, Numbers] = defaultdict(Numbers)
    for stream, first, last in spans:
        found[stream].add(first, last)
    return {stream: list(numbers.ranges()) for stream, numbers in found.items()}
