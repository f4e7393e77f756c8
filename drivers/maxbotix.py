"""MaxBotix HRXL-MaxSonar ultrasonic rangers looking down at snow (MB7334 and its family).

The sensor talks unasked, six to seven times a second: "R", four digits of millimetres, CR. There
is no checksum, so only exactly that is a frame; the 0xFF that some units slip in and the banner
at power-up are not. The sensor corrects the speed of sound with its own thermometer: correcting
it again would be wrong.

Sources: HRXL-MaxSonar-WRS data sheet (range, "no target", minimum); hrxl_maxsonar_wr of ESPHome
(the stray 0xFF); matthewwall/weewx-maxbotix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from . import base
from .base import BusError, LineSettings, Quantity, Reading, Reason
from .buses import SerialPort
from .depth import MountedOptions, Overhead, depth, distance
from .framing import LineFramer

# What the sensor says when nothing comes back, by its range; nothing above it can be said.
NO_TARGET_MM = {5: 5000, 10: 9999}
SILENCE_S = 10.0
READ_TIMEOUT_S = 0.2  # one frame's time: there is nearly always something to take

_FRAME = re.compile(rb"R(\d{4})")

DISTANCE = distance(30.0, 999.8, "distance to the surface below")
DEPTH = depth(999.8)


def distance_mm(line: bytes) -> int | None:
    """Return the millimetres in a line without its CR, or None if it is not a frame."""
    match = _FRAME.fullmatch(line)
    return int(match[1]) if match else None


def invalid_because(distance: int, *, min_mm: float, no_target_mm: int) -> Reason | None:
    """Return why `distance`, in mm, is no measurement, or None if it is one.

    Anything nearer than the minimum is reported as the minimum: a branch, a spider's web, a
    drift up to the sensor.
    """
    if distance <= min_mm:
        return "obstructed"
    if distance == no_target_mm:
        return "weak_signal"
    return "out_of_range" if distance > no_target_mm else None


class MaxBotixOptions(MountedOptions):
    """How the sensor is mounted, and which one it is."""

    range_m: Literal[5, 10] = Field(default=5, description="range of the model, 5 or 10")
    min_cm: float = Field(
        default=50.0, ge=0.0, description="values up to this are 'too close': 50 for WRS, 30 for WR"
    )
    # A millimetre is coarse and the sensor's own filter strong: a calm night repeats itself, but
    # not for hours, because the air's temperature moves the reading by more.
    stuck_s: float = Field(
        default=21600.0,
        ge=0.0,
        description="the same distance for so long is no measurement any more; 0 = never",
    )
    rate_hz: float = Field(default=6.0, gt=0.0, description="frames a second, nominally")


class MaxBotix:
    """A free-running ranger: each poll takes what it said since the last.

    All frames taken at once carry the time of the taking, at most one interval after they were
    said: far finer than a window, and more honest than times made up from a nominal rate.
    """

    spec: ClassVar[base.Spec] = base.Spec(
        name="maxbotix-hrxl",
        title="MaxBotix HRXL-MaxSonar WRS and WR",
        kind="snow",
        bus="serial",
        quantities=(DISTANCE, DEPTH),
        header=(
            ("TX (pin 5), TTL variant", "pin 10 (GPIO 15, RXD)"),
            ("V+ (pin 6)", "pin 1 (3.3 V) for TTL on the header; 5 V only with an adapter"),
            ("GND (pin 7)", "pin 6 (ground)"),
        ),
        wiring=(
            "RS-232 variants give inverted levels: use an RS-232 adapter, never a bare UART pin.",
            "TTL variants go to a 3.3 V UART only when powered from 3.3 V.",
            "Mount it level over flat ground, the beam free of poles and walls.",
        ),
        quirks=(
            "The greatest number means that nothing came back, not that far away: it is no value.",
            "Anything nearer than the minimum is reported as the minimum: it is no value.",
            "Some units slip a byte 0xFF in, and all print a banner at power-up: both are counted "
            "as strange lines and dropped.",
            "It corrects the speed of sound with its own thermometer, which the sun heats: a shade "
            "helps, a second correction would be wrong and is not made.",
        ),
        evidence="data sheet only",
        evidence_note="no recorded bytes were found; frames from the data sheet, faults injected",
        source="MaxBotix HRXL-MaxSonar-WRS data sheet",
        line=LineSettings(9600),
        talks=True,
        example={"mount_height_cm": 350.0},
    )
    Options: ClassVar[type[base.Options]] = MaxBotixOptions

    interval_s = 1.0

    def __init__(
        self, bus: SerialPort, options: MaxBotixOptions, now_ns: Callable[[], int]
    ) -> None:
        self._bus = bus
        self._options = options
        self._overhead = Overhead(DISTANCE, DEPTH, options)
        self._now_ns = now_ns
        self._framer = LineFramer(end=b"\r", max_bytes=64)
        self._heard_ns: int | None = None
        self._strange_lines = 0
        self._stillness = base.Stillness(options.stuck_s)
        self.rate_hz = options.rate_hz
        self.frames = 0
        self.frame_errors = 0  # lines that were no frame
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The distance, and the depth where the mounting height is known."""
        return self._overhead.quantities

    def open(self) -> None:
        """Start to count silence: the sensor needs nothing."""
        self._heard_ns = self._now_ns()
        self._stillness.forget()

    def close(self) -> None:
        """Do nothing: the sensor goes on by itself."""

    def poll(self) -> Sequence[base.Observation]:
        """Return what was measured since the last poll, often several of each quantity.

        Raises BusError after ten seconds without a byte, so that the port is opened anew.
        """
        at_boot_ns = self._now_ns()
        if self._heard_ns is None:
            self._heard_ns = at_boot_ns
        chunk = self._bus.read(READ_TIMEOUT_S)
        if chunk:
            self._heard_ns = at_boot_ns
        elif at_boot_ns - self._heard_ns > SILENCE_S * 1e9:
            silent_s = (at_boot_ns - self._heard_ns) / 1e9
            raise BusError(
                f"no byte for {silent_s:.0f} s: check the sensor's power, its TX wire, "
                "and whether the adapter is RS-232 or TTL as the sensor is"
            )
        return self.feed(chunk, at_boot_ns)

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        """Decode the frames that `chunk` completes."""
        found: list[Reading] = []
        for line in self._framer.feed(chunk):
            said_mm = distance_mm(line)
            if said_mm is None:
                self._strange_lines += 1
                continue
            self.frames += 1
            found += self._readings(said_mm, at_boot_ns)
        self.frame_errors = self._strange_lines + self._framer.overlong
        return found

    def _readings(self, said_mm: int, at_boot_ns: int) -> list[Reading]:
        reason = invalid_because(
            said_mm,
            min_mm=self._options.min_cm * 10,
            no_target_mm=NO_TARGET_MM[self._options.range_m],
        )
        # A sensor without an echo repeats itself rightly.
        if reason is None and self._stillness.lasts(said_mm, at_boot_ns):
            reason = "stuck"
        if reason is not None:
            return self._overhead.nothing(reason, at_boot_ns)
        return self._overhead.measured(said_mm / 10, at_boot_ns)
