"""Gathers the facts for a report: asks the running gateway, reads what is on the disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from config.load import ConfigError, read
from config.text import Text

from .. import ownverbs
from ..asking import Asking, NotAnsweredError, socket_path
from ..place import Place, place_of
from ..plan import Plan, plan_of
from ..redaction import Secrets, redacted
from ..spool import SpoolError
from ..spoolopen import described, open_spool
from ..versions import versions
from .facts import Document, Facts, Outage, SensorFacts

DOCTOR_S = 120.0
UNKNOWN_ID = "?"


def gather(config_file: Path, *, made_s: float | None = None, asks_doctor: bool = True) -> Facts:
    """Return what is known. Never fails: what cannot be had is told as missing."""
    document: Mapping[str, Any] | None = None
    plan: Plan | None = None
    place: Place | None = None
    problems: list[Any] = []
    try:
        document, origins = read(config_file)
        plan = plan_of(document, config_file, origins)
    except ConfigError as exc:
        problems = [_shown(problem) for problem in exc.problems]
    with suppress(ConfigError):
        place = place_of(config_file)
    facts = Facts(
        made_s=time.time() if made_s is None else made_s,
        gateway=UNKNOWN_ID if place is None else place.gateway.id,
        configuration=None if document is None else redacted(document),
        configuration_id=None if plan is None else plan.loaded.config_id,
        problems=problems,
        sensors=_planned(plan),
        versions=versions(),
    )
    if place is not None:
        facts = _placed(facts, place)
    facts = _asked(facts, config_file)
    facts = _with_spool(facts, config_file)
    return _with_checks(facts, config_file) if asks_doctor else facts


def scrubbed(facts: Facts, secrets: Secrets) -> Facts:
    """Return the facts without what is secret, wherever it stands."""
    clean = secrets.scrub_all
    return replace(
        facts,
        label=clean(facts.label),
        owner=clean(facts.owner),
        licence=clean(facts.licence),
        running=clean(facts.running),
        why_silent=clean(facts.why_silent),
        sensors=[
            replace(each, bus=clean(each.bus), label=clean(each.label), now=clean(each.now))
            for each in facts.sensors
        ],
        outages=[replace(each, why=clean(each.why)) for each in facts.outages],
        edges=clean(facts.edges),
        spool=clean(facts.spool),
        spool_trouble=clean(facts.spool_trouble),
        configuration=clean(facts.configuration),
        problems=clean(facts.problems),
        checks=clean(facts.checks),
    )


def _shown(problem: object) -> Text:
    """Return a problem as it is said; one that knows its Japanese has it."""
    text = getattr(problem, "text", None)
    return text if isinstance(text, Text) else Text(str(problem), str(problem))


def _planned(plan: Plan | None) -> Sequence[SensorFacts]:
    if plan is None:
        return ()
    return [
        SensorFacts(
            id=sensor.table.id,
            kind=sensor.driver.spec.kind,
            driver=sensor.table.driver,
            bus=sensor.bus.name,
            window_s=sensor.window_s,
            label=_pair(sensor.table.label),
        )
        for sensor in plan.sensors
    ]


def _placed(facts: Facts, place: Place) -> Facts:
    gateway = place.gateway
    where = gateway.location
    return replace(
        facts,
        label=_pair(gateway.label),
        location=None if where is None else where.model_dump(),
        owner=gateway.owner,
        licence=gateway.licence,
        zone=ZoneInfo(gateway.timezone),
    )


def _pair(label: Any) -> Mapping[str, str] | None:
    return None if label is None else label.model_dump(exclude_none=True)


def _asked(facts: Facts, config_file: Path) -> Facts:
    """Ask the running gateway how it is, and for its last day."""
    try:
        with Asking(socket_path(config_file)) as asking:
            running = asking.ask("status")
            day, days = _day(asking, [each["id"] for each in running["sensors"]])
    except NotAnsweredError as exc:
        return replace(facts, why_silent=Text(exc.text.en, exc.text.ja))
    gateway = running["gateway"]
    outages = [Outage(each["start"], each["end"], each["reason"] or "") for each in day["outages"]]
    return replace(
        facts,
        running=running,
        gateway=gateway["id"],
        label=gateway["label"] or facts.label,
        configuration_id=gateway["config"],
        sensors=[_sensor(each, days.get(each["id"])) for each in running["sensors"]],
        remembers_since=min([gateway["since"], *(each.start for each in outages[:1])]),
        outages=outages,
        edges=day["alerts"],
    )


def _day(asking: Asking, sensors: Sequence[str]) -> tuple[Document, dict[str, Document | None]]:
    """Return the last day of the gateway and of each sensor; a gateway that knows none has none."""
    try:
        day: Document = asking.ask("history")
        return day, {name: asking.ask("history", sensor=name)["history"] for name in sensors}
    except NotAnsweredError as exc:
        if exc.is_unreachable:
            raise
        return {"outages": [], "alerts": []}, {}


def _sensor(now: Document, history: Document | None) -> SensorFacts:
    return SensorFacts(
        id=now["id"],
        kind=now["kind"],
        driver=now["driver"],
        bus=now["bus"],
        window_s=now["window_s"],
        label=now["label"],
        directions=now.get("directions") or {},
        now=now,
        history=history,
    )


def _with_spool(facts: Facts, config_file: Path) -> Facts:
    try:
        with open_spool(config_file) as source:
            return replace(facts, spool=described(source, source.figures()))
    except FileNotFoundError:
        return facts
    except NotAnsweredError as exc:
        return replace(facts, spool_trouble=str(exc))
    except (SpoolError, ConfigError) as exc:
        return replace(facts, spool_trouble=str(exc))


def _with_checks(facts: Facts, config_file: Path) -> Facts:
    said = ownverbs.document(["doctor"], str(config_file), time_s=DOCTOR_S)
    return facts if isinstance(said, str) else with_checks(facts, said)


def with_checks(facts: Facts, doctor: Document) -> Facts:
    """Return the facts with what `yukimi doctor --json` said."""
    checks = doctor.get("checks")
    return replace(facts, checks=checks) if isinstance(checks, list) else facts
