"""`read` and `record`: what a technician beside a sensor is told, and what is kept of people."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.direct import Assembly, Direct, Round, read_sets
from drivers.base import Alive, BusError, FrameError, LineSettings, Observation, Reading
from drivers.buses import LinuxSerial
from drivers.gpio import boot_ns
from drivers.grideye import GridEye
from hil.buses import Pty
from hil.devices.maxbotix import MaxBotixDevice

from .sensors import Clock, opener, planned

ROOT = Path(__file__).resolve().parents[2]

Yukimi = Callable[..., tuple[int, str, str]]

BENCH = """
[uplink]
brokers = ["mqtt://127.0.0.1"]
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "bench"
options = { warmup_s = 0.0 }
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "bench"
options = { pin_a = 17, pin_b = 27 }
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "bench"
options = { model = "irs31pro" }
[[sensors]]
id = "snow-2"
driver = "maxbotix-hrxl"
bus = "PORT"
options = { mount_height_cm = 350.0 }
[[sensors]]
id = "snow-3"
driver = "lufft-umb"
bus = "/dev/none"
options = { model = "shm31" }
"""


class Talker:
    """Says the same a few times a second."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self._next_s = 0.0

    def hear(self, data: bytes, now_s: float) -> None:
        pass

    def speak(self, now_s: float) -> bytes:
        if now_s < self._next_s:
            return b""
        self._next_s = now_s + 0.1
        return self._says


@pytest.fixture
def port() -> Iterator[Pty]:
    with Pty([Talker(b"R3172\r")], lambda: boot_ns() / 1e9) as pty:
        yield pty


@pytest.fixture
def config(tmp_path: Path, port: Pty) -> Path:
    return written(tmp_path, port.path)


