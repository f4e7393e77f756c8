"""Thermal arrays: what the background keeps, where people are in a field, what is remembered."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import OPPOSITE
from drivers.grideye import PASSAGE
from drivers.thermal import (
    HOLD_S,
    PATTERN_K,
    SAMPLES,
    Background,
    PixelField,
    ThermalCounter,
    find_people,
)
from drivers.tracking import LineCounter, Point
from hil.devices.grideye import Scene, Walker

PERSON_K, SADDLE_K = 1.5, 1.0
NOISE_K = 0.2


def people(*places: tuple[float, float], excess_k: float = 5.0) -> PixelField:
    rows, columns = np.indices((8, 8))
    field = np.zeros((8, 8))
    for row, column in places:
        field += excess_k * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.9**2))
    return field


def found_in(excess_k: PixelField, least_pixels: int = 2) -> list[Point]:
    return find_people(excess_k, PERSON_K, SADDLE_K, least_pixels)[0]


# People in a field.


def test_a_person_is_found_where_the_warmth_is() -> None:
    (found,) = found_in(people((2.5, 5.0)))
    assert abs(found.across - 2.5) < 0.1
    assert abs(found.along - 5.0) < 0.1


def test_nobody_is_found_in_an_empty_or_faintly_warm_field() -> None:
    assert found_in(np.zeros((8, 8))) == []
    assert found_in(people((3, 3), excess_k=1.4)) == []


def test_one_hot_pixel_is_nobody() -> None:
    field = np.zeros((8, 8))
    field[4, 4] = 9.0
    assert found_in(field) == []


def test_two_who_touch_are_two_as_long_as_there_is_a_valley_between_them() -> None:
    assert len(found_in(people((2, 3), (5, 3)))) == 2
    assert len(found_in(people((3, 3), (4, 3)))) == 1


def test_a_dent_in_one_person_does_not_make_two() -> None:
    field = people((3, 3))
    field[3, 3] -= 0.9  # the parting between head and shoulder
    assert len(found_in(field)) == 1


def test_three_in_a_row_are_three() -> None:
    assert len(found_in(people((1, 1), (4, 4), (7, 7)))) == 3


@given(st.binary(min_size=64, max_size=64))
def test_whatever_the_field_everybody_found_is_inside_it(quarters: bytes) -> None:
    found = found_in(np.frombuffer(quarters, np.int8).reshape(8, 8).astype(np.float64) / 4)
    assert len(found) <= 32
    assert all(-0.01 < place < 7.01 for at in found for place in (at.along, at.across))


def test_a_person_s_pixels_are_told_and_nobody_else_s() -> None:
    field = people((2, 2))
    field[7, 7] = 5.0  # one pixel: a cup
    _, mask = find_people(field, PERSON_K, SADDLE_K, 2)
    assert mask[2, 2]
    assert not mask[7, 7]
    assert (field[mask] >= PERSON_K).all()


def test_what_spans_the_whole_field_is_nobody_but_is_there() -> None:
    band = np.zeros((8, 8))
    band[2:5] = 3.0
    points, mask = find_people(band, PERSON_K, SADDLE_K, 2)
    assert points == []
    assert mask[2:5].all()


# The background.


class Place:
    """A background that is told every field, as a counter tells it."""

    def __init__(self) -> None:
        self.background = Background()

    def see(self, field_c: PixelField, at_s: float) -> list[Point]:
        return self.look(field_c, at_s)[1]

    def look(self, field_c: PixelField, at_s: float) -> tuple[PixelField, list[Point]]:
        excess_k = self.background.excess_k(field_c)
        points, mask = find_people(excess_k, self.background.person_k, self.background.saddle_k, 2)
        self.background.learn(field_c, mask, at_s)
        return excess_k, points


def noise(seed: int, sigma_k: float = NOISE_K) -> PixelField:
    return np.random.default_rng(seed).normal(0.0, sigma_k, (8, 8))


def test_the_background_takes_the_pattern_of_the_place_out() -> None:
    pattern_c = 20 + np.arange(64.0).reshape(8, 8) / 64
    place = Place()
    for tenth in range(200):
        assert place.see(pattern_c + noise(tenth), tenth / 10) == []
    excess_k, points = place.look(pattern_c + people((3, 3)), 20.0)
    assert len(points) == 1
    assert np.allclose(excess_k, people((3, 3)), atol=0.4)


def test_before_anything_is_known_the_ground_is_taken_from_the_coldest_pixels() -> None:
    place = Place()
    assert len(place.see(20.0 + people((3, 3)), 0.0)) == 1
    assert Place().see(20.0 + np.linspace(0.0, PATTERN_K, 64).reshape(8, 8), 0.0) == []


def test_who_stands_still_for_a_minute_is_still_there_and_then_is_furniture() -> None:
    place = Place()
    for second in range(20):
        place.see(20.0 + noise(second), second)
    seen = [
        len(place.see(20.0 + people((3, 3)) + noise(second), second)) for second in range(20, 180)
    ]
    assert seen[:60] == [1] * 60
    assert seen[round(HOLD_S) + 15 :] == [0] * len(seen[round(HOLD_S) + 15 :])


def test_who_leaves_after_having_been_furniture_leaves_no_hole() -> None:
    place = Place()
    for second in range(20):
        place.see(20.0 + noise(second), second)
    for second in range(20, 180):
        place.see(20.0 + people((3, 3)) + noise(second), second)
    for second in range(180, 184):
        place.see(20.0 + noise(second), second)
    excess_k, points = place.look(20.0 + people((3, 4)), 184)
    assert len(points) == 1
    assert excess_k[3, 4] > 4.0


def test_someone_in_view_at_the_start_leaves_no_ghost() -> None:
    place = Place()
    place.see(20.0 + people((3, 3)), 0.0)
    for second in range(1, 30):
        excess_k, points = place.look(20.0 + noise(second), second)
    assert points == []
    assert abs(excess_k[3, 3]) < 1.0


@given(st.floats(-1.5, 1.5), st.integers(0, 1000))
@settings(max_examples=20)
def test_nobody_crosses_a_floor_that_warms_or_cools(k_per_min: float, seed: int) -> None:
    counter = ThermalCounter(PASSAGE)
    for second in range(240):
        field_c = 20 + k_per_min * second / 60 + noise(seed + second)
        assert counter.take(field_c, second) == []


@pytest.mark.parametrize("lasts_s", [5, 20, 100])
@pytest.mark.parametrize("change_k", [-3.0, 3.0])
def test_a_gust_that_changes_all_of_the_floor_hides_nobody(change_k: float, lasts_s: int) -> None:
    place = Place()
    for tenth in range(10 * (40 + lasts_s)):
        at_s = tenth / 10
        come, gone = (min(max(0.0, (at_s - t) / 2), 1.0) for t in (20.0, 20.0 + lasts_s))
        floor_c = 20.0 + change_k * (come - gone)
        assert len(place.see(floor_c + noise(tenth), at_s)) == 0
    assert len(place.see(20.0 + people((3, 3)), 40.0 + lasts_s)) == 1


def test_noise_is_measured_though_people_walk_and_pixels_are_rounded() -> None:
    for sigma_k in (0.1, 0.2, 0.4):
        place = Place()
        for tenth in range(600):
            walker = people((3, tenth % 50 / 5))
            place.see(np.round(4 * (20 + walker + noise(tenth, sigma_k))) / 4, tenth / 10)
        assert place.background.noise_k == pytest.approx(np.hypot(sigma_k, 0.072), rel=0.35)


@given(st.lists(st.binary(min_size=64, max_size=64), max_size=80))
@settings(max_examples=30)
def test_whatever_is_seen_the_background_is_finite_and_bounded(fields: list[bytes]) -> None:
    place = Place()
    for second, raw in enumerate(fields):
        field_c = np.frombuffer(raw, np.uint8).reshape(8, 8).astype(np.float64) / 4
        excess_k, _ = place.look(field_c, second)
        assert np.isfinite(excess_k).all()
        assert 0.05 <= place.background.noise_k <= 0.5
    assert len(place.background._samples) <= SAMPLES


# Turned, and flipped.


def seen_by(scene: Scene, seconds: float, seed: int) -> list[PixelField]:
    dice = np.random.default_rng(seed)
    return [
        np.round(4 * (scene.look(frame / 10) + dice.normal(0.0, NOISE_K, (8, 8)))) / 4
        for frame in range(round(seconds * 10))
    ]


def ways_of(fields: list[PixelField], *, flip: bool = False) -> list[tuple[int, str]]:
    counter = ThermalCounter(PASSAGE, flip=flip)
    return [(i, way) for i, each in enumerate(fields) for way in counter.take(each, i / 10)]


@given(st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_a_flip_swaps_every_direction(seed: int) -> None:
    fields = seen_by(Scene.crowd(seed, 20.0), 60.0, seed)
    plain = ways_of(fields)
    assert ways_of(fields, flip=True) == [(i, OPPOSITE[way]) for i, way in plain]  # type: ignore[index]


def test_a_clock_that_trembles_by_a_millisecond_changes_nothing() -> None:
    """Recordings have times in milliseconds, and no poll is on time to the microsecond."""
    for seed in range(6):
        fields = seen_by(Scene.crowd(seed, 30.0), 60.0, seed)
        dice = random.Random(seed)
        counters = [ThermalCounter(PASSAGE) for _ in range(3)]
        counted: list[list[tuple[int, str]]] = [[], [], []]
        for i, each in enumerate(fields):
            times_s = (1234.567891 + i / 10, round(i / 10, 3), i / 10 + dice.uniform(0, 0.001))
            for counter, at_s, found in zip(counters, times_s, counted, strict=True):
                found += [(i, way) for way in counter.take(each, at_s)]
        assert counted[0] == counted[1] == counted[2]
        assert counted[0]


def test_a_half_turn_hardly_changes_what_is_counted() -> None:
    """What is at the same height in two pixels goes to either person.

    A picture that is turned may cut a blob otherwise, so it is the counts of many that agree.
    """
    plain, turned = 0, 0
    for seed in range(15):
        fields = seen_by(Scene.crowd(seed, 20.0), 60.0, seed)
        plain += len(ways_of(fields))
        turned += len(ways_of([np.rot90(each, 2) for each in fields], flip=True))
    assert plain > 150
    assert abs(turned - plain) <= 0.02 * plain


# What is known of persons.


def test_nothing_of_a_person_is_held_a_minute_after_they_left() -> None:
    counter = ThermalCounter(PASSAGE)
    walkers = [Walker(t, "towards", row=3.0) for t in (2.0, 5.0)]
    fields = seen_by(Scene([*walkers, Walker(6.0, "away", row=5.0)]), 12.0, seed=1)
    alive = []
    for i, each in enumerate(fields):
        counter.take(each, i / 10)
        alive.append(weakref.ref(each))
    del fields, each
    gc.collect()
    assert any(ref() is not None for ref in alive)  # the last frame, and samples of the place
    dice = np.random.default_rng(7)
    for tenth in range(120, 120 + 10 * (SAMPLES + 2)):
        counter.take(21.0 + dice.normal(0.0, NOISE_K, (8, 8)), tenth / 10)
    gc.collect()
    assert [ref() for ref in alive if ref() is not None] == []
    assert counter.picture().people == ()  # type: ignore[union-attr]
    counters = [each for each in gc.get_referents(counter) if isinstance(each, LineCounter)]
    assert [each.tracks for each in counters] == [0]


def test_the_background_never_holds_who_passes() -> None:
    place = Place()
    for tenth in range(100):
        place.see(20.0 + noise(tenth), tenth / 10)
    for tenth in range(100, 200):
        place.see(20.0 + people((3, tenth % 40 / 5)) + noise(tenth), tenth / 10)
    assert max(float(sample.max()) for sample in place.background._samples) < 22.0


def test_nothing_that_sees_people_can_be_printed_or_carried_away() -> None:
    counter = ThermalCounter(PASSAGE)
    counter.take(20.0 + people((3, 3)), 0.0)
    scene = counter.picture()
    assert scene is not None
    assert scene.people
    for each in (counter, counter._background, counter._counter, scene):
        assert repr(each) == f"{type(each).__name__}(withheld)"
        with pytest.raises(TypeError, match="never serialised"):
            pickle.dumps(each)
        with pytest.raises(TypeError, match="never serialised"):
            copy.deepcopy(each)
