"""From a scenario's file to what can be played, or every reason why not, in a technician's words.

`config` is checked as the gateway itself would check it, each fault by its verb, each truth by what
the device at that sensor can be made to measure. All problems are found at once.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agent.plan import Plan, plan_of
from config.explain import Where, explain, nearest
from config.load import NOT_TOML, UNREADABLE, ConfigError, Problem, toml_path
from config.text import Text, text_of

from .model import Scenario
from .series import Series, Setting, Truth
from .spans import said
from .timeline import Episode, episodes
from .truths import CLASSES, CROWDS, QUANTITIES
from .verbs import VERBS
from .verbs.base import OF_A_SENSOR, Fault, StageName

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
PLACE_HOLDER = "mqtt://broker.invalid:1883"

NO_CONFIG = Text(
    "is missing: the gateway's own configuration, as [config] and [[config.sensors]]",
    "がありません。ゲートウェイの設定を [config] と [[config.sensors]] に書いてください",
)
NO_TRUTH = Text(
    'a {driver} cannot be made to measure "{quantity}"{meant}',
    "{driver} に「{quantity}」を測らせることはできません{meant}",
)
NO_SENSOR = Text(
    'no sensor "{name}" in config{meant}', "config にセンサー「{name}」がありません{meant}"
)
NO_CROWD = Text(
    "{driver} counts nobody: it has no crowd", "{driver} は人を数えないため、crowd は使えません"
)
NO_VERB = Text('no verb "{name}"{meant}', "「{name}」という verb はありません{meant}")
NO_TARGET = Text(
    "the verb {verb} needs `target`, the id of a sensor",
    "{verb} には target（センサーのID）が必要です",
)
MUST_NOT_TARGET = Text("the verb {verb} has no `target`", "{verb} に target は使えません")
WRONG_WIRE = Text(
    "{verb} acts on {wanted}, and {sensor} is on {kind}",
    "{verb} の対象は {wanted} ですが、{sensor} は {kind} に接続されています",
)
NOT_HERE = Text(
    "{verb} cannot act in this process: it needs a machine of its own; run with --on {others}",
    "{verb} はこのプロセス内では実行できません。専用の環境が必要です（--on {others}）",
)
NO_FAULTS = Text(
    "must be a list: each fault has a [[faults]] of its own, in double brackets",
    "リストでなければなりません。障害ごとに、二重の角括弧で [[faults]] と書いてください",
)
TOO_LATE = Text(
    "begins at {at}, and the scenario lasts {lasts}: it would never happen",
    "開始（{at}）がシナリオの長さ（{lasts}）以降のため、この障害は起きません",
)
OWN_BROKER = Text(
    "the stage brings its own broker: leave `brokers` out",
    "中継サーバーは実行環境が用意します。brokers は書かないでください",
)
NO_ZONE = Text(
    "needs a time zone, as in 2027-01-15T00:00:00Z", "時間帯が必要です。例: 2027-01-15T00:00:00Z"
)
NO_YEAR = Text("must be between 1970 and 2200", "1970年から2200年の間でなければなりません")
YEARS = range(1970, 2200)
NO_VALUE = Text(
    "{why}, at {at}: it must give a value for the whole length",
    "開始から {at} の時点: {why}。シナリオ全体で値が必要です",
)
NO_NUMBER = Text("{shown} is no number", "{shown} は数値ではありません")
NO_CLASS = Text('no class "{shown}"{meant}', "「{shown}」という値はありません{meant}")
NOWHERE = Text(
    'no such file{meant}; "python -m hil run --list" lists those of the bench',
    "ファイルがありません{meant}。付属のシナリオは python -m hil run --list で確認できます",
)
TRUTH_LOOKS = 1000  # into a truth, before it is played


Numbered = tuple[int, Fault]  # its place in the file


@dataclass(frozen=True, slots=True)
class Loaded:
    """A scenario that can be played."""

    name: str
    path: Path
    scenario: Scenario
    config: Mapping[str, Any]  # the gateway's document, without a broker
    plan: Plan  # of it, to look at
    faults: tuple[Fault, ...]
    setting: Setting

    def episodes(self) -> list[Episode]:
        """Return what breaks when."""
        return episodes(self.faults, seed=self.setting.seed, lasts_s=self.scenario.lasts)

    def truths(self) -> dict[str, dict[str, Truth]]:
        """Return what really happens: sensor -> quantity -> function of time.

        Raises UnavailableError where a recording is not here.
        """
        return {
            sensor: {name: each.truth(self.setting, name) for name, each in quantities.items()}
            for sensor, quantities in self.scenario.truth.items()
        }

    def crowds(self) -> dict[str, Truth]:
        """Return how many pass a minute: sensor -> function of time."""
        return {
            sensor: each.persons_per_minute.truth(self.setting, "persons_per_minute")
            for sensor, each in self.scenario.crowd.items()
        }

    @property
    def start_ns(self) -> int:
        """UTC at the start."""
        return round(self.scenario.start.timestamp()) * 1_000_000_000

    def lasting(self, lasts_s: float) -> Loaded:
        """Return the same scenario with another length."""
        scenario = self.scenario.model_copy(update={"lasts": lasts_s})
        return replace(self, scenario=scenario, setting=replace(self.setting, lasts_s=lasts_s))


def names() -> list[str]:
    """List the scenarios that come with the bench."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def path_of(name: str) -> Path:
    """Return the file of a scenario that comes with the bench, or the one that is named."""
    own = FOLDER / f"{name}.toml"
    return own if own.is_file() else Path(name)


