"""Everything at once, at random: see hil/chaos.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hil.chaos import Storm, draw
from tests.e2e.conftest import need_mosquitto

SEED = 20270115
MINUTES = 0.75
WAIT_S = 280


def raise_chaos(folder: Path, *options: str) -> dict[str, Any]:
    """Run the bench in `folder`; what it prints on the way stands in the test's output."""
    need_mosquitto()
    command = [sys.executable, "-m", "hil.chaos", "--json", "--hurried", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)}
    ) as bench:
        try:
            answer, _ = bench.communicate(timeout=WAIT_S)
        finally:
            if bench.poll() is None:
                bench.terminate()  # it cleans up after itself
    assert answer, "it could not go on: see above"
    report: dict[str, Any] = json.loads(answer)
    assert bench.returncode == (0 if report["holds"] else 1)
    return report


@pytest.mark.slow
@pytest.mark.parametrize("seed", [["--seed", str(SEED)], []], ids=["known", "random"])
def test_whatever_happens_in_whatever_order_nothing_is_missing(
    tmp_path: Path, seed: list[str]
) -> None:
    report = raise_chaos(tmp_path, "--minutes", str(MINUTES), *seed)
    assert report["holds"], report
    assert report["findings"] == []
    assert (report["missing"], report["lost"], report["disordered"]) == (0, 0, 0)
    assert report["delivered"] == report["produced"] > 0
    assert 0 < report["inflight_highest"] <= report["inflight"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_gateway_that_believes_in_sending_loses_records(tmp_path: Path) -> None:
    """By chance nothing may be on its way whenever something strikes; not three times."""
    for minutes in ("0.4", "0.8", "1.2"):
        report = raise_chaos(tmp_path, "--minutes", minutes, "--seed", str(SEED), "--unsafe")
        assert report["findings"] == []
        if report["missing"]:
            return
    pytest.fail("it lost nothing")


def test_the_events_follow_from_the_seed() -> None:
    def events(seed: int) -> list[str]:
        return [str(event) for event in islice(draw(seed, hurried=True), 50)]

    assert events(1) == events(1) != events(2)


def test_each_round_holds_every_kind_of_event() -> None:
    kinds = len(Storm.EVENTS)
    events = list(islice(draw(SEED, hurried=False), 2 * kinds))
    for begin in (0, kinds):
        assert {event.what for event in events[begin : begin + kinds]} == set(Storm.EVENTS)
