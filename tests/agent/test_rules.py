"""The alert rules: what they look at, what noise around a threshold does, who is left alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerts import AlertBook
from agent.catalogue import CATALOGUE
from agent.clock import Stamp
from agent.phenomena.closed import Facts
from agent.record import AlertRecord, Record
from agent.rules import CONDITION_NAMES, Finding, Rules, Subject
from config.model import AlertsTable
from drivers.base import Reading

S = 1_000_000_000
MONDAY_NS = 1_800_057_600 * S
SYNCED = Stamp("synced", 0.02)
PLACE = {"ja": "北3条", "en": "N3"}
GOOD: Mapping[str, Any] = {"flag": "good", "n": 60, "expected": 60}


def rules(
    kind: str = "snow", active: Iterable[tuple[str | None, str]] = (), **settings: Any
) -> Rules:
    subjects = {"s": Subject(kind, PLACE), "idle": Subject(kind, PLACE, in_maintenance=True)}
    return Rules(AlertsTable.model_validate(settings), subjects, list(active))


def record(
    kind: str,
    values: Mapping[str, object],
    minute: int = 0,
    quality: Mapping[str, Any] = GOOD,
    *,
    stream: str = "s",
    window_s: int = 60,
) -> Record:
    start_ns = MONDAY_NS + minute * 60 * S
    end_ns = start_ns + window_s * S
    return Record(stream, kind, start_ns, end_ns, start_ns, end_ns, SYNCED, quality, values)


def number(value: float, **more: object) -> dict[str, object]:
    spread = {"mean": value, "min": value, "max": value, "sd": 0.0, "median": value, "n": 60}
    return {**spread, **more}


def names(findings: Iterable[Finding]) -> list[tuple[str, bool]]:
    return [(finding.name, finding.is_there) for finding in findings]


class Life:
    """Rules and book together, as the pipeline has them."""

    def __init__(self, own: Rules) -> None:
        ids = itertools.count(1)
        self.rules = own
        self.book = AlertBook([], lambda: str(next(ids)))
        self.records: list[AlertRecord] = []

    def take(self, findings: Iterable[Finding], at_ns: int) -> None:
        for finding in findings:
            said = {"sensor": finding.sensor, "at_ns": at_ns, "clock": SYNCED}
            if finding.is_there:
                told = self.book.raise_(
                    finding.name, kind=finding.kind, values=finding.values, **said
                )
            else:
                told = self.book.clear(finding.name, **said)
            self._note(told)
        for told in self.book.tick(at_ns, SYNCED):
            self._note(told)

    def look(self, each: Record, facts: Facts = Facts()) -> None:  # noqa: B008
        self.take(self.rules.look(each, facts), each.end_ns + 2 * S)

    def _note(self, told: AlertRecord | None) -> None:
        if told is not None:
            self.records.append(told)

    def episodes(self, name: str) -> list[tuple[int, int | None]]:
        """Return when each episode was raised and cleared, in minutes."""
        found: dict[str, list[int | None]] = {}
        for each in self.records:
            if each.alert == name:
                minute = (each.time_ns - MONDAY_NS) // (60 * S)
                spans = found.setdefault(each.id, [None, None])
                if each.state == "raised":
                    spans[0] = minute
                elif each.state == "cleared":
                    spans[1] = minute
        return [(begin or 0, end) for begin, end in found.values()]


# A month of noise around each threshold: none missed, none flaps, each is cleared

MONTH_MIN = 30 * 24 * 60
PERIOD_MIN = 3 * 24 * 60  # of the month's slow swing through the threshold: ten episodes
FIRST_MIN = PERIOD_MIN // 4


def swing(minute: int) -> float:
    """Return -1 ... 1: below 0 from FIRST_MIN on for half of each period."""
    return -math.sin(2 * math.pi * (minute - FIRST_MIN) / PERIOD_MIN)


def noisy_month(name: str, make: Any, own: Rules, step_min: int = 1) -> tuple[Life, list[int]]:
    """Live a month; return it and the minutes at which the condition truly began."""
    life, random = Life(own), Random(7)
    for minute in range(0, MONTH_MIN, step_min):
        made = make(minute, swing(minute), random)
        facts = Facts()
        if isinstance(made, tuple):
            made, facts = made
        life.look(made, facts)
    return life, list(range(FIRST_MIN, MONTH_MIN, PERIOD_MIN))


def surface(minute: int, swing: float, random: Random) -> Record:
    surface_c = 3 * swing + random.gauss(0, 0.1)
    return record("road", {"surface_temperature_c": number(surface_c)}, minute)


def surface_forecast(minute: int, swing: float, random: Random) -> Record:
    expected = 3 * swing + random.gauss(0, 0.1)
    forecast = {"at": "", "value": expected + 1, "low": expected, "high": 9.0, "skill": 0.1}
    values = {"surface_temperature_c": number(5.0), "forecast_surface_temperature_c": forecast}
    return record("road", values, minute)


def slippery(minute: int, swing: float, random: Random) -> Record:
    grade = 3 if swing + random.gauss(0, 0.05) < 0 else 2
    condition = {"mode": "packed_snow", "share": {"packed_snow": 1}, "n": 60}
    return record("road", {"condition": condition, "slipperiness": grade}, minute)


def storm(minute: int, swing: float, random: Random) -> tuple[Record, Facts]:
    storm_cm = 10 - 8 * swing + random.gauss(0, 0.3)
    values = {"depth_cm": number(50.0), "new_snow_cm": storm_cm}
    return record("snow", values, minute), Facts(storm_cm=storm_cm)


def storm_forecast(minute: int, swing: float, random: Random) -> tuple[Record, Facts]:
    expected = 10 - 8 * swing + random.gauss(0, 0.3)
    forecast = {"at": "", "value": expected, "low": 0.0, "high": 20.0, "skill": 0.1}
    values = {"depth_cm": number(50.0), "new_snow_cm": 1.0, "forecast_new_snow_cm": forecast}
    return record("snow", values, minute), Facts(storm_cm=1.0)


def crowd(minute: int, swing: float, random: Random) -> Record:
    half = round(1000 - 500 * swing + random.gauss(0, 5.64))
    counts = {"count": half, "unclamped": half}
    values = {"towards": counts, "away": counts, "epsilon": "1/4", "noise_sd": 5.64, "ci95": 12}
    return record("people", values, minute, window_s=900)


def silence(minute: int, swing: float, random: Random) -> Record:
    quality = {"flag": "missing", "n": 0, "expected": 60, "reasons": ["bus_error"]}
    return record("snow", {"depth_cm": None}, minute, quality if swing < 0 else GOOD)


def obstruction(minute: int, swing: float, random: Random) -> Record:
    quality = {"flag": "missing", "n": 0, "expected": 60, "reasons": ["obstructed"]}
    return record("snow", {"depth_cm": None}, minute, quality if swing < 0 else GOOD)


@pytest.mark.parametrize(
    ("name", "make", "kind", "step_min"),
    [
        ("freezing", surface, "road", 1),
        ("freezing_forecast", surface_forecast, "road", 1),
        ("slippery", slippery, "road", 1),
        ("snow_dispatch", storm, "snow", 1),
        ("snow_forecast", storm_forecast, "snow", 1),
        ("crowding", crowd, "people", 15),
        ("sensor_missing", silence, "snow", 1),
        ("sensor_obstructed", obstruction, "snow", 1),
    ],
)
def test_in_a_noisy_month_each_episode_is_told_once_and_cleared(
    name: str, make: Any, kind: str, step_min: int
) -> None:
    life, begun = noisy_month(name, make, rules(kind), step_min)
    episodes = life.episodes(name)
    assert len(episodes) == len(begun)
    for (raised, cleared), truly in zip(episodes, begun, strict=True):
        assert -120 <= raised - truly <= 120  # the noise may cross a little before the swing does
        assert cleared is not None
        # By the end of its half period, and as far beyond as hysteresis and hold reach.
        assert PERIOD_MIN / 2 - 120 <= cleared - truly <= PERIOD_MIN * 0.8


def test_without_hysteresis_and_hold_the_same_month_flaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: it is the second threshold and the hold that keep it quiet."""
    monkeypatch.setitem(CATALOGUE, "freezing", CATALOGUE["freezing"]._replace(hold_s=0))
    eager = rules("road", freezing={"hysteresis_k": 1e-9})
    life, begun = noisy_month("freezing", surface, eager)
    assert len(life.episodes("freezing")) > 3 * len(begun)


