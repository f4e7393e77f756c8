"""Two Benewake TF lidars side by side across a way: a beam pair that needs no receivers.

Each lidar looks at the wall opposite, or into the open. Whoever comes between is nearer than that,
and who breaks beam A before beam B goes towards. The distance without anybody is learnt, and goes
on being learnt, so that a parked bicycle is background after some minutes.

What a lidar says of a person stays in this process, and no error tells what was in a beam.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import ClassVar, Literal

from pydantic import Field

from . import base
from .base import (
    OPPOSITE,
    Alive,
    Clock,
    Crossing,
    FrameError,
    Glimpse,
    LineSettings,
    Quantity,
    Scene,
    Spec,
    Stillness,
    Trouble,
    Warmup,
    Withheld,
)
from .beam_pair import Beams, BeamStateMachine
from .benewake_tf import (
    HEADER,
    QUIRKS,
    SOURCE,
    TRAITS,
    WIRING,
    Model,
    Sample,
    TfPort,
    decode,
    invalid_because,
)
from .buses import SerialPair

IDLE_SAMPLES = 300  # one a second
IDLE_SAMPLE_NS = 1_000_000_000
# Who stands in a beam for less than 225 s of five minutes is not taken for the wall; a stream of
# 60 people a minute is in it for a third of the time.
IDLE_QUANTILE = 0.75
BODY_SHARE, BODY_CM = 0.1, 20.0  # nearer than the wall by this, and by no less than that
OPEN_SHARE = 0.8  # of the model's range: what counts as far where nothing comes back

FRAMES_TO_BELIEVE = 2  # one sample at the edge of a sleeve is nothing
FROZEN_S = 30.0
LOST_NS = 1_000_000_000  # a lidar that said nothing for so long does not work


def way_cm(sample: Sample, model: Model) -> float | None:
    """Return how far the beam goes, in cm; inf if nothing comes back, None if it cannot be said.

    Too strong an echo is something near; sunlight says nothing. Other values as invalid_because.
    """
    if invalid_because(sample, model) is None:
        return float(sample.distance_cm)
    is_sun = sample.distance_cm == -4 or (model == "tf-luna" and 0x8000 <= sample.strength < 0xFFFF)
    if is_sun:
        return None
    if sample.strength == 0xFFFF or sample.distance_cm == -2:
        return 0.0
    if 0 < sample.distance_cm < TRAITS[model].low_cm and sample.strength > 0:
        return 0.0
    return inf


class Beam(Withheld):
    """From one lidar's samples to the times at which its beam was broken and free again."""

    def __init__(self, model: Model, blocked_below_cm: float | None) -> None:
        self.is_blocked = False
        self.last_ns = 0  # of the last sample; 0 before there is one
        self._model = model
        self._given_cm = blocked_below_cm
        self._idle_cm: deque[float] = deque(maxlen=IDLE_SAMPLES)
        self._sampled_ns: int | None = None
        self._blocked_below_cm = blocked_below_cm
        self._contrary: list[int] = []  # when samples began to say otherwise

    def take(self, samples: Sequence[Sample], times_ns: Sequence[int]) -> list[tuple[int, bool]]:
        """Take samples with their times; return the (time, is_blocked) changes to believe."""
        changes = []
        for sample, at_ns in zip(samples, times_ns, strict=True):
            self.last_ns = at_ns
            far_cm = way_cm(sample, self._model)
            if far_cm is None:
                continue
            self._learn(far_cm, at_ns)
            below_cm = self._blocked_below_cm
            if (below_cm is not None and far_cm < below_cm) == self.is_blocked:
                self._contrary.clear()
                continue
            self._contrary.append(at_ns)
            if len(self._contrary) >= FRAMES_TO_BELIEVE:
                self.is_blocked = not self.is_blocked
                changes.append((self._contrary[0], self.is_blocked))
                self._contrary.clear()
        return changes

    def _learn(self, far_cm: float, at_ns: int) -> None:
        if self._given_cm is not None:
            return
        if self._sampled_ns is not None and at_ns - self._sampled_ns < IDLE_SAMPLE_NS:
            return
        self._sampled_ns = at_ns
        self._idle_cm.append(far_cm)
        idle_cm = sorted(self._idle_cm)[int(IDLE_QUANTILE * (len(self._idle_cm) - 1))]
        if idle_cm == inf:
            self._blocked_below_cm = OPEN_SHARE * TRAITS[self._model].high_cm
        else:
            self._blocked_below_cm = idle_cm - max(BODY_CM, BODY_SHARE * idle_cm)


