"""Devices that the kernel shows as files: 1-Wire thermometers, the board's own health.

Drivers see `Files`. The adapter is the only place that sees OSError here: it leaves as BusError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from .base import BusError

LIMIT_BYTES = 65536  # what the kernel shows in one such file is a page at most


class Files(Protocol):
    """A tree of small text files, by absolute path; each call raises BusError when it fails."""

    def read(self, path: str) -> str:
        """Return a file's text."""
        ...

    def names(self, folder: str) -> list[str]:
        """List what is in a folder, in name order; nothing where it is not there."""
        ...


class LinuxFiles:
    """The files of this machine, or those below another `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def open(self) -> None:
        """Do nothing: files are opened when they are read."""

    def close(self) -> None:
        """Do nothing."""

    def read(self, path: str) -> str:
        """Return a file's text. Raises BusError."""
        try:
            with self._below(path).open("rb") as file:
                return file.read(LIMIT_BYTES).decode("utf-8", "replace")
        except OSError as exc:
            raise BusError(f"{path}: {exc.strerror or exc}") from exc

    def names(self, folder: str) -> list[str]:
        """List a folder. Raises BusError if it is there and cannot be read."""
        try:
            return sorted(entry.name for entry in self._below(folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise BusError(f"{folder}: {exc.strerror or exc}") from exc

    def _below(self, path: str) -> Path:
        return self._root / path.lstrip("/")
