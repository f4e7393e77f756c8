"""What wakes the main thread: an event that the handler of a signal may set.

`threading.Event` is not one. Its `set` takes the lock that `wait` and `clear` take too, and a
handler runs in the middle of whatever its thread does: in the middle of those, it would wait for
itself for ever, and the process could only be killed. `SimpleQueue.put` may interrupt anything.
"""

from __future__ import annotations

import queue


class Wake:
    """Set by anybody at any time, handlers of signals included; stays set until it is cleared."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake who waits, or who will."""
        self._calls.put(None)

    def is_set(self) -> bool:
        """Whether nobody would wait. For the thread that waits and clears."""
        return not self._calls.empty()

    def clear(self) -> None:
        """Forget all calls so far."""
        try:
            while True:
                self._calls.get_nowait()
        except queue.Empty:
            return

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is set, or for so long; tell whether it is."""
        try:
            self._calls.get(timeout=timeout_s)
        except queue.Empty:
            return False
        self._calls.put(None)
        return True
