"""What a gateway costs: the daemon as it is installed, at real rates, in one table.

The daemon is a process of its own, from an environment without extras, against Mosquitto on
loopback, and does what it does in a city: windows of 60 s, a spool on disk. "Eight sensors" are one
of three, and each figure says which:

street    eight.py: a radar, two road sensors, laser, ultrasonic gauge and lidar for the snow,
          weather, the cabinet's own; all answer from outside the daemon, so that every figure is
          its own. Windows are of 60 s, and people are told of by quarters of an hour: of real ones
          nothing shorter is released.
walkway   site.py: a thermal array and a light-beam pair in place of radar and lidar, emulated in
          the daemon, with numpy and gpiozero: rather too much. All eight windows are of 60 s, as
          is allowed of simulated people only: more is written and sent than any street would.
at 1 Hz   eight road sensors of 8 channels on one line, each asked each second.

Street, the street deflated and the walkway run side by side for --seconds, once both roads are
known to be frozen and slippery (some seven minutes, or --seconds where that is less). The rows of
growth.py run side by side too. All else runs alone. A figure is the median of repeated runs, or of
the minutes of a long one, and its least and its most are told; what is of an hour is scaled from
the whole time.

start_s                 process start to the birth at a subscriber: Mosquitto forwards a message and
                        acknowledges it in the same pass.
cpu_percent             user and system time, of one core.
wakeups_per_s           voluntary context switches.
threads_extra           beyond one for each bus.
disk_mb_per_hour        write_bytes of the process. syncs_per_hour: fsync and its like (strace).
wire_kb_per_hour        every packet from and to the broker as on Ethernet (wire.py).
venv_mb                 the environment's files, bytecode included.
aggregate_us_per_reading_N  to gather, judge and summarise a window of N readings (quality.py).
instructions_...        valgrind's count of Python, its libraries and ours, of the street.
alert_, pipeline_, decode_us_   of the benches of those names, in their quick form.
backlog_, drain_, start_with_backlog_   growth.py: 1h and 30d of an outage, else a million records.
machine_...             noise.py: was it quiet?
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from ..broker import MOSQUITTO
from . import alerts, decoders, delivery, growth, instructions, peers, pipeline, quality, report
from .eight import BUSES, SENSORS, EightOutside, RoadSensors
from .figures import Figure, Samples, medians
from .install import Install, install
from .noise import Machine
from .process import BenchError
from .running import MINUTE_S, Load, gateway, side_by_side
from .site import RealDevices

WRONG, UNREACHABLE = 1, 69
SECONDS, REPEATS, STARTS_EACH = 900.0, 3, 2  # a quarter of an hour has its people once
# What begins once is no running cost: imports, warm-up, the first commits, and alerts. Both roads
# are found frozen with their first windows, and slippery five minutes later.
SETTLE_S = 400.0
ASKED_SETTLE_S, ASKED_S = 10.0, 20.0
ALERTS = 200
DECODE_S = 20.0  # simulated
AGGREGATED = (6, 60, 6000)

_OUTAGES = ("1h", "30d")
_DELIVERY = {figure.key: figure for figure in delivery.FIGURES}
DECODED = tuple(dict.fromkeys(driver for driver, _ in pipeline.SITE.values()))

FIGURES = (
    Figure("rss_mb", "resident, street", 52, peers="thingsboard-gateway 61 (1 sensor)"),
    Figure("rss_ratio_to_thingsboard", "to its smallest, in this run", 0.85),
    Figure("rss_kb_per_sensor", "further sensor, 1 to 64", 100),
    Figure("cpu_percent", "of one core, street", 1.0, peers="thingsboard-gateway sqlite 5.9"),
    Figure("wakeups_per_s", "eight at 1 Hz", 30, peers="thingsboard-gateway 230-400"),
    Figure("start_s", "to the birth's PUBACK, street", 0.6, peers="thingsboard-gateway 1.4-1.7"),
    Figure("threads_extra", "beyond one a bus, street", 5, peers="thingsboard-gateway 18 in all"),
    Figure("disk_mb_per_hour", "written, street", 1.5, peers="thingsboard-gateway sqlite 75"),
    Figure("wire_kb_per_hour", "plain, street", 350, peers="700-1,200 (1 Hz of one sensor)"),
    Figure("wire_kb_per_hour_deflate", "deflated, street", 200),
    Figure("venv_mb", "installed", 110, peers="thingsboard-gateway 93"),
    Figure("pss_mb", "proportional, street"),
    Figure("threads", "in all, street"),
    Figure("wakeups_per_s_street", "at real rates"),
    Figure("syncs_per_hour", "fsync and its like, street"),
    Figure("rss_mb_walkway", "resident, emulation in it"),
    Figure("cpu_percent_walkway", "emulation in it"),
    Figure("disk_mb_per_hour_walkway", "written, people by the minute"),
    Figure("wire_kb_per_hour_walkway", "plain, people by the minute"),
    *(
        Figure(f"{key}_{name}", f"{what}, {of}")
        for name, of in (
            ("idle", "one sensor a minute"),
            *((str(n), f"{n} sensor{'s'[: n > 1]} each 10 s") for n in growth.ROWS),
        )
        for key, what in (
            ("rss_mb", "resident"),
            ("pss_mb", "proportional"),
            ("cpu_percent", "of one core"),
            ("wakeups_per_s", "wake-ups"),
        )
    ),
    *alerts.FIGURES,
    *(Figure(f"backlog_disk_mb_{said}", f"spool, outage of {said}") for said in _OUTAGES),
    Figure("backlog_disk_mb", "spool, 1,000,000 waiting"),
    *(Figure(f"backlog_rss_growth_mb_{said}", f"outage of {said}") for said in _OUTAGES),
    _DELIVERY["backlog_rss_growth_mb"],
    Figure("drain_records_per_s_30d", "outage of 30d leaves", 200_000, at_least=True),
    *(_DELIVERY[key] for key in ("drain_records_per_s", "start_with_backlog_s")),
    *(Figure(f"decode_us_{driver}", "a frame") for driver in DECODED),
    *(Figure(f"aggregate_us_per_reading_{n}", f"in a window of {n}") for n in AGGREGATED),
    *(replace(figure, key=f"pipeline_{figure.key}") for figure in pipeline.FIGURES),
    Figure("instructions_start_millions", "start to the birth, street"),
    Figure("instructions_per_s_millions", "at real rates, street"),
    Figure("machine_load_before", "of this machine"),
    Figure("machine_steal_percent", "given to others by its host"),
    Figure("machine_noise_percent", "slowest to median of the same work"),
    Figure("machine_ms_before", "the same work"),
    Figure("machine_ms_after", "the same work"),
)


def own(installed: Install, seconds: float, repeats: int, say: Callable[[str], None]) -> Samples:
    """Return what the daemon spends. Raises BenchError."""
    found: Samples = {"venv_mb": [round(installed.size_mb, 1)]}
    found["start_s"] = [_start_s(installed) for _ in range(STARTS_EACH * repeats)]
    say("started in " + ", ".join(f"{each:.2f}" for each in found["start_s"]) + " s")
    asked = Load(partial(RoadSensors, SENSORS, interval_s=1.0))
    found["wakeups_per_s"] = [
        side_by_side(
            installed,
            [asked],
            settle_s=min(ASKED_SETTLE_S, seconds),
            seconds=min(ASKED_S, seconds),
            slices=1,
        )[0].wakeups_per_s[0]
        for _ in range(repeats)
    ]
    say(f"wake-ups at 1 Hz: {found['wakeups_per_s']}")
    found |= growth.rows(installed, repeats, seconds, say, growth.ROWS)
    return found | _hours(installed, seconds, say)


def _hours(installed: Install, seconds: float, say: Callable[[str], None]) -> Samples:
    """Let street and walkway run side by side for long."""
    street, deflated, walkway = side_by_side(
        installed,
        [
            Load(EightOutside),
            Load(EightOutside, 'compression = "all"', counts_syncs=True),
            Load(RealDevices),
        ],
        settle_s=min(SETTLE_S, seconds),
        seconds=seconds,
        slices=max(1, round(seconds / MINUTE_S)),
    )
    say(f"street: {street}")
    say(f"deflated: {deflated}")
    say(f"walkway: {walkway}")
    return {
        "rss_mb": [round(street.rss_mb, 1)],
        "pss_mb": [round(street.pss_mb, 1)],
        "threads": [street.threads],
        "threads_extra": [street.threads - BUSES],
        "cpu_percent": street.cpu_percent,
        "wakeups_per_s_street": street.wakeups_per_s,
        "disk_mb_per_hour": [street.disk_mb_per_hour],
        "wire_kb_per_hour": [round(street.wire_kb_per_hour)],
        "wire_kb_per_hour_deflate": [round(deflated.wire_kb_per_hour)],
        "syncs_per_hour": [round(deflated.syncs_per_hour)],
        "rss_mb_walkway": [round(walkway.rss_mb, 1)],
        "cpu_percent_walkway": walkway.cpu_percent,
        "disk_mb_per_hour_walkway": [walkway.disk_mb_per_hour],
        "wire_kb_per_hour_walkway": [round(walkway.wire_kb_per_hour)],
    }


def _start_s(installed: Install) -> float:
    with gateway(installed, Load(EightOutside)) as running:
        return round(running.birth().at_s - running.daemon.started_s, 3)


def further(installed: Install, repeats: int, say: Callable[[str], None]) -> Samples:
    """Return what other benches measure: an alert's way, a backlog, the pipeline, decoding."""
    found: Samples = {}
    for driver in DECODED:
        costs = [decoders.measure(driver, for_s=DECODE_S, rounds=1) for _ in range(repeats)]
        found[f"decode_us_{driver}"] = [round(each.frame_us, 1) for each in costs]
    for samples in AGGREGATED:
        found[f"aggregate_us_per_reading_{samples}"] = [
            round((each.gather_us + each.judge_us + each.summarise_us) / samples, 2)
            for each in (quality.measure(samples) for _ in range(repeats))
        ]
    say("decoded and aggregated")
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    of_pipeline = pipeline.measure(pipeline.QUICK_PLAYED_S, rounds=1)
    structlog.configure(**before)
    found |= {f"pipeline_{key}": [value] for key, value in of_pipeline.items()}
    say("played through the pipeline")
    found |= {key: [value] for key, value in alerts.measure(ALERTS, say).items()}
    found |= growth.backlog(say)
    return found | instructions.measure(installed, say)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables of docs/cost.md, too"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the eights run")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="how often the short runs")
    parser.add_argument(
        "--peers", action="store_true", help="rivals beside it, installed into the cache"
    )
    parser.add_argument(
        "--own", action="store_true", help="the daemon's own cost only; no backlog, no alerts"
    )


