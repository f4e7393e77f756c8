"""The configuration against the drivers: what would be read, on which bus, with which options.

This is where a configuration and the drivers meet, so it finds what neither can know alone: an
unknown driver, a wrong option, two sensors on one pin, a driver on the wrong kind of bus.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

import drivers
from config.exact import fraction
from config.load import (
    Finding,
    Loaded,
    Problem,
    Toml,
    Where,
    explain,
    nearest,
    read,
    validate,
)
from config.model import BusTable, LimitsTable, SensorTable
from config.text import Text, text_of
from drivers import nodes
from drivers.base import AIR_TEMPERATURE, Driver, Limits, LineSettings, Options, Quantity, Spec

from .option_words import worded
from .privacy.policy import DAY_LIMIT, Policy

DEFAULT_WINDOW_S = 60
LEAST_PEOPLE_WINDOW_S = 900

BusKind = Literal["serial", "i2c", "gpio", "w1", "system", "simulated"]

_PAIRS = (("range", "suspect_range"), ("spike", "suspect_spike"), ("flat_s", "suspect_flat_s"))

_OF_THE_BOARD: dict[str, BusKind] = {"gpio": "gpio", "w1": "w1", "system": "system"}


@dataclass(slots=True)
class PlannedBus:
    """One bus, and the thread that will own it."""

    name: str
    kind: BusKind
    path: str | None
    line: LineSettings | None = None  # serial only
    second_path: str | None = None  # serial only: the other port of its one sensor
    scl_pin: int | None = None  # i2c only: a pin that is wired to the clock besides


class PlannedSensor(NamedTuple):
    """One sensor, ready to be built."""

    table: SensorTable
    driver: type[Driver]
    options: Options
    bus: PlannedBus
    window_s: int

    @property
    def counts_people(self) -> bool:
        """Whether it counts people, and so falls under the privacy policy."""
        return self.driver.spec.kind == "people"

    @property
    def counts_real_people(self) -> bool:
        """Whether these are people: nobody is on a simulated bus."""
        return self.counts_people and self.bus.kind != "simulated"

    def believed(self, quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
        """Return a built driver's quantities with the limits that the configuration wants."""
        tables = self.table.quality
        return {
            name: each._replace(limits=limits_of(tables[name], each.limits))
            if name in tables
            else each
            for name, each in quantities.items()
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration means."""

    loaded: Loaded
    sensors: list[PlannedSensor]
    buses: list[PlannedBus]
    policy: Policy
    warnings: list[Problem] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)  # of the one that should run instead
    applied: int | None = None  # the number under which it was applied; None: the file says so


def limits_of(table: LimitsTable, default: Limits) -> Limits:
    """Return a driver's limits with what the configuration says in their place.

    0 and [] switch a test off. A default that does not fit to what is said is given up: what is
    only suspect cannot be rejected, and what is rejected cannot be suspect later.
    """
    said: dict[str, Any] = table.model_dump(exclude_none=True)
    for name, value in said.items():
        if name != "flat_tolerance":
            said[name] = (tuple(value) if isinstance(value, list) else value) or None
    limits = default._replace(**said)
    for fail, suspect in _PAIRS:
        outer, inner = getattr(limits, fail), getattr(limits, suspect)
        if outer is not None and inner is not None and not _is_inside(inner, outer):
            given_up: dict[str, Any] = {suspect if fail in said else fail: None}
            limits = limits._replace(**given_up)
    return limits


def _is_inside(inner: Any, outer: Any) -> bool:
    if isinstance(outer, tuple):
        return bool(outer[0] <= inner[0] and inner[1] <= outer[1])
    return bool(inner <= outer)


def load_plan(path: Path) -> Plan:
    """Read a configuration and plan it. Raises ConfigError with every problem found."""
    document, origins = read(path)
    return plan_of(document, path, origins)


def plan_of(document: Toml, path: Path, origins: Mapping[Where, str]) -> Plan:
    """Plan a merged document. Raises ConfigError with every problem found."""
    loaded = validate(document, path, origins, check_sensors, lambda valid: _lay_out(valid)[2])
    sensors, buses, _ = _lay_out(loaded)
    flow = loaded.config.privacy.flow
    epsilon, limit = fraction(flow.epsilon), fraction(loaded.config.privacy.day_limit)
    if not any(sensor.counts_real_people for sensor in sensors):
        limit = max(limit, epsilon)
    policy = Policy(flow.window_s, epsilon, limit)
    return Plan(loaded, sensors, buses, policy, list(_warnings(loaded, sensors)))


UNKNOWN_DRIVER = Text('unknown driver "{name}"', "「{name}」というドライバーはありません")
NO_LIBRARY = Text(
    'driver "{name}" needs a library that is missing: {error}',
    "ドライバー「{name}」に必要なライブラリーがありません: {error}",
)
NOT_JUDGED = Text(
    "a people sensor counts, and what it counts is not judged; remove this table",
    "通行者数センサーの値は品質判定の対象外です。このテーブルを削除してください",
)
NO_LIMITS = Text(
    "{name} is a class, and limits are for numbers; remove this table",
    "{name} は分類値で、限界値は数値にのみ設定できます。このテーブルを削除してください",
)
UNKNOWN_QUANTITY = Text('unknown quantity "{name}"', "「{name}」という測定量はありません")


def check_sensors(document: Toml) -> Iterator[Finding]:
    """Find unknown drivers, wrong options and unknown quantities in a document as written."""
    sensors = document.get("sensors", [])
    for index, sensor in enumerate(sensors if isinstance(sensors, list) else []):
        name = sensor.get("driver") if isinstance(sensor, dict) else None
        if not isinstance(name, str):
            continue  # the model says so
        where: Where = ("sensors", index)
        try:
            driver = drivers.load(name)
        except KeyError:
            what: str = UNKNOWN_DRIVER.filled(name=name) + nearest(name, drivers.names())
            yield (*where, "driver"), what
            continue
        except ImportError as exc:
            yield (*where, "driver"), NO_LIBRARY.filled(name=name, error=exc)
            continue
        options = sensor.get("options", {})
        for name, what in _unlimited(driver.spec, options, sensor.get("quality")):
            yield (*where, "quality", name), what
        if not isinstance(options, dict):
            continue  # the model says so
        try:
            parsed = driver.Options.model_validate(options)
        except ValidationError as exc:
            for inner, what in explain(exc, driver.Options):
                yield (*where, "options", *inner), worded(what)
        else:
            for what in parsed.missing_to_measure():
                yield (*where, "options"), worded(what)


def _unlimited(spec: Spec, options: object, quality: object) -> Iterator[tuple[str, str]]:
    """Name each quantity that can have no limits, and why not."""
    known = {quantity.name: quantity for quantity in spec.quantities}
    for name in quality if isinstance(quality, dict) else ():
        if spec.kind == "people":
            yield name, NOT_JUDGED
        elif name in known and known[name].is_class:
            yield name, NO_LIMITS.filled(name=name)
        elif name not in known and not _names(options, name):
            numbers = [each.name for each in spec.quantities if not each.is_class]
            numbers += _named_in(options)
            yield name, UNKNOWN_QUANTITY.filled(name=name) + nearest(name, numbers)


def _named_in(value: object) -> Iterator[str]:
    """Yield the quantities that options such as `channels` or `registers` name."""
    if isinstance(value, Mapping):
        name = value.get("quantity")
        if isinstance(name, str):
            yield name
        for each in value.values():
            yield from _named_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _named_in(each)


NO_WINDOW = Text(
    "people sensors take [privacy.flow] window_s; remove this line",
    "通行者数センサーには [privacy.flow] の window_s が使われます。この行を削除してください",
)


def _lay_out(loaded: Loaded) -> tuple[list[PlannedSensor], list[PlannedBus], list[Problem]]:
    """Put the sensors on their buses, and say what does not fit."""
    config = loaded.config
    problems: list[Problem] = []
    buses: dict[str, PlannedBus] = {}
    tables = {bus.id: bus for bus in config.buses}
    sensors = []
    for index, table in enumerate(config.sensors):
        driver = drivers.load(table.driver)
        options = driver.Options.model_validate(table.options)
        try:
            bus = _bus_for(table, tables, buses)
            _fit(bus, driver, options, tables)
        except ValueError as exc:
            problems.append(loaded.problem(("sensors", index, "bus"), text_of(exc)))
            continue
        people = driver.spec.kind == "people"
        if people and table.window_s is not None:
            problems.append(loaded.problem(("sensors", index, "window_s"), NO_WINDOW))
        window_s = config.privacy.flow.window_s if people else table.window_s or DEFAULT_WINDOW_S
        sensors.append(PlannedSensor(table, driver, options, bus, window_s))
    if not problems:
        problems += _unheard(loaded, sensors)
        problems += _clashes(loaded, sensors)
        problems += _line_clashes(loaded, sensors)
    problems += _promise(loaded, sensors)
    return sensors, list(buses.values()), problems


TOO_SHORT = Text(
    "must be at least {least}, not {value}: less is for simulated buses only, and {sensor} counts "
    "people on a real one",
    "{least}以上でなければなりません（現在の値: {value}）。それより小さい値は模擬バス専用ですが、"
    "{sensor} は実際の通行者を数えます",
)
TOO_EXACT = Text(
    "must be at most {most}, not {value}: more is for simulated buses only, and {sensor} counts "
    "people on a real one",
    "{most}以下でなければなりません（現在の値: {value}）。それより大きい値は模擬バス専用ですが、"
    "{sensor} は実際の通行者を数えます",
)


def _promise(loaded: Loaded, sensors: list[PlannedSensor]) -> Iterator[Problem]:
    """Hold what is published about people to what was promised, except where nobody is real."""
    flow = loaded.config.privacy.flow
    real = [sensor.table.id for sensor in sensors if sensor.counts_real_people]
    if not real:
        return
    if flow.window_s < LEAST_PEOPLE_WINDOW_S:
        what = TOO_SHORT.filled(least=LEAST_PEOPLE_WINDOW_S, value=flow.window_s, sensor=real[0])
        yield loaded.problem(("privacy", "flow", "window_s"), what)
    limit = min(fraction(loaded.config.privacy.day_limit), DAY_LIMIT)
    for where, value in (
        (("privacy", "day_limit"), loaded.config.privacy.day_limit),
        (("privacy", "flow", "epsilon"), flow.epsilon),
    ):
        if fraction(value) > limit:
            yield loaded.problem(where, TOO_EXACT.filled(most=limit, value=value, sensor=real[0]))


NO_AIR = Text('"{name}" does not measure {quantity}', "「{name}」は {quantity} を測定しません")
NO_SENSOR = Text('there is no sensor "{name}"', "「{name}」というセンサーはありません")


def _unheard(loaded: Loaded, sensors: list[PlannedSensor]) -> Iterator[Problem]:
    """Find those that listen to a sensor that is not there, or that knows no air temperature."""
    names = {sensor.table.id for sensor in sensors}
    able = {sensor.table.id for sensor in sensors if _may_know_the_air(sensor)}
    for index, sensor in enumerate(sensors):
        source = sensor.options.listens_to()
        if source is None or source in able:
            continue
        what = (NO_AIR if source in names else NO_SENSOR).filled(
            name=source, quantity=AIR_TEMPERATURE
        )
        where: Where = ("sensors", index, "options", "temperature_from")
        yield loaded.problem(where, what + nearest(source, able))


def _may_know_the_air(sensor: PlannedSensor) -> bool:
    """Tell whether a sensor measures the air's temperature, or may by options such as `channels`.

    A model that names no quantity at all has those of its options, which only the built driver
    understands.
    """
    spec = sensor.driver.spec
    if sensor.counts_people:
        return False
    named = {quantity.name for quantity in spec.quantities}
    return (
        not named
        or AIR_TEMPERATURE in named
        or _names(sensor.options.model_dump(), AIR_TEMPERATURE)
    )


def _names(value: object, name: str) -> bool:
    """Tell whether `name` stands anywhere in an option's value."""
    if isinstance(value, Mapping):
        return any(_names(each, name) for each in value.values())
    if isinstance(value, list | tuple):
        return any(_names(each, name) for each in value)
    return value == name


UNKNOWN_BUS = Text('unknown bus "{name}"', "「{name}」というバスはありません")
WRONG_BUS = Text(
    "{driver} sits on a {wanted} bus, and {bus} is {kind}",
    "{driver} は {wanted} に接続する機器ですが、{bus} は {kind} です",
)
NO_BENCH = Text(
    "simulated buses need the extra `hil`: {error}",
    "模擬バスには追加機能 `hil` が必要です: {error}",
)
NOT_EMULATED = Text("no device is emulated for {driver}", "{driver} の模擬機器はありません")
TWO_SPEEDS = Text(
    "{bus} is already set to {line} by another sensor, and this one needs {wanted}",
    "{bus} は別のセンサーが {line} で使用していますが、このセンサーには {wanted} が必要です",
)


def _bus_for(
    table: SensorTable, tables: dict[str, BusTable], buses: dict[str, PlannedBus]
) -> PlannedBus:
    """Return the bus a sensor names, planning it at its first mention."""
    name = table.bus
    kind: BusKind
    path: str | None
    scl_pin: int | None = None
    if name in tables:
        own = tables[name]
        name, kind, path, scl_pin = own.port or own.id, own.kind, own.port, own.scl_pin
        if own.kind == "simulated":
            name, path = own.id, own.port
        elif own.kind == "gpio":
            name, path = "gpio", None  # a board has one set of pins
    elif name in _OF_THE_BOARD:
        kind, path = _OF_THE_BOARD[name], None
    elif name.startswith("/dev/i2c-"):
        kind, path = "i2c", name
    elif name.startswith("/"):
        kind, path = "serial", name
    else:
        known = [*tables, "gpio", "w1", "system", "/dev/..."]
        raise ValueError(UNKNOWN_BUS.filled(name=name) + nearest(name, known))
    # Two names of one device are one bus; what is not there now can only be told by its name.
    key = _node(name) if kind in ("serial", "i2c") else name
    bus = buses.setdefault(key, PlannedBus(name, kind, path))
    bus.scl_pin = bus.scl_pin or scl_pin
    return bus


def _node(path: str | None) -> str:
    return os.path.realpath(path or "")


def _fit(
    bus: PlannedBus, driver: type[Driver], options: Options, tables: dict[str, BusTable]
) -> None:
    """Check that a driver can live on a bus, and set the line as it needs it."""
    spec = driver.spec
    if bus.kind not in (spec.bus, "simulated"):
        raise ValueError(
            WRONG_BUS.filled(driver=spec.name, wanted=spec.bus, bus=bus.name, kind=bus.kind)
        )
    if bus.kind == "simulated":
        try:
            from hil.emulation import emulated  # the bench is loaded only where it is named
        except ImportError as exc:
            raise ValueError(NO_BENCH.filled(error=exc)) from exc
        if spec.name not in emulated():
            raise ValueError(NOT_EMULATED.filled(driver=spec.name))
    if spec.line is None:
        return
    node = _node(bus.path)
    baud = next((t.baud for t in tables.values() if t.baud and _node(t.port) == node), None)
    line = options.line() or spec.line
    if baud is not None:
        line = LineSettings(baud, line.data_bits, line.parity, line.stop_bits)
    if bus.kind == "simulated":
        bus.line = line
        return
    if bus.line is not None and bus.line != line:
        raise ValueError(TWO_SPEEDS.filled(bus=bus.name, line=_said(bus.line), wanted=_said(line)))
    bus.line = line
    bus.second_path = bus.second_path or options.second_port()


def _said(line: LineSettings) -> str:
    return f"{line.baud} baud {line.data_bits}{line.parity}{line.stop_bits}"


IN_USE = Text(
    "{claim} on {bus} is already used by {owner}", "{bus} の {claim} は {owner} が使用しています"
)
CLOCK_OF = Text("the clock of {bus}", "{bus} のクロック")
LAMP = "[gateway] led"
NOT_SHARED = Text(
    "{path} is already used by {owner}, and they cannot share it",
    "{path} は {owner} が使用しており、共用できません",
)
PASSING = Text(
    "{port} is whichever adapter comes first, another one after a re-plug: {instead}",
    "{port} は接続の順序で変わる名前で、差し直すと別の機器を指すことがあります。{instead}",
)
USE_NAME = Text('use "{name}"', "「{name}」を使ってください")
SEE_NAMES = Text(
    "plug it in and see `ls -l /dev/serial/by-id`",
    "機器を接続し、`ls -l /dev/serial/by-id` でご確認ください",
)


def _clashes(loaded: Loaded, sensors: list[PlannedSensor]) -> Iterator[Problem]:
    owners: dict[tuple[str, str], str] = {
        ("gpio", f"pin {bus.scl_pin}"): CLOCK_OF.filled(bus=bus.name)
        for bus in (sensor.bus for sensor in sensors)
        if bus.scl_pin is not None
    }
    led = loaded.config.gateway.led
    if isinstance(led, int):  # an output: on a sensor's pin it would drive what the sensor drives
        owner = owners.setdefault(("gpio", f"pin {led}"), LAMP)
        if owner != LAMP:
            what = IN_USE.filled(claim=f"pin {led}", bus="gpio", owner=owner)
            yield loaded.problem(("gateway", "led"), what)
    for index, sensor in enumerate(sensors):
        for claim in sensor.options.claims():
            owner = owners.setdefault((sensor.bus.name, claim), sensor.table.id)
            if owner != sensor.table.id:
                what = IN_USE.filled(claim=claim, bus=sensor.bus.name, owner=owner)
                yield loaded.problem(("sensors", index, "options"), what)


def _line_clashes(loaded: Loaded, sensors: list[PlannedSensor]) -> Iterator[Problem]:
    """Find those on one serial line that cannot share it; a second port is its sensor's alone."""
    owners: dict[str, tuple[str, bool]] = {}  # the first on a line, and whether it can share
    for index, sensor in enumerate(sensors):
        if sensor.bus.kind != "serial":
            continue
        second = sensor.options.second_port()
        shares = sensor.driver.spec.shares_bus and second is None
        for path, key in ((sensor.bus.path, "bus"), (second, "options")):
            if path is None:
                continue
            node = _node(path)
            if node not in owners:
                owners[node] = sensor.table.id, shares
            elif not (shares and owners[node][1]):
                what = NOT_SHARED.filled(path=path, owner=owners[node][0])
                yield loaded.problem(("sensors", index, key), what)


def _passing_names(loaded: Loaded, sensors: list[PlannedSensor]) -> Iterator[Problem]:
    """Name ports whose number depends on which adapter came first."""
    used = {sensor.table.bus for sensor in sensors}
    ports: list[tuple[Where, str | None]] = [
        (("buses", index, "port"), bus.port)
        for index, bus in enumerate(loaded.config.buses)
        if bus.id in used
    ]
    for index, sensor in enumerate(sensors):
        ports.append((("sensors", index, "bus"), sensor.table.bus))
        if sensor.bus.kind == "serial":
            ports.append((("sensors", index, "options"), sensor.options.second_port()))
    for where, port in ports:
        if port is None or not nodes.is_passing(port):
            continue
        name = nodes.lasting_name(port)
        instead = USE_NAME.filled(name=name) if name else SEE_NAMES
        yield loaded.problem(where, PASSING.filled(port=port, instead=instead))


def _warnings(loaded: Loaded, sensors: list[PlannedSensor]) -> Iterator[Problem]:
    """Name what is accepted and may not work for long."""
    yield from _passing_names(loaded, sensors)
