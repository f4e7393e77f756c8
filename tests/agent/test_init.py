"""`yukimi init` by flags: what it writes, what it refuses, what it never shows."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import scan as scanning
from agent import setup
from agent.cli import main
from agent.cli._looks import shown
from agent.firstlook import Look, Value
from drivers.gpio import boot_ns
from hil.buses import Pty
from hil.devices.maxbotix import MaxBotixDevice

Yukimi = Callable[..., tuple[int, str, str]]

ENOUGH = ("--id", "trial", "--broker", "mqtt://127.0.0.1:1", "--yes")


@pytest.fixture
def yukimi(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Yukimi:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def command(*arguments: object) -> tuple[int, str, str]:
        code = main(["init", *(str(each) for each in arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


@pytest.fixture
def port() -> Iterator[str]:
    device = MaxBotixDevice(lambda _: 30.0, mount_height_cm=350.0, seed=3)
    with Pty([device], lambda: boot_ns() / 1e9) as pty:
        yield pty.path


def test_a_first_reading_is_in_degrees_as_people_write_them() -> None:
    look = Look("air-1", "ok", (Value("air_temperature_c", -3.5, "Cel"),))
    assert shown(look, is_people=False)[1].split() == ["air_temperature_c", "-3.5", "degC"]


def test_a_file_that_is_there_is_refused_and_stays(yukimi: Yukimi, config: Path) -> None:
    config.write_text("mine")
    code, out, err = yukimi("--config", config, *ENOUGH, "--sensors", "template")
    assert (code, out) == (2, "")
    assert "nothing is overwritten" in err
    assert config.read_text() == "mine"


def test_without_a_terminal_every_missing_flag_is_named(yukimi: Yukimi, config: Path) -> None:
    code, out, err = yukimi("--config", config, "--label-ja=", "--sensors", "template")
    assert (code, out) == (2, "")
    for flag in ("--id", "--label-en", "--location", "--broker", "--username", "--window"):
        assert flag in err
    assert "--label-ja" not in err
    assert not config.exists()


def test_with_all_defaults_only_what_has_none_is_missing(yukimi: Yukimi, config: Path) -> None:
    code, _, err = yukimi("--config", config, "--yes", "--sensors", "template")
    assert code == 2
    assert "these have no answer: --broker;" in err


def test_a_user_without_a_password_is_missing_one(yukimi: Yukimi, config: Path) -> None:
    code, _, err = yukimi("--config", config, *ENOUGH, "--username", "me")
    assert code == 2
    assert "these have no answer: --password-file;" in err


@pytest.mark.parametrize(
    ("flag", "answer"), [("--id", "Trial 1"), ("--location", "141.35,43.06"), ("--window", "7")]
)
def test_a_wrong_flag_is_said_with_the_reason(
    yukimi: Yukimi, config: Path, flag: str, answer: str
) -> None:
    code, _, err = yukimi("--config", config, *ENOUGH, flag, answer, "--sensors", "template")
    assert code == 2
    assert f"{flag} {answer}: " in err
    assert not config.exists()


def test_a_folder_that_cannot_be_is_said_before_anything_is_asked(
    yukimi: Yukimi, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, _, err = yukimi("--config", tmp_path / "file" / "gateway.toml")
    assert code == 74
    assert "cannot be written to" in err


def test_a_template_must_be_edited_and_says_so(yukimi: Yukimi, config: Path) -> None:
    code, out, _ = yukimi("--config", config, *ENOUGH, "--sensors", "template")
    assert code == 78
    assert "it needs a sensor" in out
    assert stat.S_IMODE(config.stat().st_mode) == 0o640


def test_what_is_found_is_read_and_configured(yukimi: Yukimi, config: Path, port: str) -> None:
    settings = ("--set", "snow-1.mount_height_cm=350", "--name", "snow-1=mast")
    wanted = ("--set", "mast.mount_height_cm=350", "--name", "snow-1=mast")
    found = ("--port", port, "--seconds", 8)
    code, _, err = yukimi("--config", config, *ENOUGH, *found, *settings)
    assert code == 2  # the id that it has is the one that counts
    assert "--set mast.mount_height_cm" in err
    code, out, err = yukimi("--config", config, *ENOUGH, *found, *wanted, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["schema"] == "yukimi.init/1"
    (sensor,) = document["sensors"]
    assert (sensor["id"], sensor["state"]) == ("mast", "ok")
    assert sensor["values"]["depth_cm"]["value"] == pytest.approx(30.0, abs=1.0)
    (table,) = tomllib.loads(config.read_text())["sensors"]
    assert (table["id"], table["bus"]) == ("mast", port)


def test_a_setting_for_nobody_is_an_error(yukimi: Yukimi, config: Path, port: str) -> None:
    found = ("--port", port, "--seconds", 8, "--set", "snow-1.mount_height_cm=350")
    code, _, err = yukimi("--config", config, *ENOUGH, *found, "--set", "snow-9.zero_cm=1")
    assert code == 2
    assert "snow-9.zero_cm: no such sensor" in err
    assert not config.exists()


def test_where_nothing_is_found_a_script_must_say_what_then(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan", lambda *_, **__: scanning.Report())
    script = [word for word in ENOUGH if word != "--yes"]
    given = ("--label-ja=", "--label-en=", "--location=", "--username=", "--window=60")
    more = (f"--spool={config.parent / 'spool.db'}", "--clock=kernel")
    code, _, err = yukimi("--config", config, *script, *given, *more)
    assert code == 2
    assert "--sensors" in err
    code, _, _ = yukimi("--config", config, *ENOUGH)
    assert code == 78  # the default is the template


def test_a_password_is_named_by_its_file_and_nowhere_shown(
    yukimi: Yukimi, config: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    user = ("--username", "me", "--password-file", secret, "--sensors", "template")
    _, out, err = yukimi("--config", config, *ENOUGH, *user, "--json")
    assert "hush" not in out + err + config.read_text()
    assert tomllib.loads(config.read_text())["uplink"]["password_file"] == "secret"


def test_ctrl_c_while_it_writes_lets_it_finish(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Any = setup.create_file

    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(setup, "create_file", interrupted)
    code, _, _ = yukimi("--config", config, *ENOUGH, "--sensors", "template")
    assert code == 78
    assert tomllib.loads(config.read_text())["gateway"]["id"] == "trial"


def test_ctrl_c_while_it_looks_leaves_nothing(
    yukimi: Yukimi, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> scanning.Report:
        os.kill(os.getpid(), signal.SIGINT)
        return scanning.Report()

    monkeypatch.setattr(scanning, "scan", interrupted)
    code, _, err = yukimi("--config", config, *ENOUGH)
    assert code == 130
    assert "nothing was written" in err
    assert list(config.parent.iterdir()) == []
