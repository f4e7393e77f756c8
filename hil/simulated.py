"""A bus that a configuration names: `kind = "simulated"` puts an emulated device behind a sensor.

Each sensor on it gets the device that its driver speaks to, at the address or pins of its options,
living through a winter's day or a crowd of its own. Everything above the wire is the real gateway.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import drivers
from drivers.base import Clock, LineSettings, Options
from drivers.gpio import boot_ns

from . import emulation
from .buses import PTY_POLL_S, SimulatedFiles, SimulatedI2c, SimulatedPair, SimulatedSerial
from .pins import SimulatedPins

Wire = SimulatedI2c | SimulatedSerial | SimulatedPair | SimulatedPins | SimulatedFiles


class SimulatedBus:
    """I2C, serial lines, pins and files in memory, with one device for each sensor.

    Devices that can share a serial line do, where its settings suit them; every other serial
    device has one of its own, or two. Transfers take the time that they take on a wire.
    """

    def __init__(
        self,
        sensors: Mapping[str, tuple[str, Options]],
        *,
        now_ns: Clock = boot_ns,
        wait_s: Callable[[float], object] = time.sleep,
        look_s: float = PTY_POLL_S,
        seed: int = 0,
    ) -> None:
        """Build the devices of `sensors`: id -> (driver, options); emulated drivers only."""
        self._now_ns = now_ns
        self._wait_s = wait_s
        self._look_s = look_s
        self._seed = seed
        self._wires: dict[str, Wire] = {}
        self.devices: dict[str, Any] = {}  # sensor -> the device behind it, or the two of a pair
        shared: dict[str | LineSettings, list[str]] = {}  # wire -> the sensors on it
        for name, (driver, options) in sensors.items():
            device = emulation.load(driver).build(options, zlib.crc32(name.encode(), seed))
            self.devices[name] = device
            spec = drivers.load(driver).spec
            line = options.line() or spec.line
            if spec.bus != "serial" or line is None:
                shared.setdefault(spec.bus, []).append(name)
            elif isinstance(device, tuple):
                a, b = (self._serial([each], line) for each in device)
                self._wires[name] = SimulatedPair(a, b)
            elif spec.shares_bus:
                shared.setdefault(line, []).append(name)
            else:
                self._wires[name] = self._serial([device], line)
        for key, names in shared.items():
            if key == "i2c":
                addresses = {name: _address(*sensors[name]) for name in names}
                self._wires |= dict.fromkeys(names, self._i2c(addresses))
            else:
                wire = self._wire(key, [self.devices[name] for name in names])
                self._wires |= dict.fromkeys(names, wire)

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

    def _wire(self, key: str | LineSettings, devices: list[Any]) -> Wire:
        if isinstance(key, LineSettings):
            return self._serial(devices, key)
        if key == "gpio":
            return SimulatedPins(devices, now_ns=self._now_ns, seed=self._seed)
        return SimulatedFiles(devices, self._now_s)

    def _i2c(self, addresses: Mapping[str, int]) -> SimulatedI2c:
        devices = {address: self.devices[name] for name, address in addresses.items()}
        return SimulatedI2c(devices, self._now_s, wait_s=self._wait_s, seed=self._seed)

    def _serial(self, devices: list[Any], line: LineSettings) -> SimulatedSerial:
        return SimulatedSerial(
            devices,
            self._now_s,
            wait_s=self._wait_s,
            paced=True,
            baud=line.baud,
            look_s=self._look_s,
            seed=self._seed,
        )

    def _now_s(self) -> float:
        return self._now_ns() / 1e9


def _address(driver: str, options: Options) -> int:
    """Return the address in the options, or the only one that the device can have."""
    address: int | None = getattr(options, "address", None)
    return drivers.load(driver).spec.addresses[0] if address is None else address
