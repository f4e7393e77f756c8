"""Whom the uplink believes: TLS contexts, secrets and their modes, and dates without a clock.

A certificate is judged by the time of day. Where that is not known yet (no battery-backed clock, a
blocked time server) the system's clock may say 1970, and a gateway that went by it would be locked
out for ever. Then the rule is: authority and name are verified as always; each certificate of the
chain must end after the last instant that has certainly passed (the newest time that was known to
this gateway, and never before the program was made); its beginning is not looked at. Once the time
is known the same chain is held against it, and the connection is dropped where it does not hold.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from config.model import TlsTable, UplinkTable

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h: everything is verified but the dates.
_NO_CHECK_TIME = 0x200000
_CERT_HAS_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED, which paho and `reason` know how to say

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


def tls_context(
    tls: TlsTable, find_file: Callable[[str], Path], *, floor_ns: int | None = None
) -> ssl.SSLContext:
    """Build what the handshake with a broker goes by. Raises OSError, ValueError.

    `floor_ns` is given where the time of day is not known: UTC that has certainly passed.
    """
    context = ssl.create_default_context(
        cafile=None if tls.ca_file is None else str(find_file(tls.ca_file))
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None and tls.key_file is not None:
        context.load_cert_chain(find_file(tls.cert_file), secret_file(tls.key_file, find_file))
    if floor_ns is not None:
        context.verify_flags |= _NO_CHECK_TIME
        context.sslsocket_class = type("_Since", (_DatedSocket,), {"floor_ns": floor_ns})
    return context


class _DatedSocket(ssl.SSLSocket):
    """A connection whose handshake fails where a certificate ended before `floor_ns`."""

    floor_ns: int

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands. Raises ssl.SSLCertVerificationError before a byte of ours is sent."""
        super().do_handshake(block)
        ends_ns = [end_ns for _, end_ns in dates_of(self)]
        if not ends_ns or min(ends_ns) < self.floor_ns:
            error = ssl.SSLCertVerificationError("certificate has expired")
            error.verify_code = _CERT_HAS_EXPIRED
            error.verify_message = (
                "certificate has expired: it ended before the last time that was known"
            )
            raise error


def dates_of(sock: ssl.SSLSocket) -> Dates:
    """Return when each certificate of the verified chain begins and ends; () where none was shown.

    The standard library tells the chain in public from 3.13 on, and only as bytes: what it has
    inside since 3.10 tells its dates.
    """
    inside: Any = getattr(sock, "_sslobj", None)
    if inside is None:  # the connection is over
        return ()
    chain: Iterable[Any] = inside.get_verified_chain() or ()
    told = [each.get_info() for each in chain]
    return tuple((_ns(each["notBefore"]), _ns(each["notAfter"])) for each in told)


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


def _ns(text: str) -> int:
    return ssl.cert_time_to_seconds(text) * 10**9
