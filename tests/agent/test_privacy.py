"""What leaves about people: the exact law of the noise, drawn once, and nothing besides."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.channels import PeopleChannel
from agent.clock import Clock, Look
from agent.collector import Collected
from agent.phenomena.people import Counted
from agent.privacy.policy import Policy
from agent.privacy.release import Sealed
from agent.privacy.sampler import RandBelow, ci95, discrete_laplace, noise_sd
from agent.record import Record
from agent.window import Window
from drivers.base import Alive, Crossing, Reading, Trouble

ROOT = Path(__file__).resolve().parents[2]
S = 1_000_000_000
MIDNIGHT_NS = 1_800_057_600 * S
DEFAULT = Fraction(1, 4)
SAMPLES = 200_000
ALPHA_Z = 4.75  # one in a million, one-sided normal


def law(epsilon: Fraction, x: int) -> float:
    """P[X = x], as it is written in the paper."""
    a = math.exp(-epsilon)
    return (1 - a) / (1 + a) * a ** abs(x)


# The sampler


class UndecidedError(Exception):
    """The sampler asked for more randomness than a path of choices holds."""

    def __init__(self, chances: Sequence[float]) -> None:
        self.chances = chances


class Draw:
    """A uniform integer below `n` that takes no more shape than it is asked for."""

    def __init__(self, n: int, choose: Callable[[Sequence[float]], int]) -> None:
        self._n = n
        self._choose = choose
        self._value: int | None = None

    def __int__(self) -> int:
        if self._value is None:
            self._value = self._choose([1 / self._n] * self._n)
        return self._value

    def __lt__(self, other: Draw | int) -> bool:
        below = int(other) / self._n
        return self._choose([1 - below, below]) == 1

    def __eq__(self, other: object) -> bool:
        return int(self) == other

    def __add__(self, other: int) -> int:
        return int(self) + other

    __hash__ = None  # type: ignore[assignment]


def enumerated(epsilon: Fraction, least: float) -> tuple[dict[int, float], float]:
    """Follow every path of choices that is at least as probable as `least`.

    Return the probability found for each outcome, and that of all paths not followed.
    """
    found: dict[int, float] = {}
    left = 0.0
    paths: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while paths:
        path, mass = paths.pop()
        steps = iter(path)

        def choose(chances: Sequence[float]) -> int:
            if 1 in chances:
                return chances.index(1)
            step = next(steps, None)  # noqa: B023  (called within this turn of the loop only)
            if step is None:
                raise UndecidedError(chances)
            return step

        def rand_below(n: int) -> int:
            return Draw(n, choose)  # type: ignore[return-value]

        try:
            outcome = discrete_laplace(epsilon, rand_below)
        except UndecidedError as undecided:
            for choice, chance in enumerate(undecided.chances):
                if mass * chance >= least:
                    paths.append(((*path, choice), mass * chance))
                else:
                    left += mass * chance
        else:
            found[outcome] = found.get(outcome, 0.0) + mass
    return found, left


@pytest.mark.parametrize("epsilon", ["1", "1/2", "1/4", "2/3", "2"])
def test_the_sampler_draws_the_law_itself_choice_by_choice(epsilon: str) -> None:
    found, left = enumerated(Fraction(epsilon), 3e-6)
    assert math.fsum(found.values()) + left == pytest.approx(1, abs=1e-9)
    assert left < 0.1
    for outcome in range(-12, 13):
        lower = found.get(outcome, 0.0)
        assert lower - 1e-12 <= law(Fraction(epsilon), outcome) <= lower + left + 1e-12
        assert lower == pytest.approx(found.get(-outcome, 0.0), abs=1e-12)


@pytest.mark.parametrize("epsilon", ["1/4", "3/8", "1"])
def test_two_hundred_thousand_samples_follow_the_law(epsilon: str) -> None:
    chance = Fraction(epsilon)
    crowd = random.Random(2027)
    seen = Counter(discrete_laplace(chance, crowd.randrange) for _ in range(SAMPLES))
    reach = next(k for k in range(1000) if law(chance, k) * SAMPLES < 50)
    cells = [(seen[x], law(chance, x) * SAMPLES) for x in range(-reach + 1, reach)]
    inside = sum(count for count, _ in cells), sum(expected for _, expected in cells)
    cells.append((SAMPLES - inside[0], SAMPLES - inside[1]))
    chi2 = sum((count - expected) ** 2 / expected for count, expected in cells)
    degrees = len(cells) - 1
    # Wilson and Hilferty: the cube root of chi-square over its degrees is nearly normal.
    spread = 2 / (9 * degrees)
    assert ((chi2 / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread) < ALPHA_Z


def test_the_systems_own_randomness_gives_noise_of_the_promised_width() -> None:
    samples = [discrete_laplace(DEFAULT) for _ in range(20_000)]
    # The fourth moment of this law is about six times the variance squared.
    tolerance = ALPHA_Z * math.sqrt(5 / len(samples))
    assert statistics.pvariance(samples, 0) == pytest.approx(noise_sd(DEFAULT) ** 2, rel=tolerance)
    assert abs(statistics.fmean(samples)) < ALPHA_Z * noise_sd(DEFAULT) / math.sqrt(len(samples))


DRAW = """
from fractions import Fraction
from agent.privacy.policy import Policy
policy = Policy(900, Fraction(1, 4))
print([policy.release({"total": 0})["total"]["unclamped"] for _ in range(40)])
"""


def test_no_two_lives_draw_the_same_noise() -> None:
    """A generator that begins somewhere could be begun there again, and the noise taken off."""
    draw = [sys.executable, "-c", DRAW]
    lives = [subprocess.check_output(draw, cwd=ROOT, text=True) for _ in range(2)]
    assert lives[0] != lives[1]


@pytest.mark.parametrize("epsilon", [Fraction(0), Fraction(-1, 4)])
def test_without_noise_there_is_no_sample(epsilon: Fraction) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        discrete_laplace(epsilon)


EPSILONS = [Fraction(text) for text in ("1/100", "1/8", "1/4", "3/8", "1", "3", "20")]


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_stated_standard_deviation_is_the_laws(epsilon: Fraction) -> None:
    reach = round(60 / epsilon) + 5
    variance = math.fsum(law(epsilon, x) * x * x for x in range(-reach, reach + 1))
    assert noise_sd(epsilon) == pytest.approx(math.sqrt(variance), rel=1e-9)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_stated_interval_is_the_smallest_that_holds_19_of_20(epsilon: Fraction) -> None:
    half = ci95(epsilon)
    within = math.fsum(law(epsilon, x) for x in range(-half, half + 1))
    assert within >= 0.95
    assert half == 0 or within - 2 * law(epsilon, half) < 0.95


def test_the_default_is_as_published() -> None:
    assert (round(noise_sd(DEFAULT), 2), ci95(DEFAULT)) == (5.64, 12)


@pytest.mark.parametrize("epsilon", [Fraction(1, 10**30), Fraction(10**6)])
def test_no_epsilon_stops_the_daemon(epsilon: Fraction) -> None:
    accuracy = Policy(900, epsilon).accuracy()
    json.dumps(accuracy, allow_nan=False)


# The release


class Scripted:
    """Randomness that gives the noise a test wants: the sampler's choices, once."""

    def __init__(self, magnitude: int, *, negative: bool = False) -> None:
        # At epsilon 1: no uniform part, `magnitude` steps of the geometric, then the sign.
        step, stop = [0, 0, 1], [0, 1]
        self._choices = [0, 0, *step * magnitude, *stop, int(negative)]
        self.draws = 0

    def __call__(self, n: int) -> int:
        self.draws += 1
        return self._choices.pop(0) % n


