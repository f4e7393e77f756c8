"""What a running gateway answers about its spool, and the same asked from outside.

The answers read beside the gateway's own work: nothing waits for them. A slice is bounded; to read
the whole file through takes its time, so that is done in a thread of its own, and asked for again
until it is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from config.text import text_of

from .answers import AskError
from .spool import Spool, SpoolError
from .spoolfile import READ_ERRORS, check
from .spoolview import (
    FROM_THE_FIRST,
    About,
    Figures,
    LedgerSlice,
    Slice,
    Waiting,
    entries_after,
    figures_of,
    ledger_after,
)

FIGURES, SLICE, CHECK = "spool_figures", "spool_slice", "spool_check"
LEDGER = "ledger"
ASK_AGAIN_S = 1.0

Document = dict[str, Any]
Answer = Callable[[Mapping[str, Any]], Document]
Ask = Callable[[str, Mapping[str, Any]], Document]


def _told(answer: Answer) -> Answer:
    """Let a spool that cannot be read be what is said of it, and no bug."""

    @wraps(answer)
    def told(arguments: Mapping[str, Any]) -> Document:
        try:
            return answer(arguments)
        except SpoolError as exc:
            raise AskError("spool", text_of(exc)) from exc

    return told


class SpoolAnswers:
    """Answers for one life of the gateway."""

    def __init__(self, spool: Spool, *, gateway: str, max_bytes: int) -> None:
        self._spool = spool
        self._gateway = gateway
        self._max_bytes = max_bytes
        self._stopping = threading.Event()
        self._checker: threading.Thread | None = None
        self._wrong: str | None = None

    def by_name(self) -> dict[str, Answer]:
        """Return what can be asked."""
        own = {
            FIGURES: self._figures,
            SLICE: self._slice,
            LEDGER: self._ledger,
            CHECK: self._check,
        }
        return {name: _told(answer) for name, answer in own.items()}

    def stop(self) -> None:
        """Stop reading the file through."""
        self._stopping.set()

    def _figures(self, _arguments: Mapping[str, Any]) -> Document:
        why = self._spool.why_volatile if self._spool.is_volatile else None
        about = About(
            True, self._gateway, str(self._spool.path), self._spool.bytes(), self._max_bytes, why
        )
        figures, _ = self._spool.look(figures_of)
        return {"about": about.json(), "figures": figures.json()}

    def _slice(self, arguments: Mapping[str, Any]) -> Document:
        after_id = arguments.get("after")
        if type(after_id) is not int:
            after_id = FROM_THE_FIRST
        entries, moves = self._spool.look(
            lambda database, done: entries_after(database, after_id, done)
        )
        return {"entries": [each.json() for each in entries], "moves": moves}

    def _ledger(self, arguments: Mapping[str, Any]) -> Document:
        after_n = arguments.get("after")
        if type(after_n) is not int:
            after_n = 0
        found, _ = self._spool.look(lambda database, _: ledger_after(database, after_n))
        return found.json()

    def _check(self, _arguments: Mapping[str, Any]) -> Document:
        """Begin to read the file through, or say what came of it."""
        if self._spool.is_volatile:
            return {"is_done": True, "wrong": None}
        if self._checker is None:
            self._wrong = None
            self._checker = threading.Thread(
                target=self._read_through, name="spool verify", daemon=True
            )
            self._checker.start()
        if self._checker.is_alive():
            return {"is_done": False, "wrong": None}
        self._checker = None
        return {"is_done": True, "wrong": self._wrong}

    def _read_through(self) -> None:
        try:
            self._wrong = check(self._spool.path, lambda: not self._stopping.is_set())
        except (OSError, *READ_ERRORS) as exc:
            self._wrong = str(exc)


class AskedSpool:
    """The spool of a running gateway, asked through its control socket."""

    def __init__(self, ask: Ask) -> None:
        """`ask` takes a question's name and arguments; what it raises goes through."""
        self._ask = ask
        self.about = About(**ask(FIGURES, {})["about"])

    def slice(self, after_id: int) -> Slice:
        """Return the next entries after an id. Raises SpoolError."""
        said = self._ask(SLICE, {"after": after_id})
        return Slice([Waiting.from_json(each) for each in said["entries"]], said["moves"])

    def figures(self) -> Figures:
        """Return how much waits. Raises SpoolError."""
        return Figures.from_json(self._ask(FIGURES, {})["figures"])

    def ledger(self, after_n: int) -> LedgerSlice:
        """Return the ledger's next lines after a number. Raises SpoolError."""
        return LedgerSlice.from_json(self._ask(LEDGER, {"after": after_n}))

    def what_is_wrong(self) -> str | None:
        """Have the gateway read the whole file; return what is wrong. Raises SpoolError."""
        while not (said := self._ask(CHECK, {}))["is_done"]:
            time.sleep(ASK_AGAIN_S)
        wrong: str | None = said["wrong"]
        return wrong

    def check_still(self) -> None:
        """Say nothing: the gateway itself sees to it that what it shows is right."""
