"""What the gate makes of what it sees, with a daemon's socket and a broker's port that are real."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.gate import state as states
from agent.gate import trial
from agent.gate.keep import program
from agent.gate.machine import ANSWERS, DELIVERS, SILENT
from agent.gate.state import State

TRIAL_S, SETTLE_S = 600.0, 30.0
HOUR_S = 3600.0


class Daemon:
    """Answers on a control socket as it is told to."""

    def __init__(self, place: Path) -> None:
        self.level, self.run = SILENT, "new"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(place))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(4096)
                if self.level != SILENT:
                    client.sendall(json.dumps(self._answer()).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        is_connected = "2027-01-15T00:00:00.000Z" if self.level > ANSWERS else None
        acknowledged = is_connected if self.level == DELIVERS else None
        uplink = {"connected_since": is_connected, "acknowledged": acknowledged}
        return {"ok": True, "answer": {"gateway": {"run": self.run}, "uplink": uplink}}

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Watch:
    """A clock that moves while the gate sleeps, and a story that goes on with it."""

    def __init__(self, story: Callable[[float], object]) -> None:
        self.now_s, self._story = 0.0, story

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self._story(self.now_s)
        assert self.now_s < 10 * HOUR_S, "the gate never decides"

    def decides(self, state: State) -> bool:
        return trial.is_well(state, lambda: self.now_s, self.sleep)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "STATE", tmp_path / "state.json")
    monkeypatch.setattr(trial, "is_stopped_by_hand", lambda: False)
    monkeypatch.setattr(trial, "is_dpkg_running", lambda: False)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "control.sock")
    yield daemon
    daemon.close()


@pytest.fixture
def broker() -> Iterator[socket.socket]:
    """A port that takes connections once it listens."""
    with socket.socket() as broker:
        broker.bind(("127.0.0.1", 0))
        yield broker


@pytest.fixture
def before(tmp_path: Path, broker: socket.socket) -> State:
    """A gateway that delivered before its update."""
    return State(
        old="1",
        kept="/nowhere",
        sha256="",
        python="/usr/bin/python3",
        wanted=DELIVERS,
        run="old",
        socket=str(tmp_path / "control.sock"),
        broker=f"mqtt://127.0.0.1:{broker.getsockname()[1]}",
        trial_s=TRIAL_S,
        settle_s=SETTLE_S,
    )


def test_one_that_delivers_for_a_while_is_kept(daemon: Daemon, before: State) -> None:
    daemon.level = DELIVERS
    watch = Watch(lambda now_s: None)
    assert watch.decides(before)
    assert watch.now_s >= SETTLE_S


def test_the_old_one_that_still_answers_is_not_the_new_one(daemon: Daemon, before: State) -> None:
    daemon.level, daemon.run = DELIVERS, "old"
    assert not Watch(lambda now_s: None).decides(before)


def test_one_that_does_not_answer_is_not(before: State) -> None:
    watch = Watch(lambda now_s: None)
    assert not watch.decides(before)
    assert watch.now_s >= TRIAL_S
    assert states.read_state() is not None  # how long it waited is written down


def test_one_that_dies_after_each_start_is_not(daemon: Daemon, before: State) -> None:
    def story(now_s: float) -> None:
        daemon.level, daemon.run = DELIVERS, f"life {now_s // (SETTLE_S - 5)}"

    assert not Watch(story).decides(before)


def test_one_that_does_not_connect_is_not_while_the_broker_is_there(
    daemon: Daemon, before: State, broker: socket.socket
) -> None:
    broker.listen()
    daemon.level = ANSWERS
    assert not Watch(lambda now_s: None).decides(before)


def test_a_network_that_is_away_says_nothing_about_a_version(
    daemon: Daemon, before: State, broker: socket.socket
) -> None:
    def story(now_s: float) -> None:
        if now_s > 5 * HOUR_S:
            broker.listen()
            daemon.level = DELIVERS

    daemon.level = ANSWERS
    watch = Watch(story)
    assert watch.decides(before)
    assert watch.now_s > 5 * HOUR_S


def test_a_gateway_that_was_not_connected_must_only_run(daemon: Daemon, before: State) -> None:
    daemon.level = ANSWERS
    offline = replace(before, wanted=ANSWERS, broker=None)
    assert Watch(lambda now_s: None).decides(offline)


def test_a_service_that_somebody_stopped_says_nothing_either(
    daemon: Daemon, before: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def story(now_s: float) -> None:
        if now_s > HOUR_S:
            daemon.level = DELIVERS

    monkeypatch.setattr(trial, "is_stopped_by_hand", lambda: daemon.level == SILENT)
    assert Watch(story).decides(before)


def test_the_copy_runs_without_the_gateways_code(tmp_path: Path) -> None:
    copy = tmp_path / "gate.pyz"
    copy.write_bytes(program())
    command = ["/usr/bin/python3", "-I", str(copy)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"usage: gate arm | run\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import gate.keep, gate.trial"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", code, str(copy)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
