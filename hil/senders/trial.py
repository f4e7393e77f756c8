"""Gateways with their mishaps in front of a city with its own, and the database afterwards.

Each gateway measures, loses the line in the midst of a message, is killed and begins a new run,
gives records up, is cloned, gets an older copy of its card; some wait for receipts, some trust the
broker. Meanwhile the city's processes are killed and started again, and so is the database. In the
end every row must be there, once, as it was committed.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

from ..city.databases import opened
from ..city.store import Store
from ..far_end import FarEnd
from .gateway import Sender
from .verdict import problems

DELIVER_S = 3.0
END_S = 180.0
SETTLE_S = 20.0  # for what is on its way when all is quiet
PAUSE_S = 1.0  # between two mishaps of the city, at most
ROUND_S = 1.0  # between two connections of a gateway, in the mean


class Fleet:
    """Gateways on threads of their own, each with its own mishaps by its own seed."""

    def __init__(self, host: str, port: int, *, gateways: int, rounds: int, seed: int) -> None:
        self._rounds = rounds
        self._stopping = threading.Event()
        self.failures: list[str] = []
        self.senders = [
            Sender(
                f"gw-{number:02}",
                host,
                port,
                seed=seed * 1000 + number,
                confirm="receipt" if number % 2 else "broker",
            )
            for number in range(gateways)
        ]
        self._threads = [
            threading.Thread(target=self._live, args=(one, Random(seed + number)), daemon=True)
            for number, one in enumerate(self.senders)
        ]

    def start(self) -> None:
        """Let them live."""
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Whether some have not delivered everything yet."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> bool:
        """Wait until all have delivered everything; False if they do not in time."""
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._stopping.set()
        return not self.is_alive()

    def _live(self, one: Sender, random: Random) -> None:
        try:
            self._suffer(one, random)
        except Exception as exc:  # noqa: BLE001  # the bench's own bug must not pass for success
            self.failures.append(f"{one.gateway}: {exc!r}")

    def _suffer(self, one: Sender, random: Random) -> None:
        one.begin_run()
        lives = [one]  # a clone is a second one
        card: Sender | None = None
        for number in range(self._rounds):
            self._stopping.wait(random.uniform(0.0, 2 * ROUND_S))
            for each in lives:
                each.measure(random.randint(5, 60))
                if random.random() < 0.3:
                    each.raise_alert(random.choice(("raised", "cleared")))
                if random.random() < 0.3:
                    each.give_up(random.randint(1, 40))
                if random.random() < 0.4:
                    each.begin_run()
                each.deliver(DELIVER_S, cut_after=random.choice((None, 0, 1, 2, 5)))
            if number == self._rounds // 3 and random.random() < 0.5:
                clone = lives[0].copied(random.getrandbits(32))
                clone.begin_run()
                lives.append(clone)
            elif number == self._rounds // 2:
                self._empty(lives[0])  # what is on a card that is thrown away nobody can deliver
                card = lives[0].copied(random.getrandbits(32))
        if card is not None:
            self._empty(lives[0])
            card.now_ns = lives[0].now_ns
            card.begin_run()
            card.measure(5)
            lives[0] = card
        for each in lives:
            self._empty(each)

    def _empty(self, one: Sender) -> None:
        while one.waiting and not self._stopping.is_set():
            one.deliver(DELIVER_S)


@contextmanager
def stalled(database: str) -> Iterator[None]:
    """Keep a database from being written, as a slow disk or a long question does."""
    if database.startswith("sqlite:"):
        file = sqlite3.connect(database.removeprefix("sqlite:"), isolation_level=None, timeout=60)
        file.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            file.close()
        return
    import psycopg

    try:
        with psycopg.connect(database) as connection:
            connection.execute("LOCK TABLE record IN SHARE MODE")
            yield
    except psycopg.OperationalError:  # it has just crashed
        yield


def hold(
    fleet: Fleet,
    ends: Sequence[FarEnd],
    database: str,
    *,
    seed: int,
    strikes: int,
    settle_s: float = SETTLE_S,
    mishaps: Sequence[Callable[[], None]] = (),
) -> list[str]:
    """Let the fleet live while the city is struck; return what is wrong in the end."""
    random = Random(seed)
    fleet.start()
    for _ in range(strikes):
        time.sleep(random.uniform(0.2, 1.0) * PAUSE_S)
        end = random.choice(ends)
        end.check()
        if mishaps and random.random() < 0.25:
            random.choice(mishaps)()
            continue
        # Killed while it holds what the database has not taken: what it has confirmed too early
        # is lost in this moment, and hardly in any other.
        with stalled(database):
            time.sleep(random.uniform(0.3, 1.0))
            end.kill()
        end.start()
    found = [] if fleet.join(END_S) else ["not every gateway could deliver"]
    found += fleet.failures
    with opened(database, read_only=True) as store:
        return found + _settled(fleet, store, settle_s)


def _settled(fleet: Fleet, store: Store, settle_s: float) -> list[str]:
    """Return what is wrong once nothing is on its way any more."""
    until_s = time.monotonic() + settle_s
    while True:
        found = [
            problem for one in fleet.senders for problem in problems(store, one.gateway, one.truth)
        ]
        if not found or time.monotonic() > until_s:
            return found
        time.sleep(0.5)
