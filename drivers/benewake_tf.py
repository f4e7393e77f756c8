"""Benewake TF: single-point lidars that tell a distance up to a hundred times a second.

Every model speaks the same nine bytes unasked: 59 59, distance, strength, temperature, and the
sum. 59 occurs in the data too, so only nine bytes with the right sum are a frame. What comes in a
second is one burst, and its median one reading: snow scatters, and one echo says little.

TFmini-S, TFmini Plus and TF-Luna take commands (5A, length, id, ..., sum) and are told their rate
and their unit at each start. Nothing is saved in the device: its flash wears, and a power cycle is
noticed by the rate. TFmini and TF02 take none of these commands and stay as they are.

The other half of this family, two lidars that count people, is drivers.benewake_pair.

Sources: Benewake product manuals SJ-PM-TFmini-S A01, SJ-PM-TFmini Plus A04, SJ-PM-TF-Luna A05
(frame, commands, codes of TFmini-S and Plus; TF-Luna's 0); budryerson/TFMini-Plus TFMPlus.cpp (the
same codes). From general knowledge of the data sheets: that TFmini and TF02 say 0 where nothing
comes back, their ranges, and their weakest usable strength.
"""

from __future__ import annotations

import re
import statistics
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from . import base
from .base import (
    BusError,
    Clock,
    FrameError,
    Limits,
    LineSettings,
    Observation,
    Quantity,
    Reading,
    Reason,
    Spec,
    Stillness,
    Withheld,
)
from .buses import SerialPort
from .depth import MountedOptions, Overhead, depth, distance

FRAME_BYTES = 9
FRAME_HEAD, COMMAND_HEAD = 0x59, 0x5A
SATURATED = 0xFFFF  # strength
AMBIENT_STRENGTH = 0x8000  # of a TF-Luna, from here on

# Command ids, and the bytes of the answer to each that anybody may have asked.
FIRMWARE, RESET, RATE, FORMAT = 0x01, 0x02, 0x03, 0x05
ANSWER_BYTES = {FIRMWARE: 7, RESET: 5, RATE: 6, FORMAT: 5, 0x07: 5, 0x11: 5}
CENTIMETRES = b"\x01"

FACTORY_RATE_HZ = 100
VALID_SHARE = 0.6  # of a burst on snow
BURST_S = 1.0
ANSWER_S = 0.3
LISTEN_S = 1.0
BOOT_S = 2.0
SILENCE_S = 3.0
RATE_CHECK_S = 5.0
RATE_TOLERANCE = 1.5  # as a factor, either way; frames are whole, and time is short

