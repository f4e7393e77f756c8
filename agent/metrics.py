"""The gateway's own figures as a file for Prometheus: node_exporter's textfile collector reads it.

The same as the topic `health` tells, once a minute: nothing depends on people's events. Written
beside and renamed, so that nobody reads half of it, and without a sync: what a power cut takes is a
minute old. At the end the file goes. A file that cannot be written costs a line in the log.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from .health import SensorState
from .logs import logger
from .spool import SpoolError

log = logger("metrics")

INTERVAL_S = 60.0
STATES: Sequence[str] = get_args(SensorState)

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


def exposition(health: Mapping[str, Any], *, gateway: str, version: str) -> str:
    """Return the file's text, of a health message as it is published."""
    lines: list[str] = []
    for name, kind, text, samples in _families(health, gateway, version):
        if samples:
            lines += [f"# HELP yukimi_{name} {text}", f"# TYPE yukimi_{name} {kind}"]
            lines += [f"yukimi_{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join([*lines, ""])


def _families(
    health: Mapping[str, Any], gateway: str, version: str
) -> Iterator[tuple[str, str, str, list[Sample]]]:
    uplink, spool, clock = health["uplink"], health["spool"], health["clock"]
    about = {"gateway": gateway, "run": health["run"], "version": version}
    yield "info", "gauge", "Who this is.", [(about, 1)]
    yield "uptime_seconds", "gauge", "Since this life began.", _one(health["uptime_s"])
    yield "resident_memory_bytes", "gauge", "In whole MiB.", _one(health["rss_bytes"])
    is_synced = clock["state"] == "synced"
    yield "clock_synced", "gauge", "Whether UTC is known.", _one(is_synced)
    text = "How wrong the time may be; absent without a bound."
    yield "clock_error_seconds", "gauge", text, _one(clock["error_s"])
    is_connected = uplink["broker"] is not None
    yield "uplink_connected", "gauge", "Whether a broker holds us.", _one(is_connected)
    yield "uplink_reconnects_total", "counter", "In this life.", _one(uplink["reconnects"])
    yield "spool_bytes", "gauge", "What the spool takes of the disk.", _one(spool["bytes"])
    yield "spool_waiting_records", "gauge", "Not delivered yet.", _one(spool["waiting"])
    text = "End of the oldest record that waits; absent where none does."
    yield "spool_oldest_record_timestamp_seconds", "gauge", text, _one(_unix_s(spool["oldest"]))
    produced: list[Sample] = [
        ({"stream": name}, n) for name, n in sorted(health["produced"].items())
    ]
    text = "Records in this life, gaps included; the newest number of each stream."
    yield "records_produced_total", "counter", text, produced
    states: list[Sample] = [
        ({"sensor": name, "state": each}, float(each == state))
        for name, state in sorted(health["sensors"].items())
        for each in STATES
    ]
    yield "sensor_state", "gauge", "1 for the state that a sensor is in.", states
    text = "Episodes that are not over, those about people left out."
    yield "alerts_active", "gauge", text, _one(len(health["alerts"]))


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [({}, float(value))]


def _unix_s(utc: str | None) -> float | None:
    return None if utc is None else datetime.fromisoformat(utc).timestamp()


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class MetricsFile:
    """The thread that writes the file, for one life of the gateway."""

    def __init__(self, path: Path, text: Callable[[], str]) -> None:
        """`text` returns what to write; it may raise SpoolError."""
        self._path = path
        self._text = text
        self._fails = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end, which takes the file away; a disk that hangs is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            self._write()
            if self._stopping.wait(INTERVAL_S):
                break
        with suppress(OSError):  # nobody stands behind its figures any more
            self._path.unlink()

    def _write(self) -> None:
        beside = self._path.with_name(f".{self._path.name}.part")
        try:
            beside.write_text(self._text(), encoding="utf-8")
            beside.chmod(0o644)  # it is for the exporter's user
            beside.rename(self._path)
        except (OSError, SpoolError) as exc:
            if not self._fails:
                self._fails = True
                log.warning("metrics file cannot be written", file=str(self._path), error=str(exc))
        else:
            if self._fails:
                self._fails = False
                log.info("metrics file can be written again", file=str(self._path))
