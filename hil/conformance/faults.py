"""What every driver promises when a wire breaks: a BusError soon, and a value again afterwards.

Drivers never try again by themselves: the collector does, so a device that is silent costs its
neighbours one time-out and no more.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from .lawful import broken, expect
from .stream import FRAMES_WANTED, cuts
from .taps import Slow
from .trial import Subject, Trial

SILENCE_S = 60.0  # until a talker that says nothing is called silent
POLL_S = 5.0  # the longest that one poll may hold the bus
OPENING_S = 15.0  # the same of opening, where a speed may have to be found out
NACKS_MOST = 80
PICTURES_S = 2.0  # for so long the last ones tell of the present
STUCK_TRIED_S = (30, 60, 600)
PEOPLE_FROZEN_S = 120.0
LATE_S = 4.0  # later than any time-out


def _has_wire(subject: Subject) -> None:
    if subject.spec.bus == "gpio":
        pytest.skip("a pin whose cable is cut keeps its level: nothing to notice")


def test_silence_is_a_bus_error_soon_and_asked_once(subject: Subject) -> None:
    """A device that does not answer any more: one time-out, no second question, no old value."""
    _has_wire(subject)
    trial = Trial(subject)
    trial.measure()
    trial.poll()
    trial.silence()
    # What was on its way is taken once; a picture a tenth of a second old is no old one.
    grace_s = PICTURES_S if subject.is_people else 0.001 if subject.is_serial else 0.0
    _expect_silent(trial, "after it had measured", grace_s=grace_s)
    mute = Trial(subject)
    mute.silence()
    _expect_silent(mute, "from the beginning")


def _expect_silent(trial: Trial, when: str, *, grace_s: float = 0.0) -> None:
    patience_s = max(SILENCE_S, 4 * trial.driver.interval_s)
    began_s = trial.clock()
    while True:
        poll = trial.poll()
        where = f"nobody answers {when}"
        old = poll.measures and poll.at_s - began_s >= grace_s
        expect(not old, f"{where}, and poll() measured: {poll}; forget old values")
        expect(
            poll.took_s <= POLL_S,
            f"{where}: one poll took {poll.took_s:.1f} s; the bus is everybody's, ask once and "
            f"wait less than {POLL_S:g} s",
        )
        expect(
            poll.opening_s <= OPENING_S,
            f"{where}: open() took {poll.opening_s:.1f} s; more than {OPENING_S:g} s is too long",
        )
        asked = trial.tap.failed_questions if trial.tap.failed_questions else trial.tap.questions
        again = [question for question, count in Counter(asked).items() if count > 1]
        expect(
            not again,
            f"{where}: {again[:1]} was asked more than once in one poll; never try again, "
            "the collector does",
        )
        if poll.error is not None and type(poll.error).__name__ != "FrameError":
            expect(
                len(str(poll.error)) >= 20,
                f'{where}: "{poll.error}" does not say where, and what to check',
            )
            return
        expect(
            trial.clock() < began_s + patience_s,
            f"{where}, and no BusError in {patience_s:.0f} s: the collector opens the bus again "
            f"on BusError only. Last: {poll}",
        )


def test_after_unplugging_it_measures_again(subject: Subject) -> None:
    """The adapter or the plug pulled out and put back: BusError, then values."""
    _has_wire(subject)
    trial = Trial(subject)
    trial.measure()
    trial.unplug()
    patience_s = max(SILENCE_S, 4 * trial.driver.interval_s)
    trial.until(
        lambda poll: poll.error, patience_s, "the wire was pulled out, and no BusError came"
    )
    trial.heal()
    trial.measure("plugged in again, it does not measure any more")


def test_each_transaction_may_fail_once(subject: Subject) -> None:
    """A NACK at any transaction, opening included: an error or none, then values again."""
    counting = Trial(subject)
    counting.measure()
    counting.run(0.0, at_least=2)
    count = counting.tap.transactions
    for number in range(0, count, max(1, -(-count // NACKS_MOST))):
        trial = Trial(subject)
        trial.tap.fail_at = number
        trial.measure(f"transaction {number} failed once, and it never measured")
        while trial.tap.transactions <= number:
            trial.poll()
        trial.measure(f"transaction {number} failed once, and it does not measure any more")


def test_a_slow_line_reads_the_same(subject: Subject) -> None:
    """Bytes that dribble in at the line's own speed are frames all the same."""
    line = subject.options().line() or subject.spec.line
    if not subject.is_serial or line is None:
        pytest.skip("not on a serial line")
    trial = Trial(subject)
    trial.replace(partial(Slow, bytes_per_s=line.baud / 10))
    trial.measure(
        "bytes that come one by one at the line's speed are not measured: read() returns what "
        "there is, so go on reading until the frame is whole or the time is over"
    )
    healthy = Trial(subject)
    healthy.measure()
    slow_polls, healthy_polls = trial.run(0.0, at_least=10), healthy.run(0.0, at_least=10)
    lost = sum(p.error is not None for p in slow_polls) - sum(
        p.error is not None for p in healthy_polls
    )
    expect(lost <= 0, f"{lost} of 10 polls failed because bytes came at the line's speed")


