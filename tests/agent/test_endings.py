"""A broker whose sessions end soon, or in vain, is left alone for longer; why is said once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.endings import CAP_S, FREE, STABLE_S, Endings
from tests.agent.desks import Desk, Listening
from tests.agent.spools import CONFIG, record

NOT_AUTHORIZED, CUT = 0x87, 0x8B
HOUR_S = 3600.0


@given(st.lists(st.sampled_from(["soon", "held"]), max_size=60))
def test_the_wait_grows_with_sessions_that_end_soon_and_one_that_held_ends_it(
    lives: list[str],
) -> None:
    sessions, in_a_row, edges = Endings(), 0, 0
    for life in lives:
        if life == "held":
            edges += sessions.sound("a")
            in_a_row = 0
        else:
            in_a_row += 1
            assert (sessions.ended("a", "why") is not None) == (in_a_row == FREE)
        assert (sessions.trouble("a") is not None) == (in_a_row >= FREE)
        assert (sessions.patience_s("a") > 0) == (in_a_row >= FREE)
        assert sessions.patience_s("a") <= CAP_S
        assert sessions.patience_s("b") == 0.0
    if in_a_row > 10:
        assert sessions.patience_s("a") == CAP_S


def test_sessions_that_end_for_other_reasons_each_time_are_no_trouble_yet() -> None:
    sessions = Endings()
    for number in range(10 * FREE):
        assert sessions.ended("a", f"why {number % 2}") is None
    assert sessions.patience_s("a") == 0.0
    for _ in range(FREE - 1):
        sessions.ended("a", "why 1")
    assert sessions.trouble("a") is not None
    sessions.ended("a", "another")  # none was sound since
    assert sessions.patience_s("a") > 0


def test_what_was_not_acknowledged_first_is_what_it_may_not_have_liked() -> None:
    def after(act: Callable[[Endings], object]) -> str | None:
        sessions = Endings()
        sessions.begin()
        sessions.said("status", 1)
        sessions.said("health", None)
        sessions.said("live/snow", 2, is_record=True)
        act(sessions)
        for _ in range(FREE):
            trouble = sessions.ended("a", "why")
        assert trouble is not None
        return trouble.after

    assert after(lambda _: None) == "status"
    assert after(lambda s: s.acked(1, is_record=False)) == "health"
    assert after(lambda s: s.acked(2, is_record=True)) is None
    assert after(lambda s: s.acked(99, is_record=False)) == "status"  # of another session


def test_of_what_a_broker_may_not_like_the_first_is_told_while_the_reason_stays() -> None:
    endings = Endings()
    for topic in ("status", "status", "status", "alarm/gateway/x", "status", "alarm/gateway/x"):
        endings.begin()
        endings.said(topic, 1)
        endings.ended("a", "why")
    assert [each.after for each in endings.troubles] == ["status"]
    endings.begin()
    endings.said("health", None)
    endings.ended("a", "another reason")
    assert [each.after for each in endings.troubles] == ["health"]


def test_a_broker_that_is_away_in_between_does_not_end_sessions() -> None:
    endings = Endings()
    for _ in range(3 * FREE):
        endings.ended("a", "why")
        endings.unreachable("a")
    assert endings.troubles == []
    for _ in range(FREE):
        endings.ended("a", "why")
    endings.unreachable("a")  # and to be away for once excuses nobody
    assert len(endings.troubles) == 1


def test_who_hangs_up_on_what_is_small_does_not_mind_the_size_of_records() -> None:
    endings = Endings()
    endings.begin()
    endings.said("status", 1)
    endings.said("live/snow", 2, is_record=True)
    assert not endings.is_about_records
    endings.acked(1, is_record=False)
    assert endings.is_about_records


def test_a_session_is_sound_when_it_held_and_what_was_sent_is_acknowledged() -> None:
    sessions = Endings()
    sessions.begin()
    sessions.said("status", 1)
    assert not sessions.is_sound(HOUR_S)
    sessions.acked(1, is_record=False)
    assert not sessions.is_sound(STABLE_S - 1)
    assert sessions.is_sound(STABLE_S)
    sessions.said("live/snow", 2, is_record=True)
    assert not sessions.is_sound(HOUR_S)
    sessions.acked(2, is_record=True)
    assert sessions.is_sound(HOUR_S)


class Told:
    """A desk whose alerts and sessions are counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk = Desk(folder, monkeypatch)
        self.alerts: list[tuple[str, Mapping[str, object] | None]] = []
        self.desk.uplink._alert = lambda name, values: self.alerts.append((name, values))

    @property
    def clients(self) -> int:
        """How many sessions there were."""
        return self.desk.uplink._health.reconnects + 1

    def hours(self, hours: float, *, hang_up_on: str = "", code: int = CUT) -> None:
        """Let time pass; with `hang_up_on` the broker ends each session after such a message."""
        desk, from_s = self.desk, self.desk.now_s
        while desk.now_s < from_s + hours * HOUR_S:
            desk.turn(desk.now_s - 1000.0 + 0.5)
            client = desk.world.session
            if hang_up_on and isinstance(client, Listening) and hang_up_on in client.heard:
                desk.world.lose(code)
                desk.turn(desk.now_s - 1000.0)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told(tmp_path, monkeypatch)
    yield told
    told.desk.spool.close(clean=True)


