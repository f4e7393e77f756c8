"""The bench's brokers: Mosquitto where it is installed, one inside this process where it is not.

Both keep one port of 127.0.0.1 for life, so that a broker that was killed comes back where its
clients look for it. Mosquitto speaks MQTT 5 and 3.1.1, and is what cities run; the embedded
broker (amqtt) speaks 3.1.1 only: it answers a bare MQTT 5 CONNECT with a CONNACK in 3.1.1's form,
return code 1, and closes; one with properties it never answers, waiting for what it takes for more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from .relay import HOST, hold_port

MOSQUITTO = "/usr/sbin/mosquitto"
_START_S = 20.0
_STOP_S = 10.0
_RELOADING = "Reloading config."


class BrokerError(Exception):
    """A broker did not start or stop; the message holds what it said."""


class Broker(Protocol):
    """A broker on `host`:`port`, which stay the same through every start."""

    host: str
    port: int
    speaks_mqtt5: bool

    def start(self) -> None:
        """Start, and return when it accepts connections. Raises BrokerError."""
        ...

    def kill(self) -> None:
        """End it without warning, as a crash does: nothing is said and nothing saved."""
        ...

    def stop(self) -> None:
        """End it in order. It may be started again."""
        ...

    def close(self) -> None:
        """Stop it and give everything back."""
        ...

    def __enter__(self) -> Self:
        """Start."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        ...


@dataclass(frozen=True, slots=True)
class Tls:
    """What Mosquitto needs to serve TLS."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    require_certificate: bool = False  # of clients, by `ca_file`


def start_broker() -> Broker:
    """Start Mosquitto where it is installed, the embedded broker where it is not."""
    broker: Broker = Mosquitto() if Path(MOSQUITTO).exists() else EmbeddedBroker()
    broker.start()
    return broker


class Mosquitto:
    """Debian's Mosquitto as a child process, with a folder of its own for state and log.

    `password_file` is one made by mosquitto_passwd; anonymous clients are refused then. With
    `persistence` retained messages and sessions survive `stop`, and `kill` as far as Mosquitto
    had saved them (it saves when it stops).
    """

    speaks_mqtt5 = True

    def __init__(
        self,
        *,
        persistence: bool = False,
        tls: Tls | None = None,
        password_file: Path | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        self.host = HOST
        self._holder = hold_port()
        self.port: int = self._holder.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(prefix="yukimi-mosquitto-"))
        self.log_file = self.folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = self.folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} {HOST}",
            # As root it would become `mosquitto`, who may not read the test's certificates.
            f"user {pwd.getpwuid(os.getuid()).pw_name}",
            f"allow_anonymous {'false' if password_file else 'true'}",
            "log_type all",
            "set_tcp_nodelay true",
        ]
        if persistence:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
        if password_file:
            lines.append(f"password_file {password_file}")
        if tls:
            lines += [
                f"cafile {tls.ca_file}",
                f"certfile {tls.cert_file}",
                f"keyfile {tls.key_file}",
                f"require_certificate {'true' if tls.require_certificate else 'false'}",
            ]
        lines += extra
        self._config.write_text("\n".join(lines) + "\n")
        # It opens one after the other.
        self._ports = [int(line.split()[1]) for line in lines if line.startswith("listener ")]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What it has said in all its lives."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def pid(self) -> int:
        """Of the present life. Raises BrokerError."""
        if self._process is None:
            raise BrokerError("Mosquitto does not run")
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it accepts connections. Raises BrokerError."""
        if self._process is not None:
            return
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline_s = time.monotonic() + _START_S
        while not all(map(_accepts, self._ports)):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise BrokerError(f"Mosquitto did not start:\n{self.log}")
            time.sleep(0.02)

    def reload(self) -> None:
        """SIGHUP: read the configuration and what it names again; return when that is done."""
        if self._process is None:
            return
        before = self.log.count(_RELOADING)
        self._process.send_signal(signal.SIGHUP)
        deadline_s = time.monotonic() + _START_S
        while self.log.count(_RELOADING) == before:
            if time.monotonic() > deadline_s:
                raise BrokerError(f"Mosquitto does not reload:\n{self.log}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise BrokerError if it ended although nobody here told it to."""
        if self._process is not None and self._process.poll() is not None:
            code = self._process.returncode
            raise BrokerError(f"Mosquitto ended by itself, exit code {code}:\n{self.log[-1000:]}")

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def close(self) -> None:
        """Stop it; its folder and log are gone afterwards."""
        self.stop()
        self._holder.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class EmbeddedBroker:
    """amqtt on a thread and an event loop of its own: anonymous, MQTT 3.1.1, memory only.

    It keeps nothing for a client that is away, and `stop` forgets retained messages.
    """

    speaks_mqtt5 = False

    def __init__(self) -> None:
        self.host = HOST
        self._holder = hold_port()
        self.port: int = self._holder.getsockname()[1]
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._is_kill = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Start, and return when it accepts connections. Raises BrokerError."""
        if self._thread is not None:
            return
        # It reports every departing client as an error.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        started = threading.Event()
        failure: list[Exception] = []
        self._is_kill = False
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started, failure)),
            name="embedded-broker",
            daemon=True,
        )
        self._thread.start()
        if not started.wait(_START_S) or failure:
            self.stop()
            raise BrokerError(f"the embedded broker did not start: {failure}")

    def kill(self) -> None:
        """Reset every connection, and forget everything."""
        self._is_kill = True
        self._end()

    def stop(self) -> None:
        """End it in order."""
        self._end()

    def close(self) -> None:
        """Stop it and give its port back."""
        self.stop()
        self._holder.close()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._ending is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
        thread.join(_STOP_S)
        self._loop = self._ending = None
        if thread.is_alive():
            raise BrokerError("the embedded broker does not stop")

    async def _live(self, started: threading.Event, failure: list[Exception]) -> None:
        from amqtt.broker import Broker as Amqtt
        from amqtt.errors import AMQTTError

        writers: set[asyncio.StreamWriter] = set()

        class Remembering(Amqtt):  # type: ignore[misc]
            """Knows its connections, so that they can be torn."""

            async def stream_connected(
                self,
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                listener_name: str,
            ) -> None:
                writers.add(writer)
                try:
                    await super().stream_connected(reader, writer, listener_name)
                finally:
                    writers.discard(writer)
                    writer.close()

        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        try:
            broker = Remembering(
                {
                    "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
                    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
                }
            )
            await broker.start()
        except (AMQTTError, OSError) as exc:
            failure.append(exc)
            started.set()
            return
        started.set()
        await self._ending.wait()
        if self._is_kill:
            for writer in writers:
                writer.transport.abort()
        await broker.shutdown()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True
