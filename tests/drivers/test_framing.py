from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.framing import LineFramer

STREAM = b"R1234\rbanner \xff\r\rR0500\r"


def lines(framer: LineFramer, *chunks: bytes) -> list[bytes]:
    return [line for chunk in chunks for line in framer.feed(chunk)]


def test_a_line_comes_out_when_its_end_arrives() -> None:
    framer = LineFramer(end=b"\n")
    assert lines(framer, b"t=2") == []
    assert lines(framer, b"1.5\r\nt=") == [b"t=21.5"]


def test_byte_by_byte_equals_whole() -> None:
    whole = lines(LineFramer(end=b"\r"), STREAM)
    assert whole == [b"R1234", b"banner \xff", b"", b"R0500"]
    assert lines(LineFramer(end=b"\r"), *(bytes((byte,)) for byte in STREAM)) == whole


def test_a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    framer = LineFramer(end=b"\r", max_bytes=5)
    assert lines(framer, b"R1234\r") == [b"R1234"]
    assert lines(framer, b"R12345\rR0001\r") == [b"R0001"]
    assert framer.overlong == 1


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
def test_an_endless_line_is_dropped_and_counted_once(chunk_bytes: int) -> None:
    framer = LineFramer(end=b"\r", max_bytes=16)
    for _ in range(1000):
        assert lines(framer, b"x" * chunk_bytes) == []
    assert lines(framer, b"x\rR0001\r") == [b"R0001"]
    assert framer.overlong == 1


@settings(deadline=None)
@given(st.data())
def test_any_slicing_gives_the_same_lines_and_counts(data: st.DataObject) -> None:
    stream = data.draw(st.lists(st.sampled_from([b"R1234", b"\r", b"x" * 9, b"\n"])).map(b"".join))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    whole, sliced = LineFramer(end=b"\r", max_bytes=8), LineFramer(end=b"\r", max_bytes=8)
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert lines(sliced, *chunks) == lines(whole, stream)
    assert sliced.overlong == whole.overlong
