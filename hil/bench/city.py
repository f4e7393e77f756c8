"""How fast the city's consumer writes what a broker holds for it.

Deflated batches of 200 records of eight sensors wait in Mosquitto, in the sessions of the
consumers; then these start. From the connection to the last record in the table, the mean: it is
what a backlog costs after the city was away. Live messages are plain, a window of one kind each.
Two processes share one load. Needs Mosquitto, and PostgreSQL for its part.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent import record
from agent.record import Record

from ..broker import Mosquitto
from ..city.databases import opened
from ..city.store import Store, StoreAwayError
from ..far_end import FarEnd
from ..postgres import Postgres, binaries
from .figures import Figure, document, table
from .process import BenchError, counters, memory_kb
from .site import CONFIG_ID, windows

BATCH_RECORDS = 200
GATEWAYS = 20
END_NS = 1_800_000_000 * 10**9
WINDOW = 100  # messages in flight to the broker
DRAIN_S = 600.0
LOOK_S = 0.25
BROKER_OPTIONS = (
    "log_type none",
    "max_queued_messages 0",
    "max_queued_bytes 0",
    "max_inflight_messages 1000",
)

FIGURES = (
    Figure("postgres_records_per_s", "one process", 10_000, at_least=True),
    Figure("postgres_two_records_per_s", "two processes"),
    Figure("postgres_two_share", "of the smaller of the two", 0.3, at_least=True),
    Figure("postgres_live_messages_per_s", "one or two records each, plain"),
    Figure("sqlite_records_per_s", "one process", 20_000, at_least=True),
    Figure("sqlite_live_messages_per_s", "one or two records each, plain"),
    Figure("sqlite_cpu_us_per_record", "of the consumer, database and all", 50),
    Figure("postgres_cpu_us_per_record", "of the consumer, without the server", 50),
    Figure("sqlite_b_per_record", "the whole file"),
    Figure("postgres_b_per_record", "of the table, with its indexes"),
    Figure("rss_mb", "of one process at its end", 200),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--only", choices=("sqlite", "postgres"))
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Measure; print the table; 1 where a target is missed."""
    say = (lambda _: None) if arguments.json else print
    try:
        values = measure(arguments.records, say, only=arguments.only)
    except BenchError as exc:
        print(f"bench city: {exc}", file=sys.stderr)
        return 69
    if arguments.json:
        print(document(values))
    else:
        print("\n".join(table(FIGURES, values)))
    missed = [each for each in FIGURES if each.key in values and not each.holds(values[each.key])]
    return 1 if missed else 0


