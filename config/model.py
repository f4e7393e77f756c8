"""The configuration as data: strict models of every table, unknown keys forbidden.

Durations are seconds, sizes bytes; the file may say "512MiB". Secrets are never in the file, only
the names of files that hold them. What a driver's options may be is the driver's business and is
checked where drivers are known.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from .exact import fraction
from .places import CONTROL_SOCKET, GATEWAY_ID, told_id
from .text import Text as Sentence  # Text, below, is a name in the configuration

ID_PATTERN = re.compile(r"[a-z0-9-]{1,64}\Z")
RESERVED_SENSOR_IDS = ("alerts", "gateway")

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)\s*\Z")
_SIZE_FACTORS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}


def _identifier(text: str) -> str:
    if not ID_PATTERN.match(text):
        raise ValueError(
            Sentence(
                "must be 1 to 64 characters of a-z, 0-9 and -",
                "a-z、0-9、- の1～64文字でなければなりません",
            )
        )
    return text


def _size_bytes(value: object) -> object:
    if isinstance(value, str):
        match = _SIZE.match(value)
        if match is None:
            raise ValueError(
                Sentence(
                    'must be a number of bytes or a text such as "512MiB"',
                    'バイト数か、"512MiB" のような文字列でなければなりません',
                )
            )
        return int(float(match[1]) * _SIZE_FACTORS[match[2]])
    return value


def _divides_an_hour(seconds: int) -> int:
    if 3600 % seconds:
        raise ValueError(
            Sentence(
                "must divide 3600, so that windows meet at the hour, not {seconds}",
                "区間が毎正時にそろうよう、3600の約数でなければなりません（現在の値: {seconds}）",
            ).filled(seconds=seconds)
        )
    return seconds


def _positive_fraction(text: str) -> str:
    try:
        value = fraction(text)
    except (ValueError, ZeroDivisionError) as exc:
        raise ValueError(
            Sentence(
                'must be an exact fraction in quotes, such as "1/4"',
                '"1/4" のように、引用符で囲んだ分数でなければなりません',
            )
        ) from exc
    if value <= 0:
        raise ValueError(Sentence("must be greater than 0", "0より大きくなければなりません"))
    return text


def _broker_url(text: str) -> str:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as exc:
        raise ValueError(
            Sentence(
                '"{url}": the port must be a number from 1 to 65535',
                "「{url}」のポート番号は1～65535でなければなりません",
            ).filled(url=text)
        ) from exc
    if parts.scheme not in ("mqtt", "mqtts"):
        raise ValueError(
            Sentence(
                '"{url}" must start with mqtt:// or mqtts://',
                "「{url}」は mqtt:// または mqtts:// で始まらなければなりません",
            ).filled(url=text)
        )
    if not parts.hostname or port == 0:
        raise ValueError(
            Sentence(
                '"{url}" must name a host, as in mqtts://broker.example:8883',
                "「{url}」にホスト名がありません。例: mqtts://broker.example:8883",
            ).filled(url=text)
        )
    if parts.username or parts.password:
        raise ValueError(
            Sentence(
                "credentials do not belong in the URL: use username and password_file",
                "URLに認証情報は書けません。username と password_file を使ってください",
            )
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            Sentence(
                '"{url}" must end after the port; topics go into topic_root',
                "「{url}」はポート番号までです。トピックは topic_root に書いてください",
            ).filled(url=text)
        )
    return text


def _topic_root(text: str) -> str:
    if not text or text.startswith(("/", "$")) or text.endswith("/") or re.search(r"[+#\0]", text):
        raise ValueError(
            Sentence(
                'must be a topic without wildcards, such as "yukimi/v1"',
                '"yukimi/v1" のような、ワイルドカードを含まないトピックでなければなりません',
            )
        )
    return text


def _file_path(text: str) -> str:
    if "\0" in text or text.endswith(("/", "/..")) or text in ("", ".", ".."):
        raise ValueError(
            Sentence(
                "must name a file, such as /var/lib/yukimi/spool.db",
                "ファイル名でなければなりません。例: /var/lib/yukimi/spool.db",
            )
        )
    return text


def _metrics_file(text: str) -> str:
    if not _file_path(text).endswith(".prom") or not text.startswith("/"):
        raise ValueError(
            Sentence(
                "must be a full path that ends in .prom, as node_exporter reads no other",
                "node_exporterが読み取れるよう、.prom で終わる絶対パスでなければなりません",
            )
        )
    return text


def _timezone(text: str) -> str:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(text)
    except (OSError, ValueError, KeyError) as exc:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(
            Sentence(
                '"{zone}" is no time zone; take one such as "Asia/Tokyo"',
                '「{zone}」という時間帯はありません。例: "Asia/Tokyo"',
            ).filled(zone=text)
        ) from exc
    return text


def _default_gateway_id() -> str:
    """Return who this is where the configuration does not say: a credential, else the host name.

    A tool that may not read the credential asks the gateway that runs.
    """
    return _fit_for_id(_credential(GATEWAY_ID) or told_id() or socket.gethostname())


def _credential(name: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        return "" if not folder else Path(folder, name).read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def _fit_for_id(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:64] or "gateway"


Identifier = Annotated[str, AfterValidator(_identifier)]
# The spool's write-ahead log and what may wait in memory take some of it: less is no promise.
LEAST_BYTES = 2 * 2**20
SizeBytes = Annotated[
    int,
    Field(ge=LEAST_BYTES),
    BeforeValidator(_size_bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": LEAST_BYTES},
                {"type": "string", "pattern": _SIZE.pattern.replace(r"\Z", "$")},
            ]
        }
    ),
]
Rational = Annotated[str, AfterValidator(_positive_fraction)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
WindowSeconds = Annotated[int, Field(ge=1, le=3600), AfterValidator(_divides_an_hour)]


class Table(BaseModel):
    """The base of all tables."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Text(Table):
    """A name in the languages people read it in."""

    ja: str | None = None
    en: str | None = None


