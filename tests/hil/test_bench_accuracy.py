"""The accuracy bench: its theory is the law, and the recorded crowd agrees with it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from agent.privacy.sampler import ci95, noise_sd
from hil.bench import accuracy
from hil.bench.accuracy import FILE, SPANS, behind, half_of, law, read, released, span
from hil.hall import POLICY


def test_one_window_is_as_accurate_as_its_record_says() -> None:
    assert half_of(1) == ci95(POLICY.epsilon) == 12


@pytest.mark.parametrize(("name", "half"), [("window", 12), ("hour", 23), ("day", 108)])
def test_so_many_windows_together_are_off_by_the_documents_figure(name: str, half: int) -> None:
    windows = SPANS[name]
    chances = law(windows)
    off = np.arange(len(chances)) - len(chances) // 2
    assert math.isclose(chances.sum(), 1)
    assert math.sqrt((chances * off**2).sum()) == pytest.approx(
        noise_sd(POLICY.epsilon) * math.sqrt(windows)
    )
    assert half_of(windows) == half
    assert chances[np.abs(off) <= half].sum() >= 0.95 > chances[np.abs(off) < half].sum()


@pytest.mark.parametrize(
    ("windows", "half", "surer"),
    [(1, 12, 18), (2, 16, 24), (4, 23, 32), (8, 32, 43), (96, 108, 143), (192, 153, 202)],
)
def test_the_documents_table_is_the_laws(windows: int, half: int, surer: int) -> None:
    assert (half_of(windows), half_of(windows, 0.99)) == (half, surer)


def test_an_hour_of_the_recording_is_split_and_loses_nobody(recordings: Path) -> None:
    places = read(recordings / FILE)
    assert len(places) == 4
    assert sum(len(days) for days in places.values()) == 2742
    busiest = max(int(days.reshape(-1, 4).sum(axis=1).max()) for days in places.values())
    assert busiest == 11273


@pytest.mark.slow
def test_the_recorded_crowd_is_off_by_what_the_theory_says(recordings: Path) -> None:
    true = np.concatenate(list(read(recordings / FILE).values()))[::4]
    figures = released(true)
    for name, windows in SPANS.items():
        found = span(name, true, figures)
        # The fourth moment of a sum is between a normal's, 3, and this law's, 6.
        spread = math.sqrt((2 + 3 / windows) / found.n)
        assert found.sd == pytest.approx(found.sd_theory, rel=4.75 * spread)
        assert abs(found.mean) < 4.75 * found.sd_theory / math.sqrt(found.n)
        assert found.within_half > 0.95 - 4.75 * math.sqrt(0.05 * 0.95 / found.n)
    window = span("window", true, figures)
    assert window.within_tenth > 0.95 > window.before_tenth


def test_a_figure_that_never_came_says_so() -> None:
    true = np.zeros((1, 96), dtype=np.int64)
    assert behind(10_000, "window", true, true) == (0, 0, 0)
    assert behind(0, "hour", true, true) == (24, 0, 0)


def test_without_recordings_the_verb_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("YUKIMI_RECORDINGS", str(tmp_path))
    from hil.__main__ import main

    assert main(["bench", "accuracy"]) == accuracy.MISUSED
    assert "YUKIMI_RECORDINGS" in capsys.readouterr().err
