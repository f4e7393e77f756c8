"""A sensor of a configuration with its emulated device, in simulated time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.plan import PlannedBus, PlannedSensor, plan_of
from hil import emulation
from hil.buses import SimulatedFiles, SimulatedI2c, SimulatedSerial
from hil.pins import SimulatedPins


class Clock:
    """Boot time that passes when it is told to."""

    def __init__(self) -> None:
        self._ns = 1_000_000_000

    def ns(self) -> int:
        return self._ns

    def s(self) -> float:
        return self._ns / 1e9

    def advance(self, seconds: float) -> None:
        self._ns += round(seconds * 1e9)


def planned(driver: str, options: dict[str, Any] | None = None) -> PlannedSensor:
    """Plan one emulated sensor."""
    chosen = dict(emulation.load(driver).options) if options is None else options
    document = {
        "uplink": {"brokers": ["mqtt://broker.example"]},
        "buses": [{"id": "bench", "kind": "simulated"}],
        "sensors": [{"id": "it", "driver": driver, "bus": "bench", "options": chosen}],
    }
    return plan_of(document, Path("gateway.toml"), {}).sensors[0]


class Pair:
    """The two ports of one sensor."""

    def __init__(self, a: SimulatedSerial, b: SimulatedSerial) -> None:
        self.a, self.b = a, b

    def open(self) -> None:
        self.a.open()
        self.b.open()

    def close(self) -> None:
        self.a.close()
        self.b.close()


def _line(device: Any, clock: Clock) -> SimulatedSerial:
    return SimulatedSerial([device], clock.s, wait_s=clock.advance)


def opener(clock: Clock, seed: int = 7) -> Any:
    """Open a bus with the sensor's emulated device on it."""

    def opened(_: PlannedBus, sensors: list[PlannedSensor]) -> Any:
        (sensor,) = sensors
        spec, options = sensor.driver.spec, sensor.options
        device = emulation.load(spec.name).build(options, seed)
        wire: Any
        match spec.bus:
            case "i2c":
                wire = SimulatedI2c({getattr(options, "address", 0): device}, clock.s)
            case "gpio":
                wire = SimulatedPins([device], now_ns=clock.ns)
            case "serial" if isinstance(device, tuple):
                wire = Pair(*(_line(each, clock) for each in device))
            case "serial":
                wire = _line(device, clock)
            case _:
                wire = SimulatedFiles([device], clock.s)
        return wire, lambda _: wire

    return opened
