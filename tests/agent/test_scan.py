"""A scan: who is there, without disturbing anybody, in bounded time."""

from __future__ import annotations

import errno
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import scan as scanning
from agent.cli import main
from agent.configured import Configured, configured_by
from agent.plan import plan_of
from agent.propose import proposal
from agent.scan import Candidate, Machine, Place, Report, scan
from drivers import nodes
from drivers.base import BusError, LineSettings, Options, SpeedError
from drivers.buses import LinuxSerial
from drivers.gpio import boot_ns
from hil import emulation
from hil.buses import Pty, SimulatedI2c, SimulatedSerial
from hil.devices.lufft import irs31pro, shm31
from hil.devices.maxbotix import MaxBotixDevice

from .sensors import Clock

Yukimi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def yukimi(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Yukimi:
    monkeypatch.setenv("YUKIMI_CONFIG", "/nonexistent/gateway.toml")

    def command(*arguments: object) -> tuple[int, str, str]:
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_kernel_drivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(nodes, "kernel_driver", lambda *_: None)
    yield


class Listener:
    """A device that says something and remembers what it was told."""

    def __init__(self, says: bytes = b"") -> None:
        self.says = says
        self.heard = b""
        self._next_s = 0.0

    def hear(self, data: bytes, now_s: float) -> None:
        self.heard += data

    def speak(self, now_s: float) -> bytes:
        if now_s < self._next_s:
            return b""
        self._next_s = now_s + 0.1
        return self.says


def snow() -> MaxBotixDevice:
    return MaxBotixDevice(lambda _: 30.0, mount_height_cm=350.0, seed=3)


def machine_of(clock: Clock, *devices: Any, root: Path = Path("/nonexistent")) -> Machine:
    def open_serial(path: str, line: LineSettings) -> Any:
        return SimulatedSerial(devices, clock.s, wait_s=clock.advance, path=path, baud=line.baud)

    return Machine(root=root, open_serial=open_serial, now_ns=clock.ns)


def look(clock: Clock, *devices: Any, seconds: float = 30.0) -> Place:
    machine = machine_of(clock, *devices)
    (place,) = scan(machine, Configured(), seconds=seconds, only=["/dev/ttyX"]).places
    return place


# serial ports


def test_a_device_that_talks_is_known_by_what_it_says(clock: Clock) -> None:
    place = look(clock, snow())
    assert place.state == "found"
    assert [each.driver for each in place.found] == ["maxbotix-hrxl"]
    assert "9600 baud" in place.found[0].what
    assert clock.s() < 1.0 + 6.0


def test_devices_that_must_be_asked_are_asked(clock: Clock) -> None:
    place = look(clock, irs31pro(), shm31())
    assert {each.driver for each in place.found} == {"lufft-umb"}
    assert len(place.found) == 2


@pytest.mark.parametrize("device", [snow, irs31pro], ids=["talks", "is asked"])
def test_speeds_that_the_adapter_cannot_do_are_left_out(
    clock: Clock, device: Callable[[], Any]
) -> None:
    refused = set()

    class Refusing(SimulatedSerial):
        def open(self) -> None:
            raise SpeedError("/dev/ttyX: the adapter cannot do it")

    def open_serial(path: str, line: LineSettings) -> Any:
        is_possible = line.baud in (9600, 19200)
        if not is_possible:
            refused.add(line.baud)
        kind = SimulatedSerial if is_possible else Refusing
        return kind([device()], clock.s, wait_s=clock.advance, path=path, baud=line.baud)

    machine = Machine(Path("/nonexistent"), open_serial=open_serial, now_ns=clock.ns)
    (place,) = scan(machine, Configured(), seconds=30.0, only=["/dev/ttyX"]).places
    assert refused
    assert place.state == "found"


def test_a_drivers_bug_is_told_by_its_place_not_by_what_it_saw(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def feed(*_: object) -> None:
        raise ValueError("two persons at 1.5 m")

    monkeypatch.setattr("drivers.maxbotix.MaxBotix.feed", feed)
    place = look(clock, snow())
    assert place.state == "failed"
    assert place.says.startswith("a driver failed, which is a bug: ValueError in ")
    assert "persons" not in place.says


def on_lines() -> list[str]:
    import drivers

    return [
        name
        for name in emulation.emulated()
        if drivers.load(name).spec.bus == "serial"
        and (drivers.load(name).spec.talks or hasattr(drivers.load(name), "discover"))
        and drivers.load(name).Options.second_port is Options.second_port
    ]


@pytest.mark.parametrize("driver", on_lines())
def test_every_device_on_a_line_is_found_among_all_the_others(driver: str, clock: Clock) -> None:
    import drivers

    made = emulation.load(driver)
    options: Any = drivers.load(driver).Options.model_validate(dict(made.options))
    clock.advance(1.0)
    device = made.build(options, 3)
    device.speak(clock.s())  # its power comes before the scan
    clock.advance(made.measures_after_s)
    place = look(clock, device)
    assert driver in {each.driver for each in place.found}, place
    assert clock.s() < 2.0 + made.measures_after_s + 31.0


def test_a_silent_port_takes_no_longer_than_it_may(clock: Clock) -> None:
    device = Listener()
    place = look(clock, device, seconds=10.0)
    assert (place.state, place.found) == ("free", [])
    assert clock.s() - 1.0 <= 10.0 + 1.0
    assert device.heard  # it was asked


def test_who_talks_in_an_unknown_tongue_is_not_talked_to(clock: Clock) -> None:
    device = Listener(b"hello world\n")
    place = look(clock, device, seconds=10.0)
    assert place.state == "unknown"
    assert "bytes were heard" in place.says
    assert device.heard == b""
    assert clock.s() - 1.0 <= 10.0 + 1.0


def test_a_terminal_with_a_device_behind_it_is_scanned_and_proposed(yukimi: Yukimi) -> None:
    with Pty([snow()], lambda: boot_ns() / 1e9) as pty:
        code, out, err = yukimi("scan", "--port", pty.path, "--seconds", 8, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "yukimi.scan/1"
    (place,) = document["places"]
    assert place["bus"] == pty.path
    (found,) = place["found"]
    assert found["driver"] == "maxbotix-hrxl"
    (table,) = tomllib.loads(found["config"])["sensors"]
    assert (table["driver"], table["bus"]) == ("maxbotix-hrxl", pty.path)
    assert "mount_height_cm" in found["config"]  # which a scan cannot know


def test_a_polled_device_behind_a_terminal_is_found(yukimi: Yukimi) -> None:
    with Pty([shm31()], lambda: boot_ns() / 1e9) as pty:
        code, out, _ = yukimi("scan", "--port", pty.path, "--seconds", 15)
    assert code == 0
    assert "looks like lufft-umb" in out
    assert 'driver = "lufft-umb"' in out


def test_a_port_that_somebody_has_open_is_left_to_him(yukimi: Yukimi) -> None:
    device = Listener()
    with Pty([device], lambda: boot_ns() / 1e9) as pty:
        held = LinuxSerial(pty.path, LineSettings(9600))
        held.open()
        try:
            code, out, _ = yukimi("scan", "--port", pty.path, "--seconds", 2)
        finally:
            held.close()
    assert code == 0
    assert "in use" in out
    assert device.heard == b""


def test_a_port_without_permission_exits_1_with_advice(
    yukimi: Yukimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forbidden(LinuxSerial):
        def open(self) -> None:
            raise BusError("/dev/ttyX: Permission denied: only group dialout may use it")

    monkeypatch.setattr(
        scanning, "Machine", lambda: Machine(root=Path("/nonexistent"), open_serial=Forbidden)
    )
    code, out, err = yukimi("scan", "--port", "/dev/ttyX")
    assert code == 1
    assert "Permission denied" in out
    assert "group dialout" in err


def test_no_time_is_no_scan(yukimi: Yukimi) -> None:
    assert yukimi("scan", "--seconds", 0)[0] == 2


# what is configured


CONFIG = """
[uplink]
brokers = ["mqtt://127.0.0.1"]
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "PORT"
options = { mount_height_cm = 350.0 }
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "/dev/i2c-1"
"""


def test_what_is_configured_is_named_and_not_touched(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "dev").mkdir()
    port = tmp_path / "dev" / "ttyUSB0"
    port.touch()
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.replace("PORT", str(port)), encoding="utf-8")
    device = Listener()
    machine = machine_of(clock, device, root=tmp_path)
    (place,) = scan(machine, configured_by(path), seconds=10.0).places
    assert (place.state, place.says) == ("configured", "configured as snow-1")
    assert clock.s() == 1.0
    (asked,) = scan(machine, configured_by(path), seconds=10.0, only=[str(port)]).places
    assert asked.state == "free"
    assert device.heard


def test_a_wrong_configuration_is_left_alone_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        CONFIG.replace("PORT", "/dev/ttyUSB7").replace("mount_height", "mount_hight"),
        encoding="utf-8",
    )
    found = configured_by(path)
    assert found.ports["/dev/ttyUSB7"] == "snow-1"
    assert set(found.addresses["/dev/i2c-1"]) == set(range(128))
    assert "mount_hight_cm" in found.warning


def test_a_right_configuration_spares_only_the_addresses_it_names(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.replace("PORT", "/dev/ttyUSB7"), encoding="utf-8")
    assert configured_by(path).addresses == {"/dev/i2c-1": {0x69: "hall-1"}}


def test_a_file_that_cannot_be_understood_ends_the_scan(yukimi: Yukimi, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[[[", encoding="utf-8")
    code, _, err = yukimi("scan", "--config", path)
    assert code == 78
    assert "must not be disturbed" in err


# I2C


class Bus(SimulatedI2c):
    """Fails as the adapter does, the system's number behind it; remembers who was addressed."""

    def __init__(self, devices: dict[int, Any], clock: Clock) -> None:
        super().__init__(devices, clock.s)
        self.asked: list[int] = []
        self.is_low = False

    def read(self, address: int, write: bytes, length: int) -> bytes:
        return self._named(address, lambda: super(Bus, self).read(address, write, length))

    def write(self, address: int, data: bytes) -> None:
        if not data:  # whoever is there answers to his address alone
            self._named(address, lambda: super(Bus, self).read(address, b"", 0))
        else:
            self._named(address, lambda: super(Bus, self).write(address, data))

    def _named(self, address: int, call: Callable[[], Any]) -> Any:
        self.asked.append(address)
        if self.is_low:
            raise BusError("low") from OSError(errno.ETIMEDOUT, "")
        try:
            return call()
        except BusError as exc:
            raise exc from OSError(errno.EREMOTEIO, "")


class Memory:
    """An EEPROM, which must not be written to."""

    def write(self, data: bytes, now_s: float) -> None:
        raise AssertionError("a memory was written to")

    def read(self, length: int, now_s: float) -> bytes:
        return bytes(length)


def on_i2c() -> list[str]:
    import drivers

    return [
        name
        for name in emulation.emulated()
        if drivers.load(name).spec.bus == "i2c" and hasattr(drivers.load(name), "recognise")
    ]


def built(driver: str) -> tuple[int, Any]:
    import drivers

    made = emulation.load(driver)
    options: Any = drivers.load(driver).Options.model_validate(dict(made.options))
    return options.address, made.build(options, 1)


def look_at(bus: Bus, clock: Clock, configured: Configured | None = None) -> list[Place]:
    machine = Machine(root=Path("/nonexistent"), open_i2c=lambda _: bus, now_ns=clock.ns)
    path = "/dev/i2c-1"
    if configured is None:
        return scan(machine, Configured(), seconds=30.0, only=[path]).places
    spared = configured.addresses[path]
    return scanning.look_at_i2c(machine, path, 2**62, scanning.known_models(), spared)


@pytest.mark.parametrize("driver", on_i2c())
def test_every_device_that_can_be_recognised_is(driver: str, clock: Clock) -> None:
    address, device = built(driver)
    bus = Bus({address: device}, clock)
    look_at(bus, clock)  # its power comes with the first look
    clock.advance(60.0)
    places = look_at(bus, clock)
    found = [(place.address, each.driver) for place in places for each in place.found]
    assert (address, driver) in found


def test_several_devices_on_one_bus_are_told_apart(clock: Clock) -> None:
    devices = dict(built(name) for name in ("bme280", "grideye-amg88xx", "ina219"))
    devices[0x50] = Memory()
    bus = Bus(devices, clock)
    look_at(bus, clock)
    clock.advance(60.0)
    places = {place.address: place for place in look_at(bus, clock)}
    assert {
        address: [each.driver for each in place.found] for address, place in places.items()
    } == {
        0x40: ["ina219"],
        0x50: [],
        0x69: ["grideye-amg88xx"],
        0x76: ["bme280"],
    }
    assert places[0x50].state == "unknown"


def test_addresses_that_are_configured_or_the_kernels_are_not_asked(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus(dict((built("bme280"), built("grideye-amg88xx"))), clock)
    monkeypatch.setattr(
        nodes, "kernel_driver", lambda _, address: "rtc-ds1307" if address == 0x68 else None
    )
    configured = Configured(addresses={"/dev/i2c-1": {0x69: "hall-1"}})
    look_at(bus, clock, configured)
    clock.advance(60.0)
    places = {place.address: place for place in look_at(bus, clock, configured)}
    assert places[0x68].says == "held by the kernel's driver rtc-ds1307"
    assert places[0x69].says == "configured as hall-1"
    assert places[0x76].found
    assert not {0x68, 0x69} & set(bus.asked)


def test_a_bus_that_is_held_low_is_said_at_once(clock: Clock) -> None:
    bus = Bus({}, clock)
    bus.is_low = True
    (place,) = look_at(bus, clock)
    assert place.state == "failed"
    assert "holds the bus low" in place.says
    assert len(bus.asked) == scanning.STUCK_AFTER


def test_a_bus_that_the_daemon_holds_is_left_to_it_and_its_sensors_are_named(clock: Clock) -> None:
    class Held(Bus):
        def open(self) -> None:
            raise BusError("/dev/i2c-1: in use by another program: yukimi (process 7)")

    configured = Configured(addresses={"/dev/i2c-1": {0x69: "hall-1"}})
    places = look_at(Held({}, clock), clock, configured)
    assert [place.state for place in places] == ["configured", "in use"]


def test_a_bus_of_which_nobody_knows_which_addresses_are_taken_is_not_opened(clock: Clock) -> None:
    bus = Bus({}, clock)
    configured = Configured(addresses={"/dev/i2c-1": dict.fromkeys(range(128), "hall-1")})
    (place,) = look_at(bus, clock, configured)
    assert place.says == "configured as hall-1, all of it"
    assert bus.asked == []


def test_an_empty_bus_is_empty(clock: Clock) -> None:
    (place,) = look_at(Bus({}, clock), clock)
    assert (place.state, place.says) == ("free", "nobody answers")


def test_an_adapter_without_empty_messages_is_asked_by_reading(clock: Clock) -> None:
    class Poor(Bus):
        def write(self, address: int, data: bytes) -> None:
            if not data:
                raise BusError("no") from OSError(errno.EOPNOTSUPP, "")
            super().write(address, data)

    address, device = built("bme280")
    bus = Poor({address: device}, clock)
    look_at(bus, clock)
    clock.advance(60.0)
    (place,) = look_at(bus, clock)
    assert [each.driver for each in place.found] == ["bme280"]


# what the machine has


def test_ports_without_a_chip_and_the_console_are_not_looked_at(
    tmp_path: Path, clock: Clock
) -> None:
    for name in ("dev/ttyS0", "dev/ttyS1", "dev/ttyAMA0", "sys/class/tty/console/active"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sys/class/tty/console/active").write_text("tty0 ttyAMA0\n")
    for name, kind in (("ttyS0", "4\n"), ("ttyS1", "0\n")):
        (tmp_path / "sys/class/tty" / name).mkdir()
        (tmp_path / "sys/class/tty" / name / "type").write_text(kind)
    machine = machine_of(clock, Listener(), root=tmp_path)
    places = {Path(p.bus).name: p for p in scan(machine, Configured(), seconds=5.0).places}
    assert set(places) == {"ttyS0", "ttyAMA0"}
    assert places["ttyS0"].state == "free"
    assert places["ttyAMA0"].says == "the system's own console"


def test_a_port_is_named_as_it_will_be_called_tomorrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dev/serial/by-id"
    folder.mkdir(parents=True)
    (tmp_path / "dev/ttyUSB0").touch()
    (folder / "usb-FTDI_1").symlink_to("../../ttyUSB0")
    monkeypatch.setattr(nodes, "NAME_FOLDERS", (folder,))
    assert Machine(root=tmp_path).serial_ports() == [str(folder / "usb-FTDI_1")]


def test_thermometers_are_named_and_proposed_by_their_number(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "sys/bus/w1/devices/28-00000d1efbf6").mkdir(parents=True)
    (tmp_path / "sys/bus/w1/devices/w1_bus_master1").mkdir()
    machine = machine_of(clock, root=tmp_path)
    (place,) = scan(machine, Configured(), seconds=1.0).places
    (found,) = place.found
    assert (found.driver, found.options) == ("ds18b20", {"id": "28-00000d1efbf6"})
    (known,) = scan(machine, Configured(w1={"": "air-1"}), seconds=1.0).places
    assert known.state == "configured"


def test_pins_are_there_or_not_permitted(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/gpiochip0").touch()
    machine = machine_of(clock, root=tmp_path)
    assert scan(machine, Configured(), seconds=1.0).places[0].says == "pins can be used"
    monkeypatch.setattr(os, "access", lambda *_: False)
    report = scan(machine, Configured(), seconds=1.0)
    assert "group gpio" in report.problems[0]


def test_a_machine_with_nothing_plugged_in_is_said_to_be(
    yukimi: Yukimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan", lambda *_, **__: Report())
    code, out, _ = yukimi("scan")
    assert code == 0
    assert "nothing is plugged in" in out


def test_a_port_that_hangs_does_not_hold_the_others(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setattr(scanning, "GRACE_S", 0.1)
    forever = threading.Event()

    def open_serial(path: str, line: LineSettings) -> Any:
        if path == "/dev/ttyHang":
            forever.wait(30)
        return SimulatedSerial([], clock.s, wait_s=clock.advance)

    machine = Machine(root=Path("/nonexistent"), open_serial=open_serial, now_ns=clock.ns)
    report = scan(machine, Configured(), seconds=0.5, only=["/dev/ttyHang", "/dev/ttyX"])
    forever.set()
    assert {place.bus: place.state for place in report.places} == {
        "/dev/ttyHang": "failed",
        "/dev/ttyX": "free",
    }


# proposals


@pytest.mark.parametrize("baud", [None, 38400])
def test_a_proposal_is_a_configuration(baud: int | None) -> None:
    place = Place("serial", "/dev/serial/by-id/usb-A", "found", "")
    candidate = Candidate("lufft-umb", "", {"model": "shm31", "address": 0xB001}, baud)
    taken = {"snow-1"}
    document = tomllib.loads(proposal(place, candidate, taken))
    document["uplink"] = {"brokers": ["mqtt://broker.example"]}
    (sensor,) = plan_of(document, Path("x"), {}).sensors
    assert sensor.table.id == "snow-2"  # by what it measures, not by what its driver mostly does
    assert sensor.bus.path == "/dev/serial/by-id/usb-A"
    assert sensor.bus.line is not None
    assert sensor.bus.line.baud == (baud or 19200)


@pytest.mark.parametrize("driver", emulation.emulated())
def test_every_device_is_named_after_what_it_measures(driver: str) -> None:
    import drivers

    options = dict(emulation.load(driver).options)
    place = Place("serial", "/dev/ttyX", "found", "")
    lines = proposal(place, Candidate(driver, "", options), set())
    kinds = {"people", "road", "snow", "weather", "position", "cabinet"}
    (name,) = [line.split('"')[1] for line in lines.splitlines() if line.startswith("id = ")]
    assert name.removesuffix("-1") in kinds
    if driver not in ("lufft-umb", "modbus-rtu"):  # which are many devices
        assert name == f"{drivers.load(driver).spec.kind}-1"
