"""The stage in this process: a whole gateway on simulated wires, driven by one thread.

The gateway is the one that runs in the field: its wiring, collectors, drivers, decoders, windows,
privacy ledger, spool on a real filesystem, outbox and uplink. In place of its threads, `run` makes
the step that is due next, and time goes to where that one is. Its broker is a real Mosquitto behind
a relay, because what a broker does is what one would get wrong: time stands still while an answer
that can come is on its way. Mosquitto's own waits (the will's delay, keep-alive) pass in real time.

Where power is cut, the state lies on an ext4 of its own that is shut down without writing its log,
as root; for others the life just ends, and a note in the report says so.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

import structlog
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.app import Gateway
from agent.openbus import Wired
from agent.plan import Plan, PlannedBus, PlannedSensor, plan_of

from .. import emulation
from ..city.account import Report
from ..city.subscriber import City
from ..faults.broker import FaultyBroker
from ..faults.disk import FaultyDisk
from ..faults.ext4 import Ext4Image, UnavailableError
from ..faults.ongoing import Heal
from ..relay import Relay
from ..simulated import SimulatedBus
from . import truths
from .book import Book, Crowd, Measure
from .clockwork import BenchMachine, Clockwork, SystemClock
from .load import Loaded
from .timeline import Episode
from .verbs.base import OF_A_SENSOR

S = 1_000_000_000
ANSWER_S = 2.0  # real seconds: more than a broker on the same machine ever takes
CITY_S = 60.0  # real seconds
MARKER_S = 1.0  # real seconds: what was published before the city listened is lost
MEASURES = 1500  # at most, in a run
MEASURE_LEAST_S = 60.0
# After these the gateway hears at once that its connection is gone.
ENDS_CONNECTIONS = frozenset(("network_cut", "network_reset", "network_portal", "broker_kill"))
LOOK_S = 0.02  # how finely a device's turn-around is kept: each look costs as much as a poll
MARKER = "yukimi/v1/marker/status"
NOT_ROOT = (
    "Power cuts ended the gateway's life only: losing what was not synced needs root and a loop"
    " device."
)


@dataclass(slots=True)
class _Life:
    """One life of the gateway, and the wires and devices it was born with."""

    gateway: Gateway
    machine: BenchMachine
    buses: dict[str, SimulatedBus]  # by sensor
    due_ns: list[float]  # of each collector
    pipeline_ns: float = 0
    uplink_ns: float = 0


class ProcessStage:
    """A gateway, its devices, network, broker and city in this process; a context."""

    name = "process"

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        self.loaded = loaded
        self.time = Clockwork()
        self._folder = folder
        self._scenario = loaded.scenario
        self._dice = Random(loaded.setting.seed)
        self.system_clock = SystemClock(
            self.time, loaded.start_ns, error_s=loaded.scenario.clock.error_s
        )
        self.book = Book(folder, loaded.start_ns)
        self._truths, self._crowds = loaded.truths(), loaded.crowds()
        self._peaks = {
            name: _peak(rate, self._scenario.lasts) for name, rate in self._crowds.items()
        }
        self.book.crowds = {name: Crowd() for name in self._crowds}
        self._broken = {each.acts for each in loaded.faults}
        self._image: Ext4Image | None = None  # where only power is cut
        self._disk: FaultyDisk | None = None
        self._life: _Life | None = None
        self.lives = 0
        self._ongoing: list[tuple[Episode, Heal]] = []
        self._marked = threading.Event()
        self._stack = ExitStack()
        self._measure_ns = 0.0
        self._outage_s: float | None = None
        self._dead_after: int | None = None  # the connection that died and nobody was told

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.book.close)
            before = structlog.get_config()
            stack.callback(structlog.configure, **before)
            structlog.configure(
                processors=[self._hear], wrapper_class=structlog.BoundLogger,
                cache_logger_on_first_use=False,
            )  # fmt: skip
            self._faulty = stack.enter_context(FaultyBroker(dice=self._dice))
            self._broker, self.relay = self._faulty.broker, self._faulty.relay
            self._city = City(self._broker.host, self._broker.port, on_message=self._heard)
            stack.enter_context(self._city)
            self._city.wait_subscribed()
            self._state = self._make_state(stack)
            stack.callback(self._abandon)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _make_state(self, stack: ExitStack) -> Path:
        """Make the folder of the spool, on a disk that can be broken where one is.

        Raises UnavailableError where the scenario breaks disks and that cannot be done here.
        """
        state = self._folder / "state"
        if "disk" in self._broken:
            self._disk = stack.enter_context(FaultyDisk(dice=self._dice))
            return self._disk.mount_point
        if "power" in self._broken:
            image = Ext4Image(self._folder)
            try:
                image.make()
            except (UnavailableError, OSError):
                self.book.notes.append(NOT_ROOT)
            else:
                self._image = image
                stack.callback(image.close)
                state = image.mount_point / "state"
        state.mkdir()
        return state

    # A life

    def boot(self) -> None:
        """Begin a life: switch the gateway on."""
        scenario = self._scenario
        if scenario.clock.at_boot == "unknown":
            self.system_clock.boot_unknown()
        machine = BenchMachine(self.time, self.system_clock, self._dice)
        buses: dict[str, SimulatedBus] = {}

        def open_bus(planned: PlannedBus, sensors: list[PlannedSensor]) -> Wired:
            named = {each.table.id: (each.table.driver, each.options) for each in sensors}
            bus = SimulatedBus(
                named,
                now_ns=machine.boot_ns,
                wait_s=self.time.wait,
                look_s=LOOK_S,
                seed=self.loaded.setting.seed,
            )
            buses.update(dict.fromkeys(named, bus))
            return bus, lambda sensor: bus.wire(sensor.table.id)

        self.time.begin(self.time.now_ns)
        gateway = Gateway(self._plan(), machine=machine, open_bus=open_bus)
        self.lives += 1
        life = _Life(gateway, machine, buses, [self.time.now_ns] * len(gateway.collectors))
        life.pipeline_ns = life.uplink_ns = self.time.now_ns
        self._life = life
        for sensor in self.loaded.plan.sensors:
            self._tell_truth(sensor)
        gateway.begin()
        gateway.check_spool()
        self.time.end()
        for number, (episode, _) in enumerate(self._ongoing):
            if episode.fault.acts in OF_A_SENSOR:  # the wires are new
                self._ongoing[number] = (episode, episode.fault.begin(self))

    def _plan(self) -> Plan:
        config = dict(self.loaded.config)
        config["uplink"] = {
            **config["uplink"],
            "brokers": [f"mqtt://{self.relay.host}:{self.relay.port}"],
        }
        config["spool"] = {**config.get("spool", {}), "path": str(self._state / "spool.db")}
        return plan_of(config, self.loaded.path, {})

    def _tell_truth(self, sensor: PlannedSensor) -> None:
        name, driver = sensor.table.id, sensor.table.driver
        device, shift_s = self._device(name), self._shift_s()
        for quantity, truth in self._truths.get(name, {}).items():
            truths.put(driver, device, sensor.options, quantity, _shifted(truth, shift_s))
        rate = self._crowds.get(name)
        if rate is not None:
            seed = zlib.crc32(f"{name} {self.lives}".encode(), self.loaded.setting.seed)
            truths.bring_crowd(
                driver,
                device,
                sensor.options,
                _shifted(rate, shift_s),
                peak=self._peaks[name],
                seed=seed,
            )
        if driver == "nmea-gnss":
            device._utc_s = lambda at_s: self.loaded.start_ns / S + at_s + shift_s

    def _shift_s(self) -> float:
        """Return what makes a device's time the scenario's."""
        life = self._alive()
        return life.machine.on_ns / S

    def _alive(self) -> _Life:
        if self._life is None:
            raise RuntimeError("the gateway is without power")
        return self._life

    # Playing

    def play(
        self,
        *,
        speed: float | None = None,
        progress: Callable[[float], None] = lambda _now_s: None,
    ) -> None:
        """Play the scenario to its end, and let the gateway deliver what it has and stop."""
        lasts_ns = round(self._scenario.lasts * S)
        events = list(self._events())
        self._break_what_is_due(events, 0)
        if self._life is None and not self._is_without_power:
            self.boot()
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        self._run(lasts_ns, events, _Pace(began_s, speed), progress)
        for _, heal in reversed(self._ongoing):
            heal()
        self._ongoing.clear()
        self._dead_after = None
        self.played_s = self.time.now_s
        self._settle(progress)
        self.took_s, self.cpu_s = (
            time.monotonic() - began_s,
            time.process_time() - began_cpu_s,
        )

    @property
    def _is_mute(self) -> bool:
        """Whether the broker takes messages and does not say so."""
        return any(episode.fault.verb == "broker_never_ack" for episode, _ in self._ongoing)

    @property
    def _is_without_power(self) -> bool:
        return any(episode.fault.acts == "power" for episode, _ in self._ongoing)

    def _events(self) -> Iterator[tuple[int, Episode, bool]]:
        """Yield (when, what, whether it begins), in order; an end goes before a beginning."""
        found = []
        for episode in self.loaded.episodes():
            found.append((round(episode.begin_s * S), 1, episode))
            if not math.isinf(episode.end_s) and not episode.fault.is_moment:
                found.append((round(episode.end_s * S), 0, episode))
        for at_ns, begins, episode in sorted(found, key=lambda each: each[:2]):
            yield at_ns, episode, bool(begins)

    def _run(
        self,
        until_ns: int,
        events: list[tuple[int, Episode, bool]],
        pace: _Pace,
        progress: Callable[[float], None],
    ) -> None:
        turns = 0
        while True:
            life = self._life
            event_ns: float = events[0][0] if events else math.inf
            next_ns = min(event_ns, self._measure_ns, until_ns)
            who = -1
            if life is not None:
                for number, due_ns in enumerate(life.due_ns):
                    if due_ns < next_ns:
                        next_ns, who = due_ns, number
                if life.pipeline_ns < next_ns:
                    next_ns, who = life.pipeline_ns, -2
                if life.uplink_ns < next_ns:
                    next_ns, who = life.uplink_ns, -3
            now_ns = int(next_ns)
            self.time.begin(now_ns)
            turns += 1
            if turns % 2000 == 0:
                pace.keep(self.time.now_s)
                progress(self.time.now_s)
            if who >= 0 and life is not None:
                self._turn_collector(life, who)
            elif who == -2 and life is not None:
                self._turn_pipeline(life)
            elif who == -3 and life is not None:
                self._turn_uplink(life)
            elif event_ns <= now_ns:
                self._break_what_is_due(events, now_ns)
            elif self._measure_ns <= now_ns:
                self._measure()
            else:
                return

    def _turn_collector(self, life: _Life, number: int) -> None:
        wait_s = life.gateway.collectors[number].step()
        over_ns = self.time.end()
        life.due_ns[number] = math.inf if wait_s is None else over_ns + math.ceil(wait_s * S)
        life.pipeline_ns = min(life.pipeline_ns, over_ns)

    def _turn_pipeline(self, life: _Life) -> None:
        pipeline = life.gateway.pipeline
        pipeline.step(0.0)
        while pipeline.has_more:
            pipeline.step(0.0)
        over_ns = self.time.end()
        life.pipeline_ns = over_ns + max(1, round(pipeline.wait_s() * S))
        if life.gateway.uplink.has_news:
            life.uplink_ns = min(life.uplink_ns, over_ns)
        if life.gateway.lost_power:
            self._say_good_bye(life)

    def _turn_uplink(self, life: _Life) -> None:
        """Let the uplink work; time stands still while an answer that can come is on its way."""
        uplink = life.gateway.uplink
        uplink.step(0.0)
        until_s = time.monotonic() + ANSWER_S
        while uplink.awaits_broker and self._answers:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                self.book.notes.append(f"no answer of the broker at {self.time.now_s:.0f} s")
                break
            uplink.step(min(left_s, 0.25))
        over_ns = self.time.end()
        life.uplink_ns = over_ns + max(1, round(uplink.wait_s() * S))
        self._note_outage(is_connected=life.gateway.health.uplink.broker is not None)

    def _note_outage(self, *, is_connected: bool) -> None:
        now_s = self.time.now_s
        if not is_connected and self._outage_s is None:
            self._outage_s = now_s
        elif is_connected and self._outage_s is not None:
            if now_s > self._outage_s:
                self.book.outages.append((self._outage_s, now_s))
            self._outage_s = None

    @property
    def _answers(self) -> bool:
        """Whether who is asked says something, if only that nobody is there."""
        life = self._life
        if life is None or self.relay.state == "stalled" or self._is_mute:
            return False
        return self._dead_after != life.gateway.health.uplink.reconnects

    def _break_what_is_due(self, events: list[tuple[int, Episode, bool]], now_ns: int) -> None:
        while events and events[0][0] <= now_ns:
            _, episode, begins = events.pop(0)
            if begins:
                if self._life is None and episode.fault.acts in OF_A_SENSOR and self.lives == 0:
                    self.boot()  # its wires are there from the first moment
                self._begin(episode)
            else:
                self._heal(episode)
        if self._life is not None:
            self._life.uplink_ns = now_ns  # the connection may be gone

    def _begin(self, episode: Episode) -> None:
        if self._life is None and episode.fault.acts in OF_A_SENSOR:
            self._ongoing.append((episode, lambda: None))
            return
        heal = episode.fault.begin(self)
        if not episode.fault.is_moment:
            self._ongoing.append((episode, heal))
        self._await_loss(episode)

    def _heal(self, episode: Episode) -> None:
        for number, (each, heal) in enumerate(self._ongoing):
            if each is episode:
                del self._ongoing[number]
                heal()
                return

    def _await_loss(self, episode: Episode) -> None:
        """Let the uplink hear that its connection is gone, before time goes on."""
        life = self._life
        if life is None:
            return
        if episode.fault.verb == "network_half_open":
            self._dead_after = life.gateway.health.uplink.reconnects
        if episode.fault.verb not in ENDS_CONNECTIONS:
            return
        until_s = time.monotonic() + ANSWER_S
        while life.gateway.health.uplink.broker is not None and time.monotonic() < until_s:
            life.gateway.uplink.step(0.25)
        self._note_outage(is_connected=life.gateway.health.uplink.broker is not None)

    # What verbs ask of the stage

    @property
    def network(self) -> Relay:
        """The way to the broker."""
        return self.relay

    @property
    def clock(self) -> SystemClock:
        """The gateway's clock."""
        return self.system_clock

    @property
    def machine(self) -> Any:
        """Nobody's: verbs that act on the machine do not name this stage."""
        raise RuntimeError("this process is no machine of its own")

    def ports(self, sensor: str) -> Sequence[Any]:
        """Return the serial port that a sensor is on, or the two of a pair."""
        wire: Any = self._alive().buses[sensor].wire(sensor)
        return (wire.a, wire.b) if hasattr(wire, "a") else (wire,)

    def devices(self, sensor: str) -> Sequence[Any]:
        """Return the device behind a sensor, or the two of a pair."""
        device = self._device(sensor)
        return device if isinstance(device, tuple) else (device,)

    def plug(self, port: Any, kernel_name: str | None) -> None:
        """Plug a serial port in again."""
        port.plug(None if kernel_name is None else f"/dev/{kernel_name}")

    def bus(self, sensor: str) -> Any:
        """Return the I2C bus or the pins that a sensor is on."""
        return self._alive().buses[sensor].wire(sensor)

    def address(self, sensor: str) -> int:
        """Return a sensor's address on its bus."""
        bus, device = self.bus(sensor), self._device(sensor)
        return next(int(at) for at, each in bus.devices.items() if each is device)

    def twin(self, sensor: str) -> Any:
        """Build another device like the one behind a sensor."""
        planned = next(each for each in self.loaded.plan.sensors if each.table.id == sensor)
        return emulation.load(planned.table.driver).build(planned.options, 4711)

    @property
    def broker(self) -> ProcessBroker:
        """The city's broker."""
        return ProcessBroker(self, self._faulty)

    @property
    def disk(self) -> FaultyDisk:
        """Where the spool lies."""
        if self._disk is None:
            raise UnavailableError("this disk cannot be broken")
        return self._disk

    def pins(self, sensor: str) -> tuple[int, ...]:
        """Return the pins that a sensor has, BCM numbers."""
        planned = next(each for each in self.loaded.plan.sensors if each.table.id == sensor)
        named = (
            getattr(planned.options, name, None)
            for name in ("pin", "pin_a", "pin_b", "pin_towards", "pin_away")
        )
        return tuple(pin for pin in named if pin is not None)

    def cut_power(self) -> None:
        """Let the gateway be without power from now on."""
        life = self._life
        if life is None:
            return
        self._measure_now(life)
        self._tell_produced(life)
        back = self._cut_disk()
        state = self.relay.state
        self.relay.cut()  # its sockets are gone, and nobody says good-bye
        self._end(life)
        back()
        if state == "open":
            self.relay.resume()
        elif state == "stalled":
            self.relay.stall()

    def _cut_disk(self) -> Heal:
        """Lose what was not synced; return what mounts what is left, once the files are closed."""
        if self._disk is not None:
            return self._disk.cut_power()
        if self._image is not None:
            self._image.cut()
            return self._image.power_on
        copy = self._folder / "left"
        shutil.copytree(self._state, copy)

        def put_back() -> None:
            shutil.rmtree(self._state)
            copy.rename(self._state)

        return put_back

    def restore_power(self) -> None:
        """Let it boot."""
        if self._life is None:
            self.boot()

    # Ends

    def _say_good_bye(self, life: _Life) -> None:
        """Let a gateway that saw the mains go end its life as it does, and live another."""
        self._stop(life)
        self.boot()

    def _settle(self, progress: Callable[[float], None]) -> None:
        """Let time pass until the spool is empty, then stop the gateway in order."""
        if self._life is None:
            self.boot()
        until_ns = self.time.now_ns + round(self._scenario.expect.settles_within * S)
        pace = _Pace(time.monotonic(), None)
        self.settled_s = math.inf
        begin_s = self.time.now_s
        while self.time.now_ns < until_ns:
            self._run(min(until_ns, self.time.now_ns + 15 * S), [], pace, progress)
            life = self._alive()
            is_connected = life.gateway.health.uplink.broker is not None
            if is_connected and not sum(life.gateway.spool.waiting_by_run().values()):
                self.settled_s = self.time.now_s - begin_s
                break
        self._measure_now(self._alive())
        self._stop(self._alive())
        self.catch_up()

    def _stop(self, life: _Life) -> None:
        """Stop in the order of the flow, as the supervisor does."""
        gateway = life.gateway
        for collector in gateway.collectors:
            collector.finish()
        gateway.pipeline.finish()
        gateway.uplink.stop()
        gateway.uplink.finish()
        self._tell_produced(life)
        self._take_crossings(life)
        gateway.close(clean=True)
        self._life = None

    def _end(self, life: _Life) -> None:
        """Let a life end in the middle of whatever it is doing."""
        uplink = life.gateway.uplink
        until_s = time.monotonic() + ANSWER_S
        while life.gateway.health.uplink.broker is not None and time.monotonic() < until_s:
            uplink.step(0.25)
        self._note_outage(is_connected=False)
        self._take_crossings(life)
        uplink.stop(0.0)
        uplink.finish()
        life.gateway.close(clean=False)
        self._life = None

    def _abandon(self) -> None:
        if self._life is not None:
            with suppress(Exception):
                self._end(self._life)

    def _tell_produced(self, life: _Life) -> None:
        spool = life.gateway.spool
        gateway = self.loaded.plan.loaded.config.gateway.id
        with self._city.locked() as account:
            account.tell_produced(gateway, spool.run, spool.produced(), is_final=True)

    def catch_up(self) -> None:
        """Wait until the city listens, and has all that the broker had acknowledged."""
        self._marked.clear()
        until_s = time.monotonic() + CITY_S
        while time.monotonic() < until_s:
            with suppress(OSError):
                self._mark()
            if self._marked.wait(MARKER_S):
                return
        self.book.notes.append("the city does not hear what the broker took")

    def _mark(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="marker")
        client.connect(self._broker.host, self._broker.port)
        client.loop_start()
        try:
            client.publish(MARKER, b"", qos=1).wait_for_publish(MARKER_S)
        finally:
            client.disconnect()
            client.loop_stop()

    def report(self) -> Report:
        """Draw up the city's account."""
        return self._city.report()

    # Looking on

    def _heard(self, topic: str, payload: bytes, records: list[dict[str, Any]]) -> None:
        if topic == MARKER:
            self._marked.set()
        else:
            self.book.take(topic, payload, records)

    def _hear(self, _logger: Any, level: str, line: Any) -> str:
        event = str(line.pop("event", ""))
        fields = " ".join(f"{name}={value}" for name, value in line.items() if name != "part")
        self.book.said(self.time.now_s, level, f"{event} {fields}".strip())
        raise structlog.DropEvent

    def _measure(self) -> None:
        step_s = max(MEASURE_LEAST_S, self._scenario.lasts / MEASURES)
        self._measure_ns = self.time.now_ns + round(step_s * S)
        if self._life is not None:
            self._measure_now(self._life)

    def _measure_now(self, life: _Life) -> None:
        self._take_crossings(life)
        spool = life.gateway.spool
        self.book.measure(
            Measure(
                self.time.now_s,
                _rss_bytes(),
                spool.bytes(),
                sum(file.stat().st_size for file in self._state.iterdir() if file.is_file()),
                sum(spool.waiting_by_run().values()),
                len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208  (a path each is a waste)
                threading.active_count(),
                self.relay.bytes_to_target,
                float(life.gateway.health.uplink.broker is not None),
            )
        )

    def _take_crossings(self, life: _Life) -> None:
        shift_s = life.machine.on_ns / S
        for sensor in self.loaded.plan.sensors:
            name, driver = sensor.table.id, sensor.table.driver
            if name in self._crowds:
                taken = truths.take_crossings(driver, life.buses[name].devices[name])
                self.book.passed(name, taken, shift_s)

    def _device(self, sensor: str) -> Any:
        return self._alive().buses[sensor].devices[sensor]


class ProcessBroker:
    """The broker of this stage, seen by verbs: what it acknowledged never goes to its grave."""

    def __init__(self, stage: ProcessStage, faulty: FaultyBroker) -> None:
        self._stage = stage
        self._faulty = faulty
        self.refuse = faulty.refuse
        self.refuse_logins = faulty.refuse_logins
        self.refuse_messages = faulty.refuse_messages
        self.never_acknowledge = faulty.never_acknowledge
        self.throttle = faulty.throttle

    def kill(self) -> Heal:
        """End it once the city has what it acknowledged; nobody is let in before the city is."""
        self._stage.catch_up()
        start = self._faulty.kill()

        def heal() -> None:
            start()
            self._stage.catch_up()  # the gateway asks again only when time goes on

        return heal


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


def _shifted(truth: truths.Rate, shift_s: float) -> truths.Rate:
    return lambda at_s: truth(at_s + shift_s)


def _peak(rate: truths.Rate, lasts_s: float) -> float:
    return max(rate(lasts_s * step / 2000) for step in range(2001))


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for one run, which goes with it."""
    return tempfile.TemporaryDirectory(prefix="yukimi-scenario-")
