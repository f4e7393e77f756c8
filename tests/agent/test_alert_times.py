"""When an alert leaves: what is said of people at their record's fixed time, all else at once."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Stamp
from agent.health import UplinkHealth
from agent.record import AlertRecord
from agent.spool import Spool
from agent.uplink import Fresh, Uplink
from config.model import UplinkTable
from hil.world import Client, World

S = 1_000_000_000
NOON_NS = 1_800_100_800 * S
OFFSET_S = 6.1


class NoWait(queue.Queue[Any]):
    """A queue that lets nobody wait: time is what the test says."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block=False)


class Listening(Client):
    """Keeps what is published beside records."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.heard: dict[str, Any] = {}

    def publish(self, topic: str, payload: Any, qos: int = 0, **options: Any) -> Any:
        self.heard[topic.partition("g1/")[2]] = payload
        return super().publish(topic, payload, qos, **options)


class Street(World):
    """A world whose clients are heard."""

    def new_client(self) -> Client:
        self.clients.append(Listening(self))
        return self.clients[-1]


class Desk:
    """An uplink, its spool and its broker, at a time that the test says."""

    def __init__(self, folder: Path, world: World) -> None:
        self.world = world
        self.world.inflight, self.world.auto = 16, True
        self.sent: list[str] = []
        self.world.on_send = lambda flight: self.sent.append(flight.topic)
        self.now_s = 1000.0
        self.spool = Spool(folder / "spool.db", max_bytes=2**24, run="r", boot_id="b", gateway="g1")
        self.uplink = Uplink(
            UplinkTable.model_validate({"brokers": ["mqtt://a.test"]}),
            gateway_id="g1",
            spool=self.spool,
            fresh=Fresh(OFFSET_S, {"hall-1": 900, "door-9": 60}, frozenset({"hall-1"})),
            health=UplinkHealth(),
            birth=lambda: {"state": "online"},
            health_message=dict,
            find_file=Path,
            utc_ns=lambda: NOON_NS + round((self.now_s - 1000) * S),
            boot_s=lambda: self.now_s,
        )
        self.uplink._events = NoWait(maxsize=1000)
        self.turn()

    def turn(self, to_s: float = 0.0) -> None:
        self.now_s = max(self.now_s, 1000.0 + to_s)
        for _ in range(5):
            self.uplink.step()

    def tell(self, sensor: str, kind: str, name: str, number: int) -> None:
        """Commit an alert about a window that ended at noon."""
        alert = AlertRecord(
            sensor=sensor, kind=kind, alert=name, id=f"e{number}", state="raised",
            severity="warning", time_ns=NOON_NS, since_ns=NOON_NS, clock=Stamp("synced", 0.0),
            text={"ja": "x", "en": "x"}, values={},
        )  # fmt: skip
        self.uplink.committed(self.spool.append([alert], "c1"))

    def shown(self, topic: str) -> Any:
        client = self.world.session
        assert isinstance(client, Listening)
        body = client.heard.get(topic)
        return body and json.loads(body)["alert"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    world = Street("yukimi/v1/g1")
    monkeypatch.setattr("agent.link.mqtt.Client", lambda *_, **__: world.new_client())
    desk = Desk(tmp_path, world)
    yield desk
    desk.spool.close(clean=True)


def test_what_is_said_of_a_crowd_waits_and_keeps_nothing_else_back(desk: Desk) -> None:
    desk.turn(2.0)
    desk.tell("hall-1", "people", "crowding", 1)
    desk.tell("door-9", "cabinet", "cabinet_door", 2)
    desk.turn(2.1)
    assert desk.sent == ["alert/cabinet"]
    assert desk.shown("alarm/door-9/cabinet_door") == "cabinet_door"
    assert desk.shown("alarm/hall-1/crowding") is None
    desk.turn(OFFSET_S - 0.01)
    assert desk.sent == ["alert/cabinet"]
    desk.turn(OFFSET_S)
    assert desk.sent == ["alert/cabinet", "alert/people"]
    assert desk.shown("alarm/hall-1/crowding") == "crowding"


def test_a_reconnection_does_not_make_it_leave_sooner(desk: Desk) -> None:
    desk.turn(2.0)
    desk.tell("hall-1", "people", "crowding", 1)
    desk.turn(2.1)
    desk.world.lose(0x8B)
    desk.turn(3.0)
    desk.turn(5.0)
    assert desk.world.session is not None
    assert desk.sent == []
    assert desk.shown("alarm/hall-1/crowding") is None
    desk.turn(OFFSET_S)
    assert desk.sent == ["alert/people"]
    assert desk.shown("alarm/hall-1/crowding") == "crowding"


def test_what_waited_for_longer_than_the_offset_leaves_at_once(desk: Desk) -> None:
    desk.turn(60.0)
    desk.tell("hall-1", "people", "crowding", 1)
    desk.turn(60.1)
    assert desk.sent == ["alert/people"]


def test_at_a_stop_everything_is_told_and_shown_at_once(desk: Desk) -> None:
    desk.turn(2.0)
    desk.tell("hall-1", "people", "crowding", 1)
    desk.turn(2.1)
    assert desk.shown("alarm/hall-1/crowding") is None
    desk.uplink.stop(1.0)
    desk.uplink.run()
    assert desk.sent == ["alert/people"]
    client = desk.world.clients[-1]
    assert isinstance(client, Listening)
    assert json.loads(client.heard["alarm/hall-1/crowding"])["alert"] == "crowding"


def test_while_nobody_can_be_reached_nothing_piles_up(desk: Desk) -> None:
    desk.world.down.add("a.test")
    desk.world.lose(0x8B)
    for number in range(50):
        desk.turn(2.0 + number * 0.01)
        desk.tell("hall-1", "people", "crowding", number)
    desk.turn(3.0)
    assert desk.uplink._alarms_later == []


def test_an_alarm_of_a_crowd_that_is_over_is_emptied_at_the_offset(desk: Desk) -> None:
    """The gateway that wrote it has told its end just now, and comes back before the offset."""
    desk.turn(2.0)
    topic = "yukimi/v1/g1/alarm/hall-1/crowding"
    desk.uplink._on_heard(topic, b'{"state": "raised"}', True)
    desk.uplink._on_heard("yukimi/v1/g1/alarm/door-9/cabinet_door", b'{"state": "raised"}', True)
    client = desk.world.session
    assert isinstance(client, Listening)
    assert client.heard["alarm/door-9/cabinet_door"] == b""
    assert "alarm/hall-1/crowding" not in client.heard
    desk.turn(2.0 + OFFSET_S)
    assert client.heard["alarm/hall-1/crowding"] == b""
