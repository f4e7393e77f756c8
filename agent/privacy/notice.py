"""The notice that hangs beside a people sensor: what is counted, said and promised, with figures.

Both languages on one page, from the plan of the gateway that runs here, so that a citizen and an
auditor read what is true of this one. Pure: what is said depends on the configuration alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from config.text import Text

from .policy import Policy
from .sampler import ci95, noise_sd

TITLE = Text(
    "People are counted here, and nobody is watched",
    "通行者数を計測しています（個人は記録しません）",
)
MEASURED = Text("What is measured", "計測していること")
PUBLISHED = Text("What is published", "公表していること")
GUARANTEE = Text("The guarantee", "保証")
STAYS = Text("What never leaves the working memory", "作業用メモリーの外に出ないもの")
LIMITS = Text("What this rests on, and what it does not cover", "前提と、保証の対象外")
CHECK = Text("How to check", "確認の方法")

SENSOR = Text("{name}: {device}; counts {what}", "{name}: {device}。{what}を数えます")
BOTH_WAYS = Text("passages in two directions ({ways})", "2方向（{ways}）の通過")
ONE_WAY = Text("passages, without direction", "通過（方向の区別なし）")
NO_SENSOR = Text(
    "No people sensor is configured on this device.", "この装置に通行者数センサーはありません。"
)
EACH_WINDOW = Text(
    "Every {minutes:g} minutes, for each sensor and direction: the number of passages plus random"
    " noise. Its standard deviation is {sd:.2f}; 95 of 100 figures are within {ci95} of the truth."
    " Every window is published, also when nobody passed.",
    "{minutes:g}分ごとに、センサーと方向別の通過数に乱数（ノイズ）を加えた値。標準偏差{sd:.2f}、"
    "100回中95回は真の値から±{ci95}以内です。通行者がいない時間帯も必ず公表します。",
)
NOTHING_ELSE = Text(
    "Alarms look at these figures only. No status, log or time of sending depends on who passes.",
    "混雑の警報もこの公表値だけから判断します。状態・動作記録・送信時刻は通行者に左右されません。",
)
FACTOR = Text(
    "Differential privacy: whether or not you passed once changes the probability of anything"
    " that is published by a factor of at most {once:.2f} (e to the power of {epsilon}). For {m}"
    " passages on a day: {many:.2f} (e^({many_epsilon})).",
    "差分プライバシー: あなたが1回通過したかどうかによって、公表される内容の確率は最大でも"
    "{once:.2f}倍（eの{epsilon}乗）しか変わりません。1日に{m}回なら{many:.2f}倍（eの{many_epsilon}乗）です。",
)
EXACT = Text(
    "For days D and D' that differ in at most m passages, and every set S of outputs:"
    " Pr[M(D) in S] <= e^(m x {epsilon}) x Pr[M(D') in S]. The noise is drawn once for each window,"
    " exactly, from the operating system's randomness (discrete Laplace; Canonne, Kamath and"
    " Steinke 2020). All that is published may cost one passage at most {limit}.",
    "通過がm回以内だけ異なる日D、D'と任意の出力集合Sについて"
    " Pr[M(D)∈S] ≦ e^(m×{epsilon})×Pr[M(D')∈S]。ノイズは時間帯ごとに1回だけ、OSの乱数から"
    "正確に生成します（離散ラプラス分布、Canonneほか 2020）。"
    "1回の通過に対する合計の上限は{limit}です。",
)
MEMORY = Text(
    "Images, distances and tracks; the times of single passages; the true counts; the noise. They"
    " are gone when the window ends or the power is cut. There are no addresses of phones.",
    "画像・距離・軌跡、個々の通過時刻、真の通過数、ノイズの値。時間帯の終了または電源断で消えます。"
    "携帯電話などの識別番号は扱いません。",
)
RESTS = Text(
    "Assumed: the operating system's randomness is secret, nobody reads the device's memory, and"
    " the sensor itself sends nothing elsewhere. Not covered: several days and several devices add"
    " up; facts about crowds; what the sensor's maker keeps.",
    "前提: OSの乱数が秘密であること、装置のメモリーが読まれないこと、"
    "センサー自体が他へ送信しないこと。"
    "対象外: 複数日・複数装置の合算、群衆としての事実、センサー製造者が保持する情報。",
)
AUDIT = Text(
    "Every release is written down once in a chained ledger before its noise is drawn; the operator"
    " shows with `yukimi privacy audit` that none was made twice.",
    "公表は、ノイズの生成前に改ざん検知付きの台帳へ1回だけ記録します。二重の公表がないことは"
    "運用者が yukimi privacy audit で示せます。",
)
VERSION = Text(
    "Device {gateway}{label}, {owner}. Policy {policy}. yukimi {version}. Printed {date}.",
    "装置 {gateway}{label}、管理者 {owner}。方針 {policy}。yukimi {version}。{date}作成。",
)
NOBODY = Text("operator not stated", "未記載")

MANY = 2  # passages on a day: there, and back


@dataclass(frozen=True, slots=True)
class Sensor:
    """A people sensor as a citizen is told of it."""

    name: Text
    device: str
    ways: tuple[Text, ...]  # its directions by name; empty: it counts without direction


@dataclass(frozen=True, slots=True)
class Notice:
    """What is true of one gateway."""

    gateway: str
    label: Text | None
    owner: str | None
    version: str
    date: str
    policy: Policy
    sensors: Sequence[Sensor]

    def sections(self) -> list[tuple[Text, list[Text]]]:
        """Return headings and paragraphs, in both languages."""
        return [
            (MEASURED, self._measured()),
            (PUBLISHED, [self._published(), NOTHING_ELSE]),
            (GUARANTEE, self._guarantee()),
            (STAYS, [MEMORY]),
            (LIMITS, [RESTS]),
            (CHECK, [AUDIT]),
        ]

    def foot(self) -> Text:
        """Return which device, policy and program it is about."""
        label = self.label
        return VERSION.filled(
            gateway=self.gateway,
            label=Text(f" ({label.en})", f"（{label.ja}）") if label else "",
            owner=self.owner or NOBODY,
            policy=self.policy.sha256,
            version=self.version,
            date=self.date,
        )

    def _measured(self) -> list[Text]:
        """Return what there is, devices of one kind together: it must fit on one page."""
        alike: dict[tuple[str, Text, str], list[Text]] = {}
        for sensor in self.sensors:
            what = BOTH_WAYS.filled(ways=list(sensor.ways)) if sensor.ways else ONE_WAY
            alike.setdefault((sensor.device, what, what.ja), []).append(sensor.name)
        return [
            SENSOR.filled(name=names, device=device, what=what)
            for (device, what, _), names in alike.items()
        ] or [NO_SENSOR]

    def _published(self) -> Text:
        epsilon = self.policy.epsilon
        return EACH_WINDOW.filled(
            minutes=self.policy.window_s / 60, sd=noise_sd(epsilon), ci95=ci95(epsilon)
        )

    def _guarantee(self) -> list[Text]:
        epsilon, limit = self.policy.epsilon, self.policy.day_limit
        many: Fraction = MANY * epsilon
        factor = FACTOR.filled(
            once=math.exp(epsilon), epsilon=epsilon, m=MANY, many=math.exp(many), many_epsilon=many
        )
        return [factor, EXACT.filled(epsilon=epsilon, limit=limit)]

    def json(self) -> dict[str, object]:
        """Return what a program reads."""
        epsilon = self.policy.epsilon
        return {
            "gateway": self.gateway,
            "version": self.version,
            "policy": self.policy.sha256,
            "terms": self.policy.json(),
            "guarantee": {
                "epsilon_per_crossing": str(epsilon),
                "factor_per_crossing": round(math.exp(epsilon), 4),
                "noise_sd": round(noise_sd(epsilon), 2),
                "ci95": ci95(epsilon),
            },
            "sensors": [
                {"name": sensor.name.en, "device": sensor.device, "directions": list(sensor.ways)}
                for sensor in self.sensors
            ],
            "text": {
                language: [
                    {"title": title.of(language), "paragraphs": [p.of(language) for p in texts]}
                    for title, texts in self.sections()
                ]
                for language in ("ja", "en")
            },
        }
