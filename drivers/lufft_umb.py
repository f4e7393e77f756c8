"""Lufft sensors that speak UMB-binary: road (IRS31Pro), snow depth (SHM31), and any by a table.

UMB is a question-and-answer protocol on RS-485: the master asks a device for channels, the device
answers each with a status of its own. Control bytes are not escaped, so a frame is cut by its
length and proven by its CRC, never found by its end byte. A channel's error status is never a
value: it becomes a reading without one, and the reason why.

What a device's status says, in the words of the contract:

    28 busy, 2C initialising                          warmup
    50-53 over or under the range, 62 no number       out_of_range
    2B, 54, 55, 56 could not measure or compute       weak_signal
    30-36, 60-64 set-up, adjustment, channel off      uncalibrated
    37 service mode                                   maintenance
    29 low voltage, 2A hardware, 2D, 2E inside        bus_error
    10-15, 20-27 question not understood, and others  frame_error

A device of a model with a table may lack some of its channels; it says so with 24, and the
quantity is then not one of its own: no reading, no complaint.

Sources: umb_consts.js in OttHydromet/node-red-umbparser (frame, commands, status codes); manual
IRS31Pro-UMB V10 01.2020; manual SHM31. A [K] marks what is common knowledge of the device and
stands in none of them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from . import base, limits, road
from .base import (
    BusError,
    DriverError,
    FrameError,
    IdentityError,
    Kind,
    LineSettings,
    Quantity,
    Reading,
    Reason,
)
from .buses import SerialPort
from .checksums import crc16_mcrf4xx
from .framing import SeekingFramer
from .road import CONDITION_CODE

SOH, STX, ETX, EOT = 0x01, 0x02, 0x03, 0x04
HEADER_VERSION = 0x10
COMMAND_VERSION = 0x10
MASTER = 0xF001

INVALID_CHANNEL = 0x24

READ_CHANNEL = 0x23
READ_CHANNELS = 0x2F
DEVICE_INFO = 0x2D
INFO_NAME = 0x10
CHANNELS_PER_REQUEST = 20

SCANNED_CLASSES = (0x1, 0xB, 0x7, 0x8, *range(0x2, 0x7), 0x9, 0xA, *range(0xC, 0xF))  # known first
SCANNED_DEVICES = (1, 2, 3)  # numbers within a class: what devices leave the factory with, or near
SCAN_TIMEOUT_S = 0.2

HEAD_BYTES = 8  # SOH, version, to, from, length, STX
OVERHEAD_BYTES = 12  # the head, ETX, two of CRC, EOT
BODY_BYTES_MAX = 212  # command, its version, and at most 210 of payload

# struct letters of the value types, all little endian
TYPES = {0x10: "B", 0x11: "b", 0x12: "H", 0x13: "h", 0x14: "I", 0x15: "i", 0x16: "f", 0x17: "d"}

_REASONS: Mapping[int, Reason] = {
    **dict.fromkeys((0x28, 0x2C), "warmup"),
    **dict.fromkeys((0x50, 0x51, 0x52, 0x53, 0x62), "out_of_range"),
    **dict.fromkeys((0x2B, 0x54, 0x55, 0x56), "weak_signal"),
    **dict.fromkeys((*range(0x30, 0x37), 0x60, 0x61, 0x63, 0x64), "uncalibrated"),
    0x37: "maintenance",
    **dict.fromkeys((0x29, 0x2A, 0x2D, 0x2E), "bus_error"),
}


def reason_of(status: int) -> Reason:
    """Return the contract's word for a status that is not 0."""
    return _REASONS.get(status, "frame_error")


@dataclass(frozen=True, slots=True)
class Frame:
    """One UMB frame whose CRC was right."""

    to: int
    sender: int
    command: int
    version: int
    payload: bytes

    @property
    def is_from_device(self) -> bool:
        """Whether it is an answer. Class F are masters: their requests, our own echo among them."""
        return self.sender >> 12 != MASTER >> 12


@dataclass(frozen=True, slots=True)
class ChannelValue:
    """What a device said about one channel."""

    channel: int
    status: int
    raw: float | None  # as sent; None unless the status is 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device said to a question for channels: a status for all, or one for each."""

    status: int = 0
    values: tuple[ChannelValue, ...] = ()