class BenewakePairOptions(base.Options):
    """Which lidars they are, and where the second one is."""

    model: Model = Field(default="tfmini-plus", description="the model of both")
    port_b: str | None = Field(
        default=None,
        min_length=1,
        description="the serial port of beam B, by its stable name; the sensor's bus is beam A",
    )
    blocked_below_cm: float | None = Field(
        default=None,
        gt=0.0,
        le=2200.0,
        description="somebody is in a beam that ends nearer than this; default: learnt from the "
        "distance to the wall opposite",
    )
    flip: bool = Field(default=False, description="exchange towards and away")
    frame_rate_hz: Literal[50, 100] = Field(
        default=100,
        description="samples a second that both are told to take; TFmini and TF02 take 100",
    )
    timeout_s: float = Field(
        default=3.0, gt=0.0, le=60.0, description="a passage that takes longer counts nobody"
    )
    warmup_s: float = Field(
        default=10.0, ge=0.0, description="time to learn the distance to the wall, not counting"
    )

    def missing_to_measure(self) -> list[str]:
        """Say that there is no pair without the second port."""
        if self.port_b is None:
            return ["port_b: the serial port of the second lidar, such as /dev/serial/by-path/..."]
        return []

    def second_port(self) -> str | None:
        """Name the port of beam B."""
        return self.port_b


