"""The contract's payloads as models, and the documents generated from them.

The daemon does not use this module: it composes its JSON directly. These models describe what it
sends to whoever receives it, and the tests hold the two against each other. `python -m
agent.schemas DIR` writes `schemas/*.json`, `asyncapi.yaml`, `doctor.md` and `drivers/*.md`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

import drivers
from config.model import VERBS, Config, Verb
from drivers.base import Reason

from . import __version__, driver_pages
from .doctor import pages as doctor_pages

UtcTime = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        description="UTC, ISO 8601, milliseconds",
    ),
]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
ConfigId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Rejections = Annotated[int, Field(ge=1)]
RunId = Annotated[str, Field(min_length=1, description="one life of the daemon")]
KindName = Literal["people", "road", "snow", "weather", "position", "cabinet", "gateway"]
Flag = Literal["good", "suspect", "bad", "missing", "not_evaluated"]
SensorState = Literal["starting", "warmup", "ok", "silent", "ignored"]


class Payload(BaseModel):
    """Everything sent is strict: a key that is not described is an error."""

    model_config = ConfigDict(extra="forbid")


class ClockStamp(Payload):
    """How a time is to be taken: known when measured, put right afterwards, or never known."""

    state: Literal["synced", "corrected", "estimated"]
    error_s: float | None = Field(description="bound of the error, null = no bound")


class QualityMark(Payload):
    """How far a record may be trusted; the flag is the worst of its values."""

    flag: Flag
    n: int = Field(ge=0, description="valid samples; for people the seconds alive, never events")
    expected: int = Field(ge=0, description="nominal rate times the window")
    reasons: list[Reason] = []


class NumberSummary(Payload):
    """A measured quantity over the window, in the unit that its name ends in."""

    mean: float
    min: float
    max: float
    sd: float | None = Field(description="sample standard deviation, null for one sample")
    median: float
    n: int = Field(ge=1)
    rejected: dict[Literal["out_of_range", "spike", "rate", "stuck"], Rejections] = Field(
        default={}, description="samples that failed a test of quality, by reason; not in the rest"
    )
    flag: Flag | None = None
    reasons: list[Reason] = []


class ClassSummary(Payload):
    """A class over the window."""

    mode: str
    share: dict[str, float]
    n: int = Field(ge=1)
    flag: Flag | None = None
    reasons: list[Reason] = []


class Forecast(Payload):
    """What a quantity will be, made on the gateway and better than "it stays as it is" there."""

    at: UtcTime
    value: float
    low: float = Field(description="low..high holds 80 % of the outcomes")
    high: float
    skill: float = Field(
        description="1 - mean absolute error / that of persistence, as verified on this sensor"
    )


class GatewayPlace(Payload):
    """Where the gateway was at its last fix inside the window (WGS 84); never a person's place."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    speed_m_s: float | None = Field(ge=0)
    error_m: float | None = Field(ge=0, description="horizontal, one sigma")


class Count(Payload):
    """A count of people after noise."""

    count: int = Field(ge=0, description="unclamped with negatives cut to 0: show it")
    unclamped: int = Field(description="without bias: sum it")


class PeopleValues(Payload):
    """What is published about people: counts with exact noise, and how much of it."""

    towards: Count | None = None
    away: Count | None = None
    total: Count | None = None
    epsilon: str = Field(pattern=r"^\d+(/\d+)?$", description="per crossing, an exact fraction")
    noise_sd: float
    ci95: int
    location: GatewayPlace | None = Field(
        default=None, description="of a moving gateway; null where it had no fix in the window"
    )


class PreviousRun(Payload):
    """What the latest earlier run that committed anything produced in all."""

    run: RunId
    clean: bool
    produced: dict[str, int]


class StartValues(Payload):
    """The first record of a run."""

    event: Literal["start"]
    version: str
    previous: PreviousRun | None


