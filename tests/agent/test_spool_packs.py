"""A backlog waits in packs: the same records, the same numbers, a tenth of the room."""

from __future__ import annotations

import json
import random
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.clock import Stamp
from agent.record import BEFORE_ALL, Lost, Page, Parcel, bodies_of
from agent.spool import PAGE_BYTES, Spool, SpoolError
from hil.ledger import parcels
from tests.agent.spools import CONFIG, GATEWAY, KINDS, PACK, STREAMS, held, opened, record

MIB = 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = opened(path, "one")
    yield spool
    spool.close(clean=True)


def fill(spool: Spool, minutes: range, *streams: str) -> dict[tuple[str, int], str]:
    """Append a record of each stream a minute; return the bodies."""
    bodies = {}
    for minute in minutes:
        for entry in spool.append([record(s, minute) for s in streams or STREAMS], CONFIG):
            bodies[entry.stream, entry.seq] = entry.body
    return bodies


def look(spool: Spool, *, parcel_records: int = 10, **how: int) -> Page:
    return spool.peek(
        **{"up_to_id": spool.last_id, "limit": 10**6} | how, parcel_records=parcel_records
    )


def packs(spool: Spool) -> list[Parcel]:
    return [parcel for parcel in look(spool).parcels if parcel.payload is not None]


def packed(spool: Spool) -> list[str]:
    return [body for parcel in packs(spool) for body in bodies_of(parcel.payload or b"")]


def counted(spool: Spool) -> dict[str, int]:
    """What waits, counted anew."""
    rows = spool._db.execute(
        "SELECT run.run, sum(r.n) FROM record r JOIN series s ON s.id = r.series"
        " JOIN run ON run.id = s.run GROUP BY run.id"
    )
    return dict(rows.fetchall())


def assert_in_order(spool: Spool) -> None:
    """Each stream's records stand in the order of their numbers, packed or not."""
    last: dict[tuple[str, str], int] = {}
    for parcel in look(spool).parcels:
        for body in parcel.bodies or bodies_of(parcel.payload or b""):
            said = json.loads(body)
            if "gap" not in said:
                stream = (parcel.run, said["stream"])
                assert said["seq"] > last.get(stream, 0), f"{stream}: {said['seq']} comes too late"
                last[stream] = said["seq"]


def test_what_is_packed_is_what_was_committed_byte_for_byte(spool: Spool) -> None:
    bodies = fill(spool, range(60))
    assert spool.pack() > 200
    assert {key[1:]: body for key, body in held(spool).bodies.items()} == bodies
    assert len(packed(spool)) > 200


def test_a_pack_keeps_the_order_of_each_stream_and_is_of_one_kind(spool: Spool) -> None:
    fill(spool, range(60))
    spool.pack()
    for parcel in packs(spool):
        message = json.loads(zlib.decompress(parcel.payload or b""))
        assert (message["gateway"], message["run"], message["kind"], message["config"]) == (
            *(GATEWAY, "one"),
            *(parcel.kind, CONFIG),
        )
        seqs: dict[str, list[int]] = {}
        for said in message["records"]:
            assert KINDS[said["stream"]] == parcel.kind
            seqs.setdefault(said["stream"], []).append(said["seq"])
        assert all(own == sorted(own) for own in seqs.values())
        assert dict(parcel.tops[0]) == {stream: own[-1] for stream, own in seqs.items()}
        assert parcel.records == len(message["records"])


def test_the_newest_of_each_stream_and_what_is_on_its_way_stay_single(spool: Spool) -> None:
    fill(spool, range(30))
    entries, _ = spool.newest()
    spool.pack(without_ids=range(1, 20))
    single = {
        row_id for parcel in look(spool).parcels if not parcel.payload for row_id in parcel.ids
    }
    assert single >= {entry.id for entry in entries} | set(range(1, 20))
    assert spool.newest()[0] == entries


def test_gaps_alerts_start_records_and_those_of_unknown_time_stay_single(spool: Spool) -> None:
    for minute in range(30):
        batch = [record(s, minute) for s in ("gateway", "alerts", "snow-1")]
        lost = Lost("snow-2", "snow", 2, "disk_failed", None, None)
        spool.append([*batch, lost, record("air-1", minute, state="estimated")], CONFIG, hold=True)
    spool.pack()
    assert {json.loads(body)["stream"] for body in packed(spool)} == {"snow-1"}
    assert "gap" not in "".join(packed(spool))


