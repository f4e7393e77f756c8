"""The answers of the control socket as models, and the documents generated from them.

As with what is sent (`schemas`), the gateway composes its JSON directly, and tests hold the two
against each other. `yukimi.status/1` is one name for what tells how a gateway is: by `state` it is
`online` or `offline` on the broker, `running` or `unreachable` as `yukimi status --json` says it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter

from .history import SLOTS
from .schemas import (
    AlertRecord,
    AlertText,
    ClockStamp,
    ConfigId,
    Gap,
    Identifier,
    KindName,
    Label,
    Payload,
    QualityMark,
    Record,
    RunId,
    RunState,
    SensorState,
    UtcTime,
)

Span = Annotated[float, Field(ge=0, description="seconds")]
Count = Annotated[int, Field(ge=0)]


class GatewayPart(Payload):
    """Who it is."""

    id: Identifier
    label: Label | None
    run: RunId
    version: str
    config: ConfigId
    applied: Annotated[int, Field(ge=1)] | None = Field(
        description="the number under which it was applied; null: the configuration file says so"
    )
    policy: str = Field(pattern=r"^[0-9a-f]{64}$")
    since: UtcTime
    uptime_s: Span
    refused: list[str] = Field(description="what is wrong with the configuration that is wanted")


class Failure(Payload):
    """Why there was no connection, the last time."""

    time: UtcTime
    broker: str
    reason: str


class Lane(Payload):
    """One of the three lanes to the broker."""

    messages_in_flight: Count
    records_waiting: Count | None


class CutShort(Payload):
    """A broker that ends each session soon, or acknowledges nothing in any."""

    broker: str
    reason: str
    after: str | None = Field(
        description="the topic, below the gateway's root, that it may not have liked"
    )


class UplinkPart(Payload):
    """The connection, and what is on its way."""

    broker: str | None = Field(description="null: not connected")
    protocol: Literal["5", "3.1.1"] | None
    connected_since: UtcTime | None
    reconnects: Count
    failure: Failure | None
    next_attempt_in_s: Span | None
    lanes: dict[Literal["alert", "live", "backlog"], Lane]
    acknowledged: UtcTime | None = Field(description="when the broker last took records")
    nobody_subscribes: list[str] = Field(description="topics on hold, below the gateway's root")
    not_authorised: list[str]
    cut_short: list[CutShort] = Field(description="brokers that end each session soon")
    clone_seen: UtcTime | None = Field(description="somebody else uses this id")


class SpoolPart(Payload):
    """What waits."""

    path: str
    bytes: Count | None
    max_bytes: Count
    waiting: Count | None
    oldest: UtcTime | None
    runs: list[RunState]
    outage_days_left: float | None = Field(
        description="until the oldest records must be given up, at the configured rate"
    )
    volatile: bool = Field(description="records are in memory only")
    why_volatile: str | None
    given_up: Count = Field(description="records replaced by gaps in this run")
    damages: Count = Field(description="how often the file was found damaged in this run")
    age_s: Span = Field(description="of these figures")
    error: str | None


class ClockStep(Payload):
    """The last time that the clock was set."""

    time: UtcTime
    why: Literal["synced", "stepped"]
    moved_s: float


class ClockPart(ClockStamp):
    """What is known of the time."""

    source: Literal["kernel", "system", "rtc", "gnss"] | None = Field(description="who vouches")
    floor: UtcTime | None = Field(
        description="while the time is not known: the last instant that has certainly passed"
    )
    last_step: ClockStep | None
    trouble: str | None = Field(description="why it is not to be trusted")


class RaisedAlert(Payload):
    """An episode that is not over."""

    id: str
    sensor: Identifier | None
    alert: str
    severity: Literal["info", "warning", "critical"]
    since: UtcTime
    text: AlertText


class Newest(Payload):
    """The newest reading of a quantity."""

    value: float | str | dict[str, float] | None
    unit: str = Field(description="UCUM code")
    age_s: float
    reasons: list[str]


class SensorError(Payload):
    """Why a poll failed, the last time; of people sensors only while they are silent."""

    time: UtcTime
    kind: Literal["bus_error", "frame_error", "other_device", "bug"]
    text: str | None


class LastRecord(Payload):
    """The newest record; of people sensors the newest that is published."""

    start: UtcTime
    end: UtcTime
    quality: QualityMark
    values: dict[str, JsonValue]


class AnySensor(Payload):
    """What is said of every sensor."""

    id: Identifier
    driver: str
    kind: KindName
    bus: str
    window_s: int
    label: Label | None
    state: SensorState
    since: UtcTime | None
    error: SensorError | None
    record: LastRecord | None


class PeopleSensor(AnySensor):
    """A sensor that counts people: state and released figures, nothing else."""

    kind: Literal["people"]
    directions: dict[Literal["towards", "away", "total"], Label | None]


class MeasuringSensor(AnySensor):
    """A sensor that measures things."""

    kind: Literal["road", "snow", "weather", "position", "cabinet"]
    failed_polls: Count
    frame_errors: Count
    readings: dict[str, Newest]
    rate_hz: float | None = Field(description="of readings with a value, over the last minute")
    nominal_rate_hz: float


AnySensorPart = PeopleSensor | MeasuringSensor


class ThreadPart(Payload):
    """A thread of the gateway."""

    name: str
    alive: bool
    hung: bool = Field(description="it takes longer for one step than any may")
    beat_age_s: Span = Field(description="since its last step; of a bus since its last poll")
    restarts: Count


class Resources(Payload):
    """What the process takes."""

    rss_bytes: Count
    cpu_s: float
    fds: Count
    threads: Count


class ControlPart(Payload):
    """The control socket itself."""

    socket: str | None
    clients: Count


class Running(Payload):
    """The state of a running gateway: the answer to `status`, and `yukimi status --json`."""

    schema_: Literal["yukimi.status/1"] = Field(alias="schema")
    state: Literal["running"]
    time: UtcTime
    gateway: GatewayPart
    uplink: UplinkPart
    spool: SpoolPart
    clock: ClockPart
    alerts: list[RaisedAlert]
    sensors: list[AnySensorPart]
    threads: list[ThreadPart]
    resources: Resources
    control: ControlPart
    wrong: list[AlertText] | None = Field(
        default=None, description="what a person must look after; only as the tool says it"
    )


class ErrorPart(Payload):
    """Why there is no answer."""

    code: str
    text: AlertText


class ConfiguredSensor(Payload):
    """A sensor as the configuration has it, whether that is right or not."""

    id: JsonValue
    driver: JsonValue
    bus: JsonValue


class Configured(Payload):
    """What the configuration says, as written."""

    id: str | None
    brokers: list[JsonValue]
    spool: str | None
    sensors: list[ConfiguredSensor]


class Unreachable(Payload):
    """`yukimi status --json` where no gateway answers."""

    schema_: Literal["yukimi.status/1"] = Field(alias="schema")
    state: Literal["unreachable"]
    error: ErrorPart
    configuration: Configured


class Chunk(Payload):
    """What passed on a bus: an entry as recordings have it, with its time."""

    model_config = ConfigDict(extra="allow")

    time: UtcTime


class OneSensor(Payload):
    """The answer to `sensor`; `raw` of sensors that count no people, where bytes pass."""

    sensor: AnySensorPart
    raw: list[Chunk] | None = None


class ReadLine(Payload):
    """A line of `read`: first how the sensor is, then its next readings, each with its bytes."""

    sensor: AnySensorPart | None = None
    readings: dict[str, Newest] | None = None
    raw: list[Chunk] | None = None


class SpoolAnswer(Payload):
    """The answer to `spool`."""

    spool: SpoolPart


class Ping(Payload):
    """The answer to `ping`."""

    version: str
    asks: list[str] = Field(description="what can be asked")


class Outage(Payload):
    """A time without a connection."""

    start: UtcTime
    end: UtcTime | None
    reason: str | None


class AlertEdge(Payload):
    """A step of an alert's episode."""

    time: UtcTime
    sensor: Identifier | None
    alert: str
    state: Literal["raised", "updated", "cleared"]
    severity: Literal["info", "warning", "critical"]


