"""The account of a day: what was expected, what came, what is late, lost, missing."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import record
from hil.city import cli
from hil.city.databases import opened
from hil.city.daybook import Anchor, Arrived, Day, Gone, Hole, draw_up, gap_in_day, in_day
from hil.city.days import local_day, read
from hil.city.messages import take
from hil.city.rows import Rows
from hil.city.store import Store
from hil.city.wire import utc_text
from hil.senders.gateway import Sender

DAY = date(2026, 1, 15)
BEGIN_S = datetime(2026, 1, 14, 15, 0, tzinfo=UTC).timestamp()  # midnight in Tokyo
WINDOWS = 1440


def a_day(
    store: Store,
    *,
    without: frozenset[int] = frozenset(),
    late: int = 0,
    windows: int = WINDOWS,
) -> Sender:
    """Write a gateway's day; some numbers of snow-1 never come, the first `late` come late."""
    one = Sender("gw-1", "nowhere", 1, begin_ns=int(BEGIN_S) * 10**9)
    one.begin_run()
    one.measure(windows)
    lost = [e for e in one.waiting if e.stream == "snow-1" and e.seq in without]
    one.done(lost)
    rows = Rows()
    for entry in one.waiting:
        end_s = BEGIN_S + 60 * entry.seq * (15 if entry.stream == "hall-1" else 1)
        is_late = entry.stream == "snow-1" and entry.seq <= late
        payload = record.batch("gw-1", one.run, entry.kind, "c", [entry.body])
        received_utc = utc_text(end_s + (3600 if is_late else 5))
        take(rows, "t", f"gw-1/live/{entry.kind}", payload, received_utc)
    for lane, document in (("status", one.birth()), ("health", one.health())):
        payload = json.dumps(document).encode()
        take(rows, f"yukimi/v1/gw-1/{lane}", f"gw-1/{lane}", payload, utc_text(BEGIN_S))
    store.write(rows)
    store.receipted(store.owed(1000))
    return one


def streams(store: Store, day: date = DAY) -> dict[str, Any]:
    span = local_day(day, "Asia/Tokyo", BEGIN_S + 30 * 86400)
    return {each.stream: each for each in read(store, "gw-1", span)}


def test_a_whole_day_is_whole(store: Store) -> None:
    a_day(store)
    found = streams(store)
    snow, hall = found["snow-1"], found["hall-1"]
    assert (snow.expected, snow.delivered, snow.late, snow.missing) == (1440, 1440, 0, 0)
    assert (snow.covered_percent, snow.measured_percent) == (100.0, 100.0)
    assert snow.latency_s == {"p50": 5.0, "p95": 5.0, "max": 5.0}
    assert (hall.expected, hall.delivered, hall.kind) == (96, 96, "people")
    assert all(each.is_whole for each in found.values())
    assert streams(store, date(2026, 1, 16))["snow-1"].delivered == 0


def test_what_never_came_is_missing_on_its_day_and_what_came_late_is_late(store: Store) -> None:
    a_day(store, without=frozenset((100, 101, 102, 1440)), late=30)
    snow = streams(store)["snow-1"]
    assert (snow.delivered, snow.missing, snow.late, snow.undated) == (1436, 4, 30, 0)
    assert snow.produced == 1440
    assert snow.covered_percent == pytest.approx(100 * 1436 / 1440, abs=0.01)
    assert snow.latency_s["max"] == 3600.0
    assert streams(store, date(2026, 1, 14))["snow-1"].missing == 0
    assert streams(store, date(2026, 1, 16))["snow-1"].missing == 0


def test_what_stands_in_a_gap_is_lost_and_not_missing(store: Store) -> None:
    one = a_day(store, without=frozenset(range(100, 110)))
    run = one.run
    gap = {"stream": "snow-1", "first": 98, "seq": 109, "gap": "corrupt", "start": None}
    batch = {"schema": "yukimi.batch/1", "gateway": "gw-1", "run": run, "kind": "snow"}
    payload = json.dumps(batch | {"config": "c", "records": [gap | {"end": None}]}).encode()
    rows = Rows()
    take(rows, "t", "gw-1/backlog/snow", payload, utc_text(BEGIN_S))
    store.write(rows)
    snow = streams(store)["snow-1"]
    assert (snow.delivered, dict(snow.lost), snow.missing) == (1430, {"corrupt": 10}, 0)
    assert snow.is_whole


DELETED = {  # of three days the second is asked for
    "seq = 1": 0,
    "seq = 1500": 1,
    "seq BETWEEN 1441 AND 1460": 20,  # the day's first
    "seq BETWEEN 2861 AND 2880": 20,  # and last
    "seq BETWEEN 1441 AND 2880": 1440,
    "seq BETWEEN 1441 AND 4320": 1440,
    "seq = 4320": 0,
    "seq >= 1": 1440,
}


