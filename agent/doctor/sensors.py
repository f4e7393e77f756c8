"""Does each sensor answer, is it the one that is meant, and can what it says be true?

Where the gateway runs, its own word counts: it holds the buses. Else each sensor is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from config.text import Text

from . import told
from .exam import Exam, examine
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedSensor

TOO_DEEP_CM = -5.0  # below the bare ground: no noise, but a wrong height
WARM_C = 15.0  # of the air: no snow lies
SNOW_CM = 10.0
LAG_CM = 60.0  # two gauges at one place
MANY_ERRORS = 0.1  # of all frames, beside
BANNER_LINES = 6  # that a device says when it is switched on, and the frame we came into

_NOT_REACHED = ("not looked at: the time was over", "時間内に確認できませんでした")
_DIRECT_ONLY = ("told by the gateway's state only", "装置の状態報告のみ")


def exam_of(site: Site, sensor: PlannedSensor) -> Exam | None:
    """Return what a sensor said when it was read here; None where the gateway has it."""
    if site.daemon is not None:
        return None
    return examine(site, sensor.bus).sensors.get(sensor.table.id)


@check(
    "YK-SEN-01",
    Text("sensor answers", "センサーの応答"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-BUS-06",),
    excused_by=("YK-PWR-01",),
    what=Text(
        "Whether anything at all is heard of the sensor.",
        "センサーから何らかの応答があるかどうかを確認します。",
    ),
    why=Text(
        "A silent sensor has no power, a broken wire, or is dead. Its records say `missing`.",
        "無応答の原因は、電源、断線、または故障です。記録は欠測（missing）になります。",
    ),
    do=(
        Text(
            "Measure the supply at the sensor itself, under load.",
            "センサーの端子で、動作中の電源電圧を測ります。",
        ),
        Text(
            "Check the wires at both ends: receive to transmit, ground to ground; on RS-485 swap "
            "A and B "
            "as a try.",
            "両端の配線（受信と送信、GND）を確認し、RS-485ではAとBを入れ替えてみます。",
        ),
        Text(
            "`yukimi read SENSOR` shows the raw bytes; `yukimi scan` who answers at all.",
            "`yukimi read SENSOR` で生データを、`yukimi scan` で応答する機器を確認します。",
        ),
        Text("Replace it.", "交換します。"),
    ),
)
def answers(site: Site, sensor: PlannedSensor) -> Finding:
    """Ask, or take the gateway's word."""
    exam = exam_of(site, sensor)
    then = Text(
        "check its power and wires; `yukimi read` shows the raw bytes",
        "電源と配線を点検してください。`yukimi read` で生データを確認できます",
    )
    if exam is None:
        return _by_state(told.of_sensor(site, sensor), then)
    if not exam.is_reached:
        return skipped(*_NOT_REACHED)
    where = _elsewhere(exam)
    if exam.is_dead and where is None and exam.at_its_address is None and not _breaks(exam):
        why = f": {exam.error}" if exam.error is not None else ""
        return failed(Text(f"nothing is heard of it{why}", f"まったく応答がありません{why}"), then)
    if where is not None:
        return passed(f"it answers {where}", f"応答あり: {where.ja}")
    name = f", {exam.identity}" if exam.identity else ""
    return passed(f"it answers{name}", f"応答あり{name}")


def _by_state(said: told.Document, then: Text) -> Finding:
    """Judge by the state that the gateway gives the sensor."""
    state = str(said.get("state", ""))
    error = said.get("error")
    why = error.get("text") if isinstance(error, Mapping) else None
    if state in ("silent", "ignored"):
        return failed(
            Text(
                f"silent{f': {why}' if why else ''}", f"応答がありません{f': {why}' if why else ''}"
            ),
            then,
        )
    if state in ("starting", "warmup"):
        return passed("it starts, or warms up", "起動中または準備運転中")
    if state == "ok":
        return passed("it measures", "測定中")
    return skipped("the gateway does not know it yet", "装置がまだ認識していません")


def _elsewhere(exam: Exam) -> Text | None:
    if exam.is_alive:
        return None
    if exam.other_baud is not None:
        return Text(f"at {exam.other_baud} baud", f"{exam.other_baud} baudで応答")
    if exam.other_address is not None:
        address = f"0x{exam.other_address:02x}"
        return Text(f"at address {address}", f"アドレス {address} で応答")
    return None


