"""Play a recording through a driver, in the recording's own time.

I2C and pins go through the whole driver on a bus that answers as the file does; a serial dialogue
is decoded passively, each response for itself. Nothing is sent anywhere.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from pydantic import ValidationError

import drivers
from config.load import explain, nearest, toml_path
from drivers.base import (
    BusError,
    Crossing,
    Driver,
    Fix,
    FrameError,
    Observation,
    Reading,
    SerialDriver,
    Trouble,
)
from drivers.gpio import Edge, Pull

from .record import location


class RecordingError(Exception):
    """The file is no recording, or not one for this driver; says the line."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a recording."""

    bus: str
    driver: str | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """What one moment of the recording brought."""

    t_s: float
    observations: Sequence[Observation]

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the contract's JSON lines: one a reading, one a crossing."""
        values: dict[str, object] = {}
        reasons: list[str] = []
        for seen in self.observations:
            match seen:
                case Reading():
                    if seen.quantity in values:  # the next frame of several taken at once
                        yield self._line(values, reasons)
                        values, reasons = {}, []
                    values[seen.quantity] = seen.value
                    reasons += [reason for reason in seen.reasons if reason not in reasons]
                case Fix():
                    if "location" in values:
                        yield self._line(values, reasons)
                        values, reasons = {}, []
                    values["location"] = location(seen)
                case Trouble():
                    reasons += [seen.reason] if seen.reason not in reasons else []
                case Crossing():
                    yield {"t_s": self.t_s, "crossing": seen.direction}
                case _:
                    pass
        if values:
            yield self._line(values, reasons)

    def _line(self, values: dict[str, object], reasons: list[str]) -> dict[str, Any]:
        flag = "missing" if all(value is None for value in values.values()) else "good"
        if flag == "good" and None in values.values():
            flag = "suspect"
        quality: dict[str, object] = {"flag": flag}
        if reasons:
            quality["reasons"] = reasons
        return {"t_s": self.t_s, "values": values, "quality": quality}


@dataclass(slots=True)
class Summary:
    """What a whole recording held."""

    readings: int = 0
    frames: int = 0
    frame_errors: int = 0
    crossings: dict[str, int] = field(default_factory=lambda: {"towards": 0, "away": 0})

    def json(self) -> dict[str, object]:
        """Return the contract's closing line."""
        counts = {"readings": self.readings, "frames": self.frames}
        return {"summary": {**counts, "frame_errors": self.frame_errors, **self.crossings}}


class Replay:
    """One recording and one driver; iterate over it, then ask for the `summary`."""

    def __init__(
        self, lines: Iterable[str], driver_name: str | None, options: Mapping[str, Any]
    ) -> None:
        """Read the header and build the driver. Raises RecordingError."""
        self._lines = enumerate(lines, start=1)
        header = self._header()
        name = driver_name or header.driver
        if name is None:
            raise RecordingError("the recording names no driver: name one with --driver")
        try:
            driver_class: Any = drivers.load(name)
        except KeyError:
            known = nearest(name, drivers.names())
            raise RecordingError(f'unknown driver "{name}"{known}') from None
        if driver_class.spec.bus != header.bus:
            raise RecordingError(
                f"{name} sits on a {driver_class.spec.bus} bus, and this is a recording of a"
                f" {header.bus} bus"
            )
        try:
            chosen = driver_class.Options.model_validate({**header.options, **options})
        except ValidationError as exc:
            found = explain(exc, driver_class.Options)
            raise RecordingError(
                "; ".join(f"option {toml_path(where)}: {what}" for where, what in found)
            ) from exc
        self.kind = driver_class.spec.kind
        self._bus_kind = header.bus
        self._now_ns = 0
        self._i2c = _I2c()
        self._pins = _Pins()
        bus = {"i2c": self._i2c, "gpio": self._pins}.get(header.bus)
        self._driver: Driver = driver_class(bus, chosen, lambda: self._now_ns)
        self.summary = Summary()

    def __iter__(self) -> Iterator[Played]:
        """Yield what each moment brought. Raises RecordingError at a line that is none."""
        plays = {"serial": self._serial, "i2c": self._play_i2c, "gpio": self._play_pins}
        summary = self.summary
        for played in plays[self._bus_kind]():
            for line in played.lines():
                summary.readings += "values" in line
                if "crossing" in line:
                    direction = str(line["crossing"])
                    summary.crossings[direction] = summary.crossings.get(direction, 0) + 1
            yield played
        summary.frames = self._driver.frames
        summary.frame_errors = self._driver.frame_errors

    def _header(self) -> Header:
        number, text = next(self._lines, (0, ""))
        header = _json_line(number, text) if text else {}
        if header.get("yukimi") != "recording/1":
            raise RecordingError(
                'line 1: not a recording: it must begin with {"yukimi": "recording/1", ...}'
            )
        bus, options = header.get("bus"), header.get("options", {})
        if bus not in ("serial", "i2c", "gpio"):
            raise RecordingError(f'line 1: bus must be "serial", "i2c" or "gpio", not {bus!r}')
        if not isinstance(options, dict):
            raise RecordingError("line 1: options must be an object")
        return Header(bus, header.get("driver"), options)

    def _entries(self) -> Iterator[tuple[int, float, dict[str, Any]]]:
        for number, text in self._lines:
            if not text.strip():
                continue
            entry = _json_line(number, text)
            t_s = entry.get("t_s")
            if not isinstance(t_s, int | float) or isinstance(t_s, bool) or not isfinite(t_s):
                raise RecordingError(f"line {number}: t_s must be a number of seconds")
            yield number, float(t_s), entry

    def _serial(self) -> Iterator[Played]:
        driver = self._driver
        if not isinstance(driver, SerialDriver):
            raise RecordingError(f"{driver.spec.name} cannot be replayed from serial bytes")
        for number, t_s, entry in self._entries():
            if "rx" not in entry:
                continue  # what was asked is for people to read
            self._now_ns = round(t_s * 1e9)
            yield Played(t_s, driver.feed(_bytes(number, entry, "rx"), self._now_ns))

    def _play_i2c(self) -> Iterator[Played]:
        for number, t_s, entry in self._entries():
            if "address" in entry and ("read" in entry or "error" in entry):
                self._i2c.record(_i2c_entry(number, t_s, entry))
        opened = False
        while (first := self._i2c.first()) is not None:
            self._now_ns = round(first.t_s * 1e9)
            observations: Sequence[Observation] = ()
            # An error is counted by the driver, or comes of a read that nobody recorded.
            with suppress(BusError, FrameError):
                if not opened:
                    self._driver.open()
                    opened = True
                observations = self._driver.poll()
            self._i2c.forget(first)  # if the driver did not ask for it, it never will
            yield Played(first.t_s, observations)

    def _play_pins(self) -> Iterator[Played]:
        opened = False
        last_s = 0.0
        for number, t_s, entry in self._entries():
            pin, level = entry.get("pin"), entry.get("level")
            if not isinstance(pin, int) or level not in (0, 1):
                raise RecordingError(f"line {number}: needs pin, and level 0 or 1")
            # The driver looks at least once a second, so that its time-outs fall where they did.
            while opened and last_s + 1.0 < t_s:
                last_s += 1.0
                yield self._look(last_s)
            last_s = t_s
            self._now_ns = round(t_s * 1e9)
            if not opened:
                self._driver.open()
                opened = True
            self._pins.move(Edge(pin, level, self._now_ns))
            yield self._look(t_s)
        if opened:
            yield self._look(last_s + 1.0)  # the last level must hold before it counts

    def _look(self, t_s: float) -> Played:
        self._now_ns = round(t_s * 1e9)
        return Played(t_s, self._driver.poll())


