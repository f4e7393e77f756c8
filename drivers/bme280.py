"""Bosch BME280: air temperature, humidity and pressure; and its brother BMP280, without humidity.

One conversion a poll, in forced mode: it is started at the end of a poll and taken at the next, so
that nobody waits and the chip does not warm itself. Its readings carry the time of their start.

The chip forgets its settings with its power; then it says "skipped", which is no value. Each poll
reads the settings in the same transaction as the values, and starts afresh when they are gone.

From general knowledge, not from a source at hand: the other chips' identities, the drift in lasting
damp, how long cables may be.

Sources: Bosch BST-BME280-DS002 and BST-BMP280-DS001 (registers, calibration, compensation in
double precision).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from . import base, limits
from .base import (
    BusError,
    Clock,
    Found,
    FrameError,
    IdentityError,
    Observation,
    Quantity,
    Reading,
    Stillness,
    Trouble,
)
from .buses import I2cBus
from .humidity import dew_point_c

CHIP_ID = b"\xd0"
CALIBRATION_LOW, CALIBRATION_LOW_BYTES = b"\x88", 26  # T1 to H1
CALIBRATION_HIGH, CALIBRATION_HIGH_BYTES = b"\xe1", 7  # H2 to H6
CONTROL_HUMIDITY, CONTROL_MEASURE, CONFIG = 0xF2, 0xF4, 0xF5
BLOCK, BLOCK_BYTES = b"\xf2", 13  # F2 settings, F3 status, F4, F5 settings, F6, F7.. values

MEASURING, COPYING = 0b1000, 0b0001  # bits of the status
ONCE_OVERSAMPLED = 0b001
ALL_ONCE = ONCE_OVERSAMPLED << 5 | ONCE_OVERSAMPLED << 2  # temperature, pressure
SLEEP, FORCED = 0b00, 0b01

SKIPPED, HUMIDITY_SKIPPED = 0x80000, 0x8000

CONVERSION_S = 0.0093  # at most, one sample of each; DS002 appendix B
STARTS_MAX_S = 0.5  # a conversion that is not over by then never will be

CHIPS = {
    0x60: "BME280",
    0x58: "BMP280",
    0x57: "BMP280 (sample)",
    0x56: "BMP280 (sample)",
    0x61: "BME680",  # [K], as the two below
    0x55: "BMP180",
    0x50: "BMP388",
}
IDS = {"bme280": (0x60,), "bmp280": (0x58, 0x57, 0x56)}

TEMPERATURE = Quantity(
    "air_temperature_c", "Cel", "air temperature", -40.0, 85.0, limits=limits.AIR_C
)
HUMIDITY = Quantity(
    *("humidity_percent", "%", "relative humidity over water", 0.0, 100.0),
    limits=limits.HUMIDITY_PERCENT,
)
PRESSURE = Quantity(
    *("pressure_hpa", "hPa", "air pressure at the sensor, not at sea level", 300.0, 1100.0),
    limits=limits.PRESSURE_HPA,
)
DEW_POINT = Quantity(
    *("dew_point_c", "Cel", "dew point over water, computed", -80.0, 85.0),
    limits=limits.DEW_POINT_C,
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the factory found out about one chip; names and order as in the data sheet."""

    t: tuple[int, ...]  # T1 T2 T3
    p: tuple[int, ...]  # P1 to P9
    h: tuple[int, ...]  # H1 to H6; empty: a BMP280


@dataclass(frozen=True, slots=True)
class Sample:
    """Three numbers of the converter."""

    pressure: int  # 20 bits
    temperature: int  # 20 bits
    humidity: int  # 16 bits


def decode_calibration(low: bytes, high: bytes = b"") -> Calibration:
    """Return the calibration in registers 88h..A1h and E1h..E7h (`high`; b"" for a BMP280).

    Raises FrameError for wrong lengths, and if T1 or P1 is zero or all words are ones: what a chip
    without power, or none, says. Source: DS002, table 16: H4 and H5 share register E5h.
    """
    if len(low) != CALIBRATION_LOW_BYTES or len(high) not in (0, CALIBRATION_HIGH_BYTES):
        raise FrameError(f"a calibration of {len(low)} and {len(high)} bytes")
    words = struct.unpack("<H2hH8h", low[:24])
    if words[0] == 0 or words[3] == 0 or low == b"\xff" * len(low):
        raise FrameError("an empty calibration: the chip is starting, or broken")
    if not high:
        return Calibration(words[:3], words[3:], ())
    h2, h3, e4, e5, e6, h6 = struct.unpack("<hBbBbb", high)
    return Calibration(
        words[:3], words[3:], (low[25], h2, h3, e4 << 4 | e5 & 0x0F, e6 << 4 | e5 >> 4, h6)
    )


