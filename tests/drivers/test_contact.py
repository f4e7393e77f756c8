"""Contacts: what is believed when, that a cut wire is an alarm, and what chatter is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import BusError, Driver, Reading
from drivers.contact import Contact, ContactOptions
from hil import emulation
from hil.devices.contact import ContactDevice
from hil.pins import SimulatedPins

PIN = 22
MS = 1_000_000
S = 1_000_000_000
START_NS = 7000 * S
LEVELS = {"low": 0, "high": 1}


class Bench:
    """A contact (or nothing at all) on a simulated pin, its driver, and a clock that polls turn."""

    def __init__(self, device: Any = None, **options: Any) -> None:
        self.now_ns = START_NS
        self.pins = SimulatedPins([device] if device else [], now_ns=lambda: self.now_ns)
        self.pins.open()
        chosen = ContactOptions(**{"pin": PIN, "measures": "open", **options})
        self.driver = Contact(self.pins, chosen, lambda: self.now_ns)
        as_the_gateway_sees_it: Driver = self.driver
        as_the_gateway_sees_it.open()

    def run(self, seconds: float, every_s: float = 0.5) -> list[Reading]:
        seen: list[Reading] = []
        for _ in range(round(seconds / every_s)):
            self.now_ns += round(every_s * S)
            seen += self.driver.poll()
        return seen


def door(**options: Any) -> ContactDevice:
    return ContactDevice(PIN, is_still=True, **options)


def is_state(reading: Reading) -> bool:
    """Whether it was told because a second was over: then its time is the poll's, less 150 ms."""
    return (reading.at_boot_ns + 150 * MS) % (S // 2) == 0 or reading.at_boot_ns == START_NS


def said(seen: Sequence[Reading]) -> list[float | str | None]:
    return [each.value for each in seen]


def test_the_state_is_told_once_a_second() -> None:
    seen = Bench(door()).run(10)
    assert [each.at_boot_ns // (S // 2) for each in seen] == [14000, *range(14001, 14021, 2)]
    assert set(said(seen)) == {"no"}
    assert {each.quantity for each in seen} == {"open"}


def test_a_change_is_told_at_once_and_with_its_own_time() -> None:
    device = door()
    bench = Bench(device)
    bench.run(5)
    device.swing(5.2, is_good=False)
    seen = bench.run(1)
    (change,) = [each for each in seen if not is_state(each)]
    assert change.value == "yes"
    assert 200 * MS <= change.at_boot_ns - START_NS - 5 * S < 300 * MS  # the last bounce settles
    assert said(bench.run(3)) == ["yes"] * 3
    device.swing(9.1, is_good=True)
    assert said(bench.run(3))[-1] == "no"


def test_an_alarm_is_told_within_a_second() -> None:
    device = door()
    bench = Bench(device)
    device.swing(4.0, is_good=False)
    told_ns = None
    while told_ns is None:
        if "yes" in said(bench.run(0.5)):
            told_ns = bench.now_ns
    assert told_ns - START_NS - 4 * S <= S


@pytest.mark.parametrize(("held_ms", "changes"), [(49, 0), (50, 2), (200, 2)])
def test_a_level_is_believed_once_it_has_held_fifty_milliseconds(
    held_ms: int, changes: int
) -> None:
    class Knock:
        def __init__(self) -> None:
            self._moves = [(0.0, 0), (3.1, 1), (3.1 + held_ms / 1000, 0)]

        def levels(self, now_s: float) -> list[tuple[int, int]]:
            due = [(PIN, level) for at_s, level in self._moves if at_s <= now_s + 1e-9]
            self._moves = [move for move in self._moves if move[0] > now_s + 1e-9]
            return due

    seen = Bench(Knock()).run(6)
    assert len([each for each in seen if not is_state(each)]) == changes
    assert seen[-1].value == "no"


@pytest.mark.parametrize("good_level", ["low", "high"])
@pytest.mark.parametrize(
    ("measures", "good", "alarm"), [("open", "no", "yes"), ("power_ok", "yes", "no")]
)
def test_an_open_circuit_is_an_alarm_whichever_way_it_is_wired(
    measures: str, good: str, alarm: str, good_level: str
) -> None:
    nothing = Bench(None, measures=measures, good_level=good_level)
    assert set(said(nothing.run(2))) == {alarm}
    device = door(good_level=LEVELS[good_level])
    bench = Bench(device, measures=measures, good_level=good_level)
    assert set(said(bench.run(2))) == {good}
    device.cut(2.0)
    bench.run(1)
    assert set(said(bench.run(3))) == {alarm}


def test_a_loose_wire_is_no_state() -> None:
    device = door()
    bench = Bench(device)
    bench.run(2)
    device.chatter()
    bench.run(2)
    seen = bench.run(5)
    steady = [each for each in seen if is_state(each)]
    assert len(steady) == 5
    assert {(each.value, each.reasons) for each in steady} == {(None, ("weak_signal",))}


def test_a_heavy_door_is_no_loose_wire() -> None:
    device = door(seed=5)
    bench = Bench(device)
    for second in range(1, 30, 2):
        device.swing(second, is_good=False)
        device.swing(second + 1, is_good=True)
    assert None not in said(bench.run(32))


def test_an_edge_that_was_lost_does_not_lose_the_alarm() -> None:
    class Pin:
        """A pin whose edges nobody hands over."""

        now_level = 0

        def watch(self, pins: Sequence[int], *, pull: str) -> Pin:
            return self

        def edges(self) -> list[Any]:
            return []

        def level(self, pin: int) -> int:
            return self.now_level

        def close(self) -> None:
            pass

    pin = Pin()
    now_ns = START_NS
    driver = Contact(pin, ContactOptions(pin=PIN, measures="open"), lambda: now_ns)
    driver.open()
    assert said(driver.poll()) == ["no"]
    pin.now_level = 1
    seen = []
    for _ in range(4):
        now_ns += S // 2
        seen += driver.poll()
    assert seen[-1].value == "yes"


def test_the_quantity_is_the_one_it_measures() -> None:
    assert list(Bench(None).driver.quantities) == ["open"]
    assert list(Bench(None, measures="power_ok").driver.quantities) == ["power_ok"]
    assert Bench(None).driver.quantities["open"].classes == ("yes", "no")


def test_closed_it_gives_its_pin_back_and_says_so() -> None:
    bench = Bench(door())
    bench.driver.close()
    with pytest.raises(BusError, match="pin 22 is not open"):
        bench.driver.poll()
    bench.driver.open()
    assert said(bench.run(1))[-1] == "no"
    bench.driver.close()
    bench.driver.close()


@pytest.mark.parametrize(
    "options",
    [
        {"pin": PIN},
        {"measures": "open"},
        {"pin": 28, "measures": "open"},
        {"pin": PIN, "measures": "closed"},
        {"pin": PIN, "measures": "open", "pull": "up"},
        {"pin": PIN, "measures": "open", "min_gap_ms": 2000.0},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ContactOptions(**options)


def test_its_pin_is_its_own() -> None:
    assert ContactOptions(pin=PIN, measures="open").claims() == ["pin 22"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 1)), max_size=40))
def test_whatever_the_pin_does_it_ends_in_the_state_that_lasts(
    moves: list[tuple[int, int]],
) -> None:
    class Script:
        def __init__(self) -> None:
            self._moves = []
            at_ms = 0
            for after_ms, level in moves:
                at_ms += after_ms
                self._moves.append((at_ms, level))
            self.end_s = at_ms / 1000

        def levels(self, now_s: float) -> list[tuple[int, int]]:
            due = [(PIN, level) for at_ms, level in self._moves if at_ms <= now_s * 1000]
            self._moves = [move for move in self._moves if move[0] > now_s * 1000]
            return due

    script = Script()
    bench = Bench(script)
    seen = bench.run(script.end_s + 2)
    last = moves[-1][1] if moves else 1  # nobody moved it: the pull does
    assert seen[-1].value == ("yes" if last else "no")
    assert {each.value for each in seen} <= {"yes", "no"}
    times = [each.at_boot_ns for each in seen]
    assert times == sorted(times)


def test_the_simulated_door_is_the_same_however_it_is_watched() -> None:
    slow, fast = (ContactDevice(PIN, seed=9) for _ in range(2))
    steps = [change for n in range(40_000) for change in fast.levels(n)]
    assert slow.levels(39_999.0) == steps
    assert len(steps) > 10
    assert slow.is_good == fast.is_good


def test_its_emulation_is_read_as_it_is() -> None:
    emulated = emulation.load("contact")
    device = emulated.build(ContactOptions(**emulated.options), 1)
    assert said(Bench(device, **emulated.options).run(2)) == ["no"] * 3
