"""Hi-Link HLK-LD2450: a 24 GHz radar that tells where up to three people are, ten times a second.

It talks unasked, in frames of 30 bytes without a checksum: a header, three slots, a tail, and
nothing else is a frame. Questions and settings are frames of another kind, and while those are
taken the radar is silent. People are counted where they cross a line at a distance `line_y_mm`;
the direction is that of their positions, never the radar's own speed, whose sign differs between
firmwares.

Sources: Hi-Link serial protocol of the HLK-LD2450 (frame, slots; easymanua.ls/hi-link/hlk-ld2450
p. 12); duramson/ld2450-rs and ESPHome's component ld2450 (commands, firmware number, the address
that means Bluetooth off); issues of ESPHome and of TillFleisch/ESPHome-HLK-LD2450 (ghosts in
unused slots, radars that freeze or stop answering).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import Field, model_validator

from . import base
from .base import (
    OPPOSITE,
    Alive,
    BusError,
    Clock,
    Crossing,
    Direction,
    FrameError,
    Glimpse,
    IdentityError,
    LineSettings,
    Quantity,
    Scene,
    Spec,
    Withheld,
)
from .buses import SerialPort
from .tracking import LineCounter, Passage, Point

DATA_HEAD, DATA_TAIL = bytes.fromhex("AAFF0300"), bytes.fromhex("55CC")
DATA_BYTES = 30
COMMAND_HEAD, COMMAND_TAIL = bytes.fromhex("FDFCFBFA"), bytes.fromhex("04030201")
COMMAND_BODY_MAX = 64  # the radar's own buffer, as it says when asked to be configured

# The same maker's LD2410 speaks at the same speed and answers the same commands; its frames begin
# so.
LD2410_HEAD = bytes.fromhex("F4F3F2F1")

# Command words.
TRACK_SEVERAL = 0x0090
QUERY_TARGETS = 0x0091
FIRMWARE = 0x00A0
RESTART = 0x00A3
BLUETOOTH = 0x00A4
MAC_ADDRESS = 0x00A5
END = 0x00FE
ENABLE = 0x00FF
ACKNOWLEDGED = 0x0100  # this bit is set in the command word of an answer

ONE = b"\x01\x00"
OFF = b"\x00\x00"
SEVERAL = b"\x02\x00"  # what QUERY_TARGETS answers; 01 00 is a single person

# The address that a radar names while its Bluetooth is off. It ends like a frame does: frames are
# cut by their length.
NO_MAC = bytes.fromhex("080504030201")

BAUDS = (256000, 115200, 460800, 230400, 57600, 38400, 19200, 9600)
LISTEN_S = 0.35  # three frames
ANSWER_S = 0.3
ANSWERS_KEPT = 8
RESTART_S = 3.0  # ESPHome gives it 1.5 s
RESTART_AGAIN_S = 30.0
ASK_AGAIN_S = 600.0
SILENCE_S = 3.0
FROZEN_S = 5.0
FRAME_S = 0.1  # nominally; the tracker's tick
GAP_S = 1.0  # who was seen before such a gap is not looked for after it

# What the radar can say of a place where somebody may be.
X_LIMIT_MM, Y_LIMIT_MM = 7000, 8000
FIELD_M = 6.0  # of which it tells something; as much across


@dataclass(frozen=True, slots=True, repr=False)
class Target(Withheld):
    """One used slot."""

    x_mm: int  # to the radar's right is positive
    y_mm: int  # away from the radar
    speed_cm_s: int  # which sign means "coming" depends on the firmware
    resolution_mm: int


@dataclass(frozen=True, slots=True, repr=False)
class Frame(Withheld):
    """One frame, cut out of the stream: what is between its head and its tail."""

    is_data: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the radar says to a command."""

    command: int
    status: int  # 0 = done
    value: bytes


def signed(raw: int) -> int:
    """Return the number in a 16-bit field: magnitude, and a sign bit that is set for plus."""
    magnitude = raw & 0x7FFF
    return magnitude if raw & 0x8000 else -magnitude


