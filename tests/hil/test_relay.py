"""The relay: what it carries, and what a cut, a stall and a reset look like from both ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hil.relay import Ear, Relay


class Echo:
    """A server that sends back what it hears, in capitals."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk.upper())
            except ConnectionError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join()


@pytest.fixture
def relay() -> Iterator[Relay]:
    echo = Echo()
    with Relay("127.0.0.1", echo.port) as relay:
        yield relay
    echo.close()


def connect(relay: Relay) -> socket.socket:
    return socket.create_connection((relay.host, relay.port), timeout=60)


def hear(client: socket.socket, length: int) -> bytes:
    heard = b""
    while len(heard) < length:
        chunk = client.recv(65536)
        assert chunk, "closed too early"
        heard += chunk
    return heard


def test_it_carries_both_ways_and_counts_the_bytes(relay: Relay) -> None:
    with connect(relay) as client:
        client.sendall(b"snow")
        assert hear(client, 4) == b"SNOW"
    assert (relay.bytes_to_target, relay.bytes_from_target) == (4, 4)
    assert relay.connections == 1


def test_more_than_any_buffer_holds_arrives_whole(relay: Relay) -> None:
    sent = b"abcdefgh" * 500_000
    with connect(relay) as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert hear(client, len(sent)) == sent.upper()
        sender.join()


def test_a_cut_ends_connections_and_refuses_new_ones_until_it_is_mended(relay: Relay) -> None:
    for _ in range(3):
        with connect(relay) as client:
            client.sendall(b"a")
            assert hear(client, 1) == b"A"
            relay.cut()
            with pytest.raises(ConnectionError):
                client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(relay)
        relay.resume()
    with connect(relay) as client:
        client.sendall(b"b")
        assert hear(client, 1) == b"B"


def test_a_stall_keeps_connections_and_moves_nothing(relay: Relay) -> None:
    with connect(relay) as client:
        client.sendall(b"a")
        assert hear(client, 1) == b"A"
        relay.stall()
        client.sendall(b"bc")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        with connect(relay) as late:
            late.sendall(b"d")
            assert relay.bytes_to_target == 1
            relay.resume()
            client.settimeout(60)
            assert hear(client, 2) == b"BC"
            assert hear(late, 1) == b"D"


def test_a_stalled_reader_stops_the_writer_and_not_the_memory(relay: Relay) -> None:
    with connect(relay) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            for _ in range(10_000):
                client.sendall(b"x" * 65536)
        # Four kernels' socket buffers hold some megabytes each, the relay next to nothing.
        assert relay.bytes_to_target < 100_000_000
        relay.reset()


def test_a_reset_strikes_the_living_and_spares_the_next(relay: Relay) -> None:
    with connect(relay) as client:
        client.sendall(b"a")
        assert hear(client, 1) == b"A"
        relay.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(relay) as client:
        client.sendall(b"b")
        assert hear(client, 1) == b"B"


def test_a_client_that_leaves_is_heard_to_the_end(relay: Relay) -> None:
    with connect(relay) as client:
        client.sendall(b"last words")
        assert hear(client, 10) == b"LAST WORDS"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_a_target_that_is_not_there_looks_like_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    relay = Relay("127.0.0.1", port)
    # The reset may come before connect() returns or after.
    with relay, pytest.raises(ConnectionResetError), connect(relay) as client:
        client.recv(1)
    relay.close()


def test_each_connection_is_overheard_by_an_ear_of_its_own() -> None:
    echo, heard = Echo(), []

    def new_ear() -> Ear:
        words: dict[bool, bytes] = {True: b"", False: b""}
        heard.append(words)

        def hear(to_target: bool, chunk: bytes) -> None:
            words[to_target] += chunk

        return hear

    with Relay("127.0.0.1", echo.port, new_ear=new_ear) as relay:
        for word in (b"one", b"two"):
            with connect(relay) as client:
                client.sendall(word)
                assert hear(client, 3) == word.upper()
    echo.close()
    assert heard == [{True: b"one", False: b"ONE"}, {True: b"two", False: b"TWO"}]
