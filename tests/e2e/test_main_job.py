"""The main job: what five sensors measure is what the city holds."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.conftest import MAST_DEPTH_CM, POST_DEPTH_CM, ROAD_C, Site

WINDOW_S = 2
FIVE = ("hall-1", "door-1", "road-1", "snow-1", "snow-2")
KINDS = {"hall-1": "people", "door-1": "people", "road-1": "road", "snow-1": "snow"} | {
    "snow-2": "snow"
}


def is_good(record: dict[str, Any]) -> bool:
    return record["quality"]["flag"] == "good"


def good(site: Site, stream: str) -> list[dict[str, Any]]:
    return [record for record in site.records(stream) if is_good(record)]


def assert_windows_meet(records: list[dict[str, Any]]) -> None:
    """Neither hole nor overlap, and whole windows are where UTC has them."""
    for earlier, later in pairwise(sorted(records, key=lambda record: record["seq"])):
        assert earlier["end"] == later["start"]
    whole = [r for r in records if "partial" not in r["quality"].get("reasons", [])]
    assert whole
    for record in whole:
        assert seconds(record["start"]) % WINDOW_S == 0
        assert seconds(record["end"]) - seconds(record["start"]) == WINDOW_S


@pytest.mark.slow
def test_five_sensors_are_read_released_delivered_and_accounted_for(site: Site) -> None:
    site.configure(FIVE, window_s=WINDOW_S)
    site.start()
    for stream in FIVE:
        site.wait_until(lambda stream=stream: len(good(site, stream)) >= 3, f"{stream} measuring")
    assert site.stop() == 0
    report = site.close_account()

    assert {page.stream for page in report.streams} == {*FIVE, "gateway", "alerts"}
    (frozen,) = site.records("alerts")  # the road is
    assert (frozen["sensor"], frozen["alert"], frozen["state"]) == ("road-1", "freezing", "raised")
    assert report.duplicates == 0
    for message in site.heard:
        for record in message.records:
            kind = KINDS.get(record.get("sensor") or record["stream"], "gateway")
            assert message.topic.endswith(f"/{kind}")

    for record in good(site, "snow-1"):
        assert abs(record["values"]["depth_cm"]["median"] - MAST_DEPTH_CM) < 1.0
    for record in good(site, "snow-2"):
        assert abs(record["values"]["depth_cm"]["median"] - POST_DEPTH_CM) < 1.0
    for record in good(site, "road-1"):
        assert abs(record["values"]["surface_temperature_c"]["mean"] - ROAD_C) < 0.5
        assert record["values"]["condition"]["mode"] == "ice"
    for record in [*good(site, "hall-1"), *good(site, "door-1")]:
        values = record["values"]
        assert values["epsilon"] == "1/4"
        for way in ("towards", "away"):
            # Few can have passed in two seconds; the noise passes 200 once in 10^21 records.
            assert abs(values[way]["unclamped"]) < 200
            assert values[way]["count"] == max(0, values[way]["unclamped"])

    for stream in FIVE:
        assert_windows_meet(site.records(stream))


def test_the_birth_is_retained_and_names_every_sensor_and_the_good_bye_follows_it(
    site: Site,
) -> None:
    site.configure(FIVE, window_s=2)
    site.start()
    site.wait_online()
    birth = site.retained_status()
    assert birth["state"] == "online"
    assert birth["gateway"] == "site-01"
    assert birth["label"] == {"ja": "試験場", "en": "Bench"}
    assert {sensor["id"]: sensor["kind"] for sensor in birth["sensors"]} == KINDS
    hall = birth["sensors"][0]
    assert hall["directions"] == {"towards": {"en": "station"}, "away": {"en": "park"}}
    assert site.stop() == 0
    assert site.retained_status() == {
        "schema": "yukimi.status/1",
        "state": "offline",
        "gateway": "site-01",
        "run": birth["run"],
        "reason": "stopped",
    }
    site.close_account()


def test_nothing_leaves_before_its_time(site: Site) -> None:
    # A window closes 2 s after its end, for late readings; only a longer offset shows itself.
    site.configure(window_s=1, offset_s=3.5)
    site.start()
    site.wait_records("door-1", 4)
    site.wait_records("snow-2", 1)
    heard = list(site.heard)  # at the stop everything leaves at once
    for message in heard:
        for record in message.records:
            if record["stream"] != "gateway":
                # The daemon follows the system's clock in steps of some seconds.
                assert message.at_s - seconds(record["end"]) > 3.5 - 0.05
    assert site.stop() == 0
    site.close_account()


def seconds(utc: str) -> float:
    return datetime.fromisoformat(utc).timestamp()
