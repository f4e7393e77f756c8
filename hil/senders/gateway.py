"""Simulated gateways, many in one process: the sender's side of the contract, and the truth of it.

A sender has a spool that survives its kills (here: a list), numbers that belong to a run, two
lanes, a window of messages in flight, and the two ways to be done with a record: the broker's
acknowledgement, or the city's receipt. What it ever committed or gave up is its `truth`, which a
database can be held against row by row. Payloads are put together by the gateway's own code.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from agent import record
from agent.clock import Stamp
from agent.record import AlertRecord, Record, utc_text

from .line import Line
from .street import DIRECTIONS, LABELS, SENSORS, UNITS, VALUES

ROOT = "yukimi/v1"
CONFIG_ID = "9f2c1ab04d77"
MINUTE_NS = 60 * 10**9
FLOW_NS = 15 * MINUTE_NS
BEGIN_NS = 1_800_000_000 * 10**9 // FLOW_NS * FLOW_NS
BATCH_RECORDS = 200

Confirm = Literal["broker", "receipt"]
Key = tuple[str, str, int]  # run, stream, number


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed record or gap, waiting."""

    run: str
    stream: str
    kind: str
    first: int  # of a gap; else the number itself
    seq: int
    body: str


@dataclass(slots=True)
class Truth:
    """What was ever committed, and what of it was given up."""

    bodies: dict[Key, str] = field(default_factory=dict)
    gaps: set[tuple[str, str, int, int, str]] = field(default_factory=set)
    produced: dict[str, dict[str, int]] = field(default_factory=dict)  # by run

    @property
    def given_up(self) -> set[Key]:
        """Every number in a gap."""
        return {
            (run, stream, number)
            for run, stream, first, last, _ in self.gaps
            for number in range(first, last + 1)
        }


