"""One client of paho: how it is built, what it tells, how it is left.

Each connection has a client of its own and a clean start: paho would otherwise send again what it
remembers, past the in-flight limit, and it remembers at most 65,535 messages. Its callbacks only
put on a queue: they run under paho's lock, on its thread.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import urlsplit

from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config.model import UplinkTable

from .lean import without_extras
from .route import Protocol
from .trust import Dates, password

# `yukimi run` comes here before anything else can import it.
with without_extras():
    from paho.mqtt import client as mqtt

# More than a minute: the records of each minute, and what the broker says to them, prove that both
# are there, and nothing more is said. A connection that died unseen shows by what stays without
# an acknowledgement (outbox.py).
KEEPALIVE_S = 70
CONNECT_TIMEOUT_S = 5.0
WILL_DELAY_S = 30
SESSION_EXPIRY_S = 60
PACKET_BYTES = 2**18  # the largest that we take: a command with its envelope
HEARD_BYTES = 2**17  # of a payload
ALL_HEARD_BYTES = 2**20
PROBE_S = 2.0  # to see whether a broker is back
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}

# What paho says when the other side closed, in words that mislead.
HUNG_UP = frozenset(("Unspecified error", "Normal disconnection"))
CLOSED = "the connection was closed"


def _pipe() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair


# Paho wakes its thread by a TCP connection to itself, for which it listens on a port of 127.0.0.1 a
# moment: the service's walls forbid that (SocketBindDeny, IPAddressAllow), and anybody on the
# machine may be the one who connects.
mqtt._socketpair_compat = _pipe


class Event(NamedTuple):
    """What happened to a client, or what another thread says."""

    name: Literal[
        "connected",
        "refused",
        "lost",
        "acked",
        "heard",
        "subscribed",
        "committed",
        "rewind",
        "reply",
        "stop",
    ]
    client: mqtt.Client | None = None  # events of a client already left are ignored
    value: Any = None


class Heard:
    """Bounds what waits to be looked at of what others wrote: what is too much is let go.

    A broker that was taken over may send as much as the line carries.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._lost = 0  # messages

    def has_room(self, payload: bytes | bytearray) -> bool:
        """Take a payload in, on paho's thread; False where it must be let go."""
        with self._lock:
            fits = len(payload) <= HEARD_BYTES and self._bytes + len(payload) <= ALL_HEARD_BYTES
            if fits:
                self._bytes += len(payload)
            else:
                self._lost += 1
            return fits

    def tell_lost(self) -> int:
        """Return how many messages were let go since this was asked."""
        with self._lock:
            lost, self._lost = self._lost, 0
            return lost

    def taken(self, payload: bytes | bytearray) -> None:
        """Let a payload's room go, on the uplink's thread."""
        with self._lock:
            self._bytes -= len(payload)


class BoundedClient(mqtt.Client):
    """Takes no packet that is larger than it says, and lets go as one what is said at one time.

    Paho would gather up to 256 MiB of one packet, and write each message for itself: 52 bytes of
    headers each, and as many again for what acknowledges it. And paho binds to "any" address, which
    the service's walls forbid.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Of a client whose thread has ended paho writes on the thread that publishes.
        self._writing = threading.RLock()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Keep back what is published meanwhile; the client's thread must not be ended in here."""
        with self._writing:
            yield

    def _packet_write(self) -> MQTTErrorCode:
        with self._writing:
            sock, waiting = self.socket(), len(self._out_packet)
            if waiting > 1:
                _option(sock, socket.TCP_CORK, 1)
            code: MQTTErrorCode = super()._packet_write()
            if waiting > 1:
                _option(sock, socket.TCP_CORK, 0)
                # The answers come one by one: acknowledge them together, 40 ms later.
                _option(sock, socket.TCP_QUICKACK, 0)
            if waiting and code == MQTTErrorCode.MQTT_ERR_SUCCESS:
                # Paho means to, and never comes there: it would ping whatever else is said.
                self._last_msg_out = time.monotonic()
            return code

    def _create_socket_connection(self) -> socket.socket:
        address = (self._host, self._port)
        return socket.create_connection(address, timeout=self._connect_timeout)

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > PACKET_BYTES:
            raise ConnectionError(f"the broker sends a packet of more than {PACKET_BYTES} bytes")
        sock = self.socket()
        if _is_plain(sock):  # nothing of TLS can happen, and paho would load it to see that
            return cast("socket.socket", sock).recv(bufsize)
        received: bytes = super()._sock_recv(bufsize)
        return received


def _is_plain(sock: object) -> bool:
    """Whether a client's socket is one without TLS."""
    return type(sock) is socket.socket


def _option(sock: Any, name: int, value: int) -> None:
    with suppress(OSError, AttributeError):  # closed, or there is none: whoever reads sees it
        sock.setsockopt(socket.IPPROTO_TCP, name, value)


