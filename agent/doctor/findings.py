"""What a check says and what is known of the check itself. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

from config.text import Text

if TYPE_CHECKING:
    from .site import Site

Status = Literal["PASS", "WARN", "FAIL", "SKIP"]
Over = Literal["gateway", "bus", "sensor", "broker"]
Look = Callable[["Site", Any], "Finding"]


class Blink(IntEnum):
    """How often a lamp blinks for a failure: somebody without a screen knows whom to send."""

    SENSOR = 2
    NETWORK = 3
    CLOCK = 4
    DISK = 5
    SOFTWARE = 6  # configuration, service, rights
    POWER = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is, by what one can tell, and what to do next."""

    status: Status
    evidence: Text
    next: Text | None = None  # of WARN and FAIL


@dataclass(frozen=True, slots=True)
class Page:
    """What `--explain` says of a check."""

    what: Text
    why: Text
    do: tuple[Text, ...]  # step by step


@dataclass(frozen=True, slots=True)
class Check:
    """One look at one thing.

    It is not run where one of `needs` failed. One that fails while one of `excused_by` has failed
    is a consequence: it is skipped, with its evidence. Both name checks that come before it; of a
    sensor's bus, or of the same sensor, bus or broker, where they are about such.
    """

    id: str  # stable: people write it down
    title: Text
    blink: Blink
    over: Over
    needs: tuple[str, ...]
    excused_by: tuple[str, ...]
    page: Page
    look: Look


def check(
    name: str,
    title: Text,
    *,
    blink: Blink,
    what: Text,
    why: Text,
    do: tuple[Text, ...],
    over: Over = "gateway",
    needs: tuple[str, ...] = (),
    excused_by: tuple[str, ...] = (),
) -> Callable[[Look], Check]:
    """Make a check of the function that looks."""

    def make(look: Look) -> Check:
        return Check(name, title, blink, over, needs, excused_by, Page(what, why, do), look)

    return make


def passed(en: str, ja: str) -> Finding:
    """It is as it should be."""
    return Finding("PASS", _line(Text(en, ja)))


def skipped(en: str, ja: str) -> Finding:
    """There is nothing of the kind here, or it cannot be told."""
    return Finding("SKIP", _line(Text(en, ja)))


def warned(evidence: Text, then: Text) -> Finding:
    """It works, and somebody should look at it."""
    return Finding("WARN", _line(evidence), _line(then))


def failed(evidence: Text, then: Text) -> Finding:
    """It does not work, or will soon cost records."""
    return Finding("FAIL", _line(evidence), _line(then))


def _line(text: Text) -> Text:
    """Put what others said, an exception or a library, on one line."""
    return Text(" ".join(text.split()), " ".join(text.ja.split()))


def softened(finding: Finding) -> Finding:
    """Return a failure that something else makes good for."""
    return replace(finding, status="WARN") if finding.status == "FAIL" else finding


def because(cause: str, evidence: Text | None = None) -> Finding:
    """Say that another failure comes first; with the evidence where there is some."""
    en, ja = f"because {cause} failed", f"{cause} の異常のため"
    if evidence is not None:
        en, ja = f"{evidence} ({en})", f"{evidence.ja}（{ja}）"
    return Finding("SKIP", Text(en, ja))
