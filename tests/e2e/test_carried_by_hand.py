"""A gateway in an outage: what waits is copied to a file while it goes on, and carried by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil.city.account import Account
from tests.e2e.conftest import GATEWAY, ROOT, WAIT_S, Site

SENSORS = ("door-1", "snow-2", "road-1")


def yukimi(site: Site, *arguments: object) -> dict[str, Any]:
    """Run a verb as a technician does; return the JSON that it prints."""
    command = [sys.executable, "-m", "agent", *map(str, arguments)]
    config = ["--config", str(site.folder / "gateway.toml"), "--json"]
    done = subprocess.run(
        [*command, *config], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def import_into(account: Account, file: Path) -> list[dict[str, Any]]:
    """What the city does with a file that somebody brings; returns the records."""
    records: list[dict[str, Any]] = []
    for line in file.read_bytes().splitlines():
        said = json.loads(line)
        lane = "alert" if said["records"][0]["stream"] == "alerts" else "backlog"
        found = account.take(f"{ROOT}{said['gateway']}/{lane}/{said['kind']}", line)
        records += [{"run": said["run"], **record} for record in found]
    return records


@pytest.fixture
def cut_off(site: Site) -> Site:
    """A gateway that has delivered, died, started again, and is now without a network."""
    site.configure(SENSORS, batch_records=10)
    site.start()
    site.wait_records("snow-2", 2)
    site.relay.cut()
    site.wait_grown(30)
    site.kill()
    site.start()
    site.wait_new_run()
    site.wait_grown(30)
    return site


def test_what_waits_is_exported_from_a_running_gateway_and_arrives_once(cut_off: Site) -> None:
    site, file = cut_off, cut_off.folder / "carried.jsonl"
    before = site.spooled().waiting
    export = yukimi(site, "spool", "export", "-o", file)
    assert export["from"] == "gateway"
    assert yukimi(site, "spool", "status")["waiting"] >= export["records"] >= len(before)
    with site.city.locked() as account:
        carried = import_into(account, file)
    keys = {(record["run"], record["stream"], record["seq"]) for record in carried}
    assert before <= keys
    assert len({run for run, _, _ in keys}) == 2
    site.relay.resume()
    site.daemon.wait_log("event=connected")
    site.wait_records("snow-2", 2)
    assert site.stop() == 0
    report = site.close_account()
    # All that was carried by hand came over the wire as well, and changed nothing.
    assert report.duplicates >= len(carried)
    by_wire = {
        (message.document["run"], record["stream"], record["seq"]): record
        for message in site.heard
        for record in message.records
    }
    for record in carried:
        run = record.pop("run")
        assert by_wire[run, record["stream"], record["seq"]] == record


def test_the_file_alone_closes_the_account_of_what_was_never_delivered(site: Site) -> None:
    site.relay.cut()
    site.configure(SENSORS)
    site.start()
    site.wait_new_run()
    site.wait_grown(20)
    file = site.folder / "carried.jsonl"
    assert site.stop() == 0  # the last records are in the file too: now nobody answers
    export = yukimi(site, "spool", "export", "-o", file)
    assert export["from"] == "file"
    account = Account()
    import_into(account, file)
    for run, produced in site.produced.items():
        account.tell_produced(GATEWAY, run, produced, is_final=True)
    report = account.report()
    assert report.keeps_the_contract, report.lines()
    assert report.produced == report.delivered == export["records"]
    # The negative control: with a line less it does not close.
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    short = Account()
    import_into(short, file)
    for run, produced in site.produced.items():
        short.tell_produced(GATEWAY, run, produced, is_final=True)
    assert not short.report().keeps_the_contract


def test_a_running_gateway_verifies_its_own_spool(cut_off: Site) -> None:
    said = yukimi(cut_off, "spool", "verify")
    assert (said["from"], said["ok"], said["problems"]) == ("gateway", True, [])
    pages = {(page["run"], page["stream"]): page for page in said["streams"]}
    assert all(p["produced"] == p["gone"] + p["waiting"] + p["lost"] for p in pages.values())
    assert {stream for _, stream in pages} >= {*SENSORS, "gateway"}
