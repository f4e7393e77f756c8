"""Benewake TF over snow: frames and sums, codes, bursts, commands, and what goes wrong."""

from __future__ import annotations

import struct
import time
from math import inf
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import BusError, FrameError, Observation, Reading, SerialDriver
from drivers.benewake_tf import (
    TRAITS,
    BenewakeTf,
    BenewakeTfOptions,
    Model,
    Sample,
    TfFramer,
    command,
    decode,
    invalid_because,
)
from drivers.buses import LinuxSerial
from hil.buses import Pty, SimulatedSerial
from hil.devices.benewake import TfDevice
from hil.rig import Now

MODELS: list[Model] = ["tfmini", "tfmini-s", "tfmini-plus", "tf-luna", "tf02"]


def frame(distance_cm: int, strength: int = 2000, temperature: int = 0x08C8) -> bytes:
    body = b"\x59\x59" + struct.pack("<hHH", distance_cm, strength, temperature)
    return body + bytes((sum(body) & 0xFF,))


def passive(**options: Any) -> BenewakeTf:
    options.setdefault("mount_height_cm", 350.0)
    driver = BenewakeTf(SimulatedSerial([], lambda: 0.0), BenewakeTfOptions(**options), lambda: 0)
    assert isinstance(driver, SerialDriver)
    return driver


def values(name: str, observed: Any) -> list[float]:
    return [each.value for each in observed if each.quantity == name and each.value is not None]


class Bench:
    """A simulated lidar, its driver as the collector treats it, and a clock that polls turn on."""

    def __init__(self, device: TfDevice, **options: Any) -> None:
        options.setdefault("mount_height_cm", 350.0)
        self.now = Now()
        self.device = device
        self.port = SimulatedSerial([device], self.now, wait_s=self.now.advance, baud=115200)
        self.port.open()
        self.driver = BenewakeTf(self.port, BenewakeTfOptions(**options), self.now.ns)
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


# Decoding.


def test_a_frame_is_a_distance_and_a_strength() -> None:
    assert decode([bytes.fromhex("5959 2C01 D007 C808 88"), frame(-4, 0xFFFF)]) == [
        Sample(300, 2000),
        Sample(-4, 0xFFFF),
    ]
    assert TfFramer().feed(bytes.fromhex("5959 2C01 D007 C808 86")) == [
        bytes.fromhex("5959 2C01 D007 C808 86")
    ]


def test_commands_have_the_sums_of_the_manual() -> None:
    assert command(0x01) == bytes.fromhex("5A04015F")
    assert command(0x03, b"\x64\x00") == bytes.fromhex("5A06036400C7")
    assert command(0x05, b"\x01") == bytes.fromhex("5A05050165")
    assert command(0x02) == bytes.fromhex("5A040260")


@pytest.mark.parametrize("model", ["tfmini-s", "tfmini-plus"])
@pytest.mark.parametrize(
    ("distance_cm", "strength", "reason"),
    [
        (-1, 50, "weak_signal"),
        (-1, 2000, "weak_signal"),
        (-2, 0xFFFF, "out_of_range"),
        (300, 0xFFFF, "out_of_range"),
        (-4, 2000, "weak_signal"),
        (0, 2000, "weak_signal"),
        (300, 100, "weak_signal"),
        (300, 101, None),
        (9, 2000, "out_of_range"),
        (10, 2000, None),
        (1200, 2000, None),
        (1201, 2000, "out_of_range"),
        (-300, 2000, "out_of_range"),
    ],
)
def test_codes_in_place_of_a_distance_are_no_values(
    model: Model, distance_cm: int, strength: int, reason: str | None
) -> None:
    assert invalid_because(Sample(distance_cm, strength), model) == reason


def test_each_model_has_its_own_range_and_weakest_echo() -> None:
    assert invalid_because(Sample(1000, 2000), "tf-luna") == "out_of_range"
    assert invalid_because(Sample(300, 0x9000), "tf-luna") == "weak_signal"
    assert invalid_because(Sample(300, 0x9000), "tfmini-s") is None
    assert invalid_because(Sample(2000, 50), "tf02") is None
    assert invalid_because(Sample(300, 20), "tf02") == "weak_signal"
    assert invalid_because(Sample(0, 10), "tfmini") == "weak_signal"


# The stream.


def test_the_heads_byte_inside_the_data_is_data() -> None:
    tricky = [frame(0x5959), frame(0x0059, 0x5959, 0x5959), frame(0x59, 0x5A59), frame(0x055A)]
    stream = b"".join(tricky)
    assert TfFramer().feed(stream) == tricky
    framer = TfFramer()
    assert [one for i in range(len(stream)) for one in framer.feed(stream[i : i + 1])] == tricky
    assert framer.errors == 0


