"""MLX90614: words that prove themselves, an emissivity that is computed or written once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from drivers.mlx90614 import (
    Mlx90614,
    Mlx90614Options,
    decode_word,
    emissivity_word,
    seen_with,
    temperature_c,
    write_message,
)
from hil import emulation
from hil.buses import SimulatedI2c
from hil.devices.mlx90614 import Mlx90614Device

S = 1_000_000_000


def still(**options: Any) -> Mlx90614Device:
    """A sensor that looks at a road of -5 degC from a box of 2 degC, without noise."""
    options = {"surface_c": lambda _: -5.0, "sensor_c": lambda _: 2.0, "noise_c": 0.0, **options}
    return Mlx90614Device(**options)


@dataclass
class Bench:
    """A simulated sensor, its driver, and a clock that polls turn on."""

    device: Mlx90614Device = field(default_factory=still)
    options: dict[str, Any] = field(default_factory=dict)
    now_ns: int = 100 * S

    def __post_init__(self) -> None:
        self.bus = SimulatedI2c({0x5A: self.device}, lambda: self.now_ns / S)
        self.bus.open()
        self.driver = Mlx90614(self.bus, Mlx90614Options(**self.options), lambda: self.now_ns)

    def open(self) -> Bench:
        self.driver.open()
        self.now_ns += S
        return self

    def poll(self) -> Sequence[Observation]:
        observed = self.driver.poll()
        self.now_ns += S
        return observed

    def values(self) -> dict[str, Any]:
        return {
            o.quantity: o.value if o.value is not None else o.reasons[0]
            for o in self.poll()
            if isinstance(o, Reading)
        }

    def road_c(self) -> Any:
        return self.values()["surface_temperature_c"]


# Words.


def test_recorded_words_prove_themselves_and_mean_their_temperatures(recordings: Path) -> None:
    words = json.loads((recordings / "mlx90614/words.json").read_text())
    assert len(words) == 7
    for each in words:
        raw = decode_word(0x5A, each["cmd"], bytes.fromhex(each["bytes"]))
        assert temperature_c(raw) == pytest.approx(each["degC"], abs=0.005)


@pytest.mark.parametrize(
    ("command", "answer", "degc"),
    [
        (0x07, "D2 3A 30", 28.01),
        (0x06, "E1 39 E9", 23.19),
        (0x06, "61 3A 56", 25.75),
        (0x06, "6B 3A D4", 25.95),
        (0x06, "26 3A 66", 24.57),
        (0x07, "26 3A 70", 24.57),
    ],
)
def test_published_words_prove_themselves(command: int, answer: str, degc: float) -> None:
    raw = decode_word(0x5A, command, bytes.fromhex(answer))
    assert temperature_c(raw) == pytest.approx(degc, abs=0.005)


def test_a_published_write_has_its_pec() -> None:
    assert write_message(0x5A, 0x22, 0xC807).hex(" ") == "22 07 c8 48"


@given(st.integers(0, 0xFFFFFF), st.integers(0, 23))
def test_one_damaged_bit_is_always_noticed(word: int, bit: int) -> None:
    good = bytes.fromhex("D23A30")
    damaged = (int.from_bytes(good, "big") ^ 1 << bit).to_bytes(3, "big")
    with pytest.raises(FrameError, match="PEC"):
        decode_word(0x5A, 0x07, damaged)


@pytest.mark.parametrize(
    ("address", "command", "answer", "what"),
    [
        (0x5A, 0x06, "D23A30", "PEC 30h"),  # of the other temperature
        (0x5B, 0x07, "D23A30", "PEC 30h"),  # of another sensor
        (0x5A, 0x07, "FFFFFF", "PEC FFh"),
        (0x5A, 0x07, "000000", "PEC 00h"),
        (0x5A, 0x07, "D23A", "2 bytes in place of 3"),
    ],
)
def test_an_answer_to_something_else_is_refused(
    address: int, command: int, answer: str, what: str
) -> None:
    with pytest.raises(FrameError, match=what):
        decode_word(address, command, bytes.fromhex(answer))


def test_the_error_flag_is_no_temperature() -> None:
    assert temperature_c(0x8000) is None
    assert temperature_c(0xFFFF) is None
    assert temperature_c(0x7FFF) == pytest.approx(382.19)
    assert temperature_c(0x27AD) == pytest.approx(-70.01)


# Emissivity.


def test_full_emissivity_changes_nothing() -> None:
    assert seen_with(-7.3, 4.0, emissivity=1.0, assumed_emissivity=1.0) == pytest.approx(-7.3)


def test_a_road_is_colder_than_it_seems_to_a_sensor_that_takes_it_for_black() -> None:
    colder_c = seen_with(-5.0, 5.0, emissivity=0.95, assumed_emissivity=1.0)
    assert -5.7 < colder_c < -5.3


@pytest.mark.parametrize("held", [1.0, 0.98, 0.95, 0.6])
@pytest.mark.parametrize("road", [0.95, 0.97, 0.98])
def test_whatever_the_sensor_assumes_the_road_s_temperature_comes_out(
    held: float, road: float
) -> None:
    device = still(emissivity=held, road_emissivity=road)
    assert Bench(device, {"emissivity": road}).open().road_c() == pytest.approx(-5.0, abs=0.03)


def test_by_default_the_eeprom_is_left_alone_and_the_identity_says_what_is_computed() -> None:
    bench = Bench().open()
    for _ in range(50):
        bench.poll()
        bench.driver.open()
    assert bench.device.eeprom_writes == 0
    assert bench.driver.identity == (
        "MLX90614 1234a5a500429614, emissivity 1.000, computed to 0.950"
    )


def test_on_demand_it_is_erased_and_written_once_and_read_back() -> None:
    bench = Bench(options={"set_emissivity": True})
    bench.driver.open()
    observed = [bench.poll() for _ in range(3)]
    assert observed[0] == [Trouble("warmup", 100 * S)]  # 5 ms are not over
    assert all(isinstance(each[0], Trouble) for each in observed)
    assert bench.device.eeprom_writes == 2  # erased, written
    assert bench.device.emissivity == pytest.approx(0.95, abs=1e-5)
    assert bench.driver.identity == "MLX90614 1234a5a500429614, emissivity 0.950"
    assert bench.road_c() == pytest.approx(-5.0, abs=0.02)
    for _ in range(10):
        bench.driver.open()
        bench.poll()
    assert bench.device.eeprom_writes == 2


def test_a_sensor_that_holds_it_already_is_not_written_though_another_rounded_it() -> None:
    device = still(emissivity=0.95 - 1 / 65535)
    Bench(device, {"set_emissivity": True}).open().poll()
    assert device.eeprom_writes == 0


def test_an_outage_between_erasing_and_writing_is_made_good() -> None:
    bench = Bench(options={"set_emissivity": True}).open()
    assert bench.device.emissivity == 0.0
    bench.device.power_cycle()
    with pytest.raises(BusError):
        bench.poll()
    bench.driver.close()
    bench.now_ns += S
    bench.open()
    for _ in range(3):
        bench.poll()
    assert bench.device.emissivity == pytest.approx(0.95, abs=1e-5)
    assert bench.road_c() == pytest.approx(-5.0, abs=0.02)


def test_a_cell_that_stays_erased_gives_no_values_and_the_writing_ends() -> None:
    class WornOut(Mlx90614Device):
        def write(self, data: bytes, now_s: float) -> None:
            super().write(data, now_s)
            if len(data) > 1:
                self._eeprom[0x24] = 0

    device = WornOut(surface_c=lambda _: -5.0, sensor_c=lambda _: 2.0)
    bench = Bench(device, {"set_emissivity": True})
    for _ in range(20):
        bench.open()
        with suppress(FrameError):
            bench.poll()
            bench.poll()
    assert device.eeprom_writes == 6  # three times erased and written
    with pytest.raises(FrameError, match="wrote emissivity F332h and read back 0000h"):
        again = Bench(WornOut(), {"set_emissivity": True}).open()
        [again.poll() for _ in range(3)]
    assert bench.values() == {
        "surface_temperature_c": "uncalibrated",
        "sensor_temperature_c": pytest.approx(2.0, abs=0.2),
    }


def test_emissivities_are_shares_of_all_ones() -> None:
    assert emissivity_word(1.0) == 0xFFFF
    assert emissivity_word(0.95) == 0xF332


# Its life.


def test_a_healthy_sensor_measures_within_the_truth() -> None:
    entry = emulation.load("mlx90614")
    options = Mlx90614Options.model_validate(entry.options)
    bench = Bench(entry.build(options, 7), {"emissivity": 0.95}).open()
    for _ in range(200):
        bench.now_ns += 500 * S
        for name, value in bench.values().items():
            low, high = entry.truth[name]
            assert low <= value <= high
    assert (bench.driver.frames, bench.driver.frame_errors) == (200, 0)


def test_it_is_not_asked_while_it_starts() -> None:
    bench = Bench()
    bench.driver.open()
    bench.now_ns += S // 10
    assert bench.poll() == [Trouble("warmup", 100 * S + S // 10)]
    assert bench.road_c() == pytest.approx(-5.0, abs=0.03)


def test_the_error_flag_is_out_of_range_for_what_it_concerns() -> None:
    device = still()
    bench = Bench(device).open()
    device.surface_c = lambda _: 400.0
    assert bench.values() == {
        "surface_temperature_c": "out_of_range",
        "sensor_temperature_c": pytest.approx(2.0, abs=0.02),
    }
    device.is_sick = True
    assert set(bench.values().values()) == {"out_of_range"}


@pytest.mark.parametrize("sensor_c", [-60.0, 130.0])
def test_a_sensor_temperature_that_no_sensor_survives_is_no_value(sensor_c: float) -> None:
    bench = Bench(still(sensor_c=lambda _: sensor_c)).open()
    assert bench.values()["sensor_temperature_c"] == "out_of_range"


def test_a_sensor_that_stopped_measuring_gives_no_values() -> None:
    bench = Bench(still(), {"stuck_s": 60.0}).open()
    said = [bench.road_c() for _ in range(62)]
    assert said[:60] == [pytest.approx(-5.0, abs=0.03)] * 60
    assert said[60:] == ["stuck", "stuck"]


def test_a_damaged_word_is_dropped_and_the_next_poll_is_good() -> None:
    bench = Bench().open()
    read = bench.bus.read
    bench.bus.read = lambda *a: b"\x00" + read(*a)[1:]  # type: ignore[method-assign]
    with pytest.raises(FrameError, match="PEC"):
        bench.poll()
    bench.bus.read = read  # type: ignore[method-assign]
    assert (bench.driver.frames, bench.driver.frame_errors) == (0, 1)
    assert bench.road_c() == pytest.approx(-5.0, abs=0.03)


def test_nobody_there_is_a_bus_error_and_who_comes_back_is_read_again() -> None:
    bench = Bench().open()
    bench.device.power_cycle()
    for call in (bench.driver.poll, bench.driver.open):
        with pytest.raises(BusError, match="0x5a: Remote I/O error"):
            call()
    bench.now_ns += S
    assert bench.open().road_c() == pytest.approx(-5.0, abs=0.03)


def test_another_device_is_refused_by_what_it_says() -> None:
    class Other:
        def write(self, data: bytes, now_s: float) -> None:
            pass

        def read(self, length: int, now_s: float) -> bytes:
            return bytes(length)

    now_ns = 0
    bus = SimulatedI2c({0x5A: Other()}, lambda: 0.0)
    bus.open()
    driver = Mlx90614(bus, Mlx90614Options(), lambda: now_ns)
    with pytest.raises(IdentityError, match=r"0x5a: answers 00 00 00, which no MLX90614 says"):
        driver.open()
    assert Mlx90614.recognise(bus, 0x5A) is None


def test_a_recording_without_eeprom_is_taken_as_it_is() -> None:
    class Recorded:
        def read(self, address: int, write: bytes, length: int) -> bytes:
            answers = {b"\x07": "D23A30", b"\x06": "E139E9"}
            if write not in answers:
                raise BusError("not in this recording")
            return bytes.fromhex(answers[write])

        def write(self, address: int, data: bytes) -> None:
            raise AssertionError("nothing is to be written")

    driver = Mlx90614(Recorded(), Mlx90614Options(warmup_s=0.0), lambda: 5)
    driver.open()
    assert [round(o.value, 2) for o in driver.poll()] == [28.01, 23.19]  # type: ignore[union-attr]


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=60), st.booleans())
def test_whatever_the_bytes_only_promised_things_come_out(
    answers: list[bytes], proven: bool
) -> None:
    class Noise:
        turn = 0

        def read(self, address: int, write: bytes, length: int) -> bytes:
            self.turn += 1
            said = answers[self.turn % len(answers)]
            if proven:  # a noise that knows how to prove itself
                word = int.from_bytes(said[:2].ljust(2, b"\0"), "little")
                device = Mlx90614Device()
                device._word = lambda _: word  # type: ignore[method-assign]
                device.write(write, 0.0)
                return device.read(length, 0.0)
            return said

        def write(self, address: int, data: bytes) -> None:
            pass

    now = iter(range(0, 10**15, S))
    driver = Mlx90614(Noise(), Mlx90614Options(set_emissivity=True), lambda: next(now))
    for call in (driver.open, *[driver.poll] * 10):
        with suppress(BusError, FrameError):
            for seen in call() or ():
                assert isinstance(seen, Trouble | Reading)
                if isinstance(seen, Reading) and seen.value is not None:
                    quantity = driver.quantities[seen.quantity]
                    assert quantity.low <= seen.value <= quantity.high


def test_a_scan_knows_it_by_its_pec() -> None:
    assert isinstance(Mlx90614, Recognises)
    bench = Bench()
    as_the_gateway_sees_it: Driver = bench.driver
    assert as_the_gateway_sees_it.spec.addresses == (0x5A,)
    found = Mlx90614.recognise(bench.bus, 0x5A)
    assert found == Found("MLX90614 (set to emissivity 1.000)", {"address": 0x5A})
    with pytest.raises(BusError):
        Mlx90614.recognise(bench.bus, 0x5B)
    assert Mlx90614Options(address=0x5B).claims() == ["i2c address 0x5b"]
