"""The commands that were done, so that none is done twice: not after a kill, not after a power cut.

A command that changes anything is written down before it is begun. One that comes again is answered
from here, or, where nobody knows how far it came, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.logs import logger
from agent.replacing import replace_file

from .command import AHEAD_NS, LONGEST_NS, RefusedError

log = logger("remote")

SCHEMA = "yukimi.commands-done/1"
MOST = 200  # remembered at a time; more within a day are refused
NAME = "commands-done.json"

Reply = Mapping[str, Any]


class Done:
    """What was done, by verb and id, until long after its expiry."""

    def __init__(self, folder: Path) -> None:
        """Remember what the file in `folder` says; one that is damaged bars all until it is gone.

        Who could damage it could have a command done again.
        """
        self._file = folder / NAME
        self._begun: dict[str, dict[str, Any]] = {}
        self._not_before_ns = 0  # until then one that is forgotten may not have expired
        self.why_barred: str | None = None
        try:
            told = json.loads(self._file.read_text("utf-8"))
            if told["schema"] != SCHEMA:
                raise ValueError(f"is {told['schema']}")
            self._begun = {str(k): dict(v) for k, v in told["commands"].items()}
            self._not_before_ns = int(told.get("not_before_ns", 0))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            self.why_barred = f"{self._file} cannot be read: {exc}"
            log.error("which commands were done is not known: none is done", file=str(self._file))

    def before(self, key: str) -> Reply | None:
        """Return the reply to a command that was done. Raises RefusedError where it was begun."""
        entry = self._begun.get(key)
        if entry is None:
            return None
        if entry.get("reply") is None:
            raise RefusedError("repeated", "it was begun before; how far it came is not known")
        reply: Reply = entry["reply"]
        return reply

    def is_begun(self, key: str) -> bool:
        """Tell whether it was begun before, ended or not."""
        return key in self._begun

    def begin(self, key: str, now_ns: int) -> None:
        """Write down that a command is begun. Raises RefusedError; then it must not be."""
        if self.why_barred is not None:
            raise RefusedError("failed", self.why_barred)
        # A clock that is set back, which whoever sends the time can do, must revive no command.
        if now_ns < self._not_before_ns:
            raise RefusedError("time_unknown", "the clock went back by days: it is not believed")
        for each, entry in list(self._begun.items()):
            if now_ns - entry["begun_ns"] > 2 * LONGEST_NS:
                expired_ns = entry["begun_ns"] + AHEAD_NS + LONGEST_NS
                self._not_before_ns = max(self._not_before_ns, expired_ns)
                del self._begun[each]
        if len(self._begun) >= MOST:
            raise RefusedError("too_many", f"{MOST} commands within two days are the most")
        self._begun[key] = {"begun_ns": now_ns, "reply": None}
        try:
            self._write()
        except OSError as exc:
            del self._begun[key]
            raise RefusedError("failed", f"{self._file}: {exc.strerror}") from exc

    def end(self, key: str, reply: Reply) -> None:
        """Write down what was answered. Without a disk it stays known to this life only."""
        self._begun[key]["reply"] = dict(reply)
        try:
            self._write()
        except OSError as exc:
            log.error("what was answered cannot be kept", file=str(self._file), why=str(exc))

    def _write(self) -> None:
        document = {
            "schema": SCHEMA,
            "not_before_ns": self._not_before_ns,
            "commands": self._begun,
        }
        replace_file(self._file, json.dumps(document, ensure_ascii=False).encode())