# What each looks at


def test_a_door_is_told_by_a_single_reading() -> None:
    own = rules("cabinet")
    opened = own.hear("s", Reading("open", "yes", 0))
    assert opened == Finding("cabinet_door", "s", "cabinet", True, {"place": PLACE})
    assert own.hear("s", Reading("open", None, 1, ("weak_signal",))) is None
    shut = own.hear("s", Reading("open", "no", 2))
    assert shut == Finding("cabinet_door", "s", "cabinet", False)
    assert own.hear("s", Reading("open", "no", 3)) is None


@pytest.mark.parametrize(
    ("quantity", "bad", "good", "name"),
    [
        ("open", "yes", "no", "cabinet_door"),
        ("power_ok", "no", "yes", "power_fail"),
        ("throttled", "under_voltage", "throttled", "undervoltage"),
        ("supply_v", 10.4, 12.1, "undervoltage"),
    ],
)
def test_what_happens_at_an_instant(quantity: str, bad: Any, good: Any, name: str) -> None:
    own = rules("cabinet", undervoltage={"supply_v": 10.5})
    told = [own.hear("s", Reading(quantity, value, 0)) for value in (good, bad, good)]
    assert names(each for each in told if each) == [(name, True), (name, False)]


def test_a_supply_has_no_threshold_unless_one_is_given() -> None:
    assert rules("cabinet").hear("s", Reading("supply_v", 0.1, 0)) is None


