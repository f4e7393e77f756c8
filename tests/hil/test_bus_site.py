"""Six buses with thirty-two sensors, on simulated time: each keeps its schedule, come what may.

Nothing here depends on the machine: who waits moves the clock, and bytes take their time on the
wire. What is held: no bus overruns its schedule by more than a tenth of a sensor's interval, and
a dead device delays no other by more than one of its own time-outs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest

from hil.bench.buses import SITE, Line
from hil.buses import SimulatedI2c

OVERRUN_PERCENT = 10.0
SETTLE_S = 20.0
WELL_S = 30.0
CUT_S = 24.0


class Script:
    """A clock, a wish to stop, and what happens meanwhile; who waits moves it."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000
        self.end_ns = 0
        self._acts: list[tuple[int, Callable[[], None]]] = []

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, time_s: float) -> None:
        self.now_ns += round(time_s * 1e9)

    def at(self, at_s: float, act: Callable[[], None]) -> None:
        self._acts.append((round(at_s * 1e9), act))

    def is_set(self) -> bool:
        while self._acts and self._acts[0][0] <= self.now_ns:
            self._acts.pop(0)[1]()
        return self.now_ns >= self.end_ns

    def wait(self, timeout_s: float | None = None) -> bool:
        next_ns = min([self.end_ns, *(at_ns for at_ns, _ in self._acts[:1])])
        until_ns = next_ns
        if timeout_s is not None:
            until_ns = min(next_ns, self.now_ns + round(timeout_s * 1e9) + 1)
        self.now_ns = max(self.now_ns, until_ns)
        return self.is_set()


@pytest.mark.parametrize("name", SITE)
def test_a_bus_keeps_its_schedule_whoever_dies_on_it(name: str) -> None:
    script = Script()
    line = Line(name, SITE[name], script.clock, script.sleep)
    well_from_s = script.now_s + SETTLE_S
    at_s = well_until_s = well_from_s + WELL_S
    spans = []
    for victim in line.cuttable():
        script.at(at_s, lambda victim=victim: line.cut(victim))  # type: ignore[misc]
        script.at(at_s + CUT_S, lambda victim=victim: line.heal(victim))  # type: ignore[misc]
        spans.append((victim, at_s, at_s + CUT_S))
        at_s += 2 * CUT_S
    script.end_ns = round((at_s + CUT_S) * 1e9)
    line.collector(cast(threading.Event, script)).run()

    percents = line.overrun_percents(well_from_s, well_until_s)
    assert set(percents) == set(line.watched)
    assert max(each[-1] for each in percents.values()) <= OVERRUN_PERCENT
    assert not any(line.failed(well_from_s, well_until_s).values())
    for victim, from_s, until_s in spans:
        failed = line.failed(from_s, until_s)
        assert failed[victim], f"{victim} was not cut off"
        assert {name for name, turns in failed.items() if turns} == {victim}
        assert line.neighbour_delay(victim, from_s, until_s) <= 1.0
    assert set(line.health.states().values()) <= {"ok", "warmup"}


@pytest.mark.parametrize("clocks", [9, None])
def test_a_bus_that_hangs_comes_back_with_all_its_devices_when_it_is_let_go(
    clocks: int | None,
) -> None:
    script = Script()
    line = Line("i2c-1", SITE["i2c-1"], script.clock, script.sleep)
    wire = line.bus.wire("hall-1")
    assert isinstance(wire, SimulatedI2c)
    begin_s = script.now_s
    script.at(begin_s + 20, lambda: wire.stick(clocks))
    script.at(begin_s + 40, lambda: wire.clock(9))
    script.at(begin_s + 41, wire.heal)
    script.end_ns = round((begin_s + 110) * 1e9)
    line.collector(cast(threading.Event, script)).run()
    failed = line.failed(begin_s + 20, begin_s + 110)
    # It costs a tenth of a second a transfer, and less and less often.
    assert all(0 < len(turns) <= 12 for turns in failed.values())
    assert all(turn.took_s <= 0.21 for turns in failed.values() for turn in turns)
    back_s = [min(t.started_s for t in driver.turns if t.started_s > begin_s + 41 and not t.failed)
              for driver in line.watched.values()]  # fmt: skip
    assert max(back_s) - min(back_s) < 1.0
    assert not any(line.failed(begin_s + 75, begin_s + 110).values())


def test_the_site_is_as_large_as_it_says() -> None:
    assert len(SITE) == 6
    assert sum(map(len, SITE.values())) == 32
