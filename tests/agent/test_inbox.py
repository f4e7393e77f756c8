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


def rested(inbox: Inbox) -> Sleeper:
    """Return a thread that has taken something and rests, and what then happens."""
    inbox.lay(POLL)
    assert inbox.get() is POLL
    return Sleeper(inbox)


def test_who_rests_is_not_woken_by_what_can_wait_and_then_finds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.inbox.REST_S", 0.5)
    inbox = Inbox(10)
    waits: list[float | None] = []
    sleeper = rested(inbox)
    wait = inbox.not_empty.wait

    def counted(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return wait(timeout)

    inbox.not_empty.wait = counted  # type: ignore[method-assign]
    for _ in range(3):
        inbox.lay(POLL)
        inbox.ring()
    sleeper.woken.wait()
    assert inbox.qsize() == 2
    assert not waits  # it slept once, through all of them


@pytest.mark.parametrize("what", ["an alert", "None"])
def test_what_cannot_wait_ends_the_rest(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.inbox.REST_S", 3600.0)
    inbox = Inbox(10)
    sleeper = rested(inbox)
    if what == "None":
        inbox.put_nowait(None)
    else:
        inbox.lay(POLL)
        inbox.ring()
        assert not sleeper.woken.wait(0.05)
        inbox.ring(at_once=True)
    sleeper.woken.wait()
    # Having been woken so, it rests again.
    again = Sleeper(inbox)
    inbox.lay(POLL)
    inbox.ring()
    assert not again.woken.wait(0.05)
    inbox.ring(at_once=True)
    again.woken.wait()


def test_nobody_rests_longer_than_they_would_have_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.inbox.REST_S", 3600.0)
    inbox = Inbox(10)
    inbox.lay(POLL)
    inbox.get()
    with pytest.raises(queue.Empty):
        inbox.get(timeout=0.01)
    inbox.lay(POLL)
    assert inbox.get(timeout=0.01) is POLL
