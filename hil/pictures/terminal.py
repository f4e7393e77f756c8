"""A command on a terminal of 80 x 24 cells, and what is then to be seen there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pexpect
import pyte

from .drawing import Cell, Look

COLUMNS, LINES = 80, 24
PATIENCE_S = 60.0


class Terminal:
    """A context manager; whoever was on it is gone at the end."""

    def __init__(
        self, command: Sequence[str], shown: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Run `command` in `folder`, below a prompt with the command as a person types it."""
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._stream.feed(f"$ {shown}\r\n".encode())
        self._child: Any = pexpect.spawn(
            command[0],
            list(command[1:]),
            cwd=str(folder),
            env={**os.environ, "TERM": "xterm-256color", **environment},
            dimensions=(LINES, COLUMNS),
            encoding=None,
        )
        self._child.delaybeforesend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.close(force=True)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._screen.display]

    def wait_end(self) -> int:
        """Wait until the command ends; return its exit code. Raises TimeoutError."""
        until_s = time.monotonic() + PATIENCE_S
        while self.read():
            if time.monotonic() > until_s:
                raise TimeoutError("it never ended:\n" + "\n".join(self.lines))
        self._child.close()
        return int(self._child.exitstatus)

    def wait(self, is_so: Callable[[list[str]], bool]) -> None:
        """Wait until the lines on the screen are as asked. Raises TimeoutError."""
        until_s = time.monotonic() + PATIENCE_S
        while not is_so(self.lines):
            if time.monotonic() > until_s or not self.read():
                raise TimeoutError("never on the screen:\n" + "\n".join(self.lines))

    def read(self) -> bool:
        """Take what was written meanwhile; False once nobody will write any more."""
        try:
            self._stream.feed(self._child.read_nonblocking(65536, timeout=0.2))
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        return True

    def cells(self) -> list[list[Cell]]:
        """Return the screen cell by cell."""
        return [
            [_cell(self._screen.buffer[line][column]) for column in range(COLUMNS)]
            for line in range(LINES)
        ]


def _cell(seen: Any) -> Cell:
    return seen.data, Look(seen.fg, seen.bold, seen.reverse)
