"""The newest that a measuring sensor said, and how often it says something.

For those who look at a running gateway; records are made elsewhere. A people sensor has none of
this: what it says, and how often, tells of persons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from drivers.base import Fix, Observation, Reading

MARK_S = 10.0  # the rate is that of the last MARKS of these
MARKS = 7


class Latest:
    """One sensor's; written by the pipeline's thread, read by any."""

    def __init__(self) -> None:
        self._readings: dict[str, Reading] = {}
        self._counts: dict[str, int] = {}  # of readings with a value
        self._marks: deque[tuple[int, int]] = deque(maxlen=MARKS)  # boot time, the count then
        self.fix: Fix | None = None
        self.heard = 0  # how often anything came
        self.poll_ns = (0, 0)  # when the last poll that brought anything began, and ended

    def hear(self, observations: Sequence[Observation], poll_ns: tuple[int, int] = (0, 0)) -> None:
        """Take what one poll brought, from its beginning to its end."""
        at_ns = 0
        for observation in observations:
            match observation:
                case Reading(quantity=name, value=value):
                    self._readings[name] = observation
                    if value is not None:
                        self._counts[name] = self._counts.get(name, 0) + 1
                case Fix():
                    self.fix = observation
                    self._counts["location"] = self._counts.get("location", 0) + 1
                case _:
                    continue
            at_ns = observation.at_boot_ns
        if at_ns:
            self.poll_ns = poll_ns
            self.heard += 1
            if not self._marks or at_ns - self._marks[-1][0] >= MARK_S * 1e9:
                self._marks.append((at_ns, self._count()))

    @property
    def readings(self) -> dict[str, Reading]:
        """The newest reading of each quantity."""
        return dict(self._readings)

    def rate_hz(self, now_ns: int) -> float | None:
        """Return how many readings with a value came a second, lately; None: not known yet."""
        marks = list(self._marks)
        if not marks or now_ns - marks[0][0] < MARK_S * 1e9:
            return None
        return (self._count() - marks[0][1]) / ((now_ns - marks[0][0]) / 1e9)

    def _count(self) -> int:
        return max(self._counts.values(), default=0)