class Location(Table):
    """A place on earth, WGS 84, degrees."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class Directions(Table):
    """What the two directions of a people sensor lead to."""

    towards: Text | None = None
    away: Text | None = None


# A lamp that blinks what is wrong: "ACT" is the board's own; a number is a pin (BCM).
Led = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_-]{1,64}$")] | Annotated[int, Field(ge=0, le=27)]


class GatewayTable(Table):
    """Who and where this gateway is."""

    id: Identifier = Field(default_factory=_default_gateway_id)
    label: Text | None = None
    location: Location | None = None
    timezone: Annotated[str, AfterValidator(_timezone)] = "Asia/Tokyo"
    owner: str | None = None
    licence: str | None = None
    led: Led | None = None
    metrics_file: Annotated[str, AfterValidator(_metrics_file)] | None = None


class TlsTable(Table):
    """Certificates, all PEM; verification cannot be turned off."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _pair(self) -> TlsTable:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError(
                Sentence(
                    "cert_file and key_file go together: give both or neither",
                    "cert_file と key_file は両方を指定するか、両方を省いてください",
                )
            )
        return self


class UplinkTable(Table):
    """The way to the city's broker."""

    brokers: list[BrokerUrl] = Field(min_length=1)
    topic_root: Annotated[str, AfterValidator(_topic_root)] = "yukimi/v1"
    username: str | None = None
    password_file: str | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    confirm: Literal["broker", "receipt"] = "broker"
    require_subscriber: bool = True
    inflight: int = Field(default=16, ge=1, le=1000)
    batch_records: int = Field(default=200, ge=1, le=10_000)
    compression: Literal["none", "backlog", "all"] = "backlog"
    backlog_bytes_per_s: int = Field(default=16384, ge=256)
    receipt_timeout_s: float = Field(default=600.0, ge=1)
    offset_s: float | None = Field(default=None, ge=0, le=60)
    drain_s: float = Field(default=5.0, ge=0, le=60)
    tls: TlsTable = TlsTable()

    @model_validator(mode="after")
    def _password_needs_a_name(self) -> UplinkTable:
        if self.password_file is not None and self.username is None:
            raise ValueError(
                Sentence("password_file needs a username", "password_file には username が必要です")
            )
        return self


class SpoolTable(Table):
    """Where records wait, and how much room they may take in all."""

    path: Annotated[str, AfterValidator(_file_path)] = "/var/lib/yukimi/spool.db"
    max_bytes: SizeBytes = 512 * 2**20


class ClockTable(Table):
    """When UTC is believed."""

    trust: Literal["kernel", "system"] = "kernel"
    wait_s: float = Field(default=600.0, ge=0)


class ControlTable(Table):
    """The socket of the command line tools; a relative path is beside the configuration file."""

    socket: Annotated[str, AfterValidator(_file_path)] = CONTROL_SOCKET


class FlowTable(Table):
    """What is published about people, and with how much noise."""

    window_s: WindowSeconds = 900
    epsilon: Rational = "1/4"


