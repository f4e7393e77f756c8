"""A report as one HTML file: what needs attention, then the day, then what it rests on. Pure."""

from __future__ import annotations

import json

from config.text import Language, Text

from ..record import utc_ns
from ..redaction import REMOVED
from . import names, words
from .facts import Document, Facts
from .html import Html, html, joined, tag
from .pen import ROWS, TEXT_CHARACTERS, Pen, size
from .plots import Day, strip
from .sensors import Budget, sensor_section
from .style import CSS
from .top import Top

DAY_S = 86_400
PLOTS_BYTES = 600_000
CONFIG_CHARACTERS = 60_000

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(facts: Facts, language: Language) -> str:
    """Return the whole file."""
    return _Page(facts, language).whole()


class _Page:
    def __init__(self, facts: Facts, language: Language) -> None:
        self._facts = facts
        self._language = language
        self._pen = Pen(facts, language)
        self._top = Top(facts, self._pen, language)
        self._day = Day(facts.made_s - DAY_S, facts.made_s, facts.zone, language)
        self._running: Document = facts.running or {}

    def whole(self) -> str:
        sections = [
            ("alerts", words.ALERTS, self._alerts()),
            ("sensors", words.SENSORS, self._sensors()),
            ("delivery", words.DELIVERY, self._delivery()),
            ("checks", words.CHECKS, self._checks()),
            ("identity", words.IDENTITY, self._identity()),
            ("machine", words.MACHINE, self._machine()),
        ]
        title = f"{self._pen.say(words.TITLE)}: {self._pen.name()}"
        head = joined(
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{html(POLICY)}">'),
            tag("title", title),
            tag("style", Html(CSS)),
        )
        links = [tag("a", self._pen.say(text), href=f"#{name}") for name, text, _ in sections]
        body = joined(
            self._top.header(),
            self._top.verdict(),
            self._top.figures(),
            tag("nav", *links, aria_label=self._pen.say(words.CONTENTS)),
            tag(
                "main",
                *(
                    tag("section", tag("h2", self._pen.say(text), id=name), content)
                    for name, text, content in sections
                ),
            ),
            tag("footer", self._pen.p(words.FOOT, version=self._facts.versions.get("yukimi", ""))),
        )
        document = tag("html", tag("head", head), tag("body", body), lang=self._language)
        return f"<!DOCTYPE html>\n{document}\n"

    # Sections

    def _alerts(self) -> Html:
        if not self._running:
            left = (self._facts.spool or {}).get("alarms")
            told = self._pen.p(words.ALERTS_LEFT, count=left) if left else ""
            return joined(self._pen.p(words.ALERTS_UNKNOWN), told)
        raised = [
            [
                self._severity(alert.get("severity")),
                self._pen.when(alert.get("since")),
                self._pen.of(alert.get("text")),
            ]
            for alert in self._running.get("alerts") or ()
        ]
        edges = [
            [self._pen.at(edge.get("time")), self._where(edge), self._edge(edge)]
            for edge in self._facts.edges
        ]
        head = (words.WHEN, words.WHERE, words.WHAT)
        since = (words.LEVEL, words.FROM, words.WHAT)
        return joined(
            self._pen.table(words.ALERTS_NOW, since, raised)
            if raised
            else self._pen.p(words.NO_ALERTS),
            self._pen.table(words.ALERTS_DAY, head, edges)
            if edges
            else self._pen.p(words.NO_EDGES),
        )

    def _where(self, edge: Document) -> str:
        sensor = edge.get("sensor")
        return (
            self._pen.say(words.THE_GATEWAY)
            if sensor is None
            else self._pen.sensor_name(str(sensor))
        )

    def _edge(self, edge: Document) -> Html:
        state = str(edge.get("state"))
        said = self._pen.say(names.EDGES.get(state, Text(state, state)))
        return joined(said, " ", tag("code", edge.get("alert")))

    def _severity(self, severity: object) -> Html:
        style = {"critical": "bad", "warning": "warn"}.get(str(severity), "plain")
        said = names.SEVERITIES.get(str(severity), Text(str(severity), str(severity)))
        return tag("span", self._pen.say(said), class_=f"tag {style}")

    def _sensors(self) -> Html:
        facts = self._facts
        parts = [self._pen.p(words.DAY_OF, zone=self._pen.zone)]
        if facts.running is None:
            parts = [self._pen.p(words.NO_HISTORY)]
        budget = Budget(PLOTS_BYTES)
        for index, sensor in enumerate(facts.sensors):
            parts.append(
                sensor_section(
                    sensor,
                    f"s{index}",
                    self._pen.sensor_name(sensor.id),
                    self._day,
                    budget,
                    at=self._pen.at,
                    pairs=self._pen.pairs,
                )
            )
        return joined(*parts)

    def _delivery(self) -> Html:
        spool = self._facts.spool or {}
        used, room = spool.get("bytes"), spool.get("max_bytes")
        waiting, held = spool.get("waiting"), spool.get("held")
        lost, uplink = spool.get("lost"), self._running.get("uplink") or {}
        failure = uplink.get("failure") or {}
        return joined(
            self._strip() if self._running else "",
            self._pen.pairs(
                [
                    (words.BROKER, uplink.get("broker")),
                    (words.TROUBLE, failure.get("reason") if not uplink.get("broker") else None),
                    (words.SPOOL_FILE, spool.get("path")),
                    (words.ROOM, _of_room(used, room)),
                    (words.WAITING, self._count(waiting)),
                    (words.HELD, self._count(held) if held else None),
                    (words.LOST, self._count(lost) if lost else None),
                ]
            ),
        )

    def _count(self, count: object) -> str | None:
        if not isinstance(count, int):
            return None
        return self._pen.say(words.RECORDS, count=f"{count:,}")

    def _strip(self) -> Html:
        facts, day = self._facts, self._day
        since = facts.remembers_since
        known_s = day.start_s if since is None else max(day.start_s, utc_ns(since) / 1e9)
        spans = [
            (utc_ns(each.start) / 1e9, day.end_s if each.end is None else utc_ns(each.end) / 1e9)
            for each in facts.outages
        ]
        spans = [(max(a, known_s), b) for a, b in spans if b > known_s]
        hours = f"{sum(b - a for a, b in spans) / 3600:.1f}"
        told = [
            self._pen.say(words.CONNECTION),
            self._pen.say(words.STRIP_TOLD, count=len(spans), hours=hours)
            if spans
            else self._pen.say(words.STRIP_NONE),
        ]
        if known_s > day.start_s:
            told.append(self._pen.say(words.KNOWN_SINCE, at=day.clock(known_s)))
        keys = [
            joined(tag("span", class_=f"key {style}"), self._pen.say(text), " ")
            for style, text in (
                ("good", words.STRIP_KEY),
                ("bad", words.STRIP_BAD),
                ("unknown", words.STRIP_UNKNOWN),
            )
        ]
        drawn = Html(strip("uplink", told, spans, (known_s, day.end_s), day))
        caption = tag("figcaption", tag("b", told[0]), " ", " ".join(told[1:]), " ", *keys)
        rows = [
            [
                self._pen.at(each.start),
                self._pen.say(words.STILL) if each.end is None else self._pen.when(each.end),
                each.why[:TEXT_CHARACTERS],
            ]
            for each in facts.outages
        ]
        head = (words.FROM, words.TO, words.WHY)
        return joined(
            tag("figure", caption, drawn, class_="strip"),
            self._pen.table(words.STRIP_BAD, head, rows) if rows else "",
        )

    def _checks(self) -> Html:
        checks = self._facts.checks
        if checks is None:
            return self._pen.p(words.NO_CHECKS)
        count = {
            key: sum(check.get("status") == status for check in checks)
            for key, status in (
                ("good", "PASS"),
                ("warn", "WARN"),
                ("bad", "FAIL"),
                ("skip", "SKIP"),
            )
        }
        # In the order of diagnosis: the first failure is the cause.
        told = [
            check
            for status in ("FAIL", "WARN")
            for check in checks
            if check.get("status") == status
        ]
        return joined(
            self._pen.p(words.CHECKED, **count),
            tag("ul", *map(self._check, told[:ROWS]), class_="checks") if told else "",
            self._pen.pairs(
                [
                    (words.PASSED, self._titles("PASS")),
                    (words.SKIPPED, self._titles("SKIP")),
                ]
            ),
        )

    def _titles(self, status: str) -> str:
        """Name the checks of a status, each once and with what it was about."""
        about: dict[str, list[str]] = {}
        for check in self._facts.checks or ():
            if check.get("status") == status:
                title = self._pen.of(check.get("title")) or str(check.get("id"))
                about.setdefault(title, []).append(str(check.get("subject") or ""))
        named = [
            f"{title} ({', '.join(filter(None, subjects))})" if any(subjects) else title
            for title, subjects in about.items()
        ]
        return ("、" if self._language == "ja" else "; ").join(named)[:CONFIG_CHARACTERS]

    def _check(self, check: Document) -> Html:
        status = str(check.get("status"))
        style = {"FAIL": "bad", "WARN": "warn", "PASS": "good"}.get(status, "plain")
        shown = names.CHECKS.get(status, Text(status, status))
        then = self._pen.of(check.get("next"))
        about = check.get("subject")
        return tag(
            "li",
            tag("span", self._pen.say(shown), class_=f"tag {style}"),
            " ",
            tag("strong", self._pen.of(check.get("title")) or check.get("id")),
            f" {about}" if about else "",
            " ",
            tag("code", check.get("id")),
            tag("p", self._pen.of(check.get("evidence"))),
            self._pen.p(words.THEN, None, next=then) if then else "",
        )

    def _identity(self) -> Html:
        facts = self._facts
        gateway = self._running.get("gateway") or {}
        place = facts.location
        where = None if place is None else f"{place['latitude']:.5f}, {place['longitude']:.5f}"
        known = self._pen.pairs(
            [
                (words.GATEWAY, facts.gateway),
                (words.LABEL, " / ".join((facts.label or {}).values())),
                (words.LOCATION, where),
                (words.OWNER, facts.owner),
                (words.LICENCE, facts.licence),
                (words.RUN, gateway.get("run")),
                (words.CONFIG_ID, facts.configuration_id),
                (words.POLICY, gateway.get("policy")),
            ]
        )
        problems = tag("ul", *(tag("li", self._pen.say(each)) for each in facts.problems[:ROWS]))
        return joined(
            known,
            tag("h3", self._pen.say(words.PROBLEMS)) if facts.problems else "",
            problems if facts.problems else "",
            self._configuration(),
        )

    def _configuration(self) -> Html:
        if self._facts.configuration is None:
            return self._pen.p(words.NO_CONFIG)
        text = json.dumps(self._facts.configuration, ensure_ascii=False, indent=2, default=str)
        more = len(text) - CONFIG_CHARACTERS
        if more > 0:
            text = f"{text[:CONFIG_CHARACTERS]}\n{self._pen.say(words.CUT, count=more)}"
        return joined(self._pen.p(words.CONFIG_TEXT, removed=REMOVED), tag("pre", text))

    def _machine(self) -> Html:
        used = self._running.get("resources") or {}
        rss, cpu_s = used.get("rss_bytes"), used.get("cpu_s")
        pairs: list[tuple[Text, object]] = [
            (words.MEMORY, None if rss is None else size(rss)),
            (words.CPU, None if cpu_s is None else f"{cpu_s} s"),
            (words.THREADS, used.get("threads")),
            (words.FILES, used.get("fds")),
        ]
        pairs += [(Text(name, name), version) for name, version in self._facts.versions.items()]
        return self._pen.pairs(pairs, "pairs two")


def _of_room(used: object, room: object) -> str | None:
    if not isinstance(used, int):
        return None
    return f"{size(used)} / {size(room)}" if isinstance(room, int) else size(used)