class DayOfGateway(Payload):
    """The answer to `history` without a sensor: the last 24 hours."""

    outages: list[Outage]
    alerts: list[AlertEdge]


class Means(Payload):
    """A day of what a sensor measured."""

    slot_s: int
    start: UtcTime = Field(description="of the first slot")
    means: dict[str, Annotated[list[float | None], Field(min_length=SLOTS, max_length=SLOTS)]]


class ReleasedWindow(Payload):
    """What was released about people in one window; figures are unclamped, null where missing."""

    start: UtcTime
    end: UtcTime
    towards: int | None = None
    away: int | None = None
    total: int | None = None


class Released(Payload):
    """A day of what was released about people."""

    windows: list[ReleasedWindow]


class DayOfSensor(Payload):
    """The answer to `history` with a sensor."""

    sensor: Identifier
    history: Means | Released | None


class Starting(Payload):
    """A line of any stream while the gateway takes a new configuration."""

    state: Literal["starting"]


class Dropped(Payload):
    """A line of `records` and `watch`: so many records were not told, we were too slow."""

    dropped: int = Field(ge=1)


class Departure(Payload):
    """A line of `records` and `watch`: a record that the broker has taken."""

    lane: Literal["alert", "live", "backlog"]
    kind: KindName
    run: RunId
    record: Record | Gap | AlertRecord


class Watched(Payload):
    """A line of `watch`: the state, each second."""

    snapshot: Running


ANSWERS: dict[str, Any] = {
    "status": Running | Unreachable,
    "sensor": OneSensor,
    "read": OneSensor | ReadLine | Starting,
    "spool": SpoolAnswer,
    "ping": Ping,
    "history": DayOfGateway | DayOfSensor,
    "records": Departure | Dropped | Starting,
    "watch": Watched | Departure | Dropped | Starting,
}


def documents() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each answer: path below docs/ -> document."""
    return {
        f"schemas/control-{name}.json": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"yukimi.control/1/{name}",
            **TypeAdapter(model).json_schema(by_alias=True, mode="validation"),
        }
        for name, model in ANSWERS.items()
    }
