"""From a picture of the screen to the few bytes that turn the one before into it.

What rich lays out becomes a grid of cells; only runs of cells that differ are written, so that a
console at 9600 baud follows and nothing flickers. Pure, but for the terminal's abilities, which
are asked for once.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console, RenderableType
from rich.style import Style
from rich.theme import Theme

Cell = tuple[str, Style | None]  # what it shows ("" right of a wide character), and how

BLANK: Cell = (" ", None)
LEAST_MOVED, MOST_MOVED = 2, 8  # lines that move together, and how far
NEAR = 6  # cells that are equal, between two runs, cost less than another jump


# The palette of display.py, with 256 colours and with 8; colour-blind eyes tell both apart.
RICH = {"good": "color(74)", "warn": "color(214)", "bad": "bold color(202)"}
POOR = {"good": "cyan", "warn": "yellow", "bad": "bold reverse"}
HEAD = {"head": "bold"}


class Painter:
    """What a terminal of this size shows, as far as we wrote it."""

    def __init__(self, columns: int, lines: int, environment: Mapping[str, str]) -> None:
        """Begin with an empty screen."""
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=columns,
            height=lines,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ=dict(environment),
        )
        palette = POOR if self._console.color_system == "standard" else RICH
        self._console.push_theme(Theme(palette | HEAD))
        self._columns, self._lines = columns, lines
        self._shown = [[BLANK] * columns for _ in range(lines)]

    def change_to(self, picture: RenderableType) -> str:
        """Return what to write so that the terminal shows `picture`, as far as it fits."""
        wanted = self._grid(picture)
        written = [self._scrolled(wanted)]
        for line, (old, new) in enumerate(zip(self._shown, wanted, strict=True)):
            for first, last in _runs(old, new):
                written.append(f"\x1b[{line + 1};{first + 1}H{self._run(new[first : last + 1])}")
        self._shown = wanted
        return "".join(written)

    def _scrolled(self, wanted: list[list[Cell]]) -> str:
        """Move down what only moved down, as a list does that is written to at its head."""
        found = _moved(self._shown, wanted)
        if found is None:
            return ""
        top, bottom, by = found  # lines top..bottom are to be by lines further down
        blank = [[BLANK] * self._columns for _ in range(by)]
        above, below = self._shown[:top], self._shown[bottom + by + 1 :]
        self._shown = [*above, *blank, *self._shown[top : bottom + 1], *below]
        return f"\x1b[{top + 1};{bottom + by + 1}r\x1b[{top + 1};1H\x1b[{by}L\x1b[r"

    def _grid(self, picture: RenderableType) -> list[list[Cell]]:
        options = self._console.options.update(width=self._columns, height=None)
        grid = []
        for segments in self._console.render_lines(picture, options, pad=False)[: self._lines]:
            cells: list[Cell] = []
            for text, style, control in segments:
                if not control:
                    _add(cells, text, style)
            grid.append(_fitted(cells, self._columns))
        grid += [[BLANK] * self._columns for _ in range(self._lines - len(grid))]
        return grid

    def _run(self, cells: list[Cell]) -> str:
        """Write cells, each stretch of one style with it."""
        written, stretch, style = [], "", cells[0][1]
        for text, own in cells:
            if own != style:
                written.append(self._styled(stretch, style))
                stretch, style = "", own
            stretch += text
        return "".join([*written, self._styled(stretch, style)])

    def _styled(self, text: str, style: Style | None) -> str:
        if style is None or not text:
            return text
        if self._console.no_color:
            style = style.without_color
        return style.render(text, color_system=_COLOURS.get(self._console.color_system or ""))


_COLOURS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


def _add(line: list[Cell], text: str, style: Style | None) -> None:
    """Continue a line; what combines joins the character before, or is nothing."""
    for character in text:
        width = cell_len(character)
        if width > 0:
            line.append((character, style or None))  # an empty style is none
            line += [("", style or None)] * (width - 1)
            continue
        at = len(line) - 1
        if at > 0 and line[at][0] == "":
            at -= 1
        if at >= 0:
            line[at] = line[at][0] + character, line[at][1]


def _fitted(cells: list[Cell], columns: int) -> list[Cell]:
    """Cut or fill a line; no half of a wide character stays."""
    if len(cells) > columns and cells[columns][0] == "":
        cells = [*cells[: columns - 1], BLANK]
    return [*cells[:columns], *[BLANK] * (columns - len(cells))]


def _runs(old: list[Cell], new: list[Cell]) -> Iterator[tuple[int, int]]:
    """Yield the first and last column of each run of cells to be written."""
    first = last = -1
    for column, (was, is_now) in enumerate(zip(old, new, strict=True)):
        if was == is_now:
            continue
        if first >= 0 and column - last > NEAR:
            yield _whole(old, new, first, last)
            first = -1
        if first < 0:
            first = column
        last = column
    if first >= 0:
        yield _whole(old, new, first, last)


def _moved(old: list[list[Cell]], new: list[list[Cell]]) -> tuple[int, int, int] | None:
    """Return the longest run of lines that stands further down now: first, last, by how many."""
    best: tuple[int, int, int] | None = None
    for by in range(1, MOST_MOVED + 1):
        first = None
        for at in range(len(old) - by + 1):
            is_same = at < len(old) - by and old[at] == new[at + by] and old[at] != new[at]
            if is_same and first is None:
                first = at
            elif not is_same and first is not None:
                if at - first >= LEAST_MOVED and (best is None or at - first > best[1] - best[0]):
                    best = first, at - 1, by
                first = None
    return best


def _whole(old: list[Cell], new: list[Cell], first: int, last: int) -> tuple[int, int]:
    """Widen a run so that it begins and ends with no half of a wide character."""
    while first > 0 and (old[first][0] == "" or new[first][0] == ""):
        first -= 1
    while last + 1 < len(new) and (old[last + 1][0] == "" or new[last + 1][0] == ""):
        last += 1
    return first, last
