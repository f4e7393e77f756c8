"""What the gate asks of the machine: dpkg, systemd, the gateway's socket, the broker's port."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PACKAGE = "yukimi"
SERVICE = "yukimi.service"
# Between unpacking and configuring apt holds the first only.
DPKG_LOCKS = (Path("/var/lib/dpkg/lock-frontend"), Path("/var/lib/dpkg/lock"))
DPKG_TIMEOUT_S = 1800.0
ASK_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0
ANSWER_BYTES = 2**21
LOCK = "hhqqi4x"  # struct flock where a word has 64 bits

# What a gateway does. A sensor that it reads is one more: "reads snow-1".
RUNS, ACCEPTS, CONNECTS, DELIVERS = "runs", "accepts its configuration", "connects", "delivers"
READS = "reads "

# CONNECT of MQTT 3.1.1: a clean session, no name, no secret. Who answers with a refusal is there,
# but for "server unavailable" (5 has 0x88 for it, and 0x89 for "busy").
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
CONNACK, UNAVAILABLE = 0x20, (0x03, 0x88, 0x89)


def deeds(status: dict[str, Any]) -> frozenset[str]:
    """Return what a gateway does that says this of itself. Raises LookupError, TypeError."""
    uplink = status["uplink"]
    found = {RUNS} | {
        READS + sensor["id"]
        for sensor in status["sensors"]
        if sensor["state"] in ("ok", "warmup")  # which answers, too
    }
    if not status["gateway"]["refused"]:
        found.add(ACCEPTS)
    if uplink["connected_since"] is not None:
        found.add(CONNECTS)
        if uplink["acknowledged"] is not None:
            found.add(DELIVERS)
    return frozenset(found)


def ask_status(place: Path) -> dict[str, Any]:
    """Ask over the control socket. Raises OSError, ValueError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_TIMEOUT_S)
        connection.connect(str(place))
        connection.sendall(b'{"control":"yukimi.control/1","ask":"status"}\n')
        with connection.makefile("rb") as stream:
            reply = json.loads(stream.readline(ANSWER_BYTES))
    match reply:
        case {"ok": True, "answer": {"gateway": {"run": str()}, "uplink": dict()} as answer}:
            return dict(answer)
    raise ValueError("no answer that makes sense")


def is_there(broker: str | None, *, speaks: bool = True) -> bool:
    """Whether a broker answers there as one does; True where none is known.

    One that `speaks` not to strangers is there where it takes a connection.
    """
    if broker is None:
        return True
    parts = urlsplit(broker)
    is_tls = parts.scheme == "mqtts"
    host, port = parts.hostname or "", parts.port or (8883 if is_tls else 1883)
    try:
        with ExitStack() as open_:
            connection = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
            open_.enter_context(connection)
            if not speaks:
                return True
            if is_tls:
                connection = open_.enter_context(_in_tls(connection, host))
            with suppress(OSError):  # it may have hung up, and said why: that is read
                connection.sendall(CONNECT)
            answer = open_.enter_context(connection.makefile("rb")).read(4)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return False
    except ssl.SSLError:
        return True  # it wants a certificate of ours, or cannot do what we can: it is there
    except OSError:
        return False
    return len(answer) == 4 and answer[0] == CONNACK and answer[3] not in UNAVAILABLE


def _in_tls(plain: socket.socket, host: str) -> ssl.SSLSocket:
    """Whoever it is: nothing that is secret is said, and nothing that is answered is believed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=host)


def installed() -> tuple[str, str]:
    """Return dpkg's status of the package and its version.

    "i": installed; "c", "n", "": removed; anything else: dpkg was interrupted.
    """
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}\t${Version}", PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    status, _, version = done.stdout.partition("\t")
    return status[1:].strip(), version


def dpkg(*arguments: str) -> bool:
    """Run dpkg without questions, to its end even where we are told to stop; False: it failed."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "YUKIMI_GATE_RUNS": "1"}
    environment.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        done = subprocess.run(
            ["dpkg", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=DPKG_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    if done.returncode:
        say("dpkg failed", arguments=" ".join(arguments), code=done.returncode)
    return done.returncode == 0


def is_dpkg_running() -> bool:
    """Whether apt or dpkg is at work."""
    return any(_is_locked(file) for file in DPKG_LOCKS)


def _is_locked(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            wanted = struct.pack(LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = fcntl.fcntl(stream, fcntl.F_GETLK, wanted)
    except FileNotFoundError:
        return False
    return int(struct.unpack(LOCK, found)[0]) != fcntl.F_UNLCK


def is_stopped_by_hand() -> bool:
    """Whether somebody has stopped the service, rather than that it does not come up."""
    if not has_systemd():
        return False
    shown = subprocess.run(
        ["systemctl", "show", "-p", "LoadState,ActiveState,Result,ConditionResult", SERVICE],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    wanted = {"LoadState=loaded", "ActiveState=inactive", "Result=success", "ConditionResult=yes"}
    return wanted <= set(shown)


def has_systemd() -> bool:
    """Whether systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def systemctl(*arguments: str) -> None:
    """Ask systemd, where it runs."""
    if has_systemd():
        subprocess.run(["systemctl", *arguments], check=False, stdin=subprocess.DEVNULL)


def notify_ready() -> None:
    """Tell systemd that the gateway may start."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1", address.replace("@", "\0", 1))


def say(what: str, **about: object) -> None:
    """Write a line to the log."""
    line = " ".join([f"yukimi update: {what}", *(f"{key}={value}" for key, value in about.items())])
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
