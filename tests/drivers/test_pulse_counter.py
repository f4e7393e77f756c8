"""Pulse counters: what counts, what is noise, which ways, and the way through gpiozero's pins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.phenomena.people import Counted
from agent.sensor import directions_of
from drivers.base import PEOPLE_REASONS, Alive, BusError, Crossing, Driver, Observation, Trouble
from drivers.beam_pair import BeamPair
from drivers.debounce import Debouncer
from drivers.gpio import Edge
from drivers.pulse_counter import PulseCounter, PulseCounterOptions
from hil import emulation
from hil.devices.pulses import PulsingCounter
from hil.pins import SimulatedPins

IN, OUT, ONE = 5, 6, 17
MS = 1_000_000
S = 1_000_000_000
START_NS = 5000 * S
PAIR = {"pin_towards": IN, "pin_away": OUT}


class Script:
    """A PinActor that does what it was told: (milliseconds, pin, level)."""

    def __init__(self, *moves: tuple[float, int, int]) -> None:
        self._moves = list(moves)

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        due = [(pin, level) for at_ms, pin, level in self._moves if at_ms <= now_s * 1000]
        self._moves = [move for move in self._moves if move[0] > now_s * 1000]
        return due


class Bench:
    """Actors on simulated pins, a driver, and a clock that polls turn on."""

    def __init__(self, actors: Iterable[Any], **options: Any) -> None:
        self.now_ns = START_NS
        self.pins = SimulatedPins(list(actors), now_ns=lambda: self.now_ns)
        self.pins.open()
        self.driver = PulseCounter(
            self.pins, PulseCounterOptions(**(options or PAIR)), lambda: self.now_ns
        )
        as_the_gateway_sees_it: Driver = self.driver
        as_the_gateway_sees_it.open()

    def run(self, seconds: float, every_s: float = 0.5) -> list[Observation]:
        seen: list[Observation] = []
        for _ in range(round(seconds / every_s)):
            self.now_ns += round(every_s * S)
            seen += self.driver.poll()
        return seen


def ways(seen: Iterable[Observation]) -> list[str]:
    return [each.direction for each in seen if isinstance(each, Crossing)]


def pulse(at_ms: float, pin: int, length_ms: float = 80, active: int = 0) -> Script:
    return Script((0, pin, 1 - active), (at_ms, pin, active), (at_ms + length_ms, pin, 1 - active))


def test_each_output_counts_its_own_way() -> None:
    bench = Bench([pulse(100, IN), pulse(400, OUT), pulse(700, IN)])
    assert ways(bench.run(3)) == ["towards", "away", "towards"]


def test_one_output_counts_the_total() -> None:
    bench = Bench([pulse(100, ONE), pulse(400, ONE)], pin=ONE)
    assert ways(bench.run(3)) == ["total", "total"]


def test_what_a_counter_counts_is_what_its_outputs_can_tell() -> None:
    pins = SimulatedPins([])
    pair = PulseCounter(pins, PulseCounterOptions(**PAIR), lambda: 0)
    one = PulseCounter(pins, PulseCounterOptions(pin=ONE), lambda: 0)
    beams = BeamPair(pins, BeamPair.Options(pin_a=1, pin_b=2), lambda: 0)
    assert directions_of(pair) == ("towards", "away")
    assert directions_of(one) == ("total",)
    assert directions_of(beams) == ("towards", "away")


def test_the_total_of_one_output_is_what_its_window_holds() -> None:
    bench = Bench([pulse(100, ONE), pulse(400, ONE)], pin=ONE)
    window = Counted(directions_of(bench.driver))
    for each in bench.run(3):
        window.add(each)
    assert window.take() == {"total": 2}


def test_a_crossing_has_the_kernels_time_of_the_edge_that_ended_its_pulse() -> None:
    bench = Bench([pulse(100, IN, length_ms=83)])
    (crossing,) = [each for each in bench.run(30, every_s=30) if isinstance(each, Crossing)]
    assert crossing.at_boot_ns == START_NS + 183 * MS


def test_a_pulse_may_be_cut_by_polls_anywhere() -> None:
    bench = Bench([pulse(100, IN, length_ms=900)])
    assert ways(bench.run(3, every_s=0.07)) == ["towards"]


@pytest.mark.parametrize("active", ["low", "high"])
def test_the_active_level_is_chosen_by_the_wiring(active: str) -> None:
    level = int(active == "high")
    bench = Bench([pulse(100, ONE, active=level)], pin=ONE, active=active)
    assert ways(bench.run(2)) == ["total"]


@pytest.mark.parametrize(("length_ms", "counted"), [(19, 0), (20, 1), (29, 1), (300, 1)])
def test_a_level_that_does_not_hold_is_noise(length_ms: float, counted: int) -> None:
    bench = Bench([pulse(100, ONE, length_ms)], pin=ONE, min_gap_ms=20.0)
    assert len(ways(bench.run(2))) == counted


@pytest.mark.parametrize(("length_ms", "counted"), [(49, 0), (50, 1)])
def test_a_pulse_shorter_than_the_shortest_is_rejected_in_silence(
    length_ms: float, counted: int
) -> None:
    bench = Bench([pulse(100, ONE, length_ms)], pin=ONE, min_pulse_ms=50.0)
    seen = bench.run(2)
    assert len(ways(seen)) == counted
    assert bench.driver.rejected == 1 - counted
    assert {type(each) for each in seen} <= {Alive, Crossing}


def test_rejected_edges_are_counted_in_memory() -> None:
    bench = Bench([pulse(100, ONE, 5), pulse(300, ONE, 5)], pin=ONE)
    assert ways(bench.run(2)) == []
    assert bench.driver.rejected == 4
    assert bench.driver.frame_errors == 0  # these are published


def test_bounce_at_both_ends_is_one_pulse() -> None:
    moves = [(0.0, IN, 1)]
    for begin_ms, level in ((100, 0), (200, 1)):
        for n in range(6):
            moves += [(begin_ms + 4 * n, IN, level), (begin_ms + 4 * n + 2, IN, 1 - level)]
        moves.append((begin_ms + 24, IN, level))
    assert ways(Bench([Script(*moves)]).run(3)) == ["towards"]


def test_an_output_that_sticks_counts_nobody_and_goes_on_when_it_lets_go() -> None:
    stuck = Script((0, IN, 1), (1000, IN, 0), (62_000, IN, 1), (63_000, IN, 0), (63_080, IN, 1))
    bench = Bench([stuck, pulse(30_000, OUT)])
    seen = bench.run(65)
    assert ways(seen) == ["away", "towards"]
    assert not [each for each in seen if isinstance(each, Trouble)]
    assert len({e.at_boot_ns // S for e in seen if isinstance(e, Alive)}) == 66  # begun seconds


def test_a_pulse_that_had_begun_before_the_start_is_nobodys() -> None:
    bench = Bench([Script((0, IN, 0), (500, IN, 1), (900, IN, 0), (980, IN, 1))])
    assert ways(bench.run(3)) == ["towards"]


def test_signs_of_life_come_once_a_second_whoever_passes() -> None:
    quiet, busy = Bench([]), Bench([PulsingCounter(1, 60, {IN: "towards", OUT: "away"})])
    alive = [[e.at_boot_ns for e in b.run(30) if isinstance(e, Alive)] for b in (quiet, busy)]
    assert alive[0] == alive[1]
    assert [at // S for at in alive[0]] == list(range(5000, 5031))


def test_while_the_counter_warms_up_nobody_is_counted() -> None:
    actors = [pulse(500, ONE), pulse(3000, ONE)]
    bench = Bench(actors, pin=ONE, warmup_s=2.0)
    cold = bench.run(1.5)
    assert {type(each) for each in cold} == {Trouble}
    assert {each.reason for each in cold if isinstance(each, Trouble)} == {"warmup"}
    assert {"warmup"} <= PEOPLE_REASONS
    assert ways(bench.run(4)) == ["total"]


def test_closed_it_gives_its_pins_back_and_says_so() -> None:
    bench = Bench([pulse(100, IN)])
    with pytest.raises(BusError, match="taken by another sensor"):
        PulseCounter(bench.pins, PulseCounterOptions(pin=IN), lambda: 0).open()
    bench.driver.close()
    with pytest.raises(BusError, match="pin 5, 6 is not open"):
        bench.driver.poll()
    bench.driver.open()
    assert len([each for each in bench.run(2) if isinstance(each, Alive)]) == 3
    bench.driver.close()
    bench.driver.close()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "either pin"),
        ({"pin": 4, "pin_towards": 5, "pin_away": 6}, "either pin"),
        ({"pin": 4, "pin_away": 6}, "either pin"),
        ({"pin_towards": 5}, "both pin_towards and pin_away"),
        ({"pin_towards": 5, "pin_away": 5}, "both 5"),
        ({"pin": 28}, "less than or equal to 27"),
        ({"pin": 4, "min_gap_ms": -1.0}, "greater than or equal to 0"),
    ],
)
def test_outputs_that_cannot_be_meant_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        PulseCounterOptions(**options)


def test_its_pins_are_its_own() -> None:
    assert PulseCounterOptions(**PAIR).claims() == ["pin 5", "pin 6"]
    assert PulseCounterOptions(pin=0).claims() == ["pin 0"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from((IN, OUT)), st.integers(0, 1))),
    st.lists(st.integers(1, 3000), max_size=20),
)
def test_no_sequence_of_edges_raises_and_no_more_are_counted_than_pulses(
    moves: list[tuple[int, int, int]], steps_ms: list[int]
) -> None:
    at_ms, script = 0, []
    for after_ms, pin, level in moves:
        at_ms += after_ms
        script.append((at_ms, pin, level))
    bench = Bench([Script(*script)])
    seen: list[Observation] = []
    for step_ms in steps_ms:
        seen += bench.run(step_ms / 1000, every_s=step_ms / 1000)
    seen += bench.run(at_ms / 1000 + 1, every_s=at_ms / 1000 + 1)
    assert {type(each) for each in seen} <= {Alive, Crossing}
    for pin, way in ((IN, "towards"), (OUT, "away")):
        ends = sum(level == 1 and of == pin for _, of, level in moves)
        assert ways(seen).count(way) <= ends


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((IN, OUT)),
            st.integers(45, 400),  # rest before, ms
            st.integers(45, 400),  # length, ms
            st.lists(st.floats(0.1, 1.9), max_size=4),  # from bounce to bounce, ms
        ),
        max_size=12,
    )
)
def test_pulses_with_bounce_are_counted_each_once(
    people: list[tuple[int, int, int, list[float]]],
) -> None:
    debouncer = Debouncer({IN: 1, OUT: 1}, 20 * MS)
    gauge_now_ms = 0.0
    edges: list[Edge] = []
    for pin, rest_ms, length_ms, bounces_ms in people:
        for after_ms, level in ((rest_ms, 0), (length_ms, 1)):
            gauge_now_ms += after_ms
            edges.append(Edge(pin, level, round(gauge_now_ms * MS)))
            for bounce_ms in bounces_ms:
                for bounced in (1 - level, level):
                    gauge_now_ms += bounce_ms
                    edges.append(Edge(pin, bounced, round(gauge_now_ms * MS)))
    believed = debouncer.settle(edges, round((gauge_now_ms + 1000) * MS))
    assert [(edge.pin, edge.level) for edge in believed] == [
        (pin, level) for pin, *_ in people for level in (0, 1)
    ]
    assert debouncer.rejected == len(edges) - len(believed)


@pytest.mark.parametrize("options", [PAIR, {"pin": ONE}, {**PAIR, "active": "high"}])
@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_is_counted_without_a_miss_through_bounce_and_spikes(
    seed: int, options: dict[str, Any]
) -> None:
    parsed = PulseCounterOptions(**options)
    crowd = PulsingCounter(
        seed,
        60,
        parsed.ways,
        active_level=int(parsed.active == "high"),
        spike_share=0.5,
    )
    bench = Bench([crowd], **options)
    seen = [each for each in bench.run(120) if isinstance(each, Crossing)]
    over_s = 120 - 0.3  # what ended just now is not believed yet
    truth = [(each.way, each.end_s) for each in crowd.pulses if each.end_s < over_s]
    assert len(truth) > 80
    assert bench.driver.rejected > 100
    for crossing, (way, end_s) in zip(seen, truth, strict=False):
        assert crossing.direction == way
        assert 0 <= (crossing.at_boot_ns - START_NS) / 1e9 - end_s < 0.02
    assert len(truth) <= len(seen) <= len(truth) + 1


def test_the_simulated_counter_is_the_same_however_it_is_watched_and_can_stick() -> None:
    slow, fast = (PulsingCounter(7, 30, {IN: "towards", OUT: "away"}) for _ in range(2))
    steps = [change for n in range(600) for change in fast.levels(n / 10)]
    assert slow.levels(59.9) == steps
    assert slow.pulses == fast.pulses
    fast.stick(IN)
    assert (IN, 0) in fast.levels(60.0)
    assert not [level for pin, level in fast.levels(120.0) if pin == IN]
    fast.release()
    assert [level for pin, level in fast.levels(180.0) if pin == IN]


def test_its_emulation_passes_people_on_the_pins_of_the_options() -> None:
    emulated = emulation.load("pulse-counter")
    options = PulseCounterOptions(**emulated.options)
    bench = Bench([emulated.build(options, 3)], **emulated.options)
    assert set(ways(bench.run(60))) == {"towards", "away"}
