"""Cut the power many times over, and count what is lost of what was promised: it must be nothing.

`python -m hil.powercut [--cuts N] [--unsafe] [--parallel P] [--json]`; as root, with loop devices.

A real gateway with simulated sensors keeps its spool on an ext4 of its own. At a random moment the
filesystem is shut down without writing its log, which leaves on the image what was synced and
nothing else; the gateway is killed, the image mounted again, and the spool held against what the
gateway had said, over a pipe, that it committed. Every number must be in the spool or with the
city; the same image then lives on through the next cut, so that what was recovered is recovered
again.

`--unsafe` is the negative control: the same without syncs must lose records, else the cuts are
none. It ends at the first loss, and fails if there is no loss.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import multiprocessing
import os
import random
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Literal, cast
from unittest.mock import patch

import structlog

import agent.app
from agent.cli import OK, UNREACHABLE, WRONG
from agent.plan import Plan, load_plan
from agent.record import AlertRecord, Entry, Lost, Record
from agent.spool import Spool, SpoolError
from agent.wake import Wake

from .broker import MOSQUITTO, Broker, EmbeddedBroker, Mosquitto
from .city.payloads import unpack
from .city.subscriber import City
from .faults.ext4 import Ext4Image, UnavailableError, run
from .ledger import Examination, Key, Ledger, Message, digest
from .relay import HOST, hold_port

CUTS_PER_IMAGE = 40
SMALL_SPOOL_BYTES = 96 * 1024  # full, and evicting, within an image's life
LIFE_S = 6.0  # the longest that a gateway lives
SHARE_REACHABLE = 0.3  # of the lives in which the broker can be reached
SHARE_DYING_SLOWLY = 0.3  # of the cuts in which the daemon meets the dead disk before its end
CITY_WAIT_S = 60.0  # for what the broker acknowledged and the city has not read yet
JOIN_S = 20.0
PAGE_ENTRIES = 1000
PROGRESS_CUTS = 50

_CLONE_NEWNS = 0x00020000  # linux/sched.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_FORK = multiprocessing.get_context("fork")
_libc = ctypes.CDLL(None, use_errno=True)

_CONFIG = """\
[gateway]
id = "lane-{lane}"
[uplink]
brokers = ["mqtt://{host}:{port}"]
protocol = "{protocol}"
offset_s = 0.0
drain_s = 0.5
backlog_bytes_per_s = 10000000
batch_records = 4
[spool]
path = "{spool}"
[clock]
trust = "system"
[privacy.flow]
window_s = 1
[[buses]]
id = "walkway"
kind = "simulated"
[[buses]]
id = "mast"
kind = "simulated"
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "walkway"
options = {{ warmup_s = 0.0 }}
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "walkway"
options = {{ pin_a = 17, pin_b = 27 }}
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "mast"
window_s = 1
options = {{ model = "irs31pro", interval_s = 1.0 }}
[[sensors]]
id = "snow-1"
driver = "lufft-umb"
bus = "mast"
window_s = 1
options = {{ model = "shm31", interval_s = 1.0 }}
"""


# The gateway's side


class Witness(Spool):
    """A spool that tells what it does: that it is about to commit, and what it then committed."""

    tell: Callable[[str, object], None]
    sync: bool

    def append(
        self, records: Sequence[Record | AlertRecord | Lost], config_id: str, *, hold: bool = False
    ) -> list[Entry]:
        """Commit, and tell before and after."""
        self.tell("appending", None)
        entries = super().append(records, config_id, hold=hold)
        self.tell("committed", [(entry.stream, entry.seq, digest(entry.body)) for entry in entries])
        return entries

    def pack(self, without_ids: Collection[int] = (), *, up_to_id: int | None = None) -> int:
        """Pack, and tell how many records were."""
        packed = super().pack(without_ids, up_to_id=up_to_id)
        self.tell("packed", packed)
        return packed

    def _open(self) -> sqlite3.Connection:
        database = super()._open()
        if not self.sync:
            database.execute("PRAGMA synchronous = OFF")
        return database


def live(plan: Plan, pipe: int, sync: bool) -> None:
    """Be a gateway, in a process of its own, until it is told to stop or killed."""
    _die_with_parent()
    wake = Wake()
    signal.signal(signal.SIGTERM, lambda *_: wake.set())

    def tell(what: str, value: object) -> None:
        # One write, smaller than PIPE_BUF: it is told as a whole or not at all.
        os.write(pipe, json.dumps([what, value]).encode() + b"\n")

    def overhear(_logger: object, _level: str, line: Any) -> Any:
        if line["event"] == "bug in a thread":
            tell("bug", f"{line['thread']}: {line['error']}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[overhear], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    spool = type("Told", (Witness,), {"tell": staticmethod(tell), "sync": sync})
    try:
        with patch.object(agent.app, "Spool", spool):
            gateway = agent.app.Gateway(plan)
        tell("begun", gateway.spool.run)
        gateway.run(wake, lambda: False)
        tell("closed", None)
    except SpoolError as exc:  # as it should, when the disk is gone
        tell("ended", str(exc))
    except Exception as exc:  # noqa: BLE001  (whatever it is, the bench must hear of it)
        tell("bug", repr(exc))


class Told:
    """The other end of a gateway's pipe."""

    def __init__(self, pipe: int) -> None:
        self.messages: list[Message] = []
        self._pipe = pipe
        self._rest = b""

    def count(self, what: str) -> int:
        """Return how many messages of that name came."""
        return sum(message[0] == what for message in self.messages)

    def more(self, until_s: float) -> bool:
        """Wait for more; False when there was none in time, or is none any more."""
        left_s = max(0.0, until_s - time.monotonic())
        if not select.select([self._pipe], [], [], left_s)[0]:
            return False
        some = os.read(self._pipe, 65536)
        *lines, self._rest = (self._rest + some).split(b"\n")
        self.messages += [(what, value) for what, value in map(json.loads, lines)]
        return bool(some)


