"""What is committed is delivered or named in a gap, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from agent.clock import Stamp, State
from agent.record import BEFORE_ALL, AlertRecord, Entry, Lost, Page, Parcel, Record, utc_text
from agent.spool import ACK_LIMIT, PreviousRun, Spool, SpoolError, claim
from hil.ledger import parcels

S = 1_000_000_000
MIB = 2**20
CONFIG = "9f2c1ab04d77"
EVERYTHING = 10**9


def opened(path: Path, run: str = "run-1", *, boot_id: str = "boot-1", mib: int = 64) -> Spool:
    return Spool(path, max_bytes=mib * MIB, run=run, boot_id=boot_id)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = opened(path)
    yield spool
    spool.close(clean=True)


def record(
    minute: int = 0, *, stream: str = "snow-1", state: State = "synced", padding: int = 0
) -> Record:
    """A record of one minute; on the boot-time clock it was a thousand seconds earlier."""
    start_ns = minute * 60 * S
    return Record(
        stream,
        "gateway" if stream == "gateway" else "snow",
        start_ns,
        start_ns + 60 * S,
        start_ns - 1000 * S,
        start_ns - 940 * S,
        Stamp(state, None),
        {"flag": "good", "n": 60, "expected": 60},
        {"note": "x" * padding},
    )


def look(spool: Spool, *, up_to_id: int | None = None, **how: Any) -> Page:
    up_to_id = spool.last_id if up_to_id is None else up_to_id
    return spool.peek(
        up_to_id=up_to_id, **{"limit": EVERYTHING, "parcel_records": EVERYTHING} | how
    )


def unpacked(page: Page) -> list[Entry]:
    """The entries of a page in the order of commit, as `append` returned them."""
    return entries_in(page.parcels)


def entries_in(travelling: Iterable[Parcel]) -> list[Entry]:
    found = []
    for parcel in travelling:
        for row_id, body in zip(parcel.ids, parcel.bodies, strict=True):
            said = json.loads(body)
            end = said["end"] and datetime.fromisoformat(said["end"]).timestamp()
            end_ns = None if end is None else round(end) * S
            names = (parcel.run, said["stream"], parcel.kind, parcel.config_id, said["seq"])
            found.append(Entry(row_id, *names, end_ns, body, "gap" in said))
    return sorted(found, key=lambda entry: entry.id)


def waiting(spool: Spool) -> list[Entry]:
    return entries_in(parcels(spool))


def seqs(entries: Sequence[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


# Appending and reading


def test_what_append_returns_is_what_waits(spool: Spool) -> None:
    entries = spool.append([record(0), record(1), record(1, stream="snow-2")], CONFIG)
    assert waiting(spool) == entries
    assert [(e.run, e.stream, e.kind, e.config_id, e.seq, e.end_ns) for e in entries] == [
        ("run-1", "snow-1", "snow", CONFIG, 1, 60 * S),
        ("run-1", "snow-1", "snow", CONFIG, 2, 120 * S),
        ("run-1", "snow-2", "snow", CONFIG, 1, 120 * S),
    ]
    assert [json.loads(entry.body)["seq"] for entry in entries] == [1, 2, 1]


def test_numbers_begin_at_one_in_each_run_and_stream(path: Path) -> None:
    first = opened(path)
    first.append([record(0), record(1), record(0, stream="snow-2")], CONFIG)
    assert first.produced() == {"snow-1": 2, "snow-2": 1}
    first.close(clean=True)
    second = opened(path, "run-2")
    assert second.produced() == {}
    second.append([record(2)], CONFIG)
    assert [(entry.run, entry.seq) for entry in waiting(second)] == [
        ("run-1", 1),
        ("run-1", 2),
        ("run-1", 1),
        ("run-2", 1),
    ]
    second.close(clean=True)


def test_lost_records_take_their_numbers_as_a_gap(spool: Spool) -> None:
    lost = Lost("snow-1", "snow", 7, "disk_failed", 0, None)
    entries = spool.append([record(0), lost, record(8)], CONFIG)
    assert [(entry.seq, entry.is_gap) for entry in entries] == [(1, False), (8, True), (9, False)]
    gap = json.loads(waiting(spool)[1].body)
    assert (gap["first"], gap["seq"], gap["gap"]) == (2, 8, "disk_failed")


def test_what_is_acknowledged_is_not_the_oldest_that_waits(spool: Spool) -> None:
    first, second = spool.append([record(1), record(2)], CONFIG)
    assert spool.oldest_end_ns() == first.end_ns
    spool.acknowledge([first.id])
    figures = spool.figures(1.0)
    assert figures is not None
    assert spool.oldest_end_ns() == figures.oldest_end_ns == second.end_ns
    spool.acknowledge([second.id])
    assert spool.oldest_end_ns() is None
    assert spool.figures(1.0) == figures._replace(waiting_by_run={}, oldest_end_ns=None)


def test_a_page_goes_on_where_the_last_one_ended(spool: Spool) -> None:
    entries = spool.append([record(minute) for minute in range(10)], CONFIG)
    found: list[Entry] = []
    after_id = BEFORE_ALL
    while True:
        page = look(spool, after_id=after_id, limit=3)
        if page.scanned_to == after_id:
            break
        found += unpacked(page)
        after_id = page.scanned_to
    assert found == entries


def test_a_page_goes_on_past_what_was_just_acknowledged(spool: Spool) -> None:
    entries = spool.append([record(minute) for minute in range(5)], CONFIG)
    spool.acknowledge([entry.id for entry in entries[:3]])
    page = look(spool, limit=3)
    assert page.parcels == []
    assert page.scanned_to == entries[2].id


def test_kinds_on_hold_are_left_out(spool: Spool) -> None:
    spool.append([record(0), record(0, stream="gateway")], CONFIG)
    page = look(spool, without_kinds=["snow", "road"])
    assert [entry.stream for entry in unpacked(page)] == ["gateway"]


def test_what_comes_after_the_horizon_is_left_out(spool: Spool) -> None:
    spool.append([record(0)], CONFIG)
    horizon = spool.last_id
    spool.append([record(1)], CONFIG)
    assert seqs(unpacked(look(spool, up_to_id=horizon))) == [1]


def test_the_newest_of_each_stream_waits_to_go_first(spool: Spool) -> None:
    batch = [record(minute, stream=s) for minute in range(3) for s in ("snow-1", "snow-2")]
    entries = spool.append([*batch, Lost("snow-1", "snow", 4, "disk_failed", None, None)], CONFIG)
    newest, last_id = spool.newest()
    assert newest == entries[4:6]
    assert last_id == spool.last_id


# Claiming


def test_a_second_gateway_is_kept_away_until_the_first_is_gone(path: Path) -> None:
    first = claim(path)
    with pytest.raises(SpoolError, match="another gateway is running"):
        claim(path)
    first.close()
    claim(path).close()


# Rejecting


def test_a_rejected_record_leaves_a_gap_with_its_number(spool: Spool) -> None:
    entries = spool.append([record(0), record(1), record(2)], CONFIG)
    assert spool.reject(entries[1].id) == "snow-1"
    left = {entry.seq: json.loads(entry.body) for entry in waiting(spool)}
    assert (left[2]["first"], left[2]["seq"], left[2]["gap"]) == (2, 2, "rejected")
    assert "gap" not in left[1]
    assert "gap" not in left[3]


def test_an_acknowledgement_that_comes_too_late_does_not_take_the_gap(spool: Spool) -> None:
    (entry,) = spool.append([record(0)], CONFIG)
    spool.reject(entry.id)
    spool.acknowledge([entry.id])
    spool.settle()
    assert [each.is_gap for each in waiting(spool)] == [True]


def test_a_gap_that_is_rejected_stays(spool: Spool) -> None:
    (entry,) = spool.append([record(0)], CONFIG)
    spool.reject(entry.id)
    (gap,) = waiting(spool)
    assert spool.reject(gap.id) is None
    assert waiting(spool) == [gap]


# Acknowledging


def test_a_live_record_or_alert_that_went_bad_is_given_up_not_sent(spool: Spool) -> None:
    raised = AlertRecord(
        sensor=None, kind="gateway", alert="no_ack", id="e1", state="raised",
        severity="warning", time_ns=S, since_ns=S, clock=Stamp("synced", 0.0),
        text={"ja": "x", "en": "x"}, values={},
    )  # fmt: skip
    spool.append([record(0), record(0, stream="snow-2"), raised], CONFIG)
    spool._db.execute("UPDATE record SET body = replace(body, 'snow-1', 'snow-9')")
    spool._db.execute("UPDATE record SET body = replace(body, 'raised', 'updated')")
    newest, _ = spool.newest()
    assert [entry.stream for entry in newest] == ["snow-2"]
    assert spool.alerts(10) == []
    (gap,) = spool.alerts(10)
    assert gap.is_gap
    found = [json.loads(entry.body) for entry in (gap, *waiting(spool))]
    gaps = [
        (each["stream"], each["first"], each["seq"], each["gap"]) for each in found if "gap" in each
    ]
    assert sorted(gaps) == [("alerts", 1, 1, "corrupt"), ("snow-1", 1, 1, "corrupt")]
    assert [damage.lost for damage in spool.damages] == [1, 1]


def test_an_acknowledged_entry_does_not_wait_any_more(spool: Spool) -> None:
    entries = spool.append([record(0), record(1)], CONFIG)
    spool.acknowledge([entries[0].id])
    assert waiting(spool) == entries[1:]
    assert spool.newest()[0] == entries[1:]
    assert spool.waiting_by_run() == {"run-1": 1}


def test_an_acknowledgement_leaves_the_disk_with_the_next_commit(path: Path) -> None:
    spool = opened(path)
    entries = spool.append([record(0), record(1)], CONFIG)
    spool.acknowledge([entries[0].id])
    assert seqs(after_a_power_cut(path)) == [1, 2]
    spool.append([record(2)], CONFIG)
    assert seqs(after_a_power_cut(path)) == [2, 3]
    spool.acknowledge([entries[1].id])
    spool.settle()
    assert seqs(after_a_power_cut(path)) == [3]
    spool.close(clean=True)


def test_many_acknowledgements_do_not_wait_for_ever(path: Path) -> None:
    spool = opened(path)
    entries = spool.append([record(minute) for minute in range(ACK_LIMIT)], CONFIG)
    spool.acknowledge([entry.id for entry in entries])
    assert after_a_power_cut(path) == []
    spool.close(clean=True)


def test_an_acknowledgement_for_what_is_gone_harms_nobody(spool: Spool) -> None:
    entries = spool.append([record(0), record(1)], CONFIG)
    spool.acknowledge([entries[0].id, 10**6])
    spool.settle()
    spool.acknowledge([entries[0].id, 10**6 + 1])
    spool.settle()
    assert waiting(spool) == entries[1:]


def after_a_power_cut(path: Path) -> list[Entry]:
    """Open a copy of what is on the disk now, as the next boot would find it."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f"{path.name}*"):
            if not file.name.endswith("-shm"):  # memory
                shutil.copy(file, folder)
        spool = opened(Path(folder) / path.name, "another-run")
        entries = waiting(spool)
        spool.close(clean=False)
        return entries


