"""What happens to the bytes of a TCP connection on a bad link, as those at its ends notice it.

TCP mends what a link loses, so a loss is a delay here: the segment comes again after a time-out
that doubles, and after the last try the connection is over. What came later waits behind it.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from dataclasses import dataclass
from random import Random

from .ongoing import Heal, Ongoing, either

SEGMENT_BYTES = 1448  # on Ethernet, with time stamps
RETRY_S = 0.2  # Linux' TCP_RTO_MIN
RETRY_MOST_S = 120.0  # TCP_RTO_MAX
TRIES = 15  # tcp_retries2


class Link:
    """The faults of one link; they add up, and the narrowest throttle rules."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self._late = Ongoing[float]()
        self._lost = Ongoing[float]()
        self._throttled = Ongoing[float]()
        self._free_s = {True: 0.0, False: 0.0}  # by whether it goes to the target

    def delay(self, by_s: float) -> Heal:
        """Let everything arrive later by this, each way."""
        return self._late.begin(by_s)

    def lose(self, share: float) -> Heal:
        """Lose this share of the segments, each way."""
        return self._lost.begin(share)

    def throttle(self, bytes_per_s: float) -> Heal:
        """Carry no more than this, each way, of all connections together."""
        return self._throttled.begin(bytes_per_s)

    def heal(self) -> None:
        """Undo every fault; what is late stays late."""
        for kind in (self._late, self._lost, self._throttled):
            kind.heal()

    # What a connection asks

    @property
    def is_segmented(self) -> bool:
        """Whether it matters in which pieces the bytes travel."""
        return bool(self._lost) or bool(self._throttled)

    def late_s(self) -> float:
        """Return by how much later what is sent now arrives."""
        return sum(self._late)

    def loses(self) -> bool:
        """Say whether the next segment is lost."""
        share = either(self._lost)
        return bool(share) and self.dice.random() < share

    def free_s(self, to_target: bool) -> float:
        """Return when the next segment may leave."""
        return self._free_s[to_target] if self._throttled else 0.0

    def count(self, to_target: bool, length: int, now_s: float) -> None:
        """Note that so many bytes left."""
        if rate := min(self._throttled, default=0.0):
            self._free_s[to_target] = max(now_s, self._free_s[to_target]) + length / rate


@dataclass(slots=True)
class _Segment:
    data: bytes
    due_s: float
    tries: int = 0
    has_arrived: bool = False  # a part of it may have been written already


class Way:
    """One direction of a connection: what was read, and not yet written at the other end."""

    def __init__(self, link: Link, *, to_target: bool) -> None:
        self.waiting_bytes = 0
        self._link = link
        self._to_target = to_target
        self._segments = deque[_Segment]()

    def take(self, data: bytes, now_s: float) -> None:
        """Take what was read."""
        size = SEGMENT_BYTES if self._link.is_segmented else max(1, len(data))
        due_s = now_s + self._link.late_s()
        if self._segments:  # TCP keeps the order
            due_s = max(due_s, self._segments[-1].due_s)
        for begin in range(0, len(data), size):
            self._segments.append(_Segment(data[begin : begin + size], due_s))
        self.waiting_bytes += len(data)

    def ready(self, now_s: float) -> bytes:
        """Return what may be written now. Raises OSError when the last try was in vain."""
        if not self._segments or self.wakes_s() > now_s:
            return b""
        first = self._segments[0]
        if not first.has_arrived and self._link.loses():
            first.tries += 1
            if first.tries > TRIES:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            first.due_s = now_s + min(RETRY_MOST_S, RETRY_S * 2 ** (first.tries - 1))
            return b""
        first.has_arrived = True
        return first.data

    def wrote(self, length: int, now_s: float) -> None:
        """Forget what was written of what was ready."""
        first = self._segments[0]
        first.data = first.data[length:]
        self.waiting_bytes -= length
        self._link.count(self._to_target, length, now_s)
        if not first.data:
            self._segments.popleft()

    def wakes_s(self) -> float:
        """Return when the next segment is due; infinity if there is none."""
        if not self._segments:
            return float("inf")
        return max(self._segments[0].due_s, self._link.free_s(self._to_target))
