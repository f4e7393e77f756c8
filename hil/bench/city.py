"""How fast the city's consumer writes what a broker holds for it.

Deflated batches of 200 records of eight sensors wait in Mosquitto, in the sessions of the
consumers; then these start. From the first commit that is seen to the last record in the table,
the mean: what it costs is what a backlog costs after the city was away. `--processes 2` shares the
same load. Needs Mosquitto, and PostgreSQL for its part.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby

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
WINDOW = 100  # messages in flight to the broker
DRAIN_S = 600.0
LOOK_S = 0.5
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
    Figure("sqlite_records_per_s", "one process", 20_000, at_least=True),
    Figure("sqlite_cpu_us_per_record", "of the consumer, database and all"),
    Figure("postgres_cpu_us_per_record", "of the consumer, without the server"),
    Figure("rss_mb", "of one process at its end", 200),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Measure; print the table; 1 where a target is missed."""
    say = (lambda _: None) if arguments.json else print
    values: dict[str, float] = {}
    try:
        records = arguments.records // GATEWAYS * GATEWAYS
        messages = list(_messages(records))
        with tempfile.TemporaryDirectory(prefix="yukimi-bench-") as folder:
            rate, _, spent = _drain(f"sqlite:{folder}/city.db", messages, records, processes=1)
            values |= {"sqlite_records_per_s": rate, "rss_mb": spent["rss_mb"]}
            values["sqlite_cpu_us_per_record"] = spent["cpu_us_per_record"]
            say(f"SQLite: {rate:,.0f} records/s")
        if binaries() is not None:
            for processes in (1, 2):
                with Postgres() as postgres:
                    rate, share, spent = _drain(
                        postgres.url, messages, records, processes=processes
                    )
                say(f"PostgreSQL, {processes} processes: {rate:,.0f} records/s")
                if processes == 1:
                    values["postgres_records_per_s"] = rate
                    values["postgres_cpu_us_per_record"] = spent["cpu_us_per_record"]
                else:
                    values |= {"postgres_two_records_per_s": rate, "postgres_two_share": share}
    except BenchError as exc:
        print(f"bench city: {exc}", file=sys.stderr)
        return 69
    if arguments.json:
        print(document(values))
    else:
        print("\n".join(table(FIGURES, values)))
    missed = [each for each in FIGURES if each.key in values and not each.holds(values[each.key])]
    return 1 if missed else 0


def _messages(records: int) -> Iterator[tuple[str, bytes]]:
    """Yield batches as gateways send them after an outage, many gateways in turn."""
    each = records // GATEWAYS
    made: list[Record] = list(windows(each, end_ns=1_800_000_000 * 10**9))
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


def _drain(
    database: str, messages: list[tuple[str, bytes]], records: int, *, processes: int
) -> tuple[float, float, dict[str, float]]:
    """Return records per second, the smaller process's share of them, and what a process spent."""
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
        _publish(broker, messages)
        with opened(database, read_only=True) as store:
            for end in ends:
                end.start()
            rate = _watch(store, ends, records)
            spent = {
                "rss_mb": memory_kb(ends[0].pid, "Rss") / 1024,
                "cpu_us_per_record": counters(ends[0].pid)["cpu_s"] * 1e6 / records,
            }
        for end in ends:
            end.stop()
        written = [int(end.log.rpartition(" new=")[2].split()[0]) for end in ends]
        return rate, min(written) / sum(written), spent


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
    """Return the mean rate from the first commit that is seen to the last."""
    first: tuple[float, int] | None = None
    deadline_s = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline_s:
        for end in ends:
            end.check()
        count = _count(store)
        now_s = time.monotonic()
        if count and first is None:
            first = (now_s, count)
        if count >= records:
            if first is None or first[1] == count:
                raise BenchError("too few records to measure with")
            return (count - first[1]) / (now_s - first[0])
        time.sleep(LOOK_S)
    raise BenchError("the consumers did not end")


def _count(store: Store) -> int:
    try:
        count: int = store.query("SELECT count(*) FROM record")[0][0]
    except StoreAwayError:
        return 0
    return count
