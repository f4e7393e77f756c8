"""A text for people in the languages of this gateway, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "ja"]

_SEPARATOR = {"en": ", ", "ja": "、"}


@dataclass(frozen=True, slots=True)
class Text:
    """One thing to say, in English and in Japanese; both with the same fields in braces."""

    en: str
    ja: str

    def of(self, language: Language, /, **fields: object) -> str:
        """Return the text in a language. Raises KeyError if a field is missing.

        A field may be a Text itself, a label such as {"en": ..., "ja": ...}, or a list.
        """
        template = self.ja if language == "ja" else self.en
        return template.format_map({name: _in(language, each) for name, each in fields.items()})


def _in(language: Language, value: object) -> object:
    match value:
        case Text():
            return value.of(language)
        case Mapping() if isinstance(value.get(language), str):
            return value[language]
        case list() | tuple():
            return _SEPARATOR[language].join(str(_in(language, each)) for each in value)
        case _:
            return value
