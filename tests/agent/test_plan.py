"""A configuration against the drivers: what is accepted, and each way to get it wrong."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import drivers
from agent.plan import Plan, load_plan
from config.load import ConfigError, Problem
from config.model import LEAST_BYTES
from drivers import nodes
from drivers.base import LineSettings, Spec
from drivers.lufft_umb import LufftUmb

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "examples"

GOOD = """
[uplink]
brokers = ["mqtt://broker.example"]
[spool]
[[buses]]
id = "rs485"
kind = "serial"
port = "/dev/ttyUSB0"
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS1"
[sensors.options]
mount_height_cm = 350.0
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "/dev/i2c-1"
[sensors.options]
address = 0x69
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "gpio"
[sensors.options]
pin_a = 17
pin_b = 27
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "rs485"
[sensors.options]
model = "irs31pro"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def planned(path: Path, text: str = GOOD) -> Plan:
    path.write_text(text, encoding="utf-8")
    return load_plan(path)


def problems(path: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        planned(path, text)
    return caught.value.problems


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert text.count(old) == 1, f"{old!r} must be there once"
    return text.replace(old, new)


def test_a_good_configuration_is_planned(path: Path) -> None:
    plan = planned(path)
    assert {s.table.id: (s.bus.name, s.bus.kind, s.window_s) for s in plan.sensors} == {
        "snow-1": ("/dev/ttyS1", "serial", 60),
        "hall-1": ("/dev/i2c-1", "i2c", 900),
        "door-1": ("gpio", "gpio", 900),
        "road-1": ("/dev/ttyUSB0", "serial", 60),
    }
    assert [s.table.id for s in plan.sensors if s.counts_people] == ["hall-1", "door-1"]
    assert plan.policy.window_s == 900
    assert [warning.path for warning in plan.warnings] == ["buses[0].port"]


# Old text, new text, where the problem is, the words of the sentence.
WRONG: dict[str, tuple[str, str, str, str]] = {
    "a misspelt table": ("[spool]", "[spol]", "spol", 'unknown key "spol"; did you mean "spool"?'),
    "a misspelt key": (
        "[spool]",
        "[spool]\nmax_byte = 5",
        "spool.max_byte",
        'unknown key "max_byte"; did you mean "max_bytes"?',
    ),
    "a key like no other": (
        "[spool]",
        "[spool]\nzzz = 5",
        "spool.zzz",
        'unknown key "zzz"; known: max_bytes, path',
    ),
    "a misspelt key of a sensor": (
        'bus = "gpio"',
        'bus = "gpio"\nlable = {}',
        "sensors[2].lable",
        'unknown key "lable"; did you mean "label"?',
    ),
    "no broker": (
        'brokers = ["mqtt://broker.example"]',
        "brokers = []",
        "uplink.brokers",
        "needs at least 1 entry",
    ),
    "no brokers at all": (
        'brokers = ["mqtt://broker.example"]',
        "",
        "uplink.brokers",
        "is missing and has no default",
    ),
    "a broker of the web": (
        "mqtt://broker.example",
        "https://broker.example",
        "uplink.brokers[0]",
        "must start with mqtt:// or mqtts://",
    ),
    "a broker without a host": (
        "mqtt://broker.example",
        "mqtt://:1883",
        "uplink.brokers[0]",
        "must name a host",
    ),
    "a port that is none": (
        "mqtt://broker.example",
        "mqtt://broker.example:99999",
        "uplink.brokers[0]",
        "the port must be a number from 1 to 65535",
    ),
    "a topic in the broker": (
        "mqtt://broker.example",
        "mqtt://broker.example/yukimi",
        "uplink.brokers[0]",
        "topics go into topic_root",
    ),
    "a password in the broker": (
        "mqtt://broker.example",
        "mqtt://me:secret@broker.example",
        "uplink.brokers[0]",
        "use username and password_file",
    ),
    "one broker, not a list": (
        '["mqtt://broker.example"]',
        '"mqtt://broker.example"',
        "uplink.brokers",
        "must be a list in [ ]",
    ),
    "a wildcard in the topic": (
        "[uplink]",
        '[uplink]\ntopic_root = "yukimi/#"',
        "uplink.topic_root",
        "must be a topic without wildcards",
    ),
    "a protocol as a number": (
        "[uplink]",
        "[uplink]\nprotocol = 5",
        "uplink.protocol",
        'must be "5" or "3.1.1", not 5',
    ),
    "a count of none": (
        "[uplink]",
        "[uplink]\ninflight = 0",
        "uplink.inflight",
        "must be at least 1, not 0",
    ),
    "a count that is a text": (
        "[uplink]",
        '[uplink]\ninflight = "16"',
        "uplink.inflight",
        'must be a whole number, not "16"',
    ),
    "a half message": (
        "[uplink]",
        "[uplink]\nbatch_records = 1.5",
        "uplink.batch_records",
        "must be a whole number, not 1.5",
    ),
    "yes": (
        "[uplink]",
        '[uplink]\nrequire_subscriber = "yes"',
        "uplink.require_subscriber",
        "must be true or false",
    ),
    "a time that is no number": (
        "[uplink]",
        "[uplink]\ndrain_s = nan",
        "uplink.drain_s",
        "finite number",
    ),
    "a password without a name": (
        "[uplink]",
        '[uplink]\npassword_file = "p"',
        "uplink",
        "password_file needs a username",
    ),
    "a certificate without its key": (
        "[spool]",
        '[uplink.tls]\ncert_file = "c"\n[spool]',
        "uplink.tls",
        "cert_file and key_file go together",
    ),
    "a size in words": (
        "[spool]",
        '[spool]\nmax_bytes = "much"',
        "spool.max_bytes",
        'a text such as "512MiB"',
    ),
    "a spool too small to promise": (
        "[spool]",
        '[spool]\nmax_bytes = "1MiB"',
        "spool.max_bytes",
        f"must be at least {LEAST_BYTES}",
    ),
    "a gateway's id in capitals": (
        "[spool]",
        '[gateway]\nid = "N3"\n[spool]',
        "gateway.id",
        "1 to 64 characters of a-z, 0-9 and -",
    ),
    "a time zone that is none": (
        "[spool]",
        '[gateway]\ntimezone = "Asia/Sapporo"\n[spool]',
        "gateway.timezone",
        "is no time zone",
    ),
    "a place off the earth": (
        "[spool]",
        "[gateway]\nlocation = { latitude = 141.35, longitude = 43.06 }\n[spool]",
        "gateway.location.latitude",
        "must be at most 90",
    ),
    "a sensor called alerts": ('"snow-1"', '"alerts"', "sensors[0]", "is reserved"),
    "two sensors of one name": (
        '"door-1"',
        '"snow-1"',
        "sensors[2].id",
        '"snow-1" is already the id of sensors[0]',
    ),
    "two buses of one name": (
        "[[buses]]",
        '[[buses]]\nid = "rs485"\nkind = "gpio"\n[[buses]]',
        "buses[1].id",
        '"rs485" is already the id of buses[0]',
    ),
    "a bus without a port": (
        'port = "/dev/ttyUSB0"',
        "",
        "buses[0]",
        'a bus of kind "serial" needs port',
    ),
    "baud where there is none": (
        "[[buses]]",
        '[[buses]]\nid = "pins"\nkind = "gpio"\nbaud = 9600\n[[buses]]',
        "buses[0]",
        "baud belongs to serial buses",
    ),
    "a clock pin where there is no clock": (
        "[[buses]]",
        '[[buses]]\nid = "pins"\nkind = "gpio"\nscl_pin = 22\n[[buses]]',
        "buses[0]",
        "scl_pin belongs to i2c buses",
    ),
    "the clock pin itself": (
        "[[buses]]",
        '[[buses]]\nid = "cold"\nkind = "i2c"\nport = "/dev/i2c-1"\nscl_pin = 3\n[[buses]]',
        "buses[0].scl_pin",
        "must be at least 4, not 3",
    ),
    "a window that does not meet the hour": (
        'bus = "/dev/ttyS1"',
        'bus = "/dev/ttyS1"\nwindow_s = 7',
        "sensors[0].window_s",
        "must divide 3600",
    ),
    "no window": (
        'bus = "/dev/ttyS1"',
        'bus = "/dev/ttyS1"\nwindow_s = 0',
        "sensors[0].window_s",
        "must be at least 1, not 0",
    ),
    "a sensor without a driver": (
        'driver = "beam-pair"\n',
        "",
        "sensors[2].driver",
        "is missing and has no default",
    ),
    "a misspelt driver": (
        '"maxbotix-hrxl"',
        '"maxbotix-hrlx"',
        "sensors[0].driver",
        'unknown driver "maxbotix-hrlx"; did you mean "maxbotix-hrxl"?',
    ),
    "a misspelt option": (
        "mount_height_cm",
        "mount_hight_cm",
        "sensors[0].options.mount_hight_cm",
        'unknown key "mount_hight_cm"; did you mean "mount_height_cm"?',
    ),
    "an option out of its range": (
        "pin_a = 17",
        "pin_a = 28",
        "sensors[2].options.pin_a",
        "must be at most 27, not 28",
    ),
    "an address that the device cannot have": (
        "address = 0x69",
        "address = 0x70",
        "sensors[1].options.address",
        "must be 104 or 105, not 112",
    ),
    "one pin for two beams": (
        "pin_b = 27",
        "pin_b = 17",
        "sensors[2].options",
        "each beam needs a pin of its own",
    ),
    "an option that a live device needs": (
        "mount_height_cm = 350.0",
        "",
        "sensors[0].options",
        "the height of the sensor's face",
    ),
    "options that are no table": (
        '"rs485"\n[sensors.options]\nmodel = "irs31pro"',
        '"rs485"\noptions = "irs31pro"',
        "sensors[3].options",
        "must be a table",
    ),
    "a bus nobody described": (
        'bus = "rs485"',
        'bus = "rs458"',
        "sensors[3].bus",
        'unknown bus "rs458"; did you mean "rs485"?',
    ),
    "a driver on the wrong kind of bus": (
        'bus = "/dev/i2c-1"',
        'bus = "/dev/ttyS3"',
        "sensors[1].bus",
        "grideye-amg88xx sits on a i2c bus, and /dev/ttyS3 is serial",
    ),
    "two devices where one can be": (
        'bus = "rs485"',
        'bus = "/dev/ttyS1"',
        "sensors[3].bus",
        "/dev/ttyS1 is already set to 9600 baud 8N1 by another sensor",
    ),
    "a window for a people sensor": (
        'bus = "gpio"',
        'bus = "gpio"\nwindow_s = 60',
        "sensors[2].window_s",
        "people sensors take [privacy.flow] window_s",
    ),
    "counting people by the minute": (
        "[spool]",
        "[privacy.flow]\nwindow_s = 60\n[spool]",
        "privacy.flow.window_s",
        "must be at least 900, not 60",
    ),
    "an epsilon as a number": (
        "[spool]",
        "[privacy.flow]\nepsilon = 0.25\n[spool]",
        "privacy.flow.epsilon",
        "must be a text in quotes",
    ),
    "an epsilon that is none": (
        "[spool]",
        '[privacy.flow]\nepsilon = "1/0"\n[spool]',
        "privacy.flow.epsilon",
        "must be an exact fraction in quotes",
    ),
    "no noise": (
        "[spool]",
        '[privacy.flow]\nepsilon = "0"\n[spool]',
        "privacy.flow.epsilon",
        "must be greater than 0",
    ),
    "too little noise": (
        "[spool]",
        '[privacy.flow]\nepsilon = "2/5"\n[spool]',
        "privacy.flow.epsilon",
        "must be at most 3/8",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_way_to_get_it_wrong_is_told_with_its_file_its_place_and_a_sentence(
    path: Path, name: str
) -> None:
    old, new, where, words = WRONG[name]
    (problem,) = problems(path, changed(old, new))
    assert problem.file == str(path)
    assert problem.path == where
    assert words in problem.what
    assert str(problem) == f"{path}: {where}: {problem.what}"


def test_a_secret_that_was_written_into_a_broker_is_not_repeated(path: Path) -> None:
    (problem,) = problems(path, changed("mqtt://broker", "mqtt://me:hunter2@broker"))
    assert "hunter2" not in str(problem)


def test_several_mistakes_are_told_at_once(path: Path) -> None:
    text = changed("mount_height_cm", "mount_hight_cm")
    text = changed("[uplink]", "[uplink]\ninflite = 16", text)
    text = changed('"beam-pair"', '"beam-pear"', text)
    assert {problem.path for problem in problems(path, text)} >= {
        "uplink.inflite",
        "sensors[0].options.mount_hight_cm",
        "sensors[2].driver",
    }


def test_mistakes_that_only_the_wiring_shows_are_told_with_missing_files(path: Path) -> None:
    text = changed('bus = "rs485"', 'bus = "rs458"')
    text = changed("[uplink]", '[uplink]\nusername = "u"\npassword_file = "gone"', text)
    text = changed('"door-1"', '"snow-1"', text)
    assert {problem.path for problem in problems(path, text)} == {
        "uplink.password_file",
        "sensors[3].bus",
        "sensors[2].id",
    }


def beams(number: int, pins: tuple[int, int], bus: str = "gpio") -> str:
    return (
        f'[[sensors]]\nid = "beam-{number}"\ndriver = "beam-pair"\nbus = "{bus}"\n'
        f"[sensors.options]\npin_a = {pins[0]}\npin_b = {pins[1]}\n"
    )


def test_two_sensors_on_one_pin_are_refused(path: Path) -> None:
    (problem,) = problems(path, GOOD + beams(2, (5, 27)))
    assert problem.path == "sensors[4].options"
    assert problem.what == "pin 27 on gpio is already used by door-1"


def test_a_lamp_on_a_sensors_pin_is_refused(path: Path) -> None:
    (problem,) = problems(path, GOOD + "[gateway]\nled = 27\n")
    assert problem.path == "sensors[2].options"
    assert problem.what == "pin 27 on gpio is already used by [gateway] led"
    assert planned(path, GOOD + "[gateway]\nled = 26\n").loaded.config.gateway.led == 26


def test_a_lamp_on_the_pin_of_a_buss_clock_is_refused(path: Path) -> None:
    text = '[[buses]]\nid = "cold"\nkind = "i2c"\nport = "/dev/i2c-1"\nscl_pin = 26\n[[buses]]'
    cold = changed('bus = "/dev/i2c-1"', 'bus = "cold"', changed("[[buses]]", text))
    (problem,) = problems(path, cold + "[gateway]\nled = 26\n")
    assert problem.path == "gateway.led"


def test_the_boards_pins_are_one_bus_however_it_is_called(path: Path) -> None:
    text = '[[buses]]\nid = "pins"\nkind = "gpio"\n' + beams(2, (5, 27), "pins")
    (problem,) = problems(path, GOOD + text)
    assert "pin 27" in problem.what


def test_two_sensors_at_one_address_are_refused(path: Path) -> None:
    text = '[[sensors]]\nid = "hall-2"\ndriver = "grideye-amg88xx"\nbus = "/dev/i2c-1"\n'
    (problem,) = problems(path, GOOD + text)
    assert "0x69 on /dev/i2c-1 is already used by hall-1" in problem.what
    assert len(planned(path, GOOD + text.replace("i2c-1", "i2c-3")).buses) == 5


def test_a_device_that_talks_unasked_shares_its_line_with_nobody(path: Path) -> None:
    text = (
        '[[sensors]]\nid = "snow-2"\ndriver = "maxbotix-hrxl"\nbus = "/dev/ttyS1"\n'
        "[sensors.options]\nmount_height_cm = 300.0\n"
    )
    (problem,) = problems(path, GOOD + text)
    assert problem.what == "/dev/ttyS1 is already used by snow-1, and they cannot share it"


def test_devices_with_addresses_share_one_bus_and_one_thread(path: Path) -> None:
    text = (
        '[[sensors]]\nid = "snow-2"\ndriver = "lufft-umb"\nbus = "/dev/ttyUSB0"\n'
        '[sensors.options]\nmodel = "shm31"\n'
    )
    plan = planned(path, GOOD + text)
    road, snow = plan.sensors[3], plan.sensors[4]
    assert road.bus is snow.bus


def test_a_bus_sets_the_speed_of_its_line(path: Path) -> None:
    plan = planned(path, changed('port = "/dev/ttyUSB0"', 'port = "/dev/ttyUSB0"\nbaud = 57600'))
    line = plan.sensors[3].bus.line
    assert line is not None
    assert (line.baud, line.parity) == (57600, "N")


def test_a_port_whose_number_may_change_is_warned_of_with_the_name_that_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (warning,) = planned(path).warnings
    assert warning.path == "buses[0].port"
    assert "another one after a re-plug: plug it in and see" in warning.what
    monkeypatch.setattr(nodes, "lasting_name", lambda _: "/dev/serial/by-id/usb-FTDI_FT0ABCDE")
    (warning,) = planned(path).warnings
    assert warning.what.endswith('use "/dev/serial/by-id/usb-FTDI_FT0ABCDE"')
    by_id = changed('port = "/dev/ttyUSB0"', 'port = "/dev/serial/by-id/usb-FTDI_FT0ABCDE"')
    assert planned(path, by_id).warnings == []


def test_two_names_of_one_device_are_one_bus(path: Path, tmp_path: Path) -> None:
    (tmp_path / "ttyUSB7").touch()
    (tmp_path / "by-id").symlink_to("ttyUSB7")
    text = changed("/dev/ttyUSB0", str(tmp_path / "by-id")) + (
        f'[[sensors]]\nid = "snow-2"\ndriver = "lufft-umb"\nbus = "{tmp_path}/ttyUSB7"\n'
        '[sensors.options]\nmodel = "shm31"\n'
    )
    plan = planned(path, text)
    assert plan.sensors[3].bus is plan.sensors[4].bus
    (problem,) = problems(path, text.replace("shm31", "irs31pro"))
    assert "UMB address 0x1001" in problem.what


class Other(LufftUmb):
    """Another protocol on the same line, as one may be installed beside ours."""

    spec: ClassVar[Spec] = replace(LufftUmb.spec, name="other")

    class Options(LufftUmb.Options):  # type: ignore[name-defined,misc]
        baud: int = 19200
        data_port: str | None = None

        def line(self) -> LineSettings:
            return LineSettings(self.baud, parity="N" if self.baud == 19200 else "E")

        def second_port(self) -> str | None:
            return self.data_port

        def claims(self) -> list[str]:
            return ["Other address 1"]


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.DRIVERS, "other", f"{__name__}:Other")


def another(bus: str, **options: Any) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
    return (
        f'[[sensors]]\nid = "other-1"\ndriver = "other"\nbus = "{bus}"\n'
        f'[sensors.options]\nmodel = "shm31"\n{lines}'
    )


@pytest.mark.usefixtures("other")
def test_different_drivers_share_a_line_that_both_can_be_set_to(path: Path) -> None:
    plan = planned(path, GOOD + another("rs485"))
    assert plan.sensors[3].bus is plan.sensors[4].bus
    (problem,) = problems(path, GOOD + another("rs485", baud=9600))
    assert problem.what == (
        "/dev/ttyUSB0 is already set to 19200 baud 8N1 by another sensor, "
        "and this one needs 9600 baud 8E1"
    )
    (problem,) = problems(path, GOOD + another("/dev/ttyS1"))
    assert "is already set to 9600 baud 8N1" in problem.what


@pytest.mark.usefixtures("other")
def test_a_second_port_belongs_to_its_sensor_alone(path: Path) -> None:
    plan = planned(path, GOOD + another("/dev/ttyS5", data_port="/dev/ttyACM3"))
    assert plan.sensors[4].bus.second_path == "/dev/ttyACM3"
    assert plan.warnings[-1].path == "sensors[4].options"
    (problem,) = problems(path, GOOD + another("/dev/ttyS5", data_port="/dev/ttyUSB0"))
    assert problem.path == "sensors[4].options"
    assert problem.what == "/dev/ttyUSB0 is already used by road-1, and they cannot share it"
    (problem,) = problems(path, GOOD + another("/dev/ttyS5", data_port="/dev/ttyS5"))
    assert "is already used by other-1" in problem.what
    (problem,) = problems(path, GOOD + another("rs485", data_port="/dev/ttyACM3"))
    assert problem.path == "sensors[4].bus"


def test_a_pin_on_the_clock_of_an_i2c_bus_is_its_own(path: Path) -> None:
    bus = '[[buses]]\nid = "cold"\nkind = "i2c"\nport = "/dev/i2c-1"\nscl_pin = 22\n'
    text = GOOD.replace('bus = "/dev/i2c-1"', 'bus = "cold"') + bus
    assert planned(path, text).sensors[1].bus.scl_pin == 22
    (problem,) = problems(path, text + beams(2, (22, 23)))
    assert problem.what == "pin 22 on gpio is already used by the clock of /dev/i2c-1"


SIMULATED = """
[uplink]
brokers = ["mqtt://broker.example"]
[privacy.flow]
window_s = 10
epsilon = "1"
[[buses]]
id = "sim"
kind = "simulated"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "sim"
[sensors.options]
pin_a = 17
pin_b = 27
"""


def test_simulated_people_may_be_counted_as_often_and_as_exactly_as_one_likes(path: Path) -> None:
    plan = planned(path, SIMULATED)
    assert plan.sensors[0].window_s == 10


@pytest.mark.parametrize("part", ['window_s = 10\nepsilon = "1/4"', 'epsilon = "1"'])
def test_one_real_people_sensor_ends_that_freedom(path: Path, part: str) -> None:
    text = changed('window_s = 10\nepsilon = "1"', part, SIMULATED)
    (problem,) = problems(path, text + beams(2, (5, 6)))
    assert "beam-2" in problem.what


LISTENER = """
[[sensors]]
id = "snow-2"
driver = "campbell-sr50a"
bus = "/dev/ttyS2"
[sensors.options]
mount_height_cm = 350.0
temperature_from = "SOURCE"
[[sensors]]
id = "air-1"
driver = "bme280"
bus = "/dev/i2c-1"
[[sensors]]
id = "mast-1"
driver = "lufft-umb"
bus = "/dev/ttyUSB9"
[sensors.options]
address = 0x7001
channels = [{ channel = 100, quantity = "air_temperature_c", unit = "Cel" }]
"""


@pytest.mark.parametrize("source", ["air-1", "mast-1"])
def test_a_sensor_may_listen_to_any_that_measures_the_air(path: Path, source: str) -> None:
    plan = planned(path, GOOD + LISTENER.replace("SOURCE", source))
    assert plan.sensors[4].options.listens_to() == source


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("air-2", 'there is no sensor "air-2"; did you mean "air-1"?'),
        ("thermo", 'there is no sensor "thermo"; known: air-1, mast-1'),
        ("road-1", '"road-1" does not measure air_temperature_c; known: air-1, mast-1'),
        ("hall-1", '"hall-1" does not measure air_temperature_c; known: air-1, mast-1'),
        ("snow-2", '"snow-2" does not measure air_temperature_c; known: air-1, mast-1'),
    ],
)
def test_a_sensor_that_listens_to_nobody_is_named_with_whom_it_could(
    path: Path, source: str, what: str
) -> None:
    (problem,) = problems(path, GOOD + LISTENER.replace("SOURCE", source))
    assert problem.path == "sensors[4].options.temperature_from"
    assert problem.what == what