class CommandValues(Payload):
    """What was done to the gateway from afar: one line when it is begun, one when it is over."""

    event: Literal["command"]
    verb: str
    id: str
    by: str | None = Field(description="who signed it, by the gateway's file of allowed signers")
    outcome: str = Field(description="begun, done, failed, or why it was refused")


class CommandCounts(Payload):
    """How many commands were answered and refused since the last such record."""

    event: Literal["commands"]
    counts: dict[str, int]


class Record(Payload):
    """One window of one stream; the key is (gateway, run, stream, seq)."""

    stream: Identifier
    seq: int = Field(ge=1)
    start: UtcTime
    end: UtcTime
    clock: ClockStamp
    quality: QualityMark
    values: (
        StartValues
        | CommandValues
        | CommandCounts
        | PeopleValues
        | dict[str, NumberSummary | ClassSummary | Forecast | GatewayPlace | float | None]
    ) = Field(description="`location` stands in every record of a moving gateway, null without fix")


class Gap(Payload):
    """Numbers first..seq of the stream are lost, and why."""

    stream: Identifier
    first: int = Field(ge=1)
    seq: int = Field(ge=1)
    gap: Literal["spool_full", "corrupt", "disk_failed", "rejected"]
    start: UtcTime | None
    end: UtcTime | None


class AlertText(Payload):
    """What an alert says, for people."""

    ja: str
    en: str


class AlertRecord(Payload):
    """One step of an alert's episode; the key is (gateway, run, stream, seq)."""

    stream: Literal["alerts"]
    seq: int = Field(ge=1)
    sensor: Identifier | None = Field(description="null: the gateway's own")
    alert: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    id: str = Field(min_length=1, description="of the episode: the same from raised to cleared")
    state: Literal["raised", "updated", "cleared"]
    severity: Literal["info", "warning", "critical"]
    time: UtcTime = Field(description="of this record; `clock` says how it is to be taken")
    since: UtcTime = Field(description="the beginning of the episode, never after `time`")
    clock: ClockStamp
    text: AlertText
    values: dict[str, JsonValue]


class Alarm(AlertRecord):
    """The present state of an alert, retained: its newest record; emptied when it is over."""

    state: Literal["raised", "updated"]


class Batch(Payload):
    """A message on live/KIND, backlog/KIND, alert/KIND: one run, one kind, one configuration."""

    schema_: Literal["yukimi.batch/1"] = Field(alias="schema")
    gateway: Identifier
    run: RunId
    kind: KindName
    config: ConfigId
    records: list[Record | Gap | AlertRecord] = Field(min_length=1)


class Place(Payload):
    """A place, WGS 84, degrees."""

    latitude: float
    longitude: float


class Label(Payload):
    """A name in the languages people read it in."""

    ja: str | None = None
    en: str | None = None


class Unit(Payload):
    """A unit as a UCUM code."""

    unit: str


class Commissioned(Payload):
    """An acceptance test at the sensor, passed with its present driver and options."""

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="where the gateway is")
    record: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of salt and canonical record, whose file is kept at the gateway",
    )


class SensorBirth(Payload):
    """A sensor as the birth certificate names it."""

    id: Identifier
    driver: str
    kind: KindName
    window_s: int
    quantities: dict[str, Unit]
    directions: dict[Literal["towards", "away", "total"], Label | None] = {}
    location: Place | None
    label: Label | None
    commissioned: Commissioned | None = None


class StatusOnline(Payload):
    """The birth certificate, retained while the gateway is connected."""

    schema_: Literal["yukimi.status/1"] = Field(alias="schema")
    state: Literal["online"]
    gateway: Identifier
    run: RunId
    label: Label | None
    location: Place | None
    version: str
    config: ConfigId
    policy: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the privacy policy")
    since: UtcTime
    owner: str | None
    licence: str | None
    sensors: list[SensorBirth]


class StatusOffline(Payload):
    """The last will, or a good-bye."""

    schema_: Literal["yukimi.status/1"] = Field(alias="schema")
    state: Literal["offline"]
    gateway: Identifier
    run: RunId
    reason: Literal["stopped"] | None = None


