"""Which broker is tried, when, and in which MQTT."""

from __future__ import annotations

import random
from bisect import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.route import (
    BACKOFF_CAP_S,
    CLASH_CAP_S,
    CLASH_FIRST_S,
    PLAIN_FOR_S,
    RETURN_CAP_S,
    RETURN_FIRST_S,
    Dialect,
    Route,
)

EDGE = 1.25  # the jitter of a return is a quarter, up and down

# The way to a broker


def test_brokers_are_tried_in_turn_and_a_good_one_is_kept() -> None:
    route = Route(["a", "b", "c"], random.Random(1))
    tried = []
    for _ in range(4):
        tried.append(route.broker)
        route.failed()
    assert tried == ["a", "b", "c", "a"]
    route.failed(turn=False)
    assert route.broker == "b"


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_the_wait_is_never_longer_than_the_cap_and_never_nothing(seed: int, tries: int) -> None:
    route = Route(["a"], random.Random(seed))
    waits = [route.failed() for _ in range(tries)]
    assert all(0 < wait_s <= BACKOFF_CAP_S for wait_s in waits)
    assert waits[0] <= 0.5


def test_gateways_that_lose_a_broker_together_do_not_come_back_together() -> None:
    waits = []
    for seed in range(200):
        route = Route(["a", "b"], random.Random(seed))
        for _ in range(6):
            wait_s = route.failed()
        waits.append(wait_s)
    per_second = [sum(second <= wait_s < second + 1 for wait_s in waits) for second in range(5)]
    assert max(per_second) < 80
    assert min(per_second) > 5


def back_at_s(route: Route, broker_back_s: float) -> float:
    """When a gateway that lost a good connection at 0 is connected again."""
    route.lasted()
    now_s = route.failed(turn=False)
    while now_s < broker_back_s:
        now_s += route.failed()
    return now_s


@pytest.mark.parametrize("outage_s", [0.0, 0.3, 1.0, 3.0, 10.0, 600.0])
def test_a_broker_that_restarts_is_not_stormed_however_long_it_takes(outage_s: float) -> None:
    back_s = sorted(back_at_s(Route(["a"], random.Random(seed)), outage_s) for seed in range(1000))
    within_a_second = max(bisect(back_s, at_s + 1.0) - n for n, at_s in enumerate(back_s))
    assert within_a_second < 450
    assert back_s[-1] - outage_s <= BACKOFF_CAP_S


def test_who_was_not_connected_before_is_quick_at_first() -> None:
    assert Route(["a"], random.Random(1)).failed() <= 0.5


# Back to the first broker


def stood_in_for(*, now_s: float = 0.0) -> Route:
    """A route whose first broker failed, and whose second took us."""
    route = Route(["a", "b"], random.Random(1))
    route.failed()
    route.connected(now_s)
    return route


def test_a_broker_that_stands_in_is_left_again_after_a_quarter_of_an_hour() -> None:
    route = stood_in_for(now_s=100.0)
    assert not route.may_return(100.0 + RETURN_FIRST_S / EDGE - 60.0)
    assert route.may_return(100.0 + RETURN_FIRST_S * EDGE)
    assert route.first == "a"
    route.go_back()
    assert route.broker == "a"


def test_each_time_to_look_is_told_once() -> None:
    route = stood_in_for()
    assert route.may_return(RETURN_FIRST_S * EDGE)
    assert not route.may_return(RETURN_FIRST_S * EDGE)


def test_each_look_in_vain_doubles_the_time_to_the_next_up_to_a_day() -> None:
    route, now_s, waits = stood_in_for(), 0.0, []
    for _ in range(10):
        before_s = now_s
        while not route.may_return(now_s):
            now_s += 10.0
        waits.append(now_s - before_s)
    for number, wait_s in enumerate(waits):
        nominal_s = min(RETURN_CAP_S, RETURN_FIRST_S * 2**number)
        assert 0.75 * nominal_s <= wait_s <= EDGE * nominal_s + 10.0


def test_a_return_that_ends_with_the_stand_in_again_waits_longer_the_next_time() -> None:
    route = stood_in_for()
    assert route.may_return(RETURN_FIRST_S * EDGE)
    route.go_back()
    route.failed()
    route.connected(2000.0)
    assert route.broker == "b"
    assert not route.may_return(2000.0 + RETURN_FIRST_S * EDGE)
    assert route.may_return(2000.0 + 2 * RETURN_FIRST_S * EDGE)


def test_the_first_broker_is_not_left_and_forgets_what_was_in_vain() -> None:
    route = stood_in_for()
    route.may_return(RETURN_FIRST_S * EDGE)
    route.go_back()
    route.connected(2000.0)
    assert not route.may_return(1e9)
    route.failed()
    route.connected(3000.0)
    assert route.may_return(3000.0 + RETURN_FIRST_S * EDGE)


# Somebody else with our id


def test_who_is_thrown_out_stays_away_longer_each_time_up_to_a_minute() -> None:
    route = Route(["a"], random.Random(1))
    waits = [route.clashed() for _ in range(40)]
    for number, wait_s in enumerate(waits):
        ceiling_s = min(CLASH_CAP_S, CLASH_FIRST_S * 2**number)
        assert 0.2 * ceiling_s <= wait_s <= ceiling_s


def test_once_alone_the_next_clash_is_the_first() -> None:
    route = Route(["a"], random.Random(1))
    for _ in range(10):
        route.clashed()
    route.is_alone()
    assert route.clashed() <= CLASH_FIRST_S


# Which MQTT to speak


class OldBroker:
    """Speaks 3.1.1 only; `answers` says whether it tells so."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers

    def meet(self, dialect: Dialect, now_s: float) -> bool:
        """Whether the two are talking after one attempt."""
        if dialect.ask(now_s) == "3.1.1":
            return dialect.accepted()
        if self.answers:
            dialect.refused(now_s)
        else:
            dialect.silent(now_s)
        return False


@pytest.mark.parametrize("answers", [True, False])
def test_an_old_broker_is_spoken_to_in_3_1_1_in_the_end(answers: bool) -> None:
    dialect, broker = Dialect("5"), OldBroker(answers=answers)
    met = [broker.meet(dialect, 0.0) for _ in range(6)]
    assert met[-2:] == [True, True]
    assert dialect.ask(0.0) == "3.1.1"


def test_an_old_broker_is_asked_for_5_again_after_an_hour() -> None:
    dialect = Dialect("5")
    dialect.refused(0.0)
    assert dialect.ask(PLAIN_FOR_S) == "3.1.1"
    assert dialect.ask(PLAIN_FOR_S + 1) == "5"


@pytest.mark.parametrize("silences", range(6))
def test_a_broker_that_knows_5_is_spoken_to_in_5_however_long_it_takes_to_start(
    silences: int,
) -> None:
    dialect = Dialect("5")
    for _ in range(silences):
        dialect.ask(0.0)
        dialect.silent(0.0)
    asked = []
    while not asked or not dialect.accepted():
        asked.append(dialect.ask(0.0))
    assert asked[-1] == "5"


def test_where_3_1_1_is_configured_silence_changes_nothing() -> None:
    dialect = Dialect("3.1.1")
    dialect.silent(0.0)
    assert dialect.ask(0.0) == "3.1.1"
    assert dialect.accepted()