def test_what_somebody_deletes_is_missing_though_a_receipt_was_written(store: Store) -> None:
    a_day(store, windows=3 * WINDOWS)
    tomorrow = date(2026, 1, 16)
    assert streams(store, tomorrow)["snow-1"].is_whole
    with store.transaction() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT * FROM record WHERE stream = 'snow-1'")
    for deleted, of_the_day in DELETED.items():
        with store.transaction() as cursor:
            cursor.execute(f"DELETE FROM record WHERE stream = 'snow-1' AND {deleted}")
        found = streams(store, tomorrow)
        assert (found["snow-1"].missing, found["snow-1"].undated) == (of_the_day, 0), deleted
        assert found["road-1"].is_whole
        with store.transaction() as cursor:
            cursor.execute(
                "INSERT INTO record SELECT * FROM kept WHERE TRUE ON CONFLICT DO NOTHING"
            )


def test_before_its_first_record_nothing_was_expected_of_a_stream(store: Store) -> None:
    one = a_day(store)
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM record WHERE seq <= 720 AND stream = 'snow-1'")
    snow = streams(store)["snow-1"]
    assert snow.expected == 720
    assert snow.covered_percent == 100.0
    assert snow.missing == 720
    assert one.run


# The verb


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path}/city.db"


def test_the_verb_says_yes_of_a_whole_day_and_no_of_a_hole(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(file) as store:
        store.migrate()
        a_day(store)
    page = tmp_path / "day.html"
    asked = ["account", "--database", file, "--day", "2026-01-15"]
    assert cli.main([*asked, "--html", str(page)]) == 0
    assert "produced 4416 = delivered 4416" in capsys.readouterr().out
    html = page.read_text(encoding="utf-8")
    assert "すべて揃っています" in html
    assert "http" not in html.replace("http-equiv", "")
    with opened(file) as store, store.transaction() as cursor:
        cursor.execute("DELETE FROM record WHERE stream = 'road-1' AND seq = 7")
    assert cli.main([*asked, "--json", "--html", str(page)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "yukimi.account/1"
    assert document["total"]["missing"] == 1
    assert not document["whole"]
    assert "欠落があります" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--day", "15.1.2026"], 2, "Invalid isoformat"),
        (["--timezone", "Mars/Olympus"], 2, "No time zone found"),
        (["--gateway", "nobody"], 2, "nothing ever came from a gateway"),
        (["--day", "9999-12-31"], 2, "has not begun"),
    ],
)
def test_a_wrong_question_is_told(
    file: str, more: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(file) as store:
        store.migrate()
        a_day(store, windows=2)
    assert cli.main(["account", "--database", file, *more]) == code
    assert said in capsys.readouterr().err


def test_an_account_of_nothing_is_not_in_order(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(file) as store:
        store.migrate()
    assert cli.main(["account", "--database", file]) == 1
    assert "nothing ever came into this database" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["account", "--database", "sqlite:/nowhere/city.db"]) == 69
    assert "yukimi-city: SQLite" in capsys.readouterr().err


def test_an_unknown_gateway_has_a_day_of_its_own_time(store: Store) -> None:
    assert local_day(DAY, "Asia/Tokyo", time.time() + 1e9) == Day(BEGIN_S, BEGIN_S + 86400)
    assert local_day(DAY, "Asia/Tokyo", BEGIN_S + 60) == Day(BEGIN_S, BEGIN_S + 60)
    assert read(store, "nobody", Day(0, 1)) == []


# Pure


@given(
    st.integers(1, 50),
    st.integers(0, 30),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(-40, 4000), min_size=1, max_size=4),
)
def test_a_hole_is_split_among_days_without_rest(
    first: int, length: int, has_before: bool, has_after: bool, cuts: list[int]
) -> None:
    """Cut time wherever: each number of a hole is in one part, if it can be placed at all."""
    last = first + length
    before = Anchor(first - 1, 1000.0, 1060.0) if has_before and first > 1 else None
    end_s = 1060.0 + 60 * (length + 3)
    after = Anchor(last + 1, end_s, end_s + 60) if has_after else None
    edges = [-1e12, *sorted(set(map(float, cuts))), 1e12]
    hole = Hole(first, last, before, after, None)
    parts = [in_day(hole, Day(begin, end), 60) for begin, end in itertools.pairwise(edges)]
    if before is None and after is None:
        assert set(parts) == {None}
    else:
        assert sum(part or 0 for part in parts) == length + 1


@given(st.integers(1, 9), st.integers(0, 20), st.lists(st.integers(0, 2000), max_size=4))
def test_a_gap_is_split_among_days_without_rest(first: int, more: int, cuts: list[int]) -> None:
    gap = Gone("r", first, first + more, "corrupt", 100.0, 1900.0)
    edges = [-1e12, *sorted(set(map(float, cuts))), 1e12]
    parts = [
        gap_in_day(gap, [(first, first + more)], Day(begin, end))
        for begin, end in itertools.pairwise(edges)
    ]
    assert sum(parts) == more + 1


def test_seconds_that_two_records_cover_are_covered_once() -> None:
    records = [
        Arrived("r", 1, 0.0, 60.0, 61.0, "good", "synced"),
        Arrived("r", 2, 30.0, 90.0, 91.0, "bad", "estimated"),
    ]
    day = draw_up(
        "g",
        "s",
        kind=None,
        window_s=60,
        day=Day(0.0, 120.0),
        arrived=records,
        lost={},
        rejected=0,
        missing=0,
        undated=0,
    )
    assert (day.covered_percent, day.measured_percent, day.estimated_clock) == (75.0, 50.0, 1)
