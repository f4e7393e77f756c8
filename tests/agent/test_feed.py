"""What who watches asks a gateway, and how often."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.answers import Answers, Document, Slices
from agent.cli import feed as feeds
from agent.cli.feed import Feed
from agent.control import Control
from agent.kernel import boot_s

WAIT_S = 60.0


class Gateway:
    """A control socket with one sensor behind it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looks: list[str] = []
        self.control = Control(boot_s)
        answers = Answers()
        answers.add("watch", lambda _: Slices(iter([{"snapshot": {"n": 1}}])))
        answers.add("history", lambda arguments: {"history": {"of": arguments["sensor"]}})
        answers.add("sensor", self._sensor)
        self.control.attach(answers)
        self.control.serve(path)

    def _sensor(self, arguments: Document) -> Document:
        self.looks.append(arguments["sensor"])
        return {"sensor": {}, "raw": [{"time": "t", "rx": "00"}]}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "control.sock")
    until_s = time.monotonic() + WAIT_S
    while not gateway.path.exists():
        assert time.monotonic() < until_s
        time.sleep(0.01)
    yield gateway
    gateway.control.stop()


def _next(feed: Feed, key: str) -> Document:
    """Return the next event that has `key`."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        for event in feed.take():
            if key in event:
                return event
        threading.Event().wait(0.01)
    return pytest.fail(f"no event with {key}")


def test_a_stream_that_ends_is_asked_for_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RETRY_S", 0.01)
    feed = Feed(gateway.path)
    feed.start()
    for _ in range(3):
        assert _next(feed, "snapshot") == {"snapshot": {"n": 1}}


def test_a_sensor_is_looked_into_once_a_while_however_often_one_says_so(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LOOK_S", 3600.0)
    feed = Feed(gateway.path)
    feed.start()
    for sensor in ("snow-1", "snow-2"):
        for _ in range(100):
            feed.look_into(sensor)
        event = _next(feed, "into")
        assert event == {
            "into": sensor,
            "raw": [{"time": "t", "rx": "00"}],
            "history": {"of": sensor},
        }
        for _ in range(100):
            feed.look_into(sensor)
    feed.look_into(None)
    feed.look_into("snow-1")
    _next(feed, "into")
    assert gateway.looks == ["snow-1", "snow-2", "snow-1"]


def test_nobody_there_is_told_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RETRY_S", 0.01)
    feed = Feed(tmp_path / "nobody.sock")
    feed.start()
    for _ in range(3):
        assert _next(feed, "gone")["gone"].is_unreachable
