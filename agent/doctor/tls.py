"""Is it the right broker: its certificate's authority, name and dates; and is ours accepted?"""

from __future__ import annotations

import ssl
import time

from config.text import Text

from . import trusted, way
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

SOON_DAYS = 30
_PLAIN = ("without TLS", "TLSなし")


@check(
    "YK-TLS-01",
    Text("TLS spoken", "TLSの応答"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-NET-05",),
    what=Text(
        "Whether the other end speaks TLS at all.", "相手がTLSで応答するかどうかを確認します。"
    ),
    why=Text(
        "A broker without TLS on this port, or a middlebox, cannot be told from a stranger.",
        "TLSを使わない相手や中間装置は、他人と区別できません。",
    ),
    do=(
        Text(
            "Is the port the one with TLS (8883)? A plain broker wants mqtt://.",
            "TLSのポート（8883）か確認します。TLSなしの場合はmqtt://を使います。",
        ),
        Text(
            "`openssl s_client -connect HOST:8883` shows what is said.",
            "`openssl s_client -connect HOST:8883` で応答を確認します。",
        ),
    ),
)
def spoken(site: Site, url: str) -> Finding:
    """Shake hands."""
    to = way.target(url)
    if not to.is_tls:
        return skipped(*_PLAIN)
    done = way.handshake(site, url)
    if done.fault == "speech":
        return failed(
            Text(
                f"no TLS on {to.host}:{to.port}: {done.words}",
                f"{to.host}:{to.port} はTLSではありません: {done.words}",
            ),
            Text(
                "take the TLS port in [uplink] brokers, or mqtt:// for a plain broker",
                "[uplink] brokersにTLSのポートを書くか、TLSなしの場合はmqtt://を使ってください",
            ),
        )
    return passed(done.version or "TLS", done.version or "TLS")


@check(
    "YK-TLS-02",
    Text("certificate's authority", "証明書の発行元"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-TLS-01",),
    what=Text(
        "Whether the broker's certificate comes from the authority in [uplink.tls] ca_file.",
        "中継サーバーの証明書が、[uplink.tls] ca_fileの認証局の発行か確認します。",
    ),
    why=Text(
        "Anybody can make a certificate; the authority tells the city's broker from a stranger's.",
        "証明書は誰でも作れます。認証局によって正規のサーバーを見分けます。",
    ),
    do=(
        Text(
            "Is ca_file the city's authority, and the new one where it was renewed?",
            "ca_fileが正しい認証局で、更新後のものか確認します。",
        ),
        Text(
            "`openssl s_client -connect HOST:8883 -showcerts` shows who issued it.",
            "`openssl s_client -connect HOST:8883 -showcerts` で発行元を確認します。",
        ),
        Text(
            "A stranger's authority may be an attack or a filter: do not simply trust it.",
            "見知らぬ認証局は攻撃や検閲装置の可能性があります。安易に信用しないでください。",
        ),
    ),
)
def authority(site: Site, url: str) -> Finding:
    """Look at how the certificate was judged."""
    if not way.target(url).is_tls:
        return skipped(*_PLAIN)
    done = way.handshake(site, url)
    if done.fault == "authority":
        return failed(
            Text(f"not of our authority: {done.words}", f"認証局が異なります: {done.words}"),
            Text(
                "put the broker's authority into [uplink.tls] ca_file, after asking the city for "
                "it",
                "市に確認のうえ、中継サーバーの認証局を[uplink.tls] ca_fileに設定してください",
            ),
        )
    issuer = _issuer(done)
    return passed(issuer or "known", issuer or "確認済み")


@check(
    "YK-TLS-03",
    Text("certificate's name", "証明書の名前"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-TLS-02",),
    what=Text(
        "Whether the certificate is for the host name in [uplink] brokers.",
        "証明書が[uplink] brokersのホスト名のものか確認します。",
    ),
    why=Text(
        "A good certificate of another host proves nothing about this one.",
        "別のホストの証明書では、相手を確認できません。",
    ),
    do=(
        Text(
            "Use the name that the certificate has, not an address or an alias.",
            "アドレスや別名ではなく、証明書にある名前を使います。",
        ),
        Text(
            "Or have the broker's certificate issued anew, with this name.",
            "または、この名前で証明書の再発行を依頼します。",
        ),
    ),
)
def named(site: Site, url: str) -> Finding:
    """Look at how the certificate was judged."""
    to = way.target(url)
    if not to.is_tls:
        return skipped(*_PLAIN)
    done = way.handshake(site, url)
    if done.fault == "name":
        return failed(
            Text(
                f"it is not for {to.host}: {done.words}",
                f"{to.host} のものではありません: {done.words}",
            ),
            Text(
                "use the certificate's own name in [uplink] brokers, or have it issued anew",
                "[uplink] brokersに証明書の名前を使うか、再発行を依頼してください",
            ),
        )
    return passed(to.host, to.host)


@check(
    "YK-TLS-04",
    Text("certificate's dates", "証明書の有効期間"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-TLS-03",),
    excused_by=("YK-CLK-01", "YK-CLK-02", "YK-CLK-03"),
    what=Text(
        "Whether the certificate is valid today, and for how much longer.",
        "証明書が現在有効か、残りの期間とともに確認します。",
    ),
    why=Text(
        "After its end no gateway connects any more. A wrong clock looks the same.",
        "期限が切れると、どの装置も接続できません。時計の狂いでも同じ症状になります。",
    ),
    do=(
        Text("Is the clock right (YK-CLK-02)?", "時計（YK-CLK-02）が正しいか確認します。"),
        Text(
            "Have the broker's certificate renewed; records wait until then.",
            "中継サーバーの証明書の更新を依頼します。記録はそれまで保存されます。",
        ),
    ),
)
def dated(site: Site, url: str) -> Finding:
    """Look at how the certificate was judged, and at its end."""
    if not way.target(url).is_tls:
        return skipped(*_PLAIN)
    done = way.handshake(site, url)
    renew = Text(
        "have the broker's certificate renewed", "中継サーバーの証明書の更新を依頼してください"
    )
    if done.fault == "dates":
        return failed(Text(done.words, f"有効期間外です: {done.words}"), renew)
    end = (done.certificate or {}).get("notAfter")
    if not end:
        return passed("valid", "有効")
    days = int((ssl.cert_time_to_seconds(end) - trusted.now_ns(site) / 1e9) // 86_400)
    said = Text(f"{days} days left", f"残り{days}日")
    if (floor_ns := trusted.floor_ns(site)) is not None:  # the daemon believes it, for now
        day = time.strftime("%Y-%m-%d", time.gmtime(floor_ns // 10**9))
        said = Text(
            f"the time is not known; it ends {days} days after {day}, which has passed",
            f"時刻が未確認です。確実に過ぎた {day} の{days}日後に期限が切れます",
        )
    if days < SOON_DAYS:
        return warned(said, renew)
    return passed(said, said.ja)


@check(
    "YK-TLS-05",
    Text("our own certificate", "装置の証明書"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-TLS-04",),
    excused_by=("YK-CLK-01", "YK-CLK-02", "YK-CLK-03"),
    what=Text(
        "Whether the gateway's own certificate and key fit, are valid, and the broker takes them.",
        "装置の証明書と鍵が対応し、有効で、中継サーバーに受け入れられるか確認します。",
    ),
    why=Text(
        "Where the broker asks for certificates, one that is missing or over keeps us out.",
        "証明書を求める中継サーバーでは、ないか期限切れだと接続できません。",
    ),
    do=(
        Text(
            "`openssl x509 -in gw.pem -noout -dates -subject` shows it.",
            "`openssl x509 -in gw.pem -noout -dates -subject` で内容を確認します。",
        ),
        Text(
            "Have a new one issued, and set [uplink.tls] cert_file and key_file.",
            "再発行を受け、[uplink.tls] cert_fileとkey_fileに設定します。",
        ),
    ),
)
def own(site: Site, url: str) -> Finding:
    """Look at the files' ends, and at the broker's word."""
    from agent import certificates

    plan = site.plan
    if plan is None or not way.target(url).is_tls:
        return skipped(*_PLAIN)
    tls = plan.loaded.config.uplink.tls
    done = way.handshake(site, url)
    renew = Text(
        "have the gateway's certificate issued anew: [uplink.tls] cert_file, key_file",
        "装置の証明書を再発行し、[uplink.tls] cert_file、key_fileに設定してください",
    )
    now_ns = trusted.now_ns(site)
    ends = [e for e in certificates.of_files(tls, plan.loaded.file) if e.name == tls.cert_file]
    if ends and ends[0].end_ns <= now_ns:
        return failed(Text(f"{tls.cert_file} is over", f"{tls.cert_file} は期限切れです"), renew)
    if done.fault == "client":
        return failed(
            Text(f"not accepted: {done.words}", f"受け入れられません: {done.words}"), renew
        )
    if ends and ends[0].days(now_ns) < SOON_DAYS:
        days = ends[0].days(now_ns)
        return warned(
            Text(f"{tls.cert_file}: {days} days left", f"{tls.cert_file}: 残り{days}日"), renew
        )
    if tls.cert_file is None:
        return passed("none, none wanted", "なし（要求されていません）")
    return passed(str(tls.cert_file), str(tls.cert_file))


def _issuer(done: way.Handshake) -> str:
    for part in (done.certificate or {}).get("issuer", ()):
        for key, value in part:
            if key in ("organizationName", "commonName"):
                return str(value)
    return ""