def test_what_waited_for_the_clock_is_packed_once_it_is_known(spool: Spool) -> None:
    for minute in range(30):
        spool.append([record("snow-1", minute, state="estimated")], CONFIG, hold=True)
    fill(spool, range(30, 60), "air-1")
    spool.pack()
    spool.correct("boot", lambda ns: ns, lambda _ns: Stamp("corrected", 1.0))
    spool.pack()
    assert Counter(json.loads(body)["stream"] for body in packed(spool))["snow-1"] == 20


def test_an_acknowledged_pack_frees_its_records_and_no_others(spool: Spool) -> None:
    bodies = fill(spool, range(60))
    spool.pack()
    done, *_ = packs(spool)
    freed = {
        (json.loads(b)["stream"], json.loads(b)["seq"]) for b in bodies_of(done.payload or b"")
    }
    spool.acknowledge(done.ids, done.records)
    assert {key[1:] for key in held(spool).bodies} == bodies.keys() - freed
    assert spool.waiting_by_run() == {"one": len(bodies) - len(freed)}
    spool.settle()
    assert {key[1:] for key in held(spool).bodies} == bodies.keys() - freed
    assert spool.waiting_by_run() == {"one": len(bodies) - len(freed)} == counted(spool)


def test_singles_before_and_after_a_pack_stay_on_their_side(spool: Spool) -> None:
    fill(spool, range(5), "snow-1")
    first = range(1, 4)
    fill(spool, range(5, 40), "snow-1")
    spool.pack(without_ids=first)
    fill(spool, range(40, 44), "snow-1")
    tops = [parcel.tops[-1][-1][1] for parcel in look(spool).parcels]
    assert tops == sorted(tops)
    assert [parcel.records for parcel in look(spool).parcels] == [3, 10, 10, 10, 10, 1]
    assert look(spool).parcels[0].payload is None


def test_earlier_runs_are_packed_too_and_hardly_anything_of_them_stays_single(path: Path) -> None:
    first = opened(path, "one")
    bodies = fill(first, range(14), "snow-1")
    first.close(clean=False)
    second = opened(path, "two")
    assert second.is_loose
    assert second.pack() == 13
    assert {parcel.run for parcel in packs(second)} == {"one"}
    assert {key[1:]: body for key, body in held(second).bodies.items()} == bodies
    assert not second.is_loose
    second.close(clean=True)


def test_a_pack_for_another_gateway_or_larger_than_a_parcel_is_unfit(path: Path) -> None:
    spool = opened(path, "one")
    fill(spool, range(40))
    spool.pack()
    page = look(spool, parcel_records=9)
    assert len(page.unfit) == len(packs(spool)) > 0
    assert [parcel for parcel in page.parcels if parcel.payload] == []
    spool.close(clean=True)
    renamed = Spool(path, max_bytes=64 * MIB, run="two", boot_id="b", gateway="site-02")
    page = look(renamed)
    assert [parcel for parcel in page.parcels if parcel.payload] == []
    renamed.unpack(page.unfit)
    assert look(renamed).unfit == ()
    renamed.close(clean=True)


def test_unpacking_restores_what_was_packed(spool: Spool) -> None:
    fill(spool, range(60))
    columns = "id, series, n, first, seq, start_ns, end_ns, gap, keep, crc, inside, body"
    before = spool._db.execute(f"SELECT {columns} FROM record ORDER BY id").fetchall()
    waits = spool.waiting_by_run()
    spool.pack()
    assert spool.waiting_by_run() == waits == counted(spool)
    spool.unpack([parcel.ids[0] for parcel in packs(spool)])
    assert spool._db.execute(f"SELECT {columns} FROM record ORDER BY id").fetchall() == before
    assert spool.waiting_by_run() == waits


