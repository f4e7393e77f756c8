"""One connection through the relay: its two ends, and what is between them."""

from __future__ import annotations

import math
import selectors
import socket
import time
from collections.abc import Callable

from .faults.network import Link, Way

BUFFER_BYTES = 65536

# Meddles with one connection: is told whether it goes to the target, and the bytes; returns what
# goes on, and what is answered in the name of the other end.
Meddler = Callable[[bool, bytes], tuple[bytes, bytes]]

# Is told what one connection carries: whether it goes to the target, and the bytes.
Ear = Callable[[bool, bytes], None]


class Connection:
    """One connection: its two ends, and what was read at one and not yet written at the other."""

    def __init__(
        self,
        near: socket.socket,
        far: socket.socket,
        link: Link,
        ear: Ear | None,
        meddler: Meddler | None,
    ) -> None:
        self.near = near
        self.far = far
        self._ear = ear
        self._meddler = meddler
        self._is_connected = False
        self._to_far = Way(link, to_target=True)
        self._to_near = Way(link, to_target=False)
        self.wakes_s = math.inf  # when it wants to be asked again, whatever happens
        self._has_ended = False  # one end said goodbye: what is buffered is still delivered

    def wants(self) -> tuple[int, int]:
        """Return the events that the near and the far end wait for. Raises OSError."""
        self.wakes_s = math.inf
        if not self._is_connected:
            return 0, selectors.EVENT_WRITE
        near, far = self._may_write(self._to_near), self._may_write(self._to_far)
        if not self._has_ended:
            near |= 0 if self._to_far.waiting_bytes > BUFFER_BYTES else selectors.EVENT_READ
            far |= 0 if self._to_near.waiting_bytes > BUFFER_BYTES else selectors.EVENT_READ
        return near, far

    def is_over(self) -> bool:
        """Tell whether one end has gone and all it said is delivered."""
        left_bytes = self._to_near.waiting_bytes + self._to_far.waiting_bytes
        return self._has_ended and not left_bytes

    def serve_near(self, events: int) -> int:
        """Read and write at the near end; return the bytes read. Raises OSError."""
        if events & selectors.EVENT_WRITE:
            self._write(self.near, self._to_near)
        return self._read(self.near) if events & selectors.EVENT_READ else 0

    def serve_far(self, events: int) -> int:
        """Read and write at the far end; return the bytes read. Raises OSError."""
        if not self._is_connected:
            refused = self.far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if refused:
                raise OSError(refused, "target refused")
            self._is_connected = True
            return 0
        if events & selectors.EVENT_WRITE:
            self._write(self.far, self._to_far)
        return self._read(self.far) if events & selectors.EVENT_READ else 0

    def _may_write(self, way: Way) -> int:
        if way.ready(time.monotonic()):
            return selectors.EVENT_WRITE
        self.wakes_s = min(self.wakes_s, way.wakes_s())
        return 0

    def _write(self, end: socket.socket, way: Way) -> None:
        now_s = time.monotonic()
        if ready := way.ready(now_s):
            way.wrote(end.send(ready), now_s)

    def _read(self, end: socket.socket) -> int:
        chunk = end.recv(BUFFER_BYTES)
        to_target = end is self.near
        if self._ear is not None:
            self._ear(to_target, chunk)
        self._has_ended = self._has_ended or not chunk
        onward, back = self._meddler(to_target, chunk) if self._meddler else (chunk, b"")
        now_s = time.monotonic()
        ways = (self._to_far, self._to_near) if to_target else (self._to_near, self._to_far)
        for way, data in zip(ways, (onward, back), strict=True):
            if data:
                way.take(data, now_s)
        return len(chunk)
