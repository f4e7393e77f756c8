"""What other platforms get: valid by their own schemas, and nothing that was not measured."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from hil.broker import Mosquitto
from hil.city import cli, export_verb
from hil.city.databases import opened
from hil.city.formats import iotagent, ngsi, opendata
from hil.city.formats.observed import Observed, between
from hil.city.messages import take
from hil.city.rows import Rows
from hil.city.subscriber import City
from hil.senders.gateway import Sender
from tests.hil.city.conftest import absent

ROOT = Path(__file__).resolve().parents[3]
TOKYO = ZoneInfo("Asia/Tokyo")
# Ends 00:15 local time, on the first of a month.
END_S = datetime(2026, 1, 31, 15, 15, tzinfo=UTC).timestamp()

FLOW = {
    "towards": {"count": 118, "unclamped": 118},
    "away": {"count": 0, "unclamped": -3},
    "epsilon": "1/4",
    "noise_sd": 5.64,
    "ci95": 12,
}
ROAD = {
    "condition": {"mode": "packed_snow", "share": {"packed_snow": 1.0}, "n": 6},
    "slipperiness": 3,
    "surface_temperature_c": {"mean": -4.2, "n": 6},
    "friction": {"mean": 0.15, "n": 6},
}


def observed(kind: str, values: dict[str, Any], **more: Any) -> Observed:
    one = Observed(
        gateway="chikaho-03",
        stream=f"{kind}-1",
        kind=kind,
        start_s=END_S - 900,
        end_s=END_S,
        flag="good",
        values=values,
        label_ja="北3条",
        label_en="N3",
        place=(43.064, 141.351),
        directions={"towards": {"ja": "大通方面", "en": "to Odori"}, "away": None},
        owner="City of Sapporo",
        licence="CC-BY-4.0",
        policy="ab" * 32,
    )
    return replace(one, **more)


def stats(mean: float, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "min": mean, "max": mean, "sd": 0.1, "median": mean, "n": 6} | more


@pytest.fixture(scope="module")
def schemas() -> Path:
    recordings = Path(os.environ.get("YUKIMI_RECORDINGS", ROOT / "../shared/recordings"))
    folder = Path(os.environ.get("YUKIMI_SCHEMAS", recordings.parent / "schemas"))
    if not folder.is_dir():
        absent(f"no schemas of Smart Data Models at {folder}: set YUKIMI_SCHEMAS")
    return folder


@pytest.fixture(scope="module")
def registry(schemas: Path) -> Registry[Any]:
    """All schemas that are there, by their own ids: nothing is fetched."""
    files = [*schemas.glob("*-schema.json"), *schemas.glob("*/schema.json")]
    documents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    resources = [(each["$id"], Resource.from_contents(each)) for each in documents]
    found: Registry[Any] = Registry().with_resources(resources)
    return found


def problems(registry: Registry[Any], schemas: Path, entity: dict[str, Any]) -> list[str]:
    schema = json.loads((schemas / entity["type"] / "schema.json").read_text(encoding="utf-8"))
    # Of its many parts only one asks for a document that is not there, and only for aggregations.
    for part in schema["allOf"]:
        part.get("properties", {}).pop("airTemperatureTSA", None)
    validator = Draft202012Validator(schema, registry=registry)
    return [error.message for error in validator.iter_errors(entity)]


@pytest.mark.parametrize(
    "one",
    [
        observed("people", FLOW),
        observed("people", {"total": {"count": 7, "unclamped": 7}} | dict.fromkeys(())),
        observed("snow", {"depth_cm": stats(42.1), "snowfall_cm": 3.0}),
        observed("weather", {"air_temperature_c": stats(-4.0), "humidity_percent": stats(78.0)}),
        observed("weather", {"pressure_hpa": stats(1012.3), "dew_point_c": stats(-7.0)}),
    ],
)
def test_an_entity_is_valid_by_the_schema_of_its_model(
    one: Observed, registry: Registry[Any], schemas: Path
) -> None:
    entity = ngsi.entity(one)
    assert entity is not None
    assert problems(registry, schemas, entity) == []


def test_the_validator_would_find_a_negative_count(registry: Registry[Any], schemas: Path) -> None:
    entity = ngsi.entity(observed("people", FLOW))
    assert entity is not None
    assert problems(registry, schemas, entity | {"peopleCountAway": -3})
    assert problems(registry, schemas, entity | {"dateObserved": None})


def test_a_crowd_is_shown_clamped_and_told_unclamped_with_its_noise() -> None:
    entity = ngsi.entity(observed("people", FLOW))
    assert entity is not None
    assert (entity["peopleCount"], entity["peopleCountAway"]) == (118, 0)
    assert (entity["unclampedAway"], entity["privacyEpsilon"]) == (-3, 0.25)
    assert entity["dateObserved"] == "2026-01-31T15:00:00.000Z/2026-01-31T15:15:00.000Z"
    assert entity["directionTowards"] == "to Odori"
    assert "directionAway" not in entity


@pytest.mark.parametrize(
    ("kind", "values", "absent_ones"),
    [
        ("people", {"towards": {"count": -2, "unclamped": -2}}, {"peopleCount"}),
        ("people", {"towards": {"count": 5, "unclamped": 5}}, {"peopleCount", "peopleCountAway"}),
        ("snow", {"depth_cm": stats(-0.4)}, {"snowHeight"}),
        ("snow", {"depth_cm": None}, {"snowHeight"}),
        ("snow", {"depth_cm": stats(40.0, flag="bad")}, {"snowHeight"}),
        ("weather", {"humidity_percent": stats(104.0)}, {"relativeHumidity"}),
        (
            "road",
            {"condition": {"mode": "lava"}, "friction": stats(-1.0)},
            {"condition", "friction"},
        ),
    ],
)
def test_what_is_negative_missing_or_bad_is_left_out(
    kind: str, values: dict[str, Any], absent_ones: set[str]
) -> None:
    entity = ngsi.entity(observed(kind, values)) or {}
    assert not absent_ones & set(entity)


@pytest.mark.parametrize("flag", ["missing", "bad"])
def test_a_record_that_may_not_be_believed_is_no_entity(flag: str) -> None:
    assert ngsi.entity(observed("snow", {"depth_cm": stats(40.0)}, flag=flag)) is None


def test_without_a_place_there_is_no_entity_and_a_moving_one_tells_its_own() -> None:
    assert ngsi.entity(observed("snow", {"depth_cm": stats(40.0)}, place=None)) is None
    moved = ngsi.entity(observed("snow", {"depth_cm": stats(40.0)}, place=(43.1, 141.5)))
    assert moved is not None
    assert moved["location"]["coordinates"] == [141.5, 43.1]


def test_a_road_is_valid_by_our_own_schema_and_tells_foreign_codes() -> None:
    file = ROOT / "docs/formats/RoadSurfaceObserved.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    entity = ngsi.entity(observed("road", ROAD))
    assert entity is not None
    assert list(Draft202012Validator(schema).iter_errors(entity)) == []
    assert entity["ntcipEssSurfaceStatus"] == 7
    assert entity["datexConditions"] == ["packedSnow", "slipperyRoad"]
    assert entity["conditionJa"] == "圧雪"
    assert set(entity) <= set(schema["properties"])


def test_normalized_each_attribute_says_what_it_is() -> None:
    entity = ngsi.entity(observed("snow", {"depth_cm": stats(42.1)}))
    assert entity is not None
    whole = ngsi.normalized(entity)
    assert whole["snowHeight"] == {"type": "Property", "value": 42.1}
    assert whole["location"]["type"] == "GeoProperty"
    assert whole["refDevice"]["type"] == "Relationship"
    assert whole["dateObserved"]["value"]["@type"] == "DateTime"
    assert whole["@context"][0].endswith("dataModel.Weather/master/context.jsonld")
    assert set(whole) == {*entity, "@context"}


values_of = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.dictionaries(
        st.sampled_from(["mean", "mode", "count", "unclamped", "flag"]), inner, max_size=3
    ),
    max_leaves=4,
)
names = st.sampled_from([*FLOW, *ROAD, "depth_cm", "humidity_percent", "pressure_hpa", "ice_mm"])


@given(
    st.sampled_from(["people", "road", "snow", "weather", "position"]),
    st.dictionaries(names, values_of),
)
def test_whatever_the_values_are_a_format_takes_them(kind: str, values: dict[str, Any]) -> None:
    one = observed(kind, values)
    entity = ngsi.entity(one)
    if entity is not None:
        json.dumps(ngsi.normalized(entity))
        iotagent.payload(entity)
        counts = [v for k, v in entity.items() if k.startswith("peopleCount")]
        assert all(type(count) is int and count >= 0 for count in counts)
    if kind in opendata.COLUMNS:
        "".join(opendata.month(kind, [one], TOKYO))


# Open data


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.removeprefix(opendata.BOM).splitlines()))


def test_a_month_of_flow_is_a_file_that_a_spreadsheet_opens() -> None:
    text = "".join(opendata.month("people", [observed("people", FLOW)], TOKYO))
    assert text.startswith("\ufeff開始 / start,終了 / end,")
    assert text.count("\r\n") == 2
    (row,) = rows_of(text)
    assert row["開始 / start"] == "2026-02-01T00:00:00+09:00"
    assert row["方向1 / direction1"] == "大通方面"
    assert row["方向2 / direction2"] == ""
    assert (row["合計 / total_count"], row["合計 集計用 / total_unclamped"]) == ("118", "115")
    assert row["提供者 / owner"] == "City of Sapporo"
    assert row["ライセンス / licence"] == "CC-BY-4.0"


def test_what_was_not_measured_is_an_empty_field() -> None:
    some = [
        observed("snow", {"depth_cm": None}),
        observed("snow", {"depth_cm": stats(7.0)}, flag="bad"),
        observed("snow", {"depth_cm": stats(42.5), "snowfall_cm": 3.0}),
    ]
    depths = [
        row["積雪深 cm / depth_cm"] for row in rows_of("".join(opendata.month("snow", some, TOKYO)))
    ]
    assert depths == ["", "", "42.5"]


def test_a_label_is_never_a_formula() -> None:
    one = observed("road", ROAD, label_ja='=HYPERLINK("x")')
    (row,) = rows_of("".join(opendata.month("road", [one], TOKYO)))
    assert row["場所 / place_ja"] == '\'=HYPERLINK("x")'
    assert row["路面状態 / condition"] == "packed_snow"


# The verb


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A file with two hours of a gateway, over the end of a month."""
    url = f"sqlite:{tmp_path}/city.db"
    begin_s = datetime(2026, 1, 31, 14, 0, tzinfo=UTC).timestamp()
    one = Sender("gw-1", "nowhere", 1, begin_ns=int(begin_s) * 10**9)
    one.begin_run()
    one.measure(120)
    rows = Rows()
    birth = json.dumps(one.birth()).encode()
    for topic, payload in [
        ("yukimi/v1/gw-1/status", birth),
        *((t, p) for t, p, _ in one.messages()),
    ]:
        take(rows, topic, topic.removeprefix("yukimi/v1/"), payload, "2026-02-01T00:00:00.000Z")
    with opened(url) as store:
        store.migrate()
        store.write(rows)
    return url


