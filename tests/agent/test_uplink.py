"""What leaves, and what of it the spool still has: the uplink against a broker in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from agent.record import Entry
from hil.city.payloads import unpack
from hil.ledger import waiting
from tests.agent.desks import OFFSET_S, Desk, Listening
from tests.agent.spools import CONFIG, record


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(tmp_path, monkeypatch)
    yield desk
    desk.spool.close(clean=True)


def commit(desk: Desk, minutes: range) -> list[Entry]:
    entries = desk.spool.append([record("snow-1", minute) for minute in minutes], CONFIG)
    desk.uplink.committed(entries)
    return entries


def left(desk: Desk) -> int:
    """How many records the disk has, once all that is done has left it."""
    desk.spool.settle()
    return len(waiting(desk.spool))


def test_what_the_broker_has_not_acknowledged_stays_in_the_spool(desk: Desk) -> None:
    desk.world.auto = False
    commit(desk, range(3))
    desk.turn(60.0)
    assert [flight.record_keys for flight in desk.world.flights.values()] == [
        [("r", "snow-1", seq) for seq in (1, 2, 3)]
    ]
    assert left(desk) == 3
    for mid in list(desk.world.flights):
        desk.world.answer(mid)
    desk.turn(61.0)
    assert left(desk) == 0


def test_what_waited_arrives_as_it_was_committed(desk: Desk) -> None:
    desk.world.down.add("a.test")
    desk.world.lose(0x8B)
    desk.turn(1.0)
    entries = commit(desk, range(3))
    desk.turn(3600.0)
    assert left(desk) == 3
    desk.world.down.clear()
    desk.turn(3700.0)
    desk.turn(3710.0)
    desk.world.city.take()
    arrived = {key: json.dumps(body) for key, body in desk.world.city.bodies.items()}
    assert arrived == {
        (entry.run, entry.stream, entry.seq): json.dumps(json.loads(entry.body))
        for entry in entries
    }
    assert left(desk) == 0


def state(desk: Desk) -> str | None:
    """The state of the gateway, for whoever subscribes now."""
    retained = desk.world.retained.get("yukimi/v1/g1/status")
    return None if retained is None else str(json.loads(retained)["state"])


def test_whoever_looks_later_sees_the_birth_and_after_a_cut_the_will(desk: Desk) -> None:
    desk.turn(1.0)
    assert state(desk) == "online"
    desk.world.down.add("a.test")
    desk.world.cut()
    desk.turn(2.0)
    assert state(desk) == "offline"
    desk.world.down.clear()
    desk.turn(60.0)
    desk.turn(61.0)
    assert state(desk) == "online"


def test_a_will_that_comes_late_is_overwritten(desk: Desk) -> None:
    desk.turn(1.0)
    desk.world.says("status", '{"state": "offline", "run": "r"}')
    desk.turn(2.0)
    assert state(desk) == "online"


@pytest.mark.parametrize("nonsense", ["[" * 100_000, '{"through": ' + "9" * 5000 + "}"],
                         ids=["deep", "long"])  # fmt: skip
@pytest.mark.parametrize("topic", ["status", "receipt/r/snow-1", "alarm/snow-1/x"])
def test_a_payload_that_python_refuses_to_read_does_not_end_the_uplink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str, nonsense: str
) -> None:
    desk = Desk(tmp_path, monkeypatch, confirm="receipt")
    desk.turn(1.0)
    desk.world.says(topic, nonsense)
    desk.turn(2.0)
    assert state(desk) in ("online", None)
    desk.spool.close(clean=True)


def test_health_leaves_once_a_minute_and_in_one_breath_with_the_records(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_s: list[float] = []
    monkeypatch.setattr(desk.uplink._presence, "say_health", lambda: told_s.append(desk.now_s))
    step = 0
    while desk.now_s < 1400.0:
        step += 1
        desk.turn(min(step * 0.5, desk.now_s - 1000.0 + desk.uplink.wait_s() + 0.001))
    shared_s = [1000.0 + OFFSET_S + 60 * minute for minute in range(1, 7)]
    assert told_s[0] < 1010.0  # soon after it connected
    assert told_s[1:] == pytest.approx(shared_s, abs=0.2)


@pytest.mark.parametrize(
    ("compression", "begins"), [("none", b"{"), ("backlog", b"{"), ("all", b"\x78")]
)
def test_health_is_deflated_where_all_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, begins: bytes
) -> None:
    desk = Desk(tmp_path, monkeypatch, compression=compression)
    desk.turn(60.0)
    client = desk.world.session
    assert isinstance(client, Listening)
    payload = client.heard["health"]
    assert payload[:1] == begins
    assert unpack(payload) == {}
    desk.spool.close(clean=True)


def test_a_subscription_that_is_refused_is_told_once_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch, confirm="receipt")
    desk.turn(1.0)
    client = desk.world.session
    assert client is not None
    asked: list[list[tuple[str, int]]] = []
    monkeypatch.setattr(client, "subscribe", asked.append)
    with capture_logs() as logs:
        for is_denied in (True, True, False, False):
            codes = [SimpleNamespace(is_failure=failed) for failed in (False, False, is_denied)]
            client.on_subscribe(client, None, 1, codes, None)
            desk.turn(desk.now_s - 1000.0 + 31.0)
    told = [(log["log_level"], log.get("topics")) for log in logs if "listen" in log["event"]]
    assert told == [("warning", ["receipt/+/+"]), ("info", None)]
    assert len(asked) == 2  # after each that was denied
    assert asked[0][-1] == ("yukimi/v1/g1/receipt/+/+", 1)
    desk.spool.close(clean=True)
