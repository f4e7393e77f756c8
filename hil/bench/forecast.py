"""Short forecasts against persistence ("it stays as it is"), on the recorded winter weeks.

    python -m hil bench forecast              # tables
    python -m hil bench forecast --json       # figures

Three tables. `methods`: the mean absolute error of each method, as skill against persistence;
what a method has to be told (a damping, a number of days) is chosen on all other weeks and scored
on the week left out. `weeks`: the gateway's own forecaster, week by week, as it learns.
`crossings`: was a threshold foretold, by the value expected or by the end of the interval?

Recordings (hil/bench/winters.py): $YUKIMI_RECORDINGS, else ../shared/recordings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp

from agent.phenomena.forecast import Forecast

from .figures import document
from .winters import Series, Values, folder_of_recordings, is_over, snowfalls, temperatures

HOUR_S = 3600
WARM_UP_HOURS = 48  # not scored: each method has to learn something
DISPATCH_CM = 10.0


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of some forecasts."""

    count: int
    mae: float
    persistence_mae: float

    @property
    def skill(self) -> float:
        """1 - MAE / MAE of persistence."""
        return 1 - self.mae / self.persistence_mae


# Methods: each returns the forecast issued at each hour, from that hour and those before it.


def persistence(series: Series, _: float) -> Values:
    """It stays as it is."""
    return list(series.values)


def damped_trend(series: Series, damping: float) -> Values:
    """Go on by a part of the change over the last horizon."""
    return _go_on(series, [damping] * len(series.values), series.hours_ahead)


def damped_last_hour(series: Series, damping: float) -> Values:
    """Go on by a part of the last hour's change, as often as the horizon has hours."""
    return _go_on(series, [damping * series.hours_ahead] * len(series.values), 1)


def learnt_trend(series: Series, memory_days: float) -> Values:
    """Damped trend whose damping is the least-squares one of the days before."""
    values, ahead = series.values, series.hours_ahead
    dampings, squares, products = [], 1.0, 0.0
    for now, value in enumerate(values):
        issued = now - ahead
        change = _change(series, issued, ahead)
        if change is not None and value is not None and issued >= 0:
            kept = exp(-1 / 24 / memory_days)
            squares = squares * kept + change**2
            products = products * kept + change * (value - (values[issued] or 0.0))
        dampings.append(products / squares)
    return _go_on(series, dampings, ahead)


def kalman(series: Series, damping: float) -> Values:
    """Local level and damped slope, a steady-state filter (gains 0.9 and 0.5 an hour)."""
    forecasts: Values = []
    level, slope = None, 0.0
    for value in series.values:
        if level is not None:
            slope *= damping
            level += slope
        if value is not None:
            surprise = value - level if level is not None else 0.0
            level = value if level is None else level + 0.9 * surprise
            slope += 0.5 * surprise
        steps = sum(damping**step for step in range(1, series.hours_ahead + 1))
        forecasts.append(None if value is None or level is None else level + slope * steps)
    return _not_below(series, forecasts)


def daily_cycle(series: Series, memory_days: float) -> Values:
    """Change as on the mean of the last days at this hour."""
    return [
        None if value is None else value + mean
        for value, mean in zip(series.values, _hourly_means(series, memory_days), strict=True)
    ]


def daily_cycle_and_trend(series: Series, damping: float) -> Values:
    """As the daily cycle (10 days), and a part of what the last change was beyond it."""
    means = _hourly_means(series, 10.0)
    forecasts: Values = []
    for now, value in enumerate(series.values):
        change = _change(series, now, series.hours_ahead)
        beyond = 0.0 if change is None else change - means[now - series.hours_ahead]
        forecasts.append(None if value is None else value + means[now] + damping * beyond)
    return forecasts


def towards_air(series: Series, part: float) -> Values:
    """The surface goes a part of the way to the air's temperature."""
    return [
        None if value is None or air is None else value + part * (air - value)
        for value, air in zip(series.values, series.station.air_c, strict=True)
    ]


def _go_on(series: Series, dampings: Sequence[float], over_hours: int) -> Values:
    forecasts: Values = []
    for now, value in enumerate(series.values):
        change = _change(series, now, over_hours)
        known = value is not None and change is not None
        forecasts.append((value or 0.0) + dampings[now] * (change or 0.0) if known else None)
    return _not_below(series, forecasts)


