"""Grid-EYE: the register image, counting over a simulated passage, and real recordings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import (
    PEOPLE_REASONS,
    Alive,
    BusError,
    Crossing,
    FrameError,
    IdentityError,
    Observation,
    Trouble,
)
from drivers.grideye import GridEye, decode_frame, is_clock, thermistor_c
from hil.buses import SimulatedI2c
from hil.devices.ds3231 import Ds3231Device
from hil.devices.grideye import GridEyeDevice, Scene, Walker

S = 1_000_000_000
NEAR_S = 1.5  # how far a count may be from its event

Counts = list[tuple[float, str]]  # seconds, direction


def image(*raw: int) -> bytes:
    """A register image whose first pixels are `raw`, the rest 25 degC."""
    pixels = [*raw, *[0x064] * (64 - len(raw))]
    return b"".join(pixel.to_bytes(2, "little") for pixel in pixels)


class Played:
    """An I2C bus on which every read gives the next of some answers, and a clock of 10 Hz."""

    def __init__(self, answers: Iterable[bytes]) -> None:
        self._answers = iter(answers)
        self.reads = 0

    def now_ns(self) -> int:
        return self.reads * (S // 10)

    def read(self, address: int, write: bytes, length: int) -> bytes:
        if (address, write, length) != (0x69, b"\x80", 128):
            raise BusError("EREMOTEIO, as in a recording of frames only")
        self.reads += 1
        return next(self._answers)

    def write(self, address: int, data: bytes) -> None:
        """Accept it."""


def play(answers: Sequence[bytes], **options: Any) -> tuple[GridEye, list[Observation]]:
    """Poll a driver once for each answer."""
    bus = Played(answers)
    chosen = GridEye.Options.model_validate({"warmup_s": 0.0, **options})
    driver = GridEye(bus, chosen, bus.now_ns)
    driver.open()
    observed: list[Observation] = []
    for _ in answers:
        with suppress(FrameError):
            observed += driver.poll()
    return driver, observed


@dataclass
class Bench:
    """A simulated sensor over a scene, its driver, and a clock that polls turn on."""

    scene: Scene = field(default_factory=Scene)
    options: dict[str, Any] = field(default_factory=lambda: {"warmup_s": 0.0})
    now_ns: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        self.device = GridEyeDevice(self.scene, seed=self.seed)
        self.bus = SimulatedI2c({0x69: self.device}, lambda: self.now_ns / S)
        self.bus.open()
        options = GridEye.Options.model_validate(self.options)
        self.driver = GridEye(self.bus, options, lambda: self.now_ns)
        self.driver.open()

    def run(self, seconds: float) -> list[Observation]:
        observed: list[Observation] = []
        for _ in range(round(seconds * 10)):
            observed += self.driver.poll()
            self.now_ns += S // 10
        return observed

    def errors(self, seconds: float) -> list[str]:
        raised = []
        for _ in range(round(seconds * 10)):
            try:
                self.driver.poll()
            except FrameError as exc:
                raised.append(str(exc))
            self.now_ns += S // 10
        return raised


def crossings(observed: Iterable[Observation]) -> Counts:
    return [(o.at_boot_ns / S, o.direction) for o in observed if isinstance(o, Crossing)]


def compare(truth: Sequence[tuple[float, str]], counts: Counts) -> tuple[int, Counts, int]:
    """Match event by event; return how many were found, what else was counted, how many swapped."""
    false, missed = list(counts), []
    for at_s, way in truth:
        near = [c for c in false if c[1] == way and abs(c[0] - at_s) <= NEAR_S]
        if near:
            false.remove(min(near, key=lambda c: abs(c[0] - at_s)))
        else:
            missed.append((at_s, way))
    swapped = sum(
        any(way != other and abs(at_s - other_s) <= NEAR_S for other_s, other in false)
        for at_s, way in missed
    )
    return len(truth) - len(missed), false, swapped


def ways(*walkers: Walker, **options: Any) -> list[str]:
    bench = Bench(Scene(walkers), {"warmup_s": 0.0, **options})
    return [way for _, way in crossings(bench.run(12))]


# Decoding.


def test_pixels_are_twelve_bit_twos_complement_quarters_row_by_row() -> None:
    field_c = decode_frame(image(0x064, 0xFFC, 0x000, 0x001, 0, 0, 0, 0, 0x140))
    assert field_c.shape == (8, 8)
    assert field_c[0, :4].tolist() == [25.0, -1.0, 0.0, 0.25]
    assert field_c[1, 0] == 80.0


def test_the_four_upper_bits_of_a_pixel_mean_nothing() -> None:
    assert np.array_equal(decode_frame(image(0xF064, 0x3FFC)), decode_frame(image(0x064, 0xFFC)))


def test_the_thermistor_is_sign_and_magnitude() -> None:
    assert thermistor_c(0x8BB) == -11.6875
    assert thermistor_c(0x190) == 25.0
    assert thermistor_c(0x000) == 0.0


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (image()[:-1], "127 bytes"),
        (b"", "0 bytes"),
        (image(), "all pixels equal"),
        (bytes(128), "all pixels equal"),
        (b"\xff" * 128, "all pixels equal"),
        (image(0x191), "outside"),  # 100.25
        (image(0xFAF), "outside"),  # -20.25
    ],
)
def test_what_cannot_be_a_picture_is_refused(wrong: bytes, what: str) -> None:
    with pytest.raises(FrameError, match=what):
        decode_frame(wrong)


def test_the_ends_of_the_range_are_inside_it() -> None:
    assert decode_frame(image(0x190, 0xFB0)).flat[:2] == pytest.approx([100.0, -20.0])


@given(st.lists(st.binary(min_size=128, max_size=128) | st.binary(max_size=200), max_size=30))
def test_whatever_the_bytes_only_a_frame_error_comes_out(images: list[bytes]) -> None:
    driver, _ = play(images)
    assert driver.frames + driver.frame_errors == len(images)


@given(st.lists(st.binary(min_size=64, max_size=64), max_size=20))
def test_whatever_the_pictures_show_they_are_counted_on(pictures: list[bytes]) -> None:
    images = [image(*picture) for picture in pictures]  # 0 to 63.75 degC
    driver, observed = play(images)
    assert driver.frames + driver.frame_errors == len(images)
    assert {type(seen) for seen in observed} <= {Alive, Crossing}


# Options.


def test_an_address_that_the_sensor_cannot_have_is_refused() -> None:
    with pytest.raises(ValidationError):
        GridEye.Options.model_validate({"address": 0x70})


def test_the_address_is_claimed() -> None:
    assert GridEye.Options().claims() == ["i2c address 0x69"]
    assert GridEye.Options(address=0x68).claims() == ["i2c address 0x68"]


def test_every_option_says_what_it_means() -> None:
    assert all(info.description for info in GridEye.Options.model_fields.values())


# Counting over a simulated passage.


def test_walkers_are_counted_in_their_direction() -> None:
    assert ways(Walker(1, "towards"), Walker(6, "away")) == ["towards", "away"]


@pytest.mark.parametrize("speed", [1.4, 2.8, 5.5, 11.0])
def test_slow_walkers_and_runners_are_counted(speed: float) -> None:
    assert ways(Walker(1, "towards", speed=speed)) == ["towards"]


@pytest.mark.parametrize("excess_k", [2.5, 4.0, 8.0])
def test_thick_coats_and_bare_heads_are_counted(excess_k: float) -> None:
    assert ways(Walker(1, "away", excess_k=excess_k)) == ["away"]


@pytest.mark.parametrize("turns_after", [1.0, 2.0, 3.0])
def test_who_turns_back_is_not_counted(turns_after: float) -> None:
    walkers = (Walker(1, "towards", turns_after=turns_after), Walker(6, "away", turns_after=2))
    assert ways(*walkers) == []


def test_two_side_by_side_are_two() -> None:
    assert ways(Walker(1, "towards", row=2), Walker(1, "towards", row=5)) == ["towards"] * 2


def test_two_one_behind_the_other_are_two() -> None:
    assert ways(Walker(1, "away"), Walker(2, "away")) == ["away"] * 2


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_two_who_meet_are_one_each_way(apart: float) -> None:
    met = ways(Walker(1, "towards", row=3.5 - apart / 2), Walker(1, "away", row=3.5 + apart / 2))
    assert sorted(met) == ["away", "towards"]


def test_flip_swaps_the_directions() -> None:
    assert ways(Walker(1, "towards"), Walker(6, "away"), flip=True) == ["away", "towards"]


def test_a_sensor_mounted_the_other_way_round_is_turned() -> None:
    assert ways(Walker(1, "towards"), rotate=180) == ["away"]
    assert ways(Walker(1, "towards"), rotate=180, flip=True) == ["towards"]


@pytest.mark.parametrize("rotate", [90, 270])
def test_a_sensor_mounted_across_counts_nobody_until_it_is_turned(rotate: int) -> None:
    assert ways(Walker(1, "towards"), rotate=rotate) == []


def test_a_quarter_turn_leads_what_moved_down_the_image_to_the_right() -> None:
    frames = []
    for row in range(8):
        pixels = [0x050 + (i % 2) for i in range(64)]
        for r, c in ((row, 3), (row, 4), (min(row + 1, 7), 3), (min(row + 1, 7), 4)):
            pixels[8 * r + c] += 20
        frames.append(image(*pixels))
    empty = image(*(0x050 + (i % 2) for i in range(64)))
    _, observed = play([empty, *frames], rotate=90)
    assert [way for _, way in crossings(observed)] == ["towards"]


def test_in_a_crowd_few_are_missed_and_hardly_anybody_is_invented() -> None:
    bench = Bench(Scene.crowd(seed=3, persons_per_minute=6))
    counts = crossings(bench.run(900))
    truth = bench.scene.crossings
    found, false, swapped = compare(truth, counts)
    assert len(truth) > 60
    assert found >= 0.88 * len(truth)  # who walks in another's tracks is not seen
    assert len(false) <= 1
    assert swapped == 0


# Being alive, and not.


def test_it_is_alive_once_a_second_whether_or_not_somebody_is_there() -> None:
    empty, crowded = Bench(), Bench(Scene.crowd(seed=1, persons_per_minute=60))
    alive = [[o for o in b.run(30) if isinstance(o, Alive)] for b in (empty, crowded)]
    assert alive[0] == alive[1]
    assert [o.at_boot_ns // S for o in alive[0]] == list(range(30))


def test_nobody_is_counted_while_it_warms_up() -> None:
    walkers = [Walker(1, "towards"), Walker(20, "away")]
    bench = Bench(Scene(walkers), options={})
    cold = bench.run(15)
    assert {o.reason for o in cold if isinstance(o, Trouble)} == {"warmup"}
    assert all(isinstance(o, Trouble) for o in cold)
    assert [way for _, way in crossings(bench.run(10))] == ["away"]


def test_a_frame_read_twice_changes_nothing() -> None:
    bench = Bench(Scene([Walker(1, "towards")]))
    observed: list[Observation] = []
    for _ in range(200):
        observed += bench.driver.poll()
        bench.now_ns += S // 25
    assert [way for _, way in crossings(observed)] == ["towards"]


def test_a_sensor_that_lost_its_mind_is_reset_after_three_bad_frames() -> None:
    bench = Bench()
    bench.run(1)
    bench.device.brown_out()
    assert bench.errors(2) == ["all pixels equal"] * 3
    assert bench.driver.frame_errors == 3
    assert any(isinstance(o, Alive) for o in bench.run(1))


def test_a_sensor_that_fell_asleep_is_woken() -> None:
    bench = Bench()
    bench.run(1)
    bench.device.write(b"\x00\x10", bench.now_ns / S)
    assert bench.errors(15) == ["the same frame for 10 s"]
    assert any(isinstance(o, Alive) for o in bench.run(1))


def test_it_warms_up_again_after_a_reset() -> None:
    bench = Bench(options={"warmup_s": 5.0})
    bench.run(6)
    bench.device.brown_out()
    bench.errors(0.3)
    assert {type(o) for o in bench.run(5)} == {Trouble}
    assert Alive in {type(o) for o in bench.run(1)}


def test_a_sensor_that_does_not_answer_is_a_bus_error_and_comes_back() -> None:
    bench = Bench()
    bench.run(1)
    bench.bus.nack(0x69)
    with pytest.raises(BusError):
        bench.driver.poll()
    bench.driver.close()
    with pytest.raises(BusError):
        bench.driver.open()
    bench.bus.heal()
    bench.driver.open()
    assert any(isinstance(o, Alive) for o in bench.run(1))


def test_whatever_goes_wrong_it_gives_no_reason_that_tells_of_persons() -> None:
    bench = Bench(Scene.crowd(seed=1, persons_per_minute=60), options={"warmup_s": 2.0})
    observed = bench.run(5)
    bench.device.brown_out()
    bench.errors(1)
    observed += bench.run(5)
    assert {o.reason for o in observed if isinstance(o, Trouble)} <= PEOPLE_REASONS
    assert {type(o) for o in observed} <= {Trouble, Alive, Crossing}


def test_a_sensor_that_was_power_cycled_behind_our_back_goes_on() -> None:
    bench = Bench(Scene([Walker(8, "towards")]))
    bench.run(3)
    bench.device.power_cycle()
    assert [way for _, way in crossings(bench.run(12))] == ["towards"]


# Who is there.


def test_what_did_not_take_its_settings_is_told_with_what_was_written_and_what_came_back() -> None:
    bench = Bench()
    bench.device.write(b"\x02\x01", 0.0)
    bench.device.takes_settings = False
    with pytest.raises(FrameError, match=r"wrote 0x00 to register 0x02 .*0x01 came back"):
        bench.driver.open()
    assert bench.driver.frame_errors == 1


def test_a_clock_at_the_configured_address_is_named_and_nothing_is_written_to_it() -> None:
    clock = Ds3231Device()
    bus = SimulatedI2c({0x68: clock}, lambda: 0.0)
    bus.open()
    driver = GridEye(bus, GridEye.Options(address=0x68), lambda: 0)
    with pytest.raises(IdentityError, match=r"0x68: a real-time clock .* address = 0x69"):
        driver.open()
    assert not clock.harmed
    assert driver.frames == 0


@pytest.mark.parametrize("after_s", [0.0, 29.0, 31.0, 86400.0, 40e6, 1e9])
def test_a_clock_is_known_by_whatever_time_it_shows(after_s: float) -> None:
    clock = Ds3231Device()
    bus = SimulatedI2c({0x68: clock}, lambda: after_s)
    bus.open()
    assert is_clock(bus.read(0x68, b"\x00", 19))
    assert GridEye.recognise(bus, 0x68) is None
    assert not clock.harmed


def test_a_grid_eye_at_the_clocks_address_is_no_clock() -> None:
    device = GridEyeDevice(Scene(), seed=1)
    bus = SimulatedI2c({0x68: device}, lambda: 1.0)
    bus.open()
    driver = GridEye(bus, GridEye.Options(address=0x68, warmup_s=0.0), lambda: S)
    driver.open()
    assert driver.poll() == [Alive(S)]


@pytest.mark.parametrize("hour", [0x00, 0x23, 0x41, 0x52, 0x72])
def test_clocks_of_twelve_hours_and_of_another_century_are_clocks(hour: int) -> None:
    assert is_clock(bytes((0x59, 0x00, hour, 0x07, 0x31, 0x92, 0x99)))


@pytest.mark.parametrize(
    "registers",
    [
        bytes(7),
        b"\xff" * 7,
        bytes((0x00, 0x00, 0x00, 0x03, 0x02, 0x00, 0x00)),  # a Grid-EYE with its interrupt on
        bytes((0x5A, 0x00, 0x08, 0x05, 0x15, 0x01, 0x27)),
        bytes((0x30, 0x59, 0x24, 0x05, 0x15, 0x01, 0x27)),
        bytes((0x30, 0x59, 0x40, 0x05, 0x15, 0x01, 0x27)),
        bytes((0x30, 0x59, 0x08, 0x05, 0x32, 0x01, 0x27)),
        b"\x30\x59\x08",
    ],
)
def test_what_shows_no_time_of_day_is_no_clock(registers: bytes) -> None:
    assert not is_clock(registers)


def test_a_scan_says_that_it_looks_like_one_and_changes_nothing() -> None:
    device = GridEyeDevice(Scene(floor_c=-3.5), seed=1)
    wrote: list[bytes] = []
    bus = SimulatedI2c({0x69: device}, lambda: 1.0)
    bus.open()
    bus.write = lambda address, data: wrote.append(data)  # type: ignore[method-assign]
    found = GridEye.recognise(bus, 0x69)
    assert found is not None
    assert "looks like a Grid-EYE" in found.what
    assert "-3.5 degC" in found.what
    assert found.options == {"address": 0x69}
    assert wrote == []
    with pytest.raises(BusError):
        GridEye.recognise(bus, 0x68)


@given(st.binary(min_size=256, max_size=256))
def test_random_registers_are_hardly_ever_a_grid_eye_and_never_an_exception(
    registers: bytes,
) -> None:
    class Noise:
        def read(self, address: int, write: bytes, length: int) -> bytes:
            return registers[write[0] : write[0] + length]

        def write(self, address: int, data: bytes) -> None:
            raise AssertionError("a scan writes nothing")

    found = GridEye.recognise(Noise(), 0x69)
    assert found is None or max(registers[0x81::2]) <= 0x0F


def test_one_that_is_locked_up_is_not_recognised_and_yet_opened() -> None:
    bench = Bench()
    bench.device.brown_out()
    assert GridEye.recognise(bench.bus, 0x69) is None
    bench.driver.open()
    assert any(isinstance(o, Alive) for o in bench.run(1))


# Real recordings.


def recorded(recordings: Path, name: str) -> tuple[int, int, int, int]:
    """Replay one, and return how many crossings it holds, were found, were false, were swapped."""
    capture = (recordings / f"grideye/{name}.regs80_FF.bin").read_bytes()
    labels = json.loads((recordings / "grideye/ground_truth.json").read_text())[name]["events"]
    truth = [(e["mid_frame"] / 10, "towards" if e["label"] == 3 else "away") for e in labels]
    images = [capture[at : at + 128] for at in range(0, len(capture), 128)]
    driver, observed = play(images)
    assert (driver.frames, driver.frame_errors) == (len(images), 0)
    found, false, swapped = compare(truth, crossings(observed))
    return len(truth), found, len(false), swapped


# The floors leave room below what is reached: all 14, 14 and 22, none false.


def test_a_person_with_a_hat_is_counted_every_time(recordings: Path) -> None:
    total, found, false, swapped = recorded(recordings, "1person_hat")
    assert (total, found, swapped) == (14, 14, 0)
    assert false <= 1


def test_a_person_is_counted_nearly_every_time(recordings: Path) -> None:
    total, found, false, swapped = recorded(recordings, "1person")
    assert (total, swapped) == (14, 0)
    assert found >= 13
    assert false <= 1


def test_two_people_are_counted_at_least_nine_times_in_ten(recordings: Path) -> None:
    total, found, false, swapped = recorded(recordings, "2ppl")
    assert (total, swapped) == (22, 0)
    assert found >= 20
    assert false <= 1


def test_nobody_is_counted_where_nobody_is(recordings: Path) -> None:
    assert recorded(recordings, "background") == (0, 0, 0, 0)