def test_answers_to_commands_are_no_garbage() -> None:
    driver = passive(mode="distance", frame_rate_hz=5)
    dialogue = [*[frame(300)] * 3, bytes.fromhex("5A070103020168"), *[frame(300)] * 2]
    seen = driver.feed(b"".join(dialogue), 7)
    assert seen == [Reading("distance_cm", 300.0, 7)]
    assert (driver.frames, driver.frame_errors) == (5, 0)


@settings(deadline=None)
@given(st.data())
def test_any_slicing_gives_the_same_readings_and_counts(data: st.DataObject) -> None:
    parts = st.sampled_from(
        [
            frame(300),
            frame(0x5959, 0x5959),
            frame(-1, 20),
            frame(-2, 0xFFFF),
            frame(40),
            frame(300)[:-1],
            frame(300)[1:],
            frame(300)[:-1] + b"\x00",
            bytes.fromhex("5A070103020168"),
            bytes.fromhex("5A0701"),
            b"\x59",
            b"\x5a",
            b"\x5a\x07",
            bytes(4),
        ]
    )
    stream = b"".join(data.draw(st.lists(parts, max_size=60)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    whole, sliced = passive(frame_rate_hz=5), passive(frame_rate_hz=5)
    expected = list(whole.feed(stream, 0))
    found: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b], 0)
    assert found == expected
    assert (sliced.frames, sliced.frame_errors) == (whole.frames, whole.frame_errors)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_after_garbage_frames_are_found_again(garbage: bytes) -> None:
    driver = passive()
    driver.feed(garbage, 0)
    before = driver.frames
    driver.feed(frame(300) * 12, 0)
    # A tail of the garbage may have the right sum together with the first bytes of a frame.
    assert driver.frames - before >= 10


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_frame_after_a_broken_one_is_not_lost(cut: int) -> None:
    framer = TfFramer()
    assert framer.feed(frame(311)[:cut] + frame(300)) == [frame(300)]
    assert framer.errors == 1


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.lists(st.binary(max_size=300)))
def test_random_bytes_never_raise_never_pile_up_and_give_nothing_out_of_range(
    model: Model, chunks: list[bytes]
) -> None:
    driver = passive(model=model, frame_rate_hz=5)
    for chunk in chunks:
        _in_range(driver, driver.feed(chunk, 0))
        assert len(driver._port._framer._rest) <= 9


@settings(deadline=None)
@given(
    st.sampled_from(MODELS),
    st.lists(st.tuples(st.integers(-32768, 32767), st.integers(0, 0xFFFF)), min_size=10),
)
def test_whatever_a_frame_says_no_value_is_outside_its_quantity(
    model: Model, said: list[tuple[int, int]]
) -> None:
    driver = passive(model=model, frame_rate_hz=5, mode="distance")
    _in_range(driver, driver.feed(b"".join(frame(*each) for each in said), 0))
    driver = passive(model=model, frame_rate_hz=5)
    _in_range(driver, driver.feed(b"".join(frame(*each) for each in said), 0))


def _in_range(driver: BenewakeTf, seen: Any) -> None:
    for reading in seen:
        quantity = driver.quantities[reading.quantity]
        if reading.value is None:
            assert reading.reasons
        else:
            assert cast(float, quantity.low) <= reading.value <= cast(float, quantity.high)


# Bursts.


def test_a_second_of_samples_is_one_reading_its_median() -> None:
    driver = passive()
    stream = b"".join(frame(each) for each in (300, 301, 299, 300, 302, 300, 500, 300, 298, 300))
    assert driver.feed(stream, 9) == [
        Reading("distance_cm", 300.0, 9),
        Reading("depth_cm", 50.0, 9),
    ]


@pytest.mark.parametrize(("valid", "has_value"), [(6, True), (5, False)])
def test_snow_needs_sixty_valid_samples_of_a_hundred(valid: int, has_value: bool) -> None:
    stream = frame(300) * valid + frame(-1, 30) * (10 - valid)
    seen = passive().feed(stream, 0)
    assert [isinstance(each, Reading) and each.value is not None for each in seen] == [
        has_value,
        has_value,
    ]
    if not has_value:
        assert {cast(Reading, each).reasons for each in seen} == {("weak_signal",)}


def test_any_distance_needs_one_valid_sample() -> None:
    driver = passive(mode="distance")
    assert driver.feed(frame(-1, 30) * 9 + frame(300), 0) == [Reading("distance_cm", 300.0, 0)]
    assert driver.feed(frame(-2, 0xFFFF) * 10, 0) == [
        Reading("distance_cm", None, 0, ("out_of_range",))
    ]
    assert set(driver.quantities) == {"distance_cm"}


