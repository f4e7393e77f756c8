"""A person at this terminal, for the verbs that ask questions."""

from __future__ import annotations

import getpass
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Terminal:
    """Asks on one stream and hears the keyboard."""

    def __init__(self, *, on_stderr: bool = False) -> None:
        """Speak on stdout, or on stderr where stdout is for machines."""
        self._out: TextIO = sys.stderr if on_stderr else sys.stdout

    @classmethod
    def where_there_is_one(cls, *, on_stderr: bool = False) -> Terminal | None:
        """Return it if somebody can both read and answer."""
        is_seen = (sys.stderr if on_stderr else sys.stdout).isatty()
        return cls(on_stderr=on_stderr) if sys.stdin.isatty() and is_seen else None

    def say(self, text: str) -> None:
        """Show a line."""
        print(text, file=self._out, flush=True)

    def hear(self, prompt: str, *, is_secret: bool = False) -> str:
        """Return what is answered. Raises KeyboardInterrupt, also where the input ends."""
        try:
            if is_secret:
                return getpass.getpass(prompt)
            print(prompt, end="", file=self._out, flush=True)
            answer = sys.stdin.readline()
        except EOFError:
            raise KeyboardInterrupt from None
        except UnicodeDecodeError:
            return "\ufffd"  # typed in another encoding: whoever checks it says so
        if not answer:
            raise KeyboardInterrupt
        return answer.rstrip("\r\n")

    def has_answered(self) -> bool:
        """Tell whether Enter was pressed since the last answer; takes it."""
        if not select.select([sys.stdin], [], [], 0)[0]:
            return False
        if not sys.stdin.readline():
            raise KeyboardInterrupt
        return True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Pass over Ctrl-C, so that what is begun is finished; for moments only."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
