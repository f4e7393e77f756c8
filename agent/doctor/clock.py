"""Is it the right time, who says so, and will it be known after the next power cut?"""

from __future__ import annotations

import re
import socket
import struct
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from config.text import Text

from . import told
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site, within

if TYPE_CHECKING:
    from agent.clock import Look

DEFAULT_SERVERS = ("2.debian.pool.ntp.org",)
NTP_EPOCH_S = 2_208_988_800  # 1900 to 1970
NTP_S = 1.5
WRONG_S = 5.0  # between us and a time server
RTC_WRONG_S = 60.0
_TIME_SYNC = Text(
    "`timedatectl set-ntp true`, and let UDP port 123 through to a time server",
    "`timedatectl set-ntp true` を実行し、時刻サーバーへのUDP 123番を通してください",
)


@check(
    "YK-CLK-01",
    Text("battery-backed clock", "電池式時計（RTC）"),
    blink=Blink.CLOCK,
    what=Text(
        "Whether there is a clock with a battery, whether it runs, and agrees with the system's.",
        "電池式時計があり、動作し、システムの時計と合っているかを確認します。",
    ),
    why=Text(
        "With it the time is known at once after a power cut, without a network. One with an "
        "empty battery tells a wrong time.",
        "停電後も通信なしで時刻が分かります。電池が切れていると誤った時刻になります。",
    ),
    do=(
        Text(
            "Replace the battery (CR2032, CR1220; on the Pi 5 the one at J5).",
            "電池（CR2032、CR1220、Pi 5ではJ5）を交換します。",
        ),
        Text(
            "With the right time known: `sudo hwclock --systohc`.",
            "正しい時刻になったら `sudo hwclock --systohc` を実行します。",
        ),
        Text(
            "A DS3231 needs `dtoverlay=i2c-rtc,ds3231` in /boot/firmware/config.txt.",
            "DS3231には /boot/firmware/config.txt に `dtoverlay=i2c-rtc,ds3231` が必要です。",
        ),
    ),
)
def rtc(site: Site, _: None) -> Finding:
    """Read it, and hold it against what has certainly passed."""
    from agent.clock import BUILT_NS
    from agent.kernel import rtc_s

    from .firmware import overlays

    clocks = [name for name in site.names("/sys/class/rtc") if name.startswith("rtc")]
    told_s = rtc_s(site.at("/sys/class/rtc"))
    battery = Text(
        "replace its battery, then `sudo hwclock --systohc`",
        "電池を交換し、`sudo hwclock --systohc` を実行してください",
    )
    if told_s is None and (clocks or overlays(site, "i2c-rtc")):
        return failed(
            Text(
                "it has lost the time, or does not answer", "時刻を失っているか、応答がありません"
            ),
            battery,
        )
    if told_s is None:
        return skipped(
            "none: after a power cut the time comes from the network",
            "なし。停電後の時刻は通信で取得します",
        )
    if told_s < BUILT_NS // 10**9:
        return failed(Text(f"it says {_day(told_s)}", f"{_day(told_s)} を示しています"), battery)
    look = site.seen
    apart_s = abs(told_s - look.utc_ns / 1e9)
    if look.synchronised and apart_s > RTC_WRONG_S:
        return failed(Text(f"it is {apart_s:.0f} s off", f"{apart_s:.0f} 秒ずれています"), battery)
    return passed(
        f"{_day(told_s)}, within {apart_s:.0f} s", f"{_day(told_s)}、差 {apart_s:.0f} 秒以内"
    )


@check(
    "YK-CLK-02",
    Text("time possible", "時刻の妥当性"),
    blink=Blink.CLOCK,
    excused_by=("YK-CLK-01",),
    what=Text(
        "Whether the system's time can be: not before this program was made, nor before records "
        "that it has written.",
        "システムの時刻が、プログラムの作成時や保存済みの記録より前でないかを確認します。",
    ),
    why=Text(
        "With a wrong clock certificates are refused and records carry wrong times.",
        "時計が狂っていると、証明書が拒否され、記録の時刻も誤ります。",
    ),
    do=(
        Text(
            "`timedatectl` shows the time and whether it is synchronised.",
            "`timedatectl` で時刻と同期の状態を確認します。",
        ),
        Text(
            "Without a network set it by hand: `sudo timedatectl set-time '2027-01-15 09:30'`.",
            "通信がない場合は手動で設定します: `sudo timedatectl set-time '2027-01-15 09:30'`。",
        ),
        Text(
            "For the next power cut: a battery-backed clock.",
            "今後の停電に備え、電池式時計を付けます。",
        ),
    ),
)
def plausible(site: Site, _: None) -> Finding:
    """Hold it against what has certainly passed."""
    from agent.clock import BUILT_NS, RTC_FUTURE_NS

    from .spool import facts

    now_s = site.seen.utc_ns // 10**9
    known = facts(site)
    known_ns = known.known_ns if known is not None else None
    floor_s = max(BUILT_NS, known_ns or 0) // 10**9
    then = Text(
        "set it: `sudo timedatectl set-time 'YYYY-MM-DD hh:mm'`, and let a time server be reached",
        "`sudo timedatectl set-time 'YYYY-MM-DD hh:mm'` で設定し、時刻サーバーに届くようにして"
        "ください",
    )
    if now_s < floor_s - 60:
        return failed(
            Text(
                f"it says {_day(now_s)}, and {_day(floor_s)} has passed already",
                f"{_day(now_s)} を示していますが、{_day(floor_s)} は過ぎています",
            ),
            then,
        )
    if now_s * 10**9 > BUILT_NS + RTC_FUTURE_NS:
        return failed(Text(f"it says {_day(now_s)}", f"{_day(now_s)} を示しています"), then)
    return passed(_day(now_s), _day(now_s))


