"""A gateway that counts people, whole but for its devices and its network, at a time that is told.

Observations go in where a collector hands them over. Through the real pipeline (channels, windows,
release with noise, rules, alerts, records), the real spool on a disk or in memory, and the real
uplink they come out as a broker hears them: every payload on every topic, and every log line of
every level. What is not here: drivers and collectors, paho and TCP, the figures in birth and
health.

One window after the other is let pass. All sensors see the same, so that a line which
names none of them is still a line about a known count. A `leak` spoils the gateway on purpose: it
is given what nobody behind the release may know.
"""

from __future__ import annotations

import json
import math
import queue
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from agent.alerts import AlertBook
from agent.channels import PeopleChannel
from agent.clock import Clock, Look
from agent.collector import Collected
from agent.fresh import Fresh
from agent.health import UplinkHealth
from agent.phenomena.people import Counted
from agent.pipeline import Pipeline
from agent.privacy.ledger import Claim, Terms
from agent.privacy.policy import Policy
from agent.privacy.release import Sealed
from agent.record import ALERTS_STREAM, Record
from agent.rules import Rules, Subject
from agent.spool import Spool
from agent.uplink import Uplink
from agent.window import LATENESS_S, Window
from config.model import AlertsTable, UplinkTable
from drivers.base import Alive, Crossing, Direction, Observation

from .world import Client, Flight, World

S = 1_000_000_000
BEGIN_NS = 1_800_057_600 * S  # midnight
POLICY = Policy(900, Fraction(1, 4))
DIRECTIONS: tuple[Direction, ...] = ("towards", "away")
OFFSET_S = 6.1
ROOT, GATEWAY = "yukimi/v1/hall", "hall"
PATIENCE = 100  # turns of the uplink until everything has left

Counts = Mapping[Direction, int]
# What a spoiled gateway does with a window's true counts and its record.
Leak = Callable[["Hall", dict[str, int], Record], None]


@dataclass(slots=True)
class Told:
    """All that was said of one window: of each sensor, and without naming one.

    A fact is one value at its place, "live/people quality.flag=good". The released figures are
    apart, each as often as it was told.
    """

    figures: dict[str, dict[str, list[int]]]
    left_s: dict[str, float] = field(default_factory=dict)  # after the window's end
    own: dict[str, set[str]] = field(default_factory=dict)
    common: set[str] = field(default_factory=set)