def decode_targets(body: bytes) -> list[Target]:
    """Return the slots of a data frame's 24 bytes in which somebody may be, in mm and cm/s.

    A slot without a distance or a resolution is unused, whatever else the radar left in it; one
    far outside of the radar's field is nobody. Raises FrameError unless there are 24 bytes.
    Source: 0E 03 B1 86 10 00 40 01 is x -782 mm, y 1713 mm, -16 cm/s, 320 mm.
    """
    if len(body) != 24:
        raise FrameError(f"{len(body)} bytes of slots in place of 24")
    slots = [
        Target(signed(x), signed(y), signed(speed), resolution)
        for x, y, speed, resolution in struct.iter_unpack("<4H", body)
    ]
    return [
        each
        for each in slots
        if each.resolution_mm and abs(each.x_mm) <= X_LIMIT_MM and 0 < each.y_mm <= Y_LIMIT_MM
    ]


def command(word: int, value: bytes = b"") -> bytes:
    """Return the bytes of a command: FD FC FB FA, length, word, value, 04 03 02 01."""
    body = struct.pack("<H", word) + value
    return COMMAND_HEAD + struct.pack("<H", len(body)) + body + COMMAND_TAIL


def decode_answer(body: bytes) -> Answer | None:
    """Return what a command frame's body says, or None if it is no answer: our own echo, say."""
    if len(body) < 4:
        return None
    word, status = struct.unpack_from("<HH", body)
    if not word & ACKNOWLEDGED:
        return None
    return Answer(word & ~ACKNOWLEDGED, status, body[4:])


def firmware(value: bytes) -> str:
    """Return the firmware's number in the form that the maker's app shows: "V2.04.23101915".

    `value`: type u16, major u16, minor u32. Raises FrameError if it is shorter.
    """
    if len(value) < 8:
        raise FrameError(f"LD2450: a firmware number of {len(value)} bytes in place of 8")
    _, major, minor = struct.unpack_from("<HHI", value)
    return f"V{major >> 8:X}.{major & 0xFF:02X}.{minor:08X}"


_HEAD = re.compile(re.escape(DATA_HEAD) + b"|" + re.escape(COMMAND_HEAD))


class RadarFramer:
    """Cuts a byte stream into frames by head, length and tail.

    After anything that is no frame it tries again one byte on, so a frame inside garbage is
    found. Keeps less than one frame's worth of bytes between calls.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._in_garbage = False
        self.errors = 0  # runs of bytes that belong to no frame

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield each frame that `chunk` completes; all of them have to be taken."""
        self._rest += chunk
        at = 0
        while True:
            found = _HEAD.search(self._rest, at)
            begin = found.start() if found else len(self._rest) - _beginning(self._rest, at)
            self._skip(begin - at)
            at = begin
            if found is None:
                break
            size = _frame_bytes(self._rest, at)
            if size is None:
                break
            if size == 0:
                self._skip(1)
                at += 1
                continue
            self._in_garbage = False
            raw = bytes(self._rest[at : at + size])
            at += size
            is_data = raw.startswith(DATA_HEAD)
            yield Frame(is_data, raw[4:-2] if is_data else raw[6:-4])
        del self._rest[:at]

    def _skip(self, count: int) -> None:
        if count and not self._in_garbage:
            self._in_garbage = True
            self.errors += 1


def _beginning(stream: bytearray, at: int) -> int:
    """Return how many of the last bytes may be the beginning of a head."""
    for count in range(min(3, len(stream) - at), 0, -1):
        last = bytes(stream[-count:])
        if DATA_HEAD.startswith(last) or COMMAND_HEAD.startswith(last):
            return count
    return 0


def _frame_bytes(stream: bytearray, at: int) -> int | None:
    """Return the size of the frame that begins at `at`: 0 if none does, None if too early to say.

    There is a head at `at`.
    """
    if stream.startswith(DATA_HEAD, at):
        size, tail = DATA_BYTES, DATA_TAIL
    else:
        if len(stream) < at + 6:
            return None
        length = int.from_bytes(stream[at + 4 : at + 6], "little")
        if not 2 <= length <= COMMAND_BODY_MAX:
            return 0
        size, tail = length + 10, COMMAND_TAIL
    if len(stream) < at + size:
        return None
    return size if stream.startswith(tail, at + size - len(tail)) else 0


