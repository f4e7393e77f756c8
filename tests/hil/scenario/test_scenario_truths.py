"""What really happens reaches the city: truths move devices, crowds pass counters."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from drivers import load as driver
from hil.emulation import EMULATIONS
from hil.scenario.book import FLAGS, Book
from hil.scenario.judge import crowd_errors
from hil.scenario.run import run
from hil.scenario.truths import CROWDS, QUANTITIES

from .texts import loaded

# A sensor of each model, its truth, and how near the city must come to it.
SENSORS: dict[str, tuple[str, str, dict[str, object]]] = {
    "benewake-tf": ("/dev/ttyUSB2", '{ model = "tf-luna", mount_height_cm = 350.0 }',
                    {"depth_cm": 71.0}),
    "bme280": ("/dev/i2c-1", "{}",
               {"air_temperature_c": -7.0, "humidity_percent": 61.0, "pressure_hpa": 998.0}),
    "campbell-sr50a": ("/dev/ttyUSB1", '{ model = "sr50at", mount_height_cm = 350.0 }',
                       {"depth_cm": 55.0, "air_temperature_c": -7.0}),
    "ds18b20": ("w1", '{ id = "28-00000d1efbf6" }', {"air_temperature_c": -7.5}),
    "ina219": ("/dev/i2c-1", "{ address = 0x40 }", {"supply_v": 12.25, "current_a": 0.5}),
    "lufft-umb": ("/dev/ttyUSB0", '{ model = "irs31pro" }',
                  {"surface_temperature_c": -1.5, "condition": "frost"}),
    "maxbotix-hrxl": ("/dev/ttyUSB3", "{ mount_height_cm = 350.0 }", {"depth_cm": 63.0}),
    "mlx90614": ("/dev/i2c-1", "{ address = 0x5A, emissivity = 0.95 }",
                 {"surface_temperature_c": -1.2}),
    "pi-health": ("system", "{}", {"cpu_temperature_c": 51.0, "throttled": "under_voltage"}),
    "vaisala-md30": ("/dev/ttyUSB4", "{}", {"surface_temperature_c": -3.3}),
    "contact": ("gpio", '{ pin = 22, measures = "power_ok" }', {"power_ok": "yes"}),
}  # fmt: skip
TOLERANCE = {"depth_cm": 0.6, "current_a": 0.05}
COUNTERS = {
    "beam-pair": ("gpio", "{ pin_a = 17, pin_b = 27 }"),
    "benewake-tf-pair": ("/dev/ttyUSB5", '{ model = "tfmini-s", port_b = "/dev/ttyUSB6" }'),
    "grideye-amg88xx": ("/dev/i2c-3", "{}"),
    "hlk-ld2450": ("/dev/ttyUSB7", "{}"),
    "omron-d6t": ("/dev/i2c-4", '{ model = "44L-06" }'),
}


def sensor(name: str, bus: str, options: str) -> str:
    return (
        f'[[config.sensors]]\nid = "{name}"\ndriver = "{name}"\nbus = "{bus}"\noptions = {options}'
    )


def test_each_quantity_that_can_be_set_is_what_the_city_hears(tmp_path: Path) -> None:
    parts = [sensor(name, bus, options) for name, (bus, options, _) in SENSORS.items()]
    for name, (_, _, truth) in SENSORS.items():
        lines = [f"{quantity} = {value!r}".replace("'", '"') for quantity, value in truth.items()]
        parts.append("\n".join((f"[truth.{name}]", *lines)))
    wrong: list[str] = []

    def look(book: Book) -> None:
        for name, (_, _, truth) in SENSORS.items():
            for quantity, value in truth.items():
                if isinstance(value, str):
                    modes = [mode for _, _, mode in book.classes(name, quantity)][1:]
                    if set(modes) != {value}:
                        wrong.append(f"{name} {quantity}: {modes}, not {value}")
                    continue
                assert isinstance(value, float)
                rows = [
                    row for row in book.rows(name, quantity) if row.flag != FLAGS.index("missing")
                ]
                nearest = [abs(row.value - value) for row in rows][1:]
                if name == "campbell-sr50a" and quantity == "air_temperature_c":
                    continue  # it has a thermometer, and does not tell it
                if not nearest or not max(nearest) <= TOLERANCE.get(quantity, 0.5):
                    wrong.append(f"{name} {quantity}: {[row.value for row in rows]}, not {value}")

    run(loaded(tmp_path, *parts, lasts="6m"), look=look)
    assert not wrong, wrong


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_is_passed_by_its_crowd(tmp_path: Path, name: str) -> None:
    crowd = f'[crowd.{name}]\npersons_per_minute = {{ keyframes = [["0h", 8.0], ["16m", 20.0]] }}'
    passed: list[tuple[int, int, int]] = []

    def look(book: Book) -> None:
        errors, count = crowd_errors(book, name)
        passed.append((sum(errors), count, len(errors)))

    run(loaded(tmp_path, sensor(name, *COUNTERS[name]), crowd, lasts="16m"), look=look)
    ((error, count, windows),) = passed
    assert 120 < count < 320, passed  # 220 on average, of whom some turn back
    assert abs(error) < 4 * 5.64 * math.sqrt(windows) + 0.25 * count, passed


@pytest.mark.parametrize("table", [QUANTITIES, CROWDS])
def test_only_emulated_devices_are_named_and_all_of_them_are_tried(
    table: dict[str, object],
) -> None:
    assert set(table) <= set(EMULATIONS)
    assert set(table) == (set(SENSORS) if table is QUANTITIES else set(COUNTERS))
    for name in table:
        assert driver(name).spec.kind == "people" or table is QUANTITIES
