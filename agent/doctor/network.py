"""Is there a way to the broker, and does a broker stand at its end?"""

from __future__ import annotations

import errno
import socket

from config.text import Text

from . import told, way
from .findings import Blink, Finding, check, failed, passed, skipped
from .session import session
from .site import Site

OUTSIDE = ("192.0.2.1", "2001:db8::1")  # addresses of nobody (RFC 5737, 3849): only for the route
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN)


@check(
    "YK-NET-01",
    Text("way out", "外への経路"),
    blink=Blink.NETWORK,
    what=Text(
        "Whether an interface is up and the kernel knows a route to where the brokers are.",
        "回線がつながり、中継サーバーへの経路があるかどうかを確認します。",
    ),
    why=Text(
        "Without a route nothing leaves; records wait in the spool meanwhile.",
        "経路がないと何も送信できません。その間、記録は保存されます。",
    ),
    do=(
        Text(
            "`ip -br address; ip route`: is an interface UP, with an address, and a default route?",
            "`ip -br address; ip route` で、UPの回線、アドレス、default経路を確認します。",
        ),
        Text(
            "Look at the modem's or switch's lamps; plug the cable in again; check the SIM and "
            "antenna.",
            "モデムやスイッチのランプを確認し、ケーブル・SIM・アンテナを点検します。",
        ),
        Text(
            "`sudo systemctl restart NetworkManager` (or dhcpcd) asks for an address again.",
            "`sudo systemctl restart NetworkManager`（またはdhcpcd）でアドレスを取り直します。",
        ),
    ),
)
def route(site: Site, _: None) -> Finding:
    """Ask the kernel for the way; nothing is sent."""
    plan = site.plan
    urls = [] if plan is None else plan.loaded.config.uplink.brokers
    hosts = [way.target(url) for url in urls]
    wanted = [each.host for each in hosts if each.is_address] or list(OUTSIDE)
    if any(each.host == "localhost" for each in hosts):
        wanted.append("127.0.0.1")
    reasons = [site.way_to(address) for address in wanted]
    up = [name for name in site.names("/sys/class/net") if name != "lo" and _is_up(site, name)]
    if any(each is None for each in reasons):
        return passed(", ".join(up) or "local", "、".join(up) or "装置内")
    down = [name for name in site.names("/sys/class/net") if name != "lo" and name not in up]
    state = f"up: {', '.join(up) or 'none'}; down: {', '.join(down) or 'none'}"
    state_ja = f"接続中: {'、'.join(up) or 'なし'}、切断: {'、'.join(down) or 'なし'}"
    return failed(
        Text(f"no route ({state})", f"経路がありません（{state_ja}）"),
        Text(
            "check modem, cable, SIM; `ip -br address; ip route`",
            "モデム・ケーブル・SIMを点検し、`ip -br address; ip route` で確認してください",
        ),
    )


def _is_up(site: Site, name: str) -> bool:
    # Modems and tunnels say `unknown`: they have no carrier to speak of.
    return (site.text(f"/sys/class/net/{name}/operstate") or "").strip() in ("up", "unknown")


