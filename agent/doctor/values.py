"""Can what the sensors measure be true: nothing in the way, the right height, possible values?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from config.text import Text

from . import told
from .exam import exam_of
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedSensor

TOO_DEEP_CM = -5.0  # below the bare ground: no noise, but a wrong height
WARM_C = 15.0  # of the air: no snow lies
SNOW_CM = 10.0
LAG_CM = 60.0  # two gauges at one place


@check(
    "YK-SEN-05",
    Text("view is free", "視野"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-SEN-04",),
    what=Text(
        "Whether the sensor itself says that something is in its way, or that nothing comes back.",
        "遮られている、または反射が得られないとセンサーが報告していないか確認します。",
    ),
    why=Text(
        "Snow, a branch or a spider's web in front of it: it answers and cannot measure.",
        "雪、枝、クモの巣などがあると、応答はしても測定できません。",
    ),
    do=(
        Text(
            "Look at it, and clean the window or membrane with a soft cloth.",
            "目で確認し、窓や膜を柔らかい布で清掃します。",
        ),
        Text(
            "Nothing to be seen: is the beam square to the ground, and free of pole and wall?",
            "異物がない場合は、ビームが地面に垂直で、柱や壁にかからないか確認します。",
        ),
    ),
)
def view(site: Site, sensor: PlannedSensor) -> Finding:
    """Look at the reasons that came in place of values."""
    if sensor.counts_people:  # what stands before such a sensor is a person
        return skipped("not told of people sensors", "通行者センサーでは確認しません")
    reasons = _reasons(site, sensor)
    then = Text(
        "clean it, and look what stands in its beam", "清掃し、ビームを遮るものを確認してください"
    )
    if _only(reasons, "obstructed"):
        return failed(Text("something is right in front of it", "目の前に何かがあります"), then)
    if _only(reasons, "weak_signal"):
        return failed(Text("nothing comes back to it", "反射が返ってきません"), then)
    return passed("free", "良好")


@check(
    "YK-SEN-06",
    Text("value possible", "値の妥当性"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-SEN-05",),
    excused_by=("YK-SEN-07",),
    what=Text(
        "Whether the values are within what the device can say, and what can be.",
        "値が機器の測定範囲にあり、ありうる値かどうかを確認します。",
    ),
    why=Text(
        "An impossible value comes of a broken probe, a wrong setting or a missing pull-up; it "
        "is never sent as a value.",
        "ありえない値の原因は、素子の故障、設定の誤り、プルアップの欠落などです。値としては送信"
        "されません。",
    ),
    do=(
        Text(
            "`yukimi read SENSOR` shows the raw bytes beside the value.",
            "`yukimi read SENSOR` で値と生データを確認します。",
        ),
        Text(
            "Compare with another thermometer; replace the probe.",
            "別の温度計と比べ、素子を交換します。",
        ),
    ),
)
def possible(site: Site, sensor: PlannedSensor) -> Finding:
    """Look for values out of range."""
    if sensor.counts_people:
        return skipped("not told of people sensors", "通行者センサーでは確認しません")
    exam = exam_of(site, sensor)
    reasons = _reasons(site, sensor)
    wrong = sorted(name for name, why in reasons.items() if set(why) & {"out_of_range", "stuck"})
    if wrong:
        return failed(
            Text(f"{', '.join(wrong)} cannot be", f"{'、'.join(wrong)} がありえない値です"),
            Text(
                "`yukimi read` shows the raw bytes; replace the probe",
                "`yukimi read` で生データを確認し、素子を交換してください",
            ),
        )
    if exam is None:
        return skipped("told by the gateway's state only", "装置の状態報告のみ")
    shown = [f"{n} {_shown(r.value)}" for n, r in exam.readings.items() if r.value is not None]
    if exam.is_warming and not shown:
        return passed("it warms up", "準備運転中")
    return passed(
        ", ".join(shown[:3]) or "no value yet", "、".join(shown[:3]) or "まだ値がありません"
    )


@check(
    "YK-SEN-07",
    Text("mounting height", "取付高さ"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-SEN-05",),
    what=Text(
        "Whether the depth that follows from mount_height_cm can be: not below the ground, not "
        "snow in warm air, not far from a second gauge here.",
        "mount_height_cmから求めた積雪深が妥当か（地面より下、暖かい日の雪、2台目との差）を確認"
        "します。",
    ),
    why=Text(
        "Every depth is wrong by as much as the height is.",
        "取付高さの誤差は、そのまま積雪深の誤差になります。",
    ),
    do=(
        Text(
            "Measure from the sensor's face to the bare ground, along the beam.",
            "センサー面から地面まで、ビームに沿って測ります。",
        ),
        Text(
            "Write it into [sensors.options] mount_height_cm; `yukimi commission SENSOR` finds "
            "the zero.",
            "[sensors.options] mount_height_cm に書きます。`yukimi commission SENSOR` で零点を"
            "求めます。",
        ),
    ),
)
def mounting(site: Site, sensor: PlannedSensor) -> Finding:
    """Hold the depth against the ground, the air and the neighbour."""
    from drivers.depth import MountedOptions

    if not isinstance(sensor.options, MountedOptions):
        return skipped("does not hang over snow", "積雪計ではありません")
    distance_cm = _value(site, sensor, "distance_cm")
    height_cm = sensor.options.mount_height_cm
    if height_cm is None or distance_cm is None:
        return skipped("no distance yet", "距離がまだありません")
    depth_cm = sensor.options.depth_cm(distance_cm) or 0.0
    then = Text(
        f"measure the height: {distance_cm:.0f} cm to the surface now, mount_height_cm = "
        f"{height_cm:g}",
        f"高さを測り直してください（現在 表面まで {distance_cm:.0f} cm、mount_height_cm = "
        f"{height_cm:g}）",
    )
    said = Text(f"depth {depth_cm:.1f} cm", f"積雪深 {depth_cm:.1f} cm")
    if depth_cm < TOO_DEEP_CM:
        return failed(Text(f"{said}: below the ground", f"{said.ja}: 地面より下です"), then)
    air_c = _any_value(site, "air_temperature_c", sensor)
    if air_c is not None and air_c >= WARM_C and depth_cm >= SNOW_CM:
        return warned(Text(f"{said} at {air_c:.0f} degC", f"{said.ja}、気温 {air_c:.0f} ℃"), then)
    other_cm = _any_value(site, "depth_cm", sensor)
    if other_cm is not None and abs(other_cm - depth_cm) > LAG_CM:
        return warned(
            Text(
                f"{said}, {other_cm:.0f} cm by another",
                f"{said.ja}、別の積雪計は {other_cm:.0f} cm",
            ),
            then,
        )
    return passed(said, said.ja)


def _reasons(site: Site, sensor: PlannedSensor) -> dict[str, tuple[str, ...]]:
    """Return why there is no value, by quantity."""
    exam = exam_of(site, sensor)
    if exam is not None:
        return {name: each.reasons for name, each in exam.readings.items() if each.value is None}
    found: dict[str, tuple[str, ...]] = {}
    for name, reading in told.readings(site, sensor).items():
        if isinstance(reading, Mapping) and reading.get("value") is None:
            found[name] = tuple(reading.get("reasons", ()))
    return found


def _shown(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _only(reasons: Mapping[str, tuple[str, ...]], reason: str) -> bool:
    return bool(reasons) and all(reason in why for why in reasons.values())


def _value(site: Site, sensor: PlannedSensor, quantity: str) -> float | None:
    exam = exam_of(site, sensor)
    if exam is None:
        told_reading = told.readings(site, sensor).get(quantity)
        value = told_reading.get("value") if isinstance(told_reading, Mapping) else None
    else:
        reading = exam.readings.get(quantity)
        value = None if reading is None else reading.value
    return float(value) if isinstance(value, int | float) else None


def _any_value(site: Site, quantity: str, without: PlannedSensor) -> float | None:
    """Return a quantity by any other sensor that was looked at already."""
    plan = site.plan
    for sensor in () if plan is None else plan.sensors:
        if sensor is not without and not sensor.counts_people:
            value = _value(site, sensor, quantity)
            if value is not None:
                return value
    return None