class Sender:
    """One gateway. It belongs to one thread at a time."""

    def __init__(
        self,
        gateway: str,
        host: str,
        port: int,
        *,
        seed: int = 0,
        confirm: Confirm = "broker",
        begin_ns: int = BEGIN_NS,
        truth: Truth | None = None,
        sensors: Mapping[str, tuple[str, int]] = SENSORS,
    ) -> None:
        self.gateway = gateway
        self.root = f"{ROOT}/{gateway}"
        self.address = (host, port)
        self.confirm = confirm
        self.truth = truth or Truth()
        self.waiting: list[Entry] = []
        self.now_ns = begin_ns
        self.run = ""
        self.receipt_timeout_s = 2.0
        self._sensors = sensors
        self._random = Random(seed)
        self._numbers: dict[str, int] = {}
        self._through: dict[tuple[str, str], int] = {}

    # What happens to a gateway

    def begin_run(self) -> None:
        """Start, after an end or a kill: a new run, whose first record tells of the one before."""
        previous = None
        if self.run:
            previous = {"run": self.run, "clean": False, "produced": dict(self._numbers)}
        self.run, self._numbers = f"{self._random.getrandbits(64):016x}", {}
        values: dict[str, object] = {"event": "start", "version": "0.1.0", "previous": previous}
        quality = {"flag": "good", "n": 1, "expected": 1}
        self._commit(self._record("gateway", "gateway", 0, quality, values))

    def measure(self, minutes: int = 1) -> None:
        """Let time pass: windows close, and are committed."""
        for _ in range(minutes):
            self.close_windows(self.now_ns + MINUTE_NS)

    def close_windows(self, now_ns: int) -> None:
        """Go on to an instant, and commit the windows that end there."""
        self.now_ns = now_ns
        for stream, (kind, window_s) in self._sensors.items():
            if now_ns % (window_s * 10**9) == 0:
                quality = {"flag": "good", "n": window_s, "expected": window_s}
                values = VALUES[kind](self._random)
                self._commit(self._record(stream, kind, window_s, quality, values))

    def raise_alert(self, state: Literal["raised", "cleared"] = "raised") -> None:
        """Commit a step of an alert's episode."""
        alert = AlertRecord(
            sensor="snow-1",
            kind="snow",
            alert="snow_dispatch",
            id=f"{self.gateway}-{self.now_ns}",
            state=state,
            severity="warning",
            time_ns=self.now_ns,
            since_ns=self.now_ns,
            clock=Stamp("synced", 0.02),
            text={"ja": "除雪の目安に達しました", "en": "Snow to be cleared"},
            values={"new_snow_cm": 10.5},
        )
        self._commit(alert)

    def give_up(self, count: int, why: str = "spool_full") -> None:
        """Replace the oldest waiting records of one stream by a gap; start records go last."""
        oldest = next((each for each in self.waiting if each.stream != "gateway"), None)
        if oldest is None:
            return
        mine = [e for e in self.waiting if (e.run, e.stream) == (oldest.run, oldest.stream)]
        # Up to the first number that is not here, and no gap that is there already.
        lost = [e for n, e in enumerate(mine[:count]) if e.first == e.seq == mine[0].first + n]
        if not lost:
            return
        first, last = lost[0].first, lost[-1].seq
        self.truth.gaps.add((oldest.run, oldest.stream, first, last, why))
        body = record.gap_body(oldest.stream, first, last, why, None, None)
        self.done(lost)
        self.waiting.insert(0, replace(lost[0], seq=last, body=body))

    def copied(self, seed: int) -> Sender:
        """Return another gateway with a copy of the card: the same id, spool and numbers."""
        other = copy.copy(self)
        other.waiting = list(self.waiting)
        other._numbers = dict(self._numbers)
        other._through = {}
        other._random = Random(seed)
        return other

    # What it sends

    def birth(self) -> dict[str, Any]:
        """Return the birth certificate."""
        return {
            "schema": "yukimi.status/1",
            "state": "online",
            "gateway": self.gateway,
            "run": self.run,
            "label": {"ja": f"試験場 {self.gateway}", "en": f"Bench {self.gateway}"},
            "location": {"latitude": 43.064, "longitude": 141.351},
            "version": "0.1.0",
            "config": CONFIG_ID,
            "policy": "0" * 64,
            "since": utc_text(self.now_ns),
            "owner": "City of Sapporo",
            "licence": "CC-BY-4.0",
            "sensors": [
                {
                    "id": stream,
                    "driver": "simulated",
                    "kind": kind,
                    "window_s": window_s,
                    "quantities": UNITS[kind],
                    "location": None,
                    "label": {"ja": LABELS[kind][0], "en": LABELS[kind][1]},
                }
                | (DIRECTIONS if kind == "people" else {})
                for stream, (kind, window_s) in self._sensors.items()
            ],
        }

    def health(self) -> dict[str, Any]:
        """Return the health message."""
        return {
            "schema": "yukimi.health/1",
            "run": self.run,
            "uptime_s": 60.0,
            "rss_bytes": 50_000_000,
            "clock": {"state": "synced", "error_s": 0.02},
            "uplink": {"broker": "mqtt://broker", "connected_since": None, "reconnects": 0},
            "spool": {"bytes": 4096, "waiting": len(self.waiting), "oldest": None},
            "produced": dict(self._numbers),
            "runs": [],
            "sensors": dict.fromkeys(self._sensors, "ok"),
            "alerts": [],
        }

    def messages(self) -> Iterator[tuple[str, bytes, list[Entry]]]:
        """Yield what waits as messages: topic, payload, and the entries in it."""
        parcels: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in self.waiting:
            is_alert = entry.stream == record.ALERTS_STREAM
            lane = "alert" if is_alert else "backlog"
            parcel = parcels.setdefault((lane, entry.run, entry.kind), [])
            parcel.append(entry)
            if len(parcel) == BATCH_RECORDS:
                yield self._message(lane, parcel)
                parcels[lane, entry.run, entry.kind] = []
        for (lane, _, _), parcel in parcels.items():
            if parcel:
                yield self._message(lane, parcel)

    def _message(self, lane: str, parcel: list[Entry]) -> tuple[str, bytes, list[Entry]]:
        head = parcel[0]
        bodies = [entry.body for entry in parcel]
        payload = record.batch(self.gateway, head.run, head.kind, CONFIG_ID, bodies)
        if lane == "backlog":
            payload = record.deflated(payload)
        return f"{self.root}/{lane}/{head.kind}", payload, list(parcel)

    def _record(
        self,
        stream: str,
        kind: str,
        window_s: int,
        quality: Mapping[str, object],
        values: Mapping[str, object],
    ) -> Record:
        start_ns, end_ns = self.now_ns - window_s * 10**9, self.now_ns
        clock = Stamp("synced", 0.02)
        return Record(stream, kind, start_ns, end_ns, start_ns, end_ns, clock, quality, values)

    def _commit(self, one: Record | AlertRecord) -> None:
        seq = self._numbers[one.stream] = self._numbers.get(one.stream, 0) + 1
        body = one.body(seq)
        self.truth.bodies[self.run, one.stream, seq] = body
        self.truth.produced.setdefault(self.run, {})[one.stream] = seq
        self.waiting.append(Entry(self.run, one.stream, one.kind, seq, seq, body))

    def deliver(self, timeout_s: float, *, cut_after: int | None = None) -> bool:
        """Connect and send what waits; True when nothing waits any more.

        With `cut_after` the connection is torn after so many messages, in the midst of it.
        """
        line = Line(self, cut_after)
        try:
            return line.deliver(time.monotonic() + timeout_s)
        except OSError:
            return False
        finally:
            line.close()

    def done(self, entries: list[Entry]) -> None:
        """Take what was delivered out of the spool."""
        over = set(entries)
        self.waiting = [entry for entry in self.waiting if entry not in over]

    def receipt(self, run: str, stream: str, through: int) -> None:
        """Take a receipt."""
        self._through[run, stream] = through
        self.waiting = [entry for entry in self.waiting if not self._covers(entry)]

    def _covers(self, entry: Entry) -> bool:
        return self._through.get((entry.run, entry.stream), 0) >= entry.seq
