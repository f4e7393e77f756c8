"""MQTT packets in a stream of bytes, as far as measuring needs them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

CONNECT = b"\x10"
SUBSCRIBE = b"\x82"
PUBLISH, PUBACK = 0x30, 0x40
MQTT_311, MQTT_5 = 4, 5
RECORD_BEGINS = b'{"stream":'


@dataclass(frozen=True, slots=True)
class Packet:
    """One control packet; a PUBLISH has its topic and payload."""

    kind: int  # the high half of its first byte
    topic: str = ""
    payload: bytes = b""
    size_bytes: int = 0  # of all of it

    @property
    def lane(self) -> str:
        """The part of a gateway's topic that says what it is: live, backlog, health, status."""
        return self.topic.split("/")[-2] if self.topic.count("/") > 3 else ""

    @property
    def records(self) -> int:
        """How many records a batch holds."""
        if self.kind != PUBLISH or not self.lane:
            return 0
        return self.plain.count(RECORD_BEGINS)

    @property
    def plain(self) -> bytes:
        """The payload, inflated where it is deflated."""
        return zlib.decompress(self.payload) if self.payload[:1] == b"\x78" else self.payload


class Splitter:
    """Cuts one direction of a connection into packets, however the bytes are sliced."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """Yield the packets that `chunk` completes."""
        self._rest += chunk
        at = 0
        while (bounds := _bounds(self._rest, at)) is not None:
            begin, end = bounds
            yield self._packet(self._rest[at], bytes(self._rest[begin:end]), end - at)
            at = end
        del self._rest[:at]

    def _packet(self, first: int, body: bytes, size_bytes: int) -> Packet:
        kind = first & 0xF0
        if kind != PUBLISH:
            return Packet(kind, size_bytes=size_bytes)
        size = int.from_bytes(body[:2], "big")
        topic, at = body[2 : 2 + size].decode(), 2 + size
        if first & 0x06:
            at += 2  # the packet's identifier
        if self._version == MQTT_5:
            length, at = _length(body, at) or (0, at)
            at += length
        return Packet(kind, topic, body[at:], size_bytes)


def _bounds(stream: bytearray, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` begins and ends, None if it is not all there."""
    found = _length(stream, at + 1)
    if found is None or found[1] + found[0] > len(stream):
        return None
    return found[1], found[1] + found[0]


def _length(stream: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Return a variable byte integer and the place behind it."""
    value, shift = 0, 0
    for place in range(at, min(at + 4, len(stream))):
        value |= (stream[place] & 0x7F) << shift
        if stream[place] < 0x80:
            return value, place + 1
        shift += 7
    return None


def connect(client_id: str) -> bytes:
    """Return the bytes of a CONNECT, 3.1.1, clean, without keepalive."""
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + _text(client_id)
    return CONNECT + bytes((len(body),)) + body


def subscribe(topic: str) -> bytes:
    """Return the bytes of a SUBSCRIBE with QoS 0."""
    body = struct.pack(">H", 1) + _text(topic) + b"\x00"
    return SUBSCRIBE + bytes((len(body),)) + body


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()
