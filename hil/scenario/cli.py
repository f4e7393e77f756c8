"""`python -m hil run SCENARIO`: play it, print each expectation with what was measured, and report.

SCENARIO is one that comes with the bench (`--list`), or a file. Exit code 0: everything holds; 1:
something does not; 2: it cannot be played here, and why.
"""

from __future__ import annotations

import argparse
import errno
import math
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from config.load import ConfigError

from ..broker import MOSQUITTO, BrokerError
from .judge import Verdict
from .load import Loaded, load, names, path_of
from .series import UnavailableError
from .spans import said, seconds

HOLDS, FAILS, CANNOT = 0, 1, 2
PROGRESS_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    parser.add_argument("scenario", nargs="?", help="a name from --list, or a file")
    parser.add_argument("--list", action="store_true", help="list the scenarios of the bench")
    parser.add_argument("--on", choices=("process", "vpi"), default="process", help="the stage")
    parser.add_argument("--speed", type=_speed, metavar="N", help="at most so many times real time")
    parser.add_argument("--seed", type=int, help="another seed than the scenario's own")
    parser.add_argument("--lasts", help="end earlier, or later, than the scenario says: 6h")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write the report here")


def _speed(text: str) -> float:
    with suppress(ValueError):
        if 0 < (speed := float(text)) < math.inf:
            return speed
    raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")


def run(arguments: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    if arguments.list or arguments.scenario is None:
        return _list()
    try:
        loaded = load(path_of(arguments.scenario), seed=arguments.seed, on=arguments.on)
        if arguments.lasts is not None:
            loaded = loaded.lasting(seconds(arguments.lasts))
        if arguments.report is not None:
            arguments.report.open("a").close()  # nobody waits for a report that cannot be written
    except (ConfigError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return CANNOT
    except UnavailableError as exc:
        print(f"{arguments.scenario} is skipped: {exc}", file=sys.stderr)
        return CANNOT
    except OSError as exc:
        print(f"{arguments.report}: {exc.strerror}", file=sys.stderr)
        return CANNOT
    if not Path(MOSQUITTO).exists():
        print(f"there is no Mosquitto at {MOSQUITTO}: apt install mosquitto", file=sys.stderr)
        return CANNOT
    if arguments.on == "vpi":
        return _play_on_vpi(loaded, arguments.speed)
    return _play(loaded, arguments)


def _play_on_vpi(loaded: Loaded, speed: float | None) -> int:
    from ..vpi import stage
    from ..vpi.play import BuildError, play

    print(f"{loaded.scenario.title.en} / {loaded.scenario.title.ja}, on a virtual Pi")
    progress = _Progress(loaded.scenario.lasts)
    try:
        outcome = play(loaded, speed=speed, progress=progress)
    except (BuildError, stage.NotHereError, stage.MachineError, BrokerError) as exc:
        print(exc, file=sys.stderr)
        return CANNOT
    progress.end()
    for verdict in outcome.verdicts:
        print(_line(verdict))
    for note in outcome.notes:
        print(f"note: {note}")
    print("everything holds" if outcome.holds else "SOMETHING DOES NOT HOLD")
    return HOLDS if outcome.holds else FAILS


def _play(loaded: Loaded, arguments: argparse.Namespace) -> int:
    from .run import run as play  # what only playing needs is loaded only then

    title, lasts_s = loaded.scenario.title, loaded.scenario.lasts
    print(
        f"{title.en} / {title.ja}: {said(lasts_s)} from {loaded.scenario.start:%Y-%m-%d %H:%M %Z}"
    )
    progress = _Progress(lasts_s)
    try:
        outcome = play(
            loaded,
            speed=arguments.speed,
            with_page=arguments.report is not None,
            progress=progress,
        )
    except (BrokerError, UnavailableError) as exc:
        print(f"{loaded.name} cannot be played here: {exc}", file=sys.stderr)
        return CANNOT
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        where = tempfile.gettempdir()
        print(f"{loaded.name} cannot be played here: {where} is full", file=sys.stderr)
        return CANNOT
    progress.end()
    ran = outcome.ran
    for verdict in outcome.verdicts:
        print(_line(verdict))
    for note in outcome.notes:
        print(f"note: {note}")
    print(
        f"{said(round(ran.played_s))} in {ran.took_s:.1f} s,"
        f" {ran.played_s / ran.took_s:,.0f} times real time: "
        + ("everything holds" if outcome.holds else "SOMETHING DOES NOT HOLD")
    )
    if arguments.report is not None and outcome.page is not None:
        arguments.report.write_text(outcome.page, encoding="utf-8")
        print(f"report: {arguments.report}")
    return HOLDS if outcome.holds else FAILS


def _list() -> int:
    for name in names():
        try:
            scenario = load(path_of(name)).scenario
        except UnavailableError as exc:
            print(f"{name:<16} (skipped: {exc})")
            continue
        print(f"{name:<16} {said(scenario.lasts):<9} {scenario.summary.en}")
        print(f"{'':<26} {scenario.summary.ja}")
    return HOLDS


def _line(verdict: Verdict) -> str:
    word = "PASS" if verdict.holds else "FAIL"
    return f"{word}  {verdict.what}: {verdict.measured}  (wanted: {verdict.wanted})"


class _Progress:
    """One line that says how far it is, where somebody looks."""

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._began_s = self._said_s = time.monotonic()
        self._is_seen = sys.stderr.isatty()

    def __call__(self, now_s: float) -> None:
        real_s = time.monotonic()
        if self._is_seen and real_s - self._said_s > PROGRESS_S:
            self._said_s = real_s
            speed = now_s / (real_s - self._began_s)
            share = min(1.0, now_s / self._lasts_s)
            print(
                f"\r{share:5.1%}  {said(round(now_s)):<16} {speed:8,.0f} x", end="", file=sys.stderr
            )

    def end(self) -> None:
        """Leave the line."""
        if self._is_seen:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