def decode_sample(registers: bytes) -> Sample:
    """Return what registers F7h..FEh hold; eight bytes, the high ones first."""
    pressure = int.from_bytes(registers[0:3], "big") >> 4
    temperature = int.from_bytes(registers[3:6], "big") >> 4
    return Sample(pressure, temperature, int.from_bytes(registers[6:8], "big"))


def fine_temperature(raw: int, cal: Calibration) -> float:
    """Return the temperature in 1/5120 degC for the 20-bit `raw`; source: DS002, 4.2.3."""
    t1, t2, t3 = cal.t
    linear = (raw / 16384 - t1 / 1024) * t2
    return linear + (raw / 131072 - t1 / 8192) ** 2 * t3


def temperature_c(raw: int, cal: Calibration) -> float | None:
    """Return the air temperature in degC, None if it was skipped (80000h).

    Source: DS002, 4.2.3; Bosch's example is 519888 -> 25.08 degC.
    """
    return None if raw == SKIPPED else fine_temperature(raw, cal) / 5120


def pressure_pa(raw: int, fine: float, cal: Calibration) -> float | None:
    """Return the pressure in Pa, None if it was skipped (80000h) or divides by zero.

    `fine` is the fine temperature. Source: DS002, 4.2.3; Bosch's example is 415148 -> 100653.27.
    """
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = cal.p
    offset = fine / 2 - 64000
    slope = (1 + (p3 * offset * offset / 524288 + p2 * offset) / 524288 / 32768) * p1
    if raw == SKIPPED or slope == 0:
        return None
    base_level = (offset * offset * p6 / 32768 + offset * p5 * 2) / 4 + p4 * 65536
    pressure = (1048576 - raw - base_level / 4096) * 6250 / slope
    curve = p9 * pressure * pressure / 2147483648 + pressure * p8 / 32768
    return pressure + (curve + p7) / 16


def humidity_percent(raw: int, fine: float, cal: Calibration) -> float | None:
    """Return the relative humidity in %, 0 to 100, None if it was skipped (8000h).

    `fine` is the fine temperature. Source: DS002, 4.2.3, which cuts at both ends.
    """
    if raw == HUMIDITY_SKIPPED:
        return None
    h1, h2, h3, h4, h5, h6 = cal.h
    warmth = fine - 76800
    gain = h2 / 65536 * (1 + h6 / 67108864 * warmth * (1 + h3 / 67108864 * warmth))
    humidity = (raw - (h4 * 64 + h5 / 16384 * warmth)) * gain
    return min(max(humidity * (1 - h1 * humidity / 524288), 0.0), 100.0)


def is_sayable(value: float, quantity: Quantity) -> bool:
    """Tell whether a value lies within what the quantity can be."""
    return (quantity.low is None or value >= quantity.low) and (
        quantity.high is None or value <= quantity.high
    )


class Bme280Options(base.Options):
    """Which chip, and where."""

    address: Literal[0x76, 0x77] = Field(
        default=0x76, description="I2C address: 0x76 (118) SDO low, 0x77 (119) SDO high"
    )
    chip: Literal["bme280", "bmp280"] = Field(
        default="bme280", description="bmp280 has no humidity, and is often sold as a bme280"
    )
    stuck_s: float = Field(
        # The last digits of three converters tremble by several steps each second.
        default=1800.0,
        ge=0.0,
        description="seconds after which identical answers are no values; 0 = never",
    )

    def claims(self) -> list[str]:
        """Name the address."""
        return [f"i2c address 0x{self.address:02x}"]


