"""Any sensor that speaks Modbus RTU, by a table of its registers in the configuration.

The master asks a device for a run of registers, the device answers with them. Registers that
follow each other are asked for together, at most 125 at a time; after a question without a good
answer no more are asked until the next poll, so that a dead address costs one time-out.

Modbus frames have no beginning and no end, only a CRC and silence around them. While waiting for
an answer, only what begins with the address, function and length that were asked for is looked at.
An answer does not say which registers it holds: where two runs are of one length, a late answer to
the one would pass for the other. So the line must be silent before each question, what arrived
before is dropped, and a poll ends with the first question that nobody answered in time.

Why no library: pymodbus 3.16 (its RTU framer and PDUs alone: 1.0 MB of memory, 10 ms to import;
with its client 2.4 MB and asyncio) drops everything it holds at a wrong CRC, so one stray byte
costs the answer behind it, and takes what follows a frame for part of it; minimalmodbus (0.4 MB)
opens the port itself and decodes nothing passively. Both are the other side in the tests: a server
of pymodbus answers this driver over a pseudo-terminal.

Sources: Modbus over serial line specification V1.02; Modbus application protocol V1.1b3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from . import base, limits
from .base import (
    BusError,
    Clock,
    DriverError,
    Found,
    FrameError,
    Kind,
    LineSettings,
    Quantity,
    Reading,
    Reason,
    Stillness,
)
from .buses import SerialPort
from .checksums import crc16_modbus
from .dialogue import ask
from .framing import SeekingFramer

HOLDING: Final = 3
INPUT: Final = 4
ENCAPSULATED, READ_IDENTIFICATION = 0x2B, 0x0E
EXCEPTION = 0x80
REGISTERS_PER_REQUEST = 125
FRAME_BYTES_MAX = 256
REQUEST_BYTES = 8

QUIET_TRIES = 10  # for the line to fall silent before a question
BITS_PER_CHARACTER = 11
LEAST_SILENCE_S = 0.00175
PAUSE_S = 0.1  # in what is only listened to; recordings tell the time of a chunk, not of a byte

ADDRESSES = range(1, 248)
SCAN_TIMEOUT_S = 0.1
ACKNOWLEDGE, BUSY, NO_PATH, NO_TARGET = 5, 6, 10, 11

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still working",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}

Type = Literal["u16", "s16", "u32", "s32", "f32"]
WordOrder = Literal["ABCD", "CDAB", "BADC", "DCBA"]
_LETTERS: Mapping[Type, str] = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "f32": "f"}
# How the name of a quantity ends, by its unit.
_ENDINGS = {
    "Cel": "_c",
    "cm": "_cm",
    "mm": "_mm",
    "m": "_m",
    "%": "_percent",
    "hPa": "_hpa",
    "V": "_v",
    "A": "_a",
    "m/s": "_m_s",
    "deg": "_deg",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A run of registers of one function at one address."""

    address: int
    function: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device answered: registers as bytes, or the code of an exception."""

    address: int
    function: int
    registers: bytes = b""
    exception: int = 0


def sealed(message: bytes) -> bytes:
    """Return a message with its CRC."""
    return message + struct.pack("<H", crc16_modbus(message))


def request(question: Question) -> bytes:
    """Return the bytes of `question` as they go over the line."""
    q = question
    return sealed(struct.pack(">BBHH", q.address, q.function, q.first, q.count))


def is_sealed(frame: bytes) -> bool:
    """Tell whether a frame ends with its own CRC."""
    return crc16_modbus(frame[:-2]) == int.from_bytes(frame[-2:], "little")


def find_answer(heard: bytes, question: Question) -> Answer | None:
    """Return the answer to `question` wherever it begins in `heard`; None if it is not there."""
    good = bytes((question.address, question.function, 2 * question.count))
    bad = bytes((question.address, question.function | EXCEPTION))
    for at in range(len(heard)):
        if heard.startswith(good, at):
            frame = heard[at : at + 5 + 2 * question.count]
            if len(frame) == 5 + 2 * question.count and is_sealed(frame):
                return Answer(question.address, question.function, frame[3:-2])
        elif heard.startswith(bad, at):
            frame = heard[at : at + 5]
            if len(frame) == 5 and is_sealed(frame):
                return Answer(question.address, question.function, exception=frame[2])
    return None


def size_at(stream: bytearray, at: int) -> int | None:
    """Return the size of the frame that begins at `at`: 0 if none does, None if too early.

    What could be either is taken for an answer: where only bytes are heard, they are a device's.
    """
    sizes = _possible_sizes(bytes(stream[at : at + 8]))
    if sizes is None:
        return None
    for size in sizes:
        if len(stream) - at < size:
            return None
        if is_sealed(bytes(stream[at : at + size])):
            return size
    return 0


def _possible_sizes(head: bytes) -> tuple[int, ...] | None:
    """Return how long a frame with this beginning may be, shortest first; None if too early."""
    if head[0] not in ADDRESSES:
        return ()
    if len(head) < 2:
        return None
    function = head[1]
    if function in (5, 6):
        return (REQUEST_BYTES,)  # question and answer are alike
    if function > EXCEPTION:
        return (5,) if function & 0x7F in (*range(1, 25), ENCAPSULATED) else ()
    if function in (1, 2, HOLDING, INPUT):
        if len(head) < 3:
            return None
        is_answer = 0 < head[2] <= 250 and (function < HOLDING or head[2] % 2 == 0)
        sizes = {REQUEST_BYTES, *((5 + head[2],) if is_answer else ())}
        return tuple(sorted(sizes))
    if function in (15, 16):
        if len(head) < 7:
            return None
        return (REQUEST_BYTES, *((9 + head[6],) if head[6] <= 246 else ()))
    return ()


def answer_of(frame: bytes) -> Answer | None:
    """Return the answer that a proven frame is; None for a question, and for what tells nothing."""
    address, function = frame[0], frame[1]
    if function > EXCEPTION:
        return Answer(address, function & 0x7F, exception=frame[2])
    if function in (HOLDING, INPUT) and len(frame) == 5 + frame[2]:
        return Answer(address, function, frame[3:-2])
    if function in (1, 2, 5, 6, 15, 16) and not _is_question(frame):
        return Answer(address, function)
    return None


def _is_question(frame: bytes) -> bool:
    function = frame[1]
    if function in (1, 2):
        return len(frame) == REQUEST_BYTES and frame[2] != REQUEST_BYTES - 5
    return function in (15, 16) and len(frame) != REQUEST_BYTES


def value_of(raw: bytes, type_: Type, word_order: WordOrder) -> tuple[int, float]:
    """Return the raw pattern and the number of one or two registers as they came over the line.

    The letters of `word_order` are the bytes of a number from the highest (A) to the lowest, in the
    order in which the device sends them. One register knows only AB (ABCD, CDAB) and BA.
    """
    if len(raw) == 2:
        ordered = raw if word_order in ("ABCD", "CDAB") else raw[::-1]
    else:
        ordered = bytes(raw[word_order.index(letter)] for letter in "ABCD")
    (number,) = struct.unpack(">" + _LETTERS[type_], ordered)
    return int.from_bytes(ordered, "big"), number


class RegisterOptions(base.Options):
    """One quantity, and the register or two that hold it."""

    register_: int = Field(
        alias="register",
        ge=0,
        le=0xFFFF,
        description="number on the wire, from 0: 30101 or 40101 in a manual is mostly 100",
    )
    function: Literal[3, 4] = Field(
        default=HOLDING, description="3 reads holding registers (4xxxx), 4 input registers (3xxxx)"
    )
    type: Type = Field(default="u16", description="what the registers hold")
    word_order: WordOrder = Field(
        default="ABCD", description="bytes as sent, A the highest; CDAB: the lower word comes first"
    )
    scale: float = Field(default=1.0, description="the number times this ...")
    offset: float = Field(default=0.0, description="... plus this is the value")
    quantity: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description='what it measures; the name ends in its unit ("air_temperature_c")',
    )
    unit: str = Field(default="1", description="unit as a UCUM code")
    invalid: list[Annotated[int, Field(ge=0, le=0xFFFFFFFF)]] = Field(
        default=[],
        description="raw numbers, without sign, that stand for no value, such as 0xFFFF or 0x7FFF",
    )
    low: float | None = Field(default=None, description="the least it can say at all, in `unit`")
    high: float | None = Field(default=None, description="the most it can say at all, in `unit`")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ending = _ENDINGS.get(self.unit)
        if ending is not None and not self.quantity.endswith(ending):
            raise ValueError(f'quantity: a name in {self.unit} ends in "{ending}"')
        if self.quantity.startswith(("channel_", "condition")):
            raise ValueError("quantity: this name is not for a number")
        if self.scale == 0.0:
            raise ValueError("scale: must not be 0")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.register_ + self.words > 0x10000:
            raise ValueError("register: a value of two registers ends with 65535 at the latest")
        return self

    @property
    def words(self) -> int:
        """How many registers it takes."""
        return 1 if self.type in ("u16", "s16") else 2


class ModbusRtuOptions(base.Options):
    """Which device is where on the line, how the line is set, and what to ask for."""

    address: int | None = Field(default=None, ge=1, le=247, description="address of the device")
    registers: list[RegisterOptions] = Field(default=[], description="what to read")
    kind: Literal["road", "snow", "weather", "cabinet"] = Field(
        default="cabinet", description="what its records are about"
    )
    interval_s: float = Field(default=10.0, ge=1.0, description="time between two polls")
    timeout_s: float = Field(default=0.5, gt=0.0, description="how long to wait for an answer")
    baud: int = Field(
        default=9600,
        ge=300,
        le=1_000_000,
        description="speed of the line, where [[buses]] does not set it",
    )
    parity: Literal["N", "E", "O"] = Field(default="N", description="parity of the line")
    stop_bits: Literal[1, 2] = Field(default=1, description="stop bits of the line")
    # Nobody knows what the registers hold: a set point never changes, a contact not for months.
    stuck_s: float = Field(
        default=0.0, ge=0.0, description="the same registers for so long are no value; 0 = off"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [each.quantity for each in self.registers]
        if len(set(names)) < len(names):
            raise ValueError("registers: each quantity can be given once")
        return self

    def missing_to_measure(self) -> list[str]:
        """Say what a live device still needs."""
        missing = []
        if self.address is None:
            missing.append("address: the Modbus address of the device, 1 to 247")
        if not self.registers:
            missing.append("registers: at least one { register, type, quantity, unit } to read")
        return missing

    def claims(self) -> list[str]:
        """Name its address."""
        return [] if self.address is None else [f"Modbus address {self.address}"]

    def line(self) -> LineSettings:
        """Return how the line must be set."""
        return LineSettings(self.baud, 8, self.parity, self.stop_bits)


@dataclass(frozen=True, slots=True)
class Run:
    """Registers that follow each other, and what is in them."""

    function: int
    first: int
    count: int
    registers: tuple[RegisterOptions, ...]

    def of(self, address: int) -> Question:
        """Return the question for them."""
        return Question(address, self.function, self.first, self.count)


def runs(registers: Iterable[RegisterOptions]) -> list[Run]:
    """Return the fewest runs without a hole that hold all `registers`, none of them cut in two."""
    found: list[Run] = []
    for each in sorted(registers, key=lambda each: (each.function, each.register_)):
        last = found[-1] if found else None
        end = each.register_ + each.words
        if (
            last is not None
            and last.function == each.function
            and each.register_ <= last.first + last.count
            and end - last.first <= REGISTERS_PER_REQUEST
        ):
            count = max(last.count, end - last.first)
            found[-1] = Run(last.function, last.first, count, (*last.registers, each))
        else:
            found.append(Run(each.function, each.register_, each.words, (each,)))
    return found


def readings(run: Run, raw: bytes, at_boot_ns: int) -> list[Reading]:
    """Return what the registers of `run` say; no number that stands for none becomes a value."""
    found = []
    for each in run.registers:
        start = 2 * (each.register_ - run.first)
        pattern, number = value_of(raw[start : start + 2 * each.words], each.type, each.word_order)
        value = number * each.scale + each.offset
        reason: Reason | None = None
        if pattern in each.invalid:
            reason = "weak_signal"
        elif not (
            math.isfinite(value)
            and (each.low is None or value >= each.low)
            and (each.high is None or value <= each.high)
        ):
            reason = "out_of_range"
        if reason is None:
            found.append(Reading(each.quantity, value, at_boot_ns))
        else:
            found.append(Reading(each.quantity, None, at_boot_ns, (reason,)))
    return found


def identification(frame: bytes) -> str | None:
    """Return the texts (vendor, product, version) in an answer to READ_IDENTIFICATION.

    None if `frame` does not begin with a whole one that its CRC proves.
    """
    if len(frame) < 8:
        return None
    texts = []
    at = 8  # address, function, kind, code, conformity, more follows, next, how many
    for _ in range(frame[7]):
        if at + 2 > len(frame):
            return None
        texts.append(frame[at + 2 : at + 2 + frame[at + 1]].decode("latin-1"))
        at += 2 + frame[at + 1]
    if len(frame) < at + 2 or not is_sealed(frame[: at + 2]):
        return None
    return "".join(each for each in " ".join(" ".join(texts).split()) if each.isprintable())[:80]


class ModbusRtu:
    """A Modbus device, asked for its registers at each poll, on a line it may share."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="modbus-rtu",
        title="Any sensor with Modbus RTU, by a table of registers",
        kind="cabinet",
        bus="serial",
        quantities=(),
        header=(
            ("RS-485 A (D-)", "USB-RS485 adapter, A (no pin of the Pi carries RS-485 levels)"),
            ("RS-485 B (D+)", "USB-RS485 adapter, B"),
            ("GND", "USB-RS485 adapter, GND"),
            ("supply", "the device's own, as its manual says"),
        ),
        wiring=(
            "RS-485, two wires and the common ground; makers do not agree on what is A and B: "
            "where nobody answers, swap them.",
            "Each device on the line needs an address of its own; all speak at one speed and "
            "parity.",
            "A long line wants 120 ohm at both ends, and an adapter that turns direction itself.",
            "Only one master may be on the line.",
        ),
        quirks=(
            "Register numbers are those on the wire, from 0: 40101 in a manual is mostly 100.",
            "Which word of two comes first differs from maker to maker: try word_order.",
            "Numbers that stand for `no value` (FFFF, 7FFF) must be named in `invalid`.",
            "An answer does not say which registers it holds; after a time-out nothing more is "
            "asked until the next poll, and what comes late is dropped.",
            "Exceptions 05 (acknowledged) and 06 (busy) are taken for warming up.",
            "Two-wire adapters may return our own questions: they are recognised and dropped.",
        ),
        checksum="CRC-16/MODBUS, low byte first",
        evidence="recorded bytes",
        evidence_note="24 recorded questions and answers of two makers; all types and word orders "
        "against a server of pymodbus over a pseudo-terminal",
        source="Modbus over serial line V1.02; Modbus application protocol V1.1b3",
        line=LineSettings(9600),
        bauds=(19200, 4800, 38400, 115200),
        shares_bus=True,
        example={
            "address": 7,
            "kind": "weather",
            "registers": [
                {
                    "register": 100,
                    "type": "s16",
                    "scale": 0.1,
                    "quantity": "air_temperature_c",
                    "unit": "Cel",
                }
            ],
        },
    )
    Options: ClassVar[type[base.Options]] = ModbusRtuOptions

    def __init__(self, bus: SerialPort, options: ModbusRtuOptions, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._runs = runs(options.registers)
        self._framer = SeekingFramer(size_at)
        self._fed_ns = 0
        self._bad_answers = 0
        self._stillness = Stillness(options.stuck_s)
        characters_s = 3.5 * BITS_PER_CHARACTER / options.baud
        self._silence_s = LEAST_SILENCE_S if options.baud > 19200 else characters_s
        self.kind: Kind = options.kind
        self.interval_s = options.interval_s
        self.rate_hz = 1.0 / options.interval_s
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """What the option `registers` names."""
        return {
            each.quantity: Quantity(
                *(each.quantity, each.unit, f"register {each.register_}", each.low, each.high),
                limits=limits.of(each.quantity),
            )
            for each in self._options.registers
        }

    def open(self) -> None:
        """Begin anew. Nothing is asked: few devices know a question for who they are."""
        self._stillness.forget()

    def close(self) -> None:
        """Do nothing: the device waits to be asked."""

    def poll(self) -> Sequence[base.Observation]:
        """Ask for every run of registers, until nobody answers for one.

        Raises BusError if nobody answers at all, FrameError for nonsense, and where the device
        refuses all. Where some runs were read, the others are readings without a value.
        """
        address = self._options.address
        if address is None:
            raise BusError("no Modbus address is set")
        at_boot_ns = self._now_ns()
        read: list[tuple[Run, bytes]] = []
        lost: list[Reading] = []
        refusal: DriverError | None = None
        for index, run in enumerate(self._runs):
            try:
                answer = self._ask(run.of(address))
            except DriverError as exc:
                if not read and not lost:
                    raise
                lost += _lost(self._runs[index:], _reason_of(exc), at_boot_ns)
                break
            if answer.exception in (ACKNOWLEDGE, BUSY):
                lost += _lost([run], "warmup", at_boot_ns)
            elif answer.exception:
                why = _refusal(answer, run)
                refusal = refusal or why
                lost += _lost([run], _reason_of(why), at_boot_ns)
            else:
                read.append((run, answer.registers))
        if refusal is not None and not read:
            raise refusal
        if read and self._stillness.lasts(tuple(raw for _, raw in read), at_boot_ns):
            return _lost([run for run, _ in read], "stuck", at_boot_ns) + lost
        return [each for run, raw in read for each in readings(run, raw, at_boot_ns)] + lost

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        """Decode the answers that `chunk` completes: of every device, unless an address is set.

        Which registers an answer holds is known where just one run is of its length.
        """
        found: list[base.Observation] = []
        frames = []
        if at_boot_ns - self._fed_ns > PAUSE_S * 1e9:
            frames = self._framer.flush()  # silence ends a frame, and so what looked like one
        self._fed_ns = at_boot_ns
        for frame in (*frames, *self._framer.feed(chunk)):
            answer = answer_of(frame)
            if answer is None or self._options.address not in (None, answer.address):
                continue
            self.frames += 1
            if answer.exception in (ACKNOWLEDGE, BUSY):
                found.append(base.Trouble("warmup", at_boot_ns))
            elif answer.exception:
                found.append(base.Trouble("frame_error", at_boot_ns))
            elif answer.registers:
                found += self._passive(answer, at_boot_ns)
        self._count_errors()
        return found

    @classmethod
    def discover(cls, port: SerialPort, now_ns: Clock, until_ns: int) -> Iterator[Found]:
        """Ask every address for one register, and who answers for its name. Raises BusError.

        Any answer means that somebody is there, an exception too. Nothing is written.
        """
        found: set[int] = set()
        for function in (HOLDING, INPUT):  # some are silent to the one that they do not know
            for address in ADDRESSES:
                if now_ns() >= until_ns:
                    return
                if address in found:
                    continue
                options = ModbusRtuOptions(address=address, timeout_s=SCAN_TIMEOUT_S)
                probe = cls(port, options, now_ns)
                try:
                    probe._ask(Question(address, function, 0, 1))
                except (_NobodyError, FrameError):
                    continue
                found.add(address)
                what = probe._identification(address) or "Modbus device"
                yield Found(f"{what}, address {address}", {"address": address})

    def _passive(self, answer: Answer, at_boot_ns: int) -> list[Reading]:
        words = len(answer.registers) // 2
        fitting = [r for r in self._runs if (r.function, r.count) == (answer.function, words)]
        if len(fitting) == 1:
            return readings(fitting[0], answer.registers, at_boot_ns)
        numbers = struct.unpack(f">{words}H", answer.registers)
        return [Reading(f"channel_{at}", float(n), at_boot_ns) for at, n in enumerate(numbers)]

    def _ask(self, question: Question) -> Answer:
        """Return the answer to this very question. Raises BusError or FrameError."""
        self._wait_for_silence()
        heard = bytearray()
        for chunk in ask(self._bus, request(question), self._now_ns, self._options.timeout_s):
            heard += chunk
            answer = find_answer(bytes(heard), question)
            if answer is not None:
                self.frames += 1
                return answer
            # Longer than two frames it is no answer with something before it.
            del heard[: -2 * FRAME_BYTES_MAX]
        where = f"Modbus address {question.address}"
        if _holds_garbage(heard):
            self._bad_answers += 1
            self._count_errors()
            raise FrameError(
                f"only damaged answers from {where}: check speed and parity, termination, ground, "
                "and that no two devices share an address"
            )
        options = self._options
        raise _NobodyError(
            f"nobody answers at {where}: check power, A/B wires, baud {options.baud} "
            f"8{options.parity}{options.stop_bits} unless [[buses]] sets another, and the address"
        )

    def _wait_for_silence(self) -> None:
        """Let the time pass that separates frames, and drop what is still being said."""
        for _ in range(QUIET_TRIES):
            if not self._bus.read(self._silence_s):
                return
        self._bad_answers += 1
        self._count_errors()
        raise FrameError("the line is never silent: is there another master, or another protocol?")

    def _identification(self, address: int) -> str:
        """Return what a device says of itself; nothing where it does not know the question."""
        message = bytes((address, ENCAPSULATED, READ_IDENTIFICATION, 1, 0))
        self._wait_for_silence()
        heard = b""
        for chunk in ask(self._bus, sealed(message), self._now_ns, self._options.timeout_s):
            heard = (heard + chunk)[-2 * FRAME_BYTES_MAX :]
            at = heard.find(message[:4])
            texts = identification(heard[at:]) if at >= 0 else None
            if texts is not None:
                return texts
        return ""

    def _count_errors(self) -> None:
        self.frame_errors = self._framer.errors + self._bad_answers


class _NobodyError(BusError):
    """Silence, on a bus that works: a scan goes on to the next address."""


def _holds_garbage(heard: bytes | bytearray) -> bool:
    """Tell whether there is anything in `heard` but proven frames, such as another's answer."""
    framer = SeekingFramer(size_at)
    framer.feed(bytes(heard))
    framer.flush()
    return framer.errors > 0


def _refusal(answer: Answer, run: Run) -> DriverError:
    """Return what an exception means, in words."""
    word = EXCEPTIONS.get(answer.exception, "of no known meaning")
    text = (
        f"Modbus address {answer.address} refuses registers {run.first} to "
        f"{run.first + run.count - 1} (function {run.function:02d}): "
        f"exception {answer.exception:02d}, {word}"
    )
    if answer.exception in (NO_PATH, NO_TARGET):
        return BusError(f"{text}; check the gateway that stands before the device")
    return FrameError(f"{text}; compare `registers` with the device's manual")


def _reason_of(error: DriverError) -> Reason:
    return "bus_error" if isinstance(error, BusError) else "frame_error"


def _lost(which: Sequence[Run], reason: Reason, at_boot_ns: int) -> list[Reading]:
    return [
        Reading(each.quantity, None, at_boot_ns, (reason,))
        for run in which
        for each in run.registers
    ]
