"""A backlog of a million records: how fast it leaves, what it costs, and whether all of it arrives.

The daemon is the real one, a process of its own, against Mosquitto on loopback. The records are
those of eight sensors (site.py), put into its spool beforehand through `Spool.append`. Ratios come
from one run on one machine; figures in seconds and bytes move with the machine.

drain_records_per_s         the spool's records, unpaced, to a subscriber at QoS 0 that only
                            receives (ear.py). From the first backlog message at the subscriber to
                            the last: Mosquitto forwards a message and acknowledges it in the same
                            pass, so nothing has to look at the daemon or its spool meanwhile. That
                            all is acknowledged is read from the spool afterwards. Median of 3.
drain_ratio_to_paho         the same messages, byte for byte as they came, published by bare paho
                            from memory (bare.py; the faster of its two ways by the median of 9) to
                            the same broker and the same subscriber; ours divided by paho's.
backlog_rss_growth_mb       resident memory of the daemon some seconds after its start with no
                            broker to reach, the backlog waiting, less the same without a backlog.
                            Medians of 3 starts, in turns.
start_with_backlog_s        from the process's start to the start record of its run on live/gateway
                            at the subscriber, the backlog waiting, default pace. Median of 3.
enqueue_ratio_full_to_empty `Spool.append` of 8 records, in turns on a spool with the backlog and
                            on one without: the larger of the two ratios (processor time and wall
                            time) of medians over 600 commits.
disk_mb_per_hour            write_bytes of the daemon with eight sensors at their real rates on
                            terminals and a simulated walkway, connected, over 10 minutes, after 30
                            seconds to settle.
wire_b_per_record           in the same minutes, live and plain: every packet between gateway and
                            broker that carries records or acknowledges them (wire.py).
wire_other_b_per_hour       in the same minutes, the rest: health and keepalive.
wire_b_per_record_backlog   the same count for a backlog under the default configuration: 200
                            records a message, deflated, at the default pace.
lost_after_kill             records that the city's account misses, or has as gaps, after kill -9 of
                            the daemon: during an outage, three times during a drain, and when it
                            had started in an outage; 20,000 records wait each time.
duplicates_after_kill       records that came more than once there: delivery is at least once.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path

from agent.record import Record
from agent.spool import Spool

from ..broker import MOSQUITTO, Mosquitto
from ..city.payloads import unpack
from ..relay import HOST, Relay, hold_port
from . import bare, kills, wire
from .ear import Ear, Heard
from .figures import Figure, document, table
from .process import BenchError, Daemon, counters, memory_kb
from .site import CONFIG_ID, GATEWAY, STREAMS, WINDOW_S, RealDevices, Stock, windows, write_config

WRONG, UNREACHABLE = 1, 69

UNPACED = "backlog_bytes_per_s = 1000000000000"
# Each message would be a line of Mosquitto's log, and a queue that overflows is no loss of ours.
BROKER_OPTIONS = ("log_type none", "max_queued_messages 0")

START_S = 60.0
DRAIN_S = 900.0
QUIET_S = 1.5
PRESENT_S, LATE_S = 8.0, 60.0  # after the connection: the newest are there; on a loaded machine
SETTLE_S = 30.0  # imports, warm-up and the first commits are not the running cost
AFTER_THE_MINUTE_S = 25  # records of the last window have gone, those of the next are far
APPENDS_BETWEEN_PACKS = 50
WARM_APPENDS = 20

FIGURES = (
    Figure(
        "drain_records_per_s",
        "backlog to PUBACK",
        200_000,
        at_least=True,
        peers="thingsboard-gateway 24,000-46,800; Mosquitto bridge 27,000",
    ),
    Figure("drain_ratio_to_paho", "the same messages from memory", 0.2, at_least=True),
    Figure(
        "backlog_rss_growth_mb",
        "memory for the backlog",
        3.0,
        peers="at 100,000: thingsboard-gateway +35 (sqlite); bridge +40; bare paho +120",
    ),
    Figure(
        "start_with_backlog_s",
        "start to the first record",
        1.5,
        peers="thingsboard-gateway 1.43-1.61 to its first publish, with nothing waiting",
    ),
    Figure(
        "newest_after_outage_s",
        "connection to the newest of each sensor",
        2.0,
        peers="thingsboard-gateway 16-17 to its first arrival; Mosquitto bridge 2.6-4.6",
    ),
    Figure(
        "disk_mb_per_hour",
        "written by the daemon",
        1.5,
        peers="thingsboard-gateway, one sensor at 1 Hz: 75 (sqlite)",
    ),
    Figure(
        "wire_b_per_record",
        "live, plain",
        700.0,
        peers="of one reading: bare paho 344; thingsboard-gateway 189-342",
    ),
    Figure("wire_other_b_per_hour", "health and keepalive"),
    Figure("wire_b_per_record_backlog", "backlog, deflated", 45.0),
    Figure(
        "lost_after_kill",
        "of 60,000 and more",
        0,
        peers="thingsboard-gateway 20,000 of 20,000; bridge 92,446-100,000 of 100,000",
    ),
    Figure("duplicates_after_kill", "sent again"),
    Figure(
        "enqueue_ratio_full_to_empty",
        "append with the backlog",
        1.2,
    ),
)
KEYS = tuple(figure.key for figure in FIGURES)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured for how long."""

    records: int = 1_000_000
    repeats: int = 3
    settle_s: float = 10.0  # before the memory is read
    appends: int = 600
    outage_s: int = WINDOW_S  # a window ends in it
    running_s: int = 600
    wire_records: int = 8000
    kill_records: int = 20_000