class Bme280:
    """The chip on its bus, asleep between two conversions."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="bme280",
        title="Bosch BME280, BMP280",
        kind="weather",
        bus="i2c",
        quantities=(TEMPERATURE, HUMIDITY, PRESSURE, DEW_POINT),
        header=(
            ("VIN (VCC)", "pin 1 (3.3 V)"),
            ("GND", "pin 6 (GND)"),
            ("SDA (SDI)", "pin 3 (GPIO 2)"),
            ("SCL (SCK)", "pin 5 (GPIO 3)"),
            ("CSB", "pin 1 (3.3 V), where the board has it: low would choose SPI"),
        ),
        wiring=(
            "The chip is for 3.3 V; only boards with a regulator take 5 V.",
            "SDO to ground gives 0x76, to 3.3 V gives 0x77; many boards decide it with a jumper.",
            "Mount it outside the cabinet, in a ventilated shield, out of the sun: near the Pi it "
            "measures the Pi.",
            "Keep I2C cables below a metre; water on the chip reads as 100 % until it has dried.",
        ),
        quirks=(
            "Boards sold as BME280 often carry a BMP280, which has no humidity: the driver says so "
            'at once; set chip = "bmp280" to use it as it is.',
            "Pressure is that of the place, not reduced to sea level.",
            "Humidity and dew point are over water, also below freezing; frost point would be "
            "higher.",
            "A reading is one poll old: the conversion is started at the end of the poll before.",
            "After weeks above 80 % humidity it reads up to 3 % too high until it has dried.",
        ),
        checksum="",
        evidence="vendor vectors",
        evidence_note=(
            "Bosch's worked example for temperature and pressure (25.08 degC, 100653.27 Pa); "
            "Bosch publishes none for humidity. All three also against the Python library "
            "RPi.bme280 and Bosch's integer formulas, over the whole range."
        ),
        source="Bosch BST-BME280-DS002, BST-BMP280-DS001; WMO-No. 8 (dew point)",
        addresses=(0x76, 0x77),
    )
    Options: ClassVar[type[base.Options]] = Bme280Options

    interval_s = 1.0
    rate_hz = 1.0

    def __init__(self, bus: I2cBus, options: Bme280Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._has_humidity = options.chip == "bme280"
        self._stillness = Stillness(options.stuck_s)
        self._calibration: Calibration | None = None
        self._started_ns = 0  # the conversion under way
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """Four, or temperature and pressure only of a BMP280."""
        both = (TEMPERATURE, PRESSURE)
        known = (*both, HUMIDITY, DEW_POINT) if self._has_humidity else both
        return {quantity.name: quantity for quantity in known}

    @classmethod
    def recognise(cls, bus: Any, address: int) -> Found | None:
        """Say whether a BME280 or BMP280 answers at `address`, by its chip id."""
        chip_id = bus.read(address, CHIP_ID, 1)[0]
        for chip, ids in IDS.items():
            if chip_id in ids:
                what = f"{CHIPS[chip_id]} (chip id 0x{chip_id:02x})"
                return Found(what, {"address": address, "chip": chip})
        return None

    def open(self) -> None:
        """Check the chip, read its calibration, start it. Raises IdentityError or FrameError."""
        self._stillness.forget()
        self._identify()
        high = b""
        low = self._read(CALIBRATION_LOW, CALIBRATION_LOW_BYTES)
        if self._has_humidity:
            high = self._read(CALIBRATION_HIGH, CALIBRATION_HIGH_BYTES)
        try:
            self._calibration = decode_calibration(low, high)
        except FrameError:
            self.frame_errors += 1
            raise
        self._start_afresh()

    def poll(self) -> Sequence[Observation]:
        """Take the conversion that the last poll started, start the next.

        Raises BusError or FrameError.
        """
        at_ns = self._now_ns()
        if self._calibration is None:
            self.open()
        age_s = (at_ns - self._started_ns) / 1e9
        if age_s < CONVERSION_S:
            return [Trouble("warmup", at_ns)]
        block = self._read(BLOCK, BLOCK_BYTES)
        if block[1] & (MEASURING | COPYING) and age_s < STARTS_MAX_S:
            return [Trouble("warmup", at_ns)]
        self._check(block)
        measured_ns = self._started_ns
        self._start()
        self.frames += 1
        # A BMP280 has nothing behind its sixth byte.
        sample = block[5:13] if self._has_humidity else block[5:11]
        if self._stillness.lasts(sample, at_ns):
            return [Reading(name, None, measured_ns, ("stuck",)) for name in self.quantities]
        return self._readings(decode_sample(sample), measured_ns)

    def close(self) -> None:
        """Do nothing: it sleeps by itself."""

    def _identify(self) -> None:
        self.identity = self._options.chip.upper()
        try:
            chip_id = self._read(CHIP_ID, 1)[0]
        except BusError:  # nobody there, which the next read says; or a recording without it
            return
        name = CHIPS.get(chip_id, "an unknown chip")
        self.identity = f"{name} (chip id 0x{chip_id:02x})"
        if chip_id in IDS[self._options.chip]:
            return
        advice = "check the board and its address"
        for chip, ids in IDS.items():
            if chip_id in ids:
                advice = f'set chip = "{chip}", or replace the board'
        raise IdentityError(
            f"0x{self._options.address:02x}: {self.identity} answers, not a "
            f"{self._options.chip.upper()}: {advice}"
        )

    def _start_afresh(self) -> None:
        """Write the settings, read them back, start a conversion."""
        self._set(CONTROL_MEASURE, SLEEP)  # CONFIG is only taken while it sleeps
        self._set(CONFIG, 0)  # no filter
        if self._has_humidity:
            self._set(CONTROL_HUMIDITY, ONCE_OVERSAMPLED)  # counts from the next F4 on
        self._set(CONTROL_MEASURE, ALL_ONCE | SLEEP)
        block = b""
        with suppress(BusError):  # a recording need not hold it
            block = self._read(BLOCK, BLOCK_BYTES)
        if block:
            self._check_settings(block, "wrote settings, and read back")
        self._start()

    def _start(self) -> None:
        self._set(CONTROL_MEASURE, ALL_ONCE | FORCED)
        self._started_ns = self._now_ns()

    def _check(self, block: bytes) -> None:
        """Make sure that `block` holds the conversion that was started; else start afresh."""
        try:
            self._check_settings(block, "settings are gone (was it without power?):")
            if block[1] & (MEASURING | COPYING):
                self.frame_errors += 1
                raise FrameError(f"a conversion goes on for ever: status {block[1]:02X}h")
        except FrameError:
            self._start_afresh()
            raise

    def _check_settings(self, block: bytes, what: str) -> None:
        humidity = block[0] & 0b111 if self._has_humidity else ONCE_OVERSAMPLED
        if humidity != ONCE_OVERSAMPLED or block[2] & 0xFC != ALL_ONCE or block[3] & 0xFC:
            self.frame_errors += 1
            raise FrameError(
                f"{what} F2 {block[0]:02X}h, F4 {block[2]:02X}h, F5 {block[3]:02X}h in place of "
                f"{ONCE_OVERSAMPLED:02X}h, {ALL_ONCE:02X}h, 00h"
            )

    def _readings(self, sample: Sample, at_ns: int) -> list[Observation]:
        cal = self._calibration
        if cal is None:
            return []
        air_c = temperature_c(sample.temperature, cal)
        values: dict[str, float | None] = dict.fromkeys(self.quantities)
        values[TEMPERATURE.name] = air_c
        if air_c is not None:  # the other two are compensated by it
            fine = fine_temperature(sample.temperature, cal)
            pascal = pressure_pa(sample.pressure, fine, cal)
            values[PRESSURE.name] = None if pascal is None else pascal / 100
            if self._has_humidity:
                humidity = humidity_percent(sample.humidity, fine, cal)
                values[HUMIDITY.name] = humidity
                if humidity is not None:
                    values[DEW_POINT.name] = dew_point_c(air_c, humidity)
        return [self._reading(name, value, at_ns) for name, value in values.items()]

    def _reading(self, name: str, value: float | None, at_ns: int) -> Reading:
        quantity = self.quantities[name]
        if value is None or not is_sayable(value, quantity):
            return Reading(name, None, at_ns, ("out_of_range",))
        return Reading(name, value, at_ns)

    def _read(self, register: bytes, length: int) -> bytes:
        answer = self._bus.read(self._options.address, register, length)
        if len(answer) != length:
            self.frame_errors += 1
            raise FrameError(
                f"{len(answer)} bytes in place of {length} from register {register.hex()}h"
            )
        return answer

    def _set(self, register: int, value: int) -> None:
        self._bus.write(self._options.address, bytes((register, value)))
