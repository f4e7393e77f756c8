"""Time that goes as fast as it is worked through, and a computer in it.

One thread does everything, one step after another. A step begins at `now_ns`; what waits in it, on
a wire that takes its time, goes ahead of it, and is back when the next step begins: so buses work
side by side although one thread plays them all.
"""

from __future__ import annotations

from random import Random

from agent import kernel
from agent.clock import Look

from ..faults.clock import Timeline

S = 1_000_000_000
BOOTED_S = 12.0  # from power-up until the daemon starts
AT_1970_S = 4.0  # what a system clock without battery says at boot


class Clockwork:
    """The scenario's time, in nanoseconds since its start."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._ahead_ns = 0

    def at_ns(self) -> int:
        """Return what time it is for the step under way."""
        return self.now_ns + self._ahead_ns

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return self.now_ns / S

    def wait(self, for_s: float) -> None:
        """Let the step under way wait."""
        self._ahead_ns += round(for_s * S)

    def begin(self, at_ns: int) -> None:
        """Begin a step."""
        self.now_ns, self._ahead_ns = max(self.now_ns, at_ns), 0

    def end(self) -> int:
        """End a step; return when it was over."""
        over_ns = self.at_ns()
        self._ahead_ns = 0
        return over_ns


class BenchMachine:
    """A Machine (agent.machine) that was switched on at some moment of a scenario."""

    def __init__(self, clock: Timeline, dice: Random) -> None:
        self._clock = clock
        self.on_ns = clock.boot_ns() - round(BOOTED_S * S)  # by the clock that never restarts
        self._boot_id = f"{dice.getrandbits(128):032x}"

    def boot_ns(self) -> int:
        """Return nanoseconds since it was switched on."""
        return self._clock.boot_ns() - self.on_ns

    def boot_s(self) -> float:
        """Return the same in seconds."""
        return self.boot_ns() / S

    def look(self) -> Look:
        """Read all clocks."""
        look = self._clock.look()
        return Look(look.boot_ns - self.on_ns, look.utc_ns, look.synchronised, look.error_s)

    def rtc_s(self) -> int | None:
        """Return nothing: it has no battery."""

    def boot_id(self) -> str:
        """Return what names this boot."""
        return self._boot_id

    def rss_bytes(self) -> int:
        """Return the real process's memory."""
        return kernel.rss_bytes()
