"""Certificates that end: of files and of brokers, told in time, never a reason to stop."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from agent.certificates import DAY_NS, Expiry, about_to_end, of_files, of_peer
from agent.link import peer_of
from config.model import TlsTable

END = datetime.datetime(2027, 3, 1, 12, 0, tzinfo=datetime.UTC)
END_NS = int(END.timestamp()) * 10**9


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    issued = authority.issue_cert("gateway.test", not_after=END)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "gw.pem")
    issued.private_key_pem.write_to_path(tmp_path / "gw.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "empty.pem").touch()
    return tmp_path


def test_the_end_of_each_file_is_known(folder: Path) -> None:
    tls = TlsTable(ca_file="ca.pem", cert_file="gw.pem", key_file="gw.key")
    found = list(of_files(tls, lambda name: folder / name))
    assert found[0] == Expiry("gw.pem", END_NS)
    assert [each.name for each in found] == ["gw.pem", "ca.pem"]


@pytest.mark.parametrize("name", ["gone.pem", "empty.pem", "gw.key"])
def test_what_cannot_be_read_has_no_end(folder: Path, name: str) -> None:
    tls = TlsTable(cert_file=name, key_file="gw.key")
    assert list(of_files(tls, lambda each: folder / each)) == []


def test_the_brokers_own_is_seen_on_the_connection(folder: Path, authority: trustme.CA) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=END).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    near, far = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as wrapped:
            wrapped.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(near, server_hostname="127.0.0.1") as wrapped:
        shown = wrapped.getpeercert()
        wrapped.send(b"!")
    thread.join()
    assert list(of_peer("broker.test", shown)) == [Expiry("broker.test", END_NS)]
    assert list(of_peer("broker.test", None)) == []
    assert list(of_peer("broker.test", {})) == []


def test_the_nearest_end_is_told_first_and_only_what_is_near() -> None:
    files = [
        Expiry("a", END_NS),
        Expiry("b", END_NS - 5 * DAY_NS),
        Expiry("c", END_NS + 90 * DAY_NS),
    ]
    assert about_to_end(files, END_NS - 40 * DAY_NS, 30) is None
    assert about_to_end(files, END_NS - 30 * DAY_NS, 30) == {"days": 25, "files": ["b"]}
    told = about_to_end(files, END_NS + 1, 30)
    assert told == {"days": 0, "files": ["b", "a"]}


def test_a_connection_that_is_gone_again_shows_nothing_and_stops_nobody() -> None:
    client = ssl.create_default_context()
    near, far = socket.socketpair()
    wrapped = client.wrap_socket(near, server_hostname="x", do_handshake_on_connect=False)
    far.close()
    with wrapped:
        gone = SimpleNamespace(socket=lambda: wrapped)
        assert peer_of(gone, "mqtts://b.test:8883") == ("b.test", None)  # type: ignore[arg-type]
