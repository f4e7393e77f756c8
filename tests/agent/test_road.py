"""Slipperiness and black ice: the tables, what follows from them, and a day without flapping."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aggregate import Measured
from agent.phenomena.closed import Closed
from agent.phenomena.road import (
    FOREIGN,
    HYSTERESIS_C,
    Foreign,
    Road,
    Surface,
    Trend,
    black_ice_risk,
    foreign,
    slipperiness,
)
from agent.phenomena.weather import Surroundings
from agent.quality import Flag
from drivers import road
from drivers.base import Reading
from hil.rig import Rig

S = 1_000_000_000
MINUTE = 60 * S


# --- slipperiness ---------------------------------------------------------------------------------

# By class: without friction, and with friction 0.19, 0.2, 0.44, 0.45, 1.0.
TABLE = """
dry          1  3 1 1 1 1
moist        1  3 1 1 1 1
wet          1  3 1 1 1 1
wet_salt     1  3 1 1 1 1
slush        1  3 1 1 1 1
snow         1  3 1 1 1 1
packed_snow  2  3 2 2 2 2
frost        2  3 2 2 2 2
ice          2  3 2 2 2 2
unknown      -  3 - - 1 1
none         -  3 - - 1 1
fault        -  - - - - -
"""
FRICTIONS = (None, 0.19, 0.2, 0.44, 0.45, 1.0)


def rows() -> Iterable[tuple[str | None, float | None, int | None]]:
    for line in TABLE.split("\n")[1:-1]:
        name, *levels = line.split()
        for friction, level in zip(FRICTIONS, levels, strict=True):
            condition = None if name == "none" else name
            yield condition, friction, None if level == "-" else int(level)


@pytest.mark.parametrize(("condition", "friction", "level"), list(rows()))
def test_the_class_decides_and_low_friction_is_very_slippery(
    condition: str | None, friction: float | None, level: int | None
) -> None:
    assert slipperiness(Surface(condition, friction)) == level


def test_every_class_of_the_contract_is_in_the_table() -> None:
    assert {condition for condition, _, _ in rows()} - {None} == set(road.CONDITIONS)


@pytest.mark.parametrize("condition", ["ice", None, "unknown"])
@pytest.mark.parametrize(
    ("ice_mm", "friction", "level"),
    [
        (0.05, None, 3),  # a film is what black ice is
        (0.99, None, 3),
        (1.0, None, 2),  # a plate, polished or not
        (20.0, None, 2),
        (0.5, 0.19, 3),
        (0.5, 0.2, 2),
        (3.0, 0.19, 3),
        (3.0, 0.2, 2),
    ],
)
def test_of_ice_the_layer_decides_where_friction_does_not(
    condition: str | None, ice_mm: float, friction: float | None, level: int
) -> None:
    assert slipperiness(Surface(condition, friction, ice_mm=ice_mm)) == level


@pytest.mark.parametrize(
    ("surface", "level"),
    [
        (Surface(ice_mm=0.0, snow_mm=0.0), 1),
        (Surface(ice_mm=0.04, snow_mm=0.04, water_mm=2.0), 1),
        (Surface(ice_mm=0.0), None),  # nobody looked for snow
        (Surface(snow_mm=0.0, water_mm=0.0), None),
        (Surface(ice_mm=0.0, snow_mm=5.0), None),  # loose or packed: not told
        (Surface(temperature_c=-5.0, dew_point_c=-9.0), None),
        (Surface(), None),
    ],
)
def test_without_a_class_the_layers_say_what_they_can(surface: Surface, level: int | None) -> None:
    assert slipperiness(surface) == level


# --- black ice: one window ------------------------------------------------------------------------


def wet_at(c: float, **more: float) -> Surface:
    return Surface("wet", temperature_c=c, **more)


@pytest.mark.parametrize(
    ("why", "surface", "risk"),
    [
        ("wet and below freezing", wet_at(-0.1), 2),
        ("wet and at freezing", wet_at(0.0), 2),
        ("wet, within the thermometer's error", wet_at(0.5), 1),
        ("wet and warmer", wet_at(0.6), 0),
        ("wet, and freezing within the hour", wet_at(2.0, soon_c=0.4), 1),
        ("wet, and not freezing within the hour", wet_at(2.0, soon_c=0.6), 0),
        ("wet, and warming", wet_at(-0.2, soon_c=1.0), 2),
        ("brine above its freezing point", wet_at(-3.0, freezing_c=-5.0), 0),
        ("brine close to its freezing point", wet_at(-4.5, freezing_c=-5.0), 1),
        ("brine below its freezing point", wet_at(-5.0, freezing_c=-5.0), 2),
        ("nothing freezes above 0", wet_at(1.0, freezing_c=3.0), 0),
        ("salted, strength unknown", Surface("wet_salt", temperature_c=-3.0), 1),
        ("salted, and colder than salt holds", Surface("wet_salt", temperature_c=-9.0), 2),
        ("salted and warm", Surface("wet_salt", temperature_c=0.6), 0),
        ("a film and no class", Surface(water_mm=0.05, temperature_c=-1.0), 2),
        ("less than a film and no class", Surface(water_mm=0.04, temperature_c=-1.0), 0),
        ("a film on what is called dry", Surface("dry", water_mm=0.3, temperature_c=-1.0), 2),
        ("slush that freezes", Surface("slush", temperature_c=-1.0), 2),
        ("dry and cold", Surface("dry", temperature_c=-20.0), 0),
        ("dry in dry air", Surface("dry", temperature_c=-5.0, dew_point_c=-9.0), 0),
        # dew point -5 over water is a frost point of -4.4
        ("frost may fall", Surface("dry", temperature_c=-4.6, dew_point_c=-5.0), 1),
        ("frost falls", Surface("dry", temperature_c=-5.5, dew_point_c=-5.0), 2),
        ("no frost falls", Surface("dry", temperature_c=-4.3, dew_point_c=-5.0), 0),
        ("dew on a road above freezing", Surface("dry", temperature_c=0.4, dew_point_c=3.0), 0),
        ("dew that will freeze", Surface(temperature_c=0.4, soon_c=-0.1, dew_point_c=3.0), 1),
        ("dew on a frozen road", Surface(temperature_c=-0.1, dew_point_c=3.0), 2),
        ("only a thermometer and the air", Surface(temperature_c=-6.0, dew_point_c=-5.0), 2),
        ("frost melts on brine", wet_at(-3.0, freezing_c=-5.0, dew_point_c=-1.0), 0),
        ("a film of ice", Surface("ice", ice_mm=0.4, temperature_c=-3.0), 2),
        ("ice, thickness unknown", Surface("ice", temperature_c=-3.0), 2),
        ("a film of ice and no class", Surface(ice_mm=0.1, temperature_c=-3.0), 2),
        ("a plate is seen", Surface("ice", ice_mm=1.0, temperature_c=-3.0), 1),
        ("water on a plate", Surface("ice", ice_mm=3.0, water_mm=0.2, temperature_c=-1.0), 2),
        ("ice that melts", Surface("ice", temperature_c=1.0), 1),
        ("ice in the salt", Surface("ice", temperature_c=-1.0, freezing_c=-5.0), 1),
        ("ice on a warm road", Surface("ice", temperature_c=2.1), 0),
        ("frost is white", Surface("frost", temperature_c=-3.0), 1),
        ("frost with a film", Surface("frost", water_mm=0.1, temperature_c=-3.0), 2),
        ("frost in the salt", Surface("frost", temperature_c=-1.0, freezing_c=-5.0), 0),
        ("what snow hides", Surface("snow", temperature_c=-3.0, dew_point_c=-1.0), None),
        ("packed snow hides", Surface("packed_snow", ice_mm=2.0, temperature_c=-3.0), None),
        ("melting snow that freezes", Surface("snow", water_mm=1.0, temperature_c=-3.0), 2),
        ("neither wetness nor air", Surface(temperature_c=-3.0), None),
        ("an unknown class", Surface("unknown", temperature_c=-3.0), None),
        ("friction is no wetness", Surface(friction=0.1, temperature_c=-3.0), None),
        ("no temperature", Surface("wet", water_mm=1.0, dew_point_c=1.0), None),
        ("a sensor with a fault", Surface("fault", water_mm=1.0, temperature_c=-3.0), None),
    ],
)
def test_black_ice_by_the_table(why: str, surface: Surface, risk: int | None) -> None:
    assert black_ice_risk(surface) == risk, why


def maybe(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high)


surfaces = st.builds(
    Surface,
    condition=st.sampled_from((*road.CONDITIONS, None)),
    friction=maybe(0.0, 1.0),
    water_mm=maybe(0.0, 3.0),
    ice_mm=maybe(0.0, 5.0),
    snow_mm=maybe(0.0, 50.0),
    temperature_c=st.floats(-25.0, 10.0),
    freezing_c=maybe(-25.0, 2.0),
    dew_point_c=maybe(-30.0, 10.0),
    soon_c=st.none(),
)


@given(surfaces, st.floats(0.0, 10.0), st.floats(0.0, 5.0))
def test_colder_is_never_safer(surface: Surface, colder_c: float, fall_c: float) -> None:
    warm_c = surface.temperature_c or 0.0
    warm = surface._replace(soon_c=warm_c - fall_c)
    cold_c = warm_c - colder_c
    cold = surface._replace(temperature_c=cold_c, soon_c=cold_c - fall_c)
    if black_ice_risk(warm) is None:
        assert black_ice_risk(cold) is None
    else:
        assert (black_ice_risk(cold) or 0) >= (black_ice_risk(warm) or 0)


@given(surfaces, st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_faster_fall_is_never_safer(surface: Surface, fall_c: float, more_c: float) -> None:
    now_c = surface.temperature_c or 0.0
    slow = black_ice_risk(surface._replace(soon_c=now_c - fall_c))
    fast = black_ice_risk(surface._replace(soon_c=now_c - fall_c - more_c))
    assert (fast is None) == (slow is None)
    assert (fast or 0) >= (slow or 0)


@given(surfaces, st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_more_water_is_never_safer(surface: Surface, less_mm: float, more_mm: float) -> None:
    if surface.freezing_c is not None:  # brine may be safer than frost on a dry road
        surface = surface._replace(freezing_c=0.0)
    less_mm, more_mm = sorted((less_mm, more_mm))
    wetter = black_ice_risk(surface._replace(water_mm=more_mm))
    assert (wetter or 0) >= (black_ice_risk(surface._replace(water_mm=less_mm)) or 0)


@given(surfaces, st.sampled_from(("moist", "wet", "slush")))
def test_a_wet_class_is_never_safer_than_a_dry_one(surface: Surface, wet: str) -> None:
    surface = surface._replace(freezing_c=None)
    dry = black_ice_risk(surface._replace(condition="dry"))
    assert (black_ice_risk(surface._replace(condition=wet)) or 0) >= (dry or 0)


@given(surfaces, st.floats(-25.0, 2.0), st.floats(-25.0, 2.0))
def test_salt_never_raises_the_risk(surface: Surface, one_c: float, other_c: float) -> None:
    salted_c, plain_c = sorted((one_c, other_c))
    salted = black_ice_risk(surface._replace(freezing_c=salted_c))
    plain = black_ice_risk(surface._replace(freezing_c=plain_c))
    assert (salted or 0) <= (plain or 0)


@given(surfaces)
def test_a_risk_needs_the_surfaces_temperature_and_its_wetness_or_the_air(surface: Surface) -> None:
    assert black_ice_risk(surface._replace(temperature_c=None)) is None
    blind = surface._replace(condition=None, water_mm=None, ice_mm=None, dew_point_c=None)
    assert black_ice_risk(blind) is None
    without_air = black_ice_risk(surface._replace(dew_point_c=None))
    assert (black_ice_risk(surface) or 0) >= (without_air or 0)


# --- windows in order -----------------------------------------------------------------------------


def window(at_min: float, *, flag: Flag = "good", **said: float | str) -> Closed:
    end_ns = round(at_min * MINUTE)
    values = {
        name: {"mode": value} if isinstance(value, str) else {"median": value}
        for name, value in said.items()
    }
    flags: dict[str, Flag] = dict.fromkeys(said, flag)
    return Closed(end_ns - MINUTE, end_ns, end_ns, True, values, flags)


def told(sensor: Road, series: Iterable[tuple[str, float]]) -> list[int]:
    """Give a sensor a class and a surface temperature each minute; return the risks told."""
    return [
        int(
            str(
                sensor.derive(window(at, condition=condition, surface_temperature_c=c))[
                    "black_ice_risk"
                ]
            )
        )
        for at, (condition, c) in enumerate(series, start=1)
    ]


def changes(risks: Iterable[int | None]) -> int:
    return sum(before != after for before, after in pairwise(risks))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean_c", [-0.2, 0.0, 0.2, 0.5])
def test_noise_around_freezing_does_not_flap_for_a_day(seed: int, mean_c: float) -> None:
    noise = Random(seed)
    series = [("wet", mean_c + noise.gauss(0.0, 0.2)) for _ in range(1440)]
    alone = [black_ice_risk(Surface(name, temperature_c=c)) for name, c in series]
    assert changes(alone) > 100  # what a window alone would say
    steady = told(Road(Surroundings()), series)
    assert steady == sorted(steady)
    assert steady[-1] >= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_class_at_the_edge_of_two_does_not_flap_for_a_day(seed: int) -> None:
    choice = Random(seed)
    series = [(choice.choice(("dry", "dry", "moist")), -3.0) for _ in range(1440)]
    alone = [black_ice_risk(Surface(name, temperature_c=c)) for name, c in series]
    assert changes(alone) > 100
    steady = told(Road(Surroundings()), series)
    assert steady == sorted(steady)
    assert steady[-1] == 2


@pytest.mark.parametrize("seed", range(5))
def test_a_night_is_warned_of_before_it_freezes_and_is_over_once(seed: int) -> None:
    noise = Random(seed)

    def surface_c(at_min: float) -> float:
        return 4.0 * math.cos(2 * math.pi * at_min / 1440)

    series = [("wet", surface_c(at) + noise.gauss(0.0, 0.1)) for at in range(1440)]
    risks = told(Road(Surroundings()), series)
    freezes, thaws = 360, 1080
    possible, likely = risks.index(1), risks.index(2)
    over = len(risks) - risks[::-1].index(2)  # the first that is lower for good
    assert 30 <= freezes - possible <= 120
    assert abs(likely - freezes) <= 15
    assert 30 <= over - thaws <= 120
    assert changes(risks) <= 4


def test_a_lower_risk_is_told_when_it_has_lasted() -> None:
    risks = told(Road(Surroundings()), [("wet", -1.0)] + [("dry", 5.0)] * 40)
    assert risks == [2] * 30 + [0] * 11


def test_a_higher_risk_is_told_at_once() -> None:
    assert told(Road(Surroundings()), [("dry", 5.0), ("wet", 0.3), ("wet", -0.1)]) == [0, 1, 2]


def test_a_moving_gateway_has_neither_memory_nor_trend() -> None:
    series = [("wet", -1.0), ("dry", 5.0), ("wet", 0.3), ("wet", 5.0)] * 20
    assert told(Road(Surroundings(), moves=True), series) == [2, 0, 1, 0] * 20
    cooling = [("wet", 4.0 - at / 60) for at in range(180)]
    assert told(Road(Surroundings(), moves=True), cooling) == [0] * 180
    assert told(Road(Surroundings()), cooling)[-1] == 1


def test_the_risk_goes_on_after_a_restart() -> None:
    first = Road(Surroundings())
    assert told(first, [("wet", -0.1)]) == [2]
    next_life = Road(Surroundings())
    next_life.restore(json.loads(json.dumps(first.state())))
    warmer = HYSTERESIS_C - 0.2
    assert told(next_life, [("wet", warmer)]) == [2]
    assert told(Road(Surroundings()), [("wet", warmer)]) == [1]


@given(
    st.lists(st.sampled_from([("wet", -1.0), ("wet", 0.3), ("dry", 5.0)]), max_size=80), st.data()
)
def test_a_restart_at_any_window_ends_no_warning_early(
    series: list[tuple[str, float]], data: st.DataObject
) -> None:
    series += [("dry", 5.0)] * 40
    stop = data.draw(st.integers(0, len(series) - 40))
    whole = told(Road(Surroundings()), series)
    first, second = Road(Surroundings()), Road(Surroundings())
    found = told(first, series[:stop])
    second.restore(json.loads(json.dumps(first.state())))
    found += told(second, series[stop:])
    assert all(ours >= theirs for ours, theirs in zip(found, whole, strict=True))
    assert found[-1] == 0


def test_after_a_restart_a_lower_risk_must_last_as_long_as_ever() -> None:
    first, second = Road(Surroundings()), Road(Surroundings())
    told(first, [("wet", -1.0)])
    second.restore(json.loads(json.dumps(first.state())))
    assert told(second, [("dry", 5.0)] * 40) == [2] * 30 + [0] * 10


@given(st.sampled_from([60, 600, 1800, 3600]), st.lists(st.integers(-2000, 2000), min_size=8))
def test_a_clock_that_trembles_takes_no_trend_away(window_s: int, off_us: list[int]) -> None:
    """The ends of windows are UTC's; by the boot clock they lie some microseconds off."""
    even, trembling = Trend(), Trend()
    off_us *= 3700 // window_s // len(off_us) + 2
    falls = [
        [
            trend.add(-0.001 * i * window_s, i * window_s * S + us * 1000 * trembles)
            for i, us in enumerate(off_us)
        ]
        for trend, trembles in ((even, 0), (trembling, 1))
    ]
    assert falls[1] == pytest.approx(falls[0], rel=1e-3)
    assert falls[0][-1] > 0


