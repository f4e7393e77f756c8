"""The network in a test's hand: a TCP relay that is cut, stalled, reset, worn and mended.

It stands between gateway and broker. One thread moves the bytes; the verbs take effect before
they return. Buffers are bounded: when one side does not read, the other is not read either.
What the kernels of this machine say to each other it cannot stop: they acknowledge what the
relay never reads.
"""

from __future__ import annotations

import math
import queue
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Literal, Self

from .connection import Connection, Meddler
from .connection import Ear as Ear
from .faults.network import Link
from .faults.ongoing import Heal, Ongoing, every
from .faults.portal import Answerer

HOST = "127.0.0.1"
WAITING_CONNECTIONS = 4096  # a city that comes back at once must not wait for repeated SYNs

State = Literal["open", "stalled", "cut", "closed"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


def hold_port(host: str = HOST) -> socket.socket:
    """Return a socket that keeps a free port of `host` without listening on it.

    Whoever binds with SO_REUSEADDR may listen there, again and again; meanwhile connections are
    refused and nobody else is given the port.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    return holder


class Relay:
    """Listens on `port` of `host` and carries every connection on to the target.

    `new_ear` gives each connection one who overhears it, `new_meddler` one who changes what is
    said, both on the relay's thread.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        new_ear: Callable[[], Ear] | None = None,
        new_meddler: Callable[[], Meddler] | None = None,
        dice: Random | None = None,
        host: str = HOST,
    ) -> None:
        self._target = (target_host, target_port)
        self._new_ear = new_ear
        self._new_meddler = new_meddler
        self._link = Link(dice or Random(0))
        self._portal: Answerer | None = None
        self._holder = hold_port(host)
        self.host = host
        self.port: int = self._holder.getsockname()[1]
        self.connections = 0  # accepted so far
        self.bytes_to_target = 0
        self.bytes_from_target = 0
        self._state: State = "cut"
        self._outages = Ongoing[State]()
        self._portals = Ongoing[None]()
        self._listener: socket.socket | None = None
        self._lines: set[Connection] = set()
        self._ghosts: set[Connection] = set()  # open at both ends, and dead between them
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

    def cut(self) -> Heal:
        """End all connections and refuse new ones."""
        return self._outage("cut")

    def stall(self) -> Heal:
        """Keep the connections, and let new ones begin, but move no byte; while cut, stay so."""
        return self._outage("stalled")

    def resume(self) -> None:
        """Accept and carry again, whatever is ongoing."""
        self._outages.heal()
        self._order(self._obey_outages)

    def reset(self) -> None:
        """Answer every connection with a TCP reset; new ones are accepted as before."""
        self._order(self._drop_all)

    def vanish(self) -> Heal:
        """Let every connection die without a word to either end; new ones are carried as before.

        So it is when a modem forgets what it translated: nobody is told. Healed, both ends hear a
        TCP reset.
        """
        self._order(self._vanish)
        return lambda: self._order(self._exorcise)

    def portal(self) -> Heal:
        """End all connections, and answer new ones with a web page; healed, carry again."""
        heal = every(self._portals.begin(None), lambda: self._order(self._obey_portals))
        self._order(self._obey_portals)
        return heal

    def delay(self, by_s: float) -> Heal:
        """Let everything arrive later by this, each way."""
        return self._worn(self._link.delay(by_s))

    def lose(self, share: float) -> Heal:
        """Lose this share of the segments, each way; TCP sends them again, later and later."""
        return self._worn(self._link.lose(share))

    def throttle(self, bytes_per_s: float) -> Heal:
        """Carry no more than this, each way, of all connections together."""
        return self._worn(self._link.throttle(bytes_per_s))

    def heal(self) -> None:
        """Undo every fault."""
        self._link.heal()
        self._order(self._exorcise)
        self._portals.heal()
        self._order(self._obey_portals)
        self.resume()

    def close(self) -> None:
        """End everything and give the port back."""
        if self._state == "closed":
            return
        self._order(self._close)
        self._thread.join()
        for end in (self._bell, self._ear, self._holder):
            end.close()
        self._selector.close()

    def _outage(self, state: State) -> Heal:
        heal = every(self._outages.begin(state), lambda: self._order(self._obey_outages))
        self._order(self._obey_outages)
        return heal

    def _worn(self, heal: Heal) -> Heal:
        """Return what heals, and lets go what was held back."""
        return every(heal, lambda: self._order(self._watch_all))

    def _order(self, act: Callable[[], None]) -> None:
        if self._state == "closed":
            return
        done = threading.Event()
        self._orders.put((act, done))
        self._bell.send(b"!")
        if not done.wait(60.0):
            raise RuntimeError("the relay's thread does not answer")

    # Everything below runs on the relay's thread.

    def _run(self) -> None:
        while self._state != "closed":
            pause_s = self._pause_s()
            for key, events in self._selector.select(pause_s):
                key.data(events)
            if pause_s is not None:
                self._watch_all()

    def _pause_s(self) -> float | None:
        """Return for how long nothing can be due; None where nothing is waited for."""
        if self._state != "open":
            return None
        wakes_s = min((line.wakes_s for line in self._lines), default=math.inf)
        return None if math.isinf(wakes_s) else max(0.0, wakes_s - time.monotonic())

    def _obey(self, _events: int) -> None:
        self._ear.recv(1)
        act, done = self._orders.get()
        act()
        done.set()

    def _obey_outages(self) -> None:
        """Be in the state that the worst outage wants."""
        outages = set(self._outages)
        if "cut" in outages:
            self._cut()
        elif outages:
            self._stall()
        else:
            self._resume()

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

    def _vanish(self) -> None:
        for line in self._lines:
            self._unwatch(line.near)
            self._unwatch(line.far)
        self._ghosts |= self._lines
        self._lines.clear()

    def _exorcise(self) -> None:
        for line in self._ghosts:
            self._drop(line)
        self._ghosts.clear()

    def _obey_portals(self) -> None:
        if not self._portals:
            self._raze_portal()
        elif self._portal is None:
            self._portal = Answerer()
            self._drop_all()

    def _raze_portal(self) -> None:
        if self._portal is not None:
            self._drop_all()
            self._portal.close()
            self._portal = None

    def _close(self) -> None:
        self._cut()
        self._exorcise()
        self._raze_portal()
        self._state = "closed"

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
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
        for line in list(self._lines):
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
        ear = self._new_ear() if self._new_ear else None
        line = Connection(
            near, far, self._link, ear, self._new_meddler() if self._new_meddler else None
        )
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines.add(line)
        far.connect_ex((HOST, self._portal.port) if self._portal else self._target)
        self._watch_line(line)

    def _watch_line(self, line: Connection) -> None:
        try:
            near, far = line.wants() if self._state == "open" else (0, 0)
        except OSError:  # sent again and again, in vain
            self._drop(line)
            return
        self._watch(line.near, near, lambda events: self._serve(line, line.near, events))
        self._watch(line.far, far, lambda events: self._serve(line, line.far, events))

    def _serve(self, line: Connection, end: socket.socket, events: int) -> None:
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

    def _drop(self, line: Connection, *, politely: bool = False) -> None:
        self._lines.discard(line)
        for end in (line.near, line.far):
            self._unwatch(end)
            if not politely:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()
