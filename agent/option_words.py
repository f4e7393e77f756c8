"""What our drivers say of their options, in Japanese too.

A driver knows nothing of languages: it says what is wrong in English, and the sentences of the
drivers that come with the gateway are translated here. Those of others stay as they are.
"""

from __future__ import annotations

import re

from config.text import Text, text_of

_JAPANESE = (  # patterns that are compiled where there is something to say
    (
        r"mount_height_cm: the height of the sensor's face above the bare ground",
        "mount_height_cm: 地面（積雪なし）からセンサー面までの高さを指定してください",
    ),
    (
        r"temperature_from: the id of a sensor that measures (?P<quantity>\w+), "
        r"for the speed of sound",
        "temperature_from: 音速の補正のため、{quantity} を測定するセンサーのIDを指定してください",
    ),
    (
        r"port_b: the serial port of the second lidar, such as (?P<example>.*)",
        "port_b: 2台目のライダーのシリアルポートを指定してください。例: {example}",
    ),
    (
        r"address: the UMB address of the device, such as (?P<example>.*)",
        "address: 機器のUMBアドレスを指定してください。例: {example}",
    ),
    (
        r"address: the Modbus address of the device, 1 to 247",
        "address: 機器のModbusアドレス（1～247）を指定してください",
    ),
    (
        r"(?P<name>channels|registers): at least one (?P<example>\{.*\}) to read",
        "{name}: 読み取る項目 {example} を1つ以上指定してください",
    ),
    (
        r"(?P<a>\w+) and (?P<b>\w+) are both (?P<pin>\d+): "
        r"each (?:beam|output) needs a pin of its own",
        "{a} と {b} がどちらも {pin} です。それぞれ別の端子を指定してください",
    ),
    (
        r"rotate: a row of pixels across the door cannot count; .*",
        "rotate: 画素の列が通行方向と直交していると人数を数えられません。"
        "通行方向に沿って取り付け、rotate は 0 または 180 にしてください",
    ),
    (
        r"x_min_mm is the left edge: it has to be less than x_max_mm",
        "x_min_mm は左端です。x_max_mm より小さくしてください",
    ),
    (
        r"channels and kind are for model generic, (?P<model>\S+) has its own",
        "channels と kind は model が generic のときだけ使えます（{model} では決まっています）",
    ),
    (
        r"channels: each channel and each quantity can be given once",
        "channels: 同じチャンネルや測定量は1回だけ指定できます",
    ),
    (
        r"unit and own_id must differ: the one asks, the other answers",
        "unit と own_id は異なる値にしてください（一方が問い合わせ、他方が応答します）",
    ),
    (
        r'quantity: a name in (?P<unit>\S+) ends in "(?P<ending>\w+)"',
        "quantity: 単位が {unit} の名前は「{ending}」で終わらなければなりません",
    ),
    (
        r"quantity: this name is not for a number",
        "quantity: この名前は数値の測定量には使えません",
    ),
    (r"scale: must not be 0", "scale: 0は指定できません"),
    (r"low must be less than high", "low は high より小さくしてください"),
    (
        r"register: a value of two registers ends with 65535 at the latest",
        "register: 2レジスターの値は65535番までに収まらなければなりません",
    ),
    (
        r"(?P<name>registers): each quantity can be given once",
        "{name}: 同じ測定量は1回だけ指定できます",
    ),
    (
        r"set either pin, for one output, or both pin_towards and pin_away",
        "出力が1つなら pin を、2つなら pin_towards と pin_away の両方を指定してください",
    ),
    (r"fields: each can be named once", "fields: 同じ項目は1回だけ指定できます"),
    (
        r'corrects_itself is for an sr50at with "temperature" among its fields: .*',
        "corrects_itself は、fields に「temperature」を含むSR50AT専用です",
    ),
    (
        r"an sr50at that says its temperature corrects the speed of sound itself: .*",
        "気温を出力するSR50ATは音速を自身で補正します。"
        "temperature_from と assume_temperature_c は指定できません（二重の補正になります）",
    ),
)


def worded(sentence: str) -> Text:
    """Return what a driver says, in Japanese too where that is known."""
    text = text_of(sentence)
    if text.ja != text.en:
        return text
    for english, japanese in _JAPANESE:
        found = re.fullmatch(english, text.en)
        if found is not None:
            return Text(text.en, japanese.format(**found.groupdict()))
    return text