@pytest.mark.parametrize("seed", range(8))
def test_what_a_pack_is_taken_apart_into_keeps_its_place(seed: int) -> None:
    """A stream that is rare, or silent: its newest record stays single among packed ones."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        spool = opened(Path(folder, "spool.db"), "one")
        apart = 0
        for step in range(60):
            spool.append(
                [record(s, step) for s in dice.choices(STREAMS, (9, 1, 9, 3), k=9)], CONFIG
            )
            spool.pack()
            made = [parcel.ids[0] for parcel in packs(spool)]
            some = dice.sample(made, len(made) // 3)
            spool.unpack(some)
            apart += len(some)
            assert_in_order(spool)
        assert apart > 10 and packs(spool)
        spool.close(clean=True)


def test_sensors_that_die_one_after_the_other_do_not_keep_the_others_from_being_packed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.shelf.PACK_LOOK", 50)
    minutes = iter(range(10_000))
    for number in range(12):
        spool.append([record(f"dead-{number}", next(minutes))], CONFIG)
        for _ in range(PACK - 1):  # too few for a pack
            spool.append([record("alive", next(minutes))], CONFIG)
    for _ in range(60):
        spool.append([record("alive", next(minutes)) for _ in range(PACK)], CONFIG)
        spool.pack()
        assert_in_order(spool)
    assert len(packed(spool)) > 600


def test_unpacking_what_is_gone_or_single_harms_nobody(spool: Spool) -> None:
    bodies = fill(spool, range(3))
    spool.unpack([1, 2, 10**6])
    assert {key[1:]: body for key, body in held(spool).bodies.items()} == bodies


def test_packing_that_fails_leaves_everything_as_it_was(spool: Spool) -> None:
    bodies = fill(spool, range(60))
    assert spool.waiting_by_run() == {"one": len(bodies)}
    spool._db.execute("PRAGMA query_only = ON")
    with pytest.raises(SpoolError):
        spool.pack()
    assert not spool.is_loose, "what cannot be packed must not keep the others from leaving"
    spool._db.execute("PRAGMA query_only = OFF")
    assert {key[1:]: body for key, body in held(spool).bodies.items()} == bodies
    assert spool.waiting_by_run() == {"one": len(bodies)}
    fill(spool, range(60, 65))
    assert spool.pack() > 200


def test_an_evicted_pack_is_one_exact_gap_a_stream_joined_to_its_neighbours(path: Path) -> None:
    spool = opened(path, "one", max_bytes=MIB)
    for minute in range(400):
        spool.append([record(s, minute, padding=300) for s in STREAMS], CONFIG)
        if spool.is_loose and minute > 200:
            spool.pack()
    now = held(spool)
    assert spool.evicted > 0
    assert {key[2] for key in now.gaps} | {key[2] for key in now.bodies} == set(range(1, 401))
    assert len(now.keys) == 400 * len(STREAMS)
    gaps = [json.loads(body) for p in look(spool).parcels for body in p.bodies if '"gap"' in body]
    assert sorted(gap["stream"] for gap in gaps) == sorted({gap["stream"] for gap in gaps})
    assert spool.waiting_by_run() == counted(spool)
    spool.close(clean=True)


def test_a_page_is_bounded_however_large_the_entries_are(spool: Spool) -> None:
    dice = random.Random(0)
    for minute in range(40):
        noise = record("snow-1", minute)
        noise.values["note"] = dice.randbytes(60_000).hex()  # type: ignore[index]
        spool.append([noise], CONFIG)
    spool.pack()
    assert packs(spool)
    after_id, seen = BEFORE_ALL, 0
    while True:
        page = look(spool, after_id=after_id)
        if page.scanned_to == after_id:
            break
        after_id = page.scanned_to
        sizes = [len(p.payload or b"") + sum(map(len, p.bodies)) for p in page.parcels]
        assert sum(sizes) - sizes[-1] < PAGE_BYTES
        seen += sum(parcel.records for parcel in page.parcels)
    assert seen == 40


def test_a_body_that_went_bad_is_not_packed_as_if_it_were_good(spool: Spool) -> None:
    fill(spool, range(30), "snow-1")
    spool._db.execute("UPDATE record SET body = replace(body, 'good', 'evil') WHERE seq = 3")
    spool.pack()
    assert "evil" not in "".join(packed(spool))
    assert held(spool).gaps == {("one", "snow-1", 3): "corrupt"}


def test_a_body_that_went_bad_while_it_waited_for_the_clock_is_given_up(spool: Spool) -> None:
    late = [record("snow-1", minute, state="estimated") for minute in range(3)]
    spool.append(late, CONFIG, hold=True)
    spool._db.execute("UPDATE record SET body = 'x' WHERE seq = 2")
    spool.correct("boot", lambda ns: ns, lambda _ns: Stamp("corrected", 1.0))
    assert held(spool).gaps == {("one", "snow-1", 2): "corrupt"}
    assert len(held(spool).bodies) == 2


def test_a_pack_that_went_bad_is_given_up_and_nothing_else(spool: Spool) -> None:
    bodies = fill(spool, range(60), "snow-1")
    spool.pack()
    spool._db.execute("UPDATE record SET body = zeroblob(50) WHERE id = 11")
    held(spool)
    assert held(spool).gaps == {("one", "snow-1", seq): "corrupt" for seq in range(11, 21)}
    assert len(held(spool).bodies) == len(bodies) - 10
    [damage] = spool.damages
    assert damage.lost == 10


@pytest.mark.parametrize("seed", range(8))
def test_every_number_waits_was_acknowledged_or_is_in_a_gap_whatever_is_packed(seed: int) -> None:
    dice = random.Random(seed)
    done: set[tuple[str, str, int]] = set()
    produced: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spool.db")
        spool = opened(path, "0", max_bytes=MIB)
        for step in range(250):
            act = dice.choices(
                ("append", "pack", "ack", "unpack", "reject", "life", "fail"), (9, 4, 4, 1, 1, 1, 1)
            )[0]
            page = look(spool)
            if act == "append":
                streams = dice.choices([*STREAMS, "gateway"], k=dice.randrange(1, 60))
                spool.append([record(s, step, padding=800) for s in streams], CONFIG)
            elif act == "pack":
                spool.pack(
                    {i for p in dice.sample(page.parcels, len(page.parcels) // 4) for i in p.ids}
                )
            elif act == "ack" and page.parcels:
                for parcel in dice.sample(page.parcels, min(3, len(page.parcels))):
                    for body in parcel.bodies or bodies_of(parcel.payload or b""):
                        said = json.loads(body)
                        numbers = range(said.get("first", said["seq"]), said["seq"] + 1)
                        done |= {(parcel.run, said["stream"], seq) for seq in numbers}
                    spool.acknowledge(parcel.ids, parcel.records)
            elif act == "unpack":
                spool.unpack([p.ids[0] for p in page.parcels if p.payload][:3])
            elif act == "reject" and (single := [p for p in page.parcels if not p.payload]):
                spool.reject(single[0].ids[-1])
            elif act == "fail":
                spool._db.execute("PRAGMA query_only = ON")
                for attempt in (spool.pack, spool.settle):
                    with suppress(SpoolError):
                        attempt()
                spool._db.execute("PRAGMA query_only = OFF")
            elif act == "life":
                spool.close(clean=dice.random() < 0.5)
                spool = opened(path, str(step), max_bytes=MIB, pack=dice.choice((5, 10, 40)))
            produced[spool.run] = spool.produced()
            assert_in_order(spool)
            now = held(spool)
            for run, streams in produced.items():
                for stream, last in streams.items():
                    numbers = {(run, stream, seq) for seq in range(1, last + 1)}
                    assert numbers <= now.keys | done, act
            assert not {key for key in now.bodies if key in done}, act
            before = spool.waiting_by_run()
            spool.settle()
            assert spool.waiting_by_run() == counted(spool) == before, act
        assert spool.bytes() <= MIB
        spool.close(clean=True)


def test_a_drained_backlog_of_packs_gives_its_room_back(path: Path) -> None:
    spool = opened(path, "one")
    for minute in range(2000):
        spool.append([record(s, minute, padding=200) for s in STREAMS], CONFIG)
        if spool.is_loose:
            spool.pack()
    full = spool.bytes()
    for parcel in parcels(spool):
        spool.acknowledge(parcel.ids, parcel.records)
    for minute in range(10):
        spool.append([record("snow-1", minute)], CONFIG)
    spool.close(clean=True)
    assert path.stat().st_size < full / 2  # 1 MiB is kept for the next outage
