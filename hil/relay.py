"""The network in a test's hand: a TCP relay that is cut, stalled, reset and mended.

It stands between gateway and broker. One thread moves the bytes; the verbs take effect before
they return. Buffers are bounded: when one side does not read, the other is not read either.
"""

from __future__ import annotations

import queue
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

HOST = "127.0.0.1"
BUFFER_BYTES = 65536
WAITING_CONNECTIONS = 4096  # a city that comes back at once must not wait for repeated SYNs

State = Literal["open", "stalled", "cut", "closed"]

# Is told what one connection carries: whether it goes to the target, and the bytes.
Ear = Callable[[bool, bytes], None]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


def hold_port() -> socket.socket:
    """Return a socket that keeps a free port of HOST without listening on it.

    Whoever binds with SO_REUSEADDR may listen there, again and again; meanwhile connections are
    refused and nobody else is given the port.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    return holder


class Relay:
    """Listens on `port` of HOST and carries every connection on to the target.

    `new_ear` gives each connection one who overhears it, on the relay's thread.
    """

    def __init__(
        self, target_host: str, target_port: int, *, new_ear: Callable[[], Ear] | None = None
    ) -> None:
        self._target = (target_host, target_port)
        self._new_ear = new_ear
        self._holder = hold_port()
        self.host = HOST
        self.port: int = self._holder.getsockname()[1]
        self.connections = 0  # accepted so far
        self.bytes_to_target = 0
        self.bytes_from_target = 0
        self._state: State = "cut"
        self._listener: socket.socket | None = None
        self._lines: set[_Line] = set()
        self._selector = selectors.DefaultSelector()
        self._orders = queue.SimpleQueue[tuple[Callable[[], None], threading.Event]]()
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ, self._obey)
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()
        self.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def state(self) -> State:
        """What the network is doing."""
        return self._state

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._order(self._cut)

    def stall(self) -> None:
        """Keep the connections, and let new ones begin, but move no byte."""
        self._order(self._stall)

    def resume(self) -> None:
        """Accept and carry again."""
        self._order(self._resume)

    def reset(self) -> None:
        """Answer every connection with a TCP reset; new ones are accepted as before."""
        self._order(self._drop_all)

    def close(self) -> None:
        """End everything and give the port back."""
        if self._state == "closed":
            return
        self._order(self._close)
        self._thread.join()
        for end in (self._bell, self._ear, self._holder):
            end.close()
        self._selector.close()

    def _order(self, act: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.put((act, done))
        self._bell.send(b"!")
        if not done.wait(10.0):
            raise RuntimeError("the relay's thread does not answer")

    # Everything below runs on the relay's thread.

    def _run(self) -> None:
        while self._state != "closed":
            for key, events in self._selector.select():
                key.data(events)

    def _obey(self, _events: int) -> None:
        self._ear.recv(1)
        act, done = self._orders.get()
        act()
        done.set()

    def _cut(self) -> None:
        self._state = "cut"
        self._stop_listening()
        self._drop_all()

    def _stall(self) -> None:
        if self._state == "cut":
            self._listen()
        self._state = "stalled"
        self._watch_all()

    def _resume(self) -> None:
        if self._state == "cut":
            self._listen()
        self._state = "open"
        self._watch_all()

    def _close(self) -> None:
        self._cut()
        self._state = "closed"

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, self.port))
        listener.listen(WAITING_CONNECTIONS)
        listener.setblocking(False)
        self._listener = listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._unwatch(self._listener)
            self._listener.close()
            self._listener = None

    def _watch_all(self) -> None:
        # A stalled network answers a SYN here as well: the kernel does it, before we accept.
        if self._listener is not None:
            is_open = self._state == "open"
            self._watch(self._listener, selectors.EVENT_READ if is_open else 0, self._accept)
        for line in self._lines:
            self._watch_line(line)

    def _watch(self, sock: socket.socket, events: int, act: Callable[[int], None]) -> None:
        if not events:
            self._unwatch(sock)
        elif sock in self._selector.get_map():
            self._selector.modify(sock, events, act)
        else:
            self._selector.register(sock, events, act)

    def _unwatch(self, sock: socket.socket) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def _accept(self, _events: int) -> None:
        if self._listener is None:
            return
        try:
            near, _ = self._listener.accept()
        except OSError:  # gone again before it was taken
            return
        self.connections += 1
        far = socket.socket()
        line = _Line(near, far, self._new_ear() if self._new_ear else None)
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines.add(line)
        far.connect_ex(self._target)
        self._watch_line(line)

    def _watch_line(self, line: _Line) -> None:
        near, far = line.wants() if self._state == "open" else (0, 0)
        self._watch(line.near, near, lambda events: self._serve(line, line.near, events))
        self._watch(line.far, far, lambda events: self._serve(line, line.far, events))

    def _serve(self, line: _Line, end: socket.socket, events: int) -> None:
        if line not in self._lines or self._state != "open":
            return  # an order before this event in the same turn
        try:
            if end is line.near:
                self.bytes_to_target += line.serve_near(events)
            else:
                self.bytes_from_target += line.serve_far(events)
        except OSError:
            self._drop(line)
            return
        if line.is_over():
            self._drop(line, politely=True)
        else:
            self._watch_line(line)

    def _drop_all(self) -> None:
        for line in list(self._lines):
            self._drop(line)

    def _drop(self, line: _Line, *, politely: bool = False) -> None:
        self._lines.discard(line)
        for end in (line.near, line.far):
            self._unwatch(end)
            if not politely:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()


class _Line:
    """One connection: its two ends, and what was read at one and not yet written at the other."""

    def __init__(self, near: socket.socket, far: socket.socket, ear: Ear | None) -> None:
        self.near = near
        self.far = far
        self._ear = ear
        self._is_connected = False
        self._to_far = b""
        self._to_near = b""
        self._has_ended = False  # one end said goodbye: what is buffered is still delivered

    def wants(self) -> tuple[int, int]:
        """Return the events that the near and the far end wait for."""
        if not self._is_connected:
            return 0, selectors.EVENT_WRITE
        near = selectors.EVENT_WRITE if self._to_near else 0
        far = selectors.EVENT_WRITE if self._to_far else 0
        if not self._has_ended:
            near |= 0 if self._to_far else selectors.EVENT_READ
            far |= 0 if self._to_near else selectors.EVENT_READ
        return near, far

    def is_over(self) -> bool:
        """Tell whether one end has gone and all it said is delivered."""
        return self._has_ended and not self._to_near and not self._to_far

    def serve_near(self, events: int) -> int:
        """Read and write at the near end; return the bytes read. Raises OSError."""
        if events & selectors.EVENT_WRITE:
            self._to_near = self._to_near[self.near.send(self._to_near) :]
        if events & selectors.EVENT_READ:
            self._to_far = self._read(self.near)
            return len(self._to_far)
        return 0

    def serve_far(self, events: int) -> int:
        """Read and write at the far end; return the bytes read. Raises OSError."""
        if not self._is_connected:
            refused = self.far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if refused:
                raise OSError(refused, "target refused")
            self._is_connected = True
            return 0
        if events & selectors.EVENT_WRITE:
            self._to_far = self._to_far[self.far.send(self._to_far) :]
        if events & selectors.EVENT_READ:
            self._to_near = self._read(self.far)
            return len(self._to_near)
        return 0

    def _read(self, end: socket.socket) -> bytes:
        chunk = end.recv(BUFFER_BYTES)
        if self._ear is not None:
            self._ear(end is self.near, chunk)
        self._has_ended = self._has_ended or not chunk
        return chunk
