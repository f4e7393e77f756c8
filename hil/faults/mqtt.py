"""A broker that misbehaves, by its words: packets of MQTT that are swallowed, or answered for it.

It reads what passes a relay, so only MQTT without TLS can be meddled with.
"""

from __future__ import annotations

from ..connection import Meddler
from ..sniffer import PacketFramer
from .ongoing import Heal, Ongoing

NOT_AUTHORISED = 0x87
QUOTA_EXCEEDED = 0x97

_CONNECT, _PUBLISH, _PUBACK = 1, 3, 4
_QOS = 0x06
_MQTT_5 = 5
_V3_NOT_AUTHORISED = 5


class MqttFaults:
    """Meddles with every connection of a relay: `Relay(..., new_meddler=faults.new_meddler)`."""

    def __init__(self) -> None:
        self.swallowed = 0  # acknowledgements
        self.refused = 0  # messages and logins
        self._mute = Ongoing[None]()
        self._codes = Ongoing[int]()
        self._login_codes = Ongoing[int]()

    def never_acknowledge(self) -> Heal:
        """Swallow every PUBACK: the broker has the messages, and nobody hears of it."""
        return self._mute.begin(None)

    def refuse_messages(self, code: int) -> Heal:
        """Answer every message with QoS 1 by this reason code, and keep it from the broker.

        In MQTT 5 only: before it a broker could not say no.
        """
        return self._codes.begin(code)

    def refuse_logins(self, code: int = NOT_AUTHORISED) -> Heal:
        """Answer every CONNECT by this reason code; of who is connected nothing changes.

        In MQTT 3.1.1 it is "not authorised", whatever the code.
        """
        return self._login_codes.begin(code)

    def heal(self) -> None:
        """Undo every fault."""
        self._mute.heal()
        self._codes.heal()
        self._login_codes.heal()

    def new_meddler(self) -> Meddler:
        """Return what meddles with one connection."""
        framers = {True: PacketFramer(), False: PacketFramer()}
        versions: list[int] = []

        def meddle(to_target: bool, chunk: bytes) -> tuple[bytes, bytes]:
            onward, back = b"", b""
            for first, body in framers[to_target].feed(chunk):
                kind = first >> 4
                if to_target and kind == _CONNECT:
                    versions.append(_version(body))
                answer = self._answer(kind, first, body, versions[-1:]) if to_target else None
                if answer is not None:
                    self.refused += 1
                    back += answer
                elif not to_target and kind == _PUBACK and self._mute:
                    self.swallowed += 1
                else:
                    onward += _packet(first, body)
            return onward, back

        return meddle

    def _answer(self, kind: int, first: int, body: bytes, version: list[int]) -> bytes | None:
        """Return what is said in the broker's name; None where the broker may answer itself."""
        speaks_5 = version == [_MQTT_5]
        if kind == _CONNECT and self._login_codes:
            code = list(self._login_codes)[-1]
            return _packet(
                0x20, bytes((0, code, 0)) if speaks_5 else bytes((0, _V3_NOT_AUTHORISED))
            )
        if kind == _PUBLISH and first & _QOS and self._codes and speaks_5:
            begin = 2 + int.from_bytes(body[:2], "big")
            return _packet(0x40, body[begin : begin + 2] + bytes((list(self._codes)[-1],)))
        return None


def _version(connect: bytes) -> int:
    """Return the protocol level of a CONNECT: it follows the protocol's name."""
    at = 2 + int.from_bytes(connect[:2], "big")
    return connect[at] if at < len(connect) else 0


def _packet(first: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:  # seven bits a byte, the lowest first
        length, digit = length >> 7, length & 0x7F
        digits.append(digit | 0x80 if length else digit)
        if not length:
            return bytes((first, *digits)) + body