class Ld2450Options(base.Options):
    """How the radar is mounted."""

    line_y_mm: int = Field(
        default=1500,
        ge=500,
        le=5000,
        description="how far from the radar the counting line is; nearer counts crowds better",
    )
    x_min_mm: int = Field(
        default=-X_LIMIT_MM,
        ge=-X_LIMIT_MM,
        le=X_LIMIT_MM,
        description="the passage's left edge, seen from the radar; who is beyond it is left out",
    )
    x_max_mm: int = Field(
        default=X_LIMIT_MM,
        ge=-X_LIMIT_MM,
        le=X_LIMIT_MM,
        description="the passage's right edge, seen from the radar; who is beyond it is left out",
    )
    flip: bool = Field(default=False, description="exchange towards and away")

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if self.x_min_mm >= self.x_max_mm:
            raise ValueError("x_min_mm is the left edge: it has to be less than x_max_mm")
        return self

    @property
    def passage(self) -> Passage:
        """Return the line, in mm, and what belongs to it.

        Who runs at 5 m/s appears 500 mm on in the next frame. Targets tremble by some
        centimetres; a step back is less than 500 mm.
        """
        return Passage(
            line=self.line_y_mm,
            clearance=150.0,
            travel=500.0,
            slack=100.0,
            run_per_s=2500.0,
            frame_s=FRAME_S,
            memory_s=1.0,
            inside=(0.0, 0.0),
            frames=3,
        )


