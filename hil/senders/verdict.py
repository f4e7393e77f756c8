"""The database against the truth: every row that a gateway committed, as it committed it."""

from __future__ import annotations

import json
from typing import Any

from ..city.store import Store
from .gateway import Key, Truth

SHOWN = 5

Gap = tuple[str, str, int, int, str]  # run, stream, first, last, reason


def problems(store: Store, gateway: str, truth: Truth) -> list[str]:
    """Return what differs between a gateway's rows and its truth; nothing, where all is well."""
    found = records_in(store, gateway)
    gaps = _gaps(store, gateway)
    owed = set(truth.bodies) - truth.given_up
    wrong: dict[str, set[Any]] = {
        "are missing": owed - set(found),
        "were never committed": set(found) - set(truth.bodies),
        "differ": {
            key
            for key, row in found.items()
            if key in truth.bodies and row != json.loads(truth.bodies[key])
        },
        "are gaps that nobody told": gaps - truth.gaps,
        "are gaps that are missing": {
            gap for gap in truth.gaps - gaps if not _is_known(gap, set(found), gaps)
        },
        "are not accounted for": _unaccounted(store, gateway, truth, found),
    }
    return [
        f"{gateway}: {len(which)} {what}: {sorted(which)[:SHOWN]}"
        for what, which in wrong.items()
        if which
    ]


def _is_known(gap: Gap, found: set[Key], gaps: set[Gap]) -> bool:
    """Whether all numbers of a gap are there in another way: a receipt may then come before it."""
    run, stream, first, last, _ = gap
    named = {
        (run, stream, number)
        for other in gaps
        if other[:2] == (run, stream)
        for number in range(other[2], other[3] + 1)
    }
    return all((run, stream, number) in found | named for number in range(first, last + 1))


def _gaps(store: Store, gateway: str) -> set[Gap]:
    sql = "SELECT run, stream, first, seq, reason FROM gap WHERE gateway = ?"
    return {(row[0], row[1], row[2], row[3], row[4]) for row in store.query(sql, (gateway,))}


def _unaccounted(
    store: Store, gateway: str, truth: Truth, found: dict[Key, dict[str, Any]]
) -> set[Any]:
    """Return the streams of which the view `account` says something else than the truth."""
    sql = "SELECT run, stream, produced, delivered, lost, missing FROM account WHERE gateway = ?"
    said = {row[:2]: row[2:] for row in store.query(sql, (gateway,))}
    unaccounted = set()
    for run, streams in truth.produced.items():
        for stream, number in streams.items():
            came = sum(key[:2] == (run, stream) for key in found)
            if said.get((run, stream)) != (number, came, number - came, 0):
                unaccounted.add((run, stream, said.get((run, stream))))
    return unaccounted


def _plain(value: Any) -> Any:
    """Return JSON as it was, whatever the database made of it."""
    return json.loads(value) if isinstance(value, str) else value


def _instant(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"


def records_in(store: Store, gateway: str) -> dict[Key, dict[str, Any]]:
    """Return every record and alert of a gateway as its sender wrote it."""
    found: dict[Key, dict[str, Any]] = {}
    rows = store.query(
        "SELECT run, stream, seq, start_utc, end_utc, clock_state, clock_error_s, flag, n,"
        ' expected, "values" FROM record WHERE gateway = ?',
        (gateway,),
    )
    for run, stream, seq, start, end, state, error_s, flag, n, expected, values in rows:
        found[run, stream, seq] = {
            "stream": stream,
            "seq": seq,
            "start": _instant(start),
            "end": _instant(end),
            "clock": {"state": state, "error_s": error_s},
            "quality": {"flag": flag, "n": n, "expected": expected},
            "values": _plain(values),
        }
    rows = store.query(
        "SELECT run, seq, sensor, alert, id, state, severity, time_utc, since_utc, clock_state,"
        ' clock_error_s, text_ja, text_en, "values" FROM alert WHERE gateway = ?',
        (gateway,),
    )
    for (
        run,
        seq,
        sensor,
        alert,
        episode,
        state,
        severity,
        *times,
        clock,
        error_s,
        ja,
        en,
        v,
    ) in rows:
        found[run, "alerts", seq] = {
            "stream": "alerts",
            "seq": seq,
            "sensor": sensor,
            "alert": alert,
            "id": episode,
            "state": state,
            "severity": severity,
            "time": _instant(times[0]),
            "since": _instant(times[1]),
            "clock": {"state": clock, "error_s": error_s},
            "text": {"ja": ja, "en": en},
            "values": _plain(v),
        }
    return found