FULL = Scale()
QUICK = Scale(
    records=200_000, repeats=1, settle_s=5.0, appends=300, running_s=180, wire_records=1600
)


def measure(
    keys: frozenset[str], scale: Scale, say: Callable[[str], None], stock: Stock | None = None
) -> dict[str, float]:
    """Return the figures of `keys`, in the table's order. Raises BenchError.

    `stock` is a backlog that there is already, of as many records as `scale` says.
    """
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="yukimi-bench-") as name:
        bench = _Bench(Path(name), scale, say, stock)
        for made, work in (
            (("lost_after_kill", "duplicates_after_kill"), bench.kill),
            (("backlog_rss_growth_mb",), bench.grow),
            (("start_with_backlog_s",), bench.start),
            (("newest_after_outage_s",), bench.present),
            (("enqueue_ratio_full_to_empty",), bench.append),
            (("drain_records_per_s", "drain_ratio_to_paho"), bench.drain),
            (("wire_b_per_record_backlog",), bench.weigh_backlog),
            (("disk_mb_per_hour", "wire_b_per_record", "wire_other_b_per_hour"), bench.live),
        ):
            if keys & set(made):
                values |= work()
    return {key: values[key] for key in KEYS if key in keys}


def first_live_s(messages: Iterable[Heard], birth: Heard) -> dict[str, float]:
    """Return by stream how many seconds after `birth` its first live record came.

    What follows the birth is told by order, not by time: one read may bring both.
    """
    first: dict[str, float] = {}
    for heard in dropwhile(lambda heard: heard != birth, messages):
        if heard.packet.lane == "live":
            for record in unpack(heard.packet.payload)["records"]:
                first.setdefault(record["stream"], heard.at_s - birth.at_s)
    return first


