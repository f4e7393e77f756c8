"""`yukimi spool status|verify|export`: what waits, is it intact, a copy to carry by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from config.places import default_path

from . import (
    BAD_CONFIG,
    IO_ERROR,
    OK,
    UNREACHABLE,
    USAGE,
    WRONG,
    add_config,
    add_json,
    complain,
)
from . import _spool as show
from .language import Text, said

if TYPE_CHECKING:
    from agent.spoolview import Source

TRIES = 3  # of a file that changes while it is read
EXAMPLES = (
    ("yukimi spool status", Text("how many records wait?", "未送信の記録の件数を確認します")),
    ("yukimi spool verify", Text("are they intact?", "破損がないか検査します")),
    (
        "yukimi spool export -o /media/usb/records.jsonl",
        Text(
            "copy them to a stick, for the city to import",
            "USBメモリーに複写し、市のシステムへ手渡しします",
        ),
    ),
)

HELP = {
    "status": Text("what waits", "未送信の記録の状況"),
    "verify": Text("is it intact, number by number", "破損や番号の矛盾がないかの検査"),
    "export": Text(
        "copy what waits to a file of JSON lines, one batch a line",
        "未送信の記録をJSON Lines形式（1行に1バッチ）で複写します",
    ),
    "file": Text(
        "a spool's file, as of a card in a reader; nobody is asked",
        "保存ファイルを直接指定します（取り外したカードなど）。ゲートウェイには問い合わせません",
    ),
    "output": Text("a new file", "新しいファイル"),
    "estimated": Text(
        "leave out records that still wait for the clock",
        "時刻の確定を待っている記録を除きます",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="status|verify|export")
    for name in ("status", "verify", "export"):
        action = actions.add_parser(name, help=said(HELP[name]))
        if name == "export":
            action.add_argument(
                "-o",
                "--output",
                type=Path,
                required=True,
                metavar="FILE",
                help=said(HELP["output"]),
            )
            action.add_argument(
                "--without-estimated", action="store_true", help=said(HELP["estimated"])
            )
        action.add_argument("--file", type=Path, metavar="SPOOL", help=said(HELP["file"]))
        add_config(action)
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Look at the spool."""
    from agent.asking import NotAnsweredError
    from agent.resting import ChangedError, UnusableError
    from agent.spool import SpoolError
    from agent.spoolview import RestlessError
    from config.load import ConfigError

    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "status": _status,
        "verify": _verify,
        "export": _export,
    }
    try:
        for _ in range(TRIES):
            try:
                return actions[arguments.action](arguments)
            except ChangedError as exc:
                changed = exc
        complain(changed)
        return UNREACHABLE
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    except UnusableError as exc:
        complain(exc)
        if arguments.json and arguments.action == "verify":  # it was asked whether it is intact
            told = {"ok": False, "problems": [str(exc)], "count": 1, "streams": []}
            show.print_json({"action": "verify"} | told)
        return WRONG
    except NotAnsweredError as exc:
        complain(Text(exc.text.en, exc.text.ja))
        return UNREACHABLE if exc.is_unreachable else WRONG
    except RestlessError as exc:
        complain(exc)
        return UNREACHABLE
    except SpoolError as exc:
        complain(exc)
        return IO_ERROR
    except FileNotFoundError as exc:
        return _nothing_there(arguments, Path(exc.filename))


@contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[Source]:
    from agent.spoolopen import open_spool

    config_file: Path = arguments.config or default_path()
    needs_gateway = arguments.action == "export"
    with open_spool(config_file, arguments.file, needs_gateway=needs_gateway) as source:
        yield source


def _status(arguments: argparse.Namespace) -> int:
    from agent.spoolopen import described

    with _source(arguments) as source:
        figures = source.figures()
        source.check_still()
    if arguments.json:
        show.print_json({"action": "status", **described(source, figures)})
        return OK
    for line in show.lines(source, figures):
        print(line)
    return OK


def _verify(arguments: argparse.Namespace) -> int:
    from agent.spoolopen import named
    from agent.spoolverify import Examination
    from agent.spoolview import walk

    with _source(arguments) as source:
        examination = Examination()
        wrong = source.what_is_wrong()
        if wrong is None:  # else there is no telling where reading ends
            for _ in walk(source, examination):
                pass
            figures = source.figures()
            examination.close(figures)
            streams = examination.streams(figures)
        else:
            streams = []
        source.check_still()
    problems = [*([wrong] if wrong is not None else []), *examination.problems]
    count = examination.wrong + (wrong is not None)
    if arguments.json:
        show.print_json(
            {"action": "verify", "ok": not count, **named(source)}
            | {"problems": problems, "count": count, "streams": streams}
        )
        return WRONG if count else OK
    total = {
        name: sum(page[name] for page in streams)
        for name in ("produced", "gone", "waiting", "lost")
    }
    print(show.heading(source))
    if not count:
        print(f"  {said(show.SOUND, entries=examination.entries, **total)}")
        return OK
    for problem in problems:
        print(f"  {problem}")
    complain(said(show.NOT_SOUND, count=count))
    todo = show.TO_DO_RUNNING if source.about.is_in_use else show.TO_DO_RESTING
    complain(said(todo, name=Path(source.about.path).name))
    return WRONG


def _export(arguments: argparse.Namespace) -> int:
    from agent.newfile import new_file
    from agent.spoolexport import Export
    from agent.spoolopen import named
    from agent.spoolview import walk

    path: Path = arguments.output
    if path.exists() or path.is_symlink():
        complain(said(show.IS_THERE, file=path))
        return USAGE
    written = 0
    with _source(arguments) as source:
        export = Export(str(source.about.gateway), with_held=not arguments.without_estimated)
        try:
            with new_file(path) as file:
                for line in walk(source, export):
                    written += file.write(line)
                for line in export.close():
                    written += file.write(line)
                source.check_still()
                if not written:
                    raise _NothingError
        except _NothingError:
            path = Path()
        except FileExistsError:
            complain(said(show.IS_THERE, file=path))
            return USAGE
        except OSError as exc:
            complain(said(show.NO_WRITE, file=path, why=exc.strerror or exc))
            return IO_ERROR
    if arguments.json:
        show.print_json(
            {"action": "export", **named(source), "file": str(path) if written else None}
            | {"batches": export.batches, "records": export.records, "lost": export.lost}
            | {"estimated": 0 if arguments.without_estimated else export.held}
            | {"left_out": export.held if arguments.without_estimated else 0}
            | {"damaged": len(export.damaged), "bytes": written}
        )
    else:
        show.tell_export(export, path, written, left_out=arguments.without_estimated)
    return WRONG if export.damaged else OK


class _NothingError(Exception):
    """Nothing waits."""


def _nothing_there(arguments: argparse.Namespace, path: Path) -> int:
    if arguments.file is not None:
        complain(said(Text("{path}: no such file", "{path}: ファイルがありません"), path=path))
        return IO_ERROR
    if arguments.json:
        show.print_json({"action": arguments.action, "ok": True, "path": str(path), "waiting": 0})
    else:
        print(said(show.NOTHING_THERE, path=path))
    return OK
