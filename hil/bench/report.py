"""What `hil bench` found, as a table for people and as tables for docs/cost.md."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .figures import Figure, Samples, medians, shown, spread
from .noise import disquiet
from .rivals import SETTINGS

COLUMNS = (
    ("rss_mb", "MB"),
    ("pss_mb", "proportional"),
    ("threads", "threads"),
    ("start_s", "start s"),
    ("cpu_percent", "CPU %"),
    ("wakeups_per_s", "wake-ups/s"),
    ("disk_mb_per_hour", "disk MB/h"),
    ("wire_kb_per_hour", "wire kB/h"),
    ("lost_in_outage", "lost: outage"),
    ("lost_in_kill", "kill"),
    ("duplicates", "twice"),
    ("said", "of"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one run found."""

    figures: Sequence[Figure]
    found: Samples
    rivals: Mapping[str, Samples]
    seconds: float  # of the eights
    took_s: float

    @property
    def holds(self) -> bool:
        """Whether no target was missed."""
        values = medians(self.found)
        return all(each.holds(values[each.key]) for each in self.figures if each.key in values)

    def rows(self) -> Iterator[tuple[Figure, str, str, str]]:
        """Yield each figure that there is, its value, its spread, and whether it passes."""
        values = medians(self.found)
        for figure in self.figures:
            if figure.key in values:
                value = values[figure.key]
                judged = "" if figure.target is None else "pass" if figure.holds(value) else "MISS"
                yield figure, shown(value), spread(self.found[figure.key]), judged


def text(outcome: Outcome) -> list[str]:
    """Return the lines of the table that is printed."""
    rows = [("figure", "measured", "from to (runs)", "target", "", "of what; peers measured once")]
    for figure, value, between, judged in outcome.rows():
        about = f"{figure.what}; {figure.peers}" if figure.peers else figure.what
        rows.append((figure.key, value, between, figure.goal(), judged, about))
    lines = _aligned(rows)
    if outcome.rivals:
        lines += ["", *_aligned([("", *(title for _, title in COLUMNS)), *_of_rivals(outcome)])]
    return [*lines, "", *_remarks(outcome)]


def markdown(outcome: Outcome) -> str:
    """Return the tables of docs/cost.md."""
    lines = [
        f"{_machine()}; {time.strftime('%d %B %Y')}.",
        *_remarks(outcome),
        "",
        "| figure | key | measured | least to most (runs) | target | |",
        "|---|---|---|---|---|---|",
    ]
    for figure, value, between, judged in outcome.rows():
        goal = figure.goal().replace("<=", "at most").replace(">=", "at least")
        cells = (figure.what, f"`{figure.key}`", value, between, goal, judged)
        lines.append(f"| {' | '.join(cells)} |")
    if outcome.rivals:
        lines += [
            "",
            f"| | {' | '.join(title for _, title in COLUMNS)} |",
            "|---" * (len(COLUMNS) + 1) + "|",
            *(f"| {' | '.join(row)} |" for row in _of_rivals(outcome)),
            "",
            *(f"- {name}: {SETTINGS[name]}" for name in outcome.rivals),
        ]
    return "\n".join(lines) + "\n"


def _of_rivals(outcome: Outcome) -> list[tuple[str, ...]]:
    return [
        (name, *(shown(values[key]) for key, _ in COLUMNS))
        for name, values in ((name, medians(each)) for name, each in outcome.rivals.items())
    ]


def _remarks(outcome: Outcome) -> list[str]:
    lines = [
        f"What is of an hour is scaled from {outcome.seconds:.0f} s;"
        f" the whole run took {outcome.took_s / 60:.0f} minutes."
    ]
    if said := disquiet(outcome.found):
        lines.append(f"The machine was not quiet: {said}.")
    if "instructions_start_millions" not in outcome.found:
        lines.append("Instruction counts are not available: not asked for, or no valgrind.")
    return lines


def _machine() -> str:
    """Say what this ran on."""
    said = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in said if line.startswith("model name")]
    about = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    system = about.get("PRETTY_NAME", platform.system()).strip('"')
    model = models[0] if models else platform.machine()
    return f"{model}, {len(models) or 1} cores, {system}, Python {platform.python_version()}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
