"""Receipts: what the city holds without a hole, written where each gateway can read it.

Of several processes one writes them, the one that leads: two could overtake each other, and the
lower number would stay. A receipt is owed whenever something came, also if it had come before: a
gateway that sends again has not seen the last one.
"""

from __future__ import annotations

import json
import time

import structlog

from .rows import StreamKey
from .store import Owed, Store
from .wire import Link, utc_text

log = structlog.get_logger(part="city")

INTERVAL_S = 1.0
AT_ONCE = 1000
KEPT_S = 30 * 86400.0  # after a run is complete its receipts stay for so long
CLEAN_S = 60.0
REFUSED_S = 60.0
PUBACK_S = 30.0  # what the broker has not acknowledged by then is written again


class Receipts:
    """Tended now and then: publishes what is owed, notes what the broker took, empties old ones."""

    def __init__(
        self,
        store: Store,
        topic_root: str,
        *,
        publish: bool = True,
    ) -> None:
        self._store = store
        self._root = topic_root
        self._publishes = publish
        self._link: Link | None = None
        self._flying: dict[int, Owed | StreamKey] = {}
        self._taken: list[Owed | StreamKey] = []
        self._flown_s = 0.0
        self._next_s = 0.0
        self._clean_s = 0.0
        self.published = 0

    def tend(self, link: Link) -> None:
        """Do what is due. Raises StoreAwayError."""
        if link is not self._link:  # what flew is still owed
            self._link = link
            self._flying.clear()
        self._collect(link)
        now_s = time.time()
        if self._flying and now_s < self._flown_s + PUBACK_S:
            return
        self._flying.clear()
        if now_s < self._next_s or not self._store.lead():
            return
        self._flown_s = now_s
        self._next_s = now_s + INTERVAL_S
        if now_s >= self._clean_s:
            self._clean(link, now_s)
        owed = self._store.owed(AT_ONCE)
        if self._publishes:
            for each in owed:
                self._send(link, each, each.key, json.dumps({"through": each.through}))
        elif owed:
            self._store.receipted(owed)

    def _clean(self, link: Link, now_s: float) -> None:
        self._store.complete(utc_text(now_s))
        old = self._store.forgettable(utc_text(now_s - KEPT_S), AT_ONCE)
        # As long as there are more than fit at once, come back soon.
        self._clean_s = now_s + (CLEAN_S if len(old) < AT_ONCE else 0.0)
        if self._publishes:
            for key in old:
                self._send(link, key, key, "")
        elif old:
            self._store.emptied(old)

    def _send(self, link: Link, what: Owed | StreamKey, key: StreamKey, payload: str) -> None:
        topic = f"{self._root}/{key.gateway}/receipt/{key.run}/{key.stream}"
        mid = link.publish(topic, payload)
        if mid is not None:
            self._flying[mid] = what
            self.published += 1

    def _collect(self, link: Link) -> None:
        """Note what the broker has taken; what it has refused stays owed."""
        while not link.answers.empty():
            mid, reason = link.answers.get()
            what = self._flying.pop(mid, None)
            if what is None:
                continue
            if reason >= 0x80:
                self._next_s = time.time() + REFUSED_S
                log.error("the broker refuses a receipt: may this user write it?", reason=reason)
            else:
                self._taken.append(what)
        if self._taken:
            self._store.receipted([each for each in self._taken if isinstance(each, Owed)])
            self._store.emptied([each for each in self._taken if isinstance(each, StreamKey)])
            self._taken.clear()
