"""What `yukimi spool` says: to people in lines, to programs in a document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import complain
from .display import table
from .language import Text, said

if TYPE_CHECKING:
    from agent.spoolexport import Export
    from agent.spoolview import Figures, Source

SCHEMA = "yukimi.spool/1"

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


def print_json(document: dict[str, Any]) -> None:
    """Print the one document."""
    print(json.dumps({"schema": SCHEMA, **document}, ensure_ascii=False))


def lines(source: Source, figures: Figures) -> Iterator[str]:
    """Yield what `status` says to people."""
    from agent.spoolopen import set_aside

    about = source.about
    yield heading(source)
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
        [
            run.run,
            str(run.records),
            str(run.held),
            str(run.lost),
            said(IN_ORDER if run.is_clean else NOT_IN_ORDER),
        ]
        for run in figures.runs
        if run.records or run.lost
    ]
    yield from table(rows, [said(each) for each in HEAD], align="lrrrl", indent="  ")
    aside = set_aside(Path(about.path))
    if aside is not None:
        yield f"  {said(ASIDE, path=aside[0], size=_size(aside[1]))}"


def heading(source: Source) -> str:
    """Return which spool it is, for people."""
    about = source.about
    return said(FROM_GATEWAY if about.is_in_use else FROM_FILE, path=about.path)


def _utc(ns: int | None) -> str | None:
    from agent.record import utc_text

    return None if ns is None else f"{utc_text(ns)[:16].replace('T', ' ')} UTC"


def _size(size_bytes: int) -> str:
    if size_bytes < 2**20:
        return f"{size_bytes / 2**10:.1f} KiB"
    return f"{size_bytes / 2**20:.1f} MiB"


def tell_export(export: Export, path: Path, written: int, *, left_out: bool) -> None:
    """Say what was exported; `left_out`: not what waits for the clock."""
    if written:
        figures = {"records": export.records, "lost": export.lost, "batches": export.batches}
        print(said(EXPORTED, file=path, size=_size(written), **figures))
        print(said(STAYS))
    else:
        print(said(NOTHING_TO_EXPORT))
    if export.held:
        print(said(HELD_LEFT if left_out else HELD_EXPORTED, held=export.held))
    if export.damaged:
        complain(said(DAMAGED, count=len(export.damaged)))
