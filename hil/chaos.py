"""Do to a gateway what a street does in years, drawn from a seed, and close the account.

`python -m hil.chaos [--minutes N] [--seed S] [--hurried] [--unsafe] [--json]`; needs Mosquitto.

The real daemon, on emulated devices, is killed and stopped; its network is cut, stalled and reset;
its broker dies, or refuses what it sends; its city goes away. At the end everything is mended, and
what the spools gave numbers to is held against what the city holds: nothing may be missing, nothing
in a gap, everything in order, and no more in flight than allowed. The events follow from the seed;
what the gateway is doing at their moment does not.

What a broker takes into its grave, or throws away for a city that is not there, no gateway could
know of. So before either goes, the network is held until the city has what was acknowledged, and
carries again only when the city has subscribed.

`--hurried` shortens the daemon's own waits, for short runs. `--unsafe` is the negative control: a
gateway that takes a message for delivered when it is published must lose records, else this proves
nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.cli import OK, UNREACHABLE, WRONG

from .broker import MOSQUITTO, BrokerError, Mosquitto
from .buses import Pty
from .city.account import Report
from .city.subscriber import City
from .demo import now_s
from .devices.lufft import irs31pro, shm31
from .devices.maxbotix import MaxBotixDevice
from .faults.broker import Access
from .lives import WAIT_S, Daemon
from .relay import Relay
from .sniffer import Sniffer

GATEWAY = "storm"
MARKER = "yukimi/v1/marker/status"  # the city hears it, its account does not
INFLIGHT = 4
UNSAFE_WAIT_S = 10.0  # what a hasty gateway has lost does not come, however long one waits
LAST_LIVES = 4

_CONFIG = """\
[gateway]
id = "{gateway}"
[uplink]
brokers = ["mqtt://127.0.0.1:{port}"]
offset_s = 0.5
inflight = {inflight}
batch_records = 5
drain_s = 30.0
[control]
socket = "control.sock"

[spool]
path = "spool.db"
[clock]
trust = "system"
[privacy.flow]
window_s = 1
[[buses]]
id = "walkway"
kind = "simulated"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "walkway"
options = {{ pin_a = 17, pin_b = 27 }}
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "{mast}"
window_s = 1
options = {{ model = "irs31pro", interval_s = 1.0 }}
[[sensors]]
id = "snow-1"
driver = "lufft-umb"
bus = "{mast}"
window_s = 1
options = {{ model = "shm31", interval_s = 1.0 }}
[[sensors]]
id = "snow-2"
driver = "maxbotix-hrxl"
bus = "{post}"
window_s = 1
options = {{ mount_height_cm = 350.0 }}
"""


class UnavailableError(Exception):
    """There can be no chaos here; the message says what is missing."""


# What happens to it


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens, and the calm before it."""

    what: str
    calm_s: float
    lasts_s: float
    times: int

    def __str__(self) -> str:
        return f"{self.what}, {self.lasts_s:.1f} s" + f", {self.times} times" * (self.times > 1)


def draw(seed: int, *, hurried: bool) -> Iterator[Event]:
    """Yield events without end; in each round all kinds, in a new order."""
    dice = random.Random(seed)
    longest_s = 4.0 if hurried else 45.0
    while True:
        names = list(Storm.EVENTS)
        dice.shuffle(names)
        for name in names:
            is_long = dice.random() < 0.3
            lasts_s = dice.uniform(2.0, longest_s) if is_long else dice.uniform(0.1, 2.0)
            times = dice.randint(1, 3)
            calm_s = dice.uniform(0.5, 4.0)
            yield Event(name, calm_s, lasts_s, times if name in Storm.REPEATED else 1)


