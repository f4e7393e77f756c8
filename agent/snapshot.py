"""The state of a running gateway as plain data: for status, watch, doctor, and whoever else looks.

Nothing is computed but when somebody asks; threads go on meanwhile, so that figures are of almost
the same instant. Of people sensors there are state and released figures, and nothing that depends
on persons at a finer grain: no rate, no counter, no bytes.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import __version__, kernel
from .clock import Clock, floor_ns
from .health import Health, SensorHealth
from .history import History
from .latest import Latest
from .machine import Machine
from .record import utc_text
from .spool import Figures, Spool, SpoolError

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .supervisor import Supervisor
    from .uplink import Uplink

Document = dict[str, Any]

PATIENCE_S = 0.05  # with the spool's lock; while it is held for longer, the figures are older
SPOOL_S = 1.0  # figures of the spool may be so old anyway,
SPOOL_SHARE = 100  # and so many times as old as it takes to make them: a percent of the time
# What a record takes in the spool once it is packed, and below how many waiting records that is a
# better guess than what they take. Measured: docs/control.md.
PACKED_BYTES = 65
FEW_RECORDS = 5000


class Seen(NamedTuple):
    """A sensor as a snapshot shows it: what does not change in one life."""

    id: str
    driver: str
    kind: str
    bus: str
    window_s: int
    label: Mapping[str, str] | None
    directions: Mapping[str, Any]  # of a people sensor
    units: Mapping[str, str]
    rate_hz: float

    @property
    def counts_people(self) -> bool:
        """Whether it counts people."""
        return self.kind == "people"


class Identity(NamedTuple):
    """Who the gateway is in this life."""

    gateway: str
    label: Mapping[str, str] | None
    run: str
    config_id: str
    applied: int | None  # the number under which it was applied; None: the file says so
    policy: str
    started_s: float  # boot-time clock


class Parts(NamedTuple):
    """What a snapshot looks at."""

    identity: Identity
    sensors: list[Seen]
    refused: Callable[[], list[str]]
    health: Health
    clock: Clock
    pipeline: Pipeline
    supervisor: Supervisor
    uplink: Uplink
    spool: Spool
    max_bytes: int
    history: History
    latest: Mapping[str, Latest]  # of measuring sensors only
    control: Callable[[], Document]
    machine: Machine = kernel


class Snapshot:
    """Tells the state of one life of the gateway; for one thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._figures: Figures | None = None
        self._figures_s = 0.0  # when they were made
        self._figures_until_s = 0.0
        self._spool_error: str | None = None

    def document(self) -> Document:
        """Return all of it."""
        now_ns = self._parts.machine.boot_ns()
        now_s = now_ns / 1e9
        return {
            "schema": "yukimi.status/1",
            "state": "running",
            "time": self._utc(now_ns),
            "gateway": self._gateway(now_s),
            "uplink": self._uplink(now_s),
            "spool": self.spool(now_s),
            "clock": self._clock(now_ns),
            "alerts": self._parts.history.alerts(now_s),
            "sensors": [self._sensor(seen, now_ns) for seen in self._parts.sensors],
            "threads": self._parts.supervisor.threads(now_s),
            "resources": resources(),
            "control": self._parts.control(),
        }

    @property
    def sensor_ids(self) -> list[str]:
        """The sensors that there are."""
        return [seen.id for seen in self._parts.sensors]

    def sensor(self, sensor_id: str) -> Document | None:
        """Return one sensor's part; None if there is no such sensor."""
        for seen in self._parts.sensors:
            if seen.id == sensor_id:
                return self._sensor(seen, self._parts.machine.boot_ns())
        return None

    def _gateway(self, now_s: float) -> Document:
        who = self._parts.identity
        return {
            "id": who.gateway,
            "label": who.label,
            "run": who.run,
            "version": __version__,
            "config": who.config_id,
            "applied": who.applied,
            "policy": who.policy,
            "since": self._utc(who.started_s * 1e9),
            "uptime_s": round(now_s - who.started_s, 1),
            "refused": self._parts.refused(),
        }

    def _uplink(self, now_s: float) -> Document:
        health = self._parts.health.uplink
        failure, next_s, muted = health.failure, health.next_attempt_s, health.muted
        figures = self._look_at_spool(now_s)
        waiting = None if figures is None else sum(figures.waiting_by_run.values())
        lanes = self._parts.uplink.lanes()
        in_memory = sum(records for _, records in lanes.values())
        backlog = None if waiting is None else max(0, waiting - in_memory)
        return {
            "broker": health.broker,
            "protocol": health.protocol,
            "connected_since": self._utc_s(health.connected_since_s),
            "reconnects": max(0, health.reconnects),
            "failure": None
            if failure is None
            else {"time": self._utc_s(failure[0]), "broker": failure[1], "reason": failure[2]},
            "next_attempt_in_s": None if next_s is None else round(max(0.0, next_s - now_s), 1),
            "lanes": {
                lane: {
                    "messages_in_flight": in_flight,
                    "records_waiting": backlog if lane == "backlog" else records,
                }
                for lane, (in_flight, records) in lanes.items()
            },
            "acknowledged": self._utc_s(health.acknowledged_s),
            "nobody_subscribes": list(muted.get("no_subscriber", ())),
            "not_authorised": list(muted.get("not_authorised", ())),
            "cut_short": [each._asdict() for each in health.troubles],
            "clone_seen": self._utc_s(health.clash_s),
        }

    def spool(self, now_s: float) -> Document:
        """Return the spool's part."""
        spool = self._parts.spool
        figures = self._look_at_spool(now_s)
        document: Document = {
            "path": str(spool.path),
            "bytes": None,
            "max_bytes": self._parts.max_bytes,
            "waiting": None,
            "oldest": None,
            "runs": [],
            "outage_days_left": None,
            "volatile": spool.is_volatile,
            "why_volatile": spool.why_volatile or None,
            "given_up": spool.evicted,
            "damages": self._parts.pipeline.damages,
            "age_s": round(now_s - self._figures_s, 1),
            "error": self._spool_error,
        }
        try:
            document["bytes"] = spool.bytes()
        except SpoolError as exc:
            document["error"] = str(exc)
        if figures is not None:
            oldest_ns = figures.oldest_end_ns
            waiting = sum(figures.waiting_by_run.values())
            document |= {
                "waiting": waiting,
                "oldest": None if oldest_ns is None else utc_text(oldest_ns),
                "runs": [
                    {"run": run, "waiting": count} for run, count in figures.waiting_by_run.items()
                ],
                "outage_days_left": days_left(
                    figures.room_bytes - figures.used_bytes,
                    figures.used_bytes / waiting if waiting > FEW_RECORDS else PACKED_BYTES,
                    sum(86_400 / seen.window_s for seen in self._parts.sensors),
                ),
            }
        return document

    def _look_at_spool(self, now_s: float) -> Figures | None:
        """Return the spool's figures, as old as may be; nobody waits for the disk because of us."""
        if now_s < self._figures_until_s:
            return self._figures
        try:
            figures = self._parts.spool.figures(PATIENCE_S)
        except SpoolError as exc:
            self._spool_error = str(exc)
            figures = None
        took_s = self._parts.machine.boot_s() - now_s
        self._figures_until_s = now_s + max(SPOOL_S, SPOOL_SHARE * took_s)
        if figures is not None:
            self._figures, self._figures_s, self._spool_error = figures, now_s, None
        return self._figures

    def _clock(self, now_ns: int) -> Document:
        clock, step = self._parts.clock, self._parts.pipeline.last_step
        return {
            **clock.stamp().json(),
            "source": clock.source,
            "floor": None if clock.known else utc_text(floor_ns(self._parts.spool.known_ns)),
            "last_step": None
            if step is None
            else {
                "time": self._utc_s(step[0]),
                "why": step[1].event,
                "moved_s": round(step[1].moved_ns / 1e9, 3),
            },
            "trouble": self._parts.pipeline.clock_trouble,
        }

    def _sensor(self, seen: Seen, now_ns: int) -> Document:
        health = self._parts.health.sensor(seen.id)
        latest = self._parts.latest.get(seen.id)
        document: Document = {
            "id": seen.id,
            "driver": seen.driver,
            "kind": seen.kind,
            "bus": seen.bus,
            "window_s": seen.window_s,
            "label": seen.label,
            "state": health.state,
            "since": self._utc_s(health.since_s) if health.since_s else None,
            "error": self._error(seen, health),
            "record": self._record(seen, now_ns / 1e9),
        }
        if seen.counts_people:
            return document | {"directions": seen.directions}
        document |= {"failed_polls": health.failed_polls, "frame_errors": health.frame_errors}
        if latest is None:
            return document
        rate_hz = latest.rate_hz(now_ns)
        readings: Document = {}
        for name, reading in latest.readings.items():
            readings[name] = {
                "value": reading.value,
                "unit": seen.units.get(name, "1"),
                "age_s": round((now_ns - reading.at_boot_ns) / 1e9, 1),
                "reasons": list(reading.reasons),
            }
        if latest.fix is not None:
            readings["location"] = {
                "value": {
                    "latitude": latest.fix.latitude_deg,
                    "longitude": latest.fix.longitude_deg,
                },
                "unit": "deg",
                "age_s": round((now_ns - latest.fix.at_boot_ns) / 1e9, 1),
                "reasons": [],
            }
        return document | {
            "readings": readings,
            "rate_hz": None if rate_hz is None else round(rate_hz, 2),
            "nominal_rate_hz": seen.rate_hz,
        }

    def _error(self, seen: Seen, health: SensorHealth) -> Document | None:
        """Return what last went wrong; of people sensors only what keeps them silent."""
        error = health.error
        if error is None or (seen.counts_people and health.state not in ("silent", "ignored")):
            return None
        if seen.counts_people:
            # When the outage began, as the log has it; of a frame nothing, it shows persons.
            text = None if error.kind == "frame_error" else error.text
            return {"time": self._utc_s(health.since_s), "kind": error.kind, "text": text}
        return {"time": self._utc_s(error.at_s), "kind": error.kind, "text": error.text}

    def _record(self, seen: Seen, now_s: float) -> Document | None:
        record = self._parts.history.record(seen.id, now_s)
        if record is None:
            return None
        return {
            "start": self._utc(record.boot_start_ns),
            "end": self._utc(record.boot_end_ns),
            "quality": dict(record.quality),
            "values": dict(record.values),
        }

    def _utc(self, boot_ns: float) -> str:
        return utc_text(self._parts.clock.utc_ns(round(boot_ns)))

    def _utc_s(self, boot_s: float | None) -> str | None:
        return None if boot_s is None else self._utc(boot_s * 1e9)


def days_left(free_bytes: int, record_bytes: float, records_per_day: float) -> float:
    """Return how many days of records find room before the oldest must be given up."""
    return round(max(0.0, free_bytes / (record_bytes * records_per_day)), 1)


def resources() -> Document:
    """Return what the process takes of the machine."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rss_bytes": kernel.rss_bytes(),
        # No finer: what a person's crossing costs to compute must not be seen in it.
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "fds": len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208  (a path each is a waste)
        "threads": threading.active_count(),
    }
