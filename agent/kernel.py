"""What Linux says about time and this boot."""

from __future__ import annotations

import ctypes
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from .clock import Look

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20
# linux/timex.h
_STA_UNSYNC = 0x0040  # the clock is not synchronised
_STA_NANO = 0x2000  # `offset` is in nanoseconds, not microseconds


class _Timex(ctypes.Structure):
    # struct timex, 64-bit; only the fields before `constant` are read
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


_libc = ctypes.CDLL(None)


def boot_ns() -> int:
    """Return nanoseconds since boot, suspended time included; never steps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_s() -> float:
    """Return seconds since boot."""
    return boot_ns() / 1e9


def look() -> Look:
    """Read all clocks, and whether the kernel believes its own (adjtimex)."""
    timex = _Timex()
    answer = _libc.adjtimex(ctypes.byref(timex))
    synchronised = answer >= 0 and not timex.status & _STA_UNSYNC
    # What is still to be slewed is an error too: some time daemons leave it out of their bound.
    unslewed_s = abs(timex.offset) / (1e9 if timex.status & _STA_NANO else 1e6)
    error_s = timex.maxerror / 1e6 + unslewed_s if synchronised else None
    return Look(boot_ns(), time.time_ns(), synchronised, error_s)


def rtc_s(clocks: Path = Path("/sys/class/rtc")) -> int | None:
    """Return what the battery-backed clock says, in whole seconds of UTC; None without one.

    Of several it is the one from which the kernel set the system clock at boot (hctosys).
    """
    told: list[tuple[bool, int]] = []
    for clock in sorted(clocks.glob("rtc*")):
        with suppress(OSError, ValueError):  # a chip that does not answer is no clock
            seconds = int((clock / "since_epoch").read_text(encoding="ascii"))
            is_source = (clock / "hctosys").read_text(encoding="ascii").strip() == "1"
            told.append((is_source, seconds))
    return max(told, key=lambda each: each[0])[1] if told else None


def boot_id() -> str:
    """Return the kernel's random id of this boot; where it gives none, one like no other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(16)


def rss_bytes() -> int:
    """Return this process's resident memory, rounded up to 1 MiB; 0 where the kernel does not say.

    No finer: a page more or less, at the minute in which it came, may be somebody who passed.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return -(-pages * PAGE_BYTES // MIB) * MIB