class PrivacyTable(Table):
    """The promise to citizens: what is published, and what all of it may cost one crossing."""

    flow: FlowTable = FlowTable()
    day_limit: Rational = "3/8"


class RuleTable(Table):
    """The base of every alert rule's table: one that is not enabled says nothing."""

    enabled: bool = True


class SnowDispatchTable(RuleTable):
    """New snow, fallen without a break, at which ploughs are called."""

    new_snow_cm: float = Field(default=10.0, gt=0)


# Half of the outcomes lie beyond the expected value, one in ten beyond the interval's end.
Likelihood = Literal["expected", "possible"]


class SnowForecastTable(RuleTable):
    """The same amount within three hours, expected or only possible."""

    when: Likelihood = "expected"


class FreezingTable(RuleTable):
    """A road surface at the freezing point; over again `hysteresis_k` above it."""

    surface_temperature_c: float = Field(default=0.0, ge=-20, le=10)
    hysteresis_k: float = Field(default=0.5, gt=0, le=10)


class FreezingForecastTable(FreezingTable):
    """A road surface that may reach the freezing point within the hour, or is expected to."""

    when: Likelihood = "possible"


class SlipperyTable(RuleTable):
    """How slippery a road may be, and how likely black ice, before somebody must know."""

    slipperiness: Literal[2, 3] = 3
    black_ice_risk: Literal[1, 2] = 2
    after_s: float = Field(default=300.0, ge=0)


class CrowdingTable(RuleTable):
    """People in one window, all directions, as published: noise included."""

    persons: int = Field(default=2000, ge=50)


class SensorTroubleTable(RuleTable):
    """How long a sensor may say nothing, or something may stand in its view."""

    after_s: float = Field(default=600.0, ge=0)


class PowerFailTable(RuleTable):
    """Mains that fail: what is open is written down and sent, and the gateway says good-bye."""

    flush: bool = True


class UndervoltageTable(RuleTable):
    """The board's own under-voltage sign, and a supply below `supply_v` where it is given."""

    supply_v: float | None = Field(default=None, gt=0)
    hysteresis_v: float = Field(default=0.3, gt=0)


class CertificateExpiringTable(RuleTable):
    """How long before its end a certificate must be renewed."""

    days: int = Field(default=30, ge=1, le=365)


class AlertsTable(Table):
    """The alert rules and their thresholds; each has a default and acts by itself."""

    snow_dispatch: SnowDispatchTable = SnowDispatchTable()
    snow_forecast: SnowForecastTable = SnowForecastTable()
    freezing: FreezingTable = FreezingTable()
    freezing_forecast: FreezingForecastTable = FreezingForecastTable()
    slippery: SlipperyTable = SlipperyTable()
    crowding: CrowdingTable = CrowdingTable()
    sensor_missing: SensorTroubleTable = SensorTroubleTable()
    sensor_obstructed: SensorTroubleTable = SensorTroubleTable()
    cabinet_door: RuleTable = RuleTable()
    power_fail: PowerFailTable = PowerFailTable()
    undervoltage: UndervoltageTable = UndervoltageTable()
    certificate_expiring: CertificateExpiringTable = CertificateExpiringTable()


Verb = Literal[
    "ping", "status", "doctor", "report", "config-get",
    "set-log-level", "maintenance", "restart", "config-apply",
]  # fmt: skip
VERBS: tuple[Verb, ...] = get_args(Verb)
SIGNED_VERBS: frozenset[Verb] = frozenset(VERBS[5:])  # what changes anything


class CommandsTable(Table):
    """Remote commands that are allowed: none by default."""

    allow: list[Verb] = []
    # OpenSSH's file of who may sign what changes anything: ALLOWED SIGNERS in ssh-keygen(1).
    allowed_signers: str | None = None

    @model_validator(mode="after")
    def _signed_by_somebody(self) -> CommandsTable:
        changing = [verb for verb in self.allow if verb in SIGNED_VERBS]
        if changing and self.allowed_signers is None:
            raise ValueError(
                Sentence(
                    "{verbs} must be signed: name the file of those who may in allowed_signers",
                    "{verbs} には署名が必要です。署名者のファイルを allowed_signers に指定してくだ"
                    "さい",
                ).filled(verbs=", ".join(changing))
            )
        return self


