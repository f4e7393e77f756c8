"""A bus that a configuration names: `kind = "simulated"` puts an emulated device behind a sensor.

Each sensor on it gets the device that its driver speaks to, at the address or pins of its options,
living through a winter's day or a crowd of its own. Everything above the wire is the real gateway.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import drivers
from drivers.base import Options
from drivers.gpio import boot_ns

from . import emulation
from .buses import SimulatedFiles, SimulatedI2c, SimulatedSerial
from .pins import SimulatedPins

Wire = SimulatedI2c | SimulatedSerial | SimulatedPins | SimulatedFiles


class SimulatedBus:
    """I2C, serial lines, pins and files in memory, with one device for each sensor.

    Devices that can share a serial line do; every other serial device has one of its own.
    """

    def __init__(self, sensors: Mapping[str, tuple[str, Options]]) -> None:
        """Build the devices of `sensors`: id -> (driver, options); emulated drivers only."""
        shared: dict[str, list[Any]] = {"i2c": [], "line": [], "gpio": [], "files": []}
        lines: dict[str, str] = {}  # sensor -> which of the shared wires is its
        self._wires: dict[str, Wire] = {}
        for name, (driver, options) in sensors.items():
            device = emulation.load(driver).build(options, zlib.crc32(name.encode()))
            spec = drivers.load(driver).spec
            if spec.bus == "serial" and not spec.shares_bus:
                self._wires[name] = SimulatedSerial([device], _now_s, baud=_baud(spec.line))
                continue
            lines[name] = {"serial": "line", "w1": "files", "system": "files"}.get(
                spec.bus, spec.bus
            )
            address = getattr(options, "address", None)
            shared[lines[name]].append((address, device) if spec.bus == "i2c" else device)
        wires: dict[str, Wire] = {
            "i2c": SimulatedI2c(dict(shared["i2c"]), _now_s),
            "line": SimulatedSerial(shared["line"], _now_s),
            "gpio": SimulatedPins(shared["gpio"]),
            "files": SimulatedFiles(shared["files"], _now_s),
        }
        self._wires |= {name: wires[which] for name, which in lines.items()}

    def wire(self, sensor_id: str) -> Wire:
        """Return what the sensor's driver talks to."""
        return self._wires[sensor_id]

    def open(self) -> None:
        """Open every wire."""
        for wire in set(self._wires.values()):
            wire.open()

    def close(self) -> None:
        """Close every wire."""
        for wire in set(self._wires.values()):
            wire.close()


def _baud(line: Any) -> int | None:
    return None if line is None else int(line.baud)


def _now_s() -> float:
    return boot_ns() / 1e9
