"""The last day in memory: what the records said, which alerts came and went, when we were offline.

For whoever stands before the gateway and asks; nothing depends on it. Fed with what is committed.
Each quantity has a mean for every SLOT_S of DAY_S, 1.2 kB; what is said about people are the
released figures of their windows, and all of it, alerts too, is shown no sooner than it is
published. At most QUANTITIES of a sensor are kept. Slots are of the boot-time clock: it never
steps. Pure: what time it is, is an argument.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from .fresh import people_wait_s
from .record import AlertRecord, Record, utc_text

SLOT_S = 300
DAY_S = 86_400
SLOTS = DAY_S // SLOT_S
QUANTITIES = 8  # of a sensor: 11 kB
WINDOWS = 97  # of people: a day of 15 minutes each
ALERT_EDGES = 200
OUTAGES = 100
SLOT_NS = SLOT_S * 1_000_000_000

ALERT_KEYS = ("id", "sensor", "alert", "severity", "since", "text")

Document = dict[str, Any]
Utc = Callable[[int], str]  # of an instant of the boot-time clock


class Outages:
    """When the uplink was not connected; written by its thread."""

    def __init__(self, now_s: float) -> None:
        self._spans: deque[tuple[float, float | None, str]] = deque(maxlen=OUTAGES)
        self._spans.append((now_s, None, ""))

    def begin(self, at_s: float, why: str) -> None:
        """Note that the connection is lost."""
        since_s, until_s, before = self._spans[-1]
        if until_s is not None:
            self._spans.append((at_s, None, why))
        elif not before:  # now it is known why
            self._spans[-1] = (since_s, None, why)

    def end(self, at_s: float) -> None:
        """Note that there is a connection."""
        since_s, until_s, why = self._spans[-1]
        if until_s is None:
            self._spans[-1] = (since_s, at_s, why)

    def spans(self, after_s: float) -> list[tuple[float, float | None, str]]:
        """Return since when, until when (None: still) and why, of those not over at `after_s`."""
        return [each for each in list(self._spans) if each[1] is None or each[1] >= after_s]


class _Means:
    """A day of one quantity: the mean of what the records of each slot said."""

    __slots__ = ("_count", "_means", "_newest", "_sum")

    def __init__(self) -> None:
        self._means = array("f", [math.nan]) * SLOTS
        self._newest = -1
        self._sum = 0.0
        self._count = 0

    def add(self, first: int, last: int, mean: float) -> None:
        """Take a record's mean, which holds for the slots `first` to `last`."""
        for slot in range(max(first, last - SLOTS + 1), last + 1):
            if slot > self._newest:
                for passed in range(max(self._newest + 1, slot - SLOTS + 1), slot):
                    self._means[passed % SLOTS] = math.nan
                self._newest, self._sum, self._count = slot, 0.0, 0
            elif slot < self._newest:
                continue  # it came late; the slot has its mean
            self._sum += mean
            self._count += 1
            self._means[slot % SLOTS] = self._sum / self._count

    def until(self, slot: int) -> list[float | None]:
        """Return the SLOTS means up to `slot`, the oldest first."""
        means = self._means[:]
        newest = self._newest
        return [
            None
            if each > newest or math.isnan(mean := means[each % SLOTS])
            else float(f"{mean:.6g}")
            for each in range(slot - SLOTS + 1, slot + 1)
        ]


class _People:
    """A day of released figures of one sensor: only unclamped ones, which may be summed."""

    def __init__(self) -> None:
        self._ends_s = array("d")
        self._lengths_s = array("f")
        self._counts: dict[str, array[float]] = {}

    def add(self, record: Record) -> None:
        for name, value in record.values.items():
            if isinstance(value, Mapping) and "unclamped" in value and name not in self._counts:
                self._counts[name] = array("f", [math.nan]) * len(self._ends_s)
        self._ends_s.append(record.boot_end_ns / 1e9)
        self._lengths_s.append((record.boot_end_ns - record.boot_start_ns) / 1e9)
        for name, counts in self._counts.items():
            value = record.values.get(name)
            counts.append(value["unclamped"] if isinstance(value, Mapping) else math.nan)
            del counts[:-WINDOWS]
        del self._ends_s[:-WINDOWS], self._lengths_s[:-WINDOWS]

    def windows(self, utc: Utc) -> list[Document]:
        found = []
        for index, end_s in enumerate(self._ends_s):
            start_s = end_s - self._lengths_s[index]
            window: Document = {"start": utc(round(start_s * 1e9)), "end": utc(round(end_s * 1e9))}
            for name, counts in self._counts.items():
                window[name] = None if math.isnan(counts[index]) else round(counts[index])
            found.append(window)
        return found


