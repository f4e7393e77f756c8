"""`yukimi commission`: at the sensor, by flags; what it says, what it keeps, what it refuses."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import commissioned, direct
from agent.app import Gateway
from agent.cli import _acceptance, main
from agent.plan import load_plan
from drivers.base import BusError
from hil.buses import SimulatedSerial
from hil.devices.ld2450 import Ld2450Device, Passageway, Walker, Way
from hil.devices.maxbotix import MaxBotixDevice

from .sensors import Clock, opener

Yukimi = Callable[..., tuple[int, str, str]]

CONFIG = """
[gateway]
id = "site-1"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[spool]
path = "SPOOL"
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "bench"
options = { mount_height_cm = 350.0 }
[[sensors]]
id = "air-1"
driver = "bme280"
bus = "bench"
[[sensors]]
id = "hall-1"
driver = "hlk-ld2450"
bus = "bench"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.replace("SPOOL", str(tmp_path / "state" / "spool.db")))
    return path


@pytest.fixture
def yukimi(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, config: Path
) -> Yukimi:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def command(*arguments: object) -> tuple[int, str, str]:
        words = ["commission", *(str(each) for each in arguments), "--config", str(config)]
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def put(monkeypatch: pytest.MonkeyPatch, device: Any = None) -> None:
    """Let the sensor's device be there, in simulated time."""
    clock = Clock()

    def opened(*_: object) -> Any:
        wire = SimulatedSerial([device], clock.s, wait_s=clock.advance)
        return wire, lambda _: wire

    own = opener(clock) if device is None else opened
    there = partial(direct.Direct, opener=own, now_ns=clock.ns, wait_s=clock.advance)
    monkeypatch.setattr(_acceptance, "Direct", there)


def ranger(distance_cm: float, **more: Any) -> MaxBotixDevice:
    return MaxBotixDevice(lambda _: 350.0 - distance_cm, mount_height_cm=350.0, seed=1, **more)


def walkers(ways: str, *, every_s: float = 6.0) -> Ld2450Device:
    """Let people walk one after the other: i for in, o for out."""
    way: dict[str, Way] = {"i": "towards", "o": "away"}
    walks = [Walker(12.0 + every_s * at, way[each]) for at, each in enumerate(ways)]
    return Ld2450Device(Passageway(walks), lost_share=0.0, ghost_share=0.0)


def files(config: Path) -> list[Path]:
    folder = commissioned.folder_of(config.parent / "state" / "spool.db")
    return sorted(folder.iterdir()) if folder.exists() else []


BARE = ("snow-1", "--bare-ground", "--yes")


def test_bare_ground_passes_and_leaves_a_record(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, ranger(350.2))
    code, out, err = yukimi(*BARE, "--by", "Yuki")
    assert (code, err) == (0, "")
    assert "snow-1: PASS" in out
    (file,) = files(config)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    held = json.loads(file.read_bytes())
    assert held["by"] == "Yuki"
    assert (held["sensor"], held["driver"], held["passed"]) == ("snow-1", "maxbotix-hrxl", True)
    assert held["measured"]["n"] == 30


