"""From a bus of the plan to what its drivers talk through: the wires of this board."""

from __future__ import annotations

from collections.abc import Callable

from drivers.buses import UNSTICK_CLOCKS, LinuxI2c, LinuxSerial, Openable, PairedSerial
from drivers.files import LinuxFiles
from drivers.gpio import GpiozeroPins, OpenDrain

from .plan import PlannedBus, PlannedSensor

# What is opened and closed as a whole, and what each of its sensors is given to talk to.
Wired = tuple[Openable, Callable[[PlannedSensor], object]]
OpenBus = Callable[[PlannedBus, list[PlannedSensor]], Wired]


def open_bus(planned: PlannedBus, sensors: list[PlannedSensor]) -> Wired:
    """Build a bus, and what each of its sensors is given to talk to."""
    bus: LinuxI2c | LinuxSerial | PairedSerial | LinuxFiles | GpiozeroPins
    if planned.kind == "simulated":
        from hil.simulated import SimulatedBus  # the bench is loaded only where it is named

        simulated = SimulatedBus(
            {sensor.table.id: (sensor.table.driver, sensor.options) for sensor in sensors}
        )
        return simulated, lambda sensor: simulated.wire(sensor.table.id)
    if planned.kind == "serial" and planned.path and planned.line:
        if planned.second_path is not None:
            bus = PairedSerial(planned.path, planned.second_path, planned.line)
        else:
            bus = LinuxSerial(planned.path, planned.line)
    elif planned.kind == "i2c" and planned.path:
        bus = LinuxI2c(planned.path, unstick=_unstick(planned.scl_pin))
    elif planned.kind in ("w1", "system"):
        bus = LinuxFiles()
    else:
        bus = GpiozeroPins()
    return bus, lambda _sensor: bus


def _unstick(scl_pin: int | None) -> Callable[[], None] | None:
    return None if scl_pin is None else lambda: OpenDrain(scl_pin).pulse(UNSTICK_CLOCKS)
