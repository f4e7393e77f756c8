"""`yukimi replay FILE --driver NAME`: what a driver makes of recorded bytes."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

from . import IO_ERROR, OK, USAGE, WRONG, add_json, complain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording (JSON lines)")
    parser.add_argument("--driver", metavar="NAME", help="default: the one the recording names")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="k=v",
        help="a driver option, written as in TOML; overrides the recording's (repeatable)",
    )
    parser.add_argument("--realtime", action="store_true", help="take as long as it took")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Play a recording and print what it holds."""
    from agent.replay import RecordingError, Replay

    options = {}
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            complain(f'--option "{text}": write it as name=value')
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
    except BrokenPipeError:
        raise
    except (OSError, UnicodeDecodeError) as exc:
        complain(f"{arguments.file}: {getattr(exc, 'strerror', None) or exc}")
        return IO_ERROR
    except RecordingError as exc:
        complain(f"{arguments.file}: {exc}")
        return USAGE
    summary = replay.summary
    if arguments.json:
        print(json.dumps(summary.json()))
    else:
        counted = ", ".join(f"{count} {way}" for way, count in summary.crossings.items())
        print(
            f"{summary.frames} frames, {summary.frame_errors} frame errors,"
            f" {summary.readings} readings"
            + (f"; crossings: {counted}" if replay.kind == "people" else "")
        )
    return OK if summary.frames else WRONG


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
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
