"""The command: exit codes, JSON on stdout and nothing else, and what a technician is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import drivers
from agent.cli import VERBS, main

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "examples" / "simulated.toml"

Yukimi = Callable[..., "Said"]


class Said:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def yukimi(capsys: pytest.CaptureFixture[str]) -> Yukimi:
    def command(*arguments: object) -> Said:
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as exc:  # how argparse ends
            code = exc.code if isinstance(exc.code, int) else 1
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return command


def test_without_a_verb_it_says_what_to_do_and_exits_2(yukimi: Yukimi) -> None:
    said = yukimi()
    assert said.code == 2
    assert "--help" in said.err


def test_an_unknown_verb_is_wrong_usage(yukimi: Yukimi) -> None:
    said = yukimi("snow")
    assert said.code == 2
    assert said.out == ""
    assert "snow" in said.err


def test_an_unknown_option_is_wrong_usage(yukimi: Yukimi) -> None:
    assert yukimi("drivers", "--colour").code == 2


def test_the_help_lists_every_verb_and_the_exit_codes(yukimi: Yukimi) -> None:
    said = yukimi("--help")
    assert said.code == 0
    assert all(verb in said.out for verb in VERBS)
    assert all(str(code) in said.out for code in (69, 74, 78))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(yukimi: Yukimi, verb: str) -> None:
    said = yukimi(verb, "--help")
    assert said.code == 0
    assert said.out.startswith(f"usage: yukimi {verb}")


@pytest.mark.parametrize("words", [["drivers"], ["config", "schema"]], ids=" ".join)
def test_a_verb_that_needs_no_configuration_takes_one(yukimi: Yukimi, words: list[str]) -> None:
    assert yukimi(*words, "--config", str(EXAMPLE), "--json").out == yukimi(*words, "--json").out


def test_a_configuration_that_never_was_is_wrong_usage(yukimi: Yukimi, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(EXAMPLE.read_text().replace("yukimi-spool.db", str(tmp_path / "spool.db")))
    said = yukimi("config", "diff", "file", "17", "--config", str(file))
    assert said.code == 2
    assert "17" in said.err


def test_the_version_is_told(yukimi: Yukimi) -> None:
    said = yukimi("--version")
    assert (said.code, said.out.split()[0]) == (0, "yukimi")


def test_the_version_names_the_package_and_the_commit_that_it_was_built_from(
    yukimi: Yukimi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"package": "0.1.0-1~deb12", "architecture": "arm64", "commit": "0123456789ab"}
    monkeypatch.setattr("agent.build.FILE", tmp_path / "build.json")
    (tmp_path / "build.json").write_text(json.dumps(told))
    said = yukimi("--version").out
    assert said.endswith(" (package 0.1.0-1~deb12 arm64, commit 0123456789ab)\n")


@pytest.mark.parametrize("arguments", [["--help"], ["drivers", "--help"]])
def test_help_comes_without_loading_the_daemon(arguments: list[str]) -> None:
    script = (
        "import sys; from agent.cli import main\n"
        f"try: main({arguments})\n"
        "except SystemExit: pass\n"
        "heavy = {'paho', 'numpy', 'sqlite3', 'serial'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


# config


BROKEN = """
[uplink]
brokers = ["mqtt://broker.example"]
inflite = 4
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS1"
[sensors.options]
mount_hight_cm = 350.0
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(BROKEN, encoding="utf-8")
    return path


def test_a_good_configuration_is_explained(yukimi: Yukimi) -> None:
    said = yukimi("config", "check", "--config", EXAMPLE)
    assert said.code == 0
    assert "good" in said.out


def test_a_good_configuration_as_json(yukimi: Yukimi) -> None:
    said = yukimi("config", "check", "--config", EXAMPLE, "--json")
    assert said.code == 0
    document = said.document
    assert document["schema"] == "yukimi.config/1"
    assert (document["ok"], document["problems"]) == (True, [])
    assert document["sensors"]


def test_a_configuration_in_pieces_names_each_of_them(yukimi: Yukimi, tmp_path: Path) -> None:
    main, site = tmp_path / "gateway.toml", tmp_path / "gateway.d" / "50-site.toml"
    site.parent.mkdir()
    main.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    site.write_text("[commands]\nallow = []\n", encoding="utf-8")
    said = yukimi("config", "check", "--config", main)
    assert f"together with {site}" in said.out
    assert yukimi("config", "check", "--config", main, "--json").document["files"] == [
        str(main),
        str(site),
    ]