def test_a_months_files_hold_the_month_and_no_more(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["export", "csv", "--database", database, "--out", str(out)]
    assert cli.main([*asked, "--month", "2026-02"]) == 0
    assert {file.name for file in out.iterdir()} == {
        "2026_02.csv",
        "snow_2026_02.csv",
        "road_2026_02.csv",
    }
    flow = rows_of((out / "2026_02.csv").read_text(encoding="utf-8"))
    assert [row["終了 / end"][:16] for row in flow] == [
        f"2026-02-01T0{hour}:{minute:02}" for hour, minute in ((0, 15), (0, 30), (0, 45), (1, 0))
    ]
    assert len(rows_of((out / "snow_2026_02.csv").read_text(encoding="utf-8"))) == 60
    assert cli.main([*asked, "--month", "2026-01"]) == 0
    assert len(rows_of((out / "snow_2026_01.csv").read_text(encoding="utf-8"))) == 60
    assert cli.main([*asked, "--month", "2027-01"]) == 1
    assert cli.main([*asked, "--month", "9999-12"]) == 2
    assert cli.main([*asked, "--month", "January"]) == 2
    assert "a month is YYYY-MM" in capsys.readouterr().err


def test_of_a_month_a_day_is_read_at_a_time(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A month of a city's minutes takes gigabytes."""
    seen: list[float] = []

    def watched(*asked: Any) -> Iterator[Observed]:
        seen.append(asked[-1] - asked[-2])
        return between(*asked)

    monkeypatch.setattr(export_verb, "between", watched)
    out = tmp_path / "out"
    asked = ["export", "csv", "--database", database, "--out", str(out), "--month"]
    assert cli.main([*asked, "2026-01"]) == 0
    assert seen == [86400] * 31 * 3  # three kinds, a sensor each
    ends = [row["終了 / end"] for row in rows_of((out / "road_2026_01.csv").read_text("utf-8"))]
    assert ends == sorted(ends)
    assert not list(out.glob("*.part"))


@contextmanager
def context_broker(
    status: int = 204, answers: Callable[[Any], int] = lambda _: 0
) -> Iterator[tuple[str, list[Any]]]:
    """Stand in for a context broker: keep what is posted, answer with `status` or `answers`."""
    posted: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, dict(self.headers), json.loads(body)))
            says = answers(posted[-1][2]) or status
            self.send_response(says)
            if says == 302:
                self.send_header("Location", "/login")
            self.end_headers()
            if says >= 400:
                self.wfile.write(b'{"title":"no"}')

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_context_broker_gets_each_sensors_newest(database: str) -> None:
    with context_broker() as (url, posted):
        asked = ["export", "fiware", "--database", database, "--to", url, "--tenant", "sapporo"]
        assert cli.main(asked) == 0
    ((path, headers, entities),) = posted
    assert path == "/ngsi-ld/v1/entityOperations/upsert?options=update"
    assert headers["Content-Type"] == "application/ld+json"
    assert {name.lower(): value for name, value in headers.items()}["ngsild-tenant"] == "sapporo"
    assert {each["type"] for each in entities} == {
        "CrowdFlowObserved",
        "RoadSurfaceObserved",
        "WeatherObserved",
    }
    road = next(each for each in entities if each["type"] == "RoadSurfaceObserved")
    assert road["dateObserved"]["value"]["@value"] == "2026-01-31T16:00:00.000Z"
    assert road["owner"]["value"] == ["City of Sapporo"]


