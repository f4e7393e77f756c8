"""Counters that give a pulse for each person: turnstiles, door counters with a relay or open
collector, by one output for everybody or by two, one for each way.

The counting is the device's; what is ours is to tell its pulses from bounce and from noise on the
cable. A pulse counts when it ends: then it is known to have been neither too short nor stuck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from .debounce import Debouncer
from .gpio import Edge, PinBus, PinWatch, Pull

Active = Literal["low", "high"]

# No counter holds its output for a minute: that is a short circuit, a relay that sticks, a door
# that is held. It counts nobody, and the next pulse counts again.
LONGEST_PULSE_NS = 60_000_000_000


class PulseGauge(Withheld):
    """From the believed edges of some pins to the pulses on them."""

    def __init__(
        self, levels: Mapping[int, int], *, active_level: int, shortest_ns: int, longest_ns: int
    ) -> None:
        # These two tell of persons, so they never leave the process.
        self.rejected = 0  # pulses that were too short
        self.stuck = 0  # pulses that were too long
        self._active_level = active_level
        self._shortest_ns = shortest_ns
        self._longest_ns = longest_ns
        # When each pin became active; an output that was so at the start began at no known time.
        self._since_ns: dict[int, int | None] = {
            pin: None for pin, level in levels.items() if level == active_level
        }

    def take(self, edge: Edge) -> bool:
        """Take an edge; tell whether it ends a pulse that counts."""
        if edge.level == self._active_level:
            self._since_ns.setdefault(edge.pin, edge.at_boot_ns)
            return False
        since_ns = self._since_ns.pop(edge.pin, None)
        if since_ns is None:
            return False
        length_ns = edge.at_boot_ns - since_ns
        self.rejected += length_ns < self._shortest_ns
        self.stuck += length_ns > self._longest_ns
        return self._shortest_ns <= length_ns <= self._longest_ns


class PulseCounterOptions(base.Options):
    """How the counter's outputs are wired."""

    pin: int | None = Field(
        None, ge=0, le=27, description="BCM number of the pin of a counter with one output"
    )
    pin_towards: int | None = Field(
        None, ge=0, le=27, description="BCM number of the pin of the output for one way"
    )
    pin_away: int | None = Field(
        None, ge=0, le=27, description="BCM number of the pin of the output for the other way"
    )
    active: Active = Field(
        "low",
        description="level during a pulse: low for a contact or open collector to ground, high for "
        "one that is closed at rest (a cut cable then looks like a pulse that never ends)",
    )
    pull: Pull = Field(
        "up", description="the Pi's own resistor: up for an open collector or a dry contact"
    )
    min_gap_ms: float = Field(
        20.0,
        ge=0,
        le=500,
        description="how long a pin must hold a level to be believed: 20 for a contact, "
        "5 for an optical or open-collector output",
    )
    min_pulse_ms: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="shorter pulses are noise: half of the length in the counter's manual; "
        "pulses shorter than min_gap_ms never count",
    )
    warmup_s: float = Field(
        0.0, ge=0, description="for a counter that is switched on together with the gateway"
    )

    @model_validator(mode="after")
    def _one_or_two_outputs(self) -> PulseCounterOptions:
        pair = (self.pin_towards, self.pin_away)
        if (self.pin is None) == (pair == (None, None)) or (self.pin is None and None in pair):
            raise ValueError("set either pin, for one output, or both pin_towards and pin_away")
        if self.pin is None and self.pin_towards == self.pin_away:
            raise ValueError(
                f"pin_towards and pin_away are both {self.pin_away}: "
                "each output needs a pin of its own"
            )
        return self

    @property
    def ways(self) -> Mapping[int, Direction]:
        """What a pulse on each pin means."""
        ways: dict[int | None, Direction] = {
            self.pin: "total",
            self.pin_towards: "towards",
            self.pin_away: "away",
        }
        return {pin: way for pin, way in ways.items() if pin is not None}

    def claims(self) -> list[str]:
        """Name the pins."""
        return [f"pin {pin}" for pin in self.ways]


