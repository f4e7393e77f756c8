"""Windows of one sensor: every instant in one of them, every reading in one of them or counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.window import EARLIER_NS, ERAS_LIMIT, LATENESS_NS, Window, Windower
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


# Steps of the clock


def stepped(windower: Windower[Kept], at_s: float, by_s: float) -> list[Window[Kept]]:
    return windower.step(MIDNIGHT_NS + round(at_s * S), round(by_s * S), known=True)


def advanced(windower: Windower[Kept], to_s: float) -> list[tuple[float, float]]:
    return spans(windower.advance(MIDNIGHT_NS + round(to_s * S)))


def test_after_a_step_forward_windows_begin_anew_by_the_new_time() -> None:
    windower = minutes()
    (cut,) = stepped(windower, 20, 3610)
    assert (spans([cut]), cut.reasons) == ([(0, 20)], {"clock_step"})
    (rest,) = windower.advance(MIDNIGHT_NS + 3662 * S)
    assert (spans([rest]), rest.reasons) == ([(3630, 3660)], {"partial", "clock_step"})


def test_after_a_small_step_back_the_window_ends_where_the_new_time_is() -> None:
    windower = minutes()
    windower.add(reading(), MIDNIGHT_NS + 39 * S, now_ns=MIDNIGHT_NS + 39 * S)
    (cut,) = stepped(windower, 40, -3)
    assert (spans([cut]), cut.reasons, counts([cut])) == ([(0, 37)], {"clock_step"}, [1])
    assert advanced(windower, 62) == [(37, 60)]


def test_a_step_back_out_of_a_window_is_waited_for() -> None:
    windower = minutes()
    assert advanced(windower, 190) == [(0, 60), (60, 120), (120, 180)]
    assert spans(stepped(windower, 190, -100)) == [(180, 190)]
    for at_s in range(90, 190, 10):
        windower.add(reading(), MIDNIGHT_NS + at_s * S, now_ns=MIDNIGHT_NS + at_s * S)
        assert advanced(windower, at_s) == []
    assert windower.covered == 10
    assert windower.next_close_ns() == MIDNIGHT_NS + 240 * S + LATENESS_NS
    windower.add(reading(), MIDNIGHT_NS + 190 * S, now_ns=MIDNIGHT_NS + 190 * S)
    (window,) = windower.advance(MIDNIGHT_NS + 242 * S)
    assert (spans([window]), counts([window])) == ([(190, 240)], [1])
    assert window.reasons == {"partial", "clock_step"}


def test_a_step_back_before_all_windows_gives_windows_up_to_them_and_then_waits() -> None:
    windower = minutes()
    assert spans(stepped(windower, 30, -100)) == [(0, 30)]
    closed = windower.advance(MIDNIGHT_NS + 92 * S)
    assert spans(closed) == [(-70, -60), (-60, 0), (30, 60)]
    assert "clock_step" in closed[2].reasons


def test_a_window_ends_where_a_covered_span_begins_and_says_why() -> None:
    windower = minutes(MIDNIGHT_NS + 30 * S)
    stepped(windower, 40, -60)
    closed = windower.advance(MIDNIGHT_NS + 62 * S)
    assert spans(closed) == [(-20, 0), (0, 30), (40, 60)]
    assert closed[1].reasons == {"clock_step"}


def test_a_clock_that_comes_back_from_2099_silences_nothing() -> None:
    windower = minutes()
    far_s = 72 * 366 * 86_400.0
    stepped(windower, 30, far_s)
    stepped(windower, 90 + far_s, -far_s)
    assert advanced(windower, 122) == [(90, 120)]


def test_windows_without_a_time_cover_nothing() -> None:
    windower = minutes()
    closed = windower.step(MIDNIGHT_NS + 200 * S, -150 * S, known=False)
    assert spans(closed)[-1] == (180, 200)
    assert advanced(windower, 62) == [(50, 60)]


def test_once_they_have_a_time_they_cover_what_they_were_measured_in() -> None:
    windower = minutes()
    windower.step(MIDNIGHT_NS + 100 * S, 1000 * S, known=False)  # began at 1000 s in truth
    stepped(windower, 1130, -80)
    assert advanced(windower, 1129) == []
    stepped(windower, 1129, -150)
    assert advanced(windower, 1002) == [(979, 1000)]


def test_what_earlier_runs_covered_is_not_covered_again() -> None:
    windower = minutes()
    windower.cover(MIDNIGHT_NS + 70 * S)
    assert advanced(windower, 122) == [(70, 120)]


def test_an_earlier_run_of_a_far_future_silences_nothing() -> None:
    windower = minutes()
    windower.cover(MIDNIGHT_NS + 2 * EARLIER_NS)
    assert advanced(windower, 62) == [(0, 60)]


def test_what_was_measured_at_the_very_instant_of_a_step_is_not_carried_off() -> None:
    windower = minutes()
    assert advanced(windower, 62) == [(0, 60)]
    windower.add(reading(), MIDNIGHT_NS + 120 * S, now_ns=MIDNIGHT_NS + 120 * S)
    closed = stepped(windower, 120, -70)
    assert counts(closed) == [0, 1]
    assert closed[1].start_ns == MIDNIGHT_NS + 120 * S


def test_however_often_the_clock_steps_what_is_remembered_is_bounded() -> None:
    windower = minutes()
    now_s = 0.0
    for _ in range(500):
        stepped(windower, now_s + 10, 1000)
        now_s += 1010
    assert len(windower._eras) == ERAS_LIMIT
    stepped(windower, now_s + 10, -500_000)
    assert windower.advance(MIDNIGHT_NS + round(now_s * S) - 490_000 * S) == []


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


def joined(spans_ns: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the union of spans."""
    union: list[tuple[int, int]] = []
    for start_ns, end_ns in sorted(spans_ns):
        if union and start_ns <= union[-1][1]:
            union[-1] = (union[-1][0], max(end_ns, union[-1][1]))
        elif start_ns < end_ns:
            union.append((start_ns, end_ns))
    return union


