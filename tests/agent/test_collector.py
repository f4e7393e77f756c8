"""One bus: its devices are asked in time, a dead one costs the others its time-out at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import pytest
from structlog.testing import capture_logs

from agent.collector import (
    HAND_ON_S,
    IGNORE_AFTER_FAILURES,
    REOPEN_AFTER_FRAME_ERRORS,
    RETRY_CAP_S,
    TROUBLES_PER_POLL,
    Collected,
    Collector,
    Station,
)
from agent.health import Health, SensorHealth
from agent.inbox import Inbox
from drivers import grideye
from drivers.base import (
    Alive,
    BusError,
    Crossing,
    Fix,
    FrameError,
    Observation,
    Options,
    Quantity,
    Reading,
    Spec,
    Trouble,
)
from drivers.buses import BusGoneError

BEGIN_S = 1000.0


class World:
    """A clock and a wish to stop; who waits in it moves the clock."""

    def __init__(self, lasts_s: float) -> None:
        self.now_s = BEGIN_S
        self.end_s = BEGIN_S + lasts_s

    def boot_ns(self) -> int:
        return round(self.now_s * 1e9)

    def is_set(self) -> bool:
        return self.now_s >= self.end_s

    def wait(self, timeout_s: float | None = None) -> bool:
        left_s = self.end_s - self.now_s
        # A nanosecond more, as real waits are: less would be rounded away, and waited for again.
        self.now_s += left_s if timeout_s is None else min(timeout_s + 1e-9, left_s)
        return self.is_set()


class Bus:
    """A bus that can be pulled out."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_open = False
        self.openings: list[float] = []
        self.is_out: Callable[[float], bool] = lambda _s: False

    def open(self) -> None:
        self.openings.append(self._world.now_s)
        if self.is_out(self._world.now_s):
            raise BusError("/dev/ttyUSB0: No such file or directory")
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class Device:
    """A device that answers unless it is told otherwise, and remembers when it was asked."""

    spec: ClassVar[Spec] = Spec("device", "Device", "snow", "serial", ())
    Options: ClassVar[type[Options]] = Options
    rate_hz = 1.0

    def __init__(
        self,
        world: World,
        bus: Bus,
        *,
        interval_s: float = 1.0,
        timeout_s: float = 0.0,
        answers: Callable[[float], Sequence[Observation]] | None = None,
    ) -> None:
        self._world = world
        self._bus = bus
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self.frames = 0
        self.frame_errors = 0
        self.identity = ""
        self.is_open = False
        self.openings = 0
        self.told: Mapping[str, Quantity] = {}
        self.asked: list[float] = []
        self.answers = answers or (lambda at_s: [Reading("depth_cm", 42.0, round(at_s * 1e9))])

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return self.told

    def open(self) -> None:
        self._need_the_bus()
        self.is_open = True
        self.openings += 1

    def poll(self) -> Sequence[Observation]:
        at_s = self._world.now_s
        self.asked.append(at_s)
        self._need_the_bus()
        try:
            return self.answers(at_s)
        except Exception:
            self._world.now_s += self.timeout_s
            raise

    def close(self) -> None:
        self.is_open = False

    def _need_the_bus(self) -> None:
        if not self._bus.is_open or self._bus.is_out(self._world.now_s):
            raise BusError("the bus is gone")


class Bench:
    """A bus with devices, and the collector that asks them."""

    def __init__(self, lasts_s: float = 60.0, *, room: int = 100_000) -> None:
        self.world = World(lasts_s)
        self.bus = Bus(self.world)
        self.health = Health()
        self.queue = Inbox(room)
        self.stations: list[Station] = []

    def device(
        self, name: str, *, on_error: Literal["retry", "ignore"] = "retry", **how: Any
    ) -> Device:
        return self._add(name, Device(self.world, self.bus, **how), on_error)

    def people(self, name: str, **how: Any) -> Device:
        return self._add(name, PeopleDevice(self.world, self.bus, **how), "retry")

    def _add(self, name: str, device: Device, on_error: Literal["retry", "ignore"]) -> Device:
        self.stations.append(Station(name, device, on_error, self.health.sensor(name)))
        return device

    def collector(self) -> Collector:
        return Collector(
            "ttyUSB0",
            self.bus,
            self.stations,
            self.queue,
            health=self.health,
            boot_ns=self.world.boot_ns,
            stopping=cast(threading.Event, self.world),
        )

    def run(self) -> list[dict[str, Any]]:
        with capture_logs() as logs:
            self.collector().run()
        return [dict(line) for line in logs]

    def collected(self, sensor_id: str) -> list[Observation]:
        return [
            seen
            for poll in list(self.queue.queue)
            if poll is not None and poll.sensor_id == sensor_id
            for seen in poll.observations
        ]


