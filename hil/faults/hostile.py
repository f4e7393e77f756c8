"""A broker that means harm: garbage, packets without end, floods, and a line dropped at each word.

Until it is told to be honest: then it carries every byte to a real one, so that what a gateway kept
through all of it can be counted.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from typing import Literal, Self

Way = Literal["garbage", "endless packet", "flood", "drops each word", "honest"]

CHUNK_BYTES = 65_536
CONNACK = bytes((0x20, 0x03, 0x00, 0x00, 0x00))  # MQTT 5: accepted, no properties
LARGEST = bytes((0xFF, 0xFF, 0xFF, 0x7F))  # as a remaining length: 256 MiB less one
MOST_BYTES = 64 * 2**20  # of what one connection is sent


class HostileBroker:
    """Listens on `port`; `way` may be changed at any time, for connections to come."""

    def __init__(self, honest_port: int, topic: str, *, seed: int = 0) -> None:
        """`honest_port` is the real broker's, on this machine; `topic` is what a flood is about."""
        self.way: Way = "garbage"
        self.connections = 0
        self.sent_bytes = 0
        self._honest_port = honest_port
        self._topic = topic.encode()
        self._dice = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="hostile broker", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[near, self.way], daemon=True).start()

    def _serve(self, near: socket.socket, way: Way) -> None:
        acts: dict[Way, Callable[[socket.socket], None]] = {
            "garbage": self._garbage,
            "endless packet": self._endless,
            "flood": self._flood,
            "drops each word": self._drop,
            "honest": self._carry,
        }
        with near:
            try:
                acts[way](near)
            except OSError:
                return  # the other side has had enough

    def _garbage(self, near: socket.socket) -> None:
        near.recv(CHUNK_BYTES)
        if self._dice.random() < 0.5:  # garbage as an answer, or after a good one
            near.sendall(CONNACK)
        self._send(near, self._dice.randbytes(self._dice.choice((1, 5, 300, CHUNK_BYTES))))

    def _endless(self, near: socket.socket) -> None:
        near.recv(CHUNK_BYTES)
        near.sendall(CONNACK)
        near.sendall(b"\x30" + LARGEST)  # a PUBLISH
        for _ in range(MOST_BYTES // CHUNK_BYTES):
            self._send(near, bytes(CHUNK_BYTES))

    def _flood(self, near: socket.socket) -> None:
        near.recv(CHUNK_BYTES)
        near.sendall(CONNACK)
        body = len(self._topic).to_bytes(2, "big") + self._topic + b"\x00" + b"x" * 100
        message = bytes((0x30, len(body))) + body
        many = message * (CHUNK_BYTES // len(message))
        near.settimeout(30.0)
        for _ in range(MOST_BYTES // 4 // CHUNK_BYTES):
            self._send(near, many)

    def _drop(self, near: socket.socket) -> None:
        near.recv(CHUNK_BYTES)
        if self._dice.random() < 0.5:
            near.sendall(CONNACK)
            near.recv(CHUNK_BYTES)

    def _carry(self, near: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._honest_port)) as far:
            back = threading.Thread(target=_pour, args=[far, near], daemon=True)
            back.start()
            _pour(near, far)
            back.join()

    def _send(self, near: socket.socket, data: bytes) -> None:
        near.sendall(data)
        self.sent_bytes += len(data)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
