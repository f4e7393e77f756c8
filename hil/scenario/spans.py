"""Lengths of time and sizes as a scenario writes them: "6h", "1d 12h", "90s", "64KiB". Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from config.text import Text

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d)")
LONGEST_S = 100 * 366 * 86_400.0
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)\s*\Z")
_FACTORS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9} | {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

NO_SPAN = Text(
    'must be a length of time such as "90s", "6h" or "1d 12h", not {shown}',
    '"90s"、"6h"、"1d 12h" のような時間の長さでなければなりません（現在の値: {shown}）',
)
NO_SIZE = Text(
    'must be a size such as "64KiB" or "20MB", not {shown}',
    '"64KiB"、"20MB" のような大きさでなければなりません（現在の値: {shown}）',
)


def seconds(value: object) -> float:
    """Return a span in seconds; a bare number is seconds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= LONGEST_S:
            return float(value)
    elif isinstance(value, str):
        at, total_s = 0, 0.0
        while match := _PART.match(value, at):
            total_s += float(match[1]) * _UNITS_S[match[2]]
            at = match.end()
        if at and not value[at:].strip() and total_s <= LONGEST_S:
            return total_s
    raise ValueError(NO_SPAN.filled(shown=repr(value)))


def size_bytes(value: object) -> int:
    """Return a size in bytes; a bare number is bytes. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(NO_SIZE.filled(shown=repr(value)))
    return int(float(match[1]) * _FACTORS[match[2]])


def said(span_s: float) -> str:
    """Write a span as people do: "1 d 2 h", "90 s"."""
    if span_s < 120:
        return f"{span_s:g} s"
    parts, left_s = [], round(span_s)
    for unit, unit_s in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left_s = divmod(left_s, unit_s)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


_SHOWN = WithJsonSchema({"type": ["string", "number"]})
Span = Annotated[float, BeforeValidator(seconds), _SHOWN]
Size = Annotated[int, BeforeValidator(size_bytes), WithJsonSchema({"type": ["string", "integer"]})]
