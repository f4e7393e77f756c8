"""A first configuration: right, readable, written whole or not at all."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drivers
from agent import newfile, setup, typed
from agent.draft import SIMULATED_BUS, Answers, draft
from agent.firstlook import look_at
from agent.interview import Interview, WrongAnswerError
from agent.propose import Proposed
from agent.scan import Candidate, Machine, Place, Report
from config.text import Language
from drivers.base import BusError
from hil import emulation
from tests.agent.steps import killed_at_each_line
from tests.agent.test_interview import Person

from .sensors import Clock, opener, planned

PORT = "/dev/serial/by-id/usb-A"


def answers(**more: Any) -> Answers:
    said = Answers(gateway="g-1", brokers=["mqtts://b.example"], spool="/var/lib/yukimi/spool.db")
    for name, value in more.items():
        setattr(said, name, value)
    return said


def document(said: Answers, *sensors: Proposed) -> dict[str, Any]:
    return tomllib.loads(draft(said, sensors))


def ranger(**options: object) -> Proposed:
    return Proposed("snow-1", "maxbotix-hrxl", PORT, {"mount_height_cm": 352.0} | options)


# The draft


printable = st.text(max_size=40).filter(lambda text: not typed.UNPRINTABLE.search(text))


@given(label_ja=printable, label_en=printable, username=printable)
def test_whatever_is_answered_the_draft_says_the_same(
    label_ja: str, label_en: str, username: str
) -> None:
    said = answers(label_ja=label_ja, label_en=label_en, username=username)
    found = document(said, ranger())
    label = {name: text for name, text in (("ja", label_ja), ("en", label_en)) if text}
    assert found["gateway"].get("label", {}) == label
    assert found["uplink"].get("username", "") == username


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("driver", emulation.emulated())
def test_a_draft_of_any_driver_is_a_right_configuration(driver: str, language: Language) -> None:
    options = dict(emulation.load(driver).options)
    text = draft(answers(), [Proposed("it", driver, SIMULATED_BUS, options)], language=language)
    (sensor,) = setup.check(text, Path("/etc/yukimi/gateway.toml")).sensors
    assert sensor.table.options == options


@pytest.mark.parametrize("driver", drivers.names())
def test_options_that_are_commented_are_the_defaults(driver: str) -> None:
    model = drivers.load(driver)
    example = dict(model.spec.example)
    text = draft(answers(), [Proposed("it", driver, SIMULATED_BUS, example)])
    head, _, tail = text.partition("[sensors.options]")
    shown = re.sub(r"^# (\w+ = )", r"\1", tail, flags=re.MULTILINE)
    options = tomllib.loads(head + "[sensors.options]" + shown)["sensors"][0].get("options", {})
    assert model.Options.model_validate(options) == model.Options.model_validate(example)


def test_a_template_has_no_sensor_and_says_so_when_checked(tmp_path: Path) -> None:
    text = draft(answers(), [])
    assert "sensors" not in tomllib.loads(text)
    with pytest.raises(Exception, match="sensors: is missing"):
        setup.check(text, tmp_path / "gateway.toml")


def test_a_sensor_that_is_left_out_needs_only_its_marks_taken_away() -> None:
    lacking = Proposed("snow-2", "maxbotix-hrxl", PORT)
    text = draft(answers(), [ranger()], left_out=[lacking])
    assert len(tomllib.loads(text)["sensors"]) == 1
    begin = text.index("# [[sensors]]")
    freed = text[:begin] + re.sub(r"^# ?", "", text[begin:], flags=re.MULTILINE)
    assert [s["id"] for s in tomllib.loads(freed)["sensors"]] == ["snow-1", "snow-2"]


def test_people_are_counted_for_fifteen_minutes_whatever_the_window() -> None:
    real = document(answers(window_s=10), Proposed("hall-1", "hlk-ld2450", PORT))
    assert real["privacy"]["flow"]["window_s"] == 900
    assert "window_s" not in real["sensors"][0]
    nobody = document(answers(window_s=10), *setup.simulated().sensors)
    assert nobody["privacy"]["flow"]["window_s"] == 60


# Choosing


def found(*candidates: Candidate, bus: str = PORT) -> Report:
    return Report([Place("serial", bus, "found", "", found=list(candidates))])


SR50A = Candidate("campbell-sr50a", "SR50A", dict(drivers.load("campbell-sr50a").spec.example))


def choose(report: Report, *said: str, settings: dict[str, str] | None = None) -> setup.Chosen:
    settings = settings or {}
    flags = {f"--set {key}": value for key, value in settings.items()}
    person = Person(*said) if said else None
    return setup.choose(Interview(person, flags, language="en"), report, settings)


def test_a_mounting_height_is_asked_for_and_never_the_examples() -> None:
    (sensor,) = choose(found(SR50A), "y", "", "3o0", "300").sensors
    assert sensor.options["mount_height_cm"] == 300


def test_a_sensor_whose_height_nobody_knows_is_left_out() -> None:
    chosen = choose(found(SR50A), "y", "", "-")
    assert (chosen.sensors, [each.id for each in chosen.left_out]) == ([], ["snow-1"])


def test_two_devices_on_one_line_are_both_taken_two_guesses_at_one_device_are_not() -> None:
    umb = [Candidate("lufft-umb", "", {"model": m}) for m in ("irs31pro", "shm31")]
    assert len(choose(found(*umb), "y", "", "y", "").sensors) == 2
    guesses = [Candidate("hlk-ld2450", "", {}), Candidate("nmea-gnss", "", {})]
    (sensor,) = choose(found(*guesses), "n", "y", "").sensors
    assert sensor.driver == "nmea-gnss"


def test_an_id_that_is_taken_or_reserved_is_asked_again() -> None:
    umb = [Candidate("lufft-umb", "", {"model": m}) for m in ("irs31pro", "shm31")]
    chosen = choose(found(*umb), "y", "a", "y", "a", "alerts", "b")
    assert [sensor.id for sensor in chosen.sensors] == ["a", "b"]


def test_a_script_gives_options_by_name() -> None:
    settings = {"snow-1.mount_height_cm": "300", "snow-1.slope_deg": "5"}
    nobody = Interview(
        None,
        {"--name snow-1": "snow-1"} | {f"--set {key}": value for key, value in settings.items()},
        language="en",
    )
    (sensor,) = setup.choose(nobody, found(SR50A), settings).sensors
    assert (sensor.options["mount_height_cm"], sensor.options["slope_deg"]) == (300, 5)
    assert nobody.missing == []


@pytest.mark.parametrize(
    ("option", "why"),
    [("mount_height_cm=99999", "at most 2200"), ("mount_hight_cm=3", "did you mean")],
)
def test_a_wrong_option_is_told_with_the_reason(option: str, why: str) -> None:
    key, _, value = option.partition("=")
    with pytest.raises(WrongAnswerError, match=why):
        choose(found(SR50A), settings={f"snow-1.{key}": value})


def test_the_boards_health_is_offered_where_the_kernel_shows_it(tmp_path: Path) -> None:
    assert setup.board_of(Machine(root=tmp_path), []) is None
    (tmp_path / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    board = setup.board_of(Machine(root=tmp_path), ["cabinet-1"])
    assert board is not None
    assert (board.id, board.driver, board.bus) == ("cabinet-2", "pi-health", "system")


# Reading once


def test_of_a_people_sensor_only_its_state_is_kept() -> None:
    clock = Clock()
    sensor = planned("beam-pair")
    look = look_at(sensor, opener=opener(clock), now_ns=clock.ns, wait_s=clock.advance)
    assert (look.state, look.values) == ("ok", ())


@pytest.mark.parametrize("driver", ["mlx90614", "maxbotix-hrxl", "nmea-gnss", "ds18b20"])
def test_what_a_sensor_says_is_shown_with_its_unit(driver: str) -> None:
    clock = Clock()
    sensor = planned(driver)
    look = look_at(
        sensor, opener=opener(clock), longest_s=60.0, now_ns=clock.ns, wait_s=clock.advance
    )
    assert look.state == "ok", look
    assert all(value.unit for value in look.values)
    assert any(value.value is not None for value in look.values)


def test_a_sensor_that_does_not_answer_is_told_of_and_stops_nobody() -> None:
    def dead(*_: object) -> Any:
        class Nobody:
            def open(self) -> None:
                raise BusError("/dev/ttyX: No such file or directory")

            def close(self) -> None:
                pass

        return Nobody(), lambda _: Nobody()

    look = look_at(planned("mlx90614"), opener=dead)
    assert (look.state, look.error) == ("silent", "/dev/ttyX: No such file or directory")


# Writing


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_what_is_written_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gateway.toml"
    files = setup.write(path, "text", {"broker-password": "hush"})
    assert files == [path.parent / "broker-password", path]
    assert [mode(file) for file in files] == [0o600, 0o640]
    assert files[0].read_text() == "hush\n"


def test_nothing_is_overwritten_and_then_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        setup.write(path, "yours", {"broker-password": "hush"})
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_passwords_file_that_is_there_is_another_ones(tmp_path: Path) -> None:
    assert setup.secret_name(tmp_path) == "broker-password"
    (tmp_path / "broker-password").symlink_to("nowhere")
    assert setup.secret_name(tmp_path) == "broker-password-2"


@pytest.mark.parametrize("module", [setup, newfile])
def test_a_kill_at_any_line_leaves_a_whole_configuration_or_none(
    tmp_path: Path, module: Any
) -> None:
    path = tmp_path / "gateway.toml"
    seen = set()

    def live() -> None:
        setup.write(path, "text", {"broker-password": "hush"})

    for _ in killed_at_each_line(module, live):
        seen.add(path.exists())
        if path.exists():
            assert path.read_text() == "text"
            assert (tmp_path / "broker-password").read_text() == "hush\n"
        for file in tmp_path.iterdir():
            file.unlink()
    assert seen == {False, True}


def test_root_gives_the_files_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(setup, "service_owner", lambda: (71, 72))
    monkeypatch.setattr(newfile.os, "fchown", lambda _, user, group: given.append((user, group)))
    setup.write(tmp_path / "gateway.toml", "text", {"broker-password": "hush"})
    assert given == [(71, 72), (0, 72)]  # the daemon reads its configuration, and cannot change it
