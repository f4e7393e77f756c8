"""What a report says."""

from __future__ import annotations

from config.text import Text

TITLE = Text("Gateway report", "装置診断レポート")
MADE = Text("made {local} ({zone})", "{local}（{zone}）作成")
CONTENTS = Text("Contents", "目次")

GOOD = Text("Nothing needs attention.", "異常はありません。")
LOOK = Text("Please look at this:", "確認が必要な項目があります:")
ACT = Text("Somebody must act:", "対応が必要です:")
NOT_RUNNING = Text("The gateway does not answer: {why}", "ゲートウェイの応答がありません: {why}")
NOT_CONNECTED = Text(
    "No connection to the city; records wait here.",
    "市との通信が途絶えており、記録を保管しています。",
)
SILENT = Text("{sensor}: {state}", "{sensor}: {state}")
REFUSED = Text(
    "The configuration is refused, the last good one runs.",
    "設定が受け付けられず、直前の正しい設定で動作しています。",
)
CLOCK_UNKNOWN = Text("The time of day is not confirmed.", "正しい時刻が確認できていません。")
IN_MEMORY = Text(
    "The storage cannot be written; records are in memory only.",
    "記憶媒体に書き込めず、記録はメモリー上にのみあります。",
)
SPOOL_TROUBLE = Text("Unsent records: {why}", "未送信の記録: {why}")
CHECK_FAILED = Text("{title}: {evidence}", "{title}: {evidence}")
CHECKS_MORE = Text(
    "{count} more checks failed; see below.", "ほか{count}項目の点検で異常（下記）。"
)
MORE = Text("and {count} more", "ほか{count}件")

UPLINK = Text("Delivery", "送信")
CONNECTED = Text("connected", "接続中")
OFFLINE = Text("not connected", "未接続")
UNKNOWN = Text("unknown", "不明")
SINCE = Text("since {at}", "{at}から")
WAITING = Text("Unsent records", "未送信の記録")
OLDEST = Text("oldest {at}", "最古 {at}")
SENSORS = Text("Sensors", "センサー")
WORKING = Text("{good} of {all} working", "{all}台中{good}台 正常")
ALERTS = Text("Alerts", "警報")
RAISED = Text("{count} raised", "発生中 {count}件")
NONE = Text("none", "なし")
CLOCK = Text("Clock", "時刻")
CLOCK_STATES = {
    "synced": Text("confirmed", "同期済み"),
    "corrected": Text("put right", "補正済み"),
    "estimated": Text("estimated", "推定"),
}
WITHIN = Text("within {error} s", "誤差 {error} 秒以内")
RUNNING = Text("Running", "稼働")
NOT_ANSWERING = Text("does not answer", "応答なし")

ALERTS_NOW = Text("Raised now", "発生中の警報")
ALERTS_DAY = Text("What came and went in 24 hours", "24時間の警報の推移")
LEVEL = Text("level", "区分")
WHEN, WHERE, WHAT = Text("time", "時刻"), Text("where", "場所"), Text("what", "内容")
NO_ALERTS = Text("No alert is raised.", "発生中の警報はありません。")
ALERTS_UNKNOWN = Text(
    "Not known: the gateway does not answer.", "ゲートウェイの応答がないため不明です。"
)
ALERTS_LEFT = Text(
    "{count} were raised when it last ran.", "最後の稼働時に発生していた警報: {count}件。"
)
NO_EDGES = Text("None came or went in 24 hours.", "24時間に発生・解消した警報はありません。")
THE_GATEWAY = Text("the gateway", "装置")

