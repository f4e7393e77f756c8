from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import BusError, FrameError, IdentityError, Observation, Reading
from drivers.md30 import (
    CONDITION,
    QUANTITIES,
    SEND_DATA,
    Frame,
    Md30,
    Md30Options,
    decode,
    encode,
    frame_of,
    product,
)
from hil.buses import SimulatedSerial
from hil.devices.md30 import Md30Device, winter_state
from hil.rig import Now

REQUEST = bytes.fromhex("AB 00 01 20 0E 02 00 00 00 97 9E")
# As the maker prints them: the unit's id, and an offset.
PARAMETERS = (
    bytes.fromhex("AB 01 00 40 10 05 00 44 00 13 00 01 F0 85"),
    bytes.fromhex("AB 01 00 40 11 08 00 44 00 41 00 00 00 00 00 79 1E"),
)


def report_of(
    *,
    warnings: int = 0,
    errors: int = 0,
    numbers: Sequence[float] = (1.0, 80.0, -2.0, -1.8, 0.5),
    state: int = 3,
    layers: Sequence[float] = (0.65, 0.3, 0.0, 0.0),
) -> bytes:
    """An answer of unit 1 with one report."""
    parts = (1, warnings, errors, *numbers, state, 1, *layers, 0, 0)
    return encode(Frame(1, 0, SEND_DATA, 1, b"C\0" + struct.pack("<3H5f2B4f2I", *parts)))


def passive(**options: object) -> Md30:
    now = Now()
    return Md30(SimulatedSerial([], now), Md30Options(**options), now.ns)


def values(seen: Sequence[Observation]) -> dict[str, object]:
    return {each.quantity: each.value for each in seen if isinstance(each, Reading)}


def asking(*devices: Md30Device, **options: object) -> tuple[Md30, SimulatedSerial, Now]:
    now = Now()
    port = SimulatedSerial(devices, now, wait_s=now.advance)
    port.open()
    return Md30(port, Md30Options(**options), now.ns), port, now


def test_the_makers_question_and_answer(recordings: Path) -> None:
    example = json.loads((recordings / "md30/doc_example.json").read_text())
    assert bytes.fromhex(example["request"]) == REQUEST
    assert encode(Frame(0, 1, SEND_DATA, 14, bytes(2))) == REQUEST
    driver = passive()
    found = values(driver.feed(bytes.fromhex(example["response"]), 0))
    assert found == {
        "air_temperature_c": pytest.approx(23.97, abs=0.005),
        "humidity_percent": pytest.approx(49.34, abs=0.005),
        "dew_point_c": pytest.approx(12.71, abs=0.005),
        "surface_temperature_c": pytest.approx(32.71, abs=0.005),
        "condition": "dry",
        "condition_code": "1",
        "friction": pytest.approx(0.82, abs=0.005),
        "water_film_mm": 0.0,
        "ice_mm": 0.0,
        "snow_mm": 0.0,
    }
    assert (driver.frames, driver.frame_errors) == (1, 0)


@pytest.mark.parametrize("vector", PARAMETERS)
def test_the_makers_other_answers_are_frames_and_no_readings(vector: bytes) -> None:
    driver = passive()
    assert driver.feed(vector, 0) == []
    assert (driver.frames, driver.frame_errors) == (1, 0)
    assert encode(frame_of(vector)) == vector


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "fault"),
        (1, "dry"),
        (2, "moist"),
        (3, "wet"),
        (4, "wet_salt"),
        (5, "frost"),
        (6, "snow"),
        (7, "ice"),
        (8, "wet_salt"),
        (9, "slush"),
        (10, "unknown"),
        (101, "dry"),
        (107, "ice"),
        (209, "slush"),
        (255, "unknown"),
    ],
)
def test_a_code_becomes_a_class_with_or_without_an_alarm_and_is_kept(code: int, name: str) -> None:
    found = values(passive().feed(report_of(state=code), 0))
    assert (found["condition"], found["condition_code"]) == (name, str(code))
    assert name in CONDITION.classes


@pytest.mark.parametrize(
    ("bit", "lost"),
    [
        (0, {"air_temperature_c"}),
        (1, {"humidity_percent"}),
        (2, {"dew_point_c"}),
        (3, set()),  # the frost point is not reported
        (4, {"surface_temperature_c"}),
        (5, {"condition", "condition_code"}),
        (6, set()),  # nor the state after EN 15518
        (7, {"friction"}),
        (8, {"water_film_mm"}),
        (9, {"ice_mm"}),
        (10, {"snow_mm"}),
    ],
)
@pytest.mark.parametrize("which", ["warnings", "errors"])
def test_what_the_unit_doubts_is_no_value_and_the_others_are(
    bit: int, lost: set[str], which: str
) -> None:
    found = passive().feed(report_of(**{which: 1 << bit}), 5)
    assert {name for name, value in values(found).items() if value is None} == lost
    assert {each.reasons for each in found if each.value is None} <= {("weak_signal",)}
    assert set(values(found)) == {quantity.name for quantity in QUANTITIES}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e30, -273.0])
def test_a_number_that_no_unit_can_mean_is_no_value(number: float) -> None:
    found = passive().feed(report_of(numbers=(number,) * 5, layers=(number,) * 4), 0)
    assert {name for name, value in values(found).items() if value is not None} == {
        "condition",
        "condition_code",
    }
    assert {each.reasons for each in found if each.value is None} == {("out_of_range",)}


