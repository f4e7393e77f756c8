"""A look at a spool from outside: it sees all that waits, and leaves no trace."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.record import Lost, batch, bodies_of, deflated
from agent.resting import ChangedError, RestingSpool, UnusableError
from agent.spool import Spool
from agent.spoolexport import Export
from agent.spoolverify import Examination
from agent.spoolview import (
    FROM_THE_FIRST,
    Figures,
    RestlessError,
    Slice,
    Source,
    Waiting,
    entries_after,
    figures_of,
    walk,
)
from hil.city.account import Account, Report
from hil.ledger import parcels
from tests.agent.spools import CONFIG, GATEWAY, PACK, STREAMS, Key, held, lived, opened, record

State = dict[str, tuple[str, int]]


def state_of(folder: Path) -> State:
    """What is in the folder: names, bytes, and when they were last written."""
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in folder.iterdir()
    }


def _live_and_die(path: Path, minutes: int) -> None:
    lived(path, minutes=minutes)
    os.kill(os.getpid(), signal.SIGKILL)


def killed(path: Path, minutes: int = 40) -> Path:
    """A spool whose gateway was killed: its newest commits are in the log only."""
    process = multiprocessing.get_context("fork").Process(
        target=_live_and_die, args=(path, minutes)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    return path


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return killed(folder / "spool.db")


class Awake:
    """A spool in use, asked as the gateway's answers ask it."""

    def __init__(self, spool: Spool, before_slice: Callable[[], object] = lambda: None) -> None:
        self.spool = spool
        self.before_slice = before_slice

    def slice(self, after_id: int) -> Slice:
        self.before_slice()
        return Slice(*self.spool.look(lambda db, done: entries_after(db, after_id, done)))

    def figures(self) -> Figures:
        return self.spool.look(figures_of)[0]

    def what_is_wrong(self) -> str | None:
        return None


def exported(source: Source, *, with_held: bool = True) -> tuple[list[bytes], Export]:
    export = Export(GATEWAY, with_held=with_held)
    return [*walk(source, export), *export.close()], export


def account_of(lines: list[bytes], figures: Figures) -> Report:
    """The city's account of an exported file; nothing was delivered otherwise."""
    account = Account()
    for line in lines:
        said = json.loads(line)
        lane = "alert" if said["records"][0]["stream"] == "alerts" else "backlog"
        account.take(f"yukimi/v1/{said['gateway']}/{lane}/{said['kind']}", line)
    for run in figures.runs:
        account.tell_produced(GATEWAY, run.run, run.produced, is_final=True)
    return account.report()


def keys_in(lines: list[bytes]) -> dict[Key, str]:
    """What is in a file, number by number: "record" or why it is a gap."""
    found: dict[Key, str] = {}
    for line in lines:
        message = json.loads(line)
        for said in message["records"]:
            for seq in range(said.get("first", said["seq"]), said["seq"] + 1):
                key = (message["run"], said["stream"], seq)
                assert key not in found, f"{key} is there twice"
                found[key] = said.get("gap", "record")
    return found


# Looking leaves no trace


def everything(path: Path) -> tuple[list[bytes], Figures, Examination]:
    """Status, verification and export of a file."""
    with RestingSpool(path) as spool:
        figures = spool.figures()
        assert spool.what_is_wrong() is None
        examination = Examination()
        assert list(walk(spool, examination)) == []
        examination.close(figures)
        lines, _ = exported(spool)
        spool.check_still()
    return lines, figures, examination


def test_a_look_changes_neither_the_file_nor_the_log_that_a_kill_left(dead: Path) -> None:
    before = state_of(dead.parent)
    everything(dead)
    assert state_of(dead.parent) == before


def test_a_look_changes_nothing_after_a_stop_in_order_either(tmp_path: Path) -> None:
    spool, _ = lived(tmp_path / "spool.db")
    spool.close(clean=True)
    before = state_of(tmp_path)
    assert not (tmp_path / "spool.db-wal").exists()
    everything(tmp_path / "spool.db")
    assert state_of(tmp_path) == before


def test_the_plain_way_to_read_it_would_leave_a_trace(dead: Path) -> None:
    """The negative control of the two above."""
    before = state_of(dead.parent)
    with closing(sqlite3.connect(dead)) as database:
        database.execute("SELECT count(*) FROM record").fetchone()
    assert state_of(dead.parent) != before


def test_what_is_in_the_log_only_is_seen(dead: Path) -> None:
    lines, figures, _ = everything(dead)
    with closing(sqlite3.connect(f"file:{dead}?immutable=1", uri=True)) as database:
        without_log = database.execute("SELECT sum(n) FROM record WHERE gap IS NULL").fetchone()[0]
    assert figures.records > without_log
    assert list(keys_in(lines).values()).count("record") == figures.records


