"""The bench that certifies epsilon: it believes an honest gateway and finds each that leaks."""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.privacy.sampler import discrete_laplace
from agent.record import Record
from hil.__main__ import main
from hil.bench import BENCHES, privacy
from hil.bench.privacy import (
    ALPHA,
    CHANCE_Z,
    EPSILON,
    QUICK_WINDOWS,
    Split,
    alert_on_raw,
    audit,
    correlation,
    draw_twice,
    expected_bound,
    least_bound,
    least_share,
    log_raw,
    log_raw_unnamed,
    misfit_z,
    offset_by_count,
    timing,
)
from hil.hall import OFFSET_S, Hall, Leak

# The bound


def tail(n: int, hits: int, share: float) -> float:
    """P[at least so many hits of n], exactly."""
    return math.fsum(
        math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits, n + 1)
    )


@given(st.integers(1, 60), st.data(), st.sampled_from([0.05, 1e-3, ALPHA]))
def test_a_share_below_its_bound_shows_so_many_hits_no_oftener_than_alpha(
    n: int, data: st.DataObject, alpha: float
) -> None:
    hits = data.draw(st.integers(0, n))
    bound = least_share(hits, n, alpha)
    assert 0 <= bound <= hits / n
    assert hits == 0 or tail(n, hits, bound) <= alpha * (1 + 1e-6)


def test_the_bound_is_what_a_million_and_a_hundred_thousand_windows_can_show() -> None:
    assert expected_bound(10**6) == pytest.approx(0.2394, abs=5e-5)
    assert expected_bound(QUICK_WINDOWS) == pytest.approx(0.2165, abs=5e-5)
    assert least_bound(10**6) == pytest.approx(0.2288, abs=5e-5)
    assert least_bound(QUICK_WINDOWS) == pytest.approx(0.1830, abs=5e-5)


def test_the_bound_nears_epsilon_from_below() -> None:
    bounds = [expected_bound(10**power) for power in range(3, 10)]
    assert bounds == sorted(bounds)
    assert 0.249 < bounds[-1] < EPSILON


@pytest.mark.parametrize("hits", [[10, 900], [900, 10]])
def test_what_is_rarer_with_the_crossing_tells_as_much(hits: list[float]) -> None:
    split = Split(hits, [1000, 1000])
    assert split.either_way() == pytest.approx(Split([10, 900], [1000, 1000]).least_epsilon())
    assert split.either_way() > 2


# The whole way


@pytest.mark.slow
def test_a_hundred_thousand_windows_show_epsilon_and_no_more() -> None:
    windows = 100_000  # `make certify` takes a million, and comes nearer
    found = audit(windows)
    assert found.windows == windows
    assert 0.18 < least_bound(windows) < found.epsilon <= EPSILON
    assert found.beside <= EPSILON


def count_shows_raw(hall: Hall, counts: dict[str, int], record: Record) -> None:
    values: Any = record.values
    values["towards"]["count"] = counts["towards"]


LEAKS_BESIDE = [alert_on_raw, log_raw, log_raw_unnamed, count_shows_raw]


@pytest.mark.parametrize("leak", LEAKS_BESIDE)
def test_a_gateway_that_tells_the_raw_count_beside_the_figure_fails(leak: Leak) -> None:
    found = audit(4000, sensors=20, leak=leak)
    assert found.beside > EPSILON, found
    assert found.certain > EPSILON
    assert found.epsilon <= EPSILON


def test_a_gateway_that_draws_noise_twice_fails() -> None:
    found = audit(20_000, leak=draw_twice)
    assert found.epsilon > EPSILON, found


def test_an_alert_on_the_released_figure_is_no_leak(tmp_path: Path) -> None:
    with Hall(tmp_path, crowd=50) as hall:
        loud = [hall.window({"towards": 25, "away": 26}) for _ in range(60)]
    told = [any("alert/people" in fact for fact in each.own["hall-0"]) for each in loud]
    assert any(told)
    found = audit(10_000, crossings=25, crowd=50)
    assert found.certain <= EPSILON, found


