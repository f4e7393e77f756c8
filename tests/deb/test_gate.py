"""What the gate makes of what it sees, with a daemon's socket and a broker's port that are real."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.gate import state as states
from agent.gate import trial
from agent.gate.keep import program
from agent.gate.machine import ACCEPTS, CONNECTS, DELIVERS, RUNS, deeds, is_there
from agent.gate.state import State, sha256_of_configuration
from hil.broker import Mosquitto
from tests.e2e.conftest import need_mosquitto

TRIAL_S, SETTLE_S = 600.0, 30.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
REFUSED, UNAVAILABLE = b"\x20\x02\x00\x05", b"\x20\x02\x00\x03"


class Daemon:
    """Answers on a control socket as it is told to."""

    def __init__(self, place: Path) -> None:
        self.is_up, self.run, self.applied = False, "new", None
        self.refused: list[str] = []
        self.is_connected, self.is_acknowledged = False, False
        self.muted: list[str] = []
        self.sensors = {"snow-1": "ok", "road-1": "silent"}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(place))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def delivers(self) -> None:
        self.is_up = self.is_connected = self.is_acknowledged = True

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(4096)
                if self.is_up:
                    answer = {"ok": True, "answer": self.status()}
                    client.sendall(json.dumps(answer).encode() + b"\n")

    def status(self) -> dict[str, Any]:
        then = "2027-01-15T00:00:00.000Z"
        return {
            "gateway": {"run": self.run, "refused": self.refused, "applied": self.applied},
            "uplink": {
                "connected_since": then if self.is_connected else None,
                "acknowledged": then if self.is_acknowledged else None,
                "nobody_subscribes": self.muted,
            },
            "sensors": [{"id": name, "state": state} for name, state in self.sensors.items()],
        }

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Broker:
    """A port; once it listens it answers each connection as it is told to, or not at all."""

    def __init__(self) -> None:
        self.answer: bytes | None = REFUSED  # to strangers; None: it hangs up
        self.knocks = 0
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._socket.getsockname()[1]}"

    def listen(self) -> None:
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.knocks += 1
            with client, suppress(OSError):
                if self.answer is not None and client.recv(4096)[:1] == b"\x10":
                    client.sendall(self.answer)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Watch:
    """A clock that moves while the gate sleeps, and a story that goes on with it."""

    def __init__(self, story: Callable[[float], object] = lambda now_s: None) -> None:
        self.now_s, self._story = 0.0, story

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self._story(self.now_s)
        assert self.now_s < 2 * DAY_S, "the gate never decides"

    def missing(self, state: State) -> list[str]:
        """Return what the new version is sent away for; nothing: it stays."""
        return trial.on_trial(state, lambda: self.now_s, self.sleep).missing

    def does_more(self, state: State) -> bool:
        return trial.does_more(state, lambda: self.now_s, self.sleep)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "STATE", tmp_path / "state.json")
    monkeypatch.setattr(trial, "is_stopped_by_hand", lambda: False)
    monkeypatch.setattr(trial, "is_dpkg_running", lambda: False)
    (tmp_path / "gateway.d").mkdir()
    (tmp_path / "gateway.d/50-site.toml").write_text("[gateway]\n")
    (tmp_path / "gateway.toml").write_text("[uplink]\n")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "control.sock")
    yield daemon
    daemon.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


@pytest.fixture
def before(tmp_path: Path, broker: Broker) -> State:
    """A gateway that delivered what a sensor says before its update."""
    return State(
        old="1",
        kept="/nowhere",
        sha256="",
        python="/usr/bin/python3",
        wanted=[RUNS, ACCEPTS, CONNECTS, DELIVERS, "reads snow-1"],
        run="old",
        socket=str(tmp_path / "control.sock"),
        broker=broker.url,
        speaks=True,
        config=str(tmp_path / "gateway.toml"),
        configuration=sha256_of_configuration(tmp_path / "gateway.toml"),
        applied=None,
        trial_s=TRIAL_S,
        settle_s=SETTLE_S,
        outside_limit_s=DAY_S,
    )


def test_what_a_gateway_does_is_what_it_says_of_itself(daemon: Daemon, before: State) -> None:
    daemon.delivers()
    assert deeds(daemon.status()) == set(before.wanted)
    daemon.refused, daemon.is_acknowledged = ["something"], False
    daemon.sensors = {"snow-1": "silent", "road-1": "warmup"}
    assert deeds(daemon.status()) == {RUNS, CONNECTS, "reads road-1"}


# It stays


def test_one_that_delivers_for_a_while_is_kept(daemon: Daemon, before: State) -> None:
    daemon.delivers()
    watch = Watch()
    assert watch.missing(before) == []
    assert watch.now_s >= SETTLE_S


def test_one_that_is_well_just_in_time_is_given_the_time_to_show_it(
    daemon: Daemon, before: State, broker: Broker
) -> None:
    broker.listen()
    daemon.is_up = True
    assert Watch(lambda now_s: now_s > TRIAL_S - 10 and daemon.delivers()).missing(before) == []


def test_a_gateway_that_was_not_connected_must_only_run(daemon: Daemon, before: State) -> None:
    daemon.is_up = True
    wanted = [deed for deed in before.wanted if deed not in (CONNECTS, DELIVERS)]
    assert Watch().missing(replace(before, wanted=wanted, broker=None)) == []


def test_a_sensor_that_dies_after_it_was_read_is_not_the_versions_fault(
    daemon: Daemon, before: State
) -> None:
    def story(now_s: float) -> None:
        if now_s > SETTLE_S / 2:
            daemon.sensors["snow-1"] = "silent"

    daemon.delivers()
    assert Watch(story).missing(before) == []


@pytest.mark.parametrize("file", ["gateway.toml", "gateway.d/60-new.toml"])
def test_under_another_configuration_it_must_only_run(
    daemon: Daemon, before: State, tmp_path: Path, file: str
) -> None:
    daemon.is_up = True
    daemon.refused, daemon.sensors = ["a mistake"], {}
    (tmp_path / file).write_text('[uplink]\nbrokers = ["mqtt://elsewhere"]\n')
    assert Watch().missing(before) == []


def test_under_a_configuration_that_was_applied_too(daemon: Daemon, before: State) -> None:
    daemon.is_up, daemon.applied = True, 7
    assert Watch().missing(before) == []


# The world is away


def test_a_network_that_is_away_says_nothing_about_a_version(
    daemon: Daemon, before: State, broker: Broker
) -> None:
    def story(now_s: float) -> None:
        if now_s > 5 * HOUR_S and not daemon.is_connected:
            broker.listen()
            daemon.delivers()

    daemon.is_up = True
    watch = Watch(story)
    assert watch.missing(before) == []
    assert watch.now_s > 5 * HOUR_S


@pytest.mark.parametrize("answer", [None, UNAVAILABLE, b"HTTP"], ids=["none", "full", "other"])
def test_nor_does_a_broker_that_is_ill(
    daemon: Daemon, before: State, broker: Broker, answer: bytes | None
) -> None:
    def story(now_s: float) -> None:
        if now_s > 5 * HOUR_S:
            daemon.delivers()

    daemon.is_up = True
    broker.answer = answer
    broker.listen()
    assert Watch(story).missing(before) == []


def test_nor_does_a_city_that_does_not_listen(daemon: Daemon, before: State) -> None:
    def story(now_s: float) -> None:
        if now_s > 5 * HOUR_S:
            daemon.delivers()

    daemon.is_up = daemon.is_connected = True
    daemon.muted = ["live/snow"]
    assert Watch(story).missing(before) == []


def test_what_is_away_for_a_day_lets_the_new_version_stay(daemon: Daemon, before: State) -> None:
    daemon.is_up = True
    watch = Watch()
    assert watch.missing(before) == []
    assert watch.now_s >= DAY_S


def test_how_long_others_were_away_survives_a_power_cut(daemon: Daemon, before: State) -> None:
    class PowerCutError(Exception):
        pass

    def story(now_s: float) -> None:
        if now_s > DAY_S / 2:
            raise PowerCutError

    daemon.is_up = True
    with pytest.raises(PowerCutError):
        Watch(story).missing(before)
    noted = states.read_state()
    assert noted is not None
    assert DAY_S / 3 < noted.outside_s <= DAY_S / 2
    assert noted.waited_s == 0.0


def test_a_service_that_somebody_stopped_says_nothing_either(
    daemon: Daemon, before: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def story(now_s: float) -> None:
        if now_s > HOUR_S:
            daemon.delivers()

    monkeypatch.setattr(trial, "is_stopped_by_hand", lambda: not daemon.is_up)
    assert Watch(story).missing(before) == []


# It goes


def test_the_old_one_that_still_answers_is_not_the_new_one(daemon: Daemon, before: State) -> None:
    daemon.delivers()
    daemon.run = "old"
    assert RUNS in Watch().missing(before)


def test_one_that_does_not_answer_is_not(before: State) -> None:
    watch = Watch()
    assert RUNS in watch.missing(before)
    assert watch.now_s >= TRIAL_S
    assert states.read_state() is not None  # how long it waited is written down


def test_one_that_dies_after_each_start_is_not(daemon: Daemon, before: State) -> None:
    def story(now_s: float) -> None:
        daemon.delivers()
        daemon.run = f"life {now_s // (SETTLE_S - 5)}"

    watch = Watch(story)
    assert watch.missing(before) == [RUNS]
    assert watch.now_s < 2 * TRIAL_S


def test_one_that_does_not_connect_is_not_while_the_broker_is_there(
    daemon: Daemon, before: State, broker: Broker
) -> None:
    broker.listen()
    daemon.is_up = True
    assert Watch().missing(before) == [CONNECTS, DELIVERS]
    assert broker.knocks <= TRIAL_S / 60 + 1  # who knocks too often may be shut out


def test_a_broker_that_never_answered_strangers_is_there_where_it_takes_a_connection(
    daemon: Daemon, before: State, broker: Broker
) -> None:
    broker.answer = None
    broker.listen()
    daemon.is_up = True
    assert Watch().missing(replace(before, speaks=False)) == [CONNECTS, DELIVERS]


def test_one_that_connects_and_delivers_nothing_is_not(daemon: Daemon, before: State) -> None:
    daemon.is_up = daemon.is_connected = True
    assert Watch().missing(before) == [DELIVERS]


def test_one_that_refuses_the_configuration_is_not(daemon: Daemon, before: State) -> None:
    daemon.delivers()
    daemon.refused = ["[uplink] brokers: unknown key"]
    assert Watch().missing(before) == [ACCEPTS]


def test_one_that_does_not_read_a_sensor_is_not_even_while_others_are_away(
    daemon: Daemon, before: State
) -> None:
    daemon.is_up = True
    daemon.sensors["snow-1"] = "silent"
    watch = Watch()
    assert "reads snow-1" in watch.missing(before)
    assert watch.now_s < 2 * TRIAL_S


# The old one is back


@pytest.mark.parametrize("is_better", [True, False])
def test_a_version_is_refused_only_if_the_old_one_does_more(
    daemon: Daemon, before: State, is_better: bool
) -> None:
    daemon.delivers()
    daemon.run, daemon.is_acknowledged = "old again", is_better
    assert Watch().does_more(replace(before, run="new", missing=[DELIVERS])) is is_better


def test_one_of_two_sensors_is_enough(daemon: Daemon, before: State) -> None:
    daemon.delivers()
    daemon.run = "old again"
    missing = ["reads road-1", "reads snow-1"]
    assert Watch().does_more(replace(before, run="new", missing=missing))


def test_the_new_version_is_not_taken_for_the_old_one(daemon: Daemon, before: State) -> None:
    daemon.delivers()
    assert not Watch().does_more(replace(before, run="new", missing=[RUNS]))


def test_nor_is_an_old_one_better_that_dies_after_each_start(daemon: Daemon, before: State) -> None:
    def story(now_s: float) -> None:
        daemon.delivers()
        daemon.run = f"life {now_s // (SETTLE_S - 5)}"

    assert not Watch(story).does_more(replace(before, run="new", missing=[RUNS]))


# The rest


def test_a_real_broker_is_there_that_lets_no_stranger_in(tmp_path: Path) -> None:
    need_mosquitto()
    (tmp_path / "nobody").touch()
    with Mosquitto(password_file=tmp_path / "nobody") as real:
        assert is_there(f"mqtt://127.0.0.1:{real.port}")
    assert not is_there(f"mqtt://127.0.0.1:{real.port}")


def test_a_broker_that_wants_a_certificate_is_there(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client, suppress(OSError), context.wrap_socket(client, server_side=True) as safe:
                safe.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        assert is_there(f"mqtts://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()


def test_a_trial_of_another_version_begins_anew_and_loses_nothing(
    before: State, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.deb"
    kept.write_bytes(b"a package")
    state = replace(before, kept=str(kept), sha256=states.sha256(kept), waited_s=300.0)
    states.write_state(state)
    written = json.loads(states.STATE.read_text()) | {"of a later version": [1]}
    states.STATE.write_text(json.dumps(written))
    assert states.begin_anew() == "1"
    assert json.loads(states.STATE.read_text()) == written | {"waited_s": 0.0}
    kept.write_bytes(b"damaged")
    assert states.begin_anew() is None


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
