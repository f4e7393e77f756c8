"""What a snow sensor's depth means for the city: snowfall, new snow, whether snow lies at all.

`snowfall_cm`  in the window that closes an hour: the positive part of the difference between the
               depths on the hour, as the JMA defines it. The depth on the hour is the median of the
               window that ends there, or, where that has none, of the last one in the five minutes
               before. None where the depth on either hour is not known: gaps stay gaps.
`new_snow_cm`  what has fallen since the last clearing: the sum of the depth's rises. Settling does
               not reduce it. What rises by less than a centimetre, or slower than a millimetre an
               hour, is noise and drift, no snow.
`ground`       snow, no_snow or unknown at the spot that the sensor sees: snow from 2 cm on, no_snow
               down to 1 cm, and between them what it was before. (By the JMA there is no snow where
               less than half of the ground around is covered, and a depth that rounds to 0 cm
               where more is. One spot cannot tell the two apart.)

A window whose samples lie far apart, or that holds one where it should hold many, saw mostly
falling snow: its depth counts as not measured. A depth that jumps from one window to the next by
more than snow can fall or settle is not believed at once. If it comes back within ten minutes,
something was below the sensor, and nothing is derived from it. If it stays, it is a step, and no
step is snowfall: the hour's difference leaves it out. A step down is a clearing, by a plough or a
shovel, and new snow begins anew; unless it only takes away an earlier step up, which was a parked
car or what a plough threw there.

How long a gateway was off the clock of the day tells, so after a restart nothing is derived until
that is known, for ten minutes at most. Where it stays unknown nothing is assumed of the time
between: a depth that differs and stays is neither a step nor a clearing, but the new level; what it
rose is new snow, and the storm goes on.

Pure: time is in the windows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from drivers.base import Reason

from ..record import tidy
from .closed import Closed, Facts

DEPTH = "depth_cm"
DOUBTED = (DEPTH, "distance_cm")  # together

S_NS = 1_000_000_000
HOUR_NS = 3600 * S_NS

# A ranger is good for about 1 cm, a trampled surface for another: from 2 cm on it is snow.
SNOW_FROM_CM = 2.0
BARE_TO_CM = 1.0
BELOW_GROUND_CM = -5.0  # further below than any zero drifts: nobody knows what it looks at

# The heaviest hours on record brought some 17 cm; warm rain takes some 2 cm in an hour.
RISE_CM_PER_H = 20.0
FALL_CM_PER_H = 3.0
STEP_CM = 3.0  # beyond that; three times what a ranger is good for
STAYS_S = 600.0  # as long as nobody stands below a sensor, and a car that is parked stays longer
FORGOTTEN_S = 300.0  # a jump that was not seen again
LIFTED_S = 86_400.0  # a step up is ground after a day, not something that will go again

# Of a window's samples, as standard deviation. What is left after outliers are rejected is some
# millimetres, over grass a centimetre.
SPREAD_CM = 2.0

SMOOTH_S = 600.0
SMOOTH_WINDOWS = 11  # a minute each
TURN_CM = 1.0  # what must be exceeded to turn from settling to falling, and back
# The sun on a thermometer lets a ranger wander by 1 cm and back in a day; no snow falls so slowly
# that anybody would count it.
DRIFT_CM_PER_H = 0.1
ON_THE_HOUR_S = 300.0

# A storm is over after six hours without half a centimetre: what falls later is the next one's. The
# same time separates one rain from another in the statistics of precipitation.
BREAK_S = 21_600.0
PROGRESS_CM = 0.5

# A boot without a battery-backed clock learns the time from the network within a minute or two, or
# from a receiver's first fixes. One that has not done so by then may never do.
CLOCK_WAIT_S = 600.0

# What a state may hold: no depth, and no sum of a winter's snow, comes near.
LARGEST_CM = 1e6
GROUNDS = ("snow", "no_snow", "unknown")
OPTIONAL = ("utc_ns", "hour_utc_ns", "hour_cm", "on_hour_cm", "pending")


@dataclass(slots=True)
class Rises:
    """The sum of a series' rises, each from its lowest point to its highest.

    A turn counts once it exceeds `TURN_CM`, and then from where it began: noise below that adds
    nothing, and a rise that goes on is told to its last millimetre. While nothing rises the lowest
    point follows slowly, so that drift adds nothing either.
    """

    low_cm: float
    high_cm: float
    is_rising: bool = False
    before_cm: float = 0.0  # the rises that are over

    @property
    def sum_cm(self) -> float:
        """All rises until now. Never shrinks while a series is added to."""
        return self.before_cm + (self.high_cm - self.low_cm if self.is_rising else 0.0)

    def add(self, depth_cm: float, after_ns: int) -> None:
        """Take the next depth, so long after the one before."""
        if self.is_rising:
            if depth_cm < self.high_cm - TURN_CM:
                self.before_cm = self.sum_cm
                self.is_rising, self.low_cm = False, depth_cm
            self.high_cm = max(self.high_cm, depth_cm)
        else:
            drift_cm = DRIFT_CM_PER_H * max(0, after_ns) / HOUR_NS
            self.low_cm = min(self.low_cm + drift_cm, depth_cm)
            if depth_cm > self.low_cm + TURN_CM:
                self.is_rising, self.high_cm = True, depth_cm

    def shift(self, step_cm: float) -> None:
        """Take a step of the depth that is no snowfall."""
        self.low_cm += step_cm
        self.high_cm += step_cm


@dataclass(slots=True)
class Pending:
    """A depth that jumped, until it is known whether it stays."""

    since_ns: int
    at_ns: int
    first_cm: float
    cm: float  # the latest
    on_hour_cm: float | None = None  # the depth on an hour that ended meanwhile


@dataclass(slots=True)
class Memory:
    """All that must survive a restart. Times are of the boot clock, but for `utc_ns`es."""

    at_ns: int  # the end of the latest window
    utc_ns: int | None  # the same, where it was known
    level_cm: float  # the last depth that was believed
    level_ns: int
    rises: Rises
    progress_ns: int  # since when it has not snowed, and how much there was then
    ground: str = "unknown"  # under what lifted the surface
    recent: list[tuple[int, float]] = field(default_factory=list)
    pending: Pending | None = None
    lifted_cm: float = 0.0  # by steps up
    lifted_ns: int = 0
    progress_cm: float = 0.0
    storm_from_cm: float = 0.0
    hour_utc_ns: int | None = None  # the latest hour, and the depth on it
    hour_ns: int = 0
    hour_cm: float | None = None
    steps_cm: float = 0.0  # since that hour
    is_gap: bool = False  # nobody knows how much time has passed since `level_ns`


class Snow:
    """The snow below one sensor. Beside the record's values it tells what rules ask for.

    Its facts are what has fallen without a break of six hours (None until there is a depth, and
    until it is known how long ago the last life was); and which values of the latest window should
    be `suspect`, and why.
    """

    def __init__(self) -> None:
        self._memory: Memory | None = None
        self._is_restored = False
        self._waits_since_ns: int | None = None  # boot clock
        self.storm_cm: float | None = None
        self.doubts: dict[str, Reason] = {}

    @property
    def facts(self) -> Facts:
        """What the record does not say."""
        return Facts(self.storm_cm, self.doubts)

    def derive(self, closed: Closed) -> dict[str, object]:
        """Return `ground`, `new_snow_cm` and, where an hour closes, `snowfall_cm`."""
        depth_cm = closed.number(DEPTH)
        self.doubts = {}
        if self._memory is None and DEPTH not in closed.values:
            return {}  # it measures distances only
        if depth_cm is not None and _is_scattered(closed):
            depth_cm = None
            self._doubt("spike", closed)
        found: dict[str, object] = {"ground": None}
        if self._is_restored and self._memory is not None:
            if self._waits(self._memory, closed):
                return found
            _rebase(self._memory, closed)
            self._is_restored = False
        if self._memory is None and depth_cm is not None:
            self._memory = _begin(depth_cm, closed)
        memory = self._memory
        if memory is not None:
            memory.at_ns = closed.boot_end_ns
            memory.utc_ns = closed.end_ns if closed.is_timed else None
        if memory is not None and depth_cm is not None:
            if not _judge(memory, depth_cm, closed.boot_end_ns) and depth_cm > memory.level_cm:
                self._doubt("obstructed", closed)
            found["ground"] = _class(_seen(memory), closed)
            found["new_snow_cm"] = tidy(round(memory.rises.sum_cm, 1))
        if memory is not None:  # a storm ends unseen too
            self.storm_cm = round(_storm_cm(memory), 1)
        if closed.is_timed:
            if closed.end_ns % HOUR_NS == 0:
                found["snowfall_cm"] = None if memory is None else _close_hour(memory, closed)
            elif memory is not None:
                _late_on_the_hour(memory, closed)
        return found

    def state(self) -> dict[str, Any]:
        """Return what the next life must know; empty before the first depth."""
        return {} if self._memory is None else asdict(self._memory)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what the last life knew. Raises ValueError where it makes no sense."""
        self._memory = _memory(state) if state else None
        self._is_restored = self._memory is not None
        self._waits_since_ns = None
        self.storm_cm = None

    def _waits(self, memory: Memory, closed: Closed) -> bool:
        """Tell whether the clock of the day may still tell how long this gateway was off."""
        if closed.is_timed or memory.utc_ns is None:
            return False
        if self._waits_since_ns is None:
            self._waits_since_ns = closed.boot_end_ns - (closed.end_ns - closed.start_ns)
        return closed.boot_end_ns - self._waits_since_ns < CLOCK_WAIT_S * S_NS

    def _doubt(self, why: Reason, closed: Closed) -> None:
        self.doubts = {name: why for name in DOUBTED if name in closed.values}


