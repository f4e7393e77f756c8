"""TLS to a broker: what a handshake goes by, and what dates hold where there is no clock.

A certificate is judged by the time of day. Where that is not known yet (no battery-backed clock, a
blocked time server) the system's clock may say 1970, and a gateway that went by it would be locked
out for ever. Then the rule is: authority and name are verified as always; each certificate of the
chain must end after the last instant that has certainly passed (the newest time that was known to
this gateway, and never before the program was made); its beginning is not looked at. Once the time
is known the same chain is held against it, and the connection is dropped where it does not hold.

Only a gateway with such a broker imports this: OpenSSL takes more than a megabyte.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from config.model import TlsTable

from .trust import Dates, secret_file

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h: everything is verified but the dates.
_NO_CHECK_TIME = 0x200000
_CERT_HAS_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED, which paho and `reason` know how to say


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


def dates_of(sock: object) -> Dates:
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


def _ns(text: str) -> int:
    return ssl.cert_time_to_seconds(text) * 10**9
