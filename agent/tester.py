"""What whoever tests a sensor is asked, and what an answer must be."""

from __future__ import annotations

from dataclasses import replace

from config.text import Text

from . import typed
from .interview import YES_OR_NO, Question, yes

BY = Question(
    "--by",
    Text("Who tests", "試験者"),
    Text("Stays in the record at the gateway.", "ゲートウェイ内の記録に残ります。"),
    typed.printable,
    Text("one line of text", "1行の文字列で入力してください"),
)
KNOWN_DEPTH = Question(
    "--bare-ground / --depth",
    Text(
        "Depth of snow below the sensor by a stick, cm (0: bare ground, nobody there)",
        "センサーの下の積雪を物差しで測った深さ（cm、雪も人もなければ 0）",
    ),
    Text(
        "What the sensor says is held against it. The zero is best taken over bare ground.",
        "センサーの値と比べます。基準の確認は雪のない地面が最適です。",
    ),
    typed.depth_cm,
    Text("centimetres, 0 to 1000", "0～1000のcm値を入力してください"),
)
THERMOMETER = Question(
    "--thermometer",
    Text("What your thermometer says at the same place, degC", "同じ場所の温度計の値（℃）"),
    Text("Enter: there is none to compare with.", "比較しない場合はEnterで省略します。"),
    typed.temperature_c,
    Text("degrees Celsius, -60 to 80", "-60～80の値（℃）を入力してください"),
    default="",
)
CONSENT = Question(
    "--consent",
    Text(
        "Everybody who passes it from now on knows of the test and agrees to be counted, y/n",
        "これから通る人は全員、試験であることを知り、数えられることに同意していますか（y/n）",
    ),
    Text(
        "During the test, and never else, it shows how many walked through one by one. Nothing of "
        "it is stored but whether the sensor passed. Keep others away until it is over.",
        "試験中に限り、1人ずつの通過数を画面に表示します。保存するのは合否のみです。"
        "終わるまで他の人が通らないようにしてください。",
    ),
    yes,
    YES_OR_NO,
)


def by(user: str) -> Question[str]:
    """Ask who tests; by default the user."""
    return replace(BY, default=user)
