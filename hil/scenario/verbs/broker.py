"""What a broker does wrong, for all gateways of the city at once."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal
from ..stage import Stage
from .base import Acts, Fault, StageName


class _Broker(Fault):
    acts: ClassVar[Acts] = "broker"


class BrokerKill(_Broker):
    """Kill it; healed, it is started again and has forgotten all."""

    verb: Literal["broker_kill"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.broker.kill()


class BrokerRefuse(_Broker):
    """Refuse what is published, "not authorised", by its access list."""

    verb: Literal["broker_refuse"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.broker.refuse()


class BrokerRefuseLogins(_Broker):
    """Know nobody's password any more; who is connected stays so."""

    verb: Literal["broker_refuse_logins"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.broker.refuse_logins()


class BrokerQuota(_Broker):
    """Answer every message with "quota exceeded"."""

    verb: Literal["broker_quota"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.broker.refuse_messages(QUOTA_EXCEEDED)


class BrokerNeverAck(_Broker):
    """Take every message, and acknowledge none."""

    verb: Literal["broker_never_ack"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.broker.never_acknowledge()


class BrokerThrottle(_Broker):
    """Take and give no more than this."""

    verb: Literal["broker_throttle"]
    stages: ClassVar[tuple[StageName, ...]] = ("vpi",)
    bytes_per_s: float = Field(gt=0)

    def _begin(self, stage: Stage) -> Heal:
        return stage.broker.throttle(self.bytes_per_s)


QUOTA_EXCEEDED = 0x97  # MQTT 5, 2.4

FAULTS: tuple[type[Fault], ...] = (
    BrokerKill,
    BrokerRefuse,
    BrokerRefuseLogins,
    BrokerQuota,
    BrokerNeverAck,
    BrokerThrottle,
)
