"""What is seen of people says nothing, however it is shown, and cannot be carried away."""

from __future__ import annotations

import copy
import io
import json
import pickle
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

import drivers
from agent import logs
from agent.clock import Stamp
from agent.collector import Collected
from agent.phenomena.people import Counted
from agent.record import Record
from agent.spool import Spool
from drivers.base import (
    PEOPLE_REASONS,
    Alive,
    Crossing,
    Glimpse,
    NoGlimpseError,
    PeopleReason,
    Reading,
    Scene,
    Trouble,
    Withheld,
    glimpses,
)
from drivers.beam_pair import Beams, BeamStateMachine
from drivers.benewake_pair import Beam
from drivers.benewake_tf import Sample
from drivers.gpio import Edge
from drivers.grideye import PASSAGE
from drivers.ld2450 import Frame, Target
from drivers.thermal import Background, ThermalCounter
from drivers.tracking import LineCounter, Point
from hil.rig import Rig

PEOPLE = [name for name in drivers.DRIVERS if drivers.load(name).spec.kind == "people"]
SECRET = "4711"
S = 1_000_000_000


def tracks() -> LineCounter:
    counter = LineCounter(PASSAGE)
    counter.update([Point(2.4711, 2.4711)], 47.11)
    return counter


def counter() -> ThermalCounter:
    thermal = ThermalCounter(PASSAGE)
    thermal.take(np.full((8, 8), 24.711), 47.11)
    return thermal


def background() -> Background:
    place = Background()
    place.excess_k(np.full((8, 8), 24.711))
    return place


def counted() -> Counted:
    tally = Counted(["towards"])
    for _ in range(4):
        tally.add(Crossing("towards", 4711))
    return tally


SECRETS: dict[str, Callable[[], Any]] = {
    "a crossing": lambda: Crossing("towards", 4711),
    "a point": lambda: Point(4711.0, 4711.0),
    "a track": lambda: tracks()._tracks[0],
    "all tracks": tracks,
    "a counter with its last frame": counter,
    "a background": background,
    "a scene": lambda: Scene("towards", people=((4711, 4711.0, 4711.0),)),
    "a radar's target": lambda: Target(4711, 4711, 0, 360),
    "a radar's frame": lambda: Frame(True, b"4711"),
    "a lidar's sample": lambda: Sample(4711, 4711),
    "a lidar's beam": lambda: Beam("tf-luna", 4711.0),
    "an edge": lambda: Edge(17, 1, 4711),
    "the way through two beams": lambda: BeamStateMachine(4711, Beams.A),
    "a window's counts": counted,
    "a poll": lambda: Collected("walk-1", [Crossing("towards", 4711)]),
} | {name: lambda name=name: Rig(name).driver for name in PEOPLE}  # type: ignore[misc]

SHOWN: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "an f-string": lambda secret: f"{secret} {secret!r} {secret!s} {secret!a}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "JSON of what JSON does not know": lambda secret: json.dumps([secret], default=str),
    "a container": lambda secret: f"{[secret]} {{'a': secret}} {(secret,)}",
    "an exception": lambda secret: repr(ValueError(secret)),
    "a log line": lambda secret: logged(secret=secret),
    "a log line with several": lambda secret: logged(secret=[secret, secret]),
    "a log line that is a secret": lambda secret: logged(event=secret),
}
CARRIED: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "the oldest pickle": lambda secret: pickle.dumps(secret, 0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "JSON": json.dumps,
    "JSON within": lambda secret: json.dumps({"values": [secret]}),
    "hash": hash,
    "a set": lambda secret: {secret},
    "a format of numbers": lambda secret: f"{secret:.3f}",
}


def logged(**said: Any) -> str:
    before = structlog.get_config()
    paper, stderr = io.StringIO(), sys.stderr
    try:
        sys.stderr = paper
        logs.configure("debug")
        structlog.get_logger().info(said.pop("event", "seen"), **said)
    finally:
        sys.stderr = stderr
        structlog.configure(**before)
    return paper.getvalue().partition(" level=")[2]  # a time may have any digits


@pytest.mark.parametrize("how", SHOWN)
@pytest.mark.parametrize("what", SECRETS)
def test_however_it_is_shown_it_says_nothing(what: str, how: str) -> None:
    secret = SECRETS[what]()
    assert isinstance(secret, Withheld)
    said = SHOWN[how](secret)
    assert "(withheld)" in said
    assert SECRET not in said
    assert "array" not in said


@pytest.mark.parametrize("how", CARRIED)
@pytest.mark.parametrize("what", SECRETS)
def test_it_cannot_be_carried_away(what: str, how: str) -> None:
    with pytest.raises(TypeError) as refused:
        CARRIED[how](SECRETS[what]())
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("what", SECRETS)
def test_it_never_gets_into_a_record_nor_the_spool(what: str, tmp_path: Path) -> None:
    def holding(value: object) -> Record:
        values = {"towards": {"count": value}}
        return Record("walk-1", "people", 0, S, 0, S, Stamp("synced", 0.0), {}, values)

    spool = Spool(tmp_path / "spool.db", max_bytes=2**24, run="r", boot_id="b", gateway="g")
    for carried in (SECRETS[what](), [SECRETS[what]()]):
        with pytest.raises(TypeError):
            holding(carried).body(1)
        with pytest.raises(TypeError) as refused:
            spool.append([holding(carried)], "9f2c1ab04d77")
        assert SECRET not in str(refused.value)
    assert spool.produced() == {}
    spool.append([holding(5)], "9f2c1ab04d77")
    assert spool.produced() == {"walk-1": 1}
    spool.close(clean=True)
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_what_is_not_withheld_is_shown_and_carried() -> None:
    reading = Reading("depth_cm", 4711.0, 0)
    assert SECRET in SHOWN["repr"](reading)
    assert pickle.loads(pickle.dumps(reading)) == reading


@pytest.mark.parametrize("name", PEOPLE)
def test_each_people_driver_says_by_its_types_that_it_hands_on_glimpses_only(name: str) -> None:
    driver = drivers.load(name)
    for way in ("poll", "feed", "feed_b"):
        if hasattr(driver, way):
            assert typing.get_type_hints(getattr(driver, way))["return"] == Sequence[Glimpse]


def test_glimpses_are_let_through_as_they_are() -> None:
    seen = [Crossing("towards", 0), Alive(0), *(Trouble(each, 0) for each in PEOPLE_REASONS)]
    assert glimpses(iter(seen)) == seen
    assert frozenset(typing.get_args(PeopleReason)) == PEOPLE_REASONS


def test_what_is_refused_is_told_by_its_kind_only() -> None:
    with pytest.raises(NoGlimpseError, match="a Point") as refused:
        glimpses([Alive(0), Point(4711.0, 4711.0)])
    assert SECRET not in str(refused.value)
