"""What each alert says, in Japanese and English, how severe it is, and how long it is held.

One catalogue for all languages: who adds an alert writes both texts. A text tells somebody in an
office what is the matter and what to do next; figures beyond that are in the record's values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .record import Severity

HOLD_S = 60.0
DAY_S = 86_400.0

_LIST_SEPARATOR = {"ja": "、", "en": ", "}


class Definition(NamedTuple):
    """What an alert of this name says, how severe it is, and when it is over.

    What happens at an instant, such as the damage of a file, is raised and cleared at once:
    `hold_s` keeps it in sight.
    """

    severity: Severity  # critical: records are lost, or will be soon; warning: somebody must look
    ja: str  # both with fields of `values` in braces
    en: str
    matters: tuple[str, ...] = ()  # the values whose change is news; others are only carried along
    hold_s: float = HOLD_S

    def text(self, values: Mapping[str, object]) -> dict[str, str]:
        """Return the text in every language. Raises KeyError if a value is missing."""
        return {
            language: template.format_map(
                {name: _said(value, language) for name, value in values.items()}
            )
            for language, template in (("ja", self.ja), ("en", self.en))
        }


def _said(value: object, language: str) -> object:
    """Return a value as a text of a language shows it: a name in that language, a list joined."""
    match value:
        case {"ja": str(ja), "en": str(en)}:
            return ja if language == "ja" else en
        case list():
            return _LIST_SEPARATOR[language].join(map(str, value))
        case _:
            return value


CATALOGUE: dict[str, Definition] = {
    "config_refused": Definition(
        "warning",
        "新しい設定に誤りがあるため、直前の正しい設定で運転を続けています。"
        "設定の見直しをお願いします。({error})",
        "The new configuration is wrong; the last good one is still in use. Please correct it. "
        "({error})",
        matters=("error",),
        hold_s=0,
    ),
    "clock_untrusted": Definition(
        "warning",
        "正しい時刻を確認できていません。確認できるまでの記録の時刻は推定値です。"
        "時刻サーバーへの接続をご確認ください。",
        "The time of day is not confirmed; until it is, times of records are estimates. Please "
        "check that the time server can be reached.",
        hold_s=0,
    ),
    "spool_pressure": Definition(
        "critical",
        "未送信の記録で保存領域がいっぱいになったため、古い記録から順に削除しています。"
        "失われた範囲は欠測として通知します。通信回線をご確認ください。",
        "The space for unsent records is full, so the oldest are being given up; the loss is "
        "reported as gaps. Please check the network connection.",
        hold_s=600,
    ),
    "spool_damaged": Definition(
        "critical",
        "未送信の記録の保存ファイルに破損が見つかりました。{salvaged}件を救出し、{lost}件が"
        "失われました。失われた範囲は欠測として通知します。記憶媒体の点検をお願いします。",
        "The file of unsent records was damaged: {salvaged} were saved, {lost} are lost and "
        "reported as gaps. Please have the storage medium checked.",
        matters=("salvaged", "lost"),
        hold_s=DAY_S,
    ),
    "disk_failed": Definition(
        "critical",
        "記憶媒体に書き込めないため、記録をメモリー上にのみ保持しています。電源が切れると"
        "未送信の記録が失われます。記憶媒体の点検または交換をお願いします。",
        "The storage medium cannot be written: records are kept in memory only, and unsent ones "
        "are lost if the power goes. Please have the medium checked or replaced.",
    ),
    "no_subscriber": Definition(
        "warning",
        "次の宛先を受信するシステムがないため、記録を送信せずに保管しています: {topics}。"
        "受信側の稼働状況をご確認ください。",
        "Nobody receives these topics, so their records are kept here unsent: {topics}. Please "
        "check that the receiving system is running.",
        matters=("topics",),
    ),
    "not_authorised": Definition(
        "warning",
        "次の宛先への送信が中継サーバーに許可されていないため、記録を保管しています: "
        "{topics}。この装置の権限設定をご確認ください。",
        "The broker does not permit sending to these topics, so their records are kept here: "
        "{topics}. Please check what this gateway is allowed to publish.",
        matters=("topics",),
    ),
    "rejected": Definition(
        "warning",
        "中継サーバーが受け付けない記録がありました。該当する記録は欠測として通知します: "
        "{streams}。",
        "The broker does not accept some records; they are given up and reported as gaps: "
        "{streams}.",
        matters=("streams",),
        hold_s=DAY_S,
    ),
    "id_clash": Definition(
        "critical",
        "この装置と同じIDを使う別の機器が接続しているため、送信が妨げられています。"
        "IDの重複をご確認ください。",
        "Another device connects under this gateway's id, and they disturb each other. Please "
        "check which device has the wrong id.",
        hold_s=600,
    ),
    "no_ack": Definition(
        "warning",
        "中継サーバーが受信確認を返さないため、接続をやり直しています: {broker}。"
        "中継サーバーの稼働状況をご確認ください。",
        "The broker accepts records and never confirms them; the connection is made anew: "
        "{broker}. Please check the broker.",
        matters=("broker",),
        hold_s=600,
    ),
    "cut_short": Definition(
        "warning",
        "中継サーバー{broker}が接続をすぐに切るか、受信確認を返しません（{reason}、直前の送信先: "
        "{topic}）。接続の間隔を空けています。この装置の権限設定をご確認ください。",
        "The broker {broker} ends each connection soon, or confirms nothing ({reason}), last after "
        "a message to {topic}; it is tried less often. Please check what this gateway is allowed "
        "to publish.",
        matters=("topic", "reason"),
        hold_s=600,
    ),
    "snow_dispatch": Definition(
        "warning",
        "{place}で、降り続いた雪が{new_snow_cm} cmに達しました（出動の目安 {threshold_cm} cm）。"
        "除雪の出動をご検討ください。",
        "{place}: {new_snow_cm} cm of snow have fallen without a break (ploughs are called at "
        "{threshold_cm} cm). Please consider sending ploughs.",
        matters=("steps",),
        hold_s=600,
    ),
    "snow_forecast": Definition(
        "info",
        "{place}で、3時間以内に降雪が{threshold_cm} cmに達する見込みです（予測 {expected_cm} cm）。"
        "除雪の準備をご検討ください。",
        "{place}: snow is expected to reach {threshold_cm} cm within three hours ({expected_cm} cm "
        "forecast). Please consider getting ploughs ready.",
        hold_s=1800,
    ),
    "freezing": Definition(
        "info",
        "{place}の路面温度が{surface_temperature_c} ℃まで下がりました。"
        "路面の凍結にご注意ください。",
        "{place}: the road surface is at {surface_temperature_c} degC. Wet surfaces may freeze.",
        hold_s=600,
    ),
    "freezing_forecast": Definition(
        "info",
        "{place}の路面温度が1時間以内に氷点に達するおそれがあります（現在 "
        "{surface_temperature_c} ℃、最低予測 {expected_c} ℃）。凍結防止剤の散布をご検討ください。",
        "{place}: the road surface may reach freezing within the hour (now "
        "{surface_temperature_c} degC, down to {expected_c} degC forecast). Please consider "
        "salting.",
        hold_s=1800,
    ),
    "slippery": Definition(
        "warning",
        "{place}の路面は非常に滑りやすくなっているおそれがあります（路面状態: {condition_name}）。"
        "すべり止めの実施をご検討ください。",
        "{place}: the surface may be very slippery (condition: {condition_name}). Please consider "
        "gritting.",
        matters=("slipperiness", "condition"),
        hold_s=0,
    ),
    "crowding": Definition(
        "warning",
        "{place}の通行者数が目安を超えています（公表値でおよそ{persons}人、目安 {threshold}人）。"
        "混雑の状況をご確認ください。",
        "{place}: more people pass than planned for (about {persons} by the published figures, "
        "planned for {threshold}). Please check how crowded it is.",
        hold_s=0,
    ),
    "sensor_missing": Definition(
        "warning",
        "{place}のセンサーからデータが届いていません。電源と配線の点検をお願いします。",
        "{place}: the sensor gives no data. Please have its power and wiring checked.",
        hold_s=0,
    ),
    "sensor_obstructed": Definition(
        "warning",
        "{place}のセンサーは視野が遮られているか、反射が得られないため、測定できません。"
        "雪や枝、汚れなどの除去をお願いします。",
        "{place}: something stands in the sensor's view, or nothing comes back to it, and it "
        "cannot measure. Please have snow, branches or dirt removed.",
        hold_s=600,
    ),
    "cabinet_door": Definition(
        "warning",
        "機器収納箱の扉が開いています（{place}）。点検作業中でない場合はご確認ください。",
        "The cabinet's door is open ({place}). Please check it, unless somebody works there.",
    ),
    "power_fail": Definition(
        "critical",
        "商用電源が停止しました（{place}）。測定済みの記録は保存済みです。まもなく通信が"
        "途絶えるおそれがあります。電源の復旧状況をご確認ください。",
        "Mains power has failed ({place}). What was measured is stored; this gateway may soon be "
        "silent. Please check the power supply.",
    ),
    "undervoltage": Definition(
        "warning",
        "電源電圧が不足しています（{place}）。電源装置と配線の点検をお願いします。",
        "The supply voltage is too low ({place}). Please have the power supply and its cables "
        "checked.",
        hold_s=600,
    ),
    "certificate_expiring": Definition(
        "warning",
        "証明書の有効期限が近づいています（残り{days}日、{files}）。期限が切れると送信できなく"
        "なります。更新をお願いします。",
        "A certificate expires in {days} days ({files}); after that nothing can be sent. Please "
        "renew it.",
        matters=("days", "files"),
        hold_s=3600,
    ),
}
