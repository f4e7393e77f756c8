"""GNSS receivers that talk NMEA 0183: where the gateway is, and what time it is there.

A receiver talks unasked, a burst of sentences for each epoch. Taken are RMC (place, speed, date),
GGA (quality, satellites, HDOP), GST (the receiver's own error bound) and VTG (speed, where no RMC
is sent); those of the same second are one fix. Every sentence must carry its checksum. It is only
eight bits, so each field taken must also be built as the standard has it: a sentence that is not
is damaged, whatever its sum. What else is on the line (UBX, SiRF, noise) is counted and dropped.

A receiver also says where it does not know: no fix is taken from a void or estimated position, a
poor geometry, a jump that no vehicle makes. Its date goes through two traps: a week number of ten
bits repeats every 1024 weeks, and an old firmware then names a day nineteen years off. A date from
before this program was built says nothing of time; it is not put right by guessing.

Sources: test/daemon of gpsd 6362727, recorded logs with gpsd's own decoding, against which places,
speeds and times are held. [K] the layout of the sentences, their mode and quality flags, as in
"NMEA Revealed" and UBX-13003221: common knowledge, not copied from either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from operator import xor
from typing import ClassVar, Literal

from pydantic import Field

from . import base
from .base import BUILT_NS, BusError, Fix, FrameError, LineSettings, Quantity, Reading, Reason
from .buses import SerialPort

TALKERS = frozenset((b"GP", b"GN", b"GL", b"GA", b"GB", b"GQ", b"QZ"))
TAKEN = frozenset((b"RMC", b"GGA", b"GST", b"VTG"))

SENTENCE_BYTES_MAX = 255  # the standard says 82; receivers say more
KNOT_M_S = 1852 / 3600
RANGE_ERROR_M = 5.0  # [K] user range error of one frequency without corrections, one sigma
HDOP_UNKNOWN = 50.0  # [K] SiRF says 50.0 and u-blox 99.99 for "none"

SPEED_MAX_M_S = 60.0
APART_MAX_M = 50.0  # of two sentences about the same instant
STRAYS_BELIEVED = 5  # fixes in a row that fit each other and not the track before them
EARTH_M = 6_371_000.0

READ_TIMEOUT_S = 0.02
SILENCE_S = 10.0
LISTEN_S = 2.5  # at one speed: more than two bursts of a receiver at 1 Hz
STRANGE_BYTES = 32  # so many without a sentence are no accident

_DAY_MS = 86_400_000

SATELLITES = Quantity("satellites", "1", "satellites used for the position", 0.0, 99.0)
HDOP = Quantity("hdop", "1", "horizontal dilution of precision", 0.1, HDOP_UNKNOWN)

_ENDS = re.compile(rb"[\r\n]|(?=\$)")
_SENTENCE = re.compile(rb"\$([ -#%-)+-~]+)\*([0-9A-Fa-f]{2})")
_TIME = re.compile(rb"([01]\d|2[0-3])([0-5]\d)([0-5]\d|60)(?:\.(\d{1,9}))?")
_DATE = re.compile(rb"(\d\d)(\d\d)(\d\d)")
_LATITUDE = re.compile(rb"(\d\d)([0-5]\d(?:\.\d{0,9})?)")
_LONGITUDE = re.compile(rb"(\d{3})([0-5]\d(?:\.\d{0,9})?)")
_NUMBER = re.compile(rb"\d{1,7}(?:\.\d{0,9})?")


class Sentences:
    """Cuts a byte stream into sentences whose checksum is right.

    What stands between two line ends or dollars is a sentence or damage, and damage is counted
    once. Bounded: a longer piece than any sentence is damage before its end has come.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self.errors = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what stands between dollar and asterisk of each sentence that `chunk` ends."""
        *pieces, self._rest = _ENDS.split(self._rest + chunk)
        for piece in pieces:
            if self._skipping:
                self._skipping = False
                continue
            if not piece:
                continue
            found = _SENTENCE.fullmatch(piece) if len(piece) <= SENTENCE_BYTES_MAX else None
            if found is None or reduce(xor, found[1]) != int(found[2], 16):
                self.errors += 1
            else:
                yield found[1]
        if self._skipping:
            self._rest = b""
        elif len(self._rest) > SENTENCE_BYTES_MAX:
            self.errors += 1
            self._skipping = True
            self._rest = b""

    def forget(self) -> None:
        """Drop what was begun: the speed of the line was changed, or it was opened anew."""
        self._rest, self._skipping = b"", False


@dataclass(frozen=True, slots=True)
class Said:
    """What one sentence says, None for each field that it left empty or does not have."""

    kind: Literal["RMC", "GGA", "GST", "VTG"]
    time_ms: int | None = None  # of the day, UTC; a leap second's are above 86,399,999
    is_valid: bool = True  # the receiver stands by it, and did not reckon or simulate it
    place: tuple[float, float] | None = None  # latitude and longitude, degrees, WGS 84
    speed_m_s: float | None = None
    day: date | None = None
    satellites: int | None = None
    hdop: float | None = None
    error_m: float | None = None  # horizontal, one sigma


def decode(body: bytes) -> Said | None:
    """Return what a sentence says, None if it is of a kind or a talker that is not taken.

    Raises FrameError where a field is not built as the standard has it.
    Source: [K] the layout of RMC, GGA, GST and VTG.
    """
    if body[2:5] not in TAKEN or body[:2] not in TALKERS or body[5:6] != b",":
        return None
    fields = body.split(b",")
    return _DECODERS[body[2:5]](fields)


def _rmc(fields: Sequence[bytes]) -> Said:
    _at_least(fields, 10)
    mode = fields[12] if len(fields) > 12 else b""
    if fields[2] not in (b"A", b"V"):
        raise FrameError(f"RMC status {fields[2]!r}")
    return Said(
        "RMC",
        _time_ms(fields[1]),
        fields[2] == b"A" and mode not in (b"N", b"E", b"M", b"S"),
        _place(fields[3:7]),
        _scaled(fields[7], KNOT_M_S),
        _day(fields[9]),
    )


def _gga(fields: Sequence[bytes]) -> Said:
    _at_least(fields, 9)
    if fields[6] not in (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"):
        raise FrameError(f"GGA quality {fields[6]!r}")
    satellites = _scaled(fields[7])
    return Said(
        "GGA",
        _time_ms(fields[1]),
        fields[6] not in (b"0", b"6", b"7", b"8"),  # none, estimated, typed in, simulated
        _place(fields[2:6]),
        satellites=None if satellites is None else int(satellites),
        hdop=_scaled(fields[8]),
    )


def _gst(fields: Sequence[bytes]) -> Said:
    _at_least(fields, 8)
    north_m, east_m = _scaled(fields[6]), _scaled(fields[7])
    if north_m is None or east_m is None:
        return Said("GST", _time_ms(fields[1]))
    return Said("GST", _time_ms(fields[1]), error_m=math.hypot(north_m, east_m))


def _vtg(fields: Sequence[bytes]) -> Said:
    is_labelled = len(fields) > 6 and fields[6] == b"N"  # before version 2.3 it had no labels
    return Said("VTG", speed_m_s=_scaled(fields[5], KNOT_M_S) if is_labelled else None)


_DECODERS: Mapping[bytes, Callable[[Sequence[bytes]], Said]] = {
    b"RMC": _rmc,
    b"GGA": _gga,
    b"GST": _gst,
    b"VTG": _vtg,
}


def _at_least(fields: Sequence[bytes], count: int) -> None:
    if len(fields) < count:
        raise FrameError(f"{fields[0].decode('ascii', 'replace')} ends after {len(fields)} fields")


def _match(pattern: re.Pattern[bytes], text: bytes) -> re.Match[bytes] | None:
    """Return the match, None for an empty field. Raises FrameError for any other text."""
    if not text:
        return None
    found = pattern.fullmatch(text)
    if found is None:
        raise FrameError(f"no such field: {text!r}")
    return found


def _time_ms(text: bytes) -> int | None:
    found = _match(_TIME, text)
    if found is None:
        return None
    seconds = int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])
    return seconds * 1000 + int((found[4] or b"0").ljust(3, b"0")[:3])


def _day(text: bytes) -> date | None:
    found = _match(_DATE, text)
    if found is None:
        return None
    year = int(found[3])
    try:
        return date(year + (2000 if year < 80 else 1900), int(found[2]), int(found[1]))
    except ValueError:
        return None  # 000000 and the like, before the receiver knows it


def _place(fields: Sequence[bytes]) -> tuple[float, float] | None:
    latitude, longitude = _match(_LATITUDE, fields[0]), _match(_LONGITUDE, fields[2])
    if latitude is None or longitude is None:
        return None
    if fields[1] not in (b"N", b"S") or fields[3] not in (b"E", b"W"):
        raise FrameError(f"no such sides: {fields[1]!r}, {fields[3]!r}")
    north = int(latitude[1]) + float(latitude[2]) / 60
    east = int(longitude[1]) + float(longitude[2]) / 60
    if north > 90 or east > 180:
        raise FrameError(f"no such place: {fields[0]!r}, {fields[2]!r}")
    return (north if fields[1] == b"N" else -north), (east if fields[3] == b"E" else -east)


def _scaled(text: bytes, unit: float = 1.0) -> float | None:
    found = _match(_NUMBER, text)
    return None if found is None else float(found[0]) * unit


@dataclass(slots=True)
class Epoch:
    """What was said of one instant."""

    at_boot_ns: int  # when the first sentence of it was there
    time_ms: int | None
    said: dict[str, Said] = field(default_factory=dict)
    is_told: bool = False

    def first(self, name: str) -> float | None:
        """Return what any sentence says of `name`, the one with the best word for it first."""
        for kind in ("GST", "RMC", "GGA", "VTG"):
            value = getattr(self.said.get(kind), name, None)
            if value is not None:
                return float(value)
        return None

    @property
    def utc_ns(self) -> int | None:
        """The instant, where the receiver names a day on which this program can run."""
        rmc = self.said.get("RMC")
        if rmc is None or rmc.day is None or rmc.time_ms is None:
            return None
        days = rmc.day.toordinal() - date(1970, 1, 1).toordinal()
        utc_ns = (days * _DAY_MS + rmc.time_ms) * 1_000_000
        return utc_ns if utc_ns >= BUILT_NS else None

    @property
    def places(self) -> list[tuple[float, float]]:
        """Every sentence's word of where it was."""
        return [said.place for said in self.said.values() if said.place is not None]


