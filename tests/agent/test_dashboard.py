"""The live screen as lines: what is said, in what room, and how much of it changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.dashboard import screen
from agent.cli.display import cells
from agent.cli.lines import Frame, fewer, spark
from agent.cli.names import ago_text
from agent.cli.painting import Painter
from agent.cli.watched import SPARK_S, Spark, Watched
from tests.agent.snapshots import alert, left, sensor, snapshot

ENVIRONMENT = {"TERM": "xterm-256color"}


def watched(*events: dict[str, object]) -> Watched:
    found = Watched()
    for second, event in enumerate(events):
        found.take(event, float(second))
    return found


def shown(state: Watched, columns: int = 80, lines: int = 24, now_s: float = 0.0) -> list[str]:
    picture = screen(state, now_s, Frame(columns, lines))
    return [line.plain for line in picture.renderables]  # type: ignore[union-attr]


def full() -> Watched:
    """A gateway of which there is more than one screen."""
    sensors = [sensor("hall-1", "people"), *(sensor(f"snow-{n}") for n in range(1, 12))]
    state = watched({"snapshot": snapshot(*sensors, alerts=[alert(f"a{n}") for n in range(5)])})
    for number in range(30):
        state.take(left(seq=number), 0.0)
    return state


@pytest.mark.parametrize("locale", ["C.UTF-8", "ja_JP.UTF-8"])
@pytest.mark.parametrize("into", [None, "hall-1", "snow-1"])
def test_whatever_the_room_is_it_is_kept_to(
    locale: str, into: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    state = full()
    state.into = into
    for columns in (20, 40, 63, 80, 132, 200):
        for lines in (4, 8, 12, 24, 50):
            found = shown(state, columns, lines)
            assert len(found) == lines
            assert all(cells(line) <= columns for line in found), found


def test_the_chosen_sensor_is_in_sight_however_many_there_are() -> None:
    state = full()
    for index in range(12):
        state.choose(index)
        assert any(line.startswith(">") for line in shown(state))
    state.choose(99)
    assert any("snow-11" in line and line.startswith(">") for line in shown(state))


def test_the_newest_records_are_in_sight_however_many_sensors_there_are() -> None:
    assert any("#29 " in line for line in shown(full()))


def test_a_quiet_second_costs_a_slow_console_little() -> None:
    """At 9600 baud 960 bytes go through in a second."""
    painter, most = Painter(80, 24, ENVIRONMENT), 0
    sensors = [sensor(f"snow-{n}") for n in range(1, 9)]
    state = watched()
    for second in range(30):
        for each in sensors:
            each["readings"]["depth_cm"]["value"] = 42.0 + (second * 7 % 10) / 10
        state.take({"snapshot": snapshot(*sensors, second=second)}, float(second))
        text = painter.change_to(screen(state, float(second), Frame(80, 24)))
        most = max(most, len(text.encode())) if second else most
    assert most < 800


def test_what_waits_and_is_in_flight_has_room() -> None:
    state = snapshot(sensor("snow-1"))
    lanes = state["uplink"]["lanes"]
    assert not any("in flight" in line for line in shown(watched({"snapshot": state})))
    lanes["backlog"] |= {"records_waiting": 12_345, "messages_in_flight": 16}
    (line,) = [each for each in shown(watched({"snapshot": state})) if "alerts 0" in each]
    assert line.endswith("backlog 12345 (+16 in flight)")


def test_a_window_ends_when_it_ends_whatever_the_clock_is_told_since() -> None:
    record = sensor("snow-1")["record"] | {
        "start": "2027-01-15T00:09:59.999Z",
        "end": "2027-01-15T00:11:00.001Z",
    }
    state = watched({"snapshot": snapshot(sensor("snow-1", record=record))})
    state.into = "snow-1"
    assert any("00:10:00 - 00:11:00" in line for line in shown(state))


def test_ages_are_japanese_in_japan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    assert [ago_text(s) for s in (42, 180, 7500, 300_000)] == ["42秒", "3分", "2時間05", "3日11時"]


def test_of_people_only_what_was_released_is_shown() -> None:
    """Whatever a gateway told beyond that, and it must not, stays unseen."""
    leaky = sensor(
        "hall-1",
        "people",
        readings={"crossings": {"value": 77777, "unit": "1", "age_s": 0.1, "reasons": []}},
    )
    state = watched({"snapshot": snapshot(leaky)})
    state.choose(0)
    state.enter()
    windows = [{"start": "2027-01-15T00:00:00Z", "end": "2027-01-15T00:15:00Z", "towards": -4}]
    raw = [{"time": "2027-01-15T00:11:40.100Z", "rx": "77777777"}]
    state.take({"into": "hall-1", "raw": raw, "history": {"windows": windows}}, 1.0)
    found = "\n".join(shown(state))
    assert "towards     0" in found  # shown as a count; the unclamped one is for sums
    assert "77777" not in found
    state.leave()
    assert "77777" not in "\n".join(shown(state))


def test_what_a_device_says_cannot_move_the_cursor() -> None:
    wild = sensor("snow-1", state="silent", error=None)
    wild["error"] = {"time": "2027-01-15T00:00:00Z", "kind": "bus_error", "text": "\x1b[2J\nno"}
    state = watched({"snapshot": snapshot(wild)})
    state.enter()
    assert "\x1b" not in "".join(shown(state))


def test_a_gateway_that_is_gone_grows_old_on_the_screen() -> None:
    state = watched({"snapshot": snapshot(sensor("snow-1"))})
    assert any("0 s" in line and "snow-1" in line for line in shown(state))
    state.take({"gone": OSError("nobody is there")}, 30.0)
    found = shown(state, now_s=95.0)
    assert any("NO ANSWER" in line and "nobody is there" in line for line in found)
    assert any("1 min" in line and "snow-1" in line for line in found)
    state.take({"snapshot": snapshot(sensor("snow-1"))}, 96.0)
    assert not any("NO ANSWER" in line for line in shown(state, now_s=96.0))


def test_what_is_wrong_is_told_in_words_and_not_by_colour_alone() -> None:
    state = snapshot(sensor("snow-1", state="silent"), alerts=[alert(severity="critical")])
    state["uplink"] |= {"broker": None, "next_attempt_in_s": 4.0}
    state["uplink"]["failure"] = {"time": "", "broker": "x", "reason": "Connection refused"}
    state["spool"] |= {"volatile": True, "waiting": 12}
    state["clock"] |= {"state": "estimated"}
    found = "\n".join(shown(watched({"snapshot": state})))
    for words in (
        "NOT CONNECTED, next try in 4 s: Connection refused",
        "IN MEMORY ONLY, 12 waiting",
        "ESTIMATED",
        "SILENT",
        "CRITICAL",
    ):
        assert words in found


def test_events_that_a_newer_gateway_tells_are_passed_over() -> None:
    state = watched({"weather": "fine"}, {"snapshot": snapshot()}, {"snapshot": snapshot(new=1)})
    assert shown(state)


def test_a_plot_runs_from_the_lowest_to_the_highest() -> None:
    assert spark([1.0, 2.0, None, 3.0]) == "▁▅ █"
    assert spark([5.0, 5.0]) == "▄▄"
    assert spark([]) == spark([None]) == ""
    assert spark([0.0, 9.0], "_.-=*#") == "_#"


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), max_size=100))
def test_any_values_can_be_plotted(means: list[float | None]) -> None:
    assert len(spark(means)) in (0, len(means))


def test_a_day_is_plotted_in_the_columns_that_there_are() -> None:
    day = [float(slot) for slot in range(288)]
    assert len(fewer(day, 24)) == 24
    assert fewer(day, 24)[-1] == pytest.approx(281.5)
    assert fewer([None] * 10, 5) == [None] * 5
    assert fewer([], 24) == []


def test_a_column_of_a_plot_is_a_mean_and_a_pause_is_a_hole() -> None:
    plot = Spark()
    for at_s, value in ((0.0, 1.0), (1.0, 3.0), (SPARK_S, 5.0), (4 * SPARK_S, 6.0)):
        plot.add(at_s, value)
    assert plot.last(10) == [2.0, 5.0, None, None, 6.0]
    plot.add(1e6, 7.0)
    assert plot.last(2) == [None, 7.0]