def encode(frame: Frame) -> bytes:
    """Return the bytes of `frame` as they go over the line."""
    body = bytes((frame.command, frame.version)) + frame.payload
    head = struct.pack("<BBHHBB", SOH, HEADER_VERSION, frame.to, frame.sender, len(body), STX)
    checked = head + body + bytes((ETX,))
    return checked + struct.pack("<HB", crc16_mcrf4xx(checked), EOT)


def request(address: int, channels: Sequence[int]) -> bytes:
    """Return the question of the master for 1 to 20 `channels` of the device at `address`."""
    payload = struct.pack(f"<B{len(channels)}H", len(channels), *channels)
    return encode(Frame(address, MASTER, READ_CHANNELS, COMMAND_VERSION, payload))


def name_request(address: int) -> bytes:
    """Return the master's question for the name of the device at `address`."""
    payload = bytes((INFO_NAME,))
    return encode(Frame(address, MASTER, DEVICE_INFO, COMMAND_VERSION, payload))


def device_name(frame: Frame) -> str:
    """Return the name that an answer to `name_request` holds; "" from one that tells none."""
    if frame.command != DEVICE_INFO or frame.payload[:2] != bytes((0, INFO_NAME)):
        return ""
    name = frame.payload[2:].split(b"\0")[0].decode("latin-1").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def decode(frame: Frame) -> Answer:
    """Return what `frame` says about channels; an empty Answer if it is of another command.

    Raises FrameError if its payload is not built as its command wants it.
    """
    if frame.command not in (READ_CHANNEL, READ_CHANNELS):
        return Answer()
    if not frame.payload:
        raise FrameError(f"UMB 0x{frame.sender:04X}: an answer without a status")
    status, rest = frame.payload[0], frame.payload[1:]
    if frame.command == READ_CHANNEL:
        # A failed query may come back with or without its channel.
        return Answer(0, (_channel_value(status, rest),)) if rest else Answer(status)
    if status:
        return Answer(status)
    values = []
    count, at = (rest[0], 1) if rest else (0, 0)
    for _ in range(count):
        item = rest[at + 1 : at + 1 + rest[at]] if at < len(rest) else b""
        if len(item) < 3:
            raise FrameError(f"UMB 0x{frame.sender:04X}: fewer than the {count} channels promised")
        values.append(_channel_value(item[0], item[1:]))
        at += 1 + rest[at]
    if at != len(rest):
        raise FrameError(f"UMB 0x{frame.sender:04X}: the answer does not end with its last channel")
    return Answer(0, tuple(values))


def _channel_value(status: int, rest: bytes) -> ChannelValue:
    """Return what `rest` (channel, type, value) says under `status`. Raises FrameError."""
    if len(rest) < 2:
        raise FrameError("UMB: an answer without a channel number")
    channel = int.from_bytes(rest[:2], "little")
    if status:
        return ChannelValue(channel, status, None)
    letter = TYPES.get(rest[2]) if len(rest) > 2 else None
    if letter is None or len(rest) != 3 + struct.calcsize("<" + letter):
        raise FrameError(f"UMB: channel {channel} in no known type: {rest.hex(' ')}")
    (raw,) = struct.unpack("<" + letter, rest[3:])
    return ChannelValue(channel, 0, raw)


