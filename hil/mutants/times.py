"""Defects of the clock: records of a time at which they were not measured."""

from __future__ import annotations

from .mutant import Mutant

CLOCK = "tests/agent/test_clock.py"
WINDOW = "tests/agent/test_window.py"
PIPELINE = "tests/agent/test_pipeline.py"

MUTANTS = (
    Mutant(
        name="steps-unseen",
        story="When the clock is set, the open windows get ends that were never measured, and "
        "readings fall into windows of another time.",
        file="agent/clock.py",
        old='return Change("stepped", moved_ns) if abs(moved_ns) > STEP_S * 1e9 else None',
        new="return None",
        caught_by=(f"{PIPELINE}::test_a_step_of_the_clock_closes_the_windows_and_begins_new_ones",),
        says="too many values to unpack (expected 2)",
    ),
    Mutant(
        name="time-covered-twice",
        story="After the clock was set back, the same minutes are recorded a second time.",
        file="agent/window.py",
        old="""\
            self._remember(self._since_ns, now_ns)
            self._since_ns = to_ns
""",
        new="""\
            self._since_ns = to_ns
""",
        caught_by=(
            f"{PIPELINE}::test_after_a_step_back_out_of_the_window_nothing_is_recorded_twice",
        ),
    ),
    Mutant(
        name="queue-after-the-step",
        story="What was measured before a step of the clock, and still waits in the queue, is "
        "dated by the new time.",
        file="agent/pipeline.py",
        old='with all that was measured under it."""\n        self._take_all(look)\n',
        new='with all that was measured under it."""\n',
        caught_by=(
            f"{PIPELINE}"
            "::test_what_waits_in_the_queue_when_the_clock_steps_is_counted_where_it_was_measured",
        ),
    ),
    Mutant(
        name="any-clock-believed",
        story="A board without a battery dates a night's records by the clock of its last "
        "shutdown, and calls them synchronised.",
        file="agent/clock.py",
        old="if self._trust_system or look.synchronised:",
        new="if self._trust_system or look.utc_ns:",
        caught_by=(
            f"{CLOCK}::test_utc_is_not_known_until_the_kernel_says_that_it_is_synchronised",
        ),
    ),
    Mutant(
        name="drift-forgotten",
        story="A gateway that lost its time server for a month still claims to be right to "
        "20 milliseconds.",
        file="agent/clock.py",
        old="return self._error_s + DRIFT * abs(boot_ns - self._vouched_ns) / 1e9",
        new="return self._error_s",
        caught_by=(
            f"{CLOCK}::test_a_kernel_that_loses_its_server_stays_known_and_its_bound_grows",
        ),
    ),
    Mutant(
        name="one-fix-is-enough",
        story="One damaged sentence of a receiver, its eight-bit checksum right by chance, dates "
        "everything from then on.",
        file="agent/clock.py",
        old="GNSS_FIXES = 5",
        new="GNSS_FIXES = 1",
        caught_by=(f"{CLOCK}::test_one_or_two_fixes_are_never_believed",),
    ),
    Mutant(
        name="battery-clock-from-the-past",
        story="A battery clock that lost its charge, and says 2000 or last year, is believed.",
        file="agent/clock.py",
        old="not -RTC_RESOLUTION_S * 1e9 <= age_ns <= RTC_FUTURE_NS",
        new="not age_ns <= RTC_FUTURE_NS",
        caught_by=(f"{CLOCK}::test_a_battery_backed_clock_that_cannot_be_right_is_not_believed",),
    ),
    Mutant(
        name="waits-for-ever",
        story="Where no time server can be reached, records never leave at all.",
        file="agent/pipeline.py",
        old="elif self._hold and not self._clock.known and self._clock_wait_over():",
        new="elif self._hold and self._clock.known and self._clock_wait_over():",
        caught_by=(f"{PIPELINE}::test_after_waiting_long_enough_records_go_as_estimated",),
        says="not enough values to unpack (expected 2, got 0)",
    ),
    Mutant(
        name="estimated-as-synced",
        story="Records of a clock that nobody vouched for leave at once, as if their time were "
        "known.",
        file="agent/clock.py",
        old="""\
            return Stamp("estimated", None)
        if since_boot_ns is None:""",
        new="""\
            return Stamp("synced", 0.0)
        if since_boot_ns is None:""",
        caught_by=(f"{PIPELINE}::test_records_of_unknown_time_wait_and_are_put_right",),
    ),
    Mutant(
        name="overlaps-the-last-run",
        story="A restarted gateway whose clock is a little behind records minutes that the run "
        "before has recorded.",
        file="agent/pipeline.py",
        old="""\
        if clock.known:
            self._cover()
""",
        new="",
        caught_by=(
            f"{PIPELINE}::test_a_run_that_begins_before_the_last_one_ended_waits_until_then",
        ),
    ),
)
