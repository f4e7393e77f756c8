"""What is said to people, in the languages they read: both texts stand side by side.

Imports nothing: the tools that must answer at once use it, as the control socket's errors do.
"""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """One text in Japanese and in English."""

    ja: str
    en: str

    def json(self) -> dict[str, str]:
        """Return it by language, as it stands in a document."""
        return {"ja": self.ja, "en": self.en}

    def filled(self, **values: object) -> Words:
        """Return it with its fields in braces replaced."""
        return Words(self.ja.format(**values), self.en.format(**values))
