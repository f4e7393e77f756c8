"""The command line's own words in the user's language, laid out by cells, with examples.

argparse finds its words ("usage:", "expected one argument") by `gettext`, in catalogues that a
distribution would have to install. Here they are in the code, as all texts are.
"""

from __future__ import annotations

import argparse
import gettext
from collections.abc import Sequence
from typing import Any

from .display import wrap
from .language import Text, language, said

Example = tuple[str, Text]  # a whole command line, and what it does

EXAMPLES = Text("examples", "使用例")

_JA = {
    "usage: ": "使い方: ",
    "positional arguments": "引数",
    "options": "オプション",
    "show this help message and exit": "この説明を表示して終了します",
    "%(prog)s: error: %(message)s\n": "%(prog)s: エラー: %(message)s\n",
    "argument %(argument_name)s: %(message)s": "引数 %(argument_name)s: %(message)s",
    "unrecognized arguments: %s": "不明な引数です: %s",
    "not allowed with argument %s": "%s とは同時に指定できません",
    "ignored explicit argument %r": "値は指定できません: %r",
    "the following arguments are required: %s": "次の引数が必要です: %s",
    "one of the arguments %s is required": "次のいずれかの引数が必要です: %s",
    "expected one argument": "値を1つ指定してください",
    "expected at most one argument": "値は1つまでです",
    "expected at least one argument": "値を1つ以上指定してください",
    "expected %s argument": "値を%s個指定してください",
    "expected %s arguments": "値を%s個指定してください",
    "ambiguous option: %(option)s could match %(matches)s": (
        "オプション %(option)s を特定できません。候補: %(matches)s"
    ),
    "invalid %(type)s value: %(value)r": "正しい値ではありません: %(value)r (%(type)s)",
    "invalid choice: %(value)r (choose from %(choices)s)": (
        "選べない値です: %(value)r (候補: %(choices)s)"
    ),
    "unknown parser %(parser_name)r (choices: %(choices)s)": (
        "選べない値です: %(parser_name)r (候補: %(choices)s)"
    ),
}


def _word(message: str) -> str:
    if language() == "ja" and message in _JA:
        return _JA[message]
    return gettext.gettext(message)


def _counted(one: str, many: str, count: int) -> str:
    return _word(one if count == 1 else many)


# argparse looks these two names up at each message; there is no other door.
vars(argparse).update({"_": _word, "ngettext": _counted})


class Parser(argparse.ArgumentParser):
    """A parser whose help speaks the user's language and ends with examples."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(formatter_class=_Layout, **keywords)
        self._below: Any = None

    def add_subparsers(self, **keywords: Any) -> Any:
        """Let words follow that have a help of their own."""
        self._below = super().add_subparsers(**keywords)
        return self._below

    def show(self, examples: Sequence[Example]) -> None:
        """End the help with these command lines, and that of an action with those of it."""
        if self._below is not None:
            for name, action in self._below.choices.items():
                action.show([each for each in examples if name in each[0].split()])
        if not examples:
            return
        shown = [f"{said(EXAMPLES)}:"]
        for line, about in examples:
            shown += [f"  {line}", *wrap(said(about), _ABOUT_CELLS, first=_ABOUT, hang=_ABOUT)]
        self.epilog = "\n".join([*([self.epilog, ""] if self.epilog else []), *shown])


_ABOUT, _ABOUT_CELLS = " " * 6, 76


class _Layout(argparse.HelpFormatter):
    """argparse's layout, counting cells in place of characters; indented lines stay as they are."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for line in text.split("\n"):
            lines += (
                [line] if line.startswith(" ") else wrap(line, width, first=indent, hang=indent)
            )
        return "\n".join(lines)
