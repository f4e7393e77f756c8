"""Boot-time clock <-> UTC: when the time is known, how wrong it may be, when it stepped.

Everything inside is stamped with the boot-time clock, which never steps. `Clock` holds the offset
to UTC. It is believed when somebody vouches for it: the kernel, when it says that it is
synchronised; a `Witness`, such as a battery-backed clock or a GNSS receiver; or the configuration,
which may say to believe the system always. Until then records are kept back, and put right once the
time is known.
Once known, the time stays known: where nobody vouches any more the boot-time clock runs on alone,
its error bound grows, and a step of the system clock is not followed.

Pure: what the clocks say is an argument.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from drivers.base import BUILT_NS as BUILT_NS  # no time before it is believed here either
from drivers.base import Fix

State = Literal["synced", "corrected", "estimated"]
Event = Literal["synced", "stepped"]

# CLOCK_REALTIME and CLOCK_BOOTTIME are slewed together, so their difference moves by steps only.
# Smaller ones than this are followed without closing a window.
STEP_S = 0.5

# A clock that nobody disciplines, in seconds per second. Watch crystals are cut to 20 ppm at 25
# degC and lose 0.035 ppm/degC^2 beside it (Maxim MAX6902, "Crystal selection"): 91 ppm at -20 degC.
# The crystals of computers stay below 50 ppm, those of temperature-compensated clocks below 5.
DRIFT = 100e-6

RTC_RESOLUTION_S = 1.0
SYSTEM_AGREES_S = 60.0  # with what a receiver says; certificates are no finer
RTC_AGREES_S = 2.0  # with the system clock, which was set from it at boot
RTC_FUTURE_NS = 10 * 366 * 86_400 * 1_000_000_000  # a longer sleep is a broken clock

# A receiver computes, its burst takes up to a second at 4800 baud, and is fetched in turn: a fix is
# up to so much older than it looks.
GNSS_LATENCY_S = 1.0
# Until it has received the almanac's leap seconds, 12.5 minutes after a cold start, a receiver uses
# those of its firmware: three fewer in those of 2011, which are still sold.
GNSS_LEAP_S = 3.0
GNSS_ALMANAC_S = 750.0
GNSS_AGREES_S = 1.0  # fixes in a row, of each other
GNSS_FIXES = 5  # until they count
GNSS_FIXES_REMEMBERED = 60
GNSS_PAUSE_S = 600.0  # a longer one begins anew: a tunnel is shorter

# Looks whose error is remembered: with one in 5 s, more than the longest window.
LOOKS_REMEMBERED = 1000


class Look(NamedTuple):
    """The clocks at one instant."""

    boot_ns: int  # CLOCK_BOOTTIME
    utc_ns: int  # CLOCK_REALTIME
    synchronised: bool  # the kernel's word, adjtimex
    error_s: float | None  # the kernel's bound, None where it gives none


class Witness(NamedTuple):
    """Somebody else than the kernel who says what time it was at an instant of the boot clock."""

    source: str
    boot_ns: int
    utc_ns: int
    error_s: float


class Change(NamedTuple):
    """What a look brings: UTC becomes known, or steps; and by how much UTC moves."""

    event: Event
    moved_ns: int


class Stamp(NamedTuple):
    """How a record's time is to be taken."""

    state: State
    error_s: float | None

    def json(self) -> dict[str, object]:
        """Return the contract's `clock` object."""
        return {"state": self.state, "error_s": self.error_s}

    def doubted(self, moved_ns: int) -> Stamp:
        """Return the stamp of what a step by `moved_ns` put in doubt: one of the two was wrong."""
        if self.error_s is None:
            return self
        return Stamp(self.state, _whole_ms(self.error_s + abs(moved_ns) / 1e9))


