"""What every serial driver promises of its bytes: any slices, any garbage, no wrong value.

The bytes are those that the emulated device really sent: the driver reads them through a tap, and
decodes them again in every way in which a line could have delivered them. Where the frames begin
and end, the driver itself says, fed byte by byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import pytest

from drivers.base import Observation

from .lawful import expect, values_of
from .taps import SerialTap
from .trial import SEED, Passive, Subject, Trial, held_bytes

FRAMES_WANTED = 24
CAPTURE_S = 900.0  # at most
GARBAGE_BYTES = 256 * 1024
GROWTH_BYTES = 32 * 1024
HELD_BYTES = 1024 * 1024

Moments = Sequence[tuple[int, bytes]]  # (boot-time ns, what was read then)


@dataclass(frozen=True, slots=True)
class Cut:
    """One frame, as the device sent it, and what the driver made of it."""

    at_ns: int
    raw: bytes
    observations: tuple[Observation, ...]


@cache
def captured(subject: Subject) -> Moments:
    """Return what the device says to its driver, until there are enough frames of it."""
    trial = Trial(subject, is_healthy=False)
    if not isinstance(trial.tap, SerialTap):
        return ()
    trial.tap.heard = []
    end_s = trial.clock() + CAPTURE_S
    while trial.driver.frames < FRAMES_WANTED and trial.clock() < end_s:
        trial.poll()
    return trial.tap.heard


@cache
def cuts(subject: Subject) -> Sequence[Cut]:
    """Return the frames of the capture, each with what came between it and the one before."""
    fed = subject.passive()
    found: list[Cut] = []
    raw, seen = b"", []
    for at_ns, chunk in captured(subject):
        for byte in chunk:
            raw += bytes((byte,))
            before = fed.driver.frames
            seen += fed.feed(bytes((byte,)), at_ns)
            if fed.driver.frames > before:
                found.append(Cut(at_ns, raw, tuple(seen)))
                raw, seen = b"", []
    expect(
        len(found) >= 6,
        f"feed() found {len(found)} frames in {sum(len(c) for _, c in captured(subject))} bytes "
        "that the device sent: count each complete frame in `frames`, good or in-band invalid",
    )
    return found


def _serial(subject: Subject) -> None:
    if not subject.is_serial:
        pytest.skip("no stream of bytes: not on a serial line")
    expect(
        callable(getattr(subject.driver, "feed", None)),
        "a serial driver has feed(chunk, at_boot_ns): replay and fuzzing decode through it",
    )


def test_feed_finds_what_the_device_says(subject: Subject) -> None:
    """Bytes in, observations out, without a bus and without `open`."""
    _serial(subject)
    seen = [each for cut in cuts(subject) for each in cut.observations]
    if not subject.is_people:
        expect(seen, "feed() counted frames and made no observation of any")


def test_any_slicing_decodes_the_same(subject: Subject) -> None:
    """Whole, byte by byte and cut at random places: the same observations and counters."""
    _serial(subject)
    moments = captured(subject)
    whole = subject.passive()
    expected = whole.feed_all(moments)
    for name, sliced in _slicings(moments):
        fed = subject.passive()
        found = fed.feed_all(sliced)
        how = "feed() must remember what is incomplete, and take any slice of the stream"
        expect(
            found == expected,
            f"{name}: other observations than with whole chunks ({len(found)} in place of "
            f"{len(expected)}); {how}",
        )
        counted = (fed.driver.frames, fed.driver.frame_errors)
        wanted = (whole.driver.frames, whole.driver.frame_errors)
        expect(
            counted == wanted,
            f"{name}: (frames, frame_errors) = {counted}, with whole chunks {wanted}; {how}",
        )


def _slicings(moments: Moments) -> Iterator[tuple[str, Moments]]:
    yield "byte by byte", [(at, bytes((b,))) for at, chunk in moments for b in chunk]
    for seed in range(3):
        dice = Random(seed)
        sliced: list[tuple[int, bytes]] = []
        for at_ns, chunk in moments:
            left = chunk
            while left:
                size = dice.randint(1, 2 * len(left))
                sliced.append((at_ns, left[:size]))
                left = left[size:]
        yield f"cut at random (seed {seed})", sliced


def test_joined_chunks_decode_the_same(subject: Subject) -> None:
    """Several frames that arrive at once are several frames."""
    _serial(subject)
    moments = captured(subject)
    whole, joined = subject.passive(), subject.passive()
    expected = values_of(whole.feed_all(moments))
    chunks = [moments[i : i + 5] for i in range(0, len(moments), 5)]
    found = values_of(joined.feed_all([(c[-1][0], b"".join(m for _, m in c)) for c in chunks]))
    expect(
        joined.driver.frames == whole.driver.frames,
        f"{joined.driver.frames} frames where five moments' bytes came at once, and "
        f"{whole.driver.frames} where each came alone: look for more than one frame in a chunk",
    )
    if not subject.is_people:  # a track needs the time at which each frame came
        expect(found == expected, "chunks that hold several frames decode to other values")


def test_garbage_before_frames_costs_one_frame_at_most(subject: Subject) -> None:
    """Noise at power-up, the end of a frame whose beginning nobody heard, another's protocol."""
    _serial(subject)
    frames = cuts(subject)
    dice = Random(SEED)
    garbages = [dice.randbytes(size) for size in (1, 2, 7, 30, 100, 1000)]
    garbages += [frames[2].raw[: len(frames[2].raw) // 2], frames[2].raw[3:], b"\x00" * 50]
    garbages += [b"\xff" * 50, b"\xb5\x62\x01\x07\x5c\x00", bytes(range(256))]
    for garbage in garbages:
        _expect_the_rest(subject, garbage, "after garbage", frames)


def _expect_the_rest(subject: Subject, garbage: bytes, when: str, frames: Sequence[Cut]) -> None:
    fed = subject.passive()
    fed.feed(garbage, frames[0].at_ns)
    found = [seen for cut in frames for seen in fed.feed(cut.raw, cut.at_ns)]
    shown = garbage[:24].hex(" ")
    expect(
        fed.driver.frames >= len(frames) - 1,
        f"{when} ({len(garbage)} bytes: {shown}) {fed.driver.frames} of {len(frames)} good frames "
        "were found: after a byte that begins no frame try the next one, and keep none back "
        "because a bad one came before",
    )
    if subject.is_people:
        return
    wanted = values_of([seen for cut in frames[1:] for seen in cut.observations])
    got = values_of(found)
    expect(
        got[len(got) - len(wanted) :] == wanted,
        f"{when} ({shown}) the good frames that follow decode to other values",
    )


def test_a_truncated_frame_is_no_value(subject: Subject) -> None:
    """A frame whose end is missing gives nothing, and costs at most the one that follows it."""
    _serial(subject)
    frames = cuts(subject)[1:]
    good = Counter(values_of([seen for cut in frames for seen in cut.observations]))
    for size in range(1, len(frames[1].raw)):
        torn = [frames[0], _with(frames[1], frames[1].raw[:size]), *frames[2:]]
        found, fed = _decoded(subject, torn)
        _expect_nothing_new(subject, good, found, f"a frame cut off after {size} bytes")
        expect(
            fed.driver.frames >= len(torn) - 2,
            f"a frame cut off after {size} bytes cost {len(torn) - 1 - fed.driver.frames} good "
            "frames that follow: do not wait for its length when the next one begins",
        )


def test_a_flipped_bit_is_no_wrong_value(subject: Subject) -> None:
    """Each bit of a frame turned round: with a checksum nothing wrong passes it.

    Without one (Spec.checksum is empty) the value may be wrong; it stays inside its range.
    """
    _serial(subject)
    frames = cuts(subject)[1:]
    shapes = {len(cut.raw): place for place, cut in enumerate(frames[:-4]) if place}
    for place in list(shapes.values())[:4]:
        around = frames[place - 1 : place + 5]
        raw = around[1].raw
        plain, unharmed = _decoded(subject, around)
        good = Counter(values_of(plain))
        for at in range(8 * len(raw)):
            flipped = bytearray(raw)
            flipped[at // 8] ^= 1 << at % 8
            damaged = [around[0], _with(around[1], bytes(flipped)), *around[2:]]
            found, fed = _decoded(subject, damaged)
            where = f"bit {at % 8} of byte {at // 8} flipped in {raw.hex(' ')}"
            if subject.spec.checksum:
                _expect_nothing_new(subject, good, found, where)
            expect(
                fed.driver.frames >= unharmed.driver.frames - 2,
                f"{where}: {unharmed.driver.frames - fed.driver.frames} frames were lost: "
                "a damaged frame costs itself and at most one neighbour",
            )
            lost = unharmed.driver.frames - fed.driver.frames
            # Without a checksum, a length that was damaged may fit over the next frame.
            told = fed.driver.frame_errors - unharmed.driver.frame_errors
            expect(
                told > 0 or lost <= (0 if subject.spec.checksum else 1),
                f"{where}: {lost} frames were lost and `frame_errors` does not tell",
            )


def _expect_nothing_new(
    subject: Subject, good: Counter[tuple[str, object]], found: Sequence[Observation], where: str
) -> None:
    made_up = [value for value in Counter(values_of(found)) if value not in good]
    checksum = subject.spec.checksum or "the frame's length, beginning and end"
    expect(not made_up, f"{where}: it was read as {made_up}; prove each frame by {checksum}")


def _with(cut: Cut, raw: bytes) -> Cut:
    return Cut(cut.at_ns, raw, ())


def _decoded(subject: Subject, frames: Sequence[Cut]) -> tuple[list[Observation], Passive]:
    fed = subject.passive()
    return [seen for cut in frames for seen in fed.feed(cut.raw, cut.at_ns)], fed


def test_endless_garbage_is_not_kept(subject: Subject) -> None:
    """Noise on the line for days: what a decoder keeps of it is bounded."""
    _serial(subject)
    fed, dice = subject.passive(), Random(SEED)
    at_ns = captured(subject)[-1][0]
    frame = cuts(subject)[1].raw
    held = []
    for _ in range(2):
        for _ in range(GARBAGE_BYTES // 4096):
            noise = dice.randbytes(4096 - len(frame) // 2)
            fed.feed(noise + frame[: len(frame) // 2], at_ns)
            at_ns += 100_000_000
        held.append(held_bytes(fed.driver, beside=(fed,)))
    grown = held[1] - held[0]
    expect(
        held[1] < HELD_BYTES and grown < GROWTH_BYTES,
        f"after {2 * GARBAGE_BYTES} bytes of garbage the driver holds {held[1]} bytes, "
        f"{grown} of them from the second half: drop what can be no frame, and bound every list",
    )