class _Bench:
    """The measurements, each in folders of its own; the stock of records is made once."""

    def __init__(
        self, folder: Path, scale: Scale, say: Callable[[str], None], stock: Stock | None
    ) -> None:
        self._folder = folder
        self._scale = scale
        self._say = say
        self._stock = stock

    def drain(self) -> dict[str, float]:
        """Drain the backlog, and let bare paho publish the same messages."""
        ours: list[float] = []
        theirs: dict[str, list[float]] = {way: [] for way in bare.WAYS}
        with Mosquitto(extra=BROKER_OPTIONS) as broker:
            for _ in range(self._scale.repeats):
                rate, messages = self._drain_once(broker)
                self._say(f"drained {self._scale.records:,} at {rate:,.0f} records/s")
                ours.append(rate)
                for way in bare.WAYS:
                    took_s = self._publish_bare(broker, messages, way)
                    rates = [self._scale.records / each_s for each_s in took_s]
                    self._say(f"bare paho, {way}: " + ", ".join(f"{r:,.0f}" for r in rates))
                    theirs[way] += rates
        own = statistics.median(ours)
        best = max(statistics.median(rates) for rates in theirs.values())
        return {"drain_records_per_s": round(own), "drain_ratio_to_paho": round(own / best, 3)}

    def grow(self) -> dict[str, float]:
        """Start without a broker, with the backlog and without it."""
        resident: dict[bool, list[float]] = {True: [], False: []}
        with hold_port() as nobody:
            for is_full, of_kind in resident.items():
                with self._gateway(is_full, port=nobody.getsockname()[1]) as config:
                    for _ in range(self._scale.repeats):
                        config.with_name("control.sock").unlink(missing_ok=True)
                        with Daemon(config) as daemon:
                            _wait_up(daemon, config.parent)
                            time.sleep(self._scale.settle_s)
                            daemon.check_alive()
                            of_kind.append(memory_kb(daemon.pid, "Rss") / 1024)
        full_mb, empty_mb = (statistics.median(resident[is_full]) for is_full in (True, False))
        self._say(f"resident {full_mb:.1f} MB with the backlog, {empty_mb:.1f} MB without")
        return {"backlog_rss_growth_mb": round(full_mb - empty_mb, 2)}

    def start(self) -> dict[str, float]:
        """Start with the backlog waiting, until the first record is there."""
        took_s = []
        with Mosquitto(extra=BROKER_OPTIONS) as broker, self._gateway(True, broker.port) as config:
            for _ in range(self._scale.repeats):
                with Ear(broker.host, broker.port) as ear, Daemon(config) as daemon:
                    first = ear.wait_for(
                        lambda heard: heard.packet.topic.endswith("/live/gateway"),
                        daemon.check_alive,
                        START_S,
                    )
                    took_s.append(first.at_s - daemon.started_s)
        self._say("first record after " + ", ".join(f"{each:.2f}" for each in took_s) + " s")
        return {"start_with_backlog_s": round(statistics.median(took_s), 2)}

    def present(self) -> dict[str, float]:
        """Cut the network under eight sensors and a backlog; time the newest record of each."""
        with ExitStack() as stack:
            enter = stack.enter_context
            broker = enter(Mosquitto(extra=BROKER_OPTIONS))
            relay, row = enter(Relay(broker.host, broker.port)), enter(RealDevices())
            config = enter(self._gateway(True, relay.port, sensors=row.sensors()))
            ear = enter(Ear(broker.host, broker.port))
            daemon = enter(Daemon(config))
            ear.wait_for(lambda heard: heard.packet.lane == "live", daemon.check_alive, START_S)
            time.sleep((AFTER_THE_MINUTE_S - self._scale.outage_s - time.time()) % WINDOW_S)
            relay.cut()
            time.sleep(self._scale.outage_s)
            relay.resume()
            resumed_s = time.monotonic()

            def is_birth(heard: Heard) -> bool:
                packet = heard.packet
                is_online = b'"state":"online"' in packet.payload
                return heard.at_s > resumed_s and packet.topic.endswith("/status") and is_online

            connected = ear.wait_for(is_birth, daemon.check_alive, START_S)
            time.sleep(PRESENT_S)
            until_s = time.monotonic() + LATE_S
            newest = first_live_s(ear.messages(), connected)
            while len(newest) < STREAMS and time.monotonic() < until_s:
                time.sleep(1.0)
                newest = first_live_s(ear.messages(), connected)
        if len(newest) != STREAMS:
            raise BenchError(f"only {sorted(newest)} came within {PRESENT_S + LATE_S} s")
        self._say(f"newest after the outage: {max(newest.values()):.3f} s")
        return {"newest_after_outage_s": round(max(newest.values()), 3)}

    def append(self) -> dict[str, float]:
        """Append to a spool with the backlog and to one without, in turns."""
        batches = _windows(self._scale.appends + WARM_APPENDS)
        costs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        with ExitStack() as stack:
            spools = {}
            for is_full in costs:
                folder = stack.enter_context(self._gateway(is_full, port=1)).parent
                spool = Spool(
                    folder / "spool.db",
                    max_bytes=2**40,
                    run=f"append-{is_full}",
                    boot_id="",
                    gateway=GATEWAY,
                )
                stack.callback(spool.close, clean=True)
                spools[is_full] = spool
            for index, batch in enumerate(batches):
                for is_full, spool in spools.items():
                    wall_s, cpu_s = time.perf_counter(), time.thread_time()
                    spool.append(batch, CONFIG_ID)
                    spent = (time.perf_counter() - wall_s, time.thread_time() - cpu_s)
                    if index >= WARM_APPENDS:
                        costs[is_full].append(spent)
                    if index % APPENDS_BETWEEN_PACKS == 0:
                        spool.pack()
        ratios = []
        for column, name in enumerate(("wall", "processor")):
            full, empty = (statistics.median(c[column] for c in costs[k]) for k in (True, False))
            self._say(f"append, {name}: {full * 1e6:.0f} us with the backlog, {empty * 1e6:.0f} us")
            ratios.append(full / empty)
        return {"enqueue_ratio_full_to_empty": round(max(ratios), 3)}

    def weigh_backlog(self) -> dict[str, float]:
        """Count the bytes of a backlog under the default configuration."""
        records = self._scale.wire_records
        stock = Stock(self._room("backlog"), records, end_ns=_yesterday_ns())
        with two_doors() as (broker, city_port), Ear(broker.host, city_port) as ear:
            folder = self._room("gateway")
            stock.put(folder)
            config = write_config(folder, broker.port)
            with wire.Tap(broker.port) as tap, Daemon(config) as daemon:
                until_s = time.monotonic() + DRAIN_S
                while _records(ear, stock.run) < records:
                    daemon.check_alive()
                    if time.monotonic() > until_s:
                        raise BenchError("the backlog did not leave")
                    tap.pass_time(1.0)
                traffic = wire.weigh(tap.take(), "backlog")
        self._say(f"backlog: {traffic}")
        return {"wire_b_per_record_backlog": round(traffic.b_per_record, 1)}

    def live(self) -> dict[str, float]:
        """Run eight sensors at their real rates; count what is written and what is sent."""
        seconds = self._scale.running_s // WINDOW_S * WINDOW_S
        with two_doors() as (broker, city_port), Ear(broker.host, city_port), RealDevices() as row:
            config = write_config(self._room("live"), broker.port, sensors=row.sensors())
            with wire.Tap(broker.port) as tap, Daemon(config) as daemon:
                tap.pass_time(SETTLE_S)
                tap.pass_time((AFTER_THE_MINUTE_S - time.time()) % WINDOW_S)
                daemon.check_alive()
                tap.take()
                before, began_s = counters(daemon.pid), time.monotonic()
                tap.pass_time(seconds)
                daemon.check_alive()
                after, took_s = counters(daemon.pid), time.monotonic() - began_s
                traffic = wire.weigh(tap.take(), "live")
        self._say(f"live: {traffic}")
        if traffic.records != STREAMS * seconds // WINDOW_S:
            raise BenchError(f"{traffic.records} records went in {seconds} s")
        written = after["written_bytes"] - before["written_bytes"]
        return {
            "disk_mb_per_hour": round(written / 2**20 * 3600 / took_s, 2),
            "wire_b_per_record": round(traffic.b_per_record, 1),
            "wire_other_b_per_hour": round(traffic.other_bytes * 3600 / took_s),
        }

    def kill(self) -> dict[str, float]:
        """Kill the daemon in each of its situations, and draw up the city's account."""
        outcome = kills.measure(self._room("kills"), self._scale.kill_records, self._say)
        return {"lost_after_kill": outcome.lost, "duplicates_after_kill": outcome.duplicates}

    def _drain_once(self, broker: Mosquitto) -> tuple[float, bare.Messages]:
        """Drain a full spool; return records a second, and the messages."""
        with (
            self._gateway(True, broker.port, UNPACED) as config,
            Ear(broker.host, broker.port) as ear,
            Daemon(config) as daemon,
        ):
            until_s = time.monotonic() + DRAIN_S
            while True:
                ear.wait_quiet(QUIET_S, daemon.check_alive)
                heard = [each for each in ear.messages() if each.packet.lane == "backlog"]
                if sum(each.packet.records for each in heard) >= self._scale.records:
                    break
                if time.monotonic() > until_s:
                    raise BenchError("the backlog did not leave")
            daemon.stop()
            _check_empty(config.parent / "spool.db")
        took_s = heard[-1].at_s - heard[0].at_s
        messages = [(each.packet.topic, each.packet.payload) for each in heard]
        return self._scale.records / took_s, messages

    def _publish_bare(self, broker: Mosquitto, messages: bare.Messages, way: str) -> list[float]:
        """Let bare paho publish `messages` in a process of its own; return each pass's seconds."""
        file = self._folder / "messages"
        file.write_bytes(pickle.dumps(messages))
        command = [sys.executable, "-m", "hil.bench.bare", str(broker.port), str(file), way]
        with Ear(broker.host, broker.port) as ear:
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            ear.wait_quiet(QUIET_S, lambda: None)
            heard = sum(each.packet.lane == "backlog" for each in ear.messages())
        if heard != bare.PASSES * len(messages):
            raise BenchError("the broker did not pass on what bare paho published")
        return [float(line) for line in answer.stdout.split()]

    @contextmanager
    def _gateway(
        self, is_full: bool, port: int, uplink: str = "", sensors: str | None = None
    ) -> Iterator[Path]:
        """Make a gateway with or without the backlog; give the path of its configuration."""
        if is_full and self._stock is None:
            began_s = time.monotonic()
            records = self._scale.records
            self._stock = Stock(self._room("stock"), records, end_ns=_yesterday_ns())
            size, took_s = self._stock.bytes / records, time.monotonic() - began_s
            self._say(f"{records:,} records made in {took_s:.0f} s, {size:.0f} bytes each on disk")
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            if is_full and self._stock is not None:
                self._stock.put(Path(name))
            yield write_config(Path(name), port, uplink=uplink, sensors=sensors)

    def _room(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder


@contextmanager
def two_doors(*options: str) -> Iterator[tuple[Mosquitto, int]]:
    """Give a broker with a second port for the city: the first carries the gateway alone."""
    with hold_port() as holder:
        port: int = holder.getsockname()[1]
        extra = (*BROKER_OPTIONS, *options, f"listener {port} {HOST}")
        with Mosquitto(extra=extra) as broker:
            yield broker, port


def _windows(count: int) -> list[list[Record]]:
    """Return the records of `count` windows, as the daemon commits them."""
    records = list(windows(count * STREAMS, end_ns=_yesterday_ns()))
    return [records[at : at + STREAMS] for at in range(0, len(records), STREAMS)]


def _records(ear: Ear, run: str) -> int:
    """Return how many records of `run` an ear has heard."""
    return sum(
        heard.packet.records for heard in ear.messages() if run.encode() in heard.packet.plain
    )


def _check_empty(path: Path) -> None:
    spool = Spool(path, max_bytes=2**40, run="the bench", boot_id="")
    try:
        waiting = sum(spool.waiting_by_run().values())
    finally:
        spool.close(clean=True)
    if waiting:
        raise BenchError(f"{waiting} records are in the spool after the drain")


def _wait_up(daemon: Daemon, folder: Path) -> None:
    """Wait until it can be asked: on a busy machine that takes its time."""
    until_s = time.monotonic() + START_S
    while not (folder / "control.sock").exists():
        daemon.check_alive()
        if time.monotonic() > until_s:
            raise BenchError("the daemon was never up")
        time.sleep(0.05)


def _yesterday_ns() -> int:
    """Return a time that is over, so that nothing of the backlog counts as live."""
    return time.time_ns() - 86_400 * 10**9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="fewer records, shorter, once")
    parser.add_argument("--records", type=int, metavar="N", help="how many wait")
    parser.add_argument(
        "--only", nargs="+", choices=KEYS, metavar="KEY", default=KEYS, help=", ".join(KEYS)
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    if not Path(MOSQUITTO).exists():
        print(f"no {MOSQUITTO}: apt install mosquitto", file=sys.stderr)
        return UNREACHABLE
    scale = QUICK if arguments.quick else FULL
    if arguments.records:
        scale = replace(scale, records=arguments.records)
    try:
        values = measure(frozenset(arguments.only), scale, _say)
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return UNREACHABLE
    if arguments.json:
        print(document(values))
    else:
        print("\n".join(table(FIGURES, values)))
    holds = all(each.holds(values[each.key]) for each in FIGURES if each.key in values)
    return 0 if holds else WRONG


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