# The disk's side


@dataclass(frozen=True, slots=True)
class Moment:
    """When the power is cut: so long after so many commits began, or while the gateway stops."""

    commits: int
    delay_s: float
    stop_first: bool = False

    @classmethod
    def random(cls, dice: random.Random) -> Moment:
        """Choose: while it starts, at any time, in the middle of a commit, while it stops."""
        kind = dice.choices(("start", "any", "commit", "stop"), (2, 3, 8, 2))[0]
        if kind == "start":
            return cls(0, dice.uniform(0.0, 0.1))
        if kind == "any":
            return cls(0, dice.uniform(0.0, 4.0))
        if kind == "commit":
            return cls(dice.choice((1, 1, 2, 3)), dice.uniform(0.0, 0.006))
        return cls(dice.choice((1, 2)), dice.uniform(0.0, 0.3), stop_first=True)


class Lane:
    """One disk and its gateways, one after the other; `run` is the body of a process."""

    def __init__(
        self, number: int, folder: Path, ports: tuple[int, int], protocol: int, unsafe: bool
    ) -> None:
        self._dice = random.Random()
        self._unsafe = unsafe
        self._folder = folder / f"lane-{number}"
        self._folder.mkdir()
        self.disk = Ext4Image(self._folder)
        # Its folder is new too: the way to the file must be on the disk as well.
        self._spool = self.disk.mount_point / "state" / "spool.db"
        self._may_evict = number % 2 == 1
        self._plans = [self._plan(number, port, protocol) for port in ports]
        self._ledger = Ledger(may_evict=self._may_evict)
        self._cuts_left = 0  # of this image

    def run(self, orders: Connection) -> None:
        """Cut and report, from the first word of the other side to the second."""
        _die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM):  # the other side says when it is over
            signal.signal(number, signal.SIG_IGN)
        self._dice.seed()
        orders.recv()
        try:
            while not orders.poll():
                if self._cuts_left == 0:
                    self.disk.make()
                    self._ledger = Ledger(may_evict=self._may_evict)
                    self._cuts_left = CUTS_PER_IMAGE
                self._cuts_left -= 1
                orders.send(self._cut())
        finally:
            self.disk.close()

    def _plan(self, number: int, port: int, protocol: int) -> Plan:
        path = self._folder / f"port-{port}.toml"
        path.write_text(
            _CONFIG.format(
                lane=number,
                host=HOST,
                port=port,
                protocol="5" if protocol == 5 else "3.1.1",
                spool=self._spool,
            ),
            encoding="utf-8",
        )
        plan = load_plan(path)
        if not self._may_evict:
            return plan
        config = plan.loaded.config  # smaller than a configuration may say
        spool = config.spool.model_copy(update={"max_bytes": SMALL_SPOOL_BYTES})
        config = config.model_copy(update={"spool": spool})
        return replace(plan, loaded=replace(plan.loaded, config=config))

    def _cut(self) -> Examination:
        found = Examination()
        with self._gateway() as (gateway, told):
            self._wait(Moment.random(self._dice), gateway, told)
            before = len(told.messages)
            was_over = not gateway.is_alive()
            self.disk.cut()
            if self._dice.random() < SHARE_DYING_SLOWLY:
                time.sleep(self._dice.uniform(0.0, 0.1))
        if was_over and not told.count("closed"):
            last = told.messages[-1:]
            found.findings.append(f"the gateway ended before the power did; last told: {last}")
        self._ledger.hear(told.messages[:before], found, after=told.messages[before:])
        self.disk.power_on()
        self._examine(found)
        return found

    @contextmanager
    def _gateway(self) -> Iterator[tuple[ForkProcess, Told]]:
        hears, tells = os.pipe()
        told = Told(hears)
        unreachable, reachable = self._plans
        is_reachable = not self._unsafe and self._dice.random() < SHARE_REACHABLE
        plan = reachable if is_reachable else unreachable
        process = _FORK.Process(target=live, args=(plan, tells, not self._unsafe))
        process.start()
        os.close(tells)
        try:
            yield process, told
        finally:
            process.kill()
            process.join()
            process.close()
            while told.more(time.monotonic()):
                pass
            os.close(hears)

    def _wait(self, moment: Moment, gateway: ForkProcess, told: Told) -> None:
        until_s = time.monotonic() + LIFE_S
        while told.count("appending") < moment.commits and told.more(until_s):
            pass
        if moment.stop_first:
            gateway.terminate()
        time.sleep(moment.delay_s)
        while told.more(time.monotonic()):
            pass

    def _examine(self, into: Examination) -> None:
        """Look at a copy of the spool: the next gateway finds the disk as the cut left it."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            for file in self._spool.parent.glob(f"{self._spool.name}*"):
                shutil.copyfile(file, Path(folder, file.name))
            self._ledger.examine(Path(folder, self._spool.name), into)
        if into.is_damaged:
            self._cuts_left = 0


# The bench


@dataclass(slots=True)
class Account:
    """What all cuts came to."""

    unsafe: bool
    cuts: int = 0
    seconds: float = 0.0
    committed: dict[Key, str | None] = field(default_factory=dict)
    absent: set[Key] = field(default_factory=set)
    evicted: set[Key] = field(default_factory=set)
    packed: int = 0
    delivered: dict[Key, str | None] = field(default_factory=dict)  # None: as a gap
    findings: list[str] = field(default_factory=list)

    def take(self, found: Examination) -> None:
        """Enter what one cut brought to light."""
        self.cuts += 1
        self.committed |= found.committed
        self.absent |= found.absent
        self.evicted |= found.evicted
        self.packed += found.packed
        self.findings += found.findings

    def receive(self, payload: bytes, records: Iterable[dict[str, Any]]) -> None:
        """Enter what the city heard."""
        run = unpack(payload)["run"] if records else ""
        for record in records:
            body = None if "gap" in record else digest(_json(record))
            for seq in range(record.get("first", record["seq"]), record["seq"] + 1):
                key = (run, record["stream"], seq)
                if body and (self.delivered.get(key) or body) != body:
                    self.findings.append(f"{key}: delivered again with another body")
                self.delivered[key] = body

    @property
    def lost(self) -> set[Key]:
        """What was promised, and is neither on the disk nor with the city."""
        return self.absent - self.delivered.keys()

    @property
    def holds(self) -> bool:
        """Whether the promise was kept; or, without syncs, broken as it must be."""
        return bool(self.lost) if self.unsafe else not (self.lost or self.findings)

    def close(self) -> None:
        """Hold what the city heard against what was committed and is gone."""
        self.findings += [f"{key}: lost" for key in sorted(self.lost)]
        self.findings += [
            f"{key}: delivered with another body than was committed"
            for key, body in self.delivered.items()
            if body and self.committed.get(key) not in (None, body)
        ]

    def json(self) -> dict[str, object]:
        """Return the figures."""
        return {
            "schema": "yukimi.powercut/1",
            "unsafe": self.unsafe,
            "holds": self.holds,
            "cuts": self.cuts,
            "seconds": round(self.seconds, 1),
            "committed": len(self.committed),
            "delivered": sum(body is not None for body in self.delivered.values()),
            "packed": self.packed,
            "evicted": len(self.evicted),
            "left_the_spool": len(self.absent),
            "lost": len(self.lost),
            "findings": self.findings,
        }


def cut_power(cuts: int, *, lanes: int, unsafe: bool, say: Callable[[str], None]) -> Account:
    """Cut the power of `lanes` gateways in turn, `cuts` times in all. Raises UnavailableError."""
    _seclude()
    account = Account(unsafe)
    changed = threading.Condition()

    def hear(_topic: str, payload: bytes, records: list[dict[str, Any]]) -> None:
        with changed:
            account.receive(payload, records)
            changed.notify_all()

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yukimi-powercut-")))
        _try_out(folder)
        broker: Broker = Mosquitto() if Path(MOSQUITTO).exists() else EmbeddedBroker()
        stack.callback(broker.close)
        nobody = stack.enter_context(hold_port())
        ports = (nobody.getsockname()[1], broker.port)
        protocol: Literal[5, 311] = 5 if broker.speaks_mqtt5 else 311
        everyone = [Lane(number, folder, ports, protocol, unsafe) for number in range(lanes)]
        with _started(everyone) as orders:  # before there are threads, which fork ill
            broker.start()
            city = stack.enter_context(City(HOST, broker.port, protocol=protocol, on_message=hear))
            city.wait_subscribed()
            began_s = time.monotonic()
            for order in orders:
                order.send("begin")
            for found in islice(_cuts(orders), cuts):
                with changed:
                    account.take(found)
                if account.cuts % PROGRESS_CUTS == 0:
                    say(f"{account.cuts} cuts, {len(account.committed)} records committed")
                if unsafe and account.lost:
                    break
            account.seconds = time.monotonic() - began_s
        with changed:  # what the broker acknowledged may still be on its way to the city
            changed.wait_for(lambda: unsafe or not account.lost, CITY_WAIT_S)
    account.close()
    return account


def _cuts(orders: Sequence[Connection]) -> Iterator[Examination]:
    while True:
        for order in wait(orders):
            try:
                yield cast(Connection, order).recv()
            except EOFError:
                raise RuntimeError("a lane died; see above") from None


@contextmanager
def _started(lanes: Iterable[Lane]) -> Iterator[list[Connection]]:
    """Start the lanes' processes; give what they are spoken to through; end them."""
    orders, processes = [], []
    try:
        for lane in lanes:
            ours, theirs = _FORK.Pipe()
            process = _FORK.Process(target=lane.run, args=(theirs,))
            process.start()
            theirs.close()
            orders.append(ours)
            processes.append(process)
        yield orders
    finally:
        for order in orders:
            with suppress(OSError):
                order.send("end")
        for process, lane in zip(processes, lanes, strict=False):
            process.join(JOIN_S)
            if process.exitcode != 0:
                process.kill()
                process.join()
                lane.disk.abandon()
            process.close()
        for order in orders:
            order.close()


