"""`yukimi run`: the daemon."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import TYPE_CHECKING

from config.load import ConfigError, default_path

from . import BAD_CONFIG, IO_ERROR, OK, WRONG, add_config, complain

if TYPE_CHECKING:
    from agent.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_config(parser)
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning"), default="info", help="how much to log"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; a second signal does not wait. SIGHUP reloads."""
    from agent import logs
    from agent.app import Gateway
    from agent.plan import load_plan
    from agent.spool import SpoolError
    from agent.supervisor import ThreadDiedError

    logs.configure(arguments.log_level)
    path = arguments.config or default_path()
    try:
        plan = load_plan(path)
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    signals = _Signals()
    new_plan: Plan | None = plan

    def goes_on() -> bool:
        """Whether the gateway, woken by a signal, goes on as it is."""
        nonlocal new_plan
        if signals.must_stop:
            return False
        try:
            new_plan = load_plan(path)
        except ConfigError as exc:
            complain(f"reload refused, the old configuration goes on:\n{exc}")
            return True
        return False

    try:
        while new_plan is not None:
            plan, new_plan = new_plan, None
            for warning in plan.warnings:
                complain(f"warning: {warning}")
            Gateway(plan).run(signals.wake, goes_on)
    except SpoolError as exc:
        complain(f"{exc}; check the disk, and [spool] path in {path}")
        return IO_ERROR
    except ThreadDiedError as exc:
        complain(f"{exc}; this is a bug, and the service manager starts the gateway again")
        return WRONG
    return OK


class _Signals:
    """SIGTERM and SIGINT stop, SIGHUP reloads; a second SIGTERM or SIGINT does not wait."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.must_stop = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, number: int, _frame: object) -> None:
        if number != signal.SIGHUP:
            self.must_stop = True
            signal.signal(number, signal.SIG_DFL)
        self.wake.set()
