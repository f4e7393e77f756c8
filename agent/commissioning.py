"""What an acceptance test finds, judged: does this sensor measure right at its place.

Pure: values in, a verdict out. A verdict says what was found, whether it passes, what is the likely
cause where it does not, and the exact line of the configuration that would put it right.

Limits. Depth: the JMA publishes whole centimetres, and rangers are good for about one; so zero must
be right within 1 cm, and the ground must be still within 1 cm (standard deviation). A stray farther
than drivers.limits.OUTLIER_CM is a flake or a passer-by. People: those who walk through one by one
are the easiest there are, so one in ten may be missed, or counted wrongly, and no more; a crowd's
80 % is out of reach for a sensor that fails here. Thermometers: a hand-held one is good for 0.5
degC and the sensors for up to 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, stdev
from typing import Any

from config.text import Text
from drivers.base import OPPOSITE, Direction, Options, Quantity
from drivers.depth import MountedOptions
from drivers.limits import OUTLIER_CM

from .toml import toml_value

LEAST_VALID = 0.8  # of all samples
LEAST_SAMPLES = 5
ZERO_WITHIN_CM = 1.0
MOST_SPREAD_CM = 1.0
MOST_ZERO_CM = 5.0  # what a tape measure may be wrong by; beyond it the height itself is wrong
THERMOMETER_WITHIN_K = 1.5
WALKS_WITHIN = 10  # one in so many

GROUND = Text(
    "depth {depth_cm:.1f} cm where there are {known_cm:g} cm; spread {spread_cm:.1f} cm, "
    "{n} of {expected} samples",
    "積雪深 {depth_cm:.1f}cm（実際は {known_cm:g}cm）、ばらつき {spread_cm:.1f}cm、"
    "有効 {n}/{expected}回",
)
DISTANCE = Text(
    "the ground is {distance_cm:.1f} cm away; mount_height_cm is {height_cm:g}",
    "地面までの距離 {distance_cm:.1f}cm、設定の mount_height_cm は {height_cm:g}",
)
TOO_FEW = Text(
    "only {n} of {expected} samples have a value ({reasons}): is something in the way, does snow "
    "fall, is the ground within reach?",
    "{expected}回のうち有効な値は{n}回だけです（{reasons}）。障害物・降雪・測定範囲をご確認ください",
)
UNSTEADY = Text(
    "the ground does not stand still (spread {spread_cm:.1f} cm, strays of {stray_cm:.1f} cm): "
    "falling snow, a branch, somebody below, or a mast that swings; no zero can be taken now",
    "測定値が安定していません（ばらつき {spread_cm:.1f}cm、最大のずれ {stray_cm:.1f}cm）。"
    "降雪・枝・人・支柱の揺れなどが考えられます。今は基準を決められません",
)
WRITE = Text(
    "the zero is wrong by {off_cm:.1f} cm; write this line into the sensor's options, and test "
    "again",
    "基準が {off_cm:.1f}cm ずれています。次の行をセンサーの設定（options）に書き、"
    "再度試験してください",
)
OWN_ZERO = Text(
    "the zero is wrong by {off_cm:.1f} cm, and the device computes depth itself: set its zero with "
    "the maker's tool, and test again",
    "基準が {off_cm:.1f}cm ずれています。この機器は積雪深を自分で計算するため、メーカーの手順で"
    "基準を設定し、再度試験してください",
)
VALUE = Text(
    "{name} {value}{unit}, {n} of {expected} samples",
    "{name} {value}{unit}、有効 {n}/{expected}回",
)
NO_VALUE = Text("it gave no value at all", "値が1つも得られませんでした")
BEYOND = Text(
    "{name} {value} is beyond what is believed, {low:g} to {high:g}",
    "{name} {value} は妥当な範囲（{low:g}～{high:g}）を外れています",
)
JUMPY = Text(
    "{name} jumps by {jump:.2f} between samples: a loose contact, or interference?",
    "{name} が{jump:.2f}飛んでいます。接触不良や妨害をご確認ください",
)
COMPARED = Text(
    "{name} {value:.1f}, your thermometer {reference:.1f}",
    "{name} {value:.1f}、比較した温度計 {reference:.1f}",
)
DIFFERS = Text(
    "they differ by {off:.1f} degC, more than {within:g}: sun, warmth of the housing or of a hand, "
    "or a sensor that sees another place",
    "差が{off:.1f}℃あり、許容（{within:g}℃）を超えています。日射・筐体や手の熱・測定位置の違いを"
    "ご確認ください",
)
NOT_COMPARED = Text("it has no temperature to compare with", "比較できる温度を測っていません")
COUNTED = Text(
    "{way}: walked {walked}, counted {counted}", "{way}: 通行 {walked}回、計数 {counted}回"
)
SWAPPED = Text(
    "who walked in was counted as out: the directions are exchanged; write this line, or turn the "
    "sensor round",
    "「入」の通行が「出」と数えられました。方向が逆です。次の行を設定するか、センサーの向きを変えてください",
)
SWAPPED_WIRES = Text(
    "who walked in was counted as out: exchange the two (pins, ports) in the configuration",
    "「入」の通行が「出」と数えられました。設定の2つ（ピンまたはポート）を入れ替えてください",
)
NOBODY = Text(
    "it counted nobody: is it covered, is it where you walked, is its counting line?",
    "1回も数えませんでした。覆われていないか、通った位置と計数線が合っているかをご確認ください",
)
ONE_WAY = Text(
    "it counts one way only: its counting line lies at the edge of what it sees, or one beam or "
    "output is dead",
    "片方向しか数えていません。計数線が視野の端にあるか、片方の光線・出力が働いていません",
)
TOO_LITTLE = Text(
    "it misses people: is the counting line in the middle of the way, the mounting height as its "
    "page says, did you walk within its field?",
    "数え漏れがあります。計数線が通路の中央にあるか、取付高さが説明どおりか、視野の中を通ったかを"
    "ご確認ください",
)
TOO_MUCH = Text(
    "it counts too many: did somebody else pass? else it hangs too low, or sees reflections",
    "数えすぎです。ほかの人が通りませんでしたか。そうでなければ、取付が低すぎるか、反射の影響です",
)
WAYS: Mapping[Direction, Text] = {
    "towards": Text("in", "入"),
    "away": Text("out", "出"),
    "total": Text("in all", "計"),
}

Samples = Mapping[str, Sequence[float | str | None]]  # quantity -> one a sample


@dataclass(slots=True)
class Verdict:
    """What a test found."""

    passed: bool = True
    measured: dict[str, Any] = field(default_factory=dict)  # for the record
    says: list[Text] = field(default_factory=list)  # for whoever stands there
    puts_right: dict[str, float | bool] = field(default_factory=dict)  # option -> value

    @property
    def lines(self) -> list[str]:
        """The lines of the sensor's options that would put it right."""
        return [f"{key} = {toml_value(key, value)}" for key, value in self.puts_right.items()]

    def fail(self, text: Text, **fields: object) -> None:
        """Note why it does not pass."""
        self.passed = False
        self.says.append(text.filled(**fields) if fields else text)


