"""An I2C adapter of the guest whose devices live out here: the back end of qemu's vhost-user-i2c.

The guest's kernel drives it with i2c-virtio; each message of a transfer comes through shared memory
and is played to the bench's register models, raw transfers and all.
Protocols: qemu, docs/interop/vhost-user.rst; OASIS virtio 1.2, 2.7 (split virtqueues), 5.16 (I2C).
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from drivers.base import BusError

from ..buses import I2cDevice, SimulatedI2c

_GET_FEATURES, _SET_MEM_TABLE, _SET_VRING_NUM, _SET_VRING_ADDR = 1, 5, 8, 9
_SET_VRING_BASE, _GET_VRING_BASE, _SET_VRING_KICK, _SET_VRING_CALL = 10, 11, 12, 13
_GET_PROTOCOL_FEATURES = 15
_VERSION_1, _ZERO_LENGTH = 1 << 32, 1 << 0
# Without it qemu 7.2 takes a back end for one that has no room for any memory.
_PROTOCOL_FEATURES = 1 << 30
_REPLY_FLAGS = 0x1 | 0x4
_NO_FD = 0x100
_NEXT, _WRITABLE, _INDIRECT = 1, 2, 4
_FAIL_NEXT, _READ = 1, 2
_OK, _ERROR = b"\0", b"\1"
_MAX_FDS = 8


@dataclass(frozen=True, slots=True)
class _Region:
    guest: int  # its address for the guest
    qemu: int  # and in qemu's own process
    size: int
    view: memoryview


class I2cAdapter:
    """Listens on `path` for qemu, one life after another, with `devices` by address.

    What breaks on the wires is the verbs of `bus`; the guest hears of any failure as of a NACK.
    """

    def __init__(
        self, path: Path, devices: Mapping[int, I2cDevice], now_s: Callable[[], float]
    ) -> None:
        self.bus = SimulatedI2c(devices, now_s)
        self.bus.open()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._stopping = threading.Event()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="i2c adapter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        for each in (self._listener, self._connection):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def play(self, address: int, *, reads: bool, data: bytes, length: int) -> bytes | None:
        """Play one message to a device; return what it says, None where nobody acknowledges."""
        try:
            if reads:
                return self.bus.read(address, b"", length)
            self.bus.write(address, data)
        except BusError:
            return None
        return b""

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._connection = connection
            with connection, suppress(OSError, EOFError), ExitStack() as stack:
                _Life(self, connection, stack).live()


class _Life:
    """One connection with qemu: its memory, its queue."""

    def __init__(self, adapter: I2cAdapter, connection: socket.socket, stack: ExitStack) -> None:
        self._adapter = adapter
        self._connection = connection
        self._stack = stack
        self._regions: list[_Region] = []
        self._entries = 0
        self._places = (0, 0, 0)  # descriptors, used ring, available ring; in qemu's addresses
        self._taken = 0  # of the available ring
        self._kick = self._call = -1
        self._failed = False  # the message before, and it asked that this one fail too

    def live(self) -> None:
        """Answer qemu and the guest until qemu hangs up."""
        while True:
            watched: list[Any] = [self._connection]
            if self._kick >= 0:
                watched.append(self._kick)
            ready, _, _ = select.select(watched, [], [])
            if self._kick in ready:
                os.eventfd_read(self._kick)
                self._work()
            if self._connection in ready:
                self._hear()

    def _hear(self) -> None:
        head, fds, _, _ = socket.recv_fds(self._connection, 12, _MAX_FDS)
        if not head:
            raise EOFError
        request, _, size = struct.unpack("=III", head)
        said = self._connection.recv(size, socket.MSG_WAITALL) if size else b""
        if request == _GET_FEATURES:
            features = _VERSION_1 | _ZERO_LENGTH | _PROTOCOL_FEATURES
            self._reply(request, struct.pack("=Q", features))
        elif request == _GET_PROTOCOL_FEATURES:
            self._reply(request, bytes(8))
        elif request == _SET_MEM_TABLE:
            self._map(said, fds)
        elif request == _SET_VRING_NUM:
            _, self._entries = struct.unpack("=II", said)
        elif request == _SET_VRING_ADDR:
            _, _, descriptors, used, available, _ = struct.unpack("=IIQQQQ", said)
            self._places = (descriptors, used, available)
        elif request == _SET_VRING_BASE:
            _, self._taken = struct.unpack("=II", said)
        elif request == _GET_VRING_BASE:
            self._kick = self._swap(self._kick, [])
            self._reply(request, struct.pack("=II", 0, self._taken))
        elif request == _SET_VRING_KICK:
            self._kick = self._swap(self._kick, fds)
            self._work()  # the guest may have been faster
        elif request == _SET_VRING_CALL:
            self._call = self._swap(self._call, fds)

    def _reply(self, request: int, said: bytes) -> None:
        self._connection.sendall(struct.pack("=III", request, _REPLY_FLAGS, len(said)) + said)

    def _swap(self, old: int, fds: list[int]) -> int:
        if old >= 0:
            os.close(old)
        return fds[0] if fds else -1

    def _map(self, said: bytes, fds: list[int]) -> None:
        (count,) = struct.unpack_from("=I", said)
        self._regions = []
        for at, fd in zip(range(count), fds, strict=True):
            guest, size, qemu, offset = struct.unpack_from("=QQQQ", said, 8 + 32 * at)
            memory = mmap.mmap(fd, size + offset)
            os.close(fd)
            view = memoryview(memory)[offset : offset + size]
            self._regions.append(_Region(guest, qemu, size, view))

    def _guest(self, address: int, length: int) -> memoryview:
        return self._view(address, length, [region.guest for region in self._regions])

    def _qemu(self, address: int, length: int) -> memoryview:
        return self._view(address, length, [region.qemu for region in self._regions])

    def _view(self, address: int, length: int, starts: list[int]) -> memoryview:
        for region, start in zip(self._regions, starts, strict=True):
            if start <= address and address + length <= start + region.size:
                return region.view[address - start : address - start + length]
        raise EOFError  # not the guest's memory: hang up

    def _work(self) -> None:
        """Play all messages that the guest has put in the queue."""
        if self._kick < 0 or not self._entries:
            return
        descriptors, used_at, available_at = self._places
        # As numbers, so that each is read and written at once.
        available = self._qemu(available_at, 4 + 2 * self._entries).cast("H")
        used_index = self._qemu(used_at, 4).cast("H")
        worked = False
        while self._taken != available[1]:
            first = available[2 + self._taken % self._entries]
            written = self._message(self._qemu(descriptors, 16 * self._entries), first)
            slot = used_at + 4 + 8 * (used_index[1] % self._entries)
            self._qemu(slot, 8)[:] = struct.pack("<II", first, written)
            used_index[1] = (used_index[1] + 1) & 0xFFFF
            self._taken = (self._taken + 1) & 0xFFFF
            worked = True
        if worked and self._call >= 0:
            os.eventfd_write(self._call, 1)

    def _message(self, descriptors: memoryview, number: int) -> int:
        """Play one message; return how many bytes were written to the guest."""
        table, out, into = descriptors, b"", []
        flags = _NEXT
        while flags & _NEXT:
            address, length, flags, following = struct.unpack_from("<QIHH", table, 16 * number)
            if flags & _INDIRECT:  # as always: qemu's queue has four entries, a transfer six parts
                table, number, flags = self._guest(address, length), 0, _NEXT
                continue
            piece = self._guest(address, length)
            if flags & _WRITABLE:
                into.append(piece)
            else:
                out += bytes(piece)
            number = following
        address, _, asked = struct.unpack_from("<HHI", out)
        *buffers, status = into
        wanted = sum(map(len, buffers))
        said = None
        if not self._failed:
            reads = bool(asked & _READ)
            said = self._adapter.play(address >> 1, reads=reads, data=out[8:], length=wanted)
        self._failed = said is None and bool(asked & _FAIL_NEXT)
        if said is not None and buffers:
            buffers[0][:] = said.ljust(wanted, b"\xff")[:wanted]
        status[:] = _ERROR if said is None else _OK
        return wanted + 1