def _seclude() -> None:
    """Give this process mounts of its own, which end with it whatever happens."""
    if os.geteuid() != 0:
        raise UnavailableError("cutting the power needs root, to mount filesystems")
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise UnavailableError(f"no mounts of our own: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


def _try_out(folder: Path) -> None:
    """Cut the power once: what was synced must stay, what was not must go."""
    disk = Ext4Image(folder)
    try:
        disk.make()
        with (disk.mount_point / "synced").open("wb") as file:
            file.write(b"1")
            file.flush()
            os.fsync(file.fileno())
        (disk.mount_point / "not synced").write_bytes(b"1")
        disk.cut()
        disk.power_on()
        left = {path.name for path in disk.mount_point.iterdir()} - {"lost+found"}
    except OSError as exc:
        raise UnavailableError(f"the power cannot be cut here: {exc}") from exc
    finally:
        disk.close()
    if left != {"synced"}:
        raise UnavailableError(f"a cut left {sorted(left)}, not what was synced")


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _leave(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would disturb the tidying up
    sys.exit(128 + number)


def main() -> int:
    """Cut and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hil.powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=500, help="how many cuts (default: 500)")
    parser.add_argument("--parallel", type=int, default=16, help="disks and gateways at a time")
    parser.add_argument("--unsafe", action="store_true", help="the control: without syncs")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)

    def say(line: str) -> None:
        if not arguments.json:
            print(line, flush=True)

    try:
        account = cut_power(
            arguments.cuts, lanes=arguments.parallel, unsafe=arguments.unsafe, say=say
        )
    except UnavailableError as exc:
        print(f"powercut: {exc}", file=sys.stderr)
        return UNREACHABLE
    if arguments.json:
        print(json.dumps(account.json()))
    for name, value in account.json().items():
        if name != "findings":
            say(f"{name:<16} {value}")
    for finding in account.findings:
        say(f"  {finding}")
    return OK if account.holds else WRONG


if __name__ == "__main__":
    sys.exit(main())
