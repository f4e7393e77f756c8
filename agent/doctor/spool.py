"""Is what waits intact, and how long can it go on waiting?"""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from config.text import Text

from . import told
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .service import gateways
from .site import Site

# What keeps records from being sent: a full spool is then their consequence.
UNSENT = (
    *(f"YK-NET-0{n}" for n in range(1, 6)),
    *(f"YK-TLS-0{n}" for n in range(1, 6)),
    *(f"YK-MQ-0{n}" for n in range(1, 5)),
)
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
            "as NAME.damaged.",
            "`sudo systemctl restart yukimi` で読める記録を救出します。破損ファイルは"
            "NAME.damagedに残ります。",
        ),
        Text(
            "Records in memory only, and the card is well: whose is the file? One that was made by "
            "root, when somebody ran yukimi by hand, goes back to the service with "
            "`sudo chown yukimi: FILE`.",
            "カードは正常なのに記録がメモリー上のみの場合は、ファイルの所有者を確認します。"
            "手動でrootとして実行した際のファイルは `sudo chown yukimi: FILE` で戻します。",
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
    raised, said = told.alerts(site), told.part(site, "spool")
    if "disk_failed" in raised or said.get("volatile"):
        kept = _kept_from(site, path)
        if kept is not None:
            name, file = kept
            return failed(
                Text(
                    f"records live in memory: user {name} may not write {file}",
                    f"利用者 {name} が {file} に書き込めず、記録はメモリー上のみです",
                ),
                Text(
                    f"`sudo chown {name}: {path}*`: within a minute the gateway writes them down",
                    f"`sudo chown {name}: {path}*` を実行してください。1分以内に書き込まれます",
                ),
            )
        return failed(
            Text(
                "records live in memory: the disk failed",
                "ディスク異常のため記録はメモリー上のみです",
            ),
            Text(
                "see `dmesg | tail -50`; replace the card, and keep the power on until then",
                "`dmesg | tail -50` を確認し、電源を切らずにカードを交換してください",
            ),
        )
    if "spool_damaged" in raised or path.with_name(f"{path.name}.damaged").exists():
        return warned(
            Text("it was damaged, and was replaced", "破損し、作り直されました"),
            Text(
                f"look at the card; then remove {path.name}.damaged",
                f"カードを点検し、その後 {path.name}.damaged を削除してください",
            ),
        )
    if site.daemon is not None:
        return passed("the gateway writes it", "装置が書き込んでいます")
    if not path.exists():
        return skipped("there is none yet", "まだありません")
    if size_bytes(path) > COPIED_BYTES:
        return skipped(
            "too large for a quick look: `yukimi spool verify`",
            "大きいため省略: `yukimi spool verify` で確認できます",
        )
    found = facts(site)
    if found is None:
        return skipped("cannot be read now, or not by you", "現在、または権限上読み取れません")
    if found.wrong is not None:
        return failed(Text(f"{path.name}: {found.wrong}", f"{path.name}: {found.wrong}"), then)
    return passed("whole", "正常")


def _kept_from(site: Site, path: Path) -> tuple[str, Path] | None:
    """Return the gateway's user, and what of the spool is not theirs; None if all is.

    A gateway that was once started by hand, as root, leaves files that the service may not write.
    """
    user = site.user()
    if user is None or user[1] == 0:
        return None
    for suffix in ("", "-wal", ".lock"):
        file = path.with_name(path.name + suffix)
        with suppress(OSError):
            there = file.stat()
            is_theirs = there.st_uid == user[1] or (
                there.st_gid in user[2] and there.st_mode & stat.S_IWGRP
            )
            if not (is_theirs or there.st_mode & stat.S_IWOTH):
                return user[0], file
    return None


@check(
    "YK-SPL-02",
    Text("room for an outage", "通信断への余裕"),
    blink=Blink.DISK,
    needs=("YK-SPL-01",),
    excused_by=UNSENT,
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
    said_days = told.part(site, "spool").get("outage_days_left")
    if site.daemon is not None:
        days = float(said_days) if isinstance(said_days, int | float) else None
        used = told.part(site, "spool").get("bytes")
        share = (used if isinstance(used, int) else 0) / plan.loaded.config.spool.max_bytes
        waiting = int(told.part(site, "spool").get("waiting") or 0)
    else:
        found = facts(site)
        if found is None:
            return skipped("cannot be read quickly", "短時間では読み取れません")
        share, waiting = found.used_bytes / max(1, found.room_bytes), found.waiting
        days = None
        if found.oldest_ns is not None and share > 0:
            waited_s = max(60.0, (site.seen.utc_ns - found.oldest_ns) / 1e9)
            days = waited_s * max(0.0, 1 - share) / share / DAY_S
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What a copy of the spool's file tells."""

    wrong: str | None = None
    runs: frozenset[str] = frozenset()
    known_ns: int | None = None  # UTC that has certainly passed
    waiting: int = 0
    oldest_ns: int | None = None
    used_bytes: int = 0  # of `room_bytes`, beyond which the oldest are given up
    room_bytes: int = 0


def facts(site: Site) -> Facts | None:
    """Return what the spool's file tells.

    None where there is none, it is too large to copy, or a gateway writes it: a copy would be torn.
    """
    return site.once("spool", lambda: _facts(site))


def _facts(site: Site) -> Facts | None:
    plan, path = site.plan, _path(site)
    if plan is None or path is None or not path.exists() or size_bytes(path) > COPIED_BYTES:
        return None
    if site.daemon is not None or gateways(site):
        return None
    try:
        before = _state(path)
        found = _look_into(path, plan.loaded.config.spool.max_bytes)
        return found if _state(path) == before else None
    except OSError:
        return None


def _state(path: Path) -> list[tuple[int, int]]:
    """Return what changes whenever somebody writes."""
    files = [path.with_name(f"{path.name}{suffix}") for suffix in ("", "-wal")]
    return [(at.st_size, at.st_mtime_ns) for at in (f.stat() for f in files if f.exists())]


def _path(site: Site) -> Path | None:
    plan = site.plan
    return None if plan is None else Path(plan.loaded.config.spool.path)


def _look_into(path: Path, max_bytes: int) -> Facts:
    """Copy the file with its log, and look at the copy. Raises OSError."""
    from agent import spoolfile
    from agent.spool import Spool

    with tempfile.TemporaryDirectory(prefix="yukimi-doctor-") as folder:
        copy = Path(folder, "spool.db")
        shutil.copyfile(path, copy)
        with suppress(FileNotFoundError):
            shutil.copyfile(path.with_name(f"{path.name}-wal"), f"{copy}-wal")
        until_s = time.monotonic() + CHECK_S
        try:
            wrong = spoolfile.check(copy, lambda: time.monotonic() < until_s)
            if wrong is not None:
                return Facts(wrong)
            with closing(spoolfile.connect(copy, "rw")) as database:
                runs = frozenset(row[0] for row in database.execute("SELECT run FROM run"))
        except sqlite3.Error as exc:
            return Facts(str(exc))
        spool = Spool(copy, max_bytes=max_bytes, run="the doctor's", boot_id="")
        try:
            figures = spool.figures(CHECK_S)
            if figures is None:
                return Facts(None, runs)
            waiting = sum(figures.waiting_by_run.values())
            return Facts(
                None,
                runs,
                spool.known_ns,
                waiting,
                figures.oldest_end_ns,
                figures.used_bytes,
                figures.room_bytes,
            )
        finally:
            spool.close(clean=False)