class Epochs:
    """Puts together the sentences of one instant, and hands it on when nothing more will come.

    That is when all kinds are there that the two instants before had, or when the next begins.
    """

    def __init__(self) -> None:
        self._open: Epoch | None = None
        self._kinds: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def add(self, said: Said, at_boot_ns: int) -> Iterator[Epoch]:
        """Take what a sentence says; yield what is complete with it, at most two instants."""
        now = self._open
        expected = self._kinds[0] | self._kinds[1]
        if said.kind == "VTG":
            # It bears no time: with some receivers it opens a burst, and belongs to what follows.
            if now is None or "RMC" in now.said or "RMC" in expected:
                return
        elif now is None or self._begins(said, now):
            if now is not None:
                self._kinds = (self._kinds[1], frozenset(now.said))
                expected = self._kinds[0] | self._kinds[1]
                if not now.is_told:
                    yield now
            now = self._open = Epoch(at_boot_ns, said.time_ms)
        now.said[said.kind] = said
        if "RMC" in expected:
            expected -= {"VTG"}
        if expected and expected <= now.said.keys() and not now.is_told:
            now.is_told = True
            yield now

    @staticmethod
    def _begins(said: Said, now: Epoch) -> bool:
        if said.time_ms != now.time_ms:
            return True
        # Without a fix the time may stand still or be empty.
        return said.kind in now.said and (said.time_ms is None or not said.is_valid)


