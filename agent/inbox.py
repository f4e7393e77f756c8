"""What the collectors bring, on its way to the pipeline: bounded, and told of once for many.

A thread that is woken costs more than what it was woken for. So a collector lays down what each
device said, and rings when nobody on its bus is to be asked for a while; and who has taken
something rests for a while, and then takes what all buses have brought meanwhile. What lies there
is not late for that: the pipeline looks before it closes a window. What may be an alert, and what
only wakes, ends the rest.
"""

from __future__ import annotations

import math
import queue
import time

from .collector import Collected

REST_S = 1.0


class Inbox(queue.Queue[Collected | None]):
    """A queue into which things can be put without waking who waits; None only wakes."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._rests_until_s = -math.inf
        self._is_resting = False
        self._is_urgent = False

    def lay(self, collected: Collected) -> None:
        """Put something in and wake nobody. Raises queue.Full."""
        with self.mutex:
            if 0 < self.maxsize <= self._qsize():
                raise queue.Full
            self._put(collected)
            self.unfinished_tasks += 1

    def ring(self, *, at_once: bool = False) -> None:
        """Wake who waits for what was laid down; `at_once` even one who rests."""
        with self.not_empty:
            self._is_urgent |= at_once
            if self._qsize() and (at_once or not self._is_resting):
                self.not_empty.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Collected | None:
        """Take what comes next, and where that is waited for, not before the rest is over.

        Raises queue.Empty.
        """
        if not block:
            return super().get(block=False)
        until_s = math.inf if timeout is None else time.monotonic() + timeout
        with self.not_empty:
            rest_s = min(self._rests_until_s, until_s) - time.monotonic()
            if rest_s > 0:
                self._is_resting = True
                self.not_empty.wait_for(lambda: self._is_urgent, rest_s)
            self._is_resting = self._is_urgent = False
        left_s = None if timeout is None else max(0.0, until_s - time.monotonic())
        found = super().get(timeout=left_s)
        self._rests_until_s = time.monotonic() + REST_S
        return found

    def _put(self, item: Collected | None) -> None:
        super()._put(item)
        self._is_urgent |= item is None