class BenewakePair(Withheld):
    """Two lidars on two ports: `bus.a` is beam A, `bus.b` beam B.

    `feed` takes the stream of beam A, `feed_b` that of beam B.
    """

    spec: ClassVar[Spec] = Spec(
        name="benewake-tf-pair",
        title="Two Benewake TFmini, TFmini-S, TFmini Plus, TF-Luna or TF02",
        kind="people",
        bus="serial",
        quantities=(),
        directions=("towards", "away"),
        header=HEADER,
        wiring=(
            *WIRING,
            "The second lidar needs a UART of its own: a USB adapter, or uart3 and up on a Pi 4.",
            "Mount both at hip height, looking across, 5 to 15 cm apart along the way: a body "
            "must break both beams at once.",
            "Turn one by a degree or two away from the other, so that neither sees its light.",
            "Beam A is broken first on the way called towards; else set flip.",
            "Give them a dull wall 0.5 to 6 m away to look at; a reflector would blind them.",
        ),
        quirks=(
            *QUIRKS,
            "Nothing coming back is a free beam; too strong an echo is somebody with a reflector.",
            "The distance to the wall is learnt over five minutes: what is parked in a beam is "
            "part of the wall after four.",
            "Two people abreast, or nose to tail, are one to a beam.",
            "Blinded by the sun it counts nobody, and does not say so: that tells who shades it.",
        ),
        checksum="8-bit sum",
        evidence="vendor vectors",
        evidence_note="Frames and commands by the manuals; counting with simulated lidars and "
        "people in single file, turn-backs included: none missed and no direction exchanged at 5, "
        "30 and 60 a minute. Where people walk as they like, abreast or close behind each other: "
        "5 % too few at 5 a minute, 25 % at 30, 44 % at 60 (docs/counting.md). Never against a "
        "counted crowd.",
        source=SOURCE,
        line=LineSettings(115200),
        talks=True,
        example={"model": "tfmini-s", "port_b": "/dev/serial/by-path/..."},
    )
    Options: ClassVar[type[base.Options]] = BenewakePairOptions

    interval_s = 0.1
    rate_hz = 1.0

    def __init__(self, bus: SerialPair | None, options: BenewakePairOptions, now_ns: Clock) -> None:
        """Build it; without a bus it only decodes."""
        self._ports: dict[Beams, TfPort] = {}
        for beam in (Beams.A, Beams.B):
            port = None if bus is None else bus.a if beam == Beams.A else bus.b
            self._ports[beam] = TfPort(
                port, options.model, options.frame_rate_hz, now_ns, name=f"beam {beam.name}"
            )
        self._options = options
        self._now_ns = now_ns
        self._refused = 0  # frames that were the same for too long
        self._warmup = Warmup(options.warmup_s)
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""
        self._alive_second: int | None = None
        self._frozen: Beams | None = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        options = self._options
        self._beams = {
            beam: Beam(options.model, options.blocked_below_cm) for beam in (Beams.A, Beams.B)
        }
        self._stillness = {beam: Stillness(FROZEN_S) for beam in (Beams.A, Beams.B)}
        self._machine = BeamStateMachine(round(options.timeout_s * 1e9))
        self._blocked = Beams.CLEAR
        self._changes: list[tuple[int, Beams, bool]] = []  # later than what both beams have told
        self._waiting: list[Glimpse] = []

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """None: it counts."""
        return {}

    def open(self) -> None:
        """Find both lidars and tell them their rate and unit. Raises BusError or FrameError."""
        self._start_afresh()
        try:
            for beam, port in self._ports.items():
                port.reset() if beam == self._frozen else port.open()
        finally:
            self._tell()
        self._frozen = None
        self.identity = "; ".join(f"{b.name}: {port.identity}" for b, port in self._ports.items())
        self._warmup.restart(self._now_ns())

    def poll(self) -> Sequence[Glimpse]:
        """Take what both lidars said since the last poll.

        Raises BusError if one is silent, FrameError if one repeats itself; that one is restarted
        at the next poll.
        """
        if self._frozen is not None:
            self.open()
        try:
            for beam, port in self._ports.items():
                self._take(beam, port.take(), self._now_ns())
        finally:
            self._tell()
        now_ns = self._now_ns()
        self._waiting += self._observe(now_ns, self._beams.values())
        if self._frozen is not None:
            self._refused += 1
            self._tell()
            raise FrameError(f"beam {self._frozen.name}: the same frame for {FROZEN_S:g} s")
        seen, self._waiting = self._waiting, []
        return seen

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Glimpse]:
        """Decode what beam A said; while beam B is unknown nobody crosses."""
        return self._fed(Beams.A, chunk, at_boot_ns)

    def feed_b(self, chunk: bytes, at_boot_ns: int) -> Sequence[Glimpse]:
        """Decode what beam B said."""
        return self._fed(Beams.B, chunk, at_boot_ns)

    def _fed(self, beam: Beams, chunk: bytes, at_boot_ns: int) -> Sequence[Glimpse]:
        if not any(each.last_ns for each in self._beams.values()):
            self._warmup.restart(at_boot_ns)
        self._take(beam, self._ports[beam].decode(chunk), at_boot_ns)
        self._tell()
        heard = [each for each in self._beams.values() if each.last_ns]
        return self._observe(at_boot_ns, heard or [self._beams[beam]])

    def picture(self) -> Scene | None:
        """Return the state of both beams."""
        return Scene(
            forward=OPPOSITE["towards"] if self._options.flip else "towards",
            beams=tuple((beam.name or "", each.is_blocked) for beam, each in self._beams.items()),
        )

    def close(self) -> None:
        """Forget who was in the beams; the lidars go on talking."""
        self._start_afresh()

    def _tell(self) -> None:
        ports = self._ports.values()
        self.frames = sum(port.frames for port in ports)
        self.frame_errors = self._refused + sum(port.frame_errors for port in ports)

    def _take(self, beam: Beams, frames: list[bytes], at_ns: int) -> None:
        """Take frames that have come by `at_ns`, the last just then."""
        if not frames:
            return
        model = self._options.model
        step_ns = round(1e9 / self._ports[beam].rate_hz)
        last = len(frames) - 1
        earliest_ns = self._beams[beam].last_ns
        times_ns = [max(earliest_ns, at_ns - (last - i) * step_ns) for i in range(last + 1)]
        samples = decode(frames)
        for at, is_blocked in self._beams[beam].take(samples, times_ns):
            self._changes.append((at, beam, is_blocked))
        # In the open nothing trembles: there is no echo.
        if invalid_because(samples[-1], model) is None:
            same = frames[-1] if frames.count(frames[-1]) == len(frames) else b"".join(frames)
            if self._stillness[beam].lasts(same, at_ns):
                self._frozen = beam
        else:
            self._stillness[beam].forget()

    def _observe(self, now_ns: int, beams: Iterable[Beam]) -> list[Glimpse]:
        crossings = self._cross()
        seen: list[Glimpse] = []
        is_warm = self._warmup.is_over(now_ns)
        second = now_ns // 1_000_000_000
        # Not whether its samples were of use: whoever shades a beam from the sun makes them so.
        talks = all(now_ns - each.last_ns <= LOST_NS for each in beams)
        if talks and self._frozen is None and second != self._alive_second:
            self._alive_second = second
            seen.append(Alive(now_ns) if is_warm else Trouble("warmup", now_ns))
        return seen + (crossings if is_warm else [])

    def _cross(self) -> list[Glimpse]:
        """Follow the beams as far as both have told, in the order of time."""
        told_ns = min(beam.last_ns for beam in self._beams.values())
        self._changes.sort(key=lambda change: change[0])
        crossings: list[Glimpse] = []
        while self._changes and self._changes[0][0] <= told_ns:
            at_ns, beam, is_blocked = self._changes.pop(0)
            self._blocked = self._blocked | beam if is_blocked else self._blocked & ~beam
            direction = self._machine.take(self._blocked, at_ns)
            if direction is not None:
                named = OPPOSITE[direction] if self._options.flip else direction
                crossings.append(Crossing(named, at_ns))
        self._machine.advance(told_ns)
        return crossings
