"""Open data: a month as CSV, in the shape of the city's published flow set. Pure.

UTF-8 with a byte order mark (spreadsheets in Japan take a file without one for Shift JIS), lines
end in CRLF (RFC 4180), one line of names, each in Japanese and English. Times are local, with their
offset. A figure that was not measured is an empty field.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from .observed import Observed

BOM = "\ufeff"

Cell = str | float | int | None
Column = tuple[str, Callable[[Observed], Cell]]

_PLACE: Sequence[Column] = (
    ("ゲートウェイ / gateway", lambda one: one.gateway),
    ("センサー / sensor", lambda one: one.stream),
    ("場所 / place_ja", lambda one: one.label_ja),
    ("場所 英語 / place_en", lambda one: one.label_en),
    ("緯度 / latitude", lambda one: one.place and one.place[0]),
    ("経度 / longitude", lambda one: one.place and one.place[1]),
)
_RIGHTS: Sequence[Column] = (
    ("品質 / quality", lambda one: one.flag),
    ("提供者 / owner", lambda one: one.owner),
    ("ライセンス / licence", lambda one: one.licence),
)


def _mean(quantity: str) -> Callable[[Observed], Cell]:
    return lambda one: one.mean(quantity) if one.is_usable else None


def _count(way: str, which: str) -> Callable[[Observed], Cell]:
    return lambda one: one.count(way, which)


def _all(which: str) -> Callable[[Observed], Cell]:
    """Both directions together, or what a counter without direction says."""

    def total(one: Observed) -> Cell:
        ways = [one.count(way, which) for way in ("towards", "away")]
        if None in ways:
            return one.count("total", which)
        return sum(way or 0 for way in ways)

    return total


COLUMNS: dict[str, Sequence[Column]] = {
    "people": (
        ("方向1 / direction1", lambda one: one.direction("towards", "ja")),
        ("方向1 英語 / direction1_en", lambda one: one.direction("towards", "en")),
        ("方向1 人数 / direction1_count", _count("towards", "count")),
        ("方向2 / direction2", lambda one: one.direction("away", "ja")),
        ("方向2 英語 / direction2_en", lambda one: one.direction("away", "en")),
        ("方向2 人数 / direction2_count", _count("away", "count")),
        ("合計 / total_count", _all("count")),
        ("方向1 集計用 / direction1_unclamped", _count("towards", "unclamped")),
        ("方向2 集計用 / direction2_unclamped", _count("away", "unclamped")),
        ("合計 集計用 / total_unclamped", _all("unclamped")),
        ("雑音の標準偏差 / noise_sd", lambda one: one.mean("noise_sd")),
        ("95%の幅 / ci95", lambda one: one.mean("ci95")),
    ),
    "snow": (
        ("積雪深 cm / depth_cm", _mean("depth_cm")),
        ("1時間降雪量 cm / snowfall_cm", _mean("snowfall_cm")),
        ("新積雪 cm / new_snow_cm", _mean("new_snow_cm")),
    ),
    "road": (
        ("路面状態 / condition", lambda one: one.mode("condition") if one.is_usable else None),
        ("滑りやすさ 1-3 / slipperiness", _mean("slipperiness")),
        ("路面温度 ℃ / surface_temperature_c", _mean("surface_temperature_c")),
        ("摩擦係数 / friction", _mean("friction")),
        ("水膜 mm / water_film_mm", _mean("water_film_mm")),
        ("氷 mm / ice_mm", _mean("ice_mm")),
        ("雪 mm / snow_mm", _mean("snow_mm")),
    ),
}

# The city's own set is named by the month alone.
PREFIX = {"people": "", "snow": "snow_", "road": "road_"}


def file_name(kind: str, year: int, month: int) -> str:
    """Return the name of a month's file."""
    return f"{PREFIX[kind]}{year:04}_{month:02}.csv"


def month(kind: str, records: Iterable[Observed], zone: ZoneInfo) -> Iterator[str]:
    """Yield a month's file line by line, its byte order mark first."""
    writer = csv.writer(_Line(), lineterminator="\r\n")
    columns = [*_PLACE, *COLUMNS[kind], *_RIGHTS]
    yield BOM + writer.writerow(["開始 / start", "終了 / end", *(name for name, _ in columns)])
    for one in records:
        times = [_local(one.start_s, zone), _local(one.end_s, zone)]
        yield writer.writerow([*times, *(_safe(cell(one)) for _, cell in columns)])


class _Line:
    """Gives what is written back to whoever wrote a row."""

    def write(self, text: str) -> str:
        return text


def _local(at_s: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at_s, zone).isoformat(timespec="seconds")


def _safe(cell: Cell) -> Cell:
    """Keep a text from being a formula in a spreadsheet; a whole number needs no point."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{cell}"
    return cell
