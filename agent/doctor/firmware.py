"""Has the Pi's firmware switched on what the sensors need? Asked only where a sensor needs it.

What the kernel shows counts more than what the file says: a node that is there works. The files
are read to say which line is missing, or which will take effect at the next start.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from config.text import Text

from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedBus

STRETCHING = ("omron-d6t", "mlx90614")  # their pages say so
SAFE_HZ = 50_000
_ON = ("on", "1", "true", "yes", "")
_UART = re.compile(r"/dev/(serial0|ttyS0|ttyAMA0|ttyAMA10)\Z")
_RESTART = Text(", then restart: `sudo reboot`", "。その後 `sudo reboot` で再起動します")


def _folder(site: Site) -> str:
    return "/boot/firmware" if site.at("/boot/firmware/config.txt").exists() else "/boot"


def settings(site: Site) -> list[str]:
    """Return the lines of config.txt that count for this board, without comments."""
    lines, counts = [], True
    for line in (site.text(f"{_folder(site)}/config.txt") or "").splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            counts = _filter_holds(site, line.strip("[]"))
        elif line and counts:
            lines.append(line)
    return lines


def _filter_holds(site: Site, name: str) -> bool:
    if name in ("all", ""):
        return True
    if name == "none":
        return False
    number = re.search(r"Pi (?:Model )?(\d)", site.model)
    found = re.fullmatch(r"(?:pi|cm)(\d)\+?", name)
    return found is None or number is None or found[1] == number[1]


def parameter(site: Site, *names: str) -> str | None:
    """Return the last value of a `dtparam=` of one of these names; None where there is none."""
    value = None
    for line in settings(site):
        if line.startswith("dtparam="):
            for part in line.removeprefix("dtparam=").split(","):
                name, _, said = part.partition("=")
                if name.strip() in names:
                    value = said.strip()
    return value


def overlays(site: Site, name: str) -> list[str]:
    """Return the lines that load an overlay."""
    wanted = re.compile(rf"dtoverlay\s*=\s*{re.escape(name)}(,|\Z)")
    return [line for line in settings(site) if wanted.match(line)]


def _add(site: Site, line: str) -> Text:
    file = f"{_folder(site)}/config.txt"
    return Text(f"add `{line}` to {file}{_RESTART}", f"{file} に `{line}` を追加{_RESTART.ja}")


@check(
    "YK-PI-01",
    Text("I2C switched on", "I2Cの有効化"),
    blink=Blink.SENSOR,
    over="bus",
    what=Text(
        "Whether /boot/firmware/config.txt switches on the I2C bus of the header.",
        "/boot/firmware/config.txt で、ピンヘッダーのI2Cが有効かどうかを確認します。",
    ),
    why=Text(
        "A new card has it off: the bus is then not there, however well the sensor is wired.",
        "新しいカードでは無効です。その場合、配線が正しくてもバスが現れません。",
    ),
    do=(
        Text(
            "Add `dtparam=i2c_arm=on` to /boot/firmware/config.txt, or use `sudo raspi-config`, "
            "Interface Options, I2C.",
            "/boot/firmware/config.txt に `dtparam=i2c_arm=on` を追加します。raspi-config の"
            "Interface Options、I2Cでも設定できます。",
        ),
        Text(
            "`sudo reboot`, then `ls /dev/i2c-1`.",
            "`sudo reboot` の後、`ls /dev/i2c-1` で確認します。",
        ),
    ),
)
def i2c(site: Site, bus: PlannedBus) -> Finding:
    """Hold config.txt against a bus that is not there."""
    if bus.kind != "i2c" or not re.fullmatch(r"/dev/i2c-[01]", bus.path or ""):
        return skipped("not on the header's I2C", "ピンヘッダーのI2Cではありません")
    if not site.is_pi:
        return skipped("no Raspberry Pi", "Raspberry Piではありません")
    is_on = (parameter(site, "i2c_arm", "i2c", "i2c1") or "off") in _ON[:-1]
    is_there = site.at(bus.path or "").exists()
    if is_there and is_on:
        return passed("on", "有効")
    then = _add(site, "dtparam=i2c_arm=on")
    if is_there:
        return warned(
            Text(
                "it works now and is not in config.txt",
                "現在は動作中ですが、config.txtにありません",
            ),
            then,
        )
    if not is_on:
        return failed(Text("it is off in config.txt", "config.txtで無効になっています"), then)
    return passed("on in config.txt", "config.txtで有効")


@check(
    "YK-PI-02",
    Text("serial port switched on", "シリアルの有効化"),
    blink=Blink.SENSOR,
    over="bus",
    what=Text(
        "Whether /boot/firmware/config.txt switches on the serial port of the header.",
        "/boot/firmware/config.txt で、ピンヘッダーのシリアルが有効かどうかを確認します。",
    ),
    why=Text(
        "Without `enable_uart=1` the port is not there, or its speed follows the processor's.",
        "`enable_uart=1` がないと、ポートが現れないか、通信速度が不安定になります。",
    ),
    do=(
        Text(
            "Add `enable_uart=1` to /boot/firmware/config.txt and restart.",
            "/boot/firmware/config.txt に `enable_uart=1` を追加し、再起動します。",
        ),
        Text(
            "For speeds above 115200 also `dtoverlay=disable-bt`: the better UART comes to the "
            "pins.",
            "115200を超える速度では `dtoverlay=disable-bt` も追加します。",
        ),
    ),
)
def uart(site: Site, bus: PlannedBus) -> Finding:
    """Hold config.txt against the port."""
    if bus.kind != "serial" or not _UART.match(bus.path or ""):
        return skipped("not on the header's serial port", "ピンヘッダーのシリアルではありません")
    if not site.is_pi:
        return skipped("no Raspberry Pi", "Raspberry Piではありません")
    is_on = any(re.fullmatch(r"enable_uart\s*=\s*1", line) for line in settings(site))
    is_on = is_on or parameter(site, "uart0") in _ON[:-1]
    if is_on:
        return passed("on", "有効")
    then = _add(site, "enable_uart=1")
    if site.at(bus.path or "").exists():
        return warned(
            Text("it is there without enable_uart=1", "enable_uart=1 がないまま存在します"), then
        )
    return failed(Text("it is off in config.txt", "config.txtで無効になっています"), then)


@check(
    "YK-PI-03",
    Text("serial console off", "シリアルコンソール"),
    blink=Blink.SENSOR,
    over="bus",
    what=Text(
        "Whether the kernel itself talks on a port that a sensor uses (cmdline.txt, console=).",
        "センサーのポートをカーネルのコンソール（cmdline.txtのconsole=）が使っていないか確認し"
        "ます。",
    ),
    why=Text(
        "Boot messages go into the sensor, and the sensor's bytes into a log-in prompt.",
        "起動メッセージがセンサーに送られ、センサーのデータがログイン画面に入ります。",
    ),
    do=(
        Text(
            "`sudo raspi-config`, Interface Options, Serial Port: log-in shell no, hardware yes.",
            "`sudo raspi-config` のInterface Options、Serial Portで、ログインシェルは「いい"
            "え」、ハードウェアは「はい」とします。",
        ),
        Text(
            "Or remove `console=serial0,115200` from /boot/firmware/cmdline.txt. Restart.",
            "または /boot/firmware/cmdline.txt から `console=serial0,115200` を削除し、再起動し"
            "ます。",
        ),
    ),
)
def console(site: Site, bus: PlannedBus) -> Finding:
    """Look for the port among the kernel's consoles."""
    if bus.kind != "serial" or not bus.path:
        return skipped("no serial port", "シリアルではありません")
    node = site.at(bus.path)
    if not node.exists():
        return skipped("it is not there", "ポートがありません")
    names = {Path(bus.path).name, node.resolve().name}
    if site.at("/dev/serial0").resolve() == node.resolve():
        names.add("serial0")  # as cmdline.txt calls it
    wanted = re.findall(r"\bconsole=(tty(?!\d)\w+|serial\d)", site.text("/proc/cmdline") or "")
    written = re.findall(
        r"\bconsole=(tty(?!\d)\w+|serial\d)", site.text(f"{_folder(site)}/cmdline.txt") or ""
    )
    active = (site.text("/sys/class/tty/console/active") or "").split()
    clash = names & {*wanted, *written, *active}
    if not clash:
        return passed("off", "使われていません")
    return failed(
        Text(
            f"the kernel's console is on {', '.join(sorted(clash))}",
            f"カーネルのコンソールが {'、'.join(sorted(clash))} を使っています",
        ),
        Text(
            f"remove console={min(clash)} from {_folder(site)}/cmdline.txt{_RESTART}",
            f"{_folder(site)}/cmdline.txt から console={min(clash)} を削除{_RESTART.ja}",
        ),
    )


