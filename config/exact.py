"""Exact fractions, as the configuration and the ledger write them: "1/4", "0.25".

Python's own reading of "1e-999999999" builds a number of a thousand million digits first.
"""

from __future__ import annotations

from fractions import Fraction

MOST_CHARACTERS = 40
MOST_EXPONENT = 99


def fraction(text: str) -> Fraction:
    """Return the fraction that a text says. Raises TypeError, ValueError, ZeroDivisionError."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a fraction of more than {MOST_CHARACTERS} characters")
    exponent = text.lower().partition("e")[2]
    if exponent and abs(int(exponent)) > MOST_EXPONENT:
        raise ValueError(f"an exponent beyond {MOST_EXPONENT}")
    return Fraction(text)
