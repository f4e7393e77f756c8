"""A fleet lives, loses its broker in the middle, and comes back to it.

Gateways reach Mosquitto through a relay. The outage: the relay is cut, the broker is killed and
started again, the city subscribes, the relay is opened; so the city is there before the first
gateway is, and nothing that a killed broker had in hand is mistaken for a gateway's loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..bench.process import BenchError, counters, memory_kb
from ..broker import Mosquitto
from ..city.account import Account, Report
from ..city.subscriber import City
from .child import PATIENCE_S, Child
from .crew import Control, Posting, serve
from .descriptors import allow_descriptors
from .gateway import Tale
from .way import Way
from .witness import MARK, Witness

BROKER_OPTIONS = ("log_type none", "max_queued_messages 0", "max_inflight_messages 1000")
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be lived through. Times are of the fleet's clock."""

    gateways: int
    calm_s: float  # until the cut; longer than `start_s` and what makes a connection a good one
    outage_s: float
    after_s: float  # from the return until nobody measures any more
    start_s: float = 10.0  # within which they connect first; how they start is not measured
    window_s: int = 60
    speed: float = 1.0
    processes: int = 2
    seed: int = 1
    control: Control | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The gateways' ids."""
        return tuple(f"gw-{number:05}" for number in range(self.gateways))


@dataclass(frozen=True, slots=True)
class Look:
    """What Linux says of the broker, and what the network has let in."""

    at_s: float
    broker_cpu_s: float  # of all its lives
    broker_rss_mb: float
    connections: int


@dataclass(slots=True)
class Outcome:
    """What happened. Times are of the fleet's clock."""

    plan: Plan
    witness: Witness
    cut_s: float = 0.0
    return_s: float = 0.0
    rest_s: float = 0.0
    end_s: float = 0.0
    tales: list[Tale] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    report: Report = field(default_factory=lambda: Account().report())
    differences: list[str] = field(default_factory=list)
    bench_cpu_s: dict[str, float] = field(default_factory=dict)  # what the bench itself spent


def live(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Let it happen. Raises BenchError, BrokerError, TooFewDescriptorsError."""
    allow_descriptors(2 * plan.gateways)  # the broker and the other processes inherit it
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(extra=BROKER_OPTIONS))
        way = stack.enter_context(closing(Way(broker.host, broker.port, plan.gateways)))
        trial = _Trial(plan, broker, way, say)
        city = City(broker.host, broker.port, on_message=trial.witness.heard)
        stack.enter_context(city)
        city.wait_subscribed()
        trial.crews = [stack.enter_context(closing(crew)) for crew in _crews(plan, way)]
        return trial.run(city)


class _Trial:
    """The course of events."""

    def __init__(self, plan: Plan, broker: Mosquitto, way: Way, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._broker = broker
        self._way = way
        self._epoch_s = time.monotonic()
        self._say = say
        self._earlier_cpu_s = 0.0
        self._marks = 0
        self.witness = Witness(self._now_s)
        self.crews: list[Child] = []
        self.outcome = Outcome(plan, self.witness)

    def run(self, city: City) -> Outcome:
        plan, outcome = self._plan, self.outcome
        self._begin()
        self._say(f"{plan.gateways} gateways; calm for {plan.calm_s:g} s")
        self._watch(plan.calm_s)
        outcome.cut_s = self._now_s()
        self._say(f"cut for {plan.outage_s:g} s, and the broker killed")
        self._way.cut()
        self._wait_for_mark()
        city.close()
        self._earlier_cpu_s = counters(self._broker.pid)["cpu_s"]
        self._broker.kill()
        self._broker.start()
        city.start()
        city.wait_subscribed()
        self._watch(outcome.cut_s + plan.outage_s)
        outcome.return_s = self._now_s()
        self._way.resume()
        for crew in self.crews:
            crew.tell("open")
        self._say(f"back; {plan.after_s:g} s more")
        self._watch(outcome.return_s + plan.after_s)
        outcome.rest_s = self._now_s()
        self._say("nobody measures any more; the rest is delivered")
        self._deliver_the_rest()
        self._wait_for_mark()
        outcome.end_s = self._now_s()
        self._settle(city)
        return outcome

    def _begin(self) -> None:
        """Let all begin at one instant, once each is ready."""
        for crew in self.crews:
            crew.hear()
        self._epoch_s = time.monotonic()
        for crew in self.crews:
            crew.tell(self._epoch_s)

    def _now_s(self) -> float:
        return (time.monotonic() - self._epoch_s) * self._plan.speed

    def _watch(self, until_s: float) -> None:
        while (now_s := self._now_s()) < until_s:
            self._broker.check()
            self._look()
            time.sleep(min(LOOK_S, (until_s - now_s) / self._plan.speed))

    def _look(self) -> None:
        pid = self._broker.pid
        cpu_s = self._earlier_cpu_s + counters(pid)["cpu_s"]
        rss_mb = memory_kb(pid, "Rss") / 1024
        look = Look(self._now_s(), cpu_s, rss_mb, self._way.connections())
        self.outcome.looks.append(look)

    def _deliver_the_rest(self) -> None:
        for crew in self.crews:
            crew.tell("rest")
        waited = set(self.crews)
        until_s = time.monotonic() + PATIENCE_S
        while waited:
            waited = {crew for crew in waited if not crew.has_spoken()}
            self._watch(self._now_s() + LOOK_S * self._plan.speed)
            if time.monotonic() > until_s:
                raise BenchError("not all could be delivered")
        for crew in self.crews:
            crew.hear()

    def _wait_for_mark(self) -> None:
        """Wait until the city has heard all that the broker has acknowledged."""
        self._marks += 1
        mark = str(self._marks).encode()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect(self._broker.host, self._broker.port)
        client.publish(MARK, mark, qos=1)
        client.loop_start()
        came = self.witness.wait_for_mark(mark, PATIENCE_S)
        client.disconnect()
        client.loop_stop()
        if not came:
            raise BenchError("the broker does not give the city what it has acknowledged")

    def _settle(self, city: City) -> None:
        outcome = self.outcome
        for number, crew in enumerate(self.crews):
            outcome.bench_cpu_s[f"crew {number}"] = counters(crew.pid)["cpu_s"]
            crew.tell("tell")
            outcome.tales += crew.hear()
        outcome.bench_cpu_s["relay"] = counters(self._way.pid)["cpu_s"]
        outcome.bench_cpu_s["city"] = time.process_time()
        with city.locked() as account:
            for tale in outcome.tales:
                for run, produced in tale.produced.items():
                    account.tell_produced(tale.gateway, run, produced, is_final=True)
            outcome.report = account.report()
        for tale in outcome.tales:
            outcome.differences += self.witness.differences(tale.gateway, tale.checks)


def _crews(plan: Plan, way: Way) -> Iterator[Child]:
    url = f"mqtt://{way.host}:{way.port}"
    for number in range(plan.processes):
        posting = Posting(
            plan.names[number :: plan.processes],
            url,
            plan.window_s,
            plan.speed,
            plan.start_s,
            plan.seed * 1000 + number,
            plan.control,
        )
        yield Child(serve, posting)
