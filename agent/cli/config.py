"""`yukimi config`: is it right, what must it be let, and what was made of earlier ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from config.load import ConfigError, Problem, default_path

from . import BAD_CONFIG, OK, _changing, add_config, add_json
from .display import beside, paint
from .language import Text, said
from .parsing import Example

EXAMPLES: tuple[Example, ...] = (
    (
        "yukimi config check",
        Text("the installed configuration", "導入済みの設定を検査します"),
    ),
    (
        "yukimi config check --config gateway.toml --json",
        Text("another one, for programs", "別の設定を検査し、結果をJSONで出力します"),
    ),
    (
        "yukimi config schema",
        Text("for editors that check while one types", "入力中に検査するエディター向けです"),
    ),
    (
        "yukimi config sandbox",
        Text(
            "walls around the service, for what this gateway has",
            "この装置の構成に合わせて、サービスの権限を絞ります",
        ),
    ),
    (
        "sudo yukimi config apply new.toml --within 120",
        Text(
            "try another one; it returns by itself where anything is lost by it",
            "別の設定を試します。支障があれば自動的に元の設定へ戻ります",
        ),
    ),
    (
        "sudo yukimi config rollback",
        Text("go back to the one before", "一つ前の設定に戻します"),
    ),
    (
        "sudo yukimi config list",
        Text("what was applied, by whom, how it ended", "適用した設定と結果の一覧です"),
    ),
    (
        "sudo yukimi config diff",
        Text("what changed last", "直近の変更箇所を表示します"),
    ),
)

CHECK = Text("validate, and say what would be done", "設定を検査し、動作の内容を示します")
SCHEMA = Text(
    "print the JSON Schema of the configuration file", "設定ファイルのJSON Schemaを出力します"
)
SANDBOX = Text(
    "print a drop-in for the service's unit: the devices and brokers of the configuration alone",
    "設定にあるデバイスと送信先だけを許可する、サービス用ドロップインを出力します",
)

PROBLEMS = Text("{path}: {count} to edit", "{path}: 修正が必要な箇所が{count}件あります")
GOOD = Text("{path}: good (configuration {config})", "{path}: 正しい設定です（設定ID {config}）")
MERGED = Text("together with {files}", "併せて読み込んだファイル: {files}")
SENDS = Text("gateway {id} sends to {brokers}", "装置 {id} の送信先: {brokers}")
THEN = Text(", then ", "、つながらなければ ")
UNDER = Text("under {root}/{id}/", "トピック: {root}/{id}/")
KEEPS = Text(
    "and keeps up to {mib:.0f} MiB in {path}",
    "未送信の記録は {path} に最大 {mib:.0f} MiB まで保管します",
)
READS = Text(
    "{driver} on {bus}, a record each {window_s} s",
    "{driver}（{bus}）、{window_s}秒ごとに1件の記録",
)
COUNTS = Text(
    ", counts with noise (epsilon {epsilon})", "、人数には雑音を加えます（ε = {epsilon}）"
)
TESTED: Mapping[str, Text] = {
    "untested": Text("", ""),
    "passed": Text("; accepted {date}", "、受入試験 {date} 合格"),
    "failed": Text("; FAILED its test {date}", "、受入試験 {date} 不合格"),
    "outdated": Text(
        "; tested {date} under other options: yukimi commission {sensor}",
        "、受入試験 {date} の後に設定変更あり（再試験: yukimi commission {sensor}）",
    ),
}
APPLIED = Text(
    "the gateway runs configuration {number} in the place of this file ({time}, {by}), until the"
    " file is edited: yukimi config list",
    "このファイルの代わりに設定 {number} で運転中です（{time} {by}）。"
    "ファイルを編集すると元に戻ります: yukimi config list",
)
WARNING = Text("warning: {what}", "注意: {what}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help=said(CHECK))
    add_config(check)
    add_json(check)
    schema = actions.add_parser("schema", help=said(SCHEMA))
    add_config(schema)  # as every verb; it is not looked at
    add_json(schema)
    sandbox = actions.add_parser("sandbox", help=said(SANDBOX))
    add_config(sandbox)
    add_json(sandbox)
    _changing.add_arguments(actions)


def run(arguments: argparse.Namespace) -> int:
    """Check a configuration, or print what belongs to it."""
    if arguments.action == "schema":
        from agent.schemas import config_schema

        print(json.dumps(config_schema(), indent=2, ensure_ascii=False))
        return OK
    path = arguments.config or default_path()
    if arguments.action == "sandbox":
        return _sandbox(path, as_json=arguments.json)
    if arguments.action != "check":
        return _changing.run(arguments)
    return _check(path, as_json=arguments.json)


def _sandbox(path: Path, *, as_json: bool) -> int:
    from agent.plan import load_plan
    from agent.sandbox import drop_in, walls_of

    try:
        plan = load_plan(path)
    except ConfigError as exc:
        return _refuse(path, exc, as_json=as_json)
    walls = walls_of(plan)
    if as_json:
        does = {"devices": walls.devices, "addresses": walls.addresses}
        _print_json(path, ok=True, problems=[], warnings=plan.warnings, **does)
    else:
        print(drop_in(walls, plan.loaded.config_id), end="")
    return OK


def _refuse(path: Path, exc: ConfigError, *, as_json: bool) -> int:
    if as_json:
        _print_json(path, ok=False, problems=exc.problems)
    else:
        for problem in exc.problems:
            print(beside("", said(problem.text)))
        count = len(exc.problems)
        said_count = Text(f"{count} problem{'s' if count > 1 else ''}", str(count))
        print(said(PROBLEMS, path=path, count=said_count))
    return BAD_CONFIG


def _check(path: Path, *, as_json: bool) -> int:
    from agent import applied, commissioned
    from agent.fresh import offset_s
    from agent.lastgood import spool_path
    from agent.memory import digest_of
    from agent.plan import load_plan

    try:
        plan = load_plan(path)
    except ConfigError as exc:
        return _refuse(path, exc, as_json=as_json)
    config = plan.loaded.config
    entry = applied.holding(path)
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
            "files": plan.loaded.files,
            "applied": None if entry is None else entry.number,
            "brokers": config.uplink.brokers,
            "offset_s": offset_s(config.gateway.id, config.uplink.offset_s),
            "policy": plan.policy.sha256,
            "sensors": sensors,
        }
        _print_json(path, ok=True, problems=[], warnings=plan.warnings, **does)
        return OK
    gateway = config.gateway.id
    print(beside("", said(GOOD, path=path, config=plan.loaded.config_id)))
    others = [file for file in plan.loaded.files if file != str(path)]
    if others:
        print(beside("  ", said(MERGED, files=", ".join(others))))
    print(beside("  ", said(SENDS, id=gateway, brokers=said(THEN).join(config.uplink.brokers))))
    print(beside("  ", said(UNDER, root=config.uplink.topic_root, id=gateway)))
    most = config.spool.max_bytes / 2**20
    print(beside("  ", said(KEEPS, mib=most, path=config.spool.path)))
    for sensor in plan.sensors:
        table = sensor.table
        what = said(READS, driver=table.driver, bus=sensor.bus.name, window_s=sensor.window_s)
        if sensor.counts_people:
            what += said(COUNTS, epsilon=plan.policy.epsilon)
        digest = digest_of(table.driver, table.options)
        test, date = commissioned.standing(table.id, digest, spool_path(plan))
        what += said(TESTED[test], date=date, sensor=table.id)
        print(beside(f"  {table.id}: ", what))
    if entry is not None:
        held = said(APPLIED, number=entry.number, time=entry.time, by=entry.by)
        print(paint(beside("", held), "warn"))
    for warning in plan.warnings:
        print(paint(beside("", said(WARNING, what=warning.text)), "warn"))
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
