"""What the collectors bring, on its way to the pipeline: bounded, and told of once for many.

A thread that is woken costs more than what it was woken for. So a collector lays down what each
device said, and rings when nobody on its bus is to be asked for a while. What lies there is not
late for that: the pipeline looks before it closes a window.
"""

from __future__ import annotations

import queue

from .collector import Collected


class Inbox(queue.Queue[Collected | None]):
    """A queue into which things can be put without waking who waits; None only wakes."""

    def lay(self, collected: Collected) -> None:
        """Put something in and wake nobody. Raises queue.Full."""
        with self.mutex:
            if 0 < self.maxsize <= self._qsize():
                raise queue.Full
            self._put(collected)
            self.unfinished_tasks += 1

    def ring(self) -> None:
        """Wake who waits for what was laid down."""
        with self.not_empty:
            if self._qsize():
                self.not_empty.notify()
