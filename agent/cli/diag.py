"""`yukimi diag report|collect`: a report as one HTML file; a tarball for a ticket."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import get_args

from config.places import default_path
from config.text import Language

from . import IO_ERROR, OK, USAGE, WRONG, add_config, add_json, complain
from .language import Text, language, said

EXAMPLES = (
    (
        "yukimi diag report -o report.html",
        Text("to be read on a phone, or printed", "スマートフォンで読む、または印刷する資料です"),
    ),
    (
        "sudo yukimi diag collect -o ticket.tar.gz",
        Text("to be sent with a question", "問い合わせに添付する資料一式です"),
    ),
)
HELP = {
    "report": Text("one self-contained HTML file with plots", "図入りの診断レポート（HTML）"),
    "collect": Text(
        "a tarball for a ticket: report, checks, logs, versions; without secrets",
        "問い合わせ用の資料一式（レポート、点検結果、記録、バージョン。秘密情報を除く）",
    ),
    "output": Text("a new file", "新しいファイル"),
    "lang": Text("its language (default: the locale's)", "言語（省略時はロケールに従います）"),
}
IS_THERE = Text(
    "{file}: is there already, and is not overwritten; name another file",
    "{file}: 既にあるため上書きしません。別の名前を指定してください",
)
NO_WRITE = Text("{file}: cannot be written: {why}", "{file}: 書き込めません: {why}")
MADE = Text("{file}: {kilobytes:.0f} kB", "{file}: {kilobytes:.0f} kB")
WITHOUT = Text("without {name}: {why}", "{name} は含まれません: {why}")
UNREADABLE = Text(
    "{file} may not be read, so nobody can make sure that it is not in the tarball: run as root",
    "{file} を読み取れず、資料に含まれないことを確認できません。root権限で実行してください",
)
TOO_SHORT = Text(
    "the secret of {where} is too short to be searched for; choose a longer one",
    "{where} の秘密情報は短すぎて検索できません。より長いものに変更してください",
)
TOO_LARGE = Text(
    "the tarball would have {count} bytes, and may have {most}; please report this",
    "資料が{count}バイトとなり、上限の{most}バイトを超えます。ご報告ください",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="report|collect")
    for name in ("report", "collect"):
        action = actions.add_parser(name, help=said(HELP[name]))
        action.add_argument(
            "-o", "--output", type=Path, required=True, metavar="FILE", help=said(HELP["output"])
        )
        action.add_argument("--lang", choices=get_args(Language), help=said(HELP["lang"]))
        add_config(action)
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Make the report, or the tarball."""
    from agent.redaction import LeakError

    path: Path = arguments.output
    if path.exists() or path.is_symlink():
        complain(said(IS_THERE, file=path))
        return USAGE
    make = _report if arguments.action == "report" else _collect
    try:
        return make(arguments)
    except LeakError as exc:
        complain(exc)
        return WRONG
    except FileExistsError:
        complain(said(IS_THERE, file=path))
        return USAGE
    except OSError as exc:
        complain(said(NO_WRITE, file=path, why=exc.strerror or exc))
        return IO_ERROR


def _report(arguments: argparse.Namespace) -> int:
    from agent.collect import secrets_of
    from agent.report.gather import gather, scrubbed
    from agent.report.page import page

    config_file: Path = arguments.config or default_path()
    secrets = secrets_of(config_file)
    facts = scrubbed(gather(config_file), secrets)
    content = page(facts, arguments.lang or language()).encode("utf-8", errors="replace")
    secrets.check(arguments.output.name, content)
    return _write(arguments, content, 0o644, {})


def _collect(arguments: argparse.Namespace) -> int:
    from agent import collect

    config_file: Path = arguments.config or default_path()
    secrets = collect.secrets_of(config_file)
    if secrets.unreadable:
        for file in secrets.unreadable:
            complain(said(UNREADABLE, file=file))
        return IO_ERROR
    found = collect.collect(config_file, secrets, arguments.lang or language())
    packed = collect.pack(found, time.time())
    if len(packed) > collect.MOST_BYTES:
        complain(said(TOO_LARGE, count=len(packed), most=collect.MOST_BYTES))
        return WRONG
    collect.check(packed, secrets)
    for where in secrets.too_short:
        complain(said(TOO_SHORT, where=where))
    return _write(arguments, packed, 0o600, found.missing)


def _write(
    arguments: argparse.Namespace, content: bytes, mode: int, missing: dict[str, str]
) -> int:
    from agent.newfile import new_file

    path: Path = arguments.output
    with new_file(path, mode) as file:
        file.write(content)
    if arguments.json:
        document = {
            "schema": "yukimi.diag/1",
            "action": arguments.action,
            "file": str(path),
            "bytes": len(content),
            "missing": missing,
        }
        print(json.dumps(document, ensure_ascii=False))
        return OK
    print(said(MADE, file=path, kilobytes=len(content) / 1000))
    for name, why in missing.items():
        complain(said(WITHOUT, name=name, why=why))
    return OK
