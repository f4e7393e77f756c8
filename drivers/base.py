"""What a driver says to the rest of the gateway, and the errors it may say it with.

A driver turns a device's bytes into observations: a `Reading` of a quantity, or, for a people
sensor, that it is `Alive` and that somebody crossed. It holds no lock, starts no thread, never
sleeps long and never retries: the collector that owns the bus does. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NoReturn,
    Protocol,
    TypeVar,
    get_args,
    runtime_checkable,
)

from pydantic import BaseModel, ConfigDict

Kind = Literal["people", "road", "snow", "weather", "position", "cabinet"]
BusKind = Literal["serial", "i2c", "gpio", "w1", "system"]
Direction = Literal["towards", "away", "total"]

OPPOSITE: Mapping[Direction, Direction] = {
    "towards": "away",
    "away": "towards",
    "total": "total",
}

# The contract's fixed list: why a value, or a window, is not what it should be.
Reason = Literal[
    "out_of_range",
    "spike",
    "stuck",
    "rate",
    "warmup",
    "obstructed",
    "weak_signal",
    "bus_error",
    "frame_error",
    "stale",
    "uncalibrated",
    "partial",
    "clock_step",
    "maintenance",
    "burned",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

# Those of people sensors. The others would tell of persons: a covered sensor, or one that sees
# nobody.
PeopleReason = Literal[
    "bus_error", "frame_error", "warmup", "partial", "clock_step", "maintenance", "burned"
]
PEOPLE_REASONS: frozenset[Reason] = frozenset(get_args(PeopleReason))

AIR_TEMPERATURE = "air_temperature_c"  # the quantity that a HearsTemperature is told

Clock = Callable[[], int]  # the boot-time clock, nanoseconds

# No true time is earlier: this program did not exist. Moved forward with releases.
BUILT_NS = 1_793_491_200 * 1_000_000_000  # 2026-11-01


class DriverError(Exception):
    """A device or its bus did not do what its specification says."""


class BusError(DriverError):
    """Nobody answered, or the bus is gone. The collector backs off and opens it again."""


class SpeedError(BusError):
    """The adapter cannot do the speed asked for; another one it may."""


class IdentityError(BusError):
    """Somebody answers, and it is another device than the one configured. Named before use."""


class FrameError(DriverError):
    """The device answered nonsense. Counted and dropped; the next answer may be right."""


class NoGlimpseError(Exception):
    """A people driver handed on what it may not: a bug of that driver. Says what kind of thing."""


class Withheld:
    """What tells of persons: it prints nothing, and is never serialised, copied or hashed.

    So a log line, a crash trace or a record cannot carry it away by accident. A people driver is
    one itself, since it holds what it saw last.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Here, not once above: a frozen dataclass makes itself a hash unless its class says so.
        cls.__hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(withheld)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is never serialised")


class Reading(NamedTuple):
    """One measured value of one quantity at one instant."""

    quantity: str  # "surface_temperature_c": the name ends in the unit
    value: float | str | None  # in that unit, or a class's name; None = the device said "invalid"
    at_boot_ns: int  # boot-time clock, taken just before the bus transaction
    reasons: tuple[Reason, ...] = ()  # why there is no value, or why it is doubtful


@dataclass(frozen=True, slots=True, repr=False)
class Crossing(Withheld):
    """Somebody crossed the counting line. Lives in memory until its window is released."""

    direction: Direction
    at_boot_ns: int


@dataclass(frozen=True, slots=True, repr=False)
class Scene(Withheld):
    """What a people sensor sees now, to be drawn for those who agreed to it; never kept.

    Lengths are in `unit`, on two axes: along the way people walk, and across it.
    """

    forward: Direction  # the name of the way on which `along` increases, or beam A is first
    unit: str = ""  # "pixels", "m"; empty: it has no place, only beams
    along: tuple[float, float] = (0.0, 0.0)  # what is seen: from, to
    across: tuple[float, float] = (0.0, 0.0)
    line: float = 0.0  # of `along`: where people are counted
    warmth_k: tuple[tuple[float, ...], ...] = ()  # above the background, rows of pixels
    people: tuple[tuple[int, float, float], ...] = ()  # who is followed: number, along, across
    beams: tuple[tuple[str, bool], ...] = ()  # name, is it blocked


class Alive(NamedTuple):
    """A people sensor worked at this instant. Depends on the device only, never on persons."""

    at_boot_ns: int


R = TypeVar("R", bound=Reason, covariant=True)


@dataclass(frozen=True, slots=True)
class Trouble(Generic[R]):
    """The device could not measure at this instant, for a reason that concerns all it measures."""

    reason: R
    at_boot_ns: int


class Fix(NamedTuple):
    """Where the gateway was at one instant, and what time the receiver vouches for (WGS 84)."""

    latitude_deg: float
    longitude_deg: float
    at_boot_ns: int
    speed_m_s: float | None = None
    error_m: float | None = None  # horizontal, one sigma
    utc_ns: int | None = None