def _change(series: Series, now: int, over_hours: int) -> float | None:
    if now < over_hours:
        return None
    value, before = series.values[now], series.values[now - over_hours]
    return None if value is None or before is None else value - before


def _not_below(series: Series, forecasts: Values) -> Values:
    """What has fallen stays: an accumulation is never forecast below the present."""
    if not series.is_accumulation:
        return forecasts
    return [
        None if forecast is None or value is None else max(value, forecast)
        for forecast, value in zip(forecasts, series.values, strict=True)
    ]


def _hourly_means(series: Series, memory_days: float) -> list[float]:
    """Return for each hour the mean change that followed this hour of the day, fading with age."""
    means, weights, now_means = [0.0] * 24, [0.0] * 24, []
    for now, at_s in enumerate(series.station.at_s):
        change = _change(series, now, series.hours_ahead)
        if change is not None:
            hour = int(series.station.at_s[now - series.hours_ahead] // HOUR_S) % 24
            weights[hour] = weights[hour] * exp(-1 / memory_days) + 1
            means[hour] += (change - means[hour]) / (weights[hour] + 0.5)
        now_means.append(means[int(at_s // HOUR_S) % 24])
    return now_means


Method = Callable[[Series, float], Values]
PARTS = [part / 10 for part in range(1, 11)]
DAYS = [3.0, 5.0, 10.0]
FOR_TEMPERATURES: dict[str, tuple[Method, list[float]]] = {
    "persistence": (persistence, [0.0]),
    "damped trend": (damped_trend, PARTS),
    "damped trend, damping learnt": (learnt_trend, DAYS),
    "level and damped slope (Kalman)": (kalman, PARTS),
    "daily cycle": (daily_cycle, DAYS),
    "daily cycle and damped trend": (daily_cycle_and_trend, PARTS),
    "towards the air's temperature": (towards_air, PARTS),
}
FOR_SNOWFALLS: dict[str, tuple[Method, list[float]]] = {
    "persistence": (persistence, [0.0]),
    "damped trend": (damped_trend, PARTS),
    "damped trend, damping learnt": (learnt_trend, DAYS),
    "damped change of the last hour": (damped_last_hour, PARTS),
    "level and damped slope (Kalman)": (kalman, PARTS),
}


def score(series: Series, forecasts: Values, hours: Iterable[int]) -> Score:
    """Score the forecasts issued at `hours`, as far as their outcome is known."""
    own, stays = [], []
    for hour in hours:
        forecast, value, outcome = forecasts[hour], series.values[hour], series.outcome(hour)
        if hour >= WARM_UP_HOURS and not (forecast is None or value is None or outcome is None):
            own.append(abs(outcome - forecast))
            stays.append(abs(outcome - value))
    return Score(len(own), sum(own) / len(own), sum(stays) / len(own))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A method's score on a week, with the parameter chosen on the others."""

    series: str
    week: int
    parameter: float
    score: Score


def leave_each_week_out(
    all_series: Sequence[Series], method: Method, parameters: Sequence[float]
) -> list[LeftOut]:
    """Score `method` on each week with the parameter that is best on all other weeks.

    The same week of another quantity at the same station is no other week.
    """
    weeks = [(series, week) for series in all_series for week in range(len(series.weeks()))]
    scores: dict[tuple[str, int, float], Score] = {}
    for parameter in parameters:
        for series in all_series:
            forecasts = method(series, parameter)
            for week, hours in enumerate(series.weeks()):
                scores[series.name, week, parameter] = score(series, forecasts, hours)

    def elsewhere(left: Series, left_week: int, parameter: float) -> float:
        return sum(
            scores[series.name, week, parameter].skill
            for series, week in weeks
            if week != left_week or series.station is not left.station
        )

    left_out = []
    for series, week in weeks:
        best = max(parameters, key=partial(elsewhere, series, week))
        left_out.append(LeftOut(series.name, week + 1, best, scores[series.name, week, best]))
    return left_out


@dataclass(frozen=True, slots=True)
class Issued:
    """A forecast of the gateway's forecaster, and what came of it."""

    hour: int
    now: float
    forecast: Forecast
    is_published: bool
    outcome: float

    @property
    def is_held(self) -> bool:
        """Whether the interval held the outcome."""
        return self.forecast.low - 1e-9 <= self.outcome <= self.forecast.high + 1e-9


def play(series: Series) -> list[Issued]:
    """Run the gateway's forecaster through a recording; return all whose outcome is known."""
    forecaster = series.forecaster()
    issued = []
    for hour, (at_s, value) in enumerate(zip(series.station.at_s, series.values, strict=True)):
        published = forecaster.update(at_s, value)
        outcome = series.outcome(hour)
        if value is not None and forecaster.latest is not None and outcome is not None:
            is_published = published is not None
            issued.append(Issued(hour, value, forecaster.latest, is_published, outcome))
    return issued


def score_of(issued: Sequence[Issued]) -> Score | None:
    """Return the score of some forecasts; None of none."""
    if not issued:
        return None
    return Score(
        len(issued),
        sum(abs(it.outcome - it.forecast.value) for it in issued) / len(issued),
        sum(abs(it.outcome - it.now) for it in issued) / len(issued),
    )


@dataclass(slots=True)
class Decisions:
    """Hours in which something was foretold (or not), and came (or not)."""

    hits: int = 0
    misses: int = 0
    false_alarms: int = 0
    quiet: int = 0

    def add(self, foretold: bool, came: bool) -> None:
        """Count an hour."""
        if came:
            self.hits += foretold
            self.misses += not foretold
        else:
            self.false_alarms += foretold
            self.quiet += not foretold

    @property
    def hit_rate(self) -> float:
        """The share of what came that was foretold."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def false_alarm_ratio(self) -> float:
        """The share of what was foretold that did not come."""
        return self.false_alarms / max(1, self.hits + self.false_alarms)

    @property
    def count(self) -> int:
        """All hours."""
        return self.hits + self.misses + self.false_alarms + self.quiet

    @property
    def peirce(self) -> float:
        """Hit rate less the rate of false alarms in quiet hours; 0: persistence, and any guess."""
        return self.hit_rate - self.false_alarms / max(1, self.false_alarms + self.quiet)


Bound = Callable[[Forecast], float]


def crossings(
    issued: Iterable[Issued], threshold: float, *, is_falling: bool, bound: Bound
) -> Decisions:
    """Count hours before which a temperature was on this side of `threshold`.

    `bound` is what of the forecast has to be beyond it for the crossing to be foretold.
    """
    decisions = Decisions()
    sign = -1 if is_falling else 1
    for it in issued:
        if it.hour >= WARM_UP_HOURS and sign * it.now < sign * threshold:
            foretold = sign * bound(it.forecast) >= sign * threshold
            decisions.add(foretold, sign * it.outcome >= sign * threshold)
    return decisions


def dispatches(series: Series, bound: Bound) -> Decisions:
    """Count hours before which DISPATCH_CM were not reached, as if cleared whenever they were."""
    decisions = Decisions()
    issued = {it.hour: it for it in play(series)}
    spell = [0.0]
    for hour, value in enumerate(series.values):
        if value is None:
            continue
        spell.append(value)
        if is_over(spell) or value - spell[0] >= DISPATCH_CM:
            spell = [value]
        if hour in issued and hour >= WARM_UP_HOURS:
            it = issued[hour]
            reached = spell[0] + DISPATCH_CM
            decisions.add(bound(it.forecast) >= reached, it.outcome >= reached)
    return decisions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    folder = folder_of_recordings()
    if not folder.is_dir():
        print(f"no recordings at {folder}: set YUKIMI_RECORDINGS", file=sys.stderr)
        return 69
    warm, snowy = temperatures(folder), snowfalls(folder)
    if arguments.json:
        print(document(_figures([*warm, *snowy])))
        return 0
    for all_series, methods in ((warm, FOR_TEMPERATURES), (snowy, FOR_SNOWFALLS)):
        _print_methods(all_series, methods)
    for series in (*warm, *snowy):
        _print_weeks(series)
    _print_crossings(warm, snowy)
    return 0


def _figures(all_series: Iterable[Series]) -> dict[str, float]:
    figures = {}
    for series in all_series:
        name = series.name.replace(", ", "_").replace(" ", "_").lower()
        issued = [it for it in play(series) if it.hour >= WARM_UP_HOURS]
        scored = score_of(issued)
        if scored is not None:
            figures[f"{name}_skill_ratio"] = round(scored.skill, 3)
            figures[f"{name}_held_ratio"] = round(_share(it.is_held for it in issued), 3)
            figures[f"{name}_published_ratio"] = round(_share(it.is_published for it in issued), 3)
    return figures


def _share(those: Iterable[bool]) -> float:
    listed = list(those)
    return sum(listed) / len(listed) if listed else float("nan")


def _print_methods(
    all_series: Sequence[Series], methods: dict[str, tuple[Method, list[float]]]
) -> None:
    print("skill of each week left out [parameter chosen on the others]")
    for name, (method, parameters) in methods.items():
        those = all_series[:1] if method is towards_air else all_series
        left_out = leave_each_week_out(those, method, parameters)
        for series in those:
            mine = [one for one in left_out if one.series == series.name]
            count = sum(one.score.count for one in mine)
            own = sum(one.score.mae * one.score.count for one in mine) / count
            stays = sum(one.score.persistence_mae * one.score.count for one in mine) / count
            weeks = "  ".join(f"{one.score.skill:+.2f} [{one.parameter:g}]" for one in mine)
            print(f"{name:<32} {series.name:<24} {count:>4}  {1 - own / stays:+.3f}   {weeks}")
    print()


def _print_weeks(series: Series) -> None:
    print(f"{series.name}: {series.hours_ahead} h ahead, as it learns")
    print("week  forecasts    MAE  stays  skill  held  published  skill  held")
    issued = play(series)
    for week, hours in enumerate((*series.weeks(), range(len(series.values))), start=1):
        these = [it for it in issued if it.hour in hours and it.hour >= WARM_UP_HOURS]
        shown = [it for it in these if it.is_published]
        all_of, published = score_of(these), score_of(shown)
        if all_of is None:
            continue
        row = f"{week if week <= len(series.weeks()) else 'all':>4}  {all_of.count:>9}  "
        row += f"{all_of.mae:5.2f}  {all_of.persistence_mae:5.2f}  {all_of.skill:+.2f}  "
        row += f"{_share(it.is_held for it in these):4.0%}  {len(shown):>9}"
        if published is not None:
            row += f"  {published.skill:+.2f}  {_share(it.is_held for it in shown):4.0%}"
        print(row)
    print()


def _print_crossings(warm: Sequence[Series], snowy: Sequence[Series]) -> None:
    print(f"{'threshold':<50}  hours  came  foretold  hits  hit rate  false  Peirce")
    rows = []
    for series, thresholds in ((warm[0], (-5.0, -10.0, -20.0)), (warm[1], (0.0,))):
        issued = play(series)
        for threshold in thresholds:
            for is_falling in (True, False):
                what = f"{series.name} {'falls' if is_falling else 'rises'} to {threshold:g} degC"
                for how, bound in (("value", value), ("interval", low if is_falling else high)):
                    found = crossings(issued, threshold, is_falling=is_falling, bound=bound)
                    rows.append((f"{what}, {how}", found))
    for series in snowy:
        for how, bound in (("value", value), ("interval", high)):
            rows.append((f"{series.name} to {DISPATCH_CM:g} cm, {how}", dispatches(series, bound)))
    for what, it in rows:
        print(
            f"{what:<50}  {it.count:>5}  {it.hits + it.misses:>4}  {it.hits + it.false_alarms:>8}"
            f"  {it.hits:>4}  {it.hit_rate:>8.0%}  {it.false_alarm_ratio:>5.0%}  {it.peirce:+6.2f}"
        )


def value(forecast: Forecast) -> float:
    """What is expected."""
    return forecast.value


def low(forecast: Forecast) -> float:
    """What one outcome in ten is below."""
    return forecast.low


def high(forecast: Forecast) -> float:
    """What one outcome in ten is above."""
    return forecast.high
