"""A process of the bench's own, and the pipe to it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from ..bench.process import BenchError

PATIENCE_S = 600.0  # for anything that must happen; no promise about how fast it does

_SPAWN = multiprocessing.get_context("spawn")  # a fork would take our threads' locks with it


class Child:
    """Runs `body(pipe, *arguments)`."""

    def __init__(self, body: Callable[..., None], *arguments: object) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._name = body.__module__.rpartition(".")[2]
        self._process = _SPAWN.Process(target=body, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Of the process. Raises BenchError."""
        if self._process.pid is None:
            raise BenchError(f"{self._name} has not started")
        return self._process.pid

    def tell(self, what: object) -> None:
        """Send it something. Raises BenchError where it has ended."""
        try:
            self._pipe.send(what)
        except OSError as exc:
            raise self._ended() from exc

    def has_spoken(self) -> bool:
        """Whether `hear` would return at once. Raises BenchError where it has ended."""
        if not self._process.is_alive():
            raise self._ended()
        return self._pipe.poll()

    def hear(self) -> Any:
        """Return what it says next. Raises BenchError."""
        try:
            if self._pipe.poll(PATIENCE_S):
                return self._pipe.recv()
        except (EOFError, OSError) as exc:
            raise self._ended() from exc
        raise BenchError(f"{self._name} says nothing")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _ended(self) -> BenchError:
        self._process.join(1.0)
        return BenchError(f"{self._name} ended by itself, exit code {self._process.exitcode}")
