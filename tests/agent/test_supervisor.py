"""Who hangs is named once, and systemd is told that all is well only while nobody does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent import comeback, notify, supervisor
from agent.pulse import Pulse
from agent.supervisor import Supervisor

THREADS = ("pipeline", "uplink", "bus i2c-1", "control")


class Part:
    """A part whose thread runs until it is told to stop, and whose pulse the test holds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pulse = Pulse(60.0, 0.0)
        self.stopped = threading.Event()

    def run(self) -> None:
        self.stopped.wait(30.0)

    def stop(self, _drain_s: float = 0.0) -> None:
        self.stopped.set()


class Board:
    """A supervisor, its parts, and what systemd hears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.heard: list[str] = []
        monkeypatch.setattr(supervisor, "notify", self.heard.append)
        self.parts = {name: Part(name.removeprefix("bus ")) for name in THREADS}
        self.supervisor = Supervisor(
            [any_(self.parts["bus i2c-1"])],
            any_(self.parts["pipeline"]),
            any_(self.parts["uplink"]),
            collectors_stopping=threading.Event(),
            boot_s=lambda: self.now_s,
            drain_s=0.0,
            others={"control": self.parts["control"].pulse},
        )
        self.supervisor.start()

    def all_beat(self, *but: str) -> None:
        for name, part in self.parts.items():
            if name not in but:
                part.pulse.beat(self.now_s)

    def is_fed(self) -> bool:
        self.heard.clear()
        self.supervisor.look()
        return "WATCHDOG=1" in self.heard

    def close(self) -> None:
        for part in self.parts.values():
            part.stop()


def any_(part: Part) -> Any:
    return part


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    board = Board(monkeypatch)
    yield board
    board.close()


def test_while_all_go_on_systemd_hears_so(board: Board) -> None:
    for _ in range(20):
        board.now_s += 10.0
        board.all_beat()
        assert board.is_fed()


@pytest.mark.parametrize("victim", THREADS)
def test_each_thread_alone_keeps_the_watchdog_hungry_and_is_named_once(
    board: Board, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(20):
        board.now_s += 10.0
        board.all_beat(victim)
        assert board.is_fed() == (board.now_s <= 60.0)
    said = "".join(capsys.readouterr())
    assert said.count("a thread hangs") == 1
    assert victim in said
    board.all_beat()
    board.now_s += 10.0
    assert board.is_fed()  # it goes on: nobody need be killed
    assert "a thread goes on that had hung" in "".join(capsys.readouterr())


def test_who_says_that_it_waits_is_not_hung(board: Board) -> None:
    board.parts["bus i2c-1"].pulse.beat(0.0, wait_s=3600.0)  # polled once an hour
    board.now_s = 3650.0
    board.all_beat("bus i2c-1")
    assert board.is_fed()
    board.now_s = 3661.0
    assert not board.is_fed()


def test_a_bus_that_is_about_to_be_started_again_is_not_hung(board: Board) -> None:
    board.parts["bus i2c-1"].stop()
    (watched,) = board.supervisor._watched
    watched.thread.join(10.0)
    board.now_s = 100.0
    board.all_beat("bus i2c-1")
    assert board.is_fed()


def test_the_watchdog_is_fed_as_often_as_systemd_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    board = Board(monkeypatch)
    fed = 0
    for _ in range(8):
        board.now_s += 0.5
        fed += board.is_fed()
    board.close()
    assert fed >= 4
    assert notify.watchdog_s() == 4.0
    for nothing in ("", "0", "x"):
        monkeypatch.setenv("WATCHDOG_USEC", nothing)
        assert notify.watchdog_s() == float("inf")


def test_a_place_is_named_without_a_value() -> None:
    from agent.logs import places_of

    inside, let_go = threading.Event(), threading.Event()

    def sees_a_secret(secret: str) -> None:
        inside.set()
        let_go.wait(30.0)

    thread = threading.Thread(target=sees_a_secret, args=("42 persons",), name="victim")
    thread.start()
    try:
        assert inside.wait(30.0)
        places = places_of("victim")
    finally:
        let_go.set()
        thread.join()
    assert any("sees_a_secret" in place and "test_supervisor.py:" in place for place in places)
    assert "42" not in "".join(place.partition("(")[2] for place in places)
    assert places_of("nobody") == []


@pytest.mark.parametrize(
    ("lives_s", "rests_s"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60]),
        ([1, 1, 1, 1, 1, 3600, 1], [0, 0, 0, 0, 2, 4, 0]),  # a long life forgives all
    ],
)
def test_who_dies_young_waits_longer_each_time(
    tmp_path: Any, lives_s: list[float], rests_s: list[float]
) -> None:
    now_s, rested = 1000.0, []
    for life_s in lives_s:
        rest = comeback.begin(tmp_path, now_s)
        rested.append(rest.wait_s)
        now_s += rest.wait_s + life_s
    assert rested == rests_s


def test_after_a_good_end_or_without_a_folder_nobody_waits(tmp_path: Any) -> None:
    for n in range(10):
        assert comeback.begin(None, float(n)).wait_s == 0.0
        comeback.begin(tmp_path, 1000.0 + n)
    assert comeback.begin(tmp_path, 1010.0).wait_s > 0.0
    for n in range(10):
        comeback.begin(tmp_path, 2000.0 + n)
    comeback.end(tmp_path)
    assert comeback.begin(tmp_path, 2010.0).wait_s == 0.0
    (tmp_path / "starts.json").write_text("[]")
    assert comeback.begin(tmp_path, 2011.0).wait_s == 0.0