def test_a_supply_between_both_thresholds_stays_what_it_was() -> None:
    own = rules("cabinet", undervoltage={"supply_v": 10.5, "hysteresis_v": 0.3})
    assert own.hear("s", Reading("supply_v", 10.6, 0)) is None
    assert names(filter(None, [own.hear("s", Reading("supply_v", 10.4, 0))])) == [
        ("undervoltage", True)
    ]
    assert names(filter(None, [own.hear("s", Reading("supply_v", 10.79, 0))])) == [
        ("undervoltage", True)
    ]
    assert names(filter(None, [own.hear("s", Reading("supply_v", 10.81, 0))])) == [
        ("undervoltage", False)
    ]


def test_black_ice_is_slippery_whatever_the_device_calls_it() -> None:
    values = {"surface_temperature_c": number(-1.0), "black_ice_risk": 2}
    own = rules("road", slippery={"after_s": 0})
    found = {each.name: each for each in own.look(record("road", values))}
    assert found["slippery"].values["black_ice_risk"] == 2
    assert found["slippery"].values["condition_name"] == CONDITION_NAMES["unknown"]


def test_a_surface_temperature_that_is_not_believed_raises_nothing() -> None:
    cold = number(-30.0, flag="bad", reasons=["stuck"])
    assert list(rules("road").look(record("road", {"surface_temperature_c": cold}))) == []


def test_snow_that_has_come_is_forecast_no_more() -> None:
    own = rules()
    forecast = {"at": "", "value": 12.0, "low": 8.0, "high": 15.0, "skill": 0.2}
    values = {"depth_cm": number(50.0), "new_snow_cm": 8.0, "forecast_new_snow_cm": forecast}
    expected = own.look(record("snow", values, 0), Facts(storm_cm=8.0))
    assert names(expected) == [("snow_forecast", True)]
    come = own.look(record("snow", values | {"new_snow_cm": 11.0}, 1), Facts(storm_cm=11.0))
    assert names(come) == [("snow_dispatch", True), ("snow_forecast", False)]


def test_a_sensor_that_lacks_one_value_is_not_missing() -> None:
    own = rules("weather")
    quality = {"flag": "missing", "n": 60, "expected": 60, "reasons": ["out_of_range"]}
    values = {"air_temperature_c": number(-4.0, flag="good", reasons=[]), "humidity_percent": None}
    told = [names(own.look(record("weather", values, minute, quality))) for minute in range(60)]
    assert told == [[]] * 60


def test_a_sensor_of_which_all_is_rejected_is_missing() -> None:
    own = rules("weather")
    quality = {"flag": "bad", "n": 0, "expected": 60, "reasons": ["out_of_range"]}
    told = [names(own.look(record("weather", {}, minute, quality))) for minute in range(12)]
    assert ("sensor_missing", True) in told[-1]


@pytest.mark.parametrize(
    ("kind", "name"), [("snow", "sensor_obstructed"), ("cabinet", "sensor_missing")]
)
def test_where_nothing_comes_back_it_is_the_view_of_what_has_one(kind: str, name: str) -> None:
    own = rules(kind)
    quality = {"flag": "missing", "n": 0, "expected": 60, "reasons": ["weak_signal"]}
    told = [names(own.look(record(kind, {}, minute, quality))) for minute in range(12)]
    assert told[-1] == [(name, True)]