class Track:
    """Tells a jump that no vehicle makes from a journey.

    A place that cannot be reached from the last one is refused. If the fixes go on from there, the
    place before was the wrong one.
    """

    def __init__(self) -> None:
        self._last: tuple[Fix, int | None] | None = None
        self._stray: tuple[Fix, int | None] | None = None
        self._strays = 0

    def admits(self, fix: Fix, time_ms: int | None) -> bool:
        """Tell whether the gateway can be there; `time_ms` is the receiver's time of the day."""
        here = (fix, time_ms)
        if self._last is None or _is_reachable(self._last, here):
            self._last, self._stray, self._strays = here, None, 0
            return True
        follows = self._stray is not None and _is_reachable(self._stray, here)
        self._stray, self._strays = here, self._strays + 1 if follows else 1
        if self._strays < STRAYS_BELIEVED:
            return False
        self._last, self._stray, self._strays = here, None, 0
        return True


def _is_reachable(start: tuple[Fix, int | None], end: tuple[Fix, int | None]) -> bool:
    (a, a_ms), (b, b_ms) = start, end
    passed_s = max(0.0, (b.at_boot_ns - a.at_boot_ns) / 1e9)
    if a_ms is not None and b_ms is not None:
        # By its own clock, where several epochs were taken at once; which may have been set.
        told_s = (b_ms - a_ms) % _DAY_MS / 1000
        passed_s = max(passed_s, min(told_s, passed_s + SILENCE_S))
    margin_m = (a.error_m or RANGE_ERROR_M) + (b.error_m or RANGE_ERROR_M)
    here, there = (a.latitude_deg, a.longitude_deg), (b.latitude_deg, b.longitude_deg)
    return distance_m(here, there) <= SPEED_MAX_M_S * passed_s + margin_m


def distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the distance of two places given in degrees; haversine on a sphere."""
    south, north = math.radians(a[0]), math.radians(b[0])
    east = math.radians(b[1] - a[1])
    half = math.sin((north - south) / 2) ** 2
    half += math.cos(south) * math.cos(north) * math.sin(east / 2) ** 2
    return 2 * EARTH_M * math.asin(math.sqrt(min(1.0, half)))


Baud = Literal[4800, 9600, 19200, 38400, 57600, 115200]
_BAUDS = (9600, 38400, 115200, 4800, 57600, 19200)  # the likeliest first


class NmeaOptions(base.Options):
    """How the receiver talks, and how good a fix must be."""

    baud: Baud | None = Field(
        default=None, description="speed of the line; without it the driver finds it out"
    )
    rate_hz: float = Field(default=1.0, ge=0.1, le=20.0, description="fixes a second, nominally")
    max_hdop: float = Field(
        default=5.0, ge=0.5, le=20.0, description="a fix of poorer geometry than this is dropped"
    )
    stuck_s: float = Field(
        # A receiver that repeats one instant has hung: its clock goes on wherever it stands.
        default=10.0,
        ge=0.0,
        le=3600.0,
        description="the same time of day for longer than this is a receiver that hangs; 0 = off",
    )

    def line(self) -> LineSettings | None:
        """Return the line's settings, where the speed is given."""
        return None if self.baud is None else LineSettings(self.baud)