def _breaks(exam: Exam) -> bool:
    return exam.line_errors is not None and sum(exam.line_errors) > 0


@check(
    "YK-SEN-02",
    Text("the right device", "機器とアドレス"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-SEN-01",),
    what=Text(
        "Whether the device at the sensor's address is the one that the configuration names.",
        "設定されたアドレスの機器が、設定どおりの機種かどうかを確認します。",
    ),
    why=Text(
        "Two devices at one address disturb each other, and another model's bytes would be read "
        "as nonsense. A DS3231 clock and a Grid-EYE both want 0x68.",
        "同じアドレスの機器は互いに妨害し、別機種のデータは誤読されます。DS3231とGrid-EYEはどち"
        "らも0x68です。",
    ),
    do=(
        Text(
            "`yukimi scan --port BUS` shows who answers at which address.",
            "`yukimi scan --port BUS` で各アドレスの機器を確認します。",
        ),
        Text(
            "Set one of the two to another address (jumper, solder bridge), or put it on another "
            "bus.",
            "一方のアドレスを（ジャンパーなどで）変えるか、別のバスに移します。",
        ),
        Text(
            "Write the address that it has into the configuration: [sensors.options] address.",
            "実際のアドレスを設定の[sensors.options] addressに書きます。",
        ),
    ),
)
def identity(site: Site, sensor: PlannedSensor) -> Finding:
    """Look at who answers in its place."""
    exam = exam_of(site, sensor)
    if exam is None:
        return skipped(*_DIRECT_ONLY)
    place = exam.at_its_address
    clash = Text(
        "give one of the two another address, or another bus",
        "どちらかのアドレスを変えるか、別のバスに移してください",
    )
    if place is not None and place.state == "kernel":
        return failed(
            Text(
                f"0x{place.address:02x} is {place.says}",
                f"0x{place.address:02x} はカーネルが使用中です: {place.says}",
            ),
            clash,
        )
    if exam.is_another:
        return failed(
            Text(
                f"another device answers: {exam.error}", f"別の機器が応答しています: {exam.error}"
            ),
            clash,
        )
    models = set() if place is None else {each.driver for each in place.found}
    can_tell = hasattr(sensor.driver, "recognise")
    if place is not None and can_tell and not exam.is_alive and sensor.table.driver not in models:
        who = " or ".join(sorted(models)) or "something unknown"
        return failed(
            Text(
                f"at 0x{place.address:02x} answers {who}, no {sensor.table.driver}",
                f"0x{place.address:02x} で応答しているのは {sensor.table.driver} ではありません",
            ),
            clash,
        )
    if exam.other_address is not None and not exam.is_alive:
        address = f"0x{exam.other_address:02x}"
        return failed(
            Text(
                f"it answers at {address}, not where it is configured",
                f"設定と異なるアドレス {address} で応答しています",
            ),
            Text(
                f"set [sensors.options] address = {address}",
                f"[sensors.options] address = {address} と設定してください",
            ),
        )
    return passed(exam.identity or "nobody else answers", exam.identity or "ほかの応答はありません")


@check(
    "YK-SEN-03",
    Text("speed of the line", "通信速度"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-SEN-02",),
    what=Text(
        "Whether the sensor speaks at the speed that is configured; if not, at which.",
        "設定の通信速度でセンサーが通信しているか、違う場合は実際の速度を確認します。",
    ),
    why=Text(
        "At another speed bytes come, and none makes sense; or a device that must be asked does "
        "not understand.",
        "速度が違うと、データが届いても意味をなさないか、問い合わせが通じません。",
    ),
    do=(
        Text(
            "Write the speed that was found into the configuration: `[[buses]]` with `baud`.",
            "見つかった速度を設定の`[[buses]]`の`baud`に書きます。",
        ),
        Text(
            "Or set the device to its usual speed with its maker's tool.",
            "または機器をメーカーの道具で標準の速度に戻します。",
        ),
    ),
)
def speed(site: Site, sensor: PlannedSensor) -> Finding:
    """Look at where it was found."""
    if sensor.bus.kind != "serial":
        return skipped("no serial line", "シリアルではありません")
    exam = exam_of(site, sensor)
    if exam is None:
        return skipped(*_DIRECT_ONLY)
    own = sensor.bus.line.baud if sensor.bus.line else 0
    found = exam.other_baud
    if found is not None and not exam.is_alive:
        return failed(
            Text(
                f"it speaks at {found} baud, configured are {own}",
                f"{found} baudで通信しています（設定は {own}）",
            ),
            Text(
                f"set `baud = {found}` in [[buses]] for {sensor.bus.name}",
                f"{sensor.bus.name} の[[buses]]に `baud = {found}` と設定してください",
            ),
        )
    return passed(f"{own} baud", f"{own} baud")


@check(
    "YK-SEN-04",
    Text("bytes make sense", "データの正しさ"),
    blink=Blink.SENSOR,
    over="sensor",
    needs=("YK-SEN-03",),
    excused_by=("YK-PWR-01",),
    what=Text(
        "Whether whole frames come, at the one speed that is left; and whether the line rests "
        "between them (framing errors, breaks).",
        "正しいフレームが届くか、線路が休止状態に戻るか（フレーミングエラー、ブレーク）を確認し"
        "ます。",
    ),
    why=Text(
        "With A and B swapped, or RS-232 levels on a TTL pin, every bit is upside down: bytes come "
        "and none makes sense at any speed.",
        "AとBが逆、またはTTL端子にRS-232を接続すると、全ビットが反転し、どの速度でも意味をなし"
        "ません。",
    ),
    do=(
        Text("Swap A and B (D+ and D-) at one end.", "片側でAとB（D+とD-）を入れ替えます。"),
        Text(
            "A sensor with RS-232 levels needs an RS-232 adapter, never a bare UART pin.",
            "RS-232出力のセンサーには必ずRS-232アダプターを使います。",
        ),
        Text(
            "Then look for a missing ground, a missing terminator, a heater's cable beside the "
            "line.",
            "次に、GNDの未接続、終端抵抗、並走するヒーター線を確認します。",
        ),
    ),
)
def sense(site: Site, sensor: PlannedSensor) -> Finding:
    """Count frames among the bytes."""
    exam = exam_of(site, sensor)
    if exam is None:
        return skipped(*_DIRECT_ONLY)
    if not exam.is_reached:
        return skipped(*_NOT_REACHED)
    if sensor.bus.kind == "serial" and (exam.is_garbled or (exam.is_dead and _breaks(exam))):
        errors, breaks = exam.line_errors or (0, 0)
        line = f", {errors} framing errors, {breaks} breaks" if errors or breaks else ""
        line_ja = f"、フレーミングエラー{errors}、ブレーク{breaks}" if errors or breaks else ""
        return failed(
            Text(
                f"{exam.heard_bytes} bytes and no frame at any speed{line}",
                f"{exam.heard_bytes}バイト受信、どの速度でもフレームなし{line_ja}",
            ),
            Text(
                "swap A and B (RS-232: use an RS-232 adapter)",
                "AとBを入れ替えてください（RS-232の場合はRS-232アダプターを使用）",
            ),
        )
    total = exam.frames + exam.frame_errors
    if exam.error is not None and not exam.is_alive:
        return failed(
            Text(f"no valid answer: {exam.error}", f"正しい応答がありません: {exam.error}"),
            Text(
                "`yukimi read` shows the raw bytes; check cable, ground and address",
                "`yukimi read` で生データを確認し、ケーブル・GND・アドレスを点検してください",
            ),
        )
    if exam.frame_errors - BANNER_LINES > MANY_ERRORS * total:
        return warned(
            Text(
                f"{exam.frame_errors} of {total} frames damaged",
                f"{total}フレーム中{exam.frame_errors}が破損",
            ),
            Text("look at cable, ground, terminator", "ケーブル・GND・終端抵抗を点検してください"),
        )
    return passed(
        f"{exam.frames} frames, {exam.frame_errors} damaged",
        f"{exam.frames}フレーム、破損{exam.frame_errors}",
    )


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
        "An impossible value comes of a broken probe, a wrong setting or a missing pull-up; it is "
        "never sent as a value.",
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
        return skipped(*_DIRECT_ONLY)
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
    for name, reading in _readings(site, sensor).items():
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
        told_reading = _readings(site, sensor).get(quantity)
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


def _readings(site: Site, sensor: PlannedSensor) -> Mapping[str, Any]:
    found = told.of_sensor(site, sensor).get("readings")
    return found if isinstance(found, Mapping) else {}
