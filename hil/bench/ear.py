"""The cheapest subscriber there can be: MQTT 3.1.1, QoS 0, and it keeps what comes, unread.

Its thread does nothing but `recv` and note the time, so that on a small machine the daemon and the
broker keep their cores; what the bytes mean is looked at when the measurement is over. With it
there the broker answers each message with success, never with "nobody subscribes".
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from .mqtt import MQTT_311, PUBLISH, Packet, Splitter, connect, subscribe
from .process import BenchError

RECEIVE_BYTES = 2**18
LOOK_S = 0.1
ANSWERS_BYTES = 4 + 5  # CONNACK and SUBACK


@dataclass(frozen=True, slots=True)
class Heard:
    """A message, and when its last byte came."""

    at_s: float  # time.monotonic
    packet: Packet


class Ear:
    """A subscriber to `topic` at a broker, from entering to leaving."""

    def __init__(self, host: str, port: int, topic: str = "yukimi/v1/#") -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.sendall(connect("ear"))
        self._socket.sendall(subscribe(topic))
        answers = b""
        while len(answers) < ANSWERS_BYTES:
            answers += self._socket.recv(ANSWERS_BYTES - len(answers))
        if answers[3] or answers[-1]:
            raise BenchError(f"the broker refuses the subscriber: {answers.hex(' ')}")
        self._socket.settimeout(None)
        self._chunks: list[tuple[float, bytes]] = []
        self.heard_bytes = 0
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def messages(self) -> Iterator[Heard]:
        """Yield everything heard so far."""
        splitter = Splitter(MQTT_311)
        for at_s, chunk in list(self._chunks):
            for packet in splitter.feed(chunk):
                if packet.kind == PUBLISH:
                    yield Heard(at_s, packet)

    def wait_for(
        self, wanted: Callable[[Heard], bool], check: Callable[[], None], timeout_s: float
    ) -> Heard:
        """Wait until a message is as asked, and return it. Raises BenchError after `timeout_s`."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            for message in self.messages():
                if wanted(message):
                    return message
            check()
            time.sleep(LOOK_S)
        raise BenchError("the message that was waited for never came")

    def wait_quiet(self, quiet_s: float, check: Callable[[], None]) -> None:
        """Wait until nothing has come for `quiet_s`, after something has."""
        heard_bytes, since_s = self.heard_bytes, time.monotonic()
        while not heard_bytes or time.monotonic() - since_s < quiet_s:
            check()
            time.sleep(LOOK_S)
            if self.heard_bytes != heard_bytes:
                heard_bytes, since_s = self.heard_bytes, time.monotonic()

    def _listen(self) -> None:
        while chunk := self._socket.recv(RECEIVE_BYTES):
            self._chunks.append((time.monotonic(), chunk))
            self.heard_bytes += len(chunk)
