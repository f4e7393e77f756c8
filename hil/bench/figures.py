"""Figures, what they should be, and how they compare: the table that a bench prints."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Samples = dict[str, list[float]]  # what was measured, as often as it was


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a bench: its name ends in its unit."""

    key: str
    what: str
    target: float | None = None  # None: told, not judged
    at_least: bool = False  # else at most
    peers: str = ""

    def holds(self, value: float) -> bool:
        """Whether `value` reaches the target."""
        if self.target is None:
            return True
        return value >= self.target if self.at_least else value <= self.target

    def goal(self) -> str:
        """Say the target."""
        if self.target is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {shown(self.target)}"


def shown(value: float) -> str:
    """Return a figure as people read it: three digits that count, thousands set apart."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def medians(samples: Samples) -> dict[str, float]:
    """Return one value for each figure."""
    return {key: round(statistics.median(values), 3) for key, values in samples.items()}


def spread(values: list[float]) -> str:
    """Say from where to where a figure's values go, and how many there are; nothing of one."""
    if len(values) < 2:
        return ""
    return f"{shown(min(values))} to {shown(max(values))} ({len(values)})"


def table(figures: Iterable[Figure], values: Mapping[str, float]) -> list[str]:
    """Return the lines of a table: figure, value, target, pass or MISS, the peers' own."""
    rows = [("figure", "measured", "target", "", "peers")]
    for figure in figures:
        if figure.key in values:
            value = values[figure.key]
            judged = "" if figure.target is None else "pass" if figure.holds(value) else "MISS"
            rows.append((figure.key, shown(value), figure.goal(), judged, figure.peers))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}"
        f"  {row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]


def document(values: Mapping[str, float]) -> str:
    """Return the figures as the JSON document that other programs read."""
    return json.dumps({"schema": "yukimi.bench/1", "figures": dict(values)})
