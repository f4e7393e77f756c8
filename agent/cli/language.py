"""The language of what is said to people: Japanese or English, as the locale says.

    from .language import Text, said

    WAITING = Text("{count} records wait", "未送信の記録が{count}件あります")
    print(said(WAITING, count=3))

A text is a pair, written where it is used. `said` picks the language; fields are named, and may be
texts or a configuration's labels themselves. What machines read (`--json`, logs, what is sent)
never goes through `said`. A Text made below the command line (an error, a finding of a scan) is the
English string for all who do not ask for more. For columns and colour see display.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from config.text import Language, Text, text_of

__all__ = ["Language", "Text", "language", "said", "text_of"]

_SAMPLE = "日本語、カナ（℃）"


def language(environment: Mapping[str, str] | None = None, encoding: str | None = None) -> Language:
    """Return the language to speak; by default to this process's user, on its standard output.

    The first of LC_ALL, LC_MESSAGES and LANG that is set decides. The text console of Linux has no
    Japanese glyphs, and some encodings no such characters: English there.
    """
    environment = os.environ if environment is None else environment
    named = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next((each for each in named if each), "")
    if not locale.startswith("ja") or environment.get("TERM") == "linux":
        return "en"
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        _SAMPLE.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "en"
    return "ja"


def said(text: object, /, **fields: object) -> str:
    """Return a text, or what an error says, in the user's language; other values as they are.

    Raises KeyError if a field is missing.
    """
    return text_of(text).of(language(), **fields)