# The run before


def test_a_new_spool_has_no_run_before(spool: Spool) -> None:
    assert spool.previous is None


@pytest.mark.parametrize("clean", [True, False])
def test_a_run_tells_what_the_one_before_produced(path: Path, clean: bool) -> None:
    first = opened(path)
    entries = first.append([record(0), record(1), record(0, stream="gateway")], CONFIG)
    first.acknowledge([entry.id for entry in entries])
    first.close(clean=clean)
    second = opened(path, "run-2")
    assert second.previous == PreviousRun("run-1", clean, {"snow-1": 2, "gateway": 1})
    second.close(clean=True)


def test_runs_that_committed_nothing_are_passed_over(path: Path) -> None:
    first = opened(path)
    entries = first.append([record(0)], CONFIG)
    first.acknowledge([entry.id for entry in entries])
    first.close(clean=True)
    for run in ("run-2", "run-3", "run-4"):
        spool = opened(path, run)
        assert spool.previous is not None
        assert spool.previous.run == "run-1"
        spool.close(clean=True)


def test_of_several_runs_the_latest_is_told(path: Path) -> None:
    for number in range(1, 5):
        spool = opened(path, f"run-{number}")
        if number > 1:
            assert spool.previous is not None
            assert spool.previous.run == f"run-{number - 1}"
        entries = spool.append([record(number)], CONFIG)
        spool.acknowledge([entry.id for entry in entries])
        spool.close(clean=True)


