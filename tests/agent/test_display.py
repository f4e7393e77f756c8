"""Columns line up by the terminal's cells, whatever is in them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import display
from agent.cli.display import cells, clip, has_colour, pad, paint, printable, table, wrap

PAINTED = "\x1b[1;38;5;202m積雪\x1b[0m"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snow", 4),
        ("積雪", 4),
        ("ﾕｷ", 2),  # half-width katakana
        ("カ\u3099", 2),  # a combining voiced sound mark
        ("e\u0301", 1),
        ("１２", 4),
        (PAINTED, 4),
        ("", 0),
    ],
)
def test_a_text_takes_as_many_cells_as_the_terminal_gives_it(text: str, expected: int) -> None:
    assert cells(text) == expected


def test_what_is_cut_says_so_and_never_splits_a_character() -> None:
    assert clip("積雪センサー", 7) == "積雪セ~"
    assert clip("積雪センサー", 6) == "積雪~"  # a half character would not fit
    assert clip("snow", 4) == "snow"
    assert clip(PAINTED, 3) == "\x1b[1;38;5;202m積~\x1b[0m"


@given(st.text(alphabet="ab 積雪、。（）カ\u3099%é", max_size=40), st.integers(1, 20))
def test_cut_and_filled_a_text_is_never_too_wide(text: str, width: int) -> None:
    assert cells(clip(text, width)) <= width
    if "\u3099" not in text[:1]:
        assert cells(pad(clip(text, width), width)) == width


@given(st.text(alphabet="ab 積雪、。（）カ", max_size=80), st.integers(8, 30))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = wrap(text, width, hang="  ")
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_japanese_line_begins_with_no_comma_and_ends_with_no_bracket() -> None:
    text = "記録は、装置（センサー）から、順に、届きます。"
    for width in range(8, 40):
        for line in wrap(text, width):
            assert line[0] not in "、。）"
            assert line[-1] != "（"


def test_english_breaks_between_words() -> None:
    assert wrap("one two three", 8, first="- ", hang="  ") == ["- one", "  two", "  three"]


def test_columns_line_up_by_cells() -> None:
    rows = [("snow-1", "積雪", "42.1"), ("空気", "air", "-3.25")]
    assert table(rows, head=("id", "種類", "値"), align="llr") == [
        "id      種類     値",
        "snow-1  積雪   42.1",
        "空気    air   -3.25",
    ]


def test_the_last_column_goes_on_below_itself() -> None:
    lines = table([("a", "one two three four five"), ("bb", "six")], width=24, indent=" ")
    assert lines == [" a   one two three four", "     five", " bb  six"]


def test_text_from_a_device_cannot_move_the_cursor() -> None:
    assert printable("SHM31\x1b[2J\r\n\u202e") == "SHM31?[2J???"
    assert printable("積雪計") == "積雪計"


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint("bad", "bad", Terminal()) != "bad"
    assert paint("bad", "bad", io.StringIO()) == "bad"
    assert not has_colour(Terminal(), {"NO_COLOR": "1"})
    assert not has_colour(Terminal(), {"TERM": "dumb"})
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("bad", "bad", Terminal()) == "bad"


def test_a_pipe_is_as_wide_as_reads_well() -> None:
    assert display.line_cells(io.StringIO()) == display.WIDEST_CELLS
