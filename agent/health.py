"""What the gateway knows of itself: counters and edges, one snapshot for all who ask.

Nothing here depends on people's events: a people sensor has a state and troubles, and no rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .endings import Trouble

ErrorKind = Literal["bus_error", "frame_error", "other_device", "bug"]
SensorState = Literal["starting", "warmup", "ok", "silent", "ignored"]


class SensorError(NamedTuple):
    """Why a poll failed."""

    at_s: float  # boot-time clock
    kind: ErrorKind
    text: str


@dataclass(slots=True)
class SensorHealth:
    """One sensor's state and what it lost."""

    state: SensorState = "starting"
    since_s: float = 0.0  # boot-time clock
    failed_polls: int = 0
    frame_errors: int = 0
    error: SensorError | None = None  # the last one


@dataclass(slots=True)
class UplinkHealth:
    """The connection's state."""

    broker: str | None = None  # None: not connected
    connected_since_s: float | None = None  # boot-time clock
    first_connected_s: float | None = None  # in this life of the daemon
    reconnects: int = -1  # the first connection is none
    protocol: str | None = None  # of the connection
    failure: tuple[float, str, str] | None = None  # the last one: when, which broker, why
    next_attempt_s: float | None = None  # while not connected
    acknowledged_s: float | None = None  # when the broker last took records
    own_acknowledged_s: float | None = None  # the same, of records of this life
    muted: Mapping[str, Sequence[str]] = field(default_factory=dict)  # topics on hold, by reason
    troubles: Sequence[Trouble] = ()  # brokers whose sessions end soon
    clash_s: float | None = None  # when somebody else was last seen to use our id


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
