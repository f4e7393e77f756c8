"""Tell systemd how we are: ready, alive, stopping. Without systemd, nothing happens."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

PATIENCE_S = 5.0  # with a service manager that does not read what it is told


def notify(state: str) -> None:
    """Send one sd_notify(3) message, such as "READY=1"; errors concern nobody."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(state.encode(), address)
