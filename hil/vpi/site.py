"""A virtual Pi with a gateway on it, a broker outside, and the city that keeps the account."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..broker import Mosquitto
from ..city.account import Report
from ..city.payloads import unpack
from ..city.subscriber import City
from .machine import HOST_FOR_GUEST, WAIT_S, VirtualPi
from .qmp import MachineError

CONFIG = "/etc/yukimi/gateway.toml"
STATE = "/var/lib/yukimi"
PYTHON = "/opt/yukimi/bin/python"
MARK = "yukimi/v1/bench/status"  # what comes there is nobody's record
MARKS_BACK = 1000
MARK_S = 60.0
STOPS = 5  # at most, until one of them could send all that was left

# What the spool's file says was produced, per run, read without the daemon's help.
_PRODUCED = f"""{PYTHON} -c '
import json
from pathlib import Path
from hil.ledger import glance
with glance(Path("{STATE}/spool.db")) as database:
    rows = database.execute(
        "SELECT run.run, stream, seq FROM produced JOIN run ON run.id = produced.run"
    )
    print(json.dumps(rows.fetchall()))
'"""  # noqa: S608  (of constants)


Message = tuple[str, bytes]  # topic and payload


@dataclass(frozen=True, slots=True)
class Heard:
    """A batch or a status that reached the city."""

    topic: str
    run: str
    document: dict[str, Any]
    records: tuple[dict[str, Any], ...]


class Site:
    """Everything around one virtual Pi. The gateway's log is in the guest's journal."""

    def __init__(
        self,
        pi: VirtualPi,
        gateway: str = "virtual-pi",
        *,
        broker: Mosquitto | None = None,
        on_records: Callable[[list[dict[str, Any]]], None] = lambda _records: None,
    ) -> None:
        self.pi = pi
        self.gateway = gateway
        self.broker = broker or Mosquitto()
        self._on_records = on_records
        self.heard: list[Heard] = []
        self.produced: dict[str, dict[str, int]] = {}  # by run, as the spool said at last
        self._changed = threading.Condition()
        self._stack = ExitStack()
        self._messages: list[Message] = []
        self._marks = 0
        self.city = self._listener()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.broker)
        self._stack.callback(self._close_city)
        self.city.start()
        self.city.wait_subscribed()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def broker_url(self) -> str:
        """The broker, as the guest sees it."""
        return f"mqtt://{HOST_FOR_GUEST}:{self.broker.port}"

    # Time

    def heard_all(self) -> list[Message]:
        """Return all messages, once those are here that the broker has acknowledged."""
        self._marks += 1
        mark = json.dumps({"mark": self._marks})
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect(self.broker.host, self.broker.port)
        client.loop_start()
        client.publish(MARK, mark, qos=1).wait_for_publish(MARK_S)
        client.disconnect()
        client.loop_stop()
        is_here = (MARK, mark.encode())
        self.wait_until(lambda: is_here in self._messages[-MARKS_BACK:], "the bench's own mark")
        return list(self._messages)

    def return_to(self, before: Iterable[Message]) -> None:
        """Have heard these messages only, as befits a disk of that moment."""
        self.city.close()
        self._messages, self.heard, self.produced = [], [], {}
        self.city = self._listener()
        with self.city.locked() as account:
            for topic, payload in before:
                self._hear(topic, payload, account.take(topic, payload))
        self.city.start()
        self.city.wait_subscribed()

    def runs(self) -> set[str]:
        """Return the lives of the gateway that the city has heard of."""
        return {message.run for message in list(self.heard) if message.records}

    def _close_city(self) -> None:
        self.city.close()  # of several the one that listens now

    def _listener(self) -> City:
        return City(self.broker.host, self.broker.port, on_message=self._hear)

    # Acting

    def install(self, config: str) -> None:
        """Give the gateway its configuration and start the service, at each boot from now on.

        Raises MachineError with the gateway's log if it does not start.
        """
        self.pi.write(CONFIG, config)
        if self.pi.run("systemctl -q enable --now yukimi && sync", check=False).code:
            raise MachineError(f"the service does not start\n{self.log()}")

    def stop(self) -> None:
        """Stop the service in order, and note what it had produced."""
        self.pi.run("systemctl stop yukimi")
        self.note_produced()

    def note_produced(self) -> None:
        """Ask the spool's file what was produced; the daemon must not be running."""
        rows = json.loads(self.pi.run(f"cd / && {_PRODUCED}").out)
        for run, stream, seq in rows:
            self.produced.setdefault(run, {})[stream] = seq

    # Looking

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until the city has heard enough. Raises MachineError."""
        until_s = time.monotonic() + WAIT_S
        with self._changed:
            while not happened():
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise MachineError(f"{what} never came\n{self.log()}")
                self.pi.check_on(what)
                self._changed.wait(min(left_s, 1.0))

    def log(self) -> str:
        """Return the end of the gateway's log, and of the account."""
        told = "\n".join(self.city.report().lines())
        try:
            return self.pi.run("journalctl -u yukimi -n 40 --no-pager").out + told
        except MachineError as exc:
            return f"{exc}\n{self.pi.console[-2000:]}\n{told}"

    def records(self, stream: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the records of a stream that came, gaps left out; without the first `after`."""
        found = [
            record
            for message in list(self.heard)
            for record in message.records
            if record["stream"] == stream and "gap" not in record
        ]
        return found[after:]

    def wait_record(
        self, stream: str, is_so: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        """Wait for a record of `stream` that is as asked, among those that come from now on."""
        before = len(self.records(stream))
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found.extend(filter(is_so, self.records(stream, after=before)))
            return bool(found)

        self.wait_until(look, f"{stream}: {what}")
        return found[0]

    # Judging

    def close_account(self) -> Report:
        """Stop the service, and hold what its spool says against what the city holds.

        A stop sends for a bounded time only: what it left behind leaves after another start. Raises
        MachineError.
        """
        for _ in range(STOPS):
            self.stop()
            self._tell()
            if not self.city.report().missing:
                break
            self.pi.run("systemctl start yukimi")
            self.wait_until(lambda: not self.city.report().missing, "what the spool had promised")
        return self.city.report()

    def _tell(self) -> None:
        with self.city.locked() as account:
            for run, produced in self.produced.items():
                account.tell_produced(self.gateway, run, produced, is_final=True)

    def _hear(self, topic: str, payload: bytes, records: list[dict[str, Any]]) -> None:
        self._messages.append((topic, payload))
        if not payload:
            return
        document: Mapping[str, Any] = unpack(payload)
        with self._changed:
            run = str(document.get("run", ""))
            self.heard.append(Heard(topic, run, dict(document), tuple(records)))
            self._on_records(records)
            self._changed.notify_all()


def is_good(record: dict[str, Any]) -> bool:
    """Whether a record is good."""
    return bool(record["quality"]["flag"] == "good")


def is_missing(record: dict[str, Any]) -> bool:
    """Whether it says that its sensor was silent."""
    return bool(record["quality"]["flag"] == "missing")
