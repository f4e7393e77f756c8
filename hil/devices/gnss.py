"""A GNSS receiver in a vehicle, from its own side: it drives, and tells where it is once a second.

It goes round a route at one speed, without a fix after power-up and in tunnels. It has the bad
habits of real ones: other makers' sentences, bursts of satellites in view, a binary message in
between, a week number that has rolled over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

from drivers.gpio import boot_ns

from ..emulation import Complaint, Emulation

Place = tuple[float, float]  # latitude and longitude, degrees

# Odori Park and round it by Susukino.
ROUND_ODORI: tuple[Place, ...] = (
    (43.0605, 141.3560),
    (43.0592, 141.3476),
    (43.0549, 141.3489),
    (43.0562, 141.3572),
)
METRES_PER_DEGREE = 6_371_000.0 * math.pi / 180
KNOTS_PER_M_S = 3600 / 1852
ROLLOVER = timedelta(weeks=1024)
UBX_NAV_CLOCK = bytes.fromhex("0122") + (20).to_bytes(2, "little")  # class, id, length


@dataclass(frozen=True, slots=True)
class Truth:
    """Where the vehicle is, and how it moves."""

    latitude_deg: float
    longitude_deg: float
    speed_m_s: float
    course_deg: float


class GnssReceiver:
    """Talks each whole second of UTC, `latency_s` after it; `utc_s` is UTC at a time of the bench.

    The shares and spans are the receiver's bad days. Equal seeds speak equally.
    """

    def __init__(
        self,
        utc_s: Callable[[float], float],
        *,
        route: Sequence[Place] = ROUND_ODORI,
        speed_m_s: float = 10.0,
        talker: str = "GN",
        baud: int | None = None,
        latency_s: float = 0.1,
        cold_start_s: float = 0.0,
        tunnels_s: Sequence[tuple[float, float]] = (),
        weeks_rolled_over: int = 0,
        satellites: int = 11,
        hdop: float = 0.9,
        quality: int = 1,
        tells_error: bool = False,
        ubx_every: int = 0,
        noise_m: float = 0.0,
        line_end: str = "\r\n",
        seed: int = 0,
    ) -> None:
        self._utc_s = utc_s
        self._legs = _legs(route)
        self.speed_m_s = speed_m_s
        self.talker = talker
        if baud is not None:
            self.baud = baud  # without it every speed is understood
        self._latency_s = latency_s
        self._cold_start_s = cold_start_s
        self._tunnels_s = list(tunnels_s)  # since power-up
        self.weeks_rolled_over = weeks_rolled_over
        self.satellites, self.hdop, self.quality = satellites, hdop, quality
        self._tells_error = tells_error
        self._ubx_every = ubx_every
        self._noise_m = noise_m
        self._line_end = line_end
        self._random = Random(seed)
        self.is_covered = False
        self._hangs_at_s: int | None = None  # UTC
        self.powered_s: float | None = None
        self._next_s = 0  # whole seconds of UTC
        self.shift: Place = (0.0, 0.0)  # by which it is wrong, degrees

    def hear(self, data: bytes, now_s: float) -> None:
        """Hear nothing: its receiving wire is open."""

    def power_cycle(self) -> None:
        """Lose power for a moment: it starts anew, and cold, when it is next asked."""
        self.powered_s = None

    def cover(self) -> None:
        """Drive into a tunnel, and stay."""
        self.is_covered = True

    def freeze(self) -> None:
        """Hang: say the present instant again and again."""
        self._hangs_at_s = self._next_s

    def speak(self, now_s: float) -> bytes:
        """Return the banner at power-up, then every burst due by `now_s`."""
        said = b""
        if self.powered_s is None:
            self.powered_s = now_s
            self._next_s = math.ceil(self._utc_s(now_s) - self._latency_s)
            said = self._sentence("TXT,01,01,02,yukimi bench receiver")
        while self._next_s + self._latency_s <= self._utc_s(now_s):
            ago_s = self._utc_s(now_s) - self._next_s
            said += self._burst(self._next_s, now_s - ago_s)
            self._next_s += 1
        return said

    def truth(self, now_s: float) -> Truth:
        """Return where the vehicle is at a time of the bench, wherever it says it is."""
        left_m = (self.speed_m_s * now_s) % sum(length_m for *_, length_m in self._legs)
        at = 0
        while left_m > self._legs[at][2]:
            left_m -= self._legs[at][2]
            at += 1
        start, end, length_m = self._legs[at]
        part = left_m / length_m
        north = start[0] + (end[0] - start[0]) * part
        east = start[1] + (end[1] - start[1]) * part
        run = (end[1] - start[1]) * math.cos(math.radians(start[0]))
        course_deg = math.degrees(math.atan2(run, end[0] - start[0])) % 360
        return Truth(north, east, self.speed_m_s, course_deg)

    def _has_fix(self, at_s: float) -> bool:
        on_s = at_s - (self.powered_s or 0.0)
        in_tunnel = any(begin_s <= on_s < end_s for begin_s, end_s in self._tunnels_s)
        return on_s >= self._cold_start_s and not in_tunnel and not self.is_covered

    def _burst(self, utc_s: int, at_s: float) -> bytes:
        if self._hangs_at_s is not None:
            at_s -= utc_s - self._hangs_at_s
            utc_s = self._hangs_at_s
        shown = datetime.fromtimestamp(utc_s, tz=UTC) - self.weeks_rolled_over * ROLLOVER
        has_fix = self._has_fix(at_s)
        said = self._rmc_vtg_gga(shown, at_s) if has_fix else self._nothing(shown)
        said += b"".join(self._in_view(has_fix))
        said += self._sentence("PUBX,00,,,,,,,,,,,,,,,,,,,0,0,0", talks=False)
        if self._ubx_every and utc_s % self._ubx_every == 0:
            said += self._ubx()
        return said

    def _rmc_vtg_gga(self, shown: datetime, at_s: float) -> bytes:
        truth = self.truth(at_s)
        off = [self._random.gauss(0.0, self._noise_m) / METRES_PER_DEGREE for _ in range(2)]
        north = truth.latitude_deg + off[0] + self.shift[0]
        east = truth.longitude_deg + off[1] + self.shift[1]
        where = f"{_angle(north, 2)},{'N' if north >= 0 else 'S'},"
        where += f"{_angle(east, 3)},{'E' if east >= 0 else 'W'}"
        clock, knots = f"{shown:%H%M%S}.00", f"{truth.speed_m_s * KNOTS_PER_M_S:.3f}"
        course = f"{truth.course_deg:.2f}"
        reckons = self.quality == 6
        mode = "E" if reckons else "A"
        km_h = f"{truth.speed_m_s * 3.6:.3f}"
        sentences = [
            f"RMC,{clock},A,{where},{knots},{course},{shown:%d%m%y},,,{mode}",
            f"VTG,{course},T,,M,{knots},N,{km_h},K,{mode}",
            f"GGA,{clock},{where},{self.quality},{self.satellites:02d},{self.hdop:.2f},18.2,M,31.4,M,,",
            f"GSA,A,3,{'01,02,03,04,05,06,07,08,,,,'},1.6,{self.hdop:.2f},1.3",
        ]
        if self._tells_error:
            sentences.append(f"GST,{clock},8.1,,,,2.4,1.8,5.0")
        return b"".join(map(self._sentence, sentences))

    def _nothing(self, shown: datetime) -> bytes:
        # Its own clock runs on through a tunnel; the date is kept, the place is empty.
        clock = f"{shown:%H%M%S}.00"
        return b"".join(
            map(
                self._sentence,
                (
                    f"RMC,{clock},V,,,,,,,{shown:%d%m%y},,,N",
                    "VTG,,,,,,,,,N",
                    f"GGA,{clock},,,,,0,00,99.99,,,,,,",
                    "GSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99",
                ),
            )
        )

    def _in_view(self, has_fix: bool) -> Iterator[bytes]:
        level = 38 if has_fix else 17
        for system in ("GP", "GL", "GQ"):
            for part in (1, 2, 3):
                four = (f"{4 * part + n:02d},{17 * n + 12:02d},{71 * n:03d}" for n in range(4))
                text = ",".join(f"{satellite},{level}" for satellite in four)
                yield self._sentence(f"{system}GSV,3,{part},12,{text}", talks=False)

    def _ubx(self) -> bytes:
        body = UBX_NAV_CLOCK + self._random.randbytes(16) + b"$\r\n$"
        first = second = 0
        for byte in body:
            first = (first + byte) & 0xFF
            second = (second + first) & 0xFF
        return b"\xb5\x62" + body + bytes((first, second))

    def _sentence(self, text: str, *, talks: bool = True) -> bytes:
        body = (self.talker + text if talks else text).encode("ascii")
        total = 0
        for byte in body:
            total ^= byte
        return b"$" + body + f"*{total:02X}{self._line_end}".encode("ascii")


def _legs(route: Sequence[Place]) -> list[tuple[Place, Place, float]]:
    """Return a closed route as (from, to, metres)."""
    legs = []
    for start, end in zip(route, [*route[1:], route[0]], strict=True):
        north_m = (end[0] - start[0]) * METRES_PER_DEGREE
        east_m = (end[1] - start[1]) * METRES_PER_DEGREE * math.cos(math.radians(start[0]))
        legs.append((start, end, math.hypot(north_m, east_m)))
    return legs


def _angle(degrees: float, digits: int) -> str:
    """Write an angle as the standard does: whole degrees, then minutes of two digits."""
    hundred_thousandths = round(abs(degrees) * 60 * 100_000)
    whole, minutes = divmod(hundred_thousandths, 60 * 100_000)
    return f"{whole:0{digits}d}{minutes // 100_000:02d}.{minutes % 100_000:05d}"


@cache
def _boot_utc_s() -> float:
    return time.time() - boot_ns() / 1e9


def _build(options: Any, seed: int) -> GnssReceiver:
    """Build one that tells the true time: a gateway in the simulation may go by it."""
    return GnssReceiver(
        lambda now_s: _boot_utc_s() + now_s,
        baud=options.baud or 9600,
        cold_start_s=3.0,
        tells_error=True,
        ubx_every=7,
        noise_m=1.0,
        seed=seed,
    )


EMULATION = Emulation(
    _build,
    options={},
    truth={"satellites": (11.0, 11.0), "hdop": (0.9, 0.9)},
    measures_after_s=5.0,
    freeze=lambda receiver: receiver.freeze(),
    complaints={"tunnel": Complaint(lambda receiver: receiver.cover(), "weak_signal")},
)