def noise_of(policy: Policy, counts: Mapping[str, int], rand_below: RandBelow) -> list[int]:
    values = policy.release(counts, rand_below)
    noise = []
    for direction, count in counts.items():
        released = values[direction]
        assert isinstance(released, dict)
        noise.append(released["unclamped"] - count)
    return noise


@given(st.integers(0, 2**64), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_noise_does_not_depend_on_the_count(seed: int, count: int, other: int) -> None:
    policy = Policy(900, DEFAULT)
    one = noise_of(policy, {"towards": count, "away": count}, random.Random(seed).randrange)
    two = noise_of(policy, {"towards": other, "away": other}, random.Random(seed).randrange)
    assert one == two


def test_each_direction_has_noise_of_its_own() -> None:
    policy = Policy(900, DEFAULT)
    crowd = random.Random(3)
    pairs = [noise_of(policy, {"towards": 5, "away": 5}, crowd.randrange) for _ in range(400)]
    same = sum(towards == away for towards, away in pairs)
    # Two independent draws agree with probability 1/16; 400 of 400 would mean one draw for both.
    assert same < 100
    assert len({towards for towards, _ in pairs}) > 10


@given(st.integers(0, 2**64), st.integers(0, 40))
def test_the_count_shown_is_the_unclamped_one_cut_at_zero(seed: int, count: int) -> None:
    values = Policy(900, DEFAULT).release({"total": count}, random.Random(seed).randrange)
    released = values["total"]
    assert isinstance(released, dict)
    assert released["count"] == max(0, released["unclamped"])
    assert set(released) == {"count", "unclamped"}


def test_the_sum_over_empty_windows_is_nobody_and_that_of_what_is_shown_is_not() -> None:
    policy, chance, windows = Policy(900, DEFAULT), random.Random(5).randrange, 10_000
    released = [policy.release({"total": 0}, chance)["total"] for _ in range(windows)]
    summed, shown = (sum(each[name] for each in released) for name in ("unclamped", "count"))  # type: ignore[index]
    assert abs(summed) < ALPHA_Z * noise_sd(DEFAULT) * math.sqrt(windows)
    assert shown / windows == pytest.approx(2.0, abs=0.2)  # what cutting at zero adds


def test_a_release_states_its_accuracy() -> None:
    values = Policy(900, DEFAULT).release({"towards": 1, "away": 2})
    assert list(values) == ["towards", "away", "epsilon", "noise_sd", "ci95"]
    assert (values["epsilon"], values["noise_sd"], values["ci95"]) == ("1/4", 5.64, 12)


def test_a_window_without_a_working_sensor_gives_no_count_at_all() -> None:
    values = Policy(900, DEFAULT).withheld(("towards", "away"))
    assert values["towards"] is None
    assert values["away"] is None


def test_the_policys_hash_changes_with_what_is_promised_and_with_nothing_else() -> None:
    policy = Policy(900, DEFAULT)
    assert policy.sha256 == Policy(900, Fraction("0.25")).sha256
    assert len({policy.sha256, Policy(1800, DEFAULT).sha256, Policy(900, Fraction(1)).sha256}) == 3


# What holds single crossings


def counted(towards: int = 0, away: int = 0) -> Counted:
    tally = Counted(("towards", "away"))
    for _ in range(towards):
        tally.add(Crossing("towards", 0))
    for _ in range(away):
        tally.add(Crossing("away", 0))
    return tally


def test_counts_can_be_taken_once() -> None:
    tally = counted(towards=3, away=1)
    assert tally.take() == {"towards": 3, "away": 1}
    with pytest.raises(RuntimeError, match="once"):
        tally.take()


def test_a_crossing_that_comes_after_the_release_counts_for_nobody() -> None:
    tally = counted(towards=3)
    tally.take()
    tally.add(Crossing("towards", 0))
    with pytest.raises(RuntimeError):
        tally.take()


def test_a_direction_that_the_sensor_does_not_have_is_not_counted() -> None:
    tally = Counted(("total",))
    tally.add(Crossing("towards", 0))
    assert tally.take() == {"total": 0}


def test_seconds_alive_are_counted_once_a_second() -> None:
    tally = counted()
    for at_ns in (0, S // 2, S - 1, S, 5 * S, 5 * S + 1):
        tally.add(Alive(at_ns))
    assert tally.alive_s == 3


def test_only_troubles_are_kept_of_what_is_no_crossing() -> None:
    tally = counted()
    tally.add(Trouble("bus_error", 0))
    tally.add(Reading("people_1", 17.0, 0))
    assert tally.troubles == {"bus_error": 1}
    assert tally.take() == {"towards": 0, "away": 0}


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format])
def test_what_holds_crossings_prints_nothing_of_them(show: Callable[[object], str]) -> None:
    one, other = Crossing("towards", 123456789), Crossing("away", 987654321)
    assert show(one) == show(other)
    assert show(counted(towards=7)) == show(counted(away=3))
    window = Window(0, S, counted(towards=7))
    assert show(window) == show(Window(0, S, counted(away=3)))
    polls = Collected("door-1", [one]), Collected("door-1", [other])
    assert show(polls[0]) == show(polls[1])


