"""A sensor of each kind over a simulated crowd that knows who really crossed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from drivers import beam_pair, benewake_pair, d6t, grideye, ld2450
from drivers.base import Crossing
from drivers.gpio import Edge
from hil.buses import SimulatedI2c, SimulatedSerial
from hil.crossings import Counts, Score, compare, crossings
from hil.devices.beams import BeamCrowd, OpenWay
from hil.devices.benewake import TfDevice, Way
from hil.devices.d6t import D6tDevice, Doorway
from hil.devices.grideye import GridEyeDevice, Scene
from hil.devices.ld2450 import Ld2450Device, Passageway
from hil.rig import Now


def _run(driver: Any, now: Now, until_s: float) -> Counts:
    """Poll on schedule, as a collector would, and return the crossings."""
    begin_s = now.s
    driver.open()
    observed: list[Crossing] = []
    while now.s < begin_s + until_s:
        polled_s = now.s
        observed += [each for each in driver.poll() if isinstance(each, Crossing)]
        now.s = max(now.s, polled_s + driver.interval_s)
    return crossings(observed, begin_s)


def _grideye(seed: int, rate: float, for_s: float) -> tuple[Counts, Counts]:
    now = Now()
    scene = Scene.crowd(seed, rate)
    bus = SimulatedI2c({0x69: GridEyeDevice(scene, seed=seed)}, now)
    bus.open()
    options = grideye.GridEye.Options(warmup_s=0.0)
    counts = _run(grideye.GridEye(bus, options, now.ns), now, for_s)
    return scene.crossings, counts


def _d6t(model: d6t.ModelName) -> Callable[[int, float, float], tuple[Counts, Counts]]:
    def crowd(seed: int, rate: float, for_s: float) -> tuple[Counts, Counts]:
        now = Now()
        scene = Doorway.crowd(seed, rate)
        bus = SimulatedI2c({d6t.ADDRESS: D6tDevice(scene, model, seed=seed)}, now)
        bus.open()
        counts = _run(d6t.D6t(bus, d6t.D6tOptions(model=model), now.ns), now, for_s)
        return scene.crossings, counts

    return crowd


def _ld2450(seed: int, rate: float, for_s: float) -> tuple[Counts, Counts]:
    now = Now()
    passage = Passageway.crowd(seed, rate)
    device = Ld2450Device(passage, bluetooth=False, multi=True, seed=seed)
    port = SimulatedSerial([device], now, wait_s=now.advance, baud=ld2450.BAUDS[0])
    port.open()
    counts = _run(ld2450.Ld2450(port, ld2450.Ld2450Options(), now.ns), now, for_s)
    return passage.crossings, counts


class _Pins:
    """A PinBus on which a crowd moves two pins."""

    def __init__(self, crowd: BeamCrowd, now: Now) -> None:
        self._crowd = crowd
        self._now = now
        self._begin_s = now.s
        self._levels: dict[int, int] = {}
        self.edges()

    def watch(self, pins: Sequence[int], *, pull: str) -> _Pins:
        return self

    def level(self, pin: int) -> int:
        return self._levels[pin]

    def edges(self) -> list[Any]:
        found = []
        for at_s, pin, level in self._crowd.changes(self._now.s - self._begin_s):
            if self._levels.get(pin) != level:
                self._levels[pin] = level
                at_ns = round((at_s + self._begin_s) * 1e9)
                found.append(Edge(pin, level, at_ns))
        return found

    def close(self) -> None:
        """Nothing to give back."""


def _passed(crowd: BeamCrowd, from_s: float, until_s: float) -> Counts:
    return [
        (passage.end_s, passage.way)
        for passage in crowd.passages
        if passage.way != "turned_back" and from_s <= passage.end_s < until_s
    ]


def _beam_pair(kind: type[BeamCrowd]) -> Callable[[int, float, float], tuple[Counts, Counts]]:
    def crowd(seed: int, rate: float, for_s: float) -> tuple[Counts, Counts]:
        now = Now()
        people = kind(seed, rate, 17, 27)
        driver = beam_pair.BeamPair(
            _Pins(people, now), beam_pair.BeamPair.Options(pin_a=17, pin_b=27), now.ns
        )
        counts = _run(driver, now, for_s)
        return _passed(people, 0.0, for_s - 1.0), [c for c in counts if c[0] < for_s - 1.0]

    return crowd


def _lidar_pair(kind: type[BeamCrowd]) -> Callable[[int, float, float], tuple[Counts, Counts]]:
    def crowd(seed: int, rate: float, for_s: float) -> tuple[Counts, Counts]:
        now = Now()
        people = Way(kind(seed, rate, 0, 1, blocked_level=1))
        ports = []
        for beam in (0, 1):
            device = TfDevice(people.beam(beam), model="tfmini-s", seed=seed + beam)
            ports.append(SimulatedSerial([device], now, wait_s=now.advance, baud=115200))
            ports[-1].open()
        options = benewake_pair.BenewakePairOptions(model="tfmini-s", port_b="/dev/b")
        pair: Any = SimpleNamespace(a=ports[0], b=ports[1])
        counts = _run(benewake_pair.BenewakePair(pair, options, now.ns), now, for_s)
        from_s, until_s = options.warmup_s + 5.0, for_s - 1.0
        return (
            _passed(people.crowd, from_s, until_s),
            [each for each in counts if from_s <= each[0] < until_s],
        )

    return crowd


@dataclass(frozen=True, slots=True)
class Crowd:
    """A sensor over a simulated crowd."""

    about: str
    run: Callable[[int, float, float], tuple[Counts, Counts]]  # seed, per minute, seconds
    is_judged: bool = False


CROWDS: Mapping[str, Crowd] = {
    "hlk-ld2450": Crowd("passage 2 m wide, line at 1.5 m", _ld2450, is_judged=True),
    "beam-pair": Crowd("single file", _beam_pair(BeamCrowd), is_judged=True),
    "benewake-tf-pair": Crowd("single file", _lidar_pair(BeamCrowd), is_judged=True),
    "beam-pair, open": Crowd("nobody waits for anybody", _beam_pair(OpenWay)),
    "benewake-tf-pair, open": Crowd("nobody waits for anybody", _lidar_pair(OpenWay)),
    "grideye-amg88xx": Crowd("passage 1.4 m wide", _grideye),
    "omron-d6t 44L-06": Crowd("slow door, 0.8 m/s", _d6t("44L-06")),
    "omron-d6t 8L-09": Crowd("slow door, 0.8 m/s", _d6t("8L-09")),
}


def score_crowd(name: str, rate: int, persons: int, seed: int = 1) -> Score:
    """Count about `persons` who come at `rate` a minute."""
    for_s = 1.12 * 60.0 * persons / rate + 20.0  # some of them turn back
    return compare(*CROWDS[name].run(seed, float(rate), for_s))
