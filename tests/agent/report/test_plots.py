"""Plots: gaps are gaps, what is seen is also told, whatever was measured."""

from __future__ import annotations

import re
from datetime import UTC
from itertools import pairwise
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.plots import (
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Bar,
    Day,
    Means,
    bar_plot,
    line_plot,
    strip,
    ticks_of,
)

END_S = 1_800_000_000.0
DAY = Day(END_S - 86_400, END_S, UTC, "en")
SLOT_S = 300


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def told(svg: str) -> str:
    found = parsed(svg).find("desc")
    return "" if found is None else str(found.text)


def drawn(slots: list[float | None]) -> str:
    means = Means(END_S - len(slots) * SLOT_S, SLOT_S, slots)
    return line_plot("p", "Snow depth", "cm", means, DAY)


def path_of(svg: str) -> str:
    return next((e.get("d", "") for e in parsed(svg).iter("path") if e.get("class") == "line"), "")


def gaps_of(svg: str) -> list[tuple[float, float]]:
    """Where a plot is shaded: hours from its begin."""
    scale = (WIDTH - LEFT - RIGHT) / 24
    return [
        ((float(e.get("x", "")) - LEFT) / scale, float(e.get("width", "")) / scale)
        for e in parsed(svg).iter("rect")
        if e.get("class") == "gap"
    ]


def test_a_whole_day_is_one_line_without_gaps() -> None:
    svg = drawn([float(slot) for slot in range(288)])
    assert path_of(svg).count("M") == 1
    assert gaps_of(svg) == []
    assert told(svg).endswith("No gaps.")


def test_a_gap_breaks_the_line_is_shaded_and_told() -> None:
    slots: list[float | None] = [float(slot) for slot in range(288)]
    slots[96:120] = [None] * 24  # two hours, from the eighth on
    svg = drawn(slots)
    assert path_of(svg).count("M") == 2
    ((begin, length),) = gaps_of(svg)
    assert (begin, length) == pytest.approx((8, 2), abs=0.02)
    assert "Gaps: 1, 2.0 hours in all: 16:00-18:00." in told(svg)


def test_lowest_highest_and_newest_are_told() -> None:
    slots: list[float | None] = [42.0] * 288
    slots[10], slots[20], slots[-1] = -3.25, 55.5, 47.1
    assert "Lowest −3.25 cm, highest 55.5 cm, newest 47.1 cm at 07:57." in told(drawn(slots))


def test_a_day_without_a_value_says_so() -> None:
    svg = drawn([None] * 288)
    assert path_of(svg) == ""
    assert "No value" in told(svg)
    assert gaps_of(svg) == [(pytest.approx(0), pytest.approx(24, abs=0.01))]


def test_a_single_value_is_seen() -> None:
    slots: list[float | None] = [None] * 288
    slots[100] = 5.0
    assert re.fullmatch(r"M[\d.]+ [\d.]+h1\.5", path_of(drawn(slots)))


def test_the_slot_that_is_not_over_yet_is_no_gap() -> None:
    values: list[float | None] = [1.0] * 288
    values[-1] = None
    means = Means(END_S - 86_400 + 200, SLOT_S, values)
    svg = line_plot("p", "Snow depth", "cm", means, DAY)
    # What was before the first slot is not known: that is one.
    assert [begin for begin, _ in gaps_of(svg)] == [pytest.approx(0)]


def test_hours_are_those_of_the_place() -> None:
    tokyo = Day(END_S - 86_400, END_S, ZoneInfo("Asia/Tokyo"), "ja")
    means = Means(END_S - 86_400, SLOT_S, [1.0] * 288)
    svg = line_plot("p", "積雪深", "cm", means, tokyo)
    labels = [e.text for e in parsed(svg).iter("text") if e.get("class") == "x"]
    assert labels == ["18:00", "00:00", "06:00", "12:00"]
    assert "最低 1 cm、最高 1 cm" in told(svg)


