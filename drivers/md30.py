"""Vaisala Mobile Detector MD30: the road's surface, seen from a patrol vehicle or a snowplough.

The unit answers each question with one frame: AB, sender, receiver, message, number, length, data,
CRC. The number of the question comes back in its answer, so a late answer is known by it. A unit
that streams by itself is decoded as well, where only bytes are heard.

For each value the unit has a warning bit ("should be treated with suspicion") and an error bit;
with either, a value is not given. Of the surface's state the raw code is always kept.

Sources: Vaisala M212201EN-D, MD30 Interface Description (frame, SEND DATA, GET FULL PRODUCT INFO,
GET PARAMETER, status bits). Its table of surface states is not public: the codes are those of
Vaisala's road stations (ROSA, DSC). [K], common knowledge and in no public document: the speed of
the line as delivered, and how much water, ice and snow the unit can tell at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import Field, model_validator

from . import base, limits, road
from .base import (
    BusError,
    Clock,
    Found,
    FrameError,
    IdentityError,
    LineSettings,
    Quantity,
    Reading,
    Reason,
    Stillness,
)
from .buses import SerialPort
from .checksums import crc16_ibm3740
from .dialogue import ask
from .framing import SeekingFramer
from .road import CONDITION_CODE

START = 0xAB
PRODUCT_INFO, SEND_DATA, GET_PARAMETER = 0x11, 0x20, 0x40
TEMPERATURE_UNIT, LAYER_UNIT = 0x30, 0x31  # parameters; 0 is degC, and mm

SCAN_UNITS = range(1, 6)
SCAN_TIMEOUT_S = 0.3

HEAD_BYTES = 7  # start, sender, receiver, message, number, length
OVERHEAD_BYTES = HEAD_BYTES + 2
DATA_BYTES_MAX = 255  # the interface promises 123; longer is no frame

# After interface version and error code: count, warnings, errors; air, humidity, dew point, frost
# point, surface; state, EN 15518 state; grip; water, ice, snow; the unit's status and errors.
_DATA = struct.Struct("<HHH5f2B4fII")

SURFACE = Quantity(
    *("surface_temperature_c", "Cel", "road surface temperature", -50.0, 80.0),
    limits=limits.under_way(limits.SURFACE_C),
)
CONDITION = road.condition(road.VAISALA)
FRICTION = Quantity("friction", "1", "grip, 1 = dry", 0.0, 1.0)
WATER = Quantity("water_film_mm", "mm", "water film", 0.0, 100.0)
ICE = Quantity("ice_mm", "mm", "ice layer", 0.0, 100.0)
SNOW = Quantity("snow_mm", "mm", "snow layer", 0.0, 100.0)
AIR = Quantity(
    *("air_temperature_c", "Cel", "air temperature", -40.0, 60.0),
    limits=limits.under_way(limits.AIR_C),
)
HUMIDITY = Quantity(
    *("humidity_percent", "%", "relative humidity", 0.0, 100.0),
    limits=limits.under_way(limits.HUMIDITY_PERCENT),
)
DEW_POINT = Quantity(
    *("dew_point_c", "Cel", "dew point", -80.0, 60.0),
    limits=limits.under_way(limits.DEW_POINT_C),
)

QUANTITIES = (
    *(SURFACE, CONDITION, CONDITION_CODE, FRICTION, WATER, ICE, SNOW),
    *(AIR, HUMIDITY, DEW_POINT),
)

# Which bit of the warnings and of the errors stands for which number.
_NUMBERS = (
    (0, AIR),
    (1, HUMIDITY),
    (2, DEW_POINT),
    (4, SURFACE),
    (7, FRICTION),
    (8, WATER),
    (9, ICE),
    (10, SNOW),
)
_STATE_BIT = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose CRC was right. A unit's data begin with its interface version and error."""

    sender: int
    receiver: int
    message: int
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What SEND DATA answers; temperatures in degC, layers in mm."""

    count: int  # data sets analysed since power-up, modulo 65536
    warnings: int
    errors: int
    numbers: Mapping[str, float]
    state: int


def encode(frame: Frame) -> bytes:
    """Return the bytes of `frame` as they go over the line."""
    head = (frame.sender, frame.receiver, frame.message, frame.number, len(frame.data))
    checked = struct.pack("<4BH", *head) + frame.data
    return bytes((START,)) + checked + struct.pack("<H", crc16_ibm3740(checked))


def size_at(stream: bytearray, at: int) -> int | None:
    """Return the size of the frame that begins at `at`: 0 if none does, None if too early."""
    if stream[at] != START:
        return 0
    if len(stream) - at < HEAD_BYTES:
        return None
    (length,) = struct.unpack_from("<H", stream, at + 5)
    if length > DATA_BYTES_MAX:
        return 0
    size: int = length + OVERHEAD_BYTES
    if len(stream) - at < size:
        return None
    (crc,) = struct.unpack_from("<H", stream, at + size - 2)
    return size if crc == crc16_ibm3740(bytes(stream[at + 1 : at + size - 2])) else 0


def frame_of(raw: bytes) -> Frame:
    """Return what the bytes of a proven frame say."""
    sender, receiver, message, number = raw[1:5]
    return Frame(sender, receiver, message, number, raw[HEAD_BYTES:-2])


def decode(frame: Frame) -> Report:
    """Return the report in an answer to SEND DATA.

    Raises FrameError if the unit reports an error in place of data, or the data are not built so.
    """
    if len(frame.data) >= 2 and frame.data[1]:
        raise FrameError(f"MD30 {frame.sender}: error code {frame.data[1]} in place of data")
    if len(frame.data) != 2 + _DATA.size:
        raise FrameError(f"MD30 {frame.sender}: {len(frame.data)} bytes of data, not 54")
    count, warnings, errors, *rest = _DATA.unpack_from(frame.data, 2)
    air, humidity, dew_point, _frost_point, surface, state, _en15518 = rest[:7]
    friction, water, ice, snow = rest[7:11]
    numbers = {
        AIR.name: air,
        HUMIDITY.name: humidity,
        DEW_POINT.name: dew_point,
        SURFACE.name: surface,
        FRICTION.name: friction,
        WATER.name: water,
        ICE.name: ice,
        SNOW.name: snow,
    }
    return Report(count, warnings, errors, numbers, state)


def readings(report: Report, at_boot_ns: int) -> list[Reading]:
    """Return what `report` says; what the unit doubts or could not measure has no value."""
    bad = report.warnings | report.errors
    found = []
    for bit, quantity in _NUMBERS:
        value = report.numbers[quantity.name]
        if bad >> bit & 1:
            found.append(Reading(quantity.name, None, at_boot_ns, ("weak_signal",)))
        elif not _is_within(value, quantity):  # NaN, too
            found.append(Reading(quantity.name, None, at_boot_ns, ("out_of_range",)))
        else:
            found.append(Reading(quantity.name, value, at_boot_ns))
    if bad >> _STATE_BIT & 1:
        return found + _lost((CONDITION, CONDITION_CODE), "weak_signal", at_boot_ns)
    found.append(Reading(CONDITION.name, road.vaisala(report.state), at_boot_ns))
    found.append(Reading(CONDITION_CODE.name, str(report.state), at_boot_ns))
    return found


def product(data: bytes) -> dict[str, str]:
    """Return the pairs in an answer to GET FULL PRODUCT INFO, its names in lower case.

    Raises FrameError if they are not built as the interface says.
    """
    texts: list[str] = []
    at = 3
    for _ in range(2 * data[2] if len(data) > 2 else 0):
        if at >= len(data) or at + 1 + data[at] > len(data):
            raise FrameError("MD30: product information ends within a text")
        texts.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
        at += 1 + data[at]
    return {key.lower(): value for key, value in zip(texts[::2], texts[1::2], strict=True)}


def _is_within(value: float, quantity: Quantity) -> bool:
    return (quantity.low or 0.0) <= value <= (quantity.high or 0.0)


def _lost(quantities: Iterable[Quantity], reason: Reason, at_boot_ns: int) -> list[Reading]:
    return [Reading(each.name, None, at_boot_ns, (reason,)) for each in quantities]


class Md30Options(base.Options):
    """Which unit it is, and how often it is asked."""

    unit: int = Field(default=1, ge=1, le=0xFD, description="unit id of the MD30, 1 as delivered")
    own_id: int = Field(default=0, ge=0, le=0xFD, description="id of the gateway on the line")
    interval_s: float = Field(default=1.0, ge=0.2, description="time between two questions")
    timeout_s: float = Field(default=0.5, gt=0.0, description="how long to wait for an answer")
    # The unit counts what it analyses, dozens a second, and the count is part of what is compared:
    # a report that repeats itself for minutes was not measured, however quiet the road.
    stuck_s: float = Field(
        default=600.0, ge=0.0, description="the same report for so long is no measurement; 0 = off"
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.unit == self.own_id:
            raise ValueError("unit and own_id must differ: the one asks, the other answers")
        return self

    def claims(self) -> list[str]:
        """Name the unit."""
        return [f"MD30 unit {self.unit}"]


class Md30:
    """The unit on its line, asked for one report at each poll. Its own stream is left as it is."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="vaisala-md30",
        title="Vaisala Mobile Detector MD30",
        kind="road",
        bus="serial",
        quantities=QUANTITIES,
        header=(
            ("RS-232 TX", "RS-232 adapter, RX (no pin of the Pi carries RS-232 levels)"),
            ("RS-232 RX", "RS-232 adapter, TX"),
            ("GND", "RS-232 adapter, GND"),
            ("supply", "the vehicle's 12 or 24 V, fused; never from the Pi"),
        ),
        wiring=(
            "The line has RS-232 levels: use an adapter, never a bare UART pin.",
            "Feed it from the vehicle's battery through its own fuse, as its manual says.",
            "Mount it as its manual says, the window facing the road, away from splashes.",
            "Find it by its path under /dev/serial/by-id: in a vehicle adapters come and go.",
        ),
        quirks=(
            "The speed as delivered is in no public document; 115200 is assumed. It may be 9600, "
            "19200, 38400, 57600 or 115200: set `baud` in [[buses]].",
            "It can be set to degF and to other units of layers: that is read at the start, and "
            "refused until it is set back.",
            "A value with its warning or error bit set is not given; clean the window.",
            "Codes of the surface's state are Vaisala's; 100 or 200 more is a warning or an alarm. "
            "What is unknown becomes `unknown`; condition_code always keeps the code.",
            "It may stream by itself; such reports are not taken for answers.",
        ),
        checksum="CRC-16/IBM-3740 over all bytes after the first, low byte first",
        evidence="vendor vectors",
        evidence_note="one question and its answer, an answer of product information and two of "
        "parameters as the maker prints them; no recorded drive; codes of the surface's state from "
        "Vaisala's road stations",
        source="Vaisala M212201EN-D, MD30 Interface Description",
        line=LineSettings(115200),
        bauds=(9600, 19200, 38400, 57600),
        example={"unit": 1},
    )
    Options: ClassVar[type[base.Options]] = Md30Options

    def __init__(self, bus: SerialPort, options: Md30Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._framer = SeekingFramer(size_at)
        self._misbuilt = 0
        self._number = 0
        self._stillness = Stillness(options.stuck_s)
        self.interval_s = options.interval_s
        self.rate_hz = 1.0 / options.interval_s
        self.frames = 0
        self.frame_errors = 0  # runs of damaged bytes, and reports not built as they should be
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """All that it reports."""
        return {quantity.name: quantity for quantity in QUANTITIES}

    def open(self) -> None:
        """Ask who it is, and make sure that it reports in degC and mm. Changes nothing.

        Raises IdentityError if it is no MD30, FrameError if it is set to other units.
        """
        self._stillness.forget()
        answer = self._ask(PRODUCT_INFO, b"")
        if _is_good(answer):
            said = product(answer.data)
            name = said.get("product name", "")
            if not name.upper().startswith("MD30"):
                raise IdentityError(f"{self._where} is a {name or 'device without a name'}")
            parts = (name, said.get("serial number"), said.get("sw version"))
            self.identity = ", ".join(part for part in parts if part)
        for parameter, unit in ((TEMPERATURE_UNIT, "degC"), (LAYER_UNIT, "mm")):
            answer = self._ask(GET_PARAMETER, struct.pack("<H", parameter))
            # A unit that does not know a parameter cannot be set to another unit.
            if _is_good(answer) and answer.data[4:5] not in (b"", b"\0"):
                raise FrameError(
                    f"{self._where} does not report in {unit}: its parameter "
                    f"0x{parameter:02X} is {answer.data[4]}; set it to 0 with the maker's tool"
                )

    def close(self) -> None:
        """Do nothing: the unit waits to be asked."""

    def poll(self) -> Sequence[base.Observation]:
        """Ask for one report. Raises BusError if nobody answers, FrameError for nonsense."""
        at_boot_ns = self._now_ns()
        answer = self._ask(SEND_DATA, bytes(2))
        return self._readings(answer, at_boot_ns)

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        """Decode the reports that `chunk` completes, asked for or streamed, of any unit."""
        found: list[base.Observation] = []
        for frame in self._frames(self._framer.feed(chunk)):
            if frame.message == SEND_DATA:
                try:
                    found += self._readings(frame, at_boot_ns)
                except FrameError:
                    continue
        return found

    @classmethod
    def discover(cls, port: SerialPort, now_ns: Clock, until_ns: int) -> Iterator[Found]:
        """Ask the first few unit ids who they are: one unit sits on one line. Raises BusError."""
        for unit in SCAN_UNITS:
            if now_ns() >= until_ns:
                return
            probe = cls(port, Md30Options(unit=unit, timeout_s=SCAN_TIMEOUT_S), now_ns)
            try:
                probe.open()
            except _NobodyError:
                continue
            except (FrameError, IdentityError) as exc:
                if not probe.frames:
                    continue
                yield Found(str(exc), {"unit": unit})
            else:
                yield Found(f"{probe.identity or 'MD30'}, unit {unit}", {"unit": unit})

    def _readings(self, frame: Frame, at_boot_ns: int) -> list[Reading]:
        if len(frame.data) >= 2 and frame.data[1]:
            return _lost(QUANTITIES, "frame_error", at_boot_ns)
        try:
            report = decode(frame)
        except FrameError:
            self._misbuilt += 1
            self._count_errors()
            raise
        if self._stillness.lasts(frame.data, at_boot_ns):
            return _lost(QUANTITIES, "stuck", at_boot_ns)
        return readings(report, at_boot_ns)

    def _ask(self, message: int, data: bytes) -> Frame:
        """Return the unit's answer to this very question. Raises BusError or FrameError."""
        self._number = self._number % 255 + 1  # 0 is "not used"
        options = self._options
        question = encode(Frame(options.own_id, options.unit, message, self._number, data))
        self._frames(self._framer.flush())
        errors_before = self._framer.errors
        for chunk in ask(self._bus, question, self._now_ns, options.timeout_s):
            for frame in self._frames(self._framer.feed(chunk)):
                if self._answers(frame, message):
                    return frame
        for frame in self._frames(self._framer.flush()):
            if self._answers(frame, message):
                return frame
        if self._framer.errors > errors_before:
            raise FrameError(
                f"only damaged answers from {self._where}: check ground and the speed of the line"
            )
        raise _NobodyError(
            f"nobody answers at {self._where}: check power, TX and RX, and the speed of the line "
            f"({self.spec.line.baud if self.spec.line else 0} unless [[buses]] sets another)"
        )

    def _answers(self, frame: Frame, message: int) -> bool:
        own = (self._options.unit, message, self._number)
        return (frame.sender, frame.message, frame.number) == own

    def _frames(self, raws: Iterable[bytes]) -> list[Frame]:
        """Count and return the frames that units sent: our own words are no unit's."""
        frames = [frame_of(raw) for raw in raws]
        frames = [frame for frame in frames if frame.sender != self._options.own_id]
        self.frames += len(frames)
        self._count_errors()
        return frames

    def _count_errors(self) -> None:
        self.frame_errors = self._framer.errors + self._misbuilt

    @property
    def _where(self) -> str:
        return f"MD30 unit {self._options.unit}"


class _NobodyError(BusError):
    """Silence, on a bus that works: a scan goes on to the next unit."""


def _is_good(answer: Frame) -> bool:
    return len(answer.data) >= 2 and answer.data[1] == 0
