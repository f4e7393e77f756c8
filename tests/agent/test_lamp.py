"""The lamp: a heartbeat when all is well, else the number of the first failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from gpiozero.pins.mock import MockFactory
from structlog.testing import capture_logs

from agent.blink import (
    BEAT_S,
    CLOCK,
    DISK,
    FLASH_S,
    NETWORK,
    PATIENCE_S,
    SENSOR,
    Blinker,
    Step,
    Vitals,
    pattern,
)
from agent.lamp import BoardLight, Lamp
from drivers.base import BusError
from drivers.gpio import OutputPin

WELL = Vitals(True, ("ok", "warmup", "starting"), True, True, 0.0)


def flashes(steps: list[Step], lasts_s: float) -> int:
    return sum(is_on and each_s == lasts_s for is_on, each_s in steps)


@pytest.mark.parametrize("code", [SENSOR, NETWORK, CLOCK, DISK])
def test_a_failure_is_blinked_as_often_as_its_number_and_then_there_is_a_pause(code: int) -> None:
    steps = pattern(code)
    assert flashes(steps, FLASH_S) == code
    assert steps[-1][0] is False
    assert steps[-1][1] > 2 * max(lasts_s for _, lasts_s in steps[:-1])
    assert all(on != other for (on, _), (other, _) in pairwise(steps))


def test_the_heartbeat_is_one_short_flash() -> None:
    steps = pattern(None)
    assert flashes(steps, BEAT_S) == 1
    assert BEAT_S < FLASH_S


@pytest.mark.parametrize(
    ("vitals", "code"),
    [
        (WELL, None),
        (WELL._replace(sensors=("ok", "silent")), SENSOR),
        (WELL._replace(sensors=("ok", "ignored")), SENSOR),
        (WELL._replace(time_is_known=False), CLOCK),
        (WELL._replace(disk_works=False), DISK),
        (WELL._replace(disk_works=False, sensors=("silent",), time_is_known=False), DISK),
        (WELL._replace(sensors=("silent",), time_is_known=False), SENSOR),
    ],
)
def test_the_first_failure_is_the_one_that_is_blinked(vitals: Vitals, code: int | None) -> None:
    assert Blinker().code(vitals) == code


def test_a_connection_is_missed_after_a_minute_and_comes_before_the_clock() -> None:
    blinker = Blinker()
    away = WELL._replace(is_connected=False, time_is_known=False)
    assert blinker.code(away) is None
    assert blinker.code(away._replace(at_s=PATIENCE_S - 1)) is None
    assert blinker.code(away._replace(at_s=PATIENCE_S)) == NETWORK
    assert blinker.code(WELL._replace(at_s=PATIENCE_S + 1)) is None
    assert blinker.code(away._replace(at_s=PATIENCE_S + 2)) is None


def board(folder: Path, name: str = "ACT") -> Path:
    led = folder / name
    led.mkdir(parents=True)
    (led / "trigger").write_text("none rc-feedback [mmc0] timer\n")
    (led / "brightness").write_text("0")
    return led


@pytest.mark.parametrize("name", ["ACT", "led0"])
def test_the_boards_lamp_is_taken_and_given_back(tmp_path: Path, name: str) -> None:
    led = board(tmp_path, name)
    light = BoardLight("ACT", tmp_path)
    assert (led / "trigger").read_text() == "none"
    light.set(True)
    assert (led / "brightness").read_text() == "1"
    light.close()
    assert (led / "brightness").read_text() == "0"
    assert (led / "trigger").read_text() == "mmc0"


def test_a_lamp_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    board(tmp_path, "PWR")
    with pytest.raises(BusError, match=r'no lamp "ACT" in .*; there are: PWR'):
        BoardLight("ACT", tmp_path)


def test_a_pin_is_driven_and_let_go() -> None:
    factory = MockFactory()
    light = OutputPin(21, factory)
    pin = factory.pin(21)
    light.set(True)
    assert pin.state == 1
    light.set(False)
    assert pin.state == 0
    light.close()


class Watched:
    """A light that notes what is done to it, and fails on demand."""

    def __init__(self) -> None:
        self.did: list[bool | str] = []
        self.fails = False

    def set(self, on: bool) -> None:
        if self.fails:
            raise BusError("gone")
        self.did.append(on)

    def close(self) -> None:
        self.did.append("closed")


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_the_thread_blinks_and_gives_the_lamp_back_at_once() -> None:
    light = Watched()
    lamp = Lamp("ACT", lambda: WELL, make=lambda _: light)
    lamp.start()
    until(lambda: len(light.did) >= 2)
    lamp.stop()
    assert light.did[:2] == [True, False]
    assert light.did[-1] == "closed"
    assert not any(thread.name == "lamp" for thread in threading.enumerate())


def test_a_lamp_that_fails_costs_a_line_and_nothing_else() -> None:
    def none(_led: str | int) -> Watched:
        raise BusError("no such lamp")

    broken = Watched()
    broken.fails = True
    with capture_logs() as logs:
        for make in (none, lambda _: broken):
            lamp = Lamp("ACT", lambda: WELL, make=make)
            lamp.start()
            until(lambda: not any(each.name == "lamp" for each in threading.enumerate()))
            lamp.stop()
    assert [line["error"] for line in logs] == ["no such lamp", "gone"]
    assert broken.did == ["closed"]