# All that a people driver may hand on. It has no place for a value, a picture or a track.
Glimpse = Crossing | Alive | Trouble[PeopleReason]
Observation = Reading | Crossing | Alive | Trouble[Reason] | Fix


def glimpses(handed_on: Iterable[object]) -> list[Glimpse]:
    """Return what a people driver handed on, if it may; the type checker has not seen all of them.

    Raises NoGlimpseError.
    """
    found: list[Glimpse] = []
    for seen in handed_on:
        if type(seen) is Crossing or type(seen) is Alive:
            found.append(seen)
        elif type(seen) is not Trouble:
            raise NoGlimpseError(
                f"a people sensor handed on a {type(seen).__name__}: nothing but Crossing, Alive "
                "and Trouble may leave it"
            )
        elif seen.reason not in PEOPLE_REASONS:
            raise NoGlimpseError(
                "a people sensor gave a reason that tells of persons: only "
                f"{', '.join(sorted(PEOPLE_REASONS))} are allowed"
            )
        else:
            found.append(seen)
    return found


class Limits(NamedTuple):
    """What a believable series of a quantity keeps to, in its unit: QARTOD's thresholds.

    A sample that fails is rejected; one that is suspect stays in the aggregate and is counted. None
    switches a test off. Source: IOOS, Manual for Real-Time Quality Control (QARTOD) of In-situ
    Temperature and Salinity Data, tests 4 (gross range), 6 (spike), 7 (rate of change) and 8 (flat
    line). `outlier` is ours: echoes of falling snow come in crowds, and no neighbour of one helps.
    """

    range: tuple[float, float] | None = None  # gross range: outside fails
    suspect_range: tuple[float, float] | None = None  # gross range: outside is suspect
    spike: float | None = None  # away from the mean of both neighbours by more fails
    suspect_spike: float | None = None
    rate_per_s: float | None = None  # a faster change from the sample before is suspect
    flat_s: float | None = None  # within `flat_tolerance` for so long fails
    suspect_flat_s: float | None = None
    flat_tolerance: float = 0.0
    outlier: float | None = None  # away from a window's densest quarter by more fails, as a spike


class Quantity(NamedTuple):
    """What a channel measures: a number in a unit, or one class of several."""

    name: str  # ends in its unit
    unit: str  # UCUM code; "1" for ratios, codes and classes
    means: str  # one phrase for a technician
    low: float | None = None  # what the device can say at all
    high: float | None = None
    classes: tuple[str, ...] = ()  # empty for a number
    limits: Limits = Limits()  # of a number: what is believed, where the configuration says nothing

    @property
    def is_class(self) -> bool:
        """Whether a value of it is a name, not a number."""
        return bool(self.classes)


class LineSettings(NamedTuple):
    """How a serial line is set: the data sheet's default of a device."""

    baud: int
    data_bits: int = 8
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: int = 1


class Options(BaseModel):
    """The base of every driver's options: strict, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def missing_to_measure(self) -> list[str]:
        """Say what a live device needs beyond these options, one sentence each.

        A replay decodes what a file holds and needs less, so this is not part of validation.
        """
        return []

    def claims(self) -> list[str]:
        """Name what only one sensor on a bus may use: an address, a pin."""
        return []

    def line(self) -> LineSettings | None:
        """Return how the serial line must be set, where the options say so; else the model's."""
        return None

    def second_port(self) -> str | None:
        """Name the other serial port of a sensor that needs two; its driver gets a SerialPair."""
        return None

    def listens_to(self) -> str | None:
        """Name the sensor whose air temperature the driver hears (HearsTemperature)."""
        return None


@dataclass(frozen=True, slots=True)
class Spec:
    """What is true of a device model whatever its options.

    `yukimi drivers NAME`, `docs/drivers/NAME.md` and the JSON Schema of the configuration are all
    written from here: what a technician must know about a device stands in no other place.
    """

    name: str  # "maxbotix-hrxl": the name used in a configuration
    title: str  # maker and models, as printed on the device
    kind: Kind
    bus: BusKind
    quantities: tuple[Quantity, ...]  # all it may report; empty for people sensors
    directions: tuple[Direction, ...] = ()  # what a people sensor counts
    header: tuple[tuple[str, str], ...] = ()  # (the device's wire, where it goes on the Pi)
    wiring: tuple[str, ...] = ()  # one sentence each: levels, power, mounting, warnings
    quirks: tuple[str, ...] = ()  # one sentence each: what surprises, and what the driver does
    checksum: str = ""  # what proves a frame, "CRC-16/MODBUS"; empty: the device sends none
    evidence: Literal["recorded bytes", "vendor vectors", "data sheet only"] = "data sheet only"
    evidence_note: str = ""  # what exactly was checked against what
    source: str = ""  # data sheet or manual, with its number
    line: LineSettings | None = None  # serial only
    bauds: tuple[int, ...] = ()  # serial only: other speeds such a device is found at
    shares_bus: bool = False  # several devices may sit on one serial line
    talks: bool = False  # serial only: it sends unasked, so a scan need only listen
    addresses: tuple[int, ...] = ()  # I2C only: where such a device can be
    example: Mapping[str, object] = field(default_factory=dict)  # options of one that measures


