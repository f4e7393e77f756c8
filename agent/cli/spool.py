"""`yukimi spool status|verify|export`: what waits, is it intact, a copy to carry by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.places import default_path

from . import BAD_CONFIG, IO_ERROR, OK, UNREACHABLE, USAGE, WRONG, add_config, add_json, complain
from .display import table
from .language import Text, said

if TYPE_CHECKING:
    from agent.spoolview import Figures, Source

SCHEMA = "yukimi.spool/1"
TRIES = 3  # of a file that changes while it is read
EXAMPLES = (
    ("yukimi spool status", Text("how many records wait?", "未送信の記録の件数を確認します")),
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

FROM_GATEWAY = Text("{path}, as the running gateway tells", "{path}（稼働中のゲートウェイの回答）")
FROM_FILE = Text(
    "{path}, read from the file; no gateway answers",
    "{path}（ファイルを読み取り。ゲートウェイの応答なし）",
)
NOTHING_THERE = Text(
    "{path}: nothing there yet; no record waits",
    "{path}: ファイルはまだありません。未送信の記録はありません",
)
WAITING = Text("{records} records wait", "未送信の記録: {records}件")
FOR_CLOCK = Text("{held} of them wait for the clock", "うち時刻の確定待ち: {held}件")
LOST = Text("{lost} numbers are lost, named in gaps", "欠測として通知する番号: {lost}件")
SPAN = Text("measured from {oldest} to {newest}", "測定期間: {oldest} から {newest} まで")
ROOM = Text("{used} of {room} on disk", "使用容量: {used} / {room}")
USED = Text("{used} on disk", "使用容量: {used}")
VOLATILE = Text(
    "in memory only, and lost with the power: {why}",
    "メモリー上にのみ保持しており、電源が切れると失われます: {why}",
)
ASIDE = Text(
    "a damaged file was set aside: {path} ({size}); what could be read of it waits here,"
    " delete it once nobody wants to look into it",
    "破損したファイルを退避してあります: {path}（{size}）。読み取れた記録は移してあります。"
    "調査が不要になれば削除してください",
)
HEAD = (
    Text("run", "稼働ID"),
    Text("waiting", "未送信"),
    Text("for the clock", "時刻待ち"),
    Text("lost", "欠測"),
    Text("ended", "終了"),
)
IN_ORDER = Text("in order", "正常")
NOT_IN_ORDER = Text("running or cut off", "稼働中または中断")
SOUND = Text(
    "sound: {entries} entries, and {produced} numbers accounted for:"
    " {gone} gone, {waiting} waiting, {lost} lost",
    "異常なし: {entries}項目、番号{produced}件の内訳は、"
    "送信済み{gone}件、未送信{waiting}件、欠測{lost}件",
)
NOT_SOUND = Text("{count} things are wrong", "異常が{count}件あります")
TO_DO_RUNNING = Text(
    "the gateway mends it at its next start: systemctl restart yukimi. It saves what can be read,"
    " names the rest in gaps, and keeps the damaged file beside as {name}.damaged",
    "次回の起動時に修復されます: systemctl restart yukimi。読み取れる記録を救出し、"
    "残りは欠測として通知します。破損したファイルは {name}.damaged として残ります",
)
TO_DO_RESTING = Text(
    "start the gateway: it saves what can be read, names the rest in gaps, and keeps the damaged"
    " file beside as {name}.damaged. Before that, copy the file and its -wal if somebody is to"
    " look into it",
    "ゲートウェイを起動すると、読み取れる記録を救出し、残りは欠測として通知します。"
    "破損したファイルは {name}.damaged として残ります。調査する場合は、"
    "起動前にファイルと -wal を複写してください",
)
NOTHING_TO_EXPORT = Text(
    "nothing waits; no file was written", "未送信の記録はないため、ファイルは作成していません"
)
EXPORTED = Text(
    "{file}: {records} records and {lost} lost numbers in {batches} lines, {size}",
    "{file}: 記録{records}件、欠測{lost}件を{batches}行に書き出しました（{size}）",
)
STAYS = Text(
    "they stay in the spool too and are delivered as soon as they can be; the city keeps each"
    " once, by its key",
    "記録は保存領域にも残り、通信が回復すれば送信されます。"
    "市のシステムでは番号により重複なく保管されます",
)
HELD_EXPORTED = Text(
    "{held} of them still wait for the clock and went out with their time estimated: if the"
    " gateway learns the time before the city imports the file, what it delivers is better",
    "うち{held}件は時刻の確定前のため、推定時刻のまま書き出しました。取り込みの前に時刻が"
    "確定すれば、送信される記録のほうが正確です",
)
HELD_LEFT = Text(
    "{held} records that wait for the clock were left out", "時刻の確定を待つ{held}件は除きました"
)
DAMAGED = Text(
    "{count} damaged entries were left out; see: yukimi spool verify",
    "破損した{count}項目は除きました。詳細: yukimi spool verify",
)
IS_THERE = Text(
    "{file}: is there already, and is not overwritten; name another file",
    "{file}: 既にあるため上書きしません。別の名前を指定してください",
)
NO_WRITE = Text("{file}: cannot be written: {why}", "{file}: 書き込めません: {why}")


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
    """Open what is asked for: a file that was named, the running gateway, else its file.

    Raises FileNotFoundError where there is no spool yet, SpoolError, ConfigError.
    """
    from agent.asking import Asking, NotAnsweredError, socket_path
    from agent.place import place_of
    from agent.resting import RestingSpool
    from agent.spoolanswers import AskedSpool

    config_file: Path = arguments.config or default_path()
    if arguments.file is not None:
        gateway = place_of(config_file).gateway.id if arguments.action == "export" else None
        with RestingSpool(arguments.file, gateway=gateway) as resting:
            yield resting
        return
    try:
        asking = Asking(socket_path(config_file)).__enter__()
    except NotAnsweredError:
        place = place_of(config_file)
        path, room = Path(place.spool.path), place.spool.max_bytes
        with RestingSpool(path, gateway=place.gateway.id, max_bytes=room) as resting:
            yield resting
        return
    with asking:
        yield AskedSpool(lambda name, asked: asking.ask(name, **asked))


def _status(arguments: argparse.Namespace) -> int:
    with _source(arguments) as source:
        figures = source.figures()
        source.check_still()
    if arguments.json:
        _print_json(_described(source, figures))
        return OK
    for line in _lines(source, figures):
        print(line)
    return OK


def _verify(arguments: argparse.Namespace) -> int:
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
        _print_json(
            {"action": "verify", "ok": not count, **_named(source)}
            | {"problems": problems, "count": count, "streams": streams}
        )
        return WRONG if count else OK
    total = {
        name: sum(page[name] for page in streams)
        for name in ("produced", "gone", "waiting", "lost")
    }
    print(_heading(source))
    if not count:
        print(f"  {said(SOUND, entries=examination.entries, **total)}")
        return OK
    for problem in problems:
        print(f"  {problem}")
    complain(said(NOT_SOUND, count=count))
    todo = TO_DO_RUNNING if source.about.is_in_use else TO_DO_RESTING
    complain(said(todo, name=Path(source.about.path).name))
    return WRONG


def _export(arguments: argparse.Namespace) -> int:
    from agent.newfile import new_file
    from agent.spoolexport import Export
    from agent.spoolview import walk

    path: Path = arguments.output
    if path.exists() or path.is_symlink():
        complain(said(IS_THERE, file=path))
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
            complain(said(IS_THERE, file=path))
            return USAGE
        except OSError as exc:
            complain(said(NO_WRITE, file=path, why=exc.strerror or exc))
            return IO_ERROR
    if arguments.json:
        _print_json(
            {"action": "export", **_named(source), "file": str(path) if written else None}
            | {"batches": export.batches, "records": export.records, "lost": export.lost}
            | {"estimated": 0 if arguments.without_estimated else export.held}
            | {"left_out": export.held if arguments.without_estimated else 0}
            | {"damaged": len(export.damaged), "bytes": written}
        )
    else:
        _tell_export(arguments, export, path, written)
    return WRONG if export.damaged else OK


class _NothingError(Exception):
    """Nothing waits."""


def _tell_export(arguments: argparse.Namespace, export: Any, path: Path, written: int) -> None:
    if written:
        figures = {"records": export.records, "lost": export.lost, "batches": export.batches}
        print(said(EXPORTED, file=path, size=_size(written), **figures))
        print(said(STAYS))
    else:
        print(said(NOTHING_TO_EXPORT))
    if export.held:
        left_out = arguments.without_estimated
        print(said(HELD_LEFT if left_out else HELD_EXPORTED, held=export.held))
    if export.damaged:
        complain(said(DAMAGED, count=len(export.damaged)))


def _nothing_there(arguments: argparse.Namespace, path: Path) -> int:
    if arguments.file is not None:
        complain(said(Text("{path}: no such file", "{path}: ファイルがありません"), path=path))
        return IO_ERROR
    if arguments.json:
        _print_json({"action": arguments.action, "ok": True, "path": str(path), "waiting": 0})
    else:
        print(said(NOTHING_THERE, path=path))
    return OK


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps({"schema": SCHEMA, **document}, ensure_ascii=False))


def _named(source: Source) -> dict[str, Any]:
    return {
        "from": "gateway" if source.about.is_in_use else "file",
        "gateway": source.about.gateway,
        "path": source.about.path,
    }


def _described(source: Source, figures: Figures) -> dict[str, Any]:
    about = source.about
    aside = _aside(Path(about.path))
    return {
        "action": "status",
        **_named(source),
        "bytes": about.bytes,
        "max_bytes": about.max_bytes,
        "why_volatile": about.why_volatile,
        "waiting": figures.records,
        "held": figures.held,
        "lost": figures.lost,
        "oldest": _utc(figures.oldest_ns),
        "newest": _utc(figures.newest_ns),
        "alarms": figures.alarms,
        "runs": [run.json() for run in figures.runs],
        "damaged_file": None if aside is None else {"path": str(aside[0]), "bytes": aside[1]},
    }


def _lines(source: Source, figures: Figures) -> Iterator[str]:
    about = source.about
    yield _heading(source)
    if about.why_volatile is not None:
        yield f"  {said(VOLATILE, why=about.why_volatile)}"
    yield f"  {said(WAITING, records=figures.records)}"
    if figures.held:
        yield f"  {said(FOR_CLOCK, held=figures.held)}"
    if figures.lost:
        yield f"  {said(LOST, lost=figures.lost)}"
    if figures.oldest_ns is not None and figures.newest_ns is not None:
        yield f"  {said(SPAN, oldest=_utc(figures.oldest_ns), newest=_utc(figures.newest_ns))}"
    used = _size(about.bytes)
    room = None if about.max_bytes is None else _size(about.max_bytes)
    yield f"  {said(USED, used=used) if room is None else said(ROOM, used=used, room=room)}"
    rows = [
        [run.run, str(run.records), str(run.held), str(run.lost)]
        + [said(IN_ORDER if run.is_clean else NOT_IN_ORDER)]
        for run in figures.runs
        if run.records or run.lost
    ]
    yield from table(rows, [said(each) for each in HEAD], align="lrrrl", indent="  ")
    aside = _aside(Path(about.path))
    if aside is not None:
        yield f"  {said(ASIDE, path=aside[0], size=_size(aside[1]))}"


def _heading(source: Source) -> str:
    about = source.about
    return said(FROM_GATEWAY if about.is_in_use else FROM_FILE, path=about.path)


def _aside(path: Path) -> tuple[Path, int] | None:
    """Return a damaged file that was set aside, and its size."""
    from agent.spoolfile import beside

    aside = beside(path, ".damaged")
    try:
        return aside, aside.stat().st_size
    except OSError:
        return None


def _utc(ns: int | None) -> str | None:
    from agent.record import utc_text

    return None if ns is None else utc_text(ns)


def _size(size_bytes: int) -> str:
    if size_bytes < 2**20:
        return f"{size_bytes / 2**10:.1f} KiB"
    return f"{size_bytes / 2**20:.1f} MiB"
