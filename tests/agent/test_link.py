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
