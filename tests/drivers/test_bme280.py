"""BME280: Bosch's numbers, two other computations of them, a chip that forgets or is another."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import bme280
from drivers.base import (
    BusError,
    Driver,
    Found,
    FrameError,
    IdentityError,
    Observation,
    Reading,
    Recognises,
    Trouble,
)
from drivers.bme280 import Bme280, Bme280Options, Calibration, decode_calibration
from drivers.humidity import dew_point_c
from hil import emulation
from hil.buses import SimulatedI2c
from hil.devices.bme280 import (
    TRIM,
    Bme280Device,
    humidity_of,
    pressure_of,
    t_fine_of,
)

S = 1_000_000_000
BOSCH = Calibration(TRIM.t, TRIM.p, TRIM.h)
ALL = {"air_temperature_c", "humidity_percent", "pressure_hpa", "dew_point_c"}


@dataclass
class Bench:
    """A simulated chip, its driver, and a clock that polls turn on."""

    device: Bme280Device = field(default_factory=Bme280Device)
    options: dict[str, Any] = field(default_factory=dict)
    now_ns: int = 100 * S

    def __post_init__(self) -> None:
        self.bus = SimulatedI2c({0x76: self.device}, lambda: self.now_ns / S)
        self.bus.open()
        self.driver = Bme280(self.bus, Bme280Options(**self.options), lambda: self.now_ns)

    def open(self) -> Bench:
        self.driver.open()
        self.now_ns += S
        return self

    def poll(self) -> Sequence[Observation]:
        try:
            return self.driver.poll()
        finally:
            self.now_ns += S

    def values(self) -> dict[str, Any]:
        return {
            o.quantity: o.value if o.value is not None else o.reasons[0]
            for o in self.poll()
            if isinstance(o, Reading)
        }


def steady(temperature_c: float, humidity: float = 50.0, pascal: float = 101325.0) -> Bench:
    device = Bme280Device(
        temperature_c=lambda _: temperature_c,
        humidity_percent=lambda _: humidity,
        pressure_pa=lambda _: pascal,
        noise_steps=0.0,
    )
    return Bench(device).open()


# Arithmetic.


def test_boschs_worked_example_comes_out(recordings: Path) -> None:
    example = json.loads((recordings / "bme280/bosch_example.json").read_text())
    cal = Calibration(tuple(example["dig_T"]), tuple(example["dig_P"]), ())
    fine = bme280.fine_temperature(example["adc_T"], cal)
    assert int(fine) == example["t_fine"] == 128422
    assert bme280.temperature_c(example["adc_T"], cal) == pytest.approx(25.08, abs=0.005)
    pascal = bme280.pressure_pa(example["adc_P"], fine, cal)
    assert pascal == pytest.approx(example["pressure_Pa"], abs=0.02)


def test_the_published_example_comes_out() -> None:
    fine = bme280.fine_temperature(519888, BOSCH)
    assert int(fine) == t_fine_of(519888, TRIM) == 128422
    assert bme280.temperature_c(519888, BOSCH) == pytest.approx(25.08, abs=0.005)
    assert bme280.pressure_pa(415148, fine, BOSCH) == pytest.approx(100653.27, abs=0.02)
    assert pressure_of(415148, 128422, TRIM) == pytest.approx(100653.25, abs=0.01)


# The middle of each converter is its word for "skipped".
@given(
    st.integers(300_000, 700_000).filter(lambda raw: raw != 0x80000),
    st.integers(250_000, 600_000).filter(lambda raw: raw != 0x80000),
    st.integers(15_000, 50_000).filter(lambda raw: raw != 0x8000),
)
def test_double_precision_and_boschs_integers_agree(
    temperature: int, pressure: int, humidity: int
) -> None:
    fine = bme280.fine_temperature(temperature, BOSCH)
    coarse = t_fine_of(temperature, TRIM)
    assert fine == pytest.approx(coarse, abs=40)  # 0.008 degC
    assert bme280.pressure_pa(pressure, coarse, BOSCH) == pytest.approx(
        pressure_of(pressure, coarse, TRIM), abs=0.5
    )
    assert bme280.humidity_percent(humidity, coarse, BOSCH) == pytest.approx(
        humidity_of(humidity, coarse, TRIM), abs=0.02
    )


# E4h and E6h are signed; H3 is kept below 128, which the library takes for a signed number.
trims = st.tuples(
    st.binary(min_size=26, max_size=26),
    st.binary(min_size=7, max_size=7).map(
        lambda high: high[:2] + bytes((high[2] & 127,)) + high[3:]
    ),
    st.binary(min_size=8, max_size=8),
)


@given(trims)
def test_an_independent_library_computes_the_same(drawn: tuple[bytes, bytes, bytes]) -> None:
    low, high, registers = drawn
    theirs = import_module("bme280")
    try:
        cal = decode_calibration(low, high)
    except FrameError:
        return
    memory = {0x88 + at: byte for at, byte in enumerate(low)}
    memory |= {0xE1 + at: byte for at, byte in enumerate(high)}
    bus = SimpleNamespace(
        read_word_data=lambda _, at: memory[at] | memory[at + 1] << 8,
        read_byte_data=lambda _, at: memory[at],
    )
    params = theirs.load_calibration_params(bus)
    assert (params.dig_H4, params.dig_H5, params.dig_H6) == cal.h[3:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for the time in an old way
        expected = theirs.compensated_readings(theirs.uncompensated_readings(registers), params)
    sample = bme280.decode_sample(registers)
    if sample.temperature == bme280.SKIPPED:
        return
    fine = bme280.fine_temperature(sample.temperature, cal)
    assert bme280.temperature_c(sample.temperature, cal) == pytest.approx(expected.temperature)
    pascal = bme280.pressure_pa(sample.pressure, fine, cal)
    if pascal is not None:
        assert pascal / 100 == pytest.approx(expected.pressure, rel=1e-6, abs=1e-3)
    percent = bme280.humidity_percent(sample.humidity, fine, cal)
    if percent is not None:
        assert percent == pytest.approx(expected.humidity, rel=1e-6, abs=1e-6)


def test_the_two_humidity_words_that_share_a_byte_are_signed() -> None:
    low = bytes.fromhex("706B436718FC") + bytes.fromhex("7D8E") + bytes(18)
    cal = decode_calibration(low, bytes.fromhex("720100FF2FFE1E"))
    assert cal.h == (0, 370, 0, -1, -30, 30)


def test_skipped_is_no_value() -> None:
    assert bme280.temperature_c(0x80000, BOSCH) is None
    assert bme280.pressure_pa(0x80000, 128422.0, BOSCH) is None
    assert bme280.humidity_percent(0x8000, 128422.0, BOSCH) is None


@pytest.mark.parametrize(
    ("low", "high", "what"),
    [
        (bytes(26), bytes(7), "empty calibration"),
        (b"\xff" * 26, b"\xff" * 7, "empty calibration"),
        (b"\x01" * 25, bytes(7), "25 and 7 bytes"),
        (b"\x01" * 26, bytes(6), "26 and 6 bytes"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(low: bytes, high: bytes, what: str) -> None:
    with pytest.raises(FrameError, match=what):
        decode_calibration(low, high)


# Its life.


def test_a_healthy_chip_measures_within_the_truth() -> None:
    entry = emulation.load("bme280")
    options = Bme280Options.model_validate(entry.options)
    bench = Bench(entry.build(options, 7)).open()
    for _ in range(300):
        bench.now_ns += 900 * S
        values = bench.values()
        assert set(values) == ALL == set(entry.truth)
        for name, value in values.items():
            low, high = entry.truth[name]
            assert low <= value <= high
    assert (bench.driver.frames, bench.driver.frame_errors) == (300, 0)


@pytest.mark.parametrize(
    ("air_c", "percent", "pascal"),
    [(-35.0, 20.0, 90000.0), (0.0, 95.0, 101325.0), (55.0, 10.0, 105000.0)],
)
def test_what_is_true_is_what_is_read(air_c: float, percent: float, pascal: float) -> None:
    assert steady(air_c, percent, pascal).values() == {
        "air_temperature_c": pytest.approx(air_c, abs=0.01),
        "humidity_percent": pytest.approx(percent, abs=0.05),
        "pressure_hpa": pytest.approx(pascal / 100, abs=0.05),
        "dew_point_c": pytest.approx(dew_point_c(air_c, percent), abs=0.1),
    }


def test_one_conversion_a_poll_and_its_readings_carry_the_time_of_its_start() -> None:
    bench = Bench().open()
    for poll in range(10):
        times = {o.at_boot_ns for o in bench.poll()}
        assert times == {(100 + poll) * S}
    assert bench.device.conversions == 10


def test_polled_too_soon_it_says_so_and_does_not_start_again() -> None:
    bench = Bench()
    bench.driver.open()
    assert bench.driver.poll() == [Trouble("warmup", bench.now_ns)]
    bench.now_ns += S
    assert len(bench.poll()) == 4
    assert bench.device.conversions == 1


def test_a_chip_that_lost_its_power_is_set_up_again_and_nothing_skipped_is_a_value() -> None:
    bench = Bench().open()
    bench.poll()
    bench.device.power_cycle()
    with pytest.raises(BusError, match="Remote I/O error"):
        bench.poll()  # boots
    with pytest.raises(FrameError, match=r"settings are gone \(was it without power\?\): F2 00h"):
        bench.poll()
    assert set(bench.values()) == ALL
    assert bench.driver.frame_errors == 1


def test_a_conversion_without_end_is_an_error_and_started_again() -> None:
    bench = Bench().open()
    bench.device.is_frozen = True
    with pytest.raises(FrameError, match="goes on for ever"):
        bench.poll()
    bench.device.is_frozen = False
    assert set(bench.values()) == ALL


def test_skipped_values_are_out_of_range() -> None:
    bench = Bench().open()
    bench.device.is_skipping = True
    bench.poll()
    assert bench.values() == dict.fromkeys(ALL, "out_of_range")


@pytest.mark.parametrize("air_c", [-45.0, 90.0])
def test_air_that_the_chip_cannot_measure_is_no_value(air_c: float) -> None:
    assert steady(air_c).values()["air_temperature_c"] == "out_of_range"


@pytest.mark.parametrize("pascal", [25000.0, 115000.0])
def test_pressure_that_the_chip_cannot_measure_is_no_value(pascal: float) -> None:
    assert steady(20.0, pascal=pascal).values()["pressure_hpa"] == "out_of_range"


def test_perfectly_dry_air_has_no_dew_point() -> None:
    values = steady(20.0, humidity=0.0).values()
    assert values["humidity_percent"] == 0.0
    assert values["dew_point_c"] == "out_of_range"


def test_a_chip_that_repeats_itself_too_long_gives_no_values() -> None:
    bench = steady(20.0)
    bench.driver = Bme280(bench.bus, Bme280Options(stuck_s=10.0), lambda: bench.now_ns)
    bench.open()
    said = [bench.values()["pressure_hpa"] for _ in range(12)]
    assert said[:10] == [pytest.approx(1013.25, abs=0.05)] * 10
    assert said[10:] == ["stuck", "stuck"]


# Who it is.


def test_a_bmp280_in_its_place_is_named_with_what_to_do() -> None:
    bench = Bench(Bme280Device(chip_id=0x58))
    with pytest.raises(
        IdentityError,
        match=r'0x76: BMP280 \(chip id 0x58\) answers, not a BME280: set chip = "bmp280"',
    ):
        bench.driver.open()


def test_a_bmp280_that_is_expected_measures_what_it_can() -> None:
    bench = Bench(Bme280Device(chip_id=0x58), {"chip": "bmp280"})
    assert set(bench.driver.quantities) == {"air_temperature_c", "pressure_hpa"}
    bench.open()
    assert bench.driver.identity == "BMP280 (chip id 0x58)"
    values = bench.values()
    assert set(values) == set(bench.driver.quantities)
    assert all(isinstance(value, float) for value in values.values())


@pytest.mark.parametrize(("chip_id", "name"), [(0x61, "BME680"), (0x12, "an unknown chip")])
def test_another_chip_is_refused(chip_id: int, name: str) -> None:
    with pytest.raises(IdentityError, match=f"{name} .* check the board and its address"):
        Bench(Bme280Device(chip_id=chip_id)).driver.open()


def test_nobody_there_is_a_bus_error_and_who_comes_back_is_read_again() -> None:
    bench = Bench().open()
    bench.bus.nack(0x76)
    for call in (bench.driver.poll, bench.driver.open):
        with pytest.raises(BusError, match="0x76: Remote I/O error"):
            call()
    bench.driver.close()
    bench.bus.heal()
    assert set(bench.open().values()) == ALL


def test_settings_that_do_not_stay_are_refused_with_what_came_back() -> None:
    class Stubborn(Bme280Device):
        def _set(self, register: int, value: int, now_s: float) -> None:
            if register != 0xF2:
                super()._set(register, value, now_s)

    with pytest.raises(FrameError, match=r"read back F2 00h, F4 24h, F5 00h in place of 01h"):
        Bench(Stubborn()).driver.open()


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=60), st.booleans())
def test_whatever_the_bytes_only_promised_things_come_out(
    answers: list[bytes], settled: bool
) -> None:
    class Noise:
        turn = 0

        def read(self, address: int, write: bytes, length: int) -> bytes:
            self.turn += 1
            said = answers[self.turn % len(answers)]
            if not settled:
                return said[:length]
            said = said.ljust(length, b"\x55")[:length]  # a chip of any calibration
            if write == b"\xf2":
                return bytes((0x01, 0x00, 0x24, 0x00, 0x00)) + said[5:]
            return b"\x60" if write == b"\xd0" else said

        def write(self, address: int, data: bytes) -> None:
            pass

    now = iter(range(0, 10**15, S))
    driver = Bme280(Noise(), Bme280Options(), lambda: next(now))
    for call in (driver.open, *[driver.poll] * 10):
        with suppress(BusError, FrameError):
            for seen in call() or ():
                assert isinstance(seen, Trouble | Reading)
                if isinstance(seen, Reading) and seen.value is not None:
                    quantity = driver.quantities[seen.quantity]
                    assert quantity.low <= seen.value <= quantity.high


def test_a_scan_knows_both_chips_and_no_other() -> None:
    assert isinstance(Bme280, Recognises)
    bench = Bench()
    as_the_gateway_sees_it: Driver = bench.driver
    assert as_the_gateway_sees_it.spec.addresses == (0x76, 0x77)
    found = {
        chip_id: Bme280.recognise(Bench(Bme280Device(chip_id=chip_id)).bus, 0x76)
        for chip_id in (0x60, 0x58, 0x61)
    }
    assert found == {
        0x60: Found("BME280 (chip id 0x60)", {"address": 0x76, "chip": "bme280"}),
        0x58: Found("BMP280 (chip id 0x58)", {"address": 0x76, "chip": "bmp280"}),
        0x61: None,
    }
    assert Bme280Options(address=0x77).claims() == ["i2c address 0x77"]
