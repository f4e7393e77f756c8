"""What the wire says of a gateway's window: messages with records that nobody acknowledged yet.

Reads MQTT from the bytes that a relay carries. The relay sees a message after the gateway sent it
and an acknowledgement before the gateway has it, so what is counted here is never more than what
the gateway itself holds in flight.
"""

from __future__ import annotations

from collections.abc import Iterator

from .relay import Ear

_PUBLISH, _PUBACK = 3, 4
_QOS = 0x06
_RECORD_LANES = frozenset((b"live", b"backlog", b"alert"))


class Sniffer:
    """Overhears every connection of a relay: `Relay(..., new_ear=sniffer.new_ear)`."""

    def __init__(self) -> None:
        self.messages = 0  # with records, in all
        self.highest = 0  # of them without an acknowledgement at one time, on one connection

    def new_ear(self) -> Ear:
        """Return what overhears one connection."""
        unanswered: set[int] = set()
        framers = {True: PacketFramer(), False: PacketFramer()}

        def hear(to_target: bool, chunk: bytes) -> None:
            for first, body in framers[to_target].feed(chunk):
                if not to_target and first >> 4 == _PUBACK:
                    unanswered.discard(int.from_bytes(body[:2], "big"))
                elif to_target and first >> 4 == _PUBLISH and first & _QOS:
                    end = 2 + int.from_bytes(body[:2], "big")
                    if _RECORD_LANES & set(body[2:end].split(b"/")[-2:-1]):
                        unanswered.add(int.from_bytes(body[end : end + 2], "big"))
                        self.messages += 1
                        self.highest = max(self.highest, len(unanswered))

        return hear


class PacketFramer:
    """Cuts a stream of bytes into MQTT packets: the first byte, and what follows the length."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Take some bytes; yield the packets that are complete."""
        self._rest += chunk
        while (packet := self._cut()) is not None:
            yield packet

    def _cut(self) -> tuple[int, bytes] | None:
        length = 0
        for index, byte in enumerate(self._rest[1:5]):  # seven bits a byte, the lowest first
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                begin, end = index + 2, index + 2 + length
                if len(self._rest) < end:
                    return None
                packet = self._rest[0], self._rest[begin:end]
                self._rest = self._rest[end:]
                return packet
        return None
