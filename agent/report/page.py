"""A report as one HTML file: what needs attention, then the day, then what it rests on. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from config.text import Language, Text

from ..record import utc_ns
from ..redaction import REMOVED
from . import names, words
from .facts import Document, Facts
from .html import Html, html, joined, tag
from .plots import Day, strip
from .sensors import Budget, sensor_section
from .style import CSS

DAY_S = 86_400
PLOTS_BYTES = 600_000
CONFIG_CHARACTERS = 60_000
ROWS = 100  # of a table
REASONS = 8  # at the top
TEXT_CHARACTERS = 600  # of one thing that is told

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(facts: Facts, language: Language) -> str:
    """Return the whole file."""
    return _Page(facts, language).whole()


class _Page:
    def __init__(self, facts: Facts, language: Language) -> None:
        self._facts = facts
        self._language = language
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
        title = f"{self._say(words.TITLE)}: {self._name()}"
        head = joined(
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{html(POLICY)}">'),
            tag("title", title),
            tag("style", Html(CSS)),
        )
        links = [tag("a", self._say(text), href=f"#{name}") for name, text, _ in sections]
        body = joined(
            self._header(),
            self._verdict(),
            self._figures(),
            tag("nav", *links, aria_label=self._say(words.CONTENTS)),
            tag(
                "main",
                *(
                    tag("section", tag("h2", self._say(text), id=name), content)
                    for name, text, content in sections
                ),
            ),
            tag("footer", self._p(words.FOOT, version=self._facts.versions.get("yukimi", ""))),
        )
        document = tag("html", tag("head", head), tag("body", body), lang=self._language)
        return f"<!DOCTYPE html>\n{document}\n"

    # Saying things

    def _say(self, text: object, **fields: object) -> str:
        shown = text if isinstance(text, Text) else Text(str(text), str(text))
        return shown.of(self._language, **fields)[: 10 * TEXT_CHARACTERS]

    def _p(self, text: Text, style: str | None = "soft", **fields: object) -> Html:
        return tag("p", self._say(text, **fields), class_=style)

    def _of(self, pair: object) -> str:
        """Return the reader's text of a label such as {"ja": ..., "en": ...}."""
        if isinstance(pair, dict):
            other = "en" if self._language == "ja" else "ja"
            pair = pair.get(self._language) or pair.get(other) or ""
        return str(pair if pair is not None else "")[:TEXT_CHARACTERS]

    def _name(self) -> str:
        return self._of(self._facts.label) or self._facts.gateway

    def _at(self, utc: object, *, seconds: bool = False) -> str:
        """Return an instant in the place's own time."""
        try:
            at_s = utc_ns(str(utc)) / 1e9
        except ValueError:
            return self._say(words.UNKNOWN)
        return self._local(at_s, "%Y-%m-%d %H:%M:%S" if seconds else "%m-%d %H:%M")

    def _local(self, at_s: float, shape: str) -> str:
        return f"{datetime.fromtimestamp(at_s, tz=UTC).astimezone(self._facts.zone):{shape}}"

    @property
    def _zone(self) -> str:
        return str(self._facts.zone)

    def _pairs(self, pairs: Sequence[tuple[Text, object]]) -> Html:
        shown = [(name, value) for name, value in pairs if value not in (None, "")]
        inside = (
            part for name, value in shown for part in (tag("dt", self._say(name)), tag("dd", value))
        )
        return tag("dl", *inside, class_="pairs")

    def _table(self, caption: Text, head: Sequence[Text], rows: Sequence[Sequence[object]]) -> Html:
        more = len(rows) - ROWS
        body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows[-ROWS:]]
        return joined(
            tag(
                "table",
                tag("caption", self._say(caption)),
                tag("tr", *(tag("th", self._say(each), scope="col") for each in head)),
                *body,
            ),
            self._p(words.MORE, count=more) if more > 0 else "",
        )

    # The top

    def _header(self) -> Html:
        made = self._say(
            words.MADE, local=self._local(self._facts.made_s, "%Y-%m-%d %H:%M"), zone=self._zone
        )
        kicker = tag("small", self._say(words.TITLE))
        who = joined(self._facts.gateway, made, by=" · ")
        return tag("header", tag("h1", kicker, self._name()), tag("p", who, class_="soft"))

    def _verdict(self) -> Html:
        bad, warn = list(self._bad()), list(self._warn())
        style = "bad" if bad else "warn" if warn else "good"
        say = {"bad": words.ACT, "warn": words.LOOK, "good": words.GOOD}[style]
        reasons = [*bad, *warn]
        shown = [tag("li", each) for each in reasons[:REASONS]]
        if len(reasons) > REASONS:
            shown.append(tag("li", self._say(words.MORE, count=len(reasons) - REASONS)))
        parts = [tag("p", tag("strong", self._say(say)))]
        if shown:
            parts.append(tag("ul", *shown))
        return tag("div", *parts, class_=f"verdict {style}")

    def _bad(self) -> Iterator[str]:
        facts = self._facts
        if facts.running is None:
            why = self._say(facts.why_silent) if facts.why_silent else self._say(words.UNKNOWN)
            yield self._say(words.NOT_RUNNING, why=why)
        if facts.spool_trouble is not None:
            yield self._say(words.SPOOL_TROUBLE, why=facts.spool_trouble)
        if (facts.spool or {}).get("why_volatile"):
            yield self._say(words.IN_MEMORY)
        yield from self._alerts_of("critical")
        yield from self._checks_of("FAIL")

    def _warn(self) -> Iterator[str]:
        running = self._running
        if (running.get("gateway") or {}).get("refused"):
            yield self._say(words.REFUSED)
        if running and not (running.get("uplink") or {}).get("connected_since"):
            yield self._say(words.NOT_CONNECTED)
        if running and (running.get("clock") or {}).get("state") != "synced":
            yield self._say(words.CLOCK_UNKNOWN)
        for sensor in self._facts.sensors:
            state = (sensor.now or {}).get("state")
            if state in ("silent", "ignored"):
                shown = self._say(names.STATES[state])
                yield self._say(words.SILENT, sensor=self._sensor_name(sensor.id), state=shown)
        yield from self._alerts_of("warning")
        yield from self._checks_of("WARN")

    def _alerts_of(self, severity: str) -> Iterator[str]:
        for alert in self._running.get("alerts") or ():
            if alert.get("severity") == severity:
                yield self._of(alert.get("text"))

    def _checks_of(self, status: str) -> Iterator[str]:
        for check in self._facts.checks or ():
            if check.get("status") == status:
                evidence = self._of(check.get("evidence"))
                title = self._of(check.get("title")) or check.get("id")
                yield self._say(words.CHECK_FAILED, title=title, evidence=evidence)

    def _figures(self) -> Html:
        running = self._running
        states = [(sensor.now or {}).get("state") for sensor in self._facts.sensors]
        good = sum(state in ("ok", "warmup") for state in states)
        working = self._say(words.WORKING, good=good, all=len(states))
        raised = running.get("alerts") or []
        cards = [
            (words.RUNNING, *self._running_figure()),
            (words.UPLINK, *self._uplink_figure()),
            (words.WAITING, *self._waiting_figure()),
            (words.SENSORS, working if running else str(len(states)), ""),
            (words.ALERTS, self._alerts_figure(len(raised)) if running else "–", ""),
            (words.CLOCK, *self._clock_figure()),
        ]
        return tag(
            "dl",
            *(
                tag("div", tag("dt", self._say(name)), tag("dd", value, tag("small", more)))
                for name, value, more in cards
            ),
            class_="figures",
        )

    def _alerts_figure(self, count: int) -> str:
        return self._say(words.RAISED, count=count) if count else self._say(words.NONE)

    def _running_figure(self) -> tuple[str, str]:
        gateway = self._running.get("gateway")
        if not gateway:
            return self._say(words.NOT_ANSWERING), ""
        since = self._say(words.SINCE, at=self._at(gateway.get("since")))
        return duration(gateway.get("uptime_s") or 0, self._language), since

    def _uplink_figure(self) -> tuple[str, str]:
        if not self._running:
            return "–", ""
        since = (self._running.get("uplink") or {}).get("connected_since")
        if since:
            return self._say(words.CONNECTED), self._say(words.SINCE, at=self._at(since))
        began = next((each.start for each in reversed(self._facts.outages) if not each.end), None)
        more = self._say(words.SINCE, at=self._at(began)) if began else ""
        return self._say(words.OFFLINE), more

    def _waiting_figure(self) -> tuple[str, str]:
        spool = self._facts.spool
        if spool is None:
            return "–", ""
        oldest = spool.get("oldest")
        more = self._say(words.OLDEST, at=self._at(oldest)) if oldest else ""
        return f"{spool.get('waiting', 0):,}", more

    def _clock_figure(self) -> tuple[str, str]:
        clock = self._running.get("clock")
        if not clock:
            return "–", ""
        state, error_s = str(clock.get("state")), clock.get("error_s")
        shown = self._say(words.CLOCK_STATES.get(state, Text(state, state)))
        return shown, "" if error_s is None else self._say(words.WITHIN, error=f"{error_s:.3g}")

    # Sections

    def _alerts(self) -> Html:
        raised = [
            [
                self._severity(alert.get("severity")),
                self._at(alert.get("since")),
                self._of(alert.get("text")),
            ]
            for alert in self._running.get("alerts") or ()
        ]
        edges = [
            [self._at(edge.get("time")), self._where(edge), self._edge(edge)]
            for edge in self._facts.edges
        ]
        head = (words.WHEN, words.WHERE, words.WHAT)
        since = (words.ALERTS, words.FROM, words.WHAT)
        return joined(
            self._table(words.ALERTS_NOW, since, raised) if raised else self._p(words.NO_ALERTS),
            self._table(words.ALERTS_DAY, head, edges) if edges else self._p(words.NO_EDGES),
        )

    def _where(self, edge: Document) -> str:
        sensor = edge.get("sensor")
        return self._say(words.THE_GATEWAY) if sensor is None else self._sensor_name(str(sensor))

    def _edge(self, edge: Document) -> Html:
        state = str(edge.get("state"))
        said = self._say(names.EDGES.get(state, Text(state, state)))
        return joined(tag("code", edge.get("alert")), " ", said)

    def _severity(self, severity: object) -> Html:
        style = {"critical": "bad", "warning": "warn"}.get(str(severity), "plain")
        said = names.SEVERITIES.get(str(severity), Text(str(severity), str(severity)))
        return tag("span", self._say(said), class_=f"tag {style}")

    def _sensor_name(self, sensor_id: str) -> str:
        found = next((each for each in self._facts.sensors if each.id == sensor_id), None)
        label = self._of(found.label) if found is not None else ""
        return f"{label} ({sensor_id})" if label else sensor_id

    def _sensors(self) -> Html:
        facts = self._facts
        parts = [self._p(words.DAY_OF, zone=self._zone)]
        if facts.running is None:
            parts = [self._p(words.NO_HISTORY)]
        budget = Budget(PLOTS_BYTES)
        for index, sensor in enumerate(facts.sensors):
            parts.append(
                sensor_section(
                    sensor,
                    f"s{index}",
                    self._sensor_name(sensor.id),
                    self._day,
                    budget,
                    at=self._at,
                    pairs=self._pairs,
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
            self._pairs(
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
        return self._say(words.RECORDS, count=f"{count:,}")

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
            self._say(words.CONNECTION),
            self._say(words.STRIP_TOLD, count=len(spans), hours=hours)
            if spans
            else self._say(words.STRIP_NONE),
        ]
        if known_s > day.start_s:
            told.append(self._say(words.KNOWN_SINCE, at=day.clock(known_s)))
        keys = [
            joined(tag("span", class_=f"key {style}"), self._say(text), " ")
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
                self._at(each.start),
                self._say(words.STILL) if each.end is None else self._at(each.end),
                each.why[:TEXT_CHARACTERS],
            ]
            for each in facts.outages
        ]
        head = (words.FROM, words.TO, words.WHY)
        return joined(
            tag("figure", drawn, caption),
            self._table(words.STRIP_BAD, head, rows) if rows else "",
        )

    def _checks(self) -> Html:
        checks = self._facts.checks
        if checks is None:
            return self._p(words.NO_CHECKS)
        count = {
            key: sum(check.get("status") == status for check in checks)
            for key, status in (
                ("good", "PASS"),
                ("warn", "WARN"),
                ("bad", "FAIL"),
                ("skip", "SKIP"),
            )
        }
        order = {"FAIL": 0, "WARN": 1, "PASS": 2, "SKIP": 3}
        ranked = sorted(checks, key=lambda check: order.get(str(check.get("status")), 4))
        return joined(
            self._p(words.CHECKED, **count), tag("ul", *map(self._check, ranked), class_="checks")
        )

    def _check(self, check: Document) -> Html:
        status = str(check.get("status"))
        style = {"FAIL": "bad", "WARN": "warn", "PASS": "good"}.get(status, "plain")
        shown = names.CHECKS.get(status, Text(status, status))
        then = self._of(check.get("next"))
        about = check.get("about")
        return tag(
            "li",
            tag("span", self._say(shown), class_=f"tag {style}"),
            " ",
            tag("strong", self._of(check.get("title")) or check.get("id")),
            f" {about}" if about else "",
            " ",
            tag("code", check.get("id")),
            tag("p", self._of(check.get("evidence"))),
            self._p(words.THEN, None, next=then) if then else "",
        )

    def _identity(self) -> Html:
        facts = self._facts
        gateway = self._running.get("gateway") or {}
        place = facts.location
        where = None if place is None else f"{place['latitude']:.5f}, {place['longitude']:.5f}"
        known = self._pairs(
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
        problems = tag("ul", *(tag("li", self._say(each)) for each in facts.problems[:ROWS]))
        return joined(
            known,
            tag("h3", self._say(words.PROBLEMS)) if facts.problems else "",
            problems if facts.problems else "",
            self._configuration(),
        )

    def _configuration(self) -> Html:
        if self._facts.configuration is None:
            return self._p(words.NO_CONFIG)
        text = json.dumps(self._facts.configuration, ensure_ascii=False, indent=2, default=str)
        more = len(text) - CONFIG_CHARACTERS
        if more > 0:
            text = f"{text[:CONFIG_CHARACTERS]}\n{self._say(words.CUT, count=more)}"
        return joined(self._p(words.CONFIG_TEXT, removed=REMOVED), tag("pre", text))

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
        return self._pairs(pairs)


def size(size_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def duration(seconds: float, language: Language) -> str:
    """Return a span of time in its two largest units."""
    minutes = math.floor(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    units = ("日", "時間", "分") if language == "ja" else (" d", " h", " min")
    parts = [f"{count}{unit}" for count, unit in zip((days, hours, minutes), units, strict=True)]
    first = 0 if days else 1 if hours else 2
    return " ".join(parts[first : first + 2])


def _of_room(used: object, room: object) -> str | None:
    if not isinstance(used, int):
        return None
    return f"{size(used)} / {size(room)}" if isinstance(room, int) else size(used)
