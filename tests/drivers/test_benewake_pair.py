"""Two Benewake lidars as a beam pair: what a beam believes, crowds, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import (
    Alive,
    BusError,
    Crossing,
    FrameError,
    Observation,
    SerialDriver,
    Trouble,
)
from drivers.benewake_pair import Beam, BenewakePair, BenewakePairOptions, way_cm
from drivers.benewake_tf import Sample
from drivers.buses import LinuxSerial, SerialPair
from hil.buses import Pty, SimulatedSerial
from hil.devices.beams import BeamCrowd
from hil.devices.benewake import TfDevice, Way
from hil.rig import Now

S = 1_000_000_000
WALL, BODY, NOTHING, SUN = Sample(400, 2000), Sample(150, 2000), Sample(-1, 40), Sample(-4, 900)
NEAR_S = 0.5


def steps(*changes: tuple[float, float]) -> Callable[[float], float]:
    """How far a beam goes: from each time on, so far."""

    def far_cm(at_s: float) -> float:
        return next((cm for from_s, cm in reversed(changes) if at_s >= from_s), 400.0)

    return far_cm


def passing(*begin_s: float, gap_s: float = 0.08, wall_cm: float = 400.0) -> list[Any]:
    """Two beams through which bodies go, A first."""
    return [
        steps(
            (0.0, wall_cm),
            *(
                change
                for at_s in begin_s
                for change in ((at_s + lag_s, 150.0), (at_s + lag_s + 0.25, wall_cm))
            ),
        )
        for lag_s in (0.0, gap_s)
    ]


class Bench:
    """Two simulated lidars, their driver as the collector treats it, and a clock."""

    def __init__(self, a: TfDevice, b: TfDevice, **options: Any) -> None:
        self.now = Now()
        self.devices = (a, b)
        self.ports = [
            SimulatedSerial([each], self.now, wait_s=self.now.advance, baud=115200)
            for each in (a, b)
        ]
        for port in self.ports:
            port.open()
        pair = cast(SerialPair, SimpleNamespace(a=self.ports[0], b=self.ports[1]))
        chosen = BenewakePairOptions(port_b="/dev/b", **options)
        self.driver = BenewakePair(pair, chosen, self.now.ns)
        self.errors: list[str] = []
        self._is_open = False

    def run(self, seconds: float) -> list[Observation]:
        seen: list[Observation] = []
        until_s = self.now.s + seconds
        while self.now.s < until_s:
            began_s = self.now.s
            try:
                if not self._is_open:
                    self.driver.open()
                    self._is_open = True
                seen += self.driver.poll()
            except BusError as exc:
                self.errors.append(f"bus: {exc}")
                self._is_open = False
                self.driver.close()
            except FrameError as exc:
                self.errors.append(f"frame: {exc}")
            self.now.s = max(self.now.s, began_s + self.driver.interval_s)
        return seen


def bench(far: Iterable[Callable[[float], float]], *, model: Any = "tfmini-plus", **given: Any):
    a, b = (TfDevice(each, model=model, seed=i) for i, each in enumerate(far))
    return Bench(a, b, model=model, **given)


def ways(observed: Iterable[Observation]) -> list[str]:
    return [each.direction for each in observed if isinstance(each, Crossing)]


def believed(*samples: Sample, beam: Beam | None = None) -> list[tuple[int, bool]]:
    """What a beam believes of samples 10 ms apart, the way to the wall given."""
    beam = beam or Beam("tfmini-s", 300.0)
    return beam.take(samples, [i * S // 100 for i in range(len(samples))])


# A beam.


def test_a_beam_is_broken_by_two_samples_in_a_row_from_the_first_of_them_on() -> None:
    assert believed(WALL, BODY, BODY, BODY, WALL, WALL) == [(S // 100, True), (4 * S // 100, False)]
    assert believed(WALL, BODY, WALL, BODY, WALL) == []


def test_nothing_coming_back_is_a_free_beam_and_too_much_is_somebody() -> None:
    assert way_cm(NOTHING, "tfmini-s") == inf
    assert way_cm(Sample(0, 30), "tf-luna") == inf
    assert way_cm(Sample(-2, 0xFFFF), "tfmini-s") == 0.0
    assert way_cm(Sample(0, 0xFFFF), "tf-luna") == 0.0
    assert way_cm(Sample(4, 2000), "tfmini-s") == 0.0


def test_sunlight_says_nothing_and_changes_nothing() -> None:
    assert way_cm(SUN, "tfmini-s") is None
    assert way_cm(Sample(0, 0x9000), "tf-luna") is None
    assert believed(WALL, BODY, BODY, SUN, SUN, SUN, BODY) == [(S // 100, True)]


def test_the_wall_is_learnt_though_people_pass_before_it() -> None:
    beam = Beam("tfmini-s", None)
    for second in range(60):  # in the beam for a third of the time
        beam.take([BODY if second % 3 == 1 else WALL], [second * S])
    assert beam.take([WALL] * 3 + [BODY] * 3, [60 * S + i for i in range(6)]) == [
        (60 * S + 3, True)
    ]
    assert beam.take([Sample(365, 2000)] * 2, [61 * S, 61 * S + 1])[0][1] is False


def test_what_is_parked_in_a_beam_becomes_the_wall() -> None:
    beam = Beam("tfmini-s", None)
    changes = [change for t in range(300) for change in beam.take([WALL] * 2, [t * S, t * S + 1])]
    assert changes == []
    parked = [c for t in range(300, 600) for c in beam.take([BODY] * 2, [t * S, t * S + 1])]
    assert [blocked for _, blocked in parked] == [True, False]
    assert 200 <= (parked[1][0] - parked[0][0]) / S <= 240
    gone = [c for t in range(600, 700) for c in beam.take([WALL] * 2, [t * S, t * S + 1])]
    assert gone == []


def test_in_the_open_whatever_comes_back_from_near_is_somebody() -> None:
    beam = Beam("tfmini-s", None)
    beam.take([NOTHING] * 2, [0, 1])
    assert beam.take([BODY] * 2, [2, 3]) == [(2, True)]
    assert beam.take([Sample(1100, 200)] * 2, [4, 5]) == [(4, False)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-32768, 32767), st.integers(0, 0xFFFF))),
    st.sampled_from([None, 300.0]),
)
def test_whatever_the_samples_a_beam_changes_in_turn(
    said: list[tuple[int, int]], below_cm: float | None
) -> None:
    beam = Beam("tf-luna", below_cm)
    times = [i * S // 10 for i in range(len(said))]
    changes = beam.take([Sample(*each) for each in said], times)
    assert [blocked for _, blocked in changes] == [i % 2 == 0 for i in range(len(changes))]
    assert [at for at, _ in changes] == sorted(at for at, _ in changes)
    assert len(beam._contrary) <= 2


# The pair.


def test_who_breaks_a_before_b_goes_towards_and_flip_turns_it_round() -> None:
    a, b = passing(20.0, 22.0)
    assert ways(bench((a, b)).run(30.0)) == ["towards", "towards"]
    assert ways(bench((b, a)).run(30.0)) == ["away", "away"]
    assert ways(bench((a, b), flip=True).run(30.0)) == ["away", "away"]


@pytest.mark.parametrize("model", ["tfmini", "tfmini-s", "tf-luna", "tf02"])
def test_every_model_counts_before_a_wall_and_in_the_open(model: str) -> None:
    for wall_cm in (400.0, inf):
        far = passing(20.0, 22.0, wall_cm=wall_cm)
        assert ways(bench(far, model=model).run(30.0)) == ["towards", "towards"]


def test_a_threshold_that_is_given_is_not_learnt() -> None:
    a, b = passing(20.0)
    assert ways(bench((a, b), blocked_below_cm=200.0).run(30.0)) == ["towards"]
    assert ways(bench((a, b), blocked_below_cm=100.0).run(30.0)) == []


def test_who_stands_in_the_beams_too_long_is_nobody() -> None:
    standing = [steps((20.0, 150.0), (26.0, 400.0)), steps((20.1, 150.0), (26.1, 400.0))]
    assert ways(bench(standing).run(40.0)) == []
    assert ways(bench(standing, timeout_s=10.0).run(40.0)) == ["towards"]


def test_while_the_wall_is_learnt_nobody_is_counted_and_that_is_said() -> None:
    rig = bench(passing(5.0, 20.0))
    seen = rig.run(9.0)
    assert ways(seen) == []
    assert {type(each) for each in seen} == {Trouble}
    assert {cast(Trouble, each).reason for each in seen} == {"warmup"}
    assert 7 <= len(seen) <= 9
    assert ways(rig.run(20.0)) == ["towards"]


@pytest.mark.parametrize(("persons_per_minute", "error"), [(5, 0.03), (30, 0.05), (60, 0.10)])
def test_a_crowd_is_counted_within_its_error_and_no_direction_is_exchanged(
    persons_per_minute: int, error: float
) -> None:
    way = Way.with_people(persons_per_minute, persons_per_minute)
    rig = bench((way.beam(0), way.beam(1)), model="tfmini-s")
    seen = [
        (each.at_boot_ns / S - 1000.0, each.direction)
        for each in rig.run(1200.0 if persons_per_minute == 5 else 400.0)
        if isinstance(each, Crossing)
    ]
    truth = [
        (passage.end_s, passage.way)
        for passage in way.crowd.passages
        if passage.way != "turned_back" and passage.end_s > 12.0
    ]
    seen = [each for each in seen if each[0] > 12.0 - NEAR_S / 2]
    assert len(truth) > 80
    assert len(seen) == pytest.approx(len(truth), rel=error)
    exchanged = [
        each
        for each in truth
        if not any(abs(each[0] - at_s) < NEAR_S and w == each[1] for at_s, w in seen)
        and any(abs(each[0] - at_s) < NEAR_S for at_s, _ in seen)
    ]
    assert exchanged == []
    assert rig.errors == []


def test_there_is_one_sign_of_life_a_second_whoever_passes() -> None:
    def alive(far: Iterable[Callable[[float], float]]) -> list[int]:
        seen = bench(far).run(60.0)
        return [each.at_boot_ns // S for each in seen if isinstance(each, Alive)]

    empty = alive([steps(), steps()])
    assert len(empty) == len(set(empty)) >= 48
    assert alive(passing(*range(15, 55))) == empty


def test_a_beam_that_the_sun_blinds_does_not_tell_who_shades_it() -> None:
    def alive(shaded_s: Iterable[int]) -> list[int]:
        rig = bench([steps(), steps()])
        rig.run(15.0)
        seen = []
        for second in range(60):
            rig.devices[1].is_blinded = second not in shaded_s
            seen += rig.run(1.0)
        assert rig.errors == []
        assert ways(seen) == []
        return [each.at_boot_ns // S for each in seen if isinstance(each, Alive)]

    empty = alive([])
    assert len(empty) >= 59
    assert alive([10, 20, 21, 40]) == empty


# What goes wrong.


def test_both_are_told_their_rate_and_both_say_who_they_are() -> None:
    rig = bench([steps(), steps()], frame_rate_hz=50)
    rig.run(3.0)
    assert [each.rate_hz for each in rig.devices] == [50, 50]
    assert [each.saves for each in rig.devices] == [0, 0]
    said = "Benewake tfmini-plus, as configured, firmware 1.2.3"
    assert rig.driver.identity == f"A: {said}; B: {said}"


@pytest.mark.parametrize(("which", "name"), [(0, "A"), (1, "B")])
def test_a_silent_lidar_is_a_bus_error_that_names_its_beam(which: int, name: str) -> None:
    rig = bench(passing(60.0))
    rig.run(15.0)
    rig.ports[which].line.silence()
    rig.run(5.0)
    assert rig.errors[0].startswith(f"bus: beam {name}: nobody speaks like a tfmini-plus")
    rig.ports[which].line.heal()
    rig.run(25.0)
    assert ways(rig.run(40.0)) == ["towards"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_lidar_that_repeats_itself_is_restarted(which: int) -> None:
    rig = bench(passing(80.0))
    rig.run(15.0)
    rig.devices[which].freeze()
    assert ways(rig.run(80.0)) == ["towards"]
    assert rig.errors == [f"frame: beam {'AB'[which]}: the same frame for 30 s"]
    assert rig.driver.frame_errors == 1


def test_an_open_way_where_nothing_trembles_is_healthy() -> None:
    rig = bench([steps((0.0, inf)), steps((0.0, inf))])
    for device in rig.devices:
        device._random.randint = lambda *_: 0
    seen = rig.run(120.0)
    assert rig.errors == []
    assert sum(isinstance(each, Alive) for each in seen) > 100


def test_a_power_cycle_is_noticed_by_the_rate() -> None:
    rig = bench(passing(60.0), frame_rate_hz=50)
    rig.run(15.0)
    rig.devices[0].power_cycle(rig.now.s)
    assert ways(rig.run(60.0)) == ["towards"]
    assert rig.devices[0].rate_hz == 50
    assert rig.errors == []


def test_a_port_that_is_pulled_out_is_a_bus_error() -> None:
    rig = bench([steps(), steps()])
    rig.run(3.0)
    rig.ports[1].unplug()
    with pytest.raises(BusError):
        rig.driver.poll()
    with pytest.raises(BusError):
        rig.driver.open()


def test_a_noisy_line_is_counted_as_such_and_people_are_too() -> None:
    rig = bench(passing(*(20.0 + 5 * i for i in range(20))))
    rig.run(15.0)
    for port in rig.ports:
        port.line.garble(0.005)
    seen = rig.run(110.0)
    assert rig.driver.frame_errors > 100
    assert "away" not in ways(seen)
    assert len(ways(seen)) >= 18


# Around it.


def test_one_stream_is_decoded_as_beam_a_and_counts_nobody() -> None:
    options = BenewakePairOptions(model="tfmini-s", warmup_s=0.0)
    driver = BenewakePair(None, options, lambda: 0)
    assert isinstance(driver, SerialDriver)
    device = TfDevice(passing(2.0)[0], model="tfmini-s")
    device.speak(0.0)
    seen = [each for t in range(1, 60) for each in driver.feed(device.speak(t / 10), t * S // 10)]
    assert {type(each) for each in seen} == {Alive}
    assert len(seen) == 6
    assert driver.frames == 590


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=300)))
def test_random_bytes_never_raise_and_only_a_sign_of_life_comes_of_them(
    chunks: list[bytes],
) -> None:
    driver = BenewakePair(None, BenewakePairOptions(), lambda: 0)
    for i, chunk in enumerate(chunks):
        for each in driver.feed(chunk, i * S):
            assert isinstance(each, Alive | Trouble)
    assert len(driver._changes) < 1000


def test_the_second_port_is_named_and_asked_for() -> None:
    assert BenewakePairOptions(port_b="/dev/ttyUSB1").second_port() == "/dev/ttyUSB1"
    assert BenewakePairOptions(port_b="/dev/ttyUSB1").missing_to_measure() == []
    (missing,) = BenewakePairOptions().missing_to_measure()
    assert missing.startswith("port_b")


@pytest.mark.parametrize(
    "options", [{"frame_rate_hz": 10}, {"timeout_s": 0.0}, {"port_b": ""}, {"mode": "pair"}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BenewakePairOptions(**options)


def test_the_simulated_way_is_the_same_whatever_the_steps() -> None:
    def seen(step_s: float) -> list[float]:
        way = Way(BeamCrowd(1, 60.0, 0, 1, blocked_level=1))
        far_a, far_b = way.beam(0), way.beam(1)
        at = [far_a(i * step_s) + 1000 * far_b(i * step_s) for i in range(int(40 / step_s))]
        return at[:: round(1 / step_s)]

    assert seen(0.05) == seen(0.5)


def test_over_two_real_terminals_both_are_set_up_and_somebody_crosses() -> None:
    assert BenewakePair.spec.line is not None
    devices = [TfDevice(far, seed=i) for i, far in enumerate(passing(2.5))]
    with ExitStack() as stack:
        ptys = [stack.enter_context(Pty([device], time.monotonic)) for device in devices]
        ports = [LinuxSerial(pty.path, BenewakePair.spec.line) for pty in ptys]
        for port in ports:
            port.open()
        pair = cast(SerialPair, SimpleNamespace(a=ports[0], b=ports[1]))
        options = BenewakePairOptions(port_b=ptys[1].path, warmup_s=0.5)
        driver = BenewakePair(pair, options, time.monotonic_ns)
        driver.open()
        seen: list[Observation] = []
        until_s = time.monotonic() + 60.0
        while not ways(seen) and time.monotonic() < until_s:
            seen += driver.poll()
            time.sleep(0.05)
        assert ways(seen) == ["towards"]
        driver.close()
        for port in ports:
            port.close()
