"""What a gateway costs: the daemon as it is installed, at real rates, in one table.

The daemon is a process of its own, from an environment without extras, against Mosquitto on
loopback, and does what it does in a city: windows of 60 s, a spool on disk, eight sensors whose
devices answer from outside it (eight.py names them). Each figure is the median of repeated starts,
but for those of an hour, which are of one run and scaled from the minutes that it took.

rss_mb                  resident memory, at the end of the minutes at real rates.
rss_mb_walkway          the same with a thermal array and a light-beam pair in place of the radar
                        and the lidar (site.py): numpy and gpiozero come with them, and their
                        emulation, which has no outside, is in the daemon. Rather too much.
rss_kb_per_sensor       slope of resident memory over 1, 8, 32 and 64 road sensors of 8 channels.
cpu_percent             user and system time, of one core, eight sensors at real rates.
cpu_percent_1, _32      the same of so many road sensors, each asked each 10 s.
wakeups_per_s           voluntary context switches of all threads: eight sensors asked each second.
wakeups_per_s_real      the same of the eight at real rates: the lidar sends 100 frames a second.
wakeups_per_s_1, _32    the same of so many road sensors, each asked each 10 s.
start_s                 process start to the birth at a subscriber: Mosquitto forwards a message and
                        acknowledges it in the same pass.
threads, threads_extra  of the eight at real rates; and beyond one for each bus.
disk_mb_per_hour        write_bytes of the process; the larger of these two eights.
wire_kb_per_hour        every packet from and to the broker as on Ethernet (wire.py), plain, of the
                        eight with the walkway: there people, too, are told of each 60 s, as is
                        allowed of simulated ones only. _deflate: with `compression = "all"`.
venv_mb                 the environment's files, bytecode included.
alert_, drain_, backlog_, start_with_backlog_, pipeline_, decode_us_   of the benches of those
                        names, in their quick form; not with --own.
machine_noise_percent   how much longer the same work took at its slowest than at its median, while
                        nothing of ours ran: what others on this machine do to a figure in seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from ..broker import MOSQUITTO
from . import alerts, decoders, delivery, peers, pipeline, wire
from .delivery import two_doors
from .ear import Ear, Heard
from .eight import BUSES, SENSORS, EightOutside, RoadSensors
from .figures import Figure, shown, table
from .install import Install, install
from .process import BenchError, Daemon, counters, memory_kb
from .site import RealDevices, write_config

WRONG, UNREACHABLE = 1, 69
SECONDS, REPEATS = 600.0, 3
SETTLE_S = 30.0  # imports, warm-up and the first commits are not the running cost
ROW_S = 30.0  # rows of sensors are looked at no longer
START_S = 60.0
MINUTE_S, AFTER_THE_MINUTE_S = 60.0, 25.0
ROWS = (1, 8, 32, 64)
NOISE_ROUNDS, NOISE_WORK = 25, 200_000

FIGURES = (
    Figure("rss_mb", "resident", 52, peers="thingsboard-gateway 61 (1 sensor); bare paho 22"),
    Figure("rss_ratio_to_thingsboard", "at its smallest, in this run", 0.85),
    Figure("pss_mb", "its share of what is shared"),
    Figure("rss_mb_walkway", "resident, numpy, gpiozero and emulated devices in it"),
    Figure("rss_kb_per_sensor", "further sensor", 100),
    Figure("cpu_percent", "of one core", 1.0, peers="thingsboard-gateway sqlite 5.9 at 1 Hz"),
    Figure("cpu_percent_1", "one sensor"),
    Figure("cpu_percent_32", "32 sensors"),
    Figure("wakeups_per_s", "at 1 Hz", 30, peers="thingsboard-gateway 230-400"),
    Figure("wakeups_per_s_real", "at real rates"),
    Figure("wakeups_per_s_1", "one sensor"),
    Figure("wakeups_per_s_32", "32 sensors"),
    Figure("start_s", "to the birth's PUBACK", 0.6, peers="thingsboard-gateway 1.4-1.7"),
    Figure("threads", "in all", peers="thingsboard-gateway 18"),
    Figure("threads_extra", "beyond one a bus", 5),
    Figure("disk_mb_per_hour", "written", 1.5, peers="thingsboard-gateway sqlite 75"),
    Figure("wire_kb_per_hour", "plain", 350, peers="700-1,200 (1 Hz of one sensor)"),
    Figure("wire_kb_per_hour_deflate", "deflated", 200),
    Figure("venv_mb", "installed", 110, peers="thingsboard-gateway 93"),
    Figure("machine_noise_percent", "of this machine, now"),
)
DELIVERY = ("drain_records_per_s", "backlog_rss_growth_mb", "start_with_backlog_s")
DECODED = tuple(dict.fromkeys(driver for driver, _ in pipeline.SITE.values()))
DECODE_S = 60.0  # simulated
FURTHER = (
    *alerts.FIGURES,
    *(figure for figure in delivery.FIGURES if figure.key in DELIVERY),
    *(replace(figure, key=f"pipeline_{figure.key}") for figure in pipeline.FIGURES),
    *(Figure(f"decode_us_{driver}", "a frame") for driver in DECODED),
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a running daemon came to."""

    rss_mb: float
    pss_mb: float
    threads: int
    cpu_percent: float
    wakeups_per_s: float
    disk_mb_per_hour: float
    wire_kb_per_hour: float


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the bench: which gateway, how long, how often."""

    install: Install
    seconds: float
    repeats: int
    say: Callable[[str], None]

    def measure(self) -> dict[str, float]:
        """Return every figure of the daemon's own."""
        values: dict[str, float] = {"machine_noise_percent": noise_percent()}
        values["venv_mb"] = round(self.install.size_mb, 1)
        eight = self.running(EightOutside, self.seconds)
        values |= {
            "rss_mb": round(eight.rss_mb, 1),
            "pss_mb": round(eight.pss_mb, 1),
            "threads": eight.threads,
            "threads_extra": eight.threads - BUSES,
            "cpu_percent": round(eight.cpu_percent, 2),
            "wakeups_per_s_real": round(eight.wakeups_per_s, 1),
        }
        walkway = self.running(RealDevices, self.seconds)
        values |= {
            "rss_mb_walkway": round(walkway.rss_mb, 1),
            "disk_mb_per_hour": round(max(eight.disk_mb_per_hour, walkway.disk_mb_per_hour), 2),
            "wire_kb_per_hour": round(walkway.wire_kb_per_hour),
        }
        deflated = self.running(RealDevices, self.seconds, 'compression = "all"')
        values["wire_kb_per_hour_deflate"] = round(deflated.wire_kb_per_hour)
        short_s = min(self.seconds, ROW_S)
        asked = self.running(partial(RoadSensors, SENSORS, interval_s=1.0), short_s)
        values["wakeups_per_s"] = round(asked.wakeups_per_s, 1)
        values["start_s"] = self.start_s()
        return values | self.growth(short_s)

    def growth(self, seconds: float) -> dict[str, float]:
        """Return what further sensors cost."""
        values, resident_kb = {}, []
        for count in ROWS:
            row = self.running(partial(RoadSensors, count), seconds)
            resident_kb.append(row.rss_mb * 1024)
            if count in (1, 32):
                values[f"cpu_percent_{count}"] = round(row.cpu_percent, 2)
                values[f"wakeups_per_s_{count}"] = round(row.wakeups_per_s, 1)
        slope = statistics.linear_regression(ROWS, resident_kb).slope
        return values | {"rss_kb_per_sensor": round(slope, 1)}

    def start_s(self) -> float:
        """Return the median time from the start of the process to its birth."""
        took_s = []
        for _ in range(self.repeats):
            with self._gateway(EightOutside) as (daemon, ear, _):
                took_s.append(_born(daemon, ear).at_s - daemon.started_s)
        self.say("started in " + ", ".join(f"{each:.2f}" for each in took_s) + " s")
        return round(statistics.median(took_s), 2)

    def running(self, devices: Callable[[], Devices], seconds: float, uplink: str = "") -> Spent:
        """Run a gateway until it has settled and `seconds` longer.

        From a minute on it begins between two windows, so that none is cut in two.
        """
        with self._gateway(devices, uplink) as (daemon, ear, port):
            _born(daemon, ear)
            with wire.Tap(port) as tap:
                tap.pass_time(min(SETTLE_S, seconds))
                if seconds >= MINUTE_S:
                    tap.pass_time((AFTER_THE_MINUTE_S - time.time()) % MINUTE_S)
                daemon.check_alive()
                tap.take()
                before, began_s = counters(daemon.pid), time.monotonic()
                tap.pass_time(seconds)
                daemon.check_alive()
                after, took_s = counters(daemon.pid), time.monotonic() - began_s
                sent = wire.weigh(tap.take(), "live")
            spent = {name: after[name] - before[name] for name in after}
            found = Spent(
                memory_kb(daemon.pid, "Rss") / 1024,
                memory_kb(daemon.pid, "Pss") / 1024,
                len(list(Path(f"/proc/{daemon.pid}/task").iterdir())),
                100 * spent["cpu_s"] / took_s,
                spent["wakeups"] / took_s,
                spent["written_bytes"] / 2**20 * 3600 / took_s,
                (sent.record_bytes + sent.other_bytes) / 1024 * 3600 / took_s,
            )
        self.say(f"{found}")
        return found

    @contextmanager
    def _gateway(
        self, devices: Callable[[], Devices], uplink: str = ""
    ) -> Iterator[tuple[Daemon, Ear, int]]:
        with (
            tempfile.TemporaryDirectory(prefix="yukimi-bench-") as folder,
            two_doors() as (broker, city_port),
            Ear(broker.host, city_port) as ear,
            devices() as row,
        ):
            config = write_config(Path(folder), broker.port, uplink=uplink, sensors=row.sensors())
            with Daemon(config, python=self.install.python) as daemon:
                yield daemon, ear, broker.port