def _begin(depth_cm: float, closed: Closed) -> Memory:
    at_ns = closed.boot_end_ns
    return Memory(at_ns, None, depth_cm, at_ns, Rises(depth_cm, depth_cm), at_ns)


def _judge(memory: Memory, depth_cm: float, at_ns: int) -> bool:
    """Believe the depth, or wait whether it stays; tell whether it is believed."""
    pending = memory.pending
    change_cm = depth_cm - memory.level_cm
    # What is nearer to where it jumped has not come back, though time would allow the change.
    stays = pending is not None and abs(depth_cm - pending.cm) < abs(change_cm)
    if not stays and not _is_jump(change_cm, at_ns - memory.level_ns):
        memory.pending = None  # what was below the sensor is gone
        _believe(memory, depth_cm, at_ns)
        return True
    if pending is not None and not _is_jump(depth_cm - pending.cm, at_ns - pending.at_ns):
        pending.at_ns, pending.cm = at_ns, depth_cm
        if at_ns - pending.since_ns >= STAYS_S * S_NS:
            _step(memory, pending, at_ns)
            return True
    elif pending is None or at_ns - pending.at_ns > FORGOTTEN_S * S_NS:
        memory.pending = Pending(at_ns, at_ns, depth_cm, depth_cm)
    return False


