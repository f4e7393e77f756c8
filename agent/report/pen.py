"""How a report says things: in the reader's language, in the place's own time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from config.text import Language, Text

from ..record import utc_ns
from . import words
from .facts import Facts
from .html import Html, joined, tag

ROWS = 100  # of a table
TEXT_CHARACTERS = 600  # of one thing that is told


class Pen:
    """Writes for one reader about one gateway."""

    def __init__(self, facts: Facts, language: Language) -> None:
        self._facts = facts
        self._language = language

    def say(self, text: object, **fields: object) -> str:
        """Return a text in the reader's language; another value as it is."""
        shown = text if isinstance(text, Text) else Text(str(text), str(text))
        return shown.of(self._language, **fields)[: 10 * TEXT_CHARACTERS]

    def p(self, text: Text, style: str | None = "soft", **fields: object) -> Html:
        """Return a paragraph."""
        return tag("p", self.say(text, **fields), class_=style)

    def of(self, pair: object) -> str:
        """Return the reader's text of a label such as {"ja": ..., "en": ...}."""
        if isinstance(pair, dict):
            other = "en" if self._language == "ja" else "ja"
            pair = pair.get(self._language) or pair.get(other) or ""
        return str(pair if pair is not None else "")[:TEXT_CHARACTERS]

    def name(self) -> str:
        """Return what the gateway is called."""
        return self.of(self._facts.label) or self._facts.gateway

    def at(self, utc: object, *, seconds: bool = False) -> str:
        """Return an instant in the place's own time."""
        try:
            at_s = utc_ns(str(utc)) / 1e9
        except ValueError:
            return self.say(words.UNKNOWN)
        return self.local(at_s, "%Y-%m-%d %H:%M:%S" if seconds else "%m-%d %H:%M")

    def when(self, utc: object) -> Html:
        """Return an instant that stays on its line."""
        return tag("span", self.at(utc), class_="when")

    def local(self, at_s: float, shape: str) -> str:
        """Return an instant in the place's own time, in a shape of strftime's."""
        return f"{datetime.fromtimestamp(at_s, tz=UTC).astimezone(self._facts.zone):{shape}}"

    @property
    def zone(self) -> str:
        """The name of the place's time zone."""
        return str(self._facts.zone)

    def pairs(self, pairs: Sequence[tuple[Text, object]], style: str = "pairs") -> Html:
        """Return names and values; without those that have none."""
        shown = [(name, value) for name, value in pairs if value not in (None, "")]
        inside = (
            part for name, value in shown for part in (tag("dt", self.say(name)), tag("dd", value))
        )
        return tag("dl", *inside, class_=style)

    def table(self, caption: Text, head: Sequence[Text], rows: Sequence[Sequence[object]]) -> Html:
        """Return a table; of too many rows the last ones."""
        more = len(rows) - ROWS
        body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows[-ROWS:]]
        return joined(
            tag(
                "table",
                tag("caption", self.say(caption)),
                tag("tr", *(tag("th", self.say(each), scope="col") for each in head)),
                *body,
            ),
            self.p(words.MORE, count=more) if more > 0 else "",
        )

    def sensor_name(self, sensor_id: str) -> str:
        """Return what a sensor is called, and its id."""
        found = next((each for each in self._facts.sensors if each.id == sensor_id), None)
        label = self.of(found.label) if found is not None else ""
        return f"{label} ({sensor_id})" if label else sensor_id


def size(size_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
