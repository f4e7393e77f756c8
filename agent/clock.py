"""Boot-time clock <-> UTC: when the time is known, how wrong it may be, when it stepped.

Everything inside is stamped with the boot-time clock, which never steps. `Clock` holds the offset
to UTC. The system's wall clock is believed when the kernel says that it is synchronised (or where
the configuration says to believe it always). Until then records are kept back, and put right once
the time is known: nothing is sent under a time that is merely hoped for.

Pure: what the clocks say is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["synced", "corrected", "estimated"]
Event = Literal["synced", "stepped"]

# Slewing moves the clock by at most 0.5 ms a second, so a larger jump between looks is a step.
STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """The clocks at one instant."""

    boot_ns: int  # CLOCK_BOOTTIME
    utc_ns: int  # CLOCK_REALTIME
    synchronised: bool  # the kernel's word, adjtimex
    error_s: float | None  # the kernel's bound, None where it gives none


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a record's time is to be taken."""

    state: State
    error_s: float | None

    def json(self) -> dict[str, object]:
        """Return the contract's `clock` object."""
        return {"state": self.state, "error_s": self.error_s}


class Clock:
    """The offset from boot time to UTC, and whether it is to be believed."""

    def __init__(self, first: Look, *, trust_system: bool) -> None:
        self._trust_system = trust_system
        self._offset_ns = first.utc_ns - first.boot_ns
        self._known = self._believes(first)
        self._error_s = first.error_s

    @property
    def known(self) -> bool:
        """Whether UTC is known."""
        return self._known

    def judge(self, look: Look) -> Event | None:
        """Say whether UTC becomes known with this look, or has stepped; changes nothing.

        What was gathered under the old offset can so be closed before `accept` changes it. Once
        known, the time stays known: a kernel that loses its server keeps good time for long, and
        its error bound grows.
        """
        if not self._known and self._believes(look):
            return "synced"
        moved_ns = look.utc_ns - look.boot_ns - self._offset_ns
        return "stepped" if abs(moved_ns) > STEP_S * 1e9 else None

    def accept(self, look: Look) -> None:
        """Follow the clocks."""
        self._known = self._known or self._believes(look)
        self._offset_ns = look.utc_ns - look.boot_ns
        self._error_s = look.error_s

    def utc_ns(self, boot_ns: int) -> int:
        """Return UTC for a boot-time instant, by what is known now."""
        return boot_ns + self._offset_ns

    def boot_ns(self, utc_ns: int) -> int:
        """Return the boot-time instant of a UTC time, by what is known now."""
        return utc_ns - self._offset_ns

    def stamp(self) -> Stamp:
        """Return the stamp of a record made now; `estimated` means that it must be kept back."""
        if self._known:
            return Stamp("synced", self._error_s)
        return Stamp("estimated", None)

    def _believes(self, look: Look) -> bool:
        return self._trust_system or look.synchronised