def test_old_runs_leave_nothing_behind(path: Path) -> None:
    for number in range(50):
        spool = opened(path, f"run-{number}")
        entries = spool.append([record(0), record(0, stream="gateway")], CONFIG)
        spool.acknowledge([entry.id for entry in entries])
        spool.close(clean=True)
    with sqlite3.connect(path) as db:
        tables = ("run", "produced", "series", "record")
        rows = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
        }
    db.close()
    assert rows["record"] == 0
    assert max(rows.values()) <= 4


# Records of unknown time


def test_a_record_of_unknown_time_waits_for_the_clock(spool: Spool) -> None:
    entries = spool.append([record(0), record(1, state="estimated")], CONFIG, hold=True)
    assert seqs(entries) == [1]
    assert waiting(spool) == entries
    assert spool.newest()[0] == entries
    assert spool.held() == 1


def test_without_hold_it_goes_as_it_is(spool: Spool) -> None:
    assert len(spool.append([record(0, state="estimated")], CONFIG)) == 1
    assert spool.held() == 0


def test_once_the_time_is_known_it_is_put_right_and_goes(spool: Spool) -> None:
    spool.append([record(0), record(20, state="estimated"), record(21)], CONFIG, hold=True)
    known = Stamp("corrected", 0.25)
    assert spool.correct("boot-1", lambda boot_ns: boot_ns + 5000 * S, lambda _ns: known) == 1
    assert spool.held() == 0
    right = waiting(spool)[1]
    start_ns = 20 * 60 * S - 1000 * S + 5000 * S
    body = json.loads(right.body)
    assert right.end_ns == start_ns + 60 * S
    assert (body["seq"], body["clock"]) == (2, {"state": "corrected", "error_s": 0.25})
    assert (body["start"], body["end"]) == (utc_text(start_ns), utc_text(start_ns + 60 * S))


def test_the_time_of_another_boot_cannot_be_put_right(path: Path) -> None:
    first = opened(path)
    first.append([record(0, state="estimated")], CONFIG, hold=True)
    first.close(clean=True)
    second = opened(path, "run-2", boot_id="boot-2")
    assert second.correct("boot-2", lambda ns: ns, lambda _ns: Stamp("corrected", None)) == 0
    assert second.release_held() == 1
    assert json.loads(waiting(second)[0].body)["clock"]["state"] == "estimated"
    second.close(clean=True)


def test_it_tells_which_boots_wait_and_what_was_known_before_them(path: Path) -> None:
    first = opened(path)
    first.append([replace(record(0), clock=Stamp("synced", 0.5))], CONFIG)
    first.close(clean=True)
    second = opened(path, "run-2", boot_id="boot-2")
    second.append([record(5, state="estimated"), record(7, state="estimated")], CONFIG, hold=True)
    second.close(clean=True)
    for entry_run in ("run-3", "run-4"):
        third = opened(path, entry_run, boot_id="boot-3")
        third.append([record(9, state="estimated")], CONFIG, hold=True)
        known, later = third.held_boots()
        third.close(clean=True)
    assert (known.boot_id, later.boot_id) == ("boot-2", "boot-3")
    assert known.known_before_ns == later.known_before_ns == 60 * S - S // 2
    assert known.last_boot_ns - known.first_boot_ns == 3 * 60 * S


