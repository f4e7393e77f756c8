"""Clocks that step and drift, and what the gateway's clock makes of them."""

from __future__ import annotations

from agent.clock import Clock
from hil.faults.clock import Timeline

S = 1_000_000_000
BEGIN_UTC_NS = 1_770_000_000 * S
HOUR_NS = 3600 * S


class Truth:
    def __init__(self) -> None:
        self.ns = 500 * S

    def __call__(self) -> int:
        return self.ns


def test_synchronised_both_clocks_run_true_whatever_the_crystal_does() -> None:
    truth = Truth()
    timeline = Timeline(truth, begin_utc_ns=BEGIN_UTC_NS)
    timeline.drift(50.0)
    truth.ns += HOUR_NS
    look = timeline.look()
    assert look.boot_ns == 500 * S + HOUR_NS
    assert look.utc_ns == BEGIN_UTC_NS + HOUR_NS
    assert look.synchronised
    assert look.error_s == 0.005


def test_alone_both_clocks_drift_together_and_utc_steps_to_the_truth_at_the_end() -> None:
    truth = Truth()
    timeline = Timeline(truth, begin_utc_ns=BEGIN_UTC_NS)
    timeline.drift(40.0)
    timeline.drift(10.0)
    heal = timeline.lose_sync()
    truth.ns += HOUR_NS
    look = timeline.look()
    assert look.utc_ns - (BEGIN_UTC_NS + HOUR_NS) == 180_000_000  # 50 ppm of an hour
    assert look.boot_ns - (500 * S + HOUR_NS) == 180_000_000
    assert (look.synchronised, look.error_s) == (False, None)
    heal()
    truth.ns += HOUR_NS
    look = timeline.look()
    assert look.utc_ns == BEGIN_UTC_NS + 2 * HOUR_NS
    assert look.boot_ns == 500 * S + 2 * HOUR_NS + 180_000_000  # it never steps
    assert timeline.boot_ns() == look.boot_ns


def test_a_step_is_followed_while_somebody_vouches_for_the_clock_and_not_while_nobody_does() -> (
    None
):
    truth = Truth()
    timeline = Timeline(truth, begin_utc_ns=BEGIN_UTC_NS)
    clock = Clock(timeline.look(), trust_system=False)
    assert clock.known
    heal = timeline.step(-3600.0)
    change = clock.judge(timeline.look())
    assert change is not None
    assert (change.event, change.moved_ns) == ("stepped", -3600 * S)
    heal()
    assert clock.judge(timeline.look()) is None  # the control
    timeline.lose_sync()
    timeline.step(7200.0)
    assert clock.judge(timeline.look()) is None


def test_heal_undoes_everything() -> None:
    truth = Truth()
    timeline = Timeline(truth, begin_utc_ns=BEGIN_UTC_NS)
    timeline.lose_sync()
    timeline.drift(100.0)
    timeline.step(5.0)
    truth.ns += HOUR_NS
    timeline.heal()
    look = timeline.look()
    assert look.utc_ns == BEGIN_UTC_NS + HOUR_NS
    assert look.synchronised
