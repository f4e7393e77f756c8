"""`yukimi watch` on a pseudo-terminal of its own, and what a person would see on it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect
import pyte
import pytest

from agent.cli.display import cells

WAIT_S = 90.0

# The terminal's settings before and after, told by the terminal itself.
SHELL = 'stty -g; {command}; code=$?; printf "\\nafter %s\\n" "$(stty -g)"; echo "code $code"'


class Watching:
    """A terminal of `columns` x `lines`; a context manager."""

    def __init__(
        self,
        config: Path,
        *,
        locale: str = "C.UTF-8",
        columns: int = 80,
        lines: int = 24,
        terminal: str = "xterm-256color",
        before: str = "",
    ) -> None:
        start = f"{before}\nimport sys\nfrom agent.cli import main\nsys.exit(main())"
        command = ["env", f"LC_ALL={locale}", f"TERM={terminal}", sys.executable, "-c", start]
        command += ["watch", "--config", str(config)]
        shell = SHELL.format(command=shlex.join(command))
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = bytearray()
        self._child = pexpect.spawn(
            "/bin/bash",
            ["-c", shell],
            dimensions=(lines, columns),
            encoding=None,
            timeout=WAIT_S,
        )
        self._child.delaybeforesend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children():
            os.kill(child, signal.SIGKILL)
        with suppress(OSError):  # hung up
            self._child.close(force=True)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self.screen.display]

    def line(self, *words: str) -> int:
        """Return the number of the line that holds all of `words`."""
        found = [at for at, line in enumerate(self.lines) if all(word in line for word in words)]
        assert found, "\n".join(self.lines)
        return found[0]

    def cells(self, line: int) -> list[str]:
        """Return a line cell by cell; right of a wide character is an empty one."""
        return [self.screen.buffer[line][column].data for column in range(self.screen.columns)]

    def wait(self, *words: str, where: Callable[[list[str]], bool] = lambda _: True) -> None:
        """Wait until all of `words` are on the screen, and `where` is true of its lines."""
        until_s = time.monotonic() + WAIT_S
        while True:
            text = "\n".join(self.lines)
            if all(word in text for word in words) and where(self.lines):
                return
            if time.monotonic() > until_s or not self.read():
                pytest.fail(f"never on the screen: {words}\n{text}")

    def read(self) -> bool:
        """Take what was written meanwhile; False once nobody will write any more."""
        try:
            written = self._child.read_nonblocking(65536, timeout=0.2)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.written += written
        self._stream.feed(written)
        return True

    def press(self, keys: str) -> None:
        self._child.send(keys)

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        self._child.setwinsize(lines, columns)

    def signal(self, number: int) -> None:
        """Send a signal to the command itself, not to the shell around it."""
        for child in self._children():
            os.kill(child, number)

    def wait_end(self) -> int:
        """Wait until it ends; return its exit code. The terminal must be as it was before."""
        while self.read():
            pass
        written = self.written.decode("utf-8", "replace")
        before = written.partition("\r\n")[0]
        after = written.rpartition("after ")[2].partition("\r\n")[0]
        assert before == after, written[-2000:]
        assert "\x1b[?25h" in written.rpartition("\x1b[?25l")[2], "the cursor stayed hidden"
        assert "\x1b[?1049l" in written.rpartition("\x1b[?1049h")[2], "on the other page"
        return int(written.rpartition("code ")[2])

    def hang_up(self) -> list[int]:
        """Let the terminal be gone; return who was on it."""
        children = self._children()
        os.close(self._child.child_fd)
        return children

    def _children(self) -> list[int]:
        try:
            told = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text()
        except OSError:
            return []
        return [int(each) for each in told.split()]


def assert_cells(screen: Watching) -> None:
    """Hold the terminal's own cells against what we take a text for."""
    for line in screen.screen.display:
        assert cells(line) == screen.screen.columns, line
