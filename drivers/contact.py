"""A contact that says one thing of the cabinet: its door is open, or its mains power is there.

The wiring is fail-safe by construction: the Pi's resistor pulls the pin away from the good level,
so that a cut wire, a loose plug or a dead power supply looks like the alarm, never like peace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from . import base
from .base import BusError, Clock, Quantity, Reading, Spec
from .debounce import LATENESS_NS, Debouncer
from .gpio import Edge, PinBus, PinWatch

# Rejected edges in one second. A heavy door bounces ten times as it shuts; more is a loose wire,
# and the last level that happened to hold is no state.
CHATTER_EDGES = 50

OPEN = Quantity("open", "1", "whether the door is open", classes=("yes", "no"))
POWER_OK = Quantity(
    "power_ok", "1", "whether the mains power is there, as the UPS says", classes=("yes", "no")
)

# (what is said at the good level, what otherwise)
_WORDS = {"open": ("no", "yes"), "power_ok": ("yes", "no")}


class ContactOptions(base.Options):
    """What the contact means, and how it is wired."""

    pin: int = Field(ge=0, le=27, description="BCM number of the pin")
    measures: Literal["open", "power_ok"] = Field(
        description="what it tells: open, of a door switch; power_ok, of a UPS or mains relay"
    )
    good_level: Literal["low", "high"] = Field(
        "low",
        description="level of the pin while all is well (door shut, power there): low for a "
        "contact to ground that is then closed; high for one to 3.3 V, or an output that is then "
        "at 3.3 V; the Pi's resistor pulls the other way, so that a cut wire is an alarm",
    )
    min_gap_ms: float = Field(
        50.0, ge=0, le=1000, description="how long the contact must hold to be believed"
    )

    def claims(self) -> list[str]:
        """Name the pin."""
        return [f"pin {self.pin}"]


class Contact:
    """A door switch, or the power-fail output of a UPS, on a pin."""

    spec: ClassVar[Spec] = Spec(
        name="contact",
        title="Door switch, reed contact or power-fail output, any maker",
        kind="cabinet",
        bus="gpio",
        quantities=(OPEN, POWER_OK),
        header=(
            ("contact", "any free GPIO, such as pin 15 (GPIO 22): pin = 22"),
            ("its other end", "pin 14 (GND); pin 17 (3.3 V) with good_level = 'high'"),
        ),
        wiring=(
            "Pins take 3.3 V and no more: a relay or opto-isolator must stand between a UPS that "
            "signals with 5, 12 or 24 V and the pin.",
            "Use a contact that is closed while all is well (a reed with the magnet at the shut "
            "door; the relay of a UPS that holds while there is mains): then a cut wire is an "
            "alarm.",
            "Not GPIO 2 or 3 with good_level = 'high': they have pull-up resistors on the board.",
            "For runs of more than a few metres put an RC filter at the Pi.",
            "A Pi 5 needs lgpio; RPi.GPIO and pigpio do not work there.",
        ),
        quirks=(
            "A cut wire and an open door look alike, on purpose.",
            "A contact that closes in the alarm cannot be made fail-safe and is not read here: use "
            "the other contact of its relay.",
            "Contacts bounce: a level is believed once it has held for 50 ms (min_gap_ms).",
            "A loose wire that chatters is no state: readings without value, reason weak_signal.",
            "Each change is told with the time of its edge, besides the state once a second.",
        ),
        evidence="data sheet only",
        evidence_note="Checked with simulated contacts that bounce, chatter and are cut, on "
        "gpiozero's mock pins; never at a real door.",
        source="General properties of reed contacts and relay outputs; no one maker's",
    )
    Options: ClassVar[type[base.Options]] = ContactOptions

    def __init__(self, bus: PinBus, options: ContactOptions, now_ns: Clock) -> None:
        self.interval_s = 0.5
        self.rate_hz = 1.0
        self.frames = 0  # edges
        self.frame_errors = 0
        self.identity = ""
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._quantity = OPEN if options.measures == "open" else POWER_OK
        self._good_level = 0 if options.good_level == "low" else 1
        self._watch: PinWatch | None = None
        self._debouncer: Debouncer | None = None
        self._known_ns = 0  # no edge before this is still to come
        self._said_second = -1
        self._rejected_then = 0

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """The one that the option `measures` names."""
        return {self._quantity.name: self._quantity}

    def open(self) -> None:
        """Take the pin, pulled away from the good level. Raises BusError."""
        self.close()
        pin = self._options.pin
        self._watch = self._bus.watch((pin,), pull="down" if self._good_level else "up")
        self._debouncer = Debouncer(
            {pin: self._watch.level(pin)}, round(self._options.min_gap_ms * 1e6)
        )
        self._known_ns = self._now_ns()
        self._rejected_then = 0

    def poll(self) -> Sequence[Reading]:
        """Return the changes since the last poll, and once a second the state. Raises BusError.

        The state is of the last instant that no later edge can change, a moment ago: so the
        readings are in the order of their times, and none contradicts a change told after it.
        """
        pin = self._options.pin
        if self._watch is None or self._debouncer is None:
            raise BusError(f"pin {pin} is not open")
        now_ns = self._now_ns()
        edges = self._watch.edges()
        self.frames += len(edges)
        level = self._watch.level(pin)
        changes = self._debouncer.settle(edges, now_ns)
        seen = [self._reading(edge.level, edge.at_boot_ns) for edge in changes]
        if self._debouncer.is_settled and level != self._debouncer.levels[pin]:
            # An edge was lost, and an alarm may not be lost with it.
            self._debouncer.take(Edge(pin, level, now_ns))
        settled_ns = now_ns - LATENESS_NS - round(self._options.min_gap_ms * 1e6)
        self._known_ns = max(self._known_ns, settled_ns, *(edge.at_boot_ns for edge in changes))
        if now_ns // 1_000_000_000 != self._said_second:
            self._said_second = now_ns // 1_000_000_000
            seen.append(self._state(self._debouncer, self._known_ns))
        return seen

    def close(self) -> None:
        """Give the pin back."""
        watch, self._watch, self._debouncer = self._watch, None, None
        if watch is not None:
            watch.close()

    def _state(self, debouncer: Debouncer, at_boot_ns: int) -> Reading:
        chatter = debouncer.rejected - self._rejected_then
        self._rejected_then = debouncer.rejected
        if chatter > CHATTER_EDGES:
            return Reading(self._quantity.name, None, at_boot_ns, ("weak_signal",))
        return self._reading(debouncer.levels[self._options.pin], at_boot_ns)

    def _reading(self, level: int, at_boot_ns: int) -> Reading:
        good, otherwise = _WORDS[self._quantity.name]
        return Reading(
            self._quantity.name, good if level == self._good_level else otherwise, at_boot_ns
        )
