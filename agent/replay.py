"""Play a recording through a driver, in the recording's own time.

I2C, pins and files go through the whole driver on a bus that answers as the file does; a serial
dialogue is decoded passively, each response for itself. Nothing is sent anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, get_args

from pydantic import ValidationError

import drivers
from config.load import explain, nearest, toml_path
from config.text import Text, joined
from drivers.base import (
    BusError,
    BusKind,
    Crossing,
    Driver,
    Fix,
    FrameError,
    Observation,
    Reading,
    SerialDriver,
    Trouble,
)
from drivers.gpio import Edge

from .option_words import worded
from .record import location
from .recorded import Answered, RecordedFiles, RecordedI2c, RecordedPins, Script

BUSES = get_args(BusKind)
LOOK_S = 1.0  # how often a driver of pins looks where nothing moves


class RecordingError(Exception):
    """The file is no recording, or not one for this driver; says the line."""


NO_DRIVER = Text(
    "the recording names no driver: name one with --driver",
    "記録にドライバー名がありません。--driver で指定してください",
)
UNKNOWN_DRIVER = Text('unknown driver "{name}"', "「{name}」というドライバーはありません")
OTHER_BUS = Text(
    "{name} sits on a {wanted} bus, and this is a recording of a {bus} bus",
    "{name} は {wanted} の機器ですが、これは {bus} の記録です",
)
NOT_SERIAL = Text(
    "{name} cannot be replayed from serial bytes", "{name} はシリアル通信の記録から再生できません"
)
LINE = Text("line {number}: ", "{number}行目: ")
NO_RECORDING = Text(
    'not a recording: it must begin with {"yukimi": "recording/1", ...}',
    '通信の記録ではありません。{"yukimi": "recording/1", ...} で始まる必要があります',
)
WRONG_BUS = Text(
    "bus must be {known}, not {bus}", "bus は {known} のいずれかです（現在の値: {bus}）"
)
WRONG_OPTIONS = Text("options must be an object", "options はオブジェクトでなければなりません")
WRONG_TIME = Text("t_s must be a number of seconds", "t_s は秒数でなければなりません")
NO_PORT = Text("{name} has no such port", "{name} にそのポートはありません")
NEEDS_PIN = Text("needs pin, and level 0 or 1", "pin と、0または1の level が必要です")
NOT_JSON = Text("is not JSON: {error}", "JSONではありません: {error}")
NO_OBJECT = Text("must be a JSON object", "JSONのオブジェクトでなければなりません")
NO_BYTES = Text(
    "{key} must be bytes in hexadecimal", "{key} は16進数のバイト列でなければなりません"
)
WRONG_ADDRESS = Text("address must be 0 to 127", "address は0～127でなければなりません")
NEEDS_PATH = Text(
    "needs path, and text, names or error", "path と、text・names・error のいずれかが必要です"
)
NEEDS_TEXT = Text(
    "needs text, a list of names, or error", "text・names のリスト・error のいずれかが必要です"
)


def _wrong(number: int, what: Text, **fields: object) -> RecordingError:
    told = what.filled(**fields) if fields else what
    return RecordingError(LINE.filled(number=number) + told)


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
            raise RecordingError(NO_DRIVER)
        try:
            driver_class: Any = drivers.load(name)
        except KeyError:
            known = nearest(name, drivers.names())
            raise RecordingError(UNKNOWN_DRIVER.filled(name=name) + known) from None
        if driver_class.spec.bus != header.bus:
            wanted = driver_class.spec.bus
            raise RecordingError(OTHER_BUS.filled(name=name, wanted=wanted, bus=header.bus))
        try:
            chosen = driver_class.Options.model_validate({**header.options, **options})
        except ValidationError as exc:
            found = explain(exc, driver_class.Options)
            raise RecordingError(
                joined(
                    "; ", (f"option {toml_path(where)}: " + worded(what) for where, what in found)
                )
            ) from exc
        self.kind = driver_class.spec.kind
        self._bus_kind = header.bus
        self._now_ns = 0
        self._is_open = False
        self._script = Script(self._reach)
        self._pins = RecordedPins()
        bus = {
            "i2c": RecordedI2c(self._script),
            "gpio": self._pins,
            "w1": RecordedFiles(self._script),
            "system": RecordedFiles(self._script),
        }.get(header.bus)
        self._driver: Driver = driver_class(bus, chosen, lambda: self._now_ns)
        self.summary = Summary()

    def __iter__(self) -> Iterator[Played]:
        """Yield what each moment brought. Raises RecordingError at a line that is none."""
        plays = {"serial": self._serial, "gpio": self._play_pins}
        summary = self.summary
        for played in plays.get(self._bus_kind, self._play_script)():
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
            raise _wrong(1, NO_RECORDING)
        bus: Any = header.get("bus")
        options = header.get("options", {})
        if bus not in BUSES:
            known = ", ".join(f'"{each}"' for each in BUSES[:-1]) + f' or "{BUSES[-1]}"'
            raise _wrong(1, WRONG_BUS, known=known, bus=repr(bus))
        if not isinstance(options, dict):
            raise _wrong(1, WRONG_OPTIONS)
        return Header(bus, header.get("driver"), options)

    def _entries(self) -> Iterator[tuple[int, float, dict[str, Any]]]:
        for number, text in self._lines:
            if not text.strip():
                continue
            entry = _json_line(number, text)
            t_s = entry.get("t_s")
            if not isinstance(t_s, int | float) or isinstance(t_s, bool) or not isfinite(t_s):
                raise _wrong(number, WRONG_TIME)
            yield number, float(t_s), entry

    def _serial(self) -> Iterator[Played]:
        driver = self._driver
        if not isinstance(driver, SerialDriver):
            raise RecordingError(NOT_SERIAL.filled(name=driver.spec.name))
        ports = {"a": driver.feed, "b": getattr(driver, "feed_b", None)}
        for number, t_s, entry in self._entries():
            if "rx" not in entry:
                continue  # what was asked is for people to read
            feed = ports.get(entry.get("port", "a"))
            if feed is None:
                raise _wrong(number, NO_PORT, name=driver.spec.name)
            self._now_ns = round(t_s * 1e9)
            yield Played(t_s, feed(_bytes(number, entry, "rx"), self._now_ns))

    def _play_script(self) -> Iterator[Played]:
        """Poll the driver whenever the recording holds something that it has not asked for."""
        read_entry = _i2c_entry if self._bus_kind == "i2c" else _file_entry
        for number, t_s, entry in self._entries():
            answered = read_entry(number, t_s, entry)
            if answered is not None:
                self._script.record(answered)
        script = self._script
        while (first := script.first()) is not None:
            if script.touched and first.who not in script.touched:
                script.drop(first)  # another device's
                continue
            self._reach(first.t_s)
            script.has_failed = False
            # An error is counted by the driver, or comes of a read that nobody recorded.
            observations: Sequence[Observation] = ()
            with suppress(BusError, FrameError):
                self._open()
                observations = self._driver.poll()
            if script.has_failed:
                self._close()  # as the daemon does when a device falls silent
            script.drop(first)  # if the driver did not ask for it, it never will
            yield Played(first.t_s, observations)

    def _play_pins(self) -> Iterator[Played]:
        last_s = 0.0
        found_s: float | None = None
        for number, t_s, entry in self._entries():
            pin, level = entry.get("pin"), entry.get("level")
            if not isinstance(pin, int) or level not in (0, 1):
                raise _wrong(number, NEEDS_PIN)
            if entry.get("edge") is False:  # how the pins stood when the driver took them
                if t_s != found_s:
                    self._close()
                found_s = t_s
                self._pins.find(pin, level)
                continue
            if found_s is not None:
                self._now_ns, last_s = round(found_s * 1e9), found_s
                self._open()
                found_s = None
            # The driver looks at least once a second, so that its time-outs fall where they did.
            while self._is_open and last_s + LOOK_S < t_s:
                last_s += LOOK_S
                yield self._look(last_s)
            last_s = t_s
            self._now_ns = round(t_s * 1e9)
            self._open()
            self._pins.move(Edge(pin, level, self._now_ns))
            yield self._look(t_s)
        if found_s is not None:
            self._now_ns, last_s = round(found_s * 1e9), found_s
            self._open()
        if self._is_open:
            yield self._look(last_s + LOOK_S)  # the last level must hold before it counts

    def _look(self, t_s: float) -> Played:
        self._now_ns = round(t_s * 1e9)
        return Played(t_s, self._driver.poll())

    def _open(self) -> None:
        if not self._is_open:
            self._driver.open()
            self._is_open = True

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._driver.close()

    def _reach(self, t_s: float) -> None:
        """Let it be `t_s`, never earlier than it was."""
        self._now_ns = max(self._now_ns, round(t_s * 1e9))


def _json_line(number: int, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise _wrong(number, NOT_JSON, error=exc) from exc
    if not isinstance(value, dict):
        raise _wrong(number, NO_OBJECT)
    return value


def _bytes(number: int, entry: Mapping[str, Any], key: str) -> bytes:
    try:
        return bytes.fromhex(entry[key])
    except (KeyError, TypeError, ValueError) as exc:
        raise _wrong(number, NO_BYTES, key=key) from exc


def _i2c_entry(number: int, t_s: float, entry: Mapping[str, Any]) -> Answered | None:
    if "address" not in entry:
        return None
    address = entry["address"]
    if not isinstance(address, int) or not 0 <= address <= 0x7F:
        raise _wrong(number, WRONG_ADDRESS)
    write = _bytes(number, entry, "write") if "write" in entry else b""
    if "error" in entry:
        return Answered(t_s, address, ("error", write), None, str(entry["error"]) or "EIO")
    if "read" in entry:
        return Answered(t_s, address, ("read", write), _bytes(number, entry, "read"))
    return Answered(t_s, address, ("write", write), None)


def _file_entry(number: int, t_s: float, entry: Mapping[str, Any]) -> Answered | None:
    path = entry.get("path")
    if not isinstance(path, str):
        raise _wrong(number, NEEDS_PATH)
    if "error" in entry:
        return Answered(t_s, path, "error", None, str(entry["error"]) or "EIO")
    text, names = entry.get("text"), entry.get("names")
    if isinstance(text, str):
        return Answered(t_s, path, "text", text)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return Answered(t_s, path, "names", names)
    raise _wrong(number, NEEDS_TEXT)
