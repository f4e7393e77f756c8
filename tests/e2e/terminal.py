"""Somebody at a real terminal, on a machine whose devices are elsewhere."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any, Self

import pexpect
import pytest

from tests.e2e.conftest import PROJECT

PATIENCE_S = 60.0

# The program as it is, on a machine whose /dev and /sys are elsewhere.
ELSEWHERE = """
import sys
from functools import partial
from pathlib import Path
from agent import scan
from drivers import nodes
root = Path(sys.argv.pop(1))
nodes.NAME_FOLDERS = (root / "dev/serial/by-id",)
scan.Machine = partial(scan.Machine, root=root)
from agent.cli import main
sys.exit(main())
"""
LANGUAGES = {
    "en": {"LC_ALL": "C.UTF-8"},
    "ja": {"LC_ALL": "", "LC_MESSAGES": "ja_JP.UTF-8", "LC_CTYPE": "C.UTF-8"},
}


class Person:
    """Somebody at a terminal: waits for what is asked, and types."""

    def __init__(
        self, root: Path, *words: str, language: str = "en", folder: Path, config: Path
    ) -> None:
        environment = os.environ | LANGUAGES[language] | {"TERM": "xterm", "COLUMNS": "120"}
        environment |= {"PYTHONPATH": str(PROJECT)}
        self.screen: Any = pexpect.spawn(
            sys.executable,
            ["-c", ELSEWHERE, str(root), *words, "--config", str(config)],
            cwd=str(folder),
            env=environment,
            encoding="utf-8",
            timeout=PATIENCE_S,
            dimensions=(50, 120),
        )
        self._log = io.StringIO()
        self.screen.logfile_read = self._log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.screen.close(force=True)

    @property
    def seen(self) -> str:
        """All that was on the screen."""
        return self._log.getvalue()

    def reads(self, *texts: str) -> None:
        """Wait until each of the texts has come, in this order."""
        for text in texts:
            try:
                self.screen.expect(re.escape(text))
            except (pexpect.TIMEOUT, pexpect.EOF):
                pytest.fail(f"{text!r} never came; the screen:\n{self.seen}")

    def answers(self, question: str, answer: str = "") -> None:
        """Wait for a question, and answer it."""
        self.reads(question)
        self.screen.sendline(answer)

    def leaves(self) -> int:
        """Wait until it ends; return the exit code."""
        self.screen.expect(pexpect.EOF)
        self.screen.close()
        code = self.screen.exitstatus
        return int(code) if code is not None else -int(self.screen.signalstatus)
