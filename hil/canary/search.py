"""What is looked for in bytes: frames, and the times of crossings.

Both may lie in any form: `unfold` makes of some bytes all that they might hold (inflated, from
hexadecimal, from base64, with the escapes of Python and JSON undone, from lists of bytes, and of
temperatures as a thermal array's driver has them). Then

- a frame, or a piece of one of nine bytes and more, that occurs anywhere is found. By chance that
  has a probability below 1e-9: 10,000 pieces in 10^8 bytes, nine bytes each;
- a time is not found because it is there: of 10,000 crossings in a minute, one is in every sixth
  millisecond, and files are full of honest times. It is found where *more* of the times that are
  there are crossings' than chance would give. The crossings were dealt out by dice that nobody who
  wrote those times knows, so an instant, whatever it stands for, is one of theirs as often as any
  other within `AROUND_NS` of it, at its resolution: that share is counted, and a little added for
  what chance does to the count. As many hits, or more, then have a probability below a binomial's
  tail with the mean of the shares (Hoeffding 1956), which must stay above `ALPHA` divided by the
  number of forms looked at. At a nanosecond two hits are enough, at a microsecond a few; at a
  millisecond dozens are needed, and more among many honest ones.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

ALPHA = 1e-6
DEPTH = 3  # what is in a hexadecimal text of a deflated message
INFLATED_MOST = 2**20
LEAST = 12  # bytes, of something worth unfolding

_DEFLATED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")  # zlib, gzip
_HEX = re.compile(rb"[0-9a-fA-F]{%d,}" % (2 * LEAST))
_SPACED_HEX = re.compile(rb"(?:(?:0x)?[0-9a-fA-F]{2}[ ,:]{1,2}){%d,}[0-9a-fA-F]{2}" % LEAST)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_LIST = re.compile(rb"(?:\d{1,3}, ?){%d,}\d{1,3}" % LEAST)
_NUMBERS = re.compile(rb"(?<![\d.])\d{1,4}+(?:\.\d*+)?+(?:[,;\s]++-?\d{1,4}+(?:\.\d*+)?+){7,}")
_STEPS = (1, 4, 10)  # of a degree: the number as sent, and in the arrays' steps
_ESCAPE = re.compile(rb"""\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|([nrt\\'"]))""")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


# What bytes may hold


def unfold(data: bytes, seen: set[bytes] | None = None) -> Iterator[bytes]:
    """Yield `data`, and all that it may hold in another form, but for what was `seen`."""
    seen = set() if seen is None else seen
    waiting = [(data, DEPTH)]
    while waiting:
        outer, depth = waiting.pop()
        yield outer
        for inner in _inside(outer) if depth else ():
            if len(inner) >= LEAST and inner not in seen:
                seen.add(inner)
                waiting.append((inner, depth - 1))


def _inside(data: bytes) -> Iterator[bytes]:
    yield from inflated(data)
    for run in set(_HEX.findall(data)):
        for shift in (0, 1):
            yield binascii.unhexlify(run[shift : shift + (len(run) - shift) // 2 * 2])
    for run in set(_SPACED_HEX.findall(data)):
        yield bytes(int(each, 16) for each in re.findall(rb"[0-9a-fA-F]{2}(?![0-9a-fA-Fx])", run))
    for run in set(_BASE64.findall(data)):
        plain = run.replace(b"-", b"+").replace(b"_", b"/")
        for shift in range(4):
            rest = plain[shift:]
            rest = rest[:-1] if len(rest) % 4 == 1 else rest  # half a byte is none
            yield binascii.a2b_base64(rest + b"=" * (-len(rest) % 4))
    for run in set(_LIST.findall(data)):
        numbers = [int(each) for each in run.split(b",")]
        if max(numbers) < 256:
            yield bytes(numbers)
    for run in set(_NUMBERS.findall(data)):
        degrees = [float(each) for each in re.split(rb"[,;\s]+", run)]
        for steps in _STEPS:
            yield b"".join(struct.pack("<h", round(each * steps) & 0xFFF) for each in degrees)
    if b"\\" in data:
        plain = _ESCAPE.sub(_unescaped, data)
        if plain != data:
            yield plain


def inflated(data: bytes) -> Iterator[bytes]:
    """Yield every zlib or gzip stream, or what can be read of it before it is torn."""
    for begin in _DEFLATED.finditer(data):
        reader, stream = zlib.decompressobj(zlib.MAX_WBITS | 32), data[begin.start() :]
        found = bytearray()
        try:
            for at in range(0, len(stream), 256):  # what comes before a tear is kept
                found += reader.decompress(stream[at : at + 256], INFLATED_MOST)
                if reader.eof or len(found) > INFLATED_MOST:
                    break
        except zlib.error:
            pass
        if len(found) >= LEAST:
            yield bytes(found)


def _unescaped(match: re.Match[bytes]) -> bytes:
    number = match[1] or match[2]
    return bytes((int(number, 16),)) if number else _ESCAPED.get(match[3], match[3])


# Frames


class Pieces:
    """Byte sequences of eight and more, looked for all at once."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._by_first: dict[int, list[bytes]] = {}
        for piece in set(pieces):
            first = int.from_bytes(piece[:8], "little")
            self._by_first.setdefault(first, []).append(piece)
        self._firsts = np.array(sorted(self._by_first), dtype="<u8")
        self.count = sum(map(len, self._by_first.values()))

    def find(self, data: bytes) -> set[bytes]:
        """Return those that occur in `data`."""
        found: set[bytes] = set()
        for shift in range(8 if self.count else 0):
            words = np.frombuffer(
                data, "<u8", max(0, (len(data) - shift) // 8), min(shift, len(data))
            )
            places = np.searchsorted(self._firsts, words)
            places[places == len(self._firsts)] = 0
            for index in np.flatnonzero(self._firsts[places] == words):
                at = shift + 8 * int(index)
                candidates = self._by_first[int(words[index])]
                found |= {piece for piece in candidates if data.startswith(piece, at)}
        return found


# Times

_UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
COARSEST_NS = 10**6
AROUND_NS, APART_NS = 90_000_000, 2_000_000  # the neighbourhood of an instant, without itself
MORE = 3  # crossings
_NUMBER = re.compile(rb"(?<![\d.])(\d{3,20})(?:\.(\d{1,9}))?(?!\d)")
_ISO = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)[.,](\d{3,9})")

# (which clock, resolution in ns, the time in ns): an instant that somebody wrote down.
Instant = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Excess:
    """How many of the instants in one form were crossings', and how probable that is by chance."""

    form: str
    hits: int
    of: int
    chance: float


class Times:
    """The times of crossings, by several clocks, and the instants that were found beside them."""

    def __init__(self, clocks: dict[str, list[int]]) -> None:
        """`clocks` has the times of the same crossings in ns, by each clock."""
        self._at_ns = {clock: np.array(sorted(times)) for clock, times in clocks.items()}
        self._spans = {
            clock: (int(times[0]), int(times[-1]))
            for clock, times in self._at_ns.items()
            if len(times)
        }
        self._taken = cache(self._slots)

    def excesses(self, instants: dict[str, set[Instant]]) -> list[Excess]:
        """Return, form by form, how many of the instants were crossings'."""
        found = []
        for form, some in instants.items():
            for clock, resolution_ns in sorted({(clock, r_ns) for clock, r_ns, _ in some}):
                times = {at for c, r_ns, at in some if (c, r_ns) == (clock, resolution_ns)}
                for name, half_ns in (("cut", 0), ("rounded", resolution_ns // 2)):
                    taken = self._taken(clock, resolution_ns, half_ns)
                    written = {at // resolution_ns for at in times}
                    hits = len(written & taken)
                    label = f"{form}, {clock} clock, {resolution_ns} ns, {name}"
                    share = self._share(clock, resolution_ns, written)
                    chance = at_least(hits, len(written), share)
                    found.append(Excess(label, hits, len(written), chance))
        return found

    def _share(self, clock: str, resolution_ns: int, written: set[int]) -> float:
        """Return how probable it is that an instant near these is a crossing's, on average."""
        at_ns = np.array(sorted(written)) * resolution_ns
        edges = (-AROUND_NS, -APART_NS, APART_NS, AROUND_NS)
        before, near, far, after = (
            np.searchsorted(self._at_ns[clock], at_ns + edge) for edge in edges
        )
        count = (near - before) + (after - far) + MORE
        return float(np.mean(count)) * resolution_ns / (2 * (AROUND_NS - APART_NS))

    def _slots(self, clock: str, resolution_ns: int, half_ns: int) -> frozenset[int]:
        return frozenset(((self._at_ns[clock] + half_ns) // resolution_ns).tolist())

    def written(self, data: bytes) -> dict[str, set[Instant]]:
        """Return every instant in the span of the crossings that `data` may tell, by form."""
        return {
            "decimal": set(self._decimal(data)),
            "ISO 8601": set(self._iso(data)),
            **{form: set(self._in_binary(form, data)) for form in _BINARY},
        }

    def _decimal(self, data: bytes) -> Iterator[Instant]:
        for whole, fraction in set(_NUMBER.findall(data)):
            number = int(whole + fraction)
            for unit_ns in _UNITS_NS.values():
                resolution_ns = unit_ns // 10 ** len(fraction)
                if not 1 <= resolution_ns <= COARSEST_NS:
                    continue
                yield from self._within(resolution_ns, number * resolution_ns)

    def _iso(self, data: bytes) -> Iterator[Instant]:
        for day, time, fraction in set(_ISO.findall(data)):
            try:
                whole = datetime.fromisoformat(f"{day.decode()}T{time.decode()}+00:00")
            except ValueError:
                continue
            at_ns = int(whole.timestamp()) * 10**9 + int(fraction.ljust(9, b"0"))
            yield from self._within(10 ** (9 - len(fraction)), at_ns)

    def _within(self, resolution_ns: int, at_ns: int) -> Iterator[Instant]:
        for clock, (low, high) in self._spans.items():
            if low <= at_ns <= high:
                yield clock, resolution_ns, at_ns

    def _in_binary(self, form: str, data: bytes) -> Iterator[Instant]:
        kind, units, convert = _BINARY[form]
        for shift in range(8):
            words = np.frombuffer(
                data, kind, max(0, (len(data) - shift) // 8), min(shift, len(data))
            )
            values = convert(words)
            for clock, (low, high) in self._spans.items():
                for unit in units:
                    unit_ns = _UNITS_NS[unit]
                    inside = (values >= low / unit_ns) & (values <= high / unit_ns)
                    # A double holds less than nanoseconds: microseconds are asked for.
                    resolution_ns = 1000 if kind.endswith("f8") else unit_ns
                    for value in set(values[inside].tolist()):
                        yield clock, resolution_ns, round(value * unit_ns)


Words = npt.NDArray[Any]
_BINARY: dict[str, tuple[str, tuple[str, ...], Callable[[Words], Words]]] = {
    "8 bytes, big end first": (">i8", ("ms", "us", "ns"), lambda words: words),
    "8 bytes, little end first": ("<i8", ("ms", "us", "ns"), lambda words: words),
    # SQLite's form of the nanoseconds of a gateway that has been up for less than a day.
    "6 bytes, big end first": (">i8", ("us", "ns"), lambda words: words >> 16),
    "double, big end first": (">f8", ("s", "ms"), lambda words: words),
    "double, little end first": ("<f8", ("s", "ms"), lambda words: words),
}


def at_least(hits: int, of: int, share: float) -> float:
    """Return the probability of so many hits, or more."""
    if hits <= of * share:
        return 1.0
    return sum(math.exp(_log_term(k, of, share)) for k in range(hits, of + 1))


def at_most(hits: int, of: int, share: float) -> float:
    """Return the probability of so many hits, or fewer."""
    if hits >= of * share:
        return 1.0
    return sum(math.exp(_log_term(k, of, share)) for k in range(hits + 1))


def _log_term(k: int, of: int, share: float) -> float:
    choose = math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
    return choose + k * math.log(share) + (of - k) * math.log1p(-share)
