"""The terminal, taken over for a while and given back as it was, whatever ends it.

Keys come one by one, unseen; the page that was there before is back afterwards. SIGINT, SIGTERM and
SIGHUP are handed over as the name of the signal, so that whoever waits can end in order; a stop
(Ctrl-Z) gives the terminal back meanwhile. There is one at a time, on the main thread.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

ESCAPE_S = 0.15  # after an escape character that begins nothing
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_TAKE = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"  # the other page, no cursor, no wrapping
_GIVE_BACK = "\x1b[0m\x1b[H\x1b[2J\x1b[?7h\x1b[?25h\x1b[?1049l"
_KEYS = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "back",
    b"\x08": "back",
    b"\x0c": "redraw",
}
_LONGEST = 8  # bytes of a sequence; what is longer is none that we know


class TerminalGoneError(Exception):
    """The terminal is not there any more."""


class Terminal:
    """Standard input and output, if both are one; a context manager."""

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._held = bytearray()  # the beginning of a key
        self._held_until_s = 0.0
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._wake_in, self._wake_out = -1, -1
        self._wakeup_before = -1
        self.written_bytes = 0

    @staticmethod
    def is_there() -> bool:
        """Tell whether there is a terminal to take over."""
        return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Self:
        sys.stdout.flush()
        self._before = termios.tcgetattr(self._in)
        self._wake_in, self._wake_out = os.pipe()
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        for number in (*ENDING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
            self._handlers[number] = signal.signal(number, lambda *_: None)
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake_in)
        os.close(self._wake_out)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        with suppress(OSError):
            columns, lines = os.get_terminal_size(self._out)
            if columns > 0 and lines > 0:
                return columns, lines
        found = shutil.get_terminal_size()  # a serial line does not know
        return found.columns, found.lines

    def write(self, text: str) -> None:
        """Write at once. Raises TerminalGoneError."""
        rest = memoryview(text.encode(sys.stdout.encoding or "utf-8", "replace"))
        self.written_bytes += len(rest)
        while rest:
            try:
                rest = rest[os.write(self._out, rest) :]
            except BlockingIOError:
                select.select([], [self._out], [], 1.0)
            except OSError as exc:
                raise TerminalGoneError from exc

    def wait(self, until_s: float, *others: int) -> list[str]:
        """Wait until a key, a signal, or something on another file descriptor, or the time.

        Returns names of keys ("up", "q"), "resized", and names of signals such as "SIGTERM".
        Raises TerminalGoneError.
        """
        now_s = time.monotonic()
        if self._held:
            until_s = min(until_s, self._held_until_s)
        watched = [self._in, self._wake_in, *others]
        ready, _, _ = select.select(watched, [], [], max(0.0, until_s - now_s))
        found = list(self._signals()) if self._wake_in in ready else []
        if self._in in ready:
            found += self._keys(self._read())
        elif self._held and time.monotonic() >= self._held_until_s:
            found += self._flushed()
        return found

    def _read(self) -> bytes:
        try:
            read = os.read(self._in, 1024)
        except BlockingIOError:
            return b""
        except OSError as exc:
            raise TerminalGoneError from exc
        if not read:
            raise TerminalGoneError
        return read

    def _keys(self, read: bytes) -> Iterator[str]:
        self._held += read
        self._held_until_s = time.monotonic() + ESCAPE_S
        while self._held:
            key = next((each for each in _KEYS if self._held.startswith(each)), None)
            if key is not None:
                del self._held[: len(key)]
                yield _KEYS[key]
            elif self._held[0] != 0x1B:
                yield chr(self._held.pop(0))
            elif self._is_beginning():
                return
            else:
                yield from self._flushed()

    def _is_beginning(self) -> bool:
        held = bytes(self._held)
        return any(key.startswith(held) for key in _KEYS) and len(held) < _LONGEST

    def _flushed(self) -> Iterator[str]:
        """Give up what is held: one escape is a key, a sequence that nobody knows is none."""
        is_key = self._held == b"\x1b"
        self._held.clear()
        if is_key:
            yield "escape"

    def _signals(self) -> Iterator[str]:
        with suppress(BlockingIOError):
            for number in os.read(self._wake_in, 256):
                if number == signal.SIGWINCH:
                    yield "resized"
                elif number == signal.SIGTSTP:
                    self._stop()
                    yield "resized"  # all of it is to be drawn anew
                elif number in ENDING:
                    yield signal.Signals(number).name

    def _stop(self) -> None:
        """Be stopped as anybody is, without the terminal; go on when told to."""
        self._give_back()
        mine = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, mine)
        self._take()

    def _take(self) -> None:
        tty.setcbreak(self._in, termios.TCSADRAIN)
        self.write(_TAKE)

    def _give_back(self) -> None:
        with suppress(TerminalGoneError):
            self.write(_GIVE_BACK)
        with suppress(termios.error):
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
