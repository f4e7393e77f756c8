"""Database, log and shared memory together never take more than `max_bytes`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.record import Lost
from hil.ledger import parcels
from tests.agent.spools import CONFIG, STREAMS, held, opened, record

MIB = 2**20


@pytest.mark.parametrize("mib", [2, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_things_breaks_the_bound(tmp_path: Path, mib: int, seed: int) -> None:
    dice = random.Random(seed)
    path = tmp_path / "spool.db"
    spool = opened(path, "0", max_bytes=mib * MIB, pack=200)
    highest = 0
    for step in range(150 * mib // 2):
        size = dice.choice((1, 8, 60, 500))
        streams = dice.choices([*STREAMS, "alerts", "gateway"], (9, 9, 9, 9, 1, 1), k=size)
        batch = [record(s, step, padding=dice.randrange(20, 200)) for s in streams]
        spool.append([*batch, Lost("snow-1", "snow", 3, "disk_failed", None, None)], CONFIG)
        highest = max(highest, spool.bytes())
        if dice.random() < 0.3:
            spool.pack()
            highest = max(highest, spool.bytes())
        if dice.random() < 0.02:
            for parcel in list(parcels(spool)):
                spool.acknowledge(parcel.ids, parcel.records)
        if dice.random() < 0.05:
            spool.close(clean=dice.random() < 0.5)
            highest = max(highest, spool.bytes())
            spool = opened(path, f"{step}", max_bytes=mib * MIB, pack=200)
    spool.close(clean=True)
    assert highest <= mib * MIB


def test_so_many_short_runs_that_their_gaps_fill_the_spool_are_said_to_be_too_many(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    unnamed = 0
    for run in range(120):
        spool = opened(path, f"run-{run}", max_bytes=MIB // 2)
        spool.append([record(f"{s}-{n}", 0) for s in STREAMS for n in range(3)], CONFIG)
        unnamed += sum(damage.lost for damage in spool.damages)
        assert spool.bytes() <= MIB // 2
        now = held(spool)
        assert {key[2] for key in now.keys if key[0] == f"run-{run}"} == {1}
        spool.close(clean=False)
    assert unnamed > 0
    assert len(now.keys) + unnamed == 120 * 12
