"""The older protocol: where it is configured, and where a broker knows no other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from hil.broker import EmbeddedBroker
from hil.city.subscriber import City
from tests.e2e.conftest import Site

REFUSED = b"\x20\x02\x00\x01"  # CONNACK of 3.1.1: unacceptable protocol version
LEVEL_AT = 6  # in CONNECT, behind the remaining length: 2 bytes of length, "MQTT", the level


class OldFront:
    """A broker that refuses MQTT 5 in so many words, and is the real one behind it otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.levels: list[int] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                connect = near.recv(4096)
                body = connect[2:] if connect[1] < 0x80 else connect[3:]
                self.levels.append(body[LEVEL_AT])
                if body[LEVEL_AT] == 5:
                    near.sendall(REFUSED)
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._sockets.append(far)
                far.sendall(connect)
                for pair in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=_carry, args=pair))
                    self._threads[-1].start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def old_front(site: Site) -> Iterator[OldFront]:
    front = OldFront(site.broker.host, site.broker.port)
    yield front
    front.close()


def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1_and_this_is_said_once(
    site: Site, old_front: OldFront
) -> None:
    site.configure(brokers=[f"mqtt://127.0.0.1:{old_front.port}"])
    site.start()
    site.wait_records("snow-2", 2)
    assert old_front.levels == [5, 4]
    assert len(site.daemon.said("refuses MQTT 5", "using 3.1.1")) == 1
    assert site.daemon.said("event=connected", "protocol=3.1.1")
    assert not site.daemon.said("not reachable")
    assert site.stop() == 0
    site.close_account()


def test_mqtt_3_1_1_is_spoken_where_it_is_configured(site: Site) -> None:
    site.configure(protocol="3.1.1")
    site.start()
    site.wait_records("snow-2", 2)
    assert site.daemon.said("event=connected", "protocol=3.1.1")
    assert not site.daemon.said("refuses MQTT 5")
    assert site.stop() == 0
    site.close_account()


def test_the_embedded_broker_serves_where_there_is_no_other(tmp_path: Path) -> None:
    with Site(tmp_path, EmbeddedBroker(), make_city=partial(City, protocol=311)) as site:
        site.listen()
        site.configure(protocol="3.1.1")
        site.start()
        site.wait_records("snow-2", 1)
        site.relay.reset()
        site.daemon.wait_log("event=connected", times=2)
        assert site.stop() == 0
        site.close_account()


def test_the_embedded_broker_that_says_nothing_to_mqtt_5_is_spoken_to_in_3_1_1(
    tmp_path: Path,
) -> None:
    with Site(tmp_path, EmbeddedBroker(), make_city=partial(City, protocol=311)) as site:
        site.listen()
        site.configure()
        site.start({"agent.uplink.CONNACK_TIMEOUT_S": 1.0})
        site.wait_records("snow-2", 1)
        assert len(site.daemon.said("refuses MQTT 5", "using 3.1.1")) == 1
        assert site.stop() == 0
        site.close_account()