def test_a_late_answer_is_not_taken_for_another(subject: Subject) -> None:
    """An answer that comes after the time-out: no nonsense, and values again."""
    if not subject.is_serial or subject.spec.talks:
        pytest.skip("nobody waits for its answers")
    slow: list[Slow] = []

    def wrap(device: Any) -> Slow:
        slow.append(Slow(device, bytes_per_s=1e9))
        return slow[-1]

    trial = Trial(subject)
    trial.replace(wrap)
    trial.measure()
    slow[0].late_s = LATE_S
    trial.poll()
    slow[0].late_s = 0.0
    trial.run(3 * LATE_S)
    trial.measure("after one late answer it does not measure any more")


def test_a_device_that_was_switched_off_and_on_measures_again(subject: Subject) -> None:
    """Power comes back behind the driver's back: settings are gone, and values come again."""
    trial = Trial(subject)
    trial.measure()
    trial.poll()
    trial.power_cycle()
    trial.poll()
    how = "notice that its settings are gone and make them again, or raise to be opened anew"
    trial.measure(f"switched off and on, it does not measure any more: {how}")
    steady = trial.run(0.0, at_least=20)
    failed = sum(poll.error is not None for poll in steady[5:])
    expect(failed == 0, f"switched off and on, {failed} of 15 later polls failed: {how}")


def test_a_frozen_device_is_noticed(subject: Subject) -> None:
    """A device that repeats itself measures nothing: stuck, or for people a FrameError."""
    _has_wire(subject)
    if subject.is_people:
        trial, patience_s = Trial(subject), PEOPLE_FROZEN_S
    elif not subject.has_option("stuck_s"):
        if subject.spec.kind in ("road", "snow", "weather"):
            broken(
                "no option `stuck_s`: tell with base.Stillness when the same raw answer lasts too "
                'long, and report no value, reason "stuck"'
            )
        pytest.skip("no option stuck_s: what it measures may stand still")
    else:
        trial, stuck_s = _with_stuck_s(subject)
        patience_s = 2 * stuck_s + 20 * trial.driver.interval_s
    trial.measure()
    trial.poll()
    trial.is_healthy = False
    _freeze(subject, trial)
    if subject.is_people:
        trial.until(
            lambda poll: poll.error or "frame_error" in poll.reasons,
            patience_s,
            "the same picture for ever, and neither a FrameError nor a reset",
        )
        return
    trial.until(
        lambda poll: "stuck" in poll.reasons,
        patience_s,
        'the same raw answer for ever, and no reading without value, reason "stuck" (where the '
        "device's bytes differ though it measures nothing, as numbered answers do, "
        "EMULATION.freeze says how it freezes)",
    )
    for poll in trial.run(0.0, at_least=5):
        stuck = {seen.quantity for seen in poll.readings if "stuck" in seen.reasons}
        both = sorted(stuck & set(poll.values))
        expect(not both, f"{both} are stuck, and have a value in the same poll")
        expect(stuck, f"once stuck it is stuck until its answer changes: {poll}")


def _with_stuck_s(subject: Subject) -> tuple[Trial, float]:
    for stuck_s in STUCK_TRIED_S:
        try:
            return Trial(subject, subject.options(stuck_s=float(stuck_s))), stuck_s
        except ValueError:
            continue  # out of the option's bounds
    default = subject.driver.Options.model_fields["stuck_s"].default
    return Trial(subject), float(default)


def _freeze(subject: Subject, trial: Trial) -> None:
    if subject.emulation.freeze is not None:
        subject.emulation.freeze(trial.device)
        return
    trial.tap.is_frozen = True
    if trial.frozen is not None:
        # What is in the picture of a people sensor must not be empty: nobody at all looks frozen.
        talks = subject.spec.talks
        steady = cuts(subject)[FRAMES_WANTED // 2 :]
        fullest = max(steady, key=lambda cut: len(set(cut.raw))) if talks else None
        trial.frozen.freeze(fullest.raw if fullest else b"")
