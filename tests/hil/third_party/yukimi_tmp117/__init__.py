"""Texas Instruments TMP117: an I2C thermometer, 16 bits, 0.1 K, no checksum.

Source: TI SNOSD82, "TMP117 High-Accuracy, Low-Power, Digital Temperature Sensor".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from drivers import base
from drivers.base import Found, IdentityError, Quantity, Reading
from drivers.buses import I2cBus

TEMPERATURE, DEVICE_ID = b"\x00", b"\x0f"  # registers, two bytes each, high byte first
TMP117 = 0x117  # the low 12 bits of the device id; the others are its revision
NOT_MEASURED_YET = 0x8000  # after power-up, until the first conversion is over

AIR = Quantity("air_temperature_c", "Cel", "temperature where it is mounted", -55.0, 150.0)


def temperature_c(raw: int) -> float:
    """Return degC for the 16-bit register: two's complement, 7.8125 mK a step. No errors."""
    return (raw - 0x10000 if raw & 0x8000 else raw) * 0.0078125


class Tmp117:
    """The thermometer on its bus. It measures by itself, once a second, from power-up on."""

    class Options(base.Options):
        """Where it sits."""

        address: Literal[0x48, 0x49, 0x4A, 0x4B] = Field(
            default=0x48, description="0x48 to 0x4B: ADD0 at ground, supply, SDA, SCL"
        )
        stuck_s: float = Field(
            # The last digit is far below the sensor's own noise: it never rests for an hour.
            default=3600.0,
            ge=0.0,
            description="the same raw value for so long means stuck; 0 switches the check off",
        )

        def claims(self) -> list[str]:
            """Name its address."""
            return [f"i2c address 0x{self.address:02x}"]

    spec: ClassVar[base.Spec] = base.Spec(
        name="ti-tmp117",
        title="Texas Instruments TMP117",
        kind="weather",
        bus="i2c",
        quantities=(AIR,),
        header=(
            ("V+", "pin 1 (3.3 V)"),
            ("SDA", "pin 3 (GPIO 2)"),
            ("SCL", "pin 5 (GPIO 3)"),
            ("GND", "pin 9 (ground)"),
        ),
        wiring=(
            "Supply and lines at 3.3 V; the board's own pull-ups do.",
            "Mount it in a ventilated shield, out of the sun and away from the gateway's warmth.",
        ),
        quirks=("It says 8000h until its first conversion is over: no value, reason warmup.",),
        evidence="vendor vectors",
        evidence_note="the data sheet's table of codes; never compared with another thermometer",
        source="TI SNOSD82, TMP117 data sheet",
        addresses=(0x48, 0x49, 0x4A, 0x4B),
    )

    interval_s = 1.0
    rate_hz = 1.0

    def __init__(self, bus: I2cBus, options: Options, now_ns: base.Clock) -> None:
        self._bus = bus
        self._address = options.address
        self._now_ns = now_ns
        self._stillness = base.Stillness(options.stuck_s)
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The temperature."""
        return {AIR.name: AIR}

    def open(self) -> None:
        """Make sure that it is one. Raises BusError (IdentityError)."""
        found = self._read(DEVICE_ID)
        if found & 0xFFF != TMP117:
            raise IdentityError(
                f"0x{self._address:02x} answers with device id {found:04x}h, a TMP117 has x117h: "
                "check the address, and what else sits there"
            )
        self.identity = f"TMP117 revision {found >> 12}"
        self._stillness.forget()

    def poll(self) -> Sequence[base.Observation]:
        """Return the last conversion. Raises BusError."""
        at_ns = self._now_ns()
        raw = self._read(TEMPERATURE)
        self.frames += 1
        return [self._reading(raw, at_ns)]

    def close(self) -> None:
        """Do nothing: it goes on by itself."""

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> Found | None:
        """Ask for the device id. Raises BusError if nobody answers."""
        found = int.from_bytes(bus.read(address, DEVICE_ID, 2), "big")
        if found & 0xFFF != TMP117:
            return None
        return Found(f"TMP117 (device id {found:04x}h)", {"address": address})

    def _read(self, register: bytes) -> int:
        return int.from_bytes(self._bus.read(self._address, register, 2), "big")

    def _reading(self, raw: int, at_ns: int) -> Reading:
        if raw == NOT_MEASURED_YET:
            return Reading(AIR.name, None, at_ns, ("warmup",))
        if self._stillness.lasts(raw, at_ns):
            return Reading(AIR.name, None, at_ns, ("stuck",))
        value_c = temperature_c(raw)
        if not -55.0 <= value_c <= 150.0:
            return Reading(AIR.name, None, at_ns, ("out_of_range",))
        return Reading(AIR.name, value_c, at_ns)
