"""What a people sensor sees now, drawn with characters, for who stands before it and agreed.

`drawn` is pure: a scene in, lines out. Brightness alone tells how warm a pixel is, so that it can
be read without telling colours apart; where the terminal has shades of grey they are used, else
characters that look darker or brighter. `Screen` shows such lines in place, on the terminal's
other page, so that nothing of it stays when it ends. No picture is kept.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from drivers.base import OPPOSITE, Scene

from .language import Text, said

SPAN_K = 6.0  # from black to white: bare heads indoors
CELL_COLUMNS, CELL_ROWS = 32, 16  # of the screen, for all pixels of a thermal array
PLAN_COLUMNS, PLAN_ROWS = 60, 14  # for a radar's field
BEAM_COLUMNS = 24
REFRESH_S = 0.2

ASCII_SHADES, BLOCK_SHADES = " .:-=+*#%@", " ░▒▓█"
FIRST_GREY, GREYS = 232, 24  # of the 256 colours, dark to bright

OTHER_PAGE, OWN_PAGE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_PAGE = "\x1b[H", "\x1b[K", "\x1b[J"
PLAIN = "\x1b[0m"


COUNTED = Text("counted: {counts}", "通過の合計: {counts}")
FOLLOWED = Text("followed {count}", "追跡中 {count}")
SCALE = Text("the place [{shades}] {span_k:g} K warmer", "周囲の温度 [{shades}] +{span_k:g} K")
DOTS = Text("> the sensor; dots are 1 {unit} apart", "> センサー。点の間隔は 1 {unit}")
BEAM = Text("beam {name}", "ビーム {name}")
BLOCKED, FREE = Text("blocked", "遮断"), Text("free", "通過")
ORDER = Text("{first} before {last} is {way}", "{first} が {last} より先なら {way}")


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal can show."""

    unicode: bool = False
    greys: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Look:
        """Find out what `stream` can show."""
        encoding = (stream.encoding or "").lower().replace("-", "")
        has_colours = "256" in environment.get("TERM", "") or environment.get("COLORTERM") in (
            "truecolor",
            "24bit",
        )
        is_grey = stream.isatty() and has_colours and not environment.get("NO_COLOR")
        return cls(unicode=encoding.startswith("utf"), greys=is_grey)

    @property
    def line(self) -> str:
        """The counting line."""
        return "│" if self.unicode else "|"

    @property
    def arrows(self) -> tuple[str, str]:
        """To the right, and to the left."""
        return ("──▶", "◀──") if self.unicode else ("-->", "<--")

    @property
    def shades(self) -> str:
        """Characters from dark to bright."""
        return BLOCK_SHADES if self.unicode else ASCII_SHADES


def drawn(scene: Scene, counts: Mapping[str, int], look: Look) -> list[str]:
    """Return the lines of a picture: the field, the ways' names, and what was counted so far."""
    counted = said(COUNTED, counts="   ".join(f"{way} {count}" for way, count in counts.items()))
    if scene.beams:
        return [*_beams(scene), counted]
    field = [*_thermal(scene, look), _scale(look)] if scene.warmth_k else _plan(scene, look)
    right, left = look.arrows
    ways = f"{left} {OPPOSITE[scene.forward]}   {scene.forward} {right}"
    return [*field, ways, f"{counted}   {said(FOLLOWED, count=len(scene.people))}"]


def letter(number: int) -> str:
    """Return who it is, as long as they are seen; letters come again."""
    return chr(ord("A") + number % 26)


