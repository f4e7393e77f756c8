"""A connection is left at whatever moment, and its thread is over then."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent import link
from agent.link import Event, Link, connect, hang_up
from config.model import UplinkTable
from hil.broker import Mosquitto
from tests.e2e.conftest import need_mosquitto


@pytest.fixture
def client() -> Iterator[mqtt.Client]:
    """A client that has a connection and a thread."""
    need_mosquitto()
    with Mosquitto() as broker:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.connect(broker.host, broker.port)
        client.loop_start()
        yield client


def test_a_connection_needs_nobody_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the service's walls that is forbidden."""
    need_mosquitto()
    events: queue.Queue[Event] = queue.Queue()
    settings = UplinkTable.model_validate({"brokers": ["mqtt://127.0.0.1:1"]})
    with Mosquitto() as broker:
        url = f"mqtt://{broker.host}:{broker.port}"

        def forbid(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        for act in ("bind", "listen"):
            monkeypatch.setattr(socket.socket, act, forbid)
        client = Link(settings, "g1", Path, events.put).client(url, "5", ("t", "gone"))
        connect(client, url, "5")
        client.loop_start()
        assert events.get(timeout=60.0).name == "connected"
        hang_up(client)


def threads_of_paho() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("paho-mqtt")]


def test_whoever_hangs_up_leaves_no_thread(client: mqtt.Client) -> None:
    assert threads_of_paho()
    hang_up(client)
    assert not threads_of_paho()


def test_a_thread_that_ends_while_it_is_looked_for_is_no_error(
    client: mqtt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paho asks whether the thread is there, then who asks, then waits for the thread."""
    real = threading.current_thread

    def slow() -> threading.Thread:
        while client._thread not in (None, real()):
            time.sleep(0.001)
        return real()

    monkeypatch.setattr(mqtt.threading, "current_thread", slow)
    hang_up(client)
    assert client._thread is None


@pytest.fixture
def own() -> Iterator[mqtt.Client]:
    """The gateway's own client, connected."""
    need_mosquitto()
    with Mosquitto() as broker:
        url = f"mqtt://{broker.host}:{broker.port}"
        settings = UplinkTable.model_validate({"brokers": [url]})
        heard: queue.Queue[link.Event] = queue.Queue()
        client = link.Link(settings, "g1", Path, heard.put).client(url, "5", ("t/status", "{}"))
        link.connect(client, url, "5")
        client.loop_start()
        assert heard.get(timeout=10).name == "connected"
        yield client
        hang_up(client)


def test_what_is_said_at_one_time_leaves_as_one(
    own: mqtt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[tuple[int, int]] = []
    monkeypatch.setattr(link, "_option", lambda _sock, *option: options.append(option))
    with link.together(own):
        said = [own.publish("t", str(number), qos=1) for number in range(3)]
        assert len(own._out_packet) == 3, "something has left already"
    for each in said:
        each.wait_for_publish(10)
        assert each.is_published()
    assert options == [
        (socket.TCP_CORK, 1),
        (socket.TCP_CORK, 0),  # a cork that stays in keeps the last of it for 200 ms
        (socket.TCP_QUICKACK, 0),
    ]


def test_one_message_waits_for_nothing(own: mqtt.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[tuple[int, int]] = []
    monkeypatch.setattr(link, "_option", lambda _sock, *option: options.append(option))
    own.publish("t", "alone", qos=1).wait_for_publish(10)
    assert options == []


def test_what_was_said_need_not_be_proven_by_a_ping(own: mqtt.Client) -> None:
    own._last_msg_out = -1e9
    own.publish("t", "here", qos=1).wait_for_publish(10)
    assert own._last_msg_out > 0


def test_whoever_publishes_when_the_thread_is_over_waits_for_nobody(own: mqtt.Client) -> None:
    hang_up(own)
    with link.together(own):
        own.publish("t", "too late", qos=1)
