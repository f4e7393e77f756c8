"""Recorded winters below simulated gauges: bytes in, depth and snowfall out, beside the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hil.winter import HOUR_S, PASSER_CM, SERIES, Account, Setup, Truth, Winter, live, read

DEPTH_RMS_CM = 1.0
SNOWFALL_RMS_CM = 0.5
HOURS_KNOWN = 0.95
ULTRASONIC = ["maxbotix-hrxl", "campbell-sr50a"]


def winter(recordings: Path, name: str) -> Winter:
    return read(recordings / "snow" / name)


def part(whole: Winter, begin: int, end: int) -> Winter:
    return replace(
        whole,
        begin_ns=whole.begin_ns + begin * HOUR_S * 10**9,
        depths_cm=whole.depths_cm[begin:end],
        air_c=whole.air_c[begin:end],
    )


def gaps(account: Account) -> tuple[set[int], set[int]]:
    """Return the hours without a snowfall: in truth, and as told."""
    pairs = account.snowfall_cm()
    return (
        {hour for hour, (true, _) in enumerate(pairs) if true is None},
        {hour for hour, (_, said) in enumerate(pairs) if said is None},
    )


@pytest.fixture
def storms(recordings: Path) -> Winter:
    """The stormiest four days: 35 cm in a night, then cold and calm."""
    return part(winter(recordings, SERIES[0]), 95, 191)


@pytest.mark.slow
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("device", ULTRASONIC)
def test_a_whole_winter_comes_out_as_it_was(recordings: Path, name: str, device: str) -> None:
    """A window of a minute is measured every ten minutes: what lies between is not simulated."""
    truth = Truth(winter(recordings, name))
    account = live(truth, Setup(device, every_s=600, passers=20))  # type: ignore[arg-type]
    assert account.believed_rms_cm() <= DEPTH_RMS_CM
    assert account.snowfall_rms_cm() <= SNOWFALL_RMS_CM
    assert account.hours_known() >= HOURS_KNOWN
    assert account.clearings_s() == []
    true_gaps, told_gaps = gaps(account)
    assert true_gaps <= told_gaps
    # A device's code for "no echo", or somebody below, never became a depth that is believed.
    for each in account.told:
        if each.true_cm is None:
            is_gap = truth.depth_cm(each.end_s) is None  # until its very end
            assert each.depth_cm is None or (each.is_doubted and not is_gap)
        elif each.has_passer:
            assert each.depth_cm is None or each.is_doubted
            assert each.derived["ground"] is None or each.derived["ground"]["mode"] == "unknown"
        elif each.depth_cm is not None and not each.is_doubted:
            assert abs(each.depth_cm - each.true_cm) < PASSER_CM / 20


@pytest.mark.parametrize("device", ULTRASONIC)
def test_a_storm_is_measured_through_its_own_snow(storms: Winter, device: str) -> None:
    account = live(Truth(storms), Setup(device, every_s=600))  # type: ignore[arg-type]
    assert account.believed_rms_cm() <= DEPTH_RMS_CM
    assert account.snowfall_rms_cm() <= SNOWFALL_RMS_CM
    assert account.hours_known() >= HOURS_KNOWN - 0.03


def test_control_without_rejection_a_storm_hides_itself(storms: Winter) -> None:
    setup = Setup("maxbotix-hrxl", every_s=600)
    whole = live(Truth(storms), setup)
    assert whole.rejected > 0.05 * whole.samples
    assert whole.depth_rms_cm() <= DEPTH_RMS_CM
    account = live(Truth(storms), replace(setup, rejects=False))
    assert account.depth_rms_cm() > 5 * DEPTH_RMS_CM
    # What is left of it is not believed, so that hours are lost rather than wrong.
    assert account.hours_known() < 0.7


@pytest.mark.parametrize("correction", ["none", "twice"])
def test_control_the_speed_of_sound_uncorrected_or_corrected_twice(
    storms: Winter, correction: str
) -> None:
    once = Setup("campbell-sr50a", every_s=600)
    assert live(Truth(storms), once).believed_rms_cm() <= DEPTH_RMS_CM
    account = live(Truth(storms), replace(once, correction=correction))  # type: ignore[arg-type]
    assert account.believed_rms_cm() > 3 * DEPTH_RMS_CM


@pytest.mark.slow
@pytest.mark.parametrize("name", SERIES)
def test_on_a_ploughed_street_every_clearing_is_seen_and_no_snowfall_lost(
    recordings: Path, name: str
) -> None:
    truth = Truth(winter(recordings, name), ploughed=True)
    account = live(truth, Setup("campbell-sr50a"))
    assert len(truth.clearings_s) >= 8
    assert account.believed_rms_cm() <= DEPTH_RMS_CM
    assert account.snowfall_rms_cm() <= SNOWFALL_RMS_CM
    assert account.hours_known() >= HOURS_KNOWN
    seen_s = account.clearings_s()
    for at_s in truth.clearings_s:
        assert any(at_s < each <= at_s + 1800 for each in seen_s)
    # All else that began anew is ground that melted bare.
    others = [
        each for each in seen_s if not any(0 < each - at_s <= 1800 for at_s in truth.clearings_s)
    ]
    for each in others:
        depth_cm = truth.depth_cm(each)
        assert depth_cm is not None
        assert depth_cm < 2.0


def test_the_truth_is_the_record_on_every_hour(recordings: Path) -> None:
    whole = winter(recordings, SERIES[1])
    truth = Truth(whole)
    for hour, depth_cm in enumerate(whole.depths_cm[:-1]):
        before_s = truth.depth_cm(HOUR_S * hour - 0.001) if hour else depth_cm
        if depth_cm is None:
            assert before_s is None
        elif before_s is not None:
            assert before_s == pytest.approx(depth_cm, abs=0.01)
    assert sum(each is None for each in whole.depths_cm) == 8
    assert sum(each is None for each in truth.snowfall_cm) == 11
