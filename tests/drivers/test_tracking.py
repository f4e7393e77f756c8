"""Tracking: what the background keeps, where people are in a field, and who crossed the line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Direction
from drivers.tracking import MAX_TRACKS, Background, LineCounter, Passage, Point, find_people

PIXELS = Passage(line=3.5, clearance=0.5, travel=2.0, reach=2.0, memory_s=1.0)
MILLIMETRES = Passage(line=3000.0, clearance=200.0, travel=700.0, reach=700.0, memory_s=1.0)

Path = Sequence[Point | None]  # one entry a frame; None: not seen in it


def walk(start: float, end: float, *, row: float = 3.5, step: float = 0.4) -> list[Point]:
    frames = max(2, round(abs(end - start) / step) + 1)
    return [Point(float(along), row) for along in np.linspace(start, end, frames)]


def counted(*paths: Path, passage: Passage = PIXELS) -> list[Direction]:
    counter = LineCounter(passage)
    found: list[Direction] = []
    for frame in range(max(len(path) for path in paths)):
        points = [path[frame] for path in paths if frame < len(path)]
        found += counter.update([point for point in points if point], frame / 10)
    return found


def people(*places: tuple[float, float], excess_k: float = 5.0) -> np.ndarray:
    rows, columns = np.indices((8, 8))
    field = np.zeros((8, 8))
    for row, column in places:
        field += excess_k * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.9**2))
    return field


# The line.


def test_who_walks_across_is_counted_once_in_the_right_direction() -> None:
    assert counted(walk(0, 7)) == ["towards"]
    assert counted(walk(7, 0)) == ["away"]


def test_who_turns_back_before_or_on_the_line_is_not_counted() -> None:
    assert counted(walk(0, 3.4) + walk(3.4, 0)) == []
    assert counted(walk(0, 3.9) + walk(3.9, 0)) == []
    assert counted(walk(7, 3.1) + walk(3.1, 7)) == []


def test_who_goes_all_the_way_and_returns_is_counted_both_ways() -> None:
    assert counted(walk(0, 7) + walk(7, 0)) == ["towards", "away"]


def test_who_sways_on_the_line_is_not_counted() -> None:
    assert counted(10 * (walk(2.8, 4.2) + walk(4.2, 2.8))) == []


def test_a_short_appearance_beside_the_line_is_not_counted() -> None:
    assert counted(walk(3.2, 4.4)) == []


def test_a_gap_in_what_is_seen_does_not_break_a_track() -> None:
    path: list[Point | None] = list(walk(0, 7))
    path[6:12] = [None] * 6
    assert counted(path) == ["towards"]


def test_a_person_who_vanishes_and_another_one_later_are_not_one() -> None:
    assert counted([*walk(0, 3), *[None] * 12, *walk(4, 7)]) == []


def test_people_side_by_side_are_each_counted() -> None:
    assert counted(walk(0, 7, row=2), walk(0, 7, row=5)) == ["towards", "towards"]


def test_people_who_pass_each_other_keep_their_directions() -> None:
    assert sorted(counted(walk(0, 7, row=3), walk(7, 0, row=4))) == ["away", "towards"]


def test_people_who_hide_each_other_in_passing_keep_their_directions() -> None:
    one: list[Point | None] = list(walk(0, 7))
    other: list[Point | None] = list(walk(7, 0))
    middle = len(one) // 2
    for frame in range(middle - 2, middle + 3):
        one[frame], other[frame] = Point(3.5, 3.5), None
    assert sorted(counted(one, other)) == ["away", "towards"]


def test_a_radar_in_millimetres_is_counted_by_the_same_rules() -> None:
    path = walk(500, 5500, row=-800, step=130)
    assert counted(path, passage=MILLIMETRES) == ["towards"]
    assert counted(path[::-1], passage=MILLIMETRES) == ["away"]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2),
            st.lists(st.tuples(st.floats(0, 7), st.floats(0, 7)).map(lambda at: Point(*at))),
        ),
        max_size=40,
    )
)
def test_whatever_the_points_tracks_are_few_and_forgotten(
    frames: list[tuple[float, list[Point]]],
) -> None:
    counter = LineCounter(PIXELS)
    now_s = 0.0
    for passed_s, points in frames:
        now_s += passed_s
        counter.update(points, now_s)
        assert counter.tracks <= MAX_TRACKS
    counter.update([], now_s + PIXELS.memory_s + 1)
    assert counter.tracks == 0


# People in a field.


def test_a_person_is_found_where_the_warmth_is() -> None:
    (found,) = find_people(people((2.5, 5.0)))
    assert abs(found.across - 2.5) < 0.1
    assert abs(found.along - 5.0) < 0.1


def test_nobody_is_found_in_an_empty_or_faintly_warm_field() -> None:
    assert find_people(np.zeros((8, 8))) == []
    assert find_people(people((3, 3), excess_k=1.4)) == []


def test_one_hot_pixel_is_nobody() -> None:
    field = np.zeros((8, 8))
    field[4, 4] = 9.0
    assert find_people(field) == []


def test_two_who_touch_are_two_as_long_as_there_is_a_valley_between_them() -> None:
    assert len(find_people(people((2, 3), (5, 3)))) == 2
    assert len(find_people(people((3, 3), (4, 3)))) == 1


def test_a_dent_in_one_person_does_not_make_two() -> None:
    field = people((3, 3))
    field[3, 3] -= 0.9  # the parting between head and shoulder
    assert len(find_people(field)) == 1


def test_three_in_a_row_are_three() -> None:
    assert len(find_people(people((1, 1), (4, 4), (7, 7)))) == 3


@given(st.binary(min_size=64, max_size=64))
def test_whatever_the_field_everybody_found_is_inside_it(quarters: bytes) -> None:
    found = find_people(np.frombuffer(quarters, np.int8).reshape(8, 8).astype(np.float64) / 4)
    assert len(found) <= 32
    assert all(-0.01 < place < 7.01 for point in found for place in point)


# The background.


def test_the_background_takes_the_pattern_of_the_place_out() -> None:
    floor_c = 20 + np.arange(64.0).reshape(8, 8) / 8
    background = Background()
    background.excess_k(floor_c, 0.0)
    assert np.allclose(background.excess_k(floor_c + people((3, 3)), 0.1), people((3, 3)))


def test_who_stands_still_for_half_a_minute_is_still_there() -> None:
    background = Background()
    for second in range(20):
        background.excess_k(np.full((8, 8), 20.0), second)
    for second in range(20, 50):
        excess_k = background.excess_k(20.0 + people((3, 3)), second)
    assert len(find_people(excess_k)) == 1


def test_a_warming_floor_is_nobody() -> None:
    background = Background()
    for second in range(600):
        assert find_people(background.excess_k(np.full((8, 8), 20 + second / 60), second)) == []


def test_a_radiator_that_was_switched_on_becomes_part_of_the_place() -> None:
    background = Background()
    background.excess_k(np.full((8, 8), 20.0), 0.0)
    for second in range(1, 61):
        excess_k = background.excess_k(20.0 + people((3, 3)), second)
    assert find_people(excess_k) == []


def test_someone_in_view_at_the_start_leaves_no_ghost() -> None:
    background = Background()
    background.excess_k(20.0 + people((3, 3)), 0.0)
    for second in range(1, 30):
        excess_k = background.excess_k(np.full((8, 8), 20.0), second)
    assert np.abs(excess_k).max() < 0.1