def test_a_broken_configuration_exits_78_with_all_that_is_to_edit(
    yukimi: Yukimi, broken: Path
) -> None:
    said = yukimi("config", "check", "--config", broken)
    assert said.code == 78
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{broken}: uplink.inflite: ")
    assert lines[1].startswith(f"{broken}: sensors[0].options.mount_hight_cm: ")
    assert lines[-1] == f"{broken}: 2 problems to edit"


def test_a_broken_configuration_as_json(yukimi: Yukimi, broken: Path) -> None:
    said = yukimi("config", "check", "--config", broken, "--json")
    assert said.code == 78
    document = said.document
    assert document["ok"] is False
    assert [problem["path"] for problem in document["problems"]] == [
        "uplink.inflite",
        "sensors[0].options.mount_hight_cm",
    ]
    assert document["problems"][0]["file"] == str(broken)
    assert 'did you mean "inflight"' in document["problems"][0]["what"]


def test_the_configuration_is_found_through_the_environment(
    yukimi: Yukimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUKIMI_CONFIG", str(EXAMPLE))
    assert yukimi("config", "check").code == 0


def test_no_configuration_at_all_exits_78(yukimi: Yukimi, tmp_path: Path) -> None:
    said = yukimi("config", "check", "--config", tmp_path / "none.toml")
    assert said.code == 78
    assert "no such file" in said.out


def test_the_schema_is_json_schema_and_accepts_the_examples(yukimi: Yukimi) -> None:
    said = yukimi("config", "schema")
    assert said.code == 0
    jsonschema.Draft202012Validator.check_schema(said.document)
    validator = jsonschema.Draft202012Validator(said.document)
    for example in EXAMPLE.parent.glob("*.toml"):
        validator.validate(tomllib.loads(example.read_text(encoding="utf-8")))
    tables = tomllib.loads(BROKEN)
    found = {"/".join(map(str, error.absolute_path)) for error in validator.iter_errors(tables)}
    assert found == {"uplink", "sensors/0/options"}


# drivers


def test_every_driver_is_listed(yukimi: Yukimi) -> None:
    said = yukimi("drivers")
    assert said.code == 0
    head, *lines = said.out.splitlines()
    assert head.split() == ["driver", "kind", "bus", "device"]
    assert [line.split()[0] for line in lines] == drivers.names()


@pytest.mark.parametrize("name", drivers.names())
def test_every_driver_has_a_page(yukimi: Yukimi, name: str) -> None:
    said = yukimi("drivers", name)
    assert said.code == 0
    assert said.out.startswith(f"{name}: ")
    for label in ("kind", "bus", "option", "wiring", "evidence", "source"):
        assert f"\n  {label}" in said.out
    assert max(map(len, said.out.splitlines())) < 120


@pytest.mark.parametrize("name", [None, *drivers.names()])
def test_drivers_as_json(yukimi: Yukimi, name: str | None) -> None:
    said = yukimi("drivers", *([name] if name else []), "--json")
    assert said.code == 0
    assert said.document["schema"] == "yukimi.drivers/1"
    listed = [driver["name"] for driver in said.document["drivers"]]
    assert listed == ([name] if name else drivers.names())
    for driver in said.document["drivers"]:
        assert {"bus", "kind", "options", "wiring", "evidence", "source"} <= set(driver)
        chosen = driver["name"] == "modbus-rtu"  # what it measures is all in its options
        assert driver["quantities"] or driver["directions"] or chosen


def test_an_unknown_driver_is_wrong_usage_and_the_nearest_is_named(yukimi: Yukimi) -> None:
    said = yukimi("drivers", "maxbotix")
    assert (said.code, said.out) == (2, "")
    assert 'did you mean "maxbotix-hrxl"?' in said.err


# replay


Recording = Callable[..., Path]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    def written(bus: str, driver: str, entries: Iterable[Any], **options: Any) -> Path:
        header = {"yukimi": "recording/1", "bus": bus, "driver": driver, "options": options}
        lines = [each if isinstance(each, str) else json.dumps(each) for each in (header, *entries)]
        path = tmp_path / "recording.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return written


def rx(t_s: float, chunk: bytes) -> dict[str, Any]:
    return {"t_s": t_s, "rx": chunk.hex()}


def pin(t_s: float, number: int, level: int) -> dict[str, Any]:
    return {"t_s": t_s, "pin": number, "level": level}


def frame(t_s: float, warmest: int = 0) -> dict[str, Any]:
    pixels = [100 + (index * 7) % 3 + (warmest if index == 20 else 0) for index in range(64)]
    image = b"".join(pixel.to_bytes(2, "little") for pixel in pixels)
    return {"t_s": t_s, "address": 0x69, "write": "80", "read": image.hex()}


def test_a_serial_recording_is_decoded_whatever_the_chunks(
    yukimi: Yukimi, recording: Recording
) -> None:
    path = recording(
        "serial",
        "maxbotix-hrxl",
        [rx(0.0, b"R1234\rR12"), {"t_s": 0.1, "tx": "3f"}, rx(0.2, b"50\rR5000\rjunk\r")],
    )
    said = yukimi("replay", path, "--json")
    assert said.code == 0
    assert said.lines == [
        {"t_s": 0.0, "values": {"distance_cm": 123.4}, "quality": {"flag": "good"}},
        {"t_s": 0.2, "values": {"distance_cm": 125.0}, "quality": {"flag": "good"}},
        {
            "t_s": 0.2,
            "values": {"distance_cm": None},
            "quality": {"flag": "missing", "reasons": ["weak_signal"]},
        },
        {
            "summary": {
                "readings": 3,
                "frames": 3,
                "frame_errors": 1,
                "towards": 0,
                "away": 0,
            }
        },
    ]


def test_an_option_on_the_command_line_overrides_the_recordings(
    yukimi: Yukimi, recording: Recording
) -> None:
    path = recording("serial", "maxbotix-hrxl", [rx(0.0, b"R1234\r")], mount_height_cm=300.0)
    own = yukimi("replay", path, "--json").lines[0]["values"]
    other = yukimi("replay", path, "--json", "--option", "mount_height_cm=350").lines[0]["values"]
    assert own == {"distance_cm": 123.4, "depth_cm": 176.6}
    assert other == {"distance_cm": 123.4, "depth_cm": 226.6}


def test_the_driver_may_be_named(yukimi: Yukimi, recording: Recording) -> None:
    path = recording("serial", "somebody-elses", [rx(0.0, b"R1234\r")])
    assert yukimi("replay", path, "--driver", "maxbotix-hrxl").code == 0


def test_an_i2c_recording_is_answered_as_it_was(yukimi: Yukimi, recording: Recording) -> None:
    entries = [
        frame(0.0),
        {"t_s": 0.1, "address": 0x69, "write": "80", "error": "EREMOTEIO"},
        {"t_s": 0.2, "address": 0x50, "write": "00", "read": "ff"},  # another device's
        frame(0.3, 1),
        {"t_s": 0.4, "address": 0x69, "write": "80", "read": "00" * 128},
        frame(0.5, 2),
    ]
    path = recording("i2c", "grideye-amg88xx", entries, warmup_s=0)
    said = yukimi("replay", path, "--json")
    assert said.code == 0
    assert said.lines == [
        {"summary": {"readings": 0, "frames": 3, "frame_errors": 1, "towards": 0, "away": 0}}
    ]


def walk(at_s: float, first: int, second: int) -> list[dict[str, Any]]:
    """Somebody walks through two beams; a blocked one is low."""
    return [
        pin(at_s, first, 0),
        pin(at_s + 0.1, second, 0),
        pin(at_s + 0.3, first, 1),
        pin(at_s + 0.4, second, 1),
    ]


def test_a_recording_of_pins_counts_who_passed(yukimi: Yukimi, recording: Recording) -> None:
    entries = [*walk(1.0, 17, 27), *walk(5.0, 27, 17), *walk(9.0, 17, 27)]
    path = recording("gpio", "beam-pair", entries, pin_a=17, pin_b=27)
    said = yukimi("replay", path, "--json")
    assert said.code == 0
    assert [line.get("crossing") for line in said.lines] == ["towards", "away", "towards", None]
    assert said.lines[-1]["summary"] == {
        "readings": 0,
        "frames": 12,
        "frame_errors": 0,
        "towards": 2,
        "away": 1,
    }


def test_without_json_it_is_for_people_to_read(yukimi: Yukimi, recording: Recording) -> None:
    path = recording("gpio", "beam-pair", walk(1.0, 17, 27), pin_a=17, pin_b=27)
    last = yukimi("replay", path).out.splitlines()[-1]
    assert last == "4 frames, 0 frame errors, 0 readings; crossings: 1 towards, 0 away"


def test_a_recording_in_which_the_device_said_nothing_exits_1(
    yukimi: Yukimi, recording: Recording
) -> None:
    path = recording("serial", "maxbotix-hrxl", [rx(0.0, b"junk\r")])
    said = yukimi("replay", path, "--json")
    assert said.code == 1
    assert said.lines[-1]["summary"]["frame_errors"] == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{", "line 3: is not JSON"),
        ("[1]", "line 3: must be a JSON object"),
        ({"rx": "00"}, "line 3: t_s must be a number"),
        ({"t_s": "1", "rx": "00"}, "line 3: t_s must be a number"),
        ('{"t_s": NaN, "rx": "00"}', "line 3: t_s must be a number"),
        ('{"t_s": 1e999, "rx": "00"}', "line 3: t_s must be a number"),
        ({"t_s": 1, "rx": "0g"}, "line 3: rx must be bytes in hexadecimal"),
        ({"t_s": 1, "rx": 7}, "line 3: rx must be bytes in hexadecimal"),
    ],
)
def test_what_is_wrong_in_a_recording_is_told_by_its_line(
    yukimi: Yukimi, recording: Recording, entry: Any, words: str
) -> None:
    path = recording("serial", "maxbotix-hrxl", [rx(0.0, b"R1234\r"), entry])
    said = yukimi("replay", path)
    assert said.code == 2
    assert words in said.err
    assert str(path) in said.err


