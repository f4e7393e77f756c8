"""Takes down every number that a gateway told: in messages, answers, its spool and its log.

What stands in a record belongs to its sensor and window, what names no window to the moment at
which it was told; sizes and numbers of messages, rows and lines are numbers too.

What is computed from released figures is no leak, and is left out: the figures themselves, alerts
on crowds, and the digits of figures in a message's length.
"""

from __future__ import annotations

import copy
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.record import utc_ns

from .gateway import PEOPLE
from .links import Numbers
from .pattern import S
from .search import inflated
from .site import Message
from .truth import Truth

HALVES_NS = (0, S // 2)  # what comes at the seam of two seconds may fall into either: not twice


class Reader:
    """Takes down every number in messages, spools and logs."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.numbers = Numbers()
        self._rows: set[tuple[object, ...]] = set()

    def messages(self, messages: Iterable[Message]) -> None:
        """Read what went over the wire."""
        for message in messages:
            if not message.payload:
                continue
            text = message.payload
            if text[:1] == b"\x78":
                text = next(inflated(text), b"")
            document = json.loads(text)
            lane = message.topic.split("/")[0]
            records = document.get("records", [document])
            if all(_tells_of_crowd(each) for each in records):
                continue
            self._count(f"{lane} messages", message.at_ns)
            self._count(f"{lane} bytes", message.at_ns, len(text) - _figure_digits(document))
            if "records" in document:
                for record in records:
                    self.document("wire", record)
            else:
                document.get("produced", {}).pop("alerts", None)  # those on crowds are in it
                self._moment(lane, message.at_ns, document)

    def answers(self, answers: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """Read what `status` was answered over the socket, and when."""
        for at_ns, answer in answers:
            document = copy.deepcopy(answer)
            document["alerts"] = [each for each in answer["alerts"] if not _tells_of_crowd(each)]
            document["uplink"]["lanes"].pop("alert")  # those on crowds are in it
            for sensor in document["sensors"]:
                record = sensor.pop("record", None)
                if record is not None:
                    self.document("socket", {"stream": sensor["id"]} | record)
            self._moment("socket", at_ns, document)

    def log(self, text: str) -> None:
        """Read the log."""
        for line in text.splitlines():
            words = dict(_LOGFMT.findall(line))
            try:
                at = datetime.fromisoformat(words.pop("timestamp", ""))
            except ValueError:
                continue
            at_ns = round(at.timestamp() * S)
            event = words.pop("event", "").strip('"')
            self._count("log lines", at_ns)
            self._count("log bytes", at_ns, len(line))
            self._count(f"log lines '{event}'", at_ns)
            place = " ".join(["log", f"'{event}'", words.pop("sensor", "")]).strip()
            self._moment(place, at_ns, words)

    def spool(self, file: Path, *, may_be_torn: bool) -> None:
        """Read every table of a spool, whatever they are. Raises sqlite3.Error, ValueError.

        One that was copied while it was written may be torn: then what can be read is.
        """
        with closing(sqlite3.connect(file)) as database:
            database.row_factory = sqlite3.Row
            try:
                tables = [
                    row[0]
                    for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
                ]
                streams = dict(database.execute("SELECT id, stream FROM series").fetchall())
                for table in tables:
                    for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608
                        if (known := (table, *row)) not in self._rows:  # else of an earlier copy
                            self._rows.add(known)
                            self._row(table, dict(row), streams)
            except (sqlite3.DatabaseError, ValueError):
                if not may_be_torn:
                    raise

    def _row(self, table: str, row: dict[str, Any], streams: Mapping[int, str]) -> None:
        if table == "record" and row.get("series") in streams:
            row["stream"] = streams[row["series"]]
        body = row.pop("body", None)
        if isinstance(body, bytes):
            body = next(inflated(body), b"").decode()
            self.numbers.packs += 1
        if isinstance(body, str):
            document = json.loads(body)
            row["body bytes"] = len(body) - _figure_digits(document)
            for record in document.get("records", [document]):
                self.document(f"spool, {table}.body,", record)
        for name, value in list(row.items()):
            if isinstance(value, str) and value.startswith("{") and name != "inside":
                self.document(f"spool, {table}.{name},", json.loads(row.pop(name)))
        self.document(f"spool, table {table},", row)

    def document(self, place: str, document: Mapping[str, Any]) -> None:
        """Take down a document: of a window, if it says of which."""
        sensor, second = self._window_of(document)
        if sensor is None or second is None:
            return
        rest = document
        if sensor in PEOPLE:
            rest = self._released(sensor, second, document)
        for path, value in _leaves(rest):
            self.numbers.windows[sensor, f"{place} {path}"][second] = value

    def _released(self, sensor: str, second: int, document: Mapping[str, Any]) -> dict[str, Any]:
        """Take the figures out of a record; return what else it says."""
        rest = copy.deepcopy(dict(document))
        if _tells_of_crowd(rest):
            return {}
        is_whole = rest.get("quality", {}).get("flag") == "good" and self._is_whole(rest)
        for way, figures in list(rest.get("values", {}).items()):
            if not isinstance(figures, dict) or "unclamped" not in figures:
                continue  # a window without figures has null there
            released = figures.pop("unclamped")
            if figures.get("count") == max(0, released):
                del figures["count"]
            if is_whole:
                key = sensor, way, second
                if self.numbers.released.setdefault(key, released) != released:
                    self.numbers.twice.add(key)
        return rest

    def _is_whole(self, record: Mapping[str, Any]) -> bool:
        start_ns, end_ns = utc_ns(record["start"]), utc_ns(record["end"])
        return start_ns % S == 0 and end_ns - start_ns == S

    def _window_of(self, document: Mapping[str, Any]) -> tuple[str | None, int | None]:
        """Return whose, and of which second, a document is by any of its names and times."""
        sensor = next(
            (v for v in document.values() if isinstance(v, str) and v in PEOPLE), None
        ) or document.get("stream")
        for name in sorted(document, key=lambda key: ("start" not in key, "end" in key, key)):
            at_ns = self._utc_ns(document[name])
            if at_ns is not None:
                return sensor, (at_ns - ("end" in name)) // S
        return sensor, None

    def _utc_ns(self, value: object) -> int | None:
        seconds = self._truth.whole
        low, high = (min(seconds) - 60) * S, (max(seconds) + 60) * S
        if isinstance(value, str) and _TIME.fullmatch(value):
            value = utc_ns(value)
        if isinstance(value, int):
            for at_ns in (value, value + self._truth.boot_to_utc_ns):
                if low <= at_ns <= high:
                    return round(at_ns / 1e6) * 10**6  # boot time is not exact about UTC
        return None

    def _moment(self, place: str, at_ns: int, document: object) -> None:
        for path, value in _leaves(document):
            for half_ns in HALVES_NS:
                second = (at_ns - half_ns) // S
                self.numbers.moments[f"{place} {path}", half_ns][second] = value

    def _count(self, what: str, at_ns: int, more: float = 1) -> None:
        for half_ns in HALVES_NS:
            series = self.numbers.moments[what, half_ns]
            if not series:
                series |= dict.fromkeys(self._truth.whole, 0)
            second = (at_ns - half_ns) // S
            series[second] = series.get(second, 0) + more


_LOGFMT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _leaves(document: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in a document with its place; what a text says in figures, too."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(document, list):
        for at, value in enumerate(document):
            yield from _leaves(value, f"{path}[{at}]")
    elif isinstance(document, int | float):
        yield path, float(document)
    elif isinstance(document, str):
        try:
            yield path, float(document.strip('"'))
        except ValueError:
            yield f"length of {path}", float(len(document))


def _tells_of_crowd(record: Mapping[str, Any]) -> bool:
    """Tell whether it is an alert that was computed from released figures."""
    return "alert" in record and record.get("sensor") in PEOPLE


def _figure_digits(document: Any) -> int:
    """Return how many bytes of a document are released figures, or computed from them."""
    if not isinstance(document, Mapping):
        return 0
    records = document.get("records", [document])
    digits = 0
    for record in records:
        if _tells_of_crowd(record):
            digits += len(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode())
            continue
        values = record.get("values")
        for figures in values.values() if isinstance(values, Mapping) else ():
            if isinstance(figures, Mapping) and "unclamped" in figures:
                digits += sum(len(str(figures[name])) for name in ("count", "unclamped"))
    return digits