@pytest.mark.parametrize("risk", [None, -1, 3, True, 1.0, "1", [1]])
def test_a_state_that_makes_no_sense_is_refused(risk: object) -> None:
    sensor = Road(Surroundings())
    with pytest.raises(ValueError, match="black ice"):
        sensor.restore({"black_ice_risk": risk})
    with pytest.raises(ValueError, match="black ice"):
        sensor.restore({})


# --- what sensors there are -----------------------------------------------------------------------


def test_values_that_may_not_be_believed_are_not_used() -> None:
    said = {"condition": "ice", "surface_temperature_c": -5.0, "friction": 0.1}
    assert Road(Surroundings()).derive(window(1, **said)) == {
        "slipperiness": 3,
        "black_ice_risk": 2,
    }
    assert Road(Surroundings()).derive(window(1, flag="bad", **said)) == {}


def test_a_thermometer_with_the_air_of_another_sensor_tells_of_frost_only() -> None:
    air = Surroundings()
    sensor = Road(air)
    assert sensor.derive(window(1, surface_temperature_c=-6.0)) == {}
    air.hear(Reading("air_temperature_c", -2.0, MINUTE))
    air.hear(Reading("humidity_percent", 95.0, MINUTE))
    assert sensor.derive(window(2, surface_temperature_c=-6.0)) == {"black_ice_risk": 2}
    assert sensor.derive(window(17, surface_temperature_c=-6.0)) == {}  # nobody speaks any more


