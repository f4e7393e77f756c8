"""A terminal's screen as an SVG: text on a grid of cells, no font or file from elsewhere. Pure.

Whatever monospace font a reader has, each run of letters is told how wide it is, so that columns
line up; Japanese letters take two cells, and each is told its place. Blocks of a plot are drawn as
boxes: fonts differ. Light for paper and for readers who like it light, dark for the others; each on
a ground of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from unicodedata import east_asian_width

CELL_X, CELL_Y = 8.4, 18  # of a letter 14 high
BASE_Y = 13.5  # where letters stand in their cell
MARGIN = 12
BLOCKS = "▁▂▃▄▅▆▇█"  # eighths of a cell

# The terminal's palette (agent/cli/display.py): colour -> class.
_CLASSES: Mapping[str, str] = {"5fafd7": "good", "ffaf00": "warn", "ff5f00": "bad"}
_STYLE = """\
svg { --ground: #fdfdfc; --edge: #c9c9c5; --ink: #222; --good: #0b5f8a; --warn: #8a5600; --bad: #b03000 }
@media (prefers-color-scheme: dark) {
svg { --ground: #16191d; --edge: #3a3f45; --ink: #e4e4e0; --good: #5fafd7; --warn: #ffaf00; --bad: #ff7a33 }
}
text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK JP",
 "Noto Sans CJK JP", "Hiragino Sans", "BIZ UDGothic", "MS Gothic", monospace; white-space: pre }
text, rect { fill: var(--ink) }
.wide { font-size: 16px }
.good { fill: var(--good) } .warn { fill: var(--warn) } .bad { fill: var(--bad) }
.bold { font-weight: bold } .turned { fill: var(--ground) }
.ground { fill: var(--ground); stroke: var(--edge) }
"""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Look:
    """How a letter is painted."""

    colour: str = "default"  # as six hexadecimal digits
    is_bold: bool = False
    is_turned: bool = False  # ground and ink exchanged

    @property
    def classes(self) -> str:
        """Its CSS classes. Raises KeyError for a colour that is not the palette's."""
        names = [] if self.colour == "default" else [_CLASSES[self.colour]]
        return " ".join(names + ["bold"] * self.is_bold)


Cell = tuple[str, Look]  # "" right of a wide letter


def svg(lines: Sequence[Sequence[Cell]], *, title: str, language: str) -> str:
    """Return the picture of a screen; empty lines at its end are left out."""
    kept = list(lines)
    while kept and all(not letter.strip() for letter, _ in kept[-1]):
        kept.pop()
    width = max(map(len, kept), default=0) * CELL_X + 2 * MARGIN
    height = len(kept) * CELL_Y + 2 * MARGIN
    box = f'width="{width - 1:.0f}" height="{height - 1}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" role="img" xml:lang="{language}">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}</style>",
        f'<rect class="ground" x=".5" y=".5" {box} rx="6"/>',
    ]
    for row, line in enumerate(kept):
        for column, letters, look in _runs(line):
            parts += _drawn(row, column, letters, look)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _runs(line: Sequence[Cell]) -> Iterator[tuple[int, str, Look]]:
    """Yield what is painted alike and equally wide: its first column, its letters, its look."""
    placed = [(at, letter, look) for at, (letter, look) in enumerate(line) if letter]
    for (kind, look), run in groupby(placed, key=lambda each: (_kind(each[1]), each[2])):
        cells = list(run)
        text = "".join(letter for _, letter, _ in cells)
        if kind == "narrow" and not look.is_turned:
            yield from _words(cells[0][0], text, look)
        elif text.strip() or look.is_turned:
            yield cells[0][0], text, look


def _words(column: int, text: str, look: Look) -> Iterator[tuple[int, str, Look]]:
    """Yield parts without wide gaps: a gap is nothing to draw."""
    for part in text.split("  "):
        if part.strip():
            yield column + len(part) - len(part.lstrip()), part.strip(), look
        column += len(part) + 2


def _kind(letter: str) -> str:
    if letter in BLOCKS:
        return "block"
    return "wide" if east_asian_width(letter) in "WF" else "narrow"


def _drawn(row: int, column: int, letters: str, look: Look) -> Iterator[str]:
    x, y = MARGIN + column * CELL_X, MARGIN + row * CELL_Y
    kind, classes = _kind(letters[0]), look.classes
    if kind == "block":
        for at, letter in enumerate(letters):
            tall = CELL_Y * (BLOCKS.index(letter) + 1) / len(BLOCKS)
            left, top = x + at * CELL_X, y + CELL_Y - tall
            yield _box(classes, left, top, CELL_X - 0.9, tall)
        return
    long = len(letters) * CELL_X * (2 if kind == "wide" else 1)
    if look.is_turned:
        yield _box(classes, x, y, long, CELL_Y)
        classes = "turned"
    if kind == "wide":
        classes = f"{classes} wide".strip()
        place = 'x="' + " ".join(f"{x + 2 * at * CELL_X:.1f}" for at in range(len(letters))) + '"'
    else:
        place = f'x="{x:.1f}" textLength="{long:.1f}"'
    if letters.strip():
        text = escape(letters, quote=False)
        yield f'<text{_classed(classes)} {place} y="{y + BASE_Y}">{text}</text>'


def _box(classes: str, x: float, y: float, width: float, height: float) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f"<rect{_classed(classes)} {place}/>"


def _classed(classes: str) -> str:
    return f' class="{classes}"' if classes else ""
