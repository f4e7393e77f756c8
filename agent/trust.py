"""What a connection to a broker rests on: files, their modes, a chain that was believed for now.

Dates of certificates without a clock: see `tls`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from config.model import UplinkTable

OPEN_TO_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP

# When the parts of a chain begin and end, in nanoseconds of UTC.
Dates = tuple[tuple[int, int], ...]


class SecretError(ValueError):
    """A file that must be secret is not."""


def secret_file(name: str, find_file: Callable[[str], Path]) -> Path:
    """Return where a secret is. Raises OSError, and SecretError where others may read or write it.

    Its owner and its group may read it: the group is how the gateway's user gets at it.
    """
    file = find_file(name)
    mode = file.stat().st_mode
    if mode & OPEN_TO_OTHERS:
        told = f"{file} is not secret (mode {stat.S_IMODE(mode):04o}): sudo chmod 640 {file}"
        raise SecretError(told)
    return file


def password(settings: UplinkTable, find_file: Callable[[str], Path]) -> str | None:
    """Return the password of the configuration. Raises OSError, ValueError."""
    name = settings.password_file
    return None if name is None else secret_file(name, find_file).read_text("utf-8").strip()


class Standing:
    """What a connection rests on, and whether it still does."""

    def __init__(self, settings: UplinkTable, find_file: Callable[[str], Path]) -> None:
        tls = settings.tls
        self._settings = settings
        self._find_file = find_file
        names = (tls.ca_file, tls.cert_file, tls.key_file, settings.password_file)
        self._names = [name for name in names if name is not None]
        self._files: list[tuple[int, ...]] = []
        self._unjudged: Dates = ()
        self.why_unusable: str | None = None  # what is wrong with the files that are there now

    def begin(self) -> None:
        """Take the files as they are now: just before a connection is made with them."""
        self._files = self._stamps()
        self._unjudged = ()
        self.why_unusable = None

    def believed(self, chain: Dates) -> None:
        """Take a chain to be held against the time as soon as that is known."""
        self._unjudged = chain

    def is_refuted(self, now_ns: int) -> bool:
        """Tell whether the chain that was believed without a clock is not valid at `now_ns`."""
        chain, self._unjudged = self._unjudged, ()
        return not all(begin_ns <= now_ns <= end_ns for begin_ns, end_ns in chain)

    def is_renewed(self) -> bool:
        """Tell whether other files are there now, and a connection can be made with them.

        A renewal writes several files; between the first and the last they do not fit together, and
        the connection that there is goes on.
        """
        stamps = self._stamps()
        if stamps == self._files:
            return False
        from .tls import tls_context

        try:
            tls_context(self._settings.tls, self._find_file)
            password(self._settings, self._find_file)
        except (OSError, ValueError) as exc:
            self.why_unusable = str(exc)
            return False
        self._files, self.why_unusable = stamps, None
        return True

    def _stamps(self) -> list[tuple[int, ...]]:
        return [_stamp(self._find_file(name)) for name in self._names]


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        told = file.stat()
    except OSError:
        return ()
    return told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size
