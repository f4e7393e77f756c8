"""Many gateways lose their broker at once: they come back spread, and nothing is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from agent.outbox import PageRequest
from agent.record import BEFORE_ALL
from hil.__main__ import main as bench
from hil.bench.figures import Figure
from hil.broker import MOSQUITTO
from hil.fleet.figures import FIGURES, SHARE_MOST, measured, peak
from hil.fleet.picture import document, html
from hil.fleet.stock import Stock
from hil.fleet.trial import Outcome, Plan, live
from hil.senders.gateway import Entry
from tests.agent.spools import CONFIG, GATEWAY, STREAMS, opened, record

# Five seconds of the fleet's clock are one here. All is judged on the fleet's clock, and what is
# judged was planned on it: how busy this machine is, does not matter.
PLAN = Plan(
    gateways=100,
    calm_s=15.0,
    outage_s=15.0,
    after_s=6.0,
    start_s=2.0,
    window_s=10,
    speed=5.0,
    processes=1,
)


def lived(plan: Plan) -> Outcome:
    if not Path(MOSQUITTO).exists():
        reason = f"no {MOSQUITTO}: apt install mosquitto"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return live(plan, print)


def missed(figures: dict[str, float]) -> list[str]:
    judged: list[Figure] = [figure for figure in FIGURES if figure.key in figures]
    return [figure.key for figure in judged if not figure.holds(figures[figure.key])]


def test_a_hundred_gateways_that_lose_their_broker_come_back_spread_and_complete() -> None:
    outcome = lived(PLAN)
    figures = measured(outcome)
    assert not missed(figures), figures
    assert figures["delivered"] == figures["produced"] > PLAN.gateways * 8
    assert figures["connects_per_gateway"] >= 1
    assert figures["backlog_b_per_record"] < figures["live_b_per_record"]
    page = html(outcome, figures)
    assert "caught_up_last_s" in page
    assert "http" not in page.replace("http-equiv", "")
    assert '"yukimi.fleet/1"' in document(outcome, figures)


def test_a_fleet_without_jitter_is_found_out() -> None:
    """The control: had they come back together, it would have been seen.

    Few, at the real speed, a wait or two long: a busy machine does not tear them a second apart.
    """
    plan = replace(PLAN, gateways=50, calm_s=4.0, outage_s=1.0, start_s=1.0, after_s=4.0)
    figures = measured(lived(replace(plan, window_s=60, speed=1.0, control="no-jitter")))
    assert figures["connects_peak_share"] > SHARE_MOST
    assert missed(figures) == ["connects_peak_share"]


def test_a_gateway_that_forgets_a_record_is_found_out() -> None:
    """The control: the account of one in a hundred does not close."""
    outcome = lived(replace(PLAN, calm_s=6.0, outage_s=3.0, control="forgets"))
    figures = measured(outcome)
    assert figures["missing"] == figures["different"] == 1
    assert "gw-00000" in outcome.differences[0]


def test_too_few_open_files_are_named_with_what_to_do() -> None:
    program = "from hil.fleet.descriptors import allow_descriptors; allow_descriptors(2000)"
    command = f"ulimit -n 500 && exec {sys.executable} -c '{program}'"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "TooFewDescriptorsError: 2200 open files are needed" in said.stderr
    assert "the hard limit is 500: raise it" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--gateways 0", "--gateways must be at least 1"),
        ("--gateways -3", "--gateways must be at least 1"),
        ("--gateways 3 --processes 4", "--processes must be 1 to 3"),
        ("--processes 0", "--processes must be 1 to 1000"),
        ("--speed 0", "--speed must be more than 0"),
        ("--speed nan", "--speed must be more than 0"),
        ("--window 0", "--window must be at least 1 s"),
        ("--minutes 0", "--minutes must be at least 0.5"),
        ("--minutes nan", "--minutes must be at least 0.5"),
        ("--minutes 1 --outage 60", "--outage must leave 15 s"),
        ("--outage -1", "--outage must leave 15 s"),
        ("--json /no/such/folder", "/no/such/folder: No such file or directory"),
    ],
)
def test_what_cannot_be_lived_through_is_said_before_it_is_tried(
    arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(["fleet", *arguments.split()]) == 2
    assert complaint in capsys.readouterr().err


def test_the_peak_is_the_most_within_any_second() -> None:
    assert peak([0.0, 0.9, 1.0, 1.1, 5.0]) == 3
    assert peak([]) == 0


def test_what_waits_in_memory_is_shown_to_an_outbox_as_the_spool_shows_it(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db", "a" * 16)
    stock = Stock(GATEWAY, CONFIG)
    for minute in range(10):
        committed = spool.append([record(stream, minute) for stream in STREAMS], CONFIG)
        twins = [Entry(e.run, e.stream, e.kind, e.seq, e.seq, e.body) for e in committed]
        stock.append(twins, committed[0].end_ns or 0)
    for after_id, limit, kinds, ids in product(
        (BEFORE_ALL, 20), (10, 1000), ((), ("snow",)), ((), (1, 22))
    ):
        request = PageRequest(after_id, spool.last_id, limit, 7, kinds, ids)
        real = spool.peek(
            after_id=after_id,
            up_to_id=spool.last_id,
            limit=limit,
            parcel_records=7,
            without_kinds=kinds,
            without_ids=ids,
        )
        assert real.parcels
        assert stock.peek(request) == real
    newest, last_id = spool.newest()
    assert [e.body for e in stock.newest()] == [e.body for e in newest]
    assert stock.last_id == last_id
    spool.close(clean=True)
