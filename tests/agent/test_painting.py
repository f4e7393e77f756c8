"""What is written turns one screen into the next, and is no more than what differs."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.text import Text as Line

from agent.cli.display import cells
from agent.cli.painting import Painter

COLUMNS, LINES = 20, 6
PLAIN = {"TERM": "xterm-256color"}

pieces = st.tuples(
    st.text(alphabet="ab 積雪ｶ、e\u0301▁", max_size=8), st.sampled_from(["", "good", "bad", "head"])
)
pictures = st.lists(st.lists(pieces, max_size=4), max_size=LINES + 2)


def picture(lines: list[list[tuple[str, str]]]) -> Group:
    shown = []
    for each in lines:
        line = Line(no_wrap=True)
        for text, style in each:
            line.append(text, style or None)
        shown.append(line)
    return Group(*shown)


class Terminal:
    """A terminal that is written to."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self.screen.reset_mode(pyte.modes.DECAWM)
        self._stream = pyte.Stream(self.screen)
        self.written = 0

    def write(self, text: str) -> None:
        self.written = len(text)
        self._stream.feed(text)

    @property
    def look(self) -> list[list[tuple[str, str, bool, bool]]]:
        """Each cell: its character, colour, and whether it is bold or reversed."""
        found = []
        for y in range(LINES):
            row = self.screen.buffer[y]
            cells = [row[x] for x in range(COLUMNS)]
            found.append([(each.data or "", each.fg, each.bold, each.reverse) for each in cells])
        return found


@given(st.lists(pictures, min_size=1, max_size=5))
def test_from_any_screen_to_any_other_the_terminal_shows_what_is_meant(
    sequence: list[list[list[tuple[str, str]]]],
) -> None:
    terminal, painter = Terminal(), Painter(COLUMNS, LINES, PLAIN)
    for lines in sequence:
        terminal.write(painter.change_to(picture(lines)))
    fresh = Terminal()
    fresh.write(Painter(COLUMNS, LINES, PLAIN).change_to(picture(sequence[-1])))
    assert terminal.look == fresh.look


def test_what_is_the_same_is_not_written_again() -> None:
    terminal, painter = Terminal(), Painter(COLUMNS, LINES, PLAIN)
    terminal.write(painter.change_to(picture([[("積雪 42.1", "")], [("air -3.2", "good")]])))
    assert painter.change_to(picture([[("積雪 42.1", "")], [("air -3.2", "good")]])) == ""
    change = painter.change_to(picture([[("積雪 42.2", "")], [("air -3.2", "good")]]))
    assert change == "\x1b[1;9H2"


def test_a_list_that_gets_a_new_head_is_moved_and_not_written() -> None:
    terminal, painter = Terminal(), Painter(COLUMNS, LINES, PLAIN)
    rows = [f"record {number} of many" for number in range(9, 0, -1)]
    for first in (3, 2):
        text = painter.change_to(
            picture([[("records", "head")], *([(r, "")] for r in rows[first:])])
        )
        terminal.write(text)
    assert [line.rstrip() for line in terminal.screen.display][1:] == rows[2:7]
    assert len(text) < 60


def test_a_wide_character_that_does_not_fit_is_left_out_whole() -> None:
    terminal, painter = Terminal(), Painter(COLUMNS, LINES, PLAIN)
    terminal.write(painter.change_to(picture([[("a" * (COLUMNS - 1) + "雪", "")]])))
    assert terminal.screen.display[0] == "a" * (COLUMNS - 1) + " "
    assert all(cells(line) == COLUMNS for line in terminal.screen.display)


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm-256color"}, ["\x1b[38;5;74m", "38;5;202m"]),
        ({"TERM": "linux"}, ["\x1b[36m"]),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, []),
    ],
)
def test_colours_are_those_that_the_terminal_has(
    environment: dict[str, str], colours: list[str]
) -> None:
    painter = Painter(COLUMNS, LINES, environment)
    text = painter.change_to(picture([[("ok", "good"), ("SILENT", "bad")]]))
    assert all(each in text for each in colours)
    if not colours:
        assert "38;" not in text and "36m" not in text
