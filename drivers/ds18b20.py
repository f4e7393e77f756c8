"""DS18B20 thermometers on a 1-Wire bus, as the kernel shows them: air temperature.

The kernel does the talking: to read the file `w1_slave` is to have the thermometer measure, which
takes 750 ms. The file holds the scratchpad as it came and the kernel's verdict on its CRC:

    f4 00 4b 46 7f ff 0c 10 fa : crc=fa YES
    f4 00 4b 46 7f ff 0c 10 fa t=15250

Only the first line is decoded: after a bad CRC the second repeats the last good one. What the
scratchpad says in place of a temperature:

    0550  85 degC, its content after power-up: the conversion failed   bus_error
    07FF  127.9375 degC: no pull-up, or one too weak, on the data wire  bus_error
    all 0, with a CRC that is right: the data wire is shorted           FrameError

Sources: DS18B20 data sheet (scratchpad, CRC, range); drivers/w1/slaves/w1_therm.c of Linux (the
file); cpetrich/counterfeit_DS18B20 (clones). [K]: 127.9375 as the sign of a bad pull-up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from . import base, limits
from .base import BusError, Clock, FrameError, Quantity, Reading, Reason
from .checksums import crc8_maxim
from .files import Files

FOLDER = "/sys/bus/w1/devices"
FAMILY = "28-"
SCRATCHPAD_BYTES = 9

POWER_UP = 0x0550
NO_PULL_UP = 0x07FF

AIR = Quantity(
    *("air_temperature_c", "Cel", "temperature of the air", -55.0, 125.0),
    # `stuck_s` knows how fine the steps are: the coarser ones may well stand still for a day.
    limits=limits.AIR_C._replace(suspect_flat_s=None),
)

_FIRST_LINE = re.compile(r"((?:[0-9a-f]{2} ){9}): crc=([0-9a-f]{2}) (YES|NO)")
_NAME = re.compile(r"28-[0-9a-f]{12}")


def scratchpad(text: str) -> bytes:
    """Return the 9 bytes that `w1_slave` holds. Raises FrameError.

    The CRC is computed again: the kernel's "YES" is a word in a file. Nine zeros have a right CRC
    too, and are what a shorted wire reads as.
    """
    first, _, _ = text.partition("\n")
    found = _FIRST_LINE.match(first)
    if found is None:
        raise FrameError(f"w1_slave says {first[:60]!r}: no scratchpad")
    raw = bytes.fromhex(found[1])
    if found[3] != "YES":
        raise FrameError(
            f"scratchpad {raw.hex(' ')} has a wrong CRC by the kernel's word: "
            "check the length of the cable, its pull-up and its shield"
        )
    if crc8_maxim(raw[:-1]) != raw[-1]:
        raise FrameError(f"scratchpad {raw.hex(' ')} has a wrong CRC")
    if not any(raw):
        raise FrameError("scratchpad is all zeros: the data wire is shorted to ground")
    return raw


def bits(raw: bytes) -> int:
    """Return the resolution that a scratchpad's configuration register sets, 9 to 12 bits."""
    return 9 + ((raw[4] >> 5) & 3)


def temperature_c(raw: bytes) -> float | Reason:
    """Return the temperature in degC of a scratchpad, or why there is none.

    16-bit two's complement, little endian, 1/16 K a step; below 12 bits of resolution the lowest
    bits mean nothing.
    Source: DS18B20 data sheet, temperature/data relationship: 0x07D0 is 125 degC, 0xFC90 -55.
    """
    steps = int.from_bytes(raw[:2], "little", signed=True)
    if steps in (POWER_UP, NO_PULL_UP):
        return "bus_error"
    value_c = (steps & (-1 << (12 - bits(raw)))) / 16
    low_c, high_c = AIR.low, AIR.high
    if low_c is not None and high_c is not None and not low_c <= value_c <= high_c:
        return "out_of_range"
    return value_c


class Ds18b20Options(base.Options):
    """Which thermometer, and how often."""

    id: str | None = Field(
        default=None,
        pattern=r"^28-[0-9a-f]{12}$",
        description='the thermometer\'s name in /sys/bus/w1/devices, such as "28-00000d1efbf6"; '
        "needed where there are several",
    )
    interval_s: float = Field(
        default=10.0,
        ge=2.0,
        le=3600.0,
        description="time between two measurements; each takes 0.75 s and warms the chip a little",
    )
    # At 1/16 K the air outdoors does not stand still for half a day: between noon and midnight
    # the sun, wind or snow move it. Indoors, or buried in melting snow, it may: set 0 there.
    stuck_s: float = Field(
        default=43200.0,
        ge=0.0,
        description="the same answer for so long is no measurement; 0 = never; "
        "not judged below 12 bits",
    )

    def claims(self) -> list[str]:
        """Name the thermometer."""
        return [f"thermometer {self.id}" if self.id else "the bus's only thermometer"]


