"""What verbs ask of the stage in this process: its wires, its network, its disk, its clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..faults.clock import Timeline
from ..faults.disk import FaultyDisk
from ..relay import Relay
from .far_side import CityBroker, FarSide
from .life import Life
from .places import Place


class Properties:
    """The half of the stage that is broken; the other half plays."""

    _far: FarSide
    _place: Place
    _clock: Timeline
    _life: Life | None

    @property
    def network(self) -> Relay:
        """The way to the broker."""
        return self._far.relay

    @property
    def broker(self) -> CityBroker:
        """The city's broker."""
        return self._far.broker

    @property
    def disk(self) -> FaultyDisk:
        """Where the spool lies."""
        return self._place.disk

    @property
    def clock(self) -> Timeline:
        """The gateway's clock."""
        return self._clock

    @property
    def machine(self) -> Any:
        """Nobody's: verbs that act on the machine do not name this stage."""
        raise RuntimeError("this process is no machine of its own")

    def ports(self, sensor: str) -> Sequence[Any]:
        """Return the serial port that a sensor is on, or the two of a pair."""
        return self._alive().ports(sensor)

    def devices(self, sensor: str) -> Sequence[Any]:
        """Return the device behind a sensor, or the two of a pair."""
        device = self._alive().device(sensor)
        return device if isinstance(device, tuple) else (device,)

    def plug(self, port: Any, kernel_name: str | None) -> None:
        """Plug a serial port in again."""
        port.plug(None if kernel_name is None else f"/dev/{kernel_name}")

    def bus(self, sensor: str) -> Any:
        """Return the I2C bus or the pins that a sensor is on."""
        return self._alive().wire(sensor)

    def pins(self, sensor: str) -> tuple[int, ...]:
        """Return a sensor's pins, BCM numbers."""
        return self._alive().pins(sensor)

    def address(self, sensor: str) -> int:
        """Return a sensor's address on its bus."""
        return self._alive().address(sensor)

    def twin(self, sensor: str) -> Any:
        """Build another device like the one behind a sensor."""
        return self._alive().twin(sensor)

    def _alive(self) -> Life:
        if self._life is None:
            raise RuntimeError("the gateway is without power")
        return self._life
