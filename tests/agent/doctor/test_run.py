"""The first failure is the cause: what needs a failed check is not run, what follows is excused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import blink
from agent.doctor.findings import (
    Blink,
    Check,
    Finding,
    Over,
    Page,
    failed,
    passed,
    skipped,
    warned,
)
from agent.doctor.order import CHECKS
from agent.doctor.run import HANGS, Result, first_failure, run
from agent.doctor.site import Budget, Site
from config.text import Text

IT = Text("it", "それ")
ROADSIDE = Path(__file__).resolve().parents[3] / "config/examples/roadside.toml"


def good(*_: object) -> Finding:
    return passed("good", "正常")


def bad(*_: object) -> Finding:
    return failed(IT, IT)


def none(*_: object) -> Finding:
    return skipped("none", "なし")


def check(
    name: str,
    look: Callable[..., Finding],
    *,
    over: Over = "gateway",
    needs: tuple[str, ...] = (),
    excused_by: tuple[str, ...] = (),
) -> Check:
    return Check(name, IT, Blink.SENSOR, over, needs, excused_by, Page(IT, IT, (IT,)), look)


def ran(*checks: Check, site: Site | None = None) -> dict[str, Result]:
    results = run(checks, site or Site(ROADSIDE))
    return {f"{each.check.id} {each.name}".strip(): each for each in results}


def statuses(results: dict[str, Result]) -> dict[str, str]:
    return {name: each.done.status for name, each in results.items()}


def test_what_needs_a_failed_check_is_not_run() -> None:
    looked: list[str] = []

    def look(*_: object) -> Finding:
        looked.append("c")
        return passed("c", "c")

    results = ran(check("A", bad), check("B", good, needs=("A",)), check("C", look, needs=("B",)))
    assert statuses(results) == {"A": "FAIL", "B": "SKIP", "C": "SKIP"}
    assert looked == []
    assert results["C"].done.evidence == "because A failed"
    assert results["C"].done.evidence.ja == "A の異常のため"


def test_a_failure_that_follows_from_another_is_skipped_with_its_evidence() -> None:
    results = ran(check("A", bad), check("B", bad, excused_by=("A",)), check("C", bad))
    assert statuses(results) == {"A": "FAIL", "B": "SKIP", "C": "FAIL"}
    assert results["B"].done.evidence == "it (because A failed)"
    assert results["B"].cause == "A"


def test_nothing_is_excused_by_what_is_well_or_not_there() -> None:
    results = ran(check("A", good), check("B", none), check("C", bad, excused_by=("A", "B")))
    assert statuses(results)["C"] == "FAIL"
    assert statuses(ran(check("A", none), check("B", good, needs=("A",)))) == {
        "A": "SKIP",
        "B": "PASS",
    }


def test_the_first_failure_is_the_first_in_the_order_not_in_time() -> None:
    second_is_done = threading.Event()

    def slow(*_: object) -> Finding:
        assert second_is_done.wait(20.0)
        return failed(IT, IT)

    def quick(*_: object) -> Finding:
        second_is_done.set()
        return failed(IT, IT)

    found = first_failure(run((check("A", slow), check("B", quick)), Site(ROADSIDE)))
    assert found is not None
    assert found.check.id == "A"


def test_a_dead_sensor_does_not_excuse_its_neighbour_and_its_bus_does() -> None:
    def of(*names: str) -> Callable[..., Finding]:
        return lambda _site, subject: bad() if subject.name in names else good()

    def sensor(_site: Site, subject: object) -> Finding:
        return bad() if subject.table.id == "road-1" else good()  # type: ignore[attr-defined]

    results = ran(
        check("BUS", of("/dev/serial0"), over="bus"),
        check("SEN", sensor, over="sensor", needs=("BUS",)),
        check("VAL", good, over="sensor", needs=("SEN",)),
    )
    assert {name: s for name, s in statuses(results).items() if name.startswith("VAL")} == {
        "VAL road-1": "SKIP",
        "VAL snow-1": "PASS",
        "VAL air-1": "PASS",
        "VAL snow-2": "SKIP",
    }
    assert results["VAL snow-2"].cause == "BUS"
    assert results["VAL road-1"].cause == "SEN"


def test_a_check_that_hangs_is_given_up_and_the_others_are_not_lost() -> None:
    never = threading.Event()

    def hang(*_: object) -> Finding:
        never.wait(60.0)
        return passed("late", "遅い")

    site = Site(ROADSIDE, budget=Budget(total_s=60.0, check_s=2.0))
    results = ran(check("A", hang), check("B", good), check("C", good, needs=("A",)), site=site)
    never.set()
    assert statuses(results) == {"A": "FAIL", "B": "PASS", "C": "SKIP"}
    assert results["A"].done.next == HANGS


def test_who_began_late_and_had_no_time_is_not_accused() -> None:
    never = threading.Event()

    def hang(*_: object) -> Finding:
        never.wait(60.0)
        return passed("late", "遅い")

    def slow(*_: object) -> Finding:
        never.wait(1.5)
        return passed("slow", "遅い")

    site = Site(ROADSIDE, budget=Budget(total_s=4.0, check_s=3.0))
    results = ran(check("A", hang), check("B", slow), check("C", hang, needs=("B",)), site=site)
    never.set()
    assert statuses(results) == {"A": "FAIL", "B": "PASS", "C": "SKIP"}
    assert results["C"].cause is None


def test_a_bug_in_a_check_accuses_nobody_and_says_nothing_of_persons() -> None:
    def buggy(*_: object) -> Finding:
        raise ValueError("somebody with a red hat")

    results = ran(check("A", buggy), check("B", good, needs=("A",)))
    assert statuses(results) == {"A": "WARN", "B": "PASS"}
    assert "test_run.py" in results["A"].done.evidence
    assert "red hat" not in results["A"].done.evidence


def test_without_a_configuration_nothing_is_said_of_sensors_and_brokers(tmp_path: Path) -> None:
    site = Site(tmp_path / "gateway.toml")
    results = ran(check("A", bad, over="sensor"), check("B", good), site=site)
    assert statuses(results) == {"A": "SKIP", "B": "PASS"}
    assert results["A"].cause == "YK-CFG-01"


def test_every_check_names_only_such_as_come_before_it() -> None:
    before: set[str] = set()
    for each in CHECKS:
        assert {*each.needs, *each.excused_by} <= before, each.id
        assert each.id not in before
        before.add(each.id)


@pytest.mark.parametrize("each", CHECKS, ids=lambda check: check.id)
def test_every_check_says_everything_in_both_languages(each: Check) -> None:
    for text in (each.title, each.page.what, each.page.why, *each.page.do):
        assert text.strip()
        assert any(character > "\u3000" for character in text.ja), text
        assert all(character < "\u3000" for character in text), text
    assert each.page.do


def test_a_finding_is_one_line_whatever_a_library_says() -> None:
    found = warned(Text("*** in main ***\nPage 7", "a\nb"), IT)
    assert found.evidence == "*** in main *** Page 7"
    assert found.evidence.ja == "a b"


def test_a_lamp_and_the_doctor_count_alike() -> None:
    assert (Blink.SENSOR, Blink.NETWORK) == (blink.SENSOR, blink.NETWORK)
    assert (Blink.CLOCK, Blink.DISK) == (blink.CLOCK, blink.DISK)
