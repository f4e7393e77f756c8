"""Where a moving gateway's records were measured: the last fix inside their window, or null."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.alerts import AlertBook
from agent.channels import Channel, MeasuredChannel, PeopleChannel
from agent.clock import GNSS_FIXES, Clock, Look
from agent.collector import Collected
from agent.pipeline import CLOCK_LOOK_S, Pipeline
from agent.privacy.ledger import Terms
from agent.privacy.policy import Policy
from agent.record import batch, location
from agent.replay import Played
from agent.rules import Rules
from agent.schemas import message_schema
from agent.spool import Spool
from config.model import AlertsTable
from drivers.base import Alive, Crossing, Fix, Observation, Quantity, Reading, Trouble
from hil.city.account import Account
from hil.ledger import waiting

S = 1_000_000_000
MIDNIGHT_NS = 1_800_057_600 * S
BOOT_NS = 500 * S  # at midnight
NOISE = Policy(900, Fraction(1, 4))
POSITION = {
    "satellites": Quantity("satellites", "1", "satellites"),
    "hdop": Quantity("hdop", "1", "geometry"),
}


class Vehicle:
    """A pipeline with a receiver, an air sensor and a counter, and clocks that a test moves."""

    def __init__(self, path: Path, *, known: bool = True, moves: bool = True) -> None:
        self.boot_ns = BOOT_NS
        self.known = known
        self.off_ns = 0 if known else -400 * 86_400 * S  # the system clock, where nobody set it
        terms = Terms(NOISE, "Asia/Tokyo", "")
        self.spool = Spool(path, max_bytes=64 * 2**20, run="run-1", boot_id="boot-1", terms=terms)
        self.inbox: queue.Queue[Collected | None] = queue.Queue(1000)
        self.clock = Clock(self.look(), trust_system=False)
        now_ns = self.clock.utc_ns(self.boot_ns)
        where = {"now_ns": now_ns, "moves": moves}
        channels: dict[str, Channel[Any]] = {
            "gps-1": MeasuredChannel(
                "gps-1", "position", window_s=60, rate_hz=1.0, quantities=POSITION, **where
            ),
            "air-1": MeasuredChannel(
                "air-1",
                "weather",
                window_s=60,
                rate_hz=1.0,
                quantities={"air_temperature_c": Quantity("air_temperature_c", "Cel", "air")},
                **where,
            ),
            "door-1": PeopleChannel(
                "door-1", policy=NOISE, directions=("towards", "away"), **where
            ),
        }
        self.pipeline = Pipeline(
            channels,
            self.inbox,
            self.spool,
            config_id="9f2c1ab04d77",
            clock=self.clock,
            look=self.look,
            boot_id="boot-1",
            clock_wait_over=lambda: False,
            committed=lambda _: None,
            rewind=lambda: None,
            book=AlertBook([], lambda: "episode"),
            rules=Rules(AlertsTable(), {}),
            version="0.1.0",
        )

    def look(self) -> Look:
        utc_ns = MIDNIGHT_NS + self.boot_ns - BOOT_NS + self.off_ns
        return Look(self.boot_ns, utc_ns, self.known, 0.02 if self.known else None)

    def says(self, sensor_id: str, *observations: Observation) -> None:
        self.inbox.put_nowait(Collected(sensor_id, observations))
        self.pipeline.step()

    def fix(self, north_deg: float = 43.06, *, tells_time: bool = False) -> Fix:
        utc_ns = MIDNIGHT_NS + self.boot_ns - BOOT_NS if tells_time else None
        return Fix(north_deg, 141.35, self.boot_ns, 9.99977, 3.0, utc_ns)

    def drives(
        self, until_s: float, *, fixes: Callable[[int], bool] = lambda _: True, **how: Any
    ) -> None:
        """Live second by second; the vehicle goes north by a thousandth of a degree each."""
        while (second := (self.boot_ns - BOOT_NS) // S) < until_s:
            self.says("air-1", Reading("air_temperature_c", -4.0, self.boot_ns))
            self.says("door-1", Alive(self.boot_ns))
            if fixes(second):
                there = self.fix(43 + second / 1000, **how)
                quality = [Reading(name, 1.0, self.boot_ns) for name in POSITION]
                self.says("gps-1", there, *quality)
            else:
                self.says("gps-1", Trouble("weak_signal", self.boot_ns))
            self.boot_ns += S

    def records(self, stream: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(body) for _, body in waiting(self.spool)]
        return [each for each in found if stream in (None, each["stream"])]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Vehicle]]:
    made: list[Vehicle] = []

    def build(**how: Any) -> Vehicle:
        made.append(Vehicle(tmp_path / f"spool-{len(made)}.db", **how))
        return made[-1]

    yield build
    for each in made:
        each.spool.close(clean=True)


def norths(records: list[dict[str, Any]]) -> list[float | None]:
    places = [record["values"]["location"] for record in records]
    return [place and place["latitude"] for place in places]


def test_every_record_bears_the_last_fix_inside_its_window(make: Callable[..., Vehicle]) -> None:
    vehicle = make()
    vehicle.drives(905)
    minutes = [43 + (60 * minute + 59) / 1000 for minute in range(15)]
    assert norths(vehicle.records("air-1")) == pytest.approx(minutes)
    assert norths(vehicle.records("gps-1")) == pytest.approx(minutes)
    assert norths(vehicle.records("door-1")) == pytest.approx([43.899])
    assert vehicle.records("air-1")[0]["values"]["location"] == {
        "latitude": 43.059,
        "longitude": 141.35,
        "speed_m_s": 10,
        "error_m": 3,
    }


def test_a_window_without_a_fix_says_null_and_not_where_it_was_before(
    make: Callable[..., Vehicle],
) -> None:
    vehicle = make()
    vehicle.drives(245, fixes=lambda second: not 30 <= second < 130)
    assert norths(vehicle.records("air-1")) == [43.029, None, 43.179, 43.239]
    receiver = vehicle.records("gps-1")
    assert norths(receiver) == [43.029, None, 43.179, 43.239]
    assert [each["quality"]["flag"] for each in receiver] == ["good", "missing", "good", "good"]
    assert receiver[1]["quality"]["reasons"] == ["weak_signal"]
    assert [each["quality"]["flag"] for each in vehicle.records("air-1")] == ["good"] * 4


def test_a_receiver_that_says_how_well_it_hears_and_not_where_it_is_is_missing(
    make: Callable[..., Vehicle],
) -> None:
    vehicle = make()
    for _ in range(65):
        quality = [Reading(name, 7.5, vehicle.boot_ns) for name in POSITION]
        vehicle.says("gps-1", *quality, Trouble("weak_signal", vehicle.boot_ns))
        vehicle.boot_ns += S
    (record,) = vehicle.records("gps-1")
    assert record["quality"]["flag"] == "missing"
    assert record["quality"]["reasons"] == ["weak_signal"]
    assert record["values"]["location"] is None
    assert record["values"]["hdop"]["flag"] == "good"


def test_a_receiver_that_says_only_where_it_is_is_good(make: Callable[..., Vehicle]) -> None:
    vehicle = make()
    for _ in range(65):
        vehicle.says("gps-1", vehicle.fix())
        vehicle.boot_ns += S
    (record,) = vehicle.records("gps-1")
    assert record["quality"] == {"flag": "good", "n": 60, "expected": 60}
    assert list(record["values"]) == ["location"]


def test_a_gateway_that_stands_says_nothing_of_a_place(make: Callable[..., Vehicle]) -> None:
    vehicle = make(moves=False)
    for _ in range(65):
        vehicle.says("air-1", Reading("air_temperature_c", -4.0, vehicle.boot_ns))
        vehicle.boot_ns += S
    assert list(vehicle.records("air-1")[0]["values"]) == ["air_temperature_c"]


def test_the_place_is_beside_the_release_and_tells_of_nobody(make: Callable[..., Vehicle]) -> None:
    """Whoever crosses or does not, the place is the same, and the release is as ever."""
    empty, crowded = make(), make()
    for _ in range(50):
        crowded.says("door-1", Crossing("towards", crowded.boot_ns))
    released = set(NOISE.release({"towards": 0, "away": 0}))
    places = []
    for vehicle in (empty, crowded):
        vehicle.drives(905)
        (record,) = vehicle.records("door-1")
        assert set(record["values"]) == released | {"location"}
        places.append(record["values"]["location"])
    assert places[0] == places[1]


def test_records_with_a_place_are_as_described_and_the_city_takes_them(
    make: Callable[..., Vehicle],
) -> None:
    vehicle = make()
    vehicle.drives(905, fixes=lambda second: not 60 <= second < 120)
    kinds = {"gps-1": "position", "air-1": "weather", "door-1": "people"}
    validator = Draft202012Validator(message_schema("batch"))
    account = Account("yukimi/v1")
    for stream, kind in kinds.items():
        records = [json.dumps(each) for each in vehicle.records(stream)]
        payload = batch("patrol-1", "run-1", kind, "9f2c1ab04d77", records)
        validator.validate(json.loads(payload))
        assert len(account.take(f"yukimi/v1/patrol-1/live/{kind}", payload)) == len(records)
    assert account.report().malformed == 0


def test_an_unsynchronised_gateway_knows_the_time_by_its_receiver(
    make: Callable[..., Vehicle],
) -> None:
    vehicle = make(known=False)
    vehicle.drives(10 + 3 * CLOCK_LOOK_S, tells_time=True)
    assert vehicle.clock.known
    assert vehicle.clock.utc_ns(BOOT_NS) == MIDNIGHT_NS
    vehicle.drives(130, tells_time=True)
    records = vehicle.records("air-1")
    assert records[0]["start"] == "2027-01-16T00:00:00.000Z"
    assert [each["clock"]["state"] for each in records] == ["corrected", "synced", "synced"]
    assert None not in norths(records)


def test_a_few_sentences_with_a_wrong_year_move_nothing(make: Callable[..., Vehicle]) -> None:
    vehicle = make(known=False)
    for _ in range(GNSS_FIXES - 1):
        years_ahead_ns = MIDNIGHT_NS + vehicle.boot_ns + 2 * 365 * 86_400 * S
        vehicle.says("gps-1", Fix(43.0, 141.0, vehicle.boot_ns, utc_ns=years_ahead_ns))
        vehicle.drives((vehicle.boot_ns - BOOT_NS) / S + 3 * CLOCK_LOOK_S)
    assert not vehicle.clock.known


def test_the_json_of_a_fix_and_of_none() -> None:
    assert location(None) is None
    assert location(Fix(43.06123456789, -141.0, 0)) == {
        "latitude": 43.0612346,
        "longitude": -141.0,
        "speed_m_s": None,
        "error_m": None,
    }


def test_a_replay_shows_the_fix_with_what_is_said_of_it() -> None:
    one, two = Fix(43.0, 141.0, 0, 1.0, 2.0), Fix(43.1, 141.0, 0, 1.0, 2.0)
    eight, seven = Reading("satellites", 8, 0), Reading("satellites", 7, 0)
    lines = list(Played(1.5, [one, eight, two, seven]).lines())
    assert [line["values"]["satellites"] for line in lines] == [8, 7]
    assert [line["values"]["location"]["latitude"] for line in lines] == [43.0, 43.1]
    assert {line["t_s"] for line in lines} == {1.5}
    assert {line["quality"]["flag"] for line in lines} == {"good"}
    assert [len(list(Played(0.0, [fix]).lines())) for fix in (one, two)] == [1, 1]
