"""`yukimi completion bash|zsh`: what a shell offers when Tab is pressed.

A package installs the first as /usr/share/bash-completion/completions/yukimi and the second as
/usr/share/zsh/vendor-completions/_yukimi. Both are static but for the ids of sensors and the names
of drivers, which they ask this verb for.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from . import OK, VERBS, add_config, parser_for
from .language import Text, said
from .parsing import Example

EXAMPLES: tuple[Example, ...] = (
    (
        "yukimi completion bash",
        Text(
            "for ~/.local/share/bash-completion/completions/yukimi",
            "~/.local/share/bash-completion/completions/yukimi に保存してください",
        ),
    ),
    (
        "yukimi completion zsh",
        Text(
            "for a file _yukimi in a folder of $fpath",
            "$fpath のフォルダーに _yukimi という名前で保存してください",
        ),
    ),
    (
        "yukimi completion sensors --config config/examples/simulated.toml",
        Text("the ids that are offered", "候補となるセンサーのIDです"),
    ),
)

_ID = re.compile(r"[a-z0-9-]{1,64}")

WHAT = Text(
    "a shell, to print its script; or what its script asks for",
    "シェル名を指定すると補完の定義を出力します。sensors と drivers は補完の候補です",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("what", choices=("bash", "zsh", "sensors", "drivers"), help=said(WHAT))
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a script, or names."""
    match arguments.what:
        case "sensors":
            from config.places import default_path

            print("\n".join(sensor_ids(arguments.config or default_path())))
        case "drivers":
            import drivers

            print("\n".join(drivers.names()))
        case shell:
            from . import shells
            from .commands import command_of

            command = command_of(parser_for(*VERBS))
            print(shells.bash(command) if shell == "bash" else shells.zsh(command))
    return OK


def sensor_ids(path: Path) -> Iterator[str]:
    """Yield the ids of a configuration as it is written, whatever else is wrong with it."""
    try:
        beside = sorted((path.parent / "gateway.d").glob("*.toml"))
    except OSError:
        beside = []
    for file in (path, *beside):
        try:
            sensors = tomllib.loads(file.read_text(encoding="utf-8")).get("sensors", [])
        except (OSError, ValueError, RecursionError):
            continue
        for sensor in sensors if isinstance(sensors, list) else []:
            name = sensor.get("id") if isinstance(sensor, dict) else None
            if isinstance(name, str) and _ID.fullmatch(name):  # a shell reads it as code
                yield name
