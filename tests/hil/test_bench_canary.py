"""The canary of the privacy promise: ten thousand known crossings, and nothing of them anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.bench import BENCHES, canary
from hil.bench.canary import CROSSINGS, TRACES, measure, rows
from hil.broker import MOSQUITTO
from hil.canary.life import LEAKS


def need_mosquitto() -> None:
    if not Path(MOSQUITTO).exists():
        missing = f"no {MOSQUITTO}: apt install mosquitto"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.mark.slow
def test_of_ten_thousand_known_crossings_nothing_is_left_and_every_leak_is_found(
    tmp_path: Path,
) -> None:
    need_mosquitto()
    said: list[str] = []
    values = measure(tmp_path, CROSSINGS, 1, said.append)
    missed = [row.key for row in rows(CROSSINGS) if not row.holds(values[row.key])]
    assert not missed, "\n".join([str(values), *said])
    assert values["kills"] >= 3
    assert values["stops"] >= 1
    assert values["windows"] >= 300
    assert values["numbers"] >= 1000


def test_every_leak_has_a_trace() -> None:
    assert set(TRACES) == set(LEAKS)


def test_the_verb_prints_the_table_and_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {row.key: 0.0 if row.target is None else row.target for row in rows(CROSSINGS)}
    monkeypatch.setattr(canary, "measure", lambda *_: values)
    assert main(["bench", "canary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == values
    for key, wrong in (("found_frame", 1), ("leak_no_noise", 0), ("found_time", 2)):
        monkeypatch.setattr(canary, "measure", lambda *_, k=key, w=wrong: values | {k: w})
        assert main(["bench", "canary"]) == 1
        assert "MISS" in capsys.readouterr().out
    assert "canary" in BENCHES
