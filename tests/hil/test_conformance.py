"""The battery finds what it is for: each promise, broken by a driver that keeps the others.

A gauge that nobody makes and the driver of the Grid-EYE keep every promise; each class below breaks
one. A promise that no defect here breaks would be one that nobody knows the battery to check.
"""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from pydantic import Field

import drivers
from drivers import base
from drivers.base import (
    Alive,
    BusError,
    Crossing,
    Found,
    FrameError,
    Glimpse,
    Observation,
    Quantity,
    Reading,
    Trouble,
)
from drivers.grideye import GridEye
from hil import emulation
from hil.conformance import battery
from hil.conformance.lawful import BrokenPromiseError
from hil.conformance.trial import Subject
from hil.devices import grideye
from hil.emulation import Emulation

from .gauge import EMULATION, IDLE, START, Gauge

PROMISES: Mapping[str, Callable[[Subject], None]] = {
    name: check
    for name, check in vars(battery).items()
    if name.startswith("test_") and inspect.isfunction(check)
}


@pytest.fixture(autouse=True)
def gauges_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Any = drivers.load
    names: Any = drivers.names
    monkeypatch.setattr(drivers, "load", lambda name: Gauge if name == "gauge" else load(name))
    monkeypatch.setattr(drivers, "names", lambda: sorted([*names(), "gauge"]))


def gauge(driver: type[Gauge] = Gauge, **changed: object) -> Subject:
    return Subject("gauge", driver, dataclasses.replace(EMULATION, **changed))  # type: ignore[arg-type]


def eye(driver: type[GridEye] = GridEye) -> Subject:
    return Subject("grideye-amg88xx", driver, grideye.EMULATION)


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("subject", [gauge(), eye()], ids=["gauge", "grideye"])
def test_a_driver_that_keeps_every_promise_passes(promise: str, subject: Subject) -> None:
    PROMISES[promise](subject)


def specified(driver: Any, **changed: object) -> Any:
    """Let a driver say something else of its device."""

    class Specified(driver):  # type: ignore[misc]
        spec = dataclasses.replace(driver.spec, **changed)

    return Specified


# Bytes


class CountsNothing(Gauge):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        found = super().feed(chunk, at_boot_ns)
        self.frames = 0
        return found


class ForgetsTheRest(Gauge):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        if len(chunk) > 1:
            self._rest.clear()
        return super().feed(chunk, at_boot_ns)


class TakesTheFirstOnly(Gauge):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        if len(chunk) > 5:
            chunk = chunk[:5]
        return super().feed(chunk, at_boot_ns)


class Sulks(Gauge):
    """Hears nothing for a while after a byte that it did not like."""

    sulking = 0

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        if self.sulking:
            self.sulking -= 1
            return []
        errors = self.frame_errors
        found = super().feed(chunk, at_boot_ns)
        self.sulking = 4 if self.frame_errors > errors else 0
        return found


class TrustsTheBeginning(Gauge):
    def is_frame(self, raw: bytes) -> bool:
        return raw[0] == START and raw[1] in b"IMT"


class Raises(Gauge):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        chunk.decode("ascii")
        return super().feed(chunk, at_boot_ns)


class Hoards(Gauge):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        self.all = getattr(self, "all", b"") + chunk
        return super().feed(chunk, at_boot_ns)


# Answers


class LooksUp(TrustsTheBeginning):
    def check(self, identity: int) -> None:
        self.identity = {0x42: "a gauge"}[identity]


class BelievesEverything(TrustsTheBeginning):
    def reading(self, raw: int, at_ns: int) -> Reading:
        return Reading("air_temperature_c", (raw - 0x10000 if raw & 0x8000 else raw) / 10, at_ns)


# Faults


class TriesAgain(Gauge):
    def ask(self, letter: bytes) -> int:
        try:
            return super().ask(letter)
        except BusError:
            return super().ask(letter)


class SwallowsSilence(Gauge):
    def poll(self) -> Sequence[Observation]:
        try:
            return super().poll()
        except BusError:
            return []


class RemembersTheLast(Gauge):
    last: Sequence[Observation] = ()

    def poll(self) -> Sequence[Observation]:
        try:
            self.last = super().poll()
        except BusError:
            if not self.last:
                raise
        return self.last


class WaitsForEver(Gauge):
    def ask(self, letter: bytes) -> int:
        try:
            return super().ask(letter)
        except BusError:
            if letter == b"I":
                self._bus.read(20.0)
            raise


