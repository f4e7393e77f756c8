"""The wiring: from a plan to a gateway whose threads can be started.

The only file that names every class. Reading it top to bottom is reading the flow: buses and
drivers, collectors, pipeline, spool, uplink.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.load import Problem
from drivers.base import Driver

from . import __version__, commissioned, kernel
from .alerts import AlertBook
from .applied import Entry
from .applying import SIGNER, changes
from .blink import Vitals
from .channels import Channel, MeasuredChannel, PeopleChannel
from .clock import SYSTEM_AGREES_S, Clock, floor_ns, rtc_witness
from .collector import Collector, Station
from .control import Control
from .departures import Departures
from .ear import Ear
from .fresh import Fresh, offset_s
from .health import Health
from .history import History
from .inbox import Inbox
from .lamp import Lamp
from .latest import Latest
from .logs import logger
from .machine import Machine
from .memory import Memory, digest_of
from .metrics import MetricsFile, exposition
from .openbus import OpenBus, open_bus
from .phenomena.choice import phenomenon_of
from .phenomena.closed import Phenomenon
from .phenomena.weather import OF_THE_AIR, Surroundings
from .pipeline import Pipeline
from .plan import Plan, PlannedBus, PlannedSensor
from .privacy.ledger import Terms
from .record import GATEWAY_STREAM, utc_text
from .replies import Replies
from .rules import Rules
from .sensor import (
    birth_of,
    directions_of,
    kind_of,
    place_json,
    seen_of,
    subject_of,
    temperature_listeners,
    text_json,
)
from .snapshot import Identity, Parts, Snapshot
from .spool import PACK_RECORDS, Spool, SpoolError, claim
from .spoolanswers import SpoolAnswers
from .supervisor import Supervisor
from .trials import Trials
from .uplink import Uplink
from .wake import Wake

if TYPE_CHECKING:
    from .remote.desk import Desk

log = logger("gateway")

ERROR_CHARACTERS = 200  # of a problem in an alert: its text is in two languages
QUEUE_POLLS = 1000  # between all collectors and the pipeline: seconds of the busiest gateway


class Gateway:
    """One life of the daemon, wired and not yet started."""

    def __init__(
        self,
        plan: Plan,
        *,
        needs_disk: bool = False,
        without_power: frozenset[str] = frozenset(),
        control: Control | None = None,
        history: History | None = None,
        trials: Trials | None = None,
        machine: Machine = kernel,
        open_bus: OpenBus = open_bus,
    ) -> None:
        """Open the spool and build everything; `without_power`: who saw the mains go before.

        `control` is where it can be asked, and `history` what is remembered of the last day;
        `trials` takes other configurations to be tried, where it may be asked to;
        `machine` and `open_bus` are what it stands on.

        Raises SpoolError where another gateway has the spool, and with `needs_disk` where the disk
        does not work; else the spool then lives in memory until it does.
        """
        self._machine = machine
        self._open_bus = open_bus
        self._plan = plan
        config = plan.loaded.config
        self._config = config
        self.refused = list(plan.refused)  # what is wrong with the configuration that is wanted
        self._started_s = self._machine.boot_s()
        self._without_power = without_power
        self._control = control
        self._trials = trials
        self._history = History(self._started_s) if history is None else history
        self.lost_power: frozenset[str] = frozenset()  # who saw the mains go: this life ends by it
        self._wake: Wake | None = None  # of whoever runs us
        self.health = Health()
        path = Path(config.spool.path)
        self._claim = claim(path)
        try:
            self.spool = Spool(
                path,
                max_bytes=config.spool.max_bytes,
                run=secrets.token_hex(8),
                boot_id=self._machine.boot_id(),
                gateway=config.gateway.id,
                pack_records=min(PACK_RECORDS, config.uplink.batch_records),
                terms=Terms(plan.policy, config.gateway.timezone, __version__),
            )
        except BaseException:
            self._claim.close()
            raise
        try:
            if needs_disk and self.spool.is_volatile:
                raise SpoolError(f"{path}: cannot be used: {self.spool.why_volatile}")
            self._wire(plan)
        except BaseException:  # who tries another plan next needs the spool
            with suppress(SpoolError):
                self.spool.close(clean=False)
            self._claim.close()
            raise

    def _wire(self, plan: Plan) -> None:
        config = plan.loaded.config
        look = self._machine.look()
        self._clock = Clock(look, trust_system=config.clock.trust == "system")
        witness = rtc_witness(self._machine.rtc_s(), look, known_ns=self.spool.known_ns)
        if witness is not None:
            self._clock.hear(witness)
            self._clock.accept(look)
        collectors_stopping = threading.Event()
        inbox = Inbox(QUEUE_POLLS)
        self._drivers: dict[str, tuple[PlannedSensor, Driver]] = {}
        self._ears: dict[str, Ear] = {}  # of sensors whose bytes tell of nobody
        self.collectors = [
            self._collector(bus, inbox, collectors_stopping)
            for bus in plan.buses
            if any(sensor.bus is bus for sensor in plan.sensors)
        ]
        expiring = config.alerts.certificate_expiring
        self._departures = Departures(self._wake_control)
        self.uplink = Uplink(
            config.uplink,
            gateway_id=config.gateway.id,
            spool=self.spool,
            fresh=Fresh(
                offset_s(config.gateway.id, config.uplink.offset_s),
                {sensor.table.id: sensor.window_s for sensor in plan.sensors},
                frozenset(sensor.table.id for sensor in plan.sensors if sensor.counts_people),
            ),
            health=self.health.uplink,
            birth=self.birth,
            health_message=self.health_message,
            find_file=plan.loaded.file,
            utc_ns=self._utc_ns,
            boot_s=self._machine.boot_s,
            alert=self._alert,
            expiry_days=expiring.days if expiring.enabled else None,
            floor_ns=self._floor_ns,
            system_errs=self._system_errs,
            outages=self._history.outages,
            left=self._departures.left,
            command=self._hear_command if config.commands.allow else None,
        )
        pairs = list(self._drivers.values())
        self._book = AlertBook(
            self.spool.alarms(),
            lambda: secrets.token_hex(8),
            {sensor.table.id: kind_of(driver) for sensor, driver in pairs},
        )
        digests = {s.table.id: digest_of(s.table.driver, s.table.options) for s in plan.sensors}
        spool = Path(config.spool.path)
        self._memory = Memory(spool, digests)
        self._commissioned = {
            name: commissioned.birth_of(name, digest, spool) for name, digest in digests.items()
        }
        self._surroundings = Surroundings()
        self._latest = {
            name: Latest()
            for name, (sensor, _) in self._drivers.items()
            if not sensor.counts_people
        }
        self._history.begin(
            {sensor.table.id: kind_of(driver) for sensor, driver in pairs},
            self.spool.alarms(),
            offset_s=offset_s(config.gateway.id, config.uplink.offset_s),
            utc_ns=self._clock.utc_ns,
        )
        self.pipeline = Pipeline(
            {name: self._channel(*pair) for name, pair in self._drivers.items()},
            inbox,
            self.spool,
            config_id=plan.loaded.config_id,
            clock=self._clock,
            look=self._machine.look,
            boot_id=self._machine.boot_id(),
            clock_wait_over=self._clock_wait_over,
            committed=self.uplink.committed,
            rewind=self.uplink.rewind,
            book=self._book,
            rules=Rules(
                config.alerts,
                {sensor.table.id: subject_of(sensor, driver) for sensor, driver in pairs},
                [(None if s == GATEWAY_STREAM else s, name) for s, name in self._book.active],
            ),
            remember=self._memory.keep,
            power_failed=self._on_power_failed,
            without_power=self._without_power,
            version=__version__,
            listeners=temperature_listeners(pairs),
            surroundings=self._surroundings,
            of_the_air={
                sensor.table.id
                for sensor, driver in pairs
                if kind_of(driver) in ("weather", "road") and OF_THE_AIR & driver.quantities.keys()
            },
            latest=self._latest,
            wrote=lambda records: self._history.wrote(records, self._machine.boot_s()),
        )
        led = config.gateway.led
        self._lamp = None if led is None else Lamp(led, self._vitals)
        metrics = config.gateway.metrics_file
        self._metrics = None if metrics is None else MetricsFile(Path(metrics), self._exposition)
        self._checker_stopping = threading.Event()
        self._checker = threading.Thread(target=self.check_spool, name="spool check", daemon=True)
        self._supervisor = Supervisor(
            self.collectors,
            self.pipeline,
            self.uplink,
            collectors_stopping=collectors_stopping,
            boot_s=self._machine.boot_s,
            drain_s=config.uplink.drain_s,
            others={} if self._control is None else {"control": self._control.pulse},
        )
        self.answers = Replies(
            self._snapshot(),
            self._history,
            self._departures,
            latest=self._latest,
            ears=self._ears,
            boot_s=self._machine.boot_s,
            utc=lambda boot_ns: utc_text(self._clock.utc_ns(round(boot_ns))),
        ).answers
        self._spool_answers = SpoolAnswers(
            self.spool, gateway=config.gateway.id, max_bytes=config.spool.max_bytes
        )
        for name, answer in self._spool_answers.by_name().items():
            self.answers.add(name, answer)
        if self._trials is not None:
            for name, change in changes(self._trials).items():
                self.answers.add_change(name, change)
        self._desk = self._open_desk(plan) if config.commands.allow else None

    def _open_desk(self, plan: Plan) -> Desk:
        from .remote.applying import apply_with  # whoever allows nothing needs none of it
        from .remote.desk import Surroundings
        from .remote.opening import open_desk

        return open_desk(
            plan,
            Surroundings(
                plan.loaded.config.gateway.id,
                lambda: self._utc_ns() if self._clock.known else None,
                self._machine.boot_s,
                self.uplink.reply,
                self.pipeline.audit,
            ),
            answers=self.answers,
            answering=threading.Lock() if self._control is None else self._control.answering,
            maintain=self.pipeline.maintain,
            reload=self._begin_anew,
            apply=None if self._trials is None else apply_with(self._trials),
        )

    def _hear_command(self, below: str, payload: bytes, retained: bool) -> None:
        if self._desk is not None:
            self._desk.hear(below, payload, retained=retained)

    def _begin_anew(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def _snapshot(self) -> Snapshot:
        config = self._config
        return Snapshot(
            Parts(
                Identity(
                    config.gateway.id,
                    text_json(config.gateway.label),
                    self.spool.run,
                    self._plan.loaded.config_id,
                    self._plan.applied,
                    self._plan.policy.sha256,
                    self._started_s,
                ),
                [seen_of(*pair) for pair in self._drivers.values()],
                lambda: [str(problem) for problem in self.refused],
                self.health,
                self._clock,
                self.pipeline,
                self._supervisor,
                self.uplink,
                self.spool,
                config.spool.max_bytes,
                self._history,
                self._latest,
                self._control_document,
                self._machine,
            )
        )

    def _wake_control(self) -> None:
        if self._control is not None:
            self._control.wake()

    def _control_document(self) -> dict[str, object]:
        control = self._control
        if control is None:
            return {"socket": None, "clients": 0}
        return {"socket": str(control.path), "clients": control.clients}

    def run(
        self,
        wake: Wake,
        goes_on: Callable[[], bool],
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """Run until `wake` is set and `goes_on` says no; stop cleanly. Raises ThreadDiedError.

        `started` is called once the first record is committed and all threads run. It ends by
        itself, and faster, when the mains fail: while there still is power.
        """
        clean = False
        self._wake = wake
        try:
            self.begin()
            self._supervisor.start()
            self._checker.start()
            log.info(
                "started",
                gateway=self._config.gateway.id,
                run=self.spool.run,
                version=__version__,
                config=self._plan.loaded.config_id,
                sensors=len(self._plan.sensors),
            )
            started()
            if self._lamp is not None:
                self._lamp.start()
            if self._metrics is not None:
                self._metrics.start()
            if self._control is not None:
                self._control.attach(self.answers)
            self._supervisor.watch(wake)
            wake.clear()  # before it is asked: what comes after the answer wakes again
            while not self.lost_power and goes_on():
                self._supervisor.watch(wake)
                wake.clear()
            if self._desk is not None:  # what it has to tell becomes a record yet
                self._desk.stop()
            self._supervisor.stop(in_haste=bool(self.lost_power))
            clean = True
        finally:
            if self._control is not None:
                self._control.detach()
            self._checker_stopping.set()
            if self._lamp is not None:
                self._lamp.stop()
            if self._metrics is not None:
                self._metrics.stop()
            self._spool_answers.stop()
            if self._desk is not None:
                self._desk.stop()
            self.close(clean=clean)

    def begin(self) -> None:
        """Commit the first record, and what an earlier life left open; before anything runs."""
        self.pipeline.announce(still={"config_refused"} if self.refused else ())
        if self.refused:
            self.config_refused(self.refused)

    def close(self, *, clean: bool) -> None:
        """Close the spool, once nothing runs any more."""
        waiting = None
        with suppress(SpoolError):  # a disk that fails must not hide why we stop
            waiting = sum(self.spool.waiting_by_run().values())
        if not self.spool.reopen():
            log.error("no disk: what waits in memory goes with the process", waiting=waiting)
        with suppress(SpoolError):
            self.spool.close(clean=clean)
        self._claim.close()
        log.info("stopped", clean=clean, waiting=waiting)

    def config_refused(self, problems: Sequence[Problem]) -> None:
        """Take note that another configuration was wanted and is wrong; this one goes on."""
        self.refused = list(problems)
        log.warning("configuration refused", problems=len(problems), first=str(problems[0]))
        self._alert("config_refused", {"error": str(problems[0])[:ERROR_CHARACTERS]})

    def command_settled(self, entry: Entry) -> None:
        """Tell what came of a configuration that was asked for from afar."""
        outcome = "done" if entry.outcome == "confirmed" else entry.outcome
        by = entry.by.removeprefix(SIGNER)
        told = {"verb": "config-apply", "id": entry.command, "by": by, "outcome": outcome}
        self.pipeline.audit({"event": "command", **told})

    def birth(self) -> dict[str, object]:
        """Return the birth certificate: who this is and what it will send."""
        gateway = self._config.gateway
        return {
            "schema": "yukimi.status/1",
            "state": "online",
            "gateway": gateway.id,
            "run": self.spool.run,
            "label": text_json(gateway.label),
            "location": place_json(gateway.location),
            "version": __version__,
            "config": self._plan.loaded.config_id,
            "policy": self._plan.policy.sha256,
            "since": utc_text(self._utc_ns()),
            "owner": gateway.owner,
            "licence": gateway.licence,
            "sensors": [
                birth_of(*pair, self._commissioned[pair[0].table.id])
                for pair in self._drivers.values()
            ],
        }

    def health_message(self) -> dict[str, object]:
        """Return the gateway's own figures; nothing in it depends on people's events."""
        uplink, spool = self.health.uplink, self.spool
        by_run = spool.waiting_by_run()
        oldest_ns = spool.oldest_end_ns()
        since_s = uplink.connected_since_s
        return {
            "schema": "yukimi.health/1",
            "run": spool.run,
            "uptime_s": round(self._machine.boot_s() - self._started_s, 1),
            "rss_bytes": self._machine.rss_bytes(),
            "clock": self._clock.stamp().json(),
            "uplink": {
                "broker": uplink.broker,
                "connected_since": None if since_s is None else self._utc_text(since_s),
                "reconnects": max(0, uplink.reconnects),
            },
            "spool": {
                "bytes": spool.bytes(),
                "waiting": sum(by_run.values()),
                "oldest": None if oldest_ns is None else utc_text(oldest_ns),
            },
            "produced": spool.produced(),
            "runs": [{"run": run, "waiting": waiting} for run, waiting in by_run.items()],
            "sensors": self.health.states(),
            "alerts": self._book.ids(without_kind="people"),
        }

    def _exposition(self) -> str:
        gateway = self._config.gateway.id
        return exposition(self.health_message(), gateway=gateway, version=__version__)

    def _vitals(self) -> Vitals:
        return Vitals(
            disk_works=not (self.spool.is_volatile or self.pipeline.is_failing),
            sensors=list(self.health.states().values()),
            is_connected=self.health.uplink.broker is not None,
            time_is_known=self._clock.known,
            at_s=self._machine.boot_s(),
        )

    def _alert(self, name: str, values: Mapping[str, object] | None) -> None:
        self.pipeline.tell(name, values)

    def _on_power_failed(self, sensor: str) -> None:
        """End this life: what is open is written down and sent while there still is power."""
        if self._config.alerts.power_fail.flush and self._wake is not None:
            log.warning("mains power has failed: storing and sending all", sensor=sensor)
            self.lost_power = self.lost_power | {sensor}
            self._wake.set()

    def check_spool(self) -> None:
        """Read the spool's file through after an unclean end; what is damaged is replaced."""
        if self.spool.ended_clean:
            return
        try:
            sound = self.spool.check(lambda: not self._checker_stopping.is_set())
        except SpoolError as exc:
            log.warning("the spool could not be checked", error=str(exc))
        else:
            log.info("the last run ended without a good-bye: spool checked", sound=sound)

    def _collector(self, planned: PlannedBus, inbox: Inbox, stopping: threading.Event) -> Collector:
        sensors = [sensor for sensor in self._plan.sensors if sensor.bus is planned]
        bus, wire_for = self._open_bus(planned, sensors)
        stations = []
        for sensor in sensors:
            build: Any = sensor.driver  # the protocol has no constructor; base.Driver names it
            driver: Driver = build(
                self._wire_of(sensor, wire_for), sensor.options, self._machine.boot_ns
            )
            self._drivers[sensor.table.id] = (sensor, driver)
            health = self.health.sensor(sensor.table.id)
            stations.append(Station(sensor.table.id, driver, sensor.table.on_error, health))
        return Collector(
            planned.name,
            bus,
            stations,
            inbox,
            health=self.health,
            boot_ns=self._machine.boot_ns,
            stopping=stopping,
        )

    def _wire_of(self, sensor: PlannedSensor, wire_for: Callable[[PlannedSensor], object]) -> Any:
        """Return what a sensor's driver talks through; where bytes pass, one can listen in."""
        spec = sensor.driver.spec
        if sensor.counts_people or spec.bus == "gpio":
            return wire_for(sensor)
        ear = Ear(wire_for(sensor), spec, sensor.options, self._machine.boot_ns)
        self._ears[sensor.table.id] = ear
        return ear.wire

    def _channel(self, sensor: PlannedSensor, driver: Driver) -> Channel[Any]:
        name, in_maintenance = sensor.table.id, sensor.table.maintenance
        moves = any(each.driver.spec.kind == "position" for each in self._plan.sensors)
        if sensor.counts_people:
            return PeopleChannel(
                name,
                policy=self._plan.policy,
                directions=directions_of(driver),
                now_ns=self._utc_ns(),
                now_boot_ns=self._machine.boot_ns(),
                moves=moves,
                in_maintenance=in_maintenance,
            )
        return MeasuredChannel(
            name,
            kind_of(driver),
            window_s=sensor.window_s,
            rate_hz=driver.rate_hz,
            quantities=sensor.believed(driver.quantities),
            now_ns=self._utc_ns(),
            moves=moves,
            in_maintenance=in_maintenance,
            phenomenon=self._phenomenon(name, driver, moves=moves),
        )

    def _phenomenon(self, name: str, driver: Driver, *, moves: bool) -> Phenomenon | None:
        """Return what is computed from a sensor's windows, with what the last life knew."""
        kind, quantities = kind_of(driver), driver.quantities
        found = phenomenon_of(kind, quantities, self._surroundings, moves=moves)
        known = self._memory.of(name)
        if found is None or known is None:
            return found
        try:
            found.restore(known)
        except ValueError as exc:
            log.warning("what was known of a sensor is of no use", sensor=name, why=str(exc))
            return phenomenon_of(kind, quantities, self._surroundings, moves=moves)
        return found

    def _clock_wait_over(self) -> bool:
        since_s = self.health.uplink.first_connected_s
        return since_s is not None and self._machine.boot_s() - since_s >= self._config.clock.wait_s

    def _floor_ns(self) -> int | None:
        """Return UTC that has certainly passed, while the time of day is not known."""
        return None if self._clock.known else floor_ns(self.spool.known_ns)

    def _system_errs(self) -> bool:
        """Tell whether the system's clock is not what is known: a receiver does not set it."""
        look = self._machine.look()
        return abs(look.utc_ns - self._clock.utc_ns(look.boot_ns)) > SYSTEM_AGREES_S * 1e9

    def _utc_ns(self) -> int:
        return self._clock.utc_ns(self._machine.boot_ns())

    def _utc_text(self, at_boot_s: float) -> str:
        return utc_text(self._clock.utc_ns(round(at_boot_s * 1e9)))