def judge_depth(
    samples: Samples, options: Options, *, known_cm: float = 0.0, reasons: Sequence[str] = ()
) -> Verdict:
    """Judge a snow sensor over ground with `known_cm` of snow, as a rule none.

    `reasons` are those that samples without a value gave.
    """
    found = Verdict()
    expected = len(samples.get("depth_cm", ()))
    depths = _numbers(samples.get("depth_cm", ()))
    found.measured |= {"known_cm": known_cm, "n": len(depths), "expected": expected}
    if len(depths) < max(LEAST_SAMPLES, LEAST_VALID * expected):
        found.fail(TOO_FEW, n=len(depths), expected=expected, reasons=list(reasons) or "-")
        return found
    depth_cm, spread_cm = median(depths), stdev(depths)
    off_cm = depth_cm - known_cm
    found.measured |= {"depth_cm": round(depth_cm, 2), "spread_cm": round(spread_cm, 2)}
    found.says.append(
        GROUND.filled(
            depth_cm=depth_cm,
            known_cm=known_cm,
            spread_cm=spread_cm,
            n=len(depths),
            expected=expected,
        )
    )
    distances = _numbers(samples.get("distance_cm", ()))
    if distances:
        found.measured["distance_cm"] = round(median(distances), 2)
    if isinstance(options, MountedOptions) and distances:
        height_cm = options.mount_height_cm
        found.says.append(DISTANCE.filled(distance_cm=median(distances), height_cm=height_cm))
    stray_cm = max(abs(each - depth_cm) for each in depths)
    if spread_cm > MOST_SPREAD_CM or stray_cm > OUTLIER_CM:
        found.fail(UNSTEADY, spread_cm=spread_cm, stray_cm=stray_cm)
    elif abs(off_cm) > ZERO_WITHIN_CM:
        _correct(found, options, off_cm)
    return found


def _correct(found: Verdict, options: Options, off_cm: float) -> None:
    """Say by which line of the configuration the depth would be right."""
    if not isinstance(options, MountedOptions) or options.mount_height_cm is None:
        found.fail(OWN_ZERO, off_cm=off_cm)
        return
    found.fail(WRITE, off_cm=off_cm)
    zero_cm = options.zero_cm + off_cm
    if abs(zero_cm) <= MOST_ZERO_CM:
        found.puts_right["zero_cm"] = round(zero_cm, 1)
    else:
        along_beam_cm = off_cm / math.cos(math.radians(options.slope_deg))
        found.puts_right["mount_height_cm"] = round(options.mount_height_cm - along_beam_cm, 1)


