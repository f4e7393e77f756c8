"""A spool's file is destroyed in every way: what can be read goes on, the rest is named."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.spool import Spool, SpoolError
from agent.spoolfile import PAGE_SIZE
from tests.agent.spools import CONFIG, Held, Key, held, lived, opened, record

TRIES = 12

Ruin = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Model:
    """A spool as a power cut leaves it, its log beside it."""

    path: Path
    ready: Held  # what waits in it
    ever: dict[Key, str]  # all that was ever committed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "spool.db"
    live = path.with_name("live.db")
    spool, ever = lived(live)
    for suffix in ("", "-wal"):
        shutil.copy(live.with_name(f"live.db{suffix}"), path.with_name(f"spool.db{suffix}"))
    spool.release_held()  # of which nobody has been told yet
    ready = held(spool)
    spool.close(clean=True)
    assert len(ready.bodies) > 400
    assert len(ready.gaps) > 10
    return Model(path, ready, ever | ready.bodies)


def copied(model: Path, folder: str, *, log: bool) -> Path:
    """A copy to destroy; without the log, what is in that is in the file first."""
    path = Path(folder, "spool.db")
    for file in model.parent.glob("spool.db*"):
        shutil.copy(file, Path(folder, file.name))
    if not log:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def overwrite(path: Path, at: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


def pages(path: Path) -> int:
    return path.stat().st_size // PAGE_SIZE


def garbage(path: Path, dice: random.Random) -> None:
    overwrite(path, dice.randrange(pages(path)) * PAGE_SIZE, dice.randbytes(PAGE_SIZE))


def zeros(path: Path, dice: random.Random) -> None:
    overwrite(path, dice.randrange(pages(path)) * PAGE_SIZE, bytes(PAGE_SIZE))


def many_pages(path: Path, dice: random.Random) -> None:
    for _ in range(5):
        garbage(path, dice)


def another_page(path: Path, dice: random.Random) -> None:
    """A write that went to the wrong place."""
    from_page, to_page = dice.randrange(pages(path)), dice.randrange(pages(path))
    content = path.read_bytes()[from_page * PAGE_SIZE : (from_page + 1) * PAGE_SIZE]
    overwrite(path, to_page * PAGE_SIZE, content)


def torn(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(dice.randrange(1, path.stat().st_size))


def flipped(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 3, 30))):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def first_page(path: Path, dice: random.Random) -> None:
    overwrite(path, 0, dice.choice((dice.randbytes, bytes))(PAGE_SIZE))


def log_cut(path: Path, dice: random.Random) -> None:
    log = path.with_name("spool.db-wal")
    with log.open("r+b") as file:
        file.truncate(dice.randrange(log.stat().st_size))


def log_flipped(path: Path, dice: random.Random) -> None:
    flipped(path.with_name("spool.db-wal"), dice)


def log_gone(path: Path, _dice: random.Random) -> None:
    path.with_name("spool.db-wal").unlink()


def empty(path: Path, _dice: random.Random) -> None:
    path.write_bytes(b"")


def foreign(path: Path, dice: random.Random) -> None:
    path.write_bytes(dice.randbytes(dice.randrange(1, 60_000)))


def folder(path: Path, _dice: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


def other_database(path: Path, dice: random.Random) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        tables = ("run", "series", "produced", "record", "alarm")
        for table in dice.sample(tables, dice.randrange(len(tables))) or ["photo"]:
            database.execute(f"CREATE TABLE {table} (id, run, stream, seq, body, sensor)")
            for value in (None, 1, "text", b"\xff", 2.5):
                database.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", (value,) * 6)


def other_version(path: Path, dice: random.Random) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {dice.choice((0, 1, 99))}")


def survived(path: Path, ever: dict[Key, str]) -> tuple[Spool, Held]:
    """Open what is left, and look at all of it; nothing may be there that was never committed."""
    spool = opened(path, "a new run")
    with suppress(SpoolError):  # it may find damage only now
        spool.check(lambda: True)
    spool.release_held()
    now = held(spool)
    assert not spool.is_volatile, spool.why_volatile
    for key, body in now.bodies.items():
        assert ever.get(key) == body, f"{key} is invented"
    return spool, now


def uncovered(spool: Spool, ready: Held, now: Held) -> set[Key]:
    """Numbers that were waiting, and are not any more, though the file knows of them."""
    known: dict[tuple[str, str], int] = defaultdict(int)
    for run, stream, seq in now.keys:
        known[run, stream] = max(seq, known[run, stream])
    if spool.previous is not None:
        for stream, seq in spool.previous.produced.items():
            known[spool.previous.run, stream] = seq
    return {key for key in ready.keys - now.keys if key[2] <= known[key[:2]]}


def goes_on(spool: Spool, path: Path, now: Held) -> None:
    """The run works, the next opening has nothing to tell, and no room is lost."""
    [entry] = spool.append([record("snow-1", 500)], CONFIG)
    assert entry.seq == 1
    spool.pack()
    spool.close(clean=True)
    again = opened(path, "one more run")
    assert again.damages == []
    assert not again.is_volatile
    assert again.check(lambda: True)
    assert held(again).keys == now.keys | {("a new run", "snow-1", 1)}
    again.close(clean=True)
    beside = {file.name for file in path.parent.iterdir()} - {path.name}
    assert beside <= {"spool.db.damaged", "spool.db.damaged-wal", "spool.db.damaged-shm"}


EVERY_WAY = [
    *(garbage, zeros, many_pages, another_page, torn, first_page, flipped),
    *(empty, foreign, folder, other_database, other_version),
]


@pytest.mark.parametrize("ruin", EVERY_WAY)
@pytest.mark.parametrize("log", [True, False], ids=["log", "no log"])
def test_whatever_happens_to_the_file_the_gateway_goes_on(
    model: Model, ruin: Ruin, log: bool
) -> None:
    dice = random.Random(f"{ruin.__name__} {log}")
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory() as where:
            path = copied(model.path, where, log=log)
            ruin(path, dice)
            spool, now = survived(path, model.ever)
            assert uncovered(spool, model.ready, now) == set()
            goes_on(spool, path, now)


@pytest.mark.parametrize("ruin", [log_cut, log_flipped, log_gone])
def test_a_log_that_is_cut_takes_only_its_end_with_it(model: Model, ruin: Ruin) -> None:
    dice = random.Random(ruin.__name__)
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory() as where:
            path = copied(model.path, where, log=True)
            ruin(path, dice)
            spool, now = survived(path, model.ever)
            goes_on(spool, path, now)
