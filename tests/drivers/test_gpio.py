"""Edges through gpiozero: times, pulls, what is refused and in which words."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory

from drivers.base import BusError
from drivers.gpio import EDGES_LIMIT, Edge, GpiozeroPins, OpenDrain, boot_ns


class Board:
    """Mock pins, and the adapter over them with a clock of its own."""

    def __init__(self) -> None:
        self.factory = MockFactory()
        self.pins = GpiozeroPins(self.factory)
        self.pins.open()

    def set(self, pin: int, level: int) -> None:
        if level:
            self.factory.pin(pin).drive_high()
        else:
            self.factory.pin(pin).drive_low()


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    yield board
    board.pins.close()


def test_edges_come_once_in_order_with_their_level(board: Board) -> None:
    watch = board.pins.watch([17, 27], pull="up")
    for pin, level in ((17, 0), (27, 0), (17, 1), (27, 1)):
        board.set(pin, level)
    taken = watch.edges()
    assert [(edge.pin, edge.level) for edge in taken] == [(17, 0), (27, 0), (17, 1), (27, 1)]
    assert watch.edges() == []


def test_an_edge_carries_the_time_it_happened_not_the_time_it_was_taken(board: Board) -> None:
    watch = board.pins.watch([17], pull="up")
    before_ns = boot_ns()
    board.set(17, 0)
    after_ns = boot_ns()
    (edge,) = watch.edges()
    # The two clocks are read one after the other, some microseconds apart.
    assert before_ns - 1_000_000 <= edge.at_boot_ns <= after_ns + 1_000_000


def test_ticks_of_any_origin_become_boot_time() -> None:
    class Counting(MockFactory):
        """A factory that counts from an origin of its own, as pigpio does."""

        def ticks(self) -> float:
            return 1_000_000.0

    factory = Counting()
    pins = GpiozeroPins(factory, now_ns=lambda: 50_000_000_000)
    pins.open()
    watch = pins.watch([4], pull="none")
    factory.pin(4).when_changed(1_000_000.0 - 1.5, 1)
    factory.pin(4).when_changed(1_000_000.0 - 2.5, 0)
    assert watch.edges() == [Edge(4, 0, 47_500_000_000), Edge(4, 1, 48_500_000_000)]


@pytest.mark.parametrize(("pull", "level"), [("up", 1), ("down", 0)])
def test_the_pull_is_set_and_the_level_can_be_read(board: Board, pull: Any, level: int) -> None:
    watch = board.pins.watch([17], pull=pull)
    assert board.factory.pin(17).pull == pull
    assert watch.level(17) == level
    board.set(17, 1 - level)
    assert watch.level(17) == 1 - level


def test_lost_edges_are_said_once_and_none_before_the_hole_is_told(board: Board) -> None:
    watch = board.pins.watch([17], pull="up")
    for n in range(EDGES_LIMIT + 1):
        board.set(17, n % 2)
    with pytest.raises(BusError, match=r"pins 17 \(BCM\): edges were lost"):
        watch.edges()
    assert watch.edges() == []
    board.set(17, 1)
    assert [edge.level for edge in watch.edges()] == [1]


def test_a_pin_has_one_owner_until_it_is_given_back(board: Board) -> None:
    watch = board.pins.watch([17, 27], pull="up")
    with pytest.raises(BusError, match=r"pin 27 \(BCM\) is taken by another sensor"):
        board.pins.watch([22, 27], pull="up")
    watch.close()
    board.set(17, 0)
    other = board.pins.watch([27, 17], pull="up")
    assert watch.edges() == []
    board.set(17, 0)
    assert [edge.pin for edge in other.edges()] == [17]


def test_one_pin_cannot_be_asked_for_twice_at_once(board: Board) -> None:
    with pytest.raises(BusError, match="pin 17"):
        board.pins.watch([17, 17], pull="up")


def test_a_pin_that_the_board_does_not_have_is_named(board: Board) -> None:
    with pytest.raises(BusError, match=r"pin 99 \(BCM\) is not on this board"):
        board.pins.watch([17, 99], pull="up")
    board.pins.watch([17], pull="up").close()


def test_a_pull_against_the_boards_own_resistor_is_named(board: Board) -> None:
    with pytest.raises(BusError, match=r"pin 2 \(BCM\) has a pull-up on the board"):
        board.pins.watch([2], pull="down")


def test_a_pin_that_is_not_watched_has_no_level(board: Board) -> None:
    watch = board.pins.watch([17], pull="up")
    with pytest.raises(BusError, match="pin 27"):
        watch.level(27)


def test_a_closed_bus_gives_no_pins_and_opens_again() -> None:
    pins = GpiozeroPins(MockFactory())
    with pytest.raises(BusError, match="not open"):
        pins.watch([17], pull="up")
    pins.open()
    pins.watch([17], pull="up").close()
    pins.close()
    pins.close()
    with pytest.raises(BusError, match="not open"):
        pins.watch([17], pull="up")
    pins.open()
    pins.watch([17], pull="up").close()


def test_a_missing_library_is_said_in_a_technicians_words(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_lgpio(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "lgpio":
            raise ModuleNotFoundError("No module named 'lgpio'")
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_lgpio)
    with pytest.raises(BusError, match="install python3-lgpio"):
        GpiozeroPins().open()


def test_two_boards_in_one_process_share_no_pins() -> None:
    first, second = Board(), Board()
    one = first.pins.watch([17], pull="up")
    other = second.pins.watch([17], pull="up")
    first.set(17, 0)
    assert len(one.edges()) == 1
    assert other.edges() == []


def test_a_line_is_pulled_low_and_let_go_and_never_driven_high() -> None:
    factory = MockFactory()
    pin = factory.pin(22)
    seen: list[tuple[str, int]] = []

    class Watched(type(pin)):  # type: ignore[misc]
        def _change_state(self, value: bool) -> bool:
            seen.append((self.function, int(value)))
            changed: bool = super()._change_state(value)
            return changed

    pin.__class__ = Watched
    OpenDrain(22, factory).pulse(9)
    assert seen.count(("output", 0)) == 9
    assert ("output", 1) not in seen
    assert pin.function == "input"
