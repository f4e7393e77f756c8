"""Two databases, one behaviour: rows are written once, and the account closes in SQL too."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil.city.account import Account
from hil.city.databases import opened
from hil.city.messages import take
from hil.city.rows import Rows, StreamKey
from hil.city.sqlite import SqliteStore
from hil.city.store import RowsRefusedError, Store, StoreAwayError
from hil.senders.gateway import Sender
from tests.hil.city.conftest import count, hold_against

PAGE = (Path(__file__).resolve().parents[3] / "docs/city.md").read_text(encoding="utf-8")
NOW = "2027-01-15T00:20:00.000Z"
LIVE = "gw/live/snow"
_runs = itertools.count()


def record(seq: int, stream: str = "snow-1", **more: Any) -> dict[str, Any]:
    return {
        "stream": stream,
        "seq": seq,
        "start": "2027-01-15T00:10:00.000Z",
        "end": "2027-01-15T00:11:00.000Z",
        "clock": {"state": "synced", "error_s": 0.02},
        "quality": {"flag": "good", "n": 60, "expected": 60},
        "values": {"depth_cm": None},
    } | more


def gap(first: int, seq: int, why: str = "spool_full", stream: str = "snow-1") -> dict[str, Any]:
    return {"stream": stream, "first": first, "seq": seq, "gap": why, "start": None, "end": None}


def batch(*records: Any, run: str = "r1", kind: str = "snow") -> bytes:
    document = {"schema": "yukimi.batch/1", "gateway": "gw", "run": run, "kind": kind}
    return json.dumps(document | {"config": "9f2c1ab04d77", "records": list(records)}).encode()


def rows_of(*messages: tuple[str, bytes]) -> Rows:
    rows = Rows()
    for below, payload in messages:
        take(rows, f"yukimi/v1/{below}", below, payload, NOW)
    return rows


def through(store: Store, stream: str = "snow-1", run: str = "r1") -> int:
    (owed,) = [each for each in store.owed(1000) if each.key == StreamKey("gw", run, stream)]
    return owed.through


def test_to_write_again_changes_nothing(store: Store) -> None:
    rows = rows_of((LIVE, batch(record(1), record(2), gap(3, 5))))
    assert store.write(rows) == 2
    assert store.write(rows) == 0
    assert (count(store), count(store, "gap")) == (2, 1)


def test_what_came_first_stays(store: Store) -> None:
    store.write(rows_of((LIVE, batch(record(1)))))
    store.write(rows_of((LIVE, batch(record(1, values={"depth_cm": 7})))))
    ((values,),) = store.query('SELECT "values" FROM record')
    assert (json.loads(values) if isinstance(values, str) else values) == {"depth_cm": None}


def test_migrating_twice_is_migrating_once_and_a_newer_database_is_left_alone(
    store: Store,
) -> None:
    assert store.migrate() == 1
    with store.transaction() as cursor:
        cursor.execute("INSERT INTO schema_version VALUES (99)")
    with pytest.raises(RowsRefusedError, match="newer"):
        store.migrate()


def test_a_receipt_reaches_as_far_as_records_and_gaps_do_without_a_hole(store: Store) -> None:
    store.write(rows_of((LIVE, batch(record(1), record(2), record(4)))))
    assert through(store) == 2
    store.write(rows_of((LIVE, batch(gap(3, 3), gap(4, 9), record(11)))))
    assert through(store) == 9
    spoilt = record(10, quality=7)
    rows = rows_of((LIVE, batch(spoilt)))
    assert [row[3] for row in rows.rejected]
    store.write(rows)
    assert through(store) == 11
    store.receipted(store.owed(1000))
    assert store.owed(1000) == []
    store.write(rows_of((LIVE, batch(record(1)))))  # sent again: it has seen no receipt
    assert through(store) == 11


def test_a_run_is_complete_when_all_that_a_later_one_says_it_produced_is_held(
    store: Store,
) -> None:
    start = {"event": "start", "version": "1", "previous": {"run": "r1", "clean": True}}
    start["previous"]["produced"] = {"snow-1": 2}  # type: ignore[index]
    said = record(1, "gateway", values=start)
    store.write(rows_of((LIVE, batch(record(1)))))
    store.write(rows_of(("gw/alert/gateway", batch(said, run="r2", kind="gateway"))))

    def complete() -> list[Any]:
        store.receipted(store.owed(1000))
        store.complete("2027-01-16T00:00:00.000Z")
        return [
            row[0] for row in store.query("SELECT run FROM run WHERE completed_utc IS NOT NULL")
        ]

    assert complete() == []
    assert store.query("SELECT missing FROM account WHERE run = 'r1'") == [(1,)]
    store.write(rows_of((LIVE, batch(record(2)))))
    assert complete() == ["r1"]
    assert store.forgettable("2027-01-15T23:00:00.000Z", 10) == []
    old = store.forgettable("2027-01-16T01:00:00.000Z", 10)
    assert old == [StreamKey("gw", "r1", "snow-1")]
    store.emptied(old)
    assert store.forgettable("2027-01-16T01:00:00.000Z", 10) == []


def test_a_birth_makes_sensors_and_a_will_takes_only_the_state(store: Store) -> None:
    one = Sender("gw", "nowhere", 1)
    one.begin_run()
    will = {"schema": "yukimi.status/1", "state": "offline", "gateway": "gw", "run": one.run}
    birth = json.dumps(one.birth()).encode()
    store.write(rows_of(("gw/status", birth), ("gw/status", json.dumps(will).encode())))
    assert store.query("SELECT state, label_en, owner FROM gateway") == [
        ("offline", "Bench gw", "City of Sapporo")
    ]
    assert store.query("SELECT count(*), max(window_s) FROM sensor") == [(4, 900)]
    store.write(rows_of(("gw/status", birth)))
    assert store.query("SELECT state FROM gateway") == [("online",)]
    assert count(store, "birth") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"sensors": 7},
        {"sensors": [{"id": "a"}]},
        {"sensors": [7]},
        {"label": "x"},
        {"label": {"en": 7}},
        {"location": {"latitude": "north", "longitude": 1}},
        {"since": "today"},
        {"config": None},
        {"owner": 7},
        {"version": "\ud800"},
        {"sensors": [{}] * 10_001},
        {"since": "9999-12-31T23:59:59.999Z"},
    ],
)
def test_a_birth_that_is_none_is_rejected(change: dict[str, Any]) -> None:
    one = Sender("gw", "nowhere", 1)
    one.begin_run()
    rows = rows_of(("gw/status", json.dumps(one.birth() | change).encode()))
    assert rows.statuses == []
    assert len(rows.rejected) == 1


@pytest.mark.parametrize("name", ["quantities", "directions"])
def test_a_sensor_whose_parts_are_no_objects_is_rejected(name: str) -> None:
    one = Sender("gw", "nowhere", 1)
    one.begin_run()
    birth = one.birth()
    birth["sensors"][0][name] = ["towards"]
    assert len(rows_of(("gw/status", json.dumps(birth).encode())).rejected) == 1


def test_a_payload_that_is_a_flood_of_records_is_one_row_of_the_rejected() -> None:
    """Each of them a row would be a hundred times the memory that the payload takes."""
    rows = rows_of((LIVE, batch(*[{}] * 10_001)))
    assert [row[3] for row in rows.rejected] == ["more than 10000 records"]
    assert len(rows_of((LIVE, batch(*[{}] * 10_000))).rejected) == 10_000


def test_a_flood_of_streams_is_rejected() -> None:
    health = {"schema": "yukimi.health/1", "gateway": "gw", "run": "r1"}
    produced = {f"s{number}": 1 for number in range(10_001)}
    rows = rows_of(("gw/health", json.dumps(health | {"produced": produced}).encode()))
    assert (len(rows.rejected), rows.streams) == (1, {})


@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31T23:59:59.999Z",  # of the year 10000 in Japan
        "0001-01-01T00:00:00.000Z",
        "2027-W03-5T00:10:00.000Z",  # what Python reads besides
        "2027-01-15T001000.00000Z",
    ],
)
def test_a_time_that_is_none_everywhere_is_rejected(time: str) -> None:
    assert len(rows_of((LIVE, batch(record(1, end=time)))).rejected) == 1
    assert len(rows_of((LIVE, batch(record(1, end="2106-02-07T06:28:16.000Z")))).records) == 1


def test_values_that_are_nested_deep_are_rejected() -> None:
    def nested(levels: int) -> Any:
        return {"x": nested(levels - 1)} if levels > 1 else {"x": [1] * 50}

    assert len(rows_of((LIVE, batch(record(1, values=nested(31))))).records) == 1
    assert len(rows_of((LIVE, batch(record(1, values=nested(32))))).rejected) == 1
    assert len(rows_of((LIVE, batch(record(1, values={"x": [[1]] * 50})))).records) == 1


def test_values_that_are_a_book_are_rejected() -> None:
    assert len(rows_of((LIVE, batch(record(1, values={"x": "x" * 60_000})))).records) == 1
    assert len(rows_of((LIVE, batch(record(1, values={"x": "x" * 70_000})))).rejected) == 1


@pytest.mark.parametrize("last", [2**40, 2**63 - 1])
def test_a_gap_without_end_stops_neither_receipts_nor_pages(store: Store, last: int) -> None:
    store.write(
        rows_of((LIVE, batch(record(1), gap(2, last))), (LIVE, batch(gap(1, last, stream="b"))))
    )
    assert through(store) in (1, 2**40)
    assert store.query("SELECT * FROM account")


def test_a_value_that_no_driver_can_bind_is_refused_and_the_store_goes_on(store: Store) -> None:
    rows = rows_of((LIVE, batch(record(1))))
    rows.gaps.append(("gw", "r1", "snow-1", 1, 2**90, "corrupt", "snow", None, None, NOW))
    with pytest.raises((RowsRefusedError, StoreAwayError)):
        store.write(rows)
    assert store.write(rows_of((LIVE, batch(record(1))))) == 1


def test_backslashes_tabs_and_quotes_come_back_as_they_went(store: Store) -> None:
    values = {"note": 'a\\b\t"c"\n\\N', "雪": "除雪"}
    store.write(rows_of((LIVE, batch(record(1, values=values)))))
    ((found,),) = store.query('SELECT "values" FROM record')
    assert (json.loads(found) if isinstance(found, str) else found) == values


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreAwayError):
        SqliteStore(tmp_path / "none.db", read_only=True)


@pytest.mark.parametrize("url", ["", "sqlite:", "mysql://x", "city.db"])
def test_a_database_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ValueError, match="not postgresql://"):
        opened(url)


FATES = st.lists(
    st.tuples(st.sampled_from(["delivered", "twice", "gap", "both", "missing"]), st.integers(1, 3)),
    min_size=1,
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(fates=FATES, seed=st.integers(0, 999), beyond=st.integers(0, 3))
def test_the_view_account_says_what_the_oracle_says(
    store: Store, fates: list[tuple[str, int]], seed: int, beyond: int
) -> None:
    """Each number has a fate, gaps overlap, messages come in any order: both say the same."""
    random = Random(seed)
    run = f"run-{next(_runs)}"  # one database serves all examples
    entries: list[dict[str, Any]] = []
    for seq, (fate, length) in enumerate(fates, start=1):
        if fate in ("delivered", "both"):
            entries.append(record(seq))
        if fate == "twice":
            entries += [record(seq)] * 2
        if fate in ("gap", "both"):
            entries.append(gap(max(1, seq - length), seq))
    random.shuffle(entries)
    oracle = Account()
    produced = len(fates) + beyond
    health = {"schema": "yukimi.health/1", "run": run, "produced": {"snow-1": produced}}
    messages = [(LIVE, batch(entry, run=run)) for entry in entries]
    messages.append(("gw/health", json.dumps(health).encode()))
    for below, payload in messages:
        oracle.take(f"yukimi/v1/{below}", payload)
        store.write(rows_of((below, payload)))
    (page,) = oracle.report().streams
    rows = store.query(
        "SELECT produced, delivered, lost, missing FROM account WHERE run = ?", (run,)
    )
    assert rows == [(page.produced, page.delivered, page.lost_count, page.missing)]
    held = [each.through for each in store.owed(10_000) if each.key.run == run]
    assert held == [oracle.held_through("gw", run, "snow-1")] or not entries


def test_a_gateways_truth_is_in_either_database(store: Store) -> None:
    one = Sender("gw", "nowhere", 1)
    one.begin_run()
    one.measure(30)
    one.give_up(5)
    one.raise_alert()
    prefix = len("yukimi/v1/")
    store.write(rows_of(*((topic[prefix:], payload) for topic, payload, _ in one.messages())))
    hold_against(store, "gw", one.truth)


def test_the_page_of_the_tables_names_all_of_them_and_its_questions_can_be_asked(
    store: Store,
) -> None:
    one = Sender("gw", "nowhere", 1)
    one.begin_run()
    one.measure(60)
    prefix = len("yukimi/v1/")
    store.write(rows_of(*((topic[prefix:], payload) for topic, payload, _ in one.messages())))
    named = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    if store.dialect == "sqlite":
        found = store.query("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    else:
        found = store.query(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        (block,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        snow, hours, missing = (store.query(sql) for sql in block.split(";\n") if sql.strip())
        assert (len(snow), len(hours), missing) == (1, 1, [])
    assert {row[0] for row in found} - {"schema_version"} == named


@given(st.text(max_size=20), st.binary(max_size=60))
def test_no_message_raises(below: str, payload: bytes) -> None:
    for each in (below, f"gw/{below}", LIVE, "gw/health", "gw/status", "gw/alarm/a/b"):
        rows_of((each, payload))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.text(max_size=3) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*record(1), "gap", "alert", "event", "n"]), inner)
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.lists(json_values, max_size=3),
    st.dictionaries(st.sampled_from(list(record(1))), json_values),
)
def test_whatever_a_record_is_the_database_takes_the_message(
    store: Store, records: list[Any], changes: dict[str, Any]
) -> None:
    try:
        payload = batch(*records, record(1) | changes)
    except (ValueError, RecursionError):
        return
    store.write(rows_of((LIVE, payload)))
