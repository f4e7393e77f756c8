"""A first configuration as a text to be read and edited: every key that matters, each explained.

Nothing is looked up or written here. Comments are in the language of whoever sets it up; what a
driver's options mean is told in English, as on the driver's page. Secrets are not in it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import drivers
from config.text import Language, Text
from drivers.base import describe

from .propose import Proposed
from .toml import toml_value

COLUMN = 33  # of the comments, as in the examples
LINE = 100

SIMULATED_BUS = "bench"
LEAST_WINDOW_S = 60  # of people's figures where nobody is real


@dataclass(slots=True)
class Answers:
    """What a person said about a gateway."""

    gateway: str = ""
    label_ja: str = ""
    label_en: str = ""
    location: tuple[float, float] | None = None  # latitude, longitude, degrees
    brokers: list[str] = field(default_factory=list)
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    window_s: int = 60
    spool: str = ""
    trust: str = "kernel"


HEAD = Text(
    "Written by `yukimi init`. After a change: yukimi config check",
    "`yukimi init` で作成しました。変更後の確認: yukimi config check",
)
HEAD_KEYS = Text(
    "Commented lines show defaults, or examples where they say so. All keys: yukimi config schema",
    "コメントの行は既定値、または例です。全項目: yukimi config schema",
)
KEYS: Mapping[str, Text] = {
    "id": Text("a-z, 0-9 and -; the topics have it", "a-z、0-9、- のみ。トピック名に入ります"),
    "label": Text("an example: its name for people", "例: 人が読む名称"),
    "location": Text("WGS 84, degrees", "緯度・経度（度、WGS 84）"),
    "location_example": Text("an example; WGS 84, degrees", "例: 緯度・経度（度、WGS 84）"),
    "directions": Text("an example: what they lead to", "例: それぞれの行き先"),
    "timezone": Text("for hours, days and texts", "時・日の区切りと文面に使います"),
    "owner": Text("an example; goes into the birth certificate", "例: 出生証明に載ります"),
    "brokers": Text(
        "tried in turn; mqtts:// verifies the broker's certificate",
        "順に試します。mqtts:// は証明書を必ず検証します",
    ),
    "topic_root": Text("topics are topic_root/id/...", "トピックは topic_root/id/... です"),
    "username": Text("an example", "例"),
    "password_file": Text("beside this file, mode 0600", "このファイルと同じ場所（0600）"),
    "protocol": Text("falls back to 3.1.1 by itself", "必要なら自動で3.1.1に切り替えます"),
    "confirm": Text(
        'done when the broker has it; "receipt": the city',
        '中継サーバー受領で完了。"receipt" は市側の受領',
    ),
    "require_subscriber": Text(
        "what nobody subscribes to waits", "受信者がいなければ送らずに保管します"
    ),
    "ca_file": Text("the city's own authority", "市の認証局の証明書"),
    "ca_example": Text("an example: the city's own authority", "例: 市の認証局の証明書"),
    "cert_file": Text("examples: where the broker wants one", "例: 中継サーバーが求める場合"),
    "spool": Text("records wait here for the network", "通信が回復するまで記録を保管します"),
    "max_bytes": Text(
        "when full, the oldest go, and are named", "満杯なら古い順に削除し、欠測として通知します"
    ),
    "kernel": Text(
        "time is believed once the kernel says so", "カーネルが同期済みと認めた時刻を使います"
    ),
    "system": Text("the system clock is believed as it is", "システムの時計をそのまま使います"),
    "people_window": Text("one figure each 15 minutes; no less", "15分ごとに1値（下限）"),
    "simulated_window": Text(
        "short only where everybody is simulated", "模擬センサーのみの場合に限り短くできます"
    ),
    "epsilon": Text("of the noise, per crossing", "通行1回あたりのノイズの強さ"),
    "new_snow": Text("docs/alerts.md has all rules", "全ての警報は docs/alerts.md にあります"),
    "simulated": Text("devices inside the gateway", "ゲートウェイ内の模擬機器"),
    "sensor": Text("names its records", "記録の名前になります"),
    "window": Text("a record each so many seconds", "この秒数ごとに記録します"),
    "found": Text(
        "as found, or as an example where a scan cannot tell",
        "検出した値。検出できないものは例です",
    ),
    "left_out": Text("left out, because it still needs:", "未設定の項目があるため無効です:"),
    "template": Text(
        "at least one sensor is needed; see: yukimi scan, yukimi drivers",
        "センサーが1台以上必要です。参照: yukimi scan、yukimi drivers",
    ),
}


def draft(
    answers: Answers,
    sensors: Sequence[Proposed],
    *,
    left_out: Sequence[Proposed] = (),
    language: Language = "en",
) -> str:
    """Write the configuration; sensors `left_out` are there as comments, and so is an example."""
    return "\n".join(_Draft(answers, sensors, left_out, language).lines()) + "\n"


@dataclass(slots=True)
class _Draft:
    answers: Answers
    sensors: Sequence[Proposed]
    left_out: Sequence[Proposed]
    language: Language

    def lines(self) -> Iterator[str]:
        yield f"# {HEAD.of(self.language)}"
        yield f"# {HEAD_KEYS.of(self.language)}"
        for part in (self.gateway, self.uplink, self.rest, self.buses):
            lines = list(part())
            if lines:
                yield ""
                yield from lines
        for sensor in self.sensors:
            yield ""
            yield from self.sensor(sensor)
        for sensor in self.left_out:
            yield ""
            yield f"# {KEYS['left_out'].of(self.language)}"
            yield from (f"#   {what}" for what in sensor.missing())
            yield from self.sensor_off(sensor)
        if not (self.sensors or self.left_out):
            yield ""
            yield f"# {KEYS['template'].of(self.language)}"
            options: dict[str, object] = {"mount_height_cm": 350.0}
            example = Proposed("snow-1", "maxbotix-hrxl", "/dev/serial0", options)
            yield from self.sensor_off(example)

    def gateway(self) -> Iterator[str]:
        said = self.answers
        yield "[gateway]"
        yield self.key("id", said.gateway)
        names = {"ja": said.label_ja, "en": said.label_en}
        if any(names.values()):
            yield self.key("label", {name: text for name, text in names.items() if text}, "")
        else:
            example = {"ja": "北3条 積雪", "en": "N3 snow"}
            yield self.key("label", example, is_off=True)
        if said.location is not None:
            yield self.key("location", _place(*said.location))
        else:
            example_place = _place(43.0640, 141.3510)
            yield self.key("location", example_place, "location_example", is_off=True)
        yield self.key("timezone", "Asia/Tokyo")
        yield self.key("owner", "City of Sapporo", is_off=True)
        yield self.key("licence", "CC-BY-4.0", "owner", is_off=True)

    def uplink(self) -> Iterator[str]:
        said = self.answers
        yield "[uplink]"
        yield self.key("brokers", said.brokers)
        yield self.key("topic_root", "yukimi/v1", is_off=True)
        if said.username:
            yield self.key("username", said.username, "")
        else:
            yield self.key("username", said.gateway, is_off=True)
        has_password = bool(said.password_file)
        file = said.password_file or "broker-password"
        yield self.key("password_file", file, is_off=not has_password)
        for name, value in (("protocol", "5"), ("confirm", "broker"), ("require_subscriber", True)):
            yield self.key(name, value, is_off=True)
        yield ""
        is_plain = not said.ca_file
        yield "# [uplink.tls]" if is_plain else "[uplink.tls]"
        ca_key = "ca_example" if is_plain else "ca_file"
        yield self.key("ca_file", said.ca_file or "ca.pem", ca_key, is_off=is_plain)
        yield self.key("cert_file", "gw.pem", is_off=True)
        yield self.key("key_file", "gw.key", "cert_file", is_off=True)

    def rest(self) -> Iterator[str]:
        said = self.answers
        yield "[spool]"
        yield self.key("path", said.spool, "spool")
        yield self.key("max_bytes", "512MiB")
        yield ""
        yield "[clock]"
        yield self.key("trust", said.trust, said.trust)
        if any(_counts_people(sensor) for sensor in self.sensors):
            is_real = any(_counts_people(s) and s.bus != SIMULATED_BUS for s in self.sensors)
            yield ""
            yield "[privacy.flow]"
            if is_real:
                yield self.key("window_s", 900, "people_window")
            else:
                window_s = max(said.window_s, LEAST_WINDOW_S)
                yield self.key("window_s", window_s, "simulated_window")
            yield self.key("epsilon", "1/4")
        yield ""
        yield "# [alerts.snow_dispatch]"
        yield self.key("new_snow_cm", 10.0, "new_snow", is_off=True)

    def buses(self) -> Iterator[str]:
        if any(sensor.bus == SIMULATED_BUS for sensor in self.sensors):
            yield "[[buses]]"
            yield self.key("id", SIMULATED_BUS, "")
            yield self.key("kind", "simulated")

    def sensor(self, sensor: Proposed) -> Iterator[str]:
        bus = sensor.bus_lines()
        yield from bus
        if bus:
            yield ""
        for line in sensor.head_lines():
            yield _beside(line, self.comment("sensor")) if line.startswith("id = ") else line
        if not _counts_people(sensor):
            yield self.key("window_s", self.answers.window_s, "window")
        yield self.key("label", {"ja": "北3条 積雪", "en": "N3 snow"}, is_off=True)
        if _counts_people(sensor):
            ways = {"towards": {"ja": "大通方面"}, "away": {"ja": "札幌駅方面"}}
            yield self.key("directions", ways, is_off=True)
        yield from self.options(sensor)

    def sensor_off(self, sensor: Proposed) -> Iterator[str]:
        """Yield a sensor as a comment, without what is a comment already."""
        lines = (line for line in self.sensor(sensor) if not line.startswith("#"))
        yield from (f"# {line}".rstrip() for line in lines)

    def options(self, sensor: Proposed) -> Iterator[str]:
        """Yield all options: what was found or answered, then the defaults as comments."""
        rows = describe(drivers.load(sensor.driver).Options)
        if not rows:
            return
        yield _beside("[sensors.options]", self.comment("found") if sensor.options else "")
        meanings = {name: means for name, _, _, means in rows}
        for name, value in sensor.options.items():
            yield from _explained(f"{name} = {toml_value(name, value)}", meanings.get(name, ""))
        for name, _, default, means in rows:
            is_plain = isinstance(default, str | int | float) and default != "required"
            if name not in sensor.options and is_plain:
                yield from _explained(f"# {name} = {toml_value(name, default)}", means)

    def key(
        self, name: str, value: object, comment: str | None = None, *, is_off: bool = False
    ) -> str:
        """Write a key with its comment, itself a comment where it is off."""
        line = f"{'# ' if is_off else ''}{name} = {toml_value(name, value)}"
        return _beside(line, self.comment(name if comment is None else comment))

    def comment(self, name: str) -> str:
        return KEYS[name].of(self.language) if name in KEYS else ""


def _counts_people(sensor: Proposed) -> bool:
    return drivers.load(sensor.driver).spec.kind == "people"


def _place(latitude: float, longitude: float) -> dict[str, float]:
    return {"latitude": latitude, "longitude": longitude}


def _beside(line: str, comment: str) -> str:
    return f"{line:<{COLUMN - 2}}  # {comment}" if comment else line


def _explained(line: str, means: str) -> Iterator[str]:
    """Yield a line with what it means beside it, or above where that is long."""
    beside = _beside(line, means)
    if len(beside) <= LINE:
        yield beside
        return
    yield from textwrap.wrap(means, LINE, initial_indent="# ", subsequent_indent="# ")
    yield line
