"""`yukimi privacy report|audit`: what is said about people, and does the ledger hold?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

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
    is_of_output,
)
from .display import line_cells, wrap
from .language import Language, Text, said

if TYPE_CHECKING:
    from agent.plan import Plan, PlannedSensor
    from agent.privacy.audit import Finding
    from agent.privacy.notice import Notice, Sensor

SCHEMA = "yukimi.privacy/1"
TRIES = 3  # of a file that changes while it is read
EXAMPLES = (
    (
        "yukimi privacy report --html notice.html",
        Text("a page to print and hang beside the sensor", "センサーの横に掲示する1枚を作成します"),
    ),
    (
        "yukimi privacy audit",
        Text("was anything released twice?", "二重の公表がないか台帳を検査します"),
    ),
    (
        "yukimi privacy audit --published day.jsonl",
        Text(
            "hold what the city received against the ledger",
            "市が受信した記録（JSON Lines）を台帳と照合します",
        ),
    ),
)

REPORT = Text(
    "what is measured and published, and the guarantee, in Japanese and English",
    "計測・公表の内容と保証（日本語と英語）",
)
AUDITS = Text(
    "verify the ledger, and that each published figure is in it once",
    "台帳の検証。公表値がそれぞれ1回だけ記載されているかの照合",
)
HTML = Text("write the page as a new HTML file", "HTMLファイルとして書き出します（新規）")
FILE = Text("a spool's file, as of a card in a reader", "保存ファイルを直接指定します")
PUBLISHED = Text(
    "batches as the city received them, one a line", "市が受信したバッチ（1行に1件）のファイル"
)
WAYS = {"towards": Text("towards", "往路"), "away": Text("away", "復路")}
IS_THERE = Text(
    "{file}: is there already, and is not overwritten; name another file",
    "{file}: 既にあるため上書きしません。別の名前を指定してください",
)
WRITTEN = Text("{file}: one page, to print on A4", "{file}: A4 1枚として印刷できます")
NO_LEDGER = Text(
    "{path}: there is no spool yet, and so nothing was released",
    "{path}: 保存ファイルがまだないため、公表はありません",
)
HOLDS = Text(
    "the ledger holds: {lines} lines and {days} closed days, from {since} to {until}",
    "台帳に異常はありません: {lines}行、締め済み{days}日分（{since} から {until} まで）",
)
WINDOWS = Text(
    "windows: {released} released once, {burned} burned, {waiting} reserved and not settled yet",
    "時間帯: 公表（各1回）{released}、破棄{burned}、予約済みで未処理{waiting}",
)
COST = Text(
    "a crossing cost at most epsilon {epsilon}; policy {policy}",
    "通過1回あたりのεは最大{epsilon}、方針 {policy}",
)
LAST = Text(
    "keep for the next audit: line {line} is the last, SHA-256 {sha256}",
    "次回の監査のための控え: 最終行は{line}行目、SHA-256 {sha256}",
)
HELD = Text(
    "{records} people's records were held against it, each figure has its line",
    "通行者の記録{records}件を照合し、公表値はすべて台帳に記載がありました",
)
DAMAGED = Text(
    "note: the file was damaged, and lines before may be missing: {what}",
    "注意: ファイルが破損したことがあり、以前の行が欠けている可能性があります: {what}",
)
EMPTY = Text("nothing was released yet", "公表はまだありません")
BROKEN_LINE = Text("the ledger is broken at line {line}: {what}", "台帳の{line}行目に異常: {what}")
BROKEN = Text("the ledger does not hold: {what}", "台帳との不一致: {what}")
WHAT_NEXT = Text(
    "do not publish further from this device; keep the spool's file and its -wal, and tell who"
    " answers for privacy",
    "この装置からの公表を止め、保存ファイルと -wal を保全して、"
    "個人情報保護の担当者に連絡してください",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="report|audit")
    report = actions.add_parser("report", help=said(REPORT))
    report.add_argument("--html", type=Path, metavar="FILE", help=said(HTML))
    audit = actions.add_parser("audit", help=said(AUDITS))
    audit.add_argument("--file", type=Path, metavar="SPOOL", help=said(FILE))
    audit.add_argument("--published", type=Path, metavar="FILE", help=said(PUBLISHED))
    for action in (report, audit):
        add_config(action)
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Print the notice, or audit the ledger."""
    from agent.asking import NotAnsweredError
    from agent.resting import ChangedError
    from agent.spool import SpoolError
    from agent.spoolview import RestlessError
    from config.load import ConfigError

    action = _report if arguments.action == "report" else _audit
    try:
        for attempt in range(TRIES):
            try:
                return action(arguments)
            except ChangedError:
                if attempt == TRIES - 1:
                    raise
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    except NotAnsweredError as exc:
        complain(Text(exc.text.en, exc.text.ja))
        return UNREACHABLE
    except (ChangedError, RestlessError) as exc:
        complain(exc)
        return UNREACHABLE
    except SpoolError as exc:
        complain(exc)
    except OSError as exc:
        if is_of_output(exc):
            raise
        complain(exc)
    return IO_ERROR


