"""One life of the gateway on the bench: from power-up to its end, with the wires it was born with.

Devices are born with it: where power is cut they lose theirs too. Their time is the gateway's boot
clock, so what really happens is told them shifted by when they were switched on.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.app import Gateway
from agent.openbus import Wired
from agent.plan import Plan, PlannedBus, PlannedSensor, plan_of

from .. import emulation
from ..simulated import SimulatedBus
from . import truths
from .clockwork import BenchMachine, Clockwork, S
from .load import Loaded
from .series import Truth

LOOK_S = 0.02  # how finely a device's turn-around is kept: each look costs as much as a poll
TWIN_SEED = 4711
PINS = ("pin", "pin_a", "pin_b", "pin_towards", "pin_away")


@dataclass(frozen=True, slots=True)
class World:
    """What really happens in a scenario."""

    truths: Mapping[str, Mapping[str, Truth]]
    crowds: Mapping[str, Truth]
    peaks: Mapping[str, float]  # the most of each crowd

    @classmethod
    def of(cls, loaded: Loaded) -> World:
        """Return a scenario's. Raises UnavailableError."""
        crowds = loaded.crowds()
        lasts_s = loaded.scenario.lasts
        peaks = {
            name: max(rate(lasts_s * step / 2000) for step in range(2001))
            for name, rate in crowds.items()
        }
        return cls(loaded.truths(), crowds, peaks)


class Life:
    """A gateway that was switched on, and when each of its parts is due next."""

    def __init__(
        self,
        loaded: Loaded,
        world: World,
        machine: BenchMachine,
        time: Clockwork,
        *,
        number: int,
        broker: str,
        spool: Path,
    ) -> None:
        """Switch it on, and commit its first record."""
        self._loaded, self._world, self._time = loaded, world, time
        self.machine = machine
        self._number = number
        self._shift_s = machine.on_ns / S
        self._buses: dict[str, SimulatedBus] = {}  # by sensor
        time.begin(time.now_ns)
        plan = _plan(loaded, broker, spool)
        self.gateway = Gateway(plan, machine=machine, open_bus=self._open_bus)
        for sensor in loaded.plan.sensors:
            self._tell_truth(sensor)
        self.gateway.begin()
        self.gateway.check_spool()
        time.end()
        self.collector_ns: list[float] = [time.now_ns] * len(self.gateway.collectors)
        self.pipeline_ns: float = time.now_ns
        self.uplink_ns: float = time.now_ns

    def _open_bus(self, _planned: PlannedBus, sensors: list[PlannedSensor]) -> Wired:
        named = {each.table.id: (each.table.driver, each.options) for each in sensors}
        bus = SimulatedBus(
            named,
            now_ns=self.machine.boot_ns,
            wait_s=self._time.wait,
            look_s=LOOK_S,
            seed=self._loaded.setting.seed,
        )
        self._buses.update(dict.fromkeys(named, bus))
        return bus, lambda sensor: bus.wire(sensor.table.id)

    def _tell_truth(self, sensor: PlannedSensor) -> None:
        name, driver = sensor.table.id, sensor.table.driver
        device, options = self.device(name), sensor.options
        for quantity, truth in self._world.truths.get(name, {}).items():
            truths.put(driver, device, options, quantity, self._shifted(truth))
        rate = self._world.crowds.get(name)
        if rate is not None:
            seed = zlib.crc32(f"{name} {self._number}".encode(), self._loaded.setting.seed)
            peak = self._world.peaks[name]
            truths.bring_crowd(driver, device, options, self._shifted(rate), peak=peak, seed=seed)
        if driver == "nmea-gnss":
            start_s = self._loaded.start_ns / S
            device._utc_s = lambda at_s: start_s + at_s + self._shift_s

    def _shifted(self, truth: Truth) -> Truth:
        return lambda at_s: truth(at_s + self._shift_s)

    # What is there

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return self.gateway.health.uplink.broker is not None

    @property
    def connections(self) -> int:
        """How often it was connected."""
        return self.gateway.health.uplink.reconnects

    @property
    def waiting(self) -> int:
        """Records in the spool. Raises SpoolError."""
        return sum(self.gateway.spool.waiting_by_run().values())

    def wire(self, sensor: str) -> Any:
        """Return what a sensor's driver talks to."""
        return self._buses[sensor].wire(sensor)

    def device(self, sensor: str) -> Any:
        """Return what answers there; two of a pair."""
        return self._buses[sensor].devices[sensor]

    def ports(self, sensor: str) -> Sequence[Any]:
        """Return the serial port that a sensor is on, or the two of a pair."""
        wire = self.wire(sensor)
        return (wire.a, wire.b) if hasattr(wire, "a") else (wire,)

    def address(self, sensor: str) -> int:
        """Return a sensor's address on its I2C bus."""
        device = self.device(sensor)
        devices: Mapping[int, Any] = self.wire(sensor).devices
        return next(address for address, each in devices.items() if each is device)

    def pins(self, sensor: str) -> tuple[int, ...]:
        """Return a sensor's pins, BCM numbers."""
        named = (getattr(self._planned(sensor).options, name, None) for name in PINS)
        return tuple(pin for pin in named if pin is not None)

    def twin(self, sensor: str) -> Any:
        """Build another device like the one behind a sensor."""
        planned = self._planned(sensor)
        return emulation.load(planned.table.driver).build(planned.options, TWIN_SEED)

    def take_crossings(self) -> Iterator[tuple[str, list[truths.Crossing], float]]:
        """Yield who passed each people counter since the last call, and what shifts the times."""
        for sensor in self._loaded.plan.sensors:
            name = sensor.table.id
            if name in self._world.crowds:
                taken = truths.take_crossings(sensor.table.driver, self.device(name))
                yield name, taken, self._shift_s

    def _planned(self, sensor: str) -> PlannedSensor:
        return next(each for each in self._loaded.plan.sensors if each.table.id == sensor)

    # Its end

    def stop(self, produced: Callable[[], None]) -> None:
        """Stop in the order of the flow, as the supervisor does; `produced` may look before."""
        for collector in self.gateway.collectors:
            collector.finish()
        self.gateway.pipeline.finish()
        self.gateway.uplink.stop()
        self.gateway.uplink.finish()
        produced()
        self.gateway.close(clean=True)

    def end(self) -> None:
        """End in the middle of whatever it is doing, once its connection is gone."""
        self.gateway.uplink.stop(0.0)
        self.gateway.uplink.finish()
        with suppress(Exception):  # whatever a disk without power answers
            self.gateway.close(clean=False)


def _plan(loaded: Loaded, broker: str, spool: Path) -> Plan:
    config = dict(loaded.config)
    config["uplink"] = {**config["uplink"], "brokers": [broker]}
    config["spool"] = {**config.get("spool", {}), "path": str(spool)}
    return plan_of(config, loaded.path, {})
