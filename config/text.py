"""A text for people in the languages of this gateway, side by side.

The English one is also what machines and logs get: a `Text` is that string, and knows its Japanese.
Whoever joins or formats it as a string gets English; whoever speaks to people asks `of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Self

Language = Literal["en", "ja"]

_SEPARATOR = {"en": ", ", "ja": "、"}


class Text(str):
    """One thing to say, in English and in Japanese; both with the same fields in braces, if any."""

    __slots__ = ("ja",)
    ja: str

    def __new__(cls, en: str, ja: str) -> Self:
        """Pair two texts."""
        text = super().__new__(cls, en)
        text.ja = str(ja)
        return text

    @property
    def en(self) -> str:
        """The English text, alone."""
        return str(self)

    def of(self, language: Language, /, **fields: object) -> str:
        """Return the text in a language. Raises KeyError if a field is missing.

        A field may be a Text itself, an error that holds one, a label such as {"en": ..., "ja":
        ...}, or a list. Without fields the text is said as it stands.
        """
        template = self.ja if language == "ja" else self.en
        if not fields:
            return template
        return template.format_map({name: _in(language, each) for name, each in fields.items()})

    def __add__(self, other: str) -> Text:
        """Join two texts, in each language."""
        return Text(str.__add__(self, other), self.ja + text_of(other).ja)

    def __radd__(self, other: str) -> Text:
        """Join a string and a text, in each language."""
        return Text(other + self.en, text_of(other).ja + self.ja)

    def filled(self, **fields: object) -> Text:
        """Return the pair with its fields filled in. Raises KeyError if one is missing."""
        return Text(self.of("en", **fields), self.of("ja", **fields))


def text_of(value: object) -> Text:
    """Return the text that `value` is or, as an error, holds; else its string in both languages."""
    if isinstance(value, BaseException):
        held = getattr(value, "text", value.args[0] if len(value.args) == 1 else None)
        value = held if isinstance(held, Text) else value
    return value if isinstance(value, Text) else Text(str(value), str(value))


def joined(separator: str, texts: Iterable[object]) -> Text:
    """Join texts, in each language."""
    pairs = [text_of(each) for each in texts]
    return Text(separator.join(pairs), separator.join(each.ja for each in pairs))


def _in(language: Language, value: object) -> object:
    match value:
        case Text() | BaseException():
            return text_of(value).of(language)
        case Mapping() if isinstance(value.get(language), str):
            return value[language]
        case list() | tuple():
            return _SEPARATOR[language].join(str(_in(language, each)) for each in value)
        case _:
            return value