class PollsForEver(Gauge):
    def poll(self) -> Sequence[Observation]:
        try:
            return super().poll()
        except BusError:
            self._bus.read(20.0)
            raise


class SaysNothing(Gauge):
    def ask(self, letter: bytes) -> int:
        try:
            return super().ask(letter)
        except BusError:
            raise BusError("failed") from None


class GivesUp(Gauge):
    lost = False

    def ask(self, letter: bytes) -> int:
        if self.lost:
            raise BusError("the gauge was lost once, and that was that")
        try:
            return super().ask(letter)
        except BusError:
            self.lost = True
            raise


class ReadsOnce(Gauge):
    def ask(self, letter: bytes) -> int:
        self._bus.discard_input()
        self._rest.clear()
        self._bus.write(letter)
        for kind, raw in self.cut(self._bus.read(0.5)):
            if kind == letter[0]:
                return raw
        raise BusError("nobody answers: check power, TX and RX, 9600 8N1")


class ExpectsOneAnswer(Gauge):
    def ask(self, letter: bytes) -> int:
        self._bus.write(letter)
        ((_, raw),) = self.cut(self._bus.read(0.5)) or [(0, IDLE)]
        if raw == IDLE:
            raise BusError("nobody answers: check power, TX and RX, 9600 8N1")
        return raw


class MissesThePowerCut(Gauge):
    def poll(self) -> Sequence[Observation]:
        at_ns = self._now_ns()
        raw = self.ask(b"T")
        return [] if raw == IDLE else [self.reading(raw, at_ns)]


class NeverStuck(Gauge):
    def reading(self, raw: int, at_ns: int) -> Reading:
        self._stillness.forget()
        return super().reading(raw, at_ns)


# What it says


class WrongScale(Gauge):
    def value_c(self, raw: int) -> float | None:
        value_c = super().value_c(raw)
        return None if value_c is None else value_c / 2


class PublishesTheCode(Gauge):
    def value_c(self, raw: int) -> float | None:
        return -5.0 if raw & 0xFF00 == 0x8000 else super().value_c(raw)


class NeverCold(Gauge):
    def open(self) -> None:
        super().open()
        self._warmup.duration_s = 0.0


UNNAMED = Quantity("air_temperature", "Cel", "air temperature", -40.0, 80.0)
UNKNOWN = Quantity("air_temperature_c", "degrees", "air temperature", -40.0, 80.0)


# Manners


class LeaksAtEachPoll(Gauge):
    def poll(self) -> Sequence[Observation]:
        self.past = [*getattr(self, "past", []), found := super().poll()]
        return found


class ClosesOnlyWhatIsOpen(Gauge):
    def close(self) -> None:
        if not self.frames:
            raise RuntimeError("it is not open")


class LeavesAThread(Gauge):
    def open(self) -> None:
        super().open()
        threading.Thread(target=threading.Event().wait, args=(3.0,), daemon=True).start()


class TalksAtOnce(Gauge):
    def __init__(self, bus: Any, options: Any, now_ns: Any) -> None:
        super().__init__(bus, options, now_ns)
        if bus is not None:
            bus.write(b"M")


class Silent(Gauge):
    class Options(base.Options):
        stuck_s: float = 600.0
        warmup_s: float = Field(default=0.0, description="from power-up to the first value")


class FindsNothing(Gauge):
    @classmethod
    def discover(cls, port: Any, now_ns: Any, until_ns: int) -> Iterator[Found]:
        yield from ()


class FindsEverything(Gauge):
    @classmethod
    def discover(cls, port: Any, now_ns: Any, until_ns: int) -> Iterator[Found]:
        yield Found("a gauge, surely", {})


# People


class PrintsCrossings(GridEye):
    def poll(self) -> Sequence[Observation]:
        seen = super().poll()
        for each in seen:
            if isinstance(each, Crossing):
                print(each.direction)
        return seen


class AliveWithPersons(GridEye):
    def poll(self) -> Sequence[Observation]:
        seen = super().poll()
        if any(isinstance(each, Crossing) for each in seen):
            return [*seen, Alive(self._now_ns())]
        return seen


class TellsThatItIsCovered(GridEye):
    def poll(self) -> Sequence[Observation]:
        return [*super().poll(), Trouble("obstructed", self._now_ns())]


class TellsWhatItSaw(GridEye):
    def poll(self) -> Sequence[Observation]:
        try:
            return super().poll()
        except FrameError as exc:
            raise FrameError(f"{exc}: {self._bus.read(0x69, bytes((0x80,)), 16).hex()}") from exc