def test_a_ranger_that_nobody_tells_the_temperature_is_not_ready(path: Path) -> None:
    text = LISTENER.replace('temperature_from = "SOURCE"', "")
    (problem,) = problems(path, GOOD + text)
    assert problem.path == "sensors[4].options"
    assert problem.what.startswith("temperature_from: ")


def test_what_is_accepted_and_may_not_last_is_warned_of(path: Path) -> None:
    assert [warning.path for warning in planned(path, GOOD).warnings] == ["buses[0].port"]


@pytest.mark.parametrize(("table", "where", "what"), [
    ('allow = ["reboot"]', "commands.allow[0]", "restart"),
    ('allow = ["restart"]', "commands", "allowed_signers"),
    ('allow = ["ping"]\nallowed_signers = "gone"', "commands.allowed_signers", "cannot be read"),
])  # fmt: skip
def test_commands_that_cannot_be_are_named(path: Path, table: str, where: str, what: str) -> None:
    (problem,) = problems(path, f"{GOOD}[commands]\n{table}\n")
    assert problem.path == where
    assert what in problem.what


def test_the_contracts_example_is_accepted(path: Path) -> None:
    for name in ("broker-password", "ca.pem", "gw.pem", "gw.key"):
        (path.parent / name).touch()
    plan = planned(path, CONTRACT)
    config = plan.loaded.config
    assert config.gateway.id == "chikaho-03"
    assert config.gateway.label is not None
    assert config.gateway.label.ja == "チ・カ・ホ 北3条"
    assert plan.sensors[0].bus.name == "/dev/ttyS1"