def test_a_gateway_started_meanwhile_is_noticed_and_not_disturbed(dead: Path) -> None:
    with RestingSpool(dead) as look:
        spool = opened(dead, "the-next-one")
        assert not spool.is_volatile
        spool.append([record("snow-1", 99)], CONFIG)
        with pytest.raises(ChangedError, match="ask again"):
            look.check_still()
        spool.close(clean=True)


def test_a_file_that_is_no_spool_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"snow" * 4096)
    with pytest.raises(UnusableError, match=r"start the gateway.*spool\.db\.damaged"):
        RestingSpool(path)


# Export


def test_an_export_closes_the_citys_account_as_a_delivery_does(dead: Path) -> None:
    lines, figures, _ = everything(dead)
    by_hand = account_of(lines, figures)
    spool = opened(dead, "the-one-that-delivers")
    spool.release_held()
    delivered = Account()
    for parcel in parcels(spool):
        payload = parcel.payload or _joined(
            parcel.run, parcel.kind, parcel.config_id, parcel.bodies
        )
        delivered.take(f"yukimi/v1/{GATEWAY}/backlog/{parcel.kind}", payload)
    for alert in spool.alerts(10_000):
        payload = _joined(alert.run, alert.kind, alert.config_id, [alert.body])
        delivered.take(f"yukimi/v1/{GATEWAY}/alert/{alert.kind}", payload)
    spool.close(clean=True)
    for run in figures.runs:
        delivered.tell_produced(GATEWAY, run.run, run.produced, is_final=True)
    by_wire = delivered.report()
    assert by_hand.malformed == by_wire.malformed == 0
    assert by_hand.lost > 0
    assert [_account(page) for page in by_hand.streams] == [
        _account(page) for page in by_wire.streams
    ]
    # What was acknowledged before is missing in both; nothing is in disorder or twice.
    assert all(page.disordered == page.duplicates == 0 for page in by_hand.streams)


def _joined(run: str, kind: str, config_id: str, bodies: list[str] | tuple[str, ...]) -> bytes:
    return batch(GATEWAY, run, kind, config_id, bodies)


def _account(page: object) -> tuple[object, ...]:
    names = ("run", "stream", "produced", "delivered", "lost", "missing", "missing_ranges")
    return tuple(getattr(page, name) for name in names)


def test_the_account_of_an_export_with_a_line_less_does_not_close(dead: Path) -> None:
    """The negative control of the one above."""
    lines, figures, _ = everything(dead)
    whole, short = account_of(lines, figures), account_of(lines[:-1], figures)
    assert short.missing > whole.missing


def test_packs_singles_gaps_and_alerts_are_there_byte_for_byte(dead: Path) -> None:
    lines, _, _ = everything(dead)
    spool = opened(dead, "the-one-that-looks")
    spool.release_held()
    waits = held(spool)
    spool.close(clean=True)
    assert keys_in(lines) == dict.fromkeys(waits.bodies, "record") | waits.gaps
    bodies = {
        (json.loads(line)["run"], said["stream"], said["seq"]): body
        for line in lines
        for body in bodies_of(deflated(line.rstrip()))
        for said in [json.loads(body)]
        if "gap" not in said
    }
    assert bodies == waits.bodies
    assert {"alerts", "gateway", *STREAMS} <= {stream for _, stream, _ in bodies}


def test_records_that_wait_for_the_clock_go_out_as_estimated_or_are_left_out(dead: Path) -> None:
    with RestingSpool(dead) as spool:
        lines, export = exported(spool)
        fewer, without = exported(spool, with_held=False)
    assert export.held == without.held == len(STREAMS) * 3
    assert export.records - without.records == export.held
    waiting = keys_in(lines).keys() - keys_in(fewer).keys()
    states = {
        (message["run"], said["stream"], said["seq"]): said["clock"]["state"]
        for message in map(json.loads, lines)
        for said in message["records"]
        if "gap" not in said
    }
    assert {states[key] for key in waiting} == {"estimated"}