DAY_OF = Text(
    "The last 24 hours, in {zone} time. Shaded: nothing was measured.",
    "直近24時間（{zone}）。網掛けは欠測です。",
)
NO_HISTORY = Text(
    "The last 24 hours are in the memory of a running gateway only, and none answered.",
    "直近24時間の値は稼働中のゲートウェイのメモリーにのみあり、応答が得られませんでした。",
)
NOT_YET = Text("Nothing was measured yet.", "測定値はまだありません。")
NO_ROOM = Text(
    "Not drawn, to keep this file small: {names}.",
    "ファイルの大きさを抑えるため図を省略: {names}。",
)
PEOPLE = Text(
    "Published figures. {noise}Windows below zero are drawn as zero.",
    "公表値です。{noise}負の値は0として描いています。",
)
NOISE = Text(
    "Noise was added before anything was stored (epsilon {epsilon} a crossing); 95 % of them are"
    " within {ci95} of the count. ",
    "保存前にノイズを加えてあり（通過1回あたりε={epsilon}）、95%は計数値±{ci95}以内です。",
)
COUNTED = Text("People counted", "通行者数")
DAY_SUM = Text(
    "In all published windows of the 24 hours: {sums}.", "24時間の公表値の合計: {sums}。"
)
LAST = Text("Last record", "最新の記録")
EVERY = Text("a record each {seconds} s", "{seconds}秒ごとに記録")
TROUBLE = Text("Trouble", "異常")
QUALITY = Text("Quality", "品質")
QUALITIES = {
    "good": Text("good", "良好"),
    "suspect": Text("doubtful", "疑わしい"),
    "bad": Text("bad", "不良"),
    "missing": Text("missing", "欠測"),
    "not_evaluated": Text("not judged", "未評価"),
}

DELIVERY = Text("Delivery and storage", "送信と保管")
CONNECTION = Text("Connection in 24 hours", "24時間の接続状況")
STRIP_KEY = Text("connected", "接続")
STRIP_BAD = Text("no connection", "途絶")
STRIP_UNKNOWN = Text("not known", "不明")
STRIP_TOLD = Text("Outages: {count}, {hours} hours in all.", "途絶{count}回、合計{hours}時間。")
STRIP_NONE = Text("No outage.", "途絶なし。")
KNOWN_SINCE = Text("Known since {at}.", "{at}以降を表示。")
STILL = Text("still", "継続中")
FROM, TO, WHY = Text("from", "開始"), Text("to", "終了"), Text("why", "理由")
BROKER = Text("Broker", "中継サーバー")
SPOOL_FILE = Text("File", "ファイル")
ROOM = Text("Space", "使用容量")
LOST = Text("Given up, named in gaps", "欠測として通知する件数")
HELD = Text("Waiting for the clock", "時刻の確定待ち")
RECORDS = Text("{count} records", "{count}件")

CHECKS = Text("Checks", "点検結果")
NO_CHECKS = Text("They could not be made.", "点検を実行できませんでした。")
CHECKED = Text(
    "{good} good, {warn} to be looked at, {bad} failed, {skip} not checked",
    "良好{good}件、要確認{warn}件、異常{bad}件、未検査{skip}件",
)
PASSED, SKIPPED = Text("Good", "良好"), Text("Not checked", "未検査")
THEN = Text("To do: {next}", "対処: {next}")

IDENTITY = Text("Identity and configuration", "装置と設定")
GATEWAY, LABEL = Text("Gateway", "装置ID"), Text("Name", "名称")
LOCATION, OWNER = Text("Location", "位置"), Text("Owner", "管理者")
LICENCE, POLICY = (
    Text("Licence of the data", "データの利用条件"),
    Text("Privacy policy", "公表方針（ハッシュ値）"),
)
RUN, CONFIG_ID = Text("Run", "稼働ID"), Text("Configuration", "設定")
PROBLEMS = Text("What is wrong with the configuration", "設定の問題点")
CONFIG_TEXT = Text(
    "The configuration, without secrets. {removed} stands for what was left out.",
    "設定内容です。秘密情報は {removed} に置き換えてあります。",
)
NO_CONFIG = Text("There is no configuration that can be read.", "読み取れる設定がありません。")
CUT = Text("… cut here, {count} more characters", "…以下{count}文字省略")

MACHINE = Text("Resources and versions", "資源とバージョン")
MEMORY, CPU = Text("Memory of the process", "プロセスのメモリー"), Text("CPU time", "CPU時間")
THREADS, FILES = Text("Threads", "スレッド数"), Text("Open files", "開いているファイル数")

FOOT = Text(
    "Made by yukimi {version}. This file is complete in itself: it loads nothing and runs nothing."
    " Of people it holds published figures only.",
    "yukimi {version} で作成。このファイル単体で完結しており、外部への通信やプログラムの"
    "実行はありません。通行者については公表値のみを含みます。",
)