def _thermal(scene: Scene, look: Look) -> list[str]:
    rows, columns = len(scene.warmth_k), len(scene.warmth_k[0])
    wide, high = CELL_COLUMNS // columns, max(2, CELL_ROWS // max(rows, columns))
    marks = {
        (round((across + 0.5) * high), round((along + 0.5) * wide)): letter(number)
        for number, along, across in scene.people
    }
    line_at = round((scene.line + 0.5) * wide)
    edge = "+" + "-" * (columns * wide) + "+"
    lines = [edge]
    for y in range(rows * high):
        warmth_k = scene.warmth_k[y // high]
        cells = []
        for x in range(columns * wide):
            mark = marks.get((y, x)) or (look.line if x == line_at else "")
            cells.append(_cell(warmth_k[x // wide], mark, look))
        lines.append("|" + "".join(cells) + (PLAIN if look.greys else "") + "|")
    return [*lines, edge]


def _cell(warmth_k: float, mark: str, look: Look) -> str:
    share = min(max(warmth_k / SPAN_K, 0.0), 1.0)
    if not look.greys:
        return mark or look.shades[round(share * (len(look.shades) - 1))]
    grey = round(share * (GREYS - 1))
    ink = FIRST_GREY if grey >= GREYS // 2 else FIRST_GREY + GREYS - 1
    return f"\x1b[48;5;{FIRST_GREY + grey};38;5;{ink}m{mark or ' '}"


def _scale(look: Look) -> str:
    steps = 10 if look.greys else len(look.shades)
    shades = "".join(_cell(SPAN_K * i / (steps - 1), "", look) for i in range(steps))
    shown = f"{shades}{PLAIN if look.greys else ''}"
    return said(SCALE, shades=shown, span_k=SPAN_K)


def _plan(scene: Scene, look: Look) -> list[str]:
    """Draw a field from above, the sensor at its left."""
    (near, far), (left, right) = scene.along, scene.across

    def column(along: float) -> int:
        return round((along - near) / (far - near) * (PLAN_COLUMNS - 1))

    def row(across: float) -> int:
        return round((across - left) / (right - left) * (PLAN_ROWS - 1))

    field = [[" "] * PLAN_COLUMNS for _ in range(PLAN_ROWS)]
    for x_m in range(int(near), int(far) + 1):
        for y_m in range(int(left), int(right) + 1):
            field[row(y_m)][column(x_m)] = "."
    for line in field:
        line[column(scene.line)] = look.line
    field[row(0.0)][0] = ">"
    for number, along, across in scene.people:
        if near <= along <= far and left <= across <= right:
            field[row(across)][column(along)] = letter(number)
    edge = "+" + "-" * PLAN_COLUMNS + "+"
    scale = said(DOTS, unit=scene.unit)
    return [edge, *("|" + "".join(line) + "|" for line in field), edge, scale]


def _beams(scene: Scene) -> list[str]:
    """Draw beams, and whether somebody is in them."""
    middle = BEAM_COLUMNS // 2 - 2
    lines = []
    for name, is_blocked in scene.beams:
        body = "####" if is_blocked else "----"
        ray = "-" * middle + body + "-" * middle
        lines.append(f"{said(BEAM, name=name)}  |{ray}|  {said(BLOCKED if is_blocked else FREE)}")
    first, last = scene.beams[0][0], scene.beams[-1][0]
    return [*lines, said(ORDER, first=first, last=last, way=scene.forward)]


class Screen:
    """Pictures one over the other on a terminal; nothing happens before the first `show`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_open = False
        self._shown_s = float("-inf")

    def show(self, lines: Sequence[str], at_s: float) -> None:
        """Show `lines`, as far as they fit, but not more often than is of use."""
        if at_s - self._shown_s < REFRESH_S:
            return
        self._shown_s = at_s
        size = shutil.get_terminal_size()
        # Lines are not cut: a terminal that is too narrow shows them so far, without wrapping.
        page = f"{REST_OF_LINE}\r\n".join(lines[: size.lines - 1])
        begin = HOME if self._is_open else OTHER_PAGE + HOME + "\x1b[?7l"
        self._is_open = True
        self._stream.write(f"{begin}{page}{REST_OF_LINE}{REST_OF_PAGE}")
        self._stream.flush()

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._is_open:
            self._is_open = False
            self._stream.write(f"\x1b[?7h{OWN_PAGE}")
            self._stream.flush()
