"""What is said again and again is kept back, and how often it was is said."""

from __future__ import annotations

from collections import Counter

import pytest

from agent import loglimit, logs
from agent.loglimit import (
    AT_ONCE,
    OF_ALL_AT_ONCE,
    OF_ALL_THEN_EACH_S,
    THEN_EACH_S,
    THINGS,
    LogLimit,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def line(event: str = "connection lost", **said: object) -> dict[str, object]:
    return {"part": "uplink", "event": event, **said}


def test_a_loop_of_a_day_is_some_lines_at_once_and_one_each_minute() -> None:
    clock = Clock()
    limit, told, kept_back = LogLimit(clock), 0, 0
    for _ in range(86_400 * 2):
        clock.now_s += 0.5
        answer = limit.kept_back(line())
        if answer is not None:
            told += 1
            kept_back += answer
    assert AT_ONCE + 86_400 / THEN_EACH_S - 2 <= told <= AT_ONCE + 86_400 / THEN_EACH_S + 2
    assert 86_400 * 2 - told - THEN_EACH_S * 2 <= kept_back <= 86_400 * 2 - told


def test_edges_that_come_seldom_are_all_told() -> None:
    clock = Clock()
    limit = LogLimit(clock)
    for _ in range(1000):
        clock.now_s += THEN_EACH_S
        assert limit.kept_back(line()) == 0


def test_one_thing_in_a_loop_does_not_silence_another() -> None:
    limit = LogLimit(Clock())
    for _ in range(100):
        limit.kept_back(line("sensor is back", sensor="snow-1"))
    assert limit.kept_back(line("sensor is back", sensor="snow-1")) is None
    assert limit.kept_back(line("sensor is back", sensor="snow-2")) == 0
    assert limit.kept_back(line("sensor measures", sensor="snow-1")) == 0


def test_what_is_remembered_is_bounded() -> None:
    clock = Clock()
    limit = LogLimit(clock)
    for number in range(10 * THINGS):
        clock.now_s += OF_ALL_THEN_EACH_S
        assert limit.kept_back(line(sensor=f"snow-{number}")) == 0
    assert len(limit._things) <= THINGS


def test_a_broker_that_makes_up_a_name_for_each_line_does_not_fill_the_log() -> None:
    clock = Clock()
    limit, told, kept_back = LogLimit(clock), 0, 0
    for number in range(100_000):
        clock.now_s += 0.01
        answer = limit.kept_back(line("a receipt makes no sense", stream=f"made-up-{number}"))
        if answer is not None:
            told += 1
            kept_back += answer
    assert told <= OF_ALL_AT_ONCE + 1000 / OF_ALL_THEN_EACH_S + 1
    assert kept_back > 90_000
    assert limit.kept_back(line("sensor is back", sensor="snow-1")) == 0


def test_the_log_itself_keeps_back_and_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import structlog

    monkeypatch.setattr(loglimit, "THEN_EACH_S", 1e9)
    before = structlog.get_config()
    try:
        logs.configure()
        log = structlog.get_logger(part="uplink").bind()
        for _ in range(AT_ONCE + 50):
            log.warning("connection lost", broker="mqtt://a")
        monkeypatch.setattr(loglimit, "THEN_EACH_S", 1e-9)
        log.warning("connection lost", broker="mqtt://a")
    finally:
        structlog.configure(**before)
    lines = capsys.readouterr().err.splitlines()
    assert Counter("kept_back=50" in each for each in lines) == {False: AT_ONCE, True: 1}