@check(
    "YK-PI-04",
    Text("1-Wire switched on", "1-Wireの有効化"),
    blink=Blink.SENSOR,
    over="bus",
    what=Text(
        "Whether /boot/firmware/config.txt loads the 1-Wire overlay.",
        "/boot/firmware/config.txt で1-Wireが有効かどうかを確認します。",
    ),
    why=Text(
        "Without `dtoverlay=w1-gpio` the kernel does not look for thermometers.",
        "`dtoverlay=w1-gpio` がないと、温度計は検出されません。",
    ),
    do=(
        Text(
            "Add `dtoverlay=w1-gpio` to /boot/firmware/config.txt (data on GPIO 4) and restart.",
            "/boot/firmware/config.txt に `dtoverlay=w1-gpio` を追加（データ線はGPIO 4）し、再"
            "起動します。",
        ),
    ),
)
def w1(site: Site, bus: PlannedBus) -> Finding:
    """Hold config.txt against the kernel's folder."""
    if bus.kind != "w1":
        return skipped("not 1-Wire", "1-Wireではありません")
    if any(name.startswith("w1_bus_master") for name in site.names("/sys/bus/w1/devices")):
        return passed("on", "有効")
    if not site.is_pi or overlays(site, "w1-gpio") or overlays(site, "w1-gpio-pullup"):
        return failed(
            Text("no 1-Wire bus is there", "1-Wireのバスがありません"),
            Text(
                "`sudo modprobe w1-gpio`, or restart",
                "`sudo modprobe w1-gpio` を実行するか再起動してください",
            ),
        )
    return failed(
        Text("it is off in config.txt", "config.txtで無効になっています"),
        _add(site, "dtoverlay=w1-gpio"),
    )


