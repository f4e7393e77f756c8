"""The commands that were done, so that none is done twice: not after a kill, not after a power cut.

A command that changes anything is written down before it is begun, in a small file of its own: a
command costs the card the same, however many there were. One that comes again is answered from its
file, or, where nobody knows how far it came, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.logs import logger
from agent.replacing import replace_file, sync_folder

from .command import AHEAD_NS, LONGEST_NS, RefusedError

log = logger("remote")

SCHEMA = "yukimi.command-done/1"
MOST = 200  # remembered at a time; more within a day are refused
REPLY_BYTES = 16_384  # of one that is kept; who changes something is told little
FOLDER = "commands-done"
NOT_BEFORE = "not-before.json"

Reply = Mapping[str, Any]


class Done:
    """What was done, by verb and id, until long after its expiry."""

    def __init__(self, folder: Path) -> None:
        """Remember what is in `folder`; a file that is damaged bars all until it is gone.

        Who could damage it could have a command done again.
        """
        self._folder = folder / FOLDER
        self._begun_ns: dict[str, int] = {}  # the replies stay on the disk
        self._not_before_ns = 0  # until then one that is forgotten may not have expired
        self.why_barred: str | None = None
        file = self._folder
        try:
            for file in _files(self._folder):
                told = _read(file)
                if file.name == NOT_BEFORE:
                    self._not_before_ns = int(told["not_before_ns"])
                else:
                    self._begun_ns[str(told["key"])] = int(told["begun_ns"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as exc:
            self.why_barred = f"{file} cannot be read: {exc}"
            log.error("which commands were done is not known: none is done", file=str(file))

    def before(self, key: str) -> Reply | None:
        """Return the reply to a command that was done. Raises RefusedError where it was begun."""
        if key not in self._begun_ns:
            return None
        try:
            reply = self._kept(key)
        except (OSError, ValueError, LookupError) as exc:
            raise RefusedError("failed", f"what was answered cannot be read: {exc}") from exc
        if reply is None:
            raise RefusedError("repeated", "it was begun before; how far it came is not known")
        return reply

    def is_begun(self, key: str) -> bool:
        """Tell whether it was begun before, ended or not."""
        return key in self._begun_ns

    def begin(self, key: str, now_ns: int) -> None:
        """Write down that a command is begun. Raises RefusedError; then it must not be."""
        if self.why_barred is not None:
            raise RefusedError("failed", self.why_barred)
        # A clock that is set back, which whoever sends the time can do, must revive no command.
        if now_ns < self._not_before_ns:
            raise RefusedError("time_unknown", "the clock went back by days: it is not believed")
        try:
            if not self._folder.exists():
                self._folder.mkdir(parents=True)
                sync_folder(self._folder.parent)
            self._forget(now_ns)
            if len(self._begun_ns) >= MOST:
                raise RefusedError("too_many", f"{MOST} commands within two days are the most")
            self._write(key, now_ns, None)
        except OSError as exc:
            raise RefusedError("failed", f"{self._folder}: {exc.strerror}") from exc
        self._begun_ns[key] = now_ns

    def end(self, key: str, reply: Reply) -> None:
        """Write down what was answered; without a disk, a replay is refused."""
        if len(json.dumps(reply)) > REPLY_BYTES:
            reply = {"ok": reply["ok"]}
        try:
            if self._kept(key) != reply:  # a trial is asked after again and again
                self._write(key, self._begun_ns[key], reply)
        except (OSError, ValueError, LookupError) as exc:
            log.error("what was answered cannot be kept", file=str(self._file(key)), why=str(exc))

    def _forget(self, now_ns: int) -> None:
        """Forget what has long expired; before that, that no earlier time is to be believed."""
        old = [each for each, at_ns in self._begun_ns.items() if now_ns - at_ns > 2 * LONGEST_NS]
        if not old:
            return
        newest_ns = max(self._begun_ns[each] for each in old)
        self._not_before_ns = max(self._not_before_ns, newest_ns + AHEAD_NS + LONGEST_NS)
        told = {"schema": SCHEMA, "not_before_ns": self._not_before_ns}
        replace_file(self._folder / NOT_BEFORE, json.dumps(told).encode())
        for each in old:
            self._file(each).unlink(missing_ok=True)
            del self._begun_ns[each]

    def _write(self, key: str, begun_ns: int, reply: Reply | None) -> None:
        told = {"schema": SCHEMA, "key": key, "begun_ns": begun_ns, "reply": reply}
        replace_file(self._file(key), json.dumps(told).encode())

    def _kept(self, key: str) -> Reply | None:
        reply: Reply | None = _read(self._file(key))["reply"]
        return reply

    def _file(self, key: str) -> Path:
        return self._folder / f"{key.replace('/', '.')}.json"  # neither verb nor id has a dot


def _files(folder: Path) -> list[Path]:
    # Not glob: it takes a folder that may not be read for an empty one.
    try:
        files = list(folder.iterdir())
    except FileNotFoundError:
        return []
    return [file for file in files if file.suffix == ".json"]  # not .new: begun to be written


def _read(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text("utf-8"))
    if told["schema"] != SCHEMA:
        raise ValueError(f"is {told['schema']}")
    return told
