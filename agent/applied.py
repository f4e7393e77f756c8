"""The configurations that were applied, tried and refused: the last ten, and which of them holds.

The daemon may not write /etc. So what is applied to it lives beside the last good configuration, in
a folder of numbered entries, each a file of its own with a hash: what was applied, over which
content of the configuration file, by whom, and what came of it. What the file itself brought is
noted as well, so that one can go back to it.

The newest entry that was confirmed holds, as long as the file still says what it said then; an
entry that is still on trial never does. So whatever stops the daemon in the middle of a trial, the
next start runs what was confirmed before. Where a newer entry cannot be read, nobody knows what
holds (`in_doubt`): then an older one must not take its place unseen.

Never a secret: a configuration names only the files that hold them, and one that was refused is
not kept, since nobody knows what was written into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from config.load import ConfigError, Toml, Where, read
from config.text import Text

from . import lastgood
from .logs import logger
from .plan import Plan, load_plan, plan_of
from .replacing import replace_file

log = logger("applied")

SCHEMA = "yukimi.applied/1"
KEPT = 10
BY_FILE = "file"  # it was not applied: the file said so
BY_ITSELF = "last-good"  # nor was this: it took the place of an entry that could not be read

Outcome = Literal["trial", "confirmed", "returned", "refused"]
NO_TEXT = Text("", "")
OUTCOMES = ("trial", "confirmed", "returned", "refused")


@dataclass(frozen=True, slots=True)
class Entry:
    """One configuration and what came of it."""

    number: int
    outcome: Outcome
    by: str  # "file", "last-good", "local:NAME" or "signer:NAME"
    time: str  # UTC, as the system's clock said
    config_id: str  # empty: not known
    base: str  # the hash of what the configuration file said
    document: Toml = field(default_factory=dict)
    origins: Mapping[Where, str] = field(default_factory=dict, repr=False)
    why: Text = NO_TEXT  # it returned, or was refused
    within_s: float | None = None
    command: str | None = None  # the id under which it was asked for from afar
    again: int | None = None  # the number of the earlier entry that it is

    def plan(self, config_file: Path) -> Plan:
        """Plan it. Raises ConfigError."""
        return plan_of(self.document, config_file, self.origins)


def digest(document: Toml) -> str:
    """Return the hash by which a configuration's content is known again."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Applied:
    """The entries of one configuration file, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Read them, oldest first; one that is damaged is passed over. Raises OSError."""
        found = []
        for file in self._files():
            try:
                found.append(_decoded(file.read_bytes()))
            except FileNotFoundError:
                continue  # made room meanwhile
            except (OSError, RecursionError, *lastgood.NOT_OURS) as exc:
                log.warning("passed over", file=str(file), why=f"{type(exc).__name__}: {exc}")
        return found

    def next_number(self) -> int:
        """Return the number of the next entry; damaged ones count. Raises OSError."""
        return max(self.numbers(), default=0) + 1

    def numbers(self) -> set[int]:
        """Return the numbers of all entries; damaged ones count. Raises OSError."""
        return {int(file.stem) for file in self._files()}

    def write(self, entry: Entry) -> None:
        """Write an entry down, or in the place of what it was; make room. Raises OSError.

        What is written is on the disk when this returns; a power cut leaves the earlier or it.
        """
        replace_file(self._file(entry.number), _encoded(entry))
        entries = self.entries()
        # What never held makes room first.
        entries.sort(key=lambda each: (each.outcome == "confirmed", each.number))
        surplus = len(entries) - KEPT
        for each in entries:
            if surplus > 0 and each.number != entry.number and each.outcome != "trial":
                surplus -= 1
                with suppress(OSError):
                    self._file(each.number).unlink()

    def forget(self, number: int) -> None:
        """Remove what of an entry that could not be written may be there nevertheless."""
        with suppress(OSError):
            self._file(number).unlink()

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.json"

    def _files(self) -> list[Path]:
        try:
            names = sorted(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [file for file in names if file.suffix == ".json" and file.stem.isdecimal()]


def newest_confirmed(entries: list[Entry]) -> Entry | None:
    """Return what was confirmed last."""
    return next((each for each in reversed(entries) if each.outcome == "confirmed"), None)


def standing(entries: list[Entry], config_file: Path) -> tuple[Entry | None, bool]:
    """Return what was applied last, if anything, and whether the file was edited since."""
    newest = newest_confirmed(entries)
    if newest is None or newest.by == BY_FILE:
        return None, False
    try:
        document, _ = read(config_file)
    except ConfigError:
        return newest, True  # the last good one is what was applied
    return newest, digest(document) != newest.base


def in_doubt(found: Applied, config_file: Path) -> int | None:
    """Return the number of an entry that may hold, and cannot be read. Raises OSError."""
    entries = found.entries()
    newest = newest_confirmed(entries)
    lost = max(found.numbers() - {each.number for each in entries}, default=0)
    if lost <= (0 if newest is None else newest.number):
        return None
    try:
        document, _ = read(config_file)
    except ConfigError:
        return None  # then the last good one runs
    is_edited = newest is not None and digest(document) != newest.base
    return None if is_edited else lost


def holding(config_file: Path) -> Entry | None:
    """Return what holds in the place of a configuration file; None, too, where it is not told."""
    try:
        entry, is_edited = standing(find(config_file).entries(), config_file)
    except OSError:
        return None
    return None if is_edited else entry


def plan_in_force(config_file: Path) -> Plan:
    """Plan what was applied over a configuration file and holds, else the file.

    For tools that tell what a gateway does. Raises ConfigError.
    """
    entry = holding(config_file)
    return load_plan(config_file) if entry is None else entry.plan(config_file)


def folder_for(config_file: Path, spool: Path) -> Path:
    """Return where the daemon keeps the entries."""
    return _within(lastgood.file_for(config_file, spool))


def find(config_file: Path) -> Applied:
    """Find the entries of a configuration file, wherever they are; there may be none."""
    folders = [_within(file) for file in lastgood.places(config_file)]
    return Applied(next((each for each in folders if _is_there(each)), folders[0]))


def _within(last_good: Path) -> Path:
    return last_good.with_name(last_good.stem.replace("last-good", "config"))


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return True  # it is not for us: whoever reads it is told so


def _encoded(entry: Entry) -> bytes:
    body = {
        "number": entry.number,
        "outcome": entry.outcome,
        "by": entry.by,
        "time": entry.time,
        "config": entry.config_id,
        "base": entry.base,
        "document": entry.document,
        "origins": [[list(where), file] for where, file in entry.origins.items()],
        "why": {"en": entry.why.en, "ja": entry.why.ja},
        "within_s": entry.within_s,
        "command": entry.command,
        "again": entry.again,
    }
    text = json.dumps(body, ensure_ascii=False, default=str)
    hashed = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"schema": SCHEMA, "sha256": hashed, "body": text}).encode() + b"\n"


def _decoded(content: bytes) -> Entry:
    outer = json.loads(content)
    if outer["schema"] != SCHEMA:
        raise ValueError(f"is {outer['schema']}, this program knows {SCHEMA}")
    text = outer["body"]
    if hashlib.sha256(text.encode()).hexdigest() != outer["sha256"]:
        raise ValueError("is damaged")
    body: dict[str, Any] = json.loads(text)
    if body["outcome"] not in OUTCOMES:
        raise ValueError(f"its outcome is {body['outcome']}")
    return Entry(
        int(body["number"]),
        body["outcome"],
        body["by"],
        body["time"],
        body["config"],
        body["base"],
        dict(body["document"]),
        {tuple(where): file for where, file in body["origins"]},
        Text(body["why"]["en"], body["why"]["ja"]),
        body["within_s"],
        body["command"],
        body["again"],
    )
