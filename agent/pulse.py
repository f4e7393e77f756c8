"""A thread's sign of life: when it last took a step, and by when it must take the next.

Who waits for a slow bus is not hung, and who sleeps until the next poll is not either: each thread
says itself how long it will wait, and has its slack beyond that for the work. One writer, the
thread; readers take what they find. Pure: time is an argument.
"""

from __future__ import annotations


class Pulse:
    """One thread's sign of life, on the boot-time clock."""

    __slots__ = ("_slack_s", "beat_s", "due_s")

    def __init__(self, slack_s: float, now_s: float) -> None:
        """`slack_s` is the longest that one step of work may take."""
        self._slack_s = slack_s
        self.beat_s = now_s
        self.due_s = now_s + slack_s

    def beat(self, now_s: float, wait_s: float = 0.0) -> None:
        """Take note of a step; the next one comes after a wait of at most `wait_s`."""
        self.beat_s = now_s
        self.due_s = now_s + wait_s + self._slack_s

    def is_late(self, now_s: float) -> bool:
        """Tell whether the thread hangs."""
        return now_s > self.due_s
