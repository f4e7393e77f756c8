"""What is laid down wakes nobody, and is there for whoever comes."""

from __future__ import annotations

import queue
import threading

import pytest

from agent.collector import Collected
from agent.inbox import Inbox

POLL = Collected("snow-1", [])


class Sleeper:
    """A thread that waits for the next thing in the inbox, for ever."""

    def __init__(self, inbox: Inbox) -> None:
        self.woken = threading.Event()
        self._inbox = inbox
        self._asleep = threading.Event()
        wait = inbox.not_empty.wait

        def waits(timeout: float | None = None) -> bool:
            self._asleep.set()
            return wait(timeout)

        inbox.not_empty.wait = waits  # type: ignore[method-assign]
        threading.Thread(target=self._sleep, daemon=True).start()
        self._asleep.wait()
        with inbox.mutex:  # it lets go of this only once it really waits
            pass

    def _sleep(self) -> None:
        self._inbox.get()
        self.woken.set()


def test_what_is_laid_down_wakes_nobody_until_it_is_rung_for() -> None:
    inbox = Inbox(10)
    sleeper = Sleeper(inbox)
    inbox.lay(POLL)
    assert not sleeper.woken.wait(0.05)
    assert inbox.qsize() == 1
    inbox.ring()
    sleeper.woken.wait()


def test_the_control_what_is_put_wakes() -> None:
    inbox = Inbox(10)
    sleeper = Sleeper(inbox)
    inbox.put_nowait(POLL)
    sleeper.woken.wait()


def test_who_comes_by_finds_what_was_laid_down() -> None:
    inbox = Inbox(10)
    inbox.lay(POLL)
    assert inbox.get_nowait() is POLL


def test_more_than_there_is_room_for_is_refused() -> None:
    inbox = Inbox(1)
    inbox.lay(POLL)
    with pytest.raises(queue.Full):
        inbox.lay(POLL)