def test_a_depth_far_below_the_ground_is_none() -> None:
    assert passive(mount_height_cm=200.0).feed(frame(251) * 10, 0) == [
        Reading("distance_cm", 251.0, 0),
        Reading("depth_cm", None, 0, ("out_of_range",)),
    ]


def test_without_a_mounting_height_snow_has_no_depth_and_it_is_asked_for() -> None:
    driver = passive(mount_height_cm=None)
    assert driver.feed(frame(300) * 10, 0) == [Reading("distance_cm", 300.0, 0)]
    (missing,) = BenewakeTfOptions().missing_to_measure()
    assert missing.startswith("mount_height_cm")
    assert BenewakeTfOptions(mode="distance").missing_to_measure() == []
    assert BenewakeTfOptions(mount_height_cm=350.0).missing_to_measure() == []


def test_samples_that_are_the_same_for_an_hour_are_stuck() -> None:
    driver, off = passive(), passive(stuck_s=0.0)
    for at_s in range(0, 3600, 60):
        assert values("depth_cm", driver.feed(frame(300) * 10, at_s * 10**9)) == [50.0]
    stuck = driver.feed(frame(300) * 10, 3600 * 10**9)
    assert {cast(Reading, each).reasons for each in stuck} == {("stuck",)}
    off.feed(frame(300) * 10, 0)
    assert values("depth_cm", off.feed(frame(300) * 10, 9999 * 10**9)) == [50.0]


# With a device.


@pytest.mark.parametrize("model", MODELS)
def test_snow_is_measured_by_every_model(model: Model) -> None:
    bench = Bench(TfDevice(lambda _: 300.0, model=model), model=model)
    seen = bench.run(60.0)
    depths = values("depth_cm", seen)
    assert 55 <= len(depths) <= 61
    assert all(depth == pytest.approx(50.0, abs=2.0) for depth in depths)
    assert bench.errors == []
    assert bench.driver.frame_errors == 0
    takes = TRAITS[model].takes_commands
    assert bench.device.rate_hz == (10 if takes else 100)
    assert ("firmware 1.2.3" in bench.driver.identity) == takes


def test_nothing_is_ever_saved_in_the_device() -> None:
    bench = Bench(TfDevice(lambda _: 300.0))
    bench.run(10.0)
    bench.device.power_cycle(bench.now.s)
    bench.run(20.0)
    assert bench.device.saves == 0


@pytest.mark.parametrize("model", ["tfmini-s", "tf-luna", "tfmini"])
def test_what_the_device_says_in_place_of_a_distance_has_its_reason(model: Model) -> None:
    def reasons(device: TfDevice) -> set[tuple[str, ...]]:
        bench = Bench(device, model=model)
        bench.run(3.0)
        return {cast(Reading, each).reasons for each in bench.run(5.0)}

    assert reasons(TfDevice(lambda _: inf, model=model)) == {("weak_signal",)}
    strong, sunny = TfDevice(lambda _: 300.0, model=model), TfDevice(lambda _: 300.0, model=model)
    strong.is_saturated = sunny.is_blinded = True
    assert reasons(strong) == {("out_of_range",)}
    assert reasons(sunny) == {("weak_signal",)}


def test_falling_snow_leaves_the_depth_true_or_weak() -> None:
    few = Bench(TfDevice(lambda _: 300.0, weak_share=0.2)).run(120.0)
    assert len(values("depth_cm", few)) > 105
    many = Bench(TfDevice(lambda _: 300.0, weak_share=0.6)).run(120.0)
    assert len(values("depth_cm", many)) < 40
    for seen in (few, many):
        assert all(each == pytest.approx(50.0, abs=3.0) for each in values("depth_cm", seen))


def test_a_device_left_in_millimetres_is_told_centimetres() -> None:
    device = TfDevice(lambda _: 300.0)
    device.hear(bytes.fromhex("5A0505066A"), 1000.0)
    seen = Bench(device).run(10.0)
    assert values("distance_cm", seen)[-1] == pytest.approx(300.0, abs=2.0)


def test_a_device_left_waiting_for_triggers_is_set_going() -> None:
    device = TfDevice(lambda _: 300.0)
    device.hear(command(0x03, b"\x00\x00"), 1000.0)
    bench = Bench(device)
    assert values("depth_cm", bench.run(10.0))
    assert bench.errors == []


def test_a_power_cycle_is_noticed_and_the_rate_set_anew() -> None:
    bench = Bench(TfDevice(lambda _: 300.0))
    bench.run(10.0)
    bench.device.power_cycle(bench.now.s, off_s=1.0)
    assert bench.device.rate_hz == 100
    bench.run(20.0)
    assert bench.device.rate_hz == 10
    assert len(values("depth_cm", bench.run(30.0))) in (29, 30, 31)
    assert bench.errors == []


