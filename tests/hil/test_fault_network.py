"""A worn network, seen from a real client's socket and a real server's."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from random import Random

import pytest

from hil.faults.network import TRIES, Link, Way
from hil.faults.portal import PORTAL
from hil.relay import Relay
from tests.hil.test_relay import Echo

SOON_S = 0.3  # nothing comes of itself, however long one waits


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def relay(echo: Echo) -> Iterator[Relay]:
    with Relay("127.0.0.1", echo.port) as relay:
        yield relay


def connect(relay: Relay) -> socket.socket:
    return socket.create_connection((relay.host, relay.port), timeout=20)


def ask(client: socket.socket, text: bytes = b"snow") -> bytes:
    client.sendall(text)
    heard = b""
    while len(heard) < len(text):
        chunk = client.recv(65536)
        assert chunk, "closed too early"
        heard += chunk
    return heard


def took_s(client: socket.socket, text: bytes = b"snow") -> float:
    began_s = time.monotonic()
    assert ask(client, text) == text.upper()
    return time.monotonic() - began_s


def wait_quick(client: socket.socket) -> None:
    until_s = time.monotonic() + 20
    while took_s(client) > 0.15:
        assert time.monotonic() < until_s, "it stays slow"


def hears_nothing(client: socket.socket) -> bool:
    client.settimeout(SOON_S)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(20)
    return False


def test_late_is_late_each_way_and_two_delays_add_up(relay: Relay) -> None:
    with connect(relay) as client:
        heal_one, heal_other = relay.delay(0.1), relay.delay(0.15)
        assert took_s(client) >= 0.5
        heal_one()
        assert took_s(client) >= 0.3
        heal_other()
        wait_quick(client)


def test_a_throttle_lets_through_so_much_a_second_and_healed_the_rest_at_once(
    relay: Relay,
) -> None:
    with connect(relay) as client:
        heal = relay.throttle(20_000)
        assert took_s(client, b"x" * 10_000) >= 0.4
        heal()
        heal = relay.throttle(10)
        client.sendall(b"y" * 30_000)
        heal()
        left = 30_000
        while left:
            left -= len(client.recv(65536))
        wait_quick(client)


def test_what_is_lost_comes_later_and_whole_and_in_order(echo: Echo) -> None:
    text = bytes(range(65, 91)) * 200
    with Relay("127.0.0.1", echo.port, dice=Random(4)) as relay, connect(relay) as client:
        heal = relay.lose(0.3)
        assert took_s(client, text) >= 0.2
        heal()
        assert ask(client, text) == text


def test_where_everything_is_lost_nothing_moves_and_healed_it_does(relay: Relay) -> None:
    with connect(relay) as client:
        heal = relay.lose(1.0)
        client.sendall(b"snow")
        assert hears_nothing(client)
        heal()
        assert client.recv(4) == b"SNOW"


def test_after_the_last_try_a_connection_is_over() -> None:
    link = Link(Random(0))
    link.lose(1.0)
    way = Way(link, to_target=True)
    way.take(b"snow", 0.0)
    now_s = 0.0
    for _ in range(TRIES):
        assert way.ready(now_s) == b""
        assert way.wakes_s() > now_s
        now_s = way.wakes_s()
    assert now_s + 120 > 15 * 60  # as long as Linux tries by itself
    with pytest.raises(TimeoutError):
        way.ready(now_s)


def test_a_connection_that_vanishes_is_silent_at_both_ends_and_new_ones_work(
    relay: Relay,
) -> None:
    with connect(relay) as old, connect(relay) as idle:
        assert ask(old) == b"SNOW"
        assert ask(idle) == b"SNOW"
        heal = relay.vanish()
        old.sendall(b"still there?")
        assert hears_nothing(old)
        assert hears_nothing(idle)
        with connect(relay) as new:
            assert ask(new) == b"SNOW"
            heal()
            with pytest.raises(ConnectionResetError):
                old.recv(1)
            assert ask(new) == b"SNOW"


def test_a_portal_answers_whoever_connects_with_its_page_until_it_is_gone(relay: Relay) -> None:
    with connect(relay) as client:
        assert ask(client) == b"SNOW"
        heal = relay.portal()
        with pytest.raises(ConnectionError):
            client.recv(1)
    with connect(relay) as client:
        client.sendall(b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00")
        page = b""
        while chunk := client.recv(4096):
            page += chunk
        assert page == PORTAL
    heal()
    with connect(relay) as client:
        assert ask(client) == b"SNOW"


def test_an_outage_within_an_outage_ends_neither_before_its_time(relay: Relay) -> None:
    heal_cut, heal_second_cut, heal_stall = relay.cut(), relay.cut(), relay.stall()
    heal_second_cut()
    with pytest.raises(ConnectionRefusedError):
        connect(relay)
    heal_cut()
    with connect(relay) as client:
        client.sendall(b"snow")
        assert hears_nothing(client)
        heal_stall()
        assert client.recv(4) == b"SNOW"


def test_a_portal_behind_a_portal_is_there_until_both_are_gone(relay: Relay) -> None:
    heal_first, heal_second = relay.portal(), relay.portal()
    heal_second()
    with connect(relay) as client:
        client.sendall(b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00")
        assert client.recv(4096)[:4] == PORTAL[:4]
    heal_first()
    with connect(relay) as client:
        assert ask(client) == b"SNOW"


def test_a_meddler_changes_what_goes_on_and_answers_for_the_other_end(echo: Echo) -> None:
    def meddle(to_target: bool, chunk: bytes) -> tuple[bytes, bytes]:
        return (chunk.replace(b"now", b"leet"), b"!") if to_target else (chunk, b"")

    relay = Relay("127.0.0.1", echo.port, new_meddler=lambda: meddle)
    with relay, connect(relay) as client:
        client.sendall(b"snow")
        heard = b""
        while len(heard) < 6:
            heard += client.recv(10)
        assert sorted(heard) == sorted(b"!SLEET")


def test_faults_on_one_link_add_up_and_heal_undoes_all(relay: Relay) -> None:
    with connect(relay) as client:
        relay.delay(0.2)
        relay.throttle(1_000_000)
        relay.stall()
        client.sendall(b"snow")
        assert hears_nothing(client)
        relay.heal()
        assert client.recv(4) == b"SNOW"
        wait_quick(client)
