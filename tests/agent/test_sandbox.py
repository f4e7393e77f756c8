"""A service's walls around what its configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import main
from agent.plan import load_plan
from agent.sandbox import drop_in, walls_of

HEAD = """
[gateway]
id = "box"
{led}
[uplink]
brokers = [{brokers}]
"""
SENSOR = """
[[sensors]]
id = "s-{n}"
driver = "{driver}"
bus = "{bus}"
{options}
"""
DEPTH = "options = { mount_height_cm = 350.0 }"


def write(
    folder: Path, *sensors: str, brokers: str = '"mqtts://192.0.2.7:8883"', led: str = ""
) -> Path:
    path = folder / "gateway.toml"
    path.write_text(HEAD.format(brokers=brokers, led=led) + "".join(sensors), encoding="utf-8")
    return path


def serial(bus: str, n: int = 0) -> str:
    return SENSOR.format(n=n, driver="maxbotix-hrxl", bus=bus, options=DEPTH)


@pytest.mark.parametrize(
    ("bus", "devices"),
    [
        ("/dev/ttyUSB7", ("char-188",)),
        ("/dev/ttyACM0", ("char-166",)),
        ("/dev/ttyAMA3", ("char-204",)),
        ("/dev/ttyS1", ("char-ttyS",)),
        # Not plugged in: what it will be is not known.
        ("/dev/serial/by-id/usb-FTDI_X-if00-port0", ("char-166", "char-188")),
        ("/dev/weigh-house", ("char-166", "char-188", "char-204", "char-ttyS")),
    ],
)
def test_a_port_is_let_by_its_kind(tmp_path: Path, bus: str, devices: tuple[str, ...]) -> None:
    assert walls_of(load_plan(write(tmp_path, serial(bus)))).devices == devices


def test_a_link_is_followed_while_it_is_there(tmp_path: Path) -> None:
    link = tmp_path / "usb-FTDI_X-if00-port0"
    link.symlink_to("/dev/ttyUSB0")
    assert walls_of(load_plan(write(tmp_path, serial(str(link))))).devices == ("char-188",)


def test_pins_and_i2c_are_let_where_they_are_used(tmp_path: Path) -> None:
    air = SENSOR.format(n=1, driver="bme280", bus="/dev/i2c-1", options="")
    board = SENSOR.format(n=2, driver="pi-health", bus="system", options="")
    assert walls_of(load_plan(write(tmp_path, air, board))).devices == ("char-89",)
    assert walls_of(load_plan(write(tmp_path, board))).devices == ()
    assert walls_of(load_plan(write(tmp_path, board, led="led = 5"))).devices == ("char-gpiochip",)
    assert walls_of(load_plan(write(tmp_path, board, led='led = "ACT"'))).devices == ()


@pytest.mark.parametrize(
    ("brokers", "addresses"),
    [
        ('"mqtts://192.0.2.7:8883", "mqtt://[2001:db8::1]"', ("192.0.2.7", "2001:db8::1")),
        ('"mqtt://localhost"', ("localhost",)),
        ('"mqtt://[fe80::1%25eth0]"', ("fe80::1",)),
        ('"mqtts://192.0.2.7", "mqtts://broker.example"', None),  # it may move
    ],
)
def test_the_network_is_shut_where_all_brokers_are_addresses(
    tmp_path: Path, brokers: str, addresses: tuple[str, ...] | None
) -> None:
    walls = walls_of(load_plan(write(tmp_path, serial("/dev/ttyS1"), brokers=brokers)))
    assert walls.addresses == addresses
    text = drop_in(walls, "abc")
    assert ("IPAddressDeny=any" in text) == (addresses is not None)
    if addresses is not None:  # the unit allows more: that goes first
        assert text.index("IPAddressAllow=\n") < text.index(f"IPAddressAllow={addresses[0]}\n")
    assert text.index("DeviceAllow=\n") < text.index("DeviceAllow=char-ttyS rw\n")


def test_a_wrong_configuration_has_no_walls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, serial("nowhere"))
    assert main(["config", "sandbox", "--config", str(path)]) == 78
    assert "DeviceAllow" not in capsys.readouterr().out
