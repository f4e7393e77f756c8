"""What a running gateway's documents say, for people; of people, what was released. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from .display import clip, pad, printable
from .language import Text, said
from .names import (
    DIRECTIONS,
    FLAG_STYLES,
    FLAGS,
    LANES,
    QUANTITIES,
    named,
    number_text,
    reasons_text,
)

Document = dict[str, Any]

LANE, STREAM = 7, 13  # cells


def record_words(event: Document) -> tuple[str, str, str]:
    """Return of a record that left when and by which lane, what it says, and its style."""
    record = event["record"]
    at = record.get("end") or record.get("time")
    begin = f"{clock(at) if at else '--:--:--'}  {pad(named(LANES, event['lane']), LANE)}  "
    begin += pad(clip(record["stream"], STREAM), STREAM) + f" #{record['seq']:<5} "
    return begin, *record_text(record)


def record_text(record: Document) -> tuple[str, str]:
    """Return what a record says, and how it is to be shown."""
    if "gap" in record:
        return f"{record['first']}-{record['seq']} {record['gap']}", "bad"
    if "alert" in record:
        text = record["text"]
        return f"{record['state']}: {said(Text(text['en'], text['ja']))}", "warn"
    flag = record.get("quality", {}).get("flag", "good")
    reasons = reasons_text(record.get("quality", {}).get("reasons"))
    found = released(record)
    if found is not None:
        return counts_text(*found), ""
    values = record.get("values", {})
    if "event" in values:
        return f"{values['event']} {values.get('version', '')}".rstrip(), "dim"
    if flag == "good":
        return summary(values), ""
    return f"{named(FLAGS, flag)} {reasons} {summary(values)}".strip(), FLAG_STYLES.get(flag, "")


def counts_text(counts: Mapping[str, int], ci95: object) -> str:
    """Return released counts, and within what 95 % of them are."""
    ways = " ".join(f"{named(DIRECTIONS, way)} {count}" for way, count in counts.items())
    return f"{ways} (+-{ci95})"


def called(label: Mapping[str, str] | None) -> str:
    """Return a configured name in the user's language, or the one that there is."""
    named = label or {}
    en, ja = named.get("en") or "", named.get("ja") or ""
    return printable(said(Text(en or ja, ja or en)))


def summary(values: Document) -> str:
    """Return the values of a record on one line."""
    return "  ".join(
        f"{named(QUANTITIES, name)} {number_text(value)}"
        for name, value in values.items()
        if value is not None and not name.startswith("forecast_")
    )


def released(record: Document | None) -> tuple[dict[str, int], Any] | None:
    """Return the released counts by direction, and their 95 % interval; None if there are none."""
    values = {} if record is None else record["values"]
    counts = {
        name: value["count"]
        for name, value in values.items()
        if isinstance(value, Mapping) and "count" in value
    }
    return (counts, values.get("ci95")) if counts else None


def clock(time: str) -> str:
    """Return the time of day of a UTC time, to the nearest second.

    Windows end at whole seconds; the gateway's clock, and so its word for them, moves about that.
    """
    nearest = datetime.fromisoformat(time) + timedelta(seconds=0.5)
    return f"{nearest:%H:%M:%S}"


def seconds(time: str) -> float:
    """Return a UTC time as seconds."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
