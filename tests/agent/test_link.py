"""Whom the gateway shows its records: the handshake with a real TLS server."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from agent.link import tls_context
from config.model import TlsTable


@contextmanager
def served(by: trustme.CA, host: str) -> Iterator[int]:
    """A server on this machine that shows a certificate; the port it listens at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    by.issue_cert(host).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shake_hands() -> None:
            with suppress(OSError):
                sock, _ = listener.accept()
                with sock, context.wrap_socket(sock, server_side=True) as secured:
                    secured.recv(1)

        thread = threading.Thread(target=shake_hands)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(10.0)


def connect(port: int, ca_file: Path) -> str | None:
    """Return the TLS version that both agreed on. Raises ssl.SSLError."""
    table = TlsTable.model_validate({"ca_file": str(ca_file)})
    with (
        socket.create_connection(("127.0.0.1", port), 10.0) as sock,
        tls_context(table, Path).wrap_socket(sock, server_hostname="broker.example") as secured,
    ):
        return secured.version()


@pytest.fixture(scope="module")
def city() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(city: trustme.CA, tmp_path: Path) -> Path:
    city.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def test_a_broker_with_the_citys_certificate_is_spoken_to(city: trustme.CA, ca_file: Path) -> None:
    with served(city, "broker.example") as port:
        assert connect(port, ca_file) in ("TLSv1.2", "TLSv1.3")


def test_a_certificate_of_another_authority_is_refused(ca_file: Path) -> None:
    with (
        served(trustme.CA(), "broker.example") as port,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        connect(port, ca_file)


def test_another_hosts_certificate_is_refused(city: trustme.CA, ca_file: Path) -> None:
    with (
        served(city, "elsewhere.example") as port,
        pytest.raises(ssl.SSLCertVerificationError, match="not valid for"),
    ):
        connect(port, ca_file)
