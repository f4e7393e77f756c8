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
    """Run until SIGTERM or SIGINT; a second signal does not wait. SIGHUP reloads."""
    signals = _Signals()  # before anything: SIGHUP would end a process that is still loading
    from agent import hardening, logs

    hardening.keep_memory_to_itself()
    from agent.daemon import Daemon
    from agent.spool import SpoolError
    from agent.supervisor import ThreadDiedError

    logs.configure(arguments.log_level)
    logs.hush()
    if not hardening.lock_memory() and hardening.may_be_swapped():
        complain(
            "warning: what is seen of people may reach the disk by way of swap: switch swap off, "
            "or let the service have LimitMEMLOCK=infinity"
        )
    path = arguments.config or default_path()
    try:
        Daemon(path, signals, say=complain).run()
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
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