@check(
    "YK-CLK-03",
    Text("time confirmed", "時刻の確認"),
    blink=Blink.CLOCK,
    needs=("YK-CLK-02",),
    what=Text(
        "Whether the kernel's clock is synchronised; if not, a time server is asked once how far "
        "off it is.",
        "カーネルの時計が同期しているか、していない場合は時刻サーバーにずれを問い合わせます。",
    ),
    why=Text(
        "Records of unknown time wait, and are then sent as estimates.",
        "時刻が未確認の記録は待機し、その後、推定時刻として送信されます。",
    ),
    do=(
        Text(
            "`timedatectl show-timesync --all`, or `chronyc sources`: is a server reached?",
            "`timedatectl show-timesync --all` か `chronyc sources` でサーバーとの通信を確認し"
            "ます。",
        ),
        Text(
            "Behind a firewall name one that is allowed: NTP= in /etc/systemd/timesyncd.conf.",
            "ファイアウォール内では、/etc/systemd/timesyncd.conf のNTP=に許可されたサーバーを書"
            "きます。",
        ),
        Text(
            "A GNSS receiver (driver nmea-gnss) tells the time without any network.",
            "GNSS受信機（nmea-gnss）があれば、通信なしで時刻が分かります。",
        ),
    ),
)
def confirmed(site: Site, _: None) -> Finding:
    """Ask the kernel, and where it does not know a time server."""
    look, plan = site.seen, site.plan
    if look.synchronised:
        bound = "" if look.error_s is None else f", {look.error_s:.3f} s"
        return passed(f"synchronised{bound}", f"同期済み{bound}")
    heard = told.part(site, "clock")
    if heard.get("state") == "synced" and heard.get("source") in ("gnss", "rtc"):
        source, error_s = str(heard["source"]), heard.get("error_s")
        return passed(f"by {source}, {error_s} s", f"{source} による、{error_s} 秒")
    apart_s = within(2 * NTP_S + 1, lambda: _ask_servers(site))
    if apart_s is not None and abs(apart_s) > WRONG_S:
        return failed(
            Text(
                f"a time server says that it is {apart_s:+.0f} s off",
                f"時刻サーバーと {apart_s:+.0f} 秒ずれています",
            ),
            _TIME_SYNC,
        )
    if apart_s is not None:
        return warned(
            Text(
                f"not synchronised, {apart_s:+.1f} s off by a time server",
                f"未同期、時刻サーバーとの差 {apart_s:+.1f} 秒",
            ),
            _TIME_SYNC,
        )
    if plan is not None and plan.loaded.config.clock.trust == "system":
        return passed("not synchronised; configured to be believed", "未同期。設定により信用します")
    return warned(
        Text(
            "not synchronised, and no time server answers",
            "未同期で、時刻サーバーの応答もありません",
        ),
        _TIME_SYNC,
    )


def servers(site: Site) -> list[str]:
    """Return the time servers that this machine is told to ask."""
    found: list[str] = []
    text = site.text("/etc/systemd/timesyncd.conf") or ""
    for line in re.findall(r"^(?:NTP|FallbackNTP)=(.+)$", text, re.MULTILINE):
        found += line.split()
    chrony = site.text("/etc/chrony/chrony.conf") or ""
    found += re.findall(r"^(?:server|pool)\s+(\S+)", chrony, re.MULTILINE)
    return found or list(DEFAULT_SERVERS)


def _ask_servers(site: Site) -> float | None:
    """Return by how many seconds our clock is ahead of a time server; None if none answers."""
    for server in servers(site)[:2]:
        host, _, port = server.partition("#")  # another port only on the bench
        with suppress(OSError, struct.error):
            return site.seen.utc_ns / 1e9 - ask_time(host, int(port or 123), site.seen)
    return None


def ask_time(host: str, port: int, seen: Look) -> float:
    """Return what a time server said it was at the instant `seen` (SNTP, RFC 4330), UTC seconds.

    Raises OSError, struct.error.
    """
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with closing(socket.socket(family, kind, number)) as line:
        line.settimeout(NTP_S)
        line.connect(address)
        line.send(b"\x23" + bytes(47))  # version 4, a client
        answer = line.recv(512)
    arrived_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    whole, part = struct.unpack("!II", answer[40:48])
    if not whole:
        raise OSError("the server does not know the time either")
    utc_s: float = whole - NTP_EPOCH_S + part / 2**32
    return utc_s - (arrived_ns - seen.boot_ns) / 1e9


def _day(utc_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(utc_s))
