"""A recording being written: whole lines only, each on its way to the disk before the next.

Whatever ends it, a disk that is full or a cut of the power, what is there can be replayed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .plan import PlannedSensor
from .tap import Entry


class RecordFile:
    """A new file that takes entries. Raises OSError where it cannot, FileExistsError if it is old.

    What was recorded of people is for its owner's eyes only.
    """

    def __init__(self, path: Path, header: dict[str, Any], *, is_private: bool) -> None:
        self.entries = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600 if is_private else 0o644)
        self._good_bytes = 0
        try:
            self._write(header)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Bring it to the disk. Raises OSError."""
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def add(self, entry: Entry) -> None:
        """Write one line, or nothing of it. Raises OSError."""
        self._write(entry)
        self.entries += 1

    def _write(self, line: dict[str, Any]) -> None:
        left = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        size = len(left)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self._good_bytes)
            raise
        self._good_bytes += size


def header_of(sensor: PlannedSensor, started: str) -> dict[str, Any]:
    """Return the first line of a recording of `sensor` that begins at `started` (UTC)."""
    spec = sensor.driver.spec
    line = sensor.options.line() or spec.line
    if sensor.bus.kind == "serial":
        line = sensor.bus.line or line
    return {
        "yukimi": "recording/1",
        "bus": spec.bus,
        "driver": spec.name,
        "options": sensor.table.options,
        "line": {}
        if line is None
        else {
            "baud": line.baud,
            "data_bits": line.data_bits,
            "parity": line.parity,
            "stop_bits": line.stop_bits,
        },
        "started": started,
    }
