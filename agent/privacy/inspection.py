"""An audit of a real ledger: of the gateway that runs, or of its file at rest.

Records are read before the ledger: a line is there no later than its record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from config.text import Text

from ..place import place_of
from ..spoolfile import SpoolError
from ..spoolopen import open_spool
from ..spoolview import Source, Waiting, ledger_of, walk
from .audit import Finding, audit

NO_BATCH = Text(
    "{file}, line {line}: is no batch of records: {why}",
    "{file} {line}行目: 記録のバッチではありません: {why}",
)


NO_DISK = Text(
    "{path}: the ledger is on the disk, which cannot be used: {why}; ask again when it can",
    "{path}: 台帳のあるディスクが使用できません（{why}）。復旧後にもう一度お試しください",
)


class NoBatchError(ValueError):
    """A file is not what the city received."""


def inspect(
    config_file: Path, file: Path | None = None, *, published: Path | None = None
) -> Finding:
    """Audit the ledger of a configuration's gateway, or of a spool's file that was named.

    `published` has batches as the city received them, one a line; where it is known whose spool it
    is, those of other gateways are passed over. They are held against nothing where there is no
    spool. Raises FileNotFoundError where there is none, and nothing was published either;
    NoBatchError, OSError, SpoolError, ConfigError, NotAnsweredError.
    """
    bodies: list[tuple[str, str]] = []
    rows: list[tuple[int, str]] = []
    gateway = None
    try:
        with open_spool(config_file, file, needs_gateway=False) as source:
            gateway = source.about.gateway
            if (why := source.about.why_volatile) is not None:
                raise SpoolError(NO_DISK.filled(path=source.about.path, why=why))
            bodies += _people(source)
            rows = ledger_of(source)
            source.check_still()
    except FileNotFoundError:
        if published is None or file is not None:
            raise
        gateway = place_of(config_file).gateway.id
    return audit(rows, bodies, [] if published is None else list(_received(published, gateway)))


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


def _received(file: Path, gateway: str | None) -> Iterator[tuple[str, str]]:
    """Yield run and body of every record of people in a gateway's batches."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                batch = json.loads(line)
                run, kind, whose = str(batch["run"]), batch["kind"], batch["gateway"]
                records = [record for record in batch["records"] if "gap" not in record]
            except (ValueError, KeyError, TypeError) as exc:
                raise NoBatchError(NO_BATCH.filled(file=file, line=number, why=repr(exc))) from exc
            if kind == "people" and gateway in (None, whose):
                yield from ((run, json.dumps(record)) for record in records)
