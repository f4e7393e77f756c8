"""When an entry leaves: what is live at a fixed time after its window's end, the rest at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

from .record import ALERTS_STREAM, Entry
from .window import LATENESS_S

# After its end a window is closed and committed by then, whoever passed; if not, the next step is
# the time.
CLOSED_S = LATENESS_S + 0.5
STEP_S = 0.5


class Fresh(NamedTuple):
    """When an entry is live: due at once, or a fixed time after its window's end."""

    offset_s: float
    window_s: Mapping[str, int]  # by stream; the gateway's own leaves at once
    people: frozenset[str] = frozenset()  # the streams whose alerts wait as well

    def due(self, entry: Entry, utc_ns: int, boot_s: float) -> tuple[Entry, float]:
        """Return an entry with the boot time at which it may leave."""
        # What is said about people leaves at a fixed time after the window, in whatever record.
        is_about_people = entry.stream == ALERTS_STREAM and entry.kind == "people"
        is_timed = is_about_people or entry.stream in self.window_s
        if not is_timed or entry.end_ns is None:
            return entry, 0.0
        ago_s = (utc_ns - entry.end_ns) / 1e9
        if self.people:  # what was measured beside them is committed with theirs
            return entry, boot_s + people_wait_s(self.offset_s, ago_s)
        # A clock that steps must not hold a record back for longer than the offset itself.
        return entry, boot_s + min(self.offset_s, self.offset_s - ago_s)

    def is_fresh(self, entry: Entry, utc_ns: int) -> bool:
        """Whether an entry that waited is still news."""
        if entry.end_ns is None:
            return False
        window_s = self.window_s.get(entry.stream, 60)
        ago_s = (utc_ns - entry.end_ns) / 1e9
        return 0 <= ago_s < 2 * window_s + self.offset_s


def offset_s(gateway_id: str, configured_s: float | None) -> float:
    """Return how long after a window's end its record leaves: a gateway's own, 2.0 to 11.9 s."""
    if configured_s is not None:
        return configured_s
    return 2 + int(hashlib.sha256(gateway_id.encode()).hexdigest(), 16) % 100 / 10


def people_wait_s(offset_s: float, ago_s: float) -> float:
    """Return how long to wait, where people are counted, with a window that ended so long ago.

    It is told at the offset or some full steps later, never as soon as it is there, however short
    the offset and late the closing: how long that took may tell who passed.
    """
    ago_s = max(0.0, ago_s)  # or a clock that steps would hold it back for longer
    late_s = max(ago_s, CLOSED_S) - offset_s
    return offset_s + max(0, math.ceil(late_s / STEP_S)) * STEP_S - ago_s