class UplinkState(Payload):
    """The connection."""

    broker: str | None
    connected_since: UtcTime | None
    reconnects: int = Field(ge=0)


class SpoolState(Payload):
    """What waits on disk."""

    bytes: int = Field(ge=0)
    waiting: int = Field(ge=0)
    oldest: UtcTime | None


class RunState(Payload):
    """A run of which something still waits."""

    run: RunId
    waiting: int = Field(ge=1)


class Health(Payload):
    """The gateway's own figures, once a minute; nothing in it depends on people's events."""

    schema_: Literal["yukimi.health/1"] = Field(alias="schema")
    run: RunId
    uptime_s: float
    rss_bytes: int
    clock: ClockStamp
    uplink: UplinkState
    spool: SpoolState
    produced: dict[str, int]
    runs: list[RunState]
    sensors: dict[str, SensorState]
    alerts: list[str] = Field(description="ids of the episodes that are not over")


class Receipt(Payload):
    """Written by the city: it holds, durably, all numbers of the stream up to this one."""

    through: int = Field(ge=0, description="records and gaps count alike")


class Command(Payload):
    """What is asked of a gateway. What only looks may come with an empty payload instead."""

    schema_: Literal["yukimi.command/1"] = Field(alias="schema")
    gateway: Identifier
    verb: Verb = Field(description="as in the topic")
    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="as in the topic; new each time")
    issued: UtcTime | None = None
    expires: UtcTime | None = Field(default=None, description="at most 24 hours after `issued`")
    arguments: dict[str, JsonValue] = {}


class SignedCommand(Payload):
    """A command that changes something: its text, and OpenSSH's signature of exactly that text."""

    schema_: Literal["yukimi.signed-command/1"] = Field(alias="schema")
    command: str = Field(description="the JSON text of a yukimi.command/1 with issued and expires")
    signature: str = Field(description="of ssh-keygen -Y sign -n yukimi-command")


class RefusalOfCommand(Payload):
    """Why a command was not done."""

    code: str
    text: str
    again_in_s: int | None = Field(None, description="when it is of use to ask again")


class Reply(Payload):
    """The answer to a command."""

    schema_: Literal["yukimi.reply/1"] = Field(alias="schema")
    gateway: Identifier
    verb: Verb
    id: str
    ok: bool
    answer: dict[str, JsonValue] | None = None
    error: RefusalOfCommand | None = None


MESSAGES: dict[str, Any] = {
    "batch": Batch,
    "alarm": Alarm,
    "status": StatusOnline | StatusOffline,
    "health": Health,
    "receipt": Receipt,
    "command": Command | SignedCommand,
    "reply": Reply,
}
CHANNELS: dict[str, tuple[str, str, bool, int]] = {
    # channel: (address below ROOT/GATEWAY, message, retained, QoS)
    "status": ("status", "status", True, 1),
    "live": ("live/{kind}", "batch", False, 1),
    "backlog": ("backlog/{kind}", "batch", False, 1),
    "alert": ("alert/{kind}", "batch", False, 1),
    "alarm": ("alarm/{sensor}/{alert}", "alarm", True, 1),
    "health": ("health", "health", False, 0),
    "receipt": ("receipt/{run}/{stream}", "receipt", True, 1),
    "command": ("cmd/{verb}/{id}", "command", False, 1),
    "reply": ("reply/{verb}/{id}", "reply", False, 1),
}
RECEIVED = ("receipt", "command")  # the gateway listens; the city sends
ABOUT = {
    "status": "Birth certificate while online, last will otherwise.",
    "live": "Records of windows that closed while connected, and each sensor's newest on connect.",
    "backlog": "Older records and gaps, oldest first, paced; deflated where configured: such a "
    "payload starts with byte 0x78, a plain one with {.",
    "alert": "Alert records, before everything else. The gateway's own alerts, and gaps in the "
    "stream alerts, come on alert/gateway.",
    "alarm": "The present state of one alert: its newest record while it is raised, an empty "
    "payload when it is over. While the gateway is offline this is the last known state.",
    "health": "The gateway's own figures once a minute; deflated where all is.",
    "receipt": "Where the gateway asks for receipts only these free its spool; what stays without "
    "one is sent again, and brings a new one. The city empties the topic 30 days after a run.",
    "command": "What is asked of the gateway, where its configuration allows the verb.",
    "reply": "The answer, once; whoever was away asks again under the same id.",
}


