"""Faults of pins, as a watch on them and as real drivers see them."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from drivers.base import Crossing
from drivers.gpio import Edge, PinWatch
from hil.pins import SimulatedPins
from hil.rig import Rig

MS = 1_000_000


class Door:
    """Changes pin 17 once a second; closed (0) at first."""

    def __init__(self) -> None:
        self._done = 0

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        due = range(self._done + 1, int(now_s) + 1)
        self._done = max(self._done, int(now_s))
        return [(17, second % 2) for second in due]


class Board:
    """Pins with a door, watched in a time that goes when it is told to."""

    def __init__(self, *actors: object) -> None:
        self.now_ns = 5_000 * MS
        self.pins = SimulatedPins(list(actors) or [Door()], now_ns=lambda: self.now_ns)  # type: ignore[arg-type]
        self.pins.open()
        self.watch: PinWatch = self.pins.watch([17], pull="down")

    def edges(self, for_ms: int) -> list[Edge]:
        self.now_ns += for_ms * MS
        return self.watch.edges()


def levels(edges: list[Edge]) -> list[int]:
    return [edge.level for edge in edges]


def test_without_faults_each_change_is_one_edge_at_its_time() -> None:
    board = Board()
    edges = board.edges(3_500)
    assert levels(edges) == [1, 0, 1]
    assert [edge.at_boot_ns // MS for edge in edges] == [6_000, 7_000, 8_000]


def test_a_contact_that_bounces_ends_at_its_true_level() -> None:
    board = Board()
    heal = board.pins.bounce(5, 0.02)
    edges = board.edges(2_500)
    assert levels(edges) == [1, 0] * 3 + [1] + [0, 1] * 3 + [0]
    first = [edge.at_boot_ns for edge in edges[:7]]
    assert first == sorted(first)
    assert 6_000 * MS == first[0] < first[-1] <= 6_020 * MS
    heal()
    assert levels(board.edges(2_000)) == [1, 0]


@pytest.mark.parametrize("level", [0, 1])
def test_a_stuck_pin_tells_nothing_and_healed_what_is_true_by_then(level: int) -> None:
    board = Board()
    board.edges(1_500)
    heal = board.pins.stick_pin(17, level)
    assert levels(board.edges(10)) == ([] if level else [0])
    assert levels(board.edges(3_000)) == []
    assert board.watch.level(17) == level
    heal()  # the door has been closed again since 4 s
    assert levels(board.edges(1)) == ([0] if level else [])
    assert levels(board.edges(2_000)) == [1, 0]


def test_spikes_come_at_their_rate_and_leave_the_level_as_it_was() -> None:
    board = Board()
    heal = board.pins.glitch(17, per_s=50.0)
    edges = board.edges(10_500)
    assert 2 * 350 < len(edges) < 2 * 700
    assert board.watch.level(17) == 0
    spikes = [b.at_boot_ns - a.at_boot_ns for a, b in pairwise(edges)]
    assert sum(width == 500_000 for width in spikes) > 300
    heal()
    assert levels(board.edges(2_010)) == [1, 0]


def test_a_pin_that_nobody_moves_goes_back_to_where_it_rested() -> None:
    class Nobody:
        def levels(self, now_s: float) -> list[tuple[int, int]]:
            return []

    board = Board(Nobody())
    heal = board.pins.stick_pin(17, 1)
    assert levels(board.edges(10)) == [1]
    heal()
    assert levels(board.edges(10)) == [0]


def test_equal_dice_make_equal_bounces_and_two_faults_add_up() -> None:
    def seen(seed: int) -> list[Edge]:
        board = Board()
        board.pins.dice = Random(seed)
        board.pins.bounce(3, 0.01)
        board.pins.glitch(17, per_s=5.0)
        return board.edges(5_500)

    assert seen(1) == seen(1) != seen(2)
    assert len(seen(1)) > 5 * 5 + 20


def counted(rig: Rig, for_s: float) -> int:
    return sum(isinstance(seen, Crossing) for seen in rig.run(for_s))


def test_bounces_shorter_than_a_body_count_nobody_more_and_nobody_less() -> None:
    def passed_and_counted(*, bounces: bool) -> tuple[int, int]:
        rig = Rig("beam-pair")
        if bounces:
            rig.wires[0].bounce(6, 0.004)
        count = counted(rig, 90.0)
        return len(rig.device.passages), count

    passed, count = passed_and_counted(bounces=False)
    assert count > 20
    assert passed_and_counted(bounces=True) == (passed, count)


def test_a_beam_that_sticks_counts_nobody_and_counts_again_when_healed() -> None:
    rig = Rig("beam-pair")
    assert counted(rig, 90.0) > 20
    heal = rig.wires[0].stick_pin(rig.options.pin_a, 0)
    counted(rig, 2.0)  # who was in the beam
    assert counted(rig, 60.0) == 0
    heal()
    assert counted(rig, 90.0) > 20
