from __future__ import annotations

import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import BusError, Driver, Observation, Reading, SerialDriver
from drivers.buses import LinuxSerial
from drivers.maxbotix import MaxBotix, MaxBotixOptions
from hil.buses import Pty, SimulatedSerial
from hil.devices.maxbotix import BANNER, MaxBotixDevice
from hil.rig import Now


def on(port: SimulatedSerial, now: Now, **options: object) -> MaxBotix:
    options.setdefault("mount_height_cm", 350.0)
    driver = MaxBotix(port, MaxBotixOptions(**options), now.ns)
    as_the_gateway_sees_it: Driver = driver
    assert isinstance(driver, SerialDriver)
    as_the_gateway_sees_it.open()
    return driver


def passive(**options: object) -> MaxBotix:
    now = Now()
    return on(SimulatedSerial([], now, wait_s=now.advance), now, **options)


def of(quantity: str, observations: list[Observation]) -> list[float | str | None]:
    return [
        each.value
        for each in observations
        if isinstance(each, Reading) and each.quantity == quantity
    ]


def test_a_frame_is_a_distance_and_a_depth_below_the_mounting_height() -> None:
    driver = passive(mount_height_cm=350.0)
    assert driver.feed(b"R1234\r", 7) == [
        Reading("distance_cm", 123.4, 7),
        Reading("depth_cm", 226.6, 7),
    ]
    assert (driver.frames, driver.frame_errors) == (1, 0)


def test_without_a_mounting_height_there_is_a_distance_only_and_it_is_asked_for() -> None:
    driver = passive(mount_height_cm=None)
    assert driver.feed(b"R1234\r", 0) == [Reading("distance_cm", 123.4, 0)]
    assert set(driver.quantities) == {"distance_cm"}
    (missing,) = MaxBotixOptions().missing_to_measure()
    assert missing.startswith("mount_height_cm")
    assert MaxBotixOptions(mount_height_cm=350.0).missing_to_measure() == []


@pytest.mark.parametrize(
    ("options", "frame", "reason"),
    [
        ({"range_m": 5}, b"R5000\r", "weak_signal"),
        ({"range_m": 5}, b"R5001\r", "out_of_range"),
        ({"range_m": 5}, b"R9999\r", "out_of_range"),
        ({"range_m": 10}, b"R9999\r", "weak_signal"),
        ({"min_cm": 50.0}, b"R0500\r", "obstructed"),
        ({"min_cm": 50.0}, b"R0000\r", "obstructed"),
        ({"min_cm": 30.0}, b"R0300\r", "obstructed"),
    ],
)
def test_what_the_sensor_says_instead_of_a_distance_is_no_value(
    options: dict[str, object], frame: bytes, reason: str
) -> None:
    driver = passive(**options)
    assert driver.feed(frame, 0) == [
        Reading("distance_cm", None, 0, (reason,)),
        Reading("depth_cm", None, 0, (reason,)),
    ]
    assert (driver.frames, driver.frame_errors) == (1, 0)


def test_a_distance_that_never_moves_is_stuck_until_it_does() -> None:
    driver = passive(stuck_s=600.0)
    for second in range(600):
        assert of("distance_cm", list(driver.feed(b"R1234\r", second * 10**9))) == [123.4]
    assert driver.feed(b"R1234\r", 600 * 10**9) == [
        Reading("distance_cm", None, 600 * 10**9, ("stuck",)),
        Reading("depth_cm", None, 600 * 10**9, ("stuck",)),
    ]
    assert of("distance_cm", list(driver.feed(b"R1235\r", 601 * 10**9))) == [123.5]


def test_what_lies_far_below_the_ground_is_a_distance_and_no_depth() -> None:
    driver = passive(mount_height_cm=100.0)
    assert driver.feed(b"R1600\r", 0) == [
        Reading("distance_cm", 160.0, 0),
        Reading("depth_cm", None, 0, ("out_of_range",)),
    ]


def test_an_empty_sky_may_last() -> None:
    driver = passive(stuck_s=600.0)
    driver.feed(b"R5000\r", 0)
    (distance, _) = driver.feed(b"R5000\r", 10**15)
    assert distance.reasons == ("weak_signal",)


@pytest.mark.parametrize(
    ("options", "frame", "distance_cm"),
    [
        ({"range_m": 5}, b"R4999\r", 499.9),
        ({"range_m": 10}, b"R5000\r", 500.0),
        ({"min_cm": 50.0}, b"R0501\r", 50.1),
        ({"min_cm": 30.0}, b"R0500\r", 50.0),
    ],
)
def test_just_inside_the_range_is_a_value(
    options: dict[str, object], frame: bytes, distance_cm: float
) -> None:
    assert of("distance_cm", list(passive(**options).feed(frame, 0))) == [distance_cm]


@pytest.mark.parametrize(
    "line",
    [
        b"\xffR1234",
        b"R12\xff34",
        b"R1234\xff",
        b"R123",
        b"R12345",
        b"1234",
        b"r1234",
        b"R1234R1235",
        b"\nR1234",
        b"R1234\n",
        b" R1234",
        b"R12.4",
        b"R-123",
        "R１２３４".encode(),
        b"TempI",
        b"",
        b"x" * 200,
    ],
)
def test_a_line_that_is_not_exactly_a_frame_is_an_error_and_the_next_one_counts(
    line: bytes,
) -> None:
    driver = passive()
    found = driver.feed(line + b"\rR1000\r", 0)
    assert of("distance_cm", list(found)) == [100.0]
    assert (driver.frames, driver.frame_errors) == (1, 1)


