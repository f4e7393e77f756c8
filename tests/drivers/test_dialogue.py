"""What every driver promises that asks and waits, on a line shared by everybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drivers
from drivers.base import BusError, Discovers, FrameError, Observation, Reading, SerialDriver
from drivers.buses import LinuxSerial
from drivers.dialogue import Echo, ask
from hil import emulation
from hil.buses import Pty, SimulatedSerial
from hil.rig import Now

POLLED = ("campbell-sr50a", "lufft-umb", "modbus-rtu", "vaisala-md30")


class Wire:
    """Stands between a device and the line: hears every question, and spoils what is said."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.heard: list[bytes] = []
        self.spoil: Callable[[bytes], bytes] = lambda said: said
        self.late_s = 0.0
        self._held: list[tuple[float, bytes]] = []

    def hear(self, data: bytes, now_s: float) -> None:
        self.heard.append(data)
        self.device.hear(data, now_s)

    def speak(self, now_s: float) -> bytes:
        said = self.device.speak(now_s)
        if said:
            self._held.append((now_s + self.late_s, self.spoil(said)))
        due = b"".join(each for at_s, each in self._held if at_s <= now_s)
        self._held = [(at_s, each) for at_s, each in self._held if at_s > now_s]
        return due


class Bench:
    """A driver, its device behind a wire that can be spoilt, and a time of their own."""

    def __init__(self, name: str, *, echo: bool = False, **changed: Any) -> None:
        own = emulation.load(name)
        build: Any = drivers.load(name)
        self.options = build.Options.model_validate({**own.options, **changed})
        self.now = Now()
        self.device = own.build(self.options, 1)
        self.wire = Wire(self.device)
        self.port = SimulatedSerial([self.wire], self.now, wait_s=self.now.advance, echo=echo)
        self.port.open()
        self.driver: Any = build(self.port, self.options, self.now.ns)

    def values(self) -> Mapping[str, object]:
        return values(self.driver.poll())


def values(seen: list[Observation]) -> dict[str, object]:
    return {each.quantity: each.value for each in seen if isinstance(each, Reading)}


