"""`yukimi run`: the daemon."""

from __future__ import annotations

import argparse
import signal
import threading

from config.load import ConfigError, default_path

from . import BAD_CONFIG, IO_ERROR, OK, WRONG, add_config, complain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_config(parser)
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning"), default="info", help="how much to log"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; a second signal does not wait."""
    from agent import logs
    from agent.app import Gateway
    from agent.plan import load_plan
    from agent.spool import SpoolError
    from agent.supervisor import ThreadDiedError

    logs.configure(arguments.log_level)
    try:
        plan = load_plan(arguments.config or default_path())
    except ConfigError as exc:
        for problem in exc.problems:
            complain(problem)
        return BAD_CONFIG
    for warning in plan.warnings:
        complain(f"warning: {warning}")
    stop = threading.Event()

    def ask_to_stop(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        Gateway(plan).run(stop)
    except SpoolError as exc:
        complain(f"{exc}; check the disk, and [spool] path in {plan.loaded.path}")
        return IO_ERROR
    except ThreadDiedError as exc:
        complain(f"{exc}; this is a bug, and the service manager starts the gateway again")
        return WRONG
    return OK
