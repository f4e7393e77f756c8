"""One gateway from end to end: the daemon as a process, devices on terminals, a broker, a city.

Everything between the sensor's bytes and the city's account is real: `yukimi run` in a process of
its own, pseudo-terminals, TCP through a relay that can be cut, Mosquitto. What was produced is
read from the spool's file, what arrived is the city's own account.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import pytest
from jsonschema import Draft202012Validator

from agent.kernel import boot_s
from hil.bench.process import memory_kb
from hil.broker import MOSQUITTO, Broker, Mosquitto
from hil.buses import Pty
from hil.city.account import Report
from hil.city.payloads import unpack
from hil.city.subscriber import City
from hil.connection import Meddler
from hil.devices.lufft import irs31pro, shm31
from hil.devices.maxbotix import MaxBotixDevice
from hil.ledger import glance
from hil.relay import Relay

PROJECT = Path(__file__).resolve().parents[2]
GATEWAY = "site-01"
ROOT = "yukimi/v1/"
OWN_ROOT = f"{ROOT}{GATEWAY}/"

# The truth that the devices measure.
ROAD_C = -4.0
MAST_DEPTH_CM = 42.0
POST_DEPTH_CM = 67.0
MOUNT_HEIGHT_CM = 350.0

CONTROL_SOCKET = "control.sock"

WAIT_S = 90.0  # for anything that must happen; no promise about how fast it does
STOP_S = 90.0


def need_mosquitto() -> None:
    if not Path(MOSQUITTO).exists():
        reason = f"no {MOSQUITTO}: apt install mosquitto"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose city listens on Mosquitto."""
    need_mosquitto()
    with Site(tmp_path, Mosquitto()) as site:
        site.listen()
        yield site


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that reached the city."""

    at_s: float
    gateway: str
    topic: str  # below the gateway's own root
    payload: bytes
    records: tuple[dict[str, Any], ...]

    @property
    def lane(self) -> str:
        return self.topic.partition("/")[0]

    @property
    def document(self) -> dict[str, Any]:
        return unpack(self.payload)


@dataclass(frozen=True, slots=True)
class Spooled:
    """What the spool's file says, read without the gateway's help."""

    run: str  # the latest
    produced: Mapping[str, int]  # of the latest run
    waiting: frozenset[tuple[str, str, int]]  # run, stream, number


class Daemon:
    """`yukimi run` as a process of its own, and what it logs.

    `shortened` gives constants of the program other values, so that a test need not wait as long
    as a street does: {"agent.outbox.HOLD_S": 2.0}. `fault` is Python that breaks the program before
    it runs, so that a test can show that it would notice.
    """

    def __init__(
        self,
        config: Path,
        shortened: Mapping[str, float],
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        fault: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        run = ["run", "--config", str(config)]
        command = [sys.executable, "-m", "agent", *run]
        if shortened or fault:
            command = [sys.executable, "-c", _shortening(shortened, fault), *run]
        self._process = subprocess.Popen(
            [*prefix, *command],
            stderr=subprocess.PIPE,
            text=True,
            cwd=config.parent,
            env=os.environ | environment,
        )
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._may_end = False
        self._listener = threading.Thread(target=self._listen, name="daemon's log")
        self._listener.start()

    @property
    def log(self) -> list[str]:
        """Its log so far, a line each."""
        with self._changed:
            return list(self._lines)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_died(self) -> bool:
        """Whether it ended although nobody told it to."""
        return not self._may_end and self._process.poll() is not None

    def said(self, *words: str) -> list[str]:
        """Return the lines that hold all of `words`."""
        return [line for line in self.log if all(word in line for word in words)]

    def wait_log(self, *words: str, times: int = 1) -> None:
        """Wait until `times` lines hold all of `words`."""

        def is_said() -> bool:
            found = [line for line in self._lines if all(word in line for word in words)]
            return len(found) >= times or self.has_died

        with self._changed:
            if not self._changed.wait_for(is_said, WAIT_S) or self.has_died:
                pytest.fail(f"the daemon never said {words}:\n" + "".join(self._lines))

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self._may_end = True
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_S)

    def wait_end(self) -> int:
        """Wait until it ends by itself; return the exit code."""
        self._may_end = True
        return self._process.wait(WAIT_S)

    def reload(self) -> None:
        """SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """SIGKILL."""
        self._may_end = True
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Leave nothing behind, and make sure that it never met a bug."""
        self.kill()
        self._listener.join()
        log = "".join(self._lines)
        assert "Traceback" not in log, log
        assert "bug in a thread" not in log, log

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:  # whoever waits for more need not
            self._changed.notify_all()


class Site:
    """A gateway's surroundings, and one daemon after another among them."""

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        *,
        make_city: Callable[..., City] = City,
        new_meddler: Callable[[], Meddler] | None = None,
    ) -> None:
        self.folder = folder
        self.spool = folder / "spool.db"
        self.environment: dict[str, str] = {}  # of the daemons
        self.prefix: Sequence[str] = ()  # what starts them
        self.broker = broker
        self.relay = Relay(broker.host, broker.port, new_meddler=new_meddler)
        self.heard: list[Heard] = []
        self.produced: dict[str, Mapping[str, int]] = {}  # by run, as its spool said at the end
        self._changed = threading.Condition()
        self.city = make_city(broker.host, broker.port, on_message=self._hear)
        road = irs31pro(surface_c=lambda _: ROAD_C)
        snow = shm31(depth_cm=lambda _: MAST_DEPTH_CM)
        self.mast = Pty([road, snow], boot_s)
        ranger = MaxBotixDevice(lambda _: POST_DEPTH_CM, mount_height_cm=MOUNT_HEIGHT_CM)
        self.post = Pty([ranger], boot_s)
        self._daemons: list[Daemon] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.broker)
        self._stack.enter_context(self.relay)
        self._stack.callback(self.city.close)
        self._stack.enter_context(self.mast)
        self._stack.enter_context(self.post)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for daemon in self._daemons:
            self._stack.callback(daemon.close)
        self._stack.close()

    @property
    def daemon(self) -> Daemon:
        """The latest one."""
        return self._daemons[-1]

    @property
    def url(self) -> str:
        """The broker as the gateway sees it, through the relay."""
        return f"mqtt://127.0.0.1:{self.relay.port}"

    # Acting

    def listen(self) -> None:
        """Let the city subscribe."""
        self.city.start()
        self.city.wait_subscribed()

    def configure(
        self,
        sensors: Sequence[str] = ("door-1", "snow-2"),
        *,
        window_s: int = 1,
        gateway: str = GATEWAY,
        **uplink: object,
    ) -> Path:
        """Write the gateway's configuration; keywords go into [uplink]."""
        tables = self._sensor_tables(window_s)
        document: dict[str, Any] = {
            "gateway": {"id": gateway, "label": {"ja": "試験場", "en": "Bench"}},
            "uplink": {"brokers": [self.url], "offset_s": 0.5} | uplink,
            "spool": {"path": str(self.spool)},
            "control": {"socket": CONTROL_SOCKET},
            "clock": {"trust": "system"},
            "privacy.flow": {"window_s": window_s},
            "buses": [{"id": "walkway", "kind": "simulated"}],
            "sensors": [{"id": name} | tables[name] for name in sensors],
        }
        path = self.folder / "gateway.toml"
        path.write_text(_toml(document), encoding="utf-8")
        return path

    def start(self, shortened: Mapping[str, float] | None = None, *, fault: str = "") -> Daemon:
        """Start the daemon."""
        self._daemons.append(
            Daemon(
                self.folder / "gateway.toml",
                shortened or {},
                environment=self.environment,
                fault=fault,
                prefix=self.prefix,
            )
        )
        return self.daemon

    def stop(self) -> int:
        """Stop the daemon in order; return its exit code."""
        code = self.daemon.stop()
        self._note_produced()
        return code

    def rss_kb(self) -> int:
        """Return the daemon's resident memory."""
        return memory_kb(self.daemon.pid, "Rss")

    def kill(self) -> Spooled:
        """Kill the daemon; return what its spool then holds."""
        self.daemon.kill()
        return self._note_produced()

    def _note_produced(self) -> Spooled:
        spooled = self.spooled()
        if spooled.produced:
            self.produced[spooled.run] = spooled.produced
        return spooled

    # Looking

    def spooled(self) -> Spooled:
        """Read the spool's file."""
        with glance(self.spool) as database:
            if not database.execute("PRAGMA user_version").fetchone()[0]:
                return Spooled("", {}, frozenset())  # not begun
            row = database.execute("SELECT id, run FROM run ORDER BY id DESC").fetchone()
            if row is None:
                return Spooled("", {}, frozenset())
            produced = database.execute("SELECT stream, seq FROM produced WHERE run = ?", row[:1])
            rows = database.execute(
                "SELECT run.run, s.stream, r.seq, r.inside FROM record r"
                " JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
            )
            waiting = set()
            for run, stream, seq, inside in rows:
                if inside is None:
                    waiting.add((run, stream, seq))
                    continue
                for name, first, last, *_ in json.loads(inside)["spans"]:
                    waiting |= {(run, name, number) for number in range(first, last + 1)}
            return Spooled(row[1], dict(produced.fetchall()), frozenset(waiting))

    def wait_spooled(self, is_so: Callable[[Spooled], bool], what: str) -> Spooled:
        """Wait until the spool's file is as asked."""
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s and not self.daemon.has_died:
            if self.spool.exists():
                spooled = self.spooled()
                if is_so(spooled):
                    return spooled
            time.sleep(0.02)
        return pytest.fail(f"the spool never had {what}:\n" + "".join(self.daemon.log))

    def wait_new_run(self) -> Spooled:
        """Wait until the latest daemon has committed its first record."""
        return self.wait_spooled(
            lambda spooled: bool(spooled.produced) and spooled.run not in self.produced, "a new run"
        )

    def wait_grown(self, records: int) -> Spooled:
        """Wait until so many records more than now wait in the spool."""
        before = len(self.spooled().waiting)
        return self.wait_spooled(
            lambda spooled: len(spooled.waiting) >= before + records, f"{records} records more"
        )

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until the city has heard enough."""
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s and not (self._daemons and self.daemon.has_died):
            with self._changed:
                if self._changed.wait_for(is_so, 1.0):
                    return
        account = "\n".join(self.city.report().lines())
        log = "".join(self.daemon.log) if self._daemons else ""
        pytest.fail(f"{what} never came; the account:\n{account}\nthe daemon's log:\n{log}")

    def wait_records(self, stream: str, count: int, *, lane: str = "live") -> None:
        """Wait until `count` records of a stream more than now have come."""
        wanted = len(self.records(stream, lane=lane)) + count
        self.wait_until(
            lambda: len(self.records(stream, lane=lane)) >= wanted,
            f"{count} records of {stream} on {lane}",
        )

    def wait_online(self) -> None:
        """Wait until the latest daemon's birth has come."""
        run = self.wait_new_run().run
        self.wait_until(
            lambda: any(s["state"] == "online" and s["run"] == run for s in self.statuses()),
            "the birth",
        )

    def records(
        self, stream: str | None = None, *, lane: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the records heard, gaps included, in the order of their coming."""
        return [
            record
            for message in list(self.heard)
            if lane is None or message.lane == lane
            for record in message.records
            if stream is None or record["stream"] == stream
        ]

    def statuses(self) -> list[dict[str, Any]]:
        """Return what was heard on `status`."""
        return [message.document for message in list(self.heard) if message.topic == "status"]

    def start_records(self) -> dict[str, dict[str, Any]]:
        """Return the `values` of each run's start record."""
        return {
            message.document["run"]: record["values"]
            for message in list(self.heard)
            for record in message.records
            if record["stream"] == "gateway" and record["values"]["event"] == "start"
        }

    def retained_status(self) -> dict[str, Any]:
        """Return what a newcomer is told of the gateway."""
        heard: list[tuple[str, bytes]] = []
        newcomer = City(
            self.broker.host,
            self.broker.port,
            protocol=5 if self.broker.speaks_mqtt5 else 311,
            client_id="newcomer",
            on_message=lambda topic, payload, _records: heard.append((topic, payload)),
        )
        with newcomer:
            newcomer.wait_subscribed()
            # The broker sends what it retained right after its answer to the subscription.
            assert newcomer.wait_for(lambda account: account.report().messages > 0, WAIT_S)
        statuses = [payload for topic, payload in heard if topic == f"{OWN_ROOT}status"]
        status: dict[str, Any] = json.loads(statuses[0])
        return status

    # Judging

    def close_account(self) -> Report:
        """Hold what the spools said against what the city holds; nothing may be missing."""
        with self.city.locked() as account:
            for run, produced in self.produced.items():
                account.tell_produced(GATEWAY, run, produced, is_final=True)
        self.wait_until(lambda: self.city.report().missing == 0, "what the spool had promised")
        report = self.city.report()
        assert report.keeps_the_contract, "\n".join(report.lines())
        assert report.lost == 0, "\n".join(report.lines())
        told = {(page.run, page.stream): page.produced for page in report.streams}
        assert told == {
            (run, stream): number
            for run, produced in self.produced.items()
            for stream, number in produced.items()
        }
        self.check_messages()
        return report

    def check_messages(self) -> None:
        """Hold every message against the published schemas."""
        for message in self.heard:
            # A retained topic that was emptied; what others ask of a gateway is theirs.
            if not message.payload or message.lane == "cmd":
                continue
            is_batch = message.lane in ("alert", "live", "backlog")
            kind = "batch" if is_batch else message.lane
            problems = list(_schema(kind).iter_errors(message.document))
            assert not problems, f"{message.topic}: {problems[0]}"

    def _hear(self, topic: str, payload: bytes, records: list[dict[str, Any]]) -> None:
        gateway, _, below = topic.removeprefix(ROOT).partition("/")
        with self._changed:
            self.heard.append(Heard(time.time(), gateway, below, payload, tuple(records)))
            self._changed.notify_all()

    def _sensor_tables(self, window_s: int) -> dict[str, dict[str, Any]]:
        asked = {"bus": self.mast.path, "window_s": window_s, "driver": "lufft-umb"}
        return {
            "hall-1": {
                "driver": "grideye-amg88xx",
                "bus": "walkway",
                "options": {"warmup_s": 0.0},
                "directions": {"towards": {"en": "station"}, "away": {"en": "park"}},
            },
            "door-1": {
                "driver": "beam-pair",
                "bus": "walkway",
                "options": {"pin_a": 17, "pin_b": 27},
            },
            "road-1": asked | {"options": {"model": "irs31pro", "interval_s": 1.0}},
            "snow-1": asked | {"options": {"model": "shm31", "interval_s": 1.0}},
            "snow-2": {
                "driver": "maxbotix-hrxl",
                "bus": self.post.path,
                "window_s": window_s,
                "options": {"mount_height_cm": MOUNT_HEIGHT_CM},
            },
        }


def _shortening(constants: Mapping[str, float], fault: str) -> str:
    lines = ["import sys", "from agent.cli import main"]
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        lines += [f"import {module}", f"assert {module}.{constant} > 0", f"{name} = {value}"]
    return "\n".join([*lines, fault, "sys.exit(main())"])


@cache
def _schema(name: str) -> Draft202012Validator:
    file = PROJECT / "docs" / "schemas" / f"{name}.json"
    return Draft202012Validator(json.loads(file.read_text(encoding="utf-8")))


def _toml(document: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for name, value in document.items():
        is_list = isinstance(value, list)
        for table in value if is_list else [value]:
            lines.append(f"[[{name}]]" if is_list else f"[{name}]")
            lines += [f"{key} = {_inline(item)}" for key, item in table.items()]
    return "\n".join(lines) + "\n"


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
