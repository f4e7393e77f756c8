"""When an alert leaves: what is said of people at their record's fixed time, all else at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.delivery import SPOOL_RETRY_S
from agent.fresh import Fresh
from agent.record import Entry
from agent.spool import SpoolError
from tests.agent.desks import NOON_NS, OFFSET_S, Desk, Listening, S


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(tmp_path, monkeypatch)
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


def test_what_is_said_of_a_crowd_too_late_leaves_at_a_full_step(desk: Desk) -> None:
    desk.turn(60.0)
    desk.tell("hall-1", "people", "crowding", 1)
    desk.turn(60.09)
    assert desk.sent == []
    assert desk.shown("alarm/hall-1/crowding") is None
    desk.turn(60.11)  # 54 s after the offset of 6.1 s
    assert desk.sent == ["alert/people"]
    assert desk.shown("alarm/hall-1/crowding") == "crowding"


@pytest.mark.parametrize(("offset_s", "leaves_s"), [(0.0, 2.5), (2.0, 2.5), (2.1, 2.6), (2.5, 2.5)])
def test_a_short_offset_lets_no_figure_leave_as_soon_as_it_is_there(
    offset_s: float, leaves_s: float
) -> None:
    windows_s = {"hall-1": 900, "snow-1": 60}
    hall, snow = (
        Entry(1, "r", stream, kind, "c", 1, NOON_NS, "{}")
        for stream, kind in (("hall-1", "people"), ("snow-1", "snow"))
    )
    for ago_s in (2.001, 2.02, 2.3):
        utc_ns = NOON_NS + round(ago_s * S)
        fresh = Fresh(offset_s, windows_s, frozenset({"hall-1"}))
        for each in (hall, snow):  # they are committed together
            assert fresh.due(each, utc_ns, 100.0)[1] == pytest.approx(100 + leaves_s - ago_s)
        fresh = Fresh(offset_s, windows_s)  # nobody is counted
        assert fresh.due(snow, utc_ns, 100.0)[1] == pytest.approx(100 + offset_s - ago_s)


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
    assert desk.uplink._alarms.next_s == math.inf


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


def test_a_spool_that_cannot_be_read_is_tried_later_and_keeps_nothing_else_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def fails(*_args: Any, **_options: Any) -> Any:
        tries.append(desk.now_s)
        raise SpoolError("no")

    with monkeypatch.context() as broken:
        broken.setattr(desk.spool, "peek", fails)
        broken.setattr(desk.spool, "alerts", fails)
        desk.uplink.rewind()
        desk.tell("door-9", "cabinet", "cabinet_door", 1)
        desk.turn(1.0)
        assert len(set(tries)) == 1
        assert desk.shown("alarm/door-9/cabinet_door") == "cabinet_door"  # it was heard of
        assert 0.0 < desk.uplink.wait_s() <= SPOOL_RETRY_S
        desk.turn(1.0 + SPOOL_RETRY_S)
        assert len(set(tries)) == 2
    desk.turn(1.0 + 2 * SPOOL_RETRY_S)
    assert "alert/cabinet" in desk.sent
