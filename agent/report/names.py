"""What quantities, units and states are called in a report."""

from __future__ import annotations

from collections.abc import Mapping

from config.text import Text

QUANTITIES: Mapping[str, Text] = {
    "air_temperature_c": Text("Air temperature", "気温"),
    "current_a": Text("Supply current", "電源電流"),
    "black_ice_risk": Text("Risk of black ice (0 to 2)", "ブラックアイスの危険度（0～2）"),
    "condition": Text("Condition", "路面状態"),
    "condition_code": Text("Device's own code", "機器固有のコード"),
    "cpu_temperature_c": Text("CPU temperature", "CPU温度"),
    "depth_cm": Text("Snow depth", "積雪深"),
    "dew_point_c": Text("Dew point", "露点温度"),
    "disk_life_percent": Text("Life of the storage left", "記憶媒体の残寿命"),
    "distance_cm": Text("Distance to the surface", "表面までの距離"),
    "freezing_temperature_c": Text("Freezing temperature", "凍結温度"),
    "friction": Text("Friction", "摩擦係数"),
    "ground": Text("Ground", "地面"),
    "hdop": Text("Dilution of precision", "測位の精度低下率"),
    "humidity_percent": Text("Humidity", "湿度"),
    "ice_mm": Text("Ice on the road", "路面の氷厚"),
    "new_snow_cm": Text("New snow since the last clearing", "除雪後の新積雪"),
    "object_temperature_c": Text("Surface temperature", "表面温度"),
    "open": Text("Door open", "扉の開放"),
    "power_ok": Text("Mains power", "商用電源"),
    "pressure_hpa": Text("Air pressure", "気圧"),
    "satellites": Text("Satellites", "衛星数"),
    "slipperiness": Text("Slipperiness (1 to 3)", "滑りやすさ（1～3）"),
    "snow_mm": Text("Snow on the road", "路面の積雪"),
    "snowfall_cm": Text("Snowfall in the hour", "時間降雪量"),
    "supply_v": Text("Supply voltage", "電源電圧"),
    "surface_temperature_c": Text("Road surface temperature", "路面温度"),
    "throttled": Text("CPU throttled", "CPUの性能制限"),
    "water_film_mm": Text("Water film", "水膜厚"),
}

_UNITS = (  # by the end of a quantity's name
    ("_percent", "%"),
    ("_m_s", "m/s"),
    ("_hpa", "hPa"),
    ("_deg", "°"),
    ("_cm", "cm"),
    ("_mm", "mm"),
    ("_c", "°C"),
    ("_v", "V"),
    ("_a", "A"),
)

KINDS: Mapping[str, Text] = {
    "people": Text("people", "通行者数"),
    "road": Text("road surface", "路面"),
    "snow": Text("snow", "積雪"),
    "weather": Text("weather", "気象"),
    "position": Text("position", "位置"),
    "cabinet": Text("cabinet", "収納箱"),
    "gateway": Text("gateway", "装置"),
}

STATES: Mapping[str, Text] = {
    "starting": Text("starting", "起動中"),
    "warmup": Text("warming up", "暖機中"),
    "ok": Text("working", "正常"),
    "silent": Text("silent", "応答なし"),
    "ignored": Text("left alone after failures", "停止中（異常のため）"),
}

GROUND: Mapping[str, Text] = {
    "snow": Text("snow", "積雪あり"),
    "no_snow": Text("no snow", "積雪なし"),
    "unknown": Text("unknown", "不明"),
}

SEVERITIES: Mapping[str, Text] = {
    "info": Text("information", "情報"),
    "warning": Text("warning", "警告"),
    "critical": Text("critical", "重大"),
}

EDGES: Mapping[str, Text] = {
    "raised": Text("raised", "発生"),
    "updated": Text("updated", "更新"),
    "cleared": Text("over", "解消"),
}

DIRECTIONS: Mapping[str, Text] = {
    "towards": Text("towards", "順方向"),
    "away": Text("away", "逆方向"),
    "total": Text("total", "合計"),
}

CHECKS: Mapping[str, Text] = {
    "PASS": Text("good", "良好"),
    "WARN": Text("look at it", "要確認"),
    "FAIL": Text("failed", "異常"),
    "SKIP": Text("not checked", "未検査"),
}


def quantity(name: str) -> Text:
    """Return what a quantity is called; its own name where nobody knows."""
    if name.startswith("forecast_"):
        inner = quantity(name.removeprefix("forecast_"))
        return Text(f"Forecast: {inner}", f"予測: {inner.ja}")
    return QUANTITIES.get(name) or Text(name, name)


def unit(name: str) -> str:
    """Return the unit that a quantity's name ends in, "" for a plain number."""
    return next((shown for end, shown in _UNITS if name.endswith(end)), "")
