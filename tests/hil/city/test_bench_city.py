"""The bench of the city's end: a small run has every figure, and the two processes shared it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.bench.city import FIGURES
from hil.broker import MOSQUITTO
from hil.postgres import binaries
from tests.hil.city.conftest import absent


@pytest.mark.slow
def test_a_small_run_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path(MOSQUITTO).exists() or binaries() is None:
        absent("no Mosquitto or no PostgreSQL: apt install mosquitto postgresql")
    # How fast this machine is, is no matter here: 1 says that a target was missed.
    assert main(["bench", "city", "--records", "16000", "--json"]) in (0, 1)
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert {figure.key for figure in FIGURES} <= set(figures)
    assert all(value > 0 for value in figures.values())
    assert 0 < figures["postgres_two_share"] <= 0.5
    assert 200 < figures["sqlite_b_per_record"] < 2000
