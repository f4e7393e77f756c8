"""What is said to people, laid out for a terminal: widths in cells, columns, colour.

    from .display import paint, table

    for line in table(rows, head=(said(NAME), said(DEPTH)), align="lr"):
        print(line)

A Japanese character takes two cells, a combining one none, and escape sequences of colour none, so
that painted cells line up too. Characters whose width depends on the terminal's taste (lines,
blocks, the degree sign) count as one: they belong at the end of a line.

Colour helps, and never says what words or signs do not: the palette (blue, orange, vermilion) can
be told apart with any kind of colour vision, and is left out where it is not wanted.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Literal, TextIO

Style = Literal["good", "warn", "bad", "dim", "head"]

WIDEST_CELLS = 96  # lines longer than this are hard to read
LEAST_CELLS = 16  # a column that is wrapped is no narrower than this
GAP = "  "

_PLAIN = "\x1b[0m"
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_CODES: dict[Style, tuple[str, str]] = {  # with 256 colours (Okabe and Ito's), and with 8
    "good": ("38;5;74", "36"),
    "warn": ("38;5;214", "33"),
    "bad": ("1;38;5;202", "1;7"),
    "dim": ("2", "2"),
    "head": ("1", "1"),
}
# What may not begin a line, and what may not end one, in Japanese typesetting.
_NOT_FIRST = frozenset(
    "、。，．,.・：；:;？！?!）」』】〉》〕)]}ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々℃％%…"
)
_NOT_LAST = frozenset("（「『【〈《〔([{")


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(map(_cell, _ESCAPE.sub("", text)))


def _cell(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def printable(text: object) -> str:
    """Return what came from a device or a file as text without control characters."""
    return "".join(
        each if unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else "?"
        for each in str(text)
    )


def clip(text: str, width: int) -> str:
    """Cut a text to at most `width` cells; what is cut ends in "~"."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for piece in _pieces(text):
        is_escape = piece.startswith("\x1b")
        used += 0 if is_escape else _cell(piece)
        if used > width - 1 and not is_escape:
            break
        kept.append(piece)
    is_painted = any(piece.startswith("\x1b") for piece in kept)
    return ("".join(kept) + "~" if width > 0 else "") + (_PLAIN if is_painted else "")


def _pieces(text: str) -> Iterator[str]:
    """Yield characters and whole escape sequences."""
    at = 0
    for escape in _ESCAPE.finditer(text):
        yield from text[at : escape.start()]
        yield escape.group()
        at = escape.end()
    yield from text[at:]


def pad(text: str, width: int, align: str = "l") -> str:
    """Fill a text up to `width` cells: align "l" or "r"."""
    room = " " * max(0, width - cells(text))
    return room + text if align == "r" else text + room


def wrap(text: str, width: int, *, first: str = "", hang: str = "") -> list[str]:
    """Break a text into lines of at most `width` cells, begun with `first`, then with `hang`.

    Lines break at spaces, and between Japanese characters where its typesetting permits.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, room = "", 0
        for has_space, chunk in _chunks(paragraph):
            for part in _split(chunk, max(1, width - cells(hang))):
                needed = cells(part) + (has_space and bool(line))
                if line and needed > room:
                    lines.append(line)
                    line = ""
                if not line:
                    room = max(1, width - cells(first if not lines else hang))
                    needed = cells(part)
                else:
                    part = f"{' ' if has_space else ''}{part}"
                line += part
                room -= needed
                has_space = False
        lines.append(line)
    return [f"{hang if at else first}{line}".rstrip() for at, line in enumerate(lines)]


def beside(label: str, text: str) -> str:
    """Return a text to the right of its label, on as many lines as a terminal needs."""
    room = line_cells()
    if not sys.stdout.isatty() or cells(label + text) <= room:
        return label + text
    return "\n".join(wrap(text, room, first=label, hang=" " * cells(label)))


def _chunks(text: str) -> Iterator[tuple[bool, str]]:
    """Yield what stays together on a line, and whether a space is before it."""
    held, held_space = "", False
    for word in text.split():
        has_space = bool(held)
        for unit in re.findall(r"[^\u2e80-\uffef]+|[\u2e80-\uffef]", word):
            stays = held and (unit[0] in _NOT_FIRST or held[-1] in _NOT_LAST) and not has_space
            if stays:
                held += unit
                continue
            if held:
                yield held_space, held
            held, held_space = unit, has_space
            has_space = False
    if held:
        yield held_space, held


def _split(chunk: str, width: int) -> Iterator[str]:
    """Yield a chunk in parts of at most `width` cells."""
    part = ""
    for piece in chunk:
        if part and cells(part + piece) > width:
            yield part
            part = ""
        part += piece
    yield part


def table(
    rows: Iterable[Sequence[str]],
    head: Sequence[str] = (),
    *,
    align: str = "",
    width: int | None = None,
    indent: str = "",
) -> list[str]:
    """Return rows as lines with aligned columns.

    `align` has a letter a column, "l" or "r" (default: left). With `width` the last column is
    wrapped so that no line takes more cells, and goes on below itself.
    """
    body = [list(row) for row in rows]
    if not body:
        return []
    everything = [[paint(each, "head") for each in head], *body] if head else body
    columns = max(map(len, everything))
    align = align.ljust(columns, "l")
    widths = [
        max((cells(row[column]) for row in everything if column < len(row)), default=0)
        for column in range(columns)
    ]
    before = cells(indent) + sum(widths[:-1]) + len(GAP) * (columns - 1)
    last = None if width is None else max(LEAST_CELLS, width - before)
    lines = []
    for row in everything:
        is_last_full = len(row) == columns and last is not None and cells(row[-1]) > last
        ends = wrap(row[-1], last or 1) if is_last_full else row[-1:]
        for begin, end in zip_longest([row[:-1]], ends, fillvalue=None):
            shown = [*(begin if begin is not None else [""] * (columns - 1)), end or ""]
            padded = [pad(each, widths[at], align[at]) for at, each in enumerate(shown)]
            lines.append((indent + GAP.join(padded)).rstrip())
    return lines


def line_cells(stream: TextIO | None = None) -> int:
    """Return how many cells a line of text may take: the terminal's, within what reads well."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return WIDEST_CELLS
    return max(LEAST_CELLS, min(shutil.get_terminal_size().columns, WIDEST_CELLS))


def has_colour(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether colour is wanted: a terminal that is not dumb, and no NO_COLOR."""
    stream = sys.stdout if stream is None else stream
    environment = os.environ if environment is None else environment
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def paint(text: str, style: Style, stream: TextIO | None = None) -> str:
    """Return a text in a style, where `stream` (default: stdout) shows colour; else as it is."""
    if not text or not has_colour(stream):
        return text
    rich, poor = _CODES[style]
    terminal = os.environ.get("TERM", "")
    has_256 = "256" in terminal or bool(os.environ.get("COLORTERM"))
    return f"\x1b[{rich if has_256 else poor}m{text}{_PLAIN}"