class Hall:
    """So many people sensors on one gateway; a context, because it takes the log."""

    def __init__(
        self,
        folder: Path,
        *,
        sensors: int = 1,
        crowd: int = 2000,
        leak: Leak | None = None,
        is_timed: bool = True,
        offset_s: float = OFFSET_S,
        oversleep_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`crowd` is the crowding rule's threshold; not `is_timed`: records leave at once.

        The uplink's thread wakes by `oversleep_s` later than it meant to.
        """
        self._folder, self._leak, self._oversleep_s = folder, leak, oversleep_s
        self._names = [f"hall-{number}" for number in range(sensors)]
        self._alerts = AlertsTable.model_validate({"crowding": {"persons": crowd}})
        timed = dict.fromkeys(self._names, POLICY.window_s) if is_timed else {}
        people = frozenset(self._names if is_timed else ())
        self._fresh = Fresh(offset_s, timed, people)
        self._exit = ExitStack()
        self.now_s = 0.0  # boot time; UTC is so much after BEGIN_NS
        self._end_s = 0.0  # of the window that passes
        self._told = Told({})

    def __enter__(self) -> Hall:
        before = structlog.get_config()
        self._exit.callback(structlog.configure, **before)
        structlog.configure(
            processors=[self._hear_line], wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=False,
        )  # fmt: skip
        world = _Listened(self._hear_message, self._hear_other)
        self._world = world
        client = mock.patch("agent.link.BoundedClient", lambda *_, **__: world.new_client())
        self._exit.enter_context(client)
        spool = Spool(
            self._folder / "spool.db",
            max_bytes=2**26,
            run="r",
            boot_id="b",
            gateway=GATEWAY,
            terms=Terms(POLICY, "Asia/Tokyo", "hall"),
        )
        self._exit.callback(spool.close, clean=True)
        self._wire(spool)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _wire(self, spool: Spool) -> None:
        """Put the gateway together as the daemon does, without its threads."""
        self.uplink = Uplink(
            UplinkTable.model_validate({"brokers": ["mqtt://a.test"]}),
            gateway_id=GATEWAY,
            spool=spool,
            fresh=self._fresh,
            health=UplinkHealth(),
            birth=lambda: {"state": "online"},
            health_message=dict,
            find_file=Path,
            utc_ns=lambda: self._look().utc_ns,
            boot_s=lambda: self.now_s,
        )
        self.uplink._events = _Unwaited(maxsize=10_000)
        clock = Clock(self._look(), trust_system=False)
        self._inbox: queue.Queue[Collected | None] = _Unwaited()
        subjects = {name: Subject("people", {"ja": name, "en": name}) for name in self._names}
        self.pipeline = Pipeline(
            {name: self._channel(name) for name in self._names},
            self._inbox,
            spool,
            config_id="9f2c1ab04d77",
            clock=clock,
            look=self._look,
            boot_id="b",
            clock_wait_over=lambda: True,
            committed=self.uplink.committed,
            rewind=self.uplink.rewind,
            book=AlertBook([], lambda: "episode"),
            rules=Rules(self._alerts, subjects),
        )
        self.pipeline.announce()
        for _ in range(5):  # it connects, and says that it is there
            self.uplink.step()

    def _channel(self, name: str) -> PeopleChannel:
        leak = self._leak
        if leak is None:
            return PeopleChannel(name, policy=POLICY, directions=DIRECTIONS, now_ns=BEGIN_NS)
        spoiled = _Spoiled(name, policy=POLICY, directions=DIRECTIONS, now_ns=BEGIN_NS)
        spoiled.leak = lambda counts, record: leak(self, counts, record)
        return spoiled

    def window(self, counts: Counts, *, late_s: float = 0.0) -> Told:
        """Let one window pass in which each sensor sees `counts`; return all that was told of it.

        The pipeline comes to close it by `late_s` later than it might.
        """
        begin_s, self._end_s = self._end_s, self._end_s + POLICY.window_s
        told = self._told = Told({name: {each: [] for each in DIRECTIONS} for name in self._names})
        self.now_s = begin_s + POLICY.window_s / 2
        at_ns = self._look().boot_ns
        seen: list[Observation] = [Alive(at_ns)]
        for direction, count in counts.items():
            seen += [Crossing(direction, at_ns) for _ in range(count)]
        for name in self._names:
            self._inbox.put_nowait(Collected(name, seen))
            self.pipeline.step()
        self.now_s = self._end_s + LATENESS_S + late_s
        self.pipeline.step()
        self._deliver()
        return told

    def _deliver(self) -> None:
        """Let the uplink wait and work, until what was committed is gone."""
        for _ in range(PATIENCE):
            self.uplink.step()
            if not self.uplink._events.empty():
                continue
            if len(self._told.left_s) == len(self._told.figures) and not self._is_owed:
                self._world.city.inbox.clear()
                return
            self.now_s += self.uplink.wait_s() + self._oversleep_s()
        raise AssertionError("a window's record never left")

    @property
    def _is_owed(self) -> bool:
        """Whether something of this window still waits in the uplink."""
        return self.uplink._alarms.next_s < math.inf or not self.uplink._outbox.is_quiet

    def _look(self) -> Look:
        boot_ns = round(self.now_s * S)
        return Look(boot_ns, BEGIN_NS + boot_ns, True, 0.01)

    # What is heard

    def _hear_message(self, flight: Flight) -> None:
        """Take a message of records, alerts or gaps."""
        for body in flight.bodies:
            stream = body["sensor"] if body["stream"] == ALERTS_STREAM else body["stream"]
            values = body.get("values", {})
            for direction, figures in self._told.figures.get(stream, {}).items():
                if direction in values:
                    figures.append(_taken(values[direction]))
                    self._told.left_s[stream] = self.now_s - self._end_s
            self._note(stream, flight.topic, body)

    def _hear_other(self, topic: str, payload: str | bytes) -> None:
        """Take what is no record: a status, a health, the state of an alert."""
        what, _, rest = topic.partition("/")
        sensor, _, name = rest.partition("/")
        self._note(sensor, f"{what}/{name}", json.loads(payload) if payload else {})

    def _hear_line(self, _: Any, level: str, line: MutableMapping[str, Any]) -> str:
        """Take a log line, and let it go no further."""
        values = (value for value in line.values() if isinstance(value, str))
        named = next((value for value in values if value in self._told.figures), "")
        self._note(named, f"log {level}", line)
        raise structlog.DropEvent

    def _note(self, stream: str, where: str, said: Mapping[str, Any]) -> None:
        facts = {f"{where} {fact}" for fact in _facts(said)}
        if stream in self._told.figures:
            self._told.own.setdefault(stream, set()).update(facts)
        else:
            self._told.common |= facts


class _Spoiled(PeopleChannel):
    """A channel that lets the true counts out."""

    leak: Callable[[dict[str, int], Record], None]

    def _record(self, window: Window[Counted], clock: Clock, moved_ns: int) -> Record | Sealed:
        closed = super()._record(window, clock, moved_ns)
        if isinstance(closed, Record):
            return closed
        return _Leaking(closed.claim, closed.record, closed.counts, closed.policy, self.leak)


@dataclass(frozen=True, slots=True, repr=False)
class _Leaking(Sealed):
    leak: Callable[[dict[str, int], Record], None]

    def release(self, claim: Claim) -> Record:
        counts = dict(self.counts._counts)
        record = Sealed.release(self, claim)
        self.leak(counts, record)
        return record


class _Unwaited(queue.Queue[Any]):
    """A queue that lets nobody wait: time is what the hall says."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block=False)


class _Listened(World):
    """A broker that answers at once, and whose every message is heard."""

    def __init__(
        self, on_send: Callable[[Flight], None], on_other: Callable[[str, str | bytes], None]
    ) -> None:
        super().__init__(ROOT)
        self.inflight, self.auto = 16, True
        self.on_send, self._on_other = on_send, on_other

    def new_client(self) -> Client:
        self.clients.append(_ListenedClient(self, self._on_other))
        return self.clients[-1]


class _ListenedClient(Client):
    def __init__(self, world: World, on_other: Callable[[str, str | bytes], None]) -> None:
        super().__init__(world)
        self._on_other = on_other

    def publish(self, topic: str, payload: str | bytes, qos: int = 0, **options: Any) -> Any:
        if not isinstance(payload, bytes) or not payload:
            self._on_other(topic.removeprefix(f"{ROOT}/"), payload)
        return super().publish(topic, payload, qos, **options)


def _taken(released: dict[str, int]) -> int:
    """Take the released figure out; what it does not account for stays behind as a fact."""
    figure = released.pop("unclamped")
    if released["count"] == max(0, figure):
        del released["count"]
    return figure


def _facts(said: Any, place: str = "") -> Iterator[str]:
    """Yield each value of a document at its place."""
    if isinstance(said, Mapping):
        for name, value in said.items():
            yield from _facts(value, f"{place}.{name}" if place else name)
    else:
        yield f"{place}={said}"