class History:
    """What is remembered of one gateway; any thread may use it."""

    def __init__(self, now_s: float) -> None:
        self.outages = Outages(now_s)
        self._lock = threading.Lock()
        self._offset_s = 0.0
        self._utc_ns: Callable[[int], int] = lambda boot_ns: boot_ns
        self._kinds: dict[str, str] = {}
        self._means: dict[str, dict[str, _Means]] = {}
        self._people: dict[str, _People] = {}
        self._records: dict[str, Record] = {}  # the newest of each sensor that may be shown
        self._alerts: dict[tuple[str | None, str], Document] = {}  # raised, as may be shown
        self._edges: deque[tuple[int, str | None, str, str, str]] = deque(maxlen=ALERT_EDGES)
        self._later: deque[tuple[float, Record | AlertRecord]] = deque()

    def begin(
        self,
        kinds: Mapping[str, str],
        alarms: Iterable[Mapping[str, Any]],
        *,
        offset_s: float,
        utc_ns: Callable[[int], int],
    ) -> None:
        """Begin a life with these sensors and raised alerts; what others were is forgotten.

        What is about people may be shown when it may leave: `offset_s` after the window's end.
        """
        with self._lock:
            gone = {name for name, kind in self._kinds.items() if kinds.get(name) != kind}
            for each in (self._means, self._people, self._records):
                for name in gone:
                    each.pop(name, None)
            self._kinds = dict(kinds)
            self._offset_s, self._utc_ns = offset_s, utc_ns
            self._alerts = {
                (each["sensor"], each["alert"]): {name: each[name] for name in ALERT_KEYS}
                for each in alarms
            }

    def wrote(self, records: Collection[Record | AlertRecord], now_s: float) -> None:
        """Take what was just committed; `now_s` is of the boot-time clock."""
        with self._lock:
            self._settle(now_s)
            for record in records:
                if record.kind == "people":
                    ago_s = now_s - self._boot_s(record)
                    self._later.append((now_s + people_wait_s(self._offset_s, ago_s), record))
                else:
                    self._take(record)

    def record(self, sensor_id: str, now_s: float) -> Record | None:
        """Return a sensor's newest record; of people the newest that may be shown."""
        with self._lock:
            self._settle(now_s)
            return self._records.get(sensor_id)

    def alerts(self, now_s: float) -> list[Document]:
        """Return what is raised: of the newest record of each alert, what ALERT_KEYS names."""
        with self._lock:
            self._settle(now_s)
            return list(self._alerts.values())

    def sensor(self, sensor_id: str, now_s: float, utc: Utc) -> Document | None:
        """Return the last day of one sensor; None if nothing of it was committed yet."""
        now_slot = int(now_s) // SLOT_S
        with self._lock:
            self._settle(now_s)
            people = self._people.get(sensor_id)
            if people is not None:
                return {"windows": people.windows(utc)}
            means = self._means.get(sensor_id)
            if means is None:
                return None
            return {
                "slot_s": SLOT_S,
                "start": utc((now_slot - SLOTS + 1) * SLOT_NS),
                "means": {name: each.until(now_slot) for name, each in means.items()},
            }

    def outages_document(self, now_s: float, utc: Utc) -> list[Document]:
        """Return when there was no connection, the oldest first."""
        return [
            {
                "start": utc(round(since_s * 1e9)),
                "end": None if until_s is None else utc(round(until_s * 1e9)),
                "reason": why or None,
            }
            for since_s, until_s, why in self.outages.spans(now_s - DAY_S)
        ]

    def alert_edges(self, now_s: float, utc: Utc) -> list[Document]:
        """Return what was raised, updated and cleared, the oldest first."""
        with self._lock:
            self._settle(now_s)
            edges = list(self._edges)
        names = ("sensor", "alert", "state", "severity")
        return [
            {"time": utc(boot_ns), **dict(zip(names, rest, strict=True))}
            for boot_ns, *rest in edges
            if boot_ns >= (now_s - DAY_S) * 1e9
        ]

    def _settle(self, now_s: float) -> None:
        """Take what may be shown by now."""
        while self._later and self._later[0][0] <= now_s:
            self._take(self._later.popleft()[1])

    def _take(self, record: Record | AlertRecord) -> None:
        if isinstance(record, AlertRecord):
            self._take_alert(record)
        elif record.stream in self._kinds:
            self._records[record.stream] = record
            if record.kind == "people":
                self._people.setdefault(record.stream, _People()).add(record)
            else:
                self._take_means(record)

    def _take_means(self, record: Record) -> None:
        means = self._means.setdefault(record.stream, {})
        last = (record.boot_end_ns - 1) // SLOT_NS
        first = min(last, record.boot_start_ns // SLOT_NS)
        for name, value in record.values.items():
            mean = value.get("mean") if isinstance(value, Mapping) else value
            if isinstance(mean, bool) or not isinstance(mean, int | float):
                continue
            if name not in means:
                if len(means) >= QUANTITIES:
                    continue
                means[name] = _Means()
            means[name].add(first, last, float(mean))

    def _take_alert(self, record: AlertRecord) -> None:
        key = (record.sensor, record.alert)
        boot_ns = round(self._boot_s(record) * 1e9)
        self._edges.append((boot_ns, *key, record.state, record.severity))
        if record.state == "cleared":
            self._alerts.pop(key, None)
        else:
            self._alerts[key] = {
                "id": record.id,
                "sensor": record.sensor,
                "alert": record.alert,
                "severity": record.severity,
                "since": utc_text(record.since_ns),
                "text": dict(record.text),
            }

    def _boot_s(self, record: Record | AlertRecord) -> float:
        if isinstance(record, Record):
            return record.boot_end_ns / 1e9
        return (record.time_ns - self._utc_ns(0)) / 1e9