@pytest.mark.parametrize(
    ("bus", "driver", "options", "entry", "words"),
    [
        ("i2c", "grideye-amg88xx", {}, {"address": 200, "read": ""}, "address must be 0 to 127"),
        ("i2c", "grideye-amg88xx", {}, {"address": 0x69, "read": "x"}, "read must be bytes"),
        ("gpio", "beam-pair", {"pin_a": 1, "pin_b": 2}, {"pin": 1}, "needs pin, and level 0 or 1"),
        ("gpio", "beam-pair", {"pin_a": 1, "pin_b": 2}, {"pin": 1, "level": 2}, "level 0 or 1"),
    ],
)
def test_what_is_wrong_on_other_buses_is_told_by_its_line_too(
    yukimi: Yukimi,
    recording: Recording,
    bus: str,
    driver: str,
    options: dict[str, Any],
    entry: dict[str, Any],
    words: str,
) -> None:
    said = yukimi("replay", recording(bus, driver, [{"t_s": 0.0} | entry], **options))
    assert said.code == 2
    assert f"line 2: {words}" in said.err or ("line 2: " in said.err and words in said.err)


def test_a_file_that_is_no_recording_is_told(yukimi: Yukimi, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("", encoding="utf-8")
    assert "not a recording" in yukimi("replay", path).err
    path.write_text('{"yukimi": "recording/1", "bus": "can"}\n', encoding="utf-8")
    assert 'bus must be "serial", "i2c", "gpio", "w1" or "system"' in yukimi("replay", path).err
    path.write_text('{"yukimi": "recording/1", "bus": "i2c"}\n', encoding="utf-8")
    said = yukimi("replay", path)
    assert "name one with --driver" in said.err
    assert said.code == 2


def test_a_recording_that_cannot_be_read_exits_74(yukimi: Yukimi, tmp_path: Path) -> None:
    said = yukimi("replay", tmp_path / "none.jsonl")
    assert (said.code, said.out) == (74, "")
    assert "No such file" in said.err
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert yukimi("replay", tmp_path / "x").code == 74


def test_a_recording_of_another_bus_than_the_drivers_is_refused(
    yukimi: Yukimi, recording: Recording
) -> None:
    said = yukimi("replay", recording("i2c", "maxbotix-hrxl", []))
    assert said.code == 2
    assert "sits on a serial bus, and this is a recording of a i2c bus" in said.err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("mount_height_cm", "write it as name=value"),
        ("mount_hight_cm=3", 'unknown key "mount_hight_cm"; did you mean "mount_height_cm"?'),
        ("range_m=7", "must be 5 or 10, not 7"),
    ],
)
def test_a_wrong_option_is_wrong_usage(
    yukimi: Yukimi, recording: Recording, option: str, words: str
) -> None:
    path = recording("serial", "maxbotix-hrxl", [])
    said = yukimi("replay", path, "--option", option)
    assert said.code == 2
    assert words in said.err


