"""What is beyond the gateway: a real broker behind a relay that breaks, and a city that listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from random import Random
from typing import Any, Self

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..city.account import Report
from ..city.subscriber import City
from ..faults.broker import FaultyBroker
from ..faults.ongoing import Heal

CITY_S = 60.0  # real seconds
MARKER_S = 1.0  # real seconds: what was published before the city listened is lost
MARKER = "yukimi/v1/marker/status"  # the city hears it, its account does not

OnRecords = Callable[[list[dict[str, Any]]], None]


class CityBroker(FaultyBroker):
    """A broker that takes nothing into its grave that it had acknowledged."""

    catch_up: Callable[[], None]

    def kill(self) -> Heal:
        """End it once the city has what it acknowledged; nobody is let in before the city is."""
        self.catch_up()
        start = super().kill()

        def heal() -> None:
            start()
            self.catch_up()  # the gateway asks again only when time goes on

        return heal


class FarSide:
    """The broker and the city; a context."""

    def __init__(self, dice: Random, *, on_records: OnRecords, note: Callable[[str], None]) -> None:
        self.broker = CityBroker(dice=dice)
        self.broker.catch_up = self.catch_up
        self.relay = self.broker.relay
        self._own = self.broker.broker  # where the city connects: nothing breaks there
        self._on_records = on_records
        self._note = note
        self._city = City(self._own.host, self._own.port, on_message=self._heard)
        self._marked = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.broker)
            stack.enter_context(self._city)
            self._city.wait_subscribed()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def catch_up(self) -> None:
        """Wait until the city listens, and has all that the broker had acknowledged."""
        self._marked.clear()
        until_s = time.monotonic() + CITY_S
        while time.monotonic() < until_s:
            with suppress(OSError):
                self._mark()
            if self._marked.wait(MARKER_S):
                return
        self._note("the city does not hear what the broker took")

    def tell_produced(self, gateway: str, run: str, produced: Mapping[str, int]) -> None:
        """Tell the account what a life gave numbers to."""
        with self._city.locked() as account:
            account.tell_produced(gateway, run, produced, is_final=True)

    def report(self) -> Report:
        """Draw up the city's account."""
        return self._city.report()

    def _mark(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="marker")
        client.connect(self._own.host, self._own.port)
        client.loop_start()
        try:
            client.publish(MARKER, b"", qos=1).wait_for_publish(MARKER_S)
        finally:
            client.disconnect()
            client.loop_stop()

    def _heard(self, topic: str, _payload: bytes, records: list[dict[str, Any]]) -> None:
        if topic == MARKER:
            self._marked.set()
        else:
            self._on_records(records)
