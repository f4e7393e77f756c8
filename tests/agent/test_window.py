"""Windows of one sensor: every instant in one of them, every reading in one of them or counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.window import LATENESS_NS, Window, Windower
from drivers.base import Observation, Reading

S = 1_000_000_000
MIDNIGHT_NS = 1_800_057_600 * S  # 2027-01-16T00:00:00Z, a multiple of every window


@dataclass
class Kept:
    """Keeps what it is given."""

    observations: list[Observation] = field(default_factory=list)

    def add(self, observation: Observation) -> None:
        self.observations.append(observation)


def reading(number: int = 0) -> Reading:
    return Reading("depth_cm", float(number), 0)


def minutes(now_ns: int = MIDNIGHT_NS) -> Windower[Kept]:
    return Windower(60, Kept, now_ns=now_ns)


def spans(windows: list[Window[Kept]]) -> list[tuple[float, float]]:
    return [((w.start_ns - MIDNIGHT_NS) / S, (w.end_ns - MIDNIGHT_NS) / S) for w in windows]


def counts(windows: list[Window[Kept]]) -> list[int]:
    return [len(window.tally.observations) for window in windows]


def test_a_window_closes_once_readings_on_their_way_have_had_time_to_arrive() -> None:
    windower = minutes()
    assert windower.advance(MIDNIGHT_NS + 60 * S) == []
    assert windower.advance(MIDNIGHT_NS + 60 * S + LATENESS_NS - 1) == []
    assert spans(windower.advance(MIDNIGHT_NS + 60 * S + LATENESS_NS)) == [(0, 60)]


def test_it_says_when_it_wants_to_be_advanced() -> None:
    windower = minutes(MIDNIGHT_NS + 7 * S)
    for _ in range(3):
        close_ns = windower.next_close_ns()
        assert windower.advance(close_ns - 1) == []
        assert len(windower.advance(close_ns)) == 1


def test_windows_start_at_utc_multiples_whenever_the_sensor_started() -> None:
    windower = minutes(MIDNIGHT_NS + 25 * S)
    closed = windower.advance(MIDNIGHT_NS + 190 * S)
    assert spans(closed) == [(25, 60), (60, 120), (120, 180)]
    assert [window.reasons for window in closed] == [{"partial"}, set(), set()]


def test_a_window_that_begins_on_the_multiple_is_whole() -> None:
    assert minutes().advance(MIDNIGHT_NS + 62 * S)[0].reasons == set()


def test_a_stop_cuts_the_open_window_and_leaves_ended_ones_whole() -> None:
    windower = minutes()
    closed = windower.flush(MIDNIGHT_NS + 61 * S, "partial")
    assert spans(closed) == [(0, 60), (60, 61)]
    assert [window.reasons for window in closed] == [set(), {"partial"}]


def test_after_a_flush_the_next_window_continues_from_there() -> None:
    windower = minutes()
    assert spans(windower.flush(MIDNIGHT_NS + 20 * S, "clock_step")) == [(0, 20)]
    closed = windower.advance(MIDNIGHT_NS + 62 * S)
    assert spans(closed) == [(20, 60)]
    assert closed[0].reasons == {"partial"}


def test_after_a_step_windows_begin_anew_by_the_new_time() -> None:
    windower = minutes()
    assert spans(windower.flush(MIDNIGHT_NS + 20 * S, "clock_step")) == [(0, 20)]
    windower.restart(MIDNIGHT_NS + 3630 * S)
    assert spans(windower.advance(MIDNIGHT_NS + 3662 * S)) == [(3630, 3660)]


def test_silence_gives_windows_too() -> None:
    assert counts(minutes().advance(MIDNIGHT_NS + 302 * S)) == [0, 0, 0, 0, 0]


def test_a_reading_at_the_border_belongs_to_the_window_that_begins() -> None:
    windower = minutes()
    windower.add(reading(), MIDNIGHT_NS + 60 * S, now_ns=MIDNIGHT_NS + 60 * S)
    assert counts(windower.advance(MIDNIGHT_NS + 122 * S)) == [0, 1]


def test_a_late_reading_is_counted_not_merged() -> None:
    windower = minutes()
    windower.advance(MIDNIGHT_NS + 62 * S)
    windower.add(reading(), MIDNIGHT_NS + 59 * S, now_ns=MIDNIGHT_NS + 62 * S)
    assert windower.late == 1
    assert counts(windower.advance(MIDNIGHT_NS + 122 * S)) == [0]


def test_a_reading_still_on_its_way_when_its_window_ended_is_counted_where_it_belongs() -> None:
    windower = minutes()
    windower.add(reading(), MIDNIGHT_NS + 59 * S, now_ns=MIDNIGHT_NS + 61 * S)
    assert counts(windower.advance(MIDNIGHT_NS + 62 * S)) == [1]
    assert windower.late == 0


def test_a_reading_from_the_future_is_counted_and_opens_nothing() -> None:
    windower = minutes()
    windower.add(reading(), MIDNIGHT_NS + 3600 * S, now_ns=MIDNIGHT_NS)
    assert windower.future == 1
    assert spans(windower.flush(MIDNIGHT_NS + S, "partial")) == [(0, 1)]


def test_a_reading_a_little_ahead_of_a_stop_is_not_lost_with_the_window_it_would_open() -> None:
    windower = minutes()
    windower.add(reading(), MIDNIGHT_NS + 61 * S, now_ns=MIDNIGHT_NS + 59 * S)
    assert counts(windower.flush(MIDNIGHT_NS + 59 * S + 1, "partial")) == [1]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(-150 * S, 4 * S)),
        st.tuples(st.just("advance"), st.integers(0, 200 * S)),
        st.tuples(st.just("flush"), st.integers(0, 90 * S)),
        st.tuples(st.just("step"), st.integers(-200 * S, 200 * S)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(
    window_s=st.sampled_from([1, 10, 60]),
    begin_ns=st.integers(0, 120 * S),
    operations=OPERATIONS,
)
def test_every_instant_is_in_one_window_and_every_reading_in_one_or_counted(
    window_s: int, begin_ns: int, operations: list[tuple[str, int]]
) -> None:
    now_ns = begin_ns = MIDNIGHT_NS + begin_ns
    windower: Windower[Kept] = Windower(window_s, Kept, now_ns=now_ns)
    lives: list[tuple[int, list[Window[Kept]], int]] = []  # between steps: begin, windows, end
    windows: list[Window[Kept]] = []
    added: dict[int, int] = {}  # number -> when it was measured
    for name, value in operations:
        match name:
            case "add":
                number = len(added)
                added[number] = now_ns + value
                windower.add(reading(number), now_ns + value, now_ns=now_ns)
            case "advance":
                now_ns += value
                windows += windower.advance(now_ns)
            case "flush":
                now_ns += value
                windows += windower.flush(now_ns, "partial")
            case _:
                windows += windower.flush(now_ns, "clock_step")
                lives.append((begin_ns, windows, now_ns))
                now_ns = begin_ns = now_ns + value
                windows = []
                windower.restart(now_ns)
    now_ns += 1  # whatever was measured was measured before the stop
    windows += windower.flush(now_ns, "partial")
    lives.append((begin_ns, windows, now_ns))

    window_ns = window_s * S
    for life_begin_ns, life, life_end_ns in lives:
        at_ns = life_begin_ns
        for window in life:
            assert window.start_ns == at_ns, "a hole, an overlap, or time running backwards"
            assert window.end_ns > window.start_ns
            assert window.end_ns - window.start_ns <= window_ns
            is_whole = window.start_ns % window_ns == 0 and window.end_ns % window_ns == 0
            assert is_whole or window.reasons
            assert window.start_ns % window_ns == 0 or "partial" in window.reasons
            at_ns = window.end_ns
        assert at_ns == life_end_ns

    placed = Counter(
        int(seen.value)
        for _, life, _ in lives
        for window in life
        for seen in window.tally.observations
        if isinstance(seen, Reading) and isinstance(seen.value, float)
    )
    assert all(times == 1 for times in placed.values())
    assert len(placed) + windower.late + windower.future == len(added)


@settings(deadline=None)
@given(
    measured=st.lists(
        st.tuples(st.integers(0, 600 * S), st.integers(0, LATENESS_NS - 1)), max_size=60
    )
)
def test_a_reading_that_comes_in_time_is_in_the_window_of_its_own_time(
    measured: list[tuple[int, int]],
) -> None:
    windower = minutes()
    windows: list[Window[Kept]] = []
    arrivals = sorted((at + delay, at, number) for number, (at, delay) in enumerate(measured))
    for arrived, at, number in arrivals:
        windows += windower.advance(MIDNIGHT_NS + arrived)
        windower.add(reading(number), MIDNIGHT_NS + at, now_ns=MIDNIGHT_NS + arrived)
    windows += windower.advance(MIDNIGHT_NS + 700 * S)
    found = {
        int(seen.value): (window.start_ns, window.end_ns)
        for window in windows
        for seen in window.tally.observations
        if isinstance(seen, Reading) and isinstance(seen.value, float)
    }
    assert sorted(found) == list(range(len(measured)))
    for number, (start_ns, end_ns) in found.items():
        assert start_ns <= MIDNIGHT_NS + measured[number][0] < end_ns


@pytest.mark.parametrize("window_s", [1, 60, 900, 3600])
def test_windows_of_every_length_meet_at_the_hour(window_s: int) -> None:
    windower: Windower[Kept] = Windower(window_s, Kept, now_ns=MIDNIGHT_NS + 1)
    closed = windower.advance(MIDNIGHT_NS + 3600 * S + LATENESS_NS)
    assert closed[-1].end_ns == MIDNIGHT_NS + 3600 * S
    assert len(closed) == 3600 // window_s