def measure(
    records: int, say: Callable[[str], None], *, only: str | None = None
) -> dict[str, float]:
    """Return the figures. Raises BenchError."""
    values: dict[str, float] = {}
    backlog = _Load(list(_backlog(records // GATEWAYS)), records // GATEWAYS * GATEWAYS)
    live = _Load(list(_live(records // 8)), records // 8)

    def note(name: str, drained: _Drained) -> None:
        say(f"{name}: {drained.records_per_s:,.0f} records/s")
        values[f"{name}_records_per_s"] = drained.records_per_s
        if name.endswith("_two"):
            values[f"{name}_share"] = drained.share
        elif not name.endswith("_live"):
            values[f"{name}_cpu_us_per_record"] = drained.cpu_us_per_record
            values[f"{name}_b_per_record"] = drained.b_per_record
            values["rss_mb"] = max(drained.rss_mb, values.get("rss_mb", 0.0))
        else:
            values[f"{name}_messages_per_s"] = (
                drained.records_per_s * len(live.messages) / live.records
            )

    if only != "postgres":
        with tempfile.TemporaryDirectory(prefix="yukimi-bench-") as folder:
            note("sqlite", _drain(f"sqlite:{folder}/a.db", backlog, processes=1))
            note("sqlite_live", _drain(f"sqlite:{folder}/b.db", live, processes=1))
    if only == "sqlite":
        return values
    if binaries() is None:
        say("no PostgreSQL: apt install postgresql")
        return values
    for name, load, processes in (
        ("postgres", backlog, 1),
        ("postgres_live", live, 1),
        ("postgres_two", backlog, 2),
    ):
        with Postgres() as postgres:
            note(name, _drain(postgres.url, load, processes=processes))
    return values


@dataclass(frozen=True, slots=True)
class _Load:
    """Messages, and how many records are in them."""

    messages: list[tuple[str, bytes]]
    records: int


@dataclass(frozen=True, slots=True)
class _Drained:
    """What it took to write a load."""

    records_per_s: float
    share: float  # of the smaller process
    rss_mb: float
    cpu_us_per_record: float
    b_per_record: float  # in the database, indexes and all


def _backlog(records: int) -> Iterator[tuple[str, bytes]]:
    """Yield batches as gateways send them after an outage, many gateways in turn."""
    made: list[Record] = list(windows(records, end_ns=END_NS))
    by_stream = sorted(made, key=lambda one: one.stream)
    bodies: dict[tuple[str, str], list[str]] = {}
    for (stream, kind), group in groupby(by_stream, key=lambda one: (one.stream, one.kind)):
        bodies[stream, kind] = [one.body(seq) for seq, one in enumerate(group, start=1)]
    longest = max(map(len, bodies.values()))
    runs = {f"gw-{number:02}": secrets.token_hex(8) for number in range(GATEWAYS)}
    for at in range(0, longest, BATCH_RECORDS):
        for gateway, life in runs.items():
            for (_, kind), of_stream in bodies.items():
                part = of_stream[at : at + BATCH_RECORDS]
                if part:
                    payload = record.batch(gateway, life, kind, CONFIG_ID, part)
                    yield f"yukimi/v1/{gateway}/backlog/{kind}", record.deflated(payload)


def _live(records: int) -> Iterator[tuple[str, bytes]]:
    """Yield a window after the other as a gateway sends them: plain, a message for each kind."""
    life, seqs = secrets.token_hex(8), dict[str, int]()
    for _, window in groupby(windows(records, end_ns=END_NS), key=lambda one: one.end_ns):
        for kind, group in groupby(sorted(window, key=lambda one: one.kind), lambda one: one.kind):
            bodies = []
            for one in group:
                seqs[one.stream] = seqs.get(one.stream, 0) + 1
                bodies.append(one.body(seqs[one.stream]))
            payload = record.batch("gw-live", life, kind, CONFIG_ID, bodies)
            yield f"yukimi/v1/gw-live/live/{kind}", payload


def _drain(database: str, load: _Load, *, processes: int) -> _Drained:
    """Let messages wait for processes that are away; then let these write them."""
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(extra=BROKER_OPTIONS))
        url = f"mqtt://{broker.host}:{broker.port}"
        ends = [
            stack.enter_context(FarEnd(url, database, instance=str(number + 1)))
            for number in range(processes)
        ]
        for end in ends:  # from now on the broker keeps what comes
            end.wait_connected()
            end.stop()
        _publish(broker, load.messages)
        with opened(database, read_only=True) as store:
            for end in ends:
                end.start()
            rate = _watch(store, ends, load.records)
            rss_mb = memory_kb(ends[0].pid, "Rss") / 1024
            cpu_us = counters(ends[0].pid)["cpu_s"] * 1e6 / load.records
            b_per_record = _size_bytes(store, database) / load.records
        for end in ends:
            end.stop()
        written = [int(end.log.rpartition(" new=")[2].split()[0]) for end in ends]
        return _Drained(rate, min(written) / sum(written), rss_mb, cpu_us, b_per_record)


def _size_bytes(store: Store, database: str) -> int:
    if database.startswith("sqlite:"):
        return Path(database.removeprefix("sqlite:")).stat().st_size
    size: int = store.query("SELECT pg_total_relation_size('record')")[0][0]
    return size


def _publish(broker: Mosquitto, messages: list[tuple[str, bytes]]) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    client.connect(broker.host, broker.port)
    client.loop_start()
    sent = [client.publish(topic, payload, qos=1) for topic, payload in messages]
    for info in sent:
        info.wait_for_publish(DRAIN_S)
    client.disconnect()
    client.loop_stop()


def _watch(store: Store, ends: list[FarEnd], records: int) -> float:
    """Return the mean rate from the moment the first process is connected to the last record."""
    ends[0].wait_connected()
    began_s = time.monotonic()
    while time.monotonic() < began_s + DRAIN_S:
        for end in ends:
            end.check()
        if _count(store) >= records:
            return records / (time.monotonic() - began_s)
        time.sleep(LOOK_S)
    raise BenchError("the consumers did not end")


def _count(store: Store) -> int:
    try:
        count: int = store.query("SELECT count(*) FROM record")[0][0]
    except StoreAwayError:
        return 0
    return count
