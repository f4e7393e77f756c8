"""What changed, a line each."""

from __future__ import annotations

from agent.cli.changes import changes
from tests.agent.snapshots import alert, sensor, snapshot


def test_at_first_everything_is_told_once() -> None:
    told = list(changes(None, snapshot(sensor("snow-1"), alerts=[alert()])))
    assert told == [
        "00:11:40  gateway chikaho-03 runs, version 0.1.0",
        "00:11:40  configuration 3fd3c9a85650",
        "00:11:40  connected: mqtts://broker-a.example:8883",
        "00:11:40  clock synced",
        "00:11:40  snow-1 ok",
        "00:11:40  WARNING It may freeze (freezing).",
    ]


def test_nothing_is_told_of_what_is_as_it_was() -> None:
    before = snapshot(sensor("snow-1"), alerts=[alert()])
    assert list(changes(before, snapshot(sensor("snow-1"), alerts=[alert()], second=41))) == []


def test_each_change_is_a_line() -> None:
    before = snapshot(sensor("snow-1"), sensor("road-1"), alerts=[alert("freezing")])
    silent = sensor("snow-1", state="silent")
    silent["error"] = {"time": "", "kind": "bus_error", "text": "nobody answered"}
    now = snapshot(silent, sensor("road-1"), alerts=[alert("slippery")])
    now["uplink"] |= {"broker": None}
    now["uplink"]["failure"] = {"time": "", "broker": "x", "reason": "refused"}
    now["spool"] |= {"volatile": True, "given_up": 40}
    now["clock"] |= {"state": "estimated"}
    now["gateway"] |= {"run": "another", "config": "abc"}
    told = [line.partition("  ")[2] for line in changes(before, now)]
    assert told == [
        "gateway chikaho-03 runs, version 0.1.0",
        "configuration abc",
        "not connected: refused",
        "clock ESTIMATED",
        "records are kept in memory only",
        "40 records given up for lack of space",
        "snow-1 SILENT: nobody answered",
        "WARNING It may freeze (slippery).",
        "over: It may freeze (freezing).",
    ]