def test_it_tells_where_the_records_of_earlier_runs_end(path: Path) -> None:
    first = opened(path)
    assert (first.ends(), first.known_ns) == ({}, None)
    right = replace(record(1), clock=Stamp("synced", 0.5))
    entries = first.append([right, record(0), record(9, state="estimated")], CONFIG)
    first.acknowledge([entry.id for entry in entries])
    assert first.ends() == {}
    first.close(clean=True)
    second = opened(path, "run-2")
    assert second.ends() == {"snow-1": entries[0].end_ns}
    assert second.known_ns == right.end_ns - S // 2  # that much has passed for certain
    second.close(clean=True)


def test_waiting_can_be_given_up(spool: Spool) -> None:
    spool.append([record(0, state="estimated")], CONFIG, hold=True)
    assert spool.release_held() == 1
    assert spool.held() == 0
    assert json.loads(waiting(spool)[0].body)["clock"]["state"] == "estimated"


def test_records_of_this_boot_are_put_right_by_a_later_run(path: Path) -> None:
    first = opened(path)
    first.append([record(0, state="estimated")], CONFIG, hold=True)
    first.close(clean=False)
    second = opened(path, "run-2")
    assert second.correct("boot-1", lambda ns: ns, lambda _ns: Stamp("corrected", None)) == 1
    second.close(clean=True)


# A full spool


SMALL_MIB = 1


@pytest.fixture
def five_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.spool.EVICT_RECORDS", 5)


def fill(spool: Spool, minutes: Sequence[int], stream: str = "snow-1") -> list[Entry]:
    """Append records of which some 180 fill a small spool, one a commit."""
    entries: list[Entry] = []
    for minute in minutes:
        entries += spool.append([record(minute, stream=stream, padding=3500)], CONFIG)
    return entries


