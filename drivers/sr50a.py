"""Campbell Scientific SR50A and SR50AT: ultrasonic rangers over snow, asked on RS-232 or RS-485.

One question ("p33", CR) brings one frame of text, proven by a checksum. What stands in it is set
in the device, and the same must be said in the options: a frame of another layout is refused, not
guessed at.

Sound is slower in the cold, by 1.8 % at -10 degC: without a correction the ground 3.5 m below
seems 6.6 cm farther than it is, and as much snow is not seen. The speed of sound is corrected
exactly once. An SR50A calculates with 331.4 m/s, that of 0 degC, and has no thermometer: the air's
temperature comes from another sensor of the gateway (`temperature_from`). An SR50AT corrects by
itself with its own, as long as it is set to report the temperature; the driver then corrects
nothing. Where the temperature is missing, or older than 15 minutes, there is no distance and no
depth (`uncalibrated`): a number that is wrong by a snowfall is worse than none.

What a reading's quality number says: 152-210 good, 210-300 reduced (both are values), above 300
poor. A poor one is mostly falling snow, not the ground, so it is none (`weak_signal`), and so are
0 (no echo) and other numbers below 152, which no good echo has.

Sources: manuals SR50A Series and SR50AT Series (frame, checksum, commands, quality numbers, and
that the SR50AT corrects by itself on RS-232 and RS-485 while its temperature output is on). A [K]
marks what is common knowledge of the device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from . import base
from .base import (
    BusError,
    DriverError,
    FrameError,
    IdentityError,
    LineSettings,
    Quantity,
    Reading,
    Reason,
)
from .buses import SerialPort
from .depth import MountedOptions, Overhead, depth, distance
from .dialogue import ask
from .framing import SeekingFramer

STX, ETX = 0x02, 0x03
FRAME_BYTES_MAX = 64  # the longest known has 42
TAIL_BYTES = 5  # checksum, CR, LF, ETX

FACTORY_ADDRESS = "33"
SCANNED_ADDRESSES = (FACTORY_ADDRESS, "34", "35", "36", "30", "31", "32")
SCAN_TIMEOUT_S = 0.3

ZERO_C_K = 273.15
STALE_S = 900.0  # air warms or cools by 2 K in that time at most, which is 4 mm in a metre
THERMOMETER_C = (-60.0, 60.0)  # outside it nobody's thermometer is believed

QUALITY_BEST = 152
QUALITY_POOR = 300
MEMORY_FAILED = "0"  # the first digit of the diagnostics

Unit = Literal["m", "cm", "mm"]
Extra = Literal["quality", "temperature", "diagnostics"]
EXTRAS: tuple[Extra, ...] = ("quality", "temperature", "diagnostics")  # as they stand in a frame

_METRES: Mapping[Unit, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_DISTANCES: Mapping[Unit, str] = {
    "m": r"-?\d{1,2}\.\d{3}",
    "cm": r"-?\d{1,4}\.\d{2}",
    "mm": r"-?\d{1,4}",
}
_EXTRAS: Mapping[Extra, str] = {
    "quality": r"\d{1,3}",
    "temperature": r"[-+]?\d{1,3}\.\d{2}",
    "diagnostics": r"[01]{5}",
}
_QUESTION = re.compile(rb"[pPiI][0-9A-Fa-f]{2}\r")
_QUESTION_BYTES = 4
_TEXT = re.compile(rb"[\x20-\x7e\r\n]*")
# The manual shows it without a checksum and speaks of one; it only says who answers.
_INFO = re.compile(
    rb"\x02([0-9A-Fa-f]{2});(\w{1,8});(\d+\.\d+);(\d+\.\d+);(\w{1,8});(\w{1,8})"
    rb"(;[0-9A-Fa-f]{2})?\r\n\x03",
    re.ASCII,
)

# 0.5 to 10 m at 0 degC, as far as -50 and +60 degC stretch it.
DISTANCE = distance(45.0, 1105.0, "distance to the surface below")
DEPTH = depth(1000.0)


def checksum(frame: bytes) -> int:
    """Return the checksum of a whole `frame`: its sum without the checksum's own, negated.

    Source: manual, appendix D: the two's complement, control characters included.
    """
    return -(sum(frame) - sum(frame[-TAIL_BYTES:-3])) & 0xFF


def sound_corrected_m(distance_m: float, air_c: float) -> float:
    """Return the distance that a device measured with the speed of sound of 0 degC."""
    return distance_m * math.sqrt((air_c + ZERO_C_K) / ZERO_C_K)


@dataclass(frozen=True, slots=True)
class Said:
    """What a device said in one frame; None where it said nothing or "invalid"."""

    address: str
    distance: str  # as sent
    distance_m: float | None
    quality: int | None = None
    temperature_c: float | None = None
    diagnostics: str | None = None

    def invalid_because(self) -> Reason | None:
        """Return why the distance is no measurement, or None if it is one."""
        if self.diagnostics is not None and self.diagnostics[0] == MEMORY_FAILED:
            return "bus_error"
        if self.distance_m is None:
            return "weak_signal"
        if self.quality is not None and not QUALITY_BEST <= self.quality <= QUALITY_POOR:
            return "weak_signal"
        return None


def decode(frame: bytes, units: Unit, extras: Iterable[Extra]) -> Said:
    """Return what a measurement's `frame` says if it is laid out so. Raises FrameError if not."""
    present = [each for each in EXTRAS if each in set(extras)]
    address, *fields = frame[1 : -TAIL_BYTES - 1].decode("ascii").split(";")
    forms = [_DISTANCES[units], *(_EXTRAS[each] for each in present)]
    if len(fields) != len(forms) or not all(map(re.fullmatch, forms, fields)):
        raise FrameError(
            f"SR50A {address} says {';'.join(fields)!r} where the options want a distance in "
            f"{units}, {', '.join(present) or 'and nothing else'}: set `units` and `fields` as "
            "the device is set"
        )
    extra = dict(zip(present, fields[1:], strict=True))
    distance_m = float(fields[0]) * _METRES[units]
    quality, temperature = extra.get("quality"), extra.get("temperature")
    return Said(
        address.upper(),
        fields[0],
        distance_m if distance_m > 0 else None,
        None if quality is None else int(quality),
        None if temperature is None else believable(float(temperature)),
        extra.get("diagnostics"),
    )


