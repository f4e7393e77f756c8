"""Acceptance tests, as they go: what is asked before, what is done, what is said meanwhile."""

from __future__ import annotations

import argparse
import getpass
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from agent import tester
from agent.asking import Asking, NotAnsweredError, socket_path
from agent.commissioned import Test
from agent.commissioning import WAYS, Verdict, judge_depth, judge_readings, judge_walks, ways_of
from agent.direct import Assembly, Direct, read_sets
from agent.interview import Interview
from agent.plan import PlannedSensor
from agent.sensor import directions_of
from agent.walking import Walks
from drivers.base import BusError

from . import complain
from ._asked import HELD
from ._sensor import lend_temperature
from ._terminal import Terminal
from .language import Text, language, said

SAMPLES = 30
WALKS = 10
WALK_S = 180.0  # for all walks, where nobody is there to say that they are over
QUIET_S = 5.0  # after the last of them

MEASURING = Text("measuring {n} samples ...", "{n}回測定します…")
WARMING = Text("it warms up; wait", "ウォームアップ中です。お待ちください")
NOT_READY = Text("not ready after {after_s:.0f} s", "{after_s:.0f}秒待ちましたが準備が整いません")
SILENT = Text(
    "{n} of {expected} samples came in time", "時間内に得られたのは{expected}回中{n}回です"
)
FIRST_WALK = Text(
    "Walk through once, {way}. (Enter: it was not counted)",
    "「{way}」の方向に1回通ってください。（数えられなければEnter）",
)
FIRST_COUNTED = Text("counted.", "数えました。")
MORE_WALKS = Text(
    "Now go on, one by one, until it was {walks} in all; then press Enter.",
    "続けて1人ずつ通り、全部で{walks}になったらEnterを押してください。",
)
OTHER_CONFIG = Text(
    "the running gateway has another configuration than the file: systemctl reload yukimi, and "
    "test again, so that the record holds for what runs",
    "稼働中のゲートウェイの設定がファイルと異なります。systemctl reload yukimi の後に再度試験して"
    "ください（記録を稼働中の設定に対応させるため）",
)
WALKED = Text("{way} {number}", "{way}{number}回")


Sample = Mapping[str, tuple[float | str | None, Sequence[str]]]  # quantity -> value, reasons


class NotNowError(Exception):
    """The sensor cannot be tested now; the message says what to do first."""


class AcceptanceTest(ABC):
    """One test of one sensor: what is asked before it, and how it goes."""

    kind: Test

    def __init__(
        self,
        arguments: argparse.Namespace,
        sensor: PlannedSensor,
        thermometer: PlannedSensor | None,
        config_id: str,
    ) -> None:
        self.arguments, self.sensor = arguments, sensor
        self.terminal = Terminal.where_there_is_one(on_stderr=arguments.json)
        self.given: dict[str, str] = {}
        for flag in ("--by", "--thermometer"):
            if (answer := getattr(arguments, flag[2:])) is not None:
                self.given[flag] = answer
        self.interview: Interview = Interview(
            self.terminal, self.given, language=language(), takes_defaults=arguments.yes
        )
        self.by = ""
        self.shown_only: dict[str, Any] = {}  # for those who agreed to see it
        self.direct: Direct = Direct(sensor, lambda _: None)
        self._thermometer = thermometer
        self.gateway_has_it = self._ask_gateway(config_id)

    def ask(self) -> bool:
        """Ask what must be known; False where something found no answer."""
        user = os.environ.get("SUDO_USER") or getpass.getuser()
        if self.terminal is not None or "--by" in self.given:
            user = self.interview.ask(tester.by(user)) or user
        self.by = user
        return not self.interview.missing

    @abstractmethod
    def test(self) -> Verdict:
        """Make the test. Raises DriverError, NotAnsweredError."""

    def _ask_gateway(self, config_id: str) -> bool:
        """Tell whether a gateway runs and has the sensor. Raises NotNowError: it may not have."""
        try:
            with Asking(socket_path(self.arguments.config)) as asking:
                status = asking.ask("status")
        except NotAnsweredError:
            return False
        if self.sensor.table.id not in {each["id"] for each in status["sensors"]}:
            return False
        if self.sensor.counts_people:
            raise NotNowError(HELD.filled(sensor=self.sensor.table.id))
        if status["gateway"]["config"] != config_id:
            raise NotNowError(OTHER_CONFIG)
        return True

    @contextmanager
    def _opened(self) -> Iterator[Direct]:
        """Hold the sensor open, the air's temperature told where it needs that."""
        if self._thermometer is not None:
            lend_temperature(self.direct, self._thermometer)
        with self.direct as direct:
            yield direct

    def warming(self) -> None:
        """Say that the device warms up."""
        complain(f"{self.sensor.table.id}: {said(WARMING)}")