def judge_readings(
    samples: Samples, quantities: Mapping[str, Quantity], *, thermometer_c: float | None = None
) -> Verdict:
    """Judge any other sensor of things: it gives values, plausible and steady ones.

    `thermometer_c` is what another thermometer says at its place.
    """
    found = Verdict()
    for name, series in samples.items():
        values = [value for value in series if value is not None]
        if not values:
            continue  # what the board or this model does not have
        quantity = quantities.get(name)
        numbers = _numbers(values)
        shown = f"{median(numbers):.6g}" if numbers else str(values[-1])
        unit = "" if quantity is None or quantity.unit == "1" else f" {quantity.unit}"
        counts = {"n": len(values), "expected": len(series)}
        found.measured[name] = {"median": median(numbers)} if numbers else {"last": values[-1]}
        found.measured[name] |= counts
        found.says.append(VALUE.filled(name=name, value=shown, unit=unit, **counts))
        if len(values) < LEAST_VALID * len(series):
            found.fail(TOO_FEW, reasons="-", **counts)
        if quantity is not None and numbers:
            _judge_numbers(found, name, numbers, quantity)
    if not found.measured:
        found.fail(NO_VALUE)
    if thermometer_c is not None:
        _compare(found, samples, thermometer_c)
    return found


def _judge_numbers(found: Verdict, name: str, numbers: list[float], quantity: Quantity) -> None:
    low, high = quantity.limits.range or (quantity.low, quantity.high)
    for value in (min(numbers), max(numbers)):
        is_low = low is not None and value < low
        if is_low or (high is not None and value > high):
            ends = {"low": -math.inf if low is None else low}
            ends |= {"high": math.inf if high is None else high}
            found.fail(BEYOND, name=name, value=f"{value:g}", **ends)
            return
    jump = max(abs(each - median(numbers)) for each in numbers)
    found.measured[name]["spread"] = round(max(numbers) - min(numbers), 4)
    if quantity.limits.spike is not None and jump > quantity.limits.spike:
        found.fail(JUMPY, name=name, jump=jump)


def _compare(found: Verdict, samples: Samples, thermometer_c: float) -> None:
    for name in ("air_temperature_c", "surface_temperature_c"):
        numbers = _numbers(samples.get(name, ()))
        if not numbers:
            continue
        off = median(numbers) - thermometer_c
        found.measured["thermometer_c"] = thermometer_c
        value = median(numbers)
        found.says.append(COMPARED.filled(name=name, value=value, reference=thermometer_c))
        if abs(off) > THERMOMETER_WITHIN_K:
            found.fail(DIFFERS, off=abs(off), within=THERMOMETER_WITHIN_K)
        return
    found.fail(NOT_COMPARED)


def judge_walks(
    walked: Mapping[Direction, int],
    counted: Mapping[Direction, int],
    first: Direction | None,
    options: Options,
) -> Verdict:
    """Judge a people counter by who walked through it, one by one and knowing of it.

    `walked` and `counted` have what it tells apart: towards and away, or their total. `first` is
    how the first walk, towards, was counted; None if it was not. What was counted is in `says`, for
    those who walked, and not in `measured`.
    """
    found = Verdict()
    within = {way: max(1, number // WALKS_WITHIN) for way, number in walked.items()}
    found.measured |= {"walked": dict(walked), "within": within}
    for way, number in walked.items():
        found.says.append(COUNTED.filled(way=WAYS[way], walked=number, counted=counted.get(way, 0)))
    off = {way: counted.get(way, 0) - number for way, number in walked.items()}
    is_swapped = first is not None and first not in ("total", "towards")
    if not any(counted.values()):
        found.fail(NOBODY)
    elif is_swapped:
        _exchange(found, options)
    elif any(counted.get(way, 0) == 0 < number for way, number in walked.items()):
        found.fail(ONE_WAY)
    elif any(off[way] < -within[way] for way in off):
        found.fail(TOO_LITTLE)
    elif any(off[way] > within[way] for way in off):
        found.fail(TOO_MUCH)
    return found


def _exchange(found: Verdict, options: Options) -> None:
    flip = getattr(options, "flip", None)
    if isinstance(flip, bool):
        found.fail(SWAPPED)
        found.puts_right["flip"] = not flip
    else:
        found.fail(SWAPPED_WIRES)


def ways_of(directions: Sequence[Direction], walk_in: int, walk_out: int) -> dict[Direction, int]:
    """Return how often each of what a sensor tells apart is walked."""
    if "total" in directions:
        return {"total": walk_in + walk_out}
    walks: dict[Direction, int] = {"towards": walk_in, OPPOSITE["towards"]: walk_out}
    return {way: walks[way] for way in directions}


def _numbers(values: Sequence[float | str | None]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float)]
