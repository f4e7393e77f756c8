"""What was measured against what must hold: one verdict for each expectation. Pure.

Accuracy is judged by what the city was given against what really happened, at the middle of each
window; a crowd by its sum and by the spread of each window's error, because each carries noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from ..city.account import Report
from .book import FLAGS, Book, Measure
from .model import Accuracy, AlertExpected, CrowdAccuracy, Expect
from .series import Truth
from .spans import said

GOOD = frozenset((FLAGS.index("good"), FLAGS.index("suspect"), FLAGS.index("not_evaluated")))
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation: what was wanted, what was measured, whether it holds."""

    what: str
    wanted: str
    measured: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """What a stage tells of a run."""

    report: Report
    played_s: float
    took_s: float  # real seconds
    cpu_s: float  # of this process
    settled_s: float
    lives: int
    is_throttled: bool


def judge(
    expect: Expect,
    ran: Ran,
    book: Book,
    truths: dict[str, dict[str, Truth]],
) -> list[Verdict]:
    """Return every verdict."""
    found = [*_account(expect, ran, book)]
    found += [verdict for each in expect.accuracy for verdict in _accuracy(each, book, truths)]
    found += [verdict for crowd in expect.crowd for verdict in _crowd(crowd, book)]
    found += _alerts(expect, book)
    found += _clock(expect, book)
    found += _bounds(expect, ran, book.measures())
    return found


def _account(expect: Expect, ran: Ran, book: Book) -> Iterator[Verdict]:
    report = ran.report
    yield Verdict(
        "the account closes",
        "missing 0, in order",
        f"produced {report.produced} = delivered {report.delivered} + lost {report.lost}"
        f" + missing {report.missing}",
        report.keeps_the_contract,
    )
    reasons = sorted({why for stream in report.streams for why in stream.lost})
    allowed = ", ".join(expect.gaps) or "none"
    yield Verdict(
        "gaps", f"only {allowed}", ", ".join(reasons) or "none", set(reasons) <= set(expect.gaps)
    )
    yield Verdict(
        "records delivered",
        f"at least {expect.delivered_min}",
        str(report.delivered),
        report.delivered >= expect.delivered_min,
    )
    yield Verdict(
        "the spool is empty",
        f"within {said(expect.settles_within)}",
        "never" if math.isinf(ran.settled_s) else f"after {said(round(ran.settled_s))}",
        ran.settled_s <= expect.settles_within,
    )
    holds = expect.lives_min <= ran.lives <= (expect.lives_max or math.inf)
    wanted = f"{expect.lives_min} to {expect.lives_max or 'any'}"
    if expect.lives_min > 1 or expect.lives_max is not None:
        yield Verdict("lives of the gateway", wanted, str(ran.lives), holds)
    told = book.bugs[0] if book.bugs else "none"
    yield Verdict("bugs told in the log", "none", told, not book.bugs)


def _accuracy(
    wanted: Accuracy, book: Book, truths: dict[str, dict[str, Truth]]
) -> Iterator[Verdict]:
    where = f"{wanted.sensor} {wanted.quantity}"
    truth = truths[wanted.sensor][wanted.quantity]
    until_s = math.inf if wanted.until is None else wanted.until
    if wanted.statistic == "mode":
        pairs = [
            (mode, truth((start_s + end_s) / 2))
            for start_s, end_s, mode in book.classes(wanted.sensor, wanted.quantity)
            if wanted.from_ <= start_s and end_s <= until_s
        ]
        agree = fmean([told == true for told, true in pairs]) if pairs else 0.0
        least = wanted.agreement_min if wanted.agreement_min is not None else 1.0
        yield Verdict(
            f"{where}: agreement", f"at least {least:.1%}", f"{agree:.1%}", agree >= least
        )
        return
    statistic = "median" if wanted.statistic == "median" else "mean"
    rows = [
        row
        for row in book.rows(wanted.sensor, wanted.quantity, statistic)
        if wanted.from_ <= row.start_s and row.end_s <= until_s
    ]
    valid = [row for row in rows if row.flag in GOOD and not math.isnan(row.value)]
    errors = [row.value - truth((row.start_s + row.end_s) / 2) for row in valid]
    share = len(valid) / len(rows) if rows else 0.0
    if wanted.rms_max is not None:
        rms = math.sqrt(fmean([each**2 for each in errors])) if errors else math.inf
        yield _at_most(f"{where}: rms error", wanted.rms_max, rms)
    if wanted.error_max is not None:
        largest = max((abs(each) for each in errors), default=math.inf)
        yield _at_most(f"{where}: largest error", wanted.error_max, largest)
    if wanted.valid_share_min is not None:
        yield Verdict(
            f"{where}: windows valid",
            f"at least {wanted.valid_share_min:.1%}",
            f"{share:.1%} of {len(rows)}",
            share >= wanted.valid_share_min,
        )
    if wanted.valid_share_max is not None:
        yield Verdict(
            f"{where}: windows valid",
            f"at most {wanted.valid_share_max:.1%}",
            f"{share:.1%} of {len(rows)}",
            share <= wanted.valid_share_max and bool(rows),
        )


def crowd_errors(book: Book, sensor: str) -> tuple[list[int], int]:
    """Return the error of each released window and direction, and how many really passed."""
    crowd = book.crowds[sensor]
    errors, passed = [], 0
    for (way, quarter), figure in sorted(crowd.released.items()):
        true = (
            crowd.true["towards", quarter] + crowd.true["away", quarter]
            if way == "total"
            else crowd.true[way, quarter]
        )
        errors.append(figure - true)
        passed += true
    return errors, passed


