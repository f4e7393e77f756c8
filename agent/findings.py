"""What a scan says of a place, in both languages."""

from __future__ import annotations

from config.text import Text

CONFIGURED = Text("configured as {owner}", "{owner} として設定済みです")
ALL_CONFIGURED = Text("configured as {owner}, all of it", "全体が {owner} として設定済みです")
CONSOLE = Text("the system's own console", "システムのコンソールが使用しています")
DRIVER_FAILED = Text(
    "a driver failed, which is a bug: {where}", "ドライバーが失敗しました（不具合です）: {where}"
)
HANGS = Text(
    "it hangs: unplug it, or restart the machine",
    "応答が止まっています。機器を抜くか、装置を再起動してください",
)
SILENT = Text("nobody talks, and nobody answers", "送信している機器も、応答する機器もありません")
HEARD = Text(
    "{count} bytes were heard that no known device sends at these speeds; "
    "nothing was sent into the conversation",
    "{count}バイトを受信しましたが、対応機種の通信ではありません。"
    "通信を妨げないよう、問い合わせは送っていません",
)
HELD = Text("held by the kernel's driver {driver}", "カーネルのドライバー {driver} が使用中です")
NO_TIME = Text(
    "not looked at from 0x{address:02x} on: the time was over",
    "時間切れのため、アドレス 0x{address:02x} 以降は調べていません",
)
HELD_LOW = Text(
    "a device holds the bus low, or it has no pull-ups: "
    "switch the devices off and on, check SDA and SCL",
    "バスが Low に固定されているか、プルアップ抵抗がありません。"
    "機器の電源を入れ直し、SDAとSCLの配線をご確認ください",
)
NOBODY = Text("nobody answers", "応答する機器はありません")
ANSWERS = Text("answers", "応答あり")
UNKNOWN = Text("answers; none of the known devices", "応答あり。対応機種ではありません")
MAYBE = Text(
    "answers; it could be {names}, which cannot be told from outside",
    "応答あり。{names} の可能性がありますが、外からは判別できません",
)
PINS = Text("pins can be used", "端子を使えます")
NO_PERMISSION = Text(
    "{path}: no permission: add this user to the group gpio",
    "{path}: 権限がありません。このユーザーを gpio グループに加えてください",
)