def test_a_long_recording_is_played_in_a_breath(yukimi: Yukimi, recording: Recording) -> None:
    entries = [frame(tenth / 10, tenth % 5) for tenth in range(6000)]
    path = recording("i2c", "grideye-amg88xx", entries, warmup_s=0)
    assert yukimi("replay", path, "--json").lines[-1]["summary"]["frames"] == 6000


# run


def run_daemon(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "run", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=EXAMPLE.parents[2],
        env=os.environ | environment,
    )


def test_the_drivers_fit_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["drivers"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_daemon_does_not_start_with_a_broken_configuration(broken: Path) -> None:
    said = run_daemon("--config", broken)
    assert said.returncode == 78
    assert "uplink.inflite" in said.stderr
    assert "mount_hight_cm" in said.stderr
    assert said.stdout == ""


def test_a_reader_that_has_enough_is_no_error(recording: Recording) -> None:
    path = recording(
        "serial", "maxbotix-hrxl", [rx(each / 10, b"R1234\r") for each in range(20_000)]
    )
    command = f"{sys.executable} -m agent replay {path} --json | head -n 1"
    said = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=EXAMPLE.parents[2],
    )
    assert said.stderr == ""
    assert said.returncode == 0
    assert len(said.stdout.splitlines()) == 1


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=EXAMPLE.parents[2],
    )