class Clock:
    """The offset from boot time to UTC, and whether it is to be believed."""

    def __init__(self, first: Look, *, trust_system: bool) -> None:
        self._trust_system = trust_system
        self._heard: Witness | None = None
        self._known = False
        self._offset_ns = self._system_ns = first.utc_ns - first.boot_ns
        self._error_s: float | None = None  # when somebody last vouched
        self.source: str | None = None  # who last vouched: kernel, system, rtc, gnss
        self._vouched_ns = first.boot_ns
        self._errors: deque[tuple[int, float | None]] = deque(maxlen=LOOKS_REMEMBERED)
        self.accept(first)

    @property
    def known(self) -> bool:
        """Whether UTC is known."""
        return self._known

    def hear(self, witness: Witness) -> None:
        """Note what a witness says; the next look takes it where the kernel knows no better."""
        self._heard = witness

    def judge(self, look: Look) -> Change | None:
        """Say whether UTC becomes known with this look, or has stepped; changes nothing.

        What was gathered under the old offset can so be closed before `accept` changes it.
        """
        told = self._told(look)
        moved_ns = (told[0] if told else look.utc_ns - look.boot_ns) - self._offset_ns
        if told and not self._known:
            return Change("synced", moved_ns)
        if self._known and not told:
            return None
        return Change("stepped", moved_ns) if abs(moved_ns) > STEP_S * 1e9 else None

    def accept(self, look: Look) -> None:
        """Follow the clocks."""
        told = self._told(look)
        if told:
            self._known = True
            self._offset_ns, self._error_s = told
            self._vouched_ns = look.boot_ns
            self.source = self._who(look)
            self._system_ns = look.utc_ns - look.boot_ns
        elif not self._known and self.judge(look):
            self._offset_ns = look.utc_ns - look.boot_ns
        self._errors.append((look.boot_ns, self._error_at(look.boot_ns)))

    def disputes(self, look: Look) -> bool:
        """Say whether somebody set the system clock and nobody vouches for it.

        It need not be right: a receiver may have told the time, which does not set it.
        """
        moved_ns = look.utc_ns - look.boot_ns - self._system_ns
        return self._known and not self._told(look) and abs(moved_ns) > STEP_S * 1e9

    def utc_ns(self, boot_ns: int) -> int:
        """Return UTC for a boot-time instant, by what is known now."""
        return boot_ns + self._offset_ns

    def boot_ns(self, utc_ns: int) -> int:
        """Return the boot-time instant of a UTC time, by what is known now."""
        return utc_ns - self._offset_ns

    def stamp(self, since_boot_ns: int | None = None) -> Stamp:
        """Return the stamp of a record made now; `estimated` means that it must be kept back.

        Its error is the worst since `since_boot_ns`, where what it tells of began: a clock that
        was slewed into place has been more wrong than it is.
        """
        if not self._known:
            return Stamp("estimated", None)
        if since_boot_ns is None:  # other threads ask only this
            newest_s = self._errors[-1][1]
            return Stamp("synced", None if newest_s is None else _whole_ms(newest_s))
        worst_s: float | None = 0.0
        for boot_ns, error_s in reversed(self._errors):
            worst_s = None if error_s is None or worst_s is None else max(worst_s, error_s)
            if boot_ns <= since_boot_ns:
                break
        return Stamp("synced", None if worst_s is None else _whole_ms(worst_s))

    def corrected(self, boot_ns: int) -> Stamp:
        """Return the stamp of a record of this boot whose time is put right by what is known now.

        Between then and now the boot-time clock ran alone.
        """
        error_s = self._error_at(boot_ns)
        return Stamp("corrected", None if error_s is None else _whole_ms(error_s))

    def _error_at(self, boot_ns: int) -> float | None:
        if self._error_s is None:
            return None
        return self._error_s + DRIFT * abs(boot_ns - self._vouched_ns) / 1e9

    def _who(self, look: Look) -> str:
        """Name who vouches."""
        if look.synchronised:
            return "kernel"
        return "system" if self._trust_system or self._heard is None else self._heard.source

    def _told(self, look: Look) -> tuple[int, float | None] | None:
        """Return the offset that somebody vouches for, and its error."""
        if self._trust_system or look.synchronised:
            return look.utc_ns - look.boot_ns, look.error_s
        heard = self._heard
        if heard is None:
            return None
        error_s = heard.error_s + DRIFT * abs(look.boot_ns - heard.boot_ns) / 1e9
        own_s = self._error_at(look.boot_ns) if self._known else None
        if own_s is not None and own_s <= error_s:
            return None
        return heard.utc_ns - heard.boot_ns, error_s


def rtc_witness(rtc_s: int | None, look: Look, *, known_ns: int | None) -> Witness | None:
    """Return what a battery-backed clock witnesses, read just before `look`; None if not plausible.

    `known_ns` is an instant that has certainly passed, None where there is none. The clock is
    believed where it is not before that, not absurdly after, and where the system clock was set
    from it. It was right, so it is assumed, at `known_ns`, when the kernel set it.
    """
    if rtc_s is None:
        return None
    passed_ns = floor_ns(known_ns)
    apart_s = abs(look.utc_ns / 1e9 - rtc_s)
    age_ns = rtc_s * 1_000_000_000 - passed_ns
    if apart_s > RTC_AGREES_S or not -RTC_RESOLUTION_S * 1e9 <= age_ns <= RTC_FUTURE_NS:
        return None
    error_s = RTC_RESOLUTION_S + apart_s + DRIFT * max(0, age_ns) / 1e9
    return Witness("rtc", look.boot_ns, look.utc_ns, error_s)


def floor_ns(known_ns: int | None) -> int:
    """Return UTC that has certainly passed; `known_ns` is the last that this gateway knew."""
    return max(known_ns or 0, BUILT_NS)


