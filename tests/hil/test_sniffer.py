"""The sniffer: what it takes for in flight, however the bytes are cut."""

from __future__ import annotations

import pytest

from hil.sniffer import PacketFramer, Sniffer


def publish(mid: int, topic: str = "yukimi/v1/site-01/live/snow", *, size: int = 300) -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + mid.to_bytes(2, "big") + bytes(size)
    low, high = len(body) & 0x7F | 0x80, len(body) >> 7
    return bytes((0x32, low, high)) + body


def puback(mid: int) -> bytes:
    return b"\x40\x02" + mid.to_bytes(2, "big")


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_a_packet_is_found_however_it_is_cut(step: int) -> None:
    stream = publish(1) + puback(1) + publish(2) + b"\xc0\x00" + puback(2)[:-1]
    framer = PacketFramer()
    found = [
        packet
        for at in range(0, len(stream), step)
        for packet in framer.feed(stream[at : at + step])
    ]
    assert [first for first, _ in found] == [0x32, 0x40, 0x32, 0xC0]
    assert found[0][1] == publish(1)[3:]


def test_the_highest_number_of_unanswered_messages_is_kept() -> None:
    sniffer = Sniffer()
    hear = sniffer.new_ear()
    hear(True, publish(1) + publish(2))
    hear(False, puback(1))
    hear(True, publish(3))
    assert (sniffer.messages, sniffer.highest) == (3, 2)
    hear(True, publish(4))
    assert sniffer.highest == 3


def test_connections_are_counted_apart_and_status_is_no_record() -> None:
    sniffer = Sniffer()
    for _ in range(3):
        sniffer.new_ear()(True, publish(1) + publish(2, "yukimi/v1/site-01/status"))
    assert (sniffer.messages, sniffer.highest) == (3, 1)
