"""What a run brought: kept on disk as it comes, so that a month of it takes no memory.

What was delivered is a row for each window and quantity; what was measured of the gateway is a row
now and then. Crossings are counted by quarter of an hour; that truth is the bench's own.
"""

from __future__ import annotations

import math
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from agent.record import utc_ns

from .truths import Crossing

S = 1e9
QUARTER_S = 900
LINES_KEPT = 400
BUGS_KEPT = 10
_ROW = struct.Struct("<5dB")
_MEASURE = struct.Struct("<9d")
FLAGS = ("good", "suspect", "bad", "missing", "not_evaluated")


class Row(NamedTuple):
    """One quantity of one window as it was delivered; times are since the start."""

    start_s: float
    end_s: float
    value: float  # NaN: none
    low: float
    high: float
    flag: int  # its place in FLAGS


class Measure(NamedTuple):
    """The gateway at one moment."""

    at_s: float
    rss_bytes: float
    spool_bytes: float
    disk_bytes: float
    waiting: float  # records
    descriptors: float
    threads: float
    wire_bytes: float
    is_connected: float


@dataclass(frozen=True, slots=True)
class AlertHeard:
    """An alert record as it was delivered."""

    at_s: float  # the time in it
    sensor: str | None
    name: str
    state: str
    severity: str
    text: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """What the gateway wrote into its log."""

    at_s: float
    level: str
    text: str


@dataclass(slots=True)
class Crowd:
    """Who really passed, and what was released, by quarter of an hour and direction."""

    true: Counter[tuple[str, int]] = field(default_factory=Counter)
    released: dict[tuple[str, int], int] = field(default_factory=dict)  # unclamped
    noise_sd: float = 0.0


