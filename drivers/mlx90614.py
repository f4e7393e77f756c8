"""Melexis MLX90614: the temperature of the road's surface, by its infrared radiation.

Every word carries a PEC, and the PEC is always checked: the Pi's I2C controller mishandles the
clock stretching of this sensor and a word that slipped by a bit looks like a temperature.

The sensor corrects for the emissivity that stands in its EEPROM, 1.0 from the factory. That cell
wears out and a slip there outlasts the gateway, so by default it is only read, and the emissivity
of the options is applied to what the sensor says. Written is it only with `set_emissivity`, if it
differs, and not more than WRITES_MAX times in the life of a driver.

From general knowledge, not from a source at hand: the identity's cells, the fields of view, which
parts are for 3.3 V, the accuracy below 0 degC.

Sources: Melexis MLX90614 data sheet 3901090614 (commands, scale, error flag) and application note
"SMBus communication with MLX90614" 390119061402 (erase, write, 5 ms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    Warmup,
)
from .buses import I2cBus
from .checksums import crc8_smbus

AMBIENT, OBJECT = 0x06, 0x07  # RAM
EMISSIVITY = 0x24  # EEPROM
IDENTITY = (0x3C, 0x3D, 0x3E, 0x3F)  # EEPROM; [K]

ERROR_FLAG = 0x8000
KELVIN_STEP = 0.02
ZERO_C_K = 273.15

EEPROM_WRITE_S = 0.010  # 5 ms by the application note; TI's users saw zeros for nearly 10
WRITES_MAX = 3
LEAST_EMISSIVITY = 0.1  # below it the sensor's own sum makes no sense: an erased cell

SURFACE_RANGE_C = (-70.01, 382.19)
SENSOR_RANGE_C = (-40.0, 125.0)
SURFACE = Quantity(
    *("surface_temperature_c", "Cel", "temperature of the surface looked at", *SURFACE_RANGE_C),
    limits=limits.SURFACE_C,
)
SENSOR = Quantity(
    *("sensor_temperature_c", "Cel", "temperature of the sensor itself", *SENSOR_RANGE_C),
    limits=limits.HOUSING_C,
)


def decode_word(address: int, command: int, answer: bytes) -> int:
    """Return the 16-bit word in `answer`: LSB, MSB, PEC.

    Raises FrameError unless there are three bytes and the PEC over both addresses, command and
    word is right. Source: 390119061402; D2 3A 30 is word 3AD2h for command 07h at 5Ah.
    """
    if len(answer) != 3:
        raise FrameError(f"{len(answer)} bytes in place of 3 for command {command:02X}h")
    expected = crc8_smbus(bytes((address << 1, command, address << 1 | 1)) + answer[:2])
    if answer[2] != expected:
        raise FrameError(f"PEC {answer[2]:02X}h in place of {expected:02X}h")
    return int.from_bytes(answer[:2], "little")


def write_message(address: int, command: int, word: int) -> bytes:
    """Return the bytes that write `word`, their PEC included; 22h, C807h at 5Ah ends with 48h."""
    message = bytes((command,)) + word.to_bytes(2, "little")
    return message + bytes((crc8_smbus(bytes((address << 1,)) + message),))


def temperature_c(raw: int) -> float | None:
    """Return the temperature in degC of a RAM word, None if the sensor flags an error (bit 15).

    Source: data sheet, 0.02 K a step from 0 K; 3AD2h is 28.01 degC.
    """
    return None if raw & ERROR_FLAG else raw * KELVIN_STEP - ZERO_C_K


def emissivity_word(emissivity: float) -> int:
    """Return the EEPROM cell for an emissivity of 0.1 to 1; 1.0 is FFFFh."""
    return round(emissivity * 0xFFFF)


def is_same(cell: int, emissivity: float) -> bool:
    """Tell whether a cell holds an emissivity, as near as any programmer rounds it."""
    return abs(cell / 0xFFFF - emissivity) < 0.0005


def seen_with(
    surface_c: float, sensor_c: float, *, emissivity: float, assumed_emissivity: float
) -> float:
    """Return the temperature of a surface of `emissivity`, degC.

    `surface_c` is what the sensor says while it assumes another emissivity. What is not emitted
    is reflected, and comes from surroundings at the sensor's own temperature: the sensor's own
    model (Stefan-Boltzmann). Under a clear, colder sky the true value is a little higher.
    """
    surface_k4 = (surface_c + ZERO_C_K) ** 4
    surroundings_k4 = (sensor_c + ZERO_C_K) ** 4
    corrected_k4 = (
        assumed_emissivity * surface_k4 + (emissivity - assumed_emissivity) * surroundings_k4
    ) / emissivity
    return float(max(corrected_k4, 0.0) ** 0.25) - ZERO_C_K


class Mlx90614Options(base.Options):
    """What the sensor looks at."""

    address: int = Field(
        default=0x5A, ge=0x08, le=0x77, description="I2C address, 0x5A (90) from the factory"
    )
    emissivity: float = Field(
        default=0.95,
        ge=LEAST_EMISSIVITY,
        le=1.0,
        description="of the surface: asphalt 0.95, ice or wet 0.97, snow 0.98",
    )
    set_emissivity: bool = Field(
        default=False,
        description="write it into the sensor's EEPROM if another is there (else: only computed)",
    )
    warmup_s: float = Field(default=0.25, ge=0.0, description="seconds until the first value")
    stuck_s: float = Field(
        # Two words of 0.02 K, with a noise of several steps: an hour of equal pairs is no road.
        default=3600.0,
        ge=0.0,
        description="seconds after which identical answers are no values; 0 = never",
    )

    def claims(self) -> list[str]:
        """Name the address."""
        return [f"i2c address 0x{self.address:02x}"]


class Mlx90614:
    """The sensor on its bus; the first zone only, of those with two."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="mlx90614",
        title="Melexis MLX90614 (GY-906 and other boards)",
        kind="road",
        bus="i2c",
        quantities=(SURFACE, SENSOR),
        header=(
            ("VDD", "pin 1 (3.3 V)"),
            ("GND", "pin 6 (GND)"),
            ("SDA", "pin 3 (GPIO 2)"),
            ("SCL", "pin 5 (GPIO 3)"),
        ),
        wiring=(
            "Only parts with a B in their name (MLX90614xBx) are for 3.3 V; xAx wants 5 V and a "
            "level shifter.",
            "SMBus: 10 to 100 kHz, never 400; set dtparam=i2c_arm_baudrate=50000 if words are "
            "damaged.",
            "The spot is as wide as the field of view says: 90 degrees (xxA) see a circle twice "
            "as wide as the sensor is high; take xxC (35) or xxI (5) on a mast.",
            "Shield the can from wind and sun: it measures against its own temperature.",
        ),
        quirks=(
            "It stretches the clock, which the Pi's I2C controller (all before the Pi 5) handles "
            "wrongly: lower the bus speed, or use dtoverlay=i2c-gpio; damaged words are dropped "
            "by their PEC.",
            "Accurate to 0.5 K only between 0 and 50 degC; below, the data sheet allows 1 K and "
            "more.",
            "It leaves the factory with emissivity 1.0. The option `emissivity` is computed into "
            "the values; set_emissivity = true writes it to the EEPROM instead, once, and only if "
            "it differs.",
            "After set_emissivity switch the sensor's power off and on: the maker recommends it. "
            "The maker's note also rescales the cell 2Fh, which is locked and not written here: "
            "compare with a contact thermometer.",
            "A window that is iced up or dirty reads as the sensor's own temperature: compare the "
            "two, and with the air's.",
            "An error flag (bit 15) is out_of_range, not a value.",
        ),
        checksum="CRC-8/SMBUS (PEC)",
        evidence="vendor vectors",
        evidence_note=(
            "Seven words with their PEC and temperatures (data sheet, and the tests of the "
            "mlx9061x crate), a write's PEC. The correction for emissivity is the physics of the "
            "maker's note, not compared with a sensor."
        ),
        source="Melexis 3901090614 (data sheet), 390119061402 (SMBus communication)",
        addresses=(0x5A,),
    )
    Options: ClassVar[type[base.Options]] = Mlx90614Options

    interval_s = 1.0
    rate_hz = 1.0

    def __init__(self, bus: I2cBus, options: Mlx90614Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._warmup = Warmup(options.warmup_s)
        self._stillness = Stillness(options.stuck_s)
        self._assumed = options.emissivity  # by the sensor
        self._writing: Literal["", "erased", "written"] = ""
        self._written_ns = 0
        self._writes = 0
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The surface's temperature and the sensor's own."""
        return {SURFACE.name: SURFACE, SENSOR.name: SENSOR}

    @classmethod
    def recognise(cls, bus: Any, address: int) -> Found | None:
        """Say whether words with a right PEC come from `address`, as from no other device."""
        try:
            emissivity = decode_word(
                address, EMISSIVITY, bus.read(address, bytes((EMISSIVITY,)), 3)
            )
            decode_word(address, AMBIENT, bus.read(address, bytes((AMBIENT,)), 3))
        except FrameError:
            return None
        return Found(
            f"MLX90614 (set to emissivity {emissivity / 0xFFFF:.3f})", {"address": address}
        )

    def open(self) -> None:
        """Ask for emissivity and identity. Raises BusError, IdentityError or FrameError.

        With `set_emissivity` this begins to write; the next polls go on with it.
        """
        self._writing = ""
        self._warmup.restart(self._now_ns())
        self._stillness.forget()
        try:
            found = self._read_identity(EMISSIVITY)
        except IdentityError:
            raise
        except BusError:
            self._read(AMBIENT)  # nobody there? else a recording without EEPROM
            self._assumed = self._options.emissivity
            self.identity = "MLX90614"
            return
        self._note_emissivity(found)
        differs = not is_same(found, self._options.emissivity)
        if self._options.set_emissivity and differs and self._writes < WRITES_MAX:
            self._writes += 1
            self._write(0)
            self._writing = "erased"

    def poll(self) -> Sequence[Observation]:
        """Read both temperatures. Raises BusError or FrameError."""
        at_ns = self._now_ns()
        if self._writing:
            self._go_on_writing(at_ns)
            return [Trouble("warmup", at_ns)]
        if not self._warmup.is_over(at_ns):
            return [Trouble("warmup", at_ns)]
        surface = self._read(OBJECT)
        sensor = self._read(AMBIENT)
        self.frames += 1
        if self._stillness.lasts((surface, sensor), at_ns):
            return [Reading(name, None, at_ns, ("stuck",)) for name in self.quantities]
        return self._readings(temperature_c(surface), temperature_c(sensor), at_ns)

    def close(self) -> None:
        """Do nothing: it goes on by itself."""

    def _readings(
        self, surface_c: float | None, sensor_c: float | None, at_ns: int
    ) -> list[Observation]:
        true_c: float | None = None
        if surface_c is not None and sensor_c is not None:
            true_c = self._corrected_c(surface_c, sensor_c)
        surface = _reading(SURFACE.name, true_c, SURFACE_RANGE_C, at_ns)
        if self._assumed < LEAST_EMISSIVITY:
            surface = Reading(SURFACE.name, None, at_ns, ("uncalibrated",))
        return [surface, _reading(SENSOR.name, sensor_c, SENSOR_RANGE_C, at_ns)]

    def _corrected_c(self, surface_c: float, sensor_c: float) -> float:
        if self._assumed == self._options.emissivity:
            return surface_c
        return seen_with(
            surface_c,
            sensor_c,
            emissivity=self._options.emissivity,
            assumed_emissivity=self._assumed,
        )

    def _go_on_writing(self, at_ns: int) -> None:
        if at_ns - self._written_ns < EEPROM_WRITE_S * 1e9:
            return
        wanted = emissivity_word(self._options.emissivity)
        if self._writing == "erased":
            self._write(wanted)
            self._writing = "written"
            return
        self._writing = ""
        found = self._read(EMISSIVITY)
        self._note_emissivity(found)
        if found != wanted:
            self.frame_errors += 1
            raise FrameError(
                f"wrote emissivity {wanted:04X}h and read back {found:04X}h: the EEPROM did not "
                "take it; the difference is computed instead"
            )

    def _note_emissivity(self, found: int) -> None:
        wanted = self._options.emissivity
        equal = is_same(found, wanted)
        self._assumed = wanted if equal else found / 0xFFFF
        held = f"MLX90614 {self._serial()}emissivity {found / 0xFFFF:.3f}"
        self.identity = held if equal else f"{held}, computed to {wanted:.3f}"

    def _serial(self) -> str:
        with suppress(BusError, FrameError):  # a recording need not hold it
            return "".join(f"{self._read(each):04x}" for each in IDENTITY) + ", "
        return ""

    def _read_identity(self, command: int) -> int:
        """Read the first word of all; what answers with something else is no MLX90614."""
        answer = self._bus.read(self._options.address, bytes((command,)), 3)
        try:
            return decode_word(self._options.address, command, answer)
        except FrameError as exc:
            self.frame_errors += 1
            raise IdentityError(
                f"0x{self._options.address:02x}: answers {answer.hex(' ')}, which no MLX90614 "
                f"says ({exc}): another device, or a bus faster than 100 kHz"
            ) from exc

    def _read(self, command: int) -> int:
        answer = self._bus.read(self._options.address, bytes((command,)), 3)
        try:
            return decode_word(self._options.address, command, answer)
        except FrameError:
            self.frame_errors += 1
            raise

    def _write(self, word: int) -> None:
        self._bus.write(
            self._options.address, write_message(self._options.address, EMISSIVITY, word)
        )
        self._written_ns = self._now_ns()


def _reading(name: str, value: float | None, range_c: tuple[float, float], at_ns: int) -> Reading:
    if value is None or not range_c[0] <= value <= range_c[1]:
        return Reading(name, None, at_ns, ("out_of_range",))
    return Reading(name, value, at_ns)