def _is_scattered(closed: Closed) -> bool:
    """Tell whether a window's samples are no sample of one surface."""
    sd_cm = closed.number(DEPTH, "sd")
    if sd_cm is None:
        return closed.flags.get(DEPTH) != "good"
    # What rises evenly while the window lasts spreads by its span over the root of 12.
    hours = (closed.end_ns - closed.start_ns) / HOUR_NS
    return sd_cm > SPREAD_CM + RISE_CM_PER_H * hours / math.sqrt(12)


def _is_jump(change_cm: float, in_ns: int) -> bool:
    """Tell whether no snow falls or settles so fast."""
    hours = max(0, in_ns) / HOUR_NS
    pace_cm_per_h = RISE_CM_PER_H if change_cm > 0 else FALL_CM_PER_H
    return abs(change_cm) > STEP_CM + pace_cm_per_h * hours


def _believe(memory: Memory, depth_cm: float, at_ns: int) -> None:
    after_ns = at_ns - memory.level_ns
    memory.level_cm, memory.level_ns, memory.is_gap = depth_cm, at_ns, False
    recent = [each for each in memory.recent if at_ns - each[0] < SMOOTH_S * S_NS]
    memory.recent = [*recent, (at_ns, depth_cm)][-SMOOTH_WINDOWS:]
    smooth_cm = statistics.median(cm for _, cm in memory.recent)
    if at_ns - memory.lifted_ns > LIFTED_S * S_NS:
        memory.lifted_cm = 0.0
    memory.ground = _ground_of(smooth_cm - memory.lifted_cm, memory.ground)
    if memory.ground == "no_snow" and not memory.lifted_cm:  # nothing that could have fallen
        lowest_cm = min(smooth_cm, 0.0)
        _clear(memory, Rises(lowest_cm, lowest_cm), at_ns)
    else:
        memory.rises.add(smooth_cm, after_ns)
        _progress(memory, at_ns)


