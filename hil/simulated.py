"""A bus that a configuration names: `kind = "simulated"` puts an emulated device behind a sensor.

Each sensor on it gets the device that its driver speaks to, at the address or pins of its options,
living through a winter's day or a crowd of its own. Everything above the wire is the real gateway.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from drivers.base import Options
from drivers.gpio import boot_ns

from .buses import SimulatedI2c, SimulatedSerial
from .devices.beams import BeamCrowd
from .devices.grideye import GridEyeDevice, Scene
from .devices.lufft import UmbDevice, irs31pro, shm31, winter_snow_cm
from .devices.maxbotix import MaxBotixDevice
from .pins import SimulatedPins

EMULATED = frozenset(("beam-pair", "grideye-amg88xx", "lufft-umb", "maxbotix-hrxl"))
PERSONS_PER_MINUTE = 20.0

Wire = SimulatedI2c | SimulatedSerial | SimulatedPins


class SimulatedBus:
    """I2C, serial lines and pins in memory, with one device for each sensor."""

    def __init__(self, sensors: Mapping[str, tuple[str, Options]]) -> None:
        """Build the devices of `sensors`: id -> (driver, options); drivers of EMULATED only."""
        options: dict[str, dict[str, Any]] = {name: {} for name in EMULATED}
        for sensor_id, (driver, chosen) in sensors.items():
            options[driver][sensor_id] = chosen
        arrays = {
            chosen.address: GridEyeDevice(
                Scene.crowd(_seed(name), PERSONS_PER_MINUTE), seed=_seed(name)
            )
            for name, chosen in options["grideye-amg88xx"].items()
        }
        line = [_umb_device(chosen, _seed(name)) for name, chosen in options["lufft-umb"].items()]
        crowds = [
            BeamCrowd(
                _seed(name),
                PERSONS_PER_MINUTE,
                chosen.pin_a,
                chosen.pin_b,
                blocked_level=0 if chosen.active == "low" else 1,
            )
            for name, chosen in options["beam-pair"].items()
        ]
        self._wires: dict[str, Wire] = {
            name: SimulatedSerial([_ranger(chosen, _seed(name))], _now_s)
            for name, chosen in options["maxbotix-hrxl"].items()
        }
        self._wires |= dict.fromkeys(options["grideye-amg88xx"], SimulatedI2c(arrays, _now_s))
        self._wires |= dict.fromkeys(options["lufft-umb"], SimulatedSerial(line, _now_s))
        self._wires |= dict.fromkeys(options["beam-pair"], SimulatedPins(crowds))

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


def _umb_device(options: Any, seed: int) -> UmbDevice:
    make = shm31 if options.model == "shm31" else irs31pro
    return make(options.target, seed=seed)


def _ranger(options: Any, seed: int) -> MaxBotixDevice:
    return MaxBotixDevice(
        winter_snow_cm,
        mount_height_cm=options.mount_height_cm,
        range_m=options.range_m,
        seed=seed,
    )


def _seed(sensor_id: str) -> int:
    return zlib.crc32(sensor_id.encode())


def _now_s() -> float:
    return boot_ns() / 1e9
