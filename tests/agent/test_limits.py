"""What the configuration says of a quantity's limits takes the place of the driver's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import drivers
from agent.plan import Plan, limits_of, load_plan
from config.load import ConfigError, Problem
from config.model import LimitsTable
from drivers import limits
from drivers.base import Limits

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "quality.md"

STATION = """
[uplink]
brokers = ["mqtt://broker.example"]
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "/dev/serial/by-id/line"
options = { model = "irs31pro" }
ROAD
[[sensors]]
id = "mast-1"
driver = "modbus-rtu"
bus = "/dev/serial/by-id/mast"
options = { address = 1, kind = "weather", registers = [
  { register = 100, type = "s16", scale = 0.1, quantity = "air_temperature_c", unit = "Cel" },
  { register = 101, type = "s16", scale = 0.1, quantity = "wind_speed_m_s", unit = "m/s" },
] }
MAST
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "gpio"
options = { pin_a = 17, pin_b = 27 }
DOOR
"""


def planned(folder: Path, **tables: str) -> Plan:
    text = STATION
    for place in ("ROAD", "MAST", "DOOR"):
        text = text.replace(place, tables.get(place.lower(), ""))
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return load_plan(path)


def problem(folder: Path, **tables: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        planned(folder, **tables)
    (one,) = caught.value.problems
    return one


def believed(plan: Plan, at: int) -> dict[str, Limits]:
    sensor = plan.sensors[at]
    build: Any = sensor.driver
    quantities = build(None, sensor.options, lambda: 0).quantities
    return {name: each.limits for name, each in sensor.believed(quantities).items()}


def test_without_a_word_the_drivers_limits_hold(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert believed(plan, 0)["surface_temperature_c"] == limits.SURFACE_C
    assert believed(plan, 1) == {"air_temperature_c": limits.AIR_C, "wind_speed_m_s": Limits()}


def test_what_is_said_of_one_quantity_concerns_no_other(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        road="[sensors.quality.surface_temperature_c]\nspike = 8\n",
        mast="[sensors.quality.wind_speed_m_s]\nrange = [0.0, 75.0]\nrate_per_s = 20\n",
    )
    road = believed(plan, 0)["surface_temperature_c"]
    assert (road.spike, road.suspect_spike, road.range) == (8, 2.0, limits.SURFACE_C.range)
    assert believed(plan, 1) == {
        "air_temperature_c": limits.AIR_C,
        "wind_speed_m_s": Limits(range=(0.0, 75.0), rate_per_s=20),
    }


@pytest.mark.parametrize(
    ("table", "where", "what"),
    [
        (
            "[sensors.quality.surface_temp_c]\nspike = 8",
            "sensors[0].quality.surface_temp_c",
            'unknown quantity "surface_temp_c"; did you mean "surface_temperature_c"?',
        ),
        (
            "[sensors.quality.condition]\nspike = 8",
            "sensors[0].quality.condition",
            "condition is a class, and limits are for numbers; remove this table",
        ),
        (
            "[sensors.quality.friction]\nspkie = 8",
            "sensors[0].quality.friction.spkie",
            'unknown key "spkie"; did you mean "spike"?',
        ),
        (
            "[sensors.quality.friction]\nrange = [1.0, 0.0]",
            "sensors[0].quality.friction.range",
            "must be [low, high] with low < high, or [] to switch the test off",
        ),
        (
            "[sensors.quality.friction]\nrange = [1.0]",
            "sensors[0].quality.friction.range",
            "must be [low, high] with low < high, or [] to switch the test off",
        ),
        (
            "[sensors.quality.friction]\nspike = -1",
            "sensors[0].quality.friction.spike",
            "must be at least 0.0, not -1",
        ),
        (
            '[sensors.quality.friction]\nspike = "much"',
            "sensors[0].quality.friction.spike",
            'must be a number, not "much"',
        ),
        (
            "[sensors.quality.friction]\nrange = [0.1, 0.9]\nsuspect_range = [0.0, 0.8]",
            "sensors[0].quality.friction",
            "suspect_range must lie within range, 0.1 to 0.9",
        ),
        (
            "[sensors.quality.friction]\nspike = 0.2\nsuspect_spike = 0.3",
            "sensors[0].quality.friction",
            "suspect_spike must be at most spike, 0.2",
        ),
        (
            "[sensors.quality.friction]\nflat_s = 60\nsuspect_flat_s = 61",
            "sensors[0].quality.friction",
            "suspect_flat_s must be at most flat_s, 60",
        ),
        ("quality = 5", "sensors[0].quality", "must be a table, not 5"),
    ],
)
def test_each_way_to_get_it_wrong_is_told(
    tmp_path: Path, table: str, where: str, what: str
) -> None:
    found = problem(tmp_path, road=table)
    assert (found.path, found.what) == (where, what)


def test_a_quantity_of_the_options_is_known_and_its_nearest_name_offered(tmp_path: Path) -> None:
    found = problem(tmp_path, mast="[sensors.quality.wind_speed]\nspike = 8")
    assert found.path == "sensors[1].quality.wind_speed"
    assert found.what == 'unknown quantity "wind_speed"; did you mean "wind_speed_m_s"?'


def test_people_are_not_judged(tmp_path: Path) -> None:
    found = problem(tmp_path, door="[sensors.quality.total]\nspike = 8")
    assert found.path == "sensors[2].quality.total"
    assert "not judged" in found.what


def test_nothing_and_an_empty_range_switch_a_test_off() -> None:
    table = LimitsTable(
        range=[], suspect_range=[], spike=0, suspect_spike=0, rate_per_s=0, suspect_flat_s=0
    )
    assert limits_of(table, limits.AIR_C) == Limits()


def test_a_tolerance_of_0_is_one() -> None:
    default = Limits(flat_s=60.0, flat_tolerance=0.5)
    assert limits_of(LimitsTable(flat_tolerance=0), default) == Limits(flat_s=60.0)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"spike": 1.0}, {"suspect_spike": None}),  # 2 by default: it would be rejected already
        ({"suspect_spike": 9.0}, {"spike": None}),  # 5 by default: 9 is to be only suspect
        ({"range": [-30.0, 30.0]}, {"suspect_range": None}),
        ({"suspect_range": [-60.0, 30.0]}, {"range": None}),
        ({"flat_s": 3600.0}, {"suspect_flat_s": None}),
        ({"spike": 3.0}, {"suspect_spike": 2.0}),  # it fits
    ],
)
def test_a_default_that_does_not_fit_to_what_is_said_is_given_up(
    said: dict[str, Any], expected: dict[str, Any]
) -> None:
    merged = limits_of(LimitsTable(**said), limits.AIR_C)
    for name, value in (said | expected).items():
        value = tuple(value) if isinstance(value, list) else value
        assert getattr(merged, name) == value


NUMBER = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0, 86_400.0])
SPAN = st.sampled_from([[], [-50.0, 60.0], [-45.0, 45.0], [-1.0, 1.0]])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("range", "suspect_range"), SPAN),
            **dict.fromkeys(
                ("spike", "suspect_spike", "rate_per_s", "flat_s", "suspect_flat_s"), NUMBER
            ),
        },
    ),
    st.sampled_from([Limits(), limits.AIR_C, limits.DEPTH_CM, limits.SURFACE_C]),
)
def test_whatever_is_said_holds_and_suspect_comes_before_rejected(
    said: dict[str, Any], default: Limits
) -> None:
    try:
        merged = limits_of(LimitsTable(**said), default)
    except ValidationError:
        return  # what is said contradicts itself
    for name, value in said.items():
        assert (getattr(merged, name) or None) == (
            (tuple(value) if isinstance(value, list) else value) or None
        )
    if merged.range and merged.suspect_range:
        low, high = merged.suspect_range
        assert merged.range[0] <= low
        assert high <= merged.range[1]
    for fail, suspect in (
        (merged.spike, merged.suspect_spike),
        (merged.flat_s, merged.suspect_flat_s),
    ):
        assert fail is None or suspect is None or suspect <= fail


def test_the_keys_of_the_configuration_are_those_of_the_drivers() -> None:
    assert set(LimitsTable.model_fields) == set(Limits._fields)


@pytest.mark.parametrize("name", drivers.DRIVERS)
def test_an_empty_table_changes_nothing(name: str) -> None:
    for quantity in drivers.load(name).spec.quantities:
        assert limits_of(LimitsTable(), quantity.limits) == quantity.limits


def test_the_document_shows_what_is_accepted(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "gateway.toml"
    path.write_text('[uplink]\nbrokers = ["mqtt://broker.example"]\n' + text, encoding="utf-8")
    (sensor,) = load_plan(path).sensors
    table = sensor.table.quality["air_temperature_c"]
    assert table.model_fields_set == set(LimitsTable.model_fields)
    assert limits_of(table, limits.AIR_C).suspect_range is None


@pytest.mark.parametrize(
    ("quantity", "own"),
    [
        ("air_temperature_c", limits.AIR_C),
        ("humidity_percent", limits.HUMIDITY_PERCENT),
        ("pressure_hpa", limits.PRESSURE_HPA),
        ("dew_point_c", limits.DEW_POINT_C),
        ("surface_temperature_c", limits.SURFACE_C),
        ("sensor_temperature_c", limits.HOUSING_C),
        ("depth_cm", limits.DEPTH_CM),
    ],
)
def test_the_document_gives_the_defaults_that_hold(quantity: str, own: Limits) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{quantity}`"))
    flat = f"{own.suspect_flat_s / 3600:g} h" if own.suspect_flat_s else "-"
    cells = (
        *(
            f"{span[0]:g} to {span[1]:g}" if span else "-"
            for span in (own.range, own.suspect_range)
        ),
        f"outlier {own.outlier:g}" if own.outlier else f"{own.spike:g}, {own.suspect_spike:g}",
        f"{own.rate_per_s:g}" if own.rate_per_s else "-",
        flat,
    )
    assert tuple(cell.strip() for cell in row.split("|")[2:7]) == cells