# The notice


def _report(arguments: argparse.Namespace) -> int:
    from agent.applied import plan_in_force
    from agent.newfile import new_file
    from agent.privacy.sheet import sheet

    notice = notice_of(
        plan_in_force(arguments.config or default_path()), datetime.now().astimezone()
    )
    if arguments.html is not None:
        try:
            with new_file(arguments.html) as file:
                file.write(sheet(notice).encode())
        except FileExistsError:
            complain(said(IS_THERE, file=arguments.html))
            return USAGE
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "action": "report", **notice.json()}))
    elif arguments.html is not None:
        print(said(WRITTEN, file=arguments.html))
    else:
        print("\n".join(_page(notice)))
    return OK


def notice_of(plan: Plan, now: datetime) -> Notice:
    """Return what is true of a gateway with this plan."""
    from agent import __version__
    from agent.privacy.notice import Notice

    gateway = plan.loaded.config.gateway
    label = gateway.label
    return Notice(
        gateway=gateway.id,
        label=None if label is None else _pair(label, gateway.id),
        owner=gateway.owner,
        version=__version__,
        date=f"{now.astimezone(ZoneInfo(gateway.timezone)):%Y-%m-%d}",
        policy=plan.policy,
        sensors=[_sensor(each) for each in plan.sensors if each.counts_people],
    )


def _sensor(sensor: PlannedSensor) -> Sensor:
    from agent.privacy.notice import Sensor

    table, spec = sensor.table, sensor.driver.spec
    ways = [name for name in spec.directions if name != "total"]
    labels = {name: getattr(table.directions, name, None) for name in ways}
    named = [_pair(label, name) if label else WAYS[name] for name, label in labels.items()]
    return Sensor(_pair(table.label, table.id), spec.title, tuple(named))


def _pair(label: Any, default: str) -> Text:
    """Return a configuration's label in both languages."""
    en = (label and (label.en or label.ja)) or default
    return Text(en, (label and (label.ja or label.en)) or default)


def _page(notice: Notice) -> Iterator[str]:
    """Return the notice as text, one language under the other."""
    from agent.privacy.notice import TITLE

    width = line_cells()
    languages: tuple[Language, ...] = ("ja", "en")
    for language in languages:
        yield from wrap(TITLE.of(language), width)
        yield "=" * width
        for title, texts in notice.sections():
            yield ""
            yield title.of(language)
            for text in texts:
                yield from wrap(text.of(language), width, first="  ", hang="  ")
        yield ""
        yield from wrap(notice.foot().of(language), width)
        yield ""


# The audit


def _audit(arguments: argparse.Namespace) -> int:
    from agent.privacy.inspection import NoBatchError, inspect

    config_file: Path = arguments.config or default_path()
    try:
        finding = inspect(config_file, arguments.file, published=arguments.published)
    except FileNotFoundError as exc:
        return _nothing_there(arguments, exc)
    except NoBatchError as exc:
        complain(exc)
        return USAGE
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "action": "audit", **finding.json()}))
    else:
        _tell(finding)
    return WRONG if finding.broken else OK


def _nothing_there(arguments: argparse.Namespace, exc: FileNotFoundError) -> int:
    if arguments.file is not None or arguments.published == Path(exc.filename or ""):
        complain(f"{exc.filename}: {exc.strerror}")
        return IO_ERROR
    if arguments.json:
        from agent.privacy.audit import Finding

        print(json.dumps({"schema": SCHEMA, "action": "audit", **Finding().json()}))
    else:
        print(said(NO_LEDGER, path=exc.filename))
    return OK


def _tell(finding: Finding) -> None:
    if finding.broken:
        text = BROKEN if finding.line is None else BROKEN_LINE
        print(said(text, line=finding.line, what=finding.broken))
        _tell_damages(finding)
        complain(said(WHAT_NEXT))
        return
    if finding.head is None:
        print(said(EMPTY))
        return
    found = {
        "lines": finding.lines,
        "days": finding.days,
        "since": finding.since,
        "until": finding.until,
        "released": finding.released,
        "burned": finding.burned,
        "waiting": finding.waiting,
        "epsilon": finding.epsilon,
        "policy": finding.policy,
        "records": finding.records,
    }
    print(said(HOLDS, **found))
    for text in (WINDOWS, COST, HELD):
        print(f"  {said(text, **found)}")
    print(f"  {said(LAST, line=finding.head.n, sha256=finding.head.sha256)}")
    _tell_damages(finding)


def _tell_damages(finding: Finding) -> None:
    for what in finding.damages:
        print(f"  {said(DAMAGED, what=what)}")
