"""The commands of docs/tls.md make certificates that a broker and a gateway can use."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from agent.tls import tls_context
from config.model import TlsTable

PAGE = Path(__file__).parents[1] / "docs" / "tls.md"
NAME = "broker.city.example"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    blocks = re.findall(r"^```sh\n(openssl .*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 3
    for block in blocks:
        subprocess.run(["sh", "-eu", "-c", block], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(("host", "is_accepted"), [(NAME, True), ("other.example", False)])
def test_broker_and_gateway_know_each_other_by_them(
    made: Path, host: str, is_accepted: bool
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made / "broker.pem", made / "broker.key")
    server.load_verify_locations(made / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    tls = TlsTable(ca_file="ca.pem", cert_file="gw.pem", key_file="gw.key")
    near, far = socket.socketpair()
    subjects: list[object] = []

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as wrapped:
                wrapped.recv(1)
                subjects.append((wrapped.getpeercert() or {})["subject"])
        except OSError:
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with tls_context(tls, made.joinpath).wrap_socket(near, server_hostname=host) as wrapped:
            wrapped.send(b"!")
    except ssl.SSLCertVerificationError:
        near.close()
    thread.join()
    assert subjects == ([((("commonName", "chikaho-03"),),)] if is_accepted else [])


def test_the_script_for_step_is_a_script() -> None:
    (script,) = re.findall(r"^```sh\n(#!/bin/sh.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
