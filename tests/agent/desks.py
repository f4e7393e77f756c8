"""An uplink, its spool and a broker in memory, at a time that the test says."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.clock import Stamp
from agent.fresh import Fresh
from agent.health import UplinkHealth
from agent.record import AlertRecord
from agent.spool import Spool
from agent.uplink import Uplink
from config.model import UplinkTable
from hil.world import Client, World

S = 1_000_000_000
NOON_NS = 1_800_100_800 * S
OFFSET_S = 6.1


class NoWait(queue.Queue[Any]):
    """A queue that lets nobody wait: time is what the test says."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block=False)


class Listening(Client):
    """Keeps what is published beside records."""

    def __init__(self, street: Street) -> None:
        super().__init__(street)
        self._street = street
        self.heard: dict[str, Any] = {}
        self.will: tuple[str, str] | None = None

    def will_set(self, topic: str, payload: str, *, retain: bool = False, **_options: Any) -> None:
        self.will = (topic, payload) if retain else None

    def publish(self, topic: str, payload: Any, qos: int = 0, **options: Any) -> Any:
        self.heard[topic.partition("g1/")[2]] = payload
        if options.get("retain"):
            self._street.retained[topic] = payload
        return super().publish(topic, payload, qos, **options)


class Street(World):
    """A world whose clients are heard, and whose broker retains what it is asked to."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.retained: dict[str, Any] = {}

    def new_client(self) -> Client:
        self.clients.append(Listening(self))
        return self.clients[-1]

    def cut(self) -> None:
        """Cut the connection: the broker says the last will of who was there."""
        client = self.session
        self.lose(0x8B)
        if isinstance(client, Listening) and client.will is not None:
            self.retained.update([client.will])

    def says(self, topic: str, payload: str) -> None:
        """Somebody else writes below the gateway's own root."""
        self.retained[f"{self.root}/{topic}"] = payload
        client = self.session
        if client is not None:
            said = SimpleNamespace(
                topic=f"{self.root}/{topic}", payload=payload.encode(), retain=False
            )
            client.on_message(client, None, said)


class Desk:
    """An uplink, its spool and its broker, at a time that the test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **uplink: str) -> None:
        self.world = Street("yukimi/v1/g1")
        monkeypatch.setattr("agent.link.BoundedClient", lambda *_, **__: self.world.new_client())
        self.world.inflight, self.world.auto = 16, True
        self.sent: list[str] = []
        self.world.on_send = lambda flight: self.sent.append(flight.topic)
        self.now_s = 1000.0
        self.spool = Spool(folder / "spool.db", max_bytes=2**24, run="r", boot_id="b", gateway="g1")
        self.uplink = Uplink(
            UplinkTable.model_validate({"brokers": ["mqtt://a.test"], **uplink}),
            gateway_id="g1",
            spool=self.spool,
            fresh=Fresh(OFFSET_S, {"hall-1": 900, "door-9": 60}, frozenset({"hall-1"})),
            health=UplinkHealth(),
            birth=lambda: {"state": "online"},
            health_message=dict,
            find_file=Path,
            utc_ns=lambda: NOON_NS + round((self.now_s - 1000) * S),
            boot_s=lambda: self.now_s,
        )
        self.uplink._events = NoWait(maxsize=1000)
        self.turn()

    def turn(self, to_s: float = 0.0) -> None:
        self.now_s = max(self.now_s, 1000.0 + to_s)
        for _ in range(5):
            self.uplink.step()

    def tell(self, sensor: str, kind: str, name: str, number: int) -> None:
        """Commit an alert about a window that ended at noon."""
        alert = AlertRecord(
            sensor=sensor, kind=kind, alert=name, id=f"e{number}", state="raised",
            severity="warning", time_ns=NOON_NS, since_ns=NOON_NS, clock=Stamp("synced", 0.0),
            text={"ja": "x", "en": "x"}, values={},
        )  # fmt: skip
        self.uplink.committed(self.spool.append([alert], "c1"))

    def shown(self, topic: str) -> Any:
        client = self.world.session
        assert isinstance(client, Listening)
        body = client.heard.get(topic)
        return body and json.loads(body)["alert"]
