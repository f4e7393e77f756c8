"""An audit of a real ledger: of the gateway that runs, or of its file at rest.

Records are read before the ledger: a line is there no later than its record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from config.text import Text

from ..spoolopen import open_spool
from ..spoolview import Source, Waiting, ledger_of, walk
from .audit import Finding, audit

NO_BATCH = Text(
    "{file}, line {line}: is no batch of records: {why}",
    "{file} {line}行目: 記録のバッチではありません: {why}",
)


class NoBatchError(ValueError):
    """A file is not what the city received."""


def inspect(
    config_file: Path, file: Path | None = None, *, published: Path | None = None
) -> Finding:
    """Audit the ledger of a configuration's gateway, or of a spool's file that was named.

    `published` has batches as the city received them, one a line. Raises FileNotFoundError where
    there is no spool, NoBatchError, OSError, SpoolError, ConfigError, NotAnsweredError.
    """
    with open_spool(config_file, file, needs_gateway=False) as source:
        bodies = list(_people(source))
        rows = ledger_of(source)
        source.check_still()
    if published is not None:
        bodies += _received(published)
    return audit(rows, bodies)


def _people(source: Source) -> Iterator[tuple[str, str]]:
    """Yield run and body of every record of people that waits."""
    taker = _Bodies()
    for _ in walk(source, taker):
        pass
    yield from taker.bodies


class _Bodies:
    """Takes people's records out of what waits."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, str]] = []

    def begin_again(self) -> None:
        """Forget what was seen."""
        self.bodies.clear()

    def take(self, entry: Waiting) -> Iterator[bytes]:
        """Take what is of people, and whole."""
        # What is damaged is for `spool verify` to tell, and for the gateway to name in a gap.
        if entry.kind == "people" and entry.gap is None and entry.is_whole:
            self.bodies += [(str(entry.run), body) for body in entry.bodies()]
        return iter(())


def _received(file: Path) -> Iterator[tuple[str, str]]:
    """Yield run and body of every record of people in batches."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                batch = json.loads(line)
                records, run, kind = batch["records"], batch["run"], batch["kind"]
            except (ValueError, KeyError, TypeError) as exc:
                raise NoBatchError(NO_BATCH.filled(file=file, line=number, why=repr(exc))) from exc
            if kind == "people":
                yield from ((run, json.dumps(record)) for record in records if "gap" not in record)
