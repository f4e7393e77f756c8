"""Does each sensor answer, is it the one that is meant, and do its bytes make sense?

Where the gateway runs, its own word counts: it holds the buses. Else each sensor is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from config.text import Text, text_of

from . import told
from .exam import Exam, exam_of
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedSensor

MANY_ERRORS = 0.1  # of all frames, beside
LEAST_RATE = 0.5  # of the nominal one
BANNER_LINES = 6  # that a device says when it is switched on, and the frame we came into

_NOT_REACHED = ("not looked at: the time was over", "時間内に確認できませんでした")
_DIRECT_ONLY = ("told by the gateway's state only", "装置の状態報告のみ")


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
            "A and B as a try.",
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
    if exam.bug:
        return warned(
            Text(
                f"its driver failed, which is a bug: {exam.bug}",
                f"ドライバーの不具合です: {exam.bug}",
            ),
            Text(
                "send this line to whoever maintains the driver",
                "この行をドライバーの保守担当者に送ってください",
            ),
        )
    where = _elsewhere(exam)
    if exam.is_dead and where is None and exam.at_its_address is None and not _breaks(exam):
        why = _because(sensor, exam)
        return failed(
            Text(f"nothing is heard of it{why}", f"まったく応答がありません{why.ja}"), then
        )
    if where is not None:
        return passed(f"it answers {where}", f"応答あり: {where.ja}")
    name = f", {exam.identity}" if exam.identity else ""
    return passed(f"it answers{name}", f"応答あり{name}")


def _by_state(said: told.Document, then: Text) -> Finding:
    """Judge by the state that the gateway gives the sensor."""
    state, error = str(said.get("state", "")), _error(said)
    if state in ("silent", "ignored"):
        if error.get("kind") in ("other_device", "frame_error"):
            return passed("somebody answers", "応答はあります")
        why = f": {error['text']}" if error.get("text") else ""
        return failed(Text(f"silent{why}", f"応答がありません{why}"), then)
    if state in ("starting", "warmup"):
        return passed("it starts, or warms up", "起動中または準備運転中")
    if state == "ok":
        return passed("it measures", "測定中")
    return skipped("the gateway does not know it yet", "装置がまだ認識していません")


def _error(said: told.Document) -> told.Document:
    error = said.get("error")
    return error if isinstance(error, Mapping) else {}


def _elsewhere(exam: Exam) -> Text | None:
    if exam.is_alive:
        return None
    if exam.other_baud is not None:
        return Text(f"at {exam.other_baud} baud", f"{exam.other_baud} baudで応答")
    if exam.other_address is not None:
        address = f"0x{exam.other_address:02x}"
        return Text(f"at address {address}", f"アドレス {address} で応答")
    return None


def _because(sensor: PlannedSensor, exam: Exam) -> Text:
    """Say what went wrong; of a people sensor's frames nothing, they show persons."""
    from agent.logs import words_of
    from drivers.base import FrameError

    if exam.error is None or (sensor.counts_people and isinstance(exam.error, FrameError)):
        return Text("", "")
    said = words_of(exam.error, of_people=sensor.counts_people)
    return Text(f": {said}", f": {said.ja}")


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
    clash = Text(
        "give one of the two another address, or another bus",
        "どちらかのアドレスを変えるか、別のバスに移してください",
    )
    exam = exam_of(site, sensor)
    if exam is None:
        said = told.of_sensor(site, sensor)
        error = _error(said)
        if said.get("state") != "ok" and error.get("kind") == "other_device":
            text = str(error.get("text"))
            return failed(
                Text(f"another device answers: {text}", f"別の機器が応答しています: {text}"), clash
            )
        return passed("nobody else answers", "ほかの応答はありません")
    place = exam.at_its_address
    if place is not None and place.state == "kernel":
        return failed(
            Text(
                f"0x{place.address:02x} is {place.says}",
                f"0x{place.address:02x} はカーネルが使用中です: {text_of(place.says).ja}",
            ),
            clash,
        )
    if exam.is_another:
        what = _because(sensor, exam)
        return failed(
            Text(f"another device answers{what}", f"別の機器が応答しています{what.ja}"), clash
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
        "With A and B swapped, or RS-232 levels on a TTL pin, every bit is upside down: bytes "
        "come and none makes sense at any speed.",
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
            "Bytes, and neither framing errors nor breaks: the line may be well, and another "
            "device than the configured one speak, as where two adapters have changed names. (Not "
            "every adapter counts them.)",
            "フレーミングエラーもブレークもない場合は、設定と異なる機器がつながっている可能性が"
            "あります（アダプターの名前の入れ替わりなど）。数えないアダプターもあります。",
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
        return _sense_by_gateway(site, sensor)
    if not exam.is_reached:
        return skipped(*_NOT_REACHED)
    if sensor.bus.kind == "serial" and (exam.is_garbled or (exam.is_dead and _breaks(exam))):
        errors, breaks = exam.line_errors or (0, 0)
        line = f", {errors} framing errors, {breaks} breaks" if errors or breaks else ""
        line_ja = f"、フレーミングエラー{errors}、ブレーク{breaks}" if errors or breaks else ""
        swap = Text(
            "swap A and B (RS-232: use an RS-232 adapter)",
            "AとBを入れ替えてください（RS-232の場合はRS-232アダプターを使用）",
        )
        stranger = Text(
            "is another device plugged in here? If not, swap A and B",
            "別の機器が接続されていないか確認し、なければAとBを入れ替えてください",
        )
        return failed(
            Text(
                f"{exam.heard_bytes} bytes and no frame at any speed{line}",
                f"{exam.heard_bytes}バイト受信、どの速度でもフレームなし{line_ja}",
            ),
            stranger if exam.line_errors == (0, 0) else swap,
        )
    total = exam.frames + exam.frame_errors
    why = _because(sensor, exam)
    if exam.error is not None and not exam.is_alive:
        return failed(
            Text(f"no valid answer{why}", f"正しい応答がありません{why.ja}"),
            Text(
                "`yukimi read` shows the raw bytes; check cable, ground and address",
                "`yukimi read` で生データを確認し、ケーブル・GND・アドレスを点検してください",
            ),
        )
    if sensor.counts_people:  # how many frames there were may tell of persons
        return passed("yes", "正常")
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


def _sense_by_gateway(site: Site, sensor: PlannedSensor) -> Finding:
    """Look at what the gateway counts: damaged frames, and how often it measures."""
    said = told.of_sensor(site, sensor)
    rate_hz, nominal_hz = said.get("rate_hz"), said.get("nominal_rate_hz")
    errors = said.get("frame_errors")
    is_silent = said.get("state") in ("silent", "starting") and not told.readings(site, sensor)
    is_garbled = _error(said).get("kind") == "frame_error" or (errors or 0) > BANNER_LINES
    if is_silent and is_garbled:
        return failed(
            Text("bytes come, and no frame", "データは届きますが、フレームになりません"),
            Text(
                "wrong speed, or A and B swapped: "
                "`sudo systemctl stop yukimi; yukimi doctor; sudo systemctl start yukimi` finds "
                "out",
                "通信速度の誤りかAとBの逆接続で"
                "す。`sudo systemctl stop yukimi; yukimi doctor; sudo systemctl start yukimi` "
                "で判別できます",
            ),
        )
    if not (isinstance(rate_hz, int | float) and isinstance(nominal_hz, int | float)):
        return passed("the gateway reads it", "装置が読み取っています")
    shown = f"{rate_hz:.3g}/s ({nominal_hz:.3g}/s)"
    if said.get("state") == "ok" and rate_hz < LEAST_RATE * nominal_hz:
        return warned(
            Text(f"it measures {shown}", f"測定頻度 {shown}"),
            Text("look at cable, ground, terminator", "ケーブル・GND・終端抵抗を点検してください"),
        )
    return passed(f"{shown}, {errors} frames damaged", f"{shown}、破損フレーム {errors}")
