"""`yukimi-city`: the far end. Takes what gateways send into a database, and says what is missing.

Exit codes are the gateway's: 0 done and healthy, 1 done and something is wrong, 2 wrong usage,
69 not reachable.
"""

from __future__ import annotations

import argparse
import gc
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import structlog

from agent import logs
from agent.wake import Wake

from .consumer import Consumer
from .databases import NAMED, opened
from .store import RowsRefusedError, StoreAwayError
from .wire import BrokerSettings

log = structlog.get_logger(part="city")

OK, WRONG, USAGE, AWAY = 0, 1, 2, 69
RETRY_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    parser = argparse.ArgumentParser(prog="yukimi-city", description="The city's end of yukimi.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_run(verbs.add_parser("run", help="take what gateways send into the database"))
    _add_account(verbs.add_parser("account", help="a day of every stream: what came, what did not"))
    _add_export(verbs.add_parser("export", help="to FIWARE, or as open data"))
    _add_serve(verbs.add_parser("serve", help="a page for people, read only"))
    parsed = parser.parse_args(arguments)
    logs.configure(getattr(parsed, "log_level", "warning"))
    act: Callable[[argparse.Namespace], int] = parsed.act
    try:
        return act(parsed)
    except ZoneInfoNotFoundError as exc:
        print(f"yukimi-city: {exc.args[0]}", file=sys.stderr)
        return USAGE
    except (ValueError, OverflowError) as exc:  # a day after the last one overflows
        print(f"yukimi-city: {exc}", file=sys.stderr)
        return USAGE
    except (StoreAwayError, RowsRefusedError, OSError) as exc:
        print(f"yukimi-city: {exc}", file=sys.stderr)
        return AWAY


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", required=True, metavar="URL", help=NAMED)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(act=_run)
    _add_database(parser)
    own = BrokerSettings("")
    parser.add_argument("--broker", required=True, help="mqtt://HOST[:PORT] or mqtts://…")
    parser.add_argument("--topic-root", default=own.topic_root)
    parser.add_argument("--group", default=own.group, help="processes of one group share the work")
    parser.add_argument(
        "--instance",
        default=own.instance,
        help="this process in its group: each its own, and the same at every start",
    )
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    parser.add_argument(
        "--receive-maximum",
        type=_count,
        default=own.receive_maximum,
        help="messages in hand that are not in the database yet",
    )
    parser.add_argument("--session-expiry-s", type=_count, default=own.session_expiry_s)
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--ca-file", type=Path, help="mqtts: else the system's own")
    parser.add_argument("--cert-file", type=Path)
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--no-receipts", action="store_true", help="write no receipt topics")
    parser.add_argument(
        "--retire",
        action="store_true",
        help="take over what waits for this instance, end its session, and exit",
    )
    parser.add_argument("--log-level", choices=tuple(logs.LEVELS), default="info")


def _add_account(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(act=_verb("account_verb"))
    _add_database(parser)
    parser.add_argument("--day", metavar="YYYY-MM-DD", help="default: yesterday")
    parser.add_argument("--timezone", default="Asia/Tokyo", help="whose days these are")
    parser.add_argument("--gateway", metavar="ID", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page, besides")


def _add_export(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    csv = formats.add_parser("csv", help="a month's files: people, snow, roads")
    csv.add_argument("--month", required=True, metavar="YYYY-MM")
    csv.add_argument("--out", type=Path, default=Path(), metavar="DIR")
    fiware = formats.add_parser("fiware", help="each sensor's newest record, or a day")
    fiware.add_argument(
        "--to",
        required=True,
        metavar="URL",
        help="http(s)://… a context broker (NGSI-LD); mqtt://… an IoT Agent for JSON",
    )
    fiware.add_argument("--day", metavar="YYYY-MM-DD", help="all records of a day, in order")
    fiware.add_argument("--follow", action="store_true", help="go on, until stopped")
    fiware.add_argument("--every-s", type=_count, default=10)
    fiware.add_argument("--api-key", default="yukimi", help="of the IoT Agent's service group")
    fiware.add_argument("--tenant", help="NGSILD-Tenant")
    fiware.add_argument("--username")
    fiware.add_argument("--token-file", type=Path, help="bearer token, or MQTT password")
    for each in (csv, fiware):
        each.set_defaults(act=_verb("export_verb"))
        _add_database(each)
        each.add_argument("--timezone", default="Asia/Tokyo")
        each.add_argument("--gateway", metavar="ID", help="only this one")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(act=_verb("serve_verb"))
    _add_database(parser)
    parser.add_argument("--host", default="127.0.0.1", help="it asks nobody who they are")
    parser.add_argument("--port", type=_count, default=8086)
    parser.add_argument("--timezone", default="Asia/Tokyo")


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 0xFFFFFFFF:
        raise argparse.ArgumentTypeError("a whole number from 1 on")
    return number


def _settings(parsed: argparse.Namespace) -> BrokerSettings:
    password = parsed.password_file and parsed.password_file.read_text().rstrip("\n")
    tls = None
    if parsed.broker.startswith("mqtts:"):
        tls = ssl.create_default_context(cafile=parsed.ca_file)
        if parsed.cert_file:
            tls.load_cert_chain(parsed.cert_file, parsed.key_file)
    settings = BrokerSettings(
        parsed.broker,
        topic_root=parsed.topic_root,
        group=parsed.group,
        instance=parsed.instance,
        protocol=parsed.protocol,
        receive_maximum=min(parsed.receive_maximum, 0xFFFF),
        session_expiry_s=parsed.session_expiry_s,
        username=parsed.username,
        password=password,
        tls=tls,
    )
    settings.address  # noqa: B018  # a wrong one is told at once
    return settings


def _run(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    # A payload is a tree: to look for cycles in it while it is read takes longer than to read it.
    gc.set_threshold(50_000)
    stopping = Wake()
    with opened(parsed.database) as store:
        consumer = Consumer(settings, store, receipts=not parsed.no_receipts)

        def stop(*_: object) -> None:
            stopping.set()
            consumer.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        told = ""
        while not stopping.is_set():
            try:
                store.migrate()
                break
            except StoreAwayError as exc:  # a database that starts after us
                if told != str(exc):
                    told = str(exc)
                    log.warning("no database; trying on", reason=told)
                stopping.wait(RETRY_S)
        if stopping.is_set():
            return OK
        if parsed.retire:
            consumer.retire()
        else:
            consumer.run()
    return OK


def _verb(name: str) -> Callable[[argparse.Namespace], int]:
    """Return what does a verb; its module is loaded when it is asked for."""

    def act(parsed: argparse.Namespace) -> int:
        code: int = import_module(f".{name}", __package__).act(parsed)
        return code

    return act


if __name__ == "__main__":
    sys.exit(main())
