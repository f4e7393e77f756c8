"""Defects of windows, statistics and quality: a figure that was not measured, or not then."""

from __future__ import annotations

from .mutant import Mutant

WINDOW = "tests/agent/test_window.py"
AGGREGATE = "tests/agent/test_aggregate.py"
QUALITY = "tests/agent/test_quality.py"
CHANNELS = "tests/agent/test_channels.py"
PIPELINE = "tests/agent/test_pipeline.py"

MUTANTS = (
    Mutant(
        name="late-readings-merged",
        story="A reading of the minute before is put into this one's mean.",
        file="agent/window.py",
        old="""\
            self.late += 1
""",
        new="""\
            self._open[0].tally.add(observation)
""",
        caught_by=(f"{WINDOW}::test_a_late_reading_is_counted_not_merged",),
    ),
    Mutant(
        name="border-off-by-one",
        story="What is measured at the full minute counts for the minute before.",
        file="agent/window.py",
        old="if window.start_ns <= at_ns < window.end_ns:",
        new="if window.start_ns < at_ns <= window.end_ns:",
        caught_by=(f"{WINDOW}::test_a_reading_at_the_border_belongs_to_the_window_that_begins",),
    ),
    Mutant(
        name="no-lateness",
        story="Windows close at their end, and what was measured just before and is still on its "
        "way is thrown away, from a slow bus most of it.",
        file="agent/window.py",
        old="if window.end_ns + LATENESS_NS <= now_ns]",
        new="if window.end_ns <= now_ns]",
        caught_by=(
            f"{WINDOW}::test_a_window_closes_once_readings_on_their_way_have_had_time_to_arrive",
        ),
    ),
    Mutant(
        name="windows-from-the-start",
        story="Each gateway's minutes begin when it was switched on, and nothing in the city can "
        "be laid side by side.",
        file="agent/window.py",
        old="end_ns = (start_ns // self._window_ns + 1) * self._window_ns",
        new="end_ns = start_ns + self._window_ns",
        caught_by=(f"{WINDOW}::test_windows_start_at_utc_multiples_whenever_the_sensor_started",),
    ),
    Mutant(
        name="stop-as-whole-window",
        story="A window that a restart cut in half is recorded as a whole one.",
        file="agent/window.py",
        old="""\
                window.end_ns = self._next_start_ns = now_ns
""",
        new="",
        caught_by=(f"{WINDOW}::test_a_stop_cuts_the_open_window_and_leaves_ended_ones_whole",),
    ),
    Mutant(
        name="silence-unrecorded",
        story="A sensor that fell silent simply has no records any more, and nobody sees that "
        "they are missing.",
        file="agent/channels.py",
        old="return [self._record(window, clock, moved_ns) for window in windows]",
        new="""\
made = [self._record(window, clock, moved_ns) for window in windows]
        return [r for r in made if getattr(r, "quality", {}).get("flag") != "missing"]""",
        caught_by=(f"{PIPELINE}::test_a_silent_sensor_gives_a_missing_record_each_window",),
    ),
    Mutant(
        name="median-for-mean",
        story="The mean of a window is its median: gusts and peaks vanish from every figure that "
        "is added up.",
        file="agent/aggregate.py",
        old="statistics.fmean(samples), min(samples), max(samples)",
        new="statistics.median(samples), min(samples), max(samples)",
        caught_by=(f"{AGGREGATE}::test_a_window_of_numbers_is_summarised",),
    ),
    Mutant(
        name="population-deviation",
        story="Short windows state a standard deviation that is too small, the shorter the more.",
        file="agent/aggregate.py",
        old="statistics.stdev(samples, mean)",
        new="statistics.pstdev(samples, mean)",
        caught_by=(f"{AGGREGATE}::test_a_window_of_numbers_is_summarised",),
    ),
    Mutant(
        name="no-number-is-zero",
        story="A device that says that it has no number is taken to say 0: the road is at the "
        "freezing point, the snow is gone.",
        file="agent/aggregate.py",
        old="""\
                name in self.numbers and math.isfinite(value)
            ):
                if len(self.numbers[name]) < MAX_SAMPLES:
                    self.numbers[name].append(value)
""",
        new="""\
                name in self.numbers
            ):
                if len(self.numbers[name]) < MAX_SAMPLES:
                    self.numbers[name].append(value if math.isfinite(value) else 0.0)
""",
        caught_by=(
            f"{AGGREGATE}::test_what_is_not_a_finite_number_is_no_sample_and_the_record_stays_json",
        ),
    ),
    Mutant(
        name="spikes-believed",
        story="One echo from a bird is in the mean depth of snow.",
        file="agent/qc.py",
        old="""\
            if flag != FAIL:
                kept.append(value)
""",
        new="""\
            kept.append(value)
""",
        caught_by=(f"{CHANNELS}::test_a_spike_is_left_out_of_the_mean_and_counted",),
    ),
    Mutant(
        name="flag-dropped",
        story="A suspect temperature stands beside a good one, and the record does not say "
        "which is which.",
        file="agent/channels.py",
        old="if value is not None and own.flag != quality.flag:",
        new="if value is None and own.flag != quality.flag:",
        caught_by=(f"{PIPELINE}::test_a_value_that_differs_carries_its_own_flag",),
        says="KeyError: 'flag'",
    ),
    Mutant(
        name="best-flag-wins",
        story="A record with one good value is good, whatever the others are.",
        file="agent/quality.py",
        old="flag = max((q.flag for q in qualities.values())",
        new="flag = min((q.flag for q in qualities.values())",
        caught_by=(f"{QUALITY}::test_a_record_is_as_bad_as_its_worst_value",),
    ),
    Mutant(
        name="few-samples-are-good",
        story="A mean of three samples out of sixty is published as good.",
        file="agent/quality.py",
        old="elif n < ENOUGH * expected or rejected",
        new="elif rejected",
        caught_by=(f"{QUALITY}::test_fewer_than_half_of_the_expected_samples_are_suspect",),
    ),
    Mutant(
        name="frozen-over-an-outage",
        story="A thermometer that was off over the weekend, and says the same on Monday, is "
        "flagged as stuck.",
        file="agent/qc.py",
        old="if time_s - self._last_s > SILENCE * self._longest_s:",
        new="if time_s - self._last_s > math.inf:",
        caught_by=("tests/agent/test_qc.py::test_a_silence_ends_a_plateau",),
    ),
)
