"""Run the checks side by side, each after those that it needs, and never longer than promised."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from config.text import Text

from .findings import Check, Finding, because, failed, skipped, softened
from .site import Site

BUG = Text(
    "run `yukimi doctor --json` again and send its output to whoever maintains this program",
    "`yukimi doctor --json` を再実行し、出力を保守担当者に送ってください",
)
HANGS = Text(
    "whatever is behind it hangs: unplug and plug it in again, or restart the gateway",
    "応答しない機器があります。抜き差しするか、装置を再起動してください",
)


@dataclass(slots=True)
class Result:
    """One check on one subject."""

    check: Check
    subject: Any  # None, or a planned bus or sensor, or a broker's URL
    name: str  # of the subject, "" for the gateway
    finding: Finding | None = None
    cause: str | None = None  # the failure that this one is, or comes of
    is_excused: bool = False  # it was looked at, and is the consequence of another

    @property
    def done(self) -> Finding:
        """What was found."""
        if self.finding is None:
            raise ValueError(f"{self.check.id} has not been run")
        return self.finding


def run(checks: Sequence[Check], site: Site) -> list[Result]:
    """Return what every check found, in the order of diagnosis."""
    results = [Result(each, *subject) for each in checks for subject in _subjects(each, site)]
    _Run(results, site).run()
    _soften_spares(results)
    return results


def first_failure(results: Iterable[Result]) -> Result | None:
    """Return the cause: the first failure."""
    return next((each for each in results if each.done.status == "FAIL"), None)


def _subjects(check: Check, site: Site) -> Iterator[tuple[Any, str]]:
    plan = site.plan
    if check.over == "gateway" or plan is None:
        yield None, ""
    elif check.over == "bus":
        yield from ((bus, bus.name) for bus in plan.buses)
    elif check.over == "sensor":
        yield from ((sensor, sensor.table.id) for sensor in plan.sensors)
    else:
        yield from ((url, url) for url in plan.loaded.config.uplink.brokers)


class _Run:
    """The checks that wait, and those that are under way."""

    def __init__(self, results: list[Result], site: Site) -> None:
        self._site = site
        self._results = results
        self._waiting = list(results)
        self._under_way: dict[int, tuple[Result, float, float]] = {}  # since when, until when
        self._ended: queue.SimpleQueue[tuple[int, Finding]] = queue.SimpleQueue()

    def run(self) -> None:
        end_s = time.monotonic() + self._site.budget.total_s
        while self._waiting or self._under_way:
            for result in [each for each in self._waiting if self._is_ready(each)]:
                self._waiting.remove(result)
                self._begin(result, end_s)
            if not self._under_way:
                continue
            next_end_s = min(until_s for _, _, until_s in self._under_way.values())
            try:
                key, finding = self._ended.get(timeout=max(0.0, next_end_s - time.monotonic()))
            except queue.Empty:
                self._give_up()
            else:
                if key in self._under_way:  # else it had been given up
                    self._end(self._under_way.pop(key)[0], finding)

    def _is_ready(self, result: Result) -> bool:
        wanted = (*result.check.needs, *result.check.excused_by)
        return all(each.finding is not None for each in self._related(result, wanted))

    def _begin(self, result: Result, end_s: float) -> None:
        cause = self._cause(result, result.check.needs)
        if cause is None and result.check.over != "gateway" and self._site.plan is None:
            cause = self._site.without_plan
        if cause is not None:
            result.finding, result.cause = because(cause), cause
            return
        key, began_s = id(result), time.monotonic()
        until_s = min(end_s, began_s + self._site.budget.check_s)
        self._under_way[key] = result, began_s, until_s
        threading.Thread(
            target=self._look, args=(key, result), name=f"doctor {result.check.id}", daemon=True
        ).start()

    def _look(self, key: int, result: Result) -> None:
        try:
            finding = result.check.look(self._site, result.subject)
        except Exception as exc:  # noqa: BLE001  (a bug in one check must not hide the others)
            # Not the message: a driver may hold people.
            from agent.logs import place_of

            where = place_of(exc)
            finding = Finding(
                "WARN",
                Text(
                    f"the check itself failed, which is a bug: {where}",
                    f"点検プログラムの不具合です: {where}",
                ),
                BUG,
            )
        self._ended.put((key, finding))

    def _give_up(self) -> None:
        """End what has had its time; who only began late is not accused."""
        now_s = time.monotonic()
        for key, (result, began_s, until_s) in list(self._under_way.items()):
            if until_s > now_s:
                continue
            del self._under_way[key]
            if now_s - began_s < self._site.budget.check_s:
                self._end(result, skipped("not looked at: the time was over", "時間切れ"))
                continue
            evidence = Text("no answer within its time", "時間内に応答がありません")
            self._end(result, failed(evidence, HANGS))

    def _end(self, result: Result, finding: Finding) -> None:
        result.finding = finding
        if finding.status != "FAIL":
            return
        cause = self._cause(result, result.check.excused_by)
        result.cause = cause or result.check.id
        if cause is not None:
            result.finding, result.is_excused = because(cause, finding.evidence), True

    def _cause(self, result: Result, names: tuple[str, ...]) -> str | None:
        """Return the first failure that one of the named checks is, or comes of."""
        for name in names:
            related = list(self._related(result, (name,)))
            if related and all(each.cause is not None for each in related):
                return related[0].cause
        return None

    def _related(self, result: Result, names: tuple[str, ...]) -> Iterator[Result]:
        """Yield the checks of these names that are about the same, or about all there is."""
        for each in self._results:
            if each.check.id in names and (
                each.check.over == "gateway"
                or each.subject is None
                or result.subject is None
                or each.subject in (result.subject, getattr(result.subject, "bus", None))
            ):
                yield each


def _soften_spares(results: list[Result]) -> None:
    """One broker is enough: where one takes us, another's failure is a warning."""
    brokers = [each for each in results if each.check.over == "broker" and each.subject]
    bad = {each.subject for each in brokers if each.cause is not None}
    if not {each.subject for each in brokers} - bad:
        return
    for each in brokers:
        each.finding = softened(each.done)
