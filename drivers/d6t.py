"""Omron D6T: 4 x 4 or 8 thermal pixels over a slow door, people counted by direction.

It measures three or four times a second only, so it counts who walks slowly through a door, not
who hurries along a passage; the specification says what that costs. Whatever is seen of a person
stays in this process: a crossing leaves, a frame does not, and no error's text says what was in
one.

Each frame ends with a PEC. Omron's own code sums it from the read address on; after a repeated
START the write address and the command may be part of it. Which one a sensor sends is found out
from its first good frame, and the other is refused from then on.

From general knowledge, not from a source at hand: the fields of view, the ranges, the PEC after a
repeated START.

Sources: Omron's samples d6t-44l.c and d6t-8lh.c (omron-devhub/d6t-2jcieev01-raspberrypi), user's
manual A284 (encoding, time-outs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from . import base
from .base import (
    Alive,
    Clock,
    Crossing,
    Found,
    FrameError,
    Glimpse,
    Quantity,
    Scene,
    Spec,
    Trouble,
    Warmup,
    Withheld,
)
from .buses import I2cBus
from .checksums import crc8_smbus
from .thermal import PixelField, ThermalCounter
from .tracking import Passage

ADDRESS = 0x0A
WRITE_ADDRESS, READ_ADDRESS = ADDRESS << 1, ADDRESS << 1 | 1
READ_COMMAND = b"\x4c"

# What the PEC covers before the data: Omron's way, and that of a repeated START.
PEC_HEADS: dict[str, bytes] = {
    "stop": bytes((READ_ADDRESS,)),
    "repeated": bytes((WRITE_ADDRESS,)) + READ_COMMAND + bytes((READ_ADDRESS,)),
}

# Without these a D6T-8L-09H does not measure; each ends with its PEC.
INITIAL_SETTINGS = tuple(
    bytes.fromhex(each)
    for each in ("02 00 01 EE", "05 90 3A B8", "03 00 03 8B", "03 00 07 97", "02 00 00 E9")
)

LOWEST_C = -60.0

BAD_FRAMES_BEFORE_RESET = 3

# A lens that is covered shows one temperature, and another than before, in all pixels.
COVERED_K = 5.0
COVERED_SPREAD_K = 1.0
COVERED_S = 30.0

ModelName = Literal["44L-06", "44L-06H", "8L-09", "8L-09H"]


@dataclass(frozen=True, slots=True)
class Model:
    """What differs between the sensors."""

    rows: int
    columns: int
    step_k: float  # of a pixel
    highest_c: float
    interval_s: float  # between two measurements
    person_pixels: int
    passage: Passage  # in pixels
    frozen_s: float  # equal frames for so long are no measurement
    settings: tuple[bytes, ...] = ()

    @property
    def frame_bytes(self) -> int:
        """Its own temperature, the pixels, the PEC."""
        return 2 + 2 * self.rows * self.columns + 1


# 44 degrees: at a distance of 2.5 m a pixel is 0.5 m wide and a person fills most of one. A step of
# 1.4 m/s is 0.85 of it. Of 1500 recorded frames one was equal to the one before.
_SQUARE_PASSAGE = Passage(
    line=1.5, clearance=0.25, travel=1.0, slack=0.4, run_per_s=3.6, frame_s=0.3, memory_s=1.2,
    inside=(1.0, 2.0),
)  # fmt: skip
# 54 degrees along, 5 across: a pixel is 0.32 m by 0.24 m. A step of 1.4 m/s is 1.1 of it.
_ROW_PASSAGE = Passage(
    line=3.5, clearance=0.5, travel=2.0, slack=0.6, run_per_s=5.6, frame_s=0.25, memory_s=1.2,
    inside=(1.0, 6.0),
)  # fmt: skip

MODELS: dict[str, Model] = {
    "44L-06": Model(4, 4, 0.1, 100.0, 0.3, 1, _SQUARE_PASSAGE, 60.0),
    "44L-06H": Model(4, 4, 0.1, 250.0, 0.3, 1, _SQUARE_PASSAGE, 60.0),
    "8L-09": Model(1, 8, 0.1, 100.0, 0.25, 2, _ROW_PASSAGE, 60.0),
    # Steps of 0.2 K hide its noise: an empty place may look the same for minutes.
    "8L-09H": Model(1, 8, 0.2, 100.0, 0.25, 2, _ROW_PASSAGE, 900.0, INITIAL_SETTINGS),
}


def pec_style(frame: bytes) -> str | None:
    """Return which PEC ends `frame`: "stop", "repeated", or None if neither does.

    Never both: the two differ in what precedes the data, and a CRC tells that always.
    """
    for style, head in PEC_HEADS.items():
        if frame and crc8_smbus(head + frame[:-1]) == frame[-1]:
            return style
    return None


def decode_frame(frame: bytes, model: Model, style: str | None = None) -> tuple[PixelField, str]:
    """Return the pixels in degC, shape (rows, columns), and the style of the PEC.

    Little-endian two's complement: the sensor's own temperature in 0.1 K, then the pixels row by
    row in the model's step. Raises FrameError for a wrong length, all ones (the sensor's internal
    time-out), a wrong PEC (with `style`: for the other one, too), or a pixel that cannot be.
    Source: A284 manual, page 10: FA 00 is 25.0 degC, 06 FF is -25.0 degC.
    """
    if len(frame) != model.frame_bytes:
        raise FrameError(f"{len(frame)} bytes in place of {model.frame_bytes}")
    if frame == b"\xff" * len(frame):
        raise FrameError("FFFFh: the sensor's internal time-out")
    found = pec_style(frame)
    if found is None or style not in (None, found):
        raise FrameError("wrong PEC")
    words = np.frombuffer(frame[2:-1], dtype="<i2").astype(np.float64)
    pixels_c = words.reshape(model.rows, model.columns) * model.step_k
    if (pixels_c < LOWEST_C).any() or (pixels_c > model.highest_c).any():
        raise FrameError(f"a pixel outside {LOWEST_C:g}..{model.highest_c:g} degC")
    return pixels_c, found


def is_covered(field_c: PixelField, level_c: PixelField | None) -> bool:
    """Tell whether all pixels moved together from `level_c` to one temperature.

    `level_c`: the place without people, None if that is not known. Shape of both (rows, columns).
    """
    if level_c is None or np.ptp(field_c) >= COVERED_SPREAD_K:
        return False
    return bool((np.abs(field_c - level_c) > COVERED_K).all())


class D6tOptions(base.Options):
    """Which sensor, and how it is mounted."""

    model: ModelName = Field(description="as printed on the sensor after D6T-")
    address: Literal[0x0A] = Field(default=0x0A, description="I2C address, fixed: 0x0A (10)")
    rotate: Literal[0, 90, 180, 270] = Field(
        default=0, description="degrees counter-clockwise to turn the image by; 8L: 0 or 180"
    )
    flip: bool = Field(default=False, description="swap the two directions")
    warmup_s: float = Field(
        default=0.62, ge=0.0, description="seconds after opening without counting"
    )

    @model_validator(mode="after")
    def _row_lies_along(self) -> D6tOptions:
        if MODELS[self.model].rows == 1 and self.rotate in (90, 270):
            raise ValueError(
                "rotate: a row of pixels across the door cannot count; mount it along the way "
                "people walk, and rotate by 0 or 180"
            )
        return self

    def claims(self) -> list[str]:
        """Name the address."""
        return [f"i2c address 0x{self.address:02x}"]


class D6t(Withheld):
    """The sensor on its bus. The column index increases "towards", after `rotate`."""

    spec: ClassVar[Spec] = Spec(
        name="omron-d6t",
        title="Omron D6T-44L-06, D6T-44L-06H, D6T-8L-09, D6T-8L-09H",
        kind="people",
        bus="i2c",
        quantities=(),
        directions=("towards", "away"),
        header=(
            ("VCC", "pin 2 (5 V); the 8L-09H: look at its label"),
            ("GND", "pin 6 (GND)"),
            ("SDA", "pin 3 (GPIO 2), through a level shifter"),
            ("SCL", "pin 5 (GPIO 3), through a level shifter"),
        ),
        wiring=(
            "A 5 V part: its I2C lines need a level shifter before a Pi's 3.3 V pins.",
            "100 kHz or less: dtparam=i2c_arm_baudrate=100000, or lower.",
            "It looks straight down on a slow door; of the 8L the row lies along the way people "
            "walk. From 2.5 m a 44L sees 2.0 m square, an 8L 2.6 m by 0.24 m.",
            "Its address is fixed: one on a bus.",
        ),
        quirks=(
            "It measures every 300 ms (44L) or 250 ms (8L): for slow doors only. See the evidence "
            "for how many it misses.",
            "It stretches the clock, which the Pi's I2C controller (all before the Pi 5) handles "
            "wrongly: lower the bus speed, or use dtoverlay=i2c-gpio; damaged frames are dropped "
            "by their PEC.",
            "The 8L sees one row: two people side by side are one.",
            "The 8L-09H must be initialised after each power-up and measures half a second "
            "later; the driver does so, also when frames go bad or stand still.",
            "It says FFFFh when it had no time to answer: a frame error.",
        ),
        checksum="CRC-8/SMBUS (PEC)",
        evidence="vendor vectors",
        evidence_note=(
            "Omron's initial settings and encoding; frames rebuilt from recorded pixels with both "
            "PECs; a recorded lens that is covered. There is no labelled recording of people: "
            "counting was measured on a simulated door, 0.9 m wide. Walking slowly (0.8 m/s) or "
            "hurrying (2 m/s), alone: 150 of 150 counted, by each model. Coming slowly at random: "
            "5 to 9 % too few at 5 a minute, 33 to 42 % at 30, 56 to 63 % at 60; who walks within "
            "a metre of another is not seen apart. At most 1 % were false. See docs/counting.md."
        ),
        source="Omron A284 (user's manual), d6t-2jcieev01-raspberrypi (samples)",
        addresses=(ADDRESS,),
        example={"model": "44L-06"},
    )
    Options: ClassVar[type[base.Options]] = D6tOptions

    rate_hz = 1.0

    def __init__(self, bus: I2cBus, options: D6tOptions, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._model = MODELS[options.model]
        self._warmup = Warmup(options.warmup_s)
        self.interval_s = self._model.interval_s
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._counter = ThermalCounter(
            self._model.passage,
            flip=self._options.flip,
            least_pixels=self._model.person_pixels,
        )
        self._pec_style: str | None = None
        self._stillness = base.Stillness(self._model.frozen_s)
        self._covered_since_ns: int | None = None
        self._alive_second: int | None = None
        self._bad_in_a_row = 0

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """None: it counts."""
        return {}

    @classmethod
    def recognise(cls, bus: Any, address: int) -> Found | None:
        """Say which D6T answers at `address`, by the length at which its PEC is right."""
        if address != ADDRESS:
            return None
        bus.write(address, READ_COMMAND)
        frame = bus.read(address, b"", MODELS["44L-06"].frame_bytes)
        for name, what in (("44L-06", "D6T-44L"), ("8L-09", "D6T-8L-09 or -09H: see its label")):
            if pec_style(frame[: MODELS[name].frame_bytes]):
                return Found(f"Omron {what}", {"model": name})
        return None

    def open(self) -> None:
        """See whether it is there, initialise it where the model wants it. Raises BusError."""
        for settings in self._model.settings:
            self._bus.write(ADDRESS, settings)
        self._bus.write(ADDRESS, READ_COMMAND)  # nothing else can be asked of it
        self.identity = f"D6T-{self._options.model} (as configured; it cannot be asked)"
        self._start_afresh()
        self._warmup.restart(self._now_ns())

    def poll(self) -> Sequence[Glimpse]:
        """Read one frame. Raises BusError or FrameError.

        After three bad frames in a row, a frame that stood still, or a picture without any
        difference for long, the next poll opens it anew.
        """
        if self._bad_in_a_row >= BAD_FRAMES_BEFORE_RESET:
            self.open()
        at_ns = self._now_ns()
        if not self._warmup.is_over(at_ns):
            return [Trouble("warmup", at_ns)]
        self._bus.write(ADDRESS, READ_COMMAND)
        frame = self._bus.read(ADDRESS, b"", self._model.frame_bytes)
        try:
            field_c, self._pec_style = decode_frame(frame, self._model, self._pec_style)
            self._refuse_frozen(frame, at_ns)
            field_c = np.rot90(field_c, self._options.rotate // 90)
            can_be_seen = self._can_be_seen(field_c, at_ns)
        except FrameError:
            self._bad_in_a_row += 1
            self.frame_errors += 1
            raise
        self._bad_in_a_row = 0
        self.frames += 1
        ways = self._counter.take(field_c, at_ns / 1e9) if can_be_seen else []
        return [*self._alive(at_ns), *(Crossing(way, at_ns) for way in ways)]

    def picture(self) -> Scene | None:
        """Return what the last frame showed."""
        return self._counter.picture()

    def close(self) -> None:
        """Forget whom it saw; the sensor itself needs nothing."""
        self._start_afresh()

    def _refuse_frozen(self, frame: bytes, at_ns: int) -> None:
        if self._stillness.lasts(frame, at_ns):
            self._bad_in_a_row = BAD_FRAMES_BEFORE_RESET  # waiting for more would not help
            raise FrameError(f"the same frame for {self._model.frozen_s:g} s")

    def _can_be_seen(self, field_c: PixelField, at_ns: int) -> bool:
        """Tell whether a frame is to be evaluated. Nobody learns of it if it is not."""
        if not is_covered(field_c, self._counter.level_c):
            self._covered_since_ns = None
            return True
        if self._covered_since_ns is None:
            self._covered_since_ns = at_ns
        if at_ns - self._covered_since_ns >= COVERED_S * 1e9:
            self._bad_in_a_row = BAD_FRAMES_BEFORE_RESET
            raise FrameError("frames that cannot be evaluated: started anew")
        return False

    def _alive(self, at_ns: int) -> list[Alive]:
        second = at_ns // 1_000_000_000  # of the clock; else each second would last a poll longer
        if second == self._alive_second:
            return []
        self._alive_second = second
        return [Alive(at_ns)]