def measure(arguments: argparse.Namespace) -> report.Outcome:
    """Measure everything that is asked for. Raises BenchError."""
    machine, installed, began_s = Machine(), install(), time.monotonic()
    found = own(installed, arguments.seconds, arguments.repeats, _say)
    rivals: dict[str, Samples] = {}
    if arguments.peers:
        rivals = peers.measure(installed, min(arguments.seconds, peers.SECONDS), _say)
        theirs = min(each["rss_mb"][0] for name, each in rivals.items() if "thingsboard" in name)
        found["rss_ratio_to_thingsboard"] = [round(found["rss_mb"][0] / theirs, 2)]
    if not arguments.own:
        found |= further(installed, arguments.repeats, _say)
    found |= machine.over()
    return report.Outcome(FIGURES, found, rivals, arguments.seconds, time.monotonic() - began_s)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    missing = "" if Path(MOSQUITTO).exists() else f"no {MOSQUITTO}: apt install mosquitto"
    if os.geteuid() != 0:  # a gateway lets nobody of its own user look
        missing = "only root may count a gateway's memory, disk writes and packets: use sudo"
    if missing:
        print(missing, file=sys.stderr)
        return UNREACHABLE
    try:
        outcome = measure(arguments)
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return UNREACHABLE
    if arguments.markdown is not None:
        arguments.markdown.write_text(report.markdown(outcome), encoding="utf-8")
    if arguments.json:
        of_peers = {name: medians(each) for name, each in outcome.rivals.items()}
        print(json.dumps({"figures": medians(outcome.found), "peers": of_peers}))
    else:
        print("\n".join(report.text(outcome)))
    return 0 if outcome.holds else WRONG


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
