"""Tracking: who crossed the line, from points alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import OPPOSITE, Direction
from drivers.tracking import MAX_TRACKS, TOGETHER_S, LineCounter, Passage, Point

PIXELS = Passage(
    line=3.5,
    clearance=0.5,
    travel=2.0,
    slack=0.6,
    run_per_s=14.0,
    frame_s=0.1,
    memory_s=1.0,
    inside=(1.0, 6.0),
)
MILLIMETRES = Passage(
    line=3000.0,
    clearance=200.0,
    travel=700.0,
    slack=100.0,
    run_per_s=3000.0,
    frame_s=0.1,
    memory_s=1.0,
    inside=(0.0, 0.0),
)

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


# One behind the other, and side by side.


def together(*paths: Path, near: float = 2.0) -> list[list[Point]]:
    """What a coarse sensor sees: whoever is nearer than `near` to another is one with them."""
    frames = []
    for frame in range(max(len(path) for path in paths)):
        seen: list[list[Point]] = []
        for path in paths:
            if frame >= len(path) or (point := path[frame]) is None:
                continue
            for blob in seen:
                centre = np.mean([[p.along, p.across] for p in blob], axis=0)
                if np.hypot(*(centre - (point.along, point.across))) < near:
                    blob.append(point)
                    break
            else:
                seen.append([point])
        frames.append(
            [
                Point(
                    float(np.mean([p.along for p in blob])),
                    float(np.mean([p.across for p in blob])),
                )
                for blob in seen
            ]
        )
    return frames


def counted_frames(frames: Sequence[Sequence[Point]], passage: Passage = PIXELS) -> list[Direction]:
    counter = LineCounter(passage)
    return [way for i, points in enumerate(frames) for way in counter.update(points, i / 10)]


@given(
    st.floats(0.15, 0.36),  # 0.5 m/s to 1.3 m/s
    st.floats(0.15, 0.36),
    st.floats(0.0, 1.5),
    st.integers(-3, 3),
    st.booleans(),
)
def test_two_who_are_one_blob_while_they_pass_are_one_each_way(
    step: float, other_step: float, apart: float, late: int, is_turned: bool
) -> None:
    one: list[Point | None] = list(walk(0, 7, row=3.5 - apart / 2, step=step))
    other: list[Point | None] = list(walk(7, 0, row=3.5 + apart / 2, step=other_step))
    (one if late > 0 else other)[:0] = [None] * abs(late)
    found = counted_frames(together(*((other, one) if is_turned else (one, other))))
    assert sorted(found) == ["away", "towards"]


def test_who_comes_out_of_another_s_blob_beyond_the_line_came_all_the_way_with_them() -> None:
    # Two at the edge are one blob; one of them walks off so fast that they are apart at once.
    stands = [Point(6.6, 3.0)] * 30
    leaves = [Point(6.6, 3.0)] * 10 + [Point(3.4, 3.5)] + walk(3.0, 0)
    frames = [[point] for point in stands[:10]]
    frames += [list(pair) for pair in zip(stands[10:], leaves[10:], strict=False)]
    assert counted_frames(frames) == ["away"]


def test_an_arm_that_is_seen_for_a_moment_is_not_a_second_person() -> None:
    path = walk(0, 7, step=0.35)
    frames = [[point] for point in path]
    for at in range(5, 9):
        frames[at] = [path[at], Point(path[at].along, path[at].across + 2.0)]
    assert counted_frames(frames) == ["towards"]


def test_who_walks_hidden_behind_another_is_counted_with_them_but_not_for_ever() -> None:
    beside = together(walk(0, 2, row=2.4), walk(0, 2, row=4.6), near=1.0)
    as_one = [[point] for point in walk(2.4, 7, row=3.5)]
    assert counted_frames(beside + as_one) == ["towards", "towards"]
    stands = [[Point(2.0, 3.5)] for _ in range(round(10 * (TOGETHER_S + 1.5)))]
    assert counted_frames(beside + stands + as_one) == ["towards"]


def test_two_abreast_are_wider_than_deep_all_the_way() -> None:
    passage = replace(PIXELS, abreast=0.8)
    path = walk(0, 7, step=0.35)
    lone = [[replace(point, depth2=1.0, width2=1.5)] for point in path]
    pair = [[replace(point, depth2=1.0, width2=3.0)] for point in path]
    assert counted_frames(lone, passage) == ["towards"]
    assert counted_frames(pair, passage) == ["towards", "towards"]
    assert counted_frames(pair[:9] + lone[9:10] + pair[10:], passage) == ["towards"]
    assert counted_frames(pair) == ["towards"]


def test_what_creeps_over_the_floor_does_not_walk() -> None:
    creeping = [Point(along, 3.5) for along in np.arange(0.0, 7.0, 0.03 / 10)]
    assert counted(creeping) == []
    assert counted(creeping[:: 20 * 10]) == ["towards"]


@given(st.data())
def test_a_mirrored_passage_counts_the_opposite(data: st.DataObject) -> None:
    places = st.tuples(st.floats(0, 7), st.floats(0, 7))
    frames = data.draw(st.lists(st.lists(places, max_size=3), max_size=40))
    plain = [[Point(along, across) for along, across in each] for each in frames]
    mirrored = [[Point(7.0 - along, across) for along, across in each] for each in frames]
    ties = any(along == 3.5 for each in frames for along, _ in each)
    if not ties:
        found = counted_frames(plain)
        assert sorted(counted_frames(mirrored)) == sorted(OPPOSITE[way] for way in found)


# What is known of persons.


def test_nothing_that_follows_people_can_be_printed_or_carried_away() -> None:
    counter = LineCounter(PIXELS)
    for frame, point in enumerate(walk(0, 2.5)):
        counter.update([point], frame / 10)
    track = counter._tracks[0]
    for each in (counter, track, track.at):
        assert repr(each) == f"{type(each).__name__}(withheld)"
        assert "2.5" not in f"{each} {each!r} {[each]!r}"
        with pytest.raises(TypeError, match="never serialised"):
            pickle.dumps(each)
        with pytest.raises(TypeError, match="never serialised"):
            copy.copy(each)
