"""docs/consume.md does what it says: its blocks are run on a day that a gateway sent."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.broker import MOSQUITTO, Mosquitto
from hil.city.subscriber import City
from hil.postgres import Postgres, binaries
from hil.senders.gateway import Sender

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "consume.md").read_text(encoding="utf-8")


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def sent() -> Iterator[tuple[Sender, str]]:
    """A gateway's day, and what a subscriber wrote down of it: topic and payload a line."""
    if not Path(MOSQUITTO).exists():
        absent(f"no {MOSQUITTO}: apt install mosquitto")
    lines: list[str] = []

    def write_down(topic: str, payload: bytes, _records: object) -> None:
        lines.append(f"{topic} {payload.hex()}\n")

    with Mosquitto() as broker:
        with City(broker.host, broker.port, on_message=write_down) as city:
            city.wait_subscribed()
            one = Sender("gw-1", broker.host, broker.port)
            one.begin_run()
            one.measure(720)
            one.raise_alert()
            assert one.deliver(60.0)
            again = list(one.waiting)
            one.measure(700)
            one.give_up(30)
            one.measure(20)
            again += one.waiting[:300]
            assert one.deliver(60.0)
            one.waiting = again  # what comes twice must not count twice
            assert one.deliver(60.0)
            owed = set(one.truth.bodies) - one.truth.given_up
            assert city.wait_for(lambda account: account.report().delivered >= len(owed), 60.0)
        yield one, "".join(lines)


@pytest.fixture
def day(sent: tuple[Sender, str], tmp_path: Path) -> sqlite3.Connection:
    """The page's own ten lines have loaded the day."""
    (program,) = blocks("python")
    assert len([line for line in program.splitlines() if line and "import" not in line]) <= 13
    script = tmp_path / "load.py"
    script.write_text(program, encoding="utf-8")
    subprocess.run(
        [sys.executable, "-I", str(script), str(tmp_path / "day.db")],
        input=sent[1],
        text=True,
        check=True,
    )
    return sqlite3.connect(tmp_path / "day.db")


def test_the_ten_lines_load_every_record_once(
    sent: tuple[Sender, str], day: sqlite3.Connection
) -> None:
    truth = sent[0].truth
    rows = day.execute('SELECT run, stream, seq, first, "values" FROM record').fetchall()
    records = {row[:3]: json.loads(row[4]) for row in rows if row[4] != "null"}
    assert records == {
        key: json.loads(body)["values"]
        for key, body in truth.bodies.items()
        if key not in truth.given_up
    }
    gaps = {(row[0], row[1], row[3], row[2]) for row in rows if row[4] == "null"}
    assert gaps == {gap[:4] for gap in truth.gaps}
    day.close()


def test_the_hours_are_those_of_the_truth_and_nothing_is_missing(
    sent: tuple[Sender, str], day: sqlite3.Connection
) -> None:
    hourly, missing = blocks("sql")[:2]
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for key, body in sent[0].truth.bodies.items():
        record = json.loads(body)
        if record["stream"] == "hall-1" and key not in sent[0].truth.given_up:
            for n, way in enumerate(("towards", "away")):
                expected[record["end"][:13]][n] += record["values"][way]["unclamped"]
    found = {row[0]: list(row[1:3]) for row in day.execute(hourly)}
    assert found == dict(expected)
    assert len(found) >= 24
    assert day.execute(missing).fetchall() == []
    day.execute("DELETE FROM record WHERE stream = 'snow-1' AND seq BETWEEN 500 AND 502")
    ((*_, first, last),) = day.execute(missing).fetchall()
    assert (first, last) == (500, 502)
    day.close()


def test_postgresql_takes_whole_batches_apart(sent: tuple[Sender, str]) -> None:
    if binaries() is None:
        absent("no PostgreSQL: apt install postgresql")
    psycopg = pytest.importorskip("psycopg")
    tables, insert = blocks("sql")[2:4]
    one, lines = sent
    with Postgres() as server, psycopg.connect(server.url) as connection:
        connection.execute(tables)
        for line in lines.splitlines():
            topic, payload = line.split(" ")
            raw = bytes.fromhex(payload)
            if topic.split("/")[3] in ("live", "backlog", "alert"):
                plain = zlib.decompress(raw) if raw[:1] == b"\x78" else raw
                connection.execute("INSERT INTO incoming VALUES (%s)", (plain.decode(),))
        connection.execute(insert)
        ((count,),) = connection.execute("SELECT count(*) FROM record").fetchall()
        assert count == len(set(one.truth.bodies) - one.truth.given_up)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#]+)\)", PAGE))
def test_every_link_leads_somewhere(path: str) -> None:
    assert (Path(__file__).resolve().parents[1] / "docs" / path).exists()