def test_a_day_goes_out_in_order_and_no_request_holds_an_entity_twice(database: str) -> None:
    with context_broker() as (url, posted):
        day = ["--day", "2026-02-01", "--gateway", "gw-1"]
        assert cli.main(["export", "fiware", "--database", database, "--to", url, *day]) == 0
    for _, _, entities in posted:
        assert len({each["id"] for each in entities}) == len(entities)
    assert sum(len(entities) for _, _, entities in posted) == 4 + 3 * 60


@pytest.mark.parametrize(
    ("status", "said"), [(400, "400"), (401, "401"), (503, "503"), (207, "207"), (302, "200")]
)
def test_a_refusal_is_told(
    database: str, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    """In part, too; and a redirection ends in a page that takes nothing."""
    with context_broker(status) as (url, _):
        assert cli.main(["export", "fiware", "--database", database, "--to", url]) == 69
    assert f"the context broker refuses: {said}" in capsys.readouterr().err


def test_a_server_that_speaks_something_else_is_told(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100_000)
                connection.sendall(b"\x20\x02\x00\x01")  # MQTT's

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert cli.main(["export", "fiware", "--database", database, "--to", url]) == 69
        thread.join()
    assert "that is no HTTP" in capsys.readouterr().err


def test_an_entity_that_is_refused_keeps_no_others_back(database: str) -> None:
    def answers(entities: Any) -> int:
        return 400 if any("Road" in each["type"] for each in entities) else 204

    with context_broker(answers=answers) as (url, posted):
        assert cli.main(["export", "fiware", "--database", database, "--to", url]) == 69
    alone = [entities[0]["type"] for _, _, entities in posted if len(entities) == 1]
    assert "RoadSurfaceObserved" in alone
    taken = [each["type"] for _, _, some in posted if not answers(some) - 204 for each in some]
    assert sorted(taken) == ["CrowdFlowObserved", "WeatherObserved", "WeatherObserved"]


def test_what_was_not_taken_is_sent_again_though_nothing_newer_came(database: str) -> None:
    """By one that follows; and what was taken is not."""
    told: list[int] = []

    def answers(_: Any) -> int:
        told.append(503 if len(told) < 2 else 204)
        return told[-1]

    asked = ["export", "fiware", "--database", database, "--follow", "--every-s", "1", "--to"]
    with context_broker(answers=answers) as (url, posted):
        one = subprocess.Popen([sys.executable, "-m", "hil.city.cli", *asked, url])
        try:
            until_s = time.monotonic() + 60
            while len(told) < 3 and time.monotonic() < until_s:
                time.sleep(0.05)
            time.sleep(2.5)  # two more looks
        finally:
            one.kill()
            one.wait()
    assert told == [503, 503, 204]
    assert len(posted[2][2]) == 4


def test_a_record_of_a_clock_far_ahead_is_not_the_present(database: str) -> None:
    with opened(database) as store:
        store.query(
            "INSERT INTO record SELECT gateway, run, stream, 10000, kind, start_utc,"
            " '2106-02-07T06:28:16.000Z', 'estimated', NULL, flag, reasons, n, expected,"
            ' "values", config, received_utc FROM record'
            " WHERE stream = 'snow-1' AND seq = 1 RETURNING seq"
        )
    with context_broker() as (url, posted):
        assert cli.main(["export", "fiware", "--database", database, "--to", url]) == 0
    assert "2106" not in json.dumps(posted)
    assert json.dumps(posted).count("snowHeight") == 1


def test_an_iot_agent_gets_measures_on_its_topics(database: str, broker: Mosquitto) -> None:
    heard: dict[str, Any] = {}
    with City(
        broker.host,
        broker.port,
        topic_root="/json",
        on_message=lambda topic, payload, _: heard.__setitem__(topic, json.loads(payload)),
    ) as agent:
        agent.wait_subscribed()
        url = f"mqtt://{broker.host}:{broker.port}"
        asked = ["export", "fiware", "--database", database, "--to", url, "--api-key", "sapporo"]
        assert cli.main(asked) == 0
        assert agent.wait_for(lambda account: account.report().messages == 4, 60)
    snow = heard["/json/sapporo/gw-1-snow-1/attrs"]
    assert snow["TimeInstant"] == "2026-01-31T16:00:00.000Z"
    assert snow["snowHeight"] > 0
    assert "id" not in snow
