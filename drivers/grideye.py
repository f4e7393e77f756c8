"""Panasonic Grid-EYE AMG88xx: 8 x 8 thermal pixels over a passage, people counted by direction.

One frame is one transaction: the 128 bytes of registers 0x80..0xFF, ten times a second. Whatever
is seen of a person stays in this process: a crossing leaves, a frame does not, and no error's
text says what was in one.

It has no register that says what it is, and at 0x68 it shares its address with the commonest
clocks. Those are known by their time of day, before anything is written to them.

Sources: Panasonic Grid-EYE characteristics specification; adafruit_amg88xx.py of Adafruit's
CircuitPython_AMG88xx (registers); DS3231 data sheet (the clock's registers). [K]: 50 ms from
power-up to the first transaction, 15 s until the output is stable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from . import base
from .base import (
    Alive,
    BusError,
    Clock,
    Crossing,
    Found,
    FrameError,
    Glimpse,
    IdentityError,
    Quantity,
    Scene,
    Spec,
    Trouble,
    Warmup,
    Withheld,
)
from .buses import I2cBus
from .thermal import PixelField, ThermalCounter
from .tracking import Passage

FIRST_REGISTER = b"\x00"
THERMISTOR_REGISTER = b"\x0e"
FIRST_PIXEL_REGISTER = b"\x80"
FRAME_BYTES = 128
SIDE = 8  # pixels

LOWEST_C, HIGHEST_C = -20.0, 100.0  # what the coldest and the hottest of the family can say

# Register, value.
NORMAL_MODE = bytes((0x00, 0x00))
INITIAL_RESET = bytes((0x01, 0x3F))
TEN_FRAMES_A_SECOND = bytes((0x02, 0x00))

# Read back after they were written; the reset register holds nothing.
SETTINGS = (("power control", NORMAL_MODE), ("frame rate", TEN_FRAMES_A_SECOND))

CLOCK_ADDRESS = 0x68
CLOCK_REGISTERS = 0x13
POWER_MODES = (0x00, 0x10, 0x20, 0x21)  # normal, sleep, stand-by of 60 s and of 10 s

BAD_FRAMES_BEFORE_RESET = 3

# Noise moves some of 64 pixels in every frame. Equal frames are one that was read twice, because
# our clock is not the sensor's, or a sensor that stopped.
FROZEN_S = 10.0

# In pixels; 8 of them span 2.9 m at a distance of 2.5 m, so one is 0.36 m. The line is in the
# middle, a sway is half a pixel, a step two. Who runs does 5 m/s, which is 14 a second; half a
# pixel is what a centre is wrong by where warmth is cut by the edge.
PASSAGE = Passage(
    line=(SIDE - 1) / 2,
    clearance=0.6,
    travel=2.0,
    slack=0.6,
    run_per_s=14.0,
    frame_s=0.1,
    memory_s=1.05,
    inside=(1.0, SIDE - 2.0),
    looks=2,
    abreast=0.8,
)


def decode_frame(image: bytes) -> PixelField:
    """Return the temperatures in degC of a register image 0x80..0xFF, shape (8, 8).

    Row-major, pixel 1 first; 12-bit two's complement, 0.25 K a step, little endian.
    Raises FrameError unless there are 128 bytes, all pixels lie in -20..100 degC, and not all are
    equal (a bus that is stuck reads as one value).
    Source: Panasonic Grid-EYE characteristics specification, temperature registers; 0x064 is
    25.00 degC, 0xFFC is -1.00 degC.
    """
    if len(image) != FRAME_BYTES:
        raise FrameError(f"{len(image)} bytes in place of {FRAME_BYTES}")
    raw = np.frombuffer(image, dtype="<u2").astype(np.int16) & 0x0FFF
    pixels_c = np.where(raw & 0x800, raw - 0x1000, raw).reshape(SIDE, SIDE) * 0.25
    if (pixels_c < LOWEST_C).any() or (pixels_c > HIGHEST_C).any():
        raise FrameError(f"a pixel outside {LOWEST_C:g}..{HIGHEST_C:g} degC")
    if (pixels_c == pixels_c[0, 0]).all():
        raise FrameError("all pixels equal")
    return pixels_c


def thermistor_c(raw: int) -> float:
    """Return the sensor's own temperature in degC for the 16-bit register pair 0x0E, 0x0F.

    Sign and magnitude in 12 bits, 0.0625 K a step: not the pixels' format. No errors.
    Source: Panasonic Grid-EYE characteristics specification; 0x8BB is -11.6875 degC.
    """
    magnitude_c = (raw & 0x7FF) * 0.0625
    return -magnitude_c if raw & 0x800 else magnitude_c


def is_clock(registers: bytes) -> bool:
    """Tell whether `registers`, from 0x00 on, are a DS3231's or DS1307's: a time of day in BCD.

    A Grid-EYE cannot be taken for one: where the clock has the weekday, the day and the month,
    from 1 on, it has interrupts, its status and a register that reads as 0.
    """
    if len(registers) < 7:
        return False
    second, minute, hour, weekday, day, month, year = registers[:7]
    # Bit 7 of the second stops a DS1307; bit 6 of the hour means 12 hours and bit 5 then noon;
    # bit 7 of the month is the century.
    is_12_hours = bool(hour & 0x40)
    times = (
        (second & 0x7F, 0, 59),
        (minute, 0, 59),
        (hour & (0x1F if is_12_hours else 0xFF), int(is_12_hours), 12 if is_12_hours else 23),
        (weekday, 1, 7),
        (day, 1, 31),
        (month & 0x7F, 1, 12),
        (year, 0, 99),
    )
    return all(
        raw & 0x0F <= 9 and low <= (raw >> 4) * 10 + (raw & 0x0F) <= high
        for raw, low, high in times
    )


class GridEye(Withheld):
    """The sensor on its bus. The column index increases "towards", after `rotate`."""

    spec: ClassVar[Spec] = Spec(
        name="grideye-amg88xx",
        title="Panasonic Grid-EYE AMG8833 / AMG8834 / AMG8853",
        kind="people",
        bus="i2c",
        quantities=(),
        directions=("towards", "away"),
        header=(
            ("VDD", "pin 1 (3.3 V)"),
            ("SDA", "pin 3 (GPIO 2)"),
            ("SCL", "pin 5 (GPIO 3)"),
            ("GND", "pin 6 (GND)"),
            ("AD_SELECT", "pin 1 (3.3 V) for address 0x69, pin 6 (GND) for 0x68"),
        ),
        wiring=(
            "Supply and I2C lines are 3.3 V (AMG8833, AMG8834), never 5 V.",
            "AD_SELECT high gives address 0x69, low gives 0x68.",
            "0x68 is also the address of a DS3231 clock: use 0x69 where there is one.",
            "The bus may run at up to 400 kHz.",
            "It looks straight down and people walk along the rows of pixels; the field is "
            "60 degrees wide, which is 2.9 m at a distance of 2.5 m.",
        ),
        quirks=(
            "It has no identity: a scan can only say that something looks like one. A clock at "
            "0x68 is known by its time and named, and nothing is written to it.",
            "The first 15 s after power-up are not stable: nobody is counted in them (warmup_s).",
            "After a brown-out it can lock up and answer one value for ever; after three such "
            "frames, or the same frame for 10 s, it is reset.",
            "There is no checksum and no sign of a new frame: a frame outside -20 to 100 degC or "
            "with all pixels equal is refused, and one that is read twice changes nothing.",
            "Pixels are two's complement, the sensor's own thermistor is sign and magnitude.",
            "Where the picture's rows lie depends on the mounting: set rotate and flip, and walk "
            "through once in each direction; `yukimi read` with --consent shows the picture.",
            "People are seen by their warmth: the floor has to be colder than they are by 1 K, so "
            "not outdoors on a summer's day.",
            "Who stands still for longer than 75 s becomes part of the place until they move.",
        ),
        evidence="recorded bytes",
        evidence_note=(
            "Compared crossing by crossing, within 1.5 s, with labelled recordings of 100 s at a "
            "door: 14 of 14 (one person), 14 of 14 (one with a hat), 22 of 22 (two people), none "
            "false, none swapped, none where nobody was. The recordings' order of pixels is "
            "assumed. Simulated: doors, draughts, sun and heaters count as nobody; two abreast "
            "0.5 m apart, or 0.8 m behind each other, are often one. A crowd that comes at random: "
            "2 % too few at 5 a minute, 15 % at 30, 34 % at 60. See docs/counting.md."
        ),
        source=(
            "Panasonic Grid-EYE characteristics specification; registers as in Adafruit's "
            "CircuitPython_AMG88xx"
        ),
        addresses=(0x69, 0x68),
    )

    class Options(base.Options):
        """How the sensor is wired and mounted."""

        address: Literal[0x68, 0x69] = Field(
            default=0x69, description="I2C address: 0x69 (105) AD_SELECT high, 0x68 (104) low"
        )
        rotate: Literal[0, 90, 180, 270] = Field(
            default=0, description="degrees counter-clockwise to turn the image by"
        )
        flip: bool = Field(default=False, description="swap the two directions")
        warmup_s: float = Field(
            default=15.0, ge=0.0, description="seconds after power-up without counting"
        )

        def claims(self) -> list[str]:
            """Name the address."""
            return [f"i2c address 0x{self.address:02x}"]

    interval_s = 0.1
    rate_hz = 1.0

    def __init__(self, bus: I2cBus, options: Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._warmup = Warmup(options.warmup_s)
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._counter = ThermalCounter(PASSAGE, flip=self._options.flip)
        self._image = b""
        self._changed_ns = 0  # when the image last was another
        self._alive_second: int | None = None
        self._bad_in_a_row = 0

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """None: it counts."""
        return {}

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> Found | None:
        """Say whether what answers at `address` looks like a Grid-EYE; there is no surer way.

        It does if its registers are no clock's, hold settings that it knows and zeros where it
        has them, a thermistor and a picture that can be, and the two within 40 K of each other.
        Raises BusError if nobody answers.
        """
        registers = bus.read(address, FIRST_REGISTER, CLOCK_REGISTERS)
        if is_clock(registers) or registers[0x00] not in POWER_MODES or registers[0x02] > 1:
            return None
        thermistor = int.from_bytes(bus.read(address, THERMISTOR_REGISTER, 2), "little")
        image = bus.read(address, FIRST_PIXEL_REGISTER, FRAME_BYTES)
        if thermistor > 0xFFF or any(high > 0x0F for high in image[1::2]):
            return None
        own_c = thermistor_c(thermistor)
        try:
            away_k = abs(float(np.median(decode_frame(image))) - own_c)
        except FrameError:
            return None
        if not LOWEST_C <= own_c <= HIGHEST_C or away_k > 40.0:
            return None
        # The thermistor is the chip's own warmth: it tells of nobody.
        what = f"looks like a Grid-EYE AMG88xx (it has no identity), itself at {own_c:.1f} degC"
        return Found(what, {"address": address})

    def open(self) -> None:
        """Reset the sensor and let it run at 10 frames a second; read that back.

        Raises BusError, IdentityError if a clock answers, FrameError if it did not take what was
        written.
        """
        address = self._options.address
        if address == CLOCK_ADDRESS:
            self._refuse_clock()
        for command in (NORMAL_MODE, INITIAL_RESET, TEN_FRAMES_A_SECOND):
            self._bus.write(address, command)
        for name, (register, value) in SETTINGS:
            answer = self._settings(register, 1)
            if answer and answer[0] != value:
                self.frame_errors += 1
                raise FrameError(
                    f"0x{address:02x}: wrote 0x{value:02x} to register 0x{register:02x} ({name}), "
                    f"0x{answer[0]:02x} came back: is it a Grid-EYE, and its supply steady?"
                )
        self._start_afresh()
        self._warmup.restart(self._now_ns())

    def poll(self) -> Sequence[Glimpse]:
        """Read one frame. Raises BusError or FrameError.

        After three bad frames in a row, or a frame that stood still, the next poll resets the
        sensor first: a brown-out can leave it so for ever. A sensor that does not answer at all
        is reset by whoever closes and opens the driver on BusError.
        """
        if self._bad_in_a_row >= BAD_FRAMES_BEFORE_RESET:
            self.open()
        at_ns = self._now_ns()
        image = self._bus.read(self._options.address, FIRST_PIXEL_REGISTER, FRAME_BYTES)
        try:
            field_c = decode_frame(image)
            self._refuse_frozen(image, at_ns)
        except FrameError:
            self._bad_in_a_row += 1
            self.frame_errors += 1
            raise
        self._bad_in_a_row = 0
        self.frames += 1
        field_c = np.rot90(field_c, self._options.rotate // 90)
        is_warm = self._warmup.is_over(at_ns)
        ways = self._counter.take(field_c, at_ns / 1e9, counts=is_warm)
        if not is_warm:
            return [Trouble("warmup", at_ns)]
        return [*self._alive(at_ns), *(Crossing(way, at_ns) for way in ways)]

    def picture(self) -> Scene | None:
        """Return what the last frame showed."""
        return self._counter.picture()

    def close(self) -> None:
        """Forget whom it saw; the sensor itself needs nothing."""
        self._start_afresh()

    def _refuse_clock(self) -> None:
        """Raise IdentityError if a clock answers in the sensor's place."""
        if is_clock(self._settings(FIRST_REGISTER[0], CLOCK_REGISTERS)):
            raise IdentityError(
                f"0x{CLOCK_ADDRESS:02x}: a real-time clock (DS3231 or DS1307) answers, not a "
                "Grid-EYE: connect the Grid-EYE's AD_SELECT to 3.3 V and set address = 0x69"
            )

    def _settings(self, register: int, length: int) -> bytes:
        """Read registers; nothing where that fails.

        A sensor that has gone fails the frame that is asked for next; a recording need not hold
        what was read besides frames.
        """
        try:
            return self._bus.read(self._options.address, bytes((register,)), length)
        except BusError:
            return b""

    def _refuse_frozen(self, image: bytes, at_ns: int) -> None:
        if image != self._image:
            self._image, self._changed_ns = image, at_ns
        elif at_ns - self._changed_ns >= FROZEN_S * 1e9:
            self._bad_in_a_row = BAD_FRAMES_BEFORE_RESET  # waiting for more would not help
            raise FrameError(f"the same frame for {FROZEN_S:g} s")

    def _alive(self, at_ns: int) -> list[Alive]:
        # By whole seconds of the clock: "a second after the last" would lose a poll's length
        # each time, and a tenth of all seconds with it.
        second = at_ns // 1_000_000_000
        if second == self._alive_second:
            return []
        self._alive_second = second
        return [Alive(at_ns)]
