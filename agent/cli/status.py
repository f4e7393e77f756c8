"""`yukimi status [SENSOR]`: how the running gateway is, on one screen."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from agent.asking import NotAnsweredError, ask, socket_path
from agent.wrong import wrong_with
from config.places import default_path

from . import OK, UNREACHABLE, USAGE, WRONG, add_config, add_json, complain
from .display import line_cells, printable
from .language import Text, said
from .parsing import Example
from .statuspage import page, screen

EXAMPLES: tuple[Example, ...] = (
    ("yukimi status", Text("is it well, what does it measure?", "稼働状況と最新の値を表示します")),
    ("yukimi status snow-1", Text("all about one sensor", "センサー1台の詳細を表示します")),
)
SENSOR = Text("only this sensor, in full", "このセンサーだけを詳しく表示します")
CONFIGURED = Text("What its configuration says, in {file}:", "{file}の設定内容:")
ID, BROKERS, SPOOL = Text("id", "ID"), Text("brokers", "ブローカー"), Text("spool", "保管")
SENSORS = Text("sensors", "センサー")
DEFAULT = Text("(default)", "（既定値）")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("sensor", nargs="?", metavar="SENSOR", help=said(SENSOR))
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask the gateway, and show what it says; without one, what is configured."""
    config_file = arguments.config or default_path()
    try:
        snapshot: dict[str, Any] = ask(socket_path(config_file), "status")
        if arguments.sensor is not None:
            snapshot["sensors"] = [
                ask(socket_path(config_file), "sensor", sensor=arguments.sensor)["sensor"]
            ]
    except NotAnsweredError as exc:
        return _unanswered(exc, config_file, as_json=arguments.json)
    wrong = list(wrong_with(snapshot))
    if arguments.json:
        both = [{"ja": text.ja, "en": text.en} for text in wrong]
        print(json.dumps(snapshot | {"wrong": both}, ensure_ascii=False))
    elif arguments.sensor is not None:
        print("\n".join(page(snapshot["sensors"][0], line_cells())))
    else:
        height = os.get_terminal_size().lines if sys.stdout.isatty() else None
        print("\n".join(screen(snapshot, line_cells(), height)))
    if arguments.sensor is not None:
        return WRONG if snapshot["sensors"][0]["state"] in ("silent", "ignored") else OK
    return WRONG if wrong else OK


def _unanswered(exc: NotAnsweredError, config_file: Path, *, as_json: bool) -> int:
    if not exc.is_unreachable:
        complain(exc)
        return USAGE if exc.code == "no_such_sensor" else WRONG
    document = _configured(config_file)
    if as_json:
        error = {"code": exc.code, "text": {"ja": exc.text.ja, "en": exc.text.en}}
        state = {"schema": "yukimi.status/1", "state": "unreachable", "error": error}
        print(json.dumps(state | {"configuration": document}, ensure_ascii=False))
    elif any(document.values()):
        print("\n".join(_configuration(document, config_file)))
    complain(exc)
    return UNREACHABLE


def _configuration(document: dict[str, Any], config_file: Path) -> list[str]:
    default = said(DEFAULT)
    return [
        said(CONFIGURED, file=config_file),
        f"  {said(ID)}: {printable(document['id'] or default)}",
        f"  {said(BROKERS)}: {printable(', '.join(map(str, document['brokers'])) or '-')}",
        f"  {said(SPOOL)}: {printable(document['spool'] or default)}",
        f"  {said(SENSORS)}:",
        *(
            "    "
            + printable("  ".join(str(each.get(key, "?")) for key in ("id", "driver", "bus")))
            for each in document["sensors"]
        ),
    ]


def _configured(config_file: Path) -> dict[str, Any]:
    """Return what the files say, as written: whether it is right is `config check`'s business."""
    found: dict[str, Any] = {"id": None, "brokers": [], "spool": None, "sensors": []}
    for file in (config_file, *sorted(config_file.parent.glob("gateway.d/*.toml"))):
        try:
            part = tomllib.loads(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as exc:
            from config.load import NOT_UTF8

            complain(f"{file}: {said(NOT_UTF8, byte=exc.start)}")
            continue
        except (OSError, ValueError, RecursionError) as exc:
            complain(f"{file}: {getattr(exc, 'strerror', None) or exc}")
            continue
        match part:
            case {"gateway": {"id": str(name)}}:
                found["id"] = name
        match part:
            case {"uplink": {"brokers": list(brokers)}}:
                found["brokers"] = brokers
        match part:
            case {"spool": {"path": str(path)}}:
                found["spool"] = path
        match part:
            case {"sensors": list(sensors)}:
                found["sensors"] += [
                    {key: each.get(key) for key in ("id", "driver", "bus")}
                    for each in sensors
                    if isinstance(each, dict)
                ]
    return found
