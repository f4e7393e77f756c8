"""When UTC is known, when it stepped, and what is said of a record's time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import STEP_S, Clock, Look, Stamp

S = 1_000_000_000
UTC_NS = 1_800_057_600 * S


def look(
    boot_s: float = 100.0,
    *,
    ahead_s: float = 0.0,
    synchronised: bool = False,
    error_s: float | None = None,
) -> Look:
    """Look at the clocks `boot_s` after the boot; `ahead_s` is by how much UTC was set since."""
    boot_ns = round(boot_s * S)
    return Look(boot_ns, UTC_NS + boot_ns + round(ahead_s * S), synchronised, error_s)


def test_utc_is_not_known_until_the_kernel_says_that_it_is_synchronised() -> None:
    clock = Clock(look(), trust_system=False)
    assert not clock.known
    assert clock.stamp() == Stamp("estimated", None)
    assert clock.judge(look(105.0)) is None
    assert clock.judge(look(110.0, synchronised=True, error_s=0.02)) == "synced"


def test_judging_changes_nothing_so_that_windows_can_be_closed_by_the_old_time() -> None:
    clock = Clock(look(), trust_system=False)
    later = look(110.0, ahead_s=3600.0, synchronised=True)
    before_ns = clock.utc_ns(110 * S)
    clock.judge(later)
    assert clock.utc_ns(110 * S) == before_ns
    assert not clock.known
    clock.accept(later)
    assert clock.utc_ns(110 * S) == before_ns + 3600 * S
    assert clock.known


def test_becoming_known_is_told_once() -> None:
    clock = Clock(look(), trust_system=False)
    clock.accept(look(110.0, synchronised=True))
    assert clock.judge(look(115.0, synchronised=True)) is None


def test_a_system_that_is_trusted_is_known_from_the_start() -> None:
    assert Clock(look(), trust_system=True).stamp().state == "synced"


def test_a_kernel_that_loses_its_server_stays_known_without_a_bound() -> None:
    clock = Clock(look(synchronised=True, error_s=0.02), trust_system=False)
    assert clock.stamp() == Stamp("synced", 0.02)
    clock.accept(look(200.0, synchronised=False))
    assert clock.stamp() == Stamp("synced", None)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_jump_is_a_step_and_slewing_is_none(sign: int) -> None:
    clock = Clock(look(synchronised=True), trust_system=False)
    assert clock.judge(look(105.0, ahead_s=sign * STEP_S * 0.99, synchronised=True)) is None
    assert clock.judge(look(105.0, ahead_s=sign * STEP_S * 1.01, synchronised=True)) == "stepped"


@pytest.mark.parametrize(("ahead_s", "event"), [(0.1, None), (1.0, "stepped"), (-1.0, "stepped")])
def test_a_second_is_a_step_and_a_tenth_is_none(ahead_s: float, event: str | None) -> None:
    clock = Clock(look(synchronised=True), trust_system=False)
    assert clock.judge(look(105.0, ahead_s=ahead_s, synchronised=True)) == event


def test_slewing_adds_up_without_becoming_a_step() -> None:
    clock = Clock(look(synchronised=True), trust_system=False)
    for seconds in range(0, 10_000, 5):
        slewed = look(100.0 + seconds, ahead_s=seconds * 0.0005, synchronised=True)
        assert clock.judge(slewed) is None
        clock.accept(slewed)
    assert clock.utc_ns(10_000 * S) == pytest.approx(UTC_NS + 10_004.9975 * S, abs=0.01 * S)


def test_a_clock_that_is_not_known_can_step_too() -> None:
    clock = Clock(look(), trust_system=False)
    assert clock.judge(look(105.0, ahead_s=-86400.0)) == "stepped"


@given(
    st.integers(0, 10**9),
    st.floats(-1e6, 1e6),
    st.integers(0, 10**18),
)
def test_there_and_back_is_the_same_instant(boot_s: int, ahead_s: float, boot_ns: int) -> None:
    clock = Clock(look(boot_s, ahead_s=ahead_s), trust_system=True)
    assert clock.boot_ns(clock.utc_ns(boot_ns)) == boot_ns


def test_the_json_is_the_contracts() -> None:
    assert Stamp("corrected", 0.5).json() == {"state": "corrected", "error_s": 0.5}