class BusTable(Table):
    """A bus that needs settings of its own."""

    id: Identifier
    kind: Literal["serial", "i2c", "gpio", "simulated"]
    port: str | None = None
    baud: int | None = Field(default=None, ge=50, le=4_000_000)
    # BCM number of a pin that is wired to SCL besides, to free the bus. Pins 0 to 3 are I2C's own.
    scl_pin: int | None = Field(default=None, ge=4, le=27)

    @model_validator(mode="after")
    def _port(self) -> BusTable:
        if self.kind in ("serial", "i2c") and not self.port:
            raise ValueError(
                Sentence(
                    'a bus of kind "{kind}" needs port, the path of its device',
                    "種別「{kind}」のバスには、機器のパスを示す port が必要です",
                ).filled(kind=self.kind)
            )
        if self.baud is not None and self.kind != "serial":
            raise ValueError(
                Sentence(
                    'baud belongs to serial buses, not to "{kind}"',
                    "baud はシリアルバス専用で、「{kind}」には使えません",
                ).filled(kind=self.kind)
            )
        if self.scl_pin is not None and self.kind != "i2c":
            raise ValueError(
                Sentence(
                    'scl_pin belongs to i2c buses, not to "{kind}"',
                    "scl_pin はI2Cバス専用で、「{kind}」には使えません",
                ).filled(kind=self.kind)
            )
        return self


def _span(ends: list[float]) -> list[float]:
    if ends and not (len(ends) == 2 and ends[0] < ends[1]):
        raise ValueError(
            Sentence(
                "must be [low, high] with low < high, or [] to switch the test off",
                "[下限, 上限]（下限 < 上限）か、判定を行わない [] でなければなりません",
            )
        )
    return ends


Span = Annotated[list[float], Field(json_schema_extra={"maxItems": 2}), AfterValidator(_span)]
Threshold = Annotated[float, Field(ge=0)]  # 0 switches the test off


class LimitsTable(Table):
    """What is believed of a quantity, in its unit; a key that is not given is the driver's."""

    range: Span | None = None
    suspect_range: Span | None = None
    spike: Threshold | None = None
    suspect_spike: Threshold | None = None
    rate_per_s: Threshold | None = None
    flat_s: Threshold | None = None
    suspect_flat_s: Threshold | None = None
    flat_tolerance: float | None = Field(default=None, ge=0)
    outlier: Threshold | None = None

    @model_validator(mode="after")
    def _suspect_before_fail(self) -> LimitsTable:
        if self.range and self.suspect_range:
            low, high = self.range
            if not (low <= self.suspect_range[0] and self.suspect_range[1] <= high):
                raise ValueError(
                    Sentence(
                        "suspect_range must lie within range, {low:g} to {high:g}",
                        "suspect_range は range（{low:g}～{high:g}）の内側でなければなりません",
                    ).filled(low=low, high=high)
                )
        pairs = (
            ("suspect_spike", self.suspect_spike, "spike", self.spike),
            ("suspect_flat_s", self.suspect_flat_s, "flat_s", self.flat_s),
        )
        for doubted, suspect, rejected, fail in pairs:
            if suspect and fail and suspect > fail:
                raise ValueError(
                    Sentence(
                        "{doubted} must be at most {rejected}, {fail:g}",
                        "{doubted} は {rejected}（{fail:g}）以下でなければなりません",
                    ).filled(doubted=doubted, rejected=rejected, fail=fail)
                )
        return self


class SensorTable(Table):
    """One sensor: a driver on a bus, and the stream of its records."""

    id: Identifier
    driver: str
    bus: str
    window_s: WindowSeconds | None = None
    label: Text | None = None
    location: Location | None = None
    directions: Directions | None = None
    on_error: Literal["retry", "ignore"] = "retry"
    maintenance: bool = False  # somebody works at it: its records say so, its alerts are mute
    options: dict[str, object] = {}
    quality: dict[str, LimitsTable] = {}  # by quantity

    @model_validator(mode="after")
    def _names(self) -> SensorTable:
        if self.id in RESERVED_SENSOR_IDS:
            raise ValueError(
                Sentence(
                    'id "{id}" is reserved for the gateway itself; take another',
                    "「{id}」は装置自身のIDです。別のIDを使ってください",
                ).filled(id=self.id)
            )
        return self


class Config(Table):
    """The whole of a gateway's configuration."""

    gateway: GatewayTable = Field(default_factory=GatewayTable)
    uplink: UplinkTable
    spool: SpoolTable = SpoolTable()
    clock: ClockTable = ClockTable()
    control: ControlTable = ControlTable()
    privacy: PrivacyTable = PrivacyTable()
    alerts: AlertsTable = AlertsTable()
    commands: CommandsTable = CommandsTable()
    buses: list[BusTable] = []
    sensors: list[SensorTable] = Field(min_length=1)