@check(
    "YK-NET-02",
    Text("broker's name", "中継サーバーの名前"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-NET-01",),
    what=Text(
        "Whether a name server turns the broker's name into an address.",
        "中継サーバーの名前からアドレスが得られるかどうかを確認します。",
    ),
    why=Text(
        "Without it nobody can be called by name; the route may be fine all the same.",
        "名前解決ができないと接続できません。経路が正常でも起こります。",
    ),
    do=(
        Text(
            "`getent hosts NAME`; `cat /etc/resolv.conf` names the servers that are asked.",
            "`getent hosts NAME` を試し、`cat /etc/resolv.conf` でネームサーバーを確認します。",
        ),
        Text(
            "No server answers: take the network operator's, or the one that DHCP gives.",
            "応答がない場合は、通信事業者かDHCPのネームサーバーを設定します。",
        ),
        Text(
            "The server answers that there is no such name: correct [uplink] brokers.",
            "名前が存在しない場合は、[uplink] brokersを修正します。",
        ),
    ),
)
def name(site: Site, url: str) -> Finding:
    """Look it up."""
    to = way.target(url)
    if to.is_address:
        return skipped("it is an address", "アドレスで指定されています")
    found = way.addresses(site, url)
    servers = [
        line.split()[1]
        for line in (site.text("/etc/resolv.conf") or "").splitlines()
        if line.startswith("nameserver") and len(line.split()) > 1
    ]
    asked = f" ({', '.join(servers)})" if servers else ""
    if isinstance(found, list) and found:
        return passed(f"{to.host} is {', '.join(found[:3])}", f"{to.host} → {'、'.join(found[:3])}")
    if isinstance(found, socket.gaierror) and found.errno == socket.EAI_NONAME:
        return failed(
            Text(f"there is no {to.host}{asked}", f"{to.host} は存在しません{asked}"),
            Text(
                "correct [uplink] brokers, or ask for the name to be registered",
                "[uplink] brokersを修正するか、名前の登録を依頼してください",
            ),
        )
    return failed(
        Text(f"no name server answers{asked}", f"ネームサーバーが応答しません{asked}"),
        Text(
            "see /etc/resolv.conf; set the operator's name server",
            "/etc/resolv.conf を確認し、通信事業者のネームサーバーを設定してください",
        ),
    )


@check(
    "YK-NET-03",
    Text("packets come back", "通信の到達"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-NET-02",),
    what=Text(
        "Whether the broker's machine answers a connection at all, be it by refusing it.",
        "中継サーバーの機器が、拒否も含めて接続に応答するかどうかを確認します。",
    ),
    why=Text(
        "Silence means that a firewall drops the packets, or that the other end is off.",
        "無応答は、ファイアウォールによる破棄か、相手の停止を意味します。",
    ),
    do=(
        Text(
            "Ask for outgoing TCP to the broker's port (8883 or 1883) to be let through.",
            "中継サーバーのポート（8883または1883）へのTCP送信の許可を依頼します。",
        ),
        Text(
            "`sudo nft list ruleset` shows this machine's own rules; a SIM may have a closed "
            "network.",
            "`sudo nft list ruleset` でこの装置の規則を確認します。SIMが閉域網のこともあります。",
        ),
        Text(
            "Try from elsewhere: if the broker is silent there too, it is off.",
            "別の場所から試し、そこでも無応答なら相手が停止しています。",
        ),
    ),
)
def reached(site: Site, url: str) -> Finding:
    """Connect."""
    told, to = way.connection(site, url), way.target(url)
    if isinstance(told, float):
        return passed(f"{told * 1000:.0f} ms", f"{told * 1000:.0f} ms")
    if told.errno == errno.ECONNREFUSED:
        return passed("the machine answers", "機器は応答しています")
    where = f"{to.host}:{to.port}"
    if told.errno in _NO_ROUTE:
        said = Text(f"{where}: {told.strerror}", f"{where}: {told.strerror}")
    else:
        said = Text(
            f"{where}: no answer within {site.budget.connect_s:g} s",
            f"{where}: {site.budget.connect_s:g} 秒以内に応答がありません",
        )
    return failed(
        said,
        Text(
            f"let TCP to {where} through the firewall; is the broker's machine on?",
            f"ファイアウォールで {where} へのTCPを許可し、中継サーバーの稼働を確認してください",
        ),
    )


@check(
    "YK-NET-04",
    Text("somebody listens", "ポートの待ち受け"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-NET-03",),
    what=Text(
        "Whether a program listens on the broker's port.",
        "中継サーバーのポートで待ち受けるプログラムがあるかどうかを確認します。",
    ),
    why=Text(
        "A refusal means that the machine is there, and the broker is not, or on another port.",
        "拒否は、機器はあるが中継サーバーが動いていないか、ポートが違うことを意味します。",
    ),
    do=(
        Text(
            "Have the broker started; nothing is wrong here. Records wait until then.",
            "中継サーバーの起動を依頼します。この装置は正常で、記録はそれまで保存されます。",
        ),
        Text(
            "If it runs: is the port in [uplink] brokers right (8883 with TLS, 1883 without)?",
            "稼働中の場合は、[uplink] brokersのポート（TLSは8883、なしは1883）を確認します。",
        ),
    ),
)
def listened(site: Site, url: str) -> Finding:
    """Look at how the connection was answered."""
    told, to = way.connection(site, url), way.target(url)
    if isinstance(told, float):
        return passed(f"port {to.port}", f"ポート {to.port}")
    return failed(
        Text(
            f"{to.host}:{to.port} refuses: no broker listens there",
            f"{to.host}:{to.port} が拒否しました。待ち受けがありません",
        ),
        Text(
            "have the broker started, or correct the port in [uplink] brokers",
            "中継サーバーの起動を依頼するか、[uplink] brokersのポートを修正してください",
        ),
    )


@check(
    "YK-NET-05",
    Text("no web page in between", "認証画面の有無"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-NET-04",),
    what=Text(
        "Whether a web server answers in the broker's place.",
        "中継サーバーの代わりにウェブサーバーが応答していないか確認します。",
    ),
    why=Text(
        "Public wireless networks and some SIMs answer everything with their own page until "
        "somebody agrees to their terms or pays.",
        "公衆無線や一部のSIMは、同意や支払いが済むまで、すべての通信に自分の画面を返します。",
    ),
    do=(
        Text(
            "Connect with a phone to the same network, open any page, and agree.",
            "同じ回線に携帯電話を接続し、表示される画面で同意します。",
        ),
        Text(
            "For lasting use ask for an access without a portal, or use another SIM.",
            "恒久的には、認証画面のない回線か別のSIMを使います。",
        ),
        Text(
            "Or the port is a web server's: correct [uplink] brokers.",
            "ウェブサーバーのポートを指定している場合は、[uplink] brokersを修正します。",
        ),
    ),
)
def no_portal(site: Site, url: str) -> Finding:
    """Greet, and look at the first bytes of the answer; only where no broker has taken us."""
    if told.is_connected(site, url):
        return passed("the gateway is connected", "装置が接続中です")
    to = way.target(url)
    if told.is_connected_elsewhere(site, url):
        is_well = True  # nobody logs in beside it
    elif to.is_tls:
        is_well = way.handshake(site, url).fault in (None, "dates", "client")
    else:
        is_well = session(site, url).has_greeted
    page = None if is_well else way.web_page(site, url)
    if page is None:
        return passed("none", "なし")
    return failed(
        Text(f"a web server answers: {page}", f"ウェブサーバーが応答しています: {page}"),
        Text(
            "log in to the network's portal (with a phone), or take another network",
            "回線の認証画面で（携帯電話などから）手続きするか、別の回線を使ってください",
        ),
    )
