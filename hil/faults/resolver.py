"""A name server that knows a few names, falls silent, or knows nothing any more."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from .ongoing import Heal, Ongoing

PORT = 53
_LOOK_S = 0.2
_HEADER = struct.Struct("!HHHHHH")
_ANSWERS, _NO_SUCH_NAME = 0x8580, 0x8583  # authoritative, recursion asked for and available
_A = 1
_TTL_S = 0  # nobody is to remember it


class Resolver:
    """Answers DNS questions on UDP, at `host` port 53 or another; IPv4 addresses only."""

    def __init__(self, host: str, names: Mapping[str, str], *, port: int = PORT) -> None:
        self.asked = 0
        self._names = dict(names)
        self._silent = Ongoing[None]()
        self._ignorant = Ongoing[None]()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(_LOOK_S)
        self.port: int = self._socket.getsockname()[1]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="resolver", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def silence(self) -> Heal:
        """Answer nothing."""
        return self._silent.begin(None)

    def forget(self) -> Heal:
        """Know no name: NXDOMAIN."""
        return self._ignorant.begin(None)

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                question, asker = self._socket.recvfrom(512)
                self.asked += 1
                if not self._silent:
                    self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        number, _, _, _, _, _ = _HEADER.unpack_from(question)
        labels, at = [], _HEADER.size
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
        (kind,) = struct.unpack_from("!H", question, at + 1)
        asked = question[_HEADER.size : at + 5]
        address = None if self._ignorant else self._names.get(".".join(labels).lower())
        if address is None:
            return _HEADER.pack(number, _NO_SUCH_NAME, 1, 0, 0, 0) + asked
        if kind != _A:  # the name is known, and has no such record
            return _HEADER.pack(number, _ANSWERS, 1, 0, 0, 0) + asked
        record = struct.pack("!HHHIH", 0xC00C, _A, 1, _TTL_S, 4) + socket.inet_aton(address)
        return _HEADER.pack(number, _ANSWERS, 1, 1, 0, 0) + asked + record
