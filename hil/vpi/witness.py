"""The shipped daemon in the guest, telling the bench outside what it has committed.

It is told after the commit has returned, over a port that leaves the machine at once: what was told
must be on the disk, whatever becomes of the power.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import agent.app
from agent.cli import main
from agent.record import AlertRecord, Entry, Lost, Record
from agent.spool import Spool

from ..ledger import digest

PORT = "/dev/virtio-ports/vpi.witness"


class Witness(Spool):
    """A spool that tells what it has committed."""

    port: int

    def append(
        self, records: Sequence[Record | AlertRecord | Lost], config_id: str, *, hold: bool = False
    ) -> list[Entry]:
        """Commit, then tell."""
        entries = super().append(records, config_id, hold=hold)
        told = [(entry.stream, entry.seq, digest(entry.body)) for entry in entries]
        os.write(self.port, json.dumps([self.run, told]).encode() + b"\n")
        return entries


if __name__ == "__main__":
    Witness.port = os.open(PORT, os.O_WRONLY)
    agent.app.Spool = Witness  # type: ignore[attr-defined]
    sys.exit(main())
