"""`yukimi-city account`: a day of every stream, in text, JSON or a page; exit 1 on a hole."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from . import markup
from .databases import opened
from .daybook import StreamDay
from .days import gateways, local_day, read
from .markup import Part, tag

HEAD = (
    ("ゲートウェイ", "gateway"),
    ("系列", "stream"),
    ("期待", "expected"),
    ("配達", "delivered"),
    ("遅延", "late"),
    ("欠測申告", "in gaps"),
    ("不正", "rejected"),
    ("欠落", "missing"),
    ("被覆 %", "covered %"),
    ("有効 %", "measured %"),
    ("遅れ 中央値 s", "latency p50 s"),
    ("95 % s", "p95 s"),
    ("最大 s", "max s"),
)


def act(parsed: argparse.Namespace) -> int:
    """Draw the account up; return 0, or 1 where a number is missing, or everything."""
    day = date.fromisoformat(parsed.day) if parsed.day else yesterday(parsed.timezone)
    if day > yesterday(parsed.timezone) + timedelta(days=1):
        raise ValueError(f"{day}: that day has not begun in {parsed.timezone}")
    span = local_day(day, parsed.timezone, time.time())
    with opened(parsed.database, read_only=True) as store:
        known = gateways(store)
        if not known:  # else every morning would find an empty account in order
            print("yukimi-city: nothing ever came into this database", file=sys.stderr)
            return 1
        if parsed.gateway and parsed.gateway not in known:
            raise ValueError(f"{parsed.gateway}: nothing ever came from a gateway of that name")
        chosen = [parsed.gateway] if parsed.gateway else known
        days = [each for name in chosen for each in read(store, name, span)]
    if parsed.json:
        print(json.dumps(to_json(day, parsed.timezone, days), ensure_ascii=False))
    else:
        print("\n".join(lines(day, parsed.timezone, days)))
    if parsed.html:
        parsed.html.write_text(to_html(day, parsed.timezone, days), encoding="utf-8")
    return 0 if all(each.is_whole for each in days) else 1


def yesterday(timezone: str) -> date:
    """Return the last day that is over there."""
    return datetime.now(ZoneInfo(timezone)).date() - timedelta(days=1)


def to_json(day: date, timezone: str, days: Sequence[StreamDay]) -> dict[str, object]:
    """Return the account as what `json.dumps` takes."""
    return {
        "schema": "yukimi.account/1",
        "day": day.isoformat(),
        "timezone": timezone,
        "whole": all(each.is_whole for each in days),
        "total": _total(days),
        "streams": [asdict(each) | {"produced": each.produced} for each in days],
    }


def lines(day: date, timezone: str, days: Sequence[StreamDay]) -> Iterator[str]:
    """Say it to people: a line for each stream, then the sum."""
    yield f"{day} ({timezone})"
    head = [english for _, english in HEAD]
    rows = [head, *([_said(cell) for cell in _cells(each)] for each in days)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        names = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*names, *figures]).rstrip()
    for each in days:
        for reason, number in each.lost.items():
            yield f"{each.gateway} {each.stream}: {number} lost, {reason}"
        if each.undated:
            yield f"{each.gateway} {each.stream}: {each.undated} missing, nobody knows of which day"
    total = _total(days)
    yield (
        f"produced {total['produced']} = delivered {total['delivered']} + in gaps {total['lost']}"
        f" + rejected {total['rejected']} + missing {total['missing']}"
    )


def to_html(day: date, timezone: str, days: Sequence[StreamDay]) -> str:
    """Return the account as a page that needs nothing but itself."""
    total = _total(days)
    holes = total["missing"] + total["rejected"]
    verdict = (
        tag("p", "欠落があります。 Numbers are missing.", class_="bad")
        if holes
        else tag("p", "すべて揃っています。 Every number is accounted for.", class_="good")
    )
    sums = [
        tag("div", tag("b", f"{total[key]:,}"), f"{ja} / {key}")
        for key, ja in (
            ("produced", "発番"),
            ("delivered", "配達"),
            ("late", "遅延"),
            ("lost", "欠測申告"),
            ("missing", "欠落"),
        )
    ]
    rows = [[_judged(n, cell) for n, cell in enumerate(_cells(each))] for each in days]
    lost = [
        tag("li", f"{each.gateway} {each.stream}: {number} × {reason}")
        for each in days
        for reason, number in each.lost.items()
    ]
    return markup.page(
        f"yukimi {day}",
        tag("h1", f"配達の勘定 {day} ", tag("small", f"The account of the day, {timezone}")),
        verdict,
        tag("div", *sums, class_="sums"),
        markup.table([markup.joined([ja, tag("br"), tag("small", en)]) for ja, en in HEAD], rows),
        *([tag("h2", "欠測申告の理由 / Why, in gaps"), tag("ul", *lost)] if lost else []),
        tag("p", _NOTE_JA, class_="soft"),
        tag("p", _NOTE_EN, class_="soft"),
    )


_NOTE_JA = (
    "期待: その日の窓の数。遅延: 次の窓が閉じた後に届いたもの。被覆: 記録が覆う時間の割合。"
    "有効: 信頼できる値のある時間の割合。"
)
_NOTE_EN = (
    "expected: windows of the day. late: came when the next was due already. covered: share of the"
    " day's seconds inside records; measured: inside records with a value that may be believed."
)


def _cells(day: StreamDay) -> list[Part]:
    latency = day.latency_s
    return [
        day.gateway,
        day.stream,
        day.expected,
        day.delivered,
        day.late,
        sum(day.lost.values()),
        day.rejected,
        day.missing,
        day.covered_percent,
        day.measured_percent,
        *(latency.get(name) for name in ("p50", "p95", "max")),
    ]


def _said(cell: Part) -> str:
    return "-" if cell is None else f"{cell:,}" if isinstance(cell, int | float) else str(cell)


def _judged(column: int, cell: Part) -> Part:
    name = HEAD[column][1]
    if name in ("missing", "rejected") and cell:
        return tag("td", f"{cell:,}", class_="n bad")
    if name in ("late", "in gaps") and cell:
        return tag("td", f"{cell:,}", class_="n warn")
    return cell


def _total(days: Sequence[StreamDay]) -> dict[str, int]:
    return {
        "produced": sum(each.produced for each in days),
        "delivered": sum(each.delivered for each in days),
        "late": sum(each.late for each in days),
        "lost": sum(sum(each.lost.values()) for each in days),
        "rejected": sum(each.rejected for each in days),
        "missing": sum(each.missing for each in days),
    }
