"""What the pipeline makes of what the rules find: in the same step, and over restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.alerts import AlertBook
from agent.channels import MeasuredChannel
from agent.rules import Rules, Subject
from config.model import AlertsTable
from drivers.base import Quantity, Reading
from tests.agent.test_pipeline import Station

PLACE = {"ja": "北3条", "en": "N3"}
OPEN = Quantity("open", "1", "door", classes=("no", "yes"))
POWER = Quantity("power_ok", "1", "mains", classes=("yes", "no"))
DOOR_HOLD_S = 60


class Cabinet(Station):
    """A station with a cabinet, and rules that know it."""

    def __init__(
        self, path: Path, *, subjects: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(path, **options)
        pipeline, self.power_failures = self.pipeline, list[str]()
        self.kept: list[Mapping[str, Any]] = []
        names = {"cabinet-1": "cabinet", "cabinet-2": "cabinet", "snow-1": "snow"}
        names = names if subjects is None else dict(subjects)
        pipeline._book = AlertBook(self.spool.alarms(), lambda: f"{self.run}-episode")
        active = pipeline._book.active
        measured = {"cabinet": {"open", "power_ok"}, "snow": {"depth_cm"}}
        known = {
            sensor: Subject(kind, PLACE, frozenset(measured[kind]))
            for sensor, kind in names.items()
        }
        pipeline._rules = Rules(AlertsTable(), known, active)
        pipeline._without_power = {sensor for sensor, name in active if name == "power_fail"}
        pipeline._power_failed = self.power_failures.append
        pipeline._remember = self.kept.append
        pipeline._channels = {
            **pipeline._channels,
            **{
                name: MeasuredChannel(
                    name,
                    "cabinet",
                    window_s=60,
                    rate_hz=1.0,
                    quantities={"open": OPEN, "power_ok": POWER},
                    now_ns=self.look().utc_ns,
                )
                for name in ("cabinet-1", "cabinet-2")
            },
        }

    def contact(self, quantity: str, value: str, sensor: str = "cabinet-1") -> None:
        self.says(sensor, Reading(quantity, value, self.boot_ns))

    def alerts(self) -> list[tuple[str, str]]:
        """Return what was told, in order: the alert and its state."""
        return [
            (each["alert"], each["state"]) for each in self.bodies() if each["stream"] == "alerts"
        ]

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(entry.body) for entry in self.told]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cabinet]]:
    made: list[Cabinet] = []

    def make_one(**options: Any) -> Cabinet:
        for earlier in made:
            earlier.ends()
        made.append(Cabinet(tmp_path / "spool.db", **options))
        return made[-1]

    yield make_one
    for station in made:
        station.ends()


def test_a_door_is_told_in_the_step_that_took_its_reading(make: Callable[..., Cabinet]) -> None:
    station = make()
    station.contact("open", "no")
    assert station.alerts() == []
    station.contact("open", "yes")
    assert station.alerts() == [("cabinet_door", "raised")]
    station.contact("open", "no")
    station.passes(DOOR_HOLD_S - 5)
    assert station.alerts() == [("cabinet_door", "raised")]
    station.passes(DOOR_HOLD_S + 5)
    assert station.alerts() == [("cabinet_door", "raised"), ("cabinet_door", "cleared")]
    told = next(each for each in station.bodies() if each.get("state") == "cleared")
    assert (told["sensor"], told["text"]["en"][:6]) == ("cabinet-1", "Over: ")


def test_an_open_door_is_one_episode_over_a_restart(make: Callable[..., Cabinet]) -> None:
    station = make()
    station.contact("open", "yes")
    (opened,) = station.bodies()
    later = make(run="run-2", begin_s=200.0)
    later.contact("open", "yes")
    assert later.alerts() == []
    later.contact("open", "no")
    later.passes(200.0 + DOOR_HOLD_S + 5)
    cleared = [each for each in later.bodies() if each["stream"] == "alerts"]
    assert [(each["state"], each["id"]) for each in cleared] == [("cleared", opened["id"])]


def test_what_was_told_of_a_sensor_that_is_gone_is_over(make: Callable[..., Cabinet]) -> None:
    make().contact("open", "yes")
    later = make(run="run-2", begin_s=200.0, subjects={"snow-1": "snow"})
    later.pipeline.announce()
    later.passes(200.0 + DOOR_HOLD_S + 5)
    assert later.alerts() == [("cabinet_door", "cleared")]


def test_the_mains_fail_once_an_edge(make: Callable[..., Cabinet]) -> None:
    station = make()
    for value in ("yes", "no", "no", "no"):
        station.contact("power_ok", value)
    assert station.power_failures == ["cabinet-1"] * 1
    for value in ("yes", "no"):  # back for a moment, within the hold
        station.contact("power_ok", value)
    assert station.power_failures == ["cabinet-1"] * 2
    assert station.alerts() == [("power_fail", "raised")]


def test_of_two_that_watch_the_mains_each_tells_its_own(make: Callable[..., Cabinet]) -> None:
    station = make()
    for _ in range(5):
        station.contact("power_ok", "yes", "cabinet-1")
        station.contact("power_ok", "no", "cabinet-2")
    assert station.power_failures == ["cabinet-2"]


def test_who_starts_while_the_mains_are_still_away_goes_on(make: Callable[..., Cabinet]) -> None:
    make().contact("power_ok", "no")
    later = make(run="run-2", begin_s=60.0)
    later.contact("power_ok", "no")
    assert later.power_failures == ["cabinet-1"] * 0
    later.contact("power_ok", "yes")
    later.contact("power_ok", "no")
    assert later.power_failures == ["cabinet-1"] * 1


def test_who_starts_on_a_battery_that_nobody_told_of_says_good_bye(
    make: Callable[..., Cabinet],
) -> None:
    station = make()
    station.contact("power_ok", "no")
    assert station.power_failures == ["cabinet-1"] * 1


def test_a_window_raises_what_its_record_tells(make: Callable[..., Cabinet]) -> None:
    station = make()
    station.passes(700.0)  # the snow sensor says nothing
    assert ("sensor_missing", "raised") in station.alerts()
    station.measures(800.0)
    station.passes(900.0)
    raised, cleared = (
        each
        for each in station.bodies()
        if each.get("alert") == "sensor_missing" and each["sensor"] == "snow-1"
    )
    assert (raised["state"], cleared["state"]) == ("raised", "cleared")
    assert raised["id"] == cleared["id"]


def test_what_sensors_must_know_is_kept_now_and_then_and_at_the_end(
    make: Callable[..., Cabinet], monkeypatch: pytest.MonkeyPatch
) -> None:
    station = make()
    monkeypatch.setattr(MeasuredChannel, "state", lambda self: {"of": self._stream})
    station.passes(899.0)
    assert station.kept == []
    station.passes(905.0)
    assert len(station.kept) == 1
    station.pipeline._stopping.set()
    station.pipeline.run()
    assert len(station.kept) == 2
    names = ("snow-1", "cabinet-1", "cabinet-2")  # nothing of people
    assert station.kept[-1] == {name: {"of": name} for name in names}