class UmbFramer:
    """Cuts a byte stream into UMB frames, by length and CRC; finds them inside garbage."""

    def __init__(self) -> None:
        self._seeking = SeekingFramer(_frame_bytes)

    @property
    def errors(self) -> int:
        """Runs of bytes that belong to no frame."""
        return self._seeking.errors

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that `chunk` completes."""
        return [_frame(raw) for raw in self._seeking.feed(chunk)]

    def flush(self) -> list[Frame]:
        """Give up what is incomplete, and return the frames that hid in it."""
        return [_frame(raw) for raw in self._seeking.flush()]


def _frame_bytes(stream: bytearray, at: int) -> int | None:
    """Return the size of the frame that begins at `at`: 0 if none does, None if too early to say.

    Each byte is judged as soon as it is there, so that little garbage is waited out.
    """
    head = stream[at : at + HEAD_BYTES]
    if head[0] != SOH or (len(head) > 1 and head[1] != HEADER_VERSION):
        return 0
    if len(head) > 6 and not 2 <= head[6] <= BODY_BYTES_MAX:
        return 0
    if len(head) < HEAD_BYTES:
        return None
    size = head[6] + OVERHEAD_BYTES
    if head[7] != STX:
        return 0
    if len(stream) - at < size:
        return None
    checked = bytes(stream[at : at + size - 3])
    crc, end = struct.unpack("<HB", stream[at + size - 3 : at + size])
    valid = checked[-1] == ETX and end == EOT and crc == crc16_mcrf4xx(checked)
    return size if valid else 0


def _frame(raw: bytes) -> Frame:
    to, sender = struct.unpack_from("<HH", raw, 2)
    return Frame(to, sender, raw[8], raw[9], raw[10:-4])


@dataclass(frozen=True, slots=True)
class Channel:
    """Where a device keeps a quantity, and how its raw number becomes one in the unit."""

    number: int
    quantity: Quantity
    scale: float = 1.0
    invalid: int | None = None  # the raw value that stands for "could not measure"


CONDITION = road.condition(road.LUFFT)

IRS31PRO = (
    Channel(
        101,
        Quantity(
            *("surface_temperature_c", "Cel", "road surface temperature", -40.0, 80.0),
            limits=limits.SURFACE_C,
        ),
    ),
    Channel(900, CONDITION),
    # German TLS channels: integers, the highest number means "could not measure" ([K] for 1075).
    Channel(1072, Quantity("water_film_mm", "mm", "water film", 0.0, 10.0), 0.01, 0xFFFF),
    Channel(1076, Quantity("ice_mm", "mm", "ice layer", 0.0, 50.0), 0.01, 0xFFFF),
    Channel(1075, Quantity("snow_mm", "mm", "snow layer", 0.0, 254.0), 1.0, 0xFF),
    Channel(1077, Quantity("friction", "1", "grip, 1 = dry", 0.0, 1.0), 0.01, 0xFF),
    Channel(
        151,
        Quantity("freezing_temperature_c", "Cel", "freezing point of the film (NaCl)", -60.0, 5.0),
    ),
)
SHM31 = (
    # Its own set-up holds the mounting height, the angle and the zero.
    Channel(
        604,
        Quantity("depth_cm", "cm", "depth of snow", -50.0, 1600.0, limits=limits.DEPTH_CM),
    ),
)


def readings(
    values: Iterable[ChannelValue], table: Mapping[int, Channel], at_boot_ns: int
) -> list[Reading]:
    """Return what `values` mean by `table`; a channel that is not in it is called channel_N.

    No in-band error, error number, NaN or infinity becomes a value.
    """
    found = []
    for said in values:
        channel = table.get(said.channel) or _unknown(said.channel)
        number = _number(said, channel)
        if isinstance(number, str):
            found += _lost(channel, number, at_boot_ns)
        elif channel.quantity is CONDITION:
            code = round(number)
            if str(code) not in CONDITION_CODE.classes:
                found += _lost(channel, "out_of_range", at_boot_ns)
                continue
            found.append(Reading(CONDITION.name, road.lufft(code), at_boot_ns))
            found.append(Reading(CONDITION_CODE.name, str(code), at_boot_ns))
        else:
            found.append(Reading(channel.quantity.name, number, at_boot_ns))
    return found


def _number(said: ChannelValue, channel: Channel) -> float | Reason:
    """Return the value in the channel's unit, or why there is none."""
    if said.raw is None:
        return reason_of(said.status)
    if said.raw == channel.invalid:
        return "weak_signal"
    number = said.raw * channel.scale
    low, high = channel.quantity.low, channel.quantity.high
    if not math.isfinite(number) or (low is not None and number < low):
        return "out_of_range"
    return number if high is None or number <= high else "out_of_range"


def _lost(channel: Channel, reason: Reason, at_boot_ns: int) -> list[Reading]:
    quantity = channel.quantity
    quantities = (CONDITION, CONDITION_CODE) if quantity is CONDITION else (quantity,)
    return [Reading(each.name, None, at_boot_ns, (reason,)) for each in quantities]


def _unknown(number: int) -> Channel:
    return Channel(number, Quantity(f"channel_{number}", "1", f"channel {number}, meaning unknown"))


class ChannelOptions(base.Options):
    """One channel of a device that has no table here."""

    channel: int = Field(ge=0, le=0xFFFF, description="UMB channel number")
    quantity: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description='what it measures; the name ends in its unit ("air_temperature_c"); '
        '"condition" is read with the codes of channel 900',
    )
    unit: str = Field(default="1", description="unit as a UCUM code")
    scale: float = Field(
        default=1.0, allow_inf_nan=False, description="the raw number times this is the value"
    )