@pytest.mark.usefixtures("five_at_a_time")
def test_a_full_spool_gives_up_its_oldest_records_and_says_which(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    fill(spool, range(300))
    gap, *rest = waiting(spool)
    body = json.loads(gap.body)
    assert gap.is_gap
    assert (body["first"], body["gap"]) == (1, "spool_full")
    assert body["start"] == utc_text(0)
    assert body["end"] == utc_text(body["seq"] * 60 * S)
    assert seqs(rest) == list(range(body["seq"] + 1, 301))
    assert spool.evicted == body["seq"]
    assert len(rest) > 100
    spool.close(clean=True)


@pytest.mark.usefixtures("five_at_a_time")
def test_the_gap_goes_where_its_records_were(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    first = fill(spool, range(300))
    fill(spool, range(300, 310), "snow-2")
    entries = waiting(spool)
    assert entries[0].is_gap
    assert entries[0].id < first[200].id < entries[-1].id
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)
    spool.close(clean=True)


@pytest.mark.usefixtures("five_at_a_time")
def test_an_acknowledgement_on_its_way_for_a_given_up_record_leaves_its_gap(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    sent = fill(spool, range(300))
    spool.acknowledge([entry.id for entry in sent[:50]])
    spool.settle()
    gap = waiting(spool)[0]
    assert gap.is_gap
    assert json.loads(gap.body)["first"] == 1
    spool.close(clean=True)


@pytest.mark.usefixtures("five_at_a_time")
def test_an_acknowledgement_on_its_way_for_a_gap_leaves_the_one_it_was_joined_to(
    path: Path,
) -> None:
    spool = opened(path, mib=SMALL_MIB)
    fill(spool, range(250))
    small = waiting(spool)[0]
    fill(spool, range(250, 300))
    spool.acknowledge([small.id])
    spool.settle()
    gap = waiting(spool)[0]
    assert gap.is_gap
    assert gap.seq > small.seq
    assert json.loads(gap.body)["first"] == 1
    spool.close(clean=True)


def test_an_acknowledgement_on_its_way_for_a_gap_leaves_one_that_began_before_it(
    spool: Spool,
) -> None:
    first, second = spool.append([record(0), record(1)], CONFIG)
    spool.reject(second.id)
    (small,) = (each for each in waiting(spool) if each.is_gap)
    spool.acknowledge([small.id])
    spool.reject(first.id)
    spool.settle()
    (gap,) = waiting(spool)
    assert (json.loads(gap.body)["first"], gap.seq) == (1, 2)


def test_a_gap_that_outlives_its_run_is_in_nobodys_way(path: Path) -> None:
    spool = opened(path)
    old = spool.append([record(minute) for minute in range(3)], CONFIG)
    spool.reject(old[2].id)
    spool.acknowledge([entry.id for entry in old[:2]])
    spool.close(clean=True)
    spool = opened(path, "run-2")
    for entry in spool.append([record(minute) for minute in range(3)], CONFIG):
        spool.reject(entry.id)
    assert [(each.run, each.seq) for each in waiting(spool)] == [("run-1", 3), ("run-2", 3)]
    spool.close(clean=True)


# Packs and the order of commit


def packing(path: Path, run: str = "run-1") -> Spool:
    return Spool(
        path, max_bytes=64 * MIB, run=run, boot_id="boot-1", gateway="gw-1", pack_records=4
    )


def test_a_pack_is_taken_apart_in_a_later_run_too(path: Path) -> None:
    spool = packing(path)
    entries = spool.append([record(minute) for minute in range(5)], CONFIG)
    assert spool.pack() == 4
    spool.acknowledge([entries[4].id])
    spool.close(clean=True)
    spool = packing(path, "run-2")
    spool.append([record(minute) for minute in range(5)], CONFIG)
    (packed,) = (each.ids for each in look(spool).parcels if each.payload is not None)
    spool.unpack(packed)
    assert [(each.run, each.seq) for each in waiting(spool)] == [
        *(("run-1", seq) for seq in range(1, 5)),
        *(("run-2", seq) for seq in range(1, 6)),
    ]
    spool.close(clean=True)


def test_an_old_record_that_stayed_does_not_carry_new_ones_before_a_pack(path: Path) -> None:
    spool = packing(path)
    spool.append([record(0, stream="snow-2")], CONFIG)  # its newest, for a while
    spool.append([record(minute) for minute in range(5)], CONFIG)
    spool.pack()
    spool.append([record(5, stream="snow-2")], CONFIG)
    spool.append([record(minute) for minute in range(5, 9)], CONFIG)
    spool.pack()
    order = [top for parcel in parcels_by_id(spool) for tops in parcel.tops for top in tops]
    numbers = [seq for stream, seq in order if stream == "snow-1"]
    assert numbers == sorted(numbers)
    spool.close(clean=True)


def parcels_by_id(spool: Spool) -> list[Parcel]:
    return sorted(parcels(spool), key=lambda parcel: parcel.ids)


def test_what_was_not_told_of_yet_is_not_packed(path: Path) -> None:
    spool = packing(path)
    told = spool.append([record(minute) for minute in range(3)], CONFIG)
    spool.append([record(minute) for minute in range(3, 9)], CONFIG)
    assert spool.pack(up_to_id=told[-1].id) == 0
    assert spool.pack() == 8
    spool.close(clean=True)


def test_an_alert_does_not_wait_for_the_clock(spool: Spool) -> None:
    alert = AlertRecord(
        None, "gateway", "clock_untrusted", "1", "raised", "warning", S, S,
        Stamp("estimated", None), {}, {},
    )  # fmt: skip
    entries = spool.append([alert, record(0, state="estimated")], CONFIG, hold=True)
    assert [entry.stream for entry in entries] == ["alerts"]
    assert spool.alerts(9) == entries
    assert spool.alerts(9, {entries[0].id}) == []


@pytest.mark.usefixtures("five_at_a_time")
def test_after_a_gap_was_delivered_the_next_one_begins_behind_it(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    fill(spool, range(250))
    delivered = waiting(spool)[0]
    spool.acknowledge([delivered.id])
    fill(spool, range(250, 300))
    gap = waiting(spool)[0]
    assert json.loads(gap.body)["first"] == delivered.seq + 1
    spool.close(clean=True)


@pytest.mark.usefixtures("five_at_a_time")
def test_a_gap_of_unknown_time_has_none(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    for minute in range(300):
        batch = [record(minute, state="estimated", padding=3500)]
        spool.append(batch, CONFIG, hold=True)
    body = json.loads(waiting(spool)[0].body)
    assert (body["gap"], body["start"], body["end"]) == ("spool_full", None, None)
    spool.close(clean=True)


@pytest.mark.usefixtures("five_at_a_time")
def test_the_records_that_begin_a_run_are_the_last_to_be_given_up(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    start = spool.append([record(0, stream="gateway")], CONFIG)
    fill(spool, range(300))
    assert start[0] in waiting(spool)
    spool.close(clean=True)


@pytest.mark.usefixtures("five_at_a_time")
def test_even_a_crash_loop_does_not_fill_the_disk(path: Path) -> None:
    spool = opened(path, mib=SMALL_MIB)
    fill(spool, range(400), "gateway")
    assert waiting(spool)[0].is_gap
    assert path.stat().st_size <= SMALL_MIB * MIB
    spool.close(clean=True)


@pytest.mark.parametrize(("mib", "batch"), [(8, 10), (8, 60), (8, 500), (2, 10), (2, 60), (2, 200)])
def test_the_whole_footprint_stays_within_its_bound(path: Path, mib: int, batch: int) -> None:
    spool = opened(path, mib=mib)
    footprint = 0
    for _ in range(0, 14_000, batch):
        spool.append([record(minute, padding=400) for minute in range(batch)], CONFIG)
        footprint = max(footprint, spool.bytes())
    assert spool.evicted > 0
    assert footprint <= mib * MIB
    spool.close(clean=True)


def test_a_drained_spool_gives_its_room_back(path: Path) -> None:
    spool = opened(path)
    entries = spool.append([record(minute, padding=4000) for minute in range(2000)], CONFIG)
    spool.acknowledge([entry.id for entry in entries])
    full = path.stat().st_size
    for minute in range(8):
        spool.append([record(minute)], CONFIG)
    spool.close(clean=True)
    assert path.stat().st_size < full / 4


@dataclass
class Account:
    """What became of every number: the contract's sum, kept by the far end of a small spool."""

    produced: dict[tuple[str, str], int] = field(default_factory=dict)
    delivered: set[tuple[str, str, int]] = field(default_factory=set)
    told_lost: set[tuple[str, str, int]] = field(default_factory=set)

    def hear(self, entry: Entry) -> None:
        self._numbers(entry, self.told_lost if entry.is_gap else self.delivered)

    def balance(self, entries: Sequence[Entry]) -> None:
        waiting: set[tuple[str, str, int]] = set()
        lost: set[tuple[str, str, int]] = set()
        for entry in entries:
            before = len(lost), len(waiting)
            numbers = self._numbers(entry, lost if entry.is_gap else waiting)
            assert len(lost) + len(waiting) == sum(before) + numbers, "a number waits twice"
        assert not waiting & lost, "a number waits and is in a gap"
        assert not waiting & self.told_lost
        known = self.delivered | self.told_lost | waiting | lost
        for (run, stream), last in self.produced.items():
            assert {(run, stream, seq) for seq in range(1, last + 1)} <= known, "lost silently"
        gaps = sorted(
            (entry.run, entry.stream, json.loads(entry.body)["first"], entry.seq)
            for entry in entries
            if entry.is_gap
        )
        for one, other in pairwise(gaps):
            assert one[:2] != other[:2] or one[3] + 1 < other[2], "gaps that are not joined"

    @staticmethod
    def _numbers(entry: Entry, into: set[tuple[str, str, int]]) -> int:
        first = json.loads(entry.body)["first"] if entry.is_gap else entry.seq
        into.update((entry.run, entry.stream, seq) for seq in range(first, entry.seq + 1))
        return entry.seq + 1 - first


@pytest.mark.usefixtures("five_at_a_time")
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), eager=st.sampled_from([0.0, 0.3, 0.9]))
def test_every_number_waits_or_was_delivered_or_is_in_one_gap(seed: int, eager: float) -> None:
    dice = random.Random(seed)
    account = Account()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool.db"
        spool = opened(path, mib=SMALL_MIB)
        in_flight: list[Entry] = []
        for step in range(90):
            batch: list[Record | Lost] = [
                record(step, stream=dice.choice(["snow-1", "snow-2", "gateway"]), padding=9000)
                for _ in range(dice.randrange(1, 5))
            ]
            spool.append(batch, CONFIG)
            for stream, last in spool.produced().items():
                account.produced[spool.run, stream] = last
            if dice.random() < eager:
                in_flight += dice.sample(waiting(spool), 1)
            if dice.random() < 0.3:  # acknowledged late: some were given up meanwhile
                for entry in in_flight:
                    account.hear(entry)
                spool.acknowledge([entry.id for entry in in_flight])
                in_flight.clear()
            if dice.random() < 0.05:
                spool.close(clean=dice.random() < 0.5)
                in_flight.clear()
                spool = opened(path, f"life-{step}", mib=SMALL_MIB)
            account.balance(waiting(spool))
        spool.close(clean=True)


# When it fails


def test_a_failed_commit_uses_no_number_and_forgets_no_acknowledgement(path: Path) -> None:
    spool = opened(path)
    entries = spool.append([record(0), record(1)], CONFIG)
    spool.acknowledge([entries[0].id])
    spool._db.execute("PRAGMA max_page_count = 16")  # a full disk
    with pytest.raises(SpoolError, match=rf"{path}: database or disk is full"):
        spool.append([record(2, padding=MIB), record(2, stream="new")], "another-conf")
    assert spool.produced() == {"snow-1": 2}
    assert waiting(spool) == entries[1:]
    spool._db.execute("PRAGMA max_page_count = 1000000")
    more = spool.append([record(2), record(2, stream="new")], "another-conf")
    assert [(entry.stream, entry.seq) for entry in more] == [("snow-1", 3), ("new", 1)]
    assert waiting(spool) == [entries[1], *more]
    assert after_a_power_cut(path) == waiting(spool)
    spool.close(clean=True)


def test_a_body_that_is_no_json_uses_no_number_either(spool: Spool) -> None:
    bad = record(0, stream="new")
    bad.values["depth_cm"] = float("nan")  # type: ignore[index]
    with pytest.raises(ValueError, match="JSON"):
        spool.append([record(0, stream="new"), bad], CONFIG)
    entries = spool.append([record(0, stream="new")], CONFIG)
    assert seqs(entries) == [1]
    assert waiting(spool) == entries


def test_while_another_program_holds_the_file_nothing_is_lost(path: Path) -> None:
    spool = opened(path)
    spool._db.execute("PRAGMA busy_timeout = 1")  # it would wait two seconds
    entries = spool.append([record(0)], CONFIG)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for attempt in (
        lambda: spool.append([record(1)], CONFIG),
        lambda: (spool.acknowledge([entries[0].id]), spool.settle()),
        lambda: spool.correct("boot-1", lambda ns: ns, lambda _ns: Stamp("corrected", None)),
        spool.release_held,
    ):
        with pytest.raises(SpoolError, match="locked"):
            attempt()
    other.execute("ROLLBACK")
    other.close()
    assert seqs(spool.append([record(1)], CONFIG)) == [2]
    assert seqs(waiting(spool)) == [2]
    spool.close(clean=True)


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    opened(tmp_path / "a" / "b" / "spool.db").close(clean=True)


def test_several_threads_give_out_no_number_twice(spool: Spool) -> None:
    found: list[Entry] = []

    def work(stream: str) -> None:
        for minute in range(50):
            entries = spool.append([record(minute, stream=stream), record(minute)], CONFIG)
            found.extend(entries)
            spool.acknowledge([entries[0].id])
            look(spool, limit=10)

    threads = [threading.Thread(target=work, args=(f"own-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(e.seq for e in found if e.stream == "snow-1") == list(range(1, 201))
    assert len({entry.id for entry in found}) == len(found)
    assert {entry.stream for entry in waiting(spool)} == {"snow-1"}


# Against a model


@dataclass
class Row:
    """What the model knows of one entry."""

    run: str
    stream: str
    seq: int
    boot_id: str
    is_held: bool
    is_gap: bool
    body_seq: int
    state: str


class SpoolMachine(RuleBasedStateMachine):
    """Any order of calls, reopenings and power cuts, against lists in memory."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.lives = 0
        self.path = Path(self.folder.name) / "0.db"
        self.rows: list[Row] = []
        self.acked: list[Row] = []  # not yet with a commit
        self.produced: dict[str, dict[str, int]] = {}
        self.boot = 0
        self.run = ""
        self.clean = False
        self._open()

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close(clean=True)
            self.folder.cleanup()

    def _open(self) -> None:
        self.lives += 1
        committed = [run for run, streams in self.produced.items() if streams]
        self.spool = opened(self.path, f"run-{self.lives}", boot_id=f"boot-{self.boot}")
        before = self.spool.previous
        if committed:
            assert before is not None
            assert (before.run, before.produced) == (committed[-1], self.produced[committed[-1]])
            assert before.clean == (before.run == self.run and self.clean) or before.run != self.run
        else:
            assert before is None
        self.run = self.spool.run
        self.produced[self.run] = {}

    def visible(self) -> list[Row]:
        return [row for row in self.rows if not row.is_held and row not in self.acked]

    @rule(
        streams=st.lists(st.sampled_from(["snow-1", "snow-2", "gateway"]), max_size=4),
        state=st.sampled_from(["synced", "estimated"]),
        hold=st.booleans(),
        lost=st.integers(0, 3),
    )
    def append(self, streams: list[str], state: State, hold: bool, lost: int) -> None:
        batch: list[Record | Lost] = [record(30, stream=s, state=state) for s in streams]
        if lost:
            batch.insert(0, Lost("snow-1", "snow", lost, "disk_failed", None, None))
        entries = self.spool.append(batch, CONFIG, hold=hold)
        numbers = self.produced[self.run]
        for item in batch:
            count = item.count if isinstance(item, Lost) else 1
            numbers[item.stream] = numbers.get(item.stream, 0) + count
            is_held = hold and isinstance(item, Record) and item.clock.state == "estimated"
            self.rows.append(
                Row(
                    self.run,
                    item.stream,
                    numbers[item.stream],
                    f"boot-{self.boot}",
                    is_held,
                    isinstance(item, Lost),
                    numbers[item.stream],
                    "gap" if isinstance(item, Lost) else state,
                )
            )
        self._settled()
        added = [row for row in self.rows[len(self.rows) - len(batch) :] if not row.is_held]
        assert [e.seq for e in entries] == [row.seq for row in added]

    @rule(padding=st.sampled_from([0, 300_000]))
    def append_to_a_full_disk(self, padding: int) -> None:
        pages = self.spool._db.execute("PRAGMA page_count").fetchone()[0]
        self.spool._db.execute(f"PRAGMA max_page_count = {pages}")
        bad = record(0, stream="snow-1", padding=300_000)
        with pytest.raises(SpoolError):
            self.spool.append([record(0, stream="snow-9", padding=padding), bad], "c0ffee")
        self.spool._db.execute("PRAGMA max_page_count = 1000000")

    def _settled(self) -> None:
        self.rows = [row for row in self.rows if row not in self.acked]
        self.acked = []

    @precondition(lambda self: self.visible())
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        entries, visible = waiting(self.spool), self.visible()
        chosen = data.draw(st.sets(st.sampled_from(range(len(visible))), max_size=3))
        self.spool.acknowledge([entries[index].id for index in chosen])
        self.acked += [visible[index] for index in chosen]

    @rule()
    def settle(self) -> None:
        self.spool.settle()
        self._settled()

    @rule()
    def the_time_becomes_known(self) -> None:
        boot_id = f"boot-{self.boot}"
        mine = [row for row in self.rows if row.is_held and row.boot_id == boot_id]
        shift = Stamp("corrected", 0.1)
        assert self.spool.correct(boot_id, lambda ns: ns + 10**6 * S, lambda _ns: shift) == len(
            mine
        )
        for row in mine:
            row.is_held, row.state = False, "corrected"

    @rule()
    def the_time_is_given_up(self) -> None:
        mine = [row for row in self.rows if row.is_held]
        assert self.spool.release_held() == len(mine)
        for row in mine:
            row.is_held = False

    @rule(clean=st.booleans(), reboot=st.booleans())
    def stop_and_start(self, clean: bool, reboot: bool) -> None:
        self.spool.close(clean=clean)
        self.clean = clean
        self._settled()
        self.boot += reboot
        self._open()

    @rule()
    def power_cut(self) -> None:
        abandoned, path = self.spool, self.path
        self.path = path.with_name(f"{self.lives}.db")
        for suffix in ("", "-wal"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                shutil.copy(file, self.path.with_name(self.path.name + suffix))
        abandoned.close(clean=True)
        self.clean = False
        self.acked = []  # what had not left comes again
        self.boot += 1
        self._open()

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not hasattr(self, "spool"):
            return
        entries = waiting(self.spool)
        assert [(e.run, e.stream, e.seq, e.is_gap) for e in entries] == [
            (row.run, row.stream, row.seq, row.is_gap) for row in self.visible()
        ]
        bodies: list[dict[str, Any]] = [json.loads(entry.body) for entry in entries]
        assert [body["seq"] for body in bodies] == [row.body_seq for row in self.visible()]
        assert [body.get("clock", {"state": "gap"})["state"] for body in bodies] == [
            row.state for row in self.visible()
        ]
        ids = [entry.id for entry in entries]
        assert ids == sorted(set(ids))
        assert not ids or ids[-1] <= self.spool.last_id
        assert self.spool.held() == sum(row.is_held for row in self.rows)
        assert self.spool.produced() == self.produced[self.run]
        by_run: dict[str, int] = {}
        for row in self.rows:
            if row not in self.acked:
                by_run[row.run] = by_run.get(row.run, 0) + 1
        assert self.spool.waiting_by_run() == by_run


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)


# Killed


CHILD = """
import json, secrets, sys
from pathlib import Path
from agent.clock import Stamp
from agent.record import Record
from agent.spool import Spool

run = secrets.token_hex(4)
spool = Spool(Path(sys.argv[1]), max_bytes=1 << 20, run=run, boot_id="b")
say = lambda *words: print(*words, flush=True)
say("open", run)
for turn in range(10**6):
    streams = ["snow-1", "snow-2", "gateway"][: 1 + turn % 3]
    entries = spool.append(
        [
            Record(s, "snow", turn, turn + 1, 0, 0, Stamp("synced", None), {}, {"x": "y" * 2000})
            for s in streams
        ],
        "c",
    )
    for entry in entries:
        say("committed", entry.run, entry.stream, entry.seq)
    if turn % 4 == 0:
        page = spool.peek(up_to_id=spool.last_id, limit=2, parcel_records=2)
        for parcel in page.parcels:
            for body in parcel.bodies:
                said = json.loads(body)
                first = said.get("first", said["seq"])
                say("acknowledged", parcel.run, said["stream"], first, said["seq"])
            spool.acknowledge(parcel.ids)
    if turn % 7 == 0:
        spool.settle()
"""


COMMIT = """
import os, sys
from pathlib import Path
from tests.agent.spools import CONFIG, opened, record
spool = opened(Path(sys.argv[1]), "one")
spool._db.execute(f"PRAGMA synchronous = {sys.argv[2]}") if len(sys.argv) > 2 else None
spool.append([record("snow-1", 0)], CONFIG)
os.path.exists("it begins")  # a mark among the system calls
spool.append([record("snow-1", 1)], CONFIG)
os.path.exists("it is done")
"""


def calls_of_a_commit(path: Path, *how: str) -> list[str]:
    """Name the system calls that one commit makes on the spool's files, in their order."""
    if shutil.which("strace") is None:
        reason = "no strace: apt install strace"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    log = path.with_name("calls")
    child = (sys.executable, "-c", COMMIT, str(path), *how)
    traced = "trace=pwrite64,write,fsync,fdatasync,?stat,newfstatat,?statx"
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run(
        ["strace", "-y", "-o", str(log), "-e", traced, *child],
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": root},
    )
    _, _, rest = log.read_text().partition("it begins")
    commit, _, _ = rest.partition("it is done")
    lines = [line for line in commit.splitlines() if path.name in line]
    return [line.partition("(")[0] for line in lines if "write" in line or "sync" in line]


def test_a_commit_is_synced_before_it_returns(path: Path) -> None:
    calls = calls_of_a_commit(path)
    assert "pwrite64" in calls
    assert calls[-1] == "fdatasync"


@pytest.mark.parametrize("how", ["NORMAL", "OFF"])
def test_control_a_commit_that_is_not_synced_is_seen(path: Path, how: str) -> None:
    calls = calls_of_a_commit(path, how)
    assert "pwrite64" in calls
    assert "fdatasync" not in calls


def test_killed_at_any_moment_nothing_committed_is_missing(path: Path) -> None:
    dice = random.Random()
    committed: set[tuple[str, str, int]] = set()
    delivered: set[tuple[str, str, int]] = set()
    for life in range(30):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert child.stdout is not None
        assert child.stdout.readline().startswith("open")
        time.sleep(dice.uniform(0.0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        said, _ = child.communicate()
        for line in said.splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # cut off in the middle
            word, run, stream, *numbers = line.split()
            if word == "committed":
                committed.add((run, stream, int(numbers[0])))
            else:
                first, last = map(int, numbers)
                delivered |= {(run, stream, seq) for seq in range(first, last + 1)}
        spool = opened(path, f"look-{life}", mib=SMALL_MIB)
        present: set[tuple[str, str, int]] = set()
        for entry in waiting(spool):
            first = json.loads(entry.body)["first"] if entry.is_gap else entry.seq
            present |= {(entry.run, entry.stream, seq) for seq in range(first, entry.seq + 1)}
        assert committed - delivered <= present
        known = present | delivered
        for run, stream in {number[:2] for number in known}:
            numbers_known = {seq for r, s, seq in known if (r, s) == (run, stream)}
            assert numbers_known == set(range(1, max(numbers_known) + 1)), "a hole"
        spool.close(clean=False)
    assert len(committed) > 100
