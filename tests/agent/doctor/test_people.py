"""Of people sensors the doctor says whether they work, and nothing that tells of persons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.doctor.exam import BusExam, Exam
from agent.doctor.order import BY_ID, CHECKS
from agent.doctor.run import run
from agent.doctor.site import Budget, Site
from drivers.base import FrameError

GATEWAY = """
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[spool]
path = "{folder}/spool.db"
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "bench"
options = {{ pin_a = 17, pin_b = 27 }}
[[sensors]]
id = "gate-1"
driver = "pulse-counter"
bus = "bench"
options = {{ pin = 22 }}
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "bench"
"""
PEOPLE = {"door-1", "gate-1", "hall-1"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    config = tmp_path / "gateway.toml"
    config.write_text(GATEWAY.format(folder=tmp_path))
    return Site(config, budget=Budget(listen_s=3.0, bus_s=9.0))


def test_no_number_is_said_of_a_sensor_that_counts_people(site: Site) -> None:
    results = run([each for each in CHECKS if each.over in ("bus", "sensor")], site)
    of_people = [each for each in results if each.name in PEOPLE]
    assert {each.name for each in of_people if each.done.status == "PASS"} == PEOPLE
    for each in of_people:
        said = f"{each.done.evidence} {each.done.evidence.ja}"
        assert not re.search(r"\d", said.replace("YK-SEN-0", "")), said


def test_a_ledger_that_does_not_hold_fails_and_one_that_cannot_be_read_does_not(
    site: Site,
) -> None:
    def missing(_: Path) -> str:
        raise FileNotFoundError

    ledger = BY_ID["YK-PRV-02"]
    for audit, status in (
        (lambda _: "", "PASS"),
        (lambda _: "line 7 was changed", "FAIL"),
        (missing, "SKIP"),
    ):
        site.audit_privacy = audit
        assert ledger.look(site, None).status == status


def test_a_drivers_bug_is_its_own_and_its_words_are_not_repeated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> list[object]:
        raise ZeroDivisionError("27.25 degC at pixel 9")

    monkeypatch.setattr("drivers.grideye.GridEye.poll", fail)
    results = run([each for each in CHECKS if each.over in ("bus", "sensor")], site)
    hall = [each for each in results if each.name == "hall-1"]
    assert {each.done.status for each in hall} <= {"WARN", "PASS", "SKIP"}
    (told,) = [each.done for each in hall if each.done.status == "WARN"]
    assert "ZeroDivisionError" in told.evidence
    assert not any("27.25" in each.done.evidence for each in results)
    doors = {each.done.status for each in results if each.name in ("door-1", "gate-1")}
    assert doors == {"PASS", "SKIP"}


def test_what_a_damaged_frame_of_persons_holds_is_not_said(site: Site) -> None:
    plan = site.plan
    assert plan is not None
    exam = Exam(is_reached=True, error=FrameError("all pixels equal: 27.25 degC"), frame_errors=4)
    bus = BusExam(sensors=dict.fromkeys(PEOPLE, exam))
    site.once("bus bench", lambda: bus)
    hall = next(each for each in plan.sensors if each.table.id == "hall-1")
    for name in ("YK-SEN-01", "YK-SEN-02", "YK-SEN-04", "YK-SEN-06"):
        found = BY_ID[name].look(site, hall)
        assert "27.25" not in f"{found.evidence} {found.evidence.ja} {found.next}", name
    assert BY_ID["YK-SEN-01"].look(site, hall).status == "FAIL"