def test_the_birth_names_the_test_until_the_options_change(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def births() -> dict[str, Any]:
        gateway = Gateway(load_plan(config))
        sensors: Any = gateway.birth()["sensors"]
        gateway.spool.close(clean=True)
        gateway._claim.close()
        return {each["id"]: each.get("commissioned") for each in sensors}

    put(monkeypatch, ranger(350.2))
    _, out, _ = yukimi(*BARE, "--json")
    document = json.loads(out)
    assert births() == {
        "snow-1": {"date": document["date"], "record": document["record"]},
        "air-1": None,
        "hall-1": None,
    }
    config.write_text(config.read_text().replace("350.0", "360.0"))
    assert births()["snow-1"] is None


def test_a_check_of_the_configuration_says_how_each_sensor_stands(
    yukimi: Yukimi,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def checked() -> str:
        assert main(["config", "check", "--config", str(config)]) == 0
        (line,) = [each for each in capsys.readouterr().out.splitlines() if "snow-1:" in each]
        return line

    assert checked().endswith("a record each 60 s")
    put(monkeypatch, ranger(350.2))
    yukimi(*BARE)
    assert "; accepted 20" in checked()
    config.write_text(config.read_text().replace("350.0", "360.0"))
    assert checked().endswith("under other options: yukimi commission snow-1")
    put(monkeypatch, ranger(350.2))
    yukimi(*BARE)
    assert "; FAILED its test 20" in checked()


def test_a_wrong_height_fails_with_the_line_to_write_and_passes_with_it(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, ranger(381.0))
    code, out, _ = yukimi(*BARE)
    assert code == 1
    assert "mount_height_cm = 381.0" in out
    assert "snow-1: FAIL" in out
    config.write_text(
        config.read_text().replace("mount_height_cm = 350.0", "mount_height_cm = 381.0")
    )
    put(monkeypatch, ranger(381.0))
    assert yukimi(*BARE)[0] == 0
    assert [json.loads(file.read_bytes())["passed"] for file in files(config)] == [False, True]


def test_the_line_is_written_where_that_is_wanted_and_plain(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, ranger(381.0))
    before = config.read_text()
    code, _, err = yukimi(*BARE, "--write")  # its options are in one line with others
    assert code == 1
    assert "write the line into the options of snow-1 yourself" in err
    assert config.read_text() == before
    table = "[sensors.options]\nmount_height_cm = 350.0  # by tape\n"
    config.write_text(before.replace("options = { mount_height_cm = 350.0 }\n", table))
    config.chmod(0o640)
    put(monkeypatch, ranger(381.0))
    assert yukimi(*BARE, "--write")[0] == 1
    assert "mount_height_cm = 381.0  # by tape\n" in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    put(monkeypatch, ranger(381.0))
    assert yukimi(*BARE)[0] == 0


def test_falling_snow_is_no_zero(yukimi: Yukimi, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, ranger(352.1, snowflake_share=0.3))
    code, out, _ = yukimi(*BARE)
    assert code == 1
    assert "falling snow" in out


def test_the_ground_must_be_said_to_be_bare(yukimi: Yukimi, config: Path) -> None:
    code, _, err = yukimi("snow-1", "--yes")
    assert code == 2
    assert "--bare-ground" in err
    assert files(config) == []


def test_an_air_sensor_is_compared_with_a_thermometer(
    yukimi: Yukimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch)
    code, out, _ = yukimi("air-1", "-n", 5, "--json")
    assert code == 0
    document = json.loads(out)
    truth_c = document["measured"]["air_temperature_c"]["median"]
    assert yukimi("air-1", "-n", 5, "--thermometer", round(truth_c + 0.5, 1))[0] == 0
    put(monkeypatch)
    assert yukimi("air-1", "-n", 5, "--thermometer", round(truth_c + 5.0, 1))[0] == 1


def test_a_device_that_does_not_answer_leaves_no_record(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held(SimulatedSerial):
        def open(self) -> None:
            raise BusError("/dev/ttyX: in use by another program: yukimi (process 7)")

    clock = Clock()
    wire = Held([], clock.s)
    there = partial(direct.Direct, opener=lambda *_: (wire, lambda _: wire))
    monkeypatch.setattr(_acceptance, "Direct", there)
    code, _, err = yukimi(*BARE)
    assert code == 69
    assert "systemctl stop yukimi" in err
    assert files(config) == []


def test_where_no_record_can_be_kept_nobody_is_sent_to_walk(
    yukimi: Yukimi, config: Path, tmp_path: Path
) -> None:
    config.write_text(CONFIG.replace("SPOOL", str(config / "spool.db")))  # below a file
    code, _, err = yukimi("hall-1", "--consent")
    assert code == 74
    assert "cannot be written to" in err


# people

WALK = ("hall-1", "--walk-in", 3, "--walk-out", 3)


def test_without_consent_nobody_is_counted(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, walkers("ioioio"))
    code, out, err = yukimi(*WALK)
    assert (code, out) == (2, "")
    assert "--consent" in err
    assert files(config) == []


def test_who_walked_is_counted_and_only_the_verdict_is_kept(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, walkers("ioioio"))
    code, out, _ = yukimi(*WALK, "--consent")
    assert code == 0, out
    assert "in: walked 3, counted 3" in out
    (file,) = files(config)
    held = json.loads(file.read_bytes())
    assert held["measured"] == {
        "walked": {"towards": 3, "away": 3},
        "within": {"towards": 1, "away": 1},
    }


def test_two_counts_that_pass_leave_the_same_record(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ways in ("ioioio", "ioioi"):
        put(monkeypatch, walkers(ways))
        code, out, _ = yukimi(*WALK, "--consent", "--seconds", 90, "--json")
        counted = json.loads(out)["counted"]
        assert (code, counted) == (0, {"towards": ways.count("i"), "away": ways.count("o")})
    one, other = (json.loads(file.read_bytes()) for file in files(config))
    for what in ("salt", "record", "time"):
        del one[what], other[what]
    assert one == other


@pytest.mark.parametrize(
    ("ways", "why"),
    [("oioioi", "flip = true"), ("", "counted nobody"), ("iiiiii", "one way only")],
)
def test_a_likely_cause_is_named(
    yukimi: Yukimi, monkeypatch: pytest.MonkeyPatch, ways: str, why: str
) -> None:
    put(monkeypatch, walkers(ways))
    code, out, _ = yukimi(*WALK, "--consent", "--seconds", 90)
    assert code == 1
    assert why in out
