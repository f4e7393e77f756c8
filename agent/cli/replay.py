"""`yukimi replay FILE --driver NAME`: what a driver makes of recorded bytes."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

from . import IO_ERROR, OK, USAGE, WRONG, add_config, add_json, complain, is_of_output
from .language import Text, said, text_of
from .parsing import Example

EXAMPLES: tuple[Example, ...] = (
    (
        "yukimi replay snow-1.jsonl",
        Text("through the driver it was recorded with", "記録したときのドライバーで再生します"),
    ),
    (
        "yukimi replay hall-1.jsonl --driver grideye-amg88xx --option warmup_s=0 --json",
        Text("through another, with an option", "ドライバーと設定項目を指定して再生します"),
    ),
)

A_FILE = Text("a recording (JSON lines)", "通信の記録（JSON Lines）")
BY = Text("default: the one the recording names", "ドライバー名（省略時は記録にある名前）")
OPTION = Text(
    "a driver option, written as in TOML; overrides the recording's (repeatable)",
    "ドライバーの設定項目。TOMLの書き方で、記録より優先します（複数指定可）",
)
REALTIME = Text("take as long as it took", "記録したときと同じ時間をかけて再生します")
NAME_VALUE = Text(
    '--option "{option}": write it as name=value',
    "--option「{option}」は、名前=値 の形で書いてください",
)
ACCOUNT = Text(
    "{frames} frames, {bad} frame errors, {readings} readings",
    "フレーム{frames}、フレームの誤り{bad}、測定値{readings}",
)
CROSSINGS = Text("; crossings: {counted}", "、通過: {counted}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help=said(A_FILE))
    parser.add_argument("--driver", metavar="NAME", help=said(BY))
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="k=v",
        help=said(OPTION),
    )
    parser.add_argument("--realtime", action="store_true", help=said(REALTIME))
    add_config(parser)  # as every verb; it is not looked at
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Play a recording and print what it holds."""
    from agent.replay import RecordingError, Replay

    options = {}
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            complain(NAME_VALUE.filled(option=text))
            return USAGE
        options[name.strip()] = _toml_value(value.strip())
    try:
        with arguments.file.open(encoding="utf-8") as lines:
            replay = Replay(lines, arguments.driver, options)
            previous_s = None
            for played in replay:
                if arguments.realtime and previous_s is not None:
                    time.sleep(max(0.0, played.t_s - previous_s))
                previous_s = played.t_s
                for line in played.lines():
                    print(json.dumps(line) if arguments.json else _shown(line), flush=True)
    except OSError as exc:
        if is_of_output(exc):
            raise
        complain(f"{arguments.file}: {exc.strerror}")
        return IO_ERROR
    except UnicodeDecodeError as exc:
        complain(f"{arguments.file}: {exc}")
        return IO_ERROR
    except RecordingError as exc:
        complain(f"{arguments.file}: " + text_of(exc))
        return USAGE
    summary = replay.summary
    if arguments.json:
        print(json.dumps(summary.json()))
    else:
        counted = ", ".join(f"{count} {way}" for way, count in summary.crossings.items())
        fields = {"bad": summary.frame_errors, "readings": summary.readings}
        account = said(ACCOUNT, frames=summary.frames, **fields)
        print(account + (said(CROSSINGS, counted=counted) if replay.kind == "people" else ""))
    return OK if summary.frames else WRONG


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # a bare word is a text


def _shown(line: dict[str, Any]) -> str:
    if "crossing" in line:
        return f"{line['t_s']:9.3f} s  crossing {line['crossing']}"
    values, quality = line["values"], line["quality"]
    text = "  ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
    reasons = " ".join(quality.get("reasons", []))
    return f"{line['t_s']:9.3f} s  {text}  [{quality['flag']}{' ' if reasons else ''}{reasons}]"