def _seen(memory: Memory) -> str:
    """Return what may be said of the ground: the surface may be the roof of a car."""
    is_hidden = memory.pending is not None or (memory.lifted_cm > 0 and memory.ground != "snow")
    return "unknown" if is_hidden else memory.ground


def _ground_of(depth_cm: float, before: str) -> str:
    if depth_cm < BELOW_GROUND_CM:
        return "unknown"
    if depth_cm >= SNOW_FROM_CM:
        return "snow"
    return "no_snow" if depth_cm <= BARE_TO_CM else before


def _step(memory: Memory, pending: Pending, at_ns: int) -> None:
    """Take a jump that stayed: it happened when it was first seen."""
    step_cm = pending.first_cm - memory.level_cm
    if memory.hour_cm is None and pending.on_hour_cm is not None:
        memory.hour_cm = pending.on_hour_cm  # the hour ended after the step
    else:
        memory.steps_cm += step_cm
    memory.recent = []
    memory.pending = None
    if step_cm < 0 < memory.lifted_cm and -step_cm <= memory.lifted_cm + STEP_CM:
        memory.lifted_cm = max(0.0, memory.lifted_cm + step_cm)
        memory.rises.shift(step_cm)
    elif memory.is_gap:  # it may have snowed or settled for days
        memory.lifted_cm = memory.lifted_cm if step_cm > 0 else 0.0
    elif step_cm > 0:
        memory.lifted_cm, memory.lifted_ns = memory.lifted_cm + step_cm, at_ns
        memory.rises.shift(step_cm)
    else:
        memory.lifted_cm = 0.0
        _clear(memory, Rises(pending.first_cm, pending.first_cm), at_ns)
    _believe(memory, pending.cm, at_ns)


def _clear(memory: Memory, rises: Rises, at_ns: int) -> None:
    memory.rises = rises
    memory.progress_ns, memory.progress_cm, memory.storm_from_cm = at_ns, 0.0, 0.0


def _progress(memory: Memory, at_ns: int) -> None:
    """Note that it snows; after a break a new storm begins."""
    if memory.rises.sum_cm >= memory.progress_cm + PROGRESS_CM:
        if at_ns - memory.progress_ns > BREAK_S * S_NS:
            memory.storm_from_cm = memory.progress_cm
        memory.progress_ns, memory.progress_cm = at_ns, memory.rises.sum_cm


def _storm_cm(memory: Memory) -> float:
    if memory.at_ns - memory.progress_ns > BREAK_S * S_NS:
        return 0.0
    return memory.rises.sum_cm - memory.storm_from_cm


def _class(name: str, closed: Closed) -> dict[str, object]:
    return {"mode": name, "share": {name: 1}, "n": round(closed.number(DEPTH, "n") or 1)}


def _close_hour(memory: Memory, closed: Closed) -> float | None:
    """Return the snowfall of the hour that ends with this window, and begin the next."""
    depth_cm = None
    pending, begin_ns = memory.pending, closed.boot_end_ns - round(ON_THE_HOUR_S * S_NS)
    if pending is not None:  # if it stays
        pending.on_hour_cm = pending.cm if pending.at_ns >= begin_ns else None
    elif memory.level_ns >= begin_ns:
        depth_cm = memory.level_cm
    snowfall_cm = None
    if depth_cm is not None and memory.hour_cm is not None and _was_an_hour_ago(memory, closed):
        # Rounded as the depths are, or the difference of two would show its binary dust.
        fallen_cm = max(0.0, depth_cm - memory.hour_cm - memory.steps_cm)
        snowfall_cm = tidy(round(fallen_cm, 3))
    memory.hour_utc_ns, memory.hour_ns = closed.end_ns, closed.boot_end_ns
    memory.hour_cm, memory.steps_cm = depth_cm, 0.0
    return snowfall_cm


