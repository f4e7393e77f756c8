"""Rivals beside the gateway: eight lines, a number a second each, the same broker, cut and kill.

Each reads eight pseudo-terminals on which a counter says its number once a second, through the same
relay to the same broker. The account is one for all: of each line every number from the first that
arrived to the last that was said must have arrived; more than once is a duplicate.

rss_mb, threads, cpu_percent, wakeups_per_s, disk_mb_per_hour, wire_kb_per_hour   as in cost.py
start_s                     process start to its first message at the subscriber
lost_in_outage, duplicates_in_outage   the connection is cut for 20 s
lost_in_kill, duplicates_in_kill       it is cut again, and killed at its end, while the lines are
                            silent; it starts again, and the connection is back
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..broker import Mosquitto
from ..buses import Pty
from ..demo import now_s
from ..relay import Relay
from . import wire
from .process import BenchError, counters, memory_kb
from .rivals import ACCESS, TELEMETRY, BarePaho, Bridge, Rival, ThingsBoard, numbers

LINES = 8
START_S, SETTLE_S = 60.0, 8.0
OUTAGE_S, LONGEST_RECONNECT_S = 20.0, 45.0
QUIET_S = 4.0
LIMITS = '{"maxPayloadSize":65536,"maxInflightMessages":100,"rateLimits":{},"gatewayRateLimits":{}}'


class Counting:
    """A device that says a number once a second, from 1 on, while it is not silent."""

    def __init__(self) -> None:
        self.said = 0
        self.is_silent = True
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
        return b"%d\n" % self.said


class Sink:
    """The city's end: keeps what comes, and grants thingsboard-gateway what it asks for."""

    def __init__(self, host: str, port: int) -> None:
        self.heard: Counter[tuple[str, int]] = Counter()
        self.last_s = 0.0
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

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([(TELEMETRY, 1), ("lines", 1), ("v1/devices/me/rpc/request/+", 1)])
        self._is_up.set()

    def _message(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        if b"getSessionLimits" in message.payload:
            client.publish(message.topic.replace("request", "response"), LIMITS, 1)
            return
        found = list(numbers(bytes(message.payload)))
        self.heard.update(found)
        if found:
            self.last_s = time.monotonic()


class Trial:
    """One rival, from its start to its account."""

    def __init__(self, seconds: float, say: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._say = say

    def run(self, build: Callable[[Path, int, list[str]], Rival]) -> tuple[str, dict[str, float]]:
        """Return a rival's name and figures. Raises BenchError."""
        with ExitStack() as stack:
            enter = stack.enter_context
            folder = Path(enter(tempfile.TemporaryDirectory(prefix="yukimi-peer-")))
            access = folder / "access"
            access.write_text(ACCESS)
            access.chmod(0o600)
            extra = ("max_queued_messages 0", f"acl_file {access}")
            broker = enter(Mosquitto(extra=extra))
            relay = enter(Relay(broker.host, broker.port))
            sink = enter(Sink(broker.host, broker.port))
            lines = [Counting() for _ in range(LINES)]
            paths = [enter(Pty([line], now_s)).path for line in lines]
            rival = build(folder / "rival", relay.port, paths)
            stack.callback(rival.close)
            figures = self._cost(rival, sink, lines, relay.port)
            figures |= self._account("outage", relay, sink, lines)
            figures |= self._account("kill", relay, sink, lines, rival)
        self._say(f"{rival.name}: {json.dumps(figures)}")
        return rival.name, figures

    def _cost(self, rival: Rival, sink: Sink, lines: list[Counting], port: int) -> dict[str, float]:
        began_s = time.monotonic()
        _speak(lines)
        rival.start()
        while not sink.heard:
            if time.monotonic() - began_s > START_S:
                raise BenchError(f"{rival.name} published nothing")
            time.sleep(0.01)
        start_s = sink.last_s - began_s
        time.sleep(SETTLE_S)
        with wire.Tap(port) as tap:
            before, began_s = counters(rival.pid), time.monotonic()
            tap.pass_time(self._seconds)
            after, took_s = counters(rival.pid), time.monotonic() - began_s
            sent_bytes = sum(
                wire.wire_bytes(len(each.payload), each.header_bytes) for each in tap.take()
            )
        spent = {name: (after[name] - before[name]) / took_s for name in after}
        return {
            "start_s": round(start_s, 2),
            "rss_mb": round(memory_kb(rival.pid, "Rss") / 1024, 1),
            "threads": len(list(Path(f"/proc/{rival.pid}/task").iterdir())),
            "cpu_percent": round(100 * spent["cpu_s"], 2),
            "wakeups_per_s": round(spent["wakeups"], 1),
            "disk_mb_per_hour": round(spent["written_bytes"] * 3600 / 2**20, 2),
            "wire_kb_per_hour": round(sent_bytes / took_s * 3600 / 1024),
        }

    def _account(
        self,
        what: str,
        relay: Relay,
        sink: Sink,
        lines: list[Counting],
        killed: Rival | None = None,
    ) -> dict[str, float]:
        """Cut the connection, let `killed` die at the end, and count what became of each number."""
        with _silence(lines):
            _wait_quiet(sink, QUIET_S)
            sink.heard.clear()
            first = [line.said + 1 for line in lines]
        relay.cut()
        time.sleep(OUTAGE_S)
        with _silence(lines):
            if killed is not None:
                time.sleep(2.0)
                killed.kill()
                killed.start()
                time.sleep(SETTLE_S)
            relay.resume()
        time.sleep(LONGEST_RECONNECT_S)
        with _silence(lines):
            _wait_quiet(sink, QUIET_S)
            said = sum(line.said + 1 - begin for line, begin in zip(lines, first, strict=True))
            return {
                f"lost_in_{what}": said - len(sink.heard),
                f"duplicates_in_{what}": sink.heard.total() - len(sink.heard),
                f"said_in_{what}": said,
            }


def measure(seconds: float, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Return the figures of every rival that can be had, by its name. Raises BenchError."""
    trial = Trial(seconds, say)
    builders: list[Callable[[Path, int, list[str]], Rival]] = [
        *(ThingsBoard.with_storage(storage) for storage in ("memory", "file", "sqlite")),
        Bridge,
        BarePaho,
    ]
    return dict(trial.run(build) for build in builders)


def _speak(lines: list[Counting]) -> None:
    for line in lines:
        line.is_silent = False


@contextmanager
def _silence(lines: list[Counting]) -> Iterator[None]:
    for line in lines:
        line.is_silent = True
    time.sleep(1.0)  # what was just said has been read
    yield
    _speak(lines)


def _wait_quiet(sink: Sink, quiet_s: float) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() - sink.last_s < quiet_s and time.monotonic() < until_s:
        time.sleep(0.2)
