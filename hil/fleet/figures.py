"""What a fleet's life comes to, in figures. Pure: an outcome in, figures out."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median, quantiles

from ..bench.figures import Figure
from .trial import Look, Outcome
from .witness import Slice

# Full jitter up to a cap c, from a tenth of it: a share of 1 / (0.55 c) a second where the waits
# are in no step, 0.36 with c = 5 s; 0.6 leaves room for chance in a fleet of 100.
SHARE_MOST = 0.6
INFLIGHT = 16  # the configuration's default

FIGURES = (
    Figure("connects_peak_share", "planned within 1 s, of all; 1 without jitter", SHARE_MOST),
    Figure("connects_planned_peak_per_s", "the most that were planned within one second"),
    Figure("connects_peak_per_s", "the most that were sent within one second"),
    Figure("births_peak_per_s", "the most that the city heard in one second"),
    Figure("connects_per_gateway", "after the return"),
    Figure("refused_per_gateway_min", "attempts in a minute while nobody was there"),
    Figure("connected_median_s", "after the return"),
    Figure("connected_last_s", "after the return"),
    Figure("caught_up_median_s", "all from before the return acknowledged"),
    Figure("caught_up_p95_s", "the same, 95 of 100 gateways"),
    Figure("caught_up_last_s", "the same, the last gateway"),
    Figure("never_caught_up", "gateways", 0),
    Figure("inflight_most", "of one gateway, messages without an answer", INFLIGHT),
    Figure("held", "messages that nobody took"),
    Figure("messages_mean_per_s", "at the city, while calm"),
    Figure("messages_peak_per_s", "at the city, after the return"),
    Figure("records_mean_per_s", "at the city, while calm"),
    Figure("records_peak_per_s", "at the city, after the return"),
    Figure("payload_mean_b_per_s", "at the city, while calm"),
    Figure("payload_peak_b_per_s", "at the city, after the return"),
    Figure("live_b_per_record", "plain"),
    Figure("backlog_b_per_record", "deflated"),
    Figure("broker_cpu_mean_percent", "of a core, while calm"),
    Figure("broker_cpu_peak_percent", "of a core, in any half second after the return"),
    Figure("broker_cpu_us_per_message", "all it did, by the messages that the city heard"),
    Figure("broker_rss_mb", "at most"),
    Figure("broker_kb_per_gateway", "the same, without what it takes alone"),
    Figure("produced", "records"),
    Figure("delivered", "records"),
    Figure("lost", "named in gaps"),
    Figure("missing", "neither", 0),
    Figure("different", "records that are not there as they were committed", 0),
    Figure("unlawful", "out of order, beyond what was produced, or malformed", 0),
    Figure("duplicates", "told again"),
)


def measured(outcome: Outcome) -> dict[str, float]:
    """Return every figure. Times and rates are of the fleet's clock; CPU is of the real one."""
    return {
        **_connections(outcome),
        **_catching_up(outcome),
        **_traffic(outcome),
        **_broker(outcome),
        **_account(outcome),
    }


def peak(times_s: Iterable[float], span_s: float = 1.0) -> int:
    """Return the largest number of instants within any span."""
    ordered = sorted(times_s)
    return max((bisect(ordered, at_s + span_s) - n for n, at_s in enumerate(ordered)), default=0)


def broker_cpu_percent(looks: Sequence[Look], speed: float) -> list[tuple[float, float]]:
    """Return from look to look when, and how much of a core the broker took since the last."""
    return [
        (after.at_s, 100 * (after.broker_cpu_s - before.broker_cpu_s) * speed / span_s)
        for before, after in pairwise(looks)
        if (span_s := after.at_s - before.at_s) > 0
    ]


def connected(outcome: Outcome) -> list[tuple[float, int]]:
    """Return when how many gateways were connected, at each change."""
    changes = [(at_s, 1) for tale in outcome.tales for at_s in tale.connected_s]
    changes += [(at_s, -1) for tale in outcome.tales for at_s in tale.lost_s]
    number, course = 0, []
    for at_s, change in sorted(changes):
        number += change
        course.append((at_s, number))
    return course


