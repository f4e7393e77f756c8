"""What breaks between the gateway and its broker.

What only delays bytes cannot act where time stands still while they travel.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal
from ..stage import Stage
from .base import Acts, Fault, StageName, nothing


class _Network(Fault):
    acts: ClassVar[Acts] = "network"


class NetworkCut(_Network):
    """End all connections, and refuse new ones."""

    verb: Literal["network_cut"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.cut()


class NetworkStall(_Network):
    """Keep the connections and move no byte: nobody is told that nothing arrives."""

    verb: Literal["network_stall"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.stall()


class NetworkReset(_Network):
    """Answer every open connection with a reset; the next one is taken."""

    verb: Literal["network_reset"]
    is_moment: ClassVar[bool] = True

    def _begin(self, stage: Stage) -> Heal:
        stage.network.reset()
        return nothing


class NetworkHalfOpen(_Network):
    """Let the open connection die without a word to either end; new ones are carried."""

    verb: Literal["network_half_open"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.vanish()


class NetworkPortal(_Network):
    """End all connections, and answer new ones with a captive portal's web page."""

    verb: Literal["network_portal"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.portal()


class _Slow(_Network):
    stages: ClassVar[tuple[StageName, ...]] = ("vpi",)


class NetworkLoss(_Slow):
    """Lose a share of the segments, each way; TCP sends them again, later and later."""

    verb: Literal["network_loss"]
    share: float = Field(gt=0, lt=1)

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.lose(self.share)


class NetworkDelay(_Slow):
    """Let everything arrive late, each way."""

    verb: Literal["network_delay"]
    delay_s: float = Field(gt=0)

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.delay(self.delay_s)


class NetworkSlow(_Slow):
    """Carry no more than this, each way."""

    verb: Literal["network_slow"]
    bytes_per_s: float = Field(gt=0)

    def _begin(self, stage: Stage) -> Heal:
        return stage.network.throttle(self.bytes_per_s)


class NetworkNoDns(_Slow):
    """Let no name be found."""

    verb: Literal["network_no_dns"]

    def _begin(self, stage: Stage) -> Heal:
        return stage.machine.lose_dns()


FAULTS: tuple[type[Fault], ...] = (
    NetworkCut,
    NetworkStall,
    NetworkReset,
    NetworkHalfOpen,
    NetworkPortal,
    NetworkLoss,
    NetworkDelay,
    NetworkSlow,
    NetworkNoDns,
)
