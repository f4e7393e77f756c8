"""The counting bench: its arithmetic, recordings, scenes, and a small share of its crowds."""

from __future__ import annotations

import json
import os
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil import crossings
from hil.__main__ import main
from hil.bench import BENCHES, counting
from hil.bench.counting import CONSTANTS, chosen_without, play_scene, scene_holds
from hil.bench.crowds import CROWDS, score_crowd
from hil.bench.scenes import SITUATIONS
from hil.crossings import Score, clopper_pearson, compare

TRUTH = [(10.0, "towards"), (20.0, "away")]


# Arithmetic.


def test_events_are_compared_one_by_one() -> None:
    assert compare(TRUTH, TRUTH) == Score(2, 2, 2, 0)
    assert compare(TRUTH, [(11.5, "towards"), (18.5, "away")]) == Score(2, 2, 2, 0)
    assert compare(TRUTH, [(11.6, "towards")]) == Score(2, 1, 0, 0)
    assert compare(TRUTH, [(10.0, "away")]) == Score(2, 1, 0, 1)
    twice = compare(TRUTH, [(10.0, "towards"), (10.5, "towards")])
    assert (twice.found, twice.false, twice.swapped) == (1, 1, 0)


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["towards", "away"]))))
def test_what_is_compared_with_itself_is_all_found(events: list[tuple[float, str]]) -> None:
    assert compare(events, events) == Score(len(events), len(events), len(events), 0)


def test_errors_are_told_with_their_sign() -> None:
    assert compare(TRUTH, TRUTH[:1]).error_percent == -50.0
    assert Score().error_percent == 0.0


def test_the_interval_is_that_of_the_literature() -> None:
    # Rule of three and textbook values: 14 of 14, 0 of 10, 5 of 10.
    assert clopper_pearson(14, 14) == pytest.approx((0.025 ** (1 / 14), 1.0), abs=1e-6)
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert clopper_pearson(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)


@given(st.integers(1, 60), st.data())
def test_the_interval_s_ends_leave_two_and_a_half_percent_each(
    of: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, of))
    low, high = clopper_pearson(hits, of)
    assert low <= hits / of <= high

    def mass(ks: range, share: float) -> float:
        return sum(comb(of, k) * share**k * (1 - share) ** (of - k) for k in ks)

    if hits > 0:
        assert mass(range(hits, of + 1), low) == pytest.approx(0.025, abs=1e-6)
    if hits < of:
        assert mass(range(hits + 1), high) == pytest.approx(0.025, abs=1e-6)


def test_a_constant_is_chosen_without_the_recording_that_judges_it() -> None:
    good, bad = Score(10, 10, 10, 0), Score(10, 10, 5, 0)
    scores = {0.7: {"a": bad, "b": good}, 1.0: {"a": good, "b": bad}, 1.4: {"a": bad, "b": bad}}
    assert chosen_without(scores, "a") == 0.7
    assert chosen_without(scores, "b") == 1.0
    even = {factor: {"a": good} for factor in (0.5, 0.7, 1.0)}
    assert chosen_without(even, "b") == 0.7


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda each: each.name)
def test_a_constant_is_changed_for_a_while_only(constant: counting.Constant) -> None:
    value = constant.value
    with constant.scaled(0.5):
        assert constant.value != value
    assert constant.value == value


# Recordings.


