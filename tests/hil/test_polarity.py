"""A swapped pair: what a UART makes of levels that are upside down."""

from __future__ import annotations

from hil.buses import SerialLine
from hil.devices.maxbotix import MaxBotixDevice
from hil.polarity import Reversed, reversed_polarity


def test_a_byte_is_heard_from_its_first_falling_edge_on() -> None:
    # 0x01: start 0, bits 1 0 0 0 0 0 0 0, stop 1; upside down 1 | 0 1 1 1 1 1 1 1 | 0. The first
    # data bit looks like a start bit: heard are seven ones, and the stop bit as the eighth, a zero.
    heard, errors, breaks = reversed_polarity(b"\x01")
    assert heard == b"\x00\x7f"  # the line at rest before it is a break
    assert (errors, breaks) == (1, 1)


def test_nothing_said_is_nothing_heard() -> None:
    assert reversed_polarity(b"")[0] in (b"", b"\x00", b"\x00\x00")
    assert Reversed(MaxBotixDevice(lambda _: 40.0)).speak(0.0) != b""


def test_no_frame_of_a_talker_survives_and_the_errors_are_counted() -> None:
    device = Reversed(MaxBotixDevice(lambda _: 40.0))
    line = SerialLine([device])
    heard = b"".join(line.carry(b"", at_s / 10) for at_s in range(100))
    assert len(heard) > 100
    assert b"R" not in heard.replace(b"\x00", b"") or b"\r" not in heard
    assert device.framing_errors + device.breaks > 50
