"""What Linux says of a device node: its lasting names, who has it open, what the kernel holds.

Nothing here opens a device or changes anything, and nothing raises: what cannot be read is not
known. Only small files and links below /dev, /proc and /sys are looked at, and a bounded number of
them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

# In the order in which they are recommended; the folders that udev fills.
NAME_FOLDERS = (Path("/dev/serial/by-id"), Path("/dev/serial/by-path"))
PROC = Path("/proc")
I2C_DEVICES = Path("/sys/bus/i2c/devices")
USB_TTYS = Path("/sys/class/tty")

PASSING_NAME = re.compile(r"/dev/tty(?:USB|ACM)\d+\Z")  # given out in the order of arrival
OPEN_FILES_LOOKED_AT = 20_000


def is_passing(path: str) -> bool:
    """Tell whether `path` names whatever adapter came first, not the one that was meant."""
    return PASSING_NAME.match(path) is not None


def lasting_name(path: str) -> str | None:
    """Return the name that stays with the adapter that is at `path` now; None if there is none.

    Adapters without a serial number of their own share one name by-id, so they are named by the
    socket that they are plugged into.
    """
    node = os.path.realpath(path)
    folders = NAME_FOLDERS if _has_serial_number(node) else NAME_FOLDERS[::-1]
    for folder in folders:
        with suppress(OSError):
            for link in sorted(folder.iterdir()):
                if os.path.realpath(link) == node:
                    return str(link)
    return None


def holder(path: str) -> tuple[int, str] | None:
    """Return who holds the device at `path` as (process id, program); None if nobody is seen.

    A lock is seen whoever holds it; a file that is only open, if its process is one of our user's.
    """
    pid = next(_lockers(path), None) or next(_openers(path), None)
    if pid is None:
        return None
    try:
        return pid, (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return pid, "a program"


def kernel_driver(path: str, address: int) -> str | None:
    """Return the kernel's own driver for `address` on the I2C bus at `path`; None if it has none.

    A raw transfer does not ask: it would talk between the kernel and its clock or its sensor.
    """
    found = re.search(r"i2c-(\d+)\Z", os.path.realpath(path))
    if found is None:
        return None
    device = I2C_DEVICES / f"{found[1]}-{address:04x}"
    try:
        return (device / "driver").readlink().name
    except OSError:
        return None


def _has_serial_number(node: str) -> bool:
    # ttyUSB0/device is the port of the interface, above it are the interface and the adapter.
    port = USB_TTYS / Path(node).name / "device"
    with suppress(OSError):
        at = port.resolve(strict=True)
        return any((each / "serial").exists() for each in islice(at.parents, 3))
    return True


def _lockers(path: str) -> Iterator[int]:
    with suppress(OSError):
        node = Path(path).stat()
        where = f"{os.major(node.st_dev):02x}:{os.minor(node.st_dev):02x}:{node.st_ino}"
        for line in (PROC / "locks").read_text(encoding="ascii").splitlines():
            # "1: FLOCK  ADVISORY  WRITE 1234 00:05:88 0 EOF"; "->" in the second place waits.
            fields = line.split()
            if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == where:
                yield int(fields[4])


def _openers(path: str) -> Iterator[int]:
    node = os.path.realpath(path)
    with suppress(OSError):
        for link in islice(PROC.glob("[0-9]*/fd/*"), OPEN_FILES_LOOKED_AT):
            with suppress(OSError):
                if str(link.readlink()) == node:
                    yield int(link.parts[-3])
