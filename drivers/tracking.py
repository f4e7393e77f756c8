"""Count people who cross a line, from points at which a sensor sees them.

`LineCounter` follows points from frame to frame and counts those that pass a line. It knows nothing
of heat, pixels or radio: whatever can say where people are can be counted with it.

Tracks live for seconds, in memory. Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf

from .base import Direction, Withheld

# How fast a track believes a change of pace: a step takes half a second.
PACE_S = 0.5

# Who takes longer than this for the whole `travel` does not walk: sun creeps over a floor, and who
# stands begins anew from where they stand.
WALK_S = 40.0

# Two who meet are seen as one for about a second, longer if they walk together. They were two if
# each was seen for ALONE_S before, or for PART_S if one came out of the other: else it was an arm,
# or a shoulder beside a hat. None is a whole number of frames, here and where a passage has times:
# a clock that trembles by a millisecond must not decide.
TOGETHER_S = 2.55
ALONE_S = 0.35
PART_S = 0.45

# In so many frames a shape is known: limbs swing.
SHAPE_FRAMES = 4

# A passage seen by one small sensor holds a handful of people; the rest is noise.
MAX_TRACKS = 16


@dataclass(frozen=True, slots=True, repr=False)
class Point(Withheld):
    """Where somebody is, in the sensor's own unit of length."""

    along: float  # on the axis of travel, increasing "towards"
    across: float
    depth2: float = 0.0  # mean square of what is seen around it, along and across;
    width2: float = 0.0  # 0 where the sensor cannot tell


@dataclass(frozen=True, slots=True)
class Passage:
    """What a place and its sensor allow; lengths in the unit of the points.

    A crossing counts once the track is `clearance` past the line, in so many `looks` in a row, and
    has come `travel` from its furthest point on the side where it began or last arrived: who sways
    on the line, or turns back at it, is not counted. Nor is what was seen in fewer than `frames`
    frames: a flicker.
    """

    line: float  # where on the axis of travel people are counted
    clearance: float
    travel: float
    slack: float  # how far from its true place a person may be seen
    run_per_s: float  # the fastest that people are
    frame_s: float  # from one frame to the next
    memory_s: float  # how long a track outlives its person's last point
    inside: tuple[float, float]  # who vanishes between these is hidden; equal: nobody hides another
    frames: int = 1
    looks: int = 1
    abreast: float = inf  # half of how far two walk apart who are seen as one, in depths of one

    @property
    def reach(self) -> float:
        """How far from the expected place a person may appear again: two frames' run."""
        return self.slack + 2 * self.frame_s * self.run_per_s

    @property
    def near(self) -> float:
        """How far from somebody else a person may be to be hidden by them."""
        return self.slack + self.frame_s * self.run_per_s


@dataclass(slots=True, repr=False)
class _Track(Withheld):
    at: Point
    seen_s: float
    way: int  # +1: is on the low side of the line, and can only cross towards; -1: away
    origin: float  # the furthest it was on that side, of `along`
    number: int
    alone_s: float = 0.0  # for how long it was seen for itself
    pace_along: float = 0.0  # per second
    pace_across: float = 0.0
    step_s: float = 0.0  # from the point before
    frames: int = 1  # in which it was seen
    hidden_since_s: float | None = None  # behind whoever has its point
    looks: int = 0  # in a row in which it was beyond the line
    is_split: bool = False  # came out of another: it may be an arm of theirs until it is somebody
    is_over: bool = False  # it was an arm
    shapes: int = 0  # frames since it last was near another
    was_narrow: bool = False  # in one of them

    @property
    def is_somebody(self) -> bool:
        """Whether it was seen for itself for long enough not to be part of another."""
        return self.alone_s >= (PART_S if self.is_split else ALONE_S)

    def distance(self, point: Point, now_s: float) -> float:
        """Return how far `point` is from where the person should be by now."""
        ahead_s = now_s - self.seen_s
        return hypot(
            point.along - self.at.along - self.pace_along * ahead_s,
            point.across - self.at.across - self.pace_across * ahead_s,
        )

    def move(self, to: Point, now_s: float, frame_s: float, *, is_shared: bool) -> None:
        """Go on to a point; one that is shared with another track tells nothing of the pace."""
        passed_s = now_s - self.seen_s
        if not is_shared:
            self.alone_s += min(passed_s, 2 * frame_s)
            share_per_s = 1.0 / (PACE_S + passed_s)
            along, across = to.along - self.at.along, to.across - self.at.across
            self.pace_along += share_per_s * (along - self.pace_along * passed_s)
            self.pace_across += share_per_s * (across - self.pace_across * passed_s)
        self.at, self.seen_s, self.step_s = to, now_s, passed_s
        self.frames += 1
        self.hidden_since_s = None

    def look(self, passage: Passage, *, is_apart: bool) -> None:
        """Note how wide the person is for their depth, while apart from others and in full view."""
        low, high = passage.inside
        if not is_apart:
            self.shapes, self.was_narrow = 0, False
        elif low <= self.at.along <= high and self.at.depth2 > 0.0:
            self.shapes += 1
            is_wide = self.at.width2 > (1.0 + passage.abreast**2) * self.at.depth2
            self.was_narrow = self.was_narrow or not is_wide

    @property
    def are_two(self) -> bool:
        """Whether the person is two who walk abreast."""
        return self.shapes >= SHAPE_FRAMES and not self.was_narrow

    def hide(self, at: Point, now_s: float) -> None:
        """Be where somebody else is seen."""
        if self.hidden_since_s is None:
            self.hidden_since_s = now_s
        self.at, self.seen_s, self.step_s = at, now_s, now_s - self.seen_s

    def cross(self, passage: Passage) -> Direction | None:
        """Return the direction of a crossing that the last move completed."""
        travel = self.way * (self.at.along - self.origin)
        is_past = self.way * (self.at.along - passage.line) >= passage.clearance
        self.looks = self.looks + 1 if is_past else 0
        if travel < 0:
            self.origin = self.at.along
        is_hidden_against = self.hidden_since_s is not None and self.way * self.pace_along <= 0
        if (
            travel >= passage.travel
            and self.looks >= passage.looks
            and self.frames >= passage.frames
            and (self.is_somebody or not self.is_split)
            and not is_hidden_against
        ):
            direction: Direction = "towards" if self.way > 0 else "away"
            self.way, self.origin, self.looks = -self.way, self.at.along, 0
            return direction
        creep = passage.travel / WALK_S * self.step_s
        self.origin += self.way * min(max(0.0, travel), creep)
        return None