class PulseCounter(Withheld):
    """One or two pulse outputs on pins. `directions` is what this one counts."""

    spec: ClassVar[Spec] = Spec(
        name="pulse-counter",
        title="People counters with one or two pulse outputs, any maker",
        kind="people",
        bus="gpio",
        quantities=(),
        directions=("towards", "away", "total"),
        header=(
            ("output (one for all)", "any free GPIO, such as pin 11 (GPIO 17): pin = 17"),
            ("output IN", "any free GPIO, such as pin 11 (GPIO 17): pin_towards = 17"),
            ("output OUT", "any free GPIO, such as pin 13 (GPIO 27): pin_away = 27"),
            ("the outputs' common or 0 V", "pin 9 (GND)"),
        ),
        wiring=(
            "Pins take 3.3 V and no more: never connect an output that carries 5, 12 or 24 V; "
            "such a counter needs an opto-isolator or a relay between.",
            "Dry contact or open collector: output to the pin, its common to the Pi's ground; "
            "the Pi's pull-up does the rest.",
            "For runs of more than a few metres put an opto-isolator and an RC filter at the Pi.",
            "Set the counter to one pulse a person, as long as it can be set (50 ms or more).",
            "A Pi 5 needs lgpio; RPi.GPIO and pigpio do not work there.",
        ),
        quirks=(
            "A PIR's output is no count of people: it says that something warm moved within the "
            "last seconds, ten people are one pulse, and in its first minute it triggers falsely. "
            "Do not connect one here.",
            "Contacts bounce: a level is believed once it has held for min_gap_ms.",
            "A pulse counts when it ends, at the kernel's time of its last edge; one of more than "
            "60 s (a relay that sticks, a short circuit) counts nobody, and the next one counts.",
            "A counter that is dead or cut off looks like an empty street; where the output can "
            "be closed at rest (active = 'high'), use that and look at the pin when in doubt.",
            "With one output the count is `total`; what the counter itself misses or counts twice "
            "is not seen here.",
        ),
        evidence="data sheet only",
        evidence_note="Checked with simulated crowds whose contacts bounce and whose cables pick "
        "up noise, never beside a counted crowd at a real counter.",
        source="General properties of dry-contact and open-collector outputs; no one maker's",
        example={"pin_towards": 5, "pin_away": 6},
    )
    Options: ClassVar[type[base.Options]] = PulseCounterOptions

    def __init__(self, bus: PinBus, options: PulseCounterOptions, now_ns: Clock) -> None:
        self.interval_s = 0.5
        self.rate_hz = 1.0
        self.frames = 0  # edges; they tell of persons, so replay's summary alone may show them
        self.frame_errors = 0
        self.identity = ""
        self.directions: tuple[Direction, ...] = tuple(options.ways.values())
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._warmup = base.Warmup(options.warmup_s)
        self._watch: PinWatch | None = None
        self._debouncer: Debouncer | None = None
        self._gauge: PulseGauge | None = None
        self._said_second = -1

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """Nothing but crossings."""
        return {}

    @property
    def rejected(self) -> int:
        """Edges and pulses not believed since `open`; tells of persons: never out of here."""
        if self._debouncer is None or self._gauge is None:
            return 0
        return self._debouncer.rejected + self._gauge.rejected

    def open(self) -> None:
        """Take the pins and begin with the outputs as they are. Raises BusError."""
        self.close()
        options = self._options
        pins = tuple(options.ways)
        self._watch = self._bus.watch(pins, pull=options.pull)
        levels = {pin: self._watch.level(pin) for pin in pins}
        self._debouncer = Debouncer(levels, round(options.min_gap_ms * 1e6))
        self._gauge = PulseGauge(
            levels,
            active_level=0 if options.active == "low" else 1,
            shortest_ns=round(options.min_pulse_ms * 1e6),
            longest_ns=LONGEST_PULSE_NS,
        )
        self._warmup.restart(self._now_ns())

    def poll(self) -> Sequence[Glimpse]:
        """Take the edges since the last poll. Raises BusError.

        Besides crossings there is one sign of life for each second of the clock that is polled
        in, whoever passes.
        """
        if self._watch is None or self._debouncer is None or self._gauge is None:
            pins = ", ".join(str(pin) for pin in self._options.ways)
            raise BusError(f"pin {pins} is not open")
        now_ns = self._now_ns()
        edges = self._watch.edges()
        self.frames += len(edges)
        pulses = [
            Crossing(self._options.ways[edge.pin], edge.at_boot_ns)
            for edge in self._debouncer.settle(edges, now_ns)
            if self._gauge.take(edge)
        ]
        seen: list[Glimpse] = []
        is_warm = self._warmup.is_over(now_ns)
        if now_ns // 1_000_000_000 != self._said_second:
            self._said_second = now_ns // 1_000_000_000
            seen.append(Alive(now_ns) if is_warm else Trouble("warmup", now_ns))
        return [*seen, *pulses] if is_warm else seen

    def close(self) -> None:
        """Give the pins back."""
        watch, self._watch, self._debouncer, self._gauge = self._watch, None, None, None
        if watch is not None:
            watch.close()
