"""A fleet's life as a page that needs nothing but itself. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..bench.figures import shown
from ..city.markup import Markup, page, table, tag
from .figures import FIGURES, broker_cpu_percent, connected
from .trial import Outcome

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 150, 52, 12, 20
STEPS_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600)
MARKS_MOST = 10  # along the time
LOOKS = 4  # of the broker in one step: Linux counts CPU time in hundredths of a second

Course = Sequence[tuple[float, float]]  # when, how much


def courses(outcome: Outcome) -> dict[str, Course]:
    """Return what changed over time, second by second of the fleet's clock."""
    connects = Counter(int(each.sent_s) for tale in outcome.tales for each in tale.attempts)
    slices = sorted(outcome.witness.slices.items())
    looks = outcome.looks
    return {
        "connects_per_s": _each_second(connects, outcome.end_s),
        "connected": connected(outcome),
        "messages_per_s": _each_second({at: s.messages for at, s in slices}, outcome.end_s),
        "records_per_s": _each_second({at: s.records for at, s in slices}, outcome.end_s),
        "payload_b_per_s": _each_second({at: s.payload_bytes for at, s in slices}, outcome.end_s),
        "broker_cpu_percent": broker_cpu_percent(looks[::LOOKS], outcome.plan.speed),
        "broker_rss_mb": [(look.at_s, look.broker_rss_mb) for look in looks],
    }


def document(outcome: Outcome, figures: Mapping[str, float]) -> str:
    """Return the whole as JSON."""
    plan = outcome.plan
    return json.dumps(
        {
            "schema": "yukimi.fleet/1",
            "gateways": plan.gateways,
            "window_s": plan.window_s,
            "speed": plan.speed,
            "control": plan.control,
            "cut_s": outcome.cut_s,
            "return_s": outcome.return_s,
            "rest_s": outcome.rest_s,
            "end_s": outcome.end_s,
            "bench_cpu_s": outcome.bench_cpu_s,
            "figures": dict(figures),
            "courses": {name: list(course) for name, course in courses(outcome).items()},
        }
    )


def html(outcome: Outcome, figures: Mapping[str, float]) -> str:
    """Return the page."""
    plan = outcome.plan
    title = f"{plan.gateways} gateways"
    if plan.control:
        title += f", control: {plan.control}"
    known = [figure for figure in FIGURES if figure.key in figures]
    rows = [[f.key, shown(figures[f.key]), f.goal(), f.what] for f in known]
    return page(
        title,
        tag("h1", title),
        tag("p", f"Cut at {outcome.cut_s:.0f} s, back at {outcome.return_s:.0f} s."),
        *(
            tag("figure", tag("figcaption", name), _plot(outcome, course))
            for name, course in courses(outcome).items()
        ),
        table(("figure", "measured", "target", ""), rows),
        language="en",
    )


def _each_second(counts: Mapping[int, float], end_s: float) -> Course:
    return [(at, counts.get(at, 0)) for at in range(int(end_s) + 1)]


def _plot(outcome: Outcome, course: Course) -> Markup:
    """Draw steps; the outage is shaded."""
    end_s = outcome.end_s or 1.0
    most = max((value for _, value in course), default=0.0) or 1.0

    def x(at_s: float) -> float:
        return round(LEFT + (WIDTH - LEFT) * max(0.0, at_s) / end_s, 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most, 1)

    def marks() -> Iterator[Markup]:
        step_s = next((step for step in STEPS_S if end_s / step <= MARKS_MOST), STEPS_S[-1])
        for at_s in range(step_s, int(end_s) + 1, step_s):
            yield tag("text", f"{at_s} s", x=x(at_s), y=HEIGHT - 5, class_="tick end")

    path = "".join(f"H{x(at_s)}V{y(value)}" for at_s, value in course) + f"H{x(end_s)}"
    return tag(
        "svg",
        tag(
            "rect",
            x=x(outcome.cut_s),
            y=TOP,
            width=round(x(outcome.return_s) - x(outcome.cut_s), 1),
            height=HEIGHT - TOP - BOTTOM,
            fill="var(--line)",
        ),
        tag("line", x1=LEFT, x2=WIDTH, y1=y(0), y2=y(0), class_="grid"),
        tag("text", shown(most), x=LEFT - 5, y=TOP + 8, class_="tick end"),
        tag("text", "0", x=LEFT - 5, y=y(0), class_="tick end"),
        *marks(),
        tag("path", d=f"M{x(0)} {y(0)}{path}", stroke="var(--plot)", class_="line"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )
