"""HTML in which nothing from outside can be anything but text."""

from __future__ import annotations

import re
from html import escape

# Control characters are no part of HTML, escaped or not.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is HTML already; any other is escaped where it is put in."""

    __slots__ = ()


def html(content: object) -> Html:
    """Return HTML as it is, and anything else as text."""
    if isinstance(content, Html):
        return content
    return Html(escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(content))))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element; `class_` is the attribute `class`, None leaves one out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{told}>{''.join(map(html, children))}</{name}>")


def joined(*parts: object, by: str = "") -> Html:
    """Join parts."""
    return Html(html(by).join(map(html, parts)))
