"""Does the broker take the gateway, may it publish, and does anybody listen?

Where the gateway is connected its own word counts, and nobody else logs in under its name.
"""

from __future__ import annotations

import json

from config.text import Text

from . import told, way
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .service import gateways
from .session import FAILURE, NOBODY, session
from .site import Site
from .spool import facts

BAD_NAME, NOT_ALLOWED = (4, 0x86), (5, 0x87)  # in 3.1.1 and 5
_ELSEWHERE = ("the gateway is connected to another broker", "装置は別の中継サーバーに接続中です")
_CONNECTED = ("the gateway is connected", "装置が接続中です")


@check(
    "YK-MQ-01",
    Text("broker answers", "中継サーバーの応答"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-NET-05", "YK-TLS-05"),
    excused_by=("YK-CFG-04",),
    what=Text(
        "Whether the broker answers a greeting, and in which version of MQTT.",
        "中継サーバーが接続要求に応答するか、MQTTの版とともに確認します。",
    ),
    why=Text(
        "One that takes connections and does not answer is overloaded, or no broker. With 3.1.1 "
        "it cannot say that nobody subscribes.",
        "接続を受けても応答しない場合は、過負荷か別のサーバーです。3.1.1では受信者の有無が分か"
        "りません。",
    ),
    do=(
        Text(
            "Have the broker looked at: its log, its load, its disk.",
            "中継サーバーのログ、負荷、ディスクの確認を依頼します。",
        ),
        Text(
            "A port that speaks TLS (8883) is silent to who begins without: mqtts:// in [uplink] "
            "brokers.",
            "TLSのポート（8883）は、TLSなしの接続には応答しません。[uplink] brokersに"
            "mqtts://を使います。",
        ),
        Text(
            "A proxy in between may want another port or another name.",
            "途中のプロキシが別のポートや名前を求めている場合があります。",
        ),
    ),
)
def greets(site: Site, url: str) -> Finding:
    """Greet it."""
    if told.is_connected(site, url):
        since = str(told.part(site, "uplink").get("connected_since"))
        return passed(f"connected since {since}", f"{since} から接続中")
    if told.is_connected_elsewhere(site, url):
        return skipped(*_ELSEWHERE)
    said = session(site, url)
    if not said.has_greeted and is_plain(url) and way.speaks_tls(site, url):
        return failed(
            Text(
                "it speaks TLS, and is greeted without it",
                "TLSで応答するポートに、TLSなしで接続しています",
            ),
            Text(
                "write mqtts:// in place of mqtt:// in [uplink] brokers",
                "[uplink] brokers の mqtt:// を mqtts:// に直してください",
            ),
        )
    if not said.has_greeted:
        return failed(
            Text(f"no answer: {said.error}", f"応答がありません: {said.error}"),
            Text(
                "have the broker's log and load looked at",
                "中継サーバーのログと負荷の確認を依頼してください",
            ),
        )
    uplink = site.plan.loaded.config.uplink if site.plan is not None else None
    if uplink is not None and uplink.protocol == "5" and said.protocol != "5":
        return warned(
            Text(
                "it knows MQTT 3.1.1 only, and cannot say that nobody subscribes",
                "MQTT 3.1.1のみのため、受信者の有無が分かりません",
            ),
            Text(
                'use one with MQTT 5, or set protocol = "3.1.1"',
                'MQTT 5対応のものを使うか、protocol = "3.1.1" と設定してください',
            ),
        )
    return passed(f"MQTT {said.protocol}", f"MQTT {said.protocol}")


@check(
    "YK-MQ-02",
    Text("name and password", "利用者名とパスワード"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-MQ-01",),
    what=Text(
        "Whether the broker accepts [uplink] username and the password in password_file.",
        "[uplink] usernameとpassword_fileのパスワードで接続できるか確認します。",
    ),
    why=Text(
        "With a wrong password nothing is delivered; records wait.",
        "パスワードが誤っていると送信できず、記録は保存されます。",
    ),
    do=(
        Text(
            "Compare username and password with those that the city gave; mind a space at the end.",
            "市から渡された利用者名・パスワードと比べます（末尾の空白に注意）。",
        ),
        Text(
            "Write the password alone into password_file, chmod 640, group yukimi. No restart is "
            "needed.",
            "password_fileにパスワードだけを書き、640、グループyukimiとします。再起動は不要です。",
        ),
        Text(
            "It may have been locked or deleted: ask whoever runs the broker.",
            "停止・削除の可能性もあるため、中継サーバーの管理者に確認します。",
        ),
    ),
)
def accepted(site: Site, url: str) -> Finding:
    """Look at how we were received."""
    if told.is_connected(site, url):
        return passed(*_CONNECTED)
    if told.is_connected_elsewhere(site, url):
        return skipped(*_ELSEWHERE)
    said = session(site, url)
    if said.refused is None:
        return passed("accepted", "受け入れられました")
    uplink = site.plan.loaded.config.uplink if site.plan is not None else None
    user = None if uplink is None else uplink.username
    who = f"user {user}" if user else "no user name"
    if said.refused in (*BAD_NAME, *NOT_ALLOWED):
        return failed(
            Text(f"{who}: {said.refused_words}", f"{user or '利用者名なし'}: {said.refused_words}"),
            Text(
                "correct [uplink] username and the password in password_file",
                "[uplink] usernameとpassword_fileのパスワードを修正してください",
            ),
        )
    return failed(
        Text(f"refused: {said.refused_words}", f"拒否されました: {said.refused_words}"),
        Text(
            "ask whoever runs the broker, with this reason",
            "この理由を中継サーバーの管理者に伝えてください",
        ),
    )


@check(
    "YK-MQ-03",
    Text("may publish", "送信の権限"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-MQ-02",),
    what=Text(
        "Whether the gateway may write below its own topic. Without a running gateway one empty, "
        "not retained message is published on alarm/gateway/doctor, which by the contract means "
        "that nothing is wrong.",
        "装置が自分のトピックに書き込めるか確認します。停止中は、alarm/gateway/doctorに空のメッ"
        "セージを1件（保持なし）送ります。取り決め上、異常なしを意味します。",
    ),
    why=Text(
        "What is not permitted is held back and tried again; it is not lost, and it does not "
        "arrive.",
        "許可がない記録は保存・再送されます。失われませんが、届きません。",
    ),
    do=(
        Text(
            "Have the broker's access list give ROOT/GATEWAY/# to this user, for reading and "
            "writing.",
            "中継サーバーの権限設定で、ROOT/GATEWAY/#の読み書きをこの利用者に許可します。",
        ),
        Text(
            "Is [gateway] id, or topic_root, another than the list has?",
            "[gateway] idやtopic_rootが権限設定と一致するか確認します。",
        ),
        Text(
            "Rights that hang on the client id cannot be seen from here: the doctor has another "
            "one.",
            "クライアントIDに基づく権限は、点検用のIDが異なるため確認できません。",
        ),
    ),
)
def permitted(site: Site, url: str) -> Finding:
    """Look at what became of the message, or at the gateway's word."""
    ask = Text(
        "have ROOT/GATEWAY/# permitted to this user; compare [gateway] id and topic_root",
        "ROOT/GATEWAY/#の許可を依頼し、[gateway] idとtopic_rootを確認してください",
    )
    cut = told.cut_short(site, url)
    if cut is not None:
        reason, after = str(cut.get("reason")), str(cut.get("after") or "-")
        return failed(
            Text(
                f"it ends each session soon, or acknowledges nothing ({reason}), last after a "
                f"message to {after}",
                f"接続がすぐに切れるか、受信確認がありません（{reason}、直前の送信先: {after}）",
            ),
            ask,
        )
    if told.is_connected(site, url):
        held = told.topics(site, "not_authorised")
        if held:
            return failed(
                Text(f"not permitted: {', '.join(held)}", f"許可されていません: {'、'.join(held)}"),
                ask,
            )
        return passed(*_CONNECTED)
    if told.is_connected_elsewhere(site, url):
        return skipped(*_ELSEWHERE)
    said = session(site, url)
    if said.published is None:
        # Some hang up on whoever may not.
        return failed(
            Text("the message was not confirmed", "メッセージの受信確認がありません"), ask
        )
    if said.published >= FAILURE:
        return failed(
            Text(
                f"not permitted (reason {said.published:#x})",
                f"許可されていません（理由 {said.published:#x}）",
            ),
            ask,
        )
    if said.subscribed is not None and said.subscribed >= FAILURE:
        return failed(
            Text("it may not read its own topics", "自分のトピックを読む権限がありません"), ask
        )
    trip_ms = None if said.round_trip_s is None else said.round_trip_s * 1000
    if trip_ms is None:
        return passed("confirmed", "受信確認あり")
    return passed(f"there and back in {trip_ms:.0f} ms", f"往復 {trip_ms:.0f} ms")


@check(
    "YK-MQ-04",
    Text("somebody listens", "受信者の有無"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-MQ-03",),
    what=Text(
        "Whether anybody subscribes to what the gateway sends (MQTT 5 tells). The running "
        "gateway knows it of each topic; else it is known of alarm/gateway/doctor only.",
        "装置の送信を受け取る相手がいるか確認します（MQTT 5）。運転中は全トピック、停止中は"
        "alarm/gateway/doctorのみ分かります。",
    ),
    why=Text(
        "What nobody subscribes to the broker throws away, so it is not sent.",
        "受信者のいない記録は中継サーバーが捨てるため、送信を控えています。",
    ),
    do=(
        Text(
            "Have the city's subscriber started: it is stopped, or logged in elsewhere.",
            "市側の受信システムの起動と接続先を確認してもらいます。",
        ),
        Text(
            "Does it subscribe to the same topic_root (yukimi/v1)?",
            "購読先のtopic_root（yukimi/v1）が一致するか確認します。",
        ),
    ),
)
def heard(site: Site, url: str) -> Finding:
    """Look at the gateway's word, or at the reason code of our message."""
    plan = site.plan
    ask = Text(
        "have the city's subscriber started; compare topic_root",
        "市側の受信システムの起動を依頼し、topic_rootを確認してください",
    )
    if told.is_connected(site, url):
        silent = told.topics(site, "nobody_subscribes")
        if silent:
            return failed(
                Text(
                    f"nobody subscribes to {', '.join(silent)}",
                    f"受信者がいません: {'、'.join(silent)}",
                ),
                ask,
            )
        return passed(*_CONNECTED)
    if told.is_connected_elsewhere(site, url):
        return skipped(*_ELSEWHERE)
    said = session(site, url)
    if said.protocol != "5":
        return skipped("MQTT 3.1.1 does not tell", "MQTT 3.1.1では分かりません")
    if said.published != NOBODY:
        return passed("yes", "あり")
    if plan is not None and not plan.loaded.config.uplink.require_subscriber:
        return passed("nobody, and none is required", "いませんが、設定上必要ありません")
    return warned(
        Text("nobody subscribes to the gateway's alarms", "装置の警報を受信する相手がいません"), ask
    )


@check(
    "YK-MQ-05",
    Text("id not used twice", "IDの重複"),
    blink=Blink.NETWORK,
    over="broker",
    needs=("YK-MQ-02",),
    what=Text(
        "Whether another device is connected under this gateway's id (a cloned card).",
        "この装置のIDで別の機器が接続していないか確認します（カードの複製など）。",
    ),
    why=Text(
        "Both throw each other out, again and again; nothing is lost, and little arrives.",
        "互いに接続を切り合います。記録は失われませんが、ほとんど届きません。",
    ),
    do=(
        Text(
            "Find the other one: the broker's log has its address.",
            "中継サーバーのログにあるアドレスから、相手を探します。",
        ),
        Text(
            "Give each gateway its own [gateway] id, and its own user name.",
            "装置ごとに[gateway] idと利用者名を分けます。",
        ),
    ),
)
def alone(site: Site, url: str) -> Finding:
    """Look at the gateway's word, or at the birth that the broker keeps."""
    then = Text(
        "give each gateway its own [gateway] id; the broker's log shows the other's address",
        "[gateway] idを装置ごとに分けてください。相手のアドレスは中継サーバーのログで分かります",
    )
    uplink = told.part(site, "uplink")
    if uplink.get("clone_seen"):
        return failed(
            Text(
                f"another device uses our id, last at {uplink['clone_seen']}",
                f"別の機器が同じIDを使用（最終 {uplink['clone_seen']}）",
            ),
            then,
        )
    if site.daemon is not None:
        return passed("nobody else", "ほかに使用者はいません")
    kept = _kept(session(site, url).status)
    if kept.get("state") != "online":
        return passed("nobody is on line under it", "使用中の機器はありません")
    own, run = facts(site), str(kept.get("run"))
    if own is not None and run in own.runs:
        return passed("the broker still keeps our own last birth", "最後の接続情報が残っています")
    if own is None and gateways(site):
        return skipped(
            f"on line with run {run}: whether that is the gateway here is seen with sudo",
            f"実行番号 {run} で接続中です。この装置かどうかは sudo で確認できます",
        )
    said = Text(
        f"on line with run {run}, which this machine does not know",
        f"この装置にない実行番号 {run} で接続中です",
    )
    return warned(said, then) if own is None or own.wrong else failed(said, then)


def _kept(payload: bytes | None) -> dict[str, object]:
    try:
        found = json.loads(payload or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_plain(url: str) -> bool:
    """Tell whether a broker is spoken to without TLS."""
    return not way.target(url).is_tls


@check(
    "YK-MQ-06",
    Text("password protected", "パスワードの保護"),
    blink=Blink.SOFTWARE,
    over="broker",
    what=Text(
        "Whether the password goes over the network encrypted.",
        "パスワードが暗号化されて送られるか確認します。",
    ),
    why=Text(
        "Without TLS everybody on the way reads the password and the records.",
        "TLSがないと、経路上の誰でもパスワードと記録を読めます。",
    ),
    do=(Text("Use mqtts:// and port 8883.", "mqtts:// とポート8883を使います。"),),
)
def protected(site: Site, url: str) -> Finding:
    """Look at the URL."""
    plan = site.plan
    host = way.target(url).host
    has_password = plan is not None and plan.loaded.config.uplink.password_file is not None
    if not is_plain(url):
        return passed("TLS", "TLS")
    if host in ("localhost", "::1") or host.startswith("127."):
        return passed("within this machine", "装置内のみ")
    what = (
        Text("password and records", "パスワードと記録")
        if has_password
        else Text("records", "記録")
    )
    return warned(
        Text(f"{what} go in plain text", f"{what.ja}が平文で送られます"),
        Text("use mqtts:// in [uplink] brokers", "[uplink] brokersにmqtts://を使ってください"),
    )
