"""Has nobody else the gateway's ports: no log-in, no service that grabs them, no other program?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from config.text import Text

from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .ports import NO_NODE, nodes_of
from .service import is_gateway
from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedBus

GETTYS = ("agetty", "getty", "login", "mgetty")
GRABBERS = ("ModemManager", "brltty", "gpsd")


@check(
    "YK-BUS-03",
    Text("no log-in on the port", "ログイン待ち受け"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-BUS-01", "YK-PI-03"),
    what=Text(
        "Whether a log-in prompt (getty) has the sensor's port open.",
        "ログイン待ち受け（getty）がセンサーのポートを開いていないか確認します。",
    ),
    why=Text(
        "It answers the sensor's bytes with a prompt, and takes every other byte away.",
        "センサーのデータに応答を返し、データを横取りします。",
    ),
    do=(
        Text(
            "`sudo systemctl disable --now serial-getty@ttyS0` (the name of your port).",
            "`sudo systemctl disable --now serial-getty@ttyS0`（ポートの名前に合わせる）を実行"
            "します。",
        ),
        Text(
            "`sudo systemctl mask serial-getty@ttyS0` keeps it away for good.",
            "`sudo systemctl mask serial-getty@ttyS0` で以後も防げます。",
        ),
    ),
)
def no_getty(site: Site, bus: PlannedBus) -> Finding:
    """Look for a getty among those who have the port open."""
    found = _holder(site, bus, GETTYS)
    if found is None:
        return _free(site, bus)
    path, pid, name = found
    tty = site.at(path).resolve().name
    return failed(
        Text(
            f"{name} (process {pid}) waits for a log-in on {path}",
            f"{name}（プロセス {pid}）が {path} でログインを待ち受けています",
        ),
        Text(
            f"`sudo systemctl disable --now serial-getty@{tty}`",
            f"`sudo systemctl disable --now serial-getty@{tty}` を実行してください",
        ),
    )


@check(
    "YK-BUS-04",
    Text("no port grabber", "ポートを占有するサービス"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-BUS-01",),
    what=Text(
        "Whether ModemManager, brltty or gpsd has taken the sensor's port.",
        "ModemManager、brltty、gpsdがセンサーのポートを占有していないか確認します。",
    ),
    why=Text(
        "They try every new serial adapter for a modem, a braille display, a receiver, and talk "
        "into the sensor.",
        "新しいシリアル機器をモデムや点字端末とみなして通信を始め、センサーの通信を妨げます。",
    ),
    do=(
        Text(
            "Not needed here: `sudo systemctl disable --now ModemManager`, or "
            "`sudo apt remove brltty`.",
            "不要な場合は `sudo systemctl disable --now ModemManager`、または "
            "`sudo apt remove brltty` を実行します。",
        ),
        Text(
            "Needed for a modem: a udev rule that sets ID_MM_DEVICE_IGNORE to 1 for the sensor's "
            "adapter.",
            "モデムに必要な場合は、センサーのアダプターのID_MM_DEVICE_IGNOREを1とするudev規則を"
            "追加します。",
        ),
    ),
)
def no_grabber(site: Site, bus: PlannedBus) -> Finding:
    """Look for them among those who have the port open."""
    found = _holder(site, bus, GRABBERS)
    if found is None and any(_is_probed(site, path) for path in nodes_of(site, bus)):
        return warned(
            Text(
                f"ModemManager runs, and tries {bus.name} whenever it is plugged in",
                f"ModemManagerが動作中で、接続のたびに {bus.name} を調べます",
            ),
            Text(
                "`sudo systemctl disable --now ModemManager`, or ID_MM_DEVICE_IGNORE by udev",
                "`sudo systemctl disable --now ModemManager` を実行するか、udevで除外してください",
            ),
        )
    if found is None:
        return _free(site, bus)
    path, pid, name = found
    return failed(
        Text(
            f"{name} (process {pid}) has {path} open",
            f"{name}（プロセス {pid}）が {path} を開いています",
        ),
        Text(
            f"`sudo systemctl disable --now {name}`",
            f"`sudo systemctl disable --now {name}` を実行してください",
        ),
    )


@check(
    "YK-BUS-05",
    Text("port is free", "ポートの空き"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-BUS-01", "YK-BUS-03", "YK-BUS-04"),
    what=Text(
        "Whether another program has the port or bus open.",
        "別のプログラムがポートやバスを開いていないか確認します。",
    ),
    why=Text(
        "Two who read one port get half of the bytes each; the gateway asks to be alone.",
        "2つのプログラムが読むとデータが分かれてしまいます。装置は単独での使用を求めます。",
    ),
    do=(
        Text(
            "End the program that is named; it is often a terminal that was left open (screen, "
            "minicom).",
            "表示されたプログラムを終了します。閉じ忘れた端末（screen、minicom）のことが多いです。",
        ),
        Text(
            "`sudo fuser -v PATH` shows who has it now.",
            "`sudo fuser -v PATH` で現在の使用者を確認します。",
        ),
    ),
)
def free(site: Site, bus: PlannedBus) -> Finding:
    """Look for anybody else who has it open."""
    for path in nodes_of(site, bus) if bus.kind != "gpio" else ():
        for pid, name, line in site.openers(path):
            if not is_gateway(site, pid, line):
                return failed(
                    Text(
                        f"{name} (process {pid}) has {path} open",
                        f"{name}（プロセス {pid}）が {path} を開いています",
                    ),
                    Text(f"end it: `sudo kill {pid}`", f"終了させてください: `sudo kill {pid}`"),
                )
    return _free(site, bus)


def _holder(site: Site, bus: PlannedBus, names: tuple[str, ...]) -> tuple[str, int, str] | None:
    """Return the first of these programs that has a node of the bus open."""
    for path in nodes_of(site, bus) if bus.kind == "serial" else ():
        holders = site.openers(path)
        # Without root's rights a log-in's open files are not seen, but its command line is.
        tty = site.at(path).resolve().name
        holders += [each for each in site.processes() if tty in each[2].split()]
        for pid, name, line in holders:
            said = Path(line.split(" ")[0]).name
            found = next((each for each in names if each in (name, said)), None)
            if found is not None:
                return path, pid, found
    return None


def _is_probed(site: Site, path: str) -> bool:
    """Tell whether ModemManager will look for a modem at a port."""
    if not any(name == "ModemManager" for _, name, _ in site.processes()):
        return False
    node = site.at(path).resolve()
    if not node.name.startswith(("ttyUSB", "ttyACM")):
        return False
    try:
        device = node.stat().st_rdev
    except OSError:
        return False
    known = site.text(f"/run/udev/data/c{os.major(device)}:{os.minor(device)}") or ""
    return "ID_MM_DEVICE_IGNORE=1" not in known


def _free(site: Site, bus: PlannedBus) -> Finding:
    if not nodes_of(site, bus):
        return skipped(*NO_NODE)
    return passed("nobody has it", "使用者はいません")
