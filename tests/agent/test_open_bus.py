"""What the wiring builds for a planned bus."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import smbus2
from gpiozero.pins.mock import MockFactory

from agent.openbus import open_bus
from agent.plan import PlannedBus
from drivers import gpio
from drivers.base import LineSettings
from drivers.buses import LinuxSerial, PairedSerial


def test_a_pin_on_the_clock_is_pulsed_nine_times_when_the_bus_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "i2c-1"
    node.touch()

    def smbus(path: str) -> Any:
        file = Path(path).open("r+b")  # noqa: SIM115
        return SimpleNamespace(fd=file.fileno(), close=file.close)

    factory = MockFactory()
    clock = factory.pin(22)
    lows: list[int] = []
    low = type(clock).output_with_state

    def counted(pin: Any, state: int) -> None:
        low(pin, state)
        lows.append(pin.state)

    monkeypatch.setattr(smbus2, "SMBus", smbus)
    monkeypatch.setattr(gpio, "_lgpio_factory", lambda: factory)
    monkeypatch.setattr(type(clock), "output_with_state", counted)
    bus, _ = open_bus(PlannedBus("cold", "i2c", str(node), scl_pin=22), [])
    assert lows == []
    bus.open()
    assert lows == [0] * 9
    bus.close()
    plain, _ = open_bus(PlannedBus("plain", "i2c", str(node)), [])
    plain.open()
    plain.close()
    assert len(lows) == 9


def test_a_sensor_with_two_ports_gets_them_as_a_pair() -> None:
    line = LineSettings(115200)
    pair, wire_for = open_bus(
        PlannedBus("radar", "serial", "/dev/ttyACM0", line, second_path="/dev/ttyACM1"), []
    )
    assert isinstance(pair, PairedSerial)
    assert wire_for(None) is pair  # type: ignore[arg-type]
    single, _ = open_bus(PlannedBus("snow", "serial", "/dev/ttyS1", line), [])
    assert isinstance(single, LinuxSerial)
