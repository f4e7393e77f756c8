"""The retained topics that show which alerts are raised, each at its time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from . import record
from .alerts import alarm_topic
from .fresh import Fresh, people_wait_s
from .session import Session


class AlarmTopics:
    """Shows the present state of each alert; what is about people not before its record leaves."""

    def __init__(
        self,
        session: Session,
        fresh: Fresh,
        utc_ns: Callable[[], int],
        boot_s: Callable[[], float],
    ) -> None:
        self._session = session
        self._fresh = fresh
        self._utc_ns = utc_ns
        self._boot_s = boot_s
        self._raised: dict[str, str] = {}  # topic below our root -> newest record
        self._later: list[tuple[float, Mapping[str, Any], str]] = []  # when, what; in order

    @property
    def next_s(self) -> float:
        """When something waits to be shown: boot time."""
        return self._later[0][0] if self._later else math.inf

    def forget(self) -> None:
        """Forget all: a new connection is told anew."""
        self._raised.clear()
        self._later.clear()

    def show(self, alert: Mapping[str, Any], body: str) -> None:
        """Show an alert's state, at the time at which its record may leave."""
        due_s = 0.0
        if alert["sensor"] in self._fresh.people:
            ago_s = (self._utc_ns() - record.utc_ns(alert["time"])) / 1e9
            due_s = self._boot_s() + people_wait_s(self._fresh.offset_s, ago_s)
        if due_s <= self._boot_s() or not self._session.is_online:  # offline, nobody sees it
            self._set(alert, body)
        else:
            self._show_later(due_s, alert, body)

    def show_due(self, until_s: float) -> None:
        """Show what waited until then."""
        while self._later and self._later[0][0] <= until_s:
            self._set(*self._later.pop(0)[1:])

    def heard(self, below: str) -> None:
        """Empty the topic of an alert that is over since; one about people at its time only."""
        if self._is_shown(below):
            return
        sensor, _, name = below.partition("/")[2].partition("/")
        over = {"sensor": sensor, "alert": name, "state": "cleared"}
        if sensor in self._fresh.people:
            self._show_later(self._boot_s() + self._fresh.offset_s, over, "")
        else:
            self._set(over, "")

    def _is_shown(self, below: str) -> bool:
        """Tell whether an alert has a state to show, now or in a moment."""
        later = (alarm_topic(alert["sensor"], alert["alert"]) for _, alert, _ in self._later)
        return below in self._raised or below in later

    def _show_later(self, due_s: float, alert: Mapping[str, Any], body: str) -> None:
        self._later.append((due_s, alert, body))
        self._later.sort(key=lambda each: each[0])  # stable: one after the other stays so

    def _set(self, alert: Mapping[str, Any], body: str) -> None:
        """Show the present state of an alert on its retained topic."""
        below = alarm_topic(alert["sensor"], alert["alert"])
        is_over = alert["state"] == "cleared"
        if is_over:
            self._raised.pop(below, None)
        else:
            self._raised[below] = body
        if self._session.is_online:
            schema = None if is_over else "yukimi.alarm/1"  # to empty a topic says nothing
            self._session.publish(below, b"" if is_over else body, schema=schema, retain=True)