@pytest.fixture
def there(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUKIMI_RECORDINGS", str(recordings))
    crossings.recordings.cache_clear()


@pytest.mark.usefixtures("there")
def test_every_recording_is_counted_without_a_miss_or_an_invention() -> None:
    scores = counting.score_recordings()
    assert {name: score.crossings for name, score in scores.items()} == {
        "1person": 14,
        "1person_hat": 14,
        "2ppl": 22,
        "background": 0,
    }
    for score in scores.values():
        assert (score.found, score.false, score.swapped) == (score.crossings, 0, 0)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(("part", "of"), [(2, 0.98), (3, 0.94)])
def test_people_who_walk_faster_than_in_the_recordings_are_counted(part: int, of: float) -> None:
    total = Score()
    for images, truth in crossings.recordings().values():
        faster = [(i / 10, image) for i, (_, image) in enumerate(images[::part])]
        total += compare(
            [(at_s / part, way) for at_s, way in truth], crossings.count_images(faster)
        )
    assert total.found >= of * total.crossings
    assert (total.false, total.swapped) == (0, 0)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("options", [{"flip": True}, {"rotate": 180}])
def test_the_other_way_round_is_counted_the_other_way_round(options: dict[str, object]) -> None:
    for images, truth in crossings.recordings().values():
        opposite = [(at_s, "away" if way == "towards" else "towards") for at_s, way in truth]
        score = compare(opposite, crossings.count_images(images, **options))
        assert (score.found, score.false, score.swapped) == (len(truth), 0, 0)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("lost", [(0,), (0, 3), (1, 4, 5)])
def test_frames_of_the_recordings_that_are_lost_or_come_twice_cost_little(
    lost: tuple[int, ...],
) -> None:
    fewer, twice = Score(), Score()
    for images, truth in crossings.recordings().values():
        fewer += compare(
            truth, crossings.count_images(e for i, e in enumerate(images) if i % 10 not in lost)
        )
        again = [
            (at_s, images[i - 1][1] if i and i % 10 in lost else image)
            for i, (at_s, image) in enumerate(images)
        ]
        twice += compare(truth, crossings.count_images(again))
    for score in (fewer, twice):
        assert score.found >= 49
        assert (score.false, score.swapped) == (0, 0)


# Scenes.


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_s_target_is_reached(name: str) -> None:
    score = sum((compare(*play_scene(name, seed)) for seed in (100, 101)), Score())
    least = SITUATIONS[name].least_found
    # So few are no measure of one in fifty: one may be missed.
    assert score.crossings - score.found <= max(1, round((1 - least) * score.crossings))
    assert score.swapped == 0
    assert score.false <= 0.02 * score.crossings


def test_a_situation_is_judged_by_what_is_missed_invented_and_swapped() -> None:
    assert scene_holds("alone", Score(100, 98, 98, 0))
    assert not scene_holds("alone", Score(100, 97, 97, 0))
    assert not scene_holds("alone", Score(100, 103, 100, 0))
    assert not scene_holds("alone", Score(100, 99, 99, 1))
    assert not scene_holds("sun", Score(0, 1, 0, 0))
    assert scene_holds("abreast 0.5 m", Score(100, 50, 50, 0))


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["alone", "meeting", "gust"])
def test_a_scene_that_is_turned_is_the_same_with_the_option_that_turns_it_back(
    name: str, rotate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = play_scene(name, 7)
    assert plain
    opposite = [(at_s, "away" if way == "towards" else "towards") for at_s, way in plain]
    monkeypatch.setattr(counting, "GridEyeDevice", turned_device(rotate))
    assert play_scene(name, 7, rotate=rotate)[1] == plain
    assert play_scene(name, 7, rotate=rotate, flip=True)[1] == opposite
    if rotate:
        assert play_scene(name, 7)[1] != plain


def turned_device(rotate: int) -> type[counting.GridEyeDevice]:
    """A sensor that is mounted `rotate` degrees clockwise: its image has to be turned back."""

    class Turned(counting.GridEyeDevice):
        def read(self, length: int, now_s: float) -> bytes:
            image = super().read(length, now_s)
            if length != 128:
                return image
            pixels = [image[2 * i : 2 * i + 2] for i in range(64)]
            for _ in range(rotate // 90):  # clockwise: what was the left column is the top row
                pixels = [pixels[8 * (7 - column) + row] for row in range(8) for column in range(8)]
            return b"".join(pixels)

    return Turned


# Crowds.


@pytest.mark.parametrize("name", [name for name, crowd in CROWDS.items() if crowd.is_judged])
@pytest.mark.parametrize("rate", counting.RATES_PER_MINUTE)
def test_a_crowd_is_counted_within_its_error(name: str, rate: int) -> None:
    score = score_crowd(name, rate, 60 if rate == 5 else 250, seed=11)
    assert score.crossings > 50
    assert abs(score.error_percent) <= counting.MOST_WRONG_PERCENT[rate]


def test_beams_cannot_tell_people_apart_who_do_not_walk_in_single_file() -> None:
    open_way = score_crowd("beam-pair, open", 60, 300)
    assert -45.0 < open_way.error_percent < -25.0
    assert open_way.swapped == 0


# The command.


def test_it_is_among_the_benches_and_prints_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "counting" in BENCHES
    few = {name: CROWDS[name] for name in ("beam-pair", "beam-pair, open")}
    monkeypatch.setattr(counting, "CROWDS", few)
    arguments = ["bench", "counting", "--only", "crowds", "--persons", "60"]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures["crowd_beam-pair_60_error_percent"] == 0.0
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "pass" in shown
    assert "MISS" not in shown


def test_without_recordings_it_measures_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "YUKIMI_RECORDINGS", str(tmp_path))
    crossings.recordings.cache_clear()
    try:
        assert main(["bench", "counting", "--only", "recordings"]) == 0
        assert main(["bench", "counting", "--only", "constants"]) == 0
        assert capsys.readouterr().out == ""
    finally:
        crossings.recordings.cache_clear()
