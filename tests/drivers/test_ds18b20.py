"""DS18B20: the scratchpad in w1_slave, what is no temperature, and which thermometer is meant."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import BusError, Driver, FrameError, Reading
from drivers.checksums import crc8_maxim
from drivers.ds18b20 import AIR, Ds18b20, Ds18b20Options, bits, scratchpad, temperature_c
from drivers.files import LinuxFiles
from hil import emulation
from hil.buses import SimulatedFiles
from hil.devices.ds18b20 import ThermometerDevice, winter_air_c

NAME = "28-00000d1efbf6"
PATH = f"/sys/bus/w1/devices/{NAME}/w1_slave"
S = 1_000_000_000

# Files that owners of genuine parts have published (cpetrich/counterfeit_DS18B20).
PUBLISHED = [
    ("f4 00 4b 46 7f ff 0c 10 fa : crc=fa YES\nf4 00 4b 46 7f ff 0c 10 fa t=15250\n", 15.25),
    ("f3 00 4b 46 7f ff 0d 10 ee : crc=ee YES\nf3 00 4b 46 7f ff 0d 10 ee t=15187\n", 15.1875),
    ("f6 00 4b 46 7f ff 0a 10 d6 : crc=d6 YES\nf6 00 4b 46 7f ff 0a 10 d6 t=15375\n", 15.375),
]


def raw(steps: int, *, resolution_bits: int = 12) -> bytes:
    """Return a scratchpad that says `steps`, with a right CRC."""
    body = (steps % 0x10000).to_bytes(2, "little")
    body += bytes((0x4B, 0x46, (resolution_bits - 9) << 5 | 0x1F, 0xFF, 0x0C, 0x10))
    return body + bytes((crc8_maxim(body),))


def shown(said: bytes, verdict: str = "YES") -> str:
    return f"{said.hex(' ')} : crc={said[8]:02x} {verdict}\n{said.hex(' ')} t=0\n"


class Bench:
    """Thermometers behind simulated files, a driver, and a clock that polls turn on."""

    def __init__(self, *devices: ThermometerDevice, **options: Any) -> None:
        self.now_ns = 1000 * S
        self.files = SimulatedFiles(devices, lambda: self.now_ns / S)
        self.driver = Ds18b20(self.files, Ds18b20Options(**options), lambda: self.now_ns)

    def poll(self) -> Reading:
        self.now_ns += round(self.driver.interval_s * S)
        (reading,) = self.driver.poll()
        return reading


def bench(device: ThermometerDevice | None = None, **options: Any) -> Bench:
    bench = Bench(device or ThermometerDevice(NAME), **options)
    as_the_gateway_sees_it: Driver = bench.driver
    as_the_gateway_sees_it.open()
    return bench


# Decoding.


@pytest.mark.parametrize(("text", "value_c"), PUBLISHED)
def test_what_genuine_parts_have_said_is_read_as_the_kernel_did(text: str, value_c: float) -> None:
    assert temperature_c(scratchpad(text)) == value_c


@pytest.mark.parametrize(
    ("steps", "value_c"),
    [  # the data sheet's table
        (0x07D0, 125.0),
        (0x0191, 25.0625),
        (0x00A2, 10.125),
        (0x0008, 0.5),
        (0x0000, 0.0),
        (0xFFF8, -0.5),
        (0xFF5E, -10.125),
        (0xFE6F, -25.0625),
        (0xFC90, -55.0),
        (0x0551, 85.0625),
        (0x054F, 84.9375),
    ],
)
def test_sixteenths_of_a_degree_in_twos_complement(steps: int, value_c: float) -> None:
    assert temperature_c(raw(steps)) == value_c


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (0x0550, "bus_error"),  # 85 degC: as after power-up
        (0x07FF, "bus_error"),  # 127.9375 degC: no pull-up
        (0x07D1, "out_of_range"),
        (0xFC8F, "out_of_range"),
        (0x7FFF, "out_of_range"),
        (0x8000, "out_of_range"),
    ],
)
def test_what_it_says_in_place_of_a_temperature_is_no_value(steps: int, reason: str) -> None:
    assert temperature_c(raw(steps)) == reason


def test_the_power_up_scratchpad_of_the_data_sheet_is_no_value() -> None:
    said = "50 05 4b 46 7f ff 0c 10 1c"
    read = scratchpad(f"{said} : crc=1c YES\n{said} t=85000\n")
    assert temperature_c(read) == "bus_error"


@pytest.mark.parametrize(
    ("resolution_bits", "value_c"), [(12, -0.0625), (11, -0.125), (10, -0.25), (9, -0.5)]
)
def test_bits_below_the_resolution_mean_nothing(resolution_bits: int, value_c: float) -> None:
    said = raw(0xFFFF, resolution_bits=resolution_bits)
    assert bits(said) == resolution_bits
    assert temperature_c(said) == value_c


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (shown(raw(100), "NO"), "by the kernel's word"),
        (shown(raw(100)[:-1] + b"\x00"), "has a wrong CRC$"),
        (shown(bytes(9)), "shorted to ground"),
        (shown(b"\xff" * 9), "has a wrong CRC$"),
        ("", "no scratchpad"),
        ("t=15250\n", "no scratchpad"),
        ("f4 00 4b 46 7f ff 0c 10 : crc=fa YES\n", "no scratchpad"),
        ("f4 00 4b 46 7f ff 0c 10 fa : crc=fa MAYBE\n", "no scratchpad"),
    ],
)
def test_what_is_no_sound_scratchpad_is_refused(text: str, what: str) -> None:
    with pytest.raises(FrameError, match=what):
        scratchpad(text)


@given(st.text(max_size=200) | st.binary(min_size=9, max_size=9).map(shown))
def test_whatever_the_file_says_only_a_frame_error_or_a_reading_in_range_comes_out(
    text: str,
) -> None:
    class File:
        def names(self, folder: str) -> list[str]:
            return [NAME, "w1_bus_master1"]

        def read(self, path: str) -> str:
            return text

    driver = Ds18b20(File(), Ds18b20Options(), lambda: 7)
    driver.open()
    with suppress(FrameError):
        (reading,) = driver.poll()
        assert AIR.low is not None
        assert AIR.high is not None
        if reading.value is None:
            assert reading.reasons
        else:
            assert AIR.low <= float(reading.value) <= AIR.high
    assert driver.frames + driver.frame_errors == 1


@given(st.binary(min_size=9, max_size=9), st.integers(0, 71))
def test_one_bit_that_flipped_is_found(body: bytes, bit: int) -> None:
    sound = body[:8] + bytes((crc8_maxim(body[:8]),))
    damaged = bytearray(sound)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError):
        scratchpad(shown(bytes(damaged)))


# Which thermometer.


def test_the_only_one_is_taken() -> None:
    only = bench()
    assert only.driver.identity == NAME
    assert only.poll().value == pytest.approx(winter_air_c(only.now_ns / S), abs=0.3)


def test_of_several_one_must_be_named() -> None:
    devices = (ThermometerDevice(NAME), ThermometerDevice("28-00000d1efed4", lambda _: 20.0))
    with pytest.raises(BusError, match="several thermometers: 28-00000d1efbf6, 28-00000d1efed4"):
        Bench(*devices).driver.open()
    named = Bench(*devices, id="28-00000d1efed4")
    named.driver.open()
    assert named.poll().value == pytest.approx(20.0, abs=0.3)


def test_one_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(BusError, match=r"no 28-00000d1efed4 .* there is 28-00000d1efbf6"):
        Bench(ThermometerDevice(NAME), id="28-00000d1efed4").driver.open()


def test_without_any_the_wiring_is_told() -> None:
    with pytest.raises(BusError, match=r"no 28-\* in .*dtoverlay=w1-gpio.*4.7 kOhm"):
        Bench().driver.open()
    with pytest.raises(BusError, match=r"no 28-00000d1efbf6 in .*dtoverlay=w1-gpio"):
        Bench(id=NAME).driver.open()


def test_a_number_that_is_not_maxims_is_remarked_on_and_read() -> None:
    clone = bench(ThermometerDevice("28-ff6402e27d3d"))
    assert "perhaps a clone" in clone.driver.identity
    assert isinstance(clone.poll().value, float)


def test_only_one_sensor_may_have_a_thermometer() -> None:
    assert Ds18b20Options(id=NAME).claims() == ["thermometer 28-00000d1efbf6"]
    assert Ds18b20Options().claims() == ["the bus's only thermometer"]


@pytest.mark.parametrize(
    "options",
    [{"id": "10-00000d1efbf6"}, {"id": "28-../../etc"}, {"id": ""}, {"interval_s": 0.5}],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Ds18b20Options(**options)


# Over time.


def test_a_winters_day_is_followed() -> None:
    device = ThermometerDevice(NAME, noise_c=0.05)
    day = bench(device, interval_s=600.0)
    for _ in range(144):
        value = day.poll().value
        assert isinstance(value, float)
        assert value == pytest.approx(device.air_c(day.now_ns / S), abs=0.3)
    assert (day.driver.frames, day.driver.frame_errors) == (144, 0)


def test_a_supply_that_breaks_in_is_no_value_until_it_holds() -> None:
    device = ThermometerDevice(NAME)
    cold = bench(device)
    device.is_converting = False
    device.power_cycle()
    assert (cold.poll().value, cold.poll().reasons) == (None, ("bus_error",))
    device.is_converting = True
    assert isinstance(cold.poll().value, float)


@pytest.mark.parametrize("how", ["noisy", "shorted"])
def test_a_bad_wire_is_a_frame_error_that_names_the_thermometer_and_heals(how: str) -> None:
    device = ThermometerDevice(NAME)
    wired = bench(device)
    wired.poll()
    device.break_wire(how)
    with pytest.raises(FrameError, match=NAME):
        wired.poll()
    assert wired.driver.frame_errors == 1
    device.break_wire("sound")
    assert isinstance(wired.poll().value, float)


def test_a_wrong_crc_does_not_let_the_last_good_value_pass() -> None:
    device = ThermometerDevice(NAME, lambda _: 5.0, noise_c=0.0)
    wired = bench(device)
    wired.poll()
    device.break_wire("noisy")
    said = wired.files.read(PATH)
    assert " NO\n" in said  # and the second line repeats what was good
    assert "t=5000" in said
    with pytest.raises(FrameError):
        wired.poll()


def test_a_missing_pull_up_is_no_value() -> None:
    device = ThermometerDevice(NAME)
    device.break_wire("unpulled")
    assert bench(device).poll().reasons == ("bus_error",)


def test_unplugged_it_is_a_bus_error_and_plugged_again_it_is_found() -> None:
    device = ThermometerDevice(NAME)
    hung = bench(device)
    device.break_wire("silent")
    with pytest.raises(BusError, match="Input/output error"):
        hung.poll()
    device.unplug()
    with pytest.raises(BusError, match="No such file"):
        hung.poll()
    hung.driver.close()
    with pytest.raises(BusError, match="no 28-"):
        hung.driver.open()
    device.break_wire("sound")
    device.plug()
    hung.driver.open()
    assert isinstance(hung.poll().value, float)


def test_a_driver_that_is_not_open_says_so() -> None:
    with pytest.raises(BusError, match="not open"):
        Bench(ThermometerDevice(NAME)).driver.poll()


def test_the_same_answer_for_half_a_day_is_no_measurement() -> None:
    device = ThermometerDevice(NAME, lambda _: -3.0, noise_c=0.0)
    still = bench(device, interval_s=3600.0)
    said = [still.poll() for _ in range(14)]
    assert [each.value for each in said[:12]] == [-3.0] * 12
    assert {each.reasons for each in said[12:]} == {("stuck",)}
    device.air_c = lambda _: -2.5
    assert still.poll().value == -2.5


def test_coarse_steps_and_a_zero_are_never_stuck() -> None:
    coarse = ThermometerDevice(NAME, lambda _: -3.0, noise_c=0.0, resolution_bits=9)
    fine = ThermometerDevice(NAME, lambda _: -3.0, noise_c=0.0)
    for still in (
        bench(coarse, interval_s=3600.0),
        bench(fine, interval_s=3600.0, stuck_s=0.0),
    ):
        assert {still.poll().value for _ in range(48)} == {-3.0}


def test_it_is_read_from_real_files(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/w1/devices" / NAME
    folder.mkdir(parents=True)
    (folder.parent / "w1_bus_master1").mkdir()
    (folder / "w1_slave").write_text(PUBLISHED[0][0])
    driver = Ds18b20(LinuxFiles(tmp_path), Ds18b20Options(), lambda: 5)
    driver.open()
    assert driver.poll() == [Reading("air_temperature_c", 15.25, 5)]
    (folder / "w1_slave").unlink()
    with pytest.raises(BusError, match="w1_slave: No such file"):
        driver.poll()


def test_the_simulated_thermometer_speaks_as_the_real_ones_do() -> None:
    device = ThermometerDevice(NAME, lambda _: 15.25, noise_c=0.0)
    assert device.files(0.0)[PATH] == PUBLISHED[0][0]
    device.is_converting = False
    device.power_cycle()
    assert "50 05 4b 46 7f ff 0c 10 1c t=85000" in str(device.files(0.0)[PATH])


@pytest.mark.parametrize("complaint", sorted(emulation.load("ds18b20").complaints))
def test_each_complaint_of_the_emulation_is_told_by_its_reason(complaint: str) -> None:
    emulated = emulation.load("ds18b20")
    device = emulated.build(Ds18b20Options(**emulated.options), 1)
    cold = bench(device, **emulated.options)
    low, high = emulated.truth["air_temperature_c"]
    value = cold.poll().value
    assert isinstance(value, float)
    assert low <= value <= high
    emulated.complaints[complaint].make(device)
    reading = cold.poll()
    assert (reading.value, reading.reasons) == (None, (emulated.complaints[complaint].reason,))