class Measures(GridEye):
    def poll(self) -> Sequence[Observation]:
        return [*super().poll(), Reading("persons", 3.0, self._now_ns())]


class CountsInItsName(GridEye):
    def poll(self) -> Sequence[Glimpse]:
        seen = super().poll()
        self.identity += "i" * any(isinstance(each, Crossing) for each in seen)
        return seen


class UnknownTypes(GridEye):
    def poll(self) -> Sequence[Unheard]:  # type: ignore[name-defined]  # noqa: F821
        return super().poll()


class HoldsItOut:
    """A driver that is one, and has no base that keeps it to itself."""

    spec, Options = GridEye.spec, GridEye.Options

    def __init__(self, bus: Any, options: Any, now_ns: Any) -> None:
        self._eye = GridEye(bus, options, now_ns)

    def poll(self) -> Sequence[Glimpse]:
        return self._eye.poll()


class StaresAtOnePicture(GridEye):
    def _refuse_frozen(self, image: bytes, at_ns: int) -> None:
        pass


DEFECTS: Sequence[tuple[str, Subject, str]] = [
    ("test_feed_finds_what_the_device_says", gauge(CountsNothing), "count each complete frame"),
    ("test_any_slicing_decodes_the_same", gauge(ForgetsTheRest), "take any slice"),
    ("test_joined_chunks_decode_the_same", gauge(TakesTheFirstOnly), "more than one frame"),
    ("test_garbage_before_frames_costs_one_frame_at_most", gauge(Sulks), "good frames were found"),
    (
        "test_garbage_before_frames_costs_one_frame_at_most",
        gauge(Raises),
        "raised UnicodeDecodeError",
    ),
    ("test_a_truncated_frame_is_no_value", gauge(TrustsTheBeginning), "prove each frame by"),
    ("test_a_flipped_bit_is_no_wrong_value", gauge(TrustsTheBeginning), "8-bit sum"),
    ("test_endless_garbage_is_not_kept", gauge(Hoards), "bytes of garbage"),
    ("test_a_flipped_bit_in_an_answer_is_no_wrong_value", gauge(TrustsTheBeginning), "8-bit sum"),
    ("test_a_flipped_bit_while_opening_is_a_driver_error_at_most", gauge(LooksUp), "KeyError"),
    (
        "test_nonsense_answers_leave_the_range_never",
        gauge(BelievesEverything),
        "outside the -40 to 80",
    ),
    ("test_nonsense_answers_leave_the_range_never", gauge(GivesUp), "does not measure any more"),
    ("test_silence_is_a_bus_error_soon_and_asked_once", gauge(TriesAgain), "more than once"),
    ("test_silence_is_a_bus_error_soon_and_asked_once", gauge(SwallowsSilence), "no BusError in"),
    ("test_silence_is_a_bus_error_soon_and_asked_once", gauge(RemembersTheLast), "forget old"),
    ("test_silence_is_a_bus_error_soon_and_asked_once", gauge(WaitsForEver), r"open\(\) took"),
    ("test_silence_is_a_bus_error_soon_and_asked_once", gauge(PollsForEver), "one poll took"),
    ("test_silence_is_a_bus_error_soon_and_asked_once", gauge(SaysNothing), "what to check"),
    ("test_after_unplugging_it_measures_again", gauge(GivesUp), "plugged in again"),
    ("test_each_transaction_may_fail_once", gauge(GivesUp), "failed once"),
    ("test_a_slow_line_reads_the_same", gauge(ReadsOnce), "one by one"),
    ("test_a_late_answer_is_not_taken_for_another", gauge(ExpectsOneAnswer), "raised ValueError"),
    (
        "test_a_device_that_was_switched_off_and_on_measures_again",
        gauge(MissesThePowerCut),
        "settings are gone",
    ),
    ("test_a_frozen_device_is_noticed", gauge(NeverStuck), '"stuck"'),
    ("test_a_healthy_device_is_measured", gauge(WrongScale), "can only have said"),
    (
        "test_what_the_device_says_in_place_of_a_value_is_no_value",
        gauge(PublishesTheCode),
        "no reading has the reason",
    ),
    ("test_while_it_warms_up_there_is_no_value", gauge(NeverCold), "may be believed"),
    (
        "test_every_unit_is_known_and_ends_the_name",
        gauge(specified(Gauge, quantities=(UNNAMED,))),
        'ends in "_c"',
    ),
    (
        "test_every_unit_is_known_and_ends_the_name",
        gauge(specified(Gauge, quantities=(UNKNOWN,))),
        "no UCUM code",
    ),
    ("test_many_polls_hold_no_more_memory", gauge(LeaksAtEachPoll), "bound every list"),
    ("test_it_closes_cleanly", gauge(ClosesOnlyWhatIsOpen), "it never raises"),
    ("test_it_closes_cleanly", gauge(LeavesAThread), "threads are left"),
    ("test_building_it_touches_nothing", gauge(TalksAtOnce), "before open"),
    (
        "test_the_spec_says_what_a_technician_must_know",
        gauge(specified(Gauge, quirks=())),
        "Spec.quirks",
    ),
    (
        "test_the_spec_says_what_a_technician_must_know",
        gauge(specified(Gauge, header=())),
        "Spec.header",
    ),
    (
        "test_the_spec_says_what_a_technician_must_know",
        gauge(specified(Gauge, source="")),
        "Spec.source",
    ),
    ("test_every_option_says_what_it_is", gauge(Silent), "stuck_s has no description"),
    ("test_its_page_is_complete", gauge(specified(Gauge, title="Another")), "does not say"),
    ("test_a_scan_finds_its_device", gauge(FindsNothing), "does not find"),
    (
        "test_a_scan_leaves_other_devices_to_their_drivers",
        gauge(FindsEverything),
        "was taken for a gauge",
    ),
    ("test_people_are_crossings_that_cannot_be_told", eye(PrintsCrossings), "printed or logged"),
    (
        "test_people_are_crossings_that_cannot_be_told",
        eye(TellsThatItIsCovered),
        "tells of persons",
    ),
    (
        "test_people_are_crossings_that_cannot_be_told",
        eye(Measures),
        "a people sensor handed on a Reading",
    ),
    ("test_people_are_crossings_that_cannot_be_told", eye(CountsInItsName), "it is logged"),
    ("test_a_people_driver_is_held_to_it_by_its_types", eye(Measures), r"Sequence\[Glimpse\]"),
    ("test_a_people_driver_is_held_to_it_by_its_types", eye(UnknownTypes), "cannot be looked up"),
    ("test_a_people_driver_is_held_to_it_by_its_types", eye(HoldsItOut), "Withheld"),
    ("test_alive_does_not_depend_on_persons", eye(AliveWithPersons), "Alive"),
    ("test_no_error_text_tells_what_was_seen", eye(TellsWhatItSaw), "different error texts"),
    ("test_a_frozen_device_is_noticed", eye(StaresAtOnePicture), "the same picture"),
]


