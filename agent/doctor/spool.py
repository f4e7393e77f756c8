"""Is what waits intact, and how long can it go on waiting?"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from config.text import Text

from . import told
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

COPIED_BYTES = 48 * 2**20  # more is not copied for a look of a few seconds
CHECK_S = 4.0
HALF, NEARLY = 0.5, 0.9
DAY_S = 86_400.0
LEAST_DAYS = 1.0


def size_bytes(path: Path) -> int:
    """Return the room that a spool takes, its log included."""
    total = 0
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            total += path.with_name(path.name + suffix).stat().st_size
    return total


@check(
    "YK-SPL-01",
    Text("records intact", "保存記録の健全性"),
    blink=Blink.DISK,
    needs=("YK-DSK-01",),
    excused_by=("YK-DSK-02", "YK-DSK-03"),
    what=Text(
        "Whether the file of waiting records is whole; by a copy, so that nothing is touched.",
        "未送信記録のファイルが壊れていないか、写しを使って確認します。",
    ),
    why=Text(
        "What is damaged is replaced at the next start, and the loss is told as gaps.",
        "破損部分は次の起動時に作り直され、失われた範囲は欠測として通知されます。",
    ),
    do=(
        Text(
            "Save what there is: `yukimi spool export`.",
            "`yukimi spool export` で現状を保存します。",
        ),
        Text(
            "`sudo systemctl restart yukimi` salvages what can be read; the damaged file is kept "
            "as "
            "NAME.damaged.",
            "`sudo systemctl restart yukimi` で読める記録を救出します。破損ファイルは"
            "NAME.damagedに残ります。",
        ),
        Text(
            "Damage comes of a dying card or a bad supply: see YK-DSK-03 and YK-PWR-01.",
            "破損の原因はカードの劣化か電源です。YK-DSK-03とYK-PWR-01を確認します。",
        ),
    ),
)
def intact(site: Site, _: None) -> Finding:
    """Check a copy, or take the gateway's word."""
    path = _path(site)
    if path is None:
        return skipped("no spool is configured", "保存先が設定されていません")
    then = Text(
        "`yukimi spool export`, then `sudo systemctl restart yukimi` salvages it",
        "`yukimi spool export` の後、`sudo systemctl restart yukimi` で救出します",
    )
    raised = told.alerts(site)
    if "disk_failed" in raised:
        return failed(
            Text(
                "records live in memory: the disk failed",
                "ディスク異常のため記録はメモリー上のみです",
            ),
            then,
        )
    if "spool_damaged" in raised or path.with_name(f"{path.name}.damaged").exists():
        return warned(
            Text("it was damaged, and was replaced", "破損し、作り直されました"),
            Text(
                f"look at the card; then remove {path.name}.damaged",
                f"カードを点検し、その後 {path.name}.damaged を削除してください",
            ),
        )
    if not path.exists():
        return skipped("there is none yet", "まだありません")
    if size_bytes(path) > COPIED_BYTES:
        return skipped(
            "too large for a quick look: `yukimi spool verify`",
            "大きいため省略: `yukimi spool verify` で確認できます",
        )
    try:
        wrong = site.once("spool", lambda: _look_into(path))["wrong"]
    except OSError as exc:
        return skipped(f"cannot be read: {exc.strerror}", f"読み取れません: {exc.strerror}")
    if wrong is not None:
        return failed(Text(f"{path.name}: {wrong}", f"{path.name}: {wrong}"), then)
    return passed("whole", "正常")


