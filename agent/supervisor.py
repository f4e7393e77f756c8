"""Start the threads in the order of the flow, watch them, stop them in the same order.

A driver's bug stays with its sensor (`collector`). A collector that dies of a bug of its own is
started again with backoff: the other buses never notice. A bug anywhere else ends the process, and
systemd starts it again. A thread that hangs cannot be ended by anybody: it is named, with the place
in the code, and the watchdog is fed no more until it goes on; so systemd starts the process again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from .collector import Collector
from .logs import logger, place_of, places_of
from .notify import notify, watchdog_s
from .pipeline import Pipeline
from .pulse import Pulse
from .uplink import Uplink
from .wake import Wake

log = logger("supervisor")

LOOK_INTERVAL_S = 1.0
WATCHDOG_INTERVAL_S = 10.0
FEEDS = 4  # at least, in the time that systemd waits for one
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
        others: Mapping[str, Pulse] = MappingProxyType({}),
    ) -> None:
        """`others`: threads that somebody else starts and stops, and that must not hang either."""
        self._collectors = list(collectors)
        self._pipeline = pipeline
        self._uplink = uplink
        self._collectors_stopping = collectors_stopping
        self._boot_s = boot_s
        self._drain_s = drain_s
        self._watched: list[_Watched] = []
        self._vital: dict[str, threading.Thread] = {}
        self._failures: dict[str, BaseException] = {}
        self._others = others
        self._watchdog_at_s = 0.0
        self._feed_s = min(WATCHDOG_INTERVAL_S, watchdog_s() / FEEDS)
        self._hung: set[str] = set()

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
        self._tell_hung(now_s)
        if not self._hung and now_s >= self._watchdog_at_s:
            self._watchdog_at_s = now_s + self._feed_s
            notify("WATCHDOG=1")

    def _tell_hung(self, now_s: float) -> None:
        """Name who hangs while it still can be done: systemd's signal ends all."""
        late = {name: pulse for name, pulse in self._pulses() if pulse.is_late(now_s)}
        for name in late.keys() - self._hung:
            log.error(
                "a thread hangs; the watchdog is not fed",
                thread=name,
                since_s=round(now_s - late[name].beat_s, 1),
                at=places_of(name),
            )
        for name in self._hung - late.keys():
            log.warning("a thread goes on that had hung", thread=name)
        self._hung = set(late)

    def _pulses(self) -> Iterator[tuple[str, Pulse]]:
        yield "pipeline", self._pipeline.pulse
        yield "uplink", self._uplink.pulse
        yield from self._others.items()
        for watched in self._watched:
            if watched.thread.is_alive():  # else it is about to be started again
                yield watched.thread.name, watched.collector.pulse

    def threads(self, now_s: float) -> list[dict[str, object]]:
        """Return how each thread does: alive, hung, since when, how often restarted."""
        pulses = {"pipeline": self._pipeline.pulse, "uplink": self._uplink.pulse}
        rows = [(name, thread, pulses[name], 0) for name, thread in self._vital.items()]
        for each in self._watched:
            rows.append((each.thread.name, each.thread, each.collector.pulse, each.restarts))
        return [
            {
                "name": name,
                "alive": thread.is_alive(),
                "hung": pulse.is_late(now_s),
                "beat_age_s": round(max(0.0, now_s - pulse.beat_s), 1),
                "restarts": restarts,
            }
            for name, thread, pulse, restarts in rows
        ]

    def stop(self, *, in_haste: bool = False) -> None:
        """Stop reading, close the windows, commit, send what can be sent; bounded in time.

        In haste nobody waits for a device that is slow to answer, and sending takes HASTE_S.
        """
        self._collectors_stopping.set()
        # All together: they stop at the same time.
        until_s = self._boot_s() + (HASTE_JOIN_S if in_haste else JOIN_COLLECTOR_S)
        for watched in self._watched:
            watched.thread.join(max(0.0, until_s - self._boot_s()))
            if watched.thread.is_alive():
                log.warning("collector does not stop; going on", bus=watched.collector.name)
        # Each of these steps is bounded, and a reload takes all of them.
        notify("WATCHDOG=1")
        self._pipeline.stop()
        self._vital["pipeline"].join(JOIN_PIPELINE_S)
        notify("WATCHDOG=1")
        drain_s = min(HASTE_S, self._drain_s) if in_haste else self._drain_s
        self._uplink.stop(drain_s)
        self._vital["uplink"].join(drain_s + JOIN_UPLINK_MORE_S)
        notify("WATCHDOG=1")

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
        collector.pulse.beat(self._boot_s())
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
