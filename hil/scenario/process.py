"""The stage in this process: a whole gateway on simulated wires, driven by one thread.

The gateway is the one that runs in the field: its wiring, collectors, drivers, decoders, windows,
privacy ledger, spool on a real filesystem, outbox and uplink. In place of its threads, `play` makes
the step that is due next, and time goes to where that one is. Its broker is a real Mosquitto behind
a relay, because what a broker does is what one would get wrong: time stands still while an answer
that can come is on its way. Mosquitto's own waits (the will's delay, keep-alive) pass in real time.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, Self

import structlog

from ..city.account import Report
from ..faults.clock import Timeline
from ..faults.ongoing import Heal, every
from .book import Book, Crowd
from .clockwork import AT_1970_S, BenchMachine, Clockwork, S
from .far_side import FarSide
from .life import Life, World
from .load import Loaded
from .looks import Looks
from .places import Place
from .properties import Properties
from .timeline import Episode
from .verbs.base import OF_A_SENSOR

ANSWER_S = 2.0  # real seconds: more than a broker on the same machine ever takes
TURNS = 2000  # between two looks at the real time
SETTLE_STEP_S = 15
# After these the gateway hears at once that its connection is gone.
ENDS_CONNECTIONS = frozenset(("network_cut", "network_reset", "network_portal", "broker_kill"))

Event = tuple[int, Episode, bool]  # when, what, whether it begins
Progress = Callable[[float], None]


class ProcessStage(Properties):
    """A gateway, its devices, network, broker and city in this process; a context."""

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        """Raises UnavailableError where a recording, or a disk that can be broken, is not here."""
        self.loaded = loaded
        self.time = Clockwork()
        self._folder = folder
        self._scenario = loaded.scenario
        self._dice = Random(loaded.setting.seed)
        self._clock = Timeline(
            self.time.at_ns, begin_utc_ns=loaded.start_ns, error_s=loaded.scenario.clock.error_s
        )
        self._knows_nothing: Heal | None = None  # a clock that began in 1970
        self._world = World.of(loaded)
        self.book = Book(folder, loaded.start_ns)
        self.book.crowds = {name: Crowd() for name in self._world.crowds}
        self._life: Life | None = None
        self.lives = 0
        self._ongoing: list[tuple[Episode, Heal]] = []
        self._dead_after: int | None = None  # the connection that died and nobody was told
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.book.close)
            stack.callback(structlog.configure, **structlog.get_config())
            structlog.configure(
                processors=[self._hear], wrapper_class=structlog.BoundLogger,
                cache_logger_on_first_use=False,
            )  # fmt: skip
            note = self.book.notes.append
            far = FarSide(self._dice, on_records=self.book.take, note=note)
            self._far = stack.enter_context(far)
            broken = {each.acts for each in self.loaded.faults}
            self._place = stack.enter_context(Place(self._folder, broken, self._dice, note))
            self._looks = Looks(self.book, self._place, self._far.relay, self._scenario.lasts)
            stack.callback(self._abandon)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def report(self) -> Report:
        """Draw up the city's account."""
        return self._far.report()

    # Playing

    def play(self, *, speed: float | None = None, progress: Progress = lambda _now_s: None) -> None:
        """Play the scenario to its end, and let the gateway deliver what it has and stop."""
        events = list(self._events())
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        self._break_what_is_due(events, 0)
        if self._life is None and not self._is_without_power:
            self.boot()
        self._run(round(self._scenario.lasts * S), events, _Pace(began_s, speed), progress)
        for _, heal in reversed(self._ongoing):
            heal()
        self._ongoing.clear()
        self._dead_after = None
        self.played_s = self.time.now_s
        self._settle(_Pace(began_s, speed), progress)
        self.took_s = time.monotonic() - began_s
        self.cpu_s = time.process_time() - began_cpu_s

    def boot(self) -> None:
        """Begin a life: switch the gateway on."""
        if self._scenario.clock.at_boot == "unknown":
            self._forget_time()
        self.lives += 1
        relay = self._far.relay
        self._life = Life(
            self.loaded,
            self._world,
            BenchMachine(self._clock, self._dice),
            self.time,
            number=self.lives,
            broker=f"mqtt://{relay.host}:{relay.port}",
            spool=self._place.folder / "spool.db",
        )
        for number, (episode, _) in enumerate(self._ongoing):
            if episode.fault.acts in OF_A_SENSOR:  # the wires are new
                self._ongoing[number] = (episode, episode.fault.begin(self))

    def _forget_time(self) -> None:
        self.tell_time()
        utc_s = self.loaded.start_ns / S + self.time.now_s
        self._knows_nothing = every(self._clock.step(AT_1970_S - utc_s), self._clock.lose_sync())

    def tell_time(self) -> None:
        """Let network time set a clock that began in 1970."""
        heal, self._knows_nothing = self._knows_nothing, None
        if heal is not None:
            heal()

    def _run(self, until_ns: int, events: list[Event], pace: _Pace, progress: Progress) -> None:
        """Make the step that is due next, until nothing is due before `until_ns`."""
        turns = 0
        while True:
            turns += 1
            if turns % TURNS == 0:
                pace.keep(self.time.now_s)
                progress(self.time.now_s)
            event_ns: float = events[0][0] if events else math.inf
            next_ns = min(event_ns, self._looks.due_ns, until_ns)
            act = self._due_before(next_ns)
            if act is not None:
                act()
                continue
            self.time.begin(int(next_ns))
            if event_ns <= next_ns:
                self._break_what_is_due(events, int(next_ns))
            elif self._looks.due_ns <= next_ns:
                self._looks.look(self._life, self.time.now_ns)
            else:
                return

    def _due_before(self, at_ns: float) -> Callable[[], None] | None:
        """Return the turn of the gateway's part that is due first, if it is before `at_ns`."""
        life, first = self._life, None
        if life is None:
            return None
        for number, due_ns in enumerate(life.collector_ns):
            if due_ns < at_ns:
                at_ns, first = due_ns, number
        if life.pipeline_ns < at_ns:
            at_ns, first = life.pipeline_ns, -1
        if life.uplink_ns < at_ns:
            at_ns, first = life.uplink_ns, -2
        if first is None:
            return None
        self.time.begin(int(at_ns))
        if first == -1:
            return lambda: self._turn_pipeline(life)
        if first == -2:
            return lambda: self._turn_uplink(life)
        return lambda: self._turn_collector(life, first)

    def _turn_collector(self, life: Life, number: int) -> None:
        wait_s = life.gateway.collectors[number].step()
        over_ns = self.time.end()
        # Rounded up: what is due in less than a nanosecond would be due for ever.
        due_ns = math.inf if wait_s is None else over_ns + math.ceil(wait_s * S)
        life.collector_ns[number] = due_ns
        life.pipeline_ns = min(life.pipeline_ns, over_ns)

    def _turn_pipeline(self, life: Life) -> None:
        pipeline = life.gateway.pipeline
        pipeline.step(0.0)
        while pipeline.has_more:
            pipeline.step(0.0)
        over_ns = self.time.end()
        life.pipeline_ns = over_ns + max(1, math.ceil(pipeline.wait_s() * S))
        if life.gateway.uplink.has_news:
            life.uplink_ns = min(life.uplink_ns, over_ns)
        if life.gateway.lost_power:  # it says good-bye, and whoever still has power lives on
            self._stop(life)
            self.boot()

    def _turn_uplink(self, life: Life) -> None:
        """Let the uplink work; time stands still while an answer that can come is on its way."""
        uplink = life.gateway.uplink
        uplink.step(0.0)
        until_s = time.monotonic() + ANSWER_S
        while uplink.awaits_broker and self._answers(life):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                self.book.notes.append(f"no answer of the broker at {self.time.now_s:.0f} s")
                break
            uplink.step(min(left_s, 0.25))
        over_ns = self.time.end()
        life.uplink_ns = over_ns + max(1, math.ceil(uplink.wait_s() * S))
        self._looks.connection(self.time.now_s, is_there=life.is_connected)

    def _answers(self, life: Life) -> bool:
        """Tell whether who is asked says something, if only that nobody is there."""
        if self._far.relay.state == "stalled":
            return False
        is_mute = any(each.fault.verb == "broker_never_ack" for each, _ in self._ongoing)
        is_dead = self._dead_after == life.connections
        return not (life.is_connected and (is_mute or is_dead))  # a new connection is answered

    # What breaks

    @property
    def _is_without_power(self) -> bool:
        return any(episode.fault.acts == "power" for episode, _ in self._ongoing)

    def _events(self) -> Iterator[Event]:
        """Yield what begins and ends, in order; an end goes before a beginning."""
        found = []
        for episode in self.loaded.episodes():
            found.append((round(episode.begin_s * S), 1, episode))
            if not math.isinf(episode.end_s) and not episode.fault.is_moment:
                found.append((round(episode.end_s * S), 0, episode))
        for at_ns, begins, episode in sorted(found, key=lambda each: each[:2]):
            yield at_ns, episode, bool(begins)

    def _break_what_is_due(self, events: list[Event], now_ns: int) -> None:
        while events and events[0][0] <= now_ns:
            _, episode, begins = events.pop(0)
            if begins:
                self._begin(episode)
            else:
                self._heal(episode)
        if self._life is not None:
            self._life.uplink_ns = now_ns  # the connection may be gone

    def _begin(self, episode: Episode) -> None:
        fault, life = episode.fault, self._life
        if life is None and fault.acts in OF_A_SENSOR:  # when there are wires
            self._ongoing.append((episode, lambda: None))
            return
        heal = fault.begin(self)
        if not fault.is_moment:
            self._ongoing.append((episode, heal))
        if life is None:
            return
        if fault.verb == "network_half_open":
            self._dead_after = life.connections
        elif fault.verb in ENDS_CONNECTIONS:
            self._await_loss(life)

    def _heal(self, episode: Episode) -> None:
        for number, (each, heal) in enumerate(self._ongoing):
            if each is episode:
                del self._ongoing[number]
                heal()
                return

    def _await_loss(self, life: Life) -> None:
        """Let the uplink hear that its connection is gone, before time goes on."""
        until_s = time.monotonic() + ANSWER_S
        while life.is_connected and time.monotonic() < until_s:
            life.gateway.uplink.step(0.25)
        self._looks.connection(self.time.now_s, is_there=life.is_connected)

    def cut_power(self) -> None:
        """Let the gateway be without power from now on; what was not synced is gone."""
        life, relay = self._life, self._far.relay
        if life is None:
            return
        self._looks.look(life, self.time.now_ns)
        self._tell_produced(life)
        mount = self._place.cut_power()
        plug_in = relay.cut()  # its sockets are gone, and nobody says good-bye
        self._await_loss(life)
        life.end()
        self._life = None
        mount()
        plug_in()

    def restore_power(self) -> None:
        """Let it boot."""
        if self._life is None:
            self.boot()

    # The end

    def _settle(self, pace: _Pace, progress: Progress) -> None:
        """Let time pass until the spool is empty, then stop the gateway in order."""
        if self._life is None:
            self.boot()
        until_ns = self.time.now_ns + round(self._scenario.expect.settles_within * S)
        self.settled_s = math.inf
        begin_s = self.time.now_s
        while self.time.now_ns < until_ns and self._life is not None:
            step_ns = self.time.now_ns + SETTLE_STEP_S * S
            self._run(min(until_ns, step_ns), [], pace, progress)
            if self._life.is_connected and not self._life.waiting:
                self.settled_s = self.time.now_s - begin_s
                break
        if self._life is not None:
            self._looks.look(self._life, self.time.now_ns)
            self._stop(self._life)
        self._far.catch_up()

    def _stop(self, life: Life) -> None:
        self._looks.crossings(life)
        life.stop(lambda: self._tell_produced(life))
        self._life = None

    def _abandon(self) -> None:
        if self._life is not None:
            self._far.relay.cut()
            self._life.end()

    def _tell_produced(self, life: Life) -> None:
        spool = life.gateway.spool
        gateway = self.loaded.plan.loaded.config.gateway.id
        self._far.tell_produced(gateway, spool.run, spool.produced())

    def _hear(self, _logger: Any, level: str, line: Any) -> str:
        """Take a line of the gateway's log, and let it go no further."""
        event = str(line.pop("event", ""))
        fields = " ".join(f"{name}={value}" for name, value in line.items() if name != "part")
        self.book.said(self.time.now_s, level, f"{event} {fields}".strip())
        raise structlog.DropEvent


class _Pace:
    """Keeps a run from being faster than it may."""

    def __init__(self, began_s: float, speed: float | None) -> None:
        self._began_s = began_s
        self._speed = speed

    def keep(self, now_s: float) -> None:
        """Wait where time is ahead."""
        if self._speed is not None:
            ahead_s = now_s / self._speed - (time.monotonic() - self._began_s)
            if ahead_s > 0:
                time.sleep(ahead_s)


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for one run, which goes with it."""
    return tempfile.TemporaryDirectory(prefix="yukimi-scenario-")