def test_an_honest_gateway_says_nothing_that_tells(tmp_path: Path) -> None:
    with Hall(tmp_path) as hall:
        empty, full = (hall.window({"towards": n, "away": n}) for n in (0, 300))
    assert min(full.figures["hall-0"]["towards"]) > max(empty.figures["hall-0"]["towards"]) + 50
    own = [
        {fact for fact in told.own["hall-0"] if not fact.startswith(PLACES)}
        for told in (empty, full)
    ]
    assert own[0] == own[1]
    assert empty.common == full.common


PLACES = tuple(f"live/people {name}=" for name in ("seq", "start", "end"))

# What a window must have passed: the gateway's own code, from the hand-over to the payload.
WAY = {
    "agent.pipeline:Pipeline._take",
    "agent.window:Windower.add",
    "agent.phenomena.people:Counted.add",
    "agent.channels:PeopleChannel._record",
    "agent.phenomena.people:Counted.take",
    "agent.privacy.policy:Policy.release",
    "agent.privacy.sampler:discrete_laplace",
    "agent.quality:grade_people",
    "agent.rules:Rules.look",
    "agent.writer:Writer.commit",
    "agent.record:Record.body",
    "agent.spool:Spool.append",
    "agent.fresh:Fresh.due",
    "agent.outbox:Outbox.next",
    "agent.record:batch",
    "agent.delivery:Delivery._prepare",
    "agent.delivery:Delivery._let_go",
    "agent.spool:Spool.acknowledge",
}


def test_a_window_goes_the_gateways_own_way(tmp_path: Path) -> None:
    passed: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            passed.add(f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}")

    with Hall(tmp_path) as hall:
        sys.setprofile(note)
        try:
            hall.window({"towards": 1, "away": 1})
        finally:
            sys.setprofile(None)
    assert passed >= WAY, WAY - passed


# The time


@pytest.mark.slow
def test_the_time_of_publication_tells_nothing_of_the_count() -> None:
    assert timing() < 1


@pytest.mark.parametrize("offset_s", [0.0, 2.0, 2.1])
def test_no_offset_is_so_short_that_the_time_tells_of_the_count(offset_s: float) -> None:
    assert timing(1000, offset_s=offset_s) < 1


def test_without_the_offset_the_work_of_each_crossing_shows() -> None:
    assert timing(1000, is_timed=False) > 1


def test_an_offset_that_grows_by_fifty_microseconds_a_crossing_shows() -> None:
    assert timing(1000, leak=offset_by_count) > 1


def test_a_record_leaves_at_the_offset_whenever_it_was_closed(tmp_path: Path) -> None:
    with Hall(tmp_path, sensors=3) as hall:
        for late_s in (0.0, 0.3, 3.9):
            told = hall.window({"towards": 4, "away": 0}, late_s=late_s)
            assert list(told.left_s.values()) == pytest.approx([OFFSET_S] * 3, abs=1e-6)


def test_a_time_that_never_changes_has_no_correlation() -> None:
    assert correlation([1, 2, 3], [6.1, 6.1, 6.1]) == 0
    assert correlation([1, 2, 3], [1.0, 2.0, 3.0]) == pytest.approx(1)


# The sampler


@pytest.mark.parametrize(("epsilon", "fits"), [("1/4", True), ("26/100", False)])
def test_the_misfit_tells_the_law_from_one_near_it(epsilon: str, fits: bool) -> None:
    dice = random.Random(5)
    seen = Counter(discrete_laplace(Fraction(epsilon), dice.randrange) for _ in range(100_000))
    assert (misfit_z(seen) < CHANCE_Z) is fits


# The verb


def test_the_verb_prints_the_table_and_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = privacy.figures(10**6)
    values = {row.key: 1.0 if row.target is None else row.target for row in rows}
    monkeypatch.setattr(privacy, "measure", lambda *_: values)
    assert main(["bench", "privacy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == values
    values["epsilon"] = 0.2501
    assert main(["bench", "privacy"]) == 1
    assert "MISS" in capsys.readouterr().out
    assert "privacy" in BENCHES


def test_a_small_run_gives_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "SAMPLES", 5000)
    monkeypatch.setattr(privacy, "TIMED_WINDOWS", 200)
    values = privacy.measure(2000)
    assert set(values) == {row.key for row in privacy.figures(2000)}
