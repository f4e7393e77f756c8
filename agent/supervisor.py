"""Start the threads in the order of the flow, watch them, stop them in the same order.

A driver's bug stays with its sensor (`collector`). A collector that dies of a bug of its own is
started again with backoff: the other buses never notice. A bug anywhere else ends the process, and
systemd starts it again. The watchdog is fed only while the pipeline and the uplink make progress.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .collector import Collector
from .logs import logger, place_of
from .notify import notify
from .pipeline import Pipeline
from .uplink import Uplink
from .wake import Wake

log = logger("supervisor")

LOOK_INTERVAL_S = 1.0
WATCHDOG_INTERVAL_S = 10.0
STALLED_AFTER_S = (
    60.0  # the longest a thread may take for one step: a slow card, a slow name server
)
RESTART_FIRST_S = 1.0
RESTART_CAP_S = 60.0
JOIN_COLLECTOR_S = 5.0
JOIN_PIPELINE_S = 10.0
# With the mains gone: a good-bye within two seconds.
HASTE_JOIN_S = 0.3
HASTE_S = 1.0
JOIN_UPLINK_MORE_S = 10.0  # beyond its own bound, for a connection attempt under way


class ThreadDiedError(Exception):
    """A thread that must not end has ended: the process cannot go on."""


@dataclass(slots=True)
class _Watched:
    """A collector's thread and how often it was started again."""

    collector: Collector
    thread: threading.Thread
    restarts: int = 0
    restart_at_s: float | None = None
    failure: list[BaseException] = field(default_factory=list)


class Supervisor:
    """The life of all threads of one gateway."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        pipeline: Pipeline,
        uplink: Uplink,
        *,
        collectors_stopping: threading.Event,
        boot_s: Callable[[], float],
        drain_s: float,
    ) -> None:
        self._collectors = list(collectors)
        self._pipeline = pipeline
        self._uplink = uplink
        self._collectors_stopping = collectors_stopping
        self._boot_s = boot_s
        self._drain_s = drain_s
        self._watched: list[_Watched] = []
        self._vital: dict[str, threading.Thread] = {}
        self._failures: dict[str, BaseException] = {}
        self._watchdog_at_s = 0.0

    def start(self) -> None:
        """Start everything, the far end of the flow first, so that nothing finds nobody."""
        for name, target in (("uplink", self._uplink.run), ("pipeline", self._pipeline.run)):
            self._vital[name] = self._thread(name, target)
            self._vital[name].start()
        for collector in self._collectors:
            thread = self._collector_thread(collector)
            self._watched.append(_Watched(collector, thread))
            thread.start()
        notify("READY=1")

    def watch(self, wake: Wake) -> None:
        """Look after the threads until `wake` is set. Raises ThreadDiedError."""
        while not wake.wait(LOOK_INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Look after the threads once. Raises ThreadDiedError."""
        now_s = self._boot_s()
        for watched in self._watched:
            self._revive(watched, now_s)
        for name, thread in self._vital.items():
            if not thread.is_alive():
                raise ThreadDiedError(f"the {name} thread died") from self._failures.get(name)
        if now_s >= self._watchdog_at_s:
            self._watchdog_at_s = now_s + WATCHDOG_INTERVAL_S
            stalled = [
                name
                for name, beat_s in (
                    ("pipeline", self._pipeline.beat_s),
                    ("uplink", self._uplink.beat_s),
                )
                if now_s - beat_s > STALLED_AFTER_S
            ]
            if stalled:
                log.error("no progress; the watchdog is not fed", threads=stalled)
            else:
                notify("WATCHDOG=1")

    def threads(self, now_s: float) -> list[dict[str, object]]:
        """Return how each thread does: alive, seconds since its last step, how often restarted."""
        beats_s = {"pipeline": self._pipeline.beat_s, "uplink": self._uplink.beat_s}
        rows = [(name, thread, beats_s[name], 0) for name, thread in self._vital.items()]
        for each in self._watched:
            rows.append((each.thread.name, each.thread, each.collector.beat_s, each.restarts))
        return [
            {
                "name": name,
                "alive": thread.is_alive(),
                "beat_age_s": round(max(0.0, now_s - beat_s), 1),
                "restarts": restarts,
            }
            for name, thread, beat_s, restarts in rows
        ]

    def stop(self, *, in_haste: bool = False) -> None:
        """Stop reading, close the windows, commit, send what can be sent; bounded in time.

        In haste nobody waits for a device that is slow to answer, and sending takes HASTE_S.
        """
        self._collectors_stopping.set()
        patience_s = HASTE_JOIN_S if in_haste else JOIN_COLLECTOR_S
        until_s = self._boot_s() + patience_s
        for watched in self._watched:
            left_s = max(0.0, until_s - self._boot_s()) if in_haste else patience_s
            watched.thread.join(left_s)
            if watched.thread.is_alive():
                log.warning("collector does not stop; going on", bus=watched.collector.name)
        self._pipeline.stop()
        self._vital["pipeline"].join(JOIN_PIPELINE_S)
        drain_s = min(HASTE_S, self._drain_s) if in_haste else self._drain_s
        self._uplink.stop(drain_s)
        self._vital["uplink"].join(drain_s + JOIN_UPLINK_MORE_S)

    def _revive(self, watched: _Watched, now_s: float) -> None:
        if watched.thread.is_alive() or self._collectors_stopping.is_set():
            return
        if watched.restart_at_s is None:
            delay_s = min(RESTART_CAP_S, RESTART_FIRST_S * 2 ** min(watched.restarts, 16))
            watched.restart_at_s = now_s + delay_s
            return
        if now_s >= watched.restart_at_s:
            watched.restart_at_s = None
            watched.restarts += 1
            watched.thread = self._collector_thread(watched.collector)
            watched.thread.start()

    def _collector_thread(self, collector: Collector) -> threading.Thread:
        return self._thread(f"bus {collector.name}", collector.run)

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        def body() -> None:
            try:
                target()
            except Exception as exc:  # noqa: BLE001  (whatever it is, it must not pass unseen)
                self._failures[name] = exc
                # The traceback names places in the code, never values: a driver may hold people.
                log.error("bug in a thread", thread=name, error=place_of(exc))

        return threading.Thread(target=body, name=name, daemon=True)
