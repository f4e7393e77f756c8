"""Records, gaps and batches as the city receives them."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent import record, schemas
from agent.clock import Stamp
from agent.privacy.policy import Policy
from agent.quality import Quality
from agent.record import Lost, Record, batch, deflated, gap_body, tidy, utc_ns, utc_text, with_time

S = 1_000_000_000
START_NS = 1_800_058_200 * S  # 2027-01-16T00:10:00Z
SYNCED = Stamp("synced", 0.02)
GOOD = Quality("good", 60, 60)
DOCS = Path(__file__).resolve().parents[2] / "docs"

NUMBER = {"mean": 42.1, "min": 41.8, "max": 42.6, "sd": 0.2, "median": 42.1, "n": 60}
CLASS = {"mode": "snow", "share": {"snow": 0.9, "no_snow": 0.1}, "n": 60}
PEOPLE = Policy(900, Fraction(1, 4))


def made(values: dict[str, object], quality: Quality = GOOD, clock: Stamp = SYNCED) -> Record:
    end_ns = START_NS + 60 * S
    return Record("snow-1", "snow", START_NS, end_ns, 0, 60 * S, clock, quality.json(), values)


def sent(*bodies: str, kind: str = "snow") -> dict[str, Any]:
    message: dict[str, Any] = json.loads(
        batch("chikaho-03", "0123456789abcdef", kind, "9f2c1ab04d77", bodies)
    )
    return message


def test_a_record_is_the_contracts_json() -> None:
    body = made({"depth_cm": NUMBER}).body(1041)
    assert json.loads(body) == {
        "stream": "snow-1",
        "seq": 1041,
        "start": "2027-01-16T00:10:00.000Z",
        "end": "2027-01-16T00:11:00.000Z",
        "clock": {"state": "synced", "error_s": 0.02},
        "quality": {"flag": "good", "n": 60, "expected": 60},
        "values": {"depth_cm": NUMBER},
    }
    assert " " not in body


def test_a_gap_names_the_numbers_that_are_lost() -> None:
    lost = Lost("snow-1", "snow", 87, "disk_failed", START_NS, None)
    assert json.loads(lost.body(1187)) == {
        "stream": "snow-1",
        "first": 1101,
        "seq": 1187,
        "gap": "disk_failed",
        "start": "2027-01-16T00:10:00.000Z",
        "end": None,
    }


def test_a_time_put_right_changes_nothing_else() -> None:
    body = made({"depth_cm": NUMBER}, clock=Stamp("estimated", None)).body(7)
    right = json.loads(with_time(body, 0, S, Stamp("corrected", 0.1)))
    assert right["clock"] == {"state": "corrected", "error_s": 0.1}
    assert (right["start"], right["end"]) == (
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:01.000Z",
    )
    rest = json.loads(body)
    assert all(right[key] == rest[key] for key in ("stream", "seq", "quality", "values"))


def test_a_batch_joins_the_bodies_as_they_were_stored() -> None:
    bodies = [
        made({"depth_cm": NUMBER}).body(1),
        gap_body("snow-1", 2, 9, "spool_full", None, None),
    ]
    payload = batch("chikaho-03", "run", "snow", "9f2c1ab04d77", bodies)
    assert payload[:1] == b"{"
    assert ",".join(bodies).encode() in payload
    assert [entry["seq"] for entry in json.loads(payload)["records"]] == [1, 9]


def test_a_compressed_payload_can_be_told_by_its_first_byte() -> None:
    payload = batch("chikaho-03", "run", "snow", "9f2c1ab04d77", [made({}).body(1)])
    assert deflated(payload)[0] == 0x78
    assert zlib.decompress(deflated(payload)) == payload


def test_what_is_no_json_number_never_leaves() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        made({"depth_cm": {**NUMBER, "mean": float("nan")}}).body(1)


@given(st.integers(0, 7 * 10**15), st.integers(0, 999))
def test_a_time_is_written_as_datetime_would(microseconds: int, nanoseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    text = utc_text(microseconds * 1000 + nanoseconds)
    assert text == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@given(st.integers(0, 4_000_000_000 * S), st.integers(0, 10**10))
def test_times_are_written_in_their_order(first_ns: int, more_ns: int) -> None:
    assert utc_text(first_ns) <= utc_text(first_ns + more_ns)


@given(st.integers(0, 200_000_000_000_000))
def test_a_time_that_was_written_can_be_read(milliseconds: int) -> None:
    assert utc_ns(utc_text(milliseconds * 1_000_000)) == milliseconds * 1_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "2027-01-16T12:00:00Z", "2027-01-16T12:00:00.0"])
def test_a_time_that_was_not_written_here_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not match"):
        utc_ns(text)


@pytest.mark.parametrize(
    ("value", "tidied"),
    [
        (4.123456, 4.123),
        (42.123456, 42.12),
        (0.000123456, 0.0001235),
        (-0.123456, -0.1235),
        (0.0, 0.0),
        (123456789.0, 123456789.0),
    ],
)
def test_a_number_is_rounded_to_what_a_sensor_can_mean(value: float, tidied: float) -> None:
    assert tidy(value) == tidied


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_rounding_keeps_the_order(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert tidy(low) <= tidy(high)


# What is sent, against what is described


def schema(name: str) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(
        (DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    )
    return described


def is_as_described(message: dict[str, Any]) -> None:
    schemas.Batch.model_validate(message)
    jsonschema.Draft202012Validator(schema("batch")).validate(message)


EXAMPLES: dict[str, tuple[str, Record]] = {
    "numbers": ("snow", made({"depth_cm": NUMBER, "distance_cm": NUMBER})),
    "a class": ("snow", made({"ground": CLASS})),
    "a value with its own flag": (
        "snow",
        made(
            {"depth_cm": NUMBER, "ground": {**CLASS, "flag": "good", "reasons": []}},
            Quality("suspect", 60, 60, ("weak_signal",)),
        ),
    ),
    "missing": ("snow", made({"depth_cm": None}, Quality("missing", 0, 60, ("bus_error",)))),
    "one sample": ("snow", made({"depth_cm": {**NUMBER, "sd": None, "n": 1}})),
    "an unknown time": ("snow", made({"depth_cm": NUMBER}, clock=Stamp("estimated", None))),
    "people": ("people", made(PEOPLE.release({"towards": 3, "away": 0}))),
    "people in all": ("people", made(PEOPLE.release({"total": 3}))),
    "people withheld": ("people", made(PEOPLE.withheld(("towards", "away")))),
    "a first start": (
        "gateway",
        made({"event": "start", "version": "0.1.0", "previous": None}),
    ),
    "a later start": (
        "gateway",
        made(
            {
                "event": "start",
                "version": "0.1.0",
                "previous": {"run": "ab", "clean": False, "produced": {"snow-1": 1041}},
            }
        ),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_of_record_is_as_the_schema_describes_it(name: str) -> None:
    kind, example = EXAMPLES[name]
    is_as_described(sent(example.body(1), kind=kind))


@pytest.mark.parametrize("why", ["spool_full", "corrupt", "disk_failed", "rejected"])
def test_every_kind_of_gap_is_as_the_schema_describes_it(why: str) -> None:
    is_as_described(sent(gap_body("snow-1", 1, 87, why, START_NS, START_NS + S)))
    is_as_described(sent(gap_body("snow-1", 1, 87, why, None, None)))


def broken(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    kind, example = EXAMPLES["people"]
    message = sent(example.body(1), kind=kind)
    inner: Any = message
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("records",), []),
        (("records", 0, "seq"), 0),
        (("records", 0, "note"), "unknown"),
        (("records", 0, "start"), "2027-01-16T00:10:00Z"),
        (("records", 0, "quality", "flag"), "fine"),
        (("records", 0, "quality", "reasons"), ["snowed_in"]),
        (("records", 0, "values", "raw"), 118),
        (("records", 0, "values", "towards", "raw"), 118),
        (("records", 0, "values", "towards", "count"), -1),
        (("records", 0, "clock", "state"), "hoped"),
        (("kind",), "cats"),
        (("config",), "9F2C1AB04D77"),
    ],
)
def test_the_schema_refuses_what_the_contract_does_not_know(
    path: tuple[str | int, ...], value: object
) -> None:
    message = broken(path, value)
    with pytest.raises(ValidationError):
        schemas.Batch.model_validate(message)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema("batch")).validate(message)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=64), st.text(max_size=20))
def test_any_text_survives_the_way_to_the_city(version: str, run: str) -> None:
    values = {"event": "start", "version": version, "previous": None}
    message = json.loads(batch("g", run, "gateway", "0" * 12, [made(values).body(1)]))
    assert message["run"] == run
    assert message["records"][0]["values"]["version"] == version


def test_the_gateways_stream_cannot_be_a_sensors() -> None:
    from config.model import RESERVED_SENSOR_IDS

    assert record.GATEWAY_STREAM in RESERVED_SENSOR_IDS
