"""A serial line between the guest's UART or USB adapter and the bench's devices out here."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..buses import PTY_POLL_S, SerialDevice, SerialLine


class SerialWire:
    """Listens on `path` for qemu's end of a line; carries bytes while one is connected.

    The devices live on while the guest is off. The line's own faults are at `line`.
    """

    def __init__(
        self, path: Path, devices: Iterable[SerialDevice], now_s: Callable[[], float]
    ) -> None:
        self.path = path
        self.line = SerialLine(devices)
        self._now_s = now_s
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, name=f"wire {path.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up, for good."""
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._carry(connection)

    def _carry(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        while not self._stopping.is_set():
            ready, _, _ = select.select([connection], [], [], PTY_POLL_S)
            sent = connection.recv(4096) if ready else b""
            if ready and not sent:
                return
            heard = self.line.carry(sent, self._now_s())
            # Like a wire, it does not wait for a host that does not read.
            with suppress(BlockingIOError):
                connection.send(heard)