@pytest.mark.parametrize("verb", ["drivers", "config schema", "drivers bme280 --json"])
def test_output_for_which_there_is_no_room_is_an_io_error_and_no_bug(verb: str) -> None:
    said = shell(f"{sys.executable} -m agent {verb} > /dev/full")
    assert said.stderr.splitlines() == [
        "yukimi: the output cannot be written: No space left on device"
    ]
    assert said.returncode == 74


@pytest.mark.parametrize("verb", ["drivers", f"config check --config {EXAMPLE}"])
def test_a_closed_output_is_no_bug(verb: str) -> None:
    said = shell(f"{sys.executable} -m agent {verb} >&-")
    assert "Traceback" not in said.stderr
    assert said.returncode == 0


def test_a_recording_is_not_blamed_for_a_full_disk_behind_the_output(recording: Recording) -> None:
    path = recording("serial", "maxbotix-hrxl", [rx(each / 10, b"R1234\r") for each in range(20)])
    said = shell(f"{sys.executable} -m agent replay {path} --json > /dev/full")
    assert said.stderr == "yukimi: the output cannot be written: No space left on device\n"
    assert said.returncode == 74


def test_a_reader_of_the_privacy_notice_may_stop_reading() -> None:
    asked = f"{sys.executable} -m agent privacy report --config {EXAMPLE}"
    said = shell(f"{asked} > >(exec 0<&-; sleep 5)")
    assert "Broken pipe" not in said.stderr
    assert said.returncode == 0


@pytest.mark.parametrize("verb", ["record snow-2", "diag report", "spool export"])
def test_a_file_that_the_system_refuses_is_an_io_error_and_no_bug(verb: str) -> None:
    name = "x" * 300
    said = shell(f"{sys.executable} -m agent {verb} --config {EXAMPLE} -o /tmp/{name}")
    assert said.stderr.splitlines()[-1].endswith(f"/tmp/{name}: File name too long")
    assert said.returncode == 74


def test_a_spool_that_cannot_be_opened_is_not_intact_for_machines_too(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"no database at all, " * 500)
    said = shell(f"{sys.executable} -m agent spool verify --json --file {tmp_path}/spool.db")
    told = json.loads(said.stdout)
    assert (told["schema"], told["ok"], told["count"]) == ("yukimi.spool/1", False, 1)
    assert "damaged" in told["problems"][0]
    assert said.returncode == 1
