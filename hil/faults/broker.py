"""A broker that dies, refuses and falls silent: Mosquitto, with a bad line before it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import Self

from ..broker import Mosquitto
from ..relay import Relay
from .mqtt import MqttFaults
from .ongoing import Heal, Ongoing


class Access:
    """Mosquitto's access list: all may do all, or all but publish while it refuses.

    Mosquitto must have been made with `setting` among its `extra`.
    """

    def __init__(self, file: Path) -> None:
        self.setting = f"acl_file {file}"
        self._file = file
        self._refusing = Ongoing[None]()
        self._write()

    def refuse(self, broker: Mosquitto) -> Heal:
        """Refuse what is published, with "not authorised"; what is subscribed goes on."""
        end = self._refusing.begin(None)
        self._apply(broker)

        def heal() -> None:
            end()
            self._apply(broker)

        return heal

    def heal(self, broker: Mosquitto) -> None:
        """Refuse nothing any more."""
        self._refusing.heal()
        self._apply(broker)

    def _apply(self, broker: Mosquitto) -> None:
        self._write()
        broker.reload()

    def _write(self) -> None:
        self._file.write_text(f"topic {'read' if self._refusing else 'readwrite'} #\n")


class FaultyBroker:
    """Mosquitto behind a relay: gateways connect to `host`:`port`, the city to `broker` itself.

    The line's own faults are the verbs of `relay`.
    """

    def __init__(self, *, dice: Random | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="yukimi-broker-")
        self._access = Access(Path(self._folder.name) / "acl")
        # Without a limit the broker throws away nothing for a city that reads slowly.
        self.broker = Mosquitto(extra=(self._access.setting, "max_queued_messages 0"))
        self.mqtt = MqttFaults()
        self.relay = Relay(
            self.broker.host, self.broker.port, new_meddler=self.mqtt.new_meddler, dice=dice
        )
        self.host = self.relay.host
        self.port = self.relay.port

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def kill(self) -> Heal:
        """SIGKILL; healed, it starts again. What it had not passed on is gone with it."""
        self.broker.kill()
        return self.broker.start

    def refuse(self) -> Heal:
        """Refuse what is published, by its access list: MQTT 5 says "not authorised", 0x87."""
        return self._access.refuse(self.broker)

    def refuse_logins(self) -> Heal:
        """Know nobody's password any more; who is connected stays so."""
        return self.mqtt.refuse_logins()

    def refuse_messages(self, code: int) -> Heal:
        """Answer messages by this reason code, such as QUOTA_EXCEEDED."""
        return self.mqtt.refuse_messages(code)

    def never_acknowledge(self) -> Heal:
        """Take every message, and say so to nobody."""
        return self.mqtt.never_acknowledge()

    def throttle(self, bytes_per_s: float) -> Heal:
        """Take and give no more than this."""
        return self.relay.throttle(bytes_per_s)

    def heal(self) -> None:
        """Undo every fault."""
        self.mqtt.heal()
        self.relay.heal()
        self.broker.start()
        self._access.heal(self.broker)

    def close(self) -> None:
        """End it; nothing is left."""
        self.relay.close()
        self.broker.close()
        self._folder.cleanup()
