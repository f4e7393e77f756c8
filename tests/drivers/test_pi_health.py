"""The board's own health: three files, the boards that lack some, and what is nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import BusError, Driver, FrameError, Reading
from drivers.files import LinuxFiles
from drivers.pi_health import (
    PiHealth,
    PiHealthOptions,
    cpu_temperature_c,
    disk_life_percent,
    throttled,
)
from hil import emulation
from hil.buses import SimulatedFiles
from hil.devices.board import CAPPED, FIRMWARE, SOFT_LIMIT, THROTTLED, UNDER_VOLTAGE, BoardDevice

S = 1_000_000_000
ZONES = "/sys/class/thermal"


class Bench:
    """A board behind simulated files, its driver, and a clock that polls turn on."""

    def __init__(self, device: BoardDevice) -> None:
        self.now_ns = 1000 * S
        self.device = device
        self.files = SimulatedFiles([device], lambda: self.now_ns / S)
        self.driver = PiHealth(self.files, PiHealthOptions(), lambda: self.now_ns)

    def poll(self) -> dict[str, Any]:
        self.now_ns += round(self.driver.interval_s * S)
        return {each.quantity: each.value or each.reasons for each in self.driver.poll()}


def bench(**board: Any) -> Bench:
    bench = Bench(BoardDevice(**board))
    as_the_gateway_sees_it: Driver = bench.driver
    as_the_gateway_sees_it.open()
    return bench


# Decoding.


@pytest.mark.parametrize(
    ("text", "value"),
    [("48312\n", 48.312), ("0\n", 0.0), ("-5000\n", -5.0), ("125000\n", 125.0)],
)
def test_a_zone_speaks_in_thousandths_of_a_degree(text: str, value: float) -> None:
    assert cpu_temperature_c(text) == value


@pytest.mark.parametrize("text", ["-274000\n", "125001\n", "999999999"])
def test_what_no_board_survives_is_no_temperature(text: str) -> None:
    assert cpu_temperature_c(text) == "out_of_range"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0\n", "no"),
        ("50000\n", "no"),  # it has been, since boot
        ("80000", "no"),
        ("50005\n", "under_voltage"),  # published outputs of a Pi 3B+
        ("80008\n", "temperature_limit"),
        ("0x1\n", "under_voltage"),
        ("2\n", "frequency_capped"),
        ("4", "throttled"),
        ("6", "throttled"),
        ("e000e", "throttled"),
        ("F", "under_voltage"),
    ],
)
def test_the_firmwares_bits_become_the_worst_class_of_this_moment(text: str, name: str) -> None:
    assert throttled(text) == name


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("0x01 0x01\n", 90.0),
        ("0x01 0x02\n", 80.0),
        ("0x05 0x03", 50.0),
        ("0x0A 0x00", 0.0),
        ("0x0b 0x01", 0.0),
        ("0x00 0x00", None),
    ],
)
def test_the_worse_of_two_estimates_is_what_is_left_of_a_disk(
    text: str, left: float | None
) -> None:
    assert disk_life_percent(text) == left


@pytest.mark.parametrize("decode", [cpu_temperature_c, throttled, disk_life_percent])
@pytest.mark.parametrize("text", ["", "\n", "xyz", "0x", "1 2 3", "0x0C 0x01", "４２", "1e3z"])
def test_nonsense_is_a_frame_error(decode: Any, text: str) -> None:
    with pytest.raises(FrameError, match="says"):
        decode(text)


@given(st.text(max_size=40))
def test_whatever_a_file_says_only_a_frame_error_or_a_value_in_range_comes_out(text: str) -> None:
    for decode in (cpu_temperature_c, throttled, disk_life_percent):
        try:
            value = decode(text)  # type: ignore[operator]
        except FrameError:
            continue
        if isinstance(value, float):
            assert -40.0 <= value <= 125.0


# Boards.


def test_a_compute_module_tells_all_three() -> None:
    board = bench()
    assert board.driver.identity == "Raspberry Pi Compute Module 4 Rev 1.1"
    said = board.poll()
    assert 35.0 < said.pop("cpu_temperature_c") < 60.0
    assert said == {"throttled": "no", "disk_life_percent": 80.0}
    assert board.driver.frames == 3


def test_a_pi_with_an_sd_card_never_speaks_of_its_life() -> None:
    assert set(bench(life_time=None).poll()) == {"cpu_temperature_c", "throttled"}
    assert set(bench(life_time="0x00 0x00").poll()) == {"cpu_temperature_c", "throttled"}


def test_a_pc_tells_its_temperature_only() -> None:
    pc = bench(model="", has_firmware=False, life_time=None, zone_type="acpitz")
    assert set(pc.poll()) == {"cpu_temperature_c"}
    assert pc.driver.identity == ""


def test_what_slows_the_processor_is_told_while_it_does() -> None:
    board = bench()
    told = []
    for now in (0, UNDER_VOLTAGE | THROTTLED, THROTTLED | CAPPED, CAPPED, SOFT_LIMIT, 0):
        board.device.now = now
        told.append(board.poll()["throttled"])
    assert told == [
        "no",
        "under_voltage",
        "throttled",
        "frequency_capped",
        "temperature_limit",
        "no",
    ]
    assert int(board.files.read(f"{FIRMWARE}/get_throttled"), 16) >> 16  # the firmware remembers


def test_the_firmware_is_found_under_another_name_of_the_chip() -> None:
    class Other:
        def files(self, now_s: float) -> dict[str, str]:
            soc = "/sys/devices/platform/soc@107c000000"
            return {f"{soc}/soc@107c000000:firmware/get_throttled": "1\n"}

    files = SimulatedFiles([Other()], lambda: 0.0)
    driver = PiHealth(files, PiHealthOptions(), lambda: 3)
    driver.open()
    assert driver.poll() == [Reading("throttled", "under_voltage", 3)]


def test_the_processors_own_zone_is_chosen_wherever_it_stands() -> None:
    class Pc:
        def files(self, now_s: float) -> dict[str, str]:
            kinds = {0: "acpitz", 2: "x86_pkg_temp", 10: "iwlwifi_1"}
            return {f"{ZONES}/thermal_zone{n}/type": kind + "\n" for n, kind in kinds.items()} | {
                f"{ZONES}/thermal_zone{n}/temp": f"{n}000\n" for n in kinds
            }

    driver = PiHealth(SimulatedFiles([Pc()], lambda: 0.0), PiHealthOptions(), lambda: 3)
    driver.open()
    assert driver.poll() == [Reading("cpu_temperature_c", 2.0, 3)]


def test_a_board_with_nothing_to_read_says_where_it_looked() -> None:
    driver = PiHealth(SimulatedFiles([], lambda: 0.0), PiHealthOptions(), lambda: 0)
    with pytest.raises(BusError, match=r"neither /sys/class/thermal.*get_throttled.*life_time"):
        driver.open()
    with pytest.raises(BusError, match="not open"):
        driver.poll()


# Failures.


def test_a_file_that_fails_costs_its_own_quantity_only() -> None:
    board = bench()
    board.files.remove(f"{FIRMWARE}/get_throttled")
    said = board.poll()
    assert said["throttled"] == ("bus_error",)
    assert isinstance(said["cpu_temperature_c"], float)
    board.files.heal()
    assert board.poll()["throttled"] == "no"


def test_a_file_that_says_nonsense_costs_its_own_quantity_only() -> None:
    board = bench()
    board.device.life_time = "worn"
    said = board.poll()
    assert said["disk_life_percent"] == ("frame_error",)
    assert said["throttled"] == "no"
    assert board.driver.frame_errors == 1


def test_where_all_fail_it_is_an_error_and_not_three() -> None:
    board = bench()
    board.device.is_garbled = True
    with pytest.raises(FrameError, match=r"thermal_zone0/temp: temp says"):
        board.poll()
    board.device.is_gone = True
    with pytest.raises(BusError, match="Input/output error"):
        board.poll()
    board.device.is_garbled = board.device.is_gone = False
    assert set(board.poll()) == {"cpu_temperature_c", "throttled", "disk_life_percent"}


def test_a_life_that_is_said_no_more_is_no_quantity_and_no_complaint() -> None:
    board = bench()
    board.device.life_time = "0x00 0x00"
    assert set(board.poll()) == {"cpu_temperature_c", "throttled"}


def test_a_day_in_the_cabinet_stays_in_range() -> None:
    board = bench(seed=3)
    for _ in range(8640):
        assert 35.0 < board.poll()["cpu_temperature_c"] < 60.0


def test_it_is_read_from_real_files(tmp_path: Path) -> None:
    for path, text in BoardDevice().files(0.0).items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))
    driver = PiHealth(LinuxFiles(tmp_path), PiHealthOptions(), lambda: 1)
    driver.open()
    assert {each.quantity for each in driver.poll()} == set(driver.quantities)


def test_options_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValidationError):
        PiHealthOptions(interval_s=0.1)


def test_its_emulation_is_within_its_own_truth_and_complains() -> None:
    emulated = emulation.load("pi-health")
    board = Bench(emulated.build(PiHealthOptions(**emulated.options), 11))
    board.driver.open()
    for name, value in board.poll().items():
        truth = emulated.truth[name]
        if isinstance(truth, frozenset):
            assert value in truth
        else:
            assert truth[0] <= value <= truth[1]
    (complaint,) = emulated.complaints.values()
    complaint.make(board.device)
    assert board.poll()["cpu_temperature_c"] == (complaint.reason,)