def written(folder: Path, port: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(BENCH.replace("PORT", port), encoding="utf-8")
    return path


@pytest.fixture
def yukimi(capsys: pytest.CaptureFixture[str]) -> Yukimi:
    def command(*arguments: object) -> tuple[int, str, str]:
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


THERMOMETER = """
[uplink]
brokers = ["mqtt://127.0.0.1"]
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "air-1"
driver = "ds18b20"
bus = "BUS"
[[sensors]]
id = "snow-1"
driver = "campbell-sr50a"
bus = "bench"
options = { mount_height_cm = 350.0, temperature_from = "air-1" }
"""


@pytest.mark.parametrize(("bus", "has_value"), [("bench", True), ("w1", False)])
def test_who_needs_anothers_temperature_is_lent_it_or_says_why_not(
    bus: str, has_value: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "g.toml"
    config.write_text(THERMOMETER.replace("BUS", bus))
    code = main(["read", "snow-1", "--json", "--config", str(config)])
    told = capsys.readouterr()
    values = json.loads(told.out)["readings"][0]["values"]
    if has_value:
        assert code == 0
        assert 20.0 < values["depth_cm"] < 50.0
    else:  # no 1-Wire bus here
        assert code == 1
        assert values["depth_cm"] is None
        assert "air-1, whose air temperature is needed: " in told.err


def test_a_sensor_is_read_with_units_quality_and_raw_bytes(yukimi: Yukimi, config: Path) -> None:
    code, out, err = yukimi("read", "snow-2", "--config", config)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("snow-2: maxbotix-hrxl on ")
    assert "distance_cm" in out
    assert "317.2 cm  [good]" in out
    assert "rx 52 33 31 37 32 0d" in out


@pytest.mark.parametrize("columns", [40, 80])
def test_a_reading_fits_a_terminal(
    columns: int, yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (("read", "road-1"), ("config", "check")):
        code, out, _ = yukimi(*words, "--config", config)
        assert code == 0
        assert max(map(len, out.splitlines())) <= columns, out


def test_a_temperature_is_in_degrees_as_people_write_them(yukimi: Yukimi, config: Path) -> None:
    assert " degC  [good]" in yukimi("read", "road-1", "--config", config)[1]


def test_a_reading_as_json_is_one_document(yukimi: Yukimi, config: Path) -> None:
    code, out, _ = yukimi("read", "road-1", "--config", config, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["schema"] == "yukimi.read/1"
    assert document["units"]["surface_temperature_c"] == "Cel"
    (reading,) = document["readings"]
    assert reading["quality"] == {"flag": "good"}
    assert "friction" in reading["values"]
    assert {"tx", "rx"} <= {key for entry in reading["raw"] for key in entry}


def test_as_many_readings_as_wanted(yukimi: Yukimi, config: Path) -> None:
    code, out, _ = yukimi("read", "snow-2", "-n", 3, "--config", config, "--json")
    assert code == 0
    assert len(json.loads(out)["readings"]) == 3


def test_an_unknown_sensor_is_wrong_usage_and_the_nearest_is_named(
    yukimi: Yukimi, config: Path
) -> None:
    code, out, err = yukimi("read", "snow2", "--config", config)
    assert (code, out) == (2, "")
    assert 'did you mean "snow-2"?' in err


@pytest.mark.parametrize("options", [["-n", "0"], ["--timeout", "-1"]])
def test_nothing_is_no_number_of_readings(yukimi: Yukimi, config: Path, options: list[str]) -> None:
    assert yukimi("read", "snow-2", "--config", config, *options)[0] == 2


def test_a_broken_configuration_exits_78(yukimi: Yukimi, tmp_path: Path) -> None:
    assert yukimi("read", "snow-2", "--config", tmp_path / "none.toml")[0] == 78


def test_a_port_that_the_daemon_holds_exits_69_and_says_how_to_stop_it(
    yukimi: Yukimi, config: Path, port: Pty
) -> None:
    held = LinuxSerial(port.path, LineSettings(9600))
    held.open()
    try:
        for verb in (["read", "snow-2"], ["record", "snow-2", "-o", config.parent / "x"]):
            code, out, err = yukimi(*verb, "--config", config)
            assert (code, out) == (69, "")
            assert "in use" in err
            assert "systemctl stop yukimi" in err
    finally:
        held.close()
    assert not (config.parent / "x").exists()


def test_a_silent_device_exits_69_with_the_drivers_words(yukimi: Yukimi, tmp_path: Path) -> None:
    with Pty([], lambda: boot_ns() / 1e9) as pty:
        path = written(tmp_path, pty.path)
        code, out, err = yukimi("read", "snow-2", "--timeout", 0.5, "--config", path, "--json")
    assert code == 69
    assert "said nothing" in err
    assert json.loads(out)["error"]


def test_a_device_that_is_not_there_exits_69(yukimi: Yukimi, config: Path) -> None:
    code, _, err = yukimi("read", "snow-3", "--config", config)
    assert code == 69
    assert "No such file" in err


def test_a_device_that_answers_garbage_exits_1(yukimi: Yukimi, tmp_path: Path) -> None:
    with Pty([Talker(b"junk\r")], lambda: boot_ns() / 1e9) as pty:
        path = written(tmp_path, pty.path)
        code, _, err = yukimi("read", "snow-2", "--timeout", 1.5, "--config", path)
    assert code == 1
    assert "nothing sensible" in err


def test_a_device_that_gives_no_value_exits_1_and_says_why(yukimi: Yukimi, tmp_path: Path) -> None:
    with Pty([Talker(b"R5000\r")], lambda: boot_ns() / 1e9) as pty:
        code, out, err = yukimi("read", "snow-2", "--config", written(tmp_path, pty.path))
    assert code == 1
    assert "[weak_signal]" in out
    assert "gives no value" in err


# people


def test_of_people_only_state_and_health_are_shown(yukimi: Yukimi, config: Path) -> None:
    code, out, _ = yukimi("read", "door-1", "--config", config, "--json")
    assert code == 0
    document = json.loads(out)
    assert set(document) == {
        *("schema", "sensor", "driver", "bus", "identity", "state", "alive_s", "reasons")
    }
    assert (document["state"], document["reasons"]) == ("ok", [])
    _, out, _ = yukimi("read", "door-1", "--config", config)
    assert "pin" not in out
    assert "crossing" not in out


def quotes(_: GridEye) -> Any:
    raise FrameError("no frame: 4711")


def measures(_: GridEye) -> Any:
    return [Alive(0), Reading("people_1", 4711.0, 0)]


@pytest.mark.parametrize(
    ("poll", "says"), [(quotes, "FrameError in "), (measures, "a bug in its driver: ")]
)
def test_a_people_driver_of_others_cannot_say_more(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch, poll: Any, says: str
) -> None:
    monkeypatch.setattr(GridEye, "poll", poll)
    code, out, err = yukimi("read", "hall-1", "--json", "--timeout", "1", "--config", str(config))
    assert code == 1
    assert says in err
    assert "4711" not in out + err


def test_with_consent_crossings_and_raw_bytes_are_shown(yukimi: Yukimi, config: Path) -> None:
    code, out, _ = yukimi(
        "read", "door-1", "-n", 1, "--consent", "--timeout", 60, "--config", config, "--json"
    )
    assert code == 0
    document = json.loads(out)
    assert document["crossings"][0]["crossing"] in ("towards", "away")
    assert any("pin" in entry for entry in document["raw"])


def test_people_are_not_recorded_without_their_consent(yukimi: Yukimi, config: Path) -> None:
    path = config.parent / "people.jsonl"
    code, _, err = yukimi("record", "hall-1", "-o", path, "--config", config)
    assert code == 2
    assert "--consent" in err
    assert "single person" in err
    assert not path.exists()


def test_a_recording_of_people_is_for_its_owner_only(yukimi: Yukimi, config: Path) -> None:
    path = config.parent / "people.jsonl"
    options = ["--seconds", 0.5, "--consent", "--config", config]
    assert yukimi("record", "hall-1", "-o", path, *options)[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600


# record


def test_a_recording_begins_with_its_header_and_can_be_replayed(
    yukimi: Yukimi, config: Path
) -> None:
    path = config.parent / "snow.jsonl"
    options = ["--seconds", 1.5, "--config", config, "--json"]
    code, out, err = yukimi("record", "snow-2", "-o", path, *options)
    assert (code, err) == (0, "")
    document = json.loads(out)
    header, *entries = (json.loads(line) for line in path.read_text().splitlines())
    assert header["yukimi"] == "recording/1"
    assert (header["bus"], header["driver"]) == ("serial", "maxbotix-hrxl")
    assert header["options"] == {"mount_height_cm": 350.0}
    assert header["line"] == {"baud": 9600, "data_bits": 8, "parity": "N", "stop_bits": 1}
    assert header["started"].endswith("Z")
    assert len(entries) == document["entries"] > 0
    code, out, _ = yukimi("replay", path, "--json")
    assert code == 0
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert summary["readings"] == document["readings"] > 0


def test_a_recording_is_never_overwritten(yukimi: Yukimi, config: Path) -> None:
    path = config.parent / "snow.jsonl"
    path.write_text("mine")
    code, _, err = yukimi("record", "snow-2", "-o", path, "--config", config)
    assert code == 2
    assert "not overwritten" in err
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_exits_74(yukimi: Yukimi, config: Path) -> None:
    path = config.parent / "none" / "snow.jsonl"
    assert yukimi("record", "snow-2", "-o", path, "--config", config)[0] == 74


def started(config: Path, *arguments: object, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent", *map(str, arguments), "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **more,
    )


def test_ctrl_c_ends_a_recording_with_whole_lines(config: Path) -> None:
    path = config.parent / "snow.jsonl"
    process = started(config, "record", "snow-2", "-o", path)
    until_s = time.monotonic() + 90
    while not (path.exists() and len(path.read_bytes()) > 400) and time.monotonic() < until_s:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert "entries in" in out
    assert "Traceback" not in err
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_disk_that_takes_no_more_exits_74_and_keeps_what_it_has(config: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    path = config.parent / "snow.jsonl"
    process = started(config, "record", "snow-2", "-o", path, preexec_fn=little_room)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 74
    assert "File too large" in err
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) > 1


# the pieces


def test_a_warm_up_is_waited_for_and_said() -> None:
    clock = Clock()
    sensor = planned("grideye-amg88xx")
    seen: list[Observation] = []
    with Direct(
        sensor, lambda _: None, now_ns=clock.ns, wait_s=clock.advance, opener=opener(clock)
    ) as direct:
        for told in direct.rounds(direct.usual_s(1)):
            seen += told.observations
    assert {type(each).__name__ for each in seen} >= {"Trouble", "Alive"}
    assert 25 <= direct.elapsed_s <= 30


class Parts:
    """A driver of a talker that says its quantities one by one."""

    spec = planned("maxbotix-hrxl").driver.spec
    quantities = dict.fromkeys(("distance_cm", "depth_cm"))


def told(*names: str) -> Round:
    return Round(0.0, [Reading(name, 1.0, 0) for name in names])


def test_what_is_said_in_parts_becomes_one_set() -> None:
    assembly = Assembly(Parts())  # type: ignore[arg-type]
    assert assembly.take(told("distance_cm")) == []
    (found,) = assembly.take(told("depth_cm"))
    assert set(found.readings) == {"distance_cm", "depth_cm"}


def test_what_never_comes_is_not_waited_for_for_ever() -> None:
    assembly = Assembly(Parts())  # type: ignore[arg-type]
    sets = [each for _ in range(3) for each in assembly.take(told("distance_cm"))]
    assert [set(each.readings) for each in sets] == [{"distance_cm"}]


def test_a_device_that_falls_silent_is_given_up_after_three_questions() -> None:
    clock = Clock()
    sensor = planned("lufft-umb")
    made = opener(clock)(sensor.bus, [sensor])
    made[0].line.silence()
    direct = Direct(
        sensor, lambda _: None, now_ns=clock.ns, wait_s=clock.advance, opener=lambda *_: made
    )
    with direct, pytest.raises(BusError, match="nobody answers"):
        list(read_sets(direct, Assembly(direct.driver), 1000.0, lambda: None))
    assert direct.elapsed_s < 60


def test_a_device_that_is_garbled_is_nonsense_not_silence() -> None:
    clock = Clock()
    sensor = planned("maxbotix-hrxl")
    made = opener(clock)(sensor.bus, [sensor])
    made[0].line.garble(1.0)
    direct = Direct(
        sensor, lambda _: None, now_ns=clock.ns, wait_s=clock.advance, opener=lambda *_: made
    )
    with direct, pytest.raises(FrameError):
        list(read_sets(direct, Assembly(direct.driver), 20.0, lambda: None))


def test_the_emulated_ranger_is_read_over_a_real_terminal(tmp_path: Path, yukimi: Yukimi) -> None:
    device = MaxBotixDevice(lambda _: 30.0, mount_height_cm=350.0, seed=3)
    with Pty([device], lambda: boot_ns() / 1e9) as pty:
        code, out, _ = yukimi(
            "read", "snow-2", "-n", 5, "--json", "--config", written(tmp_path, pty.path)
        )
    assert code == 0
    depths = [reading["values"]["depth_cm"] for reading in json.loads(out)["readings"]]
    assert all(abs(depth - 30.0) < 3.0 for depth in depths if depth is not None)
