"""What a gateway asks of the computer it runs on: its clocks, its boot, its memory.

`agent.kernel` is the one there is. Whoever runs a gateway in another time brings another.
"""

from __future__ import annotations

from typing import Protocol

from .clock import Look


class Machine(Protocol):
    """Told once, to the whole gateway."""

    def boot_ns(self) -> int:
        """Return nanoseconds since boot, suspended time included; never steps."""
        ...

    def boot_s(self) -> float:
        """Return the same in seconds."""
        ...

    def look(self) -> Look:
        """Read all clocks, and whether the system's is believed."""
        ...

    def rtc_s(self) -> int | None:
        """Return what a battery-backed clock says, in whole seconds of UTC; None without one."""
        ...

    def boot_id(self) -> str:
        """Return what names this boot."""
        ...

    def rss_bytes(self) -> int:
        """Return this process's resident memory, no finer than may be told."""
        ...
