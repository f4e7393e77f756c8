"""Alerts are episodes: begun once, told sparingly, over when nobody sees them any more."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import schemas
from agent.alerts import UPDATE_S, AlertBook, alarm_topic
from agent.catalogue import CATALOGUE, Definition
from agent.clock import Stamp
from agent.record import AlertRecord, Severity, batch, utc_ns, utc_text

S = 1_000_000_000
NOON_NS = 1_800_100_800 * S
SYNCED = Stamp("synced", 0.02)
DOCS = Path(__file__).resolve().parents[2] / "docs"
RANK = {"info": 0, "warning": 1, "critical": 2}


def new_book(*active: Mapping[str, object]) -> AlertBook:
    numbers = itertools.count(1)
    return AlertBook(active, lambda: f"episode-{next(numbers)}")


def bare(record: AlertRecord | None) -> dict[str, Any]:
    assert record is not None
    body: dict[str, Any] = json.loads(record.body(1))
    return body


def lose_subscribers(
    book: AlertBook, *topics: str, at_s: float, severity: Severity | None = None
) -> AlertRecord | None:
    values = {"topics": list(topics)}
    at_ns = NOON_NS + round(at_s * S)
    return book.raise_("no_subscriber", values=values, severity=severity, at_ns=at_ns, clock=SYNCED)


def clear(book: AlertBook, at_s: float, name: str = "no_subscriber") -> AlertRecord | None:
    return book.clear(name, at_ns=NOON_NS + round(at_s * S), clock=SYNCED)


def tick(book: AlertBook, at_s: float) -> list[AlertRecord]:
    return book.tick(NOON_NS + round(at_s * S), SYNCED)


# One episode


def test_an_alert_is_the_contracts_json() -> None:
    record = lose_subscribers(new_book(), "live/snow", "alert/gateway", at_s=0)
    assert record is not None
    assert (record.stream, record.kind) == ("alerts", "gateway")
    body = json.loads(record.body(7))
    text = body.pop("text")
    assert body == {
        "stream": "alerts",
        "seq": 7,
        "sensor": None,
        "alert": "no_subscriber",
        "id": "episode-1",
        "state": "raised",
        "severity": "warning",
        "time": "2027-01-16T12:00:00.000Z",
        "since": "2027-01-16T12:00:00.000Z",
        "clock": {"state": "synced", "error_s": 0.02},
        "values": {"topics": ["live/snow", "alert/gateway"]},
    }
    assert "live/snow, alert/gateway" in text["en"]
    assert "live/snow、alert/gateway" in text["ja"]


def test_the_ids_of_a_kind_can_be_left_out() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    people = {"sensor": "hall-1", "kind": "people", "at_ns": NOON_NS, "clock": SYNCED}
    values = {"place": {"ja": "x", "en": "x"}, "persons": 9, "threshold": 5}
    book.raise_("crowding", values=values, **people)
    assert len(book.ids()) == 2
    assert len(book.ids(without_kind="people")) == 1


def test_saying_it_again_is_no_news() -> None:
    book = new_book()
    assert lose_subscribers(book, "live/snow", at_s=0) is not None
    assert lose_subscribers(book, "live/snow", at_s=1) is None
    assert lose_subscribers(book, "live/snow", at_s=1000) is None
    assert tick(book, 2000) == []
    assert book.active == [("gateway", "no_subscriber")]
    assert book.ids() == ["episode-1"]


def test_the_end_names_the_episode_and_what_it_was() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    over = bare(clear(book, at_s=60))
    assert (over["state"], over["id"]) == ("cleared", "episode-1")
    assert (over["since"], over["time"]) == (utc_text(NOON_NS), utc_text(NOON_NS + 60 * S))
    assert over["values"] == {"topics": ["live/snow"]}
    assert over["text"]["ja"].startswith("【解消】")
    assert over["text"]["en"].startswith("Over: ")
    assert book.active == []
    assert clear(book, at_s=61) is None
    assert bare(lose_subscribers(book, "live/snow", at_s=62))["id"] == "episode-2"


def test_each_sensor_has_episodes_of_its_own() -> None:
    book = new_book()
    for sensor in (None, "snow-1", "snow-2"):
        record = book.raise_(
            "clock_untrusted", sensor=sensor, kind="snow", at_ns=NOON_NS, clock=SYNCED
        )
        assert bare(record)["sensor"] == sensor
    book.clear("clock_untrusted", sensor="snow-1", at_ns=NOON_NS, clock=SYNCED)
    assert book.active == [("gateway", "clock_untrusted"), ("snow-2", "clock_untrusted")]


def test_the_caller_may_change_its_values_afterwards() -> None:
    book = new_book()
    topics = ["live/snow"]
    values = {"topics": topics}
    record = book.raise_("no_subscriber", values=values, at_ns=NOON_NS, clock=SYNCED)
    topics.append("live/road")
    assert bare(record)["values"] == {"topics": ["live/snow"]}
    later = book.raise_("no_subscriber", values=values, at_ns=NOON_NS + 60 * S, clock=SYNCED)
    assert bare(later)["state"] == "updated"


def test_an_alert_does_not_wait_for_the_clock() -> None:
    book = new_book()
    record = book.raise_("clock_untrusted", at_ns=NOON_NS, clock=Stamp("estimated", None))
    assert bare(record)["clock"] == {"state": "estimated", "error_s": None}


# Updates


def test_what_matters_is_told_again_but_once_a_minute() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    assert lose_subscribers(book, "live/road", at_s=59.9) is None
    assert tick(book, 59.9) == []
    (update,) = tick(book, 60)
    assert (update.state, update.values) == ("updated", {"topics": ["live/road"]})
    assert "live/road" in update.text["en"]
    assert lose_subscribers(book, "live/snow", at_s=61) is None
    assert bare(lose_subscribers(book, "live/snow", at_s=120))["state"] == "updated"


def test_a_change_that_is_taken_back_within_the_minute_is_no_news() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    lose_subscribers(book, "live/road", at_s=1)
    lose_subscribers(book, "live/snow", at_s=2)
    assert tick(book, 1000) == []


def test_what_gets_worse_is_told_at_once_and_what_gets_better_is_not() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    worse = bare(lose_subscribers(book, "live/snow", at_s=1, severity="critical"))
    assert (worse["state"], worse["severity"]) == ("updated", "critical")
    assert lose_subscribers(book, "live/snow", at_s=2, severity="info") is None
    (better,) = tick(book, 61)
    assert better.severity == "info"


def test_a_value_that_only_goes_along_is_no_news() -> None:
    book = new_book()
    book.raise_("spool_pressure", values={"given_up": 500}, at_ns=NOON_NS, clock=SYNCED)
    for minute in range(1, 10):
        values = {"given_up": 500 * minute}
        at_ns = NOON_NS + minute * 60 * S
        assert book.raise_("spool_pressure", values=values, at_ns=at_ns, clock=SYNCED) is None


# The hold


def test_what_comes_and_goes_each_second_is_one_episode() -> None:
    book = new_book()
    records = []
    for second in range(0, 3600, 2):
        records += [lose_subscribers(book, "live/snow", at_s=second), clear(book, second + 1)]
        records += tick(book, second + 1)
    records += tick(book, 3598 + 59.9)
    assert [record.state for record in records if record] == ["raised"]
    assert [record.state for record in tick(book, 3598 + 60)] == ["cleared"]


def test_what_is_there_again_waits_for_no_end() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    clear(book, 1)
    lose_subscribers(book, "live/snow", at_s=2)
    assert tick(book, 1000) == []
    assert len(book.active) == 1


def test_without_a_hold_each_coming_and_going_is_told() -> None:
    # The control of the one above: it is the hold that makes one episode of many.
    book = new_book()
    records: list[AlertRecord | None] = []
    for second in range(0, 10, 2):
        at_ns = NOON_NS + second * S
        records.append(book.raise_("clock_untrusted", at_ns=at_ns, clock=SYNCED))
        records.append(book.clear("clock_untrusted", at_ns=at_ns + S, clock=SYNCED))
    assert [record.state for record in records if record] == ["raised", "cleared"] * 5


def test_what_happens_at_an_instant_stays_in_sight_for_a_day() -> None:
    book = new_book()
    values = {"salvaged": 99, "lost": 1}
    book.raise_("spool_damaged", values=values, at_ns=NOON_NS, clock=SYNCED)
    assert clear(book, 0, "spool_damaged") is None
    assert tick(book, 86_399) == []
    assert [record.state for record in tick(book, 86_400)] == ["cleared"]


# Clocks that step


def test_a_clock_set_back_stretches_no_wait_and_makes_no_negative_duration() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    assert lose_subscribers(book, "live/road", at_s=-86_400) is None
    (update,) = tick(book, -86_400 + 60)
    assert update.since_ns == update.time_ns
    over = clear(book, -86_400 + 61)
    assert over is not None
    assert over.since_ns == update.since_ns


def test_a_beginning_under_a_wrong_clock_is_put_right_with_it() -> None:
    book = new_book()
    book.raise_("clock_untrusted", at_ns=5 * S, clock=Stamp("estimated", None))
    book.moved(NOON_NS - 5 * S)
    over = book.clear("clock_untrusted", at_ns=NOON_NS + 3 * S, clock=SYNCED)
    assert over is not None
    assert over.since_ns == NOON_NS


def test_a_clock_put_right_ends_no_wait_early() -> None:
    book = new_book()
    lose_subscribers(book, "live/snow", at_s=0)
    lose_subscribers(book, "live/road", at_s=1)
    clear(book, 2)
    book.moved(3600 * S)
    assert tick(book, 3600 + 59) == []
    assert [record.state for record in tick(book, 3600 + 60)] == ["updated"]
    assert [record.state for record in tick(book, 3600 + 61)] == ["cleared"]


def test_a_beginning_in_another_life_stays_as_it_was_told() -> None:
    raised = bare(lose_subscribers(new_book(), "live/snow", at_s=0))
    book = new_book(raised)
    book.moved(3600 * S)
    clear(book, 5000)
    (over,) = tick(book, 5060)
    assert over.since_ns == NOON_NS


# Restarts


def test_an_episode_goes_on_after_a_restart() -> None:
    raised = bare(lose_subscribers(new_book(), "live/snow", at_s=0))
    book = new_book(raised)
    assert book.ids() == ["episode-1"]
    assert lose_subscribers(book, "live/snow", at_s=1000) is None
    assert bare(lose_subscribers(book, "live/road", at_s=1001))["id"] == "episode-1"
    assert bare(clear(book, at_s=1100))["id"] == "episode-1"


def test_what_nobody_confirms_after_a_restart_is_held_anew() -> None:
    raised = bare(lose_subscribers(new_book(), "live/snow", at_s=0))
    book = new_book(raised)
    assert clear(book, at_s=1000) is None
    assert tick(book, 1059) == []
    assert len(tick(book, 1060)) == 1


def test_a_sensors_alert_ends_on_its_own_kind() -> None:
    book = new_book()
    raised = book.raise_(
        "clock_untrusted", sensor="snow-1", kind="snow", at_ns=NOON_NS, clock=SYNCED
    )
    for kinds, kind in (({"snow-1": "snow"}, "snow"), ({}, "gateway")):
        later = AlertBook([bare(raised)], lambda: "new", kinds)
        over = later.clear("clock_untrusted", sensor="snow-1", at_ns=NOON_NS, clock=SYNCED)
        assert over is not None
        assert over.kind == kind


def test_an_alert_that_this_version_does_not_know_can_be_cleared() -> None:
    raised = bare(lose_subscribers(new_book(), "live/snow", at_s=0)) | {"alert": "avalanche"}
    book = new_book(raised)
    assert tick(book, 1000) == []
    over = bare(clear(book, 1001, "avalanche"))
    assert (over["alert"], over["state"]) == ("avalanche", "cleared")


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "cleared"},
        {"state": "burning"},
        {"alert": None},
        {"alert": ""},
        {"id": 7},
        {"sensor": 7},
        {"sensor": ""},
        {"severity": "dire"},
        {"time": "yesterday"},
        {"since": None},
        {"since": "2027-01-16T12:00:00.000"},
        {"text": {"en": "only"}},
        {"values": [1]},
    ],
)
def test_a_body_that_cannot_be_read_is_left_and_its_neighbour_is_not(
    wrong: dict[str, object],
) -> None:
    raised = bare(lose_subscribers(new_book(), "live/snow", at_s=0))
    assert new_book(raised | wrong).active == []
    whole = raised | {"alert": "id_clash"}
    assert new_book({}, raised | wrong, whole).active == [("gateway", "id_clash")]


# The catalogue


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_alert_says_the_same_in_both_languages(name: str) -> None:
    definition = CATALOGUE[name]
    assert fields(definition.ja) == fields(definition.en)
    assert definition.ja.count("。") >= 1
    assert definition.en.isascii()


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("state", ["raised", "cleared"])
def test_every_alert_is_as_the_schema_describes_it(name: str, state: str) -> None:
    book = new_book()
    values = {field: ["a", "b"] for field in fields(CATALOGUE[name].en)}
    record = book.raise_(name, values=values, at_ns=NOON_NS, clock=SYNCED)
    if state == "cleared":
        book.clear(name, at_ns=NOON_NS, clock=SYNCED)
        later = book.tick(NOON_NS + 100_000 * S, SYNCED)
        record = later[0] if later else record
    assert record is not None
    message = json.loads(batch("g", "r", record.kind, "0" * 12, [record.body(1)]))
    schemas.Batch.model_validate(message)
    jsonschema.Draft202012Validator(schema("batch")).validate(message)


def schema(name: str) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(
        (DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    )
    return described


def test_a_retained_alarm_is_never_a_cleared_one() -> None:
    raised = bare(lose_subscribers(new_book(), "live/snow", at_s=0))
    validator = jsonschema.Draft202012Validator(schema("alarm"))
    validator.validate(raised)
    schemas.Alarm.model_validate(raised)
    assert not validator.is_valid(raised | {"state": "cleared"})
    assert not validator.is_valid(raised | {"start": raised["time"]})


def test_a_missing_value_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError, match="topics"):
        new_book().raise_("no_subscriber", at_ns=NOON_NS, clock=SYNCED)
    with pytest.raises(KeyError, match="sunshine"):
        new_book().raise_("sunshine", at_ns=NOON_NS, clock=SYNCED)


def test_the_alarms_topic_names_the_sensor_or_the_gateway() -> None:
    assert alarm_topic(None, "spool_pressure") == "alarm/gateway/spool_pressure"
    assert alarm_topic("snow-1", "snow_dispatch") == "alarm/snow-1/snow_dispatch"


# Any course of events

KEYS: list[tuple[str | None, str]] = [
    (None, "config_refused"),  # no hold
    (None, "no_subscriber"),  # a minute
    ("snow-1", "no_subscriber"),
    (None, "spool_pressure"),  # ten minutes, nothing matters
]
SPANS_S = st.sampled_from([0.0, 0.0007, 0.4, 1.0, 30.0, 59.999, 60.0, 61.0, 599.0, 600.0, 7000.0])
SEVERITY: st.SearchStrategy[Severity | None] = st.sampled_from([None, "info", "critical"])
LEVEL = st.tuples(SEVERITY, st.sampled_from("abc"))


class City:
    """Takes the records of one gateway and holds them against the promises."""

    def __init__(self) -> None:
        self.newest: dict[tuple[str | None, str], dict[str, Any]] = {}
        self.told: list[dict[str, Any]] = []
        self.ids: set[str] = set()

    def take(self, records: Iterable[AlertRecord | None]) -> None:
        for record in records:
            if record is not None:
                self._take(json.loads(record.body(len(self.told) + 1)))

    def _take(self, body: dict[str, Any]) -> None:
        key = (body["sensor"], body["alert"])
        before = self.newest.get(key)
        is_open = before is not None and before["state"] != "cleared"
        assert is_open == (body["state"] != "raised")
        assert body["since"] <= body["time"]
        if before is None or not is_open:
            assert body["id"] not in self.ids
            assert body["since"] == body["time"]
        else:
            assert (body["id"], body["since"]) == (before["id"], before["since"])
        if before is not None and body["state"] == "updated":
            apart_ns = utc_ns(body["time"]) - utc_ns(before["time"])
            got_worse = RANK[body["severity"]] > RANK[before["severity"]]
            assert got_worse or apart_ns >= UPDATE_S * S
            assert got_worse or (body["severity"], body["values"]) != (
                before["severity"],
                before["values"],
            )
        self.ids.add(body["id"])
        self.newest[key] = body
        self.told.append(body)

    @property
    def active(self) -> set[tuple[str | None, str]]:
        return {key for key, body in self.newest.items() if body["state"] != "cleared"}


def values_of(value: str) -> dict[str, object]:
    return {"error": value, "topics": [value]}


EVENT = st.tuples(
    SPANS_S,
    st.one_of(
        st.tuples(st.just("raise"), st.sampled_from(KEYS), LEVEL),
        st.tuples(st.just("clear"), st.sampled_from(KEYS), st.none()),
        st.tuples(st.sampled_from(["tick", "restart"]), st.none(), st.none()),
    ),
)


@given(st.lists(EVENT, max_size=40))
def test_whatever_happens_the_records_tell_whole_episodes(events: list[Any]) -> None:
    numbers = itertools.count()
    book = AlertBook([], lambda: f"e{next(numbers)}")
    city = City()
    at_ns = NOON_NS
    seen_ns: dict[tuple[str | None, str], int] = {}
    is_there: dict[tuple[str | None, str], bool] = {}
    for span_s, (verb, key, level) in events:
        at_ns += round(span_s * S)
        told_before = len(city.told)
        if verb == "raise":
            seen_ns[key], is_there[key] = at_ns, True
            sensor, name = key
            record = book.raise_(
                name,
                sensor=sensor,
                severity=level[0],
                values=values_of(level[1]),
                at_ns=at_ns,
                clock=SYNCED,
            )
            city.take([record])
            assert key in city.active
        elif verb == "clear":
            is_there[key] = False
            city.take([book.clear(key[1], sensor=key[0], at_ns=at_ns, clock=SYNCED)])
        elif verb == "tick":
            city.take(book.tick(at_ns, SYNCED))
        else:
            book = AlertBook(city.newest.values(), lambda: f"e{next(numbers)}")
        for body in city.told[told_before:]:
            if body["state"] == "cleared":
                ended = (body["sensor"], body["alert"])
                assert not is_there[ended]
                assert at_ns - seen_ns[ended] >= CATALOGUE[ended[1]].hold_s * S
        assert {(None if s == "gateway" else s, n) for s, n in book.active} == city.active
        assert set(book.ids()) == {city.newest[key]["id"] for key in city.active}
    for key in KEYS:
        city.take([book.clear(key[1], sensor=key[0], at_ns=at_ns, clock=SYNCED)])
    city.take(book.tick(at_ns + 600 * S, SYNCED))
    assert city.active == set()
    assert book.ids() == []


STEP = st.tuples(
    SPANS_S,
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, st.one_of(st.none(), LEVEL))),
    st.booleans(),
)


@given(st.lists(STEP, max_size=30))
def test_a_restart_changes_nothing_for_those_who_listen(steps: list[Any]) -> None:
    """Two gateways see the same; one restarts. Each condition is said anew at every step."""
    lasting, restarting = itertools.count(), itertools.count()
    one = AlertBook([], lambda: f"e{next(lasting)}")
    other = AlertBook([], lambda: f"e{next(restarting)}")
    cities = City(), City()
    there: dict[tuple[str | None, str], tuple[Severity | None, str] | None] = {}
    at_ns = NOON_NS
    for span_s, changes, restarts in steps:
        at_ns += round(span_s * S)
        # While an end waits for its hold a restart may put it off: that is another promise's test.
        if restarts and all(there.get(key) for key in cities[1].active):
            other = AlertBook(cities[1].newest.values(), lambda: f"e{next(restarting)}")
            say(there, (one, other), cities, at_ns)
        there |= changes
        say(there, (one, other), cities, at_ns)
        assert cities[0].told == cities[1].told


def say(
    there: Mapping[tuple[str | None, str], tuple[Severity | None, str] | None],
    books: tuple[AlertBook, AlertBook],
    cities: tuple[City, City],
    at_ns: int,
) -> None:
    for book, city in zip(books, cities, strict=True):
        for (sensor, name), level in there.items():
            if level is None:
                city.take([book.clear(name, sensor=sensor, at_ns=at_ns, clock=SYNCED)])
                continue
            values = values_of(level[1])
            record = book.raise_(
                name,
                sensor=sensor,
                severity=level[0],
                values=values,
                at_ns=at_ns,
                clock=SYNCED,
            )
            city.take([record])
        city.take(book.tick(at_ns, SYNCED))


@given(st.lists(st.tuples(st.integers(-(10**7), 10**7), EVENT), max_size=30))
def test_whatever_the_clock_does_episodes_stay_whole(events: list[Any]) -> None:
    numbers = itertools.count()
    book = AlertBook([], lambda: f"e{next(numbers)}")
    open_ids: dict[tuple[str | None, str], str] = {}
    at_ns = NOON_NS
    for step_s, (span_s, (verb, key, level)) in events:
        at_ns += round(span_s * S) + step_s * S
        if step_s % 2:
            book.moved(step_s * S)
        records: list[AlertRecord | None] = []
        if verb == "raise":
            values = values_of(level[1])
            records.append(
                book.raise_(key[1], sensor=key[0], values=values, at_ns=at_ns, clock=SYNCED)
            )
        elif verb == "clear":
            records.append(book.clear(key[1], sensor=key[0], at_ns=at_ns, clock=SYNCED))
        else:
            records += book.tick(at_ns, SYNCED)
        for record in filter(None, records):
            assert record.since_ns <= record.time_ns == at_ns // 10**6 * 10**6
            about = (record.sensor, record.alert)
            assert (about in open_ids) == (record.state != "raised")
            assert open_ids.setdefault(about, record.id) == record.id
            if record.state == "cleared":
                del open_ids[about]
    # No wait is longer than it would be under a clock that never stepped.
    for key in KEYS:
        book.clear(key[1], sensor=key[0], at_ns=at_ns, clock=SYNCED)
    book.tick(at_ns + 600 * S, SYNCED)
    assert book.active == []


def test_a_list_in_a_text_is_joined_as_each_language_does() -> None:
    definition = Definition("info", "{a}と{b}", "{a} and {b}")
    assert definition.text({"a": ["x", "y"], "b": 3}) == {"ja": "x、yと3", "en": "x, y and 3"}