class Book:
    """Takes what is delivered, on the city's thread, and what is measured, on the engine's."""

    def __init__(self, folder: Path, start_ns: int) -> None:
        self._folder = folder
        self._start_ns = start_ns
        self._files: dict[tuple[str, str, str], IO[bytes]] = {}
        self._measures = (folder / "measures").open("w+b")
        self._lock = threading.Lock()
        self.alerts: list[AlertHeard] = []
        self.lines: list[Line] = []
        self.line_counts: Counter[str] = Counter()
        self.bugs: list[str] = []  # the first lines that tell of one, however late they come
        self.clock_states: Counter[str] = Counter()
        self.flags: Counter[str] = Counter()
        self.crowds: dict[str, Crowd] = {}
        self.delivered = 0
        self.bounds_broken: list[str] = []
        self.outages: list[tuple[float, float]] = []
        self.notes: list[str] = []

    def close(self) -> None:
        """Close the files."""
        for file in (*self._files.values(), self._measures):
            file.close()

    # Taking

    def take(self, records: list[dict[str, Any]]) -> None:
        """Take the records of one message."""
        with self._lock:
            for record in records:
                if "gap" in record:
                    continue
                self.delivered += 1
                if "alert" in record:  # which does not wait for the clock
                    self._take_alert(record)
                    continue
                self.clock_states[record["clock"]["state"]] += 1
                if record["stream"] != "gateway":
                    self._take_record(record)

    def _take_alert(self, record: Mapping[str, Any]) -> None:
        at_s = (utc_ns(record["time"]) - self._start_ns) / S
        self.alerts.append(
            AlertHeard(
                at_s,
                record["sensor"],
                record["alert"],
                record["state"],
                record["severity"],
                record["text"],
            )
        )

    def _take_record(self, record: Mapping[str, Any]) -> None:
        start_s = (utc_ns(record["start"]) - self._start_ns) / S
        end_s = (utc_ns(record["end"]) - self._start_ns) / S
        flag = record["quality"]["flag"]
        self.flags[flag] += 1
        values = record["values"] or {}
        stream = record["stream"]
        if stream in self.crowds:
            self._take_crowd(self.crowds[stream], start_s, values)
        for name, value in values.items():
            if isinstance(value, dict) and "unclamped" in value:
                number = float(value["unclamped"])
                self._write(stream, name, Row(start_s, end_s, number, number, number, 0))
            elif isinstance(value, dict) and "mode" in value:
                self._write_class(stream, name, start_s, end_s, str(value["mode"]))
            elif isinstance(value, dict) and "mean" in value:
                own = FLAGS.index(value.get("flag", flag))
                for statistic in ("mean", "median"):
                    told = value.get(statistic)
                    row = Row(
                        start_s,
                        end_s,
                        math.nan if told is None else told,
                        math.nan if value.get("min") is None else value["min"],
                        math.nan if value.get("max") is None else value["max"],
                        own,
                    )
                    self._write(stream, name, row, statistic)
            elif value is None:
                missing = Row(start_s, end_s, math.nan, math.nan, math.nan, FLAGS.index("missing"))
                self._write(stream, name, missing)
                self._write(stream, name, missing, "median")

    def _take_crowd(self, crowd: Crowd, start_s: float, values: Mapping[str, Any]) -> None:
        for way in ("towards", "away", "total"):
            if isinstance(values.get(way), dict):
                key = (way, round(start_s // QUARTER_S))
                crowd.released[key] = crowd.released.get(key, 0) + values[way]["unclamped"]
        crowd.noise_sd = values.get("noise_sd", crowd.noise_sd)

    def _write(self, stream: str, name: str, row: Row, statistic: str = "mean") -> None:
        self._file(stream, name, statistic).write(_ROW.pack(*row))

    def _write_class(self, stream: str, name: str, start_s: float, end_s: float, mode: str) -> None:
        line = f"{start_s:.3f} {end_s:.3f} {mode}\n"
        self._file(stream, name, "mode").write(line.encode())

    def _file(self, stream: str, name: str, statistic: str) -> IO[bytes]:
        key = (stream, name, statistic)
        if key not in self._files:
            self._files[key] = (self._folder / ".".join(key)).open("w+b", buffering=4096)
        return self._files[key]

    def measure(self, measure: Measure) -> None:
        """Take a measurement."""
        self._measures.write(_MEASURE.pack(*measure))

    def passed(self, sensor: str, crossings: list[Crossing], shift_s: float) -> None:
        """Take who really passed; their times are made the scenario's by `shift_s`."""
        crowd = self.crowds[sensor]
        for at_s, way in crossings:
            crowd.true[way, int((at_s + shift_s) // QUARTER_S)] += 1

    def said(self, at_s: float, level: str, text: str) -> None:
        """Take a line of the gateway's log."""
        self.line_counts[level] += 1
        if text.startswith("bug in") and len(self.bugs) < BUGS_KEPT:
            self.bugs.append(text)
        if len(self.lines) < LINES_KEPT and level != "debug":
            self.lines.append(Line(at_s, level, text))

    # Looking

    def streams(self) -> list[tuple[str, str]]:
        """List what was delivered, as (stream, quantity)."""
        return sorted({(stream, name) for stream, name, _ in self._files})

    def rows(self, stream: str, quantity: str, statistic: str = "mean") -> Iterator[Row]:
        """Yield what was delivered of a quantity, in the order of its coming."""
        file = self._files.get((stream, quantity, statistic))
        if file is not None:
            file.flush()
            file.seek(0)
            while raw := file.read(_ROW.size):
                yield Row(*_ROW.unpack(raw))
            file.seek(0, 2)

    def classes(self, stream: str, quantity: str) -> Iterator[tuple[float, float, str]]:
        """Yield what was delivered of a class."""
        file = self._files.get((stream, quantity, "mode"))
        if file is not None:
            file.flush()
            file.seek(0)
            for line in file:
                start, end, mode = line.decode().split(" ", 2)
                yield float(start), float(end), mode.strip()
            file.seek(0, 2)

    def measures(self) -> list[Measure]:
        """Return what was measured."""
        self._measures.flush()
        self._measures.seek(0)
        raw = self._measures.read()
        return [Measure(*each) for each in _MEASURE.iter_unpack(raw)]