def test_an_error_code_in_place_of_data_is_no_value() -> None:
    driver = passive()
    found = driver.feed(encode(Frame(1, 0, SEND_DATA, 3, b"C\x03")), 0)
    assert values(found) == dict.fromkeys(each.name for each in QUANTITIES)
    assert (driver.frames, driver.frame_errors) == (1, 0)


@pytest.mark.parametrize("data", [b"", b"C", b"C\0", b"C\0" + bytes(51), b"C\0" + bytes(53)])
def test_a_report_not_built_so_is_a_frame_error(data: bytes) -> None:
    frame = Frame(1, 0, SEND_DATA, 1, data)
    with pytest.raises(FrameError):
        decode(frame)
    driver = passive()
    assert driver.feed(encode(frame), 0) == []
    assert driver.frame_errors == 1


def test_each_flipped_bit_is_noticed_and_the_next_report_is_found() -> None:
    good = report_of()
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        driver = passive()
        found = values(driver.feed(bytes(damaged) + good * 6, 0))  # a length grown swallows some
        assert found["condition"] == "wet"
        assert driver.frame_errors == 1


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300) | st.just(b"\xab\x01\x00\x20\x01\xff\x00")))
def test_random_bytes_never_raise_and_never_pile_up(chunks: list[bytes]) -> None:
    driver = passive()
    for chunk in chunks:
        driver.feed(chunk, 0)
        assert len(driver._framer._rest) < 264


def test_a_stream_is_decoded_where_it_is_only_heard_and_is_no_answer_where_one_asks() -> None:
    device = Md30Device()
    driver, port, now = asking(device)
    driver.open()
    port.write(encode(Frame(0, 1, SEND_DATA, 250, struct.pack("<H", 100))))
    now.advance(1.05)
    heard = passive()
    seen = heard.feed(port.read(0.0), 0)
    assert heard.frames == 11
    assert len(seen) == 11 * len(QUANTITIES)
    device.state = 6
    device.turnaround_s = 0.25
    assert values(driver.poll())["condition"] == "snow"
    now.advance(5.0)
    assert port.read(0.0) == b""  # to be asked once ends the stream


def test_at_the_start_the_unit_says_who_it_is() -> None:
    driver, _, _ = asking(Md30Device())
    driver.open()
    assert driver.identity == "MD30, R2730011, 1.1.0"


def test_another_device_of_the_maker_is_named_before_it_is_used() -> None:
    device = Md30Device()
    device.product = [("Product Name", "DSC211")]
    driver, _, _ = asking(device)
    with pytest.raises(IdentityError, match="MD30 unit 1 is a DSC211"):
        driver.open()


@pytest.mark.parametrize(("parameter", "unit"), [(0x30, "degC"), (0x31, "mm")])
def test_a_unit_that_reports_in_other_units_is_refused_until_it_is_set_back(
    parameter: int, unit: str
) -> None:
    device = Md30Device()
    device.parameters[parameter] = b"\x01"
    driver, _, _ = asking(device)
    with pytest.raises(FrameError, match=f"does not report in {unit}: .* 0x{parameter:02X} is 1;"):
        driver.open()
    device.parameters[parameter] = b"\x00"
    driver.open()
    del device.parameters[parameter]  # an older one, that does not know of any other
    driver.open()
    assert driver.poll()


@pytest.mark.parametrize("data", [b"D\0\x01", b"D\0\x01\x05abc", b"D\0\x02\x01a\x01b\x01c"])
def test_product_information_that_ends_early_is_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        product(data)


def test_values_follow_the_truth_through_a_day() -> None:
    device = Md30Device(seed=2)
    driver, _, now = asking(device)
    driver.open()
    names = {3: "wet", 5: "frost", 7: "ice"}
    for _ in range(48):
        true_c = device.surface_c(now.s)
        found = values(driver.poll())
        assert found["surface_temperature_c"] == pytest.approx(true_c, abs=0.3)
        assert found["condition"] == names[winter_state(true_c)]
        now.advance(1800.0)


def test_a_unit_that_repeats_one_report_for_ten_minutes_is_stuck_and_one_at_rest_is_not() -> None:
    device = Md30Device(surface_c=lambda _: -3.0)
    driver, _, now = asking(device)
    driver.open()
    for _ in range(13):
        assert None not in values(driver.poll()).values()
        now.advance(100.0)
    device.is_frozen = True
    driver.poll()
    now.advance(601.0)
    stuck = driver.poll()
    assert set(values(stuck).values()) == {None}
    assert {each.reasons for each in stuck} == {("stuck",)}
    device.is_frozen = False
    assert None not in values(driver.poll()).values()


def test_a_unit_that_was_powered_anew_is_silent_while_it_boots_and_then_measures() -> None:
    device = Md30Device()
    driver, _, now = asking(device)
    driver.open()
    assert driver.poll()
    device.power_cycle(now.s)
    with pytest.raises(BusError):
        driver.poll()
    now.advance(2.0)
    driver.open()
    assert None not in values(driver.poll()).values()


def test_only_the_configured_unit_is_listened_to() -> None:
    driver, _, _ = asking(Md30Device(unit=1), Md30Device(unit=2, surface_c=lambda _: 9.0), unit=2)
    driver.open()
    assert values(driver.poll())["surface_temperature_c"] == pytest.approx(9.0, abs=0.5)
    alone, _, _ = asking(Md30Device(unit=1), unit=2)
    with pytest.raises(BusError):
        alone.open()


@pytest.mark.parametrize(
    "options", [{"unit": 0}, {"unit": 254}, {"unit": 3, "own_id": 3}, {"timeout_s": 0.0}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Md30Options(**options)
    assert Md30Options().claims() == ["MD30 unit 1"]
