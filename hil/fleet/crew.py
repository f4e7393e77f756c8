"""A process with many gateways in it: one selector, one heap of times, no thread for anybody."""

from __future__ import annotations

import heapq
import random
import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from paho.mqtt import client as mqtt

from config.model import UplinkTable

from ..senders.gateway import Sender
from ..senders.street import eight_sensors
from .descriptors import allow_descriptors
from .gateway import Gateway, NoJitter, Tale

IDLE_S = 0.5

Control = Literal["no-jitter", "forgets"]
# The way is open / measure no more, and say when all is delivered / tell what happened, and end.
Order = Literal["open", "rest", "tell"]


@dataclass(frozen=True, slots=True)
class Posting:
    """What a crew is told at its start."""

    gateways: tuple[str, ...]
    broker_url: str
    window_s: int
    speed: float  # seconds of the fleet's clock in a real one
    start_s: float  # within which they connect first
    seed: int
    control: Control | None


def serve(pipe: Connection, posting: Posting) -> None:
    """Be the body of the process: say that it is ready, and begin when told at which instant."""
    allow_descriptors(len(posting.gateways))
    crew = Crew(pipe, posting)
    pipe.send("ready")
    crew.live(pipe.recv())


class Crew:
    """Lets its gateways live until it is asked what happened."""

    def __init__(self, pipe: Connection, posting: Posting) -> None:
        self._pipe = pipe
        self._posting = posting
        self._epoch_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._selector.register(pipe, selectors.EVENT_READ)
        self._times: list[tuple[float, int]] = []
        self._next_s: list[float] = []
        self._is_asked = False
        self._gateways: list[Gateway] = []
        self._places: dict[Gateway, int] = {}
        for place, gateway in enumerate(self._members()):
            self._gateways.append(gateway)
            self._places[gateway] = place
            self._next_s.append(0.0)
            heapq.heappush(self._times, (0.0, place))

    def _members(self) -> Sequence[Gateway]:
        posting = self._posting
        settings = UplinkTable(brokers=[posting.broker_url])
        dice = random.Random(posting.seed)
        members = []
        for name in posting.gateways:
            seed = dice.getrandbits(64)
            sensors = eight_sensors(posting.window_s)
            # The first of each process.
            forgets = posting.control == "forgets" and name == posting.gateways[0]
            member = Gateway(
                Sender(name, "", 0, seed=seed, sensors=sensors),
                settings,
                rng=NoJitter() if posting.control == "no-jitter" else random.Random(seed),
                start_s=dice.uniform(0.0, posting.start_s),
                window_s=posting.window_s,
                doors=self,
                clock=self._now_s,
                forgets=forgets,
            )
            members.append(member)
        return members

    def opened(self, gateway: Gateway, client: mqtt.Client, sock: Any) -> None:
        """Watch a gateway's socket."""
        self._selector.register(sock, selectors.EVENT_READ, (gateway, client))

    def closed(self, sock: Any) -> None:
        """Watch it no longer."""
        self._selector.unregister(sock)

    def live(self, epoch_s: float) -> None:
        """Go on until the tale is told; the fleet's clock is 0 at `epoch_s` of the monotonic."""
        self._epoch_s = epoch_s
        while True:
            idle_s = (self._times[0][0] - self._now_s()) / self._posting.speed
            ready = self._selector.select(min(IDLE_S, max(0.0, idle_s)))
            now_s = self._now_s()  # of all that this turn does: what happened at once stays so
            for key, _ in ready:
                if key.fileobj is self._pipe:
                    if self._obey(self._pipe.recv()):
                        return
                    continue
                gateway, client = key.data
                gateway.serve(client, now_s)
                self._plan(gateway)
            self._step_all(self._now_s())
            if self._is_asked and all(gateway.is_empty for gateway in self._gateways):
                self._is_asked = False
                self._pipe.send("delivered")

    def _now_s(self) -> float:
        return (time.monotonic() - self._epoch_s) * self._posting.speed

    def _step_all(self, now_s: float) -> None:
        while self._times[0][0] <= now_s:
            at_s, place = heapq.heappop(self._times)
            if at_s == self._next_s[place]:  # else it was planned anew since
                gateway = self._gateways[place]
                gateway.step(now_s)
                self._plan(gateway)

    def _plan(self, gateway: Gateway) -> None:
        place, now_s = self._places[gateway], self._now_s()
        next_s = max(gateway.next_s(now_s), now_s + 0.001)
        self._next_s[place] = next_s
        heapq.heappush(self._times, (next_s, place))

    def _obey(self, order: Order) -> bool:
        """Do as told; True when that was the last."""
        match order:
            case "open":
                for gateway in self._gateways:
                    gateway.way_is_open(self._now_s())
            case "rest":
                self._is_asked = True
                for gateway in self._gateways:
                    gateway.rest()
            case "tell":
                tales: list[Tale] = [gateway.finished() for gateway in self._gateways]
                self._pipe.send(tales)
                return True
        return False
