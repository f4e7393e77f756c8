"""HTML put together from parts: what is text is escaped, and there is no other way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Markup(NamedTuple):
    """What is HTML already."""

    html: str


_VOID = frozenset(("br", "hr", "img"))

Part = Markup | str | float | None


def text(part: Part) -> str:
    """Return a part as HTML; None is a dash."""
    if isinstance(part, Markup):
        return part.html
    return "–" if part is None else escape(str(part))


def tag(name: str, *parts: Part, **attributes: str | float | None) -> Markup:
    """Return an element; `class_` is the attribute `class`, None leaves an attribute out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{''.join(map(text, parts))}</{name}>")


def joined(parts: Iterable[Part]) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(map(text, parts)))


def table(head: Sequence[Part], rows: Iterable[Sequence[Part]]) -> Markup:
    """Return a table; numbers stand to the right."""
    body = [tag("tr", *(_cell(part) for part in row)) for row in rows]
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(_head(part) for part in head))),
            tag("tbody", *body),
        ),
        class_="wide",
    )


def _head(part: Part) -> Markup:
    if isinstance(part, Markup) and part.html.startswith("<th"):
        return part
    return tag("th", part)


def _cell(part: Part) -> Markup:
    if isinstance(part, Markup) and part.html.startswith("<td"):
        return part
    is_number = isinstance(part, int | float) and not isinstance(part, bool)
    return tag("td", f"{part:,}" if is_number else part, class_="n" if is_number else None)


def page(title: str, *parts: Part, language: str = "ja", refresh_s: int | None = None) -> str:
    """Return a whole page that needs nothing but itself."""
    refresh = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{joined(parts).html}</body></html>\n"
    )


STYLE = """
:root{color-scheme:light dark;--ink:#17202a;--soft:#5d6d7e;--line:#d5dbe1;--paper:#fff;
--band:#f4f7f9;--bad:#b03a2e;--warn:#9a6700;--good:#1e7b4f;--plot:#1f618d;--second:#b9770e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa7b4;--line:#30363d;
--paper:#0f1419;--band:#171d24;--bad:#ff8a80;--warn:#e3b341;--good:#56d394;--plot:#79b8e8;
--second:#e8b45a}}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,"Noto Sans CJK JP","Noto Sans JP",sans-serif;color:var(--ink);
background:var(--paper);margin:0 auto;padding:1.2rem;max-width:76rem}
h1{font-size:1.45rem;margin:.2rem 0 .6rem}h2{font-size:1.12rem;margin:1.8rem 0 .5rem}
p{margin:.4rem 0}a{color:var(--plot)}small,.soft{color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{padding:.34rem .6rem;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top;white-space:nowrap}
th{background:var(--band);font-weight:600;white-space:normal}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.text{white-space:normal;min-width:14rem}
.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn)}.good{color:var(--good)}
.sums{display:flex;flex-wrap:wrap;gap:.7rem;margin:.8rem 0}
.sums div{background:var(--band);border-radius:.5rem;padding:.55rem .9rem;min-width:8.5rem}
.sums b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
figure{margin:0;background:var(--band);border-radius:.5rem;padding:.7rem .8rem}
figcaption{font-weight:600;margin-bottom:.3rem}svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line);stroke-width:1}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}
.band{opacity:.18}.tick{font-size:10px;fill:var(--soft)}.end{text-anchor:end}
.middle{text-anchor:middle}.legend{display:flex;gap:1rem;font-size:.86rem;margin:.2rem 0 0;
font-variant-numeric:tabular-nums}.key0{color:var(--plot)}.key1{color:var(--second)}
.corner{float:right;margin:.2rem 0}
"""
