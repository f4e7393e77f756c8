"""What a running gateway tells while somebody watches: one thread that asks, and asks again.

Everything comes over one bounded queue, so that who shows it does one thing at a time. A gateway
that is gone, or not there yet, is asked again each RETRY_S for as long as somebody watches.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.asking import Asking, NotAnsweredError

RETRY_S = 1.0
LOOK_S = 2.0  # between two looks into a sensor: raw bytes are the most that a console is told
DAY_S = 60.0  # between two looks at its last day
LINE_S = 10.0  # in which a gateway must tell something: it does each second
EVENTS = 1000

Document = dict[str, Any]


class Feed:
    """Events of one gateway; `take` returns what came since.

    An event is what the gateway told: {"snapshot"}, {"lane", "record", ...}, {"dropped"}, {"state":
    "starting"}; or, by us, {"gone": error} and {"into": sensor, "raw", "history"}.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events: queue.Queue[Document] = queue.Queue(EVENTS)
        self._wake_in, self._wake_out = os.pipe()
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        self._into: str | None = None
        self._looks = threading.Event()  # set when somebody looks into another one
        self._threads = [
            threading.Thread(target=self._watch, name="watch", daemon=True),
            threading.Thread(target=self._look, name="look", daemon=True),
        ]

    def start(self) -> None:
        """Begin to ask. The threads end with the process: they hold nothing."""
        for thread in self._threads:
            thread.start()

    @property
    def fileno(self) -> int:
        """A file descriptor that can be read when there are events."""
        return self._wake_in

    def take(self) -> list[Document]:
        """Return what came; never waits."""
        with suppress(BlockingIOError):
            os.read(self._wake_in, 4096)
        events = []
        with suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    def wait(self) -> Document:
        """Return the next event, whenever it comes."""
        return self._events.get()

    def look_into(self, sensor: str | None) -> None:
        """Look into a sensor from now on; None: into none."""
        if sensor != self._into:
            self._into = sensor
            self._looks.set()

    def _tell(self, event: Document) -> None:
        self._events.put(event)
        with suppress(BlockingIOError):
            os.write(self._wake_out, b"\0")

    def _watch(self) -> None:
        while True:
            try:
                with Asking(self._path) as asking:
                    for line in asking.stream("watch", line_timeout_s=LINE_S):
                        self._tell(line)
            except NotAnsweredError as exc:
                self._tell({"gone": exc})
            time.sleep(RETRY_S)

    def _look(self) -> None:
        day: tuple[str, float, Any] = ("", 0.0, None)
        while True:
            self._looks.wait()
            self._looks.clear()
            while (sensor := self._into) is not None:
                started_s = time.monotonic()
                with suppress(NotAnsweredError), Asking(self._path) as asking:  # _watch tells
                    if day[0] != sensor or started_s - day[1] > DAY_S:
                        told = asking.ask("history", sensor=sensor).get("history")
                        day = (sensor, started_s, told)
                    raw = asking.ask("sensor", sensor=sensor).get("raw", [])
                    self._tell({"into": sensor, "raw": raw, "history": day[2]})
                if self._looks.wait(LOOK_S):
                    self._looks.clear()
