"""An alert's way: from the reading that crosses the line to the broker's PUBACK.

The gateway is the real one, in this process, with eight sensors at their real rates and a backlog
that leaves, against Mosquitto on loopback. A door opens and shuts, at random moments: its reading
is put into the queue where its collector would put it, and the time is taken when the uplink
matches the broker's acknowledgement of that alert. In between lie the rule, the commit to the disk
and the two ways over the socket. The hold of the door's alert is off, so that each change is news.

alert_p50_ms, alert_p99_ms, alert_max_ms   of all changes
"""

from __future__ import annotations

import argparse
import logging
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, chdir
from pathlib import Path
from random import Random
from typing import cast
from unittest import mock

import structlog

from agent.app import Gateway
from agent.catalogue import CATALOGUE
from agent.collector import Collected
from agent.inbox import Inbox
from agent.outbox import Outbox
from agent.plan import load_plan
from agent.wake import Wake
from drivers.base import Reading
from drivers.gpio import boot_ns

from ..broker import MOSQUITTO, Mosquitto
from .ear import Ear
from .figures import Figure, document, table
from .process import BenchError
from .site import RealDevices, Stock, write_config

WRONG, UNREACHABLE = 1, 69
FULL, QUICK = 1000, 50  # changes of the door
APART_S = (0.02, 0.25)
BACKLOG_RECORDS = 20_000
PATIENCE_S = 60.0

FIGURES = (
    Figure("alert_p50_ms", "half of all alerts are acknowledged within"),
    Figure("alert_p99_ms", "99 of 100 are", 100),
    Figure("alert_max_ms", "the slowest"),
)

_DOOR = """
[[sensors]]
id = "door-9"
driver = "contact"
bus = "walkway"
options = { pin = 22, measures = "open" }
"""


def measure(changes: int, say: Callable[[str], None]) -> dict[str, float]:
    """Return the figures of so many changes of a door. Raises BenchError."""
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="yukimi-bench-")))
        broker, row = enter(Mosquitto()), enter(RealDevices())
        enter(Ear(broker.host, broker.port))
        door = CATALOGUE["cabinet_door"]._replace(hold_s=0)
        enter(mock.patch.dict(CATALOGUE, cabinet_door=door))
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        stock = Stock(folder, BACKLOG_RECORDS, end_ns=time.time_ns() - 86_400 * 10**9)
        stock.put(folder)
        config = write_config(folder, broker.port, sensors=row.sensors() + _DOOR)
        enter(chdir(folder))  # where a daemon of its own would live
        acked: queue.SimpleQueue[float] = queue.SimpleQueue()
        enter(mock.patch.object(Outbox, "answered", _overheard(acked)))
        gateway = Gateway(load_plan(config), needs_disk=True)
        wake, started = Wake(), threading.Event()
        life = threading.Thread(
            target=gateway.run, args=(wake, lambda: False, started.set), name="gateway"
        )
        life.start()
        stack.callback(life.join)
        stack.callback(wake.set)
        if not started.wait(PATIENCE_S):
            raise BenchError("the gateway did not start")
        took_ms = _swing(gateway, acked, changes)
    say(f"{len(took_ms)} changes of a door")
    return {
        "alert_p50_ms": round(statistics.median(took_ms), 2),
        "alert_p99_ms": round(statistics.quantiles(took_ms, n=100, method="inclusive")[98], 2),
        "alert_max_ms": round(max(took_ms), 2),
    }


def _overheard(acked: queue.SimpleQueue[float]) -> Callable[..., object]:
    """Return Outbox.answered, with the time of each answer about the door told to `acked`."""
    answered = Outbox.answered

    def overheard(self: Outbox, token: int, code: int, now_s: float) -> object:
        flight = self._flights.get(token)
        bodies = () if flight is None or code else flight.send.parcel.bodies
        if any('"sensor":"door-9"' in body for body in bodies):  # roads freeze meanwhile
            acked.put(time.monotonic())
        return answered(self, token, code, now_s)

    return overheard


def _swing(gateway: Gateway, acked: queue.SimpleQueue[float], changes: int) -> list[float]:
    """Open and shut the door; return how many milliseconds each change took."""
    inbox, random = cast("Inbox", gateway.pipeline._inbox), Random(1)
    time.sleep(2.0)  # connected, and the backlog on its way
    took_ms = []
    for change in range(changes):
        time.sleep(random.uniform(*APART_S))
        value = "no" if change % 2 else "yes"
        began_s = time.monotonic()
        inbox.lay(Collected("door-9", [Reading("open", value, boot_ns())]))
        inbox.ring(at_once=True)  # as its collector does
        try:
            took_ms.append((acked.get(timeout=PATIENCE_S) - began_s) * 1000)
        except queue.Empty:
            raise BenchError(f"change {change} was never acknowledged") from None
    return took_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="fewer changes")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    if not Path(MOSQUITTO).exists():
        print(f"no {MOSQUITTO}: apt install mosquitto", file=sys.stderr)
        return UNREACHABLE
    try:
        values = measure(QUICK if arguments.quick else FULL, _say)
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return UNREACHABLE
    print(document(values) if arguments.json else "\n".join(table(FIGURES, values)))
    return 0 if all(figure.holds(values[figure.key]) for figure in FIGURES) else WRONG


def _say(what: str) -> None:
    print(what, file=sys.stderr)
