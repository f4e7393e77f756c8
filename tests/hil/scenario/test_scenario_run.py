"""A scenario is played to its end and judged: what holds passes, and each defect is found.

Each expectation has its negative control here: the same run, held against what is not so.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt

from hil import lives
from hil.__main__ import main as bench
from hil.scenario.book import Book, Measure, Row
from hil.scenario.cli import CANNOT, FAILS, HOLDS
from hil.scenario.judge import Ran, Verdict, judge, slope_per_day
from hil.scenario.load import Loaded
from hil.scenario.model import Expect
from hil.scenario.process import ProcessStage
from hil.scenario.run import run

from .texts import LINE, SURFACE, fault, loaded, played, text


@dataclass
class Played:
    """A run that is still open: its book can be judged by more than one measure."""

    loaded: Loaded
    ran: Ran
    book: Book

    def verdicts(self, expect: dict[str, object], *, plus: float = 0.0) -> list[Verdict]:
        """Judge by `expect`; with `plus` the truth was another by so much."""
        truths = {
            sensor: {name: (lambda at_s, t=truth: t(at_s) + plus) for name, truth in each.items()}
            for sensor, each in self.loaded.truths().items()
        }
        return judge(Expect.model_validate(expect), self.ran, self.book, truths)

    def fails(self, expect: dict[str, object], *, plus: float = 0.0) -> list[str]:
        return [each.what for each in self.verdicts(expect, plus=plus) if not each.holds]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("plain")
    found = loaded(folder, LINE, SURFACE.replace("= 6.0", "= -2.0"), lasts="30m")
    stage = ProcessStage(found, folder)
    stage.__enter__()
    try:
        stage.play()
        ran = Ran(
            stage.report(), stage.played_s, stage.took_s, stage.cpu_s, stage.settled_s, 1, False
        )
        yield Played(found, ran, stage.book)
    finally:
        stage.__exit__()


DEPTH = {"sensor": "snow-1", "quantity": "depth_cm"}
ALLOWED = {"allowed": ["freezing"]}


def test_what_is_delivered_is_what_really_happened(plain: Played) -> None:
    accuracy = {**DEPTH, "rms_max": 0.3, "error_max": 1.0, "valid_share_min": 1.0}
    assert plain.fails({"accuracy": [accuracy], "alerts": ALLOWED}) == []


def test_another_truth_fails_the_accuracy(plain: Played) -> None:
    accuracy = {**DEPTH, "rms_max": 0.3, "error_max": 1.0}
    assert plain.fails({"accuracy": [accuracy], "alerts": ALLOWED}, plus=2.0) == [
        "snow-1 depth_cm: rms error",
        "snow-1 depth_cm: largest error",
    ]


def test_an_alert_that_nobody_expected_fails(plain: Played) -> None:
    assert plain.fails({}) == ["other alerts"]


def test_an_alert_that_does_not_come_fails_and_one_at_another_time_too(plain: Played) -> None:
    def expected(alert: str, first: str, last: str) -> dict[str, object]:
        wanted = {"alert": alert, "sensor": "surface-1", "raised": [first, last]}
        return {"alerts": {"expected": [wanted], **ALLOWED}}

    assert plain.fails(expected("freezing", "0s", "6m")) == []
    assert plain.fails(expected("freezing", "20m", "29m")) == ["alert freezing surface-1: raised"]
    assert plain.fails(expected("slippery", "0s", "29m")) == ["alert slippery surface-1: raised"]


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        ({"spool_max": 1000}, "spool, at most"),
        ({"disk_max": 1000}, "state on disk, at most"),
        ({"wire_max": 1000}, "sent to the broker, at most"),
        ({"rss_max": 1000}, "memory, at most"),
        ({"speed_min": 1e9}, "speed, by processor time"),
        ({"delivered_min": 10_000}, "records delivered"),
        ({"lives_min": 2}, "lives of the gateway"),
        ({"clock": [{"state": "corrected", "records_min": 1}]}, "records with clock corrected"),
    ],
)
def test_every_bound_can_be_broken(plain: Played, bound: dict[str, object], verdict: str) -> None:
    assert plain.fails({**bound, "alerts": ALLOWED}) == [verdict]


def test_bounds_that_are_kept_hold(plain: Played) -> None:
    kept = {"spool_max": "4MiB", "disk_max": "4MiB", "wire_max": "4MiB", "rss_max": "2GiB"}
    assert plain.fails({**kept, "alerts": ALLOWED}) == []


def test_a_bug_that_is_told_late_in_a_long_log_is_not_overlooked(
    plain: Played, tmp_path: Path
) -> None:
    book = Book(tmp_path, 0)
    for at_s in range(1000):
        book.said(at_s, "warning", "sensor silent")
    assert verdict_of_the_log(plain, book).holds
    book.said(1000.0, "error", "bug in a driver sensor=snow-1")
    assert not verdict_of_the_log(plain, book).holds
    book.close()


def verdict_of_the_log(plain: Played, book: Book) -> Verdict:
    verdicts = judge(Expect(), plain.ran, book, {})
    return next(each for each in verdicts if each.what == "bugs told in the log")


def test_a_record_that_is_lost_fails_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (LINE, fault("network_half_open", "5m", "10m"))
    assert played(tmp_path, *parts).verdict("the account closes").holds
    monkeypatch.setattr(mqtt.Client, "publish", mqtt.Client.publish)  # and back, afterwards
    lives._acknowledge_at_once()  # a gateway that takes what it sends for delivered
    outcome = played(tmp_path, *parts)
    assert not outcome.verdict("the account closes").holds
    assert outcome.ran.report.missing > 0


def _rows(found: Loaded) -> Sequence[Row]:
    rows: list[Row] = []
    run(found, look=lambda book: rows.extend(book.rows("snow-1", "depth_cm")))
    return rows


def test_equal_seeds_measure_equally_and_others_do_not(tmp_path: Path) -> None:
    # What the broker does, and with it when a record arrives, is not the seed's.
    first = loaded(tmp_path, LINE, fault("serial_garble", "2m", "8m", target="snow-1", share=0.05))
    other = replace(first, setting=replace(first.setting, seed=8))
    rows = [_rows(each) for each in (first, first, other)]
    assert [repr(row) for row in rows[0]] == [repr(row) for row in rows[1]]
    assert [repr(row) for row in rows[0]] != [repr(row) for row in rows[2]]


def test_a_life_that_ends_without_power_loses_nothing_that_it_committed(tmp_path: Path) -> None:
    outcome = played(tmp_path, LINE, fault("power_cut", "7m", "2m"), lasts="15m")
    assert outcome.ran.lives == 2
    assert outcome.verdict("the account closes").holds
    runs = {stream.run for stream in outcome.ran.report.streams}
    assert len(runs) == 2


def test_the_command_line_says_what_holds_and_writes_a_report_that_needs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, report = tmp_path / "mine.toml", tmp_path / "report.html"
    file.write_text(text(LINE, fault("network_cut", "3m", "4m"), lasts="12m"), encoding="utf-8")
    assert bench(["run", str(file), "--report", str(report)]) == HOLDS
    said = capsys.readouterr().out
    assert "PASS  the account closes" in said
    assert "everything holds" in said
    page = report.read_text(encoding="utf-8")
    assert "network_cut" in page
    assert "試験" in page
    assert "http" not in page.replace("http-equiv", "")
    file.write_text(file.read_text() + "\n[expect]\ndelivered_min = 5000\n", encoding="utf-8")
    assert bench(["run", str(file)]) == FAILS
    assert "FAIL  records delivered" in capsys.readouterr().out
    assert bench(["run", "no-such-scenario"]) == CANNOT
    assert bench(["run", "storm-day", "--lasts", "1m", "--report", "/no/such/folder"]) == CANNOT


def test_a_disk_without_room_for_a_run_fails_no_expectation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hil.scenario.run.run", play)
    file = tmp_path / "mine.toml"
    file.write_text(text(LINE), encoding="utf-8")
    assert bench(["run", str(file)]) == CANNOT
    assert "is full" in capsys.readouterr().err


def test_the_list_names_each_scenario_with_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["run", "--list"]) == HOLDS
    said = capsys.readouterr().out
    assert "storm-day" in said
    assert "吹雪" in said or "降雪" in said


def grown(bytes_per_day: float) -> list[Measure]:
    """Return a month of a gateway that takes 9 MB to settle and grows ever after."""
    days = [step / 10 for step in range(300)]
    return [
        Measure(86_400 * day, 7e7 + 9e6 * min(day, 2.0) + bytes_per_day * day, *[1.0] * 7)
        for day in days
    ]


def test_what_grows_for_ever_is_told_from_what_settles() -> None:
    def rss(measure: Measure) -> float:
        return measure.rss_bytes

    assert abs(slope_per_day(grown(0.0), rss)) < 1.0
    assert slope_per_day(grown(150_000.0), rss) == pytest.approx(150_000.0)
    assert math.isinf(slope_per_day(grown(0.0)[:3], rss))  # nothing to judge does not hold
