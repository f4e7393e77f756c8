"""The walls of the service around what one configuration names: a drop-in for its unit.

The unit that comes along lets every gateway work: any serial port, I2C, pins, any address. This
leaves the kinds of devices that the configuration has, and, where each broker is an address, nobody
else to talk to. By kind, not by name: an adapter that is pulled out comes back under another
number. Not where a broker is a name: what it means may change in ten years, and nobody would know.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .plan import Plan, PlannedBus

PINS, I2C = "char-gpiochip", "char-89"
# By the kernel's number where the module may be loaded later than systemd reads the unit.
PORTS = {"ttyUSB": "char-188", "ttyACM": "char-166", "ttyAMA": "char-204", "ttyS": "char-ttyS"}
USB = ("ttyUSB", "ttyACM")


@dataclass(frozen=True, slots=True)
class Walls:
    """What a configuration needs."""

    devices: tuple[str, ...]  # as DeviceAllow= takes them
    addresses: tuple[str, ...] | None  # None: cannot be said


def walls_of(plan: Plan) -> Walls:
    """Return what the service must be let."""
    config = plan.loaded.config
    devices = {each for bus in plan.buses for each in _devices(bus)}
    if isinstance(config.gateway.led, int):
        devices.add(PINS)
    hosts = [urlsplit(url).hostname or "" for url in config.uplink.brokers]
    # systemd knows an address, and not by which interface one gets there.
    hosts = [host.partition("%")[0] for host in hosts]
    addresses = tuple(dict.fromkeys(hosts)) if all(map(_is_address, hosts)) else None
    return Walls(tuple(sorted(devices)), addresses)


def drop_in(walls: Walls, config_id: str) -> str:
    """Return the drop-in's text."""
    lines = [
        f"# For configuration {config_id}; after a change of buses or brokers print it anew:",
        "#   yukimi config sandbox > /etc/systemd/system/yukimi.service.d/sandbox.conf",
        "[Service]",
        "DeviceAllow=",
        *(f"DeviceAllow={each} rw" for each in walls.devices),
    ]
    if walls.addresses is None:
        lines.append("# A broker is a name, and its address may change: the network stays open.")
    else:
        lines += ["IPAddressDeny=any", "IPAddressAllow="]
        lines += [f"IPAddressAllow={each}" for each in walls.addresses]
    return "\n".join([*lines, ""])


def _devices(bus: PlannedBus) -> Iterable[str]:
    if bus.kind == "gpio":
        yield PINS
    elif bus.kind == "i2c":
        yield I2C
        if bus.scl_pin is not None:
            yield PINS
    elif bus.kind == "serial":
        for path in filter(None, (bus.path, bus.second_path)):
            yield from _ports(Path(path))


def _ports(path: Path) -> Iterable[str]:
    """Return the kinds of port that a path may be; while it is not there, by its name only."""
    name = Path(path.resolve()).name
    known = [kind for start, kind in PORTS.items() if name.startswith(start)]
    if known:
        return known[:1]
    is_usb = "usb-" in path.name
    return [PORTS[each] for each in USB] if is_usb else list(PORTS.values())


def _is_address(host: str) -> bool:
    if host == "localhost":  # systemd knows it too
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
