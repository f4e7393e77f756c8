"""What was so before another configuration, and must be so again with it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from config.text import Text

from .health import Health

NOT_CONNECTED = Text(
    "no connection to the broker within {within_s:g} s", "{within_s:g}秒以内に接続できません"
)
NOT_TAKEN = Text(
    "the broker took no record within {within_s:g} s",
    "{within_s:g}秒以内に記録が受け付けられません",
)
NOT_MEASURING = Text(
    "no value within {within_s:g} s from {sensors}",
    "{within_s:g}秒以内に測定値がありません: {sensors}",
)


class Before(NamedTuple):
    """What was so before a trial, and must be so again."""

    is_connected: bool = False
    is_taken: bool = False  # records, by the broker
    measuring: frozenset[str] = frozenset()

    @staticmethod
    def of(health: Health) -> Before:
        """Return how it is now."""
        uplink = health.uplink
        return Before(
            uplink.broker is not None,
            uplink.broker is not None and uplink.acknowledged_s is not None and not uplink.muted,
            frozenset(name for name, state in health.states().items() if state == "ok"),
        )

    def missing(self, health: Health, within_s: float) -> list[Text]:
        """Return what is not so again, with a new life's health."""
        uplink, states = health.uplink, health.states()
        told: list[Text] = []
        if self.is_connected and uplink.broker is None:
            told.append(NOT_CONNECTED.filled(within_s=within_s))
        elif self.is_taken and uplink.own_acknowledged_s is None:
            told.append(NOT_TAKEN.filled(within_s=within_s))
        silent = sorted(name for name in self.measuring if states.get(name, "ok") != "ok")
        if silent:
            told.append(NOT_MEASURING.filled(within_s=within_s, sensors=", ".join(silent)))
        return told
