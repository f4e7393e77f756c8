"""What states, reasons, kinds and quantities are called, for people.

A name that is not here is shown as it is: drivers of others have quantities of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from .display import Style
from .language import Text, said

STATES: Mapping[str, Text] = {
    "starting": Text("starting", "起動中"),
    "warmup": Text("warm-up", "準備中"),
    "ok": Text("ok", "正常"),
    "silent": Text("SILENT", "応答なし"),
    "ignored": Text("IGNORED", "停止中"),
}
STATE_STYLES: Mapping[str, Style] = {
    "starting": "dim",
    "warmup": "dim",
    "ok": "good",
    "silent": "bad",
    "ignored": "bad",
}

FLAGS: Mapping[str, Text] = {
    "good": Text("good", "良好"),
    "suspect": Text("suspect", "要注意"),
    "bad": Text("bad", "不良"),
    "missing": Text("missing", "欠測"),
    "not_evaluated": Text("not evaluated", "未判定"),
}
FLAG_STYLES: Mapping[str, Style] = {
    "good": "good",
    "suspect": "warn",
    "bad": "bad",
    "missing": "bad",
    "not_evaluated": "dim",
}

REASONS: Mapping[str, Text] = {
    "out_of_range": Text("out of range", "範囲外"),
    "spike": Text("spike", "突出値"),
    "stuck": Text("stuck", "固着"),
    "rate": Text("too fast", "急変"),
    "warmup": Text("warm-up", "準備中"),
    "obstructed": Text("obstructed", "遮蔽"),
    "weak_signal": Text("weak signal", "信号微弱"),
    "bus_error": Text("no answer", "応答なし"),
    "frame_error": Text("damaged frames", "データ破損"),
    "stale": Text("stale", "古い値"),
    "uncalibrated": Text("uncalibrated", "未校正"),
    "partial": Text("partial", "部分区間"),
    "clock_step": Text("clock step", "時刻修正"),
    "maintenance": Text("maintenance", "点検中"),
    "burned": Text("burned", "破棄"),
}

CLOCK_STATES: Mapping[str, Text] = {
    "synced": Text("synced", "同期済み"),
    "corrected": Text("corrected", "補正済み"),
    "estimated": Text("ESTIMATED", "推定"),
}

SEVERITIES: Mapping[str, Text] = {
    "info": Text("info", "情報"),
    "warning": Text("WARNING", "警告"),
    "critical": Text("CRITICAL", "重大"),
}
SEVERITY_STYLES: Mapping[str, Style] = {"info": "good", "warning": "warn", "critical": "bad"}

LANES: Mapping[str, Text] = {
    "alert": Text("alerts", "警報"),
    "live": Text("live", "現在"),
    "backlog": Text("backlog", "滞留"),
}

DIRECTIONS: Mapping[str, Text] = {
    "towards": Text("towards", "往"),
    "away": Text("away", "復"),
    "total": Text("total", "計"),
}

QUANTITIES: Mapping[str, Text] = {
    "depth_cm": Text("depth", "積雪深"),
    "distance_cm": Text("distance", "距離"),
    "ground": Text("ground", "地表"),
    "snowfall_cm": Text("snowfall", "降雪量"),
    "new_snow_cm": Text("new snow", "新積雪"),
    "surface_temperature_c": Text("surface", "路面温度"),
    "condition": Text("condition", "路面状態"),
    "condition_code": Text("code", "状態コード"),
    "slipperiness": Text("slipperiness", "滑りやすさ"),
    "black_ice_risk": Text("black ice", "凍結危険度"),
    "water_film_mm": Text("water film", "水膜厚"),
    "ice_mm": Text("ice", "氷厚"),
    "snow_mm": Text("snow", "雪厚"),
    "friction": Text("friction", "摩擦係数"),
    "freezing_temperature_c": Text("freezing at", "凍結温度"),
    "air_temperature_c": Text("air", "気温"),
    "humidity_percent": Text("humidity", "湿度"),
    "pressure_hpa": Text("pressure", "気圧"),
    "dew_point_c": Text("dew point", "露点"),
    "location": Text("location", "位置"),
    "satellites": Text("satellites", "衛星数"),
    "hdop": Text("HDOP", "HDOP"),
    "supply_v": Text("supply", "電源電圧"),
    "current_a": Text("current", "電流"),
    "cpu_temperature_c": Text("CPU", "CPU温度"),
    "throttled": Text("throttled", "性能制限"),
    "open": Text("open", "扉の開放"),
    "power_ok": Text("mains", "商用電源"),
    "disk_life_percent": Text("disk life", "媒体の寿命"),
}

CLASSES: Mapping[str, Text] = {  # of the road, as agent/rules.py has them, and of the ground
    "dry": Text("dry", "乾燥"),
    "moist": Text("moist", "湿り"),
    "wet": Text("wet", "湿潤"),
    "wet_salt": Text("wet, salted", "湿潤（塩分あり）"),
    "slush": Text("slush", "シャーベット"),
    "frost": Text("frost", "霜"),
    "snow": Text("snow", "積雪"),
    "packed_snow": Text("packed snow", "圧雪"),
    "ice": Text("ice", "氷板・氷膜"),
    "no_snow": Text("no snow", "無雪"),
    "unknown": Text("unknown", "不明"),
    "fault": Text("fault", "故障"),
}

UNITS: Mapping[str, str] = {"Cel": "degC", "1": "", "deg": "deg", "{count}": ""}

# Of a sensor's quantities the one that a line has room for.
FIRST = (
    "depth_cm",
    "surface_temperature_c",
    "air_temperature_c",
    "cpu_temperature_c",
    "supply_v",
    "open",
    "power_ok",
    "satellites",
    "distance_cm",
)


def named(names: Mapping[str, Text], name: str) -> str:
    """Return what `name` is called in the user's language; itself where nobody knows."""
    return said(names.get(name, name))


def reasons_text(reasons: object) -> str:
    """Return reasons in words, joined."""
    found = reasons if isinstance(reasons, list | tuple) else ()
    return " ".join(named(REASONS, str(each)) for each in found)


def number_text(value: object) -> str:
    """Return a value with as many digits as mean something at a glance."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    if isinstance(value, Mapping):
        if "mode" in value:
            return number_text(value["mode"])
        if "mean" in value:
            return number_text(value["mean"])
        return " ".join(number_text(each) for each in value.values())
    return named(CLASSES, str(value))


def ago_text(seconds: float) -> str:
    """Return an age in its two largest units: "42 s", "3 min", "2 h 05", "3 d 04 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return said(SECONDS, s=whole)
    if whole < 3600:
        return said(MINUTES, m=whole // 60)
    if whole < 86_400:
        return said(HOURS, h=whole // 3600, m=whole % 3600 // 60)
    return said(DAYS, d=whole // 86_400, h=whole % 86_400 // 3600)


SECONDS, MINUTES = Text("{s} s", "{s}秒"), Text("{m} min", "{m}分")
HOURS, DAYS = Text("{h} h {m:02}", "{h}時間{m:02}"), Text("{d} d {h:02} h", "{d}日{h:02}時")
