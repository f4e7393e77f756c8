"""What breaks between the gateway and its broker, and the broker itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...faults.ongoing import Heal
from ..stage import Stage
from .base import Acts, Fault, nothing


class _Network(Fault):
    acts: ClassVar[Acts] = "network"


class NetworkCut(_Network):
    """End all connections, and refuse new ones."""

    verb: Literal["network_cut"]

    def _begin(self, stage: Stage) -> Heal:
        stage.network.cut()
        resume: Heal = stage.network.resume
        return resume


class NetworkStall(_Network):
    """Keep the connections and move no byte: nobody is told that nothing arrives."""

    verb: Literal["network_stall"]

    def _begin(self, stage: Stage) -> Heal:
        stage.network.stall()
        resume: Heal = stage.network.resume
        return resume


class NetworkReset(_Network):
    """Answer every open connection with a reset; the next one is taken."""

    verb: Literal["network_reset"]
    is_moment: ClassVar[bool] = True

    def _begin(self, stage: Stage) -> Heal:
        stage.network.reset()
        return nothing


class BrokerKill(Fault):
    """Kill the broker, all over the city; healed, it is started again and has forgotten all."""

    verb: Literal["broker_kill"]
    acts: ClassVar[Acts] = "broker"

    def _begin(self, stage: Stage) -> Heal:
        stage.kill_broker()
        start: Heal = stage.start_broker
        return start


FAULTS: tuple[type[Fault], ...] = (NetworkCut, NetworkStall, NetworkReset, BrokerKill)
