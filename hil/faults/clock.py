"""Clocks that step and drift, in a time that is given: what a gateway's machine would read.

Pure. For a real machine there is nothing like it here: the bench never touches its host's clock.
"""

from __future__ import annotations

from agent.clock import Look
from drivers.base import Clock

from .ongoing import Heal, Ongoing


class Timeline:
    """The boot-time clock and UTC of one machine, from `true_ns`, a time that is never wrong.

    While it is synchronised both run true. While it is not they share the crystal's drift, as
    Linux' do, and the difference between them moves by steps only. When it is synchronised again
    UTC steps to the truth; time daemons slew what is less than about half a second.
    """

    def __init__(self, true_ns: Clock, *, begin_utc_ns: int, error_s: float = 0.005) -> None:
        self._true_ns = true_ns
        self._error_s = error_s  # the kernel's bound while it is synchronised
        self._last_ns = true_ns()
        self._utc_ns = begin_utc_ns - self._last_ns  # of truth, to add to `true_ns`
        self._drifted_ns = 0.0  # of the boot-time clock, since the beginning
        self._wrong_ns = 0.0  # of UTC, since it was last synchronised
        self._drifting = Ongoing[float]()
        self._stepped = Ongoing[float]()
        self._alone = Ongoing[None]()

    def drift(self, ppm: float) -> Heal:
        """Let the crystal run fast by so much, or slow; seen while nobody corrects it."""
        self._pass()
        return self._passing(self._drifting.begin(ppm))

    def step(self, by_s: float) -> Heal:
        """Set UTC ahead by so much, or back; healed, set it right again."""
        self._pass()
        return self._passing(self._stepped.begin(by_s))

    def lose_sync(self) -> Heal:
        """Leave it without anybody who corrects it."""
        self._pass()
        return self._passing(self._alone.begin(None))

    def heal(self) -> None:
        """Undo every fault; what the boot-time clock has gained or lost stays."""
        self._pass()
        for kind in (self._drifting, self._stepped):
            kind.heal()
        self._alone.heal()
        self._wrong_ns = 0.0

    def boot_ns(self) -> int:
        """Read the boot-time clock; it never steps."""
        self._pass()
        return self._last_ns + round(self._drifted_ns)

    def look(self) -> Look:
        """Read all clocks at once."""
        self._pass()
        utc_ns = self._last_ns + self._utc_ns + round(self._wrong_ns + 1e9 * sum(self._stepped))
        is_synchronised = not self._alone
        return Look(
            self._last_ns + round(self._drifted_ns),
            utc_ns,
            is_synchronised,
            self._error_s if is_synchronised else None,
        )

    def _pass(self) -> None:
        """Let the time go by that went by."""
        now_ns = self._true_ns()
        if self._alone:
            gained_ns = (now_ns - self._last_ns) * sum(self._drifting) / 1e6
            self._drifted_ns += gained_ns
            self._wrong_ns += gained_ns
        self._last_ns = now_ns

    def _passing(self, end: Heal) -> Heal:
        def heal() -> None:
            self._pass()
            end()
            if not self._alone:
                self._wrong_ns = 0.0

        return heal