def test_hours_are_marked_where_they_begin_at_half_past() -> None:
    kolkata = Day(END_S - 86_400, END_S, ZoneInfo("Asia/Kolkata"), "en")
    svg = line_plot("p", "Snow", "cm", Means(END_S - 86_400, SLOT_S, [1.0] * 288), kolkata)
    assert [e.text for e in parsed(svg).iter("text") if e.get("class") == "x"] == [
        *("18:00", "00:00", "06:00", "12:00")
    ]


VALUES = st.one_of(
    st.none(),
    st.floats(-1e5, 1e5, allow_nan=False, allow_infinity=False).map(lambda v: round(v, 4)),
)


@given(st.lists(VALUES, min_size=1, max_size=288))
def test_whatever_was_measured_is_drawn_within_its_frame(slots: list[float | None]) -> None:
    svg = drawn(slots)
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path_of(svg).replace("h1.5", ""))]
    assert all(LEFT - 0.1 <= x <= WIDTH for x in numbers[::2])
    assert all(0 <= y <= HEIGHT for y in numbers[1::2])
    known = sum(value is not None for value in slots)
    assert len(numbers) == 2 * known


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_the_scale_encloses_all_values_with_few_round_numbers(low: float, span: float) -> None:
    ticks = ticks_of(low, low + span)
    little = 1e-6 * (ticks[1] - ticks[0])
    assert ticks[0] <= low + little
    assert ticks[-1] >= low + span - little
    assert 2 <= len(ticks) <= 6
    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert max(steps) - min(steps) < 1e-6 * max(steps)


def test_what_is_never_negative_is_not_drawn_so() -> None:
    assert min(ticks_of(0.0, 0.0)) == 0


# Counts


def window(hour: float, up: int | None, down: int | None = None) -> Bar:
    start_s = DAY.start_s + hour * 3600
    return Bar(start_s, start_s + 900, up, down)


def test_counts_go_up_and_down_and_a_missing_window_is_a_gap() -> None:
    bars = [window(at / 4, 10, 5) for at in range(96)]
    bars[40:44] = [window(at / 4, None, None) for at in range(40, 44)]
    svg = bar_plot("p", "People", bars, ("Odori", "Station"), DAY)
    boxes = [e for e in parsed(svg).iter("rect") if e.get("class") in ("up", "down")]
    assert len(boxes) == 2 * 92
    ups, downs = (
        {float(e.get("height", "")) for e in boxes if e.get("class") == style}
        for style in ("up", "down")
    )
    assert max(ups) == pytest.approx(2 * max(downs), abs=0.2)
    assert gaps_of(svg) == [(pytest.approx(10, abs=0.02), pytest.approx(1, abs=0.02))]
    assert "Odori: at most 10 in a window, newest 10 at 08:00." in told(svg)
    assert "Station: at most 5 in a window" in told(svg)


def test_windows_that_did_not_come_are_a_gap_too() -> None:
    bars = [window(at / 4, 10) for at in range(96) if not 40 <= at < 44]
    svg = bar_plot("p", "People", bars, ("both ways", None), DAY)
    assert gaps_of(svg) == [(pytest.approx(10, abs=0.02), pytest.approx(1, abs=0.02))]


def test_the_window_that_is_still_open_is_no_gap() -> None:
    bars = [window(at / 4, 10) for at in range(95)]
    assert gaps_of(bar_plot("p", "People", bars, ("both ways", None), DAY)) == []


# The strip


def test_outages_are_red_and_what_nobody_knows_is_neither() -> None:
    outage = (END_S - 7200, END_S - 3600)
    svg = strip("u", ["Connection", "1 outage."], [outage], (END_S - 43_200, END_S), DAY)
    boxes = {
        e.get("class"): (float(e.get("x", "")), float(e.get("width", "")))
        for e in parsed(svg).iter("rect")
    }
    hour = (WIDTH - LEFT - RIGHT) / 24
    assert boxes["unknown"] == (pytest.approx(LEFT), pytest.approx(24 * hour, abs=0.1))
    assert boxes["good"] == (pytest.approx(LEFT + 12 * hour), pytest.approx(12 * hour, abs=0.1))
    assert boxes["bad"] == (pytest.approx(LEFT + 22 * hour, abs=0.1), pytest.approx(hour, abs=0.1))