def _connections(outcome: Outcome) -> dict[str, float]:
    number = outcome.plan.gateways
    back = [
        attempt
        for tale in outcome.tales
        for attempt in tale.attempts
        if attempt.sent_s >= outcome.return_s
    ]
    planned = peak(attempt.planned_s for attempt in back)
    births = [one.births for at_s, one in _slices(outcome) if at_s >= int(outcome.return_s)]
    refused = sum(tale.refused for tale in outcome.tales)
    return {
        "connects_peak_share": planned / number,
        "connects_planned_peak_per_s": planned,
        "connects_peak_per_s": peak(attempt.sent_s for attempt in back),
        "births_peak_per_s": max(births, default=0),
        "connects_per_gateway": len(back) / number,
        "refused_per_gateway_min": refused / number / (outcome.return_s - outcome.cut_s) * 60,
    }


def _catching_up(outcome: Outcome) -> dict[str, float]:
    firsts = [
        min((at_s for at_s in tale.connected_s if at_s >= outcome.return_s), default=None)
        for tale in outcome.tales
    ]
    connected_s = [at_s - outcome.return_s for at_s in firsts if at_s is not None]
    caught_up_s = [
        tale.caught_up_s - outcome.return_s
        for tale in outcome.tales
        if tale.caught_up_s is not None
    ]
    figures: dict[str, float] = {"never_caught_up": len(outcome.tales) - len(caught_up_s)}
    if connected_s:
        figures["connected_median_s"] = median(connected_s)
        figures["connected_last_s"] = max(connected_s)
    if len(caught_up_s) > 1:
        figures["caught_up_median_s"] = median(caught_up_s)
        figures["caught_up_p95_s"] = quantiles(caught_up_s, n=20)[-1]
        figures["caught_up_last_s"] = max(caught_up_s)
    figures["inflight_most"] = max(tale.flying_most for tale in outcome.tales)
    figures["held"] = sum(tale.held for tale in outcome.tales)
    return figures


def _traffic(outcome: Outcome) -> dict[str, float]:
    # A whole number of windows, after the start, says what a mean minute is.
    window_s, until_s = outcome.plan.window_s, int(outcome.cut_s)
    from_s = until_s - max(1, until_s // window_s - 1) * window_s
    slices = _slices(outcome)
    calm = [one for at_s, one in slices if from_s <= at_s < until_s]
    busy = [one for at_s, one in slices if at_s >= int(outcome.return_s)]
    figures: dict[str, float] = {}
    for name, unit in (("messages", ""), ("records", ""), ("payload_bytes", "_b")):
        key = f"{name.removesuffix('_bytes')}_{{}}{unit}_per_s"
        total = sum(getattr(one, name) for one in calm)
        figures[key.format("mean")] = total / (until_s - from_s)
        figures[key.format("peak")] = max((getattr(one, name) for one in busy), default=0)
    for lane in ("live", "backlog"):
        one = outcome.witness.lanes.get(lane, Slice())
        if one.records:
            figures[f"{lane}_b_per_record"] = one.payload_bytes / one.records
    return figures


def _broker(outcome: Outcome) -> dict[str, float]:
    course = broker_cpu_percent(outcome.looks, outcome.plan.speed)
    calm = [look for look in outcome.looks if look.at_s <= outcome.cut_s]
    cpu_s = calm[-1].broker_cpu_s - calm[0].broker_cpu_s
    span_s = (calm[-1].at_s - calm[0].at_s) / outcome.plan.speed
    after = [percent for at_s, percent in course if at_s > outcome.return_s]
    messages = sum(one.messages for _, one in _slices(outcome))
    rss_mb = max(look.broker_rss_mb for look in outcome.looks)
    alone_mb = outcome.looks[0].broker_rss_mb
    return {
        "broker_cpu_mean_percent": 100 * cpu_s / span_s,
        "broker_cpu_peak_percent": max(after, default=0.0),
        "broker_cpu_us_per_message": outcome.looks[-1].broker_cpu_s * 1e6 / messages,
        "broker_rss_mb": rss_mb,
        "broker_kb_per_gateway": (rss_mb - alone_mb) * 1000 / outcome.plan.gateways,
    }


def _account(outcome: Outcome) -> dict[str, float]:
    report = outcome.report
    unlawful = report.malformed + sum(one.surplus + one.disordered for one in report.streams)
    return {
        "produced": report.produced,
        "delivered": report.delivered,
        "lost": report.lost,
        "missing": report.missing,
        "different": len(outcome.differences),
        "unlawful": unlawful,
        "duplicates": report.duplicates,
    }


def _slices(outcome: Outcome) -> list[tuple[int, Slice]]:
    return sorted(outcome.witness.slices.items())