Model = Literal["tfmini", "tfmini-s", "tfmini-plus", "tf-luna", "tf02"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What differs between the models."""

    low_cm: float
    high_cm: float
    weak_strength: int  # up to this a distance is not to be believed
    takes_commands: bool


TRAITS: Mapping[Model, Traits] = {
    "tfmini": Traits(30.0, 1200.0, 20, takes_commands=False),
    "tfmini-s": Traits(10.0, 1200.0, 100, takes_commands=True),
    "tfmini-plus": Traits(10.0, 1200.0, 100, takes_commands=True),
    "tf-luna": Traits(20.0, 800.0, 100, takes_commands=True),
    "tf02": Traits(40.0, 2200.0, 20, takes_commands=False),
}

WIRING = (
    "Power is 5 V, and its peaks are some 0.2 A a unit; TXD and RXD are 3.3 V.",
    "TF-Luna: leave pin 5 open or tie it to 3.3 V; pulled low it speaks I2C and is silent here.",
    "Keep sun, mirrors and reflective foil out of its beam; the beam is 2 to 4 degrees wide.",
)
QUIRKS = (
    "In place of a distance TFmini-S and Plus say -1 (weak), -2 (too strong) or -4 (sunlight), "
    "the others 0: none of them becomes a value.",
    "Wet black ice and clear water send little back: weak_signal.",
    "Rate and unit are set at each start and never saved; after a power cycle it speaks 100 times "
    "a second again, which is noticed within seconds and set anew.",
    "TFmini and TF02 take no commands: they are read as they are, in cm at 100 Hz.",
)
HEADER = (
    ("5V", "pin 2 (5 V)"),
    ("GND", "pin 6 (ground)"),
    ("TXD", "pin 10 (GPIO 15, RXD)"),
    ("RXD", "pin 8 (GPIO 14, TXD)"),
)
SOURCE = (
    "Benewake product manuals SJ-PM-TFmini-S A01, SJ-PM-TFmini Plus A04, SJ-PM-TF-Luna A05; "
    "codes as in budryerson/TFMini-Plus"
)

DISTANCE = distance(10.0, 2200.0, "distance to what the beam meets")
DEPTH = depth(2200.0)


@dataclass(frozen=True, slots=True, repr=False)
class Sample(Withheld):
    """What one frame says."""

    distance_cm: int  # as sent: -1, -2, -4 and 0 are codes
    strength: int


def command(identifier: int, payload: bytes = b"") -> bytes:
    """Return the bytes of a command: 5A, length of all, id, payload, sum."""
    body = bytes((COMMAND_HEAD, 4 + len(payload), identifier)) + payload
    return body + bytes((sum(body) & 0xFF,))


def decode(frames: Sequence[bytes]) -> list[Sample]:
    """Return what valid frames of nine bytes say; distance in cm, signed. No errors."""
    return [Sample(*each) for each in struct.iter_unpack("<2xhH3x", b"".join(frames))]


def invalid_because(sample: Sample, model: Model) -> Reason | None:
    """Return why a sample is no measurement, or None if it is one.

    Too strong an echo is out of range, sunlight and too weak an echo are a weak signal.
    """
    traits = TRAITS[model]
    if sample.strength == SATURATED or sample.distance_cm == -2:
        return "out_of_range"
    if sample.distance_cm in (-1, -4, 0) or sample.strength <= traits.weak_strength:
        return "weak_signal"
    if model == "tf-luna" and sample.strength >= AMBIENT_STRENGTH:
        return "weak_signal"
    if not traits.low_cm <= sample.distance_cm <= traits.high_cm:
        return "out_of_range"
    return None


_HEAD = re.compile(b"[\x59\x5a]")


class TfFramer:
    """Cuts a byte stream into frames and answers to commands, each by its sum.

    After anything that is neither it tries again one byte on, so a frame inside garbage is
    found. Keeps less than one frame between calls.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._in_garbage = False
        self.errors = 0  # runs of bytes that belong to no frame
        self.answers: dict[int, bytes] = {}  # the last payload of each command's answer

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the measuring frames that `chunk` completes."""
        self._rest += chunk
        frames = []
        at = 0
        while at < len(self._rest):
            size = _frame_bytes(self._rest, at)
            if size is None:
                break
            if size:
                self._in_garbage = False
                if size == FRAME_BYTES:
                    frames.append(bytes(self._rest[at : at + size]))
                else:
                    self.answers[self._rest[at + 2]] = bytes(self._rest[at + 3 : at + size - 1])
                at += size
                continue
            self.errors += 0 if self._in_garbage else 1
            self._in_garbage = True
            following = _HEAD.search(self._rest, at + 1)
            at = following.start() if following else len(self._rest)
        del self._rest[:at]
        return frames


def _frame_bytes(stream: bytearray, at: int) -> int | None:
    """Return the size of what begins at `at`: 0 if nothing does, None if too early to say."""
    head = stream[at : at + 3]
    if head[0] == FRAME_HEAD:
        size = FRAME_BYTES
        if len(head) > 1 and head[1] != FRAME_HEAD:
            return 0
    elif head[0] == COMMAND_HEAD:
        if len(head) < 3:
            return None if len(head) < 2 or head[1] in ANSWER_BYTES.values() else 0
        size = ANSWER_BYTES.get(head[2], 0)
        if head[1] != size:
            return 0
    else:
        return 0
    end = at + size
    if len(stream) < end:
        return None
    return size if sum(stream[at : end - 1]) & 0xFF == stream[end - 1] else 0


class TfPort:
    """One unit on its port: set up, listened to, and looked after while it speaks."""

    def __init__(
        self, bus: SerialPort | None, model: Model, rate_hz: int, now_ns: Clock, *, name: str = ""
    ) -> None:
        """Name the unit for messages; without a bus it only decodes."""
        self.rate_hz = rate_hz if TRAITS[model].takes_commands else FACTORY_RATE_HZ
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""
        self._given_bus = bus
        self._model = model
        self._now_ns = now_ns
        self._name = f"{name}: " if name else ""
        self._framer = TfFramer()
        self._framed_ns: int | None = None
        self._counted_ns = 0  # since when frames are counted, for the rate
        self._counted = 0
        self._is_off = False

    @property
    def _bus(self) -> SerialPort:
        if self._given_bus is None:
            raise BusError(f"{self._name}there is no port")
        return self._given_bus

    def open(self) -> None:
        """Find the unit, tell it its rate and unit, and see that it keeps them.

        Raises BusError if nobody speaks, FrameError if it does not do as it is told.
        """
        self._framed_ns = None
        self._framer = TfFramer()
        self._bus.discard_input()
        is_heard = bool(self._listen(LISTEN_S, frames=2))
        self._framer.errors = 0  # half a frame at the beginning is no error
        if TRAITS[self._model].takes_commands:
            self._set_up(is_heard)
        elif not is_heard:
            raise self._silent()
        else:
            self.identity = f"Benewake {self._model}, as configured"
        self._watch_rate()

    def reset(self) -> None:
        """Restart a unit that repeats itself, and set it up again. Raises as `open` does."""
        if TRAITS[self._model].takes_commands:
            self._bus.write(command(RESET))
            self._listen(0.1)  # what it still had to say
            self._listen(BOOT_S, frames=2)
        self.open()

    def take(self) -> list[bytes]:
        """Return the frames since the last call; set a unit up again that lost its settings.

        Raises BusError after some seconds of silence, FrameError if it does not do as told.
        """
        if self._is_off:
            self.open()
        chunk = self._bus.read(0.0)
        frames = self.decode(chunk)
        now_ns = self._now_ns()
        if frames or self._framed_ns is None:
            self._framed_ns = now_ns
        elif now_ns - self._framed_ns > SILENCE_S * 1e9:
            raise self._silent(" since a while" if not chunk else ", only noise")
        self._check_rate(now_ns)
        return frames

    def decode(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes, and count them."""
        errors = self._framer.errors
        frames = self._framer.feed(chunk)
        self.frames += len(frames)
        self._counted += len(frames)
        self.frame_errors += self._framer.errors - errors
        return frames

    def _silent(self, how: str = "") -> BusError:
        return BusError(
            f"{self._name}nobody speaks like a {self._model}{how}: check its 5 V, the wire from "
            "its TXD to our RXD, baud 115200 8N1, and on a TF-Luna that pin 5 is not low (I2C)"
        )

    def _set_up(self, is_heard: bool) -> None:
        version = self._ask(FIRMWARE)
        if version is None and not is_heard:
            raise self._silent()
        if version is None:
            raise FrameError(
                f"{self._name}the {self._model} measures and answers nothing: check the wire from "
                "our TXD to its RXD; a TFmini or TF02 never answers, set its model"
            )
        number = ".".join(str(each) for each in reversed(version))
        self.identity = f"Benewake {self._model}, as configured, firmware {number}"
        self._tell(FORMAT, CENTIMETRES)
        self._tell(RATE, self.rate_hz.to_bytes(2, "little"))
        for_s = max(0.3, 5 / self.rate_hz)
        self._listen(2 / self.rate_hz)  # what it still had to say
        heard_hz = self._listen(for_s) / for_s
        if not self.rate_hz / RATE_TOLERANCE <= heard_hz <= self.rate_hz * RATE_TOLERANCE:
            raise FrameError(
                f"{self._name}told to speak {self.rate_hz} times a second, the {self._model} "
                f"speaks about {heard_hz:.0f} times"
            )

    def _tell(self, identifier: int, value: bytes) -> None:
        kept = self._ask(identifier, value)
        if kept != value:
            raise FrameError(
                f"{self._name}the {self._model} was told {command(identifier, value).hex(' ')} "
                f"and answered {'nothing' if kept is None else kept.hex(' ')}"
            )

    def _ask(self, identifier: int, payload: bytes = b"") -> bytes | None:
        self._framer.answers.clear()
        self._bus.write(command(identifier, payload))
        until_ns = self._now_ns() + round(ANSWER_S * 1e9)
        while (left_ns := until_ns - self._now_ns()) > 0:
            self.decode(self._bus.read(left_ns / 1e9))
            if identifier in self._framer.answers:
                return self._framer.answers[identifier]
        return None

    def _listen(self, for_s: float, *, frames: int | None = None) -> int:
        """Return how many frames come, up to `frames`."""
        began, until_ns = self.frames, self._now_ns() + round(for_s * 1e9)
        while (left_ns := until_ns - self._now_ns()) > 0:
            self.decode(self._bus.read(left_ns / 1e9))
            if frames is not None and self.frames - began >= frames:
                break
        return self.frames - began

    def _watch_rate(self) -> None:
        self._framed_ns = self._counted_ns = self._now_ns()
        self._counted = 0
        self._is_off = False

    def _check_rate(self, now_ns: int) -> None:
        """Notice a unit that was power-cycled: it speaks at its factory's rate again."""
        passed_s = (now_ns - self._counted_ns) / 1e9
        if passed_s < RATE_CHECK_S:
            return
        heard_hz = self._counted / passed_s
        self._counted_ns, self._counted = now_ns, 0
        keeps = self.rate_hz / RATE_TOLERANCE <= heard_hz <= self.rate_hz * RATE_TOLERANCE
        self._is_off = TRAITS[self._model].takes_commands and not keeps


class BenewakeTfOptions(MountedOptions):
    """Which lidar it is, and what it looks at."""

    model: Model = Field(default="tfmini-plus", description="the model, as printed on it")
    mode: Literal["snow", "distance"] = Field(
        default="snow",
        description="snow: depth below mount_height_cm, believed if 60 % of a second's samples "
        "are valid; distance: as soon as one is",
    )
    frame_rate_hz: Literal[5, 10, 20, 25, 50, 100] = Field(
        default=10,
        description="samples a second that it is told to take; TFmini and TF02 take 100",
    )
    # Distance, strength and temperature to the last digit: strength trembles in every sample.
    stuck_s: float = Field(
        default=3600.0, ge=0.0, description="identical samples for so long are 'stuck'; 0 = never"
    )

    def missing_to_measure(self) -> list[str]:
        """Say that depth needs the mounting height."""
        return super().missing_to_measure() if self.mode == "snow" else []


class BenewakeTf:
    """One lidar over snow, or at any distance: a reading of each quantity a second."""

    spec: ClassVar[Spec] = Spec(
        name="benewake-tf",
        title="Benewake TFmini, TFmini-S, TFmini Plus, TF-Luna, TF02",
        kind="snow",
        bus="serial",
        quantities=(DISTANCE, DEPTH),
        header=HEADER,
        wiring=(
            *WIRING,
            "Over snow: mount it vertically, 0.5 m above the deepest snow; its beam meets a spot "
            "of some 10 cm, so keep that free of drifts and footprints.",
        ),
        quirks=(
            *QUIRKS,
            "Falling snow scatters the beam: a second counts with 60 % valid samples, as median.",
        ),
        checksum="8-bit sum",
        evidence="vendor vectors",
        evidence_note="frames built by the manuals, and their commands with sums; no recorded "
        "bytes were found. Never compared with a snow stake.",
        source=SOURCE,
        line=LineSettings(115200),
        talks=True,
        example={"model": "tf-luna", "mount_height_cm": 350.0},
    )
    Options: ClassVar[type[base.Options]] = BenewakeTfOptions

    # The kernel keeps what comes in a second; waking for every frame would cost five times more.
    interval_s = BURST_S
    rate_hz = 1.0 / BURST_S

    def __init__(self, bus: SerialPort, options: BenewakeTfOptions, now_ns: Clock) -> None:
        self._options = options
        self._port = TfPort(bus, options.model, options.frame_rate_hz, now_ns)
        self._now_ns = now_ns
        self._burst: list[bytes] = []
        self._stillness = Stillness(options.stuck_s)
        traits = TRAITS[options.model]
        seen = distance(traits.low_cm, traits.high_cm, DISTANCE.means)
        if options.mode == "snow":
            self._overhead = Overhead(seen, DEPTH, options)
        else:  # whatever passes there is what it measures
            self._overhead = Overhead(seen._replace(limits=Limits()), DEPTH, MountedOptions())
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The distance, and over snow the depth where the mounting height is known."""
        return self._overhead.quantities

    def open(self) -> None:
        """Find the lidar and tell it its rate and unit. Raises BusError or FrameError."""
        self._burst.clear()
        self._stillness.forget()
        try:
            self._port.open()
        finally:
            self._tell()
        self.identity = self._port.identity

    def poll(self) -> Sequence[Observation]:
        """Return the readings of the seconds that have come to an end, mostly one.

        Raises BusError after some seconds of silence, FrameError if a lidar that lost its
        settings does not take them again.
        """
        try:
            frames = self._port.take()
        finally:
            self._tell()
        return self._readings(frames, self._now_ns())

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        """Decode the frames that `chunk` completes."""
        frames = self._port.decode(chunk)
        self._tell()
        return self._readings(frames, at_boot_ns)

    def close(self) -> None:
        """Leave it talking."""
        self._burst.clear()

    def _tell(self) -> None:
        self.frames, self.frame_errors = self._port.frames, self._port.frame_errors

    def _readings(self, frames: list[bytes], at_ns: int) -> list[Reading]:
        """Return the readings of the bursts that `frames` complete.

        A burst is a number of frames, not a time, so that readings do not depend on how the
        stream was cut.
        """
        self._burst += frames
        size = round(self._port.rate_hz * BURST_S)
        found: list[Reading] = []
        while len(self._burst) >= size:
            found += self._reading(self._burst[:size], at_ns)
            del self._burst[:size]
        return found

    def _reading(self, burst: list[bytes], at_ns: int) -> list[Reading]:
        samples = decode(burst)
        reasons = [invalid_because(each, self._options.model) for each in samples]
        valid = [s.distance_cm for s, why in zip(samples, reasons, strict=True) if why is None]
        enough = VALID_SHARE * len(samples) if self._options.mode == "snow" else 1
        why: Reason | None = None
        if self._stillness.lasts(b"".join(burst), at_ns):
            why = "stuck"
        elif len(valid) < enough:
            (why, _), *_ = Counter(each for each in reasons if each is not None).most_common()
        if why is not None:
            return self._overhead.nothing(why, at_ns)
        return self._overhead.measured(float(statistics.median(valid)), at_ns)