class LufftUmbOptions(base.Options):
    """Which device is where on the line, and what to ask it for."""

    model: Literal["irs31pro", "shm31", "generic"] = Field(
        default="generic", description="the device; generic: any, with `channels` given"
    )
    # Class 0 and device 0 call many at once, class F are masters: nobody answers there.
    address: int | None = Field(
        default=None,
        ge=0x1000,
        le=0xEFFF,
        description="UMB address, class * 0x1000 + device; "
        "default 0x1001 for irs31pro, 0xB001 for shm31",
    )
    channels: list[ChannelOptions] = Field(
        default=[], description="generic only: the channels to read"
    )
    kind: Literal["road", "snow", "weather", "cabinet"] | None = Field(
        default=None, description="generic only: what its records are about; default road"
    )
    interval_s: float = Field(default=10.0, ge=1.0, description="time between two questions")
    timeout_s: float = Field(default=0.5, gt=0.0, description="how long to wait for an answer")
    stuck_s: float | None = Field(
        default=None,
        ge=0.0,
        description="the same answer for so long is no measurement any more; 0 = never; "
        "default 21600 for irs31pro, 3600 for shm31, 0 for generic",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.model != "generic" and (self.channels or self.kind):
            raise ValueError(f"channels and kind are for model generic, {self.model} has its own")
        numbers = [each.channel for each in self.channels]
        names = [each.quantity for each in self.channels]
        if CONDITION.name in names:
            names.append(CONDITION_CODE.name)
        if len(set(numbers)) < len(numbers) or len(set(names)) < len(names):
            raise ValueError("channels: each channel and each quantity can be given once")
        return self

    @property
    def still_s(self) -> float:
        """How long one answer may last."""
        return self.stuck_s if self.stuck_s is not None else _STUCK_S.get(self.model, 0.0)

    @property
    def target(self) -> int | None:
        """The address to ask, or None if nobody named one."""
        return self.address if self.address is not None else _ADDRESSES.get(self.model)

    def missing_to_measure(self) -> list[str]:
        """Say what a generic device still needs."""
        missing = []
        if self.target is None:
            missing.append("address: the UMB address of the device, such as 0x7001")
        if self.model == "generic" and not self.channels:
            missing.append("channels: at least one { channel, quantity, unit } to read")
        return missing

    def claims(self) -> list[str]:
        """Name its address."""
        return [] if self.target is None else [f"UMB address 0x{self.target:04X}"]


# A laser's last digits never rest. A road at the melting point of its ice stays at 0.0 degC for
# hours, with everything else unchanged; of an unknown device nobody knows.
_STUCK_S = {"irs31pro": 21600.0, "shm31": 3600.0}


# Class 1 for the IRS31Pro is [K]: where it stays silent, read its class off the device.
_ADDRESSES = {"irs31pro": 0x1001, "shm31": 0xB001}
# What a device's name must not hold where another model is configured.
_NAMES = {"irs31pro": "IRS", "shm31": "SHM"}
_KINDS: dict[str, Kind] = {"irs31pro": "road", "shm31": "snow"}


class LufftUmb:
    """A UMB device: one question for all its channels at each poll, on a line it may share.

    `kind` is that of its model; `spec.kind` only what a replay without options assumes.

    Frames of others are left alone. So is the echo that two-wire adapters give of each question:
    it is a master's frame, and no device's answer looks like it.
    """

    spec: ClassVar[base.Spec] = base.Spec(
        name="lufft-umb",
        title="Lufft IRS31Pro, SHM31 and other UMB-binary sensors",
        kind="road",
        bus="serial",
        quantities=(*(c.quantity for c in IRS31PRO), CONDITION_CODE, *(c.quantity for c in SHM31)),
        header=(
            ("A and B", "A and B of a USB RS-485 adapter on any USB port"),
            ("signal ground", "ground of the adapter"),
            ("supply", "24 V DC of its own, never the Pi's pins"),
        ),
        wiring=(
            "RS-485, two wires: A to A, B to B, and the common ground; several devices share them.",
            "120 ohm between A and B at both ends of a line longer than a few metres.",
            "An adapter with automatic direction; one that must be switched by RTS is not driven.",
            "Each device on the line needs an address of its own, set with the maker's tool.",
            "The device must speak UMB-binary (the default), at 19200 8N1.",
        ),
        quirks=(
            "Two-wire adapters echo each question: the echo is a master's frame and is dropped.",
            "An answer takes up to 175 ms; the driver waits timeout_s, and asks once in a poll.",
            "A device that is switched on is busy for some time: its values are missing (warmup).",
            "A device that lacks a channel of its model's table says so, and is not asked to have "
            "it: that quantity is not in its records.",
        ),
        checksum="CRC-16/MCRF4XX",
        evidence="recorded bytes",
        evidence_note="framing, CRC and value types on a recorded dialogue with a Lufft WS10; "
        "SHM31 on one vector; the IRS31Pro's channels from its manual only",
        source="Lufft UMB protocol; manuals IRS31Pro-UMB V10 01.2020 and SHM31",
        line=LineSettings(19200),
        bauds=(9600, 28800, 57600, 38400),
        shares_bus=True,
        example={"model": "irs31pro"},
    )
    Options: ClassVar[type[base.Options]] = LufftUmbOptions

    def __init__(
        self, bus: SerialPort, options: LufftUmbOptions, now_ns: Callable[[], int]
    ) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._table = {channel.number: channel for channel in _channels(options)}
        self._framer = UmbFramer()
        self._misbuilt = 0
        self._stillness = base.Stillness(options.still_s)
        self.kind: Kind = _KINDS.get(options.model) or options.kind or "road"
        self._timeout_ns = round(options.timeout_s * 1e9)
        self.interval_s = options.interval_s
        self.rate_hz = 1.0 / options.interval_s
        self.frames = 0
        self.frame_errors = 0  # runs of damaged bytes, and frames not built as their command wants
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """What the model, or the option `channels`, names."""
        found = {channel.quantity.name: channel.quantity for channel in self._table.values()}
        if CONDITION.name in found:
            found[CONDITION_CODE.name] = CONDITION_CODE
        return found

    def open(self) -> None:
        """Ask the device for its name.

        Raises BusError if nobody answers, FrameError if only damaged answers came, IdentityError
        if it calls itself another model.
        """
        self._stillness.forget()
        address = self._address()
        errors_before = self.frame_errors
        until_ns = self._begin(name_request(address))
        for frame in self._hear(address, until_ns):
            if frame.command != DEVICE_INFO:
                continue  # a late answer to an earlier question
            self.frames += 1
            self.identity = device_name(frame)
            self._refuse_another(address)
            return
        raise self._unanswered(address, errors_before)

    @classmethod
    def discover(
        cls, port: SerialPort, now_ns: Callable[[], int], until_ns: int
    ) -> Iterator[base.Found]:
        """Ask for a name at the first device numbers of every class; yield who answers."""
        framer = UmbFramer()
        for device in SCANNED_DEVICES:
            for number in SCANNED_CLASSES:
                if now_ns() + SCAN_TIMEOUT_S * 1e9 > until_ns:
                    return
                address = number << 12 | device
                port.discard_input()
                port.write(name_request(address))
                answer_ns = now_ns() + round(SCAN_TIMEOUT_S * 1e9)
                answers: list[Frame] = []
                while not answers and (left_ns := answer_ns - now_ns()) > 0:
                    heard = framer.feed(port.read(left_ns / 1e9))
                    answers = [f for f in heard if f.is_from_device and f.sender == address]
                framer.flush()
                for frame in answers:
                    name = device_name(frame) or "UMB device"
                    model = next((m for m, n in _NAMES.items() if n in name.upper()), "generic")
                    what = f"{name} (UMB address 0x{address:04X})"
                    yield base.Found(what, {"model": model, "address": address})

    def close(self) -> None:
        """Do nothing: the device waits to be asked."""

    def poll(self) -> Sequence[base.Observation]:
        """Ask for every channel and return what they say.

        Raises BusError if nobody answers, FrameError if only damaged answers came. Where some
        questions of several were answered, the others' channels are readings without a value.
        """
        found: list[Reading] = []
        lost: Reason | None = None
        raw: list[float | None] = []
        channels = list(self._table.values())
        for first in range(0, len(channels), CHANNELS_PER_REQUEST):
            asked = channels[first : first + CHANNELS_PER_REQUEST]
            if lost is None:
                try:
                    at_boot_ns, said = self._ask([channel.number for channel in asked])
                except DriverError as exc:
                    if not found:
                        raise
                    lost = "bus_error" if isinstance(exc, BusError) else "frame_error"
                else:
                    raw += [value.raw for value in said]
                    present = [value for value in said if not self._is_absent(value)]
                    found += readings(present, self._table, at_boot_ns)
                    continue
            # The rest is not asked for: the line belongs to others, too.
            for channel in asked:
                found += _lost(channel, lost, self._now_ns())
        if lost is None and self._stillness.lasts(raw, self._now_ns()):
            return [Reading(each.quantity, None, each.at_boot_ns, ("stuck",)) for each in found]
        return found

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        """Decode the answers that `chunk` completes: of every device, unless an address is set."""
        found: list[base.Observation] = []
        for frame in self._from_device(self._framer.feed(chunk), self._options.address):
            answer = self._decoded(frame)
            if answer.status:
                # An answer alone does not say which channels the question was for.
                found.append(base.Trouble(reason_of(answer.status), at_boot_ns))
            found += readings(answer.values, self._table, at_boot_ns)
        return found

    def _ask(self, numbers: Sequence[int]) -> tuple[int, Sequence[ChannelValue]]:
        """Return when was asked, and what the device says about up to 20 channels.

        Raises BusError or FrameError.
        """
        address = self._address()
        errors_before = self.frame_errors
        until_ns = self._begin(request(address, numbers))
        at_boot_ns = until_ns - self._timeout_ns
        for frame in self._hear(address, until_ns):
            answer = self._decoded(frame)
            values = answer.values
            if answer.status:
                values = tuple(ChannelValue(each, answer.status, None) for each in numbers)
            if [each.channel for each in values] == numbers:
                return at_boot_ns, values
            # Else a late answer to an earlier question.
        raise self._unanswered(address, errors_before)

    def _begin(self, question: bytes) -> int:
        """Ask; return until when an answer may come."""
        self._framer.flush()  # what the last question left behind
        self._bus.discard_input()
        at_boot_ns = self._now_ns()
        self._bus.write(question)
        return at_boot_ns + self._timeout_ns

    def _address(self) -> int:
        if self._options.target is None:
            raise BusError("no UMB address is set")
        return self._options.target

    def _unanswered(self, address: int, errors_before: int) -> DriverError:
        if self.frame_errors > errors_before:
            return FrameError(
                f"only damaged answers from {_where(address)}: check termination, ground, "
                "and that no two devices share an address"
            )
        return BusError(
            f"nobody answers at {_where(address)}: check power, A/B wires, baud 19200 8N1"
        )

    def _refuse_another(self, address: int) -> None:
        own = _NAMES.get(self._options.model)
        name = self.identity.upper()
        if own is not None and own not in name:
            others = [model for model, part in _NAMES.items() if part in name]
            if others:
                raise IdentityError(
                    f'{_where(address)} calls itself "{self.identity}": that is a {others[0]}, '
                    f"not the {self._options.model} of the configuration"
                )

    def _is_absent(self, said: ChannelValue) -> bool:
        return self._options.model != "generic" and said.status == INVALID_CHANNEL

    def _hear(self, address: int, until_ns: int) -> Iterator[Frame]:
        """Yield the frames of the device at `address` as they come, until `until_ns`."""
        while (left_ns := until_ns - self._now_ns()) > 0:
            chunk = self._bus.read(left_ns / 1e9)
            if not chunk:
                break
            yield from self._from_device(self._framer.feed(chunk), address)
        yield from self._from_device(self._framer.flush(), address)

    def _from_device(self, frames: Iterable[Frame], address: int | None) -> list[Frame]:
        """Leave out what masters sent, and other devices than the one at `address`, if given."""
        self.frame_errors = self._framer.errors + self._misbuilt
        return [f for f in frames if f.is_from_device and address in (None, f.sender)]

    def _decoded(self, frame: Frame) -> Answer:
        """Decode and count a device's frame; one that is misbuilt is an empty answer."""
        try:
            answer = decode(frame)
            self.frames += 1
        except FrameError:
            self._misbuilt += 1
            self.frame_errors += 1
            return Answer()
        return answer


def _where(address: int) -> str:
    return f"UMB address 0x{address:04X} (class {address >> 12}, device {address & 0xFFF})"


def _channels(options: LufftUmbOptions) -> Sequence[Channel]:
    if options.model == "irs31pro":
        return IRS31PRO
    if options.model == "shm31":
        return SHM31
    return [
        Channel(each.channel, CONDITION)
        if each.quantity == CONDITION.name
        else Channel(
            each.channel,
            Quantity(
                *(each.quantity, each.unit, f"channel {each.channel}"),
                limits=limits.of(each.quantity),
            ),
            each.scale,
        )
        for each in options.channels
    ]
