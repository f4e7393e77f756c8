"""The device models yukimi can read, by the name used in a configuration.

Classes are imported when they are first wanted, so that a missing library harms one sensor and
not the gateway. Other distributions add drivers with the entry point group `yukimi.drivers`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Driver

DRIVERS = {
    "beam-pair": "drivers.beam_pair:BeamPair",
    "benewake-tf": "drivers.benewake_tf:BenewakeTf",
    "benewake-tf-pair": "drivers.benewake_pair:BenewakePair",
    "bme280": "drivers.bme280:Bme280",
    "campbell-sr50a": "drivers.sr50a:Sr50a",
    "contact": "drivers.contact:Contact",
    "ds18b20": "drivers.ds18b20:Ds18b20",
    "grideye-amg88xx": "drivers.grideye:GridEye",
    "hlk-ld2450": "drivers.ld2450:Ld2450",
    "ina219": "drivers.ina219:Ina219",
    "lufft-umb": "drivers.lufft_umb:LufftUmb",
    "maxbotix-hrxl": "drivers.maxbotix:MaxBotix",
    "mlx90614": "drivers.mlx90614:Mlx90614",
    "nmea-gnss": "drivers.nmea:NmeaGnss",
    "omron-d6t": "drivers.d6t:D6t",
    "pi-health": "drivers.pi_health:PiHealth",
    "pulse-counter": "drivers.pulse_counter:PulseCounter",
}


def names() -> list[str]:
    """List every known driver, those of other distributions included."""
    return sorted({*DRIVERS, *(point.name for point in entry_points(group="yukimi.drivers"))})


def load(name: str) -> type[Driver]:
    """Import the driver called `name`.

    Raises KeyError if nobody offers it, ImportError if its library is missing.
    """
    target = DRIVERS.get(name)
    if target is None:
        for point in entry_points(group="yukimi.drivers", name=name):
            found: type[Driver] = point.load()
            return found
        raise KeyError(name)
    module, _, attribute = target.partition(":")
    driver: type[Driver] = getattr(import_module(module), attribute)
    return driver