@check(
    "YK-PI-05",
    Text("I2C clock stretching", "I2Cのクロックストレッチ"),
    blink=Blink.SENSOR,
    over="bus",
    needs=("YK-PI-01",),
    what=Text(
        "Whether a sensor that holds the clock low sits on a controller that cannot wait for it.",
        "クロックを引き延ばすセンサーが、対応していないコントローラーにつながっていないか確認し"
        "ます。",
    ),
    why=Text(
        "The I2C controller of all Pis before the 5 then misses a bit now and then: values are "
        "wrong, or refused by their checksum.",
        "Pi 5より前のI2Cコントローラーはビットを取りこぼし、誤った値や検査エラーの原因になります。",
    ),
    do=(
        Text(
            "Slow the bus: `dtparam=i2c_arm_baudrate=50000` in /boot/firmware/config.txt.",
            "/boot/firmware/config.txt に `dtparam=i2c_arm_baudrate=50000` を追加して遅くします。",
        ),
        Text(
            "Or take the software's controller: `dtoverlay=i2c-gpio,bus=3,i2c_gpio_delay_us=2`, "
            "and the bus /dev/i2c-3.",
            "または `dtoverlay=i2c-gpio,bus=3,i2c_gpio_delay_us=2` を使い、/dev/i2c-3 に接続し"
            "ます。",
        ),
    ),
)
def stretching(site: Site, bus: PlannedBus) -> Finding:
    """Look for a stretching sensor on a fast hardware bus."""
    plan = site.plan
    here = [] if plan is None else [s for s in plan.sensors if s.bus is bus]
    stretch = [s.table.id for s in here if s.table.driver in STRETCHING]
    if bus.kind != "i2c" or not stretch:
        return skipped("no sensor here stretches the clock", "該当するセンサーはありません")
    if not site.is_pi or "Pi 5" in site.model or "Module 5" in site.model:
        return passed("this controller waits", "このコントローラーは対応しています")
    if not re.fullmatch(r"/dev/i2c-[01]", bus.path or ""):
        return passed("not the hardware's controller", "ハードウェアのコントローラーではありません")
    said = parameter(site, "i2c_arm_baudrate", "i2c_baudrate", "i2c1_baudrate") or "100000"
    speed_hz = int(said) if said.isdigit() else 100_000
    if speed_hz <= SAFE_HZ:
        return passed(f"{speed_hz} Hz", f"{speed_hz} Hz")
    return warned(
        Text(f"{', '.join(stretch)} at {speed_hz} Hz", f"{'、'.join(stretch)}、{speed_hz} Hz"),
        _add(site, f"dtparam=i2c_arm_baudrate={SAFE_HZ}"),
    )
