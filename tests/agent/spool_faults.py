"""The life of a spool, with a fault at a step of choice: a program that the tests start.

Jobs come on stdin, one JSON list a line: a system call and what strace shall do to it, such as
`["fdatasync", "error=EIO:when=7"]`, or `[null, null]` to count the calls. Each job is lived by a
forked child, which strace holds before its first step and which minds nothing but the calls that
touch the spool's files. Afterwards the spool is opened again, without faults, and held against
what the child had told over a pipe; the answer is one JSON object a line.

With `--dies` a child whose disk drove it into memory dies there, once it has said something from
it; with `--split` a release is written down after its record (a control).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from agent.clock import Clock, Look, Stamp
from agent.privacy.audit import audit
from agent.privacy.ledger import Claim, Terms
from agent.privacy.policy import Policy
from agent.privacy.release import burned, burned_before
from agent.record import Entry, Lost, Record
from agent.spool import Spool, SpoolError
from hil.ledger import Examination, Ledger, Message, digest, lines, waiting

TERMS = Terms(Policy(900, Fraction(1, 4)), "Asia/Tokyo", "0")
CLOCK = Clock(Look(0, 0, True, 0.1), trust_system=False)
ROOMY_BYTES = 2**30
FULL_BYTES = 1024  # an empty file is larger: every commit makes room
TRIES = 3
LONGEST_S = 60  # longer, and it hangs
MEMORY = Path("/dev/shm")
DIES_IN_MEMORY = "--dies" in sys.argv  # before it finds the disk again

PR_SET_PTRACER = 0x59616D61  # linux/prctl.h
PTRACER_ANY = ctypes.c_ulong(-1)

Tell = Callable[[str, Any], None]


def scenario(file: Path, tell: Tell) -> None:
    """Live some runs of one spool; every step is tried again when it fails, as the daemon does."""
    one = Life(file, tell, "one", ROOMY_BYTES)
    early = one.append("snow", "snow", "road", "gateway")
    one.append(Lost("road", "road", 2, "disk_failed", None, None), "road")
    one.look()
    one.acknowledge(early[:2])
    one.attempt(lambda spool: spool.settle())
    one.append("snow", "road", estimated=True)
    known = Stamp("corrected", 1.0)
    one.attempt(lambda spool: spool.correct("boot", lambda ns: ns, lambda _ns: known))
    one.append("snow", estimated=True)
    one.attempt(lambda spool: spool.release_held())
    one.release(1)
    one.append("snow", "snow", "snow", "road", "road", "road")
    one.attempt(lambda spool: spool.pack())
    one.look()
    one.attempt(lambda spool: spool.unpack(packs(spool)[:1]))
    one.look()
    one.leave_the_disk()
    one.append("snow", "road")
    one.release(2)
    one.come_back()
    one.release(3)
    one.close()

    two = Life(file, tell, "two", FULL_BYTES)
    late = two.append("snow", "road")
    two.look()
    two.acknowledge(late[1:2])  # leaves with the next commit
    two.append("snow", "people")
    two.release(200)  # another day
    two.close()

    three = Life(file, tell, "three", ROOMY_BYTES)
    three.append("snow", "snow", "snow", "gateway")
    three.release(400)
    three.close()
    # A version that nobody knows: all of it can be read, and must be there afterwards. Through
    # another name, which is not watched.
    if size_bytes(file):
        damage(file)

    four = Life(file, tell, "four", ROOMY_BYTES)
    if four.append("snow", "gateway"):
        tell("survived", None)
    four.close()


def size_bytes(file: Path) -> int:
    """Look by the scenario's own calls, which the fault may meet."""
    for _ in range(TRIES):
        with suppress(OSError):
            return file.stat().st_size if file.exists() else 0
    return 0


def damage(file: Path) -> None:
    alias = file.parent.with_name("alias")
    alias.hardlink_to(file)
    with alias.open("r+b") as database:
        database.seek(60)  # user_version
        database.write((99).to_bytes(4))
    alias.unlink()