def test_a_devices_own_dew_point_goes_before_that_of_others() -> None:
    air = Surroundings()
    air.hear(Reading("dew_point_c", -5.0, MINUTE))
    dry = window(1, surface_temperature_c=-6.0, dew_point_c=-20.0)
    assert Road(air).derive(dry) == {"black_ice_risk": 0}


def test_a_road_that_says_nothing_gets_nothing() -> None:
    assert Road(Surroundings()).derive(window(1)) == {}


@pytest.mark.parametrize("driver", ["lufft-umb", "vaisala-md30"])
def test_an_emulated_devices_records_carry_both(driver: str) -> None:
    rig = Rig(driver)
    sensor = Road(Surroundings())
    quantities = rig.driver.quantities
    for minute in range(1, 4):
        tally = Measured(quantities)
        for observation in rig.run(60.0):
            tally.add(observation)
        values = {name: tally.value(name) for name in quantities}
        flags: dict[str, Flag] = {name: "good" if values[name] else "missing" for name in values}
        end_ns = minute * MINUTE
        closed = Closed(end_ns - MINUTE, end_ns, end_ns, True, values, flags)
        found = sensor.derive(closed)
        assert closed.mode("condition") == "ice"  # 0.4 mm of it at -7.5 degC, friction 0.2
        assert found == {"slipperiness": 2, "black_ice_risk": 2}