class LineCounter(Withheld):
    """Follow points, at most MAX_TRACKS at once, and tell when one crosses the line."""

    __slots__ = ("_born", "_passage", "_tracks")

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._tracks: list[_Track] = []
        self._born = 0

    @property
    def tracks(self) -> int:
        """How many tracks are held at present."""
        return len(self._tracks)

    def followed(self) -> list[tuple[int, Point]]:
        """Return who is followed: number, and where they were seen last."""
        return [(track.number, track.at) for track in self._tracks]

    def update(self, points: Sequence[Point], now_s: float) -> list[Direction]:
        """Take all points of one frame, and return the crossings that they complete.

        `now_s` never goes back. Points go to tracks, the nearest pair first. A point left over
        begins a track. A track left over is hidden behind somebody near, or goes on at its pace,
        unseen, until it is forgotten.
        """
        passage = self._passage
        self._tracks = [t for t in self._tracks if now_s - t.seen_s <= passage.memory_s]
        found, hidden = self._assign(points, now_s)
        taken = {*found.values()}
        born = [self._born_at(point, now_s) for p, point in enumerate(points) if p not in taken]
        for t, p in found.items():
            is_shared = p in hidden.values()
            self._tracks[t].move(points[p], now_s, passage.frame_s, is_shared=is_shared)
        for t, p in hidden.items():
            self._tracks[t].hide(points[p], now_s)
        crossings: list[Direction] = []
        for track in (self._tracks[t] for t in sorted({*found, *hidden})):
            track.look(passage, is_apart=not self._neighbours(track))
            if way := track.cross(passage):
                crossings += [way, way] if track.are_two else [way]
        self._tracks = [track for track in self._tracks if not track.is_over]
        self._tracks += born[: MAX_TRACKS - len(self._tracks)]
        return crossings

    def _assign(
        self, points: Sequence[Point], now_s: float
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Return, by their indices, which track has which point, and which is hidden at which."""
        pairs = sorted(
            (distance, t, p)
            for t, track in enumerate(self._tracks)
            for p, point in enumerate(points)
            if (distance := track.distance(point, now_s)) <= self._passage.reach
        )
        found: dict[int, int] = {}
        owner: dict[int, int] = {}  # point -> track
        for _, t, p in pairs:
            if t not in found and p not in owner:
                found[t], owner[p] = p, t
        hidden: dict[int, int] = {}
        for distance, t, p in pairs:
            if t in found or t in hidden or distance > self._passage.near:
                continue
            if not self._may_hide(self._tracks[t], now_s):
                continue
            other = self._tracks[owner[p]]
            if other.is_somebody:
                hidden[t] = p
            else:  # it was part of this one, and is so again
                other.is_over = True
                del found[owner[p]]
                found[t], owner[p] = p, t
        return found, hidden

    def _neighbours(self, track: _Track) -> bool:
        return any(
            hypot(track.at.along - other.at.along, track.at.across - other.at.across)
            <= self._passage.reach
            for other in self._tracks
            if other is not track
        )

    def _may_hide(self, track: _Track, now_s: float) -> bool:
        """Tell whether a track without a point is behind whoever has the one that is near."""
        if track.hidden_since_s is not None:
            return now_s - track.hidden_since_s <= TOGETHER_S
        low, high = self._passage.inside
        was_just_seen = now_s - track.seen_s <= 3 * self._passage.frame_s
        return was_just_seen and track.is_somebody and low <= track.at.along <= high

    def _born_at(self, point: Point, now_s: float) -> _Track:
        way, origin = (1 if point.along < self._passage.line else -1), point.along
        parent = self._parent(point, now_s)
        if parent is not None:
            way, origin = parent.way, parent.origin
        self._born += 1
        return _Track(point, now_s, way, origin, self._born, is_split=parent is not None)

    def _parent(self, point: Point, now_s: float) -> _Track | None:
        """Return out of whom somebody came who appears; None if from outside."""
        low, high = self._passage.inside
        if low >= high:
            return None
        is_inside = low <= point.along <= high
        far = self._passage.reach if is_inside else self._passage.near
        near = [
            (distance, track.number, track)
            for track in self._tracks
            if (distance := track.distance(point, now_s)) <= far
        ]
        return min(near)[2] if near else None
