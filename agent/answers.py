"""What can be asked over the control socket: answers by name, each given by whoever knows it.

An answer is a function of the request's arguments. Most return one document. What goes on, or
takes long, returns a `Stream`, which is asked for its next lines whenever the client has taken the
ones before: nobody who asks keeps the others waiting, nothing piles up for who does not read.

Whoever adds one sees to it that it says nothing about people but state and released figures.
What is asked changes nothing, except where it is added as a change: that is for root and for the
user that the gateway runs as, and for nobody who asks from elsewhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from config.text import Text

Arguments = Mapping[str, Any]
Document = dict[str, Any]


class AskError(Exception):
    """A question that has no answer; `code` is for programs, `text` for people."""

    def __init__(self, code: str, text: Text) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Stream(Protocol):
    """An answer of many lines."""

    @property
    def is_over(self) -> bool:
        """Whether there will be no more lines."""
        ...

    def lines(self, now_s: float) -> list[Document]:
        """Return what is to be told now, often nothing; called again soon after."""
        ...

    def next_s(self) -> float:
        """Return when it wants to be asked again; infinite: when it has called for it."""
        ...

    def close(self) -> None:
        """Let go of everything: the client has gone, or the gateway stops."""
        ...


Answer = Callable[[Arguments], "Document | Stream"]
Change = Callable[[Arguments, int], Document]  # with the id of the user who asks


class Answers:
    """The questions that one life of the gateway can answer."""

    def __init__(self) -> None:
        self._by_name: dict[str, Answer] = {}
        self._changes: dict[str, Change] = {}

    def add(self, name: str, answer: Answer) -> None:
        """Take a question on. Raises ValueError where somebody has it already."""
        self._refuse_twice(name)
        self._by_name[name] = answer

    def add_change(self, name: str, change: Change) -> None:
        """Take something on that changes the gateway. Raises ValueError as `add` does."""
        self._refuse_twice(name)
        self._changes[name] = change

    def _refuse_twice(self, name: str) -> None:
        if name in self._by_name or name in self._changes:
            raise ValueError(f'"{name}" is answered already')

    @property
    def names(self) -> list[str]:
        """All that can be asked."""
        return sorted([*self._by_name, *self._changes])

    def ask(self, name: str, arguments: Arguments, *, user: int | None = None) -> Document | Stream:
        """Answer; `user` is who asks, as the kernel says it. Raises AskError."""
        change = self._changes.get(name)
        if change is not None:
            if user is None or user not in (0, os.geteuid()):
                raise AskError("not_permitted", NOT_PERMITTED)
            return change(arguments, user)
        answer = self._by_name.get(name)
        if answer is None:
            known = ", ".join(self.names)
            raise AskError("unknown_ask", UNKNOWN_ASK.filled(name=name[:NAME_SHOWN], known=known))
        return answer(arguments)


class Slices:
    """A long answer, served a slice at a time: each `next` on `steps` must take some ms at most.

    A step yields a line, or None where there is nothing to tell yet.
    """

    def __init__(self, steps: Iterator[Document | None]) -> None:
        self._steps = steps
        self.is_over = False

    def lines(self, now_s: float) -> list[Document]:
        """Take one step."""
        try:
            line = next(self._steps)
        except StopIteration:
            self.is_over = True
            return []
        return [] if line is None else [line]

    def next_s(self) -> float:
        """Go on at once."""
        return -math.inf

    def close(self) -> None:
        """Let go of what the steps hold."""
        self.is_over = True
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()


def text_of(arguments: Arguments, name: str) -> str:
    """Return an argument that must be a text. Raises AskError."""
    value = arguments.get(name)
    if not isinstance(value, str):
        raise AskError("wrong_argument", MUST_BE_TEXT.filled(name=name))
    return value


def number_of(arguments: Arguments, name: str, default: int, least: int, most: int) -> int:
    """Return an argument that must be a whole number from `least` to `most`. Raises AskError."""
    value = arguments.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise AskError("wrong_argument", MUST_BE_NUMBER.filled(name=name, least=least, most=most))
    return value


NAME_SHOWN = 40  # characters of what somebody sent

UNKNOWN_ASK = Text(
    'nothing is known about "{name}"; known: {known}',
    '"{name}"という問い合わせはありません。使えるもの: {known}',
)
NOT_PERMITTED = Text(
    "this changes the gateway, which only root may: sudo yukimi ...",
    "設定の変更には管理者権限が必要です: sudo yukimi ...",
)
MUST_BE_TEXT = Text("{name} must be a text", "{name}には文字列を指定してください。")
MUST_BE_NUMBER = Text(
    "{name} must be a whole number from {least} to {most}",
    "{name}には{least}から{most}までの整数を指定してください。",
)
