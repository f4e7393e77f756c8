"""What the gateway knows of itself: counters and edges, one snapshot for all who ask.

Nothing here depends on people's events: a people sensor has a state and troubles, and no rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SensorState = Literal["starting", "warmup", "ok", "silent", "ignored"]


@dataclass(slots=True)
class SensorHealth:
    """One sensor's state and what it lost."""

    state: SensorState = "starting"
    since_s: float = 0.0  # boot-time clock
    failed_polls: int = 0
    frame_errors: int = 0


@dataclass(slots=True)
class UplinkHealth:
    """The connection's state."""

    broker: str | None = None  # None: not connected
    connected_since_s: float | None = None  # boot-time clock
    first_connected_s: float | None = None  # in this life of the daemon
    reconnects: int = -1  # the first connection is none


@dataclass(slots=True)
class Health:
    """Shared by all threads; each field has one writer, readers take what they find."""

    uplink: UplinkHealth = field(default_factory=UplinkHealth)
    lost_in_queue: int = 0  # observations that found the pipeline's queue full
    _sensors: dict[str, SensorHealth] = field(default_factory=dict)

    def sensor(self, sensor_id: str) -> SensorHealth:
        """Return the entry of a sensor; all are made by the wiring, before any thread runs."""
        return self._sensors.setdefault(sensor_id, SensorHealth())

    def states(self) -> dict[str, SensorState]:
        """Return every sensor's state."""
        return {name: sensor.state for name, sensor in self._sensors.items()}