def believable(celsius: float) -> float | None:
    """Return an air temperature if it can be one: -999.00 is what stands for none."""
    low, high = THERMOMETER_C
    return celsius if low <= celsius <= high else None


def identity_of(frame: bytes) -> str:
    """Return who an answer to the question "i" comes from; "" if `frame` is none."""
    match = _INFO.fullmatch(frame)
    if match is None or (match[7] and not _is_proven(frame)):
        return ""
    serial, hardware, firmware = (match[n].decode("ascii") for n in (2, 3, 4))
    return f"SR50A serial {serial}, hardware {hardware}, firmware {firmware}"


def _frame_bytes(stream: bytearray, at: int) -> int | None:
    """Return the size of what begins at `at`, 0 if nothing does, None if too early to say.

    A question is one, too, so that the echo of a two-wire adapter is no damage.
    """
    if stream[at] in b"pPiI":
        head = bytes(stream[at : at + _QUESTION_BYTES])
        if len(head) < _QUESTION_BYTES:
            return None
        return _QUESTION_BYTES if _QUESTION.fullmatch(head) else 0
    if stream[at] != STX:
        return 0
    end = stream.find(ETX, at, at + FRAME_BYTES_MAX)
    inside = stream[at + 1 : end if end >= 0 else at + FRAME_BYTES_MAX]
    if not _TEXT.fullmatch(inside):
        return 0
    if end < 0:
        return None if len(inside) < FRAME_BYTES_MAX - 1 else 0
    frame = bytes(stream[at : end + 1])
    return len(frame) if _is_proven(frame) or identity_of(frame) else 0


def _is_proven(frame: bytes) -> bool:
    match = re.fullmatch(rb"\x02[0-9A-Fa-f]{2};.*;([0-9A-Fa-f]{2})\r\n\x03", frame)
    return match is not None and int(match[1], 16) == checksum(frame)