@pytest.mark.parametrize("secret", [Crossing("towards", 1), counted(towards=1)])
@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_what_holds_crossings_cannot_be_carried_away(
    secret: object, carry: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError):
        carry(secret)


# The way of a people sensor


class Loaded(Policy):
    """A policy whose dice are a test's."""

    def release(
        self, counts: Mapping[str, int], rand_below: RandBelow | None = None
    ) -> dict[str, object]:
        return super().release(counts, Scripted(3))


TRUE_COUNT = 731


def way(policy: Policy | None = None) -> tuple[PeopleChannel, Clock]:
    clock = Clock(Look(0, MIDNIGHT_NS, True, 0.01), trust_system=False)
    channel = PeopleChannel(
        "door-1",
        policy=policy or Loaded(900, Fraction(1)),
        directions=("total",),
        now_ns=MIDNIGHT_NS,
    )
    return channel, clock


def lives(channel: PeopleChannel, *, until_s: int, crossings: int = 0) -> None:
    for second in range(until_s):
        at_ns = MIDNIGHT_NS + second * S
        channel.add(Alive(second * S), at_ns, now_ns=at_ns)
    for _ in range(crossings):
        channel.add(Crossing("total", 0), MIDNIGHT_NS + S, now_ns=MIDNIGHT_NS + S)


