"""What who watches knows of a gateway: the newest snapshot, what came before, what was chosen.

Events in, state out; no terminal, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .language import Text, text_of
from .names import FIRST

SPARK_S = 5.0  # a column of a sparkline
SPARKS = 64  # columns that are kept
RECORDS = 100
RAW = 20

Document = dict[str, Any]

STARTING = Text("the gateway starts", "ゲートウェイが起動しています")


class Spark:
    """The last minutes of one quantity: a mean for each column of SPARK_S."""

    def __init__(self) -> None:
        self._means: deque[float | None] = deque(maxlen=SPARKS)
        self._column = -1
        self._sum = 0.0
        self._count = 0

    def add(self, at_s: float, value: float | None) -> None:
        """Take a value; None: there was none."""
        column = int(at_s // SPARK_S)
        if column != self._column:
            missed = min(column - self._column - 1, SPARKS) if self._column >= 0 else 0
            self._means.extend([None] * (missed + 1))
            self._column, self._sum, self._count = column, 0.0, 0
        if value is not None:
            self._sum += value
            self._count += 1
            self._means[-1] = self._sum / self._count

    def last(self, columns: int) -> list[float | None]:
        """Return the newest means, the newest last."""
        return list(self._means)[-columns:]


@dataclass(slots=True)
class Watched:
    """One gateway, watched."""

    snapshot: Document | None = None
    heard_at_s: float = 0.0  # when it came
    why_gone: Text | None = None  # None: it is heard
    records: deque[Document] = field(default_factory=lambda: deque(maxlen=RECORDS))
    dropped: int = 0  # records that left and were not told
    sparks: dict[tuple[str, str], Spark] = field(default_factory=dict)
    chosen: int = 0  # of the sensors
    into: str | None = None  # the sensor that is looked into; None: all of it
    raw: deque[Document] = field(default_factory=lambda: deque(maxlen=RAW))
    history: Document | None = None

    def take(self, event: Document, now_s: float) -> None:
        """Take what the feed tells."""
        match event:
            case {"snapshot": dict(snapshot)}:
                self.snapshot, self.heard_at_s, self.why_gone = snapshot, now_s, None
                self._draw(now_s)
            case {"record": dict()}:
                self.records.append(event)
            case {"dropped": int(count)}:
                self.dropped += count
            case {"state": "starting"}:
                self.why_gone = STARTING
            case {"gone": error}:
                self.why_gone = text_of(error)
            case {"into": str(sensor), "raw": list(raw), "history": history}:
                if sensor == self.into:
                    self._hear(raw, history)
            case _:
                pass  # a newer gateway tells more

    @property
    def sensors(self) -> list[Document]:
        """The sensors as the newest snapshot has them."""
        return [] if self.snapshot is None else self.snapshot["sensors"]

    @property
    def sensor(self) -> Document | None:
        """The sensor that is looked into."""
        return next((each for each in self.sensors if each["id"] == self.into), None)

    def choose(self, index: int) -> None:
        """Choose a sensor; what is beyond the first or last is that."""
        self.chosen = max(0, min(index, len(self.sensors) - 1))

    def enter(self) -> None:
        """Look into the chosen sensor."""
        if self.sensors:
            self.choose(self.chosen)
            self.into = self.sensors[self.chosen]["id"]
            self.raw.clear()
            self.history = None

    def leave(self) -> None:
        """Look at all of it again."""
        self.into = None

    def age_s(self, now_s: float) -> float:
        """Return how old the snapshot is; what it tells ages with it."""
        return max(0.0, now_s - self.heard_at_s)

    def _draw(self, now_s: float) -> None:
        for sensor in self.sensors:
            for name, reading in sensor.get("readings", {}).items():
                value = reading["value"]
                if isinstance(value, int | float) and not isinstance(value, bool):
                    fresh = value if reading["age_s"] < SPARK_S * 2 else None
                    self.sparks.setdefault((sensor["id"], name), Spark()).add(now_s, fresh)

    def _hear(self, raw: list[Document], history: Document | None) -> None:
        self.history = history
        last = self.raw[-1]["time"] if self.raw else ""
        self.raw.extend(entry for entry in raw if entry["time"] > last)


def first_quantity(readings: Mapping[str, Any]) -> str | None:
    """Return the quantity that says most of a sensor, if it has any."""
    return next((name for name in FIRST if name in readings), next(iter(readings), None))
