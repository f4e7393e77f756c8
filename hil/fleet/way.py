"""The network between gateways and broker, in a process of its own.

In one process with the city's subscriber, each of the relay's system calls waited for the other
thread's turn to end, 5 ms: 1,000 gateways came back at 200 in a second, whatever they planned.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Literal

from ..relay import Relay
from .child import Child
from .descriptors import allow_descriptors

Verb = Literal["cut", "resume", "count"]


def carry(pipe: Connection, host: str, port: int, gateways: int) -> None:
    """Be the body of the process: tell the port, then obey."""
    allow_descriptors(2 * gateways)
    with Relay(host, port) as relay:
        pipe.send(relay.port)
        while True:
            verb: Verb = pipe.recv()
            match verb:
                case "cut":
                    relay.cut()
                case "resume":
                    relay.resume()
            pipe.send(relay.connections)


class Way:
    """The relay, from outside."""

    def __init__(self, host: str, port: int, gateways: int) -> None:
        self._child = Child(carry, host, port, gateways)
        self.host = host
        self.port: int = self._child.hear()
        self.pid = self._child.pid

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._do("cut")

    def resume(self) -> None:
        """Accept and carry again."""
        self._do("resume")

    def connections(self) -> int:
        """Return how many it has accepted so far."""
        return self._do("count")

    def close(self) -> None:
        """End everything."""
        self._child.close()

    def _do(self, verb: Verb) -> int:
        self._child.tell(verb)
        count: int = self._child.hear()
        return count