class Measured(AcceptanceTest):
    """A sensor of things: samples, against the ground or for themselves."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        sensor: PlannedSensor,
        thermometer: PlannedSensor | None,
        config_id: str,
    ) -> None:
        super().__init__(arguments, sensor, thermometer, config_id)
        self.has_depth = "depth_cm" in self.direct.driver.quantities
        self.kind = "known_depth" if self.has_depth else "readings"
        self.known_cm = 0.0
        self.thermometer_c: float | None = None
        depth = "0" if arguments.bare_ground else arguments.depth
        if depth is not None:
            self.given[tester.KNOWN_DEPTH.flag] = depth

    def ask(self) -> bool:
        if self.has_depth:
            self.known_cm = self.interview.ask(tester.KNOWN_DEPTH) or 0.0
        elif _measures_temperature(self.direct) and (
            self.terminal is not None or "--thermometer" in self.given
        ):
            self.thermometer_c = self.interview.ask(tester.THERMOMETER)
        return super().ask()

    def test(self) -> Verdict:
        wanted = self.arguments.n or SAMPLES
        self.interview.say(MEASURING, n=wanted)
        samples: dict[str, list[float | str | None]] = {}
        reasons: set[str] = set()
        sets = 0
        for sample in islice(self._samples(wanted), wanted):
            sets += 1
            for name, (value, why) in sample.items():
                samples.setdefault(name, []).append(value)
                reasons.update(why)
        if self.has_depth:
            verdict = judge_depth(
                samples, self.sensor.options, known_cm=self.known_cm, reasons=sorted(reasons)
            )
        else:
            quantities = self.sensor.believed(self.direct.driver.quantities)
            verdict = judge_readings(samples, quantities, thermometer_c=self.thermometer_c)
        if sets < wanted:
            verdict.fail(SILENT, n=sets, expected=wanted)
        verdict.measured["through"] = "gateway" if self.gateway_has_it else "device"
        return verdict

    def _samples(self, wanted: int) -> Iterator[Sample]:
        """Yield samples, of the gateway where it has the sensor. Raises as `test`."""
        timeout_s = self.arguments.seconds or self.direct.usual_s(wanted)
        if self.gateway_has_it:
            yield from _told(self.arguments.config, self.sensor.table.id, wanted, timeout_s)
            return
        with self._opened() as direct:
            for found in read_sets(direct, Assembly(direct.driver), timeout_s, self.warming):
                fix = found.fix
                place = {} if fix is None else {"latitude_deg": (fix.latitude_deg, ())}
                place |= {} if fix is None else {"longitude_deg": (fix.longitude_deg, ())}
                yield place | {
                    name: (reading.value, reading.reasons)
                    for name, reading in found.readings.items()
                }


class Walked(AcceptanceTest):
    """A people counter: those who know and agree walk through it."""

    kind = "walk_through"

    def __init__(
        self,
        arguments: argparse.Namespace,
        sensor: PlannedSensor,
        thermometer: PlannedSensor | None,
        config_id: str,
    ) -> None:
        super().__init__(arguments, sensor, thermometer, config_id)
        self.walk_in: int = arguments.walk_in or WALKS
        self.walk_out: int = self.walk_in if arguments.walk_out is None else arguments.walk_out
        if arguments.consent:
            self.given["--consent"] = "y"

    def ask(self) -> bool:
        agreed = self.interview.ask(tester.CONSENT)
        if agreed is False:
            raise KeyboardInterrupt
        return super().ask()

    def test(self) -> Verdict:
        with self._opened() as direct:
            walks = Walks(direct)
            walked = ways_of(directions_of(direct.driver), self.walk_in, self.walk_out)
            patience_s = direct.usual_s(1)
            if not walks.wait_ready(lambda: direct.elapsed_s > patience_s, self.warming):
                raise BusError(NOT_READY.filled(after_s=patience_s))
            first_way = next(iter(walked))
            self.interview.say(FIRST_WALK, way=WAYS[first_way])
            walks.count(lambda: walks.total > 0 or self._is_over(walks, 1))
            first = next(iter(walks.counted), None)
            if first is not None:
                self.interview.say(FIRST_COUNTED)
            goal = [WALKED.filled(way=WAYS[way], number=number) for way, number in walked.items()]
            self.interview.say(MORE_WALKS, walks=goal)
            walks.count(lambda: self._is_over(walks, sum(walked.values())))
            verdict = judge_walks(walked, walks.counted, first, self.sensor.options)
            self.shown_only["counted"] = {way: walks.counted.get(way, 0) for way in walked}
            return verdict

    def _is_over(self, walks: Walks, wanted: int) -> bool:
        """Tell whether the walks are over: somebody says so, or all have been counted."""
        if self.terminal is not None:
            return self.terminal.has_answered()
        if self.direct.elapsed_s >= (self.arguments.seconds or WALK_S):
            return True
        return walks.total >= wanted and walks.quiet_s >= QUIET_S


def _measures_temperature(direct: Direct) -> bool:
    return bool({"air_temperature_c", "surface_temperature_c"} & set(direct.driver.quantities))


def _told(config: Path | None, sensor: str, wanted: int, timeout_s: float) -> Iterator[Sample]:
    """Yield what the running gateway reads from now on. Raises NotAnsweredError."""
    until_s = time.monotonic() + timeout_s
    with Asking(socket_path(config)) as asking:
        try:
            for line in asking.stream("read", until_s=until_s, sensor=sensor, n=wanted):
                readings = line.get("readings", {})
                place = readings.pop("location", {}).get("value", {})
                sample: dict[str, tuple[float | str | None, Sequence[str]]] = {
                    name: (each["value"], each["reasons"]) for name, each in readings.items()
                }
                sample |= {f"{name}_deg": (value, ()) for name, value in place.items()}
                if sample:
                    yield sample
        except NotAnsweredError as exc:
            if exc.code != "late":
                raise
