"""`yukimi privacy`: the notice is this gateway's own, and the audit names the first broken line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.cli import IO_ERROR, OK, USAGE, WRONG, main
from agent.spoolanswers import AskedSpool, SpoolAnswers
from agent.spoolexport import Export
from agent.spoolview import walk
from drivers.base import Alive, Crossing
from tests.agent.stations import Station

CONFIG = """\
[gateway]
id = "chikaho-03"
label = {{ ja = "チ・カ・ホ 北3条", en = "Chi-Ka-Ho N3" }}
owner = "City of Sapporo"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[spool]
path = "{spool}"
[control]
socket = "{folder}/control.sock"
[privacy]
day_limit = "1/4"
[privacy.flow]
window_s = 1800
epsilon = "1/8"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "gpio"
label = {{ ja = "東口", en = "East <door>" }}
directions = {{ towards = {{ ja = "入", en = "in" }}, away = {{ ja = "出", en = "out" }} }}
[sensors.options]
pin_a = 17
pin_b = 27
"""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.format(spool=tmp_path / "spool.db", folder=tmp_path))
    return file


@pytest.fixture
def yukimi(config: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["privacy", *words, "--config", str(config)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


Yukimi = Callable[..., tuple[int, str, str]]


def lived(path: Path, windows: int = 3) -> None:
    """Leave a spool in which some windows of people were released."""
    station = Station(path)
    station.pipeline.announce()
    for window in range(windows):
        station.says("door-1", Alive(station.boot_ns), Crossing("towards", station.boot_ns))
        station.passes(until_s=900 * (window + 1) + 3)
    station.ends()


# The notice


def test_the_notice_is_in_both_languages_with_this_gateways_figures(yukimi: Yukimi) -> None:
    code, out, _ = yukimi("report")
    assert code == OK
    said = re.sub(r"\s+", " ", out)
    for expected in (
        *("People are counted here", "通行者数を計測しています"),
        *("Every 30 minutes", "30分ごと"),
        *("Its standard deviation is 11.31", "標準偏差11.31"),
        *("within 24 of the truth", "±24以内"),
        *("by a factor of at most 1.13", "最大でも1.13倍"),
        *("1.28 (e^(1/4))", "1.28倍（eの1/4乗）"),
        *("East <door>", "東口", "(in, out)", "（入、出）"),
        *("chikaho-03 (Chi-Ka-Ho N3)", "City of Sapporo", "yukimi 0."),
    ):
        assert re.sub(r"\s+", " ", expected) in said or expected in out.replace("\n  ", "")
    assert re.search(r"[0-9a-f]{64}", out.replace("\n", ""))


def test_the_notice_never_says_anonymous(yukimi: Yukimi) -> None:
    _, out, _ = yukimi("report")
    assert "anonym" not in out.lower()
    assert "匿名" not in out


def test_the_page_is_one_file_that_loads_nothing_and_escapes_labels(
    yukimi: Yukimi, tmp_path: Path
) -> None:
    page = tmp_path / "notice.html"
    code, out, _ = yukimi("report", "--html", str(page))
    assert code == OK
    assert str(page) in out
    text = page.read_text()
    assert "East &lt;door&gt;" in text
    assert not re.search(r"\b(src|href)=|@import|url\(", text)
    again, _, err = yukimi("report", "--html", str(page))
    assert again == USAGE
    assert "is not overwritten" in err
    assert page.read_text() == text


MORE = """\
[[sensors]]
id = "hall-{number}"
driver = "beam-pair"
bus = "gpio"
label = {{ ja = "チカホ 北{number}条広場 東側", en = "Chi-Ka-Ho N{number} plaza, east" }}
options = {{ pin_a = {pin_a}, pin_b = {pin_b} }}
"""


@pytest.mark.parametrize("more", [0, 7])
def test_the_page_prints_on_one_sheet_of_a4(
    yukimi: Yukimi, config: Path, tmp_path: Path, more: int
) -> None:
    with config.open("a") as file:
        for n in range(more):
            file.write(MORE.format(number=n, pin_a=4 + n, pin_b=18 + n))
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "no chromium: apt install chromium fonts-noto-cjk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    page, printed = tmp_path / "notice.html", tmp_path / "notice.pdf"
    yukimi("report", "--html", str(page))
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={printed}"),
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) == 1


def test_a_program_can_read_the_notice(yukimi: Yukimi) -> None:
    _, out, _ = yukimi("report", "--json")
    said = json.loads(out)
    assert said["schema"] == "yukimi.privacy/1"
    assert said["guarantee"]["epsilon_per_crossing"] == "1/8"
    assert said["terms"] == {"flow": {"window_s": 1800, "epsilon": "1/8"}, "day_limit": "1/4"}
    assert {len(said["text"][language]) for language in ("ja", "en")} == {6}


# The audit


def test_an_honest_ledger_holds(yukimi: Yukimi, tmp_path: Path) -> None:
    lived(tmp_path / "spool.db")
    code, out, err = yukimi("audit")
    assert (code, err) == (OK, "")
    assert "windows: 3 released once, 0 burned" in out
    assert "3 people's records were held against it" in out


def test_before_the_first_start_there_is_nothing_to_audit(yukimi: Yukimi) -> None:
    code, out, _ = yukimi("audit")
    assert code == OK
    assert "nothing was released" in out
    _, out, _ = yukimi("audit", "--json")
    assert json.loads(out)["holds"] is True


def test_the_last_line_is_told_because_no_chain_shows_its_loss(
    yukimi: Yukimi, tmp_path: Path
) -> None:
    lived(tmp_path / "spool.db")
    _, out, _ = yukimi("audit", "--json")
    kept = json.loads(out)["last"]
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database, database:
        n, body = database.execute("SELECT max(n), body FROM ledger").fetchone()
        assert kept == {"line": n, "sha256": hashlib.sha256(body.encode()).hexdigest()}
        changed = body.replace('"line":', '"more":1,"line":')
        database.execute("UPDATE ledger SET body = ? WHERE n = ?", (changed, n))
    code, out, _ = yukimi("audit")
    assert code == OK
    assert f"line {n} is the last, SHA-256 " in out
    assert kept["sha256"] not in out


def test_a_changed_line_is_named_and_the_exit_code_says_so(yukimi: Yukimi, tmp_path: Path) -> None:
    lived(tmp_path / "spool.db")
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database, database:
        database.execute("UPDATE ledger SET body = replace(body, '1/4', '9/4') WHERE n = 3")
    code, out, err = yukimi("audit")
    assert code == WRONG
    assert "broken at line 4: does not follow the line before it" in out
    assert "tell who answers for privacy" in err
    code, out, _ = yukimi("audit", "--json")
    assert (code, json.loads(out)["broken"]["line"]) == (WRONG, 4)


def test_that_the_file_was_damaged_is_told_beside_a_line_that_is_missing(
    yukimi: Yukimi, tmp_path: Path
) -> None:
    lived(tmp_path / "spool.db")
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database, database:
        database.execute("DELETE FROM ledger WHERE n = 3")
        database.execute("PRAGMA user_version = 99")
    later = Station(tmp_path / "spool.db", run="run-2", begin_s=3000)
    later.pipeline.announce()
    later.ends()
    code, out, _ = yukimi("audit")
    assert code == WRONG
    assert "broken at line 3: is missing" in out
    assert "note: the file was damaged" in out


def test_a_record_without_its_line_is_found(yukimi: Yukimi, tmp_path: Path) -> None:
    lived(tmp_path / "spool.db")
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database, database:
        database.execute("DELETE FROM ledger WHERE n >= 7")
    code, out, _ = yukimi("audit")
    assert code == WRONG
    assert "record door-1 3 of run run-1 has figures, and no line releases them" in out


def published(path: Path) -> list[dict[str, Any]]:
    """Return what would travel, as the city gets it."""
    from agent.resting import RestingSpool

    export = Export("chikaho-03", with_held=True)
    with RestingSpool(path, gateway="chikaho-03") as source:
        lines = [line for line in (*walk(source, export), *export.close()) if line.strip()]
    return [json.loads(line) for line in lines]


def test_what_the_city_received_is_held_against_the_ledger(yukimi: Yukimi, tmp_path: Path) -> None:
    lived(tmp_path / "spool.db")
    batches = published(tmp_path / "spool.db")
    received = tmp_path / "day.jsonl"
    received.write_text("".join(json.dumps(batch) + "\n" for batch in batches))
    code, out, _ = yukimi("audit", "--published", str(received))
    assert (code, "6 people's records" in out) == (OK, True)

    people = next(batch for batch in batches if batch["kind"] == "people")
    people["records"][0]["values"]["towards"]["unclamped"] += 1
    received.write_text("".join(json.dumps(batch) + "\n" for batch in batches))
    code, out, _ = yukimi("audit", "--published", str(received))
    assert code == WRONG
    assert "has other figures than were released" in out


def test_figures_that_the_city_has_are_not_excused_by_a_spool_that_is_gone(
    yukimi: Yukimi, tmp_path: Path
) -> None:
    lived(tmp_path / "spool.db")
    received = tmp_path / "day.jsonl"
    received.write_text("".join(json.dumps(b) + "\n" for b in published(tmp_path / "spool.db")))
    (tmp_path / "spool.db").unlink()
    code, out, _ = yukimi("audit", "--published", str(received))
    assert code == WRONG
    assert "record door-1 1 of run run-1 has figures, and no line releases them" in out


def test_what_the_city_received_of_other_gateways_is_not_held_against_this_one(
    yukimi: Yukimi, tmp_path: Path
) -> None:
    lived(tmp_path / "spool.db")
    batches = published(tmp_path / "spool.db")
    others = [batch | {"gateway": "odori-01", "run": "another"} for batch in batches]
    received = tmp_path / "day.jsonl"
    received.write_text("".join(json.dumps(b) + "\n\n" for b in batches + others))
    code, out, _ = yukimi("audit", "--published", str(received))
    assert (code, "6 people's records" in out) == (OK, True)


@pytest.mark.parametrize(
    "content",
    [
        b"\x78\x9c\xff\xfe",
        b"[]",
        b'{"records": 1, "run": "r", "kind": "people", "gateway": "chikaho-03"}',
        b'{"records": [1], "run": "r", "kind": "people", "gateway": "chikaho-03"}',
        b'{"records": [], "run": "r", "kind": "people"}',
    ],
)
def test_a_file_of_something_else_is_told_in_a_sentence(
    yukimi: Yukimi, tmp_path: Path, content: bytes
) -> None:
    lived(tmp_path / "spool.db")
    received = tmp_path / "day.jsonl"
    received.write_bytes(content)
    code, _, err = yukimi("audit", "--published", str(received))
    assert code == USAGE
    assert "is no batch of records" in err


def test_a_gateway_that_lives_in_memory_is_not_audited_as_if_that_were_all(
    yukimi: Yukimi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(tmp_path / "spool.db")
    station = Station(tmp_path / "spool.db", run="run-2", begin_s=3000)
    station.spool.turn_volatile(OSError("no disk"))
    answers = SpoolAnswers(station.spool, gateway="chikaho-03", max_bytes=2**26).by_name()

    @contextmanager
    def running(*_what: object, **_how: object) -> Iterator[AskedSpool]:
        yield AskedSpool(lambda name, asked: answers[name](asked))

    monkeypatch.setattr("agent.privacy.inspection.open_spool", running)
    code, out, err = yukimi("audit")
    assert (code, out) == (IO_ERROR, "")
    assert "the ledger is on the disk, which cannot be used: no disk" in err
    station.ends()


@pytest.mark.parametrize(("text", "code"), [("not json\n", USAGE), (None, IO_ERROR)])
def test_what_is_no_file_of_batches_is_told(
    yukimi: Yukimi, tmp_path: Path, text: str | None, code: int
) -> None:
    lived(tmp_path / "spool.db")
    received = tmp_path / "day.jsonl"
    if text is not None:
        received.write_text(text)
    found, _, err = yukimi("audit", "--published", str(received))
    assert found == code
    assert str(received) in err