class GnssTime:
    """Hears one receiver's fixes, and says when their time may be believed.

    Its time comes over a serial line with a checksum of eight bits, so one fix counts for nothing:
    several in a row must agree, each later than the one before, and be neither before this program
    nor absurdly after. All come late and none early, so the one that was least late is right.
    """

    def __init__(self) -> None:
        self._offsets_ns: deque[int] = deque(maxlen=GNSS_FIXES_REMEMBERED)
        self._last: tuple[int, int] = (0, 0)  # boot time and UTC of the latest one
        self._since_ns = 0  # boot time of the first one

    def hear(self, fix: Fix) -> Witness | None:
        """Take a fix; return what the receiver witnesses by now."""
        utc_ns, boot_ns = fix.utc_ns, fix.at_boot_ns
        if utc_ns is None:
            return None
        if not BUILT_NS <= utc_ns <= BUILT_NS + RTC_FUTURE_NS:
            self._offsets_ns.clear()
            return None
        offset_ns = utc_ns - boot_ns
        heard_ns, told_ns = self._last
        self._last = (boot_ns, utc_ns)
        farthest_ns = max((abs(offset_ns - each) for each in self._offsets_ns), default=0)
        is_pause = boot_ns - heard_ns > GNSS_PAUSE_S * 1e9
        if utc_ns <= told_ns or farthest_ns > GNSS_AGREES_S * 1e9 or is_pause:
            self._offsets_ns.clear()
        if not self._offsets_ns:
            self._since_ns = boot_ns
        self._offsets_ns.append(offset_ns)
        if len(self._offsets_ns) < GNSS_FIXES:
            return None
        has_almanac = boot_ns - self._since_ns >= GNSS_ALMANAC_S * 1e9
        error_s = GNSS_LATENCY_S + (0.0 if has_almanac else GNSS_LEAP_S)
        return Witness("gnss", boot_ns, boot_ns + max(self._offsets_ns), error_s)


class HeldBoot(NamedTuple):
    """An earlier boot that never knew its time, and has records that wait for it."""

    boot_id: str
    first_boot_ns: int  # where its first waiting record begins, and its last ends
    last_boot_ns: int
    known_before_ns: int | None  # UTC that had certainly passed when the first one began
    guess_ns: int  # UTC of its boot by the system clock, for which nobody vouched


class Estimate(NamedTuple):
    """UTC of a boot, and the stamp of its records."""

    born_ns: int
    stamp: Stamp

    def utc_ns(self, boot_ns: int) -> int:
        """Return UTC for an instant of that boot's clock."""
        return self.born_ns + boot_ns

    def stamp_at(self, _boot_ns: int) -> Stamp:
        """Return the stamp of any record of that boot."""
        return self.stamp


def estimate(held: Sequence[HeldBoot], *, born_ns: int, error_s: float | None) -> list[Estimate]:
    """Bound earlier boots, in their order, by their neighbours: the last ended before this began.

    `born_ns` is UTC of this boot, right to `error_s`. A boot begins after what was known before it
    and after the boot before it, and ends before the next. Within these bounds its system clock's
    own guess is kept, else the middle taken. No bound is told where the clocks contradict.
    """
    latest_ns = born_ns + round((error_s or 0.0) * 1e9)
    earliest_ns = BUILT_NS
    lows = []
    for boot in held:
        known_ns = boot.known_before_ns
        if known_ns is not None and known_ns <= latest_ns:  # else by a clock since found wrong
            earliest_ns = max(earliest_ns, known_ns - math.ceil((1 + DRIFT) * boot.first_boot_ns))
        lows.append(earliest_ns)
        earliest_ns += _at_least_ns(boot)
    highs = []
    for boot in reversed(held):
        latest_ns -= _at_least_ns(boot)
        highs.append(latest_ns)
    estimates = []
    free_ns = BUILT_NS
    for boot, low_ns, high_ns in zip(held, lows, reversed(highs), strict=True):
        if low_ns > high_ns:
            estimates.append(Estimate(boot.guess_ns, Stamp("estimated", None)))
            continue
        first_ns = max(low_ns, free_ns)
        is_fit = first_ns <= boot.guess_ns <= high_ns
        at_ns = boot.guess_ns if is_fit else max(first_ns, (first_ns + high_ns) // 2)
        free_ns = at_ns + boot.last_boot_ns
        spread_ns = max(at_ns - low_ns, high_ns - at_ns) + DRIFT * boot.last_boot_ns
        bound_s = None if error_s is None else _whole_ms(spread_ns / 1e9)
        estimates.append(Estimate(at_ns, Stamp("estimated", bound_s)))
    return estimates


def _at_least_ns(boot: HeldBoot) -> int:
    return boot.last_boot_ns - math.ceil(DRIFT * boot.last_boot_ns)


def _whole_ms(error_s: float) -> float:
    """Round a bound up; what is a whole number but for binary fractions stays as it is."""
    return math.ceil(error_s * 1000 - 1e-6) / 1000