class Sr50aOptions(MountedOptions):
    """Which device it is, how it is set and mounted, and who knows the air's temperature."""

    model: Literal["sr50a", "sr50at"] = Field(
        default="sr50a", description="sr50at has a thermometer of its own"
    )
    address: str | None = Field(
        default=None,
        pattern=r"^[0-9A-F]{2}$",
        description='the two characters of its serial address; default "33", as from the factory',
    )
    units: Unit = Field(default="m", description="Output Units, as set in the device")
    fields: list[Extra] | None = Field(
        default=None,
        description="what the device is set to say beside the distance; default quality and "
        "diagnostics, for sr50at temperature, too",
    )
    temperature_from: str | None = Field(
        default=None,
        min_length=1,
        description="the sensor of this gateway whose air_temperature_c corrects the speed of "
        "sound; not for a device that corrects it itself",
    )
    assume_temperature_c: float | None = Field(
        default=None,
        ge=-50.0,
        le=60.0,
        description="what the air is taken for where no thermometer tells; each degree that it is "
        "wrong makes 0.18 % of the distance",
    )
    corrects_itself: bool | None = Field(
        default=None,
        description="whether the distance that it says is already corrected for the temperature; "
        "default, by the manual: an sr50at that says its temperature does, others do not",
    )
    # The same reasons as for any ultrasonic gauge: a calm night repeats itself to the millimetre,
    # but not for hours, because the air's temperature moves what is measured by more.
    stuck_s: float = Field(
        default=21600.0,
        ge=0.0,
        description="the same distance for so long is no measurement any more; 0 = never",
    )
    interval_s: float = Field(default=10.0, ge=3.0, description="time between two questions")
    # A measurement takes up to a second, and longer where echoes are tried again.
    timeout_s: float = Field(
        default=2.5, gt=0.0, le=5.0, description="how long to wait for an answer"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fields and len(set(self.fields)) < len(self.fields):
            raise ValueError("fields: each can be named once")
        if self.corrects_itself and not self.has_thermometer:
            raise ValueError(
                'corrects_itself is for an sr50at with "temperature" among its fields: no other '
                "knows the air"
            )
        if self.is_corrected and (self.temperature_from or self.assume_temperature_c is not None):
            raise ValueError(
                "an sr50at that says its temperature corrects the speed of sound itself: "
                "temperature_from and assume_temperature_c would correct it twice"
            )
        return self

    @property
    def target(self) -> str:
        """The address to ask."""
        return self.address or FACTORY_ADDRESS

    @property
    def extras(self) -> Sequence[Extra]:
        """What stands in a frame beside the distance."""
        if self.fields is not None:
            return self.fields
        return EXTRAS if self.model == "sr50at" else ("quality", "diagnostics")

    @property
    def has_thermometer(self) -> bool:
        """Whether a frame tells the air's temperature."""
        return self.model == "sr50at" and "temperature" in self.extras

    @property
    def is_corrected(self) -> bool:
        """Whether the device has corrected the distance already."""
        return self.has_thermometer if self.corrects_itself is None else self.corrects_itself

    def missing_to_measure(self) -> list[str]:
        """Say that depth needs the mounting height, and a distance the air's temperature."""
        missing = super().missing_to_measure()
        told = self.temperature_from is not None or self.assume_temperature_c is not None
        if not (self.has_thermometer or told):
            missing.append(
                "temperature_from: the id of a sensor that measures air_temperature_c, for the "
                "speed of sound"
            )
        return missing

    def claims(self) -> list[str]:
        """Name its address."""
        return [f"SR50A address {self.target}"]

    def listens_to(self) -> str | None:
        """Name the sensor that knows the air's temperature."""
        return self.temperature_from


class Sr50a:
    """A ranger that measures when it is asked, on a line that it may share."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="campbell-sr50a",
        title="Campbell Scientific SR50A and SR50AT",
        kind="snow",
        bus="serial",
        quantities=(DISTANCE, DEPTH),
        header=(
            (
                "green: RS-485 A, or RS-232 out",
                "A of a USB RS-485 adapter, or RxD of an RS-232 one",
            ),
            ("white: RS-485 B, or RS-232 in", "B of a USB RS-485 adapter, or TxD of an RS-232 one"),
            ("black: power and signal ground", "ground of the adapter, and of the supply"),
            ("red: power", "12 V DC of its own, never the Pi's pins"),
            ("clear: shield", "earth"),
        ),
        wiring=(
            "It leaves the factory set to SDI-12: jumpers inside choose RS-232 or RS-485.",
            "RS-485 for long cables and several devices; each then needs an address of its own.",
            "RS-232 levels harm a bare UART pin: use an RS-232 adapter.",
            '9600 8N1 [K]; in its menu ("setup") choose: measure when polled, distance to target.',
            "Mount it level over flat ground, 0.5 to 10 m above the snow, nothing within the beam "
            "of 30 degrees [K].",
            "The thermometer, its own or another's, hangs in a ventilated shield at its height: "
            "sunshine on it is an error of depth.",
        ),
        quirks=(
            "An SR50A calculates with the speed of sound at 0 degC; at -10 degC what is 3.5 m "
            "below seems 6.6 cm farther, and as much snow is lost: the driver corrects it by "
            "`temperature_from`. "
            "While that temperature is missing or older than 15 minutes, there is no value "
            "(uncalibrated).",
            "An SR50AT that says its temperature has corrected the distance already: a second "
            "correction would be as wrong as none, and is not made.",
            "What stands in a frame is set in the device; options `units` and `fields` must say "
            "the same, or every frame is refused.",
            "0.000 (m) and -999 (mm) mean that nothing came back: no value.",
            "Falling or very loose snow gives poor echoes: a quality number above 300 is no value, "
            "and neither is one below 152.",
            "It measures for about a second when asked; a set-up that measures by itself and is "
            "polled answers at once.",
            'A temperature sent to it (command "t") would make it correct by itself until it is '
            "switched off; the driver sends none, and nobody else should.",
        ),
        checksum="8-bit sum, two's complement, two hexadecimal digits",
        evidence="vendor vectors",
        evidence_note="frame and checksum on the manual's example; temperature correction on a "
        "calculated one; no recorded bytes, and not beside a device",
        source="Campbell Scientific, manuals SR50A Series and SR50AT Series, appendix D",
        line=LineSettings(9600),
        example={"model": "sr50at", "mount_height_cm": 350.0},
        bauds=(1200, 2400, 4800, 19200, 38400),
        shares_bus=True,
    )
    Options: ClassVar[type[base.Options]] = Sr50aOptions

    def __init__(self, bus: SerialPort, options: Sr50aOptions, now_ns: Callable[[], int]) -> None:
        self._bus = bus
        self._options = options
        self._overhead = Overhead(DISTANCE, DEPTH, options)
        self._now_ns = now_ns
        self._framer = SeekingFramer(_frame_bytes)
        self._misbuilt = 0
        self._stillness = base.Stillness(options.stuck_s)
        self._air: tuple[float, int] | None = None  # what was heard, and when it was measured
        self.interval_s = options.interval_s
        self.rate_hz = 1.0 / options.interval_s
        self.frames = 0
        self.frame_errors = 0  # runs of damaged bytes, and frames of another layout
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The distance, and the depth where the mounting height is known."""
        return self._overhead.quantities

    def hear_temperature(self, celsius: float, at_boot_ns: int) -> None:
        """Take the air's temperature, measured elsewhere; from any thread."""
        if believable(celsius) is not None:
            self._air = (celsius, at_boot_ns)

    def open(self) -> None:
        """Ask the device who it is.

        Raises BusError if nobody answers, FrameError if only damaged answers came.
        """
        self._stillness.forget()
        errors_before = self._begin()
        for frame in self._hear(b"i"):
            if identity := identity_of(frame):
                self.frames += 1
                self.identity = identity
                return
        raise self._unanswered(errors_before)

    @classmethod
    def discover(
        cls, port: SerialPort, now_ns: Callable[[], int], until_ns: int
    ) -> Iterator[base.Found]:
        """Ask who is there at the factory's address and its neighbours; yield who answers."""
        for address in SCANNED_ADDRESSES:
            if now_ns() + SCAN_TIMEOUT_S * 1e9 > until_ns:
                return
            framer = SeekingFramer(_frame_bytes)
            for chunk in ask(port, _question(b"i", address), now_ns, SCAN_TIMEOUT_S):
                answers = [
                    each
                    for each in framer.feed(chunk)
                    if identity_of(each) and _sender(each) == address
                ]
                if answers:
                    what = f"Campbell {identity_of(answers[0])} (address {address})"
                    yield base.Found(what, {"address": address})
                    break

    def close(self) -> None:
        """Do nothing: the device waits to be asked."""

    def poll(self) -> Sequence[base.Observation]:
        """Let it measure, and return what it says.

        Raises BusError if nobody answers, FrameError if only damaged answers came or frames of
        another layout, IdentityError if an sr50a turns out to be an SR50AT.
        """
        at_boot_ns = self._now_ns()
        errors_before = self._begin()
        for frame in self._hear(b"p"):
            said = self._decoded(frame)
            if said is None:
                continue
            if self._has_unknown_thermometer(said):
                raise IdentityError(
                    f"SR50A {said.address} says {said.temperature_c} degC: it is an SR50AT, and "
                    'corrects the speed of sound itself; set model = "sr50at"'
                )
            return self._readings(said, at_boot_ns)
        raise self._unanswered(errors_before)

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        """Decode the measurements that `chunk` completes: of every device, unless one is named."""
        found: list[base.Observation] = []
        for frame in self._answers(self._framer.feed(chunk), self._options.address):
            try:
                said = self._decoded(frame)
            except FrameError:
                continue  # it is counted
            if said is not None:
                found += self._readings(said, at_boot_ns)
        return found

    def _begin(self) -> int:
        """Give up what the last question left; return the errors until now."""
        self._framer.flush()
        self.frame_errors = self._framer.errors + self._misbuilt
        return self.frame_errors

    def _hear(self, command: bytes) -> Iterator[bytes]:
        """Ask once; yield the frames of the device as they come, until the time is over."""
        target = self._options.target
        question = _question(command, target)
        for chunk in ask(self._bus, question, self._now_ns, self._options.timeout_s):
            yield from self._answers(self._framer.feed(chunk), target)
        yield from self._answers(self._framer.flush(), target)

    def _answers(self, frames: Iterable[bytes], address: str | None) -> list[bytes]:
        """Leave out questions, and other devices than the one at `address`, if given."""
        self.frame_errors = self._framer.errors + self._misbuilt
        return [frame for frame in frames if frame[0] == STX and address in (None, _sender(frame))]

    def _decoded(self, frame: bytes) -> Said | None:
        """Decode and count a device's frame; None if it is no measurement. Raises FrameError."""
        said = None
        if not identity_of(frame):
            try:
                said = decode(frame, self._options.units, self._options.extras)
            except FrameError:
                self._misbuilt += 1
                self.frame_errors += 1
                raise
        self.frames += 1
        return said

    def _unanswered(self, errors_before: int) -> DriverError:
        where = f"SR50A address {self._options.target}"
        if self.frame_errors > errors_before:
            return FrameError(
                f"only damaged answers from {where}: check ground and termination, that no two "
                "devices share an address, and that none sends unasked"
            )
        return BusError(
            f"nobody answers at {where}: check its 12 V, the wires (A green, B white), its jumpers "
            "(SDI-12 from the factory), baud 9600 8N1"
        )

    def _has_unknown_thermometer(self, said: Said) -> bool:
        return self._options.model == "sr50a" and said.temperature_c is not None

    def _readings(self, said: Said, at_boot_ns: int) -> list[Reading]:
        reason = said.invalid_because()
        # One without an echo repeats itself rightly.
        if reason is None and self._stillness.lasts(said.distance, at_boot_ns):
            reason = "stuck"
        distance_m = self._true_distance_m(said, at_boot_ns)
        if reason is not None or distance_m is None:
            return self._overhead.nothing(reason or "uncalibrated", at_boot_ns)
        return self._overhead.measured(distance_m * 100, at_boot_ns)

    def _true_distance_m(self, said: Said, at_boot_ns: int) -> float | None:
        """Return the distance with the speed of sound corrected once; None where it cannot be."""
        if said.distance_m is None or self._has_unknown_thermometer(said):
            return None
        if self._options.is_corrected:
            # Without its thermometer nobody knows what it calculated with.
            return None if said.temperature_c is None else said.distance_m
        air_c = said.temperature_c
        if air_c is None:
            air_c = self._heard_c(at_boot_ns)
        if air_c is None:
            air_c = self._options.assume_temperature_c
        return None if air_c is None else sound_corrected_m(said.distance_m, air_c)

    def _heard_c(self, at_boot_ns: int) -> float | None:
        if self._air is None:
            return None
        celsius, measured_ns = self._air
        return celsius if at_boot_ns - measured_ns <= STALE_S * 1e9 else None


def _question(command: bytes, address: str) -> bytes:
    return command + address.encode("ascii") + b"\r"


def _sender(frame: bytes) -> str:
    return frame[1:3].decode("ascii").upper()