def test_a_gap_amid_a_stream_stands_between_its_neighbours(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db", "run", pack=1)
    entries = spool.append([record("snow-1", minute) for minute in range(9)], CONFIG)
    spool.reject(entries[4].id)
    lines, _ = exported(Awake(spool))
    figures = Awake(spool).figures()
    spool.close(clean=True)
    assert account_of(lines, figures).keeps_the_contract
    assert [said["seq"] for said in json.loads(lines[0])["records"]] == [*range(1, 10)]


def test_gaps_beyond_what_memory_may_hold_go_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.spoolexport.GAPS_BYTES", 300)
    spool = opened(tmp_path / "spool.db", "run", pack=1)
    entries = spool.append([record("snow-1", minute) for minute in range(30)], CONFIG)
    for entry in entries[1::2]:
        spool.reject(entry.id)
    lines, export = exported(Awake(spool))
    spool.close(clean=True)
    assert len(keys_in(lines)) == 30
    assert export.lost == 15


def test_a_damaged_entry_is_left_out_and_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db", "run", pack=1)
    spool.append([record("snow-1", minute) for minute in range(5)], CONFIG)
    spool.close(clean=True)
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database:
        database.execute("UPDATE record SET body = replace(body, 'good', 'goot') WHERE seq = 3")
        database.commit()
    with RestingSpool(tmp_path / "spool.db") as source:
        lines, export = exported(source)
    assert len(export.damaged) == 1
    assert [key[2] for key in keys_in(lines)] == [1, 2, 4, 5]


# A spool in use


@pytest.fixture
def awake(tmp_path: Path) -> Iterator[Spool]:
    spool, _ = lived(tmp_path / "spool.db", runs=1, minutes=60)
    yield spool
    spool.close(clean=True)


def test_of_a_spool_in_use_everything_is_exported_while_it_packs_and_gives_up(
    awake: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.spoolview.SLICE_ENTRIES", 7)
    minutes = iter(range(100, 112))

    def disturb() -> None:
        """Each slice finds that time has passed: records were added, packed, unpacked, lost."""
        minute = next(minutes, None)
        if minute is None:
            return
        entries = awake.append([record(stream, minute) for stream in STREAMS], CONFIG)
        awake.pack()
        awake.reject(entries[0].id)

    before = held_now(awake)
    lines, export = exported(Awake(awake, disturb))
    after = held_now(awake)
    assert next(minutes, None) is None
    got = keys_in(lines)
    assert before | after == got.keys()
    assert export.records + export.lost == len(got)


def held_now(spool: Spool) -> set[Key]:
    lines, _ = exported(Awake(spool))
    return set(keys_in(lines))


@pytest.mark.parametrize("is_blind", [False, True], ids=["as it is", "negative control"])
def test_what_was_packed_behind_a_look_is_seen_because_it_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_blind: bool
) -> None:
    monkeypatch.setattr("agent.spoolview.SLICE_ENTRIES", 5)
    spool = opened(tmp_path / "spool.db", "run")
    spool.append([record("snow-1", minute) for minute in range(PACK + 5)], CONFIG)
    source = Awake(spool)
    packs_before = iter([False, True])
    source.before_slice = lambda: spool.pack() if next(packs_before, False) else None
    if is_blind:
        monkeypatch.setattr(Spool, "look", _blind(Spool.look))
    seen = {seq for _, _, seq in keys_in(exported(source)[0])}
    spool.close(clean=True)
    assert seen == ({*range(1, 6), *range(11, 16)} if is_blind else set(range(1, 16)))


def _blind(look: Callable[..., tuple[object, int]]) -> Callable[..., tuple[object, int]]:
    return lambda *arguments: (look(*arguments)[0], 0)


def test_a_spool_that_never_comes_to_rest_is_given_up(awake: Spool) -> None:
    minutes = iter(range(1000, 10_000))

    def disturb() -> None:
        (entry,) = awake.append([record("snow-1", next(minutes))], CONFIG)
        awake.reject(entry.id)

    with pytest.raises(RestlessError, match="try again"):
        exported(Awake(awake, disturb))


def test_what_is_acknowledged_and_not_yet_gone_is_not_shown(awake: Spool) -> None:
    before = Awake(awake).figures().records
    (entry,) = awake.append([record("snow-1", 999)], CONFIG)
    assert Awake(awake).figures().records == before + 1
    awake.acknowledge([entry.id])
    assert Awake(awake).figures().records == before
    assert (awake.run, "snow-1", entry.seq) not in held_now(awake)


def test_looking_at_a_spool_in_use_makes_no_further_file(awake: Spool, tmp_path: Path) -> None:
    names = {file.name for file in tmp_path.iterdir()}
    held_now(awake)
    assert {file.name for file in tmp_path.iterdir()} == names


def test_records_are_committed_while_a_look_takes_its_time(awake: Spool) -> None:
    def question(database: sqlite3.Connection, _done: object) -> int:
        awake.append([record("snow-1", 555)], CONFIG)  # would wait for ever behind the look
        return int(database.execute("SELECT count(*) FROM record").fetchone()[0])

    seen, _ = awake.look(question)
    now, _ = awake.look(lambda db, _: db.execute("SELECT count(*) FROM record").fetchone()[0])
    assert now == seen + 1  # it saw what was there when it began


def test_a_spool_that_lives_in_memory_is_looked_at_too(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db", "run")
    spool.turn_volatile(OSError("the card is gone"))
    spool.append([record("snow-1", 1)], CONFIG)
    assert Awake(spool).figures().records == 1
    assert len(held_now(spool)) == 1
    spool.close(clean=True)


# Figures and verification


def test_figures_say_what_waits_of_each_run(dead: Path) -> None:
    lines, figures, _ = everything(dead)
    got = keys_in(lines)
    for run in figures.runs:
        of_run = [why for (name, _, _), why in got.items() if name == run.run]
        assert run.records == of_run.count("record")
        assert run.lost == len(of_run) - run.records
        assert run.held == len(STREAMS)
    assert [run.is_clean for run in figures.runs] == [True, True, False]
    assert figures.oldest_ns is not None
    assert figures.newest_ns is not None
    assert Figures.from_json(json.loads(json.dumps(figures.json()))) == figures


def test_an_entry_survives_the_way_over_the_socket(dead: Path) -> None:
    with RestingSpool(dead) as spool:
        entries = spool.slice(FROM_THE_FIRST).entries
    assert any(isinstance(entry.body, bytes) for entry in entries)
    assert [Waiting.from_json(json.loads(json.dumps(each.json()))) for each in entries] == entries


def test_verification_accounts_for_every_number(dead: Path) -> None:
    _, figures, examination = everything(dead)
    assert examination.problems == []
    pages = examination.streams(figures)
    assert all(p["produced"] == p["waiting"] + p["lost"] + p["gone"] for p in pages)
    assert sum(page["waiting"] for page in pages) == figures.records
    assert sum(page["lost"] for page in pages) == figures.lost
    assert any(page["gone"] for page in pages)
    assert all(page["gone"] >= 0 for page in pages)


DAMAGES = {
    "UPDATE record SET crc = crc + 1 WHERE id = (SELECT max(id) FROM record)": "checksum",
    "UPDATE record SET series = 999 WHERE id = (SELECT max(id) FROM record)": "nobody knows",
    "UPDATE record SET seq = seq + 1, first = first + 1"
    " WHERE id = (SELECT max(id) FROM record WHERE gap IS NULL AND inside IS NULL)": "says itself",
    "UPDATE produced SET seq = 1 WHERE stream = 'snow-1'": "only 1 were given out",
    "INSERT INTO record SELECT max(id) + 1, series, n, first, seq, start_ns, end_ns, boot_start_ns,"
    " boot_end_ns, gap, keep, crc, inside, body FROM record WHERE inside IS NULL": "twice",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verification_finds_what_is_wrong_number_by_number(tmp_path: Path, damage: str) -> None:
    spool, _ = lived(tmp_path / "spool.db")
    spool.close(clean=True)
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database:
        database.execute(damage)
        database.commit()
    _, _, examination = everything(tmp_path / "spool.db")
    assert examination.wrong > 0
    assert DAMAGES[damage] in "\n".join(examination.problems)


def test_a_record_of_every_kind_of_loss_is_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db", "run")
    spool.append([Lost("snow-1", "snow", 7, "disk_failed", 0, 1), record("snow-1", 1)], CONFIG)
    assert Awake(spool).figures().lost == 7
    spool.close(clean=True)


# Bounds


def test_a_slice_is_small_whatever_waits(awake: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.spoolview.SLICE_BYTES", 10_000)
    largest = 0
    after_id = FROM_THE_FIRST
    while entries := Awake(awake).slice(after_id).entries:
        size_bytes = sum(len(entry.body) for entry in entries)
        largest = max(largest, size_bytes - len(entries[-1].body))
        after_id = entries[-1].id
    assert 0 < largest < 10_000


def test_memory_does_not_grow_with_the_backlog(tmp_path: Path) -> None:
    def peak_bytes(records: int) -> int:
        spool = opened(tmp_path / f"{records}.db", "run", pack=200)
        for first in range(0, records, 500):
            batch_of = [record("snow-1", minute) for minute in range(first, first + 500)]
            spool.append(batch_of, CONFIG)
            spool.pack()
        spool.close(clean=True)
        tracemalloc.start()
        with RestingSpool(tmp_path / f"{records}.db") as source:
            export, examination = Export(GATEWAY), Examination()
            written = sum(map(len, walk(source, export))) + sum(map(len, export.close()))
            for _ in walk(source, examination):
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert export.records == records
        assert written > 100 * records
        return peak

    few, many = peak_bytes(2_000), peak_bytes(10_000)
    assert many < few + 2**20