def load(path: Path, *, seed: int | None = None, on: StageName = "process") -> Loaded:
    """Read a scenario. Raises ConfigError with every problem, UnavailableError."""
    document = _read(path)
    config, faults = document.pop("config", None), document.pop("faults", [])
    problems: list[Problem] = []

    def problem(where: Where, what: str) -> None:
        problems.append(Problem(str(path), toml_path(where), what))

    scenario = None
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as exc:
        for where, what in explain(exc, Scenario):
            problem(where, what)
    plan = None
    if isinstance(config, dict):
        plan = _plan(config, path, problem)
    else:
        problem(("config",), NO_CONFIG)
    verbs = list(_faults(faults, plan, on, problem))
    if scenario is not None:
        _check_times(scenario, verbs, problem)
    if scenario is not None and plan is not None:
        _check_sensors(scenario, plan, problem)
    if problems or scenario is None or plan is None:
        raise ConfigError(problems)
    loaded = Loaded(
        path.stem,
        path,
        scenario,
        config,
        plan,
        tuple(each for _, each in verbs),
        _setting(path, scenario, plan, seed),
    )
    _try_truths(loaded, problem)
    if problems:
        raise ConfigError(problems)
    return loaded


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        what = NOWHERE.filled(meant=nearest(path.name.removesuffix(".toml"), names()))
        raise ConfigError([Problem(str(path), "", what)]) from exc
    except OSError as exc:
        problem = Problem(str(path), "", UNREADABLE.filled(why=exc.strerror))
        raise ConfigError([problem]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError([Problem(str(path), "", NOT_TOML.filled(why=exc))]) from exc


def _plan(config: dict[str, Any], path: Path, problem: Any) -> Plan | None:
    """Plan the gateway's configuration as the gateway would, with a broker put in."""
    uplink = config.setdefault("uplink", {})
    if isinstance(uplink, dict):
        if "brokers" in uplink:
            problem(("config", "uplink", "brokers"), OWN_BROKER)
        uplink["brokers"] = [PLACE_HOLDER]
    gateway = config.setdefault("gateway", {})
    if isinstance(gateway, dict):
        gateway.setdefault("id", "scenario")
    try:
        return plan_of(config, path, {})
    except ConfigError as exc:
        for each in exc.problems:
            problem(("config", *((each.path,) if each.path else ())), each.what)
    return None


def _faults(faults: Any, plan: Plan | None, on: StageName, problem: Any) -> Iterator[Numbered]:
    if not isinstance(faults, list):
        problem(("faults",), NO_FAULTS)
        return
    for number, table in enumerate(faults):
        here = ("faults", number)
        name = table.get("verb") if isinstance(table, dict) else None
        kind = VERBS.get(str(name))
        if kind is None:
            problem((*here, "verb"), NO_VERB.filled(name=name, meant=nearest(str(name), VERBS)))
            continue
        try:
            fault = kind.model_validate(table)
        except ValidationError as exc:
            for where, what in explain(exc, kind):
                problem((*here, *where), what)
            continue
        if on not in fault.stages:
            others = " | ".join(fault.stages)
            problem((*here, "verb"), NOT_HERE.filled(verb=name, others=others))
        if plan is not None:
            _check_target(fault, plan, here, problem)
        yield number, fault


def _check_times(scenario: Scenario, faults: list[Numbered], problem: Any) -> None:
    """What would never happen is no test of anything."""
    if scenario.start.tzinfo is None:
        problem(("start",), NO_ZONE)
    if scenario.start.year not in YEARS:
        problem(("start",), NO_YEAR)
    for number, fault in faults:
        if (fault.at or 0.0) >= scenario.lasts:
            at, lasts = said(fault.at or 0.0), said(scenario.lasts)
            problem(("faults", number, "at"), TOO_LATE.filled(at=at, lasts=lasts))


def _check_target(fault: Fault, plan: Plan, here: Where, problem: Any) -> None:
    if fault.acts not in OF_A_SENSOR:
        if fault.target is not None:
            problem((*here, "target"), MUST_NOT_TARGET.filled(verb=fault.verb))
        return
    if fault.target is None:
        problem((*here, "target"), NO_TARGET.filled(verb=fault.verb))
        return
    sensor = next((each for each in plan.sensors if each.table.id == fault.target), None)
    if sensor is None:
        known = [each.table.id for each in plan.sensors]
        meant = nearest(fault.target, known)
        problem((*here, "target"), NO_SENSOR.filled(name=fault.target, meant=meant))
        return
    if sensor.driver.spec.bus != fault.acts:
        kind = sensor.driver.spec.bus
        what = WRONG_WIRE.filled(verb=fault.verb, wanted=fault.acts, sensor=fault.target, kind=kind)
        problem((*here, "target"), what)


def _check_sensors(scenario: Scenario, plan: Plan, problem: Any) -> None:
    drivers = {each.table.id: each.table.driver for each in plan.sensors}

    def check(where: Where, name: str) -> bool:
        if name not in drivers:
            problem(where, NO_SENSOR.filled(name=name, meant=nearest(name, drivers)))
        return name in drivers

    for name, quantities in scenario.truth.items():
        if not check(("truth", name), name):
            continue
        known = QUANTITIES.get(drivers[name], {})
        for quantity in quantities:
            if quantity not in known:
                meant = nearest(quantity, known)
                what = NO_TRUTH.filled(driver=drivers[name], quantity=quantity, meant=meant)
                problem(("truth", name, quantity), what)
    for name in scenario.crowd:
        if check(("crowd", name), name) and drivers[name] not in CROWDS:
            problem(("crowd", name), NO_CROWD.filled(driver=drivers[name]))
    for number, each in enumerate(scenario.expect.accuracy):
        here = ("expect", "accuracy", number)
        if check((*here, "sensor"), each.sensor) and each.quantity not in scenario.truth.get(
            each.sensor, {}
        ):
            meant = nearest(each.quantity, scenario.truth.get(each.sensor, {}))
            problem((*here, "quantity"), NO_TOLD.filled(quantity=each.quantity, meant=meant))
    for number, crowd in enumerate(scenario.expect.crowd):
        check(("expect", "crowd", number, "sensor"), crowd.sensor)
        if crowd.sensor in drivers and crowd.sensor not in scenario.crowd:
            problem(("expect", "crowd", number, "sensor"), NO_CROWD_TOLD)
    for number, alert in enumerate(scenario.expect.alerts.expected):
        if alert.sensor is not None:
            check(("expect", "alerts", "expected", number, "sensor"), alert.sensor)


NO_TOLD = Text(
    'its truth does not say what "{quantity}" really is{meant}',
    "truth に「{quantity}」の真値がありません{meant}",
)
NO_CROWD_TOLD = Text(
    "nothing is said of its crowd: add it to [crowd]",
    "[crowd] にこのセンサーの人の流れがありません",
)


def _setting(path: Path, scenario: Scenario, plan: Plan, seed: int | None) -> Setting:
    local = scenario.start.astimezone(ZoneInfo(plan.loaded.config.gateway.timezone))
    since_midnight = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second)
    recordings = os.environ.get("YUKIMI_RECORDINGS")
    return Setting(
        path.parent,
        Path(recordings) if recordings else None,
        scenario.seed if seed is None else seed,
        since_midnight.total_seconds() / 3600.0,
        scenario.lasts,
    )


