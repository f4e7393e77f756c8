"""Alerts: which episodes are open, and what is said about each.

An episode begins when a condition is first said to be there and ends when it is gone: one id, one
record `raised`, some `updated`, one `cleared`. Whoever watches a condition may say so as often as
it likes; the book decides what is news. A condition that comes and goes is one episode: it is over
only when nobody has said for `hold_s` that it is there. A change of what matters is told once a
minute at most, and at once if it is more severe.

Episodes survive a restart: the book is built again from the newest record of each. What is not in
a record is forgotten: a clear that waited for its hold, and an update that waited for its minute,
are said again by whoever watches the condition.

Pure: what time it is, and where new ids come from, are arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from .catalogue import CATALOGUE
from .clock import Stamp
from .record import AlertRecord, AlertState, Severity, utc_ns

UPDATE_S = 60.0  # an episode's records are this far apart, unless it gets worse or ends

_MS = 1_000_000
_SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # from least to most

# Put before the text of an episode that is over, as public notices do.
_OVER = {"ja": "【解消】", "en": "Over: "}

Key = tuple[str | None, str]  # sensor, None for the gateway's own; name


def alarm_topic(sensor: str | None, name: str) -> str:
    """Return where the present state of an alert stands, below ROOT/GATEWAY."""
    return f"alarm/{sensor or 'gateway'}/{name}"


@dataclass(slots=True)
class _Episode:
    """One open episode: what the newest record said, and what is known since."""

    key: Key
    kind: str
    id: str
    since_ns: int
    severity: Severity
    values: Mapping[str, object]
    told_severity: Severity
    told_values: Mapping[str, object]
    told_text: Mapping[str, str]
    told_ns: int
    seen_ns: int | None  # when it was last said to be there; None: in another life
    is_ours: bool  # begun in this life
    is_gone: bool = False  # a clear waits for its hold

    def look(self, at_ns: int) -> None:
        """Bring the instants into line with a clock that says `at_ns`.

        Nothing was seen or told in the future: a clock that was set back would otherwise stretch
        every wait by as much. And what was last seen in another life may have been there until
        now, so that its hold begins anew.
        """
        self.told_ns = min(self.told_ns, at_ns)
        self.seen_ns = at_ns if self.seen_ns is None else min(self.seen_ns, at_ns)

    def is_over(self, at_ns: int) -> bool:
        definition = CATALOGUE.get(self.key[1])
        hold_s = definition.hold_s if definition else 0.0
        return self.is_gone and self.seen_ns is not None and at_ns - self.seen_ns >= hold_s * 1e9

    def has_news(self, at_ns: int) -> bool:
        if _SEVERITIES.index(self.severity) > _SEVERITIES.index(self.told_severity):
            return True
        definition = CATALOGUE.get(self.key[1])
        matters = definition.matters if definition else ()
        has_changed = self.severity != self.told_severity or any(
            self.values.get(name) != self.told_values.get(name) for name in matters
        )
        return has_changed and at_ns - self.told_ns >= UPDATE_S * 1e9


class AlertBook:
    """The open episodes; told of conditions, it returns the records that are news."""

    def __init__(
        self,
        active: Iterable[Mapping[str, object]],
        new_id: Callable[[], str],
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        """Open the book with the newest bare record of each episode; what cannot be read is left.

        `kinds` gives the kind of each sensor, which is not in a record; other sensors' alerts end
        on the gateway's.
        """
        self._new_id = new_id
        self._episodes = {episode.key: episode for episode in _rebuilt(active, kinds or {})}

    @property
    def active(self) -> list[tuple[str, str]]:
        """The open episodes: the sensor, or "gateway", and the name."""
        return [(sensor or "gateway", name) for sensor, name in self._episodes]

    def ids(self, *, without_kind: str = "") -> list[str]:
        """Return the ids of the open episodes but those of a kind; another thread may ask."""
        return [each.id for each in list(self._episodes.values()) if each.kind != without_kind]

    def raise_(
        self,
        name: str,
        *,
        sensor: str | None = None,
        kind: str = "gateway",
        severity: Severity | None = None,
        values: Mapping[str, object] | None = None,
        at_ns: int,
        clock: Stamp,
    ) -> AlertRecord | None:
        """Say that a condition is there; return the record if that is news."""
        definition = CATALOGUE[name]
        severity = severity or definition.severity
        # As a reader of the record sees them, and out of the caller's hands.
        values = json.loads(json.dumps(values or {}, allow_nan=False))
        text = definition.text(values)
        episode = self._episodes.get((sensor, name))
        if episode is None:
            episode = _Episode(
                key=(sensor, name),
                kind=kind,
                id=self._new_id(),
                since_ns=at_ns // _MS * _MS,
                severity=severity,
                values=values,
                told_severity=severity,
                told_values=values,
                told_text=text,
                told_ns=at_ns,
                seen_ns=at_ns,
                is_ours=True,
            )
            self._episodes[episode.key] = episode
            return _told(episode, "raised", at_ns, clock)
        episode.kind, episode.severity, episode.values = kind, severity, values
        episode.seen_ns, episode.is_gone = at_ns, False
        episode.look(at_ns)
        return _updated(episode, at_ns, clock) if episode.has_news(at_ns) else None

    def clear(
        self, name: str, *, sensor: str | None = None, at_ns: int, clock: Stamp
    ) -> AlertRecord | None:
        """Say that a condition is gone; return the record if its hold is over, else `tick` will."""
        episode = self._episodes.get((sensor, name))
        if episode is None:
            return None
        episode.is_gone = True
        return self._step(episode, at_ns, clock)

    def tick(self, at_ns: int, clock: Stamp) -> list[AlertRecord]:
        """Return what waited for its time: ends that were held, changes that were not told yet."""
        steps = (self._step(episode, at_ns, clock) for episode in list(self._episodes.values()))
        return [record for record in steps if record is not None]

    def moved(self, by_ns: int) -> None:
        """The clock was put right by so much: what began under it in this life moves along."""
        for episode in self._episodes.values():
            if episode.seen_ns is not None:
                episode.seen_ns += by_ns
            if episode.is_ours:
                episode.since_ns += by_ns // _MS * _MS
                episode.told_ns += by_ns

    def _step(self, episode: _Episode, at_ns: int, clock: Stamp) -> AlertRecord | None:
        episode.look(at_ns)
        if episode.is_over(at_ns):
            del self._episodes[episode.key]
            return _told(episode, "cleared", at_ns, clock)
        return _updated(episode, at_ns, clock) if episode.has_news(at_ns) else None


def _updated(episode: _Episode, at_ns: int, clock: Stamp) -> AlertRecord:
    episode.told_severity, episode.told_values = episode.severity, episode.values
    episode.told_text = CATALOGUE[episode.key[1]].text(episode.values)
    return _told(episode, "updated", at_ns, clock)


def _told(episode: _Episode, state: AlertState, at_ns: int, clock: Stamp) -> AlertRecord:
    """Return a record of the episode, and note when it was made."""
    # Whole milliseconds, as the record has them: a book that is built from it knows the same.
    episode.told_ns = at_ns // _MS * _MS
    # An episode cannot have begun after this record. Where the clock was set back between the two,
    # the beginning is known to be wrong; and who takes a duration from it must not get less than 0.
    episode.since_ns = min(episode.since_ns, episode.told_ns)
    sensor, name = episode.key
    text = episode.told_text
    if state == "cleared":
        text = {language: _OVER[language] + text[language] for language in _OVER}
    return AlertRecord(
        sensor=sensor,
        kind=episode.kind,
        alert=name,
        id=episode.id,
        state=state,
        severity=episode.told_severity,
        time_ns=episode.told_ns,
        since_ns=episode.since_ns,
        clock=clock,
        text=text,
        values=episode.told_values,
    )


def _rebuilt(
    active: Iterable[Mapping[str, object]], kinds: Mapping[str, str]
) -> Iterator[_Episode]:
    """Yield the episodes of bare records; an unknown name stays, so that it can be cleared."""
    for record in active:
        match record:
            case {
                "sensor": str() | None as sensor,
                "alert": str(name),
                "id": str(id_),
                "state": "raised" | "updated",
                "severity": "info" | "warning" | "critical" as severity,
                "time": str(time),
                "since": str(since),
                "text": {"ja": str(ja), "en": str(en)},
                "values": Mapping() as values,
            } if name and id_ and sensor != "":
                pass
            case _:
                continue
        try:
            told_ns, since_ns = utc_ns(time), utc_ns(since)
        except ValueError:
            continue
        yield _Episode(
            key=(sensor, name),
            kind="gateway" if sensor is None else kinds.get(sensor, "gateway"),
            id=id_,
            since_ns=since_ns,
            severity=severity,
            values=values,
            told_severity=severity,
            told_values=values,
            told_text={"ja": ja, "en": en},
            told_ns=told_ns,
            seen_ns=None,
            is_ours=False,
        )
