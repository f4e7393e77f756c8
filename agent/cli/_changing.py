"""`yukimi config apply|rollback|list|diff`: another configuration on trial, and what was before.

To apply one is asked of the running gateway. The rest is read from the disk, gateway or not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.load import ConfigError, default_path, read

from . import BAD_CONFIG, IO_ERROR, OK, UNREACHABLE, USAGE, WRONG, add_config, add_json, complain
from .display import paint, printable
from .language import Text, said

if TYPE_CHECKING:
    from agent.applied import Applied, Entry

POLL_S = 0.5
MORE_S = 180.0  # to end one life and to read every sensor once, before the time counts
ANSWER_S = 60.0  # a configuration is planned anew

APPLY = Text(
    "try a configuration; it returns by itself where anything is lost by it",
    "設定を試験付きで適用します。支障があれば自動的に元に戻ります",
)
FILE = Text("the new configuration, whole", "新しい設定ファイル（全体）")
ROLLBACK = Text("apply an earlier configuration, on trial too", "以前の設定を試験付きで適用します")
NUMBER = Text(
    "its number in the list (default: the one before)", "一覧の番号（省略時は一つ前の設定）"
)
WITHIN = Text(
    "seconds within which all must be as before (default 120)",
    "正常に戻るまでの猶予秒数（既定値120）",
)
FORCE = Text(
    "keep it even where sensors do not answer any more",
    "センサーが応答しなくなっても元に戻しません",
)
LIST = Text("the last ten, and which of them runs", "直近10件の設定と、運転中の設定を示します")
DIFF = Text(
    "what differs between two of them, secrets left out",
    "2つの設定の違いを示します（秘密情報は除く）",
)
SIDE = Text(
    'a number in the list, or "file" (default: the one before, and the one that runs)',
    "一覧の番号、または file（省略時は一つ前の設定と運転中の設定）",
)

TRIED = Text(
    "configuration {number} ({config}) is on trial for {within_s:g} s ...",
    "設定 {number}（{config}）を試験中です（{within_s:g}秒）…",
)
CONFIRMED = Text("configuration {number} is confirmed", "設定 {number} を確定しました")
RETURNED = Text(
    "configuration {number} returned, and the one before runs: {why}",
    "設定 {number} を取り消し、以前の設定に戻しました: {why}",
)
NO_END = Text(
    "configuration {number}: its end is not known yet; see: yukimi config list",
    "設定 {number} の結果がまだ分かりません。確認: yukimi config list",
)
NOTHING = Text("nothing was noted yet in {folder}", "{folder} にはまだ記録がありません")
RUNS = Text("holds", "使用中")
EDITED = Text(
    "{file} was edited since: at the next reload it is followed, if it is right",
    "その後 {file} が編集されています。正しければ、次の再読み込みで反映されます",
)
OUTCOMES = {
    "trial": Text("on trial", "試験中"),
    "confirmed": Text("confirmed", "確定"),
    "returned": Text("returned", "取消"),
    "refused": Text("refused", "拒否"),
}
NOT_FOR_YOU = Text(
    "{folder} cannot be read: {why}; run it with sudo",
    "{folder} を読み取れません: {why}。sudo を付けて実行してください",
)
NO_SUCH = Text("there is no configuration {name}", "設定 {name} はありません")
NO_TWO = Text("there are no two configurations to compare", "比較できる設定がありません")
AGAIN = Text("as {number}", "{number}と同じ")


def add_arguments(actions: Any) -> None:
    """Describe the actions."""
    apply = actions.add_parser("apply", help=said(APPLY))
    apply.add_argument("file", type=Path, metavar="FILE", help=said(FILE))
    rollback = actions.add_parser("rollback", help=said(ROLLBACK))
    rollback.add_argument("number", type=int, nargs="?", metavar="N", help=said(NUMBER))
    for each in (apply, rollback):
        each.add_argument("--within", type=int, default=120, metavar="S", help=said(WITHIN))
        each.add_argument("--force", action="store_true", help=said(FORCE))
    diff = actions.add_parser("diff", help=said(DIFF))
    for side in ("a", "b"):
        diff.add_argument(side, nargs="?", metavar=side.upper(), help=said(SIDE))
    listed = actions.add_parser("list", help=said(LIST))
    for each in (apply, rollback, listed, diff):
        add_config(each)
        add_json(each)


def run(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    path = arguments.config or default_path()
    actions: dict[str, Callable[[Path, argparse.Namespace], int]] = {
        "apply": _apply,
        "rollback": _rollback,
        "list": _list,
        "diff": _diff,
    }
    try:
        return actions[arguments.action](path, arguments)
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    except PermissionError as exc:
        complain(NOT_FOR_YOU.filled(folder=exc.filename, why=exc.strerror))
        return IO_ERROR


def _apply(path: Path, arguments: argparse.Namespace) -> int:
    document, _ = read(arguments.file)
    document = json.loads(json.dumps(document, default=str))
    named = str(arguments.file.absolute())
    return _ask(path, arguments, "config-apply", document=document, file=named)


def _rollback(path: Path, arguments: argparse.Namespace) -> int:
    wanted = {} if arguments.number is None else {"number": arguments.number}
    return _ask(path, arguments, "config-rollback", **wanted)


def _ask(path: Path, arguments: argparse.Namespace, name: str, **wanted: object) -> int:
    from agent.applied import Applied
    from agent.asking import NotAnsweredError, ask, socket_path

    try:
        told = ask(
            socket_path(path),
            name,
            timeout_s=ANSWER_S,
            within_s=arguments.within,
            force=arguments.force,
            **wanted,
        )
    except NotAnsweredError as exc:
        if arguments.json:
            error = {"code": exc.code, "text": str(exc.text)}
            _print_json(path, ok=False, error=error)
        else:
            complain(exc)
        return _code(exc)
    if not arguments.json:
        print(said(TRIED, **told), flush=True)
        for warning in told["warnings"]:
            print(paint(printable(warning), "warn"))
    entry = _end_of(Applied(Path(told["folder"])), told["number"], arguments.within + MORE_S)
    if arguments.json:
        _print_json(path, ok=entry is not None and entry.outcome == "confirmed", **_told(entry))
    elif entry is None:
        complain(NO_END.filled(number=told["number"]))
    elif entry.outcome == "confirmed":
        print(said(CONFIRMED, number=entry.number))
    else:
        complain(RETURNED.filled(number=entry.number, why=entry.why))
    return OK if entry is not None and entry.outcome == "confirmed" else WRONG


def _code(exc: Any) -> int:
    if exc.is_unreachable or exc.code == "just_started":
        return UNREACHABLE
    return {
        "refused": BAD_CONFIG,
        "no_disk": IO_ERROR,
        "unchanged": OK,
        "wrong_argument": USAGE,
    }.get(exc.code, WRONG)


def _end_of(applied: Applied, number: int, patience_s: float) -> Entry | None:
    """Wait for the end of a trial."""
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        found = next((each for each in applied.entries() if each.number == number), None)
        if found is None:
            return None
        if found.outcome != "trial":
            return found
        time.sleep(POLL_S)
    return None


def _list(path: Path, arguments: argparse.Namespace) -> int:
    from agent import applied

    found = applied.find(path)
    entries = found.entries()
    holds = applied.newest_confirmed(entries)
    is_edited = holds is not None and _digest(path) != holds.base
    if arguments.json:
        number = None if holds is None else holds.number
        told = [_told(each) for each in entries]
        _print_json(path, ok=True, holds=number, file_edited=is_edited, entries=told)
        return OK
    if not entries:
        print(said(NOTHING, folder=found.folder))
    for each in reversed(entries):
        notes = [said(RUNS)] if each is holds else []
        notes += [said(AGAIN, number=each.again)] if each.again is not None else []
        outcome = said(OUTCOMES[each.outcome])
        line = f"{each.number:4}  {each.time}  {each.config_id or '-':12}  {outcome}"
        line += f"  {printable(each.by)}" + (f"  ({', '.join(notes)})" if notes else "")
        print(paint(line, "good") if each is holds else line)
        for why in said(each.why).splitlines():
            print(f"      {printable(why)}")
    if is_edited:
        print(paint(said(EDITED, file=path), "warn"))
    return OK


def _digest(path: Path) -> str:
    """Return the hash of what the file says; that of none where it cannot be read."""
    from agent import applied

    try:
        return applied.digest(read(path)[0])
    except ConfigError:
        return ""


def _diff(path: Path, arguments: argparse.Namespace) -> int:
    from agent import applied
    from agent.changed import difference

    entries = [each for each in applied.find(path).entries() if each.document]
    sides = [each for each in (arguments.a, arguments.b) if each is not None]
    if len(sides) < 2:
        good = [str(each.number) for each in entries if each.outcome == "confirmed"]
        sides = [*sides, *good[-1:]] if sides else good[-2:]
    if len(sides) < 2:
        complain(NO_TWO)
        return WRONG
    found = []
    for side in sides:
        entry = next((each for each in entries if str(each.number) == side), None)
        if entry is None and side != "file":
            complain(NO_SUCH.filled(name=side))
            return USAGE
        document = read(path)[0] if entry is None else entry.document
        found.append((side, document))
    lines = difference(found[0], found[1])
    if arguments.json:
        _print_json(path, ok=True, a=sides[0], b=sides[1], diff=lines)
        return OK
    for line in lines:
        print(printable(line))
    return OK


def _told(entry: Entry | None) -> dict[str, Any]:
    from agent.trials import told

    return {} if entry is None else told(entry)


def _print_json(path: Path, **more: object) -> None:
    document = {"schema": "yukimi.config/1", "file": str(path), **more}
    print(json.dumps(document, ensure_ascii=False))
