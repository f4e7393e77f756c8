"""Spools for tests: records in plenty, and what a spool holds, number by number."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock import Stamp, State
from agent.record import Lost, Record
from agent.spool import Spool
from hil.ledger import waiting

S = 1_000_000_000
CONFIG = "9f2c1ab04d77"
GATEWAY = "site-01"
PACK = 10
KINDS = {"door-1": "people", "snow-1": "snow", "snow-2": "snow", "air-1": "weather"}
STREAMS = tuple(KINDS)

Key = tuple[str, str, int]  # run, stream, number


def opened(path: Path, run: str, *, max_bytes: int = 64 * 2**20, pack: int = PACK) -> Spool:
    return Spool(
        path, max_bytes=max_bytes, run=run, boot_id="boot", gateway=GATEWAY, pack_records=pack
    )


def record(stream: str, minute: int, *, state: State = "synced", padding: int = 40) -> Record:
    start_ns = 1_790_000_000 * S + minute * 60 * S
    values = {"note": f"{minute:x}" * padding}
    quality = {"flag": "good", "n": 60, "expected": 60}
    kind = KINDS.get(stream, "gateway")
    stamp = Stamp(state, None)
    return Record(
        stream, kind, start_ns, start_ns + 60 * S, start_ns, start_ns, stamp, quality, values
    )


@dataclass
class Held:
    """What waits in a spool: bodies by key, and the numbers in gaps by their reason."""

    bodies: dict[Key, str] = field(default_factory=dict)
    gaps: dict[Key, str] = field(default_factory=dict)

    @property
    def keys(self) -> set[Key]:
        return self.bodies.keys() | self.gaps.keys()


def held(spool: Spool) -> Held:
    """Everything that waits; fails where a number is there twice."""
    found = Held()
    for run, body in waiting(spool):
        said = json.loads(body)
        for seq in range(said.get("first", said["seq"]), said["seq"] + 1):
            key = (run, said["stream"], seq)
            assert key not in found.keys, f"{key} is there twice"
            if "gap" in said:
                found.gaps[key] = said["gap"]
            else:
                found.bodies[key] = body
    return found


def lived(path: Path, *, runs: int = 3, minutes: int = 40) -> tuple[Spool, dict[Key, str]]:
    """Live several runs; return the last, still open, and all bodies ever committed.

    Packs, singles, gaps, alerts, start records, some acknowledged, some waiting for the clock.
    """
    ever: dict[Key, str] = {}
    for number in range(runs):
        run = f"run-{number}-abcdef0123456789"
        spool = opened(path, run)
        lost = Lost("snow-2", "snow", 5, "disk_failed", 0, S)
        entries = spool.append([record("gateway", 0), lost], CONFIG)
        for minute in range(minutes):
            batch = [record(stream, minute) for stream in STREAMS]
            if minute % 10 == 3:
                batch.append(record("alerts", minute))
            entries += spool.append(batch, CONFIG if minute < 30 else "another-conf")
            if minute == 7:
                spool.reject(entries[-2].id)
            if minute < 5:
                spool.acknowledge([entries[-1].id])
            if spool.is_loose:
                spool.pack()
        late = [record(stream, minutes, state="estimated") for stream in STREAMS]
        spool.append(late, CONFIG, hold=True)
        ever |= {(run, e.stream, e.seq): e.body for e in entries if not e.is_gap}
        if number + 1 < runs:
            spool.close(clean=True)
    return spool, ever