@pytest.fixture(params=POLLED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
def test_every_quantity_is_read_whether_or_not_the_adapter_returns_our_words(
    name: str, echo: bool
) -> None:
    bench = Bench(name, echo=echo)
    bench.driver.open()
    for _ in range(10):
        found = bench.values()
        assert set(found) == set(bench.driver.quantities)
        assert None not in found.values()
        bench.now.advance(bench.driver.interval_s)
    assert bench.driver.frames >= 10
    assert bench.driver.frame_errors == 0


ASKING = [(name, "poll") for name in POLLED] + [
    (name, "open")
    for name in POLLED
    if name != "modbus-rtu"  # which asks nothing to open
]


@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
@pytest.mark.parametrize(("name", "what"), ASKING)
def test_silence_is_a_bus_error_after_one_question_and_one_time_out(
    name: str, echo: bool, what: str
) -> None:
    bench = Bench(name, echo=echo)
    bench.driver.open()
    bench.device.hear = lambda data, now_s: None
    bench.wire.heard.clear()
    began_s = bench.now.s
    with pytest.raises(BusError, match=r"^nobody answers at .*: check (power|its 12 V)"):
        getattr(bench.driver, what)()
    assert len(bench.wire.heard) == 1
    assert bench.now.s - began_s == pytest.approx(bench.options.timeout_s, abs=0.03)
    assert bench.driver.frame_errors == 0


@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
@pytest.mark.parametrize("junk", [b"\x00", b"\xff\xff\xff", b"\x55" * 40, b"33;", b"\xab\x01"])
def test_garbage_before_an_answer_costs_no_answer(name: str, echo: bool, junk: bytes) -> None:
    bench = Bench(name, echo=echo)
    bench.driver.open()
    bench.wire.spoil = lambda said: junk + said
    assert None not in bench.values().values()


@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
@pytest.mark.parametrize("left", [1, 5, -1, -3])
def test_an_answer_cut_short_is_a_frame_error_and_the_next_one_counts(
    name: str, echo: bool, left: int
) -> None:
    bench = Bench(name, echo=echo)
    bench.driver.open()
    bench.wire.spoil = lambda said: said[:left]
    bench.wire.heard.clear()
    began_s = bench.now.s
    with pytest.raises(FrameError, match=r"^only damaged answers from .*: check"):
        bench.driver.poll()
    assert len(bench.wire.heard) == 1
    assert bench.now.s - began_s < bench.options.timeout_s + 0.03
    assert bench.driver.frame_errors == 1
    bench.wire.spoil = lambda said: said
    bench.now.advance(bench.driver.interval_s)
    assert None not in bench.values().values()
    assert bench.driver.frame_errors == 1


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(name: str) -> None:
    bench = Bench(name)
    bench.driver.open()
    bench.now.s = 50_000.0
    then = bench.values()
    bench.wire.late_s = bench.options.timeout_s + 1.0
    with pytest.raises(BusError):
        bench.driver.poll()
    bench.wire.late_s = 0.0
    bench.now.advance(40_000.0)  # the weather is another by now
    found = bench.values()
    moving = next(each for each in found if each.endswith(("temperature_c", "depth_cm")))
    assert abs(float(str(found[moving])) - float(str(then[moving]))) > 1.0
    assert bench.driver.frame_errors == 0


def test_a_vanished_adapter_is_a_bus_error_and_a_device_is_read_when_it_is_back(name: str) -> None:
    bench = Bench(name)
    bench.driver.open()
    assert bench.values()
    bench.port.unplug()
    with pytest.raises(BusError):
        bench.driver.poll()
    bench.driver.close()
    bench.port.plug()
    bench.port.open()
    bench.driver.open()
    assert None not in bench.values().values()


def test_nothing_is_sent_before_the_driver_is_opened(name: str) -> None:
    assert Bench(name).wire.heard == []


def test_a_recorded_dialogue_is_decoded_without_a_word(name: str) -> None:
    bench = Bench(name)
    said: list[bytes] = []
    bench.wire.spoil = lambda answer: said.append(answer) or answer
    bench.driver.open()
    live = bench.values()
    bench.wire.heard.clear()
    build: Any = drivers.load(name)
    silent = build(bench.port, bench.options, bench.now.ns)
    assert isinstance(silent, SerialDriver)
    seen: list[Observation] = []
    for answer in said:
        seen += silent.feed(answer, bench.now.ns())
    assert values(seen) == live
    assert (silent.frames, silent.frame_errors) == (len(said), 0)
    assert bench.wire.heard == []


@settings(deadline=None)
@given(st.data(), st.sampled_from(POLLED))
def test_any_slicing_of_answers_and_junk_gives_the_same_and_nothing_beyond_its_range(
    data: st.DataObject, name: str
) -> None:
    bench = Bench(name)
    said: list[bytes] = []
    bench.wire.spoil = lambda answer: said.append(answer) or answer
    bench.driver.open()
    for _ in range(3):
        bench.driver.poll()
        bench.now.advance(bench.driver.interval_s)
    parts = st.sampled_from(said) | st.binary(max_size=8)
    stream = b"".join(data.draw(st.lists(parts, max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    build: Any = drivers.load(name)
    whole, sliced = (build(bench.port, bench.options, bench.now.ns) for _ in range(2))
    expected = list(whole.feed(stream, 0))
    found: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b], 0)
    assert found == expected
    assert (sliced.frames, sliced.frame_errors) == (whole.frames, whole.frame_errors)
    for each in found:
        if isinstance(each, Reading) and isinstance(each.value, float):
            quantity = whole.quantities.get(each.quantity)
            if quantity is not None and quantity.low is not None and quantity.high is not None:
                assert quantity.low <= each.value <= quantity.high


@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
def test_over_a_real_terminal_it_is_read_and_comes_back_after_a_pull(name: str, echo: bool) -> None:
    own = emulation.load(name)
    build: Any = drivers.load(name)
    options = build.Options.model_validate({**own.options, "timeout_s": 5.0})
    device = own.build(options, 1)
    turnaround_s = getattr(device, "turnaround_s", 0.0)
    device.turnaround_s = (0.0, 0.0) if isinstance(turnaround_s, tuple) else 0.0
    with Pty([device], time.monotonic, echo=echo) as pty:
        port = LinuxSerial(pty.path, options.line() or build.spec.line)
        port.open()
        driver = build(port, options, time.monotonic_ns)
        driver.open()
        assert pty.baud == build.spec.line.baud
        assert None not in values(driver.poll()).values()
        pty.unplug()
        with pytest.raises(BusError):
            driver.poll()
        port.close()
        pty.plug()
        port.open()
        driver.open()
        assert None not in values(driver.poll()).values()
        assert driver.frame_errors == 0
        port.close()


# --- the echo by itself ---------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=12), st.binary(max_size=20), st.booleans(), st.data())
def test_our_words_are_taken_out_once_however_they_arrive(
    sent: bytes, others: bytes, echoes: bool, data: st.DataObject
) -> None:
    heard = sent + others if echoes else others
    cuts = sorted(data.draw(st.lists(st.integers(0, len(heard)))))
    echo = Echo(sent)
    left = b"".join(
        echo.strip(heard[a:b]) for a, b in zip([0, *cuts], [*cuts, len(heard)], strict=True)
    )
    left += echo.rest()
    assert left == (others if echoes else heard.removeprefix(sent))


def test_what_arrived_before_the_question_is_dropped_and_asking_ends_in_time() -> None:
    class Chatterbox:
        """Speaks all the time."""

        def hear(self, data: bytes, now_s: float) -> None:
            self.asked = data

        def speak(self, now_s: float) -> bytes:
            return b"old" if not hasattr(self, "asked") else b"x"

    now = Now()
    port = SimulatedSerial([Chatterbox()], now, wait_s=now.advance)
    port.open()

    def heard() -> bytes:
        chunks = b""
        for chunk in ask(port, b"?", now.ns, 1.0):
            chunks += chunk
            now.advance(0.01)
        return chunks

    began_s = now.s
    assert set(heard()) == set(b"x")
    assert now.s - began_s == pytest.approx(1.0, abs=0.02)


def test_those_that_can_be_asked_who_they_are_say_so() -> None:
    assert all(isinstance(drivers.load(name), Discovers) for name in POLLED)


def test_a_scan_finds_the_device_by_options_that_read_it_and_ends_in_time(name: str) -> None:
    bench = Bench(name)
    driver: Any = drivers.load(name)
    (found,) = driver.discover(bench.port, bench.now.ns, bench.now.ns() + round(300e9))
    assert found.what
    again = Bench(name, **found.options)
    again.driver.open()
    assert None not in again.values().values()
    bench.device.hear = lambda data, now_s: None
    began_s = bench.now.s
    assert list(driver.discover(bench.port, bench.now.ns, bench.now.ns() + round(1e9))) == []
    assert bench.now.s - began_s <= 1.6
