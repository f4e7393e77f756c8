"""How a report looks: quiet, data first, the system's own fonts, the same on paper.

Colours stand here once, so that a test can compute their contrast (WCAG 2.1, AA). Colour never says
what words do not.
"""

from __future__ import annotations

from collections.abc import Mapping

PAPER, INK, SOFT = "#ffffff", "#1c2128", "#57606a"
LINE, AXIS, RULE, SHADE = "#0b5c8a", "#6e7781", "#d5dae0", "#f3f5f7"
GOOD, WARN, BAD = "#1a6341", "#8a4b00", "#a3161a"
GOOD_BACK, WARN_BACK, BAD_BACK = "#eaf5ef", "#fff4e0", "#fdecec"
GAP, GAP_EDGE = "#e3e6ea", "#6e7781"
UP, DOWN = "#0b5c8a", "#9a5b13"

# What is read, on what: at least 4.5 to 1.
TEXTS: Mapping[str, tuple[str, str]] = {
    "text": (INK, PAPER),
    "text on shade": (INK, SHADE),
    "soft text": (SOFT, PAPER),
    "soft text on shade": (SOFT, SHADE),
    "link": (LINE, PAPER),
    "good": (GOOD, GOOD_BACK),
    "warn": (WARN, WARN_BACK),
    "bad": (BAD, BAD_BACK),
    "text on warn": (INK, WARN_BACK),
    "text on bad": (INK, BAD_BACK),
}
# What is seen, on what: at least 3 to 1.
SHAPES: Mapping[str, tuple[str, str]] = {
    "line": (LINE, PAPER),
    "line over a gap": (LINE, GAP),
    "axis": (AXIS, PAPER),
    "bars up": (UP, PAPER),
    "bars down": (DOWN, PAPER),
    "strip, good": (GOOD, PAPER),
    "strip, bad": (BAD, PAPER),
    "strip, unknown": (AXIS, PAPER),
    "edge of a gap": (GAP_EDGE, PAPER),
}

FONTS = (
    'system-ui,-apple-system,"Segoe UI",Roboto,"Hiragino Sans","Noto Sans CJK JP","Noto Sans JP",'
    '"Yu Gothic UI",Meiryo,sans-serif'
)
MONO = 'ui-monospace,"SF Mono",Menlo,Consolas,"Noto Sans Mono CJK JP",monospace'

