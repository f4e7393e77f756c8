"""kill -9 of a daemon with a backlog, in each of its situations, and the account of it.

`during an outage`: it was connected, the network was cut, it went on measuring. `during a drain`:
three times, at a quarter, a half and three quarters of it. `started in an outage`: it never saw the
broker. The next life delivers what the one before had committed. What was put into the spool is
known from outside; what each life committed is told by the start record of the next, and by the
last one's health at its good-bye.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.record import GATEWAY_STREAM

from ..broker import Mosquitto
from ..city.account import Account
from ..city.subscriber import City
from ..relay import Relay
from .process import BenchError, Daemon
from .site import Stock, write_config

KILLED_AT = (0.25, 0.5, 0.75)  # of the drain
DRAIN_RECORDS_SHARE_PER_S = 0.2  # slow enough to be killed in the middle
BYTES_PER_RECORD = 45
LIFE_S = 3.0  # without the broker: starts, and commits a record a second
PATIENCE_S = 60.0
FAST = "backlog_bytes_per_s = 1000000000"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the city holds when all is over."""

    expected: int  # records that were committed
    lost: int  # of those, missing or in gaps
    duplicates: int


def measure(
    folder: Path,
    records: int,
    say: Callable[[str], None],
    *,
    patience_s: float = PATIENCE_S,
    after_kill: Callable[[Path], None] = lambda _spool: None,
) -> Outcome:
    """Kill in all three situations, with `records` waiting each time. Raises BenchError.

    `after_kill` is done to the spool's file after each kill: a disaster, to see that it shows.
    """
    outcomes = []
    births: list[tuple[str, str]] = []  # gateway and run, in the order of their coming

    def heard(topic: str, payload: bytes, _records: object) -> None:
        if topic.endswith("/status") and payload:
            status = json.loads(payload)
            if status["state"] == "online":
                births.append((status["gateway"], status["run"]))

    with (
        Mosquitto(extra=("log_type none", "max_queued_messages 0")) as broker,
        City(broker.host, broker.port, on_message=heard) as city,
    ):
        city.wait_subscribed()
        for name, scenario in (
            ("outage", _in_outage),
            ("drain", _in_drain),
            ("start", _at_start),
        ):
            own = folder / name
            own.mkdir()
            stock = Stock(own, records, end_ns=time.time_ns() - 86_400 * 10**9)
            stock.put(own)
            with Relay(broker.host, broker.port) as relay:
                case = _Case(f"killed-{name}", own, stock, relay, city, births, after_kill)
                scenario(case)
                case.finish(patience_s)
            outcomes.append(case.outcome())
            say(f"killed, {name}: {outcomes[-1]}")
    return Outcome(
        sum(each.expected for each in outcomes),
        sum(each.lost for each in outcomes),
        sum(each.duplicates for each in outcomes),
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One gateway, its network, and its lives."""

    gateway: str
    folder: Path
    stock: Stock
    relay: Relay
    city: City
    births: list[tuple[str, str]]
    after_kill: Callable[[Path], None]

    def live(self, uplink: str = "") -> Daemon:
        """Begin a life of the daemon; it commits a record a second of its own."""
        config = write_config(
            self.folder, self.relay.port, gateway=self.gateway, uplink=uplink, window_s=1
        )
        return Daemon(config)

    def kill(self, daemon: Daemon) -> None:
        """Kill it, and let the disaster follow."""
        daemon.check_alive()
        daemon.kill()
        self.after_kill(self.folder / "spool.db")

    def wait_delivered(self, count: int, daemon: Daemon) -> None:
        """Wait until the city has `count` records of the backlog."""
        until_s = time.monotonic() + PATIENCE_S
        while not self.city.wait_for(lambda account: self.delivered(account) >= count, 1.0):
            daemon.check_alive()
            if time.monotonic() > until_s:
                raise BenchError(f"{self.gateway}: the city never had {count} records")

    def delivered(self, account: Account) -> int:
        """Return how many records of the backlog the city has."""
        return sum(
            len(account.delivered(self.gateway, self.stock.run, stream))
            for stream in self.stock.produced
        )

    def finish(self, patience_s: float) -> None:
        """Deliver everything in a last life, and let it say good-bye."""
        with self.city.locked() as account:
            produced = self.stock.produced
            account.tell_produced(self.gateway, self.stock.run, produced, is_final=True)
        self.relay.resume()
        earlier = set(self.births)
        with self.live(FAST) as daemon:
            run = self._wait_birth(daemon, earlier)
            # Its start record tells of the life before, whose own tells of the one before that.
            self.city.wait_for(
                lambda account: (
                    len(account.delivered(self.gateway, run, GATEWAY_STREAM)) > 0
                    and self._is_complete(account)
                ),
                patience_s,  # in vain where something is lost: the account says so
            )
            daemon.stop()
        self.city.wait_for(self._is_complete, min(patience_s, 10.0))

    def _wait_birth(self, daemon: Daemon, earlier: set[tuple[str, str]]) -> str:
        """Wait for a birth that is none of the `earlier` ones; return its run."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            for gateway, run in list(self.births):
                if gateway == self.gateway and (gateway, run) not in earlier:
                    return run
            daemon.check_alive()
            time.sleep(0.05)
        raise BenchError(f"{self.gateway}: the last life was never online")

    def outcome(self) -> Outcome:
        """Draw up the account of this gateway."""
        pages = [each for each in self.city.report().streams if each.gateway == self.gateway]
        return Outcome(
            sum(each.produced for each in pages),
            sum(each.missing + each.lost_count for each in pages),
            sum(each.duplicates for each in pages),
        )

    def _is_complete(self, account: Account) -> bool:
        return not any(
            each.missing for each in account.report().streams if each.gateway == self.gateway
        )


def _in_outage(case: _Case) -> None:
    with case.live() as daemon:
        case.wait_delivered(1, daemon)
        case.relay.cut()
        time.sleep(LIFE_S)
        case.kill(daemon)


def _in_drain(case: _Case) -> None:
    share_per_s = round(case.stock.records * DRAIN_RECORDS_SHARE_PER_S * BYTES_PER_RECORD)
    for share in KILLED_AT:
        with case.live(f"backlog_bytes_per_s = {max(1000, share_per_s)}") as daemon:
            case.wait_delivered(round(case.stock.records * share), daemon)
            case.kill(daemon)
        with case.city.locked() as account:
            if case.delivered(account) == case.stock.records:
                raise BenchError("the drain was over before the kill")


def _at_start(case: _Case) -> None:
    case.relay.cut()
    for _ in range(2):
        with case.live() as daemon:
            time.sleep(LIFE_S)
            case.kill(daemon)
