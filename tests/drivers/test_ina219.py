"""INA219: the data sheet's arithmetic, and a chip that overflows, forgets, or is another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

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
from drivers.ina219 import Ina219, Ina219Options, calibration, current_step_a, gain, supply_v
from hil import emulation
from hil.buses import SimulatedI2c
from hil.devices.ina219 import Ina219Device, Ina3221Device

S = 1_000_000_000


@dataclass
class Bench:
    """A simulated chip, its driver, and a clock that polls turn on."""

    device: Any = field(default_factory=lambda: Ina219Device(noise_steps=0.0))
    options: dict[str, Any] = field(default_factory=dict)
    now_ns: int = 100 * S

    def __post_init__(self) -> None:
        self.bus = SimulatedI2c({0x40: self.device}, lambda: self.now_ns / S)
        self.bus.open()
        self.driver = Ina219(self.bus, Ina219Options(**self.options), lambda: self.now_ns)

    def open(self) -> Bench:
        self.driver.open()
        self.now_ns += S
        return self

    def poll(self) -> Sequence[Observation]:
        observed = self.driver.poll()
        self.now_ns += S
        return observed

    def register(self, number: int) -> int:
        return int.from_bytes(self.bus.read(0x40, bytes((number,)), 2), "big")


def values(observed: Sequence[Observation]) -> dict[str, Any]:
    return {
        o.quantity: o.value if o.value is not None else o.reasons[0]
        for o in observed
        if isinstance(o, Reading)
    }


def at(voltage_v: float, current_a: float, **options: Any) -> Bench:
    device = Ina219Device(
        shunt_ohm=options.get("shunt_ohm", 0.1),
        voltage_v=lambda _: voltage_v,
        current_a=lambda _: current_a,
        noise_steps=0.0,
    )
    return Bench(device, options).open()


# Arithmetic.


def test_the_data_sheets_example_is_calibrated_as_in_the_data_sheet() -> None:
    assert calibration(32.768, 0.002) == 0x5000  # 1 mA a step at 2 mOhm
    assert current_step_a(0x5000, 0.002) == pytest.approx(0.001)
    assert supply_v(0x5D98) == pytest.approx(11.98)


def test_the_data_sheets_example_comes_out_of_the_simulated_chip() -> None:
    bench = at(11.98, 10.0, shunt_ohm=0.002, max_current_a=32.768)
    assert values(bench.poll()) == {
        "supply_v": pytest.approx(11.98),
        "current_a": pytest.approx(10.0),
    }
    assert bench.register(0x01) == 2000
    assert bench.register(0x02) >> 3 == 0x5D98 >> 3
    assert bench.register(0x03) == 5990
    assert bench.register(0x04) == 10000
    assert bench.register(0x05) == 0x5000


@pytest.mark.parametrize(
    ("max_shunt_v", "number"), [(0.001, 0), (0.04, 0), (0.0401, 1), (0.16, 2), (0.32, 3)]
)
def test_the_smallest_range_that_holds_the_current_is_taken(
    max_shunt_v: float, number: int
) -> None:
    assert gain(max_shunt_v) == number


@given(st.floats(0.001, 1000.0), st.floats(1e-6, 10.0))
def test_every_calibration_fits_its_register_and_is_at_most_two_steps_off(
    max_current_a: float, shunt_ohm: float
) -> None:
    if max_current_a * shunt_ohm > 0.32:
        with pytest.raises(ValidationError, match="320 mV are the most"):
            Ina219Options(max_current_a=max_current_a, shunt_ohm=shunt_ohm)
        return
    cal = calibration(max_current_a, shunt_ohm)
    assert 0 < cal <= 0xFFFE
    assert cal % 2 == 0
    assert current_step_a(cal, shunt_ohm) >= max_current_a / 32768 * 0.999999


@pytest.mark.parametrize("current_a", [-3.0, -0.01, 0.0, 0.45, 3.1])
def test_current_flows_both_ways(current_a: float) -> None:
    assert values(at(12.0, current_a).poll())["current_a"] == pytest.approx(current_a, abs=2e-4)


# What is no value.


@pytest.mark.parametrize("current_a", [3.2, -3.2, 3.3, 40.0, -1000.0])
def test_current_at_or_beyond_the_end_of_the_range_is_no_value(current_a: float) -> None:
    assert values(at(12.0, current_a).poll()) == {"supply_v": 12.0, "current_a": "out_of_range"}


def test_a_current_beyond_the_limit_is_no_value_though_the_chip_could_say_it() -> None:
    assert values(at(12.0, 1.2, max_current_a=1.0).poll())["current_a"] == "out_of_range"


def test_the_chips_own_overflow_is_no_value() -> None:
    bench = at(12.0, 0.39, shunt_ohm=0.1, max_current_a=0.2)
    observed = bench.poll()
    assert bench.register(0x02) & 1
    assert values(observed)["current_a"] == "out_of_range"


@pytest.mark.parametrize("voltage_v", [32.0, 60.0])
def test_the_end_of_the_voltage_range_is_no_value(voltage_v: float) -> None:
    assert values(at(voltage_v, 0.1).poll())["supply_v"] == "out_of_range"


def test_a_chip_that_stopped_converting_gives_no_values() -> None:
    bench = Bench().open()
    assert set(values(bench.poll())) == {"supply_v", "current_a"}
    bench.device.stop_converting()
    assert values(bench.poll()) == {"supply_v": "stuck", "current_a": "stuck"}


def test_equal_answers_for_longer_than_asked_for_are_no_values() -> None:
    still = at(12.0, 0.5, stuck_s=10.0)
    said = [values(still.poll())["supply_v"] for _ in range(12)]
    assert said == [12.0] * 10 + ["stuck"] * 2


# Its life.


def test_a_healthy_chip_measures_within_the_truth() -> None:
    entry = emulation.load("ina219")
    options = Ina219Options.model_validate(entry.options)
    bench = Bench(entry.build(options, 7)).open()
    for _ in range(120):
        for name, value in values(bench.poll()).items():
            low, high = entry.truth[name]
            assert low <= value <= high
    assert (bench.driver.frames, bench.driver.frame_errors) == (120, 0)


def test_right_after_opening_there_is_nothing_to_say_yet() -> None:
    bench = Bench()
    bench.driver.open()
    assert bench.poll() == [Trouble("warmup", 100 * S)]
    assert len(values(bench.poll())) == 2


def test_a_chip_that_lost_its_power_is_configured_again_and_never_says_zero() -> None:
    bench = Bench().open()
    bench.poll()
    bench.device.power_cycle()
    with pytest.raises(BusError):
        bench.poll()  # boots
    bench.now_ns += S
    assert bench.poll() == [Trouble("warmup", bench.now_ns - S)]
    assert values(bench.poll())["current_a"] == pytest.approx(0.45, abs=0.21)
    assert bench.driver.frame_errors == 0


def test_a_calibration_that_somebody_else_wrote_is_put_right() -> None:
    bench = Bench().open()
    bench.bus.write(0x40, b"\x05\x10\x00")
    with pytest.raises(FrameError, match=r"calibration was 1000h in place of 1062h"):
        bench.poll()
    assert bench.driver.frame_errors == 1
    assert bench.poll()


def test_a_configuration_that_does_not_stay_is_refused_with_what_came_back() -> None:
    class Stubborn(Ina219Device):
        def write(self, data: bytes, now_s: float) -> None:
            super().write(data if data[0] != 0x00 else data[:1], now_s)

    with pytest.raises(FrameError, match=r"wrote 3E67h to register 00h and read back 399Fh"):
        Bench(Stubborn()).open()


def test_an_ina3221_at_the_same_address_is_named_and_not_written_to() -> None:
    bench = Bench(Ina3221Device())
    with pytest.raises(IdentityError, match="0x40: an INA3221 answers, not an INA219"):
        bench.driver.open()
    assert bench.register(0x00) == 0x7127


def test_nobody_there_is_a_bus_error_and_who_comes_back_is_read_again() -> None:
    bench = Bench().open()
    bench.bus.nack(0x40)
    for call in (bench.driver.poll, bench.driver.open):
        with pytest.raises(BusError, match="0x40: Remote I/O error"):
            call()
    bench.driver.close()
    bench.bus.heal()
    assert values(bench.open().poll())["supply_v"] == pytest.approx(12.9, abs=0.7)


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=60))
def test_whatever_the_bytes_only_promised_things_come_out(answers: list[bytes]) -> None:
    class Noise:
        turn = 0

        def read(self, address: int, write: bytes, length: int) -> bytes:
            self.turn += 1
            return answers[self.turn % len(answers)][:length]

        def write(self, address: int, data: bytes) -> None:
            pass

    now = iter(range(0, 10**15, S))
    driver = Ina219(Noise(), Ina219Options(), lambda: next(now))
    for call in (driver.open, *[driver.poll] * 10):
        with suppress(BusError, FrameError):
            for seen in call() or ():
                assert isinstance(seen, Trouble | Reading)
                if isinstance(seen, Reading) and seen.value is not None:
                    quantity = driver.quantities[seen.quantity]
                    assert quantity.low <= seen.value <= quantity.high


# Options and scanning.


def test_a_shunt_and_a_current_that_the_chip_cannot_measure_are_refused() -> None:
    with pytest.raises(ValidationError, match="1000 mV at the shunt, and 320 mV are the most"):
        Ina219Options(shunt_ohm=0.1, max_current_a=10.0)


def test_the_address_is_claimed_and_the_current_is_known_up_to_its_limit() -> None:
    driver: Driver = Bench(options={"max_current_a": 2.0}).driver
    assert Ina219Options(address=0x41).claims() == ["i2c address 0x41"]
    assert driver.quantities["current_a"].high == 2.0


def test_a_scan_knows_a_fresh_one_one_in_use_and_an_ina3221() -> None:
    assert isinstance(Ina219, Recognises)
    bench = Bench()
    fresh = Ina219.recognise(bench.bus, 0x40)
    assert fresh == Found("INA219 (registers as after power-up)", {"address": 0x40})
    bench.open()
    assert Ina219.recognise(bench.bus, 0x40) == Found("INA219 (in use)", {"address": 0x40})
    assert Ina219.recognise(Bench(Ina3221Device()).bus, 0x40) is None
    with pytest.raises(BusError):
        Ina219.recognise(bench.bus, 0x41)