def test_a_free_view_ends_it_though_another_value_never_comes() -> None:
    own = rules("snow")
    blocked = {"flag": "missing", "n": 0, "expected": 60, "reasons": ["obstructed"]}
    told = [names(own.look(record("snow", {}, minute, blocked))) for minute in range(12)]
    assert told[-1] == [("sensor_obstructed", True)]
    free = {"flag": "missing", "n": 60, "expected": 60, "reasons": ["weak_signal"]}
    values = {"depth_cm": number(42.0, flag="good", reasons=[]), "other_mm": None}
    assert names(own.look(record("snow", values, 12, free))) == [("sensor_obstructed", False)]


def test_durations_are_of_the_clock_that_does_not_step() -> None:
    own = rules("road")
    values = {"slipperiness": 3}
    early = replace(record("road", values, 0), start_ns=0, end_ns=60 * S)  # in 1970
    assert names(own.look(early)) == []
    assert names(own.look(record("road", values, 1))) == []
    told = [names(own.look(record("road", values, minute))) for minute in range(2, 7)]
    assert told[-1] == [("slippery", True)]


def test_what_recovers_says_nothing_until_it_is_over() -> None:
    life = Life(rules("road", slippery={"after_s": 0}))
    packed = {"condition": {"mode": "ice", "share": {"ice": 1}, "n": 60}, "slipperiness": 3}
    dry = {"condition": {"mode": "dry", "share": {"dry": 1}, "n": 60}, "slipperiness": 1}
    for minute in range(10):
        life.look(record("road", packed, minute))
    for minute in range(10, 60):
        life.look(record("road", dry, minute))
    assert [each.state for each in life.records] == ["raised", "cleared"]
    assert all("ice" in each.text["en"] for each in life.records)


def test_a_gap_ends_no_forecast() -> None:
    own = rules()
    forecast = {"at": "", "value": 12.0, "low": 8.0, "high": 15.0, "skill": 0.2}
    values = {"depth_cm": number(50.0), "new_snow_cm": 8.0, "forecast_new_snow_cm": forecast}
    assert names(own.look(record("snow", values, 0), Facts(storm_cm=8.0))) == [
        ("snow_forecast", True)
    ]
    assert names(own.look(record("snow", {"depth_cm": None}, 1), Facts(storm_cm=8.0))) == []


def test_where_dispatches_are_not_told_what_has_come_is_still_not_expected() -> None:
    own = rules(snow_dispatch={"enabled": False})
    forecast = {"at": "", "value": 16.0, "low": 15.0, "high": 18.0, "skill": 0.2}
    values = {"depth_cm": number(50.0), "new_snow_cm": 15.0, "forecast_new_snow_cm": forecast}
    assert names(own.look(record("snow", values), Facts(storm_cm=15.0))) == []


def test_a_sensor_must_be_silent_for_long() -> None:
    own = rules()
    missing = {"flag": "missing", "n": 0, "expected": 60, "reasons": ["bus_error"]}
    told = [names(own.look(record("snow", {}, minute, missing))) for minute in range(12)]
    assert told == [[]] * 9 + [[("sensor_missing", True)]] * 3


@pytest.mark.parametrize("reason", ["warmup", "obstructed", "weak_signal", "maintenance", "burned"])
def test_a_sensor_that_is_there_and_cannot_measure_is_not_missing(reason: str) -> None:
    own = rules()
    quality = {"flag": "missing", "n": 0, "expected": 60, "reasons": [reason]}
    told = [names(own.look(record("snow", {}, minute, quality))) for minute in range(60)]
    assert ("sensor_missing", True) not in itertools.chain(*told)


def test_of_people_a_silent_device_is_told_and_never_what_stands_before_it() -> None:
    own = rules("people", crowding={"persons": 50})
    quality = {"flag": "missing", "n": 0, "expected": 900, "reasons": ["obstructed"]}
    told = [names(own.look(record("people", {}, minute, quality))) for minute in range(60)]
    assert {name for name, _ in itertools.chain(*told)} == {"sensor_missing"}