def packs(spool: Spool) -> list[int]:
    page = spool.peek(up_to_id=spool.last_id, limit=100, parcel_records=10)
    return [parcel.ids[0] for parcel in page.parcels if parcel.payload is not None]


class Life:
    """One run. A step may fail with SpoolError and is then tried again, but not for ever."""

    def __init__(self, file: Path, tell: Tell, run: str, max_bytes: int) -> None:
        self._tell = tell
        self._run = run
        self._numbers: Counter[str] = Counter()
        self._untold: list[Any] = []  # committed in memory only; a city may have it all the same
        self._was_driven_out = False  # of the disk, by its faults
        self._spool = Spool(
            file,
            max_bytes=max_bytes,
            run=run,
            boot_id="boot",
            gateway="g",
            pack_records=3,
            terms=TERMS,
        )
        tell("begun", run)
        self.come_back()
        self.attempt(lambda spool: spool.begin_ledger(2 * 10**9))
        self._commit([burned_before(claim, CLOCK, "boot") for claim in self._unsettled()])

    def leave_the_disk(self) -> None:
        """Go on in memory."""
        self._spool.turn_volatile(OSError("no disk"))

    def come_back(self) -> None:
        """Go back to the disk, if there is one; then what was committed in memory is committed."""
        if any(self._spool.reopen() for _ in range(TRIES)) and self._untold:
            self._tell("committed", self._untold)
            self._untold = []

    def append(self, *what: str | Lost, estimated: bool = False) -> list[Entry]:
        """Commit records of these streams, and tell the numbers that they must have."""
        items = [record(each, estimated) if isinstance(each, str) else each for each in what]
        return self._commit(items)

    def release(self, window: int) -> None:
        """Release a window of people, as the pipeline does, or burn it."""
        start_ns = window * 900 * 10**9
        times = (start_ns, start_ns + 900 * 10**9)
        stamp = Stamp("synced", 0.1)
        claim = Claim("door", *times, *times, stamp, "1/4", ("total",), 900)
        values = TERMS.policy.withheld(("total",))
        quality = {"flag": "good", "n": 900, "expected": 900}
        empty = Record("door", "people", *times, *times, stamp, quality, values, claim)
        reserved = self.attempt(lambda spool: spool.reserve([claim]))
        if reserved is None:
            self._commit([burned(empty)])
            return
        self._tell("drawn", window)
        figures = {"total": {"count": window, "unclamped": window}}
        full = replace(empty, values=values | figures, settles=reserved[0])
        self._commit([full])

    def _unsettled(self) -> list[Claim]:
        return self.attempt(lambda spool: spool.unsettled()) or []

    def _commit(self, items: Sequence[Record | Lost]) -> list[Entry]:
        if self._spool.is_volatile:
            items = [burned(each) if is_released(each) else each for each in items]
        if not items:
            return []
        entries = self.attempt(lambda spool: spool.append(items, "config", hold=True))
        if entries is None:
            if self._spool.is_volatile:
                return []
            self._was_driven_out = True
            self.leave_the_disk()
            return self._commit(items)
        bodies = {(entry.stream, entry.seq): digest(entry.body) for entry in entries}
        gaps = {(entry.stream, entry.seq) for entry in entries if entry.is_gap}
        told = []
        for item in items:
            for _ in range(item.count if isinstance(item, Lost) else 1):
                self._numbers[item.stream] += 1
                key = (item.stream, self._numbers[item.stream])
                told.append((*key, bodies.get(key)))  # one that waits for the clock will change
        if self._spool.is_volatile:
            self._tell("said", [(self._run, *each) for each in told if each[:2] not in gaps])
            if DIES_IN_MEMORY and self._was_driven_out:
                os._exit(0)
            self._untold += told
            self.come_back()
        else:
            self._tell("committed", told)
        return entries

    def acknowledge(self, entries: list[Entry]) -> None:
        """Tell what will be acknowledged, and do so."""
        self._tell("acknowledged", [(entry.run, entry.stream, entry.seq) for entry in entries])
        self.attempt(lambda spool: spool.acknowledge(entry.id for entry in entries))

    def look(self) -> None:
        """Ask all that can be asked."""
        self.attempt(lambda spool: spool.peek(up_to_id=spool.last_id, limit=100, parcel_records=10))
        self.attempt(lambda spool: spool.newest())
        self.attempt(lambda spool: spool.waiting_by_run())
        self.attempt(lambda spool: spool.oldest_end_ns())
        self.attempt(lambda spool: spool.held())
        self.attempt(lambda spool: spool.bytes())

    def close(self) -> None:
        """Close in order; nobody tries that twice."""
        self.come_back()
        with suppress(SpoolError):
            self._spool.close(clean=True)
            if not self._untold:
                self._tell("closed", self._run)

    def attempt(self, step: Callable[[Spool], Any]) -> Any:
        """Take a step; None if it fails however often it is tried."""
        for _ in range(TRIES):
            with suppress(SpoolError):
                return step(self._spool)
        return None