CSS = f"""
:root{{color-scheme:light}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%;text-size-adjust:100%}}
body{{margin:0 auto;max-width:60rem;padding:1rem 1rem 3rem;background:{PAPER};color:{INK};
font:16px/1.55 {FONTS};font-variant-numeric:tabular-nums;overflow-wrap:anywhere}}
header{{border-bottom:2px solid {INK};padding-bottom:.75rem}}
h1{{font-size:1.5rem;line-height:1.25;margin:0}}
h1 small{{display:block;font-size:.875rem;font-weight:400;color:{SOFT}}}
h2{{font-size:1.1875rem;line-height:1.3;margin:2.25rem 0 .5rem;border-bottom:1px solid {RULE};
padding-bottom:.25rem}}
h3{{font-size:1rem;line-height:1.35;margin:1.25rem 0 .25rem}}
p{{margin:.4rem 0}}
.soft,figcaption,caption{{color:{SOFT};font-size:.875rem}}
nav{{margin:.75rem 0 0;font-size:.875rem}}
nav a{{color:{LINE};margin-right:.9rem;display:inline-block;padding:.2rem 0}}
.verdict{{margin:1rem 0 0;padding:.7rem .9rem;border-left:5px solid}}
.verdict p{{margin:0}}
.verdict ul{{margin:.3rem 0 0;padding-left:1.2rem;color:{INK}}}
.verdict li{{margin:.2rem 0}}
.good{{color:{GOOD};background:{GOOD_BACK}}}
.warn{{color:{WARN};background:{WARN_BACK}}}
.bad{{color:{BAD};background:{BAD_BACK}}}
.tag{{display:inline-block;padding:0 .5em;border-radius:.25em;font-size:.8125rem;font-weight:600;
white-space:nowrap}}
.plain{{color:{INK};background:{SHADE}}}
.figures{{display:grid;grid-template-columns:1fr 1fr;gap:1px;
margin:1rem 0 0;background:{RULE};border:1px solid {RULE}}}
.figures div{{background:{PAPER};padding:.6rem .75rem}}
.figures dt{{color:{SOFT};font-size:.8125rem}}
.figures dd{{margin:0;font-size:1.125rem;font-weight:600;line-height:1.35}}
.figures dd small{{display:block;font-size:.8125rem;font-weight:400;color:{SOFT}}}
.pairs{{display:grid;grid-template-columns:minmax(6.5rem,1fr) minmax(0,2.6fr);margin:.5rem 0}}
.pairs dt,.pairs dd{{margin:0;padding:.25rem .75rem .25rem 0;border-bottom:1px solid {RULE}}}
.pairs dt{{color:{SOFT}}}
.plots{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr));
gap:.5rem 1.5rem}}
figure{{margin:.5rem 0}}
figcaption b{{color:{INK};font-weight:600}}
figcaption{{margin-bottom:.15rem}}
svg{{display:block;width:100%;height:auto}}
.strip{{max-width:26rem}}
svg text{{font:10px {FONTS};fill:{SOFT}}}
svg .y{{text-anchor:end}} svg .x{{text-anchor:middle}}
svg .line{{fill:none;stroke:{LINE};stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}}
svg .grid{{stroke:{RULE};fill:none}} svg .axis,svg .zero{{stroke:{AXIS};fill:none}}
svg .gap{{fill:{GAP}}}
svg .up{{fill:{UP}}} svg .down{{fill:{DOWN}}}
svg .good{{fill:{GOOD}}} svg .bad{{fill:{BAD}}} svg .unknown{{fill:{PAPER};stroke:{AXIS}}}
.key{{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 0;vertical-align:-.05em}}
.key.gap{{background:{GAP};outline:1px solid {GAP_EDGE}}}
.key.up{{background:{UP}}} .key.down{{background:{DOWN}}}
.key.good{{background:{GOOD}}} .key.bad{{background:{BAD}}}
.key.unknown{{outline:1px solid {AXIS}}}
table{{border-collapse:collapse;width:100%;margin:.5rem 0}}
caption{{text-align:left}}
th,td{{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;
border-bottom:1px solid {RULE}}}
th{{font-size:.8125rem;color:{SOFT};font-weight:600}}
td:first-child{{white-space:nowrap}} .when{{white-space:nowrap}}
.checks{{list-style:none;margin:.5rem 0;padding:0}}
.checks li{{padding:.45rem 0;border-bottom:1px solid {RULE}}}
.checks code{{color:{SOFT}}}
pre,code{{font:.8125rem/1.5 {MONO}}}
pre{{background:{SHADE};padding:.75rem;white-space:pre-wrap;margin:.5rem 0}}
footer{{break-inside:avoid;margin-top:2rem;border-top:1px solid {RULE};padding-top:.5rem}}
@media (min-width:40rem),print{{.figures{{grid-template-columns:1fr 1fr 1fr}}
.two{{grid-template-columns:minmax(6.5rem,1fr) 2fr minmax(6.5rem,1fr) 2fr}}}}
@page{{size:A4;margin:14mm 14mm 16mm}}
@media print{{
html{{font-size:9.5pt}}
body{{max-width:none;padding:0;font-size:1rem;line-height:1.4}}
nav{{display:none}}
h2,h3,h2+p,h3+p{{break-after:avoid}}
footer{{margin-top:1rem;break-before:avoid}}
h2{{margin-top:1.4rem}}
figure,.verdict,.figures,li,tr,.pairs{{break-inside:avoid}}
.plots{{grid-template-columns:1fr 1fr}}
.tag,.good,.warn,.bad,.key,.figures{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
pre{{font-size:7.5pt}}
}}
"""


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.1, "contrast ratio")."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
