"""Broken cabinets: the doctor names what is broken, first, and accuses nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from agent.doctor.order import BY_ID
from agent.doctor.run import Result
from hil.__main__ import main
from hil.cabinets import CABINETS, Workshop, skip_reason
from hil.cabinets.table import verdict
from hil.cabinets.workshop import until
from hil.devices.ds3231 import Ds3231Device
from tests.e2e.conftest import need_mosquitto


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    need_mosquitto()
    with Workshop() as workshop:
        yield workshop


def examined(workshop: Workshop, name: str) -> list[Result]:
    why = skip_reason(CABINETS[name])
    if why is not None:
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    CABINETS[name].breaks(workshop)
    return workshop.examine()


def found(results: list[Result], name: str, status: str) -> list[Result]:
    return [each for each in results if each.check.id == name and each.done.status == status]


@pytest.mark.parametrize("name", CABINETS)
def test_the_doctor_names_what_is_broken_says_what_to_do_and_accuses_nothing_else(
    workshop: Workshop, name: str
) -> None:
    results = examined(workshop, name)
    told = "\n".join(f"{r.done.status} {r.check.id} [{r.name}] {r.done.evidence}" for r in results)
    assert verdict(CABINETS[name], results) is None, told


def test_there_are_thirty_broken_cabinets_and_sound_ones() -> None:
    broken = [each for each in CABINETS.values() if each.cause is not None]
    assert len(broken) >= 30
    assert len(CABINETS) > len(broken)
    assert all(each.cause in BY_ID and each.step for each in broken)


@pytest.mark.parametrize(
    ("broken", "said"),
    [("sound", "YK-SEN-04"), ("wrong-password", "nothing"), ("obstructed", "YK-SEN-05")],
)
def test_a_doctor_who_is_wrong_is_found_out(workshop: Workshop, broken: str, said: str) -> None:
    results = examined(workshop, broken)
    for result in results:  # another doctor: accuses a sound part, or overlooks the broken one
        if said == "nothing" and result.done.status == "FAIL":
            result.finding = BY_ID["YK-CFG-01"].look(workshop.site(), None)
        if said == "YK-SEN-04" and result.check.id == said:
            result.finding = found_wrong()
        if said == "YK-SEN-05" and result.check.id == "YK-CLK-01":
            result.finding = found_wrong()
    assert verdict(CABINETS[broken], results) is not None


def found_wrong() -> object:
    from agent.doctor.findings import failed
    from config.text import Text

    return failed(Text("it", "それ"), Text("do", "する"))


def test_whoever_is_asked_by_mistake_comes_to_no_harm(workshop: Workshop) -> None:
    examined(workshop, "clock-at-its-address")
    clock = workshop.wire.devices[0x68]
    assert isinstance(clock, Ds3231Device)
    assert not clock.harmed


def test_the_doctor_does_not_throw_the_gateway_out(workshop: Workshop) -> None:
    results = examined(workshop, "running")
    assert found(results, "YK-MQ-01", "PASS")
    broker = workshop.start_broker()
    assert broker.log.count("as cabinet-07 ") == 1
    assert "cabinet-07-doctor" not in broker.log


def test_the_doctor_changes_nothing_that_the_city_hears(workshop: Workshop) -> None:
    results = examined(workshop, "sound")
    assert found(results, "YK-MQ-03", "PASS")
    topic = "yukimi/v1/cabinet-07/alarm/gateway/doctor"
    until(lambda: bool(workshop.city_heard))
    assert workshop.city is not None
    assert workshop.city.report().malformed == 0
    assert workshop.city_heard == {(topic, b"")}


def test_bytes_without_a_line_error_may_be_another_devices(workshop: Workshop) -> None:
    CABINETS["swapped-pair"].breaks(workshop)
    workshop.site_changes["line_errors"] = lambda _path: (0, 0)
    (failure,) = found(workshop.examine(), "YK-SEN-04", "FAIL")
    assert failure.done.next is not None
    assert "another device" in failure.done.next


def test_where_the_clock_is_wrong_a_certificate_is_judged_by_what_is_certain(
    workshop: Workshop,
) -> None:
    results = examined(workshop, "clock-and-certificate")
    (dates,) = [each for each in results if each.check.id == "YK-TLS-04"]
    assert dates.done.status == "PASS"
    assert "the time is not known; it ends" in dates.done.evidence


def test_without_a_gateway_that_knows_each_topic_nobody_listening_is_a_warning(
    workshop: Workshop,
) -> None:
    workshop.has_city = False
    results = examined(workshop, "sound")
    assert found(results, "YK-MQ-04", "WARN")
    assert not found(results, "YK-MQ-04", "FAIL")


def test_one_broker_that_serves_makes_another_ones_failure_a_warning(workshop: Workshop) -> None:
    broker = workshop.start_broker()
    workshop.uplink(brokers=["mqtts://localhost:1", f"mqtts://localhost:{broker.port}"])
    results = examined(workshop, "sound")
    assert [each.name for each in found(results, "YK-NET-04", "WARN")] == ["mqtts://localhost:1"]
    assert verdict(CABINETS["sound"], results) is None


def test_the_bench_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    need_mosquitto()
    assert main(["cabinets", "configuration-missing"]) == 0
    assert "right  configuration-missing" in capsys.readouterr().out
    assert main(["cabinets", "no-such-thing"]) == 2


def test_the_command_line_tells_programs_the_same(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.cli import main as yukimi

    workshop.start_broker()
    workshop.document["buses"] = [{"id": "bench", "kind": "simulated"}]
    for table in workshop.document["sensors"]:
        table["bus"] = "bench"
    path = str(workshop.configure())
    assert yukimi(["doctor", "--config", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "yukimi.doctor/1"
    assert document["first"] is None
    assert document["blinks"] == 0
    (workshop.folder / "broker-password").write_text("wrong")
    assert yukimi(["doctor", "--config", path, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["first"] == "YK-MQ-02"
    assert document["blinks"] == 3
    assert yukimi(["doctor", "--config", path]) == 1
    shown = capsys.readouterr().out
    assert "FAIL" in shown
    assert "YK-MQ-02" in shown.splitlines()[-2]
    assert "wrong" not in document["checks"]