def is_released(item: Record | Lost) -> bool:
    return isinstance(item, Record) and item.settles is not None and not item.is_burned


def record(stream: str, estimated: bool) -> Record:
    stamp = Stamp("estimated", None) if estimated else Stamp("synced", 0.1)
    quality = {"flag": "good", "n": 60, "expected": 60}
    return Record(stream, stream, 10**9, 2 * 10**9, 0, 10**9, stamp, quality, {"text": "x" * 500})


# Fault by fault


def answer(call: str | None, fault: str | None) -> dict[str, Any]:
    """Live the scenario with one fault, and say what came of it."""
    # In memory: nothing here depends on a disk, and syncs cost nothing.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        file = Path(folder, "spool", "spool.db")
        log = Path(folder, "trace")
        with child(file) as (pid, begin, told):
            is_killed = traced(pid, strace(call, fault, file, log), begin)
            messages: list[Message] = [json.loads(line) for line in told.read().splitlines()]
        trace = log.read_text()
        found = Examination()
        ledger = Ledger(may_evict=True)
        ledger.hear(messages, found)
        found.findings += salvaged(file)
        ledger.examine(file, found)
        drawn = [value for what, value in messages if what == "drawn"]
        said = [tuple(entry) for what, value in messages if what == "said" for entry in value]
        found.findings += audited(file, drawn, {entry[:3]: entry[3] for entry in said})
    acknowledged = {
        tuple(key) for what, value in messages if what == "acknowledged" for key in value
    }
    lost = sorted(found.absent - acknowledged)
    return {
        "calls": Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", trace, re.MULTILINE)),
        "met": is_killed or "INJECTED" in trace,
        "survived": ["survived", None] in messages,
        "evicted": len(found.evicted),
        "findings": found.findings + [f"{key}: lost" for key in lost],
    }


def salvaged(file: Path) -> list[str]:
    """Let the spool salvage what the scenario damaged; say what should not have come of it."""
    spool = Spool(file, max_bytes=ROOMY_BYTES, run="the first to look", boot_id="")
    spool.close(clean=False)
    return [str(damage) for damage in spool.damages if damage.lost]


