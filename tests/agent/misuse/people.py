"""What nobody may do with what is seen of people. Each line that says so is an error for mypy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.collector import Collected
from agent.logs import logger
from agent.phenomena.people import Counted
from agent.record import Record
from agent.spool import Spool
from drivers.base import Alive, Crossing, Fix, Glimpse, Reading, Reason, Scene, Trouble
from drivers.ld2450 import Frame, Target
from drivers.thermal import PixelField
from drivers.tracking import Point

log = logger("misuse")


def may_be_handed_on(seen: Crossing) -> Sequence[Glimpse]:
    return [seen, Alive(0), Trouble("warmup", 0)]


def a_value(seen: Crossing) -> Sequence[Glimpse]:
    return [seen, Reading("people_1", 17.0, 0)]  # list-item


def a_place() -> Sequence[Glimpse]:
    return [Fix(43.06, 141.35, 0)]  # list-item


def a_reason_that_tells_of_persons() -> Sequence[Glimpse]:
    return [Trouble("obstructed", 0)]  # arg-type


def any_reason(reason: Reason) -> Sequence[Glimpse]:
    return [Trouble(reason, 0)]  # arg-type


def a_track(at: Point, radar: Target) -> Sequence[Glimpse]:
    return [at, radar]  # list-item, list-item


def a_frame(field_c: PixelField, frame: Frame, scene: Scene, raw: bytes) -> list[Glimpse]:
    return [field_c, frame, scene, raw]  # list-item, list-item, list-item, list-item


def what_the_log_may_hold(count: int, names: list[str]) -> None:
    log.info("an event", count=count, names=names, name=None)


def into_the_log(seen: Crossing, at: Point, counted: Counted, poll: Collected) -> None:
    log.debug("seen", seen=seen)  # arg-type
    log.info("seen", at=at)  # arg-type
    log.warning("seen", counted=counted)  # arg-type
    log.error("seen", poll=poll)  # arg-type


def several_into_the_log(seen: list[Crossing], counts: dict[str, int], raw: bytes) -> None:
    log.info("seen", seen=seen)  # arg-type
    log.info("seen", counts=counts)  # arg-type
    log.info("seen", raw=raw)  # arg-type


def into_a_record(record: Record, seen: Crossing, counted: Counted) -> None:
    replace(record, values=seen)  # arg-type
    replace(record, quality=counted)  # arg-type
    replace(record, start_ns=seen)  # arg-type


def into_the_spool(spool: Spool, seen: Crossing, counted: Counted) -> None:
    spool.append([seen], "9f2c1ab04d77")  # list-item
    spool.append([counted], "9f2c1ab04d77")  # list-item
