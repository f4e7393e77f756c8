"""A short forecast that has to earn its publication on the device that makes it.

The method is a damped trend: in one horizon's time the value goes on by a fixed part of what it
changed in the horizon before. Nothing about a place is assumed. Each forecast is kept until its
outcome is known; from its own errors come the interval and the skill against persistence ("it stays
as it is"), and a forecast is returned only while that skill is above zero beyond doubt. One that is
no better than persistence is never shown. docs/forecasts.md has the figures.

All bookkeeping is in horizons, not in forecasts: sixty forecasts a minute apart overlap, and tell
as much as one. So a sensor read each minute and one read each hour are judged alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from math import exp, isfinite, sqrt
from typing import Any, NamedTuple

LEVEL = 0.8  # the share of outcomes that the interval holds
TAIL = (1 - LEVEL) / 2

EVIDENCE_HORIZONS = 48.0  # this much is verified before anything is published
MEMORY_HORIZONS = 240.0  # older errors fade: by a factor of e each 240 horizons
SKILL_MIN = 0.02
SURE_BEGIN = 2.0  # standard errors by which the mean gain is above zero, to begin
SURE_GO_ON = 1.0  # and to go on: between the two, what was published stays so

STORED_PER_HORIZON = 72  # closer values are not stored: a minute apart, each; over 3 h, each third
SAME_S = 1.0  # two times that mean the same window's end
LARGEST = 1e6  # of any quantity forecast here: beyond it, no value
LARGEST_SUM = 1e100  # of anything in a state but times: its square is still a number
NO_CHANGE = 1e-9
CLEARING = 0.5  # a fall of an accumulation; less is noise, or snow that settles

# The interval's bounds move by this part of the mean error for each horizon verified; at first by
# more, so that they are found within days. From 0.1 to 0.6 the recorded weeks hardly differ.
BOUND_STEP = 0.3
FIRST_STEPS = 10.0


class Forecast(NamedTuple):
    """What is expected in `in_s` seconds, in the quantity's unit."""

    in_s: float
    value: float
    low: float  # low..high holds LEVEL of the outcomes, by this device's own errors
    high: float
    skill: float  # 1 - MAE / MAE of persistence, over what was verified here, lately


class _Past(NamedTuple):
    """A value, and how much it had changed in the horizon before it (None: not known)."""

    at_s: float
    value: float
    trend: float | None


