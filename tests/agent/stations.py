"""A station for tests: a pipeline with its spool on disk, at a time that the test tells."""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.alerts import AlertBook
from agent.channels import Channel, MeasuredChannel, PeopleChannel
from agent.clock import Clock, Look
from agent.collector import Collected
from agent.pipeline import HearTemperature, Pipeline
from agent.privacy.ledger import Terms
from agent.privacy.policy import Policy
from agent.record import Entry
from agent.rules import Rules
from agent.spool import Spool
from config.model import AlertsTable
from drivers.base import Observation, Quantity, Reading
from hil.ledger import waiting

S = 1_000_000_000
MIDNIGHT_NS = 1_800_057_600 * S
BOOT_NS = 500 * S  # at midnight
DEPTH = Quantity("depth_cm", "cm", "depth of snow")
DISTANCE = Quantity("distance_cm", "cm", "distance")


class Station:
    """A pipeline with a spool on disk, and clocks that a test moves."""

    def __init__(
        self,
        path: Path,
        *,
        known: bool = True,
        run: str = "run-1",
        boot: str = "boot-1",
        begin_s: float = 0.0,
        ahead_s: float = 0.0,
        epsilon: str = "1/4",
        listeners: Mapping[str, list[HearTemperature]] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self.run = run
        self.boot_ns = BOOT_NS + round(begin_s * S)
        self.ahead_ns = round(ahead_s * S)  # by how much the wall clock was set since midnight
        self.synchronised = known
        self.waited_enough = False
        self.told: list[Entry] = []
        self.rewinds = 0
        self.troubles: list[str | None] = []
        self.has_ended = False
        self.policy = Policy(900, Fraction(epsilon))
        terms = Terms(self.policy, "Asia/Tokyo", "1.2.3")
        self.spool = Spool(path, max_bytes=64 * 2**20, run=run, boot_id=boot, terms=terms)
        self.spool._db.execute("PRAGMA busy_timeout = 1")  # it would wait for two seconds
        self.inbox: queue.Queue[Collected | None] = queue.Queue(1000)
        clock = Clock(self.look(), trust_system=False)
        now_ns = clock.utc_ns(self.boot_ns)
        channels: dict[str, Channel] = {
            "snow-1": MeasuredChannel(
                "snow-1",
                "snow",
                window_s=60,
                rate_hz=1.0,
                quantities={"depth_cm": DEPTH, "distance_cm": DISTANCE},
                now_ns=now_ns,
            ),
            "door-1": PeopleChannel(
                "door-1", policy=self.policy, directions=("towards", "away"), now_ns=now_ns
            ),
        }
        self.pipeline = Pipeline(
            channels,
            self.inbox,
            self.spool,
            config_id="9f2c1ab04d77",
            clock=clock,
            look=self.look,
            boot_id=boot,
            clock_wait_over=lambda: self.waited_enough,
            committed=self.told.extend,
            rewind=self._rewind,
            book=AlertBook([], lambda: "episode"),
            rules=Rules(AlertsTable(), {}),
            version="0.1.0",
            listeners=listeners,
        )
        self._overhear()

    def _overhear(self) -> None:
        """Note what is said of the clock."""
        note = self.pipeline._note

        def told(name: str, values: Mapping[str, object] | None) -> None:
            if name == "clock_untrusted":
                self.troubles.append(None if values is None else str(values["reason"]))
            note(name, values)

        self.pipeline._note = told  # type: ignore[method-assign]

    def _rewind(self) -> None:
        self.rewinds += 1

    def look(self) -> Look:
        utc_ns = MIDNIGHT_NS + self.boot_ns - BOOT_NS + self.ahead_ns
        return Look(self.boot_ns, utc_ns, self.synchronised, 0.02 if self.synchronised else None)

    def at(self, seconds: float) -> int:
        """Return the boot-time instant so many seconds after midnight."""
        return BOOT_NS + round(seconds * S)

    def says(self, sensor_id: str, *observations: Observation) -> None:
        """A collector hands something on, now; the pipeline takes it."""
        self.inbox.put_nowait(Collected(sensor_id, observations))
        self.pipeline.step()

    def measures(self, until_s: float, value: float = 42.0) -> None:
        """Let the snow sensor measure each second until then."""
        while self.boot_ns < self.at(until_s):
            self.says("snow-1", Reading("depth_cm", value, self.boot_ns))
            self.boot_ns += S

    def passes(self, until_s: float) -> None:
        """Let time pass in silence; the pipeline wakes each second."""
        while self.boot_ns < self.at(until_s):
            self.inbox.put_nowait(None)
            self.pipeline.step()
            self.boot_ns += S
        self.inbox.put_nowait(None)
        self.pipeline.step()

    def stops(self) -> None:
        self.pipeline.stop()
        self.pipeline.run()

    def ends(self, *, clean: bool = True) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.spool.close(clean=clean)

    def records(self, stream: str | None = None) -> list[dict[str, Any]]:
        """Return what waits to be sent, oldest first."""
        records = [json.loads(body) for _, body in waiting(self.spool)]
        return [each for each in records if stream in (None, each["stream"])]


class locked:  # noqa: N801  (reads as a sentence)
    """Somebody else holds the spool's file: every commit fails."""

    def __init__(self, station: Station) -> None:
        self._db = sqlite3.connect(station.path, isolation_level=None)

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_what: object) -> None:
        self._db.execute("ROLLBACK")
        self._db.close()
