"""The command line as a tree: verbs, their actions and options, and what each option takes.

Read from the parsers themselves, so that nobody keeps a second list.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .parsing import Parser

Offer = Literal["nothing", "files", "sensors", "drivers"] | tuple[str, ...]

# What a value is, by the name that the help gives it.
_BY_METAVAR: dict[str, Offer] = {"SENSOR": "sensors", "FILE": "files", "PATH": "files"}
_BY_METAVAR |= {"FOLDER": "files", "DIR": "files", "DIRECTORY": "files"}


@dataclass(frozen=True, slots=True)
class Option:
    """An option with all its names; `takes` is None for one that stands alone."""

    names: tuple[str, ...]
    about: str
    takes: Offer | None


@dataclass(slots=True)
class Command:
    """What stands before the options: `yukimi`, a verb, or a verb and its action."""

    path: tuple[str, ...]  # without `yukimi`
    about: str
    options: list[Option] = field(default_factory=list)
    arguments: list[Offer] = field(default_factory=list)
    below: list[Command] = field(default_factory=list)

    def all(self) -> Iterator[Command]:
        """Yield it and whatever is below it."""
        yield self
        for command in self.below:
            yield from command.all()


def command_of(parser: Parser, path: tuple[str, ...] = (), about: str = "") -> Command:
    """Return what a parser takes."""
    command = Command(path, about)
    for action in parser._actions:  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):
            told = {each.dest: each.help or "" for each in action._choices_actions}
            command.below = [
                command_of(inner, (*path, name), told.get(name, ""))
                for name, inner in action.choices.items()
                if isinstance(inner, Parser)
            ]
        elif action.option_strings:
            takes = None if action.nargs == 0 else _offer(action, path)
            command.options.append(Option(tuple(action.option_strings), _about(action), takes))
        else:
            command.arguments.append(_offer(action, path))
    return command


def _about(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def _offer(action: argparse.Action, path: tuple[str, ...]) -> Offer:
    if action.choices is not None:
        return tuple(map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar == "NAME" and (path == ("drivers",) or action.dest == "driver"):
        return "drivers"
    if metavar in _BY_METAVAR:
        return _BY_METAVAR[metavar]
    return "files" if action.type is Path else "nothing"
