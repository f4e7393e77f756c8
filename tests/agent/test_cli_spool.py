"""`yukimi spool` where no gateway runs: what it says, exit codes, what it leaves on the disk."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import main
from agent.resting import RestingSpool
from agent.spoolview import Figures
from tests.agent.spools import CONFIG, GATEWAY, lived, opened, record
from tests.agent.test_cli import Said
from tests.agent.test_spoolview import DAMAGES, account_of, killed, state_of

Yukimi = Callable[..., Said]


@pytest.fixture
def yukimi(capsys: pytest.CaptureFixture[str]) -> Yukimi:
    def command(*arguments: object) -> Said:
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return command


CONFIGURATION = f"""
[gateway]
id = "{GATEWAY}"
[uplink]
brokers = ["mqtt://broker.example"]
[control]
socket = "nobody.sock"
[[sensors]]
id = "box-1"
driver = "pi-health"
bus = "system"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a configuration, whose spool is to be in `state/`."""
    path = tmp_path / "state" / "spool.db"
    path.parent.mkdir()
    text = CONFIGURATION + f'[spool]\npath = "{path}"\n'
    (tmp_path / "gateway.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_wrong_table_is_told_by_its_place(site: Path, yukimi: Yukimi) -> None:
    file = site / "gateway.toml"
    file.write_text(file.read_text().replace(f'"{GATEWAY}"', '"A B"'))
    said = yukimi("spool", "status", "--config", file)
    assert said.code == 78
    assert "gateway.toml: gateway.id: must be 1 to 64 characters" in said.err


@pytest.fixture
def dead(site: Path) -> Path:
    return killed(site / "state" / "spool.db")


def test_every_action_leaves_the_file_and_its_log_as_a_kill_left_them(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    before = state_of(dead.parent)
    config = ("--config", site / "gateway.toml")
    assert yukimi("spool", "status", *config).code == 0
    assert yukimi("spool", "verify", *config).code == 0
    assert yukimi("spool", "export", "-o", site / "out.jsonl", *config).code == 0
    assert state_of(dead.parent) == before


def test_status_counts_and_export_writes_the_same_records(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    config = ("--config", site / "gateway.toml", "--json")
    status = yukimi("spool", "status", *config).document
    export = yukimi("spool", "export", "-o", site / "out.jsonl", *config).document
    assert status["schema"] == export["schema"] == "yukimi.spool/1"
    assert (status["from"], status["gateway"], status["path"]) == ("file", GATEWAY, str(dead))
    assert status["waiting"] == export["records"] > 0
    assert status["lost"] == export["lost"] > 0
    assert status["held"] == export["estimated"] > 0
    assert status["waiting"] == sum(run["records"] for run in status["runs"])
    lines = (site / "out.jsonl").read_bytes().splitlines()
    assert export["batches"] == len(lines)
    assert sum(len(json.loads(line)["records"]) for line in lines) > 0


def test_the_exported_lines_are_what_the_contract_says(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    yukimi("spool", "export", "-o", site / "out.jsonl", "--config", site / "gateway.toml")
    envelope = {"schema", "gateway", "run", "kind", "config", "records"}
    for line in (site / "out.jsonl").read_text(encoding="utf-8").splitlines():
        batch = json.loads(line)
        assert batch.keys() == envelope
        assert (batch["schema"], batch["gateway"]) == ("yukimi.batch/1", GATEWAY)
    report = account_of((site / "out.jsonl").read_bytes().splitlines(), _figures(dead))
    assert report.malformed == 0


def _figures(path: Path) -> Figures:
    with RestingSpool(path) as spool:
        return spool.figures()


def test_an_export_never_takes_the_place_of_a_file(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    (site / "out.jsonl").write_text("mine")
    said = yukimi("spool", "export", "-o", site / "out.jsonl", "--config", site / "gateway.toml")
    assert said.code == 2
    assert "not overwritten" in said.err
    assert (site / "out.jsonl").read_text() == "mine"


@pytest.mark.parametrize("where", ["no/such/folder/out.jsonl", "state"])
def test_an_export_that_cannot_be_written_leaves_nothing_behind(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
    where: str,
) -> None:
    names = sorted(each.name for each in site.rglob("*"))
    said = yukimi("spool", "export", "-o", site / where, "--config", site / "gateway.toml")
    assert said.code in (2, 74)
    assert where in said.err
    assert sorted(each.name for each in site.rglob("*")) == names


def test_an_export_to_a_full_disk_leaves_nothing_behind(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        said = yukimi("spool", "export", "-o", site / "out", "--config", site / "gateway.toml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said.code == 74
    assert sorted(each.name for each in site.iterdir()) == ["gateway.toml", "state"]


def test_records_that_wait_for_the_clock_can_be_left_out(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    said = yukimi(
        *("spool", "export", "--without-estimated", "-o", site / "out.jsonl"),
        *("--config", site / "gateway.toml", "--json"),
    )
    assert said.document["estimated"] == 0
    assert said.document["left_out"] > 0
    assert '"state":"estimated"' not in (site / "out.jsonl").read_text(encoding="utf-8")


def test_where_nothing_is_yet_nothing_waits(yukimi: Yukimi, site: Path) -> None:
    config = ("--config", site / "gateway.toml")
    said = yukimi("spool", "status", *config)
    assert (said.code, "no record waits" in said.out) == (0, True)
    assert yukimi("spool", "verify", *config, "--json").document["ok"] is True
    assert yukimi("spool", "export", "-o", site / "out", *config).code == 0
    assert not (site / "out").exists()


def test_of_a_spool_without_records_no_file_is_made(
    yukimi: Yukimi,
    site: Path,
) -> None:
    opened(site / "state" / "spool.db", "run").close(clean=True)
    config = ("--config", site / "gateway.toml")
    said = yukimi("spool", "export", "-o", site / "out", *config)
    assert said.code == 0
    assert "nothing waits" in said.out
    assert not (site / "out").exists()


def test_verify_accounts_for_every_number(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    said = yukimi("spool", "verify", "--config", site / "gateway.toml", "--json").document
    assert said["ok"] is True
    assert all(p["produced"] == p["gone"] + p["waiting"] + p["lost"] for p in said["streams"])


@pytest.mark.parametrize("damage", [*DAMAGES, "pages"])
def test_verify_says_what_is_wrong_and_what_to_do(
    yukimi: Yukimi,
    site: Path,
    damage: str,
) -> None:
    path = site / "state" / "spool.db"
    spool, _ = lived(path)
    spool.close(clean=True)
    if damage == "pages":
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(os.urandom(8192))
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute(damage)
            database.commit()
    said = yukimi("spool", "verify", "--config", site / "gateway.toml")
    assert said.code == 1
    assert "start the gateway" in said.err
    assert "spool.db.damaged" in said.err
    as_json = yukimi("spool", "verify", "--config", site / "gateway.toml", "--json")
    assert (as_json.code, as_json.document["ok"]) == (1, False)
    assert as_json.document["problems"]


def test_a_damaged_entry_is_told_and_the_rest_is_exported(
    yukimi: Yukimi,
    site: Path,
) -> None:
    path = site / "state" / "spool.db"
    spool = opened(path, "run", pack=1)
    spool.append([record("snow-1", minute) for minute in range(5)], CONFIG)
    spool.close(clean=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE record SET crc = 0 WHERE seq = 3")
        database.commit()
    said = yukimi("spool", "export", "-o", site / "out", "--config", site / "gateway.toml")
    assert said.code == 1
    assert "1 damaged" in said.err
    assert len(json.loads((site / "out").read_text(encoding="utf-8"))["records"]) == 4


def test_a_file_of_a_card_in_a_reader_is_looked_at_by_name(
    yukimi: Yukimi,
    site: Path,
    tmp_path: Path,
) -> None:
    card = killed(tmp_path / "card.db")
    said = yukimi("spool", "status", "--file", card, "--config", tmp_path / "none", "--json")
    assert (said.code, said.document["path"]) == (0, str(card))
    export = ("spool", "export", "--file", card, "-o", site / "out")
    assert yukimi(*export, "--config", tmp_path / "none").code == 78
    assert yukimi(*export, "--config", site / "gateway.toml").code == 0


def test_a_file_that_is_named_and_is_not_there_is_an_error(
    yukimi: Yukimi,
    tmp_path: Path,
) -> None:
    said = yukimi("spool", "status", "--file", tmp_path / "none.db")
    assert said.code == 74
    assert "no such file" in said.err


def test_a_configuration_that_is_wrong_elsewhere_still_says_where_the_spool_is(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
) -> None:
    file = site / "gateway.toml"
    file.write_text(file.read_text() + "[alerts]\nfreezing = 3\n", encoding="utf-8")
    assert yukimi("spool", "status", "--config", file, "--json").document["waiting"] > 0


def test_it_speaks_japanese(
    yukimi: Yukimi,
    site: Path,
    dead: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    assert "未送信の記録" in yukimi("spool", "status", "--config", site / "gateway.toml").out
