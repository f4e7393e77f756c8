"""Ultrasonic rangers that are asked: what a frame means, and that sound is corrected once."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import (
    REASONS,
    BusError,
    Discovers,
    Driver,
    FrameError,
    HearsTemperature,
    IdentityError,
    Observation,
    Reading,
    SerialDriver,
)
from drivers.buses import LinuxSerial
from drivers.sr50a import (
    DEPTH,
    DISTANCE,
    STALE_S,
    Said,
    Sr50a,
    Sr50aOptions,
    checksum,
    decode,
    identity_of,
    sound_corrected_m,
)
from hil.buses import Pty, SimulatedSerial
from hil.devices.lufft import shm31
from hil.devices.sr50a import EMULATION, Sr50aDevice
from hil.rig import Now

MANUAL = b"\x0233;1838;194;11011;2C\r\n\x03"
S = 1_000_000_000
UNCALIBRATED = ("uncalibrated",)


class Mast:
    """A driver, a line and one or several devices, in a time of their own."""

    def __init__(self, *devices: object, echo: bool = False, **options: object) -> None:
        options.setdefault("mount_height_cm", 350.0)
        self.now = Now()
        self.port = SimulatedSerial(devices, self.now, wait_s=self.now.advance, echo=echo)
        self.port.open()
        self.driver = Sr50a(self.port, Sr50aOptions(**options), self.now.ns)
        as_the_gateway_sees_it: Driver = self.driver
        assert isinstance(self.driver, SerialDriver)
        as_the_gateway_sees_it.open()

    def poll(self) -> list[Reading]:
        self.now.advance(10.0)
        return readings(self.driver.poll())

    def tell(self, celsius: float) -> None:
        self.driver.hear_temperature(celsius, self.now.ns())


def frame(text: str) -> bytes:
    raw = b"\x02" + text.encode() + b";00\r\n\x03"
    return raw[:-5] + b"%02X" % checksum(raw) + raw[-3:]


def passive(**options: object) -> Sr50a:
    now = Now()
    options.setdefault("mount_height_cm", 350.0)
    if options.get("model") != "sr50at":
        options.setdefault("assume_temperature_c", 0.0)
    return Sr50a(SimulatedSerial([], now), Sr50aOptions(**options), now.ns)


def readings(observations: Sequence[Observation]) -> list[Reading]:
    assert all(isinstance(each, Reading) for each in observations)
    return [each for each in observations if isinstance(each, Reading)]


def of(name: str, found: Sequence[Observation]) -> list[float | str | None]:
    return [each.value for each in readings(found) if each.quantity == name]


def depth_of(found: Sequence[Observation]) -> float:
    (depth,) = of("depth_cm", found)
    assert isinstance(depth, float)
    return depth


def why(found: Sequence[Observation]) -> set[tuple[str, ...]]:
    """Return the reasons, after making sure that there are no values."""
    assert found
    assert [each.value for each in readings(found)] == [None] * len(found)
    return {each.reasons for each in readings(found)}


# --- the codec ------------------------------------------------------------------------------------


def test_the_manuals_example_has_its_checksum_and_its_meaning() -> None:
    assert sum(MANUAL) - sum(b"2C") == 0x3D4
    assert checksum(MANUAL) == 0x2C
    said = decode(MANUAL, "mm", ["quality", "diagnostics"])
    assert said == Said("33", "1838", 1.838, 194, None, "11011")
    assert said.invalid_because() is None


def test_sound_in_the_cold_is_slower() -> None:
    assert sound_corrected_m(2.0, -10.0) == pytest.approx(1.963, abs=5e-4)
    assert sound_corrected_m(2.0, 0.0) == 2.0
    # What is said of the price of no correction.
    assert 350.0 / sound_corrected_m(1.0, -10.0) - 350.0 == pytest.approx(6.6, abs=0.05)


@pytest.mark.parametrize(
    ("units", "text", "distance_m"),
    [
        ("m", "1.838", 1.838),
        ("m", "10.002", 10.002),
        ("m", "0.000", None),
        ("cm", "183.80", 1.838),
        ("cm", "1000.20", 10.002),
        ("cm", "000.00", None),
        ("mm", "1838", 1.838),
        ("mm", "-999", None),
    ],
)
def test_each_unit_is_read_and_its_way_to_say_nothing(
    units: str, text: str, distance_m: float | None
) -> None:
    said = decode(frame(f"33;{text};194"), units, ["quality"])  # type: ignore[arg-type]
    assert said.distance_m == pytest.approx(distance_m)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ([], "33;1.838"),
        (["quality"], "33;1.838;194"),
        (["diagnostics", "quality"], "33;1.838;194;11111"),
        (["temperature"], "33;1.838;-4.50"),
        (["quality", "temperature", "diagnostics"], "33;1.838;194;-4.50;11111"),
    ],
)
def test_a_frame_is_read_as_the_device_is_set(fields: list[str], text: str) -> None:
    said = decode(frame(text), "m", fields)  # type: ignore[arg-type]
    assert said.distance_m == 1.838
    assert said.quality == (194 if "quality" in fields else None)
    assert said.temperature_c == (-4.5 if "temperature" in fields else None)
    assert said.diagnostics == ("11111" if "diagnostics" in fields else None)


@pytest.mark.parametrize(
    "text",
    [
        "33;1838;194;11111",  # millimetres
        "33;1.838;194",  # no diagnostics
        "33;1.838;11111",  # no quality
        "33;1.838;194;-4.50;11111",  # a temperature
        "33;1.838;194;-4.50",
        "33;;194;11111",
        "33;1.838;194;11121",
        "33;1.838;1e2;11111",
        "33;nan;194;11111",
        "33; 1.83;194;11111",
        "33",
    ],
)
def test_a_frame_of_another_layout_is_refused_not_guessed_at(text: str) -> None:
    with pytest.raises(FrameError, match="set `units` and `fields`"):
        decode(frame(text), "m", ["quality", "diagnostics"])
    driver = passive()
    assert driver.feed(frame(text) + frame("33;1.838;194;11111"), 0)
    assert (driver.frames, driver.frame_errors) == (1, 1)


def test_the_information_tells_who_it_is_with_or_without_a_checksum() -> None:
    text = "33;01234;1.0;1.7;0A1B2;3C4D5"
    who = "SR50A serial 01234, hardware 1.0, firmware 1.7"
    assert identity_of(frame(text)) == who
    assert identity_of(b"\x02" + text.encode() + b"\r\n\x03") == who
    assert identity_of(MANUAL) == ""


# --- what is a value ------------------------------------------------------------------------------


def test_a_frame_is_a_distance_and_a_depth_below_the_mounting_height() -> None:
    driver = passive(mount_height_cm=350.0, assume_temperature_c=-10.0)
    assert driver.feed(frame("33;2.000;170;11111"), 7) == [
        Reading("distance_cm", 196.3, 7),
        Reading("depth_cm", 153.7, 7),
    ]
    assert (driver.frames, driver.frame_errors) == (1, 0)


def test_without_a_mounting_height_there_is_a_distance_only() -> None:
    driver = passive(mount_height_cm=None)
    assert set(driver.quantities) == {"distance_cm"}
    assert driver.feed(frame("33;2.000;170;11111"), 0) == [Reading("distance_cm", 200.0, 0)]


@pytest.mark.parametrize("quality", [152, 210, 211, 300])
def test_good_and_reduced_echoes_are_values(quality: int) -> None:
    assert of("depth_cm", passive().feed(frame(f"33;2.000;{quality};11111"), 0)) == [150.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("33;0.000;000;11111", "weak_signal"),
        ("33;2.000;000;11111", "weak_signal"),
        ("33;2.000;151;11111", "weak_signal"),
        ("33;2.000;301;11111", "weak_signal"),
        ("33;2.000;600;11111", "weak_signal"),
        ("33;0.000;170;11111", "weak_signal"),
        ("33;-1.000;170;11111", "weak_signal"),
        ("33;2.000;170;01111", "bus_error"),
        ("33;0.200;170;11111", "out_of_range"),
        ("33;20.000;170;11111", "out_of_range"),
    ],
)
def test_what_is_no_measurement_is_no_value_and_says_why(text: str, reason: str) -> None:
    driver = passive()
    assert why(driver.feed(frame(text), 0)) == {(reason,)}
    assert (driver.frames, driver.frame_errors) == (1, 0)


def test_a_watchdog_that_bit_is_no_reason_to_distrust_the_distance() -> None:
    assert of("depth_cm", passive().feed(frame("33;2.000;170;10111"), 0)) == [150.0]


def test_a_distance_without_a_quality_number_is_believed() -> None:
    assert of("depth_cm", passive(fields=[]).feed(frame("33;2.000"), 0)) == [150.0]


def test_a_depth_that_cannot_be_is_none_though_the_distance_is_one() -> None:
    distance, depth = passive(mount_height_cm=100.0).feed(frame("33;2.000;170;11111"), 0)
    assert distance == Reading("distance_cm", 200.0, 0)
    assert depth == Reading("depth_cm", None, 0, ("out_of_range",))


def test_a_distance_that_never_moves_is_stuck_until_it_does() -> None:
    driver = passive(stuck_s=600.0)
    still, moved = frame("33;2.000;170;11111"), frame("33;2.001;170;11111")
    assert of("depth_cm", driver.feed(still, 0)) == [150.0]
    assert of("depth_cm", driver.feed(still, 599 * S)) == [150.0]
    assert why(driver.feed(still, 600 * S)) == {("stuck",)}
    assert of("depth_cm", driver.feed(moved, 601 * S)) == [149.9]


def test_silence_below_may_last() -> None:
    driver = passive(stuck_s=600.0)
    driver.feed(frame("33;0.000;000;11111"), 0)
    assert why(driver.feed(frame("33;0.000;000;11111"), 10**15)) == {("weak_signal",)}


# --- the speed of sound, exactly once -------------------------------------------------------------


def test_without_a_temperature_there_is_neither_a_distance_nor_a_depth() -> None:
    driver = passive(assume_temperature_c=None, temperature_from="air-1")
    assert why(driver.feed(frame("33;2.000;170;11111"), 0)) == {UNCALIBRATED}


def test_what_another_sensor_measured_corrects_for_a_quarter_of_an_hour() -> None:
    driver = passive(assume_temperature_c=None, temperature_from="air-1")
    assert isinstance(driver, HearsTemperature)
    said, stale_ns = frame("33;2.000;170;11111"), round(STALE_S * S)
    driver.hear_temperature(-10.0, 5 * S)
    assert of("distance_cm", driver.feed(said, 5 * S + stale_ns)) == [196.3]
    assert why(driver.feed(said, 6 * S + stale_ns)) == {UNCALIBRATED}
    driver.hear_temperature(0.0, 6 * S + stale_ns)
    assert of("distance_cm", driver.feed(said, 7 * S + stale_ns)) == [200.0]


def test_what_is_assumed_stands_in_only_while_nothing_is_heard() -> None:
    driver = passive(assume_temperature_c=20.0, temperature_from="air-1")
    said = frame("33;2.000;170;11111")
    assert of("distance_cm", driver.feed(said, 0)) == [207.19]
    driver.hear_temperature(-10.0, 0)
    assert of("distance_cm", driver.feed(said, 0)) == [196.3]
    assert of("distance_cm", driver.feed(said, 1000 * S)) == [207.19]


@pytest.mark.parametrize("celsius", [85.0, -999.0, math.nan, math.inf])
def test_no_air_is_so_warm_or_so_cold(celsius: float) -> None:
    driver = passive(assume_temperature_c=None, temperature_from="air-1")
    driver.hear_temperature(-10.0, 0)
    driver.hear_temperature(celsius, 0)
    assert of("distance_cm", driver.feed(frame("33;2.000;170;11111"), 0)) == [196.3]


def test_an_sr50at_has_corrected_already() -> None:
    driver = passive(model="sr50at")
    assert of("distance_cm", driver.feed(frame("33;2.000;170;-10.00;11111"), 0)) == [200.0]
    driver.hear_temperature(-10.0, 0)
    assert of("distance_cm", driver.feed(frame("33;2.000;170;-10.00;11111"), 0)) == [200.0]


def test_an_sr50at_whose_thermometer_is_lost_measures_nothing() -> None:
    driver = passive(model="sr50at")
    assert why(driver.feed(frame("33;2.000;170;-999.00;11111"), 0)) == {UNCALIBRATED}


def test_an_sr50at_set_to_keep_its_temperature_for_itself_needs_another() -> None:
    fields = ["quality", "diagnostics"]
    options = Sr50aOptions(model="sr50at", fields=fields, mount_height_cm=350.0)
    (missing,) = options.missing_to_measure()
    assert missing.startswith("temperature_from")
    driver = passive(model="sr50at", fields=fields, temperature_from="air-1")
    assert why(driver.feed(frame("33;2.000;170;11111"), 0)) == {UNCALIBRATED}
    driver.hear_temperature(-10.0, 0)
    assert of("distance_cm", driver.feed(frame("33;2.000;170;11111"), 0)) == [196.3]


def test_one_that_does_not_correct_is_corrected_with_its_own_thermometer() -> None:
    driver = passive(model="sr50at", corrects_itself=False)
    assert of("distance_cm", driver.feed(frame("33;2.000;170;-10.00;11111"), 0)) == [196.3]
    assert why(driver.feed(frame("33;2.000;170;-999.00;11111"), 0)) == {UNCALIBRATED}


def test_an_sr50a_that_says_999_for_its_temperature_is_what_it_should_be() -> None:
    driver = passive(fields=["quality", "temperature"], assume_temperature_c=-10.0)
    assert of("distance_cm", driver.feed(frame("33;2.000;170;-999.00"), 0)) == [196.3]


def test_an_sr50a_with_a_thermometer_is_an_sr50at_and_is_not_corrected_twice() -> None:
    fields = ["quality", "temperature"]
    device = Sr50aDevice(lambda _: 42.0, fields=fields, has_thermometer=True)
    mast = Mast(device, fields=fields, assume_temperature_c=0.0)
    with pytest.raises(IdentityError, match='set model = "sr50at"'):
        mast.poll()
    driver = passive(fields=fields)
    assert why(driver.feed(frame("33;2.000;170;-10.00"), 0)) == {UNCALIBRATED}


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"model": "sr50"},
        {"address": "3"},
        {"address": "G0"},
        {"address": 33},
        {"mount_height_cm": 0.0},
        {"units": "ft"},
        {"fields": ["quality", "quality"]},
        {"fields": ["snow"]},
        {"temperature_from": ""},
        {"assume_temperature_c": 85.0},
        {"model": "sr50at", "temperature_from": "air-1"},
        {"model": "sr50at", "assume_temperature_c": 0.0},
        {"model": "sr50a", "corrects_itself": True},
        {"model": "sr50at", "fields": ["quality"], "corrects_itself": True},
        {"interval_s": 1.0},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Sr50aOptions(**options)


def test_a_live_device_needs_a_height_and_a_temperature() -> None:
    height, temperature = Sr50aOptions().missing_to_measure()
    assert height.startswith("mount_height_cm")
    assert temperature.startswith("temperature_from")
    for enough in (
        {"temperature_from": "air-1"},
        {"assume_temperature_c": 0.0},
        {"model": "sr50at"},
    ):
        assert Sr50aOptions(mount_height_cm=350.0, **enough).missing_to_measure() == []


def test_two_on_a_line_claim_their_addresses() -> None:
    assert Sr50aOptions().claims() == Sr50aOptions(address="33").claims()
    assert Sr50aOptions().claims() != Sr50aOptions(address="34").claims()
    assert Sr50aOptions(temperature_from="air-1").listens_to() == "air-1"


# --- bytes in any order ---------------------------------------------------------------------------

PARTS = [
    frame("33;2.000;170;11111"),
    frame("34;1.000;170;11111"),
    frame("33;0.000;000;11111"),
    frame("33;01234;1.0;1.7;0A1B2;3C4D5"),
    b"\x0233;2.000;170;11111;00\r\n\x03",
    b"\x0233;2.0",
    b"\x02",
    b"p33\r",
    b"p3",
    b"\xff\x00",
    b"\r\n\x03",
    b"x" * 200,
    b"\x02" + b"1" * 100,
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=12), st.data())
def test_any_slicing_gives_the_same_readings_and_counts(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    whole, sliced = passive(), passive()
    expected = list(whole.feed(stream, 0))
    found: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b], 0)
    assert found == expected
    assert (sliced.frames, sliced.frame_errors) == (whole.frames, whole.frame_errors)


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_garbage_around_it_never_costs_a_good_frame(before: bytes, after: bytes) -> None:
    driver = passive()
    found = [*driver.feed(before, 0), *driver.feed(frame("33;2.000;170;11111"), 1)]
    driver.feed(after, 2)
    assert Reading("depth_cm", 150.0, 1) in found


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)))
def test_random_bytes_never_raise_and_never_pile_up(chunks: list[bytes]) -> None:
    driver = passive()
    for chunk in chunks:
        driver.feed(chunk, 0)
        assert len(driver._framer._rest) <= 64


@settings(deadline=None)
@given(
    st.sampled_from(["m", "cm", "mm"]),
    st.floats(-10.0, 99.0),
    st.integers(0, 999),
    st.floats(-999.0, 999.0),
    st.floats(-50.0, 60.0),
)
def test_nothing_that_can_be_said_leaves_its_range(
    units: str, distance_m: float, quality: int, own_c: float, air_c: float
) -> None:
    shown = {"m": f"{distance_m:.3f}", "cm": f"{100 * distance_m:.2f}"}
    text = shown.get(units, f"{1000 * distance_m:.0f}")
    driver = passive(units=units, assume_temperature_c=air_c)
    warm = passive(model="sr50at", units=units)
    found = [
        *driver.feed(frame(f"33;{text};{quality:03d};11111"), 0),
        *warm.feed(frame(f"33;{text};{quality:03d};{own_c:.2f};11111"), 0),
    ]
    for each in readings(found):
        assert set(each.reasons) <= set(REASONS)
        assert (each.value is None) == bool(each.reasons)
        if each.value is not None:
            quantity = {"distance_cm": DISTANCE, "depth_cm": DEPTH}[each.quantity]
            assert isinstance(each.value, float)
            assert quantity.low is not None
            assert quantity.high is not None
            assert quantity.low <= each.value <= quantity.high


def test_one_wrong_bit_anywhere_is_never_a_value() -> None:
    good = frame("33;2.000;170;11111")
    for at in range(len(good)):
        for bit in range(8):
            wrong = good[:at] + bytes((good[at] ^ 1 << bit,)) + good[at + 1 :]
            driver = passive()
            # Only in the checksum's own letters case does not matter.
            if wrong.upper() != good:
                assert driver.feed(wrong, 0) == []
                assert driver.feed(good, 1)


def test_a_replay_hears_every_device_unless_one_is_named() -> None:
    dialogue = b"p33\r" + frame("33;2.000;170;11111") + b"p34\r" + frame("34;1.000;170;11111")
    both, one = passive(), passive(address="34")
    assert of("distance_cm", both.feed(dialogue, 0)) == [200.0, 100.0]
    assert of("distance_cm", one.feed(dialogue, 0)) == [100.0]
    assert (both.frame_errors, one.frame_errors) == (0, 0)


# --- beside its device ----------------------------------------------------------------------------


def test_it_says_who_it_is() -> None:
    mast = Mast(Sr50aDevice(lambda _: 42.0, serial="04711"), temperature_from="air-1")
    assert mast.driver.identity == "SR50A serial 04711, hardware 1.0, firmware 1.7"


@pytest.mark.parametrize("air_c", [-25.0, -10.0, 0.0, 15.0])
@pytest.mark.parametrize("units", ["m", "cm", "mm"])
def test_an_sr50a_beside_a_thermometer_finds_the_true_depth(air_c: float, units: str) -> None:
    device = Sr50aDevice(lambda _: 42.0, air_c=lambda _: air_c, units=units)
    mast = Mast(device, units=units, temperature_from="air-1")
    assert why(mast.poll()) == {UNCALIBRATED}
    mast.tell(air_c)
    depths = [depth_of(mast.poll()) for _ in range(20)]
    assert statistics.median(depths) == pytest.approx(42.0, abs=0.1)
    assert all(depth == pytest.approx(42.0, abs=0.6) for depth in depths)


@pytest.mark.parametrize("air_c", [-25.0, 0.0, 15.0])
def test_an_sr50at_finds_the_true_depth_alone(air_c: float) -> None:
    device = Sr50aDevice(
        lambda _: 42.0,
        air_c=lambda _: air_c,
        fields=["quality", "temperature", "diagnostics"],
        has_thermometer=True,
    )
    mast = Mast(device, model="sr50at")
    depths = [depth_of(mast.poll()) for _ in range(20)]
    assert statistics.median(depths) == pytest.approx(42.0, abs=0.1)


def test_over_a_winters_day_depth_follows_the_snow_not_the_air() -> None:
    def depth_cm(now_s: float) -> float:
        return 20.0 + now_s / 7200.0

    device = Sr50aDevice(depth_cm, seed=5)
    mast = Mast(device, temperature_from="air-1", interval_s=600.0)
    worst = 0.0
    for _ in range(144):
        mast.now.advance(590.0)
        mast.tell(device.air_c(mast.now()))
        worst = max(worst, abs(depth_of(mast.poll()) - depth_cm(mast.now())))
    assert worst < 0.5


def test_falling_snow_costs_readings_and_makes_none_wrong() -> None:
    device = Sr50aDevice(lambda _: 42.0, snowflake_share=0.3, no_echo_share=0.2, seed=3)
    mast = Mast(device, temperature_from="air-1")
    found: list[Reading] = []
    for _ in range(200):
        mast.tell(device.air_c(mast.now()))
        found += mast.poll()
    depths = of("depth_cm", found)
    true = [depth for depth in depths if depth is not None]
    assert all(depth == pytest.approx(42.0, abs=0.6) for depth in true)
    assert 80 < len(true) < 140
    assert {each.reasons for each in found if each.value is None} == {("weak_signal",)}
    assert mast.driver.frame_errors == 0


def test_the_echo_of_a_two_wire_adapter_is_not_heard_as_anything() -> None:
    mast = Mast(Sr50aDevice(lambda _: 42.0), echo=True, assume_temperature_c=0.0)
    for _ in range(5):
        assert depth_of(mast.poll()) == pytest.approx(42.0, abs=7.0)
    assert (mast.driver.frames, mast.driver.frame_errors) == (6, 0)


def test_a_dead_device_costs_one_question_and_one_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Sr50aDevice(lambda _: 42.0)
    mast = Mast(device, assume_temperature_c=0.0, timeout_s=2.0, echo=True)
    mast.port.line.silence()
    sent: list[bytes] = []
    write = mast.port.write

    def noted(data: bytes) -> None:
        sent.append(data)
        write(data)

    monkeypatch.setattr(mast.port, "write", noted)
    for ask in (mast.driver.poll, mast.driver.open):
        sent.clear()
        before_s = mast.now()
        with pytest.raises(BusError, match="nobody answers at SR50A address 33: check its 12 V"):
            ask()
        assert mast.now() - before_s == pytest.approx(2.0, abs=0.05)
        assert len(sent) == 1
    mast.port.line.heal()
    mast.driver.open()
    assert depth_of(mast.poll()) == pytest.approx(42.0, abs=7.0)


@pytest.mark.parametrize("damage", ["a bit", "the end", "the beginning"])
def test_a_damaged_answer_is_a_frame_error_and_the_next_is_right(damage: str) -> None:
    class Damaged(Sr50aDevice):
        is_damaged = False

        def speak(self, now_s: float) -> bytes:
            said = super().speak(now_s)
            if not said or not self.is_damaged:
                return said
            broken = bytes((*said[:6], said[6] ^ 1, *said[7:]))
            return {"a bit": broken, "the end": said[:-4], "the beginning": said[3:]}[damage]

    device = Damaged(lambda _: 42.0, air_c=lambda _: 0.0)
    mast = Mast(device, assume_temperature_c=0.0)
    device.is_damaged = True
    for ask in (mast.driver.poll, mast.driver.open):
        with pytest.raises(FrameError, match="only damaged answers from SR50A address 33"):
            ask()
    assert mast.driver.frame_errors == 2
    device.is_damaged = False
    mast.driver.open()
    assert depth_of(mast.poll()) == pytest.approx(42.0, abs=0.6)


def test_an_answer_that_comes_too_late_is_not_the_next_ones() -> None:
    depth = [42.0]
    device = Sr50aDevice(lambda _: depth[0], turnaround_s=(3.0, 3.0), air_c=lambda _: 0.0)
    mast = Mast(device, assume_temperature_c=0.0, timeout_s=2.0)
    with pytest.raises(BusError):
        mast.poll()
    depth[0] = 60.0
    device.turnaround_s = (0.5, 0.5)
    assert of("depth_cm", mast.poll()) == [pytest.approx(60.0, abs=0.5)]


def test_one_that_was_switched_off_and_on_measures_again_by_itself() -> None:
    device = Sr50aDevice(lambda _: 42.0, boot_s=1.5, turnaround_s=(0.3, 0.3))
    now = Now()
    port = SimulatedSerial([device], now, wait_s=now.advance)
    port.open()
    driver = Sr50a(
        port, Sr50aOptions(assume_temperature_c=-3.0, mount_height_cm=350.0, timeout_s=1.0), now.ns
    )
    with pytest.raises(BusError):
        driver.open()
    now.advance(2.0)
    driver.open()
    assert depth_of(driver.poll()) == pytest.approx(42.0, abs=7.0)
    device.power_cycle()
    with pytest.raises(BusError):
        driver.poll()
    now.advance(2.0)
    assert depth_of(driver.poll()) == pytest.approx(42.0, abs=7.0)


def test_unplugged_it_is_a_bus_error_until_it_is_opened_again() -> None:
    mast = Mast(Sr50aDevice(lambda _: 42.0), assume_temperature_c=0.0)
    mast.port.unplug()
    with pytest.raises(BusError):
        mast.poll()
    mast.port.plug()
    mast.port.open()
    mast.driver.open()
    assert depth_of(mast.poll()) == pytest.approx(42.0, abs=7.0)


def test_a_wrong_layout_says_what_to_set_and_comes_right_when_it_is_set() -> None:
    mast = Mast(Sr50aDevice(lambda _: 42.0, units="mm"), assume_temperature_c=0.0)
    with pytest.raises(FrameError, match="set `units` and `fields` as the device is set"):
        mast.poll()
    assert mast.driver.frame_errors == 1


def test_several_share_a_line_with_others_and_each_answers_for_itself() -> None:
    first = Sr50aDevice(lambda _: 10.0, address="33", air_c=lambda _: 0.0)
    second = Sr50aDevice(lambda _: 90.0, address="34", air_c=lambda _: 0.0, seed=1)
    mast = Mast(first, second, shm31(), assume_temperature_c=0.0)
    other = Sr50a(
        mast.port,
        Sr50aOptions(address="34", mount_height_cm=350.0, assume_temperature_c=0.0),
        mast.now.ns,
    )
    other.open()
    for _ in range(5):
        assert of("depth_cm", mast.poll()) == [pytest.approx(10.0, abs=0.6)]
        assert of("depth_cm", other.poll()) == [pytest.approx(90.0, abs=0.6)]
    assert (first.asked, second.asked) == (5, 5)


def test_a_scan_finds_the_factorys_address_and_its_neighbour_and_measures_nothing() -> None:
    now = Now()
    devices = [Sr50aDevice(lambda _: 42.0), Sr50aDevice(lambda _: 42.0, address="35")]
    port = SimulatedSerial(devices, now, wait_s=now.advance, echo=True)
    port.open()
    assert isinstance(Sr50a, Discovers)
    found = list(Sr50a.discover(port, now.ns, now.ns() + 10 * S))
    assert [each.options for each in found] == [{"address": "33"}, {"address": "35"}]
    assert found[0].what == ("Campbell SR50A serial 01234, hardware 1.0, firmware 1.7 (address 33)")
    assert [each.asked for each in devices] == [0, 0]
    before_s = now()
    assert len(list(Sr50a.discover(port, now.ns, now.ns() + S // 2))) == 1
    assert now() - before_s <= 0.5


def test_a_temperature_that_somebody_sends_is_forgotten_with_the_power() -> None:
    device = Sr50aDevice(lambda _: 0.0, air_c=lambda _: -10.0, fields=[], noise_mm=0.0)
    said = []
    for prepare in (b"", b"t33;-10.0\r", None):
        if prepare is None:
            device.power_cycle()
        device.hear((prepare or b"") + b"P33\r", 0.0)
        said.append(decode(device.speak(5.0), "m", []).distance_m)
    assert said == [3.566, 3.5, 3.566]


@pytest.mark.parametrize("complaint", sorted(EMULATION.complaints))
def test_each_complaint_of_the_device_is_no_value_and_its_reason(complaint: str) -> None:
    options = Sr50aOptions(**EMULATION.options)
    device = EMULATION.build(options, 1)
    mast = Mast(device, **EMULATION.options)
    low, high = EMULATION.truth["depth_cm"]
    assert low < depth_of(mast.poll()) < high
    expected = EMULATION.complaints[complaint]
    expected.make(device)
    assert why(mast.poll()) == {(expected.reason,)}


def test_the_simulated_sensor_speaks_alike_for_equal_seeds() -> None:
    def spoken(seed: int) -> bytes:
        device = Sr50aDevice(lambda _: 42.0, snowflake_share=0.2, no_echo_share=0.1, seed=seed)
        said = b""
        for second in range(0, 600, 10):
            device.hear(b"p33\r", float(second))
            said += device.speak(second + 5.0)
        return said

    assert spoken(1) == spoken(1)
    assert spoken(1) != spoken(2)


def test_over_a_real_terminal_a_depth_arrives() -> None:
    assert Sr50a.spec.line is not None
    device = Sr50aDevice(lambda _: 42.0, turnaround_s=(0.05, 0.05), air_c=lambda _: -8.0)
    with Pty([device], time.monotonic, echo=True) as pty:
        port = LinuxSerial(pty.path, Sr50a.spec.line)
        port.open()
        assert pty.baud == 9600
        driver = Sr50a(
            port,
            Sr50aOptions(mount_height_cm=350.0, temperature_from="air-1"),
            time.monotonic_ns,
        )
        driver.open()
        driver.hear_temperature(-8.0, time.monotonic_ns())
        assert of("depth_cm", driver.poll()) == [pytest.approx(42.0, abs=0.6)]
        driver.close()
        port.close()
