"""The bench of side doors: its arithmetic, its crowds, and one small run of each look."""

from __future__ import annotations

import os
import time
from random import Random

import pytest

from hil.bench import BENCHES, doors


def test_a_line_is_found_again_and_what_is_beside_it() -> None:
    dice = Random(1)
    persons = [dice.uniform(0, 60) for _ in range(2000)]
    cpu_us = [40.0 * each + 5000.0 + dice.gauss(0.0, 300.0) for each in persons]
    slope_us, noise_us = doors.line(persons, cpu_us)
    assert slope_us == pytest.approx(40.0, rel=0.05)
    assert noise_us == pytest.approx(300.0, rel=0.05)
    assert doors.known_to(slope_us, noise_us, 900.0) == pytest.approx(7.5, rel=0.1)
    assert doors.known_to(slope_us, noise_us, 100.0) == pytest.approx(22.5, rel=0.1)


def persons_a_minute(minutes: int) -> list[int]:
    dice, now_s, counts = doors.Waves(3, 60.0), 0.0, [0] * minutes
    while (now_s := now_s + dice.expovariate()) < minutes * 60.0:
        counts[int(now_s / 60.0)] += 1
    return counts


def test_a_crowd_comes_and_goes_and_is_the_same_each_time() -> None:
    counts = persons_a_minute(30)
    assert min(counts) < 15
    assert max(counts) > 45
    assert persons_a_minute(30) == counts


@pytest.mark.parametrize("name", ["beam-pair", "hlk-ld2450"])
def test_crowds_are_played_and_timed(name: str) -> None:
    values = doors.played(name, 3)
    assert len(values) == 3
    assert all(value != 0 for value in values.values())


def test_what_linux_shows_of_a_process() -> None:
    before = doors.spent(os.getpid())
    time.sleep(0.01)  # it is woken once more
    after = doors.spent(os.getpid())
    assert after[0] >= before[0] > 0
    assert after[1] > before[1]
    assert after[2] > 2**20


def test_every_figure_has_a_line_and_the_bench_is_listed() -> None:
    keys = [figure.key for figure in doors.FIGURES]
    assert len(keys) == len(set(keys))
    assert "doors" in BENCHES
