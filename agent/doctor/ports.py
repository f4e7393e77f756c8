"""Can the gateway take hold of its buses: are they there, may it, do they work?"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from config.text import Text, text_of

from . import told
from .exam import examine
from .findings import Blink, Finding, check, failed, passed, skipped
from .service import gateways
from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedBus

HELD_LOW = "a device holds the bus"  # drivers.buses says so
NO_NODE = ("nothing to open", "開くものはありません")


def nodes_of(site: Site, bus: PlannedBus) -> list[str]:
    """Return the device nodes that a bus needs."""
    if bus.kind == "gpio":
        chips = [name for name in site.names("/dev") if name.startswith("gpiochip")]
        return [f"/dev/{chips[0] if chips else 'gpiochip0'}"]
    if bus.kind in ("serial", "i2c"):
        return [path for path in (bus.path, bus.second_path) if path]
    return []


@check(
    "YK-BUS-01",
    Text("device is there", "デバイスの有無"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-PI-01", "YK-PI-02", "YK-PI-04"),
    excused_by=("YK-PWR-01",),
    what=Text(
        "Whether the port or bus that the configuration names exists.",
        "設定にあるポートやバスが存在するかどうかを確認します。",
    ),
    why=Text(
        "An adapter that is not plugged in, has died or has another name is not found.",
        "アダプターが外れている、故障している、名前が変わっている場合は見つかりません。",
    ),
    do=(
        Text(
            "`ls -l /dev/serial/by-id /dev/i2c-*` shows what is there; `dmesg | tail` what was "
            "lost.",
            "`ls -l /dev/serial/by-id /dev/i2c-*` で現状を、`dmesg | tail` で切断の記録を確認し"
            "ます。",
        ),
        Text(
            "Plug the adapter in, try another socket and cable.",
            "アダプターを差し直し、別の差し込み口とケーブルを試します。",
        ),
        Text(
            "If it has another name now, `yukimi scan` gives the line for the configuration.",
            "名前が変わった場合は `yukimi scan` が設定の行を示します。",
        ),
    ),
)
def there(site: Site, bus: PlannedBus) -> Finding:
    """Look for the nodes."""
    wanted = nodes_of(site, bus)
    if not wanted:
        return skipped(*NO_NODE)
    missing = next((path for path in wanted if not site.at(path).exists()), None)
    if missing is None:
        return passed(", ".join(wanted), "、".join(wanted))
    if bus.kind == "i2c":
        others = [name for name in site.names("/dev") if name.startswith("i2c-")]
    else:
        others = site.names("/dev/serial/by-id")
    if bus.kind == "i2c" and not others:
        then = Text(
            "`sudo modprobe i2c-dev`; for lasting, write i2c-dev into /etc/modules",
            "`sudo modprobe i2c-dev` を実行し、/etc/modules に i2c-dev と書いてください",
        )
    else:
        seen = f" (there: {', '.join(others)})" if others else ""
        seen_ja = f"（現在: {'、'.join(others)}）" if others else ""
        then = Text(
            f"plug it in, or correct its name{seen}",
            f"接続するか、設定の名前を直してください{seen_ja}",
        )
    return failed(Text(f"{missing} is not there", f"{missing} がありません"), then)


@check(
    "YK-BUS-02",
    Text("permission", "アクセス権"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-BUS-01",),
    what=Text(
        "Whether the gateway's user may use the device, by its owner, group and mode.",
        "装置の実行利用者がデバイスを使えるかどうかを、所有者・グループ・許可属性から確認します。",
    ),
    why=Text(
        "Serial ports belong to group dialout, I2C to i2c, pins to gpio.",
        "シリアルはdialout、I2Cはi2c、ピンはgpioのグループに属します。",
    ),
    do=(
        Text(
            "`sudo usermod -aG dialout,i2c,gpio yukimi`, then `sudo systemctl restart yukimi`.",
            "`sudo usermod -aG dialout,i2c,gpio yukimi` の後、`sudo systemctl restart yukimi` "
            "を実行します。",
        ),
        Text(
            "The unit has SupplementaryGroups=dialout i2c gpio: is it the one that came with "
            "yukimi?",
            "ユニットにSupplementaryGroups=dialout i2c gpioがあるか、付属のものか確認します。",
        ),
    ),
)
def permitted(site: Site, bus: PlannedBus) -> Finding:
    """Hold the node's mode against the user's groups."""
    user = site.user()
    for path in nodes_of(site, bus):
        node = site.at(path)
        try:
            mode, uid, gid = node.stat().st_mode, node.stat().st_uid, node.stat().st_gid
        except OSError:
            continue
        if user is None:
            if os.access(node, os.R_OK | os.W_OK):
                continue
            name = "this user"
            may = False
        else:
            name, own, groups = user
            need = stat.S_IROTH | stat.S_IWOTH
            if uid == own:
                need = stat.S_IRUSR | stat.S_IWUSR
            elif gid in groups:
                need = stat.S_IRGRP | stat.S_IWGRP
            may = own == 0 or mode & need == need
        if not may:
            group = site.group_name(gid)
            return failed(
                Text(
                    f"{name} is not in group {group} of {path}",
                    f"{name} は {path} のグループ {group} に属していません",
                ),
                Text(
                    f"`sudo usermod -aG {group} {name if user else '$USER'}`, restart the service",
                    f"`sudo usermod -aG {group} {name if user else '$USER'}` の後、サービスを再"
                    f"起動してください",
                ),
            )
    if not nodes_of(site, bus):
        return skipped(*NO_NODE)
    who = Text(user[0], user[0]) if user else Text("this user", "実行中の利用者")
    return passed(f"{who} may use it", f"{who.ja} が使えます")


@check(
    "YK-BUS-06",
    Text("bus works", "バスの動作"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-BUS-02", "YK-BUS-05"),
    excused_by=("YK-PWR-01",),
    what=Text(
        "Whether the bus can be opened, and on I2C whether its two wires come back to high.",
        "バスを開けるか、I2Cでは2本の信号線が正常に戻るかを確認します。",
    ),
    why=Text(
        "SDA or SCL held low by a short or by one device that hangs stops every device on the bus.",
        "短絡や1台の不具合でSDAかSCLが下がったままだと、バス上の全機器が止まります。",
    ),
    do=(
        Text("Switch the sensors' supply off and on.", "センサーの電源を入れ直します。"),
        Text(
            "Unplug one sensor after another; the one after which the others answer is the "
            "culprit.",
            "1台ずつ外し、外すとほかが応答する機器を探します。",
        ),
        Text(
            "With all unplugged SDA and SCL measure 3.3 V against ground; if not, the cable is "
            "shorted or a pull-up is missing.",
            "全機器を外し、SDAとSCLが3.3 Vか測ります。異なる場合はケーブルの短絡かプルアップの"
            "欠落です。",
        ),
    ),
)
def works(site: Site, bus: PlannedBus) -> Finding:
    """Open it, and listen to its sensors."""
    if site.daemon is not None:
        return _by_gateway(site, bus)
    from drivers.buses import BusyError

    exam = examine(site, bus)
    if exam.is_stuck:
        return _stuck(bus)
    if isinstance(exam.error, BusyError) and gateways(site):
        return skipped(
            "the gateway has it and does not answer: run the doctor with sudo",
            "装置が使用中で応答しません（sudoで実行）",
        )
    if exam.error is not None:
        then = Text(
            "unplug the adapter and plug it in again, or take another one",
            "アダプターを抜き差しするか、別のものに替えてください",
        )
        if bus.kind == "gpio":
            then = Text(
                "is lgpio installed, and the user in group gpio? `yukimi scan` shows the pins",
                "lgpioの導入とグループgpioを確認してください。`yukimi scan` でピンを確認できます",
            )
        return failed(text_of(exam.error), then)
    return passed("it can be used", "使用できます")


def _by_gateway(site: Site, bus: PlannedBus) -> Finding:
    """Take the gateway's word: what keeps all sensors of the bus silent."""
    plan = site.plan
    errors = [
        str((told.of_sensor(site, sensor).get("error") or {}).get("text"))
        for sensor in (() if plan is None else plan.sensors)
        if sensor.bus is bus and told.of_sensor(site, sensor).get("state") == "silent"
    ]
    if errors and any(HELD_LOW in each for each in errors):
        return _stuck(bus)
    return passed("the gateway has it", "装置が使用中です")


def _stuck(bus: PlannedBus) -> Finding:
    return failed(
        Text(
            f"{bus.name}: a wire is held low, every address times out",
            f"{bus.name}: 信号線が下がったままで、全アドレスが時間切れです",
        ),
        Text(
            "switch the sensors off and on, then unplug them one by one; check SDA and SCL for a "
            "short",
            "センサーの電源を入れ直し、1台ずつ外して、SDAとSCLの短絡を点検してください",
        ),
    )