@pytest.mark.parametrize(
    ("promise", "subject", "finding"),
    DEFECTS,
    ids=[f"{subject.driver.__name__}-{promise[5:30]}" for promise, subject, _ in DEFECTS],
)
def test_a_broken_promise_is_found_out(promise: str, subject: Subject, finding: str) -> None:
    with pytest.raises(BrokenPromiseError, match=finding):
        PROMISES[promise](subject)


def test_every_promise_has_a_defect_that_breaks_it() -> None:
    assert {promise for promise, _, _ in DEFECTS} == set(PROMISES)


def test_every_emulation_has_a_driver_and_every_driver_with_bytes_an_emulation() -> None:
    assert set(emulation.emulated()) <= set(drivers.names())
    without = set(drivers.DRIVERS) - set(emulation.emulated())
    assert not without, "these drivers do not take part in the battery"


def test_an_emulation_may_say_how_it_freezes() -> None:
    frozen: list[object] = []
    subject = gauge(freeze=frozen.append)
    with pytest.raises(BrokenPromiseError, match='"stuck"'):
        PROMISES["test_a_frozen_device_is_noticed"](subject)
    assert len(frozen) == 1


def test_an_emulation_that_is_not_true_is_found_out() -> None:
    wrong = gauge(truth={"air_temperature_c": (0.0, 1.0)})
    with pytest.raises(BrokenPromiseError, match="can only have said"):
        PROMISES["test_a_healthy_device_is_measured"](wrong)
    incomplete: Emulation = dataclasses.replace(EMULATION, truth={"humidity_percent": (0, 100)})
    with pytest.raises(BrokenPromiseError, match="humidity_percent"):
        PROMISES["test_a_healthy_device_is_measured"](Subject("gauge", Gauge, incomplete))
