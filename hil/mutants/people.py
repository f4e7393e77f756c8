"""Defects of the wall around people: a count told without noise, or with the same noise twice."""

from __future__ import annotations

from .mutant import Mutant

PRIVACY = "tests/agent/test_privacy.py"
RELEASE = "tests/agent/test_release.py"
LEDGER = "tests/agent/test_ledger.py"
BEAMS = "tests/drivers/test_beam_pair.py"
DOORS = "tests/agent/test_side_doors.py"

MUTANTS = (
    Mutant(
        name="directions-exchanged",
        story="Whoever leaves the walkway is counted as coming in.",
        file="drivers/beam_pair.py",
        old='(Beams.A, Beams.BOTH, Beams.B): "towards"',
        new='(Beams.A, Beams.BOTH, Beams.B): "away"',
        caught_by=(f"{BEAMS}::test_only_a_whole_passage_counts",),
    ),
    Mutant(
        name="thermal-exchanged",
        story="A Grid-EYE counts every direction the wrong way round.",
        file="drivers/tracking.py",
        old='direction: Direction = "towards" if self.way > 0 else "away"',
        new='direction: Direction = "away" if self.way > 0 else "towards"',
        caught_by=("tests/drivers/test_grideye.py::test_walkers_are_counted_in_their_direction",),
    ),
    Mutant(
        name="one-noise-for-both-ways",
        story="Both directions of a window carry the same noise, so that their difference is the "
        "true one.",
        file="agent/privacy/policy.py",
        old="""\
        for direction, count in counts.items():
            noise = (
                discrete_laplace(self.epsilon)
                if rand_below is None
                else discrete_laplace(self.epsilon, rand_below)
            )
""",
        new="""\
        noise = (
            discrete_laplace(self.epsilon)
            if rand_below is None
            else discrete_laplace(self.epsilon, rand_below)
        )
        for direction, count in counts.items():
""",
        caught_by=(f"{PRIVACY}::test_each_direction_has_noise_of_its_own",),
    ),
    Mutant(
        name="one-noise-for-all-windows",
        story="The noise is drawn once in the daemon's life; who knows one true count knows "
        "them all.",
        file="agent/privacy/sampler.py",
        old="def discrete_laplace(",
        new="""\
@__import__("functools").cache
def discrete_laplace(""",
        caught_by=(
            f"{PRIVACY}::test_the_systems_own_randomness_gives_noise_of_the_promised_width",
        ),
    ),
    Mutant(
        name="noise-that-can-be-guessed",
        story="The noise comes from a generator with a known seed: whoever has the program takes "
        "it off again.",
        file="agent/privacy/sampler.py",
        old="rand_below: RandBelow = secrets.randbelow",
        new='rand_below: RandBelow = __import__("random").Random(0).randrange',
        caught_by=(f"{PRIVACY}::test_no_two_lives_draw_the_same_noise",),
    ),
    Mutant(
        name="zero-twice-as-likely",
        story="Zero noise is drawn too often: more true counts are published than the promise "
        "allows.",
        file="agent/privacy/sampler.py",
        old="""\
        if negative and magnitude == 0:
""",
        new="""\
        if negative and magnitude < 0:
""",
        caught_by=(f"{PRIVACY}::test_two_hundred_thousand_samples_follow_the_law",),
    ),
    Mutant(
        name="released-unreserved",
        story="A count is noised before the ledger knows of it: after a power cut the same window "
        "is released again.",
        file="agent/privacy/release.py",
        old="iter(spool.reserve([each.claim for each in sealed]))",
        new="iter([each.claim for each in sealed])",
        caught_by=(
            f"{RELEASE}::test_a_window_is_reserved_then_noised_then_committed_with_its_line",
        ),
    ),
    Mutant(
        name="noised-before-reserved",
        story="The noise is drawn before the reservation is on the disk; a cut between the two "
        "leaves a figure that the ledger does not know.",
        file="agent/privacy/release.py",
        old="""\
    try:
        reserved = iter(spool.reserve([each.claim for each in sealed]))
""",
        new="""\
    try:
        for each in sealed:
            each.policy.release({'total': 0})
        reserved = iter(spool.reserve([each.claim for each in sealed]))
""",
        caught_by=(
            f"{RELEASE}::test_a_window_that_cannot_be_reserved_is_burned_and_nothing_is_drawn",
        ),
    ),
    Mutant(
        name="released-without-a-ledger",
        story="With a broken card people are counted on, and nobody can say later what was told "
        "about them, nor that it was told once.",
        file="agent/privacy/release.py",
        old="return [each.burn() if isinstance(each, Sealed) else each for each in closed]",
        new="""\
return [
            each.release(each.claim) if isinstance(each, Sealed) else each for each in closed
        ]""",
        caught_by=(
            f"{RELEASE}::test_a_window_that_cannot_be_reserved_is_burned_and_nothing_is_drawn",
        ),
    ),
    Mutant(
        name="figures-block-the-queue",
        story="A figure that waits when the disk is lost can never be committed, and everything "
        "behind it waits with it.",
        file="agent/writer.py",
        old="                self._pending[at] = burned(record)\n",
        new="                pass\n",
        caught_by=(f"{RELEASE}::test_figures_that_wait_are_taken_back_when_the_disk_is_left",),
        says="not enough values to unpack (expected 1, got 0)",
    ),
    Mutant(
        name="counts-kept",
        story="The true counts stay after their release, and a second one averages the noise away.",
        file="agent/phenomena/people.py",
        old="counts, self._counts = self._counts, {}",
        new="counts = dict(self._counts)",
        caught_by=(f"{PRIVACY}::test_counts_can_be_taken_once",),
    ),
    Mutant(
        name="burned-never-told",
        story="A window that a power cut caught between reservation and release is neither "
        "released nor burned: its record is missing for ever.",
        file="agent/privacy/book.py",
        old="if claim.run != self._run or",
        new="if claim.run == self._run or",
        caught_by=(
            f"{RELEASE}::test_a_life_that_ends_between_reservation_and_release_burns_the_window",
        ),
        says="not enough values to unpack (expected 1, got 0)",
    ),
    Mutant(
        name="sum-is-biased",
        story="Negative figures are cut also where they are summed, and each empty night adds "
        "two hundred people to the month.",
        file="agent/privacy/policy.py",
        old='"unclamped": unclamped}',
        new='"unclamped": max(0, unclamped)}',
        caught_by=(
            f"{PRIVACY}::test_the_sum_over_empty_windows_is_nobody_and_that_of_what_is_shown_is_not",
        ),
    ),
    Mutant(
        name="count-logged",
        story="The true count of each window stands in the journal of every gateway.",
        file="agent/privacy/release.py",
        old="""\
        values = {**self.record.values, **self.policy.release(self.counts.take())}
""",
        new="""\
        counts = self.counts.take()
        log.info("window released", sensor=claim.sensor, counts=counts)
        values = {**self.record.values, **self.policy.release(counts)}
""",
        caught_by=(f"{DOORS}::test_a_crowd_leaves_no_trace_in_the_log",),
    ),
    Mutant(
        name="count-in-health",
        story="The health message tells once a minute how many people have passed.",
        file="agent/app.py",
        old="""\
            "alerts": self._book.ids(without_kind="people"),
""",
        new="""\
            "alerts": self._book.ids(without_kind="people"),
            "now": [
                sum(window.tally._counts.values())
                for channel in self.pipeline._channels.values()
                for window in channel._windower._open
                if hasattr(window.tally, "_counts")
            ],
""",
        caught_by=(f"{DOORS}::test_a_crowd_changes_no_answer",),
    ),
    Mutant(
        name="count-in-figures",
        story="A figure of the sensor's health moves with each passer-by, for whoever asks for it.",
        file="agent/collector.py",
        old="""\
        station.held += observations
""",
        new="""\
        station.held += observations
        station.health.failed_polls += len(observations)
""",
        caught_by=("tests/agent/test_collector.py::test_who_passes_moves_no_figure_of_its_sensor",),
    ),
    Mutant(
        name="told-by-its-time",
        story="A window of people leaves when it is ready, not at its fixed time: how long it took "
        "tells how many there were.",
        file="agent/outbox.py",
        old="due = [item for item in items if self._draining or item.due_s <= now_s]",
        new="due = list(items)",
        caught_by=(
            "tests/agent/test_outbox.py"
            "::test_what_is_committed_while_connected_goes_live_when_it_is_due",
        ),
    ),
    Mutant(
        name="woken-by-passers-by",
        story="The pipeline wakes for each passer-by, and any user of the machine can count along "
        "in /proc.",
        file="agent/collector.py",
        old="        if turn != station.handed_on or station.failures:",
        new="        if turn != station.handed_on or observations or station.failures:",
        caught_by=(
            "tests/agent/test_collector.py"
            "::test_how_often_the_pipeline_wakes_does_not_tell_who_passes",
        ),
    ),
    Mutant(
        name="reasons-of-persons",
        story="The quality of a people record tells that somebody stood before the sensor.",
        file="agent/quality.py",
        old="reason for reason in quality.reasons if reason in PEOPLE_REASONS)",
        new="reason for reason in quality.reasons)",
        caught_by=(
            "tests/agent/test_quality.py"
            "::test_a_people_window_never_gives_a_reason_that_tells_of_persons",
        ),
    ),
    Mutant(
        name="crossing-printed",
        story="A crossing that gets into a log line or a crash trace says which way and when.",
        file="drivers/base.py",
        old='return f"{type(self).__name__}(withheld)"',
        new='return f"{type(self).__name__}({self.__slots__}:'
        ' {[getattr(self, n, None) for n in self.__slots__]})"',
        caught_by=("tests/drivers/test_withheld.py::test_however_it_is_shown_it_says_nothing",),
    ),
    Mutant(
        name="crowd-at-once",
        story="An alert about a crowd leaves before the window's own record, at a time that "
        "depends on people.",
        file="agent/fresh.py",
        old='is_about_people = entry.stream == ALERTS_STREAM and entry.kind == "people"',
        new="is_about_people = False",
        caught_by=(
            "tests/agent/test_alert_times.py"
            "::test_what_is_said_of_a_crowd_waits_and_keeps_nothing_else_back",
        ),
    ),
    Mutant(
        name="chain-unchecked",
        story="Whoever changes a line of the ledger is not found out by the audit.",
        file="agent/privacy/audit.py",
        old="""\
        if begins != prev:
""",
        new="""\
        if begins == prev and not begins:
""",
        caught_by=(f"{LEDGER}::test_no_byte_of_any_line_can_be_changed",),
    ),
)
