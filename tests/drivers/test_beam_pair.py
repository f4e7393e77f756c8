"""Beam pairs: passages, turn-backs, bounce, time-outs, and the way through real gpiozero pins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import Alive, BusError, Crossing, Observation, Trouble
from drivers.beam_pair import BeamPair, Beams, BeamStateMachine
from drivers.debounce import Debouncer
from drivers.gpio import Edge, PinWatch, Pull
from hil.devices.beams import BeamCrowd
from hil.pins import SimulatedPins

A, B = 17, 27
MS = 1_000_000
S = 1_000_000_000


@dataclass
class Bench:
    """Two pins, a clock and a driver; the pins do what a test says, when it says so."""

    options: dict[str, Any] = field(default_factory=dict)
    now_ns: int = 1000 * S
    levels: dict[int, int] = field(default_factory=lambda: {A: 1, B: 1})
    waiting: list[Edge] = field(default_factory=list)
    owned: bool = False

    def __post_init__(self) -> None:
        options = BeamPair.Options(pin_a=A, pin_b=B, **self.options)
        self.driver = BeamPair(self, options, lambda: self.now_ns)

    def watch(self, pins: Sequence[int], *, pull: Pull) -> PinWatch:
        self.owned = True
        return self

    def edges(self) -> list[Edge]:
        taken, self.waiting = self.waiting, []
        return taken

    def level(self, pin: int) -> int:
        return self.levels[pin]

    def close(self) -> None:
        self.owned = False

    def edge(self, pin: int, level: int, after_ms: float = 100) -> None:
        self.now_ns += round(after_ms * MS)
        self.levels[pin] = level
        self.waiting.append(Edge(pin, level, self.now_ns))

    def walk(self, *beams: int, after_ms: float = 100) -> None:
        """Change each beam in turn, blocked to clear or back."""
        for pin in beams:
            self.edge(pin, 1 - self.levels[pin], after_ms)

    def seen(self) -> list[Observation]:
        self.now_ns += S
        return list(self.driver.poll())

    def crossed(self) -> list[str]:
        return [seen.direction for seen in self.seen() if isinstance(seen, Crossing)]


def bench(**options: Any) -> Bench:
    bench = Bench(options)
    bench.driver.open()
    return bench


@pytest.mark.parametrize(
    ("beams", "counted"),
    [
        ((A, B, A, B), ["towards"]),
        ((B, A, B, A), ["away"]),
        ((A, B, A, B, B, A, B, A), ["towards", "away"]),
        ((A, A), []),  # a hand in one beam
        ((A, B, B, A), []),  # turned back in both
        ((A, B, A, A, B, A), []),  # turned back in the last moment
        ((A, A, B, B), []),  # too thin to break both at once
        ((A, B, A, A, A, B), []),  # A, both, B, both, B
        ((A, A, A, B, A, B), ["towards"]),
    ],
)
def test_only_a_whole_passage_counts(beams: tuple[int, ...], counted: list[str]) -> None:
    gate = bench()
    gate.walk(*beams)
    assert gate.crossed() == counted


def test_flip_exchanges_the_directions() -> None:
    gate = bench(flip=True)
    gate.walk(A, B, A, B)
    assert gate.crossed() == ["away"]


def test_a_light_on_receiver_is_blocked_when_high() -> None:
    gate = Bench({"active": "high", "pull": "none"}, levels={A: 0, B: 0})
    gate.driver.open()
    gate.walk(A, B, A, B)
    assert gate.crossed() == ["towards"]


def test_a_crossing_has_the_time_of_the_edge_that_cleared_the_second_beam() -> None:
    gate = bench()
    gate.walk(A, B, A, B)
    left_ns = gate.now_ns
    gate.now_ns += 30 * S
    (crossing,) = [seen for seen in gate.driver.poll() if isinstance(seen, Crossing)]
    assert crossing.at_boot_ns == left_ns


def test_a_passage_may_be_cut_by_polls_anywhere() -> None:
    gate = bench(timeout_s=10.0)
    counted: list[str] = []
    for pin in (A, B, A, B):
        gate.walk(pin)
        counted += gate.crossed()
    assert counted == ["towards"]


def test_edges_closer_than_the_gap_are_bounce() -> None:
    gate = bench()
    for pin, level in ((A, 0), (B, 0), (A, 1), (B, 1)):
        gate.edge(pin, level)
        for _ in range(20):
            gate.edge(pin, 1 - level, after_ms=0.5)
            gate.edge(pin, level, after_ms=4.9)
    assert gate.crossed() == ["towards"]


def test_a_short_flicker_of_a_beam_is_nobody() -> None:
    gate = bench()
    gate.walk(A, B, A, B, after_ms=1)
    assert gate.crossed() == []


def test_an_edge_that_is_handed_over_late_still_unsettles_the_last_one() -> None:
    gate = bench()
    gate.walk(A, B)
    gate.edge(B, 1)  # a bounce: the edge that takes it back is still on its way
    back_ns = gate.now_ns + 4 * MS
    gate.now_ns += 50 * MS
    gate.driver.poll()
    gate.waiting.append(Edge(B, 0, back_ns))
    gate.levels[B] = 0
    gate.walk(A, B)
    assert gate.crossed() == ["towards"]


def test_a_passage_beyond_the_time_out_counts_nobody_and_the_next_one_counts() -> None:
    gate = bench(timeout_s=3.0)
    gate.walk(A, B)
    gate.now_ns += 4 * S
    assert gate.crossed() == []
    gate.walk(A, B)
    assert gate.crossed() == []
    gate.walk(A, B, A, B)
    assert gate.crossed() == ["towards"]


def test_the_time_out_is_measured_by_the_edges_however_late_the_poll() -> None:
    gate = bench(timeout_s=3.0)
    gate.walk(A, B, A, B, after_ms=900)
    gate.now_ns += 60 * S
    assert gate.crossed() == ["towards"]


def test_a_covered_beam_is_counted_as_stuck_once_and_armed_when_clear() -> None:
    machine = BeamStateMachine(3 * S)
    assert machine.take(Beams.A, 10 * S) is None
    for now_s in (11, 13, 14, 60):
        machine.advance(now_s * S)
    assert machine.take(Beams.BOTH, 61 * S) is None
    assert machine.take(Beams.B, 62 * S) is None
    assert machine.take(Beams.CLEAR, 63 * S) is None
    assert machine.stuck == 1
    for at_s, beams in enumerate((Beams.A, Beams.BOTH, Beams.B), start=64):
        machine.take(beams, at_s * S)
    assert machine.take(Beams.CLEAR, 67 * S) == "towards"


def test_somebody_who_stands_in_the_beams_at_the_start_is_not_counted() -> None:
    gate = Bench(levels={A: 0, B: 0})
    gate.driver.open()
    gate.walk(A, B)
    assert gate.crossed() == []
    gate.walk(B, A, B, A)
    assert gate.crossed() == ["away"]


def test_signs_of_life_come_once_a_second_whoever_passes() -> None:
    quiet, busy = bench(), bench()
    alive: list[list[int]] = []
    for gate in (quiet, busy):
        seen: list[Observation] = []
        for _ in range(20):
            if gate is busy:
                gate.walk(A, B, A, B, after_ms=125)
            else:
                gate.now_ns += S // 2
            seen += gate.driver.poll()
        alive.append([each.at_boot_ns for each in seen if isinstance(each, Alive)])
    assert alive[0] == alive[1]
    assert len(alive[0]) == 11


def test_while_it_warms_up_nobody_is_counted() -> None:
    gate = bench(warmup_s=2.0)
    gate.walk(A, B, A, B)
    assert gate.seen() == [Trouble("warmup", gate.now_ns)]
    gate.now_ns += 2 * S
    gate.driver.poll()
    gate.walk(A, B, A, B)
    assert gate.crossed() == ["towards"]


def test_a_driver_that_is_not_open_says_which_pins_and_gives_them_back_when_closed() -> None:
    gate = Bench()
    with pytest.raises(BusError, match="pins 17, 27"):
        gate.driver.poll()
    gate.driver.open()
    assert gate.owned
    gate.driver.close()
    assert not gate.owned
    gate.driver.close()


def test_its_pins_are_its_own() -> None:
    options = BeamPair.Options(pin_a=A, pin_b=B)
    assert options.claims() == ["pin 17", "pin 27"]
    with pytest.raises(ValidationError, match="pin_a and pin_b are both 17"):
        BeamPair.Options(pin_a=17, pin_b=17)
    with pytest.raises(ValidationError, match="less than or equal to 27"):
        BeamPair.Options(pin_a=17, pin_b=28)


edges_strategy = st.lists(
    st.tuples(st.sampled_from((A, B)), st.integers(0, 1), st.integers(-5, 4000)), max_size=60
)


@given(edges_strategy, st.floats(0, 100))
def test_no_sequence_of_edges_raises(
    changes: list[tuple[int, int, int]], min_gap_ms: float
) -> None:
    gate = bench(min_gap_ms=min_gap_ms)
    for pin, level, after_ms in changes:
        gate.edge(pin, level, after_ms)
    assert len(gate.crossed()) <= len(changes) // 4
    assert gate.driver.frames == len(changes)


@given(edges_strategy)
def test_the_debouncer_settles_at_the_last_level_in_the_order_of_time(
    changes: list[tuple[int, int, int]],
) -> None:
    debouncer = Debouncer({A: 1, B: 1}, 5 * MS)
    levels, settled, now_ns = {A: 1, B: 1}, [], 0
    for pin, level, after_ms in changes:
        now_ns += abs(after_ms) * MS
        levels[pin] = level
        settled += debouncer.take(Edge(pin, level, now_ns))
    settled += debouncer.advance(now_ns + 5 * MS)
    believed = {A: 1, B: 1} | {edge.pin: edge.level for edge in settled}
    assert believed == levels
    times = [edge.at_boot_ns for edge in settled]
    assert times == sorted(times)


WAYS = {
    "towards": (A, B, A, B),
    "away": (B, A, B, A),
    "hand": (A, A),
    "turned back": (B, A, A, B),
    "turned back late": (A, B, A, A, B, A),
}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(WAYS)),
            st.lists(st.integers(20, 450), min_size=6, max_size=6),  # ms from edge to edge
            st.lists(st.floats(0.1, 4.9), max_size=4),  # ms from bounce to bounce
            st.integers(0, 5),  # polls on the way
        ),
        max_size=12,
    )
)
def test_walkers_with_bounce_are_counted_each_once_in_their_direction(
    walkers: list[tuple[str, list[int], list[float], int]],
) -> None:
    gate = bench()
    counted: list[str] = []
    for way, steps_ms, bounces_ms, polls in walkers:
        for n, (pin, step_ms) in enumerate(zip(WAYS[way], steps_ms, strict=False)):
            gate.walk(pin, after_ms=step_ms)
            for bounce_ms in bounces_ms:
                gate.walk(pin, after_ms=bounce_ms)
                gate.walk(pin, after_ms=bounce_ms)
            if n < polls:
                counted += [s.direction for s in gate.driver.poll() if isinstance(s, Crossing)]
    counted += gate.crossed()
    assert counted == [way for way, *_ in walkers if way in ("towards", "away")]


@pytest.mark.parametrize("active", ["low", "high"])
@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_on_simulated_pins_is_counted_without_a_miss(seed: int, active: Any) -> None:
    crowd = BeamCrowd(seed, 30, pin_a=A, pin_b=B, blocked_level=int(active == "high"))
    now_ns = 5000 * S
    counted: list[Crossing] = []
    with SimulatedPins([crowd], now_ns=lambda: now_ns) as pins:
        driver = BeamPair(pins, BeamPair.Options(pin_a=A, pin_b=B, active=active), lambda: now_ns)
        driver.open()
        for _ in range(120):
            now_ns += S // 2
            counted += [seen for seen in driver.poll() if isinstance(seen, Crossing)]
        crowd_then = [p for p in crowd.passages if p.end_s < (now_ns - 5000 * S) / 1e9 - 0.2]
        driver.close()
    truth = [(p.way, p.end_s) for p in crowd_then if p.way != "turned_back"]
    assert len(truth) > 10
    for crossing, (way, end_s) in zip(counted, truth, strict=False):
        assert crossing.direction == way
        after_s = (crossing.at_boot_ns - 5000 * S) / 1e9 - end_s
        assert 0 <= after_s < 0.02  # the last bounce settles the time
    assert len(truth) <= len(counted) <= len(truth) + 1


def test_a_crowd_is_the_same_however_it_is_watched() -> None:
    slow, fast = (BeamCrowd(7, 20, pin_a=A, pin_b=B) for _ in range(2))
    steps = [change for n in range(600) for change in fast.levels(n / 10)]
    assert slow.levels(59.9) == steps
    assert slow.passages == fast.passages
    assert slow.towards + slow.away > 0