@dataclass(frozen=True, slots=True)
class _I2cEntry:
    t_s: float
    address: int
    write: bytes
    read: bytes | None  # None: the transaction failed
    error: str


class _I2c:
    """An I2C bus that answers as the recording does."""

    def __init__(self) -> None:
        self._entries: dict[int, _I2cEntry] = {}  # by place in the file, those not yet read
        self._places: dict[tuple[int, bytes], deque[int]] = {}
        self._count = 0
        self._front = 0  # no entry before this place is left

    def record(self, entry: _I2cEntry) -> None:
        self._entries[self._count] = entry
        self._places.setdefault((entry.address, entry.write), deque()).append(self._count)
        self._count += 1

    def first(self) -> _I2cEntry | None:
        while self._front < self._count and self._front not in self._entries:
            self._front += 1
        return self._entries.get(self._front)

    def forget(self, entry: _I2cEntry) -> None:
        if self.first() is entry:
            self._take(entry.address, entry.write)

    def read(self, address: int, write: bytes, length: int) -> bytes:
        entry = self._take(address, write)
        where = f"recorded 0x{address:02x}"
        if entry is None:
            raise BusError(f"{where}: EREMOTEIO, not in this recording")
        if entry.read is None:
            raise BusError(f"{where}: {entry.error}")
        if len(entry.read) < length:
            raise BusError(f"{where}: EIO, the recorded answer is too short")
        return entry.read[:length]

    def write(self, address: int, data: bytes) -> None:
        """Accept anything: the file may not hold what the driver configures."""

    def _take(self, address: int, write: bytes) -> _I2cEntry | None:
        places = self._places.get((address, write))
        return self._entries.pop(places.popleft()) if places else None


class _Pins:
    """Pins that move as the recording does."""

    def __init__(self) -> None:
        self._levels: dict[int, int] = {}
        self._edges: list[Edge] = []

    def watch(self, pins: Sequence[int], *, pull: Pull) -> _Pins:
        resting = 0 if pull == "down" else 1
        for pin in pins:
            self._levels.setdefault(pin, resting)
        return self

    def move(self, edge: Edge) -> None:
        if edge.pin in self._levels and self._levels[edge.pin] != edge.level:
            self._levels[edge.pin] = edge.level
            self._edges.append(edge)

    def edges(self) -> list[Edge]:
        edges, self._edges = self._edges, []
        return edges

    def level(self, pin: int) -> int:
        return self._levels[pin]

    def close(self) -> None:
        pass


def _json_line(number: int, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise RecordingError(f"line {number}: is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise RecordingError(f"line {number}: must be a JSON object")
    return value


def _bytes(number: int, entry: Mapping[str, Any], key: str) -> bytes:
    try:
        return bytes.fromhex(entry[key])
    except (KeyError, TypeError, ValueError) as exc:
        raise RecordingError(f"line {number}: {key} must be bytes in hexadecimal") from exc


def _i2c_entry(number: int, t_s: float, entry: Mapping[str, Any]) -> _I2cEntry:
    address = entry["address"]
    if not isinstance(address, int) or not 0 <= address <= 0x7F:
        raise RecordingError(f"line {number}: address must be 0 to 127")
    write = _bytes(number, entry, "write") if "write" in entry else b""
    read = None if "error" in entry else _bytes(number, entry, "read")
    return _I2cEntry(t_s, address, write, read, str(entry.get("error", "")))
