"""A tool is the gateway that the service is, whoever may read the credential that says so."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.cli import main
from config import places
from tests.agent.test_cli import Said

Yukimi = Callable[..., Said]

CONFIGURATION = """
{gateway}
[uplink]
brokers = ["mqtt://broker.example"]
[spool]
path = "{folder}/spool.db"
[control]
socket = "control.sock"
[[sensors]]
id = "box-1"
driver = "pi-health"
bus = "system"
"""


class Running:
    """A gateway that says who it is."""

    def __init__(self, place: Path) -> None:
        self.asked = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(place))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        answer = {"control": "yukimi.control/1", "ok": True, "answer": {"gateway": {"id": "n3"}}}
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(4096)
                self.asked += 1
                client.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a gateway whose id is a credential, on a machine without stores."""
    monkeypatch.setattr(places, "CREDENTIALS", (str(tmp_path / "credstore"),))
    monkeypatch.setattr(places, "STORES", ())
    monkeypatch.setattr(socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    text = CONFIGURATION.format(gateway="", folder=tmp_path)
    (tmp_path / "gateway.toml").write_text(text, "utf-8")
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    running = Running(folder / "control.sock")
    yield running
    running.close()


@pytest.fixture
def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], Said]:
    def command() -> Said:
        code = main(["config", "check", "--json", "--config", str(folder / "gateway.toml")])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return command


def test_who_may_not_read_the_credential_asks_the_gateway(
    check: Callable[[], Said], running: Running
) -> None:
    assert check().document["gateway"] == "n3"
    assert running.asked == 1


def test_the_credential_itself_is_read_where_it_may_be(
    check: Callable[[], Said], folder: Path, running: Running
) -> None:
    (folder / "credstore").mkdir()
    (folder / "credstore/gateway-id").write_text("n4\n")
    assert check().document["gateway"] == "n4"
    assert running.asked == 0
    assert "CREDENTIALS_DIRECTORY" not in os.environ  # it was borrowed


def test_what_the_configuration_says_asks_nobody(
    check: Callable[[], Said], folder: Path, running: Running
) -> None:
    text = CONFIGURATION.format(gateway='[gateway]\nid = "n5"', folder=folder)
    (folder / "gateway.toml").write_text(text, "utf-8")
    assert check().document["gateway"] == "n5"
    assert running.asked == 0


@pytest.mark.parametrize("store", ["closed", "encrypted"])
def test_where_nobody_can_tell_it_says_so(
    check: Callable[[], Said], folder: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    place = folder / store
    monkeypatch.setattr(places, "STORES", (str(place),))
    assert check().err == ""  # no store, no secret
    place.mkdir()
    if store == "closed":
        monkeypatch.setattr(places.os, "access", lambda *_: False)
    else:
        monkeypatch.setattr(places, "ENCRYPTED", str(place))
        assert check().err == ""
        (place / "gateway-id").touch()
    said = check()
    assert said.document["gateway"] == "raspberrypi"
    assert f"{place}/gateway-id" in said.err
    assert "sudo" in said.err