def test_a_broker_that_hangs_up_on_a_topic_is_tried_each_minute_and_the_topic_is_named_once(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    told.hours(2, hang_up_on="health", code=NOT_AUTHORIZED)
    assert 2 * 60 <= told.clients < 2 * 60 * 2.5  # was: one each 1 to 5 s
    said = capsys.readouterr().err
    assert said.count("ends each session soon") == 1
    assert said.count("connection lost") == FREE
    assert said.count("connected ") <= FREE + 1
    assert "after=yukimi/v1/g1/health" in said
    assert "Not authorized" in said
    assert told.alerts[-1][0] == "cut_short"
    assert told.alerts[-1][1] == {
        "broker": "mqtt://a.test", "reason": "Not authorized", "topic": "health",
    }  # fmt: skip
    (trouble,) = told.desk.uplink._health.troubles
    assert (trouble.broker, trouble.after) == ("mqtt://a.test", "health")
    told.hours(0.1)  # somebody permits it
    assert told.alerts[-1] == ("cut_short", None)
    assert told.desk.uplink._health.troubles == []
    assert capsys.readouterr().err.count("keeps the session") == 1


def test_a_broker_that_never_acknowledges_is_told_once_and_tried_ever_less(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = told.desk
    desk.world.auto = False
    desk.uplink.committed(desk.spool.append([record("snow-1", 1)], CONFIG))
    told.hours(2)
    said = capsys.readouterr().err
    assert said.count("connection lost") == FREE
    assert said.count("ends each session soon") == 1
    assert told.clients < 2 * HOUR_S / 55  # 30 s until it is noticed, and up to a minute
    assert "cut_short" in {name for name, _ in told.alerts}
    desk.world.auto = True
    told.hours(0.1)
    assert told.alerts[-1] == ("cut_short", None)


def test_a_session_that_held_is_begun_anew_at_once(told: Told) -> None:
    """The control: a network that is cut each minute is no trouble."""
    for _ in range(20):
        told.hours(1 / 60)
        told.desk.world.lose(CUT)
        told.hours(6 / HOUR_S)
        assert told.desk.world.session is not None
    assert [name for name, _ in told.alerts if name == "cut_short"] == []


def test_a_second_broker_is_not_kept_waiting_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch, brokers=["mqtt://a.test", "mqtt://b.test"])  # type: ignore[arg-type]
    for _ in range(10):
        while desk.world.host != "a.test":
            if desk.world.session is not None:
                desk.world.lose(CUT)
            desk.turn(desk.now_s - 1000.0 + 0.5)
        desk.world.lose(CUT)
        from_s = desk.now_s
        while desk.world.host != "b.test":
            desk.turn(desk.now_s - 1000.0 + 0.5)
            if desk.now_s - from_s > 2 * CAP_S:
                pytest.fail("it never came to the second")
        desk.turn(desk.now_s - 1000.0 + STABLE_S + 1)  # which holds
        assert desk.uplink._session.endings.trouble("mqtt://b.test") is None
    desk.spool.close(clean=True)
