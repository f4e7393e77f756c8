"""The daemon's memory holds what was seen of people: here it is kept to the daemon.

No core dump, nobody of the same user who reads along, and no page in a swap file. The unit says
part of this too; a daemon that is started otherwise must not depend on it. What remains is root.

Sources: prctl(2), core(5), mlockall(2), mlock2(2).
"""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path

# linux/prctl.h, linux/capability.h, asm-generic/mman.h
_PR_SET_DUMPABLE = 4
_CAP_IPC_LOCK = 14
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def keep_memory_to_itself() -> None:
    """Shut what Linux lets out of a process's memory; called before it holds anything."""
    # Both: a core that is piped to a program (systemd-coredump, apport) minds no limit, and a
    # process that cannot be dumped is as little read through /proc/PID/mem or by a debugger.
    with suppress(OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> bool:
    """Keep every page that is used out of swap; tell whether that was possible.

    Only pages that are touched, now and later, so that it costs no memory. Not where the limit is
    a number: an allocation that passes it would fail.
    """
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
    elif not _has_capability(_CAP_IPC_LOCK):
        return False
    failed: int = _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    return not failed


def _has_capability(number: int) -> bool:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def may_be_swapped(swaps: Path = Path("/proc/swaps")) -> bool:
    """Tell whether this process's memory may be written to a disk; compressed memory is none."""
    try:
        lines = swaps.read_text(encoding="ascii", errors="replace").splitlines()[1:]
    except OSError:
        return False
    places = [line.split()[0] for line in lines if line.strip()]
    return any(not Path(place).name.startswith("zram") for place in places)
