"""What the verbs do to the process that they run in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import logs
from agent.answers import Answers
from agent.remote.verbs import Gateway, Verbs


@pytest.fixture
def verbs() -> Iterator[Verbs]:
    usual = logs.level()
    verbs = Verbs(
        Gateway(
            Path("gateway.toml"),
            "",
            {},
            frozenset(),
            Answers(),
            threading.Lock(),
            maintain=lambda _sensor, _for_s: None,
            reload=lambda: None,
        )
    )
    yield verbs
    verbs.stop()
    logs.set_level(usual)


def set_level(verbs: Verbs, level: str) -> dict[str, object]:
    answer: dict[str, object] = verbs.by_name()["set-log-level"](
        {"level": level, "for_s": 3600}, "mika"
    )
    return answer


def test_the_end_of_a_life_ends_what_the_log_says_more(verbs: Verbs) -> None:
    usual = logs.level()
    set_level(verbs, "debug")
    assert logs.level() == "debug"
    verbs.stop()
    assert logs.level() == usual


def test_asked_for_twice_the_log_returns_to_what_it_was_at_first(verbs: Verbs) -> None:
    usual = logs.level()
    set_level(verbs, "debug")
    assert set_level(verbs, "warning")["then"] == usual
    assert logs.level() == "warning"