@check(
    "YK-SPL-02",
    Text("room for an outage", "通信断への余裕"),
    blink=Blink.DISK,
    needs=("YK-SPL-01",),
    what=Text(
        "How full the spool is, since when it waits, and how many more days it can take.",
        "保存量、最も古い記録、あと何日保存できるかを確認します。",
    ),
    why=Text(
        "When it is full the oldest records are given up; the loss is told as gaps.",
        "一杯になると古い記録から失われ、欠測として通知されます。",
    ),
    do=(
        Text(
            "See why they are not sent: the checks of network and broker above.",
            "送信できない理由を、上の通信と中継サーバーの点検で確認します。",
        ),
        Text(
            "Carry them by hand: `yukimi spool export > records.jsonl`.",
            "`yukimi spool export > records.jsonl` で記録を持ち帰ります。",
        ),
        Text("Make [spool] max_bytes larger.", "[spool] max_bytes を大きくします。"),
    ),
)
def lasting(site: Site, _: None) -> Finding:
    """Hold what is taken against what may be."""
    plan, path = site.plan, _path(site)
    if plan is None or path is None or not path.exists():
        return skipped("there is none yet", "まだありません")
    share = size_bytes(path) / plan.loaded.config.spool.max_bytes
    waiting, since_s = _waiting(site, path)
    days = None
    if since_s is not None and waiting:
        waited_s = max(1.0, site.seen.utc_ns / 1e9 - since_s)
        days = waited_s * (1 - share) / share / DAY_S if share > 0 else None
    said_days = told.part(site, "spool").get("outage_days_left")
    days = float(said_days) if isinstance(said_days, int | float) else days
    more = f", {days:.1f} more days" if days is not None else ""
    more_ja = f"、あと約{days:.1f}日" if days is not None else ""
    said = Text(
        f"{share:.0%} full, {waiting} entries wait{more}",
        f"使用率 {share:.0%}、{waiting}件待機{more_ja}",
    )
    then = Text(
        "`yukimi spool export` saves them; then see why they are not sent",
        "`yukimi spool export` で保存し、送信できない理由を確認してください",
    )
    if share >= NEARLY and waiting:
        return failed(said, then)
    if waiting and (share >= HALF or (days is not None and days < LEAST_DAYS and share > 0.1)):
        return warned(said, then)
    return passed(said, said.ja)


def last_known_ns(site: Site) -> int | None:
    """Return the latest UTC that the spool's runs knew; None where it cannot be told."""
    found = _facts(site)
    return found.get("known_ns") if found else None


def runs_of(site: Site) -> set[str]:
    """Return the runs that this machine's spool knows."""
    found = _facts(site)
    return set(found["runs"]) if found else set()


def _facts(site: Site) -> dict[str, Any] | None:
    path = _path(site)
    if path is None or not path.exists() or size_bytes(path) > COPIED_BYTES:
        return None
    try:
        return site.once("spool", lambda: _look_into(path))
    except OSError:
        return None


def _waiting(site: Site, path: Path) -> tuple[int, float | None]:
    waiting = told.part(site, "spool").get("waiting")
    if isinstance(waiting, int):
        return waiting, None
    found = _facts(site) or {}
    oldest_ns = found.get("oldest_ns")
    return found.get("waiting", 0), None if oldest_ns is None else oldest_ns / 1e9


def _path(site: Site) -> Path | None:
    plan = site.plan
    return None if plan is None else Path(plan.loaded.config.spool.path)


def _look_into(path: Path) -> dict[str, Any]:
    """Copy the file with its log, and look at the copy. Raises OSError."""
    from agent import spoolfile

    found: dict[str, Any] = {"wrong": None, "runs": [], "known_ns": None, "waiting": 0}
    with tempfile.TemporaryDirectory(prefix="yukimi-doctor-") as folder:
        copy = Path(folder, "spool.db")
        shutil.copyfile(path, copy)
        with suppress(FileNotFoundError):
            shutil.copyfile(path.with_name(f"{path.name}-wal"), f"{copy}-wal")
        until_s = time.monotonic() + CHECK_S
        try:
            found["wrong"] = spoolfile.check(copy, lambda: time.monotonic() < until_s)
            with closing(spoolfile.connect(copy, "rw")) as database:
                found["runs"] = [row[0] for row in database.execute("SELECT run FROM run")]
                known = database.execute("SELECT max(known_ns) FROM run").fetchone()
                found["known_ns"] = known[0]
                count, oldest_ns = database.execute(
                    "SELECT coalesce(sum(n), 0), min(end_ns) FROM record"
                ).fetchone()
                found["waiting"], found["oldest_ns"] = count, oldest_ns
        except sqlite3.Error as exc:
            found["wrong"] = found["wrong"] or str(exc)
    return found