class Link:
    """Builds clients as the configuration says."""

    def __init__(
        self,
        settings: UplinkTable,
        client_id: str,
        find_file: Callable[[str], Path],
        put: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._find_file = find_file
        self._put = put
        self.heard = Heard()

    def client(
        self,
        url: str,
        protocol: Protocol,
        will: tuple[str, str],
        *,
        floor_ns: int | None = None,
    ) -> mqtt.Client:
        """Build a client for a broker; `will` is the topic and text of the last will.

        `floor_ns` is given where the time of day is not known: UTC that has certainly passed.
        Raises OSError or ValueError where a file of the configuration cannot be used.
        """
        client = BoundedClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if protocol == "5" else True,
            protocol=mqtt.MQTTv5 if protocol == "5" else mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(self._settings.inflight + 8)  # ours, the birth's, the like
        if self._settings.username is not None:
            client.username_pw_set(
                self._settings.username, password(self._settings, self._find_file)
            )
        if urlsplit(url).scheme == "mqtts":
            from .tls import tls_context

            context = tls_context(self._settings.tls, self._find_file, floor_ns=floor_ns)
            client.tls_set_context(context)
        properties = None
        if protocol == "5":
            properties = _describe(Properties(PacketTypes.WILLMESSAGE), "yukimi.status/1")
            properties.WillDelayInterval = WILL_DELAY_S
        client.will_set(*will, qos=1, retain=True, properties=properties)
        self._listen(client)
        return client

    def _listen(self, client: mqtt.Client) -> None:
        put = self._put

        def on_connect(c: mqtt.Client, _u: Any, _f: Any, code: Any, properties: Any) -> None:
            if code.is_failure:
                put(Event("refused", c, code))
            else:
                limits = ("ReceiveMaximum", "MaximumPacketSize")
                put(Event("connected", c, [getattr(properties, name, None) for name in limits]))

        def on_disconnect(c: mqtt.Client, _u: Any, _f: Any, code: Any, _p: Any) -> None:
            put(Event("lost", c, code))

        def on_publish(c: mqtt.Client, _u: Any, mid: int, code: Any, _p: Any) -> None:
            put(Event("acked", c, (mid, code.value)))

        def on_message(c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
            if self.heard.has_room(message.payload):
                put(Event("heard", c, (message.topic, message.payload, message.retain)))

        def on_socket_open(_c: mqtt.Client, _u: Any, sock: Any) -> None:
            # Else what follows another message waits for that one's TCP acknowledgement, 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def on_subscribe(c: mqtt.Client, _u: Any, _mid: int, codes: Any, _p: Any) -> None:
            put(Event("subscribed", c, [code.is_failure for code in codes]))

        client.on_socket_open = on_socket_open
        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_disconnect = on_disconnect
        client.on_publish = on_publish
        client.on_message = on_message


def peer_of(client: mqtt.Client, url: str) -> tuple[str, Mapping[str, Any] | None]:
    """Return a broker's host, and the certificate that it showed; None without TLS."""
    parts = urlsplit(url)
    sock = client.socket() if parts.scheme == "mqtts" else None
    certificate = None
    with suppress(OSError, ValueError):  # gone again in this very moment
        show = getattr(sock, "getpeercert", None)
        certificate = None if show is None else show()
    return parts.hostname or url, certificate


def chain_of(client: mqtt.Client) -> Dates:
    """Return when the certificates of the broker's chain begin and end; () without TLS."""
    sock = client.socket()
    if sock is None or _is_plain(sock):
        return ()
    from .tls import dates_of

    return dates_of(sock)


def connect(client: mqtt.Client, url: str, protocol: Protocol) -> None:
    """Open the connection and send CONNECT. Raises OSError or ValueError (a bad host name)."""
    parts = urlsplit(url)
    properties = None
    if protocol == "5":
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.MaximumPacketSize = PACKET_BYTES
    client.connect(
        parts.hostname or "",
        parts.port or DEFAULT_PORTS[parts.scheme],
        KEEPALIVE_S,
        clean_start=protocol == "5" or mqtt.MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
    )


def together(client: mqtt.Client) -> AbstractContextManager[None]:
    """Let what is published meanwhile leave as one; one of Link's clients, and it is not left."""
    return cast("BoundedClient", client).together()


def hang_up(client: mqtt.Client) -> None:
    """End a connection without a word, and the client's thread."""
    sock = client.socket()
    if sock is not None:
        with suppress(OSError):  # so that the client's thread sees the end and finishes
            # Not the TLS socket's own: it would go on in plain text for an instant.
            socket.socket.shutdown(cast("socket.socket", sock), socket.SHUT_RDWR)
    end_thread(client)


def end_thread(client: mqtt.Client) -> None:
    """Wait until a client's thread has ended."""
    # A thread that ends between paho's looking for it and waiting for it is None by then.
    with suppress(AttributeError):
        client.loop_stop()


def answers(url: str) -> bool:
    """Tell whether somebody accepts connections where a broker should be."""
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
        socket.create_connection(address, timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def reason(exc: Exception) -> str:
    """Say in words why a connection could not be made."""
    if why := getattr(exc, "verify_message", None):  # an ssl.SSLCertVerificationError
        return f"certificate not accepted: {why}"
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


class _Packed(Properties):
    """Properties that are packed once: paho would do it anew for each message, at half its cost."""

    def pack(self) -> bytes:
        """Return them as they go over the wire."""
        packed: bytes = self.__dict__["packed"]
        return packed


@cache
def publish_properties(schema: str, deflated: bool) -> Properties:
    """Return what MQTT 5 says of a payload."""
    empty = _Packed(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties = _describe(empty, schema, deflated)
    properties.__dict__["packed"] = Properties.pack(properties)
    return properties


def _describe(properties: Properties, schema: str, deflated: bool = False) -> Properties:
    properties.ContentType = "application/json"
    properties.UserProperty = ("schema", schema)
    if deflated:
        properties.UserProperty = ("content-encoding", "deflate")
    return properties
