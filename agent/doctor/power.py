"""Has the board what it needs to work at all: enough voltage, and no fever?"""

from __future__ import annotations

from config.text import Text

from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 0, 1, 2, 3  # bits of now; 16 higher: since boot
HOT_C = 80.0


@check(
    "YK-PWR-01",
    Text("supply voltage", "電源電圧"),
    blink=Blink.POWER,
    what=Text(
        "What the firmware says of the supply: now, and since the start.",
        "電源電圧についてのファームウェアの報告（現在と起動後）を確認します。",
    ),
    why=Text(
        "Below 4.63 V USB adapters drop out, transfers to the card fail, and sensors say "
        "nonsense: look here before anywhere else.",
        "4.63 Vを下回ると、USB機器が外れ、カードへの書き込みが失敗し、センサーの値も乱れます。"
        "ほかの異常より先に対処してください。",
    ),
    do=(
        Text(
            "Measure at the board's pins 2 and 6: 4.8 V at least, with everything running.",
            "基板の2番ピンと6番ピンの間を測ります。全機器の動作中に4.8 V以上必要です。",
        ),
        Text(
            "Take a shorter or thicker cable, then another supply; move heaters and USB devices "
            "to a supply of their own.",
            "電源ケーブルを短く太いものに替え、次に電源装置を替えます。ヒーターやUSB機器は別電"
            "源にします。",
        ),
    ),
)
def voltage(site: Site, _: None) -> Finding:
    """Read what the firmware says."""
    bits = _throttled(site)
    if bits is None:
        return skipped("this board does not say", "この基板は報告しません")
    then = Text("check the power supply and its cable", "電源装置とケーブルを点検してください")
    if bits >> UNDER_VOLTAGE & 1:
        return failed(
            Text(f"under-voltage now ({bits:#x})", f"電圧が不足しています（{bits:#x}）"), then
        )
    if bits >> (16 + UNDER_VOLTAGE) & 1:
        return warned(
            Text(
                f"under-voltage since the start ({bits:#x})",
                f"起動後に電圧不足がありました（{bits:#x}）",
            ),
            then,
        )
    return passed(f"enough ({bits:#x})", f"正常（{bits:#x}）")


@check(
    "YK-PWR-02",
    Text("temperature of the board", "基板の温度"),
    blink=Blink.POWER,
    excused_by=("YK-PWR-01",),
    what=Text(
        "The processor's temperature, and whether the firmware slows it down.",
        "プロセッサーの温度と、減速の有無を確認します。",
    ),
    why=Text(
        "A slowed processor falls behind; in a cabinet in the sun it ends in a restart.",
        "減速すると処理が遅れます。日当たりのよい収納箱では再起動に至ることがあります。",
    ),
    do=(
        Text(
            "Look for a fan that stands still, a covered vent, a heater that does not switch off.",
            "ファンの停止、通気口の詰まり、止まらないヒーターがないか確認します。",
        ),
    ),
)
def temperature(site: Site, _: None) -> Finding:
    """Read the thermal zone and the firmware's word."""
    text = site.text("/sys/class/thermal/thermal_zone0/temp")
    try:
        celsius = int(text or "") / 1000
    except ValueError:
        return skipped("this board does not say", "この基板は報告しません")
    bits = _throttled(site) or 0
    if celsius >= HOT_C or bits & (1 << CAPPED | 1 << THROTTLED | 1 << SOFT_LIMIT):
        return warned(
            Text(
                f"{celsius:.0f} degC, slowed down ({bits:#x})",
                f"{celsius:.0f} ℃、減速中（{bits:#x}）",
            ),
            Text("let the heat out of the cabinet", "収納箱の放熱を確保してください"),
        )
    return passed(f"{celsius:.0f} degC", f"{celsius:.0f} ℃")


def _throttled(site: Site) -> int | None:
    """Return the firmware's bits; the folders' names differ between generations."""
    platform = "/sys/devices/platform"
    for soc in site.names(platform):
        for node in site.names(f"{platform}/{soc}") if soc.startswith("soc") else ():
            if node.endswith(":firmware"):
                text = site.text(f"{platform}/{soc}/{node}/get_throttled")
                try:
                    return int(text.strip(), 16) if text else None
                except ValueError:
                    return None
    return None