def audited(file: Path, drawn: list[int], said: Mapping[tuple[Any, ...], str | None]) -> list[str]:
    """Let the next life burn what is open; say what does not hold about people.

    Nor may any record be another one than a city may have heard while there was no disk.
    """
    spool = Spool(
        file, max_bytes=ROOMY_BYTES, run="the next", boot_id="boot", gateway="g", terms=TERMS
    )
    try:
        spool.begin_ledger(2 * 10**9)
        left = [burned_before(claim, CLOCK, "boot") for claim in spool.unsettled()]
        if left:
            spool.append(left, "config")
        rows, open_windows = lines(spool), spool.unsettled()
        records = waiting(spool)
        finding = audit(rows, records)
    finally:
        spool.close(clean=True)
    written = [json.loads(text) for _, text in rows]
    released = [line["start_boot_ns"] for line in written if line["line"] == "release"]
    wrong = [f"the ledger, line {finding.line}: {finding.broken}"] if finding.broken else []
    wrong += [f"never settled: {claim}" for claim in open_windows]
    wrong += [f"noise was drawn twice: {each}" for each, n in Counter(drawn).items() if n > 1]
    wrong += [f"released, and nobody drew: {each}" for each in released
              if each // (900 * 10**9) not in drawn]  # fmt: skip
    for run, body in records:
        record = json.loads(body)
        key = (run, record["stream"], record["seq"])
        if "gap" not in record and said.get(key) not in (None, digest(body)):
            wrong.append(f"{key}: said from memory, and another one is on the disk")
    return wrong


def strace(call: str | None, fault: str | None, file: Path, log: Path) -> list[str]:
    ends = ("-wal", "-shm", "-journal", ".new", ".new-journal", ".damaged")
    beside = [file.with_name(file.name + end) for end in ends]
    paths = [word for path in (file.parent, file, *beside) for word in ("-P", str(path))]
    inject = ["-e", f"inject={call}:{fault}"] if fault else []
    return ["strace", "-o", str(log), "-e", f"trace={call or 'all'}", *paths, *inject, "-p"]


@contextmanager
def child(file: Path) -> Iterator[tuple[int, int, Any]]:
    """Fork one that lives the scenario once it reads from `begin`, and tells through `told`."""
    hears, tells = os.pipe()
    waits, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(begin)
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PTRACER_ANY, 0, 0, 0)

        def tell(what: str, value: Any) -> None:
            os.write(tells, json.dumps([what, value]).encode() + b"\n")

        try:
            signal.signal(signal.SIGALRM, too_long)
            signal.alarm(LONGEST_S)
            if os.read(waits, 1):
                scenario(file, tell)
        except BaseException as exc:  # noqa: BLE001  (anything but a SpoolError is a bug)
            tell("bug", repr(exc))
        finally:
            os._exit(0)
    os.close(tells)
    os.close(waits)
    try:
        with os.fdopen(hears, encoding="utf-8") as told:
            yield pid, begin, told
    finally:
        os.close(begin)


def too_long(_number: int, _frame: object) -> None:
    raise TimeoutError("the scenario hangs")


def traced(pid: int, command: list[str], begin: int) -> bool:
    """Let strace take hold of `pid`, let it begin, and see it to its end: was it killed?"""
    with subprocess.Popen([*command, str(pid)], stderr=subprocess.PIPE, text=True) as tracer:
        said = []
        for line in tracer.stderr or ():
            said.append(line)
            if "attached" in line:
                os.write(begin, b"!")
                break
        status = os.waitpid(pid, 0)[1] if "attached" in said[-1] else None
    if status is None:
        raise RuntimeError("".join(said))
    return os.WIFSIGNALED(status)


def split() -> None:
    """Make every spool write what it says about a release after the release, not with it."""
    append = Spool.append

    def later(self: Spool, records: Any, config_id: str, **how: Any) -> list[Entry]:
        settle = self._settle
        waits: list[Any] = []
        self._settle = lambda *what: waits.append(what)  # type: ignore[method-assign]
        try:
            entries = append(self, records, config_id, **how)
        finally:
            self._settle = settle  # type: ignore[method-assign]
        with self._lock, self._errors(), self._transaction():
            for what in waits:
                settle(*what)
        return entries

    Spool.append = later  # type: ignore[method-assign]


if __name__ == "__main__":
    if "--split" in sys.argv:
        split()
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)