# --- foreign codes --------------------------------------------------------------------------------


def test_every_class_of_the_contract_has_foreign_codes() -> None:
    assert set(FOREIGN) == set(road.CONDITIONS)
    assert all(1 <= each.ntcip <= 13 for each in FOREIGN.values())
    assert all(foreign(name) == FOREIGN[name] for name in road.CONDITIONS)


def test_what_foreign_codes_can_tell_of_slippery_snow_and_thin_ice() -> None:
    assert foreign("packed_snow", slipperiness=3) == Foreign(7, ("packedSnow", "slipperyRoad"))
    assert foreign("packed_snow", slipperiness=2) == Foreign(9, ("packedSnow",))
    assert foreign("ice", ice_mm=0.99) == Foreign(7, ("blackIce",))
    assert foreign("ice", ice_mm=1.0) == Foreign(7, ("ice",))
    assert foreign("frost", slipperiness=3, ice_mm=0.5) == Foreign(13, ())


@pytest.mark.parametrize("name", road.CONDITIONS)
def test_the_page_has_the_codes_of_the_tables(name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/road.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    codes = [
        ", ".join(str(code) for code, means in table.items() if means == name) or "-"
        for table in (road.LUFFT, road.VAISALA)
    ]
    row = f"| `{name}` | {' | '.join(codes)} |"
    assert (row in lines) == (name != "unknown")
    words = ", ".join(f"`{word}`" for word in FOREIGN[name].datex) or "-"
    assert any(
        re.fullmatch(rf"\| `{name}`.* \| {FOREIGN[name].ntcip} [a-z ]+ \| {words} \|", line)
        for line in lines
    )
