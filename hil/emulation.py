"""Which device the bench puts behind which driver, and what may be expected of it.

Each driver has a device here that was written from its data sheet, not from the driver. A
simulated bus builds it for a sensor of a configuration; the conformance battery plays with it.
Other distributions add theirs, under their driver's name, with the entry point group
`yukimi.emulations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from drivers.base import Reason

EMULATIONS = {
    "beam-pair": "hil.devices.beams:EMULATION",
    "benewake-tf": "hil.devices.benewake:EMULATION",
    "benewake-tf-pair": "hil.devices.benewake:PAIR",
    "bme280": "hil.devices.bme280:EMULATION",
    "campbell-sr50a": "hil.devices.sr50a:EMULATION",
    "contact": "hil.devices.contact:EMULATION",
    "ds18b20": "hil.devices.ds18b20:EMULATION",
    "grideye-amg88xx": "hil.devices.grideye:EMULATION",
    "hlk-ld2450": "hil.devices.ld2450:EMULATION",
    "ina219": "hil.devices.ina219:EMULATION",
    "lufft-umb": "hil.devices.lufft:EMULATION",
    "maxbotix-hrxl": "hil.devices.maxbotix:EMULATION",
    "mlx90614": "hil.devices.mlx90614:EMULATION",
    "nmea-gnss": "hil.devices.gnss:EMULATION",
    "omron-d6t": "hil.devices.d6t:EMULATION",
    "pi-health": "hil.devices.board:EMULATION",
    "pulse-counter": "hil.devices.pulses:EMULATION",
}

PERSONS_PER_MINUTE = 20.0  # of every emulated people counter


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something the device says in place of a value, and what the driver must make of it."""

    make: Callable[[Any], object]  # tells the device to complain from now on
    reason: Reason


@dataclass(frozen=True, slots=True)
class Emulation:
    """A device from its own side."""

    # (the driver's parsed options, a seed) -> a SerialDevice, I2cDevice, PinActor or FileDevice.
    build: Callable[[Any, int], Any]
    options: Mapping[str, Any]  # of one complete sensor, as a configuration would have them
    # What a healthy device's values lie within: quantity -> (low, high), or its possible classes.
    truth: Mapping[str, tuple[float, float] | frozenset[str]] = field(default_factory=dict)
    measures_after_s: float = 0.0  # its warm-up and boot
    complaints: Mapping[str, Complaint] = field(default_factory=dict)  # by what it says
    # Makes the device repeat itself for ever, where repeating its bytes would not be that.
    freeze: Callable[[Any], object] | None = None


def emulated() -> list[str]:
    """List the drivers that have a device, those of other distributions included."""
    others = (point.name for point in entry_points(group="yukimi.emulations"))
    return sorted({*EMULATIONS, *others})


def load(driver: str) -> Emulation:
    """Return the device behind `driver`. Raises KeyError if there is none."""
    target = EMULATIONS.get(driver)
    if target is None:
        for point in entry_points(group="yukimi.emulations", name=driver):
            found: Emulation = point.load()
            return found
        raise KeyError(driver)
    module, _, name = target.partition(":")
    emulation: Emulation = getattr(import_module(module), name)
    return emulation