def test_nothing_of_people_is_kept_for_the_next_life() -> None:
    channel, _ = way()
    lives(channel, until_s=100, crossings=TRUE_COUNT)
    assert channel.state() == {}


def opened(closed: Sequence[Record | Sealed]) -> list[Record]:
    """Release what is sealed, as the pipeline does once it is reserved."""
    return [each.release(each.claim) if isinstance(each, Sealed) else each for each in closed]


def text_of(records: Sequence[Record]) -> str:
    return "".join(record.body(1) for record in records) + repr(records)


def test_a_people_record_holds_the_released_figure_and_not_the_true_one() -> None:
    channel, clock = way()
    lives(channel, until_s=900, crossings=TRUE_COUNT)
    records = opened(channel.advance(MIDNIGHT_NS + 902 * S, clock))
    assert len(records) == 1
    assert records[0].values["total"] == {"count": TRUE_COUNT + 3, "unclamped": TRUE_COUNT + 3}
    assert str(TRUE_COUNT) not in text_of(records)


def test_a_people_record_is_the_same_but_for_the_figure_whoever_passes() -> None:
    bodies = []
    for crossings in (0, TRUE_COUNT):
        channel, clock = way()
        lives(channel, until_s=880, crossings=crossings)
        records = opened(channel.advance(MIDNIGHT_NS + 902 * S, clock))
        bodies.append(json.loads(records[0].body(1)))
    for body in bodies:
        del body["values"]["total"]
    assert bodies[0] == bodies[1]
    assert bodies[0]["quality"] == {"flag": "good", "n": 880, "expected": 900}


def test_an_empty_window_is_published_like_any_other() -> None:
    channel, clock = way()
    lives(channel, until_s=900)
    assert opened(channel.advance(MIDNIGHT_NS + 902 * S, clock))[0].values["total"] is not None


def test_a_sensor_that_never_worked_gives_no_count_even_where_it_said_crossings() -> None:
    channel, clock = way()
    lives(channel, until_s=0, crossings=TRUE_COUNT)
    record = opened(channel.advance(MIDNIGHT_NS + 902 * S, clock))[0]
    assert record.values["total"] is None
    assert record.quality["flag"] == "missing"
    assert str(TRUE_COUNT) not in text_of([record])


def test_each_crossing_is_in_one_released_window_also_across_an_early_close() -> None:
    channel, clock = way()
    lives(channel, until_s=300, crossings=5)
    first = opened(channel.flush(MIDNIGHT_NS + 300 * S, clock, "clock_step"))
    for second in range(300, 900):
        at_ns = MIDNIGHT_NS + second * S
        channel.add(Alive(second * S), at_ns, now_ns=at_ns)
    channel.add(Crossing("total", 0), MIDNIGHT_NS + 600 * S, now_ns=MIDNIGHT_NS + 600 * S)
    second_half = opened(channel.advance(MIDNIGHT_NS + 902 * S, clock))
    released = [record.values["total"] for record in (*first, *second_half)]
    assert released == [{"count": 8, "unclamped": 8}, {"count": 4, "unclamped": 4}]


def test_a_covered_sensor_tells_of_nobody() -> None:
    channel, clock = way()
    lives(channel, until_s=100)
    for reason in ("obstructed", "stuck", "stale", "bus_error"):
        channel.add(Trouble(reason, 0), MIDNIGHT_NS + S, now_ns=MIDNIGHT_NS + S)
    record = opened(channel.advance(MIDNIGHT_NS + 902 * S, clock))[0]
    assert record.quality["reasons"] == ["bus_error"]
