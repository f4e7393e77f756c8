"""The top of a report: who it is, what needs attention, what is asked for first. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from config.text import Language, Text

from . import names, words
from .facts import Document, Facts
from .html import Html, joined, tag
from .pen import Pen

REASONS = 8


class Top:
    """Header, verdict and figures."""

    def __init__(self, facts: Facts, pen: Pen, language: Language) -> None:
        self._facts = facts
        self._pen = pen
        self._language = language
        self._running: Document = facts.running or {}

    def header(self) -> Html:
        """Return who it is, and when the report was made."""
        made = self._pen.say(
            words.MADE,
            local=self._pen.local(self._facts.made_s, "%Y-%m-%d %H:%M"),
            zone=self._pen.zone,
        )
        kicker = tag("small", self._pen.say(words.TITLE))
        who = joined(self._facts.gateway, made, by=" · ")
        return tag("header", tag("h1", kicker, self._pen.name()), tag("p", who, class_="soft"))

    def verdict(self) -> Html:
        """Return what needs attention, what is worst first."""
        bad, warn = list(self._bad()), list(self._warn())
        style = "bad" if bad else "warn" if warn else "good"
        say = {"bad": words.ACT, "warn": words.LOOK, "good": words.GOOD}[style]
        reasons = [*bad, *warn]
        shown = [tag("li", each) for each in reasons[:REASONS]]
        if len(reasons) > REASONS:
            shown.append(tag("li", self._pen.say(words.MORE, count=len(reasons) - REASONS)))
        parts = [tag("p", tag("strong", self._pen.say(say)))]
        if shown:
            parts.append(tag("ul", *shown))
        return tag("div", *parts, class_=f"verdict {style}")

    def _bad(self) -> Iterator[str]:
        facts = self._facts
        if facts.running is None:
            why = (
                self._pen.say(facts.why_silent)
                if facts.why_silent
                else self._pen.say(words.UNKNOWN)
            )
            yield self._pen.say(words.NOT_RUNNING, why=why)
        if facts.spool_trouble is not None:
            yield self._pen.say(words.SPOOL_TROUBLE, why=facts.spool_trouble)
        if (facts.spool or {}).get("why_volatile"):
            yield self._pen.say(words.IN_MEMORY)
        yield from self._alerts_of("critical")
        yield from self._checks_of("FAIL")

    def _warn(self) -> Iterator[str]:
        running = self._running
        if (running.get("gateway") or {}).get("refused"):
            yield self._pen.say(words.REFUSED)
        if running and not (running.get("uplink") or {}).get("connected_since"):
            yield self._pen.say(words.NOT_CONNECTED)
        if running and (running.get("clock") or {}).get("state") != "synced":
            yield self._pen.say(words.CLOCK_UNKNOWN)
        told = {alert.get("sensor") for alert in running.get("alerts") or ()}
        for sensor in self._facts.sensors:
            state = (sensor.now or {}).get("state")
            if state in ("silent", "ignored") and sensor.id not in told:
                shown = self._pen.say(names.STATES[state])
                yield self._pen.say(
                    words.SILENT, sensor=self._pen.sensor_name(sensor.id), state=shown
                )
        yield from self._alerts_of("warning")
        yield from self._checks_of("WARN")

    def _alerts_of(self, severity: str) -> Iterator[str]:
        for alert in self._running.get("alerts") or ():
            if alert.get("severity") == severity:
                yield self._pen.of(alert.get("text"))

    def _checks_of(self, status: str) -> Iterator[str]:
        """Yield what failed; of failures the first is the cause, and the rest stands below."""
        found = [each for each in self._facts.checks or () if each.get("status") == status]
        for check in found[:1] if status == "FAIL" else found:
            evidence = self._pen.of(check.get("evidence"))
            title = self._pen.of(check.get("title")) or check.get("id")
            yield self._pen.say(words.CHECK_FAILED, title=title, evidence=evidence)
        if status == "FAIL" and len(found) > 1:
            yield self._pen.say(words.CHECKS_MORE, count=len(found) - 1)

    def figures(self) -> Html:
        """Return the figures that are asked for first."""
        running = self._running
        states = [(sensor.now or {}).get("state") for sensor in self._facts.sensors]
        good = sum(state in ("ok", "warmup") for state in states)
        working = self._pen.say(words.WORKING, good=good, all=len(states))
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
                tag("div", tag("dt", self._pen.say(name)), tag("dd", value, tag("small", more)))
                for name, value, more in cards
            ),
            class_="figures",
        )

    def _alerts_figure(self, count: int) -> str:
        return self._pen.say(words.RAISED, count=count) if count else self._pen.say(words.NONE)

    def _running_figure(self) -> tuple[str, str]:
        gateway = self._running.get("gateway")
        if not gateway:
            return self._pen.say(words.NOT_ANSWERING), ""
        since = self._pen.say(words.SINCE, at=self._pen.at(gateway.get("since")))
        return duration(gateway.get("uptime_s") or 0, self._language), since

    def _uplink_figure(self) -> tuple[str, str]:
        if not self._running:
            return "–", ""
        since = (self._running.get("uplink") or {}).get("connected_since")
        if since:
            return self._pen.say(words.CONNECTED), self._pen.say(
                words.SINCE, at=self._pen.at(since)
            )
        began = next((each.start for each in reversed(self._facts.outages) if not each.end), None)
        more = self._pen.say(words.SINCE, at=self._pen.at(began)) if began else ""
        return self._pen.say(words.OFFLINE), more

    def _waiting_figure(self) -> tuple[str, str]:
        spool = self._facts.spool
        if spool is None:
            return "–", ""
        oldest = spool.get("oldest")
        more = self._pen.say(words.OLDEST, at=self._pen.at(oldest)) if oldest else ""
        return f"{spool.get('waiting', 0):,}", more

    def _clock_figure(self) -> tuple[str, str]:
        clock = self._running.get("clock")
        if not clock:
            return "–", ""
        state, error_s = str(clock.get("state")), clock.get("error_s")
        shown = self._pen.say(words.CLOCK_STATES.get(state, Text(state, state)))
        return shown, "" if error_s is None else self._pen.say(words.WITHIN, error=f"{error_s:.3g}")


def duration(seconds: float, language: Language) -> str:
    """Return a span of time in its two largest units."""
    minutes = math.floor(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    units = ("日", "時間", "分") if language == "ja" else (" d", " h", " min")
    parts = [f"{count}{unit}" for count, unit in zip((days, hours, minutes), units, strict=True)]
    first = 0 if days else 1 if hours else 2
    return " ".join(parts[first : first + 2])
