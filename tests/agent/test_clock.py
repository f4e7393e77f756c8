"""When UTC is known, when it stepped, and what is said of a record's time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import kernel
from agent.clock import (
    BUILT_NS,
    DRIFT,
    GNSS_AGREES_S,
    GNSS_ALMANAC_S,
    GNSS_FIXES,
    GNSS_LATENCY_S,
    GNSS_LEAP_S,
    GNSS_PAUSE_S,
    RTC_FUTURE_NS,
    STEP_S,
    Change,
    Clock,
    GnssTime,
    HeldBoot,
    Look,
    Stamp,
    Witness,
    estimate,
    rtc_witness,
)
from drivers.base import Fix

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
    assert clock.judge(look(110.0, synchronised=True, error_s=0.02)) == Change("synced", 0)


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


def test_a_kernel_that_loses_its_server_stays_known_and_its_bound_grows() -> None:
    clock = Clock(look(synchronised=True, error_s=0.02), trust_system=False)
    assert clock.stamp() == Stamp("synced", 0.02)
    clock.accept(look(10_100.0, synchronised=False))
    assert clock.stamp() == Stamp("synced", 0.02 + 10_000 * DRIFT)


def test_a_step_for_which_nobody_vouches_is_not_followed_and_told() -> None:
    clock = Clock(look(synchronised=True, error_s=0.02), trust_system=False)
    by_hand = look(105.0, ahead_s=3e9)
    assert clock.judge(by_hand) is None
    assert clock.disputes(by_hand)
    clock.accept(by_hand)
    assert clock.utc_ns(105 * S) == UTC_NS + 105 * S
    vouched = look(110.0, ahead_s=-4.0, synchronised=True, error_s=0.02)
    assert clock.judge(vouched) == Change("stepped", -4 * S)
    assert not clock.disputes(vouched)


def test_a_kernel_without_a_bound_gives_none() -> None:
    assert Clock(look(synchronised=True), trust_system=False).stamp() == Stamp("synced", None)


def test_a_record_bears_the_worst_error_since_it_began() -> None:
    clock = Clock(look(synchronised=True, error_s=0.3), trust_system=False)
    clock.accept(look(105.0, synchronised=True, error_s=0.1))
    clock.accept(look(110.0, synchronised=True, error_s=0.02))
    assert clock.stamp() == Stamp("synced", 0.02)
    assert clock.stamp(107 * S) == Stamp("synced", 0.1)
    assert clock.stamp(101 * S) == Stamp("synced", 0.3)


def test_a_step_puts_in_doubt_what_it_closes() -> None:
    assert Stamp("synced", 0.02).doubted(-3 * S) == Stamp("synced", 3.02)
    assert Stamp("estimated", None).doubted(3 * S) == Stamp("estimated", None)


def test_a_corrected_record_bears_the_drift_between_it_and_the_moment_of_knowing() -> None:
    clock = Clock(look(), trust_system=False)
    clock.accept(look(10_100.0, synchronised=True, error_s=0.02))
    assert clock.corrected(10_100 * S) == Stamp("corrected", 0.02)
    assert clock.corrected(100 * S) == Stamp("corrected", 0.02 + 10_000 * DRIFT)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_jump_is_a_step_and_slewing_is_none(sign: int) -> None:
    clock = Clock(look(synchronised=True), trust_system=False)
    assert clock.judge(look(105.0, ahead_s=sign * STEP_S * 0.99, synchronised=True)) is None
    assert clock.judge(look(105.0, ahead_s=sign * STEP_S * 1.01, synchronised=True)) == Change(
        "stepped", round(sign * STEP_S * 1.01 * S)
    )


@pytest.mark.parametrize(("ahead_s", "event"), [(0.1, None), (1.0, "stepped"), (-1.0, "stepped")])
def test_a_second_is_a_step_and_a_tenth_is_none(ahead_s: float, event: str | None) -> None:
    clock = Clock(look(synchronised=True), trust_system=False)
    change = clock.judge(look(105.0, ahead_s=ahead_s, synchronised=True))
    assert (change and change.event) == event


def test_slewing_adds_up_without_becoming_a_step() -> None:
    clock = Clock(look(synchronised=True), trust_system=False)
    for seconds in range(0, 10_000, 5):
        slewed = look(100.0 + seconds, ahead_s=seconds * 0.0005, synchronised=True)
        assert clock.judge(slewed) is None
        clock.accept(slewed)
    assert clock.utc_ns(10_000 * S) == pytest.approx(UTC_NS + 10_004.9975 * S, abs=0.01 * S)


def test_a_clock_that_is_not_known_can_step_too() -> None:
    clock = Clock(look(), trust_system=False)
    assert clock.judge(look(105.0, ahead_s=-86400.0)) == Change("stepped", -86400 * S)


def test_a_nudge_of_a_clock_that_is_not_known_does_not_move_its_windows() -> None:
    clock = Clock(look(), trust_system=False)
    clock.accept(look(105.0, ahead_s=0.4))
    assert clock.utc_ns(105 * S) == UTC_NS + 105 * S


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


# Witnesses


def test_a_witness_makes_the_time_known_until_the_kernel_knows_better() -> None:
    clock = Clock(look(), trust_system=False)
    clock.hear(Witness("gnss", 104 * S, UTC_NS + 504 * S, 0.1))
    at_105 = look(105.0)
    assert clock.judge(at_105) == Change("synced", 400 * S)
    clock.accept(at_105)
    assert clock.stamp() == Stamp("synced", 0.101)
    better = look(110.0, ahead_s=400.2, synchronised=True, error_s=0.02)
    assert clock.judge(better) is None
    clock.accept(better)
    assert clock.stamp() == Stamp("synced", 0.02)
    assert clock.utc_ns(110 * S) == UTC_NS + round(510.2 * S)


def test_a_witness_that_knows_less_than_the_clock_by_itself_is_not_followed() -> None:
    clock = Clock(look(synchronised=True, error_s=0.02), trust_system=False)
    clock.hear(Witness("rtc", 105 * S, UTC_NS + 107 * S, 1.0))
    assert clock.judge(look(106.0)) is None
    clock.accept(look(106.0))
    assert clock.utc_ns(106 * S) == UTC_NS + 106 * S


RTC_S = (UTC_NS + 100 * S) // S
DAY_NS = 86_400 * S


@pytest.mark.parametrize("apart_s", [-1, 0, 1])
def test_a_battery_backed_clock_is_believed_with_a_bound_that_holds(apart_s: int) -> None:
    known_ns = UTC_NS - 10 * DAY_NS
    witness = rtc_witness(RTC_S + apart_s, look(), known_ns=known_ns)
    assert witness is not None
    assert (witness.source, witness.utc_ns, witness.boot_ns) == ("rtc", UTC_NS + 100 * S, 100 * S)
    # a second of its own, what they differ by, and ten days of drift
    assert witness.error_s == pytest.approx(1 + abs(apart_s) + 86.4, abs=0.02)


@pytest.mark.parametrize(
    ("rtc_s", "known_ns"),
    [
        (None, None),
        (0, None),
        (946_684_800, None),  # 2000: its battery is empty
        (4_070_908_800, None),  # 2099
        (RTC_S + 3, None),  # the system clock was not set from it
        (RTC_S - 3, None),
        (RTC_S, UTC_NS + 200 * S),  # before what was known already
    ],
)
def test_a_battery_backed_clock_that_cannot_be_right_is_not_believed(
    rtc_s: int | None, known_ns: int | None
) -> None:
    assert rtc_witness(rtc_s, look(), known_ns=known_ns) is None


@pytest.mark.parametrize("utc_s", [0, 946_684_800, 4_070_908_800])
def test_nor_where_the_system_clock_was_set_from_it(utc_s: int) -> None:
    agreeing = Look(100 * S, utc_s * S, False, None)
    assert rtc_witness(utc_s, agreeing, known_ns=None) is None


def test_a_restart_within_the_second_of_the_last_record_still_believes_it() -> None:
    assert rtc_witness(RTC_S, look(100.9), known_ns=UTC_NS + round(100.8 * S))


def chip(folder: Path, name: str, epoch: str, source: str) -> None:
    (folder / name).mkdir()
    (folder / name / "since_epoch").write_text(epoch)
    (folder / name / "hctosys").write_text(source)


def test_of_several_clocks_the_one_is_read_that_set_the_system(tmp_path: Path) -> None:
    assert kernel.rtc_s(tmp_path) is None
    chip(tmp_path, "rtc0", "17\n", "0\n")
    assert kernel.rtc_s(tmp_path) == 17
    chip(tmp_path, "rtc1", "1800057600\n", "1\n")
    chip(tmp_path, "rtc2", "garbage", "1\n")
    (tmp_path / "rtc3").mkdir()
    assert kernel.rtc_s(tmp_path) == 1_800_057_600


# Boots that never knew


def held(name: str, **what: int | None) -> HeldBoot:
    whole: dict[str, int | None] = {
        "first_boot_ns": 20 * S,
        "last_boot_ns": 600 * S,
        "known_before_ns": UTC_NS,
        "guess_ns": 0,
    }
    return HeldBoot(name, **(whole | what))  # type: ignore[arg-type]


def test_a_boot_is_placed_in_the_middle_between_its_neighbours() -> None:
    (found,) = estimate([held("a")], born_ns=UTC_NS + 1000 * S, error_s=0.0)
    assert found.born_ns / S == pytest.approx(UTC_NS / S + 190, abs=0.1)  # -20 s to 400 s
    assert found.stamp.error_s == pytest.approx(210.1, abs=0.1)


def test_its_own_guess_is_kept_where_it_can_be_right() -> None:
    guess_ns = UTC_NS + 100 * S
    (found,) = estimate([held("a", guess_ns=guess_ns)], born_ns=UTC_NS + 1000 * S, error_s=0.0)
    assert found.born_ns == guess_ns
    assert found.stamp.error_s == pytest.approx(300.1, abs=0.1)


def test_without_a_bound_of_this_boot_there_is_none() -> None:
    (found,) = estimate([held("a")], born_ns=UTC_NS + 1000 * S, error_s=None)
    assert found.stamp == Stamp("estimated", None)


def test_where_clocks_contradict_no_bound_is_told() -> None:
    (found,) = estimate([held("a", guess_ns=7)], born_ns=UTC_NS + 100 * S, error_s=0.0)
    assert (found.born_ns, found.stamp.error_s) == (7, None)


def test_what_a_clock_in_2099_believed_bounds_nothing() -> None:
    far = held("a", known_before_ns=UTC_NS * 2)
    (found,) = estimate([far], born_ns=UTC_NS + 1000 * S, error_s=0.0)
    assert found.born_ns >= BUILT_NS
    assert found.stamp.error_s is not None


@settings(max_examples=500)
@given(
    data=st.data(),
    lives=st.lists(
        st.tuples(
            st.integers(0, 10**6),  # seconds without power before
            st.integers(1, 10**6),  # seconds of life
            st.integers(0, 60),  # until the first record
            st.sampled_from(["nothing", "something"]),  # known before
            st.sampled_from(["1970", "2099", "right", "near"]),
            st.integers(-99, 99),  # ppm of its boot clock
        ),
        min_size=1,
        max_size=6,
    ),
    own_error_ms=st.integers(-5000, 5000),
)
def test_the_truth_lies_within_the_bound_and_boots_do_not_overlap(
    data: st.DataObject, lives: list[tuple[int, int, int, str, str, int]], own_error_ms: int
) -> None:
    now_ns = UTC_NS
    boots, truths = [], []
    known_ns: int | None = None
    for off_s, life_s, begins_s, known, guess, ppm in lives:
        now_ns += off_s * S
        begins_s = min(begins_s, life_s)
        if known == "something":
            known_ns = now_ns - data.draw(st.integers(0, off_s)) * S
        wrong_s = data.draw(st.integers(-5000, 5000))
        guesses = {"1970": 0, "2099": 2 * UTC_NS, "right": now_ns, "near": now_ns + wrong_s * S}
        last_ns = life_s * S + life_s * S * ppm // 10**6
        first_ns = begins_s * S + begins_s * S * ppm // 10**6
        boots.append(HeldBoot("b", first_ns, last_ns, known_ns, guesses[guess]))
        truths.append((now_ns, life_s, last_ns))
        now_ns += life_s * S
    now_ns += data.draw(st.integers(0, 10**5)) * S
    born_ns = now_ns + own_error_ms * 1_000_000
    found = estimate(boots, born_ns=born_ns, error_s=abs(own_error_ms) / 1000)
    end_ns = 0
    for (true_ns, life_s, last_ns), each in zip(truths, found, strict=True):
        error_s = each.stamp.error_s
        assert error_s is not None
        assert abs(each.utc_ns(0) - true_ns) <= error_s * 1e9
        assert abs(each.utc_ns(last_ns) - true_ns - life_s * S) <= error_s * 1e9
        assert each.utc_ns(0) >= end_ns
        end_ns = each.utc_ns(last_ns)


# A GNSS receiver


def fix(boot_s: float, *, late_s: float = 0.2, utc_ns: int | None = 0) -> Fix:
    """Return a fix heard `boot_s` after the boot and `late_s` after it was true."""
    boot_ns = round(boot_s * S)
    if utc_ns == 0:
        utc_ns = UTC_NS + boot_ns - round(late_s * S)
    return Fix(43.06, 141.35, boot_ns, utc_ns=utc_ns)


def heard(receiver: GnssTime, fixes: list[Fix]) -> list[Witness]:
    return [witness for each in fixes if (witness := receiver.hear(each)) is not None]


def test_several_fixes_in_a_row_are_a_witness_and_fewer_are_none() -> None:
    receiver = GnssTime()
    assert heard(receiver, [fix(100 + n) for n in range(GNSS_FIXES - 1)]) == []
    (witness,) = heard(receiver, [fix(100 + GNSS_FIXES)])
    assert witness.source == "gnss"
    assert witness.utc_ns - witness.boot_ns == UTC_NS - S // 5


def test_one_or_two_fixes_are_never_believed() -> None:
    """Each may be damage that its eight-bit checksum let through."""
    assert heard(GnssTime(), [fix(100), fix(101)]) == []


def test_the_fix_that_was_least_late_is_right_and_none_is_worse_than_told() -> None:
    lates = [0.9, 0.3, 0.6, 0.2, 0.8, 0.5]
    receiver = GnssTime()
    witness = heard(receiver, [fix(100 + n, late_s=late) for n, late in enumerate(lates)])[-1]
    late_ns = UTC_NS - (witness.utc_ns - witness.boot_ns)
    assert late_ns == round(0.2 * S)
    assert late_ns <= GNSS_LATENCY_S * S


@pytest.mark.parametrize("off_s", [-7200.0, -1.3, 1.3, 3600.0, 86_400.0 * 365])
def test_a_single_wrong_time_moves_nothing_and_the_row_begins_anew(off_s: float) -> None:
    receiver = GnssTime()
    before = heard(receiver, [fix(100 + n) for n in range(20)])
    assert len(before) == 20 - GNSS_FIXES + 1
    assert heard(receiver, [fix(120, late_s=-off_s)]) == []
    assert heard(receiver, [fix(121 + n) for n in range(GNSS_FIXES - 1)]) == []
    after = heard(receiver, [fix(130)])
    assert {each.utc_ns - each.boot_ns for each in [*before, *after]} == {UTC_NS - S // 5}


def test_a_receiver_whose_time_wanders_is_never_believed() -> None:
    step_s = GNSS_AGREES_S / (GNSS_FIXES - 2)
    wanders = [fix(100 + n, late_s=step_s * n) for n in range(200)]
    assert heard(GnssTime(), wanders) == []


def test_a_receiver_that_repeats_its_time_is_never_believed() -> None:
    frozen = [fix(100 + n / 10, utc_ns=UTC_NS + 100 * S) for n in range(100)]
    assert heard(GnssTime(), frozen) == []


@pytest.mark.parametrize(
    "utc_ns", [BUILT_NS - 1, BUILT_NS + RTC_FUTURE_NS + 1000 * S, UTC_NS - 1024 * 7 * 86_400 * S]
)
def test_a_day_on_which_this_program_does_not_run_is_never_believed(utc_ns: int) -> None:
    away = [fix(n, utc_ns=utc_ns - (99 - n) * S * (utc_ns < BUILT_NS)) for n in range(100)]
    assert heard(GnssTime(), away) == []
    receiver = GnssTime()
    heard(receiver, [fix(100 + n) for n in range(GNSS_FIXES)])
    assert heard(receiver, [fix(110, utc_ns=utc_ns), fix(111)]) == []


def test_a_fix_without_a_time_is_passed_over() -> None:
    fixes = [fix(100 + n, utc_ns=0 if n % 2 else None) for n in range(2 * GNSS_FIXES)]
    assert len(heard(GnssTime(), fixes)) == 1


def test_after_a_long_pause_the_row_begins_anew_and_a_tunnel_is_none() -> None:
    receiver = GnssTime()
    heard(receiver, [fix(100 + n) for n in range(10)])
    assert heard(receiver, [fix(109 + GNSS_PAUSE_S)])
    assert heard(receiver, [fix(110 + 2 * GNSS_PAUSE_S)]) == []


def test_leap_seconds_are_doubted_until_the_almanac_has_come() -> None:
    receiver = GnssTime()
    long_row = heard(receiver, [fix(100 + n) for n in range(round(GNSS_ALMANAC_S) + 10)])
    assert long_row[0].error_s == GNSS_LATENCY_S + GNSS_LEAP_S
    assert long_row[-1].error_s == GNSS_LATENCY_S


def test_a_correction_of_the_leap_seconds_is_taken_when_it_has_lasted() -> None:
    receiver = GnssTime()
    heard(receiver, [fix(100 + n, late_s=-3.0) for n in range(20)])
    right = heard(receiver, [fix(120 + n) for n in range(GNSS_FIXES)])
    assert [each.utc_ns - each.boot_ns for each in right] == [UTC_NS - S // 5]


def lives(clock: Clock, receiver: GnssTime, begin: int, end: int, ahead_s: float) -> list[Change]:
    """Hear a fix a second and look each five, the system clock being off; return the changes."""
    changes = []
    for second in range(begin, end):
        witness = receiver.hear(fix(second, late_s=0.2 + 0.3 * (second % 3) / 2))
        if witness is not None:
            clock.hear(witness)
        if second % 5 == 0:
            seen = look(second, ahead_s=ahead_s)
            change = clock.judge(seen)
            changes += [] if change is None else [change]
            clock.accept(seen)
    return changes


def test_without_a_network_a_receiver_makes_the_time_known_and_holds_it_still() -> None:
    clock = Clock(look(ahead_s=-3e7), trust_system=False)
    changes = lives(clock, GnssTime(), 100, 2000, -3e7)
    assert [change.event for change in changes] == ["synced"]
    assert clock.known
    assert abs(clock.utc_ns(2000 * S) - UTC_NS - 2000 * S) <= GNSS_LATENCY_S * S
    assert clock.stamp().error_s == pytest.approx(GNSS_LATENCY_S, abs=0.01)


def test_in_a_tunnel_a_system_clock_that_was_always_wrong_is_no_dispute() -> None:
    clock = Clock(look(ahead_s=-3e7), trust_system=False)
    lives(clock, GnssTime(), 100, 200, -3e7)
    for second in range(200, 2000, 5):
        dark = look(second, ahead_s=-3e7)
        assert clock.judge(dark) is None
        assert not clock.disputes(dark)
        clock.accept(dark)
    bound_s = clock.stamp().error_s
    assert bound_s is not None
    assert bound_s >= GNSS_LATENCY_S + GNSS_LEAP_S + 1800 * DRIFT


def test_a_synchronised_kernel_goes_before_any_receiver() -> None:
    clock = Clock(look(synchronised=True, error_s=0.02), trust_system=False)
    clock.hear(Witness("gnss", 104 * S, UTC_NS + 504 * S, 0.001))
    seen = look(105.0, synchronised=True, error_s=0.02)
    assert clock.judge(seen) is None
    clock.accept(seen)
    assert clock.stamp() == Stamp("synced", 0.02)