def message_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of one kind of message."""
    schema = TypeAdapter(MESSAGES[name]).json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"yukimi.{name}/1",
        **schema,
    }


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration, each driver's options included."""
    schema = Config.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    rules = []
    for name in drivers.names():
        try:
            options = drivers.load(name).Options.model_json_schema(
                mode="validation", ref_template=f"#/$defs/{name}.{{model}}"
            )
        except ImportError:
            continue  # a driver whose library is missing here cannot describe itself
        for inner, definition in options.pop("$defs", {}).items():
            definitions[f"{name}.{inner}"] = definition
        definitions[name] = options
        then: dict[str, Any] = {"properties": {"options": {"$ref": f"#/$defs/{name}"}}}
        if options.get("required"):
            then["required"] = ["options"]
        rules.append(
            {
                "if": {"properties": {"driver": {"const": name}}, "required": ["driver"]},
                "then": then,
            }
        )
    definitions["SensorTable"]["allOf"] = rules
    definitions["SensorTable"]["properties"]["driver"]["enum"] = drivers.names()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "yukimi.gateway.toml",
        **schema,
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of what a gateway sends and listens to."""
    within: dict[str, dict[str, Any]] = {
        "kind": {"enum": list(get_args(KindName))},
        "sensor": {"description": "the sensor's id; gateway for the gateway's own alerts"},
        "alert": {"description": "the alert's name"},
        "run": {"description": "one life of the daemon"},
        "stream": {"description": "the sensor's id, alerts, or gateway"},
        "verb": {"enum": list(VERBS)},
        "id": {"description": "of the command, chosen by whoever asks"},
    }
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, (address, message, retained, qos) in CHANNELS.items():
        channels[name] = {
            "address": f"{{root}}/{{gateway}}/{address}",
            "description": ABOUT[name],
            "parameters": {
                "root": {"default": "yukimi/v1", "description": "[uplink] topic_root"},
                "gateway": {"description": "[gateway] id"},
                **{name: about for name, about in within.items() if f"{{{name}}}" in address},
            },
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        action = "receive" if name in RECEIVED else "send"
        operations[f"{action}_{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "bindings": {"mqtt": {"qos": qos, "retain": retained}},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "yukimi gateway",
            "version": __version__,
            "description": "What a yukimi gateway sends to the city's MQTT broker.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                name: {
                    "name": f"yukimi.{name}/1",
                    "payload": {"$ref": f"./schemas/{name}.json"},
                }
                for name in MESSAGES
            }
        },
    }


def documents() -> dict[str, str]:
    """Return every generated file: path below docs/ -> text."""
    from . import control_schemas  # which is made of these models

    files = {f"schemas/{name}.json": message_schema(name) for name in MESSAGES}
    files["schemas/config.json"] = config_schema()
    files |= control_schemas.documents()
    # JSON is YAML too: the document needs no library, and stays exact.
    files["asyncapi.yaml"] = asyncapi()
    texts = {
        path: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for path, document in files.items()
    }
    texts["doctor.md"] = doctor_pages.document()
    return texts | {f"drivers/{name}": text for name, text in driver_pages.pages().items()}


def main() -> int:
    """Write the documents below the directory named."""
    if len(sys.argv) != 2:
        print("usage: python -m agent.schemas DIR", file=sys.stderr)  # noqa: T201
        return 2
    for path, text in documents().items():
        file = Path(sys.argv[1]) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
