"""`yukimi config check|schema`: is a configuration right, and what may it say."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from config.load import ConfigError, Problem, default_path

from . import BAD_CONFIG, OK, add_config, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|schema")
    check = actions.add_parser("check", help="validate, and say what would be done")
    add_config(check)
    add_json(check)
    schema = actions.add_parser("schema", help="print the JSON Schema of the configuration file")
    add_json(schema)


def run(arguments: argparse.Namespace) -> int:
    """Check a configuration, or print the schema."""
    if arguments.action == "schema":
        from agent.schemas import config_schema

        print(json.dumps(config_schema(), indent=2, ensure_ascii=False))
        return OK
    return _check(arguments.config or default_path(), as_json=arguments.json)


def _check(path: Path, *, as_json: bool) -> int:
    from agent.app import offset_s
    from agent.plan import load_plan

    try:
        plan = load_plan(path)
    except ConfigError as exc:
        if as_json:
            _print_json(path, ok=False, problems=exc.problems)
        else:
            for problem in exc.problems:
                print(problem)
            count = len(exc.problems)
            print(f"{path}: {count} problem{'s' if count > 1 else ''} to edit")
        return BAD_CONFIG
    config = plan.loaded.config
    sensors = [
        {
            "id": sensor.table.id,
            "driver": sensor.table.driver,
            "bus": sensor.bus.name,
            "window_s": sensor.window_s,
        }
        for sensor in plan.sensors
    ]
    if as_json:
        does = {
            "gateway": config.gateway.id,
            "config": plan.loaded.config_id,
            "brokers": config.uplink.brokers,
            "offset_s": offset_s(config.gateway.id, config.uplink.offset_s),
            "policy": plan.policy.sha256,
            "sensors": sensors,
        }
        _print_json(path, ok=True, problems=[], warnings=plan.warnings, **does)
        return OK
    print(f"{path}: good (configuration {plan.loaded.config_id})")
    print(f"  gateway {config.gateway.id} sends to {', then '.join(config.uplink.brokers)}")
    print(f"  under {config.uplink.topic_root}/{config.gateway.id}/")
    print(f"  and keeps up to {config.spool.max_bytes / 2**20:.0f} MiB in {config.spool.path}")
    for sensor in plan.sensors:
        what = f"{sensor.table.driver} on {sensor.bus.name}, a record each {sensor.window_s} s"
        if sensor.counts_people:
            what += f", counts with noise (epsilon {plan.policy.epsilon})"
        print(f"  {sensor.table.id}: {what}")
    for warning in plan.warnings:
        print(f"warning: {warning}")
    return OK


def _print_json(
    path: Path,
    *,
    ok: bool,
    problems: list[Problem],
    warnings: list[Problem] | None = None,
    **does: object,
) -> None:
    def told(items: list[Problem]) -> list[dict[str, str]]:
        return [{"file": p.file, "path": p.path, "what": p.what} for p in items]

    document: dict[str, object] = {"schema": "yukimi.config/1", "file": str(path), "ok": ok}
    document |= does
    document |= {"problems": told(problems), "warnings": told(warnings or [])}
    print(json.dumps(document, ensure_ascii=False))
