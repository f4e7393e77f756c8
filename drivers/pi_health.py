"""The board that the gateway runs on: its temperature, its power, what is left of its disk.

All of it stands in small files of the kernel. What a board does not have is not one of its
quantities: no reading, no complaint. A PC has the temperature only.

`throttled` is the firmware's word as one class, the worst of what it says now:

    bit 0  under_voltage      the supply is below 4.63 V: the next thing is a damaged card
    bit 2  throttled          slowed down, by voltage or heat
    bit 1  frequency_capped   kept from its highest speed, usually at 80 degC
    bit 3  temperature_limit  the soft limit, usually at 60 degC
    none   no

Bits 16 to 19 say the same of all the time since boot, for ever; they are not used.

Sources: raspberrypi/linux pull request 2397 (get_throttled, its bits); the kernel's documentation
of thermal zones; JEDEC eMMC 5.0, EXT_CSD 268 and 269 (life time). [K]: the voltage and the
temperatures named above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from . import base
from .base import BusError, Clock, FrameError, Quantity, Reading, Reason
from .files import Files

THERMAL = "/sys/class/thermal"
PLATFORM = "/sys/devices/platform"
BLOCK = "/sys/block"
MODEL = "/sys/firmware/devicetree/base/model"

# What the CPU's own sensor is called: a Pi's, an Intel PC's, other boards'. Zone 0 where none is.
CPU_ZONES = ("cpu-thermal", "x86_pkg_temp", "cpu_thermal", "soc-thermal")

CPU = Quantity("cpu_temperature_c", "Cel", "temperature of the processor", -40.0, 125.0)
THROTTLED = Quantity(
    "throttled",
    "1",
    "what slows the processor down",
    classes=("no", "under_voltage", "frequency_capped", "throttled", "temperature_limit"),
)
DISK_LIFE = Quantity(
    "disk_life_percent",
    "%",
    "what is left of the flash's life: the lower end of the disk's own 10 % step",
    0.0,
    100.0,
)

_WORST_FIRST = (
    (0, "under_voltage"),
    (2, "throttled"),
    (1, "frequency_capped"),
    (3, "temperature_limit"),
)


def cpu_temperature_c(text: str) -> float | Reason:
    """Return degC of a thermal zone's `temp`, thousandths as an integer. Raises FrameError."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text.strip()):
        raise FrameError(f"temp says {text[:40]!r}: not a number")
    value_c = int(text) / 1000
    return value_c if -40.0 <= value_c <= 125.0 else "out_of_range"


def throttled(text: str) -> str:
    """Return the class of `get_throttled`, a hexadecimal number. Raises FrameError."""
    found = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    if found is None:
        raise FrameError(f"get_throttled says {text[:40]!r}: not a hexadecimal number")
    bits = int(found[1], 16)
    return next((name for bit, name in _WORST_FIRST if bits >> bit & 1), "no")


def disk_life_percent(text: str) -> float | None:
    """Return what is left by an eMMC's `life_time`, None if it does not say. Raises FrameError.

    Two estimates, of the fast and the main part of the flash; the worse one counts. 0x01 means
    that up to 10 % is used, 0x0A up to 100 %, 0x0B more than it was made for, 0 nothing.
    """
    found = re.fullmatch(r"0x([0-9a-fA-F]{2}) 0x([0-9a-fA-F]{2})", text.strip())
    worst = max(int(found[1], 16), int(found[2], 16)) if found else 0xFF
    if worst > 0x0B:
        raise FrameError(f"life_time says {text[:40]!r}: not two steps of 0x00 to 0x0B")
    return max(0.0, 100.0 - 10.0 * worst) if worst else None


class PiHealthOptions(base.Options):
    """How often to look."""

    interval_s: float = Field(
        default=10.0, ge=1.0, le=3600.0, description="time between two looks at the board"
    )