class Storm:
    """A gateway, its devices, network, broker and city, and what is done to them."""

    def __init__(self, folder: Path, *, hurried: bool, unsafe: bool) -> None:
        self.sniffer = Sniffer()
        self.daemon = Daemon(folder, hurried=hurried, unsafe=unsafe)
        self._folder = folder
        self._unsafe = unsafe
        self._access = Access(folder / "acl")
        # Without a limit the broker throws away nothing for a city that reads slowly.
        self._broker = Mosquitto(extra=(self._access.setting, "max_queued_messages 0"))
        self._city = City(self._broker.host, self._broker.port, on_message=self._hear)
        self._relay = Relay(self._broker.host, self._broker.port, new_ear=self.sniffer.new_ear)
        self._changed = threading.Condition()
        self._marker_sent = 0
        self._marker_heard = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._relay.close)
            stack.enter_context(self._broker)
            stack.enter_context(self._city)
            self._city.wait_subscribed()
            mast = stack.enter_context(Pty([irs31pro(), shm31()], now_s))
            post = stack.enter_context(
                Pty([MaxBotixDevice(lambda _: 67.0, mount_height_cm=350.0)], now_s)
            )
            config = _CONFIG.format(
                gateway=GATEWAY,
                port=self._relay.port,
                inflight=INFLIGHT,
                mast=mast.path,
                post=post.path,
            )
            (self._folder / "gateway.toml").write_text(config, encoding="utf-8")
            stack.callback(self.daemon.close)
            self.daemon.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def suffer(self, event: Event) -> None:
        """Let it happen; afterwards everything is mended again."""
        time.sleep(event.calm_s)
        self._broker.check()  # else the blame would fall on the gateway
        self.EVENTS[event.what](self, event)

    def settle(self) -> Report:
        """Let the gateway deliver what it has, stop it, and draw up the account."""
        for _ in range(LAST_LIVES):
            self.daemon.wait_begun()
            self._tell_produced(is_final=False)
            wait_s = UNSAFE_WAIT_S if self._unsafe else WAIT_S
            came = self._city.wait_for(lambda account: account.report().missing == 0, wait_s)
            if not came and not self._unsafe:
                self.daemon.findings.append(f"not everything came within {wait_s:.0f} s")
            self.daemon.stop()
            self._tell_produced(is_final=True)
            if not self.daemon.waiting():
                break
            self.daemon.start()
        else:
            self.daemon.kill()
            self.daemon.findings.append(f"{self.daemon.waiting()} entries never left the spool")
        self._broker.check()
        self._hold_still()
        return self._city.report()

    # The events

    def _kill_daemon(self, event: Event) -> None:
        for _ in range(event.times):
            self._end_life(self.daemon.kill)
            time.sleep(event.lasts_s / event.times)
            self.daemon.start()

    def _stop_daemon(self, event: Event) -> None:
        self._end_life(self.daemon.stop)
        time.sleep(event.lasts_s)
        self.daemon.start()

    def _cut(self, event: Event) -> None:
        for _ in range(event.times):
            self._relay.cut()
            time.sleep(event.lasts_s / event.times)
            self._relay.resume()

    def _stall(self, event: Event) -> None:
        self._relay.stall()
        time.sleep(event.lasts_s)
        self._relay.resume()

    def _stall_then_cut(self, event: Event) -> None:
        self._relay.stall()
        time.sleep(event.lasts_s)
        self._relay.cut()
        self._relay.resume()

    def _reset(self, event: Event) -> None:
        for _ in range(event.times):
            self._relay.reset()
            time.sleep(event.lasts_s / event.times)

    def _lives_in_the_dark(self, event: Event) -> None:
        self._relay.cut()
        for turn in range(event.times):
            time.sleep(event.lasts_s)
            self._end_life(self.daemon.stop if turn % 2 else self.daemon.kill)
            self.daemon.start()
        self._relay.resume()

    def _kill_broker(self, event: Event) -> None:
        self._hold_still()
        self._broker.kill()
        self._relay.cut()  # what it answered since is not passed on: the city may not have it
        time.sleep(event.lasts_s)
        self._back_from_the_dead()

    def _kill_broker_behind_proxy(self, event: Event) -> None:
        self._hold_still()
        self._broker.kill()
        self._relay.cut()
        self._relay.resume()  # accepts, finds nobody, hangs up
        time.sleep(event.lasts_s)
        self._relay.cut()
        self._back_from_the_dead()

    def _refuse(self, event: Event) -> None:
        heal = self._access.refuse(self._broker)
        time.sleep(event.lasts_s)
        heal()

    def _send_city_away(self, event: Event) -> None:
        self._hold_still()
        self._city.close()
        self._mark()  # its good-bye has been read when this is answered
        self._relay.resume()
        time.sleep(event.lasts_s)
        self._city.start()
        self._city.wait_subscribed(WAIT_S)

    EVENTS: Mapping[str, Callable[[Storm, Event], None]] = {
        "daemon killed": _kill_daemon,
        "daemon stopped": _stop_daemon,
        "network cut": _cut,
        "network stalled": _stall,
        "network stalled, then cut": _stall_then_cut,
        "connections reset": _reset,
        "daemon killed and stopped without network": _lives_in_the_dark,
        "broker killed": _kill_broker,
        "broker killed behind a proxy": _kill_broker_behind_proxy,
        "broker refuses": _refuse,
        "city away": _send_city_away,
    }
    REPEATED = (
        "daemon killed",
        "network cut",
        "connections reset",
        "daemon killed and stopped without network",
    )

    def _end_life(self, end: Callable[[], None]) -> None:
        end()
        self._tell_produced(is_final=True)

    def _tell_produced(self, *, is_final: bool) -> None:
        produced = self.daemon.produced()
        if produced is not None:
            with self._city.locked() as account:
                account.tell_produced(GATEWAY, *produced, is_final=is_final)

    def _back_from_the_dead(self) -> None:
        self._broker.start()
        self._city.wait_subscribed(WAIT_S)
        self._relay.resume()

    def _hold_still(self) -> None:
        """Hold the network, and wait until the city has all that was acknowledged through it."""
        self._relay.stall()
        self._mark()
        with self._changed:
            if not self._changed.wait_for(lambda: self._marker_heard >= self._marker_sent, WAIT_S):
                raise TimeoutError("the city does not hear the broker")

    def _mark(self) -> None:
        """Say something to the broker, after all that it was told before; wait for its answer."""
        self._marker_sent += 1
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect(self._broker.host, self._broker.port)
        client.loop_start()
        client.publish(MARKER, str(self._marker_sent), qos=1).wait_for_publish(WAIT_S)
        client.disconnect()
        client.loop_stop()

    def _hear(self, topic: str, payload: bytes, _records: list[dict[str, Any]]) -> None:
        if topic == MARKER:
            with self._changed:
                self._marker_heard = int(payload)
                self._changed.notify_all()


