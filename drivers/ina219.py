"""TI INA219: supply voltage and current of the cabinet, by a shunt.

The chip forgets its calibration with its power and then says a current of zero, which is also
what a cabinet says that draws nothing. So each poll looks at the calibration first.

Source: TI SBOS448 (INA219), registers 00h..05h. An INA3221 at the same address is told apart by
its identity registers FEh and FFh (TI SBOS576).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from pydantic import Field, model_validator

from . import base
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

CONFIG, SHUNT, BUS, POWER, CURRENT, CALIBRATION = range(6)
MAKER_REGISTER, DIE_REGISTER = 0xFE, 0xFF

RESET_CONFIG = 0x399F
TEXAS_INSTRUMENTS = 0x5449
DIES = {0x3220: "INA3221", 0x2260: "INA226"}  # INA226: [K]

OVERFLOW, CONVERTED = 0b01, 0b10  # bits of the bus voltage register

BUS_STEP_V = 0.004
BUS_FULL_SCALE_V = 32.0
SHUNT_STEP_V = 10e-6
GAIN_FULL_SCALE_V = (0.04, 0.08, 0.16, 0.32)

# 32 V range, sixteen samples averaged for each of both (8.51 ms), shunt and bus without end.
RANGE_32_V = 1 << 13
SIXTEEN_SAMPLES = 0b1100
CONTINUOUS = 0b111

FIRST_CONVERSION_S = 0.1  # 17 ms by the data sheet; oscillators and kernels differ

SUPPLY = Quantity("supply_v", "V", "supply voltage, behind the shunt", 0.0, BUS_FULL_SCALE_V)


def calibration(max_current_a: float, shunt_ohm: float) -> int:
    """Return the calibration register for currents up to `max_current_a`.

    The 32768 steps of the current register span that current; the register's last bit is
    always zero. Below 20.5 mV at the shunt the steps can get no smaller. Source: SBOS448,
    equation 1: trunc(0.04096 / (step * shunt)); a step of 1 mA at 2 mOhm is 5000h.
    """
    # A product that floating point makes 20479.999... is meant to be whole.
    exact = 0.04096 / (max_current_a / 32768 * shunt_ohm)
    return min(int(exact + 1e-6), 0xFFFE) & 0xFFFE


def current_step_a(cal: int, shunt_ohm: float) -> float:
    """Return what one step of the current register is, in ampere, at calibration `cal` > 0."""
    return 0.04096 / (cal * shunt_ohm)


def gain(max_shunt_v: float) -> int:
    """Return the number of the smallest range (0: 40 mV to 3: 320 mV) that holds a shunt voltage.

    Raises ValueError above 320 mV.
    """
    for number, full_scale_v in enumerate(GAIN_FULL_SCALE_V):
        if max_shunt_v <= full_scale_v + 1e-9:
            return number
    raise ValueError(f"{max_shunt_v * 1000:.0f} mV at the shunt, and 320 mV are the most")


def supply_v(raw: int) -> float:
    """Return the bus voltage in volt; 5D98h is 11.98 V. Its flags are not looked at."""
    return (raw >> 3) * BUS_STEP_V


class Ina219Options(base.Options):
    """Which shunt, and how much current is to be measured."""

    address: int = Field(
        default=0x40, ge=0x40, le=0x4F, description="I2C address, 0x40 to 0x4F (64 to 79)"
    )
    shunt_ohm: float = Field(
        default=0.1, gt=0.0, le=10.0, description="resistance of the shunt; printed R100 is 0.1"
    )
    max_current_a: float = Field(
        default=3.2, gt=0.0, le=1000.0, description="largest current; times shunt at most 0.32 V"
    )
    stuck_s: float = Field(
        # A battery float-charged at night may keep both of its last digits for many minutes.
        default=0.0,
        ge=0.0,
        description="seconds after which identical answers are no values; 0 = never",
    )

    @model_validator(mode="after")
    def _fits_the_chip(self) -> Ina219Options:
        gain(self.max_current_a * self.shunt_ohm)
        return self

    def claims(self) -> list[str]:
        """Name the address."""
        return [f"i2c address 0x{self.address:02x}"]


class Ina219:
    """The chip on its bus: one conversion after another, the newest taken at each poll."""

    spec: ClassVar[base.Spec] = base.Spec(
        name="ina219",
        title="TI INA219 (and boards with it)",
        kind="cabinet",
        bus="i2c",
        quantities=(
            SUPPLY,
            Quantity("current_a", "A", "current through the shunt", -1000.0, 1000.0),
        ),
        header=(
            ("VCC", "pin 1 (3.3 V)"),
            ("GND", "pin 6 (GND)"),
            ("SDA", "pin 3 (GPIO 2)"),
            ("SCL", "pin 5 (GPIO 3)"),
        ),
        wiring=(
            "VIN+ goes to the supply, VIN- to the load: the voltage is measured at VIN-.",
            "At most 26 V at VIN+ and VIN-, spikes included: a lead battery on charge at 24 V "
            "nominal passes that.",
            "The grounds of the supply and of the Pi must be one.",
            "A0 and A1 set the address: both open give 0x40.",
            "A shunt of 0.1 ohm, as on most boards, measures to 3.2 A and turns 1 W of it to heat.",
        ),
        quirks=(
            "Without power it forgets its calibration and says 0 A: the driver looks at each poll "
            "and configures it again.",
            "An INA3221 answers at 0x40 to 0x43 too: it is refused, and named.",
            "Beyond its range it says the end of the range: that is out_of_range, not a value.",
        ),
        checksum="",
        evidence="vendor vectors",
        evidence_note=(
            "The data sheet's calibration example (2 mohm, 1 mA a step: 5000h; 20 mV: 10 A; 5D98h: "
            "11.98 V; 5990 power steps), and the simulated chip's registers."
        ),
        source="TI SBOS448G (INA219), SBOS576 (INA3221)",
        addresses=tuple(range(0x40, 0x50)),
    )
    Options: ClassVar[type[base.Options]] = Ina219Options

    interval_s = 1.0
    rate_hz = 1.0

    def __init__(self, bus: I2cBus, options: Ina219Options, now_ns: Clock) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._gain = gain(options.max_current_a * options.shunt_ohm)
        self._config = (
            RANGE_32_V | self._gain << 11 | SIXTEEN_SAMPLES << 7 | SIXTEEN_SAMPLES << 3 | CONTINUOUS
        )
        self._calibration = calibration(options.max_current_a, options.shunt_ohm)
        self._stillness = Stillness(options.stuck_s)
        self._configured_ns = 0
        limit_a = options.max_current_a
        current = Quantity("current_a", "A", "current through the shunt", -limit_a, limit_a)
        self._quantities = {each.name: each for each in (SUPPLY, current)}
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """Voltage, and current up to the configured limit."""
        return self._quantities

    @classmethod
    def recognise(cls, bus: Any, address: int) -> Found | None:
        """Say whether what answers at `address` looks like an INA219, which has no identity."""
        if _stranger(bus, address):
            return None
        config = _register(bus, address, CONFIG)
        if config == RESET_CONFIG:
            return Found("INA219 (registers as after power-up)", {"address": address})
        cal = _register(bus, address, CALIBRATION)
        # Unused bits are zero, and somebody has calibrated it.
        if config & 0xC000 or not cal or cal & 1 or _register(bus, address, BUS) & 0b100:
            return None
        return Found("INA219 (in use)", {"address": address})

    def open(self) -> None:
        """Refuse other chips, configure, read back. Raises BusError, IdentityError, FrameError."""
        stranger = ""
        with suppress(BusError):  # it has no identity registers, and need not answer for them
            stranger = _stranger(self._bus, self._options.address)
        if stranger:
            raise IdentityError(
                f"0x{self._options.address:02x}: an {stranger} answers, not an INA219: "
                "check the board, or give the INA219 another address (A0, A1)"
            )
        self._configure()
        self._stillness.forget()
        self.identity = "INA219"

    def poll(self) -> Sequence[Observation]:
        """Read the newest conversion. Raises BusError or FrameError.

        A chip that lost its calibration is configured again and measures at the next poll.
        """
        at_ns = self._now_ns()
        cal = None
        with suppress(BusError):  # gone in between, or a recording without it: the next read tells
            cal = self._read(CALIBRATION)
        if cal is not None and cal != self._calibration:
            self._configure()
            if cal == 0:
                return [Trouble("warmup", at_ns)]
            self.frame_errors += 1
            raise FrameError(
                f"calibration was {cal:04X}h in place of {self._calibration:04X}h: written again"
            )
        bus = self._read(BUS)
        if not bus & CONVERTED:
            return self._unconverted(at_ns)
        shunt, current = _signed(self._read(SHUNT)), _signed(self._read(CURRENT))
        with suppress(BusError):
            self._read(POWER)  # which says that this conversion has been taken
        self.frames += 1
        if self._stillness.lasts((bus, shunt), at_ns):
            return self._without_values("stuck", at_ns)
        return [self._supply(bus, at_ns), self._current(bus, shunt, current, at_ns)]

    def close(self) -> None:
        """Do nothing: it goes on by itself."""

    def _configure(self) -> None:
        for register, value in ((CONFIG, self._config), (CALIBRATION, self._calibration)):
            self._bus.write(self._options.address, struct.pack(">BH", register, value))
        self._configured_ns = self._now_ns()
        for register, value in ((CONFIG, self._config), (CALIBRATION, self._calibration)):
            said = value
            with suppress(BusError):  # a recording need not hold it
                said = self._read(register)
            if said != value:
                self.frame_errors += 1
                raise FrameError(
                    f"wrote {value:04X}h to register {register:02X}h and read back {said:04X}h: "
                    "another chip, or a disturbed bus"
                )

    def _unconverted(self, at_ns: int) -> list[Observation]:
        if at_ns - self._configured_ns < FIRST_CONVERSION_S * 1e9:
            return [Trouble("warmup", at_ns)]
        self.frames += 1
        return self._without_values("stuck", at_ns)

    def _without_values(self, reason: base.Reason, at_ns: int) -> list[Observation]:
        return [Reading(name, None, at_ns, (reason,)) for name in self._quantities]

    def _supply(self, bus: int, at_ns: int) -> Reading:
        value_v = supply_v(bus)
        if value_v >= BUS_FULL_SCALE_V:
            return Reading(SUPPLY.name, None, at_ns, ("out_of_range",))
        return Reading(SUPPLY.name, value_v, at_ns)

    def _current(self, bus: int, shunt: int, current: int, at_ns: int) -> Reading:
        value_a = current * current_step_a(self._calibration, self._options.shunt_ohm)
        full_scale = round(GAIN_FULL_SCALE_V[self._gain] / SHUNT_STEP_V)
        if (
            bus & OVERFLOW
            or abs(shunt) >= full_scale  # the end of the range, however far beyond it may be
            or abs(value_a) > self._options.max_current_a
        ):
            return Reading("current_a", None, at_ns, ("out_of_range",))
        return Reading("current_a", value_a, at_ns)

    def _read(self, register: int) -> int:
        return _register(self._bus, self._options.address, register)


def _register(bus: I2cBus, address: int, register: int) -> int:
    answer = bus.read(address, bytes((register,)), 2)
    if len(answer) != 2:
        raise FrameError(f"{len(answer)} bytes in place of 2 from register {register:02X}h")
    return int.from_bytes(answer, "big")


def _stranger(bus: I2cBus, address: int) -> str:
    """Name the chip that answers, if it has an identity and so is no INA219; else ""."""
    maker = _register(bus, address, MAKER_REGISTER)
    die = _register(bus, address, DIE_REGISTER)
    if maker != TEXAS_INSTRUMENTS:
        return ""
    return DIES.get(die, f"unknown chip of TI (die {die:04X}h)")


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