def test_a_device_that_hears_nothing_is_told_with_what_to_check() -> None:
    bench = Bench(TfDevice(lambda _: 300.0, obeys=False))
    with pytest.raises(FrameError, match=r"answers nothing: check the wire from our TXD"):
        bench.driver.open()


class KeepsItsRate(TfDevice):
    @property
    def rate_hz(self) -> int:
        return 100

    @rate_hz.setter
    def rate_hz(self, wanted: int) -> None:
        pass


def test_a_device_that_keeps_its_rate_is_told_with_what_it_does() -> None:
    bench = Bench(KeepsItsRate(lambda _: 300.0))
    with pytest.raises(FrameError, match=r"told to speak 10 times a second, .* about 1?[0-9]{2} t"):
        bench.driver.open()


class Refuses(TfDevice):
    def _obey(self, identifier: int, value: bytes, now_s: float) -> None:
        super()._obey(identifier, b"\x02" if identifier == 0x05 else value, now_s)


def test_a_device_that_takes_another_unit_is_told_with_its_answer() -> None:
    bench = Bench(Refuses(lambda _: 300.0))
    with pytest.raises(FrameError, match="was told 5a 05 05 01 65 and answered 02"):
        bench.driver.open()


def test_nobody_there_is_told_with_what_to_check() -> None:
    for model in MODELS:
        bench = Bench(TfDevice(lambda _: 300.0, model=model), model=model)
        bench.port.line.silence()
        with pytest.raises(BusError, match=r"^nobody speaks like a .*pin 5 is not low \(I2C\)"):
            bench.driver.open()


def test_a_silent_device_is_a_bus_error_after_some_seconds_and_comes_back() -> None:
    bench = Bench(TfDevice(lambda _: 300.0))
    bench.run(5.0)
    bench.port.line.silence()
    bench.run(2.0)
    assert bench.errors == []
    bench.run(4.0)
    assert bench.errors[0].startswith("bus: nobody speaks like a tfmini-plus")
    bench.port.line.heal()
    assert values("depth_cm", bench.run(10.0))


def test_a_port_that_is_pulled_out_is_a_bus_error_and_comes_back() -> None:
    bench = Bench(TfDevice(lambda _: 300.0))
    bench.run(5.0)
    bench.port.unplug()
    with pytest.raises(BusError):
        bench.driver.poll()
    bench.port.plug()
    bench.port.open()
    bench.driver.open()
    assert values("depth_cm", bench.run(5.0))


def test_a_noisy_line_is_counted_and_values_stay_true() -> None:
    bench = Bench(TfDevice(lambda _: 300.0))
    bench.run(5.0)
    bench.port.line.garble(0.01)
    depths = values("depth_cm", bench.run(120.0))
    assert bench.driver.frame_errors > 50
    assert len(depths) > 80
    assert all(depth == pytest.approx(50.0, abs=3.0) for depth in depths)


def test_an_unopened_driver_without_a_port_only_decodes() -> None:
    driver = BenewakeTf(cast(Any, None), BenewakeTfOptions(mount_height_cm=350.0), lambda: 0)
    assert values("depth_cm", driver.feed(frame(300) * 10, 0)) == [50.0]
    with pytest.raises(BusError):
        driver.open()


@pytest.mark.parametrize(
    "options",
    [
        {"model": "tfmini-x"},
        {"mode": "pair"},
        {"mount_height_cm": 0.0},
        {"frame_rate_hz": 30},
        {"stuck_s": -1.0},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BenewakeTfOptions(**options)


def test_the_simulated_lidar_says_the_same_whatever_the_steps() -> None:
    def spoken(seed: int, step_s: float) -> bytes:
        device = TfDevice(lambda _: 300.0, weak_share=0.1, seed=seed)
        return b"".join(device.speak(i * step_s) for i in range(round(20.0 / step_s) + 1))

    assert spoken(1, 0.5) == spoken(1, 10.0)
    assert spoken(1, 0.5) != spoken(2, 0.5)


def test_over_a_real_terminal_it_is_set_up_and_measures() -> None:
    assert BenewakeTf.spec.line is not None
    device = TfDevice(lambda _: 300.0)
    with Pty([device], time.monotonic) as pty:
        port = LinuxSerial(pty.path, BenewakeTf.spec.line)
        port.open()
        options = BenewakeTfOptions(mount_height_cm=350.0, frame_rate_hz=50)
        driver = BenewakeTf(port, options, time.monotonic_ns)
        driver.open()
        assert driver.identity == "Benewake tfmini-plus, as configured, firmware 1.2.3"
        found: list[Observation] = []
        while not found:
            found += driver.poll()
        assert values("depth_cm", found) == [pytest.approx(50.0, abs=2.0)]
        driver.close()
        port.close()