def _was_an_hour_ago(memory: Memory, closed: Closed) -> bool:
    """Tell whether the hour began with the depth remembered, and lasted an hour: clocks step."""
    lasted_ns = closed.boot_end_ns - memory.hour_ns
    return (
        memory.hour_utc_ns == closed.end_ns - HOUR_NS
        and abs(lasted_ns - HOUR_NS) <= ON_THE_HOUR_S * S_NS
    )


def _late_on_the_hour(memory: Memory, closed: Closed) -> None:
    """Take the first depth after an hour that no window closed: the gateway was off."""
    since_hour_ns = closed.end_ns % HOUR_NS
    hour_utc_ns = closed.end_ns - since_hour_ns
    if memory.hour_utc_ns == hour_utc_ns or since_hour_ns > ON_THE_HOUR_S * S_NS:
        return
    is_believed = memory.pending is None and memory.level_ns == closed.boot_end_ns
    memory.hour_utc_ns, memory.hour_ns = hour_utc_ns, closed.boot_end_ns - since_hour_ns
    memory.hour_cm, memory.steps_cm = memory.level_cm if is_believed else None, 0.0


def _rebase(memory: Memory, closed: Closed) -> None:
    """Make the times of an earlier life those of this one's boot clock.

    Only the clock of the day says how long it was off: a boot clock that is ahead may be another
    boot's. Where it does not, or has gone back, that is not known.
    """
    passed_ns = 0
    if memory.utc_ns is not None and closed.is_timed and closed.end_ns >= memory.utc_ns:
        passed_ns = closed.end_ns - memory.utc_ns
    else:
        memory.is_gap = True
        memory.pending = None
        memory.hour_utc_ns, memory.hour_cm, memory.steps_cm = None, None, 0.0
    by_ns = closed.boot_end_ns - passed_ns - memory.at_ns
    memory.at_ns += by_ns
    memory.level_ns += by_ns
    memory.lifted_ns += by_ns
    memory.progress_ns += by_ns
    memory.hour_ns += by_ns
    memory.recent = [(at_ns + by_ns, cm) for at_ns, cm in memory.recent]
    if memory.pending is not None:
        memory.pending.since_ns += by_ns
        memory.pending.at_ns += by_ns


def _memory(state: Mapping[str, Any]) -> Memory:
    try:
        parts = dict(state)
        parts["rises"] = Rises(**parts["rises"])
        if parts["pending"] is not None:
            parts["pending"] = Pending(**parts["pending"])
        parts["recent"] = [(at_ns, cm) for at_ns, cm in parts["recent"]]
        memory = Memory(**parts)
    except (TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"no state of snow: {exc}") from exc
    _check(memory)
    return memory


def _check(memory: Memory) -> None:
    """Raise ValueError where a value is none, by the names' own units."""
    parts: list[Any] = [memory, memory.rises, *([memory.pending] if memory.pending else [])]
    named = [(each.name, getattr(part, each.name)) for part in parts for each in fields(part)]
    named += [("recent_ns", at_ns) for at_ns, _ in memory.recent]
    named += [("recent_cm", cm) for _, cm in memory.recent]
    for name, value in named:
        if not _is_sane(name, value):
            raise ValueError(f"no state of snow: {name} is {str(value)[:40]}")


def _is_sane(name: str, value: Any) -> bool:
    if value is None and name in OPTIONAL:
        return True
    if name.endswith("_ns"):
        return type(value) is int and abs(value) < 2**63
    if name.endswith("cm"):
        return type(value) in (int, float) and abs(value) <= LARGEST_CM
    if name.startswith("is_"):
        return type(value) is bool
    return name != "ground" or value in GROUNDS
