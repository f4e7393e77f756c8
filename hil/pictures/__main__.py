"""`python -m hil.pictures FOLDER`: make the pictures of the field guide from real output.

A gateway with simulated devices runs, its broker is real, and each command is typed on a terminal
of 80 x 24 cells. First all is well, then the snow sensor is unplugged.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from agent.cli import WRONG

from .drawing import svg
from .scene import LOCALES, SENSORS, Scene
from .stage import UNPLUGGED
from .terminal import Terminal

SETTLE_S = 70.0  # until a plot by 5 s says something
TITLES = {
    "watch": {
        "en": "yukimi watch: a gateway whose sensors all measure",
        "ja": "yukimi watch: 全センサーが測定中の画面",
    },
    "status": {
        "en": "yukimi status: snow-1 is silent",
        "ja": "yukimi status: snow-1が応答しないときの画面",
    },
    "doctor": {
        "en": "yukimi doctor: YK-SEN-01 is the first failure, snow-1 does not answer",
        "ja": "yukimi doctor: 最初の異常はYK-SEN-01（snow-1の応答なし）",
    },
}
LINES = {"watch": "yukimi watch", "status": "yukimi status", "doctor": "sudo yukimi doctor"}


def pictures(settle_s: float, say: Callable[[str], object] = print) -> dict[str, str]:
    """Return every picture by its file's name. Raises TimeoutError, and RuntimeError."""
    made: dict[str, str] = {}

    def take(verb: str, language: str, terminal: Terminal) -> None:
        name = f"{verb}.svg" if language == "en" else f"{verb}.{language}.svg"
        title = TITLES[verb][language]
        made[name] = svg(terminal.cells(), title=title, language=language)

    with Scene() as scene:
        say(f"{', '.join(SENSORS)} measure; watching for {settle_s:g} s")
        with ExitStack() as stack:
            watches = {
                language: stack.enter_context(scene.type(LINES["watch"], language))
                for language in LOCALES
            }
            _settle(list(watches.values()), settle_s)
            for language, terminal in watches.items():
                terminal.wait(_is_full)
                take("watch", language, terminal)
        scene.unplug()
        say(f"{UNPLUGGED} is unplugged")
        for verb in ("status", "doctor"):
            for language in LOCALES:
                with scene.type(LINES[verb], language) as terminal:
                    code = terminal.wait_end()
                    if code != WRONG:
                        said = "\n".join(terminal.lines)
                        raise RuntimeError(f"{verb} found nothing wrong ({code}):\n{said}")
                    take(verb, language, terminal)
    return made


def _settle(terminals: Sequence[Terminal], seconds: float) -> None:
    """Let time pass, and take what is written meanwhile."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for terminal in terminals:
            terminal.read()


def _is_full(lines: list[str]) -> bool:
    """Tell whether every sensor and a record that left are on the live screen."""
    text = "\n".join(lines)
    return all(sensor in text for sensor in SENSORS) and any("#" in line for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.pictures", description="The field guide's pictures, from real output."
    )
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument(
        "--settle",
        type=float,
        default=SETTLE_S,
        metavar="S",
        help=f"how long to watch, for the plots (default: {SETTLE_S:g})",
    )
    parsed = parser.parse_args(arguments)
    parsed.folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(parsed.settle).items():
        (parsed.folder / name).write_text(picture, encoding="utf-8")
        print(f"{parsed.folder / name}: {len(picture.encode())} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
