"""`yukimi run`: the daemon."""

from __future__ import annotations

import argparse
import signal

from agent.wake import Wake
from config.load import ConfigError, default_path

from . import BAD_CONFIG, IO_ERROR, OK, WRONG, add_config, complain
from .language import Text, said
from .parsing import Example

EXAMPLES: tuple[Example, ...] = (
    (
        "yukimi run --config config/examples/simulated.toml",
        Text(
            "simulated sensors, sent to a broker on this machine",
            "模擬センサーの記録を、この計算機の中継サーバーへ送信します",
        ),
    ),
    (
        "yukimi run --log-level warning",
        Text(
            "the installed configuration, with little in the log",
            "導入済みの設定で、ログを控えめにします",
        ),
    ),
)


SWAPPED = Text(
    "warning: what is seen of people may reach the disk by way of swap: switch swap off, or let "
    "the service have LimitMEMLOCK=infinity",
    "警告: 通行者の情報がスワップを通じて記憶媒体に残るおそれがあります。スワップを停止するか、"
    "サービスに LimitMEMLOCK=infinity を設定してください",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_config(parser)
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning"),
        default="info",
        help=said(Text("how much to log", "ログの詳しさ")),
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
        complain(SWAPPED)
    path = arguments.config or default_path()
    try:
        Daemon(path, signals, say=complain).run()
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    except SpoolError as exc:
        what = Text(
            "{error}; check the disk, and [spool] path in {path}",
            "{error}。記憶媒体と、{path} の [spool] path をご確認ください",
        )
        complain(what.filled(error=exc, path=path))
        return IO_ERROR
    except ThreadDiedError as exc:
        what = Text(
            "{error}; this is a bug, and the service manager starts the gateway again",
            "{error}。プログラムの不具合です。サービス管理が自動で再起動します",
        )
        complain(what.filled(error=exc))
        return WRONG
    return OK


class _Signals:
    """SIGTERM and SIGINT stop, SIGHUP reloads; a second SIGTERM or SIGINT does not wait."""

    def __init__(self) -> None:
        self.wake = Wake()
        self.must_stop = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, number: int, _frame: object) -> None:
        if number != signal.SIGHUP:
            self.must_stop = True
            signal.signal(number, signal.SIG_DFL)
        self.wake.set()
