"""Does anything tell the true counts: released figures too often, or any other number at all?

Released figures may equal the true count as often as chance has it: discrete Laplace noise is 0
with probability tanh(epsilon / 2), 12.4 % at 1/4. More often is a leak; fewer is as suspicious.

Every other number is taken down, wherever it stands: in a message, a row or document of the spool,
a log line; the sizes and numbers of messages and lines too. What stands in a record is held against
the counts of that sensor's window, for each counter and for all together; what names no window
against all windows of the last seconds.
Compared is by ranks (Spearman): a number that rises with the count is found, whatever its scale,
and one wild value proves nothing. A number's changes from second to second are tried as well. The
bound of |r| is that which the largest of all of them passes by chance once in a million runs: by
Fisher's transformation, at `ALPHA` divided by how many were compared.

The counts are dealt out by dice, second for second, so that nothing honest can follow them: only
the counters that play the pattern are looked at here, in seconds in which they were heard out.

What is computed from released figures is no leak, and is left out: the figures themselves, alerts
on crowds, and the digits of figures in a message's length.
"""

from __future__ import annotations

import copy
import json
import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from agent.record import utc_ns

from .gateway import PEOPLE
from .pattern import PINS, WAYS, S
from .search import ALPHA, inflated
from .site import Message
from .truth import Series, Truth

LEAST_SECONDS = 20  # in which a number is known: fewer can follow anything
HALVES_NS = (0, S // 2)  # what comes at the seam of two seconds may fall into either: not twice
LAGS_S = range(9)  # a window is closed two seconds after its end, its record leaves soon after


@dataclass(frozen=True, slots=True)
class Link:
    """How one number goes with the counts."""

    number: str
    counts: str
    r: float
    z: float  # of r, as a standard normal's value

    def __str__(self) -> str:
        return f"{self.number} follows {self.counts}: r {self.r:.2f}"


@dataclass(slots=True)
class Numbers:
    """Every number that was found: of a sensor's window, or of a moment.

    Moments are cut into seconds in two ways, by `HALVES_NS`.
    """

    windows: dict[tuple[str, str], Series] = field(default_factory=lambda: defaultdict(dict))
    moments: dict[tuple[str, int], Series] = field(default_factory=lambda: defaultdict(dict))
    released: dict[tuple[str, str, int], int] = field(default_factory=dict)
    twice: set[tuple[str, str, int]] = field(default_factory=set)  # with different noise
    packs: int = 0  # rows that were seen

    def links(self, truth: Truth) -> list[Link]:
        """Hold all of them against the counts; return the comparisons that could be made."""
        found: list[Link] = []
        everybody, own = truth.of_all(), {name: truth.of_sensor(name) for name in PINS}
        alike: dict[str, dict[str, Series]] = defaultdict(dict)
        for (sensor, path), series in self.windows.items():
            for name, counts in own.get(sensor, {"all": everybody["all"]}).items():
                found += _compared(f"{path} of {sensor}", series, name, counts, (0,))
            if sensor in PINS:
                alike[path][sensor] = series
        for path, by_sensor in alike.items():
            for at, name in enumerate((*WAYS, "both ways")):
                counts_of = {each: list(own[each].values())[at] for each in by_sensor}
                found += _compared_at_once(path, by_sensor, name, counts_of)
        for (path, _), series in self.moments.items():
            for name, counts in everybody.items():
                found += _compared(path, series, name, counts, LAGS_S)
        return found


def bound(links: Sequence[Link]) -> float:
    """Return the z that the largest of so many passes by chance once in a million times."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, len(links))))


def _compared_at_once(
    path: str, numbers: Mapping[str, Series], name: str, counts: Mapping[str, Series]
) -> Iterator[Link]:
    """Compare all counters together, each by how it differs from the others in that second."""
    pairs: list[tuple[float, float]] = []
    for second in set().union(*(set(one) for one in counts.values())):
        here = [each for each in counts if second in numbers[each] and second in counts[each]]
        if len(here) > 1:
            sides = ([one[each][second] for each in here] for one in (counts, numbers))
            pairs += zip(*(np.array(side) - np.mean(side) for side in sides), strict=True)
    yield from _link(f"{path} of all counters", name, *zip(*pairs, strict=True)) if pairs else ()


def _compared(
    path: str, series: Series, name: str, counts: Series, lags_s: Iterable[int]
) -> Iterator[Link]:
    steps = {at: value - series[at - 1] for at, value in series.items() if at - 1 in series}
    for label, one in ((path, series), (f"step of {path}", steps)):
        if len(set(one.values())) < 2:
            continue
        for lag_s in lags_s:
            shared = [at for at in counts if at + lag_s in one]
            sides = [counts[at] for at in shared], [one[at + lag_s] for at in shared]
            yield from _link(label, name, *sides)


def _link(
    label: str, name: str, counts: Sequence[float], numbers: Sequence[float]
) -> Iterator[Link]:
    if len(counts) < LEAST_SECONDS or any(len(set(side)) < 2 for side in (counts, numbers)):
        return
    r = float(np.corrcoef(_ranks(counts), _ranks(numbers))[0, 1])
    reach = math.atanh(max(-0.999999, min(0.999999, r)))
    # 1.06: the variance of Spearman's r (Fieller, Hartley, Pearson 1957).
    yield Link(label, name, r, abs(reach) * math.sqrt((len(counts) - 3) / 1.06))


def _ranks(values: Sequence[float]) -> Any:
    """Return the ranks; equal values share theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[places]


# What was told


class Reader:
    """Takes down every number in messages, spools and logs."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.numbers = Numbers()

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
                self.document("spool", record)
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