def part_of_a_crowd(persons: int, minute: int, **quality: Any) -> Record:
    made = crowd(minute, 0.0, Random(1))
    half = {"count": persons // 2, "unclamped": persons // 2}
    values = {**made.values, "towards": half, "away": half}
    return replace(made, values=values, quality={**GOOD, **quality})


@pytest.mark.parametrize(
    "quality",
    [{"reasons": ["partial"]}, {"reasons": ["clock_step"]}, {"flag": "suspect"}],
)
def test_a_part_of_a_window_does_not_end_a_crowd(quality: dict[str, Any]) -> None:
    own = rules("people")
    assert names(own.look(part_of_a_crowd(2400, 0))) == [("crowding", True)]
    assert names(own.look(part_of_a_crowd(800, 15, **quality))) == [("crowding", True)]
    assert names(own.look(part_of_a_crowd(800, 30))) == [("crowding", False)]


def test_a_crowd_is_told_at_its_windows_end() -> None:
    (found,) = rules("people").look(crowd(0, -1.5, Random(1)))
    assert found.at_ns == MONDAY_NS + 900 * S
    assert found.values["persons"] > 2000


def test_a_sensor_in_maintenance_raises_nothing() -> None:
    own = rules("cabinet")
    assert own.hear("idle", Reading("open", "yes", 0)) is None
    values = {"surface_temperature_c": number(-5.0)}
    assert list(rules("road").look(record("road", values, stream="idle"))) == []


def test_a_rule_that_is_not_enabled_says_nothing() -> None:
    own = rules("cabinet", cabinet_door={"enabled": False})
    assert own.hear("s", Reading("open", "yes", 0)) is None
    assert not own.may_speak_of("s", "cabinet_door")


@pytest.mark.parametrize(
    ("name", "kind", "quantities", "settings", "may"),
    [
        ("power_fail", "cabinet", {"power_ok"}, {}, True),
        ("power_fail", "cabinet", {"open"}, {}, False),  # the contact was given another meaning
        ("undervoltage", "cabinet", {"throttled"}, {}, True),
        ("undervoltage", "cabinet", {"supply_v"}, {}, False),  # its threshold was taken out
        ("undervoltage", "cabinet", {"supply_v"}, {"undervoltage": {"supply_v": 11.0}}, True),
        ("slippery", "road", {"friction"}, {}, True),
        ("slippery", "cabinet", {"open"}, {}, False),  # the name of another sensor
        ("freezing", "road", {"friction"}, {}, False),
        ("snow_dispatch", "snow", {"depth_cm"}, {}, True),
        ("crowding", "people", set(), {}, True),
        ("sensor_missing", "people", set(), {}, True),
        ("sensor_missing", "people", set(), {"sensor_missing": {"enabled": False}}, False),
        ("a_rule_of_another_version", "snow", {"depth_cm"}, {}, False),
    ],
)
def test_an_open_episode_can_be_ended_only_by_a_rule_that_still_looks(
    name: str, kind: str, quantities: set[str], settings: dict[str, Any], may: bool
) -> None:
    subject = Subject(kind, PLACE, frozenset(quantities))
    own = Rules(AlertsTable.model_validate(settings), {"s": subject})
    assert own.may_speak_of("s", name) is may
    assert not own.may_speak_of("gone", name)


def test_an_episode_of_an_earlier_life_is_ended_and_none_is_invented() -> None:
    values = {"surface_temperature_c": number(2.0)}
    assert names(rules("road", [("s", "freezing")]).look(record("road", values))) == [
        ("freezing", False)
    ]
    assert names(rules("road").look(record("road", values))) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "power_ok", "throttled", "supply_v"]),
            st.sampled_from(["yes", "no", "under_voltage", None]),
        ),
        max_size=30,
    )
)
def test_what_is_over_was_there(said: list[tuple[str, str | None]]) -> None:
    own, there = rules("cabinet"), set()
    for quantity, value in said:
        if quantity == "supply_v" and value is not None:
            continue
        found = own.hear("s", Reading(quantity, value, 0))
        if found is None:
            continue
        assert found.is_there or found.key in there
        (there.add if found.is_there else there.discard)(found.key)


@pytest.mark.parametrize(
    "made",
    [
        (surface(0, -1, Random(1)), Facts()),
        (surface_forecast(0, -1, Random(1)), Facts()),
        (slippery(0, -1, Random(1)), Facts()),
        storm(0, -1, Random(1)),
        storm_forecast(0, -1, Random(1)),
        (crowd(0, -1, Random(1)), Facts()),
    ],
)
def test_every_rule_gives_its_text_what_it_needs(made: tuple[Record, Facts]) -> None:
    life = Life(rules(made[0].kind, slippery={"after_s": 0}))
    life.look(*made)
    (told,) = life.records
    assert "北3条" in told.text["ja"]
    assert "N3" in told.text["en"]
    assert not {"{", "}"} & set(told.text["ja"] + told.text["en"])