@settings(deadline=None)
@given(st.data())
def test_any_slicing_gives_the_same_readings_and_counts(data: st.DataObject) -> None:
    parts = st.sampled_from([b"R1234\r", b"R5000\r", b"\xff", b"R12", BANNER, b"\r", b"x" * 70])
    stream = b"".join(data.draw(st.lists(parts)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    whole, sliced = passive(), passive()
    expected = list(whole.feed(stream, 0))
    found: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b], 0)
    assert found == expected
    assert (sliced.frames, sliced.frame_errors) == (whole.frames, whole.frame_errors)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)))
def test_random_bytes_never_raise_and_never_pile_up(chunks: list[bytes]) -> None:
    driver = passive()
    for chunk in chunks:
        driver.feed(chunk, 0)
        assert len(driver._framer._rest) <= 64


def test_a_poll_takes_what_was_said_since_the_last_at_the_time_of_taking() -> None:
    now = Now()
    port = SimulatedSerial([MaxBotixDevice(lambda _: 42.0)], now, wait_s=now.advance)
    port.open()
    driver = on(port, now)
    driver.poll()
    now.advance(10.0)
    at_boot_ns = now.ns()
    found = list(driver.poll())
    assert 66 <= len(of("depth_cm", found)) <= 69
    assert {each.at_boot_ns for each in found} == {at_boot_ns}
    assert statistics.median(of("depth_cm", found)) == pytest.approx(42.0, abs=0.2)


def test_stray_bytes_and_lost_echoes_leave_the_rest_true() -> None:
    now = Now()
    device = MaxBotixDevice(lambda _: 42.0, rogue_share=0.2, no_target_share=0.2, seed=3)
    port = SimulatedSerial([device], now, wait_s=now.advance)
    port.open()
    driver = on(port, now)
    now.advance(100.0)
    depths = of("depth_cm", list(driver.poll()))
    true = [depth for depth in depths if depth is not None]
    assert all(depth == pytest.approx(42.0, abs=1.5) for depth in true)
    assert len(true) > 300
    assert len(depths) - len(true) > 50
    assert driver.frame_errors > 50


def test_snow_up_to_the_sensor_is_obstructed_not_deep() -> None:
    now = Now()
    port = SimulatedSerial([MaxBotixDevice(lambda _: 320.0)], now, wait_s=now.advance)
    port.open()
    driver = on(port, now)
    now.advance(1.0)
    driver.poll()
    now.advance(1.0)
    found = driver.poll()
    assert found
    assert {each.reasons for each in found} == {("obstructed",)}


def test_a_short_silence_is_nothing_and_a_long_one_is_a_bus_error() -> None:
    now = Now()
    device = MaxBotixDevice(lambda _: 42.0)
    port = SimulatedSerial([device], now, wait_s=now.advance)
    port.open()
    driver = on(port, now)
    assert driver.poll() or driver.poll()
    port.line.silence()
    for _ in range(8):
        now.advance(1.0)
        assert driver.poll() == []
    now.advance(3.0)
    with pytest.raises(BusError, match=r"^no byte for 1\d s: "):
        driver.poll()
    driver.open()  # the port was opened anew: the count begins again
    assert driver.poll() == []
    port.line.heal()
    now.advance(1.0)
    assert driver.poll()


def test_a_driver_that_was_never_opened_counts_silence_from_its_first_poll() -> None:
    now = Now()
    port = SimulatedSerial([], now, wait_s=now.advance)
    port.open()
    driver = MaxBotix(port, MaxBotixOptions(mount_height_cm=350.0), now.ns)
    assert driver.poll() == []
    now.advance(11.0)
    with pytest.raises(BusError):
        driver.poll()


@pytest.mark.parametrize(
    "options", [{"range_m": 7}, {"mount_height_cm": 0.0}, {"rate_hz": 0.0}, {"min_mm": 300}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MaxBotixOptions(**options)


def test_the_simulated_sensor_speaks_alike_for_equal_seeds_whatever_the_steps() -> None:
    def spoken(seed: int, step_s: float) -> bytes:
        device = MaxBotixDevice(lambda _: 42.0, rogue_share=0.1, no_target_share=0.1, seed=seed)
        return b"".join(device.speak(i * step_s) for i in range(round(60.0 / step_s) + 1))

    assert spoken(1, 0.5) == spoken(1, 20.0)
    assert spoken(1, 0.5) != spoken(2, 0.5)


def test_over_a_real_terminal_the_banner_passes_and_depths_arrive() -> None:
    assert MaxBotix.spec.line is not None
    device = MaxBotixDevice(lambda _: 42.0, rate_hz=100.0)
    with Pty([device], time.monotonic) as pty:
        port = LinuxSerial(pty.path, MaxBotix.spec.line)
        port.open()
        assert pty.baud == 9600
        driver = MaxBotix(port, MaxBotixOptions(mount_height_cm=350.0), time.monotonic_ns)
        driver.open()
        found: list[Observation] = []
        while len(found) < 20:
            found += driver.poll()
        assert all(depth == pytest.approx(42.0, abs=2.0) for depth in of("depth_cm", found))
        driver.close()
        port.close()
