"""The bench of the city's end: a small run has every figure that it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.bench.city import FIGURES
from hil.broker import MOSQUITTO
from tests.hil.city.conftest import absent


def test_a_small_run_has_every_figure_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path(MOSQUITTO).exists():
        absent(f"no {MOSQUITTO}: apt install mosquitto")
    # How fast this machine is, is no matter here: 1 says that a target was missed.
    asked = ["bench", "city", "--only", "sqlite", "--records", "16000", "--json"]
    assert main(asked) in (0, 1)
    figures = json.loads(capsys.readouterr().out)["figures"]
    named = {figure.key for figure in FIGURES if not figure.key.startswith("postgres")}
    assert named <= set(figures)
    assert all(value > 0 for value in figures.values())
    assert 200 < figures["sqlite_b_per_record"] < 2000
