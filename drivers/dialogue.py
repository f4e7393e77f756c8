"""One question on a serial line, and what is heard of it: for devices that wait to be asked.

Two-wire adapters may give back what we send. Our own words are taken out of what is heard before
anybody tries to understand them: some questions look like the beginning of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import Clock
from .buses import SerialPort


class Echo:
    """Takes one question out of the beginning of what is heard after it."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self._held = b""  # what may still become the echo
        self._is_decided = False

    def strip(self, chunk: bytes) -> bytes:
        """Return what of `chunk` was not ours; what may be is held until that is known."""
        if self._is_decided:
            return chunk
        heard = self._held + chunk
        if self._sent.startswith(heard) and len(heard) < len(self._sent):
            self._held = heard
            return b""
        self._held, self._is_decided = b"", True
        return heard.removeprefix(self._sent)

    def rest(self) -> bytes:
        """Return what was held and did not become an echo."""
        rest, self._held, self._is_decided = self._held, b"", True
        return rest


def ask(bus: SerialPort, question: bytes, now_ns: Clock, timeout_s: float) -> Iterator[bytes]:
    """Send `question`, and yield what comes back, without its echo, for `timeout_s`.

    What arrived before belongs to another question and is dropped. Whoever has heard enough just
    stops listening. Raises BusError.
    """
    bus.discard_input()
    bus.write(question)
    until_ns = now_ns() + round(timeout_s * 1e9)
    echo = Echo(question)
    while (left_ns := until_ns - now_ns()) > 0:
        chunk = bus.read(left_ns / 1e9)
        if not chunk:
            break
        if others := echo.strip(chunk):
            yield others
    if rest := echo.rest():
        yield rest
