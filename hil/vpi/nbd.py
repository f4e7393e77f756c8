"""A disk with a volatile cache, served over NBD: what was not flushed is gone with the power.

Killing a machine does not test its flushes, because the host keeps what it wrote. Here a write
stays in the cache until the guest flushes, or forces that one write through (FUA); `cut` then loses
the rest, or keeps some of it, in no order, as real disks do. A `liar` says yes to each flush and
does nothing: on such a disk a gateway must lose records, else cutting proves nothing.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

BLOCK_BYTES = 4096

# github.com/NetworkBlockDevice/nbd, doc/proto.md
_MAGIC, _OPTION_MAGIC, _OPTION_REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
_REQUEST, _REPLY = 0x25609513, 0x67446698
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_INFO, _OPT_GO = 1, 2, 6, 7
_REP_ACK, _REP_INFO, _REP_UNSUPPORTED = 1, 3, 0x80000001
_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA = 1, 4, 8
_FLAGS = _HAS_FLAGS | _SEND_FLUSH | _SEND_FUA
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_FUA = 1
_EINVAL = 22


@dataclass(frozen=True, slots=True)
class Moment:
    """What was on a disk at one moment, and what only was in its cache."""

    durable: Mapping[int, bytes]
    cache: Mapping[int, bytes]


class VolatileDisk:
    """A file that is never written to, what was made durable since, and a cache."""

    def __init__(self, image: Path, *, liar: bool = False, seed: int = 0) -> None:
        self.size_bytes = image.stat().st_size
        self.flushes = 0
        self.liar = liar
        self._file = os.open(image, os.O_RDONLY)
        self._durable: dict[int, bytes] = {}
        self._cache: dict[int, bytes] = {}
        self._random = Random(seed)
        self._lock = threading.Lock()

    @property
    def unflushed(self) -> int:
        """How many blocks would be lost now."""
        return len(self._cache)

    def read(self, offset: int, length: int) -> bytes:
        """Return what the guest last wrote there."""
        with self._lock:
            first, last = offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES
            found = b"".join(self._block(number) for number in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return found[start : start + length]

    def write(self, offset: int, data: bytes, *, through: bool = False) -> None:
        """Take a write into the cache; `through`, into what lasts."""
        with self._lock:
            at = 0
            while at < len(data):
                number, inside = divmod(offset + at, BLOCK_BYTES)
                piece = data[at : at + BLOCK_BYTES - inside]
                block = piece
                if len(piece) < BLOCK_BYTES:
                    old = self._block(number)
                    block = old[:inside] + piece + old[inside + len(piece) :]
                if through and not self.liar:
                    self._cache.pop(number, None)
                    self._durable[number] = block
                else:
                    self._cache[number] = block
                at += len(piece)

    def flush(self) -> None:
        """Make durable what is in the cache; a liar only says so."""
        with self._lock:
            self.flushes += 1
            if not self.liar:
                self._durable |= self._cache
                self._cache.clear()

    def cut(self, survives: float = 0.0) -> int:
        """Take the power; return how many blocks were lost. Each survives with that chance."""
        with self._lock:
            kept = {
                number: block
                for number, block in self._cache.items()
                if self._random.random() < survives
            }
            lost = len(self._cache) - len(kept)
            self._durable |= kept
            self._cache.clear()
            return lost

    def moment(self) -> Moment:
        """Return how it is now."""
        with self._lock:
            return Moment(dict(self._durable), dict(self._cache))

    def return_to(self, moment: Moment) -> None:
        """Be as it was at that moment; the machine must be off, or it is confused."""
        with self._lock:
            self._durable, self._cache = dict(moment.durable), dict(moment.cache)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _block(self, number: int) -> bytes:
        for known in (self._cache, self._durable):
            if number in known:
                return known[number]
        block = os.pread(self._file, BLOCK_BYTES, number * BLOCK_BYTES)
        return block.ljust(BLOCK_BYTES, b"\0")


class NbdServer:
    """Serves one disk on a Unix socket to one machine at a time, until `close`."""

    def __init__(self, path: Path, disk: VolatileDisk) -> None:
        self.path = path
        self._disk = disk
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()  # a request is answered as a whole, or the power was gone
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, name="nbd", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        self._thread.join()

    def cut(self, survives: float = 0.0) -> int:
        """Take the power: from now on nothing reaches the disk; return how many blocks it lost."""
        with self._lock:
            lost = self._disk.cut(survives)
            self._hang_up()
        return lost

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with connection, suppress(OSError, EOFError):
                self._connection = connection
                if self._agree(connection):
                    self._answer(connection)

    def _agree(self, connection: socket.socket) -> bool:
        """Shake hands (the fixed newstyle); False if the client only wanted to know."""
        connection.sendall(struct.pack(">QQH", _MAGIC, _OPTION_MAGIC, 3))
        _take(connection, 4)
        while True:
            _, option, length = struct.unpack(">QII", _take(connection, 16))
            _take(connection, length)
            if option == _OPT_EXPORT_NAME:
                connection.sendall(struct.pack(">QH", self._disk.size_bytes, _FLAGS))
                return True

            def reply(kind: int, said: bytes = b"", option: int = option) -> None:
                head = struct.pack(">QIII", _OPTION_REPLY, option, kind, len(said))
                connection.sendall(head + said)

            if option in (_OPT_GO, _OPT_INFO):
                reply(_REP_INFO, struct.pack(">HQH", 0, self._disk.size_bytes, _FLAGS))
                reply(_REP_ACK)
                if option == _OPT_GO:
                    return True
            elif option == _OPT_ABORT:
                reply(_REP_ACK)
                return False
            else:
                reply(_REP_UNSUPPORTED)

    def _answer(self, connection: socket.socket) -> None:
        while True:
            head = _take(connection, 28)
            magic, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", head)
            if magic != _REQUEST or kind == _DISCONNECT:
                return
            data = _take(connection, length) if kind == _WRITE else b""
            error, said = 0, b""
            with self._lock:
                if self._connection is not connection:  # the power went
                    return
                if kind == _READ:
                    said = self._disk.read(offset, length)
                elif kind == _WRITE:
                    self._disk.write(offset, data, through=bool(flags & _FUA))
                elif kind == _FLUSH:
                    self._disk.flush()
                else:
                    error = _EINVAL
            connection.sendall(struct.pack(">IIQ", _REPLY, error, handle) + said)


def _take(connection: socket.socket, length: int) -> bytes:
    taken = bytearray()
    while len(taken) < length:
        some = connection.recv(min(length - len(taken), 1 << 20))
        if not some:
            raise EOFError
        taken += some
    return bytes(taken)
