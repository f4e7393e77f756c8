"""The rivals' account: what arrives is understood, and what is missing is seen."""

from __future__ import annotations

import pytest

from hil.bench.peers import Counting
from hil.bench.rivals import numbers


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b'{"3": 17}', [("3", 17)]),
        (
            b'{"line-0": [{"ts": 5, "values": {"v": 1}}, {"ts": 6, "values": {"v": 2}}]}',
            [("line-0", 1), ("line-0", 2)],
        ),
        (b'{"line-0": [{"ts": 5, "values": {"other": 1}}]}', []),
        (b"online", []),
        (b"[1, 2]", []),
    ],
)
def test_a_message_of_any_rival_is_understood(payload: bytes, told: list[tuple[str, int]]) -> None:
    assert list(numbers(payload)) == told


def test_a_line_says_one_number_a_second_and_skips_none_for_having_been_silent() -> None:
    line = Counting()
    assert line.speak(100.0) == b""
    line.is_silent = False
    assert [line.speak(at_s) for at_s in (100.0, 100.5, 101.0)] == [b"1\n", b"", b"2\n"]
    line.is_silent = True
    assert line.speak(102.0) == b""
    line.is_silent = False
    assert line.speak(110.0) == b"3\n"
    assert line.speak(110.5) == b""
