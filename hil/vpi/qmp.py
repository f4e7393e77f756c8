"""Talk to qemu and to the guest: a line of JSON each way, on Unix sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class MachineError(Exception):
    """The virtual Pi did not do what it was told; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a command in the guest."""

    code: int
    out: str
    err: str


class Lines:
    """A connection that speaks JSON, a line each."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._rest = b""

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, document: dict[str, Any]) -> None:
        """Send one. Raises MachineError."""
        try:
            self._socket.sendall(json.dumps(document).encode() + b"\n")
        except OSError as exc:
            raise MachineError(f"nobody listens: {exc}") from exc

    def next(self, until_s: float) -> dict[str, Any]:
        """Return the next that comes before that time. Raises MachineError, TimeoutError."""
        while b"\n" not in self._rest:
            self._socket.settimeout(max(0.001, until_s - time.monotonic()))
            try:
                some = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as exc:
                raise MachineError(f"hung up: {exc}") from exc
            if not some:
                raise MachineError("hung up")
            self._rest += some
        line, _, self._rest = self._rest.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        return document


class Qmp:
    """Qemu's own control: qemu, docs/interop/qmp-spec.txt."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._lines = Lines(path)
        self._timeout_s = timeout_s
        self.events: list[str] = []
        self._lines.next(time.monotonic() + timeout_s)  # its greeting
        self.execute("qmp_capabilities")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command; return its answer. Raises MachineError."""
        self._lines.send({"execute": command, "arguments": arguments})
        until_s = time.monotonic() + self._timeout_s
        while True:
            said = self._lines.next(until_s)
            if "error" in said:
                raise MachineError(f"{command}: {said['error']['desc']}")
            if "return" in said:
                return said["return"]
            self.events.append(_name(said))

    def wait_event(self, name: str) -> None:
        """Wait until qemu has told it. Raises MachineError."""
        until_s = time.monotonic() + self._timeout_s
        while name not in self.events:
            try:
                self.events.append(_name(self._lines.next(until_s)))
            except TimeoutError:
                raise MachineError(f"qemu never told {name}, only {self.events}") from None
        self.events.remove(name)


class GuestAgent:
    """Runs commands in the guest, one at a time; see guest/agent.py."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._lock = threading.Lock()
        self._asked = 0

    def close(self) -> None:
        """Hang up."""
        self._lines.close()

    def run(self, command: str, *, timeout_s: float) -> Ran:
        """Run it in a shell, as root. Raises MachineError if there is no answer in time."""
        said = self._ask({"run": command}, timeout_s)
        return Ran(said["code"], said["out"], said["err"])

    def write(self, path: str, text: str, *, timeout_s: float) -> None:
        """Write a file of the guest's. Raises MachineError."""
        self._ask({"file": path, "text": text}, timeout_s)

    def drive(self, levels: list[tuple[int, int]], *, timeout_s: float) -> None:
        """Set pins (BCM) to electrical levels, in order. Raises MachineError."""
        self._ask({"pins": levels}, timeout_s)

    def _ask(self, what: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        with self._lock:
            self._asked += 1
            self._lines.send({"id": self._asked, **what})
            until_s = time.monotonic() + timeout_s
            while True:
                try:
                    said = self._lines.next(until_s)
                except TimeoutError:
                    raise MachineError(f"no answer in {timeout_s:.0f} s to {what}") from None
                if said["id"] == self._asked:  # else it answers one that was given up
                    break
            if "error" in said:
                raise MachineError(f"{what}: {said['error']}")
            return said


def _name(said: dict[str, Any]) -> str:
    return str(said.get("event"))
