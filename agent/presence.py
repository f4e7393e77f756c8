"""What a gateway says of itself: the birth, its health, the good-bye; and whether it is alone.

The status topic is retained, and ours: what somebody else writes there is a will that came late,
or another gateway under our id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from . import record
from .health import UplinkHealth
from .logs import logger
from .session import Session
from .spool import Spool

if TYPE_CHECKING:
    from paho.mqtt import client as mqtt

log = logger("uplink")

BIRTH_AGAIN_S = 1.0  # between two births because of somebody else's word
# Without a clash for so long, the other one is taken to be gone.
ALONE_AFTER_S = 600.0


class Presence:
    """Writes and watches the gateway's own status."""

    def __init__(
        self,
        session: Session,
        *,
        gateway_id: str,
        spool: Spool,
        health: UplinkHealth,
        birth: Callable[[], dict[str, object]],
        health_message: Callable[[], dict[str, object]],
        deflates: bool,
        boot_s: Callable[[], float],
        is_stopping: Callable[[], bool],
        alert: Callable[[str, Mapping[str, object] | None], None],
    ) -> None:
        self._session = session
        self._gateway_id = gateway_id
        self._spool = spool
        self._health = health
        self._birth = birth
        self._health_message = health_message
        self._deflates = deflates
        self._boot_s = boot_s
        self._is_stopping = is_stopping
        self._alert = alert
        self._births = 0
        self._birth_mid: int | None = None
        self._birth_is_owed = False  # the broker refused it, or it was asked for too often
        self._birth_again_at_s = 0.0
        self._clashed_at_s: float | None = None

    def will(self) -> tuple[str, str]:
        """Return what the broker shall say when we are gone: topic, payload."""
        return f"{self._session.root}/status", self._offline()

    def say_birth(self) -> None:
        """Say that we are here, and what we have."""
        self._births += 1
        self._birth_mid = self._write_status(json_text(self._birth())).mid

    def say_health(self) -> None:
        """Say how we are."""
        plain = json_text(self._health_message()).encode()
        payload = record.deflated(plain) if self._deflates else plain
        self._session.publish(
            "health", payload, schema="yukimi.health/1", deflated=self._deflates, qos=0
        )

    def pay(self) -> None:
        """Say the birth that is owed."""
        if self._birth_is_owed:
            self.say_birth()

    def say_farewell(self) -> mqtt.MQTTMessageInfo:
        """Say that we stopped."""
        return self._write_status(self._offline("stopped"))

    def acked(self, mid: int, code: int) -> bool:
        """Take the broker's answer; False where it is to something else than the birth."""
        if mid != self._birth_mid:
            return False
        self._birth_is_owed = code >= 0x80
        return True

    def heard(self, payload: bytes, retained: bool) -> None:
        """Take what somebody wrote on our status: us, or one like us."""
        try:
            status = json.loads(payload)
        except (ValueError, RecursionError):
            status = {}
        run = status.get("run") if isinstance(status, dict) else None
        previous = self._spool.previous
        own_runs = (self._spool.run, previous.run if previous else None, None)
        if self._births > 1 and run not in own_runs:
            # In this life we have said who is here, and somebody has written over it.
            self.clashed()
        if retained:
            return  # from before our birth
        online = isinstance(status, dict) and status.get("state") == "online"
        if not online and not self._is_stopping():
            now_s = self._boot_s()
            if now_s < self._birth_again_at_s:  # whoever says it all the time gets no flood back
                self._birth_is_owed = True
                return
            self._birth_again_at_s = now_s + BIRTH_AGAIN_S
            log.info("we are said to be offline while we are connected: writing the birth again")
            self.say_birth()

    # Another gateway under our id

    @property
    def is_clashing(self) -> bool:
        """Whether somebody else was seen to connect under our id."""
        return self._clashed_at_s is not None

    def clashed(self) -> None:
        """Say that somebody else connects under our id."""
        self._clashed_at_s = self._health.clash_s = self._boot_s()
        log.warning(
            "another gateway uses our id: give each its own [gateway] id",
            id=self._gateway_id,
            broker=self._session.broker,
        )
        self._alert("id_clash", {"id": self._gateway_id})

    def is_alone_again(self, now_s: float) -> bool:
        """Tell, once, that the other one seems to be gone."""
        if self._clashed_at_s is None or now_s - self._clashed_at_s <= ALONE_AFTER_S:
            return False
        self._clashed_at_s = self._health.clash_s = None
        self._alert("id_clash", None)
        return True

    def _offline(self, reason: str | None = None) -> str:
        status = {
            "schema": "yukimi.status/1",
            "state": "offline",
            "gateway": self._gateway_id,
            "run": self._spool.run,
        }
        return json_text(status if reason is None else {**status, "reason": reason})

    def _write_status(self, payload: str) -> mqtt.MQTTMessageInfo:
        return self._session.publish("status", payload, schema="yukimi.status/1", retain=True)


def json_text(value: object) -> str:
    """Return JSON as it goes over the line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