class Ld2450(Withheld):
    """The radar on its line: each poll takes the frames that it said since the last.

    What it needs is asked and set by `open`, which finds its speed first. A radar that is deaf to
    that measures all the same, and is asked again now and then.
    """

    spec: ClassVar[Spec] = Spec(
        name="hlk-ld2450",
        title="Hi-Link HLK-LD2450",
        kind="people",
        bus="serial",
        quantities=(),
        directions=("towards", "away"),
        header=(
            ("5V", "pin 2 (5 V)"),
            ("GND", "pin 6 (ground)"),
            ("TX", "pin 10 (GPIO 15, RXD)"),
            ("RX", "pin 8 (GPIO 14, TXD)"),
        ),
        wiring=(
            "Power is 5 V, at least 200 mA; its TX and RX are 3.3 V and go to the Pi as they are.",
            "256000 baud is no standard speed: use a PL011 of the Pi (on models with Bluetooth "
            "dtoverlay=disable-bt, or uart3 and up on a Pi 4), a CP210x or an FT232; the Pi's "
            "mini UART (ttyS0) is wrong at that speed.",
            "Keep the wires below 1 m: on long ones it hears no commands.",
            "Mount it 1.2 to 1.5 m high at an end of the passage, looking along it: people walk to "
            "it and from it. It sees 60 degrees to either side, 35 up and down, to 6 m.",
            "Nobody may linger nearer than the line: three who stand there are all that it sees.",
            "Towards is the way that leads away from the radar (y grows); else set flip.",
            "It tells three people apart and no more: for passages up to 2 m wide.",
            "It sees through plastic and thin wood, not through metal; a fan, a curtain or a "
            "plant in the wind is somebody to it.",
        ),
        quirks=(
            "Unused slots may keep what was in them: a slot counts only with a distance and a "
            "resolution, and a track only from its third frame.",
            "Who stands still vanishes after some seconds, and is somebody new when they move.",
            "The sign of its speed differs between firmwares: directions come from positions.",
            "It has a Bluetooth radio with a public password, on when delivered: the driver "
            "switches it off, restarts the radar once, and asks; identity tells the result.",
            "Newer firmware begins at another speed than 256000: the driver tries them all.",
            "Some units stop answering commands until they lose power, but measure: they are "
            "counted with, identity tells it, and they are asked again every ten minutes.",
            "A unit that repeats one frame is frozen after 5 s, and restarted; an empty room "
            "repeats empty frames, which is health.",
        ),
        checksum="",
        evidence="recorded bytes",
        evidence_note=(
            "Frames and slots on 30 s of a real radar's bytes (people at desks) and the vendor's "
            "vector; commands on published vectors. Counting was checked with a simulated radar "
            "and crowd only, no direction exchanged: 0.5 % too few at 5 people a minute, 1.5 % at "
            "30, 6.4 % at 60, where a fourth person is not seen (docs/counting.md). That is with "
            "the three nearest followed; should the radar keep the three it met first, 12 % and "
            "33 % are missed."
        ),
        source=(
            "Hi-Link HLK-LD2450 serial communication protocol; commands as in "
            "duramson/ld2450-rs and ESPHome's ld2450"
        ),
        line=LineSettings(BAUDS[0]),
        bauds=BAUDS[1:],
        talks=True,
    )
    Options: ClassVar[type[base.Options]] = Ld2450Options

    interval_s = 0.5
    rate_hz = 1.0

    def __init__(self, bus: SerialPort, options: Ld2450Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""
        self._baud = BAUDS[0]
        self._framer = RadarFramer()
        self._waiting: list[Glimpse] = []  # decoded, and not handed out yet
        self._answers: list[Answer] = []
        self._counter = LineCounter(options.passage)
        self._ticks = 0
        self._framed_ns: int | None = None  # when the last frame came
        self._alive_second: int | None = None
        # The last frame outlives `close`: a frozen radar is one however often it is opened.
        self._body = b""
        self._changed_ns = 0
        self._is_frozen = False
        self._restart_ns = 0  # not before
        self._ask_again_ns: int | None = None
        self._hears_ld2410 = False

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """None: it counts."""
        return {}

    def open(self) -> None:
        """Find the radar's speed, set it up and read that back.

        Raises BusError if nobody speaks like a radar, FrameError if it keeps other settings.
        """
        self.close()
        self._find()
        self._set_up()

    def poll(self) -> Sequence[Glimpse]:
        """Take the frames since the last poll.

        Raises FrameError while the radar repeats itself, having it restarted; BusError after
        some seconds without a frame, so that its speed is looked for anew.
        """
        now_ns = self._now_ns()
        if self._framed_ns is None:
            self._framed_ns = now_ns
        if self._is_frozen and now_ns >= self._restart_ns:
            self._restart_ns = now_ns + round(RESTART_AGAIN_S * 1e9)
            self._restart()
        elif self._ask_again_ns is not None and now_ns >= self._ask_again_ns:
            self._set_up()
        chunk = self._bus.read(0.0)
        self._take(chunk)
        self._refuse_silence(chunk)
        if self._is_frozen:
            self.frame_errors += 1
            raise FrameError(f"LD2450: the same frame for {FROZEN_S:g} s; it is being restarted")
        seen, self._waiting = self._waiting, []
        return seen

    def picture(self) -> Scene | None:
        """Return whom the last frame showed."""
        options = self._options
        return Scene(
            forward=self._named("towards"),
            unit="m",
            along=(0.0, FIELD_M),
            across=(-FIELD_M / 2, FIELD_M / 2),
            line=options.line_y_mm / 1000.0,
            people=tuple(
                (number, at.along / 1000.0, at.across / 1000.0)
                for number, at in self._counter.followed()
            ),
        )

    def close(self) -> None:
        """Forget whom it saw; the radar goes on by itself."""
        self._counter = LineCounter(self._options.passage)
        self._waiting.clear()
        self._answers.clear()
        self._framed_ns = None

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Glimpse]:
        """Decode the frames that `chunk` completes; answers among them say nothing here."""
        found: list[Glimpse] = []
        errors = self._framer.errors
        for frame in self._framer.feed(chunk):
            self.frames += 1
            if frame.is_data:
                found += self._observe(frame.body, at_boot_ns)
            elif (answer := decode_answer(frame.body)) is not None:
                self._answers = [*self._answers[-ANSWERS_KEPT:], answer]
        self.frame_errors += self._framer.errors - errors
        return found

    def _observe(self, body: bytes, at_ns: int) -> list[Glimpse]:
        targets = decode_targets(body)
        if body != self._body or not targets:
            self._body, self._changed_ns = body, at_ns
        self._is_frozen = at_ns - self._changed_ns > FROZEN_S * 1e9
        if self._framed_ns is not None and at_ns - self._framed_ns > GAP_S * 1e9:
            self._counter = LineCounter(self._options.passage)
        self._framed_ns = at_ns
        if self._is_frozen:
            return []
        # Frames come evenly, bytes do not: a frame is the tracker's tick, so that a count does
        # not depend on how the stream was cut.
        self._ticks += 1
        points = [
            Point(along=float(each.y_mm), across=float(each.x_mm))
            for each in targets
            if self._options.x_min_mm <= each.x_mm <= self._options.x_max_mm
        ]
        directions = self._counter.update(points, self._ticks * FRAME_S)
        return [*self._alive(at_ns), *(Crossing(self._named(way), at_ns) for way in directions)]

    def _alive(self, at_ns: int) -> list[Alive]:
        second = at_ns // 1_000_000_000
        if second == self._alive_second:
            return []
        self._alive_second = second
        return [Alive(at_ns)]

    def _named(self, direction: Direction) -> Direction:
        return OPPOSITE[direction] if self._options.flip else direction

    def _take(self, chunk: bytes) -> None:
        self._hears_ld2410 |= LD2410_HEAD in chunk
        self._waiting += self.feed(chunk, self._now_ns())

    def _refuse_silence(self, chunk: bytes) -> None:
        now_ns = self._now_ns()
        silent_s = (now_ns - (self._framed_ns or now_ns)) / 1e9
        if silent_s <= SILENCE_S:
            return
        heard = "bytes, but no frame" if chunk else "no byte"
        raise BusError(
            f"LD2450: {heard} for {silent_s:.0f} s at {self._baud} baud: check its power and "
            "its TX wire; its speed is being looked for"
        )

    def _find(self) -> None:
        """Set the line to the speed at which the radar speaks, or answers. Raises BusError."""
        errors = self.frame_errors  # garbage at another speed, or half a frame, is none of its
        refused = ""
        for baud in dict.fromkeys((self._baud, *BAUDS)):
            try:
                self._bus.set_baud(baud)
            except BusError as exc:
                refused = f"; {exc}"  # by the adapter; a port that is gone fails at the next read
                continue
            self._bus.discard_input()
            self._framer = RadarFramer()
            # One that was left in the middle of its settings is silent, and answers.
            self._hears_ld2410 = False
            is_found = self._hears_frame(LISTEN_S) or self._ask(ENABLE, ONE) is not None
            if self._hears_ld2410:
                raise IdentityError(
                    f"an HLK-LD2410 answers at {baud} baud: it tells presence, not where people "
                    "are; an HLK-LD2450 is wanted"
                )
            self.frame_errors = errors
            if is_found:
                self._baud = baud
                return
        raise BusError(
            f"nobody speaks like an LD2450 at {BAUDS[0]} baud or {len(BAUDS) - 1} others, 8N1: "
            f"check its 5 V, the wire from its TX to our RXD, and the adapter{refused}"
        )

    def _hears_frame(self, for_s: float) -> bool:
        until_ns = self._now_ns() + round(for_s * 1e9)
        frames = self.frames
        while self.frames == frames and (left_ns := until_ns - self._now_ns()) > 0:
            self._take(self._bus.read(left_ns / 1e9))
        return self.frames > frames

    def _set_up(self) -> None:
        """Have it track several people and its Bluetooth off; note what it says of itself.

        Raises BusError, and FrameError where it keeps other settings.
        """
        self._ask_again_ns = None
        if self._ask(ENABLE, ONE) is None:
            self._ask_again_ns = self._now_ns() + round(ASK_AGAIN_S * 1e9)
            self.identity = "LD2450 that answers no commands: power-cycle it, check the wire to RX"
            return
        try:
            version = self._ask(FIRMWARE)
            self._track_several()
            radio = self._ask(MAC_ADDRESS, ONE)
            if radio is not None and radio[-6:] != NO_MAC:
                self._ask(BLUETOOTH, OFF)
                self._ask(RESTART)  # until then it says what was before
                self._hears_frame(RESTART_S)
                self._ask(ENABLE, ONE)
                radio = self._ask(MAC_ADDRESS, ONE)
        finally:
            self._ask(END)
            self._framed_ns = self._now_ns()  # its silence was our doing
        name = f"LD2450 {firmware(version)}" if version is not None else "LD2450"
        state = "unknown" if radio is None else "off" if radio[-6:] == NO_MAC else "still on"
        self.identity = f"{name}, Bluetooth {state}"

    def _track_several(self) -> None:
        """Raise FrameError if it does not track several people, told to do so."""
        if self._ask(QUERY_TARGETS) == SEVERAL:
            return
        self._ask(TRACK_SEVERAL)
        mode = self._ask(QUERY_TARGETS)
        if mode != SEVERAL:
            said = "nothing" if mode is None else mode.hex(" ")
            raise FrameError(
                f"LD2450: told to track several people (0090), it answers 0091 with {said} in "
                f"place of {SEVERAL.hex(' ')}: update its firmware with the maker's app"
            )

    def _restart(self) -> None:
        """Restart it and set it up again; one that is deaf stays as it is."""
        if self._ask(ENABLE, ONE) is None:
            return
        self._ask(RESTART)
        self._hears_frame(RESTART_S)
        self._set_up()

    def _ask(self, word: int, value: bytes = b"") -> bytes | None:
        """Send a command; return what it answers, None if nothing, or that it does not do it."""
        self._answers.clear()
        self._bus.write(command(word, value))
        until_ns = self._now_ns() + round(ANSWER_S * 1e9)
        while (left_ns := until_ns - self._now_ns()) > 0:
            self._take(self._bus.read(left_ns / 1e9))
            for answer in self._answers:
                if answer.command == word:
                    return answer.value if answer.status == 0 else None
        return None
