"""The rivals' account: what arrives is understood, and what is missing is seen."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from hil.bench import peers, rivals
from hil.bench.peers import Counting, Stand, accounts
from hil.bench.rivals import Command, Rival, numbers, of_collectd, of_windows
from hil.broker import MOSQUITTO


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b'{"3": 17}', [(3, 17)]),
        (
            b'{"line-0": [{"ts": 5, "values": {"v": 1}}, {"ts": 6, "values": {"v": 2}}]}',
            [(0, 1), (0, 2)],
        ),
        (b'{"line-0": [{"ts": 5, "values": {"other": 1}}]}', []),
        (b'{"gateway": 17}', []),
        (b"online", []),
        (b"[1, 2]", []),
    ],
)
def test_a_message_of_any_rival_is_understood(payload: bytes, told: list[tuple[int, int]]) -> None:
    assert list(numbers("lines", payload)) == told


def test_a_value_of_collectd_is_understood() -> None:
    topic = "collectd/gateway/line-4/gauge-v"
    assert list(of_collectd(topic, b"1795930000.123:17\0")) == [(4, 17)]
    assert list(of_collectd("collectd/gateway/cpu-4/percent", b"1795930000.123:17\0")) == []


def window(least_cm: float, most_cm: float, n: int) -> bytes:
    values = {"distance_cm": {"min": least_cm, "max": most_cm, "n": n}}
    gap = {"stream": "line-2", "first": 1, "seq": 4, "gap": "spool_full"}
    return json.dumps({"records": [{"stream": "line-2", "values": values}, gap]}).encode()


def test_a_window_of_ours_tells_of_each_number_in_it() -> None:
    payload = window(100.7, 101.0, 4)
    told = [(2, 7), (2, 8), (2, 9), (2, 10)]
    assert list(of_windows("yukimi/v1/bench/live/snow", payload)) == told
    assert list(of_windows("yukimi/v1/bench/alert/snow", payload)) == []


def test_a_window_in_which_one_is_missing_tells_of_none() -> None:
    assert list(of_windows("yukimi/v1/bench/live/snow", window(100.7, 101.0, 3))) == []


def test_a_line_says_one_number_a_second_and_skips_none_for_having_been_silent() -> None:
    line = Counting(lambda number: b"%d\n" % number)
    assert line.speak(100.0) == b""
    line.is_silent = False
    assert [line.speak(at_s) for at_s in (100.0, 100.5, 101.0)] == [b"1\n", b"", b"2\n"]
    line.is_silent = True
    assert line.speak(102.0) == b""
    line.is_silent = False
    assert line.speak(110.0) == b"3\n"
    assert line.speak(110.5) == b""


def test_what_waits_in_memory_outlives_an_outage_and_not_a_kill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not Path(MOSQUITTO).exists():
        missing = f"no {MOSQUITTO}: apt install mosquitto"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    for name, value_s in (
        ("SETTLE_S", 1.5), ("OUTAGE_S", 2.5), ("SILENT_S", 0.5), ("AFTERWARDS_S", 1.5),
        ("PATIENCE_S", 10.0), ("QUIET_S", 0.1),
    ):  # fmt: skip
        monkeypatch.setattr(peers, name, value_s)

    def forgetful(folder: Path, port: int, terminals: object) -> Command:
        assert isinstance(terminals, list)
        script = str(rivals._LINES_TO_MQTT)
        return Command(folder, [sys.executable, script, str(port), *terminals])

    with Stand(Rival("forgetful", forgetful, ("lines",), numbers)) as stand:
        accounts([stand], lambda _: None)
    found = {key: value for key, (value,) in stand.found.items()}
    assert found["lost_in_outage"] == 0
    assert found["said_in_outage"] >= 3 * peers.LINES
    assert found["lost_in_kill"] >= peers.LINES
    assert found["lost"] == found["lost_in_kill"]
    assert found["said"] == found["said_in_outage"] + found["said_in_kill"]