def dead(_at_s: float) -> Sequence[Observation]:
    raise BusError("nobody answers")


def garbage(_at_s: float) -> Sequence[Observation]:
    raise FrameError("checksum")


def bug(_at_s: float) -> Sequence[Observation]:
    raise ZeroDivisionError


def after(until_s: float, device: Device, meanwhile: Callable[[float], Any]) -> None:
    """Let a device do something else until `until_s` after the beginning."""
    healthy = device.answers
    device.answers = lambda at_s: (meanwhile if at_s < BEGIN_S + until_s else healthy)(at_s)


def distances(times: Sequence[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


def test_devices_are_asked_at_their_own_intervals() -> None:
    bench = Bench(lasts_s=10.0)
    fast = bench.device("fast", interval_s=0.1)
    slow = bench.device("slow", interval_s=2.5)
    bench.run()
    assert set(distances(fast.asked)) == {0.1}
    assert set(distances(slow.asked)) == {2.5}
    assert len(bench.collected("fast")) == len(fast.asked) == 100


def test_a_late_poll_is_not_made_up_for() -> None:
    bench = Bench(lasts_s=30.0)
    device = bench.device("snow-1", interval_s=1.0)

    def slowly(_at_s: float) -> Sequence[Observation]:
        bench.world.wait(4.3)
        return []

    bench.device("slow", interval_s=10.0, answers=slowly)
    bench.run()
    assert min(distances(device.asked)) > 0.5
    assert max(distances(device.asked)) < 5.5


def test_a_dead_device_costs_its_neighbour_at_most_its_own_time_out() -> None:
    bench = Bench(lasts_s=600.0)
    bench.device("dead", interval_s=1.0, timeout_s=0.5, answers=dead)
    alive = bench.device("alive", interval_s=1.0)
    bench.run()
    assert max(distances(alive.asked)) <= 1.5
    assert len(alive.asked) >= 595
    assert bench.health.states() == {"dead": "silent", "alive": "ok"}


def test_a_dead_device_is_asked_less_and_less_often_and_never_given_up() -> None:
    bench = Bench(lasts_s=300.0)
    device = bench.device("dead", answers=dead)
    bench.run()
    waits = distances(device.asked)
    assert waits[:8] == [0.2, 0.2, 1, 2, 4, 8, 16, 30]
    assert set(waits[8:]) == {RETRY_CAP_S}


def test_a_failed_poll_is_told_as_trouble_of_the_bus() -> None:
    bench = Bench(lasts_s=4.0)
    device = bench.device("dead", answers=dead)
    bench.run()
    seen = bench.collected("dead")
    assert seen == [Trouble("bus_error", round(at_s * 1e9)) for at_s in device.asked]
    assert len(seen) == 5
    assert bench.health.sensor("dead").failed_polls == 5


def test_the_edges_are_logged_once_and_not_each_failure() -> None:
    bench = Bench(lasts_s=300.0)
    device = bench.device("snow-1")
    after(90.0, device, dead)
    logs = bench.run()
    assert [line["event"] for line in logs] == [
        "sensor is silent; looking for it",
        "sensor is back",
    ]
    silent, back = logs
    assert (silent["sensor"], silent["reason"]) == ("snow-1", "nobody answers")
    assert 90 <= back["after_s"] <= 121
    assert back["polls_lost"] == 9
    assert bench.health.states() == {"snow-1": "ok"}


def test_a_device_that_came_back_is_opened_anew_and_asked_at_its_interval() -> None:
    bench = Bench(lasts_s=60.0)
    device = bench.device("snow-1", interval_s=1.0)
    bench.device("other")
    after(5.0, device, dead)
    bench.run()
    recovered = [at_s for at_s in device.asked if at_s >= BEGIN_S + 7.0]
    assert set(distances(recovered)) == {1.0}


def test_a_device_may_be_left_alone_after_ten_failures() -> None:
    bench = Bench(lasts_s=3600.0)
    device = bench.device("dead", on_error="ignore", answers=dead)
    neighbour = bench.device("alive")
    logs = bench.run()
    assert len(device.asked) == IGNORE_AFTER_FAILURES == 10
    assert bench.health.states()["dead"] == "ignored"
    assert len(neighbour.asked) > 3500
    assert "sensor is left alone until the next reload" in [line["event"] for line in logs]


def test_ten_failures_with_a_success_between_them_are_not_ten_in_a_row() -> None:
    bench = Bench(lasts_s=3600.0)

    def every_fifth(at_s: float) -> Sequence[Observation]:
        if len(device.asked) % 5:
            raise BusError("nobody answers")
        return [Reading("depth_cm", 42.0, round(at_s * 1e9))]

    device = bench.device("shaky", on_error="ignore", answers=every_fifth)
    bench.run()
    assert len(device.asked) > 50


def test_with_nobody_left_to_ask_it_waits_for_the_stop() -> None:
    bench = Bench(lasts_s=86400.0)
    bench.device("dead", on_error="ignore", answers=dead)
    bench.run()
    assert not bench.bus.is_open


# The bus itself


def test_when_no_device_answers_the_bus_is_opened_again() -> None:
    bench = Bench(lasts_s=100.0)
    one, two = bench.device("one"), bench.device("two")
    bench.bus.is_out = lambda at_s: BEGIN_S + 10 <= at_s < BEGIN_S + 40  # pulled out
    logs = bench.run()
    assert len(bench.bus.openings) > 2
    assert bench.health.states() == {"one": "ok", "two": "ok"}
    assert [line["event"] for line in logs].count("sensor is back") == 2
    assert one.asked[-1] > BEGIN_S + 98
    assert two.asked[-1] > BEGIN_S + 98


def test_while_one_device_answers_the_bus_stays_open() -> None:
    bench = Bench(lasts_s=600.0)
    bench.device("dead", answers=dead)
    bench.device("alive")
    bench.run()
    assert bench.bus.openings == [BEGIN_S]


def test_a_device_left_alone_does_not_keep_the_bus_from_being_opened_again() -> None:
    bench = Bench(lasts_s=3600.0)
    bench.device("gone", on_error="ignore", answers=dead)
    device = bench.device("snow-1")
    bench.bus.is_out = lambda at_s: BEGIN_S + 1000 <= at_s < BEGIN_S + 1100
    bench.run()
    assert bench.health.states()["snow-1"] == "ok"
    assert device.asked[-1] > BEGIN_S + 3590


def test_a_bus_that_was_never_there_is_looked_for_and_found() -> None:
    bench = Bench(lasts_s=100.0)
    bench.device("snow-1")
    bench.bus.is_out = lambda at_s: at_s < BEGIN_S + 50
    logs = bench.run()
    assert "No such file" in logs[0]["reason"]
    assert bench.health.states() == {"snow-1": "ok"}


def test_at_a_stop_every_device_and_the_bus_are_closed() -> None:
    bench = Bench(lasts_s=5.0)
    device = bench.device("snow-1")
    bench.run()
    assert not device.is_open
    assert not bench.bus.is_open


def test_a_bus_that_is_gone_is_opened_again_without_waiting_for_every_device_to_say_so() -> None:
    bench = Bench(lasts_s=100.0)
    fast, slow = bench.device("fast"), bench.device("slow", interval_s=3600.0)

    def gone(_at_s: float) -> Sequence[Observation]:
        raise BusGoneError("/dev/ttyUSB0: Input/output error")

    healthy = fast.answers
    fast.answers = lambda at_s: gone(at_s) if len(fast.asked) == 5 else healthy(at_s)
    logs = bench.run()
    assert len(bench.bus.openings) == 2
    assert len(fast.asked) >= 100
    assert len(slow.asked) == 1
    assert "sensor is silent; looking for it" not in [line["event"] for line in logs]


def test_when_the_bus_is_back_its_silent_devices_are_all_asked_at_once() -> None:
    bench = Bench(lasts_s=400.0)
    names = ("one", "two", "three")
    for number, name in enumerate(names):
        bench.device(name, interval_s=1.0 + 3 * number)
    bench.bus.is_out = lambda at_s: BEGIN_S + 10 <= at_s < BEGIN_S + 200
    logs = bench.run()
    back = [line for line in logs if line["event"] == "sensor is back"]
    assert len(back) == 3
    seen_s = [
        min(at.at_boot_ns for at in bench.collected(name) if at.at_boot_ns > (BEGIN_S + 200) * 1e9)
        for name in names
    ]
    assert max(seen_s) - min(seen_s) < 1e9


def test_a_bus_that_opens_and_does_not_answer_is_not_asked_without_end() -> None:
    bench = Bench(lasts_s=600.0)
    devices = [bench.device(f"stuck-{number}", answers=dead) for number in range(3)]
    bench.run()
    assert all(len(device.asked) < 40 for device in devices)
    assert len(bench.bus.openings) < 100


# Who it is


def test_a_device_that_says_who_it_is_is_told_once_and_again_when_it_is_another() -> None:
    bench = Bench(lasts_s=100.0)
    device = bench.device("snow-1")
    device.identity = "SHM31 V1.2"
    healthy = device.answers

    def exchanged(at_s: float) -> Sequence[Observation]:
        if BEGIN_S + 20 <= at_s < BEGIN_S + 40:
            device.identity = "SHM31 V1.3"
            return dead(at_s)
        return dead(at_s) if BEGIN_S + 60 <= at_s < BEGIN_S + 70 else healthy(at_s)

    device.answers = exchanged
    logs = bench.run()
    found = [line["identity"] for line in logs if line["event"] == "sensor found"]
    assert found == ["SHM31 V1.2", "SHM31 V1.3"]


# Nonsense


def test_a_device_that_says_nothing_but_nonsense_is_set_up_anew() -> None:
    bench = Bench(lasts_s=600.0)
    device = bench.device("snow-1")
    bench.device("alive")
    healthy = device.answers
    device.answers = lambda at_s: garbage(at_s) if device.openings < 2 else healthy(at_s)
    bench.run()
    assert bench.health.states()["snow-1"] == "ok"
    assert bench.health.sensor("snow-1").failed_polls == REOPEN_AFTER_FRAME_ERRORS == 10
    assert bench.bus.openings == [BEGIN_S]


def test_nonsense_at_the_opening_is_told_too() -> None:
    bench = Bench(lasts_s=1.0)
    device = bench.device("snow-1", answers=garbage)
    bench.run()
    assert len(bench.collected("snow-1")) == len(device.asked) == 3
    assert bench.health.sensor("snow-1").frame_errors == 3


def test_three_times_garbage_in_a_row_is_silence() -> None:
    bench = Bench(lasts_s=20.0)
    device = bench.device("snow-1", interval_s=1.0)
    after(2.5, device, garbage)
    logs = bench.run()
    assert distances(device.asked)[:5] == [0.2, 0.2, 1.0, 2.0, 1.0]
    assert [line["event"] for line in logs] == [
        "sensor is silent; looking for it",
        "sensor is back",
    ]


def test_garbage_now_and_then_is_no_silence() -> None:
    bench = Bench(lasts_s=20.0)
    device = bench.device("snow-1")
    healthy = device.answers

    def now_and_then(at_s: float) -> Sequence[Observation]:
        return garbage(at_s) if len(device.asked) % 2 else healthy(at_s)

    device.answers = now_and_then
    logs = bench.run()
    assert [line["event"] for line in logs] == ["sensor measures"]


def test_frame_errors_are_told_with_the_poll_and_not_once_a_byte() -> None:
    bench = Bench(lasts_s=2.0)
    device = bench.device("snow-1")

    def noisy(at_s: float) -> Sequence[Observation]:
        device.frame_errors += 500 if len(device.asked) == 1 else 2
        return []

    device.answers = noisy
    bench.run()
    first, second = list(bench.queue.queue)
    assert first is not None
    assert second is not None
    assert [len(first.observations), len(second.observations)] == [TROUBLES_PER_POLL, 2]
    assert bench.health.sensor("snow-1").frame_errors == 502


def test_a_stream_between_two_frames_is_neither_silent_nor_back() -> None:
    bench = Bench(lasts_s=10.0)
    bench.device("snow-1", answers=lambda _s: [])
    assert bench.run() == []
    assert bench.health.states() == {"snow-1": "starting"}


def test_a_device_that_warms_up_says_so() -> None:
    bench = Bench(lasts_s=20.0)
    device = bench.device("hall-1")
    after(10.0, device, lambda at_s: [Trouble("warmup", round(at_s * 1e9))])
    states = []
    healthy = device.answers

    def watched(at_s: float) -> Sequence[Observation]:
        states.append(bench.health.states()["hall-1"])
        return healthy(at_s)

    device.answers = watched
    bench.run()
    assert states == ["starting", *["warmup"] * 10, *["ok"] * 9]


# The queue behind it


def test_what_the_pipeline_cannot_take_is_counted_and_told_once() -> None:
    bench = Bench(lasts_s=10.0, room=3)
    bench.device("snow-1")
    logs = bench.run()
    assert len(bench.collected("snow-1")) == 3
    assert bench.health.lost_in_queue == 7
    assert [line["event"] for line in logs].count(
        "the pipeline does not keep up; readings are dropped"
    ) == 1


def test_a_second_jam_is_told_again() -> None:
    bench = Bench(lasts_s=10.0, room=3)
    device = bench.device("snow-1")
    healthy = device.answers

    def emptied(at_s: float) -> Sequence[Observation]:
        if len(device.asked) == 6:
            bench.queue.get_nowait()
        return healthy(at_s)

    device.answers = emptied
    logs = bench.run()
    assert [line["log_level"] for line in logs].count("error") == 2


# How often others are woken


class Listened(Inbox):
    """An inbox that notes when it is rung for, and for how much that is new."""

    def __init__(self, world: World) -> None:
        super().__init__(100_000)
        self._world = world
        self.rings: list[tuple[float, int]] = []
        self.at_once: list[bool] = []
        self._told = 0

    def ring(self, *, at_once: bool = False) -> None:
        super().ring(at_once=at_once)
        self.at_once.append(at_once)
        self.rings.append((round(self._world.now_s - BEGIN_S, 3), self.qsize() - self._told))
        self._told = self.qsize()


def test_sensors_of_one_interval_are_asked_together_and_told_of_once() -> None:
    bench = Bench(lasts_s=10.0)
    inbox = bench.queue = Listened(bench.world)

    def takes(takes_s: float) -> Callable[[float], Sequence[Observation]]:
        def answers(at_s: float) -> Sequence[Observation]:
            # At first it says who it is, and that takes longer.
            bench.world.now_s += takes_s + (0.08 if at_s < BEGIN_S + 0.9 else 0.0)
            return [Reading("depth_cm", 42.0, round(at_s * 1e9))]

        return answers

    devices = [bench.device(f"snow-{n}", answers=takes(0.02)) for n in range(4)]
    bench.run()
    assert [len(device.asked) for device in devices] == [10] * 4
    assert inbox.rings == [(0.4, 4), *((n + 0.08, 4) for n in range(1, 10))]
    for device in devices:
        assert min(distances(device.asked)) >= 0.5
        assert set(distances(device.asked[1:])) == {1.0}


def test_a_bus_that_is_never_done_rings_all_the_same() -> None:
    bench = Bench(lasts_s=20.0)
    inbox = bench.queue = Listened(bench.world)

    def slowly(at_s: float) -> Sequence[Observation]:
        bench.world.now_s += 0.2
        return [Reading("depth_cm", 42.0, round(at_s * 1e9))]

    for n in range(8):
        bench.device(f"snow-{n}", answers=slowly)
    bench.run()
    assert max(distances([at_s for at_s, _ in inbox.rings])) <= HAND_ON_S + 2 * 0.2


def test_what_an_alert_may_hang_on_is_rung_for_at_once() -> None:
    bench = Bench(lasts_s=1.0)
    inbox = bench.queue = Listened(bench.world)
    door = bench.device("door-1")
    door.told = {"open": Quantity("open", "1", "the door is open", classes=("yes", "no"))}
    bench.device("snow-1")
    bench.device("snow-2")
    bench.run()
    assert [new for _, new in inbox.rings] == [1, 2]
    assert inbox.at_once == [True, False]


# A bug in a driver


def test_a_bug_in_a_driver_stays_with_its_sensor() -> None:
    bench = Bench(lasts_s=300.0)
    buggy = bench.device("buggy", answers=bug)
    neighbour = bench.device("alive")
    logs = bench.run()
    assert set(distances(neighbour.asked)) == {1.0}
    assert bench.bus.openings == [BEGIN_S]
    assert distances(buggy.asked)[:5] == [0.2, 0.2, 1, 2, 4]
    assert bench.health.states() == {"buggy": "silent", "alive": "ok"}
    assert set(bench.collected("buggy")) == {
        Trouble("bus_error", round(at_s * 1e9)) for at_s in buggy.asked
    }
    (told,) = [line for line in logs if line["log_level"] == "error"]
    assert (told["event"], told["sensor"]) == ("bug in a driver", "buggy")
    assert "ZeroDivisionError in " in told["error"]


def test_what_a_bug_says_is_not_logged() -> None:
    bench = Bench(lasts_s=10.0)

    def bug_with_people(_at_s: float) -> Sequence[Observation]:
        raise ValueError("two persons at 17:03")

    bench.device("hall-1", answers=bug_with_people)
    assert "persons" not in str(bench.run())


def test_a_driver_whose_bug_is_over_measures_again_and_its_next_bug_is_told() -> None:
    bench = Bench(lasts_s=100.0)
    device = bench.device("shaky")
    healthy = device.answers
    device.answers = lambda at_s: bug(at_s) if int(at_s) % 40 < 20 else healthy(at_s)
    logs = bench.run()
    assert [line["event"] for line in logs].count("sensor is back") == 2
    assert [line["log_level"] for line in logs].count("error") == 3


def test_a_driver_that_cannot_even_be_closed_does_not_keep_the_others_open() -> None:
    bench = Bench(lasts_s=10.0)
    first, second = bench.device("first"), bench.device("second")

    def close() -> None:
        raise ZeroDivisionError

    first.close = close  # type: ignore[method-assign]
    bench.run()
    assert not second.is_open
    assert not bench.bus.is_open


# Whose turn it is


def test_a_repetition_is_a_turn_like_any_other() -> None:
    bench = Bench(lasts_s=10.0)
    bench.device("dead", timeout_s=0.5, answers=dead)
    alive = bench.device("alive", interval_s=0.3)
    bench.run()
    assert max(distances(alive.asked)) <= 0.3 + 0.5


def test_of_many_dead_devices_each_lets_the_living_go_first() -> None:
    bench = Bench(lasts_s=300.0)
    for number in range(5):
        bench.device(f"dead-{number}", timeout_s=0.5, answers=dead)
    alive = bench.device("alive", interval_s=0.2)
    bench.run()
    asked = [at_s for at_s in alive.asked if at_s > BEGIN_S + 10]
    assert max(distances(asked)) <= 0.2 + 0.5
    assert all(len(station.driver.asked) > 10 for station in bench.stations)  # type: ignore[attr-defined]


@pytest.mark.parametrize("fails", [dead, garbage, bug])
def test_a_device_that_always_fails_and_takes_longer_than_its_interval_starves_nobody(
    fails: Callable[[float], Any],
) -> None:
    bench = Bench(lasts_s=600.0)
    bench.device("failing", interval_s=0.1, timeout_s=2.0, answers=fails)
    alive = bench.device("alive")
    bench.run()
    assert max(distances(alive.asked)) <= 1.0 + 2.0
    assert len(alive.asked) > 570


def test_a_slow_device_fits_between_two_polls_of_a_fast_one() -> None:
    bench = Bench(lasts_s=60.0)

    def takes(took_s: float) -> Callable[[float], Sequence[Observation]]:
        def answers(at_s: float) -> Sequence[Observation]:
            bench.world.now_s += took_s
            return [Reading("depth_cm", 42.0, round(at_s * 1e9))]

        return answers

    fast = bench.device("fast", interval_s=0.1, answers=takes(0.016))
    slow = bench.device("slow", interval_s=1.07, answers=takes(0.06))
    bench.run()
    steady = [at_s for at_s in fast.asked if at_s > BEGIN_S + 1]
    assert max(distances(steady)) <= 0.1 * 1.1
    assert max(distances(slow.asked)) <= 1.07 * 1.2
    assert len(slow.asked) >= 55


def test_a_quick_repetition_does_not_move_the_schedule() -> None:
    bench = Bench(lasts_s=100.0)

    def now_and_then(at_s: float) -> Sequence[Observation]:
        return dead(at_s) if len(device.asked) % 3 == 0 else healthy(at_s)

    device = bench.device("shaky", interval_s=10.0)
    healthy = device.answers
    device.answers = now_and_then
    logs = bench.run()
    assert {round((at_s - BEGIN_S) % 10, 6) for at_s in device.asked} <= {0.0, 0.2}
    assert [line["event"] for line in logs] == ["sensor measures"]


def test_its_pulse_is_felt_while_it_works() -> None:
    bench = Bench(lasts_s=10.0)
    bench.device("snow-1")
    collector = bench.collector()
    collector.run()
    assert collector.pulse.beat_s > BEGIN_S + 8


# What a people driver may say. Those of other distributions are not type checked.


SEEN = "4711"  # of somebody


class PeopleDevice(Device):
    spec: ClassVar[Spec] = Spec("walkers", "Walkers", "people", "serial", (), ("towards",))


def sees(*handed_on: object) -> Callable[[float], Any]:
    return lambda _at_s: list(handed_on)


class Frame(Crossing):
    """A crossing with a picture: no crossing of ours."""


def loud(_at_s: float) -> Sequence[Observation]:
    raise FrameError(f"no frame: {SEEN}")


def lost(_at_s: float) -> Sequence[Observation]:
    raise BusError(f"nothing but {SEEN} came")


def our_own(_at_s: float) -> Sequence[Observation]:
    grideye.decode_frame(b"")
    return []


@pytest.mark.parametrize(
    ("handed_on", "kind"),
    [
        (Reading("people_1", 4711.0, 0), "Reading"),
        (Reading("power_ok", "no", 0), "Reading"),
        (Fix(47.11, 47.11, 0), "Fix"),
        (Frame("towards", 4711), "Frame"),
        (b"4711", "bytes"),
        (4711, "int"),
        (Trouble("obstructed", 4711), "a reason that tells of persons"),
        (Trouble(cast(Any, SEEN), 4711), "a reason that tells of persons"),
    ],
    ids=repr,
)
def test_a_people_driver_that_hands_on_more_than_glimpses_is_refused_and_its_neighbour_goes_on(
    handed_on: object, kind: str
) -> None:
    bench = Bench()
    bench.people("walk-1", answers=sees(Alive(0), handed_on))
    bench.device("snow-1")
    told = bench.run()
    assert {type(seen) for seen in bench.collected("walk-1")} == {Trouble}
    assert bench.health.states() == {"walk-1": "silent", "snow-1": "ok"}
    assert len(bench.collected("snow-1")) == 60
    (bug,) = [line for line in told if line["event"] == "bug in a driver"]
    assert kind in bug["error"]
    assert SEEN not in str(told)


def test_the_same_of_a_driver_that_measures_is_handed_on() -> None:
    bench = Bench()
    device = bench.device("snow-1")
    device.answers = sees(Alive(0), Reading("depth_cm", 4711.0, 0))
    bench.run()
    assert Reading("depth_cm", 4711.0, 0) in bench.collected("snow-1")


@pytest.mark.parametrize("way", [loud, lost])
def test_words_of_a_people_driver_of_others_are_not_logged(
    way: Callable[[float], Sequence[Observation]],
) -> None:
    bench = Bench()
    bench.people("walk-1", answers=way)
    bench.device("snow-1", answers=way)
    told = bench.run()
    walk, snow = (
        [line["reason"] for line in told if line.get("sensor") == name and "reason" in line]
        for name in ("walk-1", "snow-1")
    )
    assert SEEN in snow[0]
    assert SEEN not in str(walk)
    assert __file__ in walk[0]
    assert way.__name__ in walk[0]


def test_our_own_words_about_a_people_sensor_are_logged() -> None:
    bench = Bench()
    bench.people("walk-1", answers=our_own)
    told = bench.run()
    assert any(line.get("reason") == "0 bytes in place of 128" for line in told)


def test_a_bug_that_persons_bring_about_is_told_once() -> None:
    bench = Bench()
    for add, name in ((bench.people, "walk-1"), (bench.device, "snow-1")):
        device = add(name)
        device.answers = lambda at_s: sees(Alive(0))(at_s) if int(at_s) % 3 else bug(at_s)
    told = [line["sensor"] for line in bench.run() if line["event"] == "bug in a driver"]
    assert told.count("walk-1") == 1
    assert told.count("snow-1") > 5


def test_a_poll_that_is_handed_on_prints_nothing() -> None:
    poll = Collected("walk-1", [Crossing("towards", 0)] * 3)
    assert f"{poll!r} {poll}" == "Collected(withheld) Collected(withheld)"


def hand_overs(answers: Callable[[float], Any], interval_s: float) -> list[Collected]:
    """Return what a people sensor hands on in a minute, each time."""
    bench = Bench()
    bench.people("walk-1", interval_s=interval_s, answers=answers)
    bench.run()
    return [poll for poll in bench.queue.queue if poll is not None]


@pytest.mark.parametrize("interval_s", [0.1, 0.25, 0.3, 0.5])
def test_how_often_the_pipeline_wakes_does_not_tell_who_passes(interval_s: float) -> None:
    def crowd(at_s: float) -> Sequence[Observation]:
        at_ns = round(at_s * 1e9)
        return [Alive(at_ns)] + [Crossing("towards", at_ns)] * (int(at_s * 10) % 7)

    crowded, empty = hand_overs(crowd, interval_s), hand_overs(sees(), interval_s)
    assert len(crowded) == len(empty) >= 110
    seen = [each for poll in crowded for each in poll.observations]
    assert sum(type(each) is Alive for each in seen) == round(60 / interval_s)
    assert sum(type(each) is Crossing for each in seen) > 60


def test_who_passes_moves_no_figure_of_its_sensor() -> None:
    def figures(answers: Callable[[float], Any]) -> SensorHealth:
        bench = Bench()
        bench.people("walk-1", answers=answers)
        bench.run()
        return bench.health.sensor("walk-1")

    def crowd(at_s: float) -> Sequence[Observation]:
        return [Alive(round(at_s * 1e9))] + [Crossing("towards", round(at_s * 1e9))] * 5

    assert figures(crowd) == figures(sees(Alive(0)))
    assert figures(crowd) != figures(dead)  # the control: what fails does


def test_who_passed_is_handed_on_when_the_device_fails_or_the_gateway_stops() -> None:
    bench = Bench(lasts_s=10.05)
    device = bench.people("walk-1", interval_s=0.1)
    device.answers = lambda at_s: (dead if at_s > BEGIN_S + 9.05 else sees(Alive(0)))(at_s)
    bench.run()
    assert sum(type(each) is Alive for each in bench.collected("walk-1")) == len(
        [at_s for at_s in device.asked if at_s <= BEGIN_S + 9.05]
    )
    whole = Bench(lasts_s=10.05)
    whole.people("walk-1", interval_s=0.1, answers=sees(Alive(0)))
    whole.run()
    assert len(whole.collected("walk-1")) == 101
