"""Two light beams across a way, one behind the other: who breaks A before B goes towards.

Beams tell the direction only while a body breaks both at once, so they stand closer together
than a body is deep. Two people abreast, or nose to tail, are one body to a beam.

The upper half is pure: a `BeamStateMachine` follows the blocked beams through a passage. Times
come with the edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from . import base
from .base import (
    Alive,
    BusError,
    Clock,
    Crossing,
    Direction,
    Glimpse,
    Quantity,
    Spec,
    Trouble,
    Withheld,
)
from .debounce import LATENESS_NS, Debouncer
from .gpio import Edge, PinBus, PinWatch, Pull

Active = Literal["low", "high"]

SOURCE = (
    "Product data of through-beam receivers with open-collector outputs; the sequence of states "
    "is that of the path tracker in Lyr3x/Roode, components/roode/roode.cpp"
)


class Beams(IntFlag):
    """Which beams are blocked."""

    CLEAR = 0
    A = 1
    B = 2
    BOTH = 3


# What a body that walks through leaves behind. Any other way back to CLEAR counts nobody:
# somebody turned back, or reached through one beam.
_PASSAGES: Mapping[tuple[Beams, ...], Direction] = {
    (Beams.A, Beams.BOTH, Beams.B): "towards",
    (Beams.B, Beams.BOTH, Beams.A): "away",
}
_LONGEST_PASSAGE = 3


class BeamStateMachine(Withheld):
    """Follows the blocked beams through one passage after the other.

    A passage that takes longer than the time-out is void: a trolley was left in the beam, or
    snow covers it. It counts nobody, and counting begins again once both beams are clear.
    """

    def __init__(self, timeout_ns: int, beams: Beams = Beams.CLEAR) -> None:
        self.stuck = 0  # void passages; tells of persons, so it never leaves the process
        self._timeout_ns = timeout_ns
        self._path: list[Beams] = []
        self._since_ns = 0
        # Whoever stands in a beam at the start was not seen coming.
        self._is_void = beams != Beams.CLEAR

    def take(self, beams: Beams, at_ns: int) -> Direction | None:
        """Take the beams blocked from `at_ns` on; return the direction of a passage that ended."""
        self.advance(at_ns)
        if beams == Beams.CLEAR:
            direction = None if self._is_void else _PASSAGES.get(tuple(self._path))
            self._path.clear()
            self._is_void = False
            return direction
        if not self._path:
            self._since_ns = at_ns
        # One more than a passage is long is as wrong as a thousand more, and needs no memory.
        if len(self._path) <= _LONGEST_PASSAGE:
            self._path.append(beams)
        return None

    def advance(self, now_ns: int) -> None:
        """Apply the time-out: it is now `now_ns`."""
        if self._path and not self._is_void and now_ns - self._since_ns > self._timeout_ns:
            self._is_void = True
            self.stuck += 1


@dataclass(slots=True, repr=False)
class BeamCounter(Withheld):
    """From the edges of two pins to crossings."""

    pin_a: int
    pin_b: int
    blocked_level: int
    debouncer: Debouncer
    machine: BeamStateMachine
    beams: Beams

    @classmethod
    def start(cls, options: BeamPair.Options, level_a: int, level_b: int) -> BeamCounter:
        """Begin with the pins as they are now."""
        blocked_level = 0 if options.active == "low" else 1
        beams = Beams.CLEAR
        if level_a == blocked_level:
            beams |= Beams.A
        if level_b == blocked_level:
            beams |= Beams.B
        return cls(
            pin_a=options.pin_a,
            pin_b=options.pin_b,
            blocked_level=blocked_level,
            debouncer=Debouncer(
                {options.pin_a: level_a, options.pin_b: level_b},
                round(options.min_gap_ms * 1e6),
            ),
            machine=BeamStateMachine(round(options.timeout_s * 1e9), beams),
            beams=beams,
        )

    def take(self, edges: Sequence[Edge], now_ns: int) -> list[tuple[Direction, int]]:
        """Take what the pins did by `now_ns`; return (direction, boot-time ns) of each crossing.

        A crossing's time is that of the edge that cleared the second beam.
        """
        crossings = []
        for edge in self.debouncer.settle(edges, now_ns):
            beam = Beams.A if edge.pin == self.pin_a else Beams.B
            if edge.level == self.blocked_level:
                self.beams |= beam
            else:
                self.beams &= ~beam
            direction = self.machine.take(self.beams, edge.at_boot_ns)
            if direction is not None:
                crossings.append((direction, edge.at_boot_ns))
        self.machine.advance(now_ns - LATENESS_NS)
        return crossings


class BeamPair(Withheld):
    """A pair of light beams on two pins."""

    class Options(base.Options):
        """How the two receivers are wired."""

        pin_a: int = Field(ge=0, le=27, description="BCM number of the pin of beam A")
        pin_b: int = Field(ge=0, le=27, description="BCM number of the pin of beam B")
        active: Active = Field(
            "low",
            description="level of a blocked beam: low for an open collector that conducts in the "
            "dark (dark-on), high for one that conducts in the light (light-on)",
        )
        pull: Pull = Field(
            "up", description="the Pi's own resistor: up for an open collector or a dry contact"
        )
        flip: bool = Field(False, description="exchange towards and away")
        min_gap_ms: float = Field(
            5.0,
            ge=0,
            le=100,
            description="how long a pin must hold a level to be believed; 20 for a relay contact",
        )
        timeout_s: float = Field(
            3.0, gt=0, le=60, description="a passage that takes longer counts nobody"
        )
        warmup_s: float = Field(
            0.0, ge=0, description="for receivers that are switched on together with the gateway"
        )

        @model_validator(mode="after")
        def _two_pins(self) -> BeamPair.Options:
            if self.pin_a == self.pin_b:
                raise ValueError(
                    f"pin_a and pin_b are both {self.pin_a}: each beam needs a pin of its own"
                )
            return self

        def claims(self) -> list[str]:
            """Name the two pins."""
            return [f"pin {self.pin_a}", f"pin {self.pin_b}"]

    spec: ClassVar[Spec] = Spec(
        name="beam-pair",
        title="Two light beams with open-collector or relay outputs, any maker",
        kind="people",
        bus="gpio",
        quantities=(),
        directions=("towards", "away"),
        header=(
            ("output of beam A", "any free GPIO, such as pin 11 (GPIO 17): pin_a = 17"),
            ("output of beam B", "any free GPIO, such as pin 13 (GPIO 27): pin_b = 27"),
            ("0 V of both receivers", "pin 9 (GND)"),
        ),
        wiring=(
            "Pins take 3.3 V and no more: never connect an output that carries 5, 12 or 24 V.",
            "Open collector or dry contact: output to the pin, its ground to the Pi's ground.",
            "For runs of more than a few metres put an opto-isolator and an RC filter at the Pi.",
            "Mount the beams 5 to 15 cm apart, at hip height: a body must break both at once.",
            "Beam A is the one that is broken first on the way called towards; else set flip.",
            "Prefer light-on receivers (active = 'high'): a cut cable then looks blocked; with "
            "dark-on ones a dead receiver looks like an empty street for ever.",
            "A Pi 5 needs lgpio; RPi.GPIO and pigpio do not work there.",
        ),
        quirks=(
            "Outputs bounce: a level is believed once it has held for min_gap_ms, and a crossing "
            "keeps the kernel's time of its last edge.",
            "Who turns back, or reaches through one beam, counts as nobody.",
            "Two people abreast or nose to tail are one body to a beam: expect fewer than passed "
            "where the way is wider than one person.",
            "A passage longer than timeout_s (a trolley, snow on a lens) counts nobody, and "
            "counting begins again once both beams are clear.",
            "A covered beam and an empty street look alike from outside: what the beams do is "
            "never reported but as crossings, since it would tell of persons.",
        ),
        evidence="data sheet only",
        evidence_note="Simulated walkers only, bounce and turn-backs included, never a counted "
        "crowd at real beams. In single file, 0.2 m between them: none missed at 5, 30 and 60 a "
        "minute. Where people walk as they like, abreast or close behind each other: 4 % too few "
        "at 5 a minute, 25 % at 30, 44 % at 60 (docs/counting.md).",
        source=SOURCE,
        example={"pin_a": 17, "pin_b": 27},
    )

    def __init__(self, bus: PinBus, options: Options, now_ns: Clock) -> None:
        self.interval_s = 0.5
        self.rate_hz = 1.0
        self.frames = 0  # edges; they tell of persons, so replay's summary alone may show them
        self.frame_errors = 0
        self.identity = ""
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._warmup = base.Warmup(options.warmup_s)
        self._watch: PinWatch | None = None
        self._counter: BeamCounter | None = None
        self._said_second = -1

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """Nothing but crossings."""
        return {}

    def open(self) -> None:
        """Take the pins and begin with the beams as they are. Raises BusError."""
        self.close()
        pin_a, pin_b = self._options.pin_a, self._options.pin_b
        self._watch = self._bus.watch((pin_a, pin_b), pull=self._options.pull)
        self._counter = BeamCounter.start(
            self._options, self._watch.level(pin_a), self._watch.level(pin_b)
        )
        self._warmup.restart(self._now_ns())

    def poll(self) -> Sequence[Glimpse]:
        """Take the edges since the last poll. Raises BusError.

        Besides crossings there is one sign of life for each second of the clock that is polled
        in, whoever passes.
        """
        if self._watch is None or self._counter is None:
            raise BusError(f"pins {self._options.pin_a}, {self._options.pin_b} are not open")
        now_ns = self._now_ns()
        edges = self._watch.edges()
        self.frames += len(edges)
        crossings = self._counter.take(edges, now_ns)
        seen: list[Glimpse] = []
        is_warm = self._warmup.is_over(now_ns)
        if now_ns // 1_000_000_000 != self._said_second:
            self._said_second = now_ns // 1_000_000_000
            seen.append(Alive(now_ns) if is_warm else Trouble("warmup", now_ns))
        if is_warm:
            seen += [Crossing(self._named(direction), at_ns) for direction, at_ns in crossings]
        return seen

    def picture(self) -> base.Scene | None:
        """Return the state of both beams."""
        if self._counter is None:
            return None
        blocked = self._counter.beams
        return base.Scene(
            forward=self._named("towards"),
            beams=tuple((beam.name or "", beam in blocked) for beam in (Beams.A, Beams.B)),
        )

    def close(self) -> None:
        """Give the pins back."""
        watch, self._watch, self._counter = self._watch, None, None
        if watch is not None:
            watch.close()

    def _named(self, direction: Direction) -> Direction:
        return base.OPPOSITE[direction] if self._options.flip else direction
