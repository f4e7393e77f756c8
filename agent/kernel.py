"""What Linux says about time and this boot."""

from __future__ import annotations

import ctypes
import os
import secrets
import time
from pathlib import Path

from .clock import Look

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STA_UNSYNC = 0x0040  # linux/timex.h: the clock is not synchronised


class _Timex(ctypes.Structure):
    # struct timex of linux/timex.h, 64-bit; only the fields before `constant` are read
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
    error_s = timex.maxerror / 1e6 if synchronised else None
    return Look(boot_ns(), time.time_ns(), synchronised, error_s)


def boot_id() -> str:
    """Return the kernel's random id of this boot; where it gives none, one like no other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(16)


def rss_bytes() -> int:
    """Return this process's resident memory, 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except OSError:
        return 0