class NmeaGnss:
    """A receiver that talks by itself: each poll takes what it said since the last.

    A fix bears the time at which its first sentence was there. It was true up to a second before:
    the receiver's own computing, a burst at 4800 baud, and a poll's interval lie between.
    """

    spec: ClassVar[base.Spec] = base.Spec(
        name="nmea-gnss",
        title="GNSS receivers with NMEA 0183 output (u-blox, MediaTek, SiRF, Michibiki)",
        kind="position",
        bus="serial",
        quantities=(SATELLITES, HDOP),
        header=(
            ("TX", "pin 10 (GPIO 15, RXD)"),
            ("RX", "leave it open: nothing is sent"),
            ("VCC", "pin 1 (3.3 V)"),
            ("GND", "pin 6"),
        ),
        wiring=(
            "A UART module must give 3.3 V levels; an RS-232 mouse needs an RS-232 adapter.",
            "Free the board's UART of its console (raspi-config), or take a USB receiver.",
            "The antenna must see the sky, on a metal roof or 10 cm of metal; a windscreen with "
            "metal film lets nothing through.",
            "1 PPS is not used.",
        ),
        quirks=(
            "The speed of the line is found out: 4800 to 115200 baud are tried in turn where bytes "
            "come and no sentence does. `baud` fixes it.",
            "A fix is dropped where the receiver reckons (quality 6, mode E), HDOP is above "
            "max_hdop, or the place jumps faster than 60 m/s.",
            "A receiver whose week number has rolled over names a date 1024 weeks off. A date "
            "before the program was built is dropped, and with it the time; places stay.",
            "Until a receiver has heard of the leap seconds (12.5 minutes after a cold start) its "
            "time may be some seconds off; it is taken with so much doubt.",
            "Without a fix satellites and HDOP have no value, whatever is printed for them.",
            "A receiver in UBX or SiRF binary mode says nothing that is understood: switch it to "
            "NMEA with the maker's tool.",
        ),
        checksum="XOR of the characters between $ and *, two hexadecimal digits",
        evidence="recorded bytes",
        evidence_note="four receivers' logs give the places, speeds and times that gpsd prints "
        "for them; two logs in binary mode and one noisy cold start give only counted errors; "
        "GST and the search for the speed against an emulated receiver",
        source="gpsd 6362727 test/daemon (logs and their decoding); NMEA 0183 [K]",
        line=LineSettings(9600),
        bauds=(4800, 19200, 38400, 57600, 115200),
        talks=True,
    )
    Options: ClassVar[type[base.Options]] = NmeaOptions

    interval_s = 0.25  # the time of arrival is told no finer than this

    def __init__(self, bus: SerialPort, options: NmeaOptions, now_ns: Callable[[], int]) -> None:
        self._bus = bus
        self._options = options
        self._now_ns = now_ns
        self._sentences = Sentences()
        self._epochs = Epochs()
        self._track = Track()
        self._still = base.Stillness(options.stuck_s)
        self._hangs = False  # it says the same instant again and again
        self._baud: int | None = None  # set by us, and right when last heard; None: as opened
        self._untried: list[int] = []
        self._heard_ns: int | None = None  # the last byte
        self._since_ns = 0  # the last sentence, or a change of speed
        self._told_ns = 0  # the last one that could tell of a place
        self._strange_bytes = 0  # since then
        self._refused = 0  # sentences with a right sum and a wrong field
        self._patience = 1 / min(1.0, options.rate_hz)  # a slower one is waited for longer
        self.rate_hz = options.rate_hz
        self.frames = 0  # sentences with a right sum, of any kind
        self.identity = ""

    @property
    def frame_errors(self) -> int:
        """Pieces between two line ends or dollars that were no sentence."""
        return self._sentences.errors + self._refused

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """How good the fix is; the fix itself is no quantity."""
        return {quantity.name: quantity for quantity in self.spec.quantities}

    def open(self) -> None:
        """Start to listen, at the speed that was right before. Raises BusError."""
        if self._baud is not None:
            self._bus.set_baud(self._baud)
        self._heard_ns = self._now_ns()
        self._untried = [baud for baud in _BAUDS if baud != self._baud]
        self._listen_anew()
        self._told_ns = self._heard_ns
        self._epochs = Epochs()
        self._still.forget()
        self._hangs = False

    def close(self) -> None:
        """Do nothing: the receiver goes on by itself."""

    def poll(self) -> Sequence[base.Observation]:
        """Return what was said since the last poll.

        Raises BusError after ten seconds without a byte, or when no speed gives sentences;
        FrameError where these tell of everything but a place.
        """
        at_boot_ns = self._now_ns()
        if self._heard_ns is None:
            self._heard_ns = self._since_ns = self._told_ns = at_boot_ns
        chunk = self._bus.read(READ_TIMEOUT_S)
        if chunk:
            self._heard_ns = at_boot_ns
        elif at_boot_ns - self._heard_ns > self._patience * SILENCE_S * 1e9:
            silent_s = (at_boot_ns - self._heard_ns) / 1e9
            raise BusError(
                f"no byte for {silent_s:.0f} s: check the receiver's power, that its TX wire is on "
                "our RX, and whether the adapter is RS-232 or TTL as the receiver is"
            )
        frames_before = self.frames
        found = self.feed(chunk, at_boot_ns)
        if self.frames > frames_before:
            self._since_ns, self._strange_bytes = at_boot_ns, 0
            self._untried = [baud for baud in _BAUDS if baud != self._baud]
            if at_boot_ns - self._told_ns > self._patience * SILENCE_S * 1e9:
                raise FrameError(
                    "sentences come, and neither RMC nor GGA among them: switch these on in the "
                    "receiver"
                )
        else:
            self._strange_bytes += len(chunk)
            self._seek_speed(at_boot_ns)
        return found or self._stuck(at_boot_ns)  # between two bursts too, until it goes on

    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[base.Observation]:
        """Decode the sentences that `chunk` completes."""
        found: list[base.Observation] = []
        for body in self._sentences.feed(chunk):
            try:
                said = decode(body)
            except FrameError:
                self._refused += 1
                continue
            self.frames += 1
            if said is None:
                continue
            if said.kind in ("RMC", "GGA"):
                self._told_ns = at_boot_ns
            for epoch in self._epochs.add(said, at_boot_ns):
                found += self._observations(epoch)
            if said.is_valid and said.time_ms is not None:
                self._hangs = self._still.lasts(said.time_ms, at_boot_ns)
                found += self._stuck(at_boot_ns)
        return found

    def _stuck(self, at_boot_ns: int) -> list[base.Observation]:
        """Return that it hangs, if it does."""
        if not self._hangs:
            return []
        readings = [Reading(name, None, at_boot_ns, ("stuck",)) for name in self.quantities]
        return [*readings, base.Trouble("stuck", at_boot_ns)]

    def _observations(self, epoch: Epoch) -> Iterator[base.Observation]:
        fix, reason = self._judged(epoch)
        if fix is not None:
            yield fix
        gga = epoch.said.get("GGA")
        if gga is not None:
            yield from _readings(gga, epoch.at_boot_ns)
        if reason is not None:
            yield base.Trouble(reason, epoch.at_boot_ns)

    def _judged(self, epoch: Epoch) -> tuple[Fix | None, Reason | None]:
        """Return the fix, or why there is none."""
        places, hdop = epoch.places, epoch.first("hdop")
        is_poor = hdop is not None and hdop > self._options.max_hdop
        said_well = all(said.is_valid for said in epoch.said.values())
        if not places or not said_well or is_poor:
            return None, "weak_signal"
        if distance_m(places[0], places[-1]) > APART_MAX_M:
            self._refused += 1  # one of the two was damaged in spite of its sum
            return None, None
        speed_m_s, error_m = epoch.first("speed_m_s"), epoch.first("error_m")
        if error_m is None and hdop is not None and hdop >= (HDOP.low or 0.0):
            error_m = hdop * RANGE_ERROR_M
        fix = Fix(*places[-1], epoch.at_boot_ns, speed_m_s, error_m, epoch.utc_ns)
        is_too_fast = speed_m_s is not None and speed_m_s > SPEED_MAX_M_S
        if is_too_fast or not self._track.admits(fix, epoch.time_ms):
            return None, "spike"
        return fix, None

    def _seek_speed(self, at_boot_ns: int) -> None:
        """Try the next speed, where bytes have come for a while and no sentence.

        Raises BusError when there is none left to try.
        """
        unheard_s = (at_boot_ns - self._since_ns) / 1e9
        if self._strange_bytes < STRANGE_BYTES or unheard_s < self._patience * LISTEN_S:
            return
        baud = self._options.baud
        if baud is not None:
            if unheard_s < self._patience * SILENCE_S:
                return
            raise BusError(
                f"bytes come and no sentence at {baud} baud: leave `baud` away to find out the "
                "speed, or switch the receiver from binary (UBX, SiRF) to NMEA"
            )
        if not self._untried:
            self._baud = None
            raise BusError(
                "bytes come and no sentence at any speed from 4800 to 115200 baud: check that it "
                "is a GNSS receiver, and switch it from binary (UBX, SiRF) to NMEA"
            )
        self._baud = self._untried.pop(0)
        self._bus.set_baud(self._baud)
        self._bus.discard_input()
        self._listen_anew()

    def _listen_anew(self) -> None:
        self._since_ns = self._now_ns()
        self._strange_bytes = 0
        self._sentences.forget()


def _readings(gga: Said, at_boot_ns: int) -> Iterator[Reading]:
    """Yield how good the fix is; without one, what stands in these fields means nothing."""
    numbers = ((SATELLITES, gga.satellites), (HDOP, gga.hdop))
    for quantity, value in numbers:
        reason: Reason | None = None
        if not gga.is_valid or (quantity is HDOP and value is not None and value >= HDOP_UNKNOWN):
            reason = "weak_signal"
        elif value is None:
            continue  # the receiver does not say
        elif not (quantity.low or 0.0) <= value <= (quantity.high or math.inf):
            reason = "out_of_range"
        if reason is None:
            yield Reading(quantity.name, value, at_boot_ns)
        else:
            yield Reading(quantity.name, None, at_boot_ns, (reason,))
