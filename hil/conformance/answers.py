"""What every driver promises of the answers to its questions: damaged ones become no value.

Each bit of each answer of a poll is turned round, in a run that is otherwise the same, so what the
device really said is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import pytest

from .lawful import expect, values_of
from .trial import SEED, Poll, Subject, Trial

FLIPS_MOST = 400
POLLS_BETWEEN_FLIPS = 3
EXTREME_POLLS = 60


def _asks(subject: Subject) -> None:
    if subject.spec.bus == "gpio":
        pytest.skip("pins have no answers")
    if subject.is_serial and subject.spec.talks:
        pytest.skip("the device talks unasked: its frames are flipped in the stream")


@cache
def _healthy(subject: Subject) -> tuple[Poll, int]:
    """Return the first whole poll after the first value, and how many bytes it heard."""
    trial = Trial(subject)
    trial.measure()
    poll = trial.poll()
    return poll, trial.tap.answered_bytes


def _sampled(bits: int) -> Iterator[tuple[int, int]]:
    step = max(1, -(-bits // FLIPS_MOST))
    if step % 8 == 0:
        step += 1  # else always the same bit of a byte
    for at in range(0, bits, step):
        yield at // 8, at % 8


def test_a_flipped_bit_in_an_answer_is_no_wrong_value(subject: Subject) -> None:
    """With a checksum (Spec.checksum) it is a FrameError, or no value; without, inside the range.

    A file of the kernel was proven by the kernel: only its shape is looked at.
    """
    _asks(subject)
    if subject.is_people:
        _flip_people(subject)
        return
    healthy, heard_bytes = _healthy(subject)
    proven = subject.spec.checksum and subject.spec.bus in ("serial", "i2c")
    good = set(values_of(healthy.observations))
    for byte, bit in _sampled(8 * heard_bytes):
        trial = Trial(subject)
        trial.measure()
        trial.is_healthy = False
        trial.tap.flip = (byte, bit)
        poll = trial.poll()
        trial.tap.flip = None
        made_up = [value for value in values_of(poll.observations) if value not in good]
        expect(
            not (proven and made_up),
            f"bit {bit} of byte {byte} of the answers flipped: it was read as {made_up}, and the "
            f"device said {sorted(map(str, good))}; check {subject.spec.checksum} before decoding",
        )


def _flip_people(subject: Subject) -> None:
    """Flip bits in one run: a picture of persons has no value that could be wrong."""
    trial = Trial(subject)
    trial.measure()
    trial.is_healthy = False
    _, heard_bytes = _healthy(subject)
    for byte, bit in _sampled(8 * heard_bytes):
        errors = trial.driver.frame_errors
        trial.tap.flip = (byte, bit)
        poll = trial.poll()
        trial.tap.flip = None
        noticed = poll.error is not None or trial.driver.frame_errors > errors
        expect(
            noticed or not subject.spec.checksum or trial.tap.answered_bytes <= byte,
            f"bit {bit} of byte {byte} of a picture flipped, and nobody noticed: check "
            f"{subject.spec.checksum} before decoding",
        )
        for _ in range(POLLS_BETWEEN_FLIPS):
            trial.poll()
    trial.measure("after single damaged answers it does not measure any more")


def test_a_flipped_bit_while_opening_is_a_driver_error_at_most(subject: Subject) -> None:
    """Identity, calibration and settings read back: a wrong bit there is refused, or harmless."""
    _asks(subject)
    if subject.spec.bus in ("w1", "system"):
        pytest.skip("files need no opening")
    trial = Trial(subject)
    trial.poll()  # opens, and asks once
    opening_bytes = trial.tap.answered_bytes
    for byte, bit in _sampled(8 * opening_bytes):
        trial = Trial(subject, is_healthy=False)
        trial.tap.flip = (byte, bit)
        trial.poll()
        trial.tap.flip = None
        trial.run(0.0, at_least=2)


_RANDOM = Random(SEED)
_DAMAGED_SHARE = 0.25


def _damaged(said: bytes) -> bytes:
    """Return an answer that still looks like one here and there."""
    return bytes(
        _RANDOM.randrange(256) if _RANDOM.random() < _DAMAGED_SHARE else byte for byte in said
    )


_NONSENSE: dict[str, Callable[[bytes], bytes]] = {
    "all bits 0": lambda said: bytes(len(said)),
    "all bits 1": lambda said: b"\xff" * len(said),
    "7F FF": lambda said: (b"\x7f\xff" * len(said))[: len(said)],
    "80 00": lambda said: (b"\x80\x00" * len(said))[: len(said)],
    "FF 7F": lambda said: (b"\xff\x7f" * len(said))[: len(said)],
    "random bytes": lambda said: _RANDOM.randbytes(len(said)),
    "damaged answers": _damaged,
    "half an answer": lambda said: said[: len(said) // 2],
    "nothing": lambda _: b"",
}


def test_nonsense_answers_leave_the_range_never(subject: Subject) -> None:
    """The extremes of what a bus can carry: nothing outside Spec.quantities, and no other error."""
    _asks(subject)
    for name, nonsense in _NONSENSE.items():
        if subject.spec.bus == "i2c" and name in ("half an answer", "nothing"):
            continue  # the adapter returns as many bytes as were asked for
        trial = Trial(subject)
        trial.measure()
        trial.is_healthy = False
        trial.tap.tamper = nonsense
        errors = trial.driver.frame_errors
        polls = trial.run(0.0, at_least=EXTREME_POLLS)
        noticed = any(poll.error is not None or not poll.measures for poll in polls)
        trial.tap.tamper = None
        expect(
            noticed or trial.driver.frame_errors > errors or not subject.spec.checksum,
            f"{name} in place of each answer, and it measured on: check {subject.spec.checksum}",
        )
        trial.run(0.0, at_least=2)
        trial.is_healthy = True
        trial.measure(f"after a time with {name} in place of answers it does not measure any more")