def _crowd(wanted: CrowdAccuracy, book: Book) -> Iterator[Verdict]:
    errors, passed = crowd_errors(book, wanted.sensor)
    noise = 3 * book.crowds[wanted.sensor].noise_sd * math.sqrt(len(errors))
    beyond = max(0.0, abs(sum(errors)) - noise)
    share = beyond / passed if passed else math.inf
    yield Verdict(
        f"{wanted.sensor}: sum over {len(errors)} windows",
        f"within {wanted.error_share_max:.0%} of {passed} beyond the noise",
        f"{sum(errors):+d} people, noise explains {noise:.0f}: {share:.1%}",
        share <= wanted.error_share_max and bool(errors),
    )
    spread = pstdev(errors) if len(errors) > 1 else 0.0
    if wanted.noise_sd_min is not None:
        yield Verdict(
            f"{wanted.sensor}: spread of a window's error",
            f"at least {wanted.noise_sd_min:g}",
            f"{spread:.2f}",
            spread >= wanted.noise_sd_min,
        )
    if wanted.noise_sd_max is not None:
        yield _at_most(f"{wanted.sensor}: spread of a window's error", wanted.noise_sd_max, spread)


def _alerts(expect: Expect, book: Book) -> Iterator[Verdict]:
    for wanted in expect.alerts.expected:
        yield from _one_alert(wanted, book)
    named = {(each.alert, each.sensor) for each in expect.alerts.expected}
    others = sorted(
        {
            f"{each.name} {each.sensor or 'gateway'}"
            for each in book.alerts
            if (each.name, each.sensor) not in named and each.name not in expect.alerts.allowed
        }
    )
    allowed = ", ".join(expect.alerts.allowed) or "none"
    yield Verdict("other alerts", allowed, "; ".join(others) or "none", not others)


def _one_alert(wanted: AlertExpected, book: Book) -> Iterator[Verdict]:
    where = f"alert {wanted.alert} {wanted.sensor or 'gateway'}"
    for state, span in (("raised", wanted.raised), ("cleared", wanted.cleared)):
        if span is None:
            continue
        at_s = [
            each.at_s
            for each in book.alerts
            if (each.name, each.sensor, each.state) == (wanted.alert, wanted.sensor, state)
        ]
        inside = [each for each in at_s if span[0] <= each <= span[1]]
        told = ", ".join(said(round(each)) for each in at_s[:4]) or "never"
        yield Verdict(
            f"{where}: {state}", f"{said(span[0])} to {said(span[1])}", told, bool(inside)
        )


def _clock(expect: Expect, book: Book) -> Iterator[Verdict]:
    for wanted in expect.clock:
        count = book.clock_states[wanted.state]
        most = math.inf if wanted.records_max is None else wanted.records_max
        yield Verdict(
            f"records with clock {wanted.state}",
            f"{wanted.records_min} to {'any' if math.isinf(most) else most}",
            str(count),
            wanted.records_min <= count <= most,
        )


def _bounds(expect: Expect, ran: Ran, measures: Sequence[Measure]) -> Iterator[Verdict]:
    # By the processor's time: a machine that others use too must not fail a scenario.
    speed = ran.played_s / max(1e-9, ran.cpu_s)
    if not ran.is_throttled:
        yield Verdict(
            "speed, by processor time",
            f"at least {expect.speed_min:g} times real time",
            f"{speed:.0f} times",
            speed >= expect.speed_min,
        )
    if expect.rss_max is not None:
        yield _largest("memory", expect.rss_max, [each.rss_bytes for each in measures])
    if expect.rss_growth_per_day_max is not None:
        grown = slope_per_day(measures, lambda each: each.rss_bytes)
        yield _at_most_kb("memory, growth a day", expect.rss_growth_per_day_max, grown)
    if expect.spool_max is not None:
        yield _largest("spool", expect.spool_max, [each.spool_bytes for each in measures])
    if expect.disk_max is not None:
        yield _largest("state on disk", expect.disk_max, [each.disk_bytes for each in measures])
    if expect.wire_max is not None:
        yield _largest(
            "sent to the broker", expect.wire_max, [each.wire_bytes for each in measures]
        )
    for what, limit, values in (
        ("descriptors", expect.descriptors_growth_max, [each.descriptors for each in measures]),
        ("threads", expect.threads_growth_max, [each.threads for each in measures]),
    ):
        if limit is not None:
            settled = values[len(values) // 5 :] or [0.0]
            growth = max(settled[len(settled) // 2 :]) - max(settled[: len(settled) // 2 + 1])
            yield Verdict(f"{what}, growth", f"at most {limit}", f"{growth:+.0f}", growth <= limit)


def slope_per_day(measures: Sequence[Measure], of: Callable[[Measure], float]) -> float:
    """Return how fast something grows, by a straight line through the second half."""
    rows = measures[len(measures) // 2 :]
    if len(rows) < 3:
        return math.inf
    days, values = [each.at_s / 86_400.0 for each in rows], [of(each) for each in rows]
    day, value = fmean(days), fmean(values)
    spread = sum((each - day) ** 2 for each in days)
    return sum((d - day) * (v - value) for d, v in zip(days, values, strict=True)) / spread


def _at_most(what: str, limit: float, measured: float) -> Verdict:
    shown = "nothing to measure" if math.isinf(measured) else f"{measured:.3g}"
    return Verdict(what, f"at most {limit:g}", shown, measured <= limit)


def _largest(what: str, limit: int, values: Sequence[float]) -> Verdict:
    most = max(values, default=math.inf)
    return Verdict(
        f"{what}, at most", f"{limit / MIB:.2f} MiB", f"{most / MIB:.2f} MiB", most <= limit
    )


def _at_most_kb(what: str, limit: int, measured: float) -> Verdict:
    return Verdict(
        what, f"at most {limit / 1000:.0f} kB", f"{measured / 1000:+.1f} kB", measured <= limit
    )