class PiHealth:
    """The files of one board. Which of them it has is found out at `open`."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="pi-health",
        title="The gateway's own board: Raspberry Pi, or any Linux computer",
        kind="cabinet",
        bus="system",
        quantities=(CPU, THROTTLED, DISK_LIFE),
        wiring=("Nothing to connect: it is the board that this runs on.",),
        quirks=(
            "What the board does not have gives no reading and no complaint.",
            "throttled is what the firmware says at that moment: a dip of the supply between two "
            "looks is not seen. Bits that remember since boot are not used.",
            "Under-voltage with a good power supply is most often a thin USB cable.",
            "Kernels without get_throttled (the Pi 5's among them) give no `throttled`.",
            "disk_life_percent is an eMMC's own estimate in steps of 10 %; SD cards hardly ever "
            "have one, and NVMe and USB disks are not asked.",
            "On a PC the temperature is the processor package's if there is such a sensor, else "
            "the first one, which may be the board's.",
        ),
        evidence="data sheet only",
        evidence_note="the files' forms from the kernel's sources and published outputs of a Pi "
        "3B+; a board is simulated",
        source="raspberrypi/linux pull request 2397; the kernel's documentation of thermal zones; "
        "JEDEC JESD84-B50 (EXT_CSD 268, 269)",
    )
    Options: ClassVar[type[base.Options]] = PiHealthOptions

    def __init__(self, bus: Files, options: PiHealthOptions, now_ns: Clock) -> None:
        self._bus = bus
        self._now_ns = now_ns
        # Path and decoder of each quantity that the board has.
        self._parts: dict[str, tuple[str, Callable[[str], float | str | None]]] = {}
        self.interval_s = options.interval_s
        self.rate_hz = 1.0 / options.interval_s
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """All three; a board that lacks some never speaks of them."""
        return {quantity.name: quantity for quantity in self.spec.quantities}

    def open(self) -> None:
        """Find out what the board has. Raises BusError if that is nothing."""
        # Not vcgencmd: a new process for each look, and a library that a plain Debian lacks, for
        # the same figure that the kernel shows in a file.
        found = {
            CPU.name: (self._cpu_path(), cpu_temperature_c),
            THROTTLED.name: (self._throttled_path(), throttled),
            DISK_LIFE.name: (self._disk_path(), disk_life_percent),
        }
        self._parts = {name: (path, decode) for name, (path, decode) in found.items() if path}
        if not self._parts:
            raise BusError(
                f"no health to read: neither {THERMAL}/thermal_zone* nor get_throttled below "
                f"{PLATFORM} nor a life_time below {BLOCK}; is /sys mounted and readable?"
            )
        self.identity = (self._text(MODEL) or "").rstrip("\0\n")

    def close(self) -> None:
        """Do nothing."""

    def poll(self) -> Sequence[Reading]:
        """Read each file once. Raises BusError or FrameError where no file gives anything."""
        if not self._parts:
            raise BusError("the board's health is not open")
        at_ns = self._now_ns()
        readings = []
        failed: list[BusError | FrameError] = []
        for name, (path, decode) in self._parts.items():
            reason: Reason | None = None
            value: float | str | None = None
            try:
                value = decode(self._bus.read(path))
                self.frames += 1
            except BusError as exc:
                failed.append(exc)
                reason = "bus_error"
            except FrameError as exc:
                failed.append(FrameError(f"{path}: {exc}"))
                self.frame_errors += 1
                reason = "frame_error"
            if value == "out_of_range":
                value, reason = None, "out_of_range"
            if value is not None or reason is not None:
                readings.append(Reading(name, value, at_ns, (reason,) if reason else ()))
        if len(failed) == len(self._parts):
            raise failed[0]
        return readings

    def _cpu_path(self) -> str | None:
        """Return the file of the processor's zone: the one that is named so, or the first."""
        zones = [name for name in self._bus.names(THERMAL) if name.startswith("thermal_zone")]
        kinds = {(self._text(f"{THERMAL}/{zone}/type") or "").strip(): zone for zone in zones}
        chosen = next((kinds[kind] for kind in CPU_ZONES if kind in kinds), None)
        if chosen is None and zones:
            chosen = min(zones, key=lambda zone: (len(zone), zone))  # zone 2 before zone 10
        return f"{THERMAL}/{chosen}/temp" if chosen else None

    def _throttled_path(self) -> str | None:
        """Return the firmware's file; the folders' names differ from one generation to another."""
        for soc in self._bus.names(PLATFORM):
            if soc.startswith("soc"):
                for node in self._bus.names(f"{PLATFORM}/{soc}"):
                    folder = f"{PLATFORM}/{soc}/{node}"
                    if node.endswith(":firmware") and "get_throttled" in self._bus.names(folder):
                        return f"{folder}/get_throttled"
        return None

    def _disk_path(self) -> str | None:
        """Return the `life_time` of the first eMMC that says something by it."""
        for disk in self._bus.names(BLOCK):
            path = f"{BLOCK}/{disk}/device/life_time"
            if re.fullmatch(r"mmcblk\d+", disk) and (text := self._text(path)) is not None:
                try:
                    if disk_life_percent(text) is not None:
                        return path
                except FrameError:
                    return path  # each poll says so
        return None

    def _text(self, path: str) -> str | None:
        """Return a file's text; None where there is none, or nobody may read it."""
        try:
            return self._bus.read(path)
        except BusError:
            return None
