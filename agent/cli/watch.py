"""`yukimi watch`: the running gateway, live; a line a change where there is no terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from . import OK, UNREACHABLE, WRONG, add_config, add_json, complain
from .language import Text, said
from .parsing import Example

if TYPE_CHECKING:
    from .feed import Feed
    from .terminal import Terminal
    from .watched import Watched

Document = dict[str, Any]

TICK_S = 1.0  # what is shown grows old while nothing is heard

EXAMPLES: tuple[Example, ...] = (
    ("yukimi watch", Text("live, until q", "実況表示。qで終わります")),
    ("yukimi watch --plain", Text("a line for each change", "変化があるたびに1行表示します")),
    (
        "yukimi watch --json --config config/examples/simulated.toml",
        Text("all that is told, as JSON lines", "すべての内容をJSON Linesで出力します"),
    ),
)

PLAIN = Text("a line for each change, on a terminal too", "端末でも、変化があるたびに1行表示します")
NO_RICH = Text(
    "the live screen needs rich: pip install 'yukimi[cli]'; a line for each change until then",
    "実況表示には rich が必要です: pip install 'yukimi[cli]'。それまでは変化を1行ずつ表示します",
)
BACK = Text("the gateway answers again", "ゲートウェイの応答が戻りました")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("--plain", action="store_true", help=said(PLAIN))
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch until told to stop; 69 where no gateway answers at the beginning."""
    from agent.asking import socket_path

    from .feed import Feed
    from .terminal import Terminal

    feed = Feed(socket_path(arguments.config))
    feed.start()
    if arguments.json or arguments.plain or not Terminal.is_there():
        return _lines(feed, as_json=arguments.json)
    try:
        import rich  # noqa: F401  (the screen is laid out with it)
    except ImportError:
        complain(NO_RICH)
        return _lines(feed, as_json=False)
    first = feed.wait()
    if "gone" in first:
        return _unreachable(first["gone"])
    with Terminal() as terminal:
        return _live(feed, terminal, first)


def _unreachable(error: Any) -> int:
    complain(error)
    return UNREACHABLE if error.is_unreachable else WRONG


def _lines(feed: Feed, *, as_json: bool) -> int:
    """Print what is told, or what it changes, line by line."""
    from agent.asking import NotAnsweredError

    said_gone = ""
    snapshot: Document | None = None
    is_first = True
    try:
        while True:
            event = feed.wait()
            if isinstance(event.get("gone"), NotAnsweredError):
                if is_first:
                    return _unreachable(event["gone"])
                if str(event["gone"]) == said_gone:
                    continue
                said_gone = str(event["gone"])
                text = event["gone"].text
                event = {"state": "unreachable", "text": {"ja": text.ja, "en": text.en}}
            is_first = False
            if as_json:
                line = {"schema": "yukimi.watch/1", **event}
                print(json.dumps(line, ensure_ascii=False), flush=True)
                said_gone = "" if "snapshot" in event else said_gone
                continue
            for text in _told(snapshot, event):
                print(text, flush=True)
            if "snapshot" in event:
                if said_gone:
                    print(f"{event['snapshot']['time'][11:19]}  {said(BACK)}", flush=True)
                said_gone, snapshot = "", event["snapshot"]
    except KeyboardInterrupt:
        return OK


def _told(snapshot: Document | None, event: Document) -> list[str]:
    """Return the lines that an event is worth."""
    from .changes import changes
    from .telling import record_words
    from .watched import STARTING

    match event:
        case {"snapshot": dict(now)}:
            return list(changes(snapshot, now))
        case {"record": dict()}:
            begin, text, _ = record_words(event)
            return [begin + text]
        case {"state": "starting"}:
            return [said(STARTING)]
        case {"text": {"en": str(en), "ja": str(ja)}}:
            return [said(Text(en, ja))]
        case _:
            return []


def _live(feed: Feed, terminal: Terminal, first: Document) -> int:
    """Show it until q, or a signal, or the terminal has gone."""
    from .terminal import TerminalGoneError
    from .watched import Watched

    watched = Watched()
    watched.take(first, time.monotonic())
    view = _View(watched, terminal)
    try:
        view.draw()
        while True:
            keys = terminal.wait(view.drawn_at_s + TICK_S, feed.fileno)
            for key in keys:
                if key in ("q", "Q", "SIGINT"):
                    return OK
                if key.startswith("SIG"):
                    return 128 + _number(key)
                view.press(key)
            has_news = False
            for event in feed.take():
                watched.take(event, time.monotonic())
                has_news = has_news or "record" not in event  # those wait for the snapshot
            feed.look_into(watched.into)
            if keys or has_news or time.monotonic() >= view.drawn_at_s + TICK_S:
                view.draw()
    except TerminalGoneError:
        return OK


def _number(name: str) -> int:
    import signal

    return signal.Signals[name].value


class _View:
    """What the keys do, and the screen."""

    def __init__(self, watched: Watched, terminal: Terminal) -> None:
        from .lines import BLOCKS, PLAIN_BLOCKS

        self._watched = watched
        self._terminal = terminal
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        has_blocks = encoding == "utf8" and os.environ.get("TERM") != "linux"
        self._blocks = BLOCKS if has_blocks else PLAIN_BLOCKS
        self.drawn_at_s = 0.0
        self._resize()

    def press(self, key: str) -> None:
        """Do what a key is for."""
        watched = self._watched
        if key in ("resized", "redraw"):
            self._terminal.write("\x1b[0m\x1b[H\x1b[2J")
            self._resize()
        elif key in ("up", "k", "down", "j", "page up", "page down"):
            step = {"up": -1, "k": -1, "page up": -5, "page down": 5}.get(key, 1)
            watched.choose(watched.chosen + step)
            if watched.into is not None:
                watched.enter()
        elif key in ("enter", "right", "l", " "):
            watched.enter()
        elif key in ("escape", "left", "h", "b", "back"):
            watched.leave()
        elif key.isdigit() and 0 < int(key) <= len(watched.sensors):
            watched.choose(int(key) - 1)
            watched.enter()

    def draw(self) -> None:
        """Write what is different from what is shown."""
        from .dashboard import screen

        now_s = self.drawn_at_s = time.monotonic()
        text = self._painter.change_to(screen(self._watched, now_s, self._frame))
        if text:
            self._terminal.write(text)

    def _resize(self) -> None:
        from .lines import Frame
        from .painting import Painter

        columns, lines = self._terminal.size
        self._frame = Frame(columns, lines, self._blocks)
        self._painter = Painter(columns, lines, os.environ)