class Driver(Protocol):
    """A device on its bus. Built as `Class(bus, options, now_ns)`; does no I/O before `open`."""

    spec: ClassVar[Spec]
    Options: ClassVar[type[Options]]
    interval_s: float  # how often `poll` wants to be called
    rate_hz: float  # nominal valid samples a second (people: 1, the seconds alive)
    frames: int  # complete frames from the device so far, good or in-band invalid
    frame_errors: int  # answers that were no valid frame
    identity: str  # what the device said of itself at `open`: model, firmware; "" if nothing

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """What it reports under its present options, by name."""
        ...

    def open(self) -> None:
        """Find the device, make sure that it is the one, configure it, read that back.

        Raises BusError (IdentityError: another device answers), or FrameError.
        """
        ...

    def poll(self) -> Sequence[Observation]:
        """Measure once, or take what the device sent since the last poll.

        A people driver returns `Sequence[Glimpse]`; whatever else it hands on is refused.
        Raises BusError or FrameError; what was decoded before the error is kept for the next poll.
        """
        ...

    def close(self) -> None:
        """Leave the device in peace. Never raises."""
        ...


@runtime_checkable
class SerialDriver(Protocol):
    """A driver on a serial line can also decode bytes without asking for them (replay)."""

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        """Decode what arrived at `at_boot_ns`; never raises, whatever the bytes."""
        ...


@runtime_checkable
class Pictures(Protocol):
    """A people sensor's driver that can show what it sees, to who stands before it and agrees."""

    def picture(self) -> Scene | None:
        """Return what the last poll saw; None before there is anything."""
        ...


@runtime_checkable
class HearsTemperature(Protocol):
    """A driver that needs the air's temperature and has no thermometer: another sensor tells it."""

    def hear_temperature(self, celsius: float, at_boot_ns: int) -> None:
        """Take the air's temperature measured at `at_boot_ns`. Called from another thread."""
        ...


class Found(NamedTuple):
    """A device that a scan met, and how a configuration would name it."""

    what: str  # for a person: "BME280 (chip id 0x60)"
    options: Mapping[str, object]  # {"address": 0x76}


@runtime_checkable
class Recognises(Protocol):
    """An I2C driver's class that can tell its device from others, for `yukimi scan`."""

    @classmethod
    def recognise(cls, bus: Any, address: int) -> Found | None:
        """Say what answers at `address` of an I2cBus, if it is such a device; None if another.

        Reads identity registers and changes nothing. Raises BusError if nobody answers.
        """
        ...


@runtime_checkable
class Discovers(Protocol):
    """A serial driver's class whose devices can be asked who they are, for `yukimi scan`.

    Devices that send unasked (`Spec.talks`) need not have it: a scan listens, and decodes.
    """

    @classmethod
    def discover(cls, port: Any, now_ns: Clock, until_ns: int) -> Iterator[Found]:
        """Yield the devices on a SerialPort as they answer; stop by `until_ns`.

        Sends only the protocol's questions for an identity. Raises BusError.
        """
        ...


@dataclass(slots=True)
class Stillness:
    """Tells a device that repeats itself from one that measures.

    What is measured always trembles in its last digit. The same raw answer for longer than
    `after_s` means that nothing is measured any more; 0 switches the check off.
    """

    after_s: float
    _said: object = field(default=None)
    _since_ns: int = field(default=0)

    def lasts(self, said: object, at_ns: int) -> bool:
        """Take a raw answer; tell whether the same has been given for too long."""
        if self._said is None or said != self._said:
            self._said, self._since_ns = said, at_ns
        return 0 < self.after_s <= (at_ns - self._since_ns) / 1e9

    def forget(self) -> None:
        """Begin anew: the device was just powered or reset."""
        self._said = None


@dataclass(slots=True)
class Warmup:
    """The time after opening in which a device's values are not yet to be believed."""

    duration_s: float
    _until_ns: int | None = field(default=None)

    def restart(self, now_ns: int) -> None:
        """Begin anew: the device was just powered or reset."""
        self._until_ns = now_ns + round(self.duration_s * 1e9)

    def is_over(self, now_ns: int) -> bool:
        """Tell whether the device may be believed at `now_ns`."""
        return self._until_ns is not None and now_ns >= self._until_ns


def describe(options: type[Options]) -> list[tuple[str, str, Any, str]]:
    """List a driver's options as (name, type, default or "required", what it means)."""
    rows = []
    for name, info in options.model_fields.items():
        annotation = info.annotation
        shown = getattr(annotation, "__name__", None) or str(annotation)
        if getattr(annotation, "__args__", None):
            shown = str(annotation).replace("typing.", "").replace("NoneType", "none")
        default = "required" if info.is_required() else info.get_default(call_default_factory=True)
        rows.append((name, shown, default, info.description or ""))
    return rows
