"""The notice as one A4 page of HTML: Japanese on the left, English on the right. Pure."""

from __future__ import annotations

from config.text import Language

from ..report.html import Html, html, joined, tag
from .notice import TITLE, Notice

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
CSS = """
@page { size: A4; margin: 9mm 12mm }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 186mm; color: #111; background: #fff;
  font: 8.8pt/1.45 "Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", sans-serif }
header { border-bottom: 2pt solid #111; padding: 4mm 0 3mm }
h1 { margin: 0; font-size: 19pt; line-height: 1.3 }
h1[lang=en] { font-size: 13.5pt; font-weight: 600; color: #333 }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 0 9mm }
h2 { margin: 3mm 0 1mm; font-size: 11pt; border-bottom: .5pt solid #999 }
p { margin: 0 0 1.5mm; overflow-wrap: anywhere }
footer { margin-top: 4mm; padding-top: 2mm; border-top: 2pt solid #111; font-size: 8pt }
@media (max-width: 600px) { main { display: block } body { padding: 0 4mm } }
"""


def sheet(notice: Notice) -> str:
    """Return the whole file; it loads nothing."""
    head = joined(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{html(POLICY)}">'),
        tag("title", f"{TITLE.ja} / {TITLE.en}"),
        tag("style", Html(CSS)),
    )
    languages: tuple[Language, ...] = ("ja", "en")
    titles = [tag("h1", TITLE.of(language), lang=language) for language in languages]
    body = joined(
        tag("header", *titles),
        tag("main", *(_column(notice, language) for language in languages)),
        tag("footer", *(tag("p", notice.foot().of(each), lang=each) for each in languages)),
    )
    document = tag("html", tag("head", head), tag("body", body), lang="ja")
    return f"<!DOCTYPE html>\n{document}\n"


def _column(notice: Notice, language: Language) -> Html:
    parts = []
    for title, texts in notice.sections():
        parts.append(tag("h2", title.of(language)))
        parts += [tag("p", text.of(language)) for text in texts]
    return tag("section", *parts, lang=language)
