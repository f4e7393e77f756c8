"""Can the disk be written, is there room, and how long will it live?"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from config.text import Text

from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

LEAST_BYTES = 8 * 2**20
LEAST_LIFE_PERCENT, SOME_LIFE_PERCENT = 10.0, 30.0
_REPLACE = Text(
    "save the records (`yukimi spool export`), replace the card",
    "記録を保存し（`yukimi spool export`）、カードを交換してください",
)


def spool_folder(site: Site) -> Path | None:
    """Return the folder where records wait, or the nearest above it that exists."""
    plan = site.plan
    if plan is None:
        return None
    folder = Path(plan.loaded.config.spool.path).absolute().parent
    return next((each for each in (folder, *folder.parents) if each.is_dir()), None)


@check(
    "YK-DSK-01",
    Text("disk writable", "ディスクの書き込み"),
    blink=Blink.DISK,
    excused_by=("YK-PWR-01",),
    what=Text(
        "Whether the file system of the records is mounted for writing.",
        "記録を保存するファイルシステムが書き込み可能か確認します。",
    ),
    why=Text(
        "The kernel makes a damaged file system read-only. Records then live in memory, and a "
        "power cut costs them.",
        "破損すると読み取り専用になります。記録はメモリー上だけになり、停電で失われます。",
    ),
    do=(
        Text(
            "`dmesg | grep -iE 'mmc|ext4|I/O error'` shows why.",
            "`dmesg | grep -iE 'mmc|ext4|I/O error'` で原因を確認します。",
        ),
        Text(
            "`sudo mount -o remount,rw /` as a try; better restart, so that it is checked.",
            "`sudo mount -o remount,rw /` を試すか、検査のため再起動します。",
        ),
        Text("If it happens again replace the card.", "再発する場合はカードを交換します。"),
    ),
)
def writable(site: Site, _: None) -> Finding:
    """Look at how it is mounted, and what the file system has counted."""
    folder = spool_folder(site)
    if folder is None:
        return skipped("no spool is configured", "保存先が設定されていません")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return failed(
            Text(f"{folder} is mounted read-only", f"{folder} が読み取り専用です"),
            Text(
                "`dmesg | grep -iE 'mmc|ext4|I/O error'`, restart; if it happens again replace "
                "the card",
                "`dmesg | grep -iE 'mmc|ext4|I/O error'` を確認して再起動し、再発時はカードを交"
                "換してください",
            ),
        )
    for disk in site.names("/sys/fs/ext4"):
        count = (site.text(f"/sys/fs/ext4/{disk}/errors_count") or "0").strip()
        if count != "0":
            return warned(
                Text(f"{disk} has counted {count} errors", f"{disk} のエラー {count} 件"),
                Text(
                    "restart with `fsck.mode=force` in cmdline.txt; think of a new card",
                    "cmdline.txt に `fsck.mode=force` を加えて再起動し、カードの交換を検討して"
                    "ください",
                ),
            )
    return passed(str(folder), str(folder))


@check(
    "YK-DSK-02",
    Text("room on the disk", "ディスクの空き"),
    blink=Blink.DISK,
    needs=("YK-DSK-01",),
    what=Text(
        "Whether there is room for the records that the configuration lets wait (max_bytes).",
        "設定（max_bytes）どおりに記録を保存できる空きがあるか確認します。",
    ),
    why=Text(
        "On a full disk nothing can be committed, and systemd and sshd fail too.",
        "ディスクが一杯だと記録を保存できず、systemdやsshdも動作しません。",
    ),
    do=(
        Text(
            "`df -h`, then `sudo du -xh / | sort -h | tail -20` shows who has taken it.",
            "`df -h` と `sudo du -xh / | sort -h | tail -20` で使用量の多い場所を確認します。",
        ),
        Text(
            "`sudo journalctl --vacuum-size=50M; sudo apt clean` frees the usual.",
            "`sudo journalctl --vacuum-size=50M; sudo apt clean` で空けます。",
        ),
        Text("Or make [spool] max_bytes smaller.", "または [spool] max_bytes を小さくします。"),
    ),
)
def room(site: Site, _: None) -> Finding:
    """Count free bytes and inodes."""
    plan, folder = site.plan, spool_folder(site)
    if plan is None or folder is None:
        return skipped("no spool is configured", "保存先が設定されていません")
    from .spool import size_bytes

    at = os.statvfs(folder)
    free_bytes = at.f_bavail * at.f_frsize
    then = Text(
        "`sudo journalctl --vacuum-size=50M; sudo apt clean`, then `df -h`",
        "`sudo journalctl --vacuum-size=50M; sudo apt clean` の後、`df -h` で確認してください",
    )
    if at.f_files and not at.f_favail:
        return failed(
            Text(f"{folder}: no more files can be made", f"{folder}: これ以上ファイルを作れません"),
            then,
        )
    said = f"{free_bytes / 2**20:.0f} MiB"
    spool = plan.loaded.config.spool
    needed = max(0, spool.max_bytes - size_bytes(Path(spool.path)))
    if free_bytes < min(LEAST_BYTES, needed):
        return failed(Text(f"{folder}: {said} free", f"{folder}: 空き {said}"), then)
    if free_bytes < needed:
        return warned(
            Text(
                f"{said} free, the spool may want {needed / 2**20:.0f} MiB more",
                f"空き {said}、保存にはさらに最大 {needed / 2**20:.0f} MiB 必要です",
            ),
            then,
        )
    return passed(f"{said} free", f"空き {said}")


@check(
    "YK-DSK-03",
    Text("writing works", "書き込みの実行"),
    blink=Blink.DISK,
    needs=("YK-DSK-02",),
    what=Text(
        "Whether a file without a name can be written and synced beside the spool.",
        "保存先で、名前のない一時ファイルの書き込みと同期ができるか確認します。",
    ),
    why=Text(
        "A dying card often reads well and no longer writes.",
        "寿命の近いカードは、読めても書けないことがよくあります。",
    ),
    do=(
        Text(
            "`dmesg | tail -50`: words such as I/O error, timeout, mmc0 mean the card.",
            "`dmesg | tail -50` にI/O error、timeout、mmc0があればカードの不良です。",
        ),
        Text(
            "Save the records (`yukimi spool export`) and replace the card.",
            "記録を保存し（`yukimi spool export`）、カードを交換します。",
        ),
    ),
)
def writing(site: Site, _: None) -> Finding:
    """Write and sync a few bytes."""
    folder = spool_folder(site)
    if folder is None:
        return skipped("no spool is configured", "保存先が設定されていません")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # no name: nothing is left behind
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EPERM):
            return skipped(
                "not as this user: run it with sudo", "この利用者では確認できません（sudoで実行）"
            )
        return failed(Text(f"{folder}: {exc.strerror}", f"{folder}: {exc.strerror}"), _REPLACE)
    return passed("written and synced", "書き込みと同期ができました")


@check(
    "YK-DSK-04",
    Text("life of the flash", "記憶媒体の寿命"),
    blink=Blink.DISK,
    what=Text(
        "What an eMMC says of its own wear. SD cards do not say.",
        "eMMCが報告する消耗度を確認します。SDカードは報告しません。",
    ),
    why=Text(
        "Flash that has reached its end stops taking writes, without further warning.",
        "寿命に達すると、予告なく書き込めなくなります。",
    ),
    do=(
        Text(
            "Plan its replacement; take an industrial card.", "産業用カードへの交換を計画します。"
        ),
    ),
)
def life(site: Site, _: None) -> Finding:
    """Read life_time of the first eMMC that says something."""
    from drivers.base import FrameError
    from drivers.pi_health import disk_life_percent

    for disk in site.names("/sys/block"):
        text = site.text(f"/sys/block/{disk}/device/life_time")
        if not disk.startswith("mmcblk") or text is None:
            continue
        try:
            percent = disk_life_percent(text)
        except FrameError:
            continue
        if percent is None:
            continue
        said = Text(f"{disk}: {percent:.0f} % left", f"{disk}: 残り {percent:.0f} %")
        if percent < LEAST_LIFE_PERCENT:
            return failed(said, _REPLACE)
        return warned(said, _REPLACE) if percent < SOME_LIFE_PERCENT else passed(said, said.ja)
    return skipped("this disk does not say", "この媒体は報告しません")
