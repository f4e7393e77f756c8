"""The way to one broker, step by step: name, address, connection, handshake; each is gone once.

What greets us is told by its first bytes: a broker, TLS, or a web page that wants a click first.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from .site import Site, within

PORTS = {"mqtt": 1883, "mqtts": 8883}
ANSWER_BYTES = 200
ANSWER_S = 1.0  # of a web server; a broker that is asked for a page hangs up, or says nothing
_QUESTION = b"GET / HTTP/1.0\r\n\r\n"
# CONNECT of MQTT 3.1.1 with an empty client id, which a broker answers whatever it thinks of it.
_GREETING = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"

# OpenSSL's words for what is wrong with a certificate (x509_vfy.h).
NOT_YET, EXPIRED = 9, 10
OTHER_NAME = (62, 63, 64)  # host name, e-mail, address
Fault = Literal["authority", "name", "dates", "client", "speech"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a broker should be."""

    url: str
    host: str
    port: int
    is_tls: bool

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, which needs no name server."""
        with suppress(OSError):
            socket.inet_pton(socket.AF_INET6 if ":" in self.host else socket.AF_INET, self.host)
            return True
        return False


@dataclass(frozen=True, slots=True)
class Handshake:
    """How TLS went."""

    fault: Fault | None = None
    words: str = ""
    certificate: Mapping[str, Any] | None = None  # as getpeercert returns it
    version: str = ""


def target(url: str) -> Target:
    """Take a broker's URL apart."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    return Target(url, parts.hostname or "", port, parts.scheme == "mqtts")


def addresses(site: Site, url: str) -> list[str] | OSError | None:
    """Look a broker's name up: its addresses, or why there are none; None: no answer in time."""
    return site.once(f"name {url}", lambda: _addresses(site, target(url)))


def _addresses(site: Site, to: Target) -> list[str] | OSError | None:
    try:
        found = within(
            site.budget.name_s, lambda: site.resolve(to.host, to.port, type=socket.SOCK_STREAM)
        )
    except OSError as exc:  # gaierror is one
        return exc
    return None if found is None else list(dict.fromkeys(each[4][0] for each in found))


def dial(site: Site, url: str) -> socket.socket:
    """Connect to the first address that answers. Raises OSError."""
    to, found = target(url), addresses(site, url)
    last: OSError = OSError("no address")
    until_s = time.monotonic() + site.budget.connect_s
    for address in found if isinstance(found, list) else ():
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            break
        try:
            return socket.create_connection((address, to.port), timeout=left_s)
        except OSError as exc:
            last = exc
    raise last


def connection(site: Site, url: str) -> OSError | float:
    """Connect once: how many seconds it took, or why it failed."""
    return site.once(f"tcp {url}", lambda: _connection(site, url))


def _connection(site: Site, url: str) -> OSError | float:
    began_s = time.monotonic()
    try:
        dial(site, url).close()
    except OSError as exc:
        return exc
    return time.monotonic() - began_s


def web_page(site: Site, url: str) -> str | None:
    """Return the first line of a web server that answers in the broker's place; None if none."""
    return site.once(f"web {url}", lambda: _web_page(site, url))


def _web_page(site: Site, url: str) -> str | None:
    to = target(url)
    try:
        if not to.is_tls:
            with closing(dial(site, url)) as line:
                answer = _asked(line, _GREETING)
            if not answer or answer[:1] == b"\x20":
                return None if answer else _plain_page(site, url)
            return _first_line(answer) or _plain_page(site, url)
        if (page := _plain_page(site, url)) is not None:
            return page
        with closing(_loose(dial(site, url), to.host)) as line:
            return _first_line(_asked(line, _QUESTION))
    except OSError:
        return None


def _plain_page(site: Site, url: str) -> str | None:
    with closing(dial(site, url)) as line:
        return _first_line(_asked(line, _QUESTION))


def _asked(line: socket.socket, question: bytes) -> bytes:
    try:
        line.settimeout(ANSWER_S)
        line.sendall(question)
        return line.recv(ANSWER_BYTES)
    except OSError:
        return b""


def _first_line(answer: bytes) -> str | None:
    if not answer.startswith(b"HTTP/"):
        return None
    return answer.split(b"\r\n")[0].decode("latin-1")[:60]


def speaks_tls(site: Site, url: str) -> bool:
    """Tell whether a broker that is spoken to without TLS would shake hands, whoever it is."""
    return site.once(f"loose tls {url}", lambda: _speaks_tls(site, url))


def _speaks_tls(site: Site, url: str) -> bool:
    try:
        with closing(_loose(dial(site, url), target(url).host)):
            return True
    except OSError as exc:  # one that wants a certificate of ours says so in an alert
        return "alert" in _words(exc)


def _loose(line: socket.socket, host: str) -> ssl.SSLSocket:
    """Shake hands with whoever it is; nothing secret may be said then."""
    loose = ssl.create_default_context()
    loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE
    return loose.wrap_socket(line, server_hostname=host)


def handshake(site: Site, url: str) -> Handshake:
    """Shake hands as the gateway would; it is done once."""
    return site.once(f"tls {url}", lambda: _handshake(site, url))


def _handshake(site: Site, url: str) -> Handshake:
    from agent.tls import tls_context

    from .trusted import floor_ns

    plan, to = site.plan, target(url)
    if plan is None:
        return Handshake("speech", "nothing is configured")
    try:
        tls = plan.loaded.config.uplink.tls
        context = tls_context(tls, plan.loaded.file, floor_ns=floor_ns(site))
    except (OSError, ValueError) as exc:
        return Handshake("client", _words(exc))
    try:
        with closing(context.wrap_socket(dial(site, url), server_hostname=to.host)) as line:
            certificate, version = line.getpeercert(), line.version() or ""
            # With TLS 1.3 a broker refuses our certificate only after the handshake.
            line.settimeout(0.3)
            with suppress(TimeoutError):
                line.recv(1)
            return Handshake(None, "", certificate, version)
    except ssl.SSLCertVerificationError as exc:
        return Handshake(_fault_of(exc), exc.verify_message)
    except OSError as exc:  # ssl.SSLError is one
        words = _words(exc)
        is_client = any(each in words.lower() for each in ("certificate required", "alert"))
        return Handshake("client" if is_client else "speech", words)


def _fault_of(exc: ssl.SSLCertVerificationError) -> Fault:
    if exc.verify_code in (NOT_YET, EXPIRED):
        return "dates"
    return "name" if exc.verify_code in OTHER_NAME else "authority"


def _words(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