# The bench


@dataclass(slots=True)
class Outcome:
    """What it all came to."""

    seed: int
    unsafe: bool
    seconds: float
    events: Counter[str]
    lives: int
    report: Report
    inflight_highest: int
    findings: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the promise was kept; or, by a hasty gateway, broken as it must be."""
        if self.unsafe:  # what still waits in the spool is not lost, but a finding
            return self.report.missing > 0 and not self.findings
        is_within = self.inflight_highest <= INFLIGHT
        is_complete = self.report.keeps_the_contract and self.report.lost == 0
        return is_complete and is_within and not self.findings

    def json(self) -> dict[str, object]:
        """Return the figures."""
        report = self.report
        return {
            "schema": "yukimi.chaos/1",
            "seed": self.seed,
            "unsafe": self.unsafe,
            "holds": self.holds,
            "seconds": round(self.seconds, 1),
            "events": dict(self.events),
            "lives": self.lives,
            "produced": report.produced,
            "delivered": report.delivered,
            "lost": report.lost,
            "missing": report.missing,
            "duplicates": report.duplicates,
            "disordered": sum(stream.disordered for stream in report.streams),
            "surplus": sum(stream.surplus for stream in report.streams),
            "malformed": report.malformed,
            "inflight": INFLIGHT,
            "inflight_highest": self.inflight_highest,
            "findings": self.findings,
        }


def raise_chaos(
    seconds: float, seed: int, *, hurried: bool, unsafe: bool, say: Callable[[str], None]
) -> Outcome:
    """Let things happen for `seconds`, then mend and settle.

    Raises UnavailableError, and BrokerError where the broker dies of something else.
    """
    if not Path(MOSQUITTO).exists():
        raise UnavailableError(f"no {MOSQUITTO}: apt install mosquitto")
    say(f"seed {seed}")
    began_s = time.monotonic()
    happened: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="yukimi-chaos-") as folder,
        Storm(Path(folder), hurried=hurried, unsafe=unsafe) as storm,
    ):
        for event in draw(seed, hurried=hurried):
            passed_s = time.monotonic() - began_s
            if passed_s >= seconds:
                break
            say(f"{passed_s:6.1f} s  {event}")
            storm.suffer(event)
            happened[event.what] += 1
        say(f"{time.monotonic() - began_s:6.1f} s  everything is mended")
        report = storm.settle()
    # The storm is over: the last bugs were found when the daemon was closed.
    return Outcome(
        seed=seed,
        unsafe=unsafe,
        seconds=time.monotonic() - began_s,
        events=happened,
        lives=storm.daemon.lives,
        report=report,
        inflight_highest=storm.sniffer.highest,
        findings=storm.daemon.findings,
    )


def _leave(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would disturb the tidying up
    sys.exit(128 + number)


def main() -> int:
    """Let it happen and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hil.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, help="the events of an earlier run")
    parser.add_argument("--hurried", action="store_true", help="shorten the daemon's own waits")
    parser.add_argument("--unsafe", action="store_true", help="the control: a hasty gateway")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)

    def say(line: str) -> None:
        # A failure must be replayed from what was printed, also where stdout is for a program.
        print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    try:
        outcome = raise_chaos(
            60 * arguments.minutes,
            seed,
            hurried=arguments.hurried,
            unsafe=arguments.unsafe,
            say=say,
        )
    except (UnavailableError, BrokerError) as exc:
        print(f"chaos: {exc}", file=sys.stderr)
        return UNREACHABLE
    if arguments.json:
        print(json.dumps(outcome.json()))
    for line in outcome.report.lines():
        say(line)
    for name, value in outcome.json().items():
        if name not in ("schema", "findings"):
            say(f"{name:<16} {value}")
    for finding in outcome.findings:
        say(f"  {finding}")
    return OK if outcome.holds else WRONG


if __name__ == "__main__":
    sys.exit(main())