Devices = EightOutside | RoadSensors | RealDevices


def _born(daemon: Daemon, ear: Ear) -> Heard:
    def is_birth(heard: Heard) -> bool:
        return heard.packet.topic.endswith("/status") and b'"online"' in heard.packet.payload

    return ear.wait_for(is_birth, daemon.check_alive, START_S)


def noise_percent() -> float:
    """Do the same work again and again; return how far its slowest is from its median."""
    took_ns = []
    for _ in range(NOISE_ROUNDS):
        began_ns = time.perf_counter_ns()
        sum(range(NOISE_WORK))
        took_ns.append(time.perf_counter_ns() - began_ns)
    return round(100 * (max(took_ns) / statistics.median(took_ns) - 1), 1)


def further(say: Callable[[str], None]) -> dict[str, float]:
    """Return what other benches measure: an alert's way, a backlog, the pipeline, decoding."""
    values = alerts.measure(alerts.QUICK, say)
    values |= delivery.measure(frozenset(DELIVERY), delivery.QUICK, say)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    of_pipeline = pipeline.measure(pipeline.QUICK_PLAYED_S, rounds=1)
    values |= {f"pipeline_{key}": value for key, value in of_pipeline.items()}
    for driver in DECODED:
        frame_us = decoders.measure(driver, for_s=DECODE_S, rounds=1).frame_us
        values[f"decode_us_{driver}"] = round(frame_us, 1)
    return values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the eight run")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="how many starts")
    parser.add_argument(
        "--peers", action="store_true", help="rivals beside it, installed into the cache"
    )
    parser.add_argument(
        "--own", action="store_true", help="the daemon's own cost only; no backlog, no alerts"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    missing = "" if Path(MOSQUITTO).exists() else f"no {MOSQUITTO}: apt install mosquitto"
    if os.geteuid() != 0:  # a gateway lets nobody of its own user look
        missing = "only root may count a gateway's memory, disk writes and packets: use sudo"
    if missing:
        print(missing, file=sys.stderr)
        return UNREACHABLE
    try:
        bench = Bench(install(), arguments.seconds, arguments.repeats, _say)
        values = bench.measure()
        rivals = peers.measure(min(arguments.seconds, ROW_S), _say) if arguments.peers else {}
        if rivals:
            theirs = min(each["rss_mb"] for name, each in rivals.items() if "thingsboard" in name)
            values["rss_ratio_to_thingsboard"] = round(values["rss_mb"] / theirs, 2)
        if not arguments.own:
            values |= further(_say)
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return UNREACHABLE
    judged = (*FIGURES, *FURTHER)
    print(_document(values, rivals) if arguments.json else _page(judged, values, rivals, bench))
    holds = all(each.holds(values[each.key]) for each in judged if each.key in values)
    return 0 if holds else WRONG


def _document(values: Mapping[str, float], rivals: Mapping[str, Mapping[str, float]]) -> str:
    return json.dumps({"schema": "yukimi.bench/1", "figures": dict(values), "peers": rivals})


def _page(
    figures: tuple[Figure, ...],
    values: Mapping[str, float],
    rivals: Mapping[str, Mapping[str, float]],
    bench: Bench,
) -> str:
    lines = table(figures, values)
    for name, of_rival in rivals.items():
        told = (f"{key} {shown(value)}" for key, value in of_rival.items())
        lines += ["", f"{name}: {', '.join(told)}"]
    return "\n".join(
        [
            *lines,
            "",
            f"an hour is scaled from {bench.seconds:.0f} s",
            "the eight: radar hall-1; road-1, road-2; snow-1, snow-2, lidar snow-3; weather-1;"
            " cabinet-1",
        ]
    )


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
