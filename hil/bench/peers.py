"""Rivals beside the gateway: eight lines, a number a second each, the same broker, cut and kill.

Each reads eight pseudo-terminals on which a counter says its number once a second, and sends
through a relay to a broker. What it costs is measured of one at a time. The account is one for all,
and is taken of all side by side: of each line every number that was said from the cut until ten
seconds after it must arrive within the next eighty; more than once is a duplicate.

rss_mb, pss_mb, threads, cpu_percent, wakeups_per_s, disk_mb_per_hour, wire_kb_per_hour
                            as in cost.py
start_s                     process start to its first message at the subscriber, thrice
venv_mb                     its environment, where it has one
lost_in_outage, duplicates_in_outage   the connection is cut for 20 s
lost_in_kill, duplicates_in_kill       it is cut again, and killed at its end, when the lines have
                            been silent for 5 s; it starts again, and the connection is back
lost, duplicates, said      of both
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..broker import Mosquitto
from ..buses import Pty
from ..demo import now_s
from ..relay import Relay
from . import wire
from .figures import Samples
from .install import Install
from .process import BenchError, memory_kb, rates
from .rivals import ACCESS, Rival, rivals

LINES = 8
SECONDS, SLICES = 24.0, 3
STARTS = 3
START_S, SETTLE_S = 60.0, 6.0
OUTAGE_S, AFTERWARDS_S = 20.0, 10.0
SILENT_S = 5.0  # before the kill: what was said has been read, and may have been stored
PATIENCE_S, QUIET_S = 80.0, 4.0  # a window and its offset, a reconnect that backs off; doubles
LIMITS = '{"maxPayloadSize":65536,"maxInflightMessages":100,"rateLimits":{},"gatewayRateLimits":{}}'


class Counting:
    """A device that says a number once a second, from 1 on, while it is not silent."""

    def __init__(self, says: Callable[[int], bytes]) -> None:
        self.said = 0
        self.is_silent = True
        self._says = says
        self._next_s = 0.0

    def hear(self, data: bytes, now_s: float) -> None:
        """Be told nothing."""

    def speak(self, now_s: float) -> bytes:
        """Say the next number when its second has come."""
        if self.is_silent or now_s < self._next_s:
            return b""
        is_late = now_s - self._next_s >= 1.0
        self._next_s = (now_s if is_late else self._next_s) + 1.0
        self.said += 1
        return self._says(self.said)


class Sink:
    """The city's end: keeps what comes, and grants thingsboard-gateway what it asks for."""

    def __init__(self, host: str, port: int, rival: Rival) -> None:
        self.heard: Counter[tuple[int, int]] = Counter()
        self.first_s: float | None = None  # since `expect`
        self._rival = rival
        self._is_up = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.connect(host, port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        if not self._is_up.wait(START_S):
            raise BenchError("the subscriber was not connected")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def expect(self) -> None:
        """Forget that anything has come."""
        self.first_s = None

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([(topic, 1) for topic in self._rival.topics])
        self._is_up.set()

    def _message(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        if b"getSessionLimits" in message.payload:
            client.publish(message.topic.replace("request", "response"), LIMITS, 1)
            return
        found = list(self._rival.told(message.topic, bytes(message.payload)))
        self.heard.update(found)
        if self.first_s is None and (found or self._rival.is_up(message.topic)):
            self.first_s = time.monotonic()


class Stand:
    """One rival between its lines and its city. Lines are silent until they are told to speak."""

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self.found: Samples = {}
        self._stack = ExitStack()
        self._since = [0] * LINES
        self._until: list[int] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            enter = stack.enter_context
            folder = Path(enter(tempfile.TemporaryDirectory(prefix="yukimi-peer-")))
            access = folder / "access"
            access.write_text(ACCESS)
            access.chmod(0o600)
            extra = ("max_queued_messages 0", f"acl_file {access}", "log_type none")
            broker = enter(Mosquitto(extra=extra))
            self.relay = enter(Relay(broker.host, broker.port))
            self._sink = enter(Sink(broker.host, broker.port, self.rival))
            self._lines = [Counting(self.rival.says) for _ in range(LINES)]
            paths = [enter(Pty([line], now_s)).path for line in self._lines]
            home = folder / "rival"
            home.mkdir()
            self.program = self.rival.build(home, self.relay.port, paths)
            stack.callback(self.program.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def speak(self, *, is_silent: bool = False) -> None:
        """Let the lines speak, or be silent."""
        for line in self._lines:
            line.is_silent = is_silent

    def start_s(self) -> float:
        """Start it, and return how long it took until something of it came. Raises BenchError."""
        self._sink.expect()
        began_s = time.monotonic()
        self.program.start()
        while self._sink.first_s is None:
            if time.monotonic() - began_s > START_S:
                raise BenchError(f"{self.rival.name} published nothing")
            time.sleep(0.01)
        return round(self._sink.first_s - began_s, 2)

    def cost(self, seconds: float) -> Samples:
        """Return what it costs while its lines speak."""
        starts_s = []
        for _ in range(STARTS):
            self.program.rest()
            self.speak(is_silent=True)
            time.sleep(1.0)
            self.speak()  # at once
            starts_s.append(self.start_s())
        time.sleep(SETTLE_S)
        pid = self.program.pid
        with wire.Tap(self.relay.port) as tap:
            began_s = time.monotonic()
            (found,) = rates([pid], seconds, SLICES)
            took_s = time.monotonic() - began_s
            sent_bytes = sum(
                wire.wire_bytes(len(each.payload), each.header_bytes) for each in tap.take()
            )
        written = sum(each.written_bytes for each in found) / len(found)
        return {
            "start_s": starts_s,
            "rss_mb": [round(memory_kb(pid, "Rss") / 1024, 1)],
            "pss_mb": [round(memory_kb(pid, "Pss") / 1024, 1)],
            "threads": [len(list(Path(f"/proc/{pid}/task").iterdir()))],
            "cpu_percent": [round(100 * each.cpu_s, 2) for each in found],
            "wakeups_per_s": [round(each.wakeups, 1) for each in found],
            "disk_mb_per_hour": [round(written * 3600 / 2**20, 2)],
            "wire_kb_per_hour": [round(sent_bytes / took_s * 3600 / 1024)],
        }

    def begin(self) -> None:
        """Begin an account with what its lines say from now on."""
        self._since = [line.said for line in self._lines]
        self._until = None

    def end(self) -> None:
        """Let what its lines say from now on be of no account."""
        self._until = [line.said for line in self._lines]

    def is_complete(self) -> bool:
        """Whether every number of the account has come."""
        return len(self._came()) == self._said()

    def close_account(self, what: str) -> None:
        """Draw up the account of an outage or a kill."""
        came, said = self._came(), self._said()
        self.found |= {
            f"lost_in_{what}": [said - len(came)],
            f"duplicates_in_{what}": [sum(came) - len(came)],
            f"said_in_{what}": [said],
        }

    def _came(self) -> list[int]:
        """Return how often each number of the account came."""
        until = self._until or [line.said for line in self._lines]
        return [
            often
            for (at, number), often in list(self._sink.heard.items())
            if self._since[at] < number <= until[at]
        ]

    def _said(self) -> int:
        until = self._until or [line.said for line in self._lines]
        return sum(until) - sum(self._since)


def accounts(stands: Sequence[Stand], say: Callable[[str], None]) -> None:
    """Start all, and take the accounts of an outage and of a kill, side by side."""
    for stand in stands:
        stand.speak()
        stand.start_s()
    time.sleep(SETTLE_S)
    for what in ("outage", "kill"):
        for stand in stands:
            stand.begin()
            stand.relay.cut()
        time.sleep(OUTAGE_S)
        if what == "kill":
            _kill_all(stands)
        for stand in stands:
            stand.relay.resume()
        time.sleep(AFTERWARDS_S)
        for stand in stands:
            stand.end()
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s and not all(stand.is_complete() for stand in stands):
            time.sleep(0.5)
        time.sleep(QUIET_S)
        for stand in stands:
            stand.close_account(what)
            say(f"{stand.rival.name}: {stand.found}")
    for stand in stands:
        for each in ("lost", "duplicates", "said"):
            both = (stand.found[f"{each}_in_{what}"][0] for what in ("outage", "kill"))
            stand.found[each] = [sum(both)]


def _kill_all(stands: Sequence[Stand]) -> None:
    """Kill all and start them again, when their lines have been silent for a while."""
    for stand in stands:
        stand.speak(is_silent=True)
    time.sleep(SILENT_S)
    for stand in stands:
        stand.program.kill()
        stand.program.start()
    time.sleep(SETTLE_S)
    for stand in stands:
        stand.speak()


def measure(installed: Install, seconds: float, say: Callable[[str], None]) -> dict[str, Samples]:
    """Return the figures of every rival that can be had, by its name. Raises BenchError."""
    found: dict[str, Samples] = {}
    known = rivals(installed)
    for rival in known:
        with Stand(rival) as stand:
            found[rival.name] = stand.cost(max(seconds, rival.every_s))
        if rival.folder is not None:
            found[rival.name]["venv_mb"] = [round(Install(rival.folder).size_mb, 1)]
        say(f"{rival.name}: {found[rival.name]}")
    with ExitStack() as stack:
        stands = [stack.enter_context(Stand(rival)) for rival in known]
        accounts(stands, say)
        for stand in stands:
            found[stand.rival.name] |= stand.found
    return found