class Ds18b20:
    """One thermometer on the 1-Wire bus; that bus has a thread of its own, which may wait."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="ds18b20",
        title="Maxim / Analog Devices DS18B20 1-Wire thermometer",
        kind="weather",
        bus="w1",
        quantities=(AIR,),
        header=(
            ("VDD (red)", "pin 1 (3.3 V)"),
            ("DQ (yellow or white)", "pin 7 (GPIO 4), with 4.7 kOhm to 3.3 V"),
            ("GND (black)", "pin 6 (GND)"),
        ),
        wiring=(
            "Add dtoverlay=w1-gpio to config.txt; without it there is no /sys/bus/w1.",
            "One resistor of 4.7 kOhm from data to 3.3 V for the whole bus; the Pi's own pull-up "
            "is too weak.",
            "Give it three wires: with two (parasite power) it fails in the cold and on long "
            "cables.",
            "Run the cable as one line past all thermometers, not as a star.",
            "For air, hang it in a ventilated shield, out of the sun and away from the cabinet.",
        ),
        quirks=(
            "A reading takes 750 ms, in which the 1-Wire bus does nothing else; other buses do "
            "not wait.",
            "Exactly 85 degC is what it holds after power-up: its supply broke in while it "
            "measured. It is no value here, and no temperature of Sapporo's air.",
            "127.9375 degC is the sign of a missing or weak pull-up, and no value.",
            "A shorted data wire reads as zeros with a valid checksum: it is refused, not read "
            "as 0 degC.",
            "Counterfeits are common. Maxim's own have names that begin with 28-0000; others "
            "(28-ff64..., 28-...0b) are clones, which may be off by a degree or more, not work "
            "with two wires, or forget their settings. `identity` says so.",
            "Unplugged, it keeps its folder for some seconds; readings fail meanwhile.",
        ),
        checksum="CRC-8/MAXIM",
        evidence="vendor vectors",
        evidence_note="the CRC on Maxim's example, the decoding on the data sheet's table and on "
        "some w1_slave files that owners of genuine parts have published; never beside another "
        "thermometer",
        source="DS18B20 data sheet 19-7487; drivers/w1/slaves/w1_therm.c of Linux",
    )
    Options: ClassVar[type[base.Options]] = Ds18b20Options

    def __init__(self, bus: Files, options: Ds18b20Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._stillness = base.Stillness(options.stuck_s)
        self._name: str | None = None
        self.interval_s = options.interval_s
        self.rate_hz = 1.0 / options.interval_s
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The temperature."""
        return {AIR.name: AIR}

    def open(self) -> None:
        """Find the thermometer. Raises BusError.

        It is not read: that would cost 750 ms, and the first poll comes now.
        """
        self._name = None
        self.identity = ""
        self._stillness.forget()
        present = [name for name in self._bus.names(FOLDER) if _NAME.fullmatch(name)]
        wanted = self._options.id
        if wanted is None and len(present) > 1:
            raise BusError(f"several thermometers: {', '.join(present)}: set option id to one")
        if not present:
            raise BusError(
                f"no {wanted or FAMILY + '*'} in {FOLDER}: check dtoverlay=w1-gpio in config.txt, "
                "power, the data wire and its 4.7 kOhm pull-up"
            )
        if wanted is not None and wanted not in present:
            raise BusError(f"no {wanted} in {FOLDER}; there is {', '.join(present)}")
        self._name = wanted or present[0]
        self.identity = self._name
        if not self._name.startswith("28-0000"):
            self.identity += " (not a serial number of Maxim's: perhaps a clone)"

    def close(self) -> None:
        """Do nothing: the kernel keeps the bus."""

    def poll(self) -> Sequence[Reading]:
        """Measure once. Raises BusError or FrameError."""
        if self._name is None:
            raise BusError("the thermometer is not open")
        at_ns = self._now_ns()
        text = self._bus.read(f"{FOLDER}/{self._name}/w1_slave")
        try:
            raw = scratchpad(text)
        except FrameError as exc:
            self.frame_errors += 1
            raise FrameError(f"{self._name}: {exc}") from exc
        self.frames += 1
        value = temperature_c(raw)
        is_still = self._stillness.lasts(raw[:2], at_ns)
        if isinstance(value, str):
            return [Reading(AIR.name, None, at_ns, (value,))]
        if is_still and bits(raw) == 12:  # coarser steps do stand still for a day
            return [Reading(AIR.name, None, at_ns, ("stuck",))]
        return [Reading(AIR.name, value, at_ns)]
