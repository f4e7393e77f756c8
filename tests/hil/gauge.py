"""A thermometer that nobody makes, its driver, and nothing wrong with it: what defects derive from.

On a serial line: the host sends one letter, the device answers with five bytes: A5, the letter,
a 16-bit number, the sum of the four. `I` is its identity, `M` makes it measure, `T` is the
temperature in tenths of a degree; 8001h means that it could not, 8002h that it was not made to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, ClassVar

from pydantic import Field

from drivers import base
from drivers.base import (
    BusError,
    Clock,
    Found,
    FrameError,
    IdentityError,
    LineSettings,
    Quantity,
    Reading,
)
from drivers.buses import SerialPort
from hil.emulation import Complaint, Emulation

START, FRAME_BYTES = 0xA5, 5
IDENTITY = 0x0042
FAILED, IDLE = 0x8001, 0x8002
TEMPERATURE = Quantity("air_temperature_c", "Cel", "air temperature", -40.0, 80.0)


class Device:
    def __init__(self, seed: int) -> None:
        self.fails = False
        self._measures = False
        self._noise = Random(seed)
        self._due: list[tuple[float, bytes]] = []

    def hear(self, data: bytes, now_s: float) -> None:
        for letter in data:
            if letter == ord("M"):
                self._measures = True
            if letter in b"IMT":
                self._due.append((now_s + 0.02, self._frame(letter)))

    def speak(self, now_s: float) -> bytes:
        said = b"".join(frame for at_s, frame in self._due if at_s <= now_s)
        self._due = [(at_s, frame) for at_s, frame in self._due if at_s > now_s]
        return said

    def _frame(self, letter: int) -> bytes:
        number = IDENTITY
        if letter == ord("T"):
            number = round(self._noise.uniform(-55.0, -45.0)) & 0xFFFF
            number = FAILED if self.fails else number if self._measures else IDLE
        body = bytes((START, letter, number >> 8, number & 0xFF))
        return body + bytes((sum(body) & 0xFF,))


class Gauge:
    class Options(base.Options):
        stuck_s: float = Field(default=600.0, ge=0.0, description="the same for so long is stuck")
        warmup_s: float = Field(default=0.0, ge=0.0, description="from power-up to the first value")

    spec: ClassVar[base.Spec] = base.Spec(
        name="gauge",
        title="A gauge that nobody makes",
        kind="weather",
        bus="serial",
        quantities=(TEMPERATURE,),
        header=(("TX", "pin 10 (GPIO 15)"), ("RX", "pin 8 (GPIO 14)")),
        wiring=("3.3 V.",),
        quirks=("It does not measure until it is told to.",),
        checksum="8-bit sum",
        evidence_note="it does not exist",
        source="this file",
        line=LineSettings(9600),
    )
    interval_s = 1.0
    rate_hz = 1.0

    def __init__(self, bus: SerialPort, options: Any, now_ns: Clock) -> None:
        self._bus = bus
        self._now_ns = now_ns
        self._rest = bytearray()
        self._in_garbage = False
        self._stillness = base.Stillness(options.stuck_s)
        self._warmup = base.Warmup(options.warmup_s)
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {quantity.name: quantity for quantity in self.spec.quantities}

    def open(self) -> None:
        self.check(self.ask(b"I"))
        self.ask(b"M")
        self._warmup.restart(self._now_ns())
        self._stillness.forget()

    def check(self, identity: int) -> None:
        if identity != IDENTITY:
            raise IdentityError(f"a device {identity:04x}h answers: this is no gauge")

    def poll(self) -> Sequence[base.Observation]:
        at_ns = self._now_ns()
        raw = self.ask(b"T")
        if raw == IDLE:
            raise BusError("the gauge lost its power: it has to be opened again")
        return [self.reading(raw, at_ns)]

    def close(self) -> None:
        pass

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        return [self.reading(raw, at_boot_ns) for kind, raw in self.cut(chunk) if kind == ord("T")]

    @classmethod
    def discover(cls, port: Any, now_ns: Clock, until_ns: int) -> Iterator[Found]:
        gauge: Any = cls
        try:
            gauge(port, cls.Options(), now_ns).ask(b"I")
        except (BusError, FrameError):
            return
        yield Found("gauge", {})

    def ask(self, letter: bytes) -> int:
        errors, until_ns = self.frame_errors, self._now_ns() + 500_000_000
        self._bus.discard_input()
        self._rest.clear()
        self._bus.write(letter)
        while (left_ns := until_ns - self._now_ns()) > 0:
            chunk = self._bus.read(left_ns / 1e9)
            for kind, raw in self.cut(chunk):
                if kind == letter[0]:
                    return raw
            if not chunk:
                break
        if self.frame_errors > errors or self._rest:
            raise FrameError("only damaged answers: check the ground and the length of the line")
        raise BusError("nobody answers: check power, TX and RX, 9600 8N1")

    def cut(self, chunk: bytes) -> list[tuple[int, int]]:
        self._rest += chunk
        frames = []
        while self._rest:
            if self._rest[0] == START and len(self._rest) < FRAME_BYTES:
                break
            is_frame = self.is_frame(bytes(self._rest[:FRAME_BYTES]))
            if is_frame:
                self.frames += 1
                frames.append((self._rest[1], int.from_bytes(self._rest[2:4], "big")))
            elif not self._in_garbage:
                self.frame_errors += 1
            self._in_garbage = not is_frame
            del self._rest[: FRAME_BYTES if is_frame else 1]
        return frames

    def is_frame(self, raw: bytes) -> bool:
        return raw[0] == START and raw[1] in b"IMT" and sum(raw[:4]) & 0xFF == raw[4]

    def reading(self, raw: int, at_ns: int) -> Reading:
        name = self.spec.quantities[0].name
        value_c = self.value_c(raw)
        if not self._warmup.is_over(at_ns) and self._warmup.duration_s:
            return Reading(name, None, at_ns, ("warmup",))
        if value_c is None:
            return Reading(name, None, at_ns, ("weak_signal",))
        if self._stillness.lasts(raw, at_ns):
            return Reading(name, None, at_ns, ("stuck",))
        if not -40.0 <= value_c <= 80.0:
            return Reading(name, None, at_ns, ("out_of_range",))
        return Reading(name, value_c, at_ns)

    def value_c(self, raw: int) -> float | None:
        if raw in (FAILED, IDLE):
            return None
        return (raw - 0x10000 if raw & 0x8000 else raw) / 10


def _fail(device: Device) -> None:
    device.fails = True


EMULATION = Emulation(
    lambda _, seed: Device(seed),
    options={},
    truth={"air_temperature_c": (-5.6, -4.4)},
    complaints={"could not measure": Complaint(_fail, "weak_signal")},
)
