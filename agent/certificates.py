"""When the certificates end that the uplink rests on: our own, the authority's, the broker's.

The standard library reads a certificate's dates only of a connection's other side; of a file only
by the function with which its own tests do it. That is taken here rather than a library of several
megabytes for one date, and where it is gone, a file's end is unknown and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from config.model import TlsTable

DAY_NS = 86_400 * 10**9


class Expiry(NamedTuple):
    """The end of one certificate."""

    name: str  # the file's as configured, or the broker's host
    end_ns: int  # UTC

    def days(self, now_ns: int) -> int:
        """Return the whole days that are left."""
        return max(0, (self.end_ns - now_ns) // DAY_NS)


def of_files(tls: TlsTable, find_file: Callable[[str], Path]) -> Iterator[Expiry]:
    """Yield the ends of the configured certificates; what cannot be read has none."""
    for name in (tls.cert_file, tls.ca_file):
        if name is None:
            continue
        end_ns = _end_ns(find_file(name))
        if end_ns is not None:
            yield Expiry(name, end_ns)


def of_peer(host: str, certificate: Mapping[str, Any] | None) -> Iterator[Expiry]:
    """Yield the end of what the broker showed, as `SSLSocket.getpeercert` returns it."""
    if certificate and "notAfter" in certificate:
        yield Expiry(host, _ns(certificate["notAfter"]))


def about_to_end(
    expiries: Iterable[Expiry], now_ns: int, within_days: int
) -> Mapping[str, object] | None:
    """Return what the alert says of those that end soon; None where none does."""
    soon = [each for each in expiries if each.days(now_ns) < within_days]
    if not soon:
        return None
    soon.sort(key=lambda each: each.end_ns)
    return {"days": soon[0].days(now_ns), "files": [each.name for each in soon]}


def _end_ns(file: Path) -> int | None:
    """Return the end of the first certificate in a PEM file."""
    import ssl

    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    if decode is None:
        return None
    try:
        return _ns(decode(str(file))["notAfter"])
    except (OSError, KeyError, ValueError):  # ssl.SSLError is an OSError
        return None


def _ns(text: str) -> int:
    import ssl  # only where there is a certificate

    return ssl.cert_time_to_seconds(text) * 10**9
