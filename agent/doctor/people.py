"""Is the promise about people kept: what was published, and what never may be written down?"""

from __future__ import annotations

from config.text import Text

from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site, within

AUDIT_S = 6.0


@check(
    "YK-PRV-01",
    Text("memory stays memory", "メモリーの保護"),
    blink=Blink.SOFTWARE,
    what=Text(
        "Whether what the gateway has in memory about people could be written to disk: by swap, "
        "or by a core dump.",
        "通行者に関するメモリーの内容が、スワップやコアダンプでディスクに書かれないか確認します。",
    ),
    why=Text(
        "Single crossings exist in memory only; that is the promise.",
        "1人ごとの通過はメモリー上だけに存在する、というのが約束です。",
    ),
    do=(
        Text(
            "Use the unit that came with yukimi: it has LimitCORE=0 and MemorySwapMax=0.",
            "付属のユニット（LimitCORE=0、MemorySwapMax=0）を使います。",
        ),
        Text(
            "Or switch swap off: "
            "`sudo dphys-swapfile swapoff; sudo systemctl disable dphys-swapfile`.",
            "またはスワップを止めます: "
            "`sudo dphys-swapfile swapoff; sudo systemctl disable dphys-swapfile`。",
        ),
    ),
)
def memory(site: Site, _: None) -> Finding:
    """Look at the running process's limits, at the unit's, and whether there is swap."""
    plan = site.plan
    if plan is None or not any(sensor.counts_people for sensor in plan.sensors):
        return skipped("no people sensor", "通行者センサーはありません")
    swaps = [line.split()[0] for line in (site.text("/proc/swaps") or "").splitlines()[1:] if line]
    on_disk = [name for name in swaps if "zram" not in name]
    then = Text(
        "use the unit that came with yukimi, or switch swap off",
        "付属のユニットを使うか、スワップを止めてください",
    )
    if on_disk and site.unit_silence is not None:
        return skipped(site.unit_silence, site.unit_silence.ja)
    if on_disk and site.unit.get("MemorySwapMax", "infinity") != "0":
        return warned(
            Text(
                f"there is swap on {', '.join(on_disk)}, and the unit permits it",
                f"{'、'.join(on_disk)} にスワップがあり、ユニットで禁止されていません",
            ),
            then,
        )
    limits = site.text(f"/proc/{site.unit.get('MainPID', 'none')}/limits") or ""
    core = next((line.split() for line in limits.splitlines() if "core file" in line), [])
    if len(core) > 4 and core[4] != "0":
        return warned(
            Text("a crash could write memory to disk", "異常終了時にメモリーが書き出されます"), then
        )
    return passed("not written down", "ディスクに書かれません")


@check(
    "YK-PRV-02",
    Text("published figures", "公表値の監査"),
    blink=Blink.SOFTWARE,
    needs=("YK-CFG-02",),
    what=Text(
        "Whether the ledger of what was published about people holds (`yukimi privacy audit`).",
        "通行者に関する公表の台帳が正しいか確認します（`yukimi privacy audit`）。",
    ),
    why=Text(
        "It proves that each window was published once, with its noise.",
        "各時間帯がノイズ付きで1度だけ公表されたことを示します。",
    ),
    do=(
        Text(
            "`yukimi privacy audit` names the entry; tell whoever is responsible for data "
            "protection.",
            "`yukimi privacy audit` で該当箇所を確認し、個人情報保護の担当者に報告します。",
        ),
    ),
)
def ledger(site: Site, _: None) -> Finding:
    """Audit it."""
    plan = site.plan
    if plan is None or not any(sensor.counts_people for sensor in plan.sensors):
        return skipped("no people sensor", "通行者センサーはありません")
    from agent.asking import NotAnsweredError
    from agent.spool import SpoolError

    try:
        wrong = within(AUDIT_S, lambda: site.audit_privacy(site.config_file))
    except FileNotFoundError:
        return skipped("nothing was released yet", "まだ公表されていません")
    except (NotAnsweredError, SpoolError, OSError):
        return skipped("it cannot be read now, or not by you", "現在、または権限上読み取れません")
    if wrong is None:
        return skipped("it takes longer: `yukimi privacy audit`", "時間がかかるため省略しました")
    if wrong:
        return failed(
            Text(f"it does not hold: {wrong}", f"台帳に異常があります: {wrong}"),
            Text(
                "`yukimi privacy audit`, and tell whoever answers for privacy; publish no further",
                "`yukimi privacy audit` で確認し、公表を止めて個人情報保護の担当者に連絡してく"
                "ださい",
            ),
        )
    return passed("it holds", "正常")
