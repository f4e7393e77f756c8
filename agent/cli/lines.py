"""Lines of a screen: texts with styles, columns by cells, plots of one line. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text as Line

from .display import cells, clip, pad
from .language import Text, said
from .names import (
    UNITS,
    number_text,
)

Document = dict[str, Any]

BLOCKS, PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=*#"
LABEL = 9  # cells of what begins a line

PLOT = Text("plot by {seconds:g} s", "推移 {seconds:g}秒毎")


@dataclass(frozen=True, slots=True)
class Frame:
    """How much room there is, and what can be shown in it."""

    columns: int
    lines: int
    blocks: str = BLOCKS


def spark(means: Sequence[float | None], blocks: str = BLOCKS) -> str:
    """Draw means as blocks between their lowest and highest; a hole is a space."""
    known = [each for each in means if each is not None and math.isfinite(each)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    middle, top = blocks[len(blocks) // 2 - 1], len(blocks) - 1
    return "".join(
        " "
        if each is None or not math.isfinite(each)
        else blocks[round((each - low) / span * top)]
        if span > 0
        else middle
        for each in means
    )


def fewer(means: Sequence[float | None], columns: int) -> list[float | None]:
    """Return at most `columns` means of means, a whole number of slots each, the newest last."""
    slots = math.ceil(len(means) / columns) if means else 1
    found: list[float | None] = []
    for end in range(len(means), 0, -slots):
        known = [each for each in means[max(0, end - slots) : end] if each is not None]
        found.append(sum(known) / len(known) if known else None)
    return found[::-1]


def with_unit(reading: Document) -> str:
    """Return a reading's value with its unit."""
    unit = UNITS.get(reading["unit"], reading["unit"])
    text = number_text(reading["value"])
    return f"{text} {unit}" if unit and reading["value"] is not None else text


def column(text: str, width: int) -> str:
    """Return a text cut and filled to a width."""
    return pad(clip(text, width), width)


def label(label: Text, *parts: str | tuple[str, str]) -> Line:
    """Make a line that begins with what it is about."""
    return line((pad(said(label), LABEL), "dim"), *parts)


def line(*parts: str | tuple[str, str]) -> Line:
    """Make a line of texts, each plain or with the name of a style."""
    line = Line(no_wrap=True, end="")
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(text, style or None)
    return line


def cut(line: Line, columns: int) -> Line:
    """Cut a line where it is too long, and say so."""
    if cells(line.plain) > columns:
        kept = len(clip(line.plain, columns)) - 1
        line = line[:kept]
        line.append("~")
    line.no_wrap, line.end = True, "\n"
    return line


def mib(count: int | None) -> str:
    """Return bytes as MiB."""
    return "-" if count is None else f"{count / 2**20:.1f} MiB"