def _try_truths(loaded: Loaded, problem: Any) -> None:
    """Look into every series all along: what fails in the middle is found before it is played."""
    scenario, setting = loaded.scenario, loaded.setting
    drivers = {each.table.id: each.table.driver for each in loaded.plan.sensors}
    for sensor, quantities in scenario.truth.items():
        for name, series in quantities.items():
            known = CLASSES.get((drivers[sensor], name))
            _try_one(("truth", sensor, name), series, name, known, setting, problem)
    for sensor, crowd in scenario.crowd.items():
        where = ("crowd", sensor)
        _try_one(where, crowd.persons_per_minute, "persons_per_minute", None, setting, problem)


def _try_one(
    where: Where,
    series: Series,
    name: str,
    classes: Collection[Any] | None,
    setting: Setting,
    problem: Any,
) -> None:
    at_s = 0.0
    try:
        truth = series.truth(setting, name)
        for step in range(TRUTH_LOOKS + 1):
            at_s = setting.lasts_s * step / TRUTH_LOOKS
            _check_value(truth(at_s), classes)
    except OSError as exc:
        problem(where, UNREADABLE.filled(why=exc.strerror))
    except (ValueError, ArithmeticError, TypeError) as exc:
        why = text_of(exc)
        problem(where, NO_VALUE.filled(why=why, at=said(at_s)) if at_s else why)


def _check_value(value: Any, classes: Collection[Any] | None) -> None:
    """Raise ValueError where a device cannot be told this."""
    if classes is not None:
        if value not in classes:
            names = [each for each in classes if isinstance(each, str)]
            raise ValueError(NO_CLASS.filled(shown=value, meant=nearest(str(value), names)))
    elif isinstance(value, str | bool) or not math.isfinite(value):
        raise ValueError(NO_NUMBER.filled(shown=json.dumps(value, ensure_ascii=False)))
