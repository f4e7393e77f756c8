"""A scenario as data: what the gateway is, what really happens, what breaks, what must hold.

`config` is a gateway's own TOML, unchanged: its buses and device paths are the real ones, and the
stage puts devices there. Quantities and their units are the records' own; a span of time is a text
with its unit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from config.model import Table
from config.text import Text

from .series import Series
from .spans import Size, Span


def _series(value: object) -> object:
    """Take a bare number, text or truth for a constant."""
    return {"constant": value} if isinstance(value, int | float | str | bool) else value


def _crowd(value: object) -> object:
    return {"persons_per_minute": value} if isinstance(value, int | float) else value


UNJUDGED = Text(
    "judges nothing so: a number by rms_max, error_max, valid_share_min or valid_share_max,"
    ' a class by statistic = "mode" and agreement_min',
    "このままでは何も判定されません。数値は rms_max、error_max、valid_share_min、valid_share_max"
    'で、分類は statistic = "mode" と agreement_min で判定します',
)
SeriesOrConstant = Annotated[Series, BeforeValidator(_series)]


class Title(Table):
    """A text in both languages."""

    ja: str
    en: str


class CrowdTable(Table):
    """Who passes a people counter: so many a minute, in either direction."""

    persons_per_minute: Annotated[Series, BeforeValidator(_series)]


class ClockTable(Table):
    """The gateway's clock when it boots: by network time, or without any."""

    at_boot: Literal["synced", "unknown"] = "synced"  # unknown: 1970, and nobody vouches for it
    error_s: float = Field(default=0.02, ge=0)  # the kernel's bound, while synchronised


class Accuracy(Table):
    """What is delivered of one quantity, against the truth in the middle of its window."""

    sensor: str
    quantity: str
    statistic: Literal["mean", "median", "mode"] = "mean"
    rms_max: float | None = Field(default=None, ge=0)  # in the quantity's unit
    error_max: float | None = Field(default=None, ge=0)  # in the quantity's unit
    valid_share_min: float | None = Field(default=None, ge=0, le=1)  # of the windows there were
    valid_share_max: float | None = Field(default=None, ge=0, le=1)
    agreement_min: float | None = Field(default=None, ge=0, le=1)  # of classes
    from_: Span = Field(default=0.0, alias="from")
    until: Span | None = None

    @model_validator(mode="after")
    def _is_judged(self) -> Accuracy:
        bounds = (self.rms_max, self.error_max, self.valid_share_min, self.valid_share_max)
        is_class = self.statistic == "mode"
        # A class is right or wrong, so it needs no bound of its own.
        of_numbers, of_classes = any(each is not None for each in bounds), self.agreement_min
        if of_numbers if is_class else (of_classes is not None or not of_numbers):
            raise ValueError(UNJUDGED)
        return self


class CrowdAccuracy(Table):
    """What is released of a people counter, all windows together, against who passed."""

    sensor: str
    error_share_max: float = Field(gt=0)  # of the sum, beyond what the noise alone explains
    noise_sd_max: float | None = Field(default=None, gt=0)  # of one window's error
    noise_sd_min: float | None = Field(default=None, gt=0)  # else somebody released raw counts


class AlertExpected(Table):
    """An alert that must be raised, and when; in time since the start."""

    alert: str
    sensor: str | None = None  # None: the gateway's own
    raised: list[Span] = Field(min_length=2, max_length=2)  # [earliest, latest]
    cleared: list[Span] | None = Field(default=None, min_length=2, max_length=2)


class Alerts(Table):
    """Which alerts there are: these, and no others."""

    expected: list[AlertExpected] = Field(default_factory=list)
    allowed: list[str] = Field(default_factory=list)  # names that may come and go besides


class ClockStates(Table):
    """How much of what was delivered carries which clock state."""

    state: Literal["synced", "corrected", "estimated"]
    records_min: int = Field(default=0, ge=0)
    records_max: int | None = Field(default=None, ge=0)


class Expect(Table):
    """What must hold at the end."""

    gaps: list[Literal["spool_full", "corrupt", "disk_failed", "rejected"]] = Field(
        default_factory=list
    )  # else none
    delivered_min: int = Field(default=1, ge=0)  # records
    settles_within: Span = 7200.0  # after the last moment, until the spool is empty
    accuracy: list[Accuracy] = Field(default_factory=list)
    crowd: list[CrowdAccuracy] = Field(default_factory=list)
    alerts: Alerts = Alerts()
    clock: list[ClockStates] = Field(default_factory=list)
    lives_min: int = Field(default=1, ge=1)
    lives_max: int | None = Field(default=None, ge=1)
    speed_min: float = Field(default=50.0, gt=0)  # times real time, unless it is throttled
    rss_max: Size | None = None
    rss_growth_per_day_max: Size | None = None  # a straight line through the second half
    descriptors_growth_max: int | None = Field(default=None, ge=0)
    threads_growth_max: int | None = Field(default=None, ge=0)
    spool_max: Size | None = None  # its own figure
    disk_max: Size | None = None  # the state folder, all files
    wire_max: Size | None = None  # from the gateway to the broker


class Scenario(Table):
    """The whole file but for `config` and `faults`, which have models of their own."""

    title: Title
    summary: Title
    lasts: Span = Field(gt=0)
    start: datetime
    seed: int = 1
    speed: float | None = Field(default=None, gt=0)  # throttled to so many times real time
    clock: ClockTable = ClockTable()
    truth: dict[str, dict[str, SeriesOrConstant]] = Field(default_factory=dict)
    crowd: dict[str, Annotated[CrowdTable, BeforeValidator(_crowd)]] = Field(default_factory=dict)
    expect: Expect = Expect()