class Forecaster:
    """Forecasts one quantity of one sensor over one horizon.

    `damping` is the part of the last horizon's change that is expected of the next. `calm` is the
    change, in the quantity's unit, beside which errors begin to grow with the change: the interval
    is wider by `1 + |change| / calm`. An accumulation falls only when it is cleared: a fall of
    CLEARING units or more is left out of all changes, so that forecasts go on through it, and no
    forecast is below the present.
    """

    def __init__(
        self, horizon_s: float, *, damping: float, calm: float, is_accumulation: bool = False
    ) -> None:
        self._horizon_s = horizon_s
        self._damping = damping
        self._calm = calm
        self._is_accumulation = is_accumulation
        self._past: deque[_Past] = deque()  # younger than a horizon: forecasts not yet verified
        self._before: _Past | None = None  # the youngest that is a horizon old
        self._cleared = 0.0  # what clearings took from an accumulation
        self._record = _Record()
        self.latest: Forecast | None = None  # the last `update`'s, published or not: for the bench

    def update(self, at_s: float, value: float | None) -> Forecast | None:
        """Take a window's value; return the forecast from there if it may be published.

        `at_s` is the window's end in UTC seconds, at any spacing up to the horizon. None (or NaN)
        is a missing value. A step back in time forgets the values, not the record of skill; so
        does a gap, as far as it is too long to know the change over a horizon.
        """
        self.latest = None
        if value is None or not abs(value) < LARGEST or not isfinite(at_s):
            return None
        self._mind_steps(at_s, value)
        self._verify(at_s, value + self._cleared)
        trend = self._trend(at_s, value + self._cleared)
        self._store(_Past(at_s, value + self._cleared, trend))
        if trend is None or not self._record.weight:
            return None
        self.latest = self._forecast(value, trend)
        return self.latest if self._record.is_published else None

    def state(self) -> dict[str, Any]:
        """Return what the next life must know, as JSON has it."""
        return {
            "horizon_s": self._horizon_s,
            "cleared": self._cleared,
            "before": None if self._before is None else _row(self._before),
            "past": [_row(past) for past in self._past],
            "record": self._record.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what the last life's `state` returned. Raises ValueError where it makes no sense."""
        try:
            if state["horizon_s"] != self._horizon_s:
                raise ValueError(f"a forecast over {state['horizon_s']} s, not {self._horizon_s} s")
            before = None if state["before"] is None else _from_row(state["before"])
            cleared = _size(state["cleared"])
            past = deque(_from_row(row) for row in state["past"])
            record = _Record()
            record.restore(state["record"])
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not the state of a forecast: {exc!r}") from exc
        times_s = [row.at_s for row in ([before] if before else []) + list(past)]
        if any(later <= earlier for earlier, later in pairwise(times_s)):
            raise ValueError("not the state of a forecast: its times go back")
        if len(past) > STORED_PER_HORIZON + 1:
            raise ValueError(f"not the state of a forecast: {len(past)} values")
        self._before, self._past, self._record = before, past, record
        self._cleared = cleared

    def _mind_steps(self, at_s: float, value: float) -> None:
        latest = self._latest()
        if latest is None or at_s <= latest.at_s:
            self._past.clear()
            self._before, self._cleared = None, 0.0
        elif self._is_accumulation and latest.value - self._cleared - value >= CLEARING:
            self._cleared = latest.value - value

    def _latest(self) -> _Past | None:
        return self._past[-1] if self._past else self._before

    def _verify(self, at_s: float, value: float) -> None:
        """Judge the forecasts whose time has come."""
        latest, now = self._latest(), _Past(at_s, value, None)
        while self._past and self._past[0].at_s <= at_s - self._horizon_s:
            issued = self._before = self._past.popleft()
            outcome = self._between(latest, now, issued.at_s + self._horizon_s)
            if issued.trend is None or outcome is None:
                continue
            self._record.add(
                issued.at_s / self._horizon_s,
                change=outcome - issued.value,
                error=outcome - self._expected(issued.value, issued.trend),
                spread=self._spread(issued.trend),
            )

    def _trend(self, at_s: float, value: float) -> float | None:
        right = self._past[0] if self._past else None
        then = self._between(self._before, right, at_s - self._horizon_s)
        if then is None:
            return None
        return max(0.0, value - then) if self._is_accumulation else value - then

    def _between(self, left: _Past | None, right: _Past | None, at_s: float) -> float | None:
        """Return the value at `at_s`; between two, by a straight line, where they are close."""
        for past in (left, right):
            if past is not None and abs(past.at_s - at_s) <= SAME_S:
                return past.value
        if left is None or right is None or not left.at_s < at_s < right.at_s:
            return None
        span_s = right.at_s - left.at_s
        if span_s > self._horizon_s / 3:
            return None
        return left.value + (right.value - left.value) * (at_s - left.at_s) / span_s

    def _store(self, now: _Past) -> None:
        latest = self._latest()
        if latest is None or now.at_s - latest.at_s >= self._horizon_s / STORED_PER_HORIZON:
            self._past.append(now)

    def _expected(self, value: float, trend: float) -> float:
        return value + self._damping * trend

    def _spread(self, trend: float) -> float:
        return self._calm + abs(trend)

    def _forecast(self, value: float, trend: float) -> Forecast:
        expected, spread = self._expected(value, trend), self._spread(trend)
        low = expected + min(0.0, self._record.low) * spread
        high = expected + max(0.0, self._record.high) * spread
        if self._is_accumulation:
            low = max(low, value)
        return Forecast(self._horizon_s, expected, low, high, self._record.skill)


class _Record:
    """What became of the forecasts, fading with age.

    A forecast of no change that came true is not counted: a month without snow neither earns
    trust nor costs it.
    """

    def __init__(self) -> None:
        self.weight = 0.0  # horizons
        self.low = 0.0  # the bounds of the error, in units of the spread
        self.high = 0.0
        self.is_published = False
        self._own = 0.0  # sums over horizons: of |error|, of persistence's |error|,
        self._persistence = 0.0
        self._gain_squared = 0.0  # of the squared difference between them,
        self._error_in_spreads = 0.0  # and of |error| / spread
        self._judged_at: float | None = None  # in horizons of UTC

    @property
    def skill(self) -> float:
        """1 - MAE / MAE of persistence; 0 where persistence made no error."""
        return 1 - self._own / self._persistence if self._persistence > 0 else 0.0

    def add(self, issued_at: float, *, change: float, error: float, spread: float) -> None:
        """Count a forecast, issued `issued_at` horizons after the epoch, whose outcome is known."""
        apart = 1.0 if self._judged_at is None else abs(issued_at - self._judged_at)
        weight = min(1.0, apart)
        self._judged_at = issued_at
        if abs(change) < NO_CHANGE and abs(error) < NO_CHANGE:
            return
        kept = exp(-weight / MEMORY_HORIZONS)
        gain = abs(change) - abs(error)
        self.weight = self.weight * kept + weight
        self._own = self._own * kept + weight * abs(error)
        self._persistence = self._persistence * kept + weight * abs(change)
        self._gain_squared = self._gain_squared * kept + weight * gain * gain
        self._error_in_spreads = self._error_in_spreads * kept + weight * abs(error) / spread
        self._move_bounds(error / spread, weight)
        self._decide()

    def _move_bounds(self, error: float, weight: float) -> None:
        """Move each bound so that, in the long run, TAIL of the errors is beyond it.

        This holds however errors are distributed (stochastic approximation of a quantile).
        """
        mean_error = self._error_in_spreads / self.weight if self.weight > 0 else 0.0
        step = weight * mean_error * max(BOUND_STEP, FIRST_STEPS / (FIRST_STEPS + self.weight))
        self.low += step * (TAIL if error >= self.low else TAIL - 1)
        self.high += step * (1 - TAIL if error > self.high else -TAIL)

    def _decide(self) -> None:
        if self.weight < EVIDENCE_HORIZONS:
            self.is_published = False
            return
        gain = (self._persistence - self._own) / self.weight
        variance = max(0.0, self._gain_squared / self.weight - gain * gain)
        sure = SURE_GO_ON if self.is_published else SURE_BEGIN
        self.is_published = self.skill > SKILL_MIN and gain > sure * sqrt(variance / self.weight)

    def state(self) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "low": self.low,
            "high": self.high,
            "is_published": self.is_published,
            "own": self._own,
            "persistence": self._persistence,
            "gain_squared": self._gain_squared,
            "error_in_spreads": self._error_in_spreads,
            "judged_at": self._judged_at,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.weight = _size(state["weight"], least=0.0)
        self.low, self.high = _size(state["low"]), _size(state["high"])
        self.is_published = state["is_published"] is True
        self._own = _size(state["own"], least=0.0)
        self._persistence = _size(state["persistence"], least=0.0)
        self._gain_squared = _size(state["gain_squared"], least=0.0)
        self._error_in_spreads = _size(state["error_in_spreads"], least=0.0)
        judged_at = state["judged_at"]
        self._judged_at = None if judged_at is None else _number(judged_at)


# The dampings are what the recorded weeks choose (hil/bench/forecast.py): surface 0.5 to 0.6, snow
# 0.4 to 0.6; the least of snow's, because it is too high that costs most in weeks of little snow.


def surface_forecaster() -> Forecaster:
    """Return a forecaster of a surface temperature in degC, 60 min ahead."""
    return Forecaster(3600.0, damping=0.5, calm=2.0)


def new_snow_forecaster() -> Forecaster:
    """Return a forecaster of new snow since the last clearing in cm, 3 h ahead."""
    return Forecaster(10800.0, damping=0.4, calm=1.0, is_accumulation=True)


def _row(past: _Past) -> list[float | None]:
    return [past.at_s, past.value, past.trend]


def _from_row(row: Any) -> _Past:
    at_s, value, trend = row
    return _Past(_number(at_s), _size(value), None if trend is None else _size(trend))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError as exc:  # JSON's whole numbers have no end
        raise ValueError("a number beyond any") from exc
    if not isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _size(value: Any, least: float = -LARGEST_SUM) -> float:
    number = _number(value)
    if not least <= number <= LARGEST_SUM:
        raise ValueError(f"{number} is beyond {least} to {LARGEST_SUM}")
    return number