CONTRACT = """
[gateway]
id = "chikaho-03"                # [a-z0-9-]{1,64}; default: the host name
label = { ja = "チ・カ・ホ 北3条", en = "Chi-Ka-Ho N3" }
location = { latitude = 43.0640, longitude = 141.3510 }
timezone = "Asia/Tokyo"
owner = "City of Sapporo"
licence = "CC-BY-4.0"

[uplink]
brokers = ["mqtts://broker-a.example:8883", "mqtts://broker-b.example:8883"]
topic_root = "yukimi/v1"
username = "chikaho-03"
password_file = "broker-password"
protocol = "5"
confirm = "broker"
require_subscriber = true
inflight = 16
batch_records = 200
compression = "backlog"
backlog_bytes_per_s = 16384
receipt_timeout_s = 600
offset_s = 6.1
drain_s = 5
[uplink.tls]
ca_file = "ca.pem"
cert_file = "gw.pem"
key_file = "gw.key"

[spool]
path = "/var/lib/yukimi/spool.db"
max_bytes = "512MiB"

[clock]
trust = "kernel"
wait_s = 600

[control]
socket = "/run/yukimi/control.sock"

[privacy.flow]
window_s = 900
epsilon = "1/4"

[alerts.snow_dispatch]
new_snow_cm = 10.0

[commands]
allow = ["ping", "status"]

[[buses]]
id = "rs485"
kind = "serial"
port = "/dev/serial/by-id/usb-FTDI_..."
baud = 19200

[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS1"
window_s = 60
label = { ja = "北3条 積雪", en = "N3 snow" }
on_error = "retry"
[sensors.options]
mount_height_cm = 350.0
"""


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_is_accepted(example: Path) -> None:
    assert load_plan(example).sensors


def keys(value: Any, where: str = "") -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {
        name
        for key, inner in value.items()
        for name in ({f"{where}{key}"} | keys(inner, f"{where}{key}."))
    }


def test_the_walkway_example_explains_only_keys_that_exist(path: Path) -> None:
    """What is commented out there is accepted as well."""
    text = (EXAMPLES / "walkway.toml").read_text(encoding="utf-8")
    shown = re.sub(r"(?m)^# (?=\w+ = |\[)", "", text)
    for name in ("broker-password", "ca.pem", "gw.pem", "gw.key"):
        (path.parent / name).touch()
    assert keys(tomllib.loads(shown)) > keys(tomllib.loads(text))
    planned(path, shown)