@settings(deadline=None, max_examples=500)
@given(
    window_s=st.sampled_from([1, 10, 60]),
    begin_ns=st.integers(0, 120 * S),
    whole_s=st.booleans(),
    operations=OPERATIONS,
)
def test_every_instant_is_in_one_window_and_every_reading_in_one_or_counted(
    window_s: int, begin_ns: int, whole_s: bool, operations: list[tuple[str, int]]
) -> None:
    now_ns = begin_ns = MIDNIGHT_NS + (begin_ns // S * S if whole_s else begin_ns)
    windower: Windower[Kept] = Windower(window_s, Kept, now_ns=now_ns)
    passed: list[tuple[int, int]] = []  # what UTC has gone through, between steps
    windows: list[Window[Kept]] = []
    added: dict[int, int] = {}  # number -> when it was measured
    steps = 0
    for name, value in operations:
        if whole_s:  # so that things coincide
            value = value // S * S
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
            case _ if steps < ERAS_LIMIT:
                steps += 1
                closed = windower.step(now_ns, value, known=True)
                windows += closed
                is_cut = closed and closed[-1].end_ns == now_ns + value
                passed.append((begin_ns, now_ns + value if is_cut else now_ns))
                now_ns = begin_ns = now_ns + value
    now_ns += 1  # whatever was measured was measured before the stop
    windows += windower.flush(now_ns, "partial")
    passed.append((begin_ns, now_ns))

    window_ns = window_s * S
    ends_ns = 0
    for window in sorted(windows, key=lambda w: w.start_ns):
        assert ends_ns <= window.start_ns < window.end_ns, "an overlap, or time running backwards"
        assert window.start_ns // window_ns == (window.end_ns - 1) // window_ns
        is_whole = window.start_ns % window_ns == 0 and window.end_ns % window_ns == 0
        assert is_whole or window.reasons
        assert window.start_ns % window_ns == 0 or "partial" in window.reasons
        ends_ns = window.end_ns
    covered = joined([(window.start_ns, window.end_ns) for window in windows])
    for start_ns, end_ns in joined(passed):
        # A reading at the very instant of a step may add its nanosecond.
        assert any(a <= start_ns and end_ns <= b <= end_ns + 1 for a, b in covered), "a hole"

    placed = Counter(
        int(seen.value)
        for window in windows
        for seen in window.tally.observations
        if isinstance(seen, Reading) and isinstance(seen.value, float)
    )
    assert all(times == 1 for times in placed.values())
    assert len(placed) + windower.late + windower.future + windower.covered == len(added)


@settings(deadline=None, max_examples=300)
@given(
    moves=st.lists(st.tuples(st.integers(0, 200 * S), st.integers(-500 * S, 500 * S)), max_size=20)
)
def test_windows_without_a_time_tile_the_boot_clock(moves: list[tuple[int, int]]) -> None:
    windower = minutes()
    boot_ns, offset_ns, ends_ns = 0, MIDNIGHT_NS, 0
    for lives_ns, moved_ns in moves:
        boot_ns += lives_ns
        closed = windower.advance(boot_ns + offset_ns)
        closed += windower.step(boot_ns + offset_ns, moved_ns, known=False)
        for window in closed:
            assert window.start_ns - offset_ns == ends_ns
            ends_ns = window.end_ns - offset_ns
        assert ends_ns == boot_ns
        offset_ns += moved_ns


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
