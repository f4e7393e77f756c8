"""Time that goes as fast as it is worked through, and the clocks of a computer in it.

One thread does everything, one step after another. A step begins at `now_ns`; what waits in it, on
a wire that takes its time, goes ahead of it, and is back when the next step begins: so buses work
side by side although one thread plays them all.
"""

from __future__ import annotations

from random import Random

from agent import kernel
from agent.clock import Look

S = 1_000_000_000
BOOTED_S = 12.0  # from power-up until the daemon starts
EPOCH_1970_NS = 4 * S  # what a system clock without battery says at boot


class Clockwork:
    """The scenario's time, in nanoseconds since its start."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._ahead_ns = 0

    @property
    def at_ns(self) -> int:
        """What time it is for the step under way."""
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
        over_ns = self.at_ns
        self._ahead_ns = 0
        return over_ns


class SystemClock:
    """What the kernel takes for UTC, and whether it believes it."""

    def __init__(self, time: Clockwork, start_ns: int, *, error_s: float) -> None:
        self._time = time
        self._start_ns = start_ns
        self._error_s = error_s
        self._wrong_ns = 0
        self._ppm = 0.0
        self._since_ns = 0  # of the drift
        self.is_synced = True

    def true_ns(self) -> int:
        """Return UTC."""
        return self._start_ns + self._time.at_ns

    def boot_unknown(self) -> None:
        """Begin in 1970."""
        self._set(EPOCH_1970_NS - self.true_ns(), 0.0)

    def set_wrong(self, by_s: float) -> None:
        """Move it, and let nobody vouch for it."""
        self._set(self._wrong() + round(by_s * S), self._ppm)

    def drift(self, ppm: float) -> None:
        """Let nobody vouch for it any more, and let it run too fast by so much."""
        self._set(self._wrong(), ppm)

    def set_right(self) -> None:
        """Let network time set it, and vouch for it."""
        self._set(0, 0.0)
        self.is_synced = True

    def says(self, boot_ns: int) -> Look:
        """Return what is to be seen of it."""
        utc_ns = self.true_ns() + self._wrong()
        return Look(boot_ns, utc_ns, self.is_synced, self._error_s if self.is_synced else None)

    def _wrong(self) -> int:
        drifted = (self._time.at_ns - self._since_ns) * self._ppm / 1e6 if self._ppm else 0.0
        return self._wrong_ns + round(drifted)

    def _set(self, wrong_ns: int, ppm: float) -> None:
        self._wrong_ns, self._ppm, self._since_ns = wrong_ns, ppm, self._time.at_ns
        self.is_synced = False


class BenchMachine:
    """A Machine (agent.machine) that was switched on at some moment of a scenario."""

    def __init__(self, time: Clockwork, clock: SystemClock, dice: Random) -> None:
        self._time = time
        self._clock = clock
        self.on_ns = time.now_ns - round(BOOTED_S * S)
        self._boot_id = f"{dice.getrandbits(128):032x}"

    def boot_ns(self) -> int:
        """Return nanoseconds since it was switched on."""
        return self._time.at_ns - self.on_ns

    def boot_s(self) -> float:
        """Return the same in seconds."""
        return self.boot_ns() / S

    def look(self) -> Look:
        """Read all clocks."""
        return self._clock.says(self.boot_ns())

    def rtc_s(self) -> int | None:
        """Return nothing: it has no battery."""

    def boot_id(self) -> str:
        """Return what names this boot."""
        return self._boot_id

    def rss_bytes(self) -> int:
        """Return the real process's memory."""
        return kernel.rss_bytes()
