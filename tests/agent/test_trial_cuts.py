"""The power goes at each disk call of `config apply`, on a disk that loses what was not synced.

The daemon is a child that strace ends before its Nth call of a kind. The ext4 with its spool, its
history and its last good configuration is then shut down and mounted again, in two ways: nothing
survives but what was synced; or what the kernel had just committed does, too (names, but not what
is in the files). What the child had told outside before must hold after it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.applied import Applied, Entry
from agent.before import Before
from agent.spool import Spool
from agent.spoolfile import check
from hil.faults.ext4 import Ext4Image, UnavailableError
from tests.agent.test_daemon import Street, waiting
from tests.agent.test_trials import WAIT_S, Asker, entries, height_cm, street_at

SYNCS = "fsync,fdatasync"
WRITES = ("write", "pwrite64")  # nothing of which survives before the sync that follows
# All that reaches the disk, as strace counts them on the daemon's main thread, which does it all.
KINDS = (("fsync", "fdatasync"), ("rename", "unlink", "mkdir", "ftruncate"), WRITES)
RECORD, CONFIRMED, RETURNED = b"r", b"c", b"b"  # told outside once committed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Ext4Image]:
    disk = Ext4Image(tmp_path, keeps_its_word=True)
    try:
        if os.geteuid() != 0 or shutil.which("strace") is None:
            raise UnavailableError("needs root and strace")
        disk.make()
    except UnavailableError as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    yield disk
    disk.close()


@pytest.fixture
def street(disk: Ext4Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Street:
    """A street whose file's configuration ran, was noted and is good; kept as "clean"."""
    street = street_at(tmp_path, disk.mount_point, monkeypatch)
    street.live()
    disk.save("clean")
    return street


@dataclass(frozen=True)
class Cut:
    """What was told before a cut, and what is found after it."""

    step: str
    told: bytes
    wrong: str | None  # with the spool
    records: int
    outcome: str  # of what was applied, after a start; "none"
    runs_cm: float
    tried: int  # entries on trial still

    @property
    def keeps_all(self) -> bool:
        """Whether nothing that was told is lost."""
        # One was there before; one that was not told of yet may be.
        told = 1 + self.told.count(RECORD)
        is_whole = not self.wrong and told <= self.records <= told + 1
        holds = CONFIRMED not in self.told or self.runs_cm == 300.0
        return is_whole and holds and not self.tried


def cuts(
    street: Street, disk: Ext4Image, within_s: float, calls: tuple[str, ...], *more: str
) -> Iterator[Cut]:
    """Cut an apply at one disk call after the other; `more` goes to strace."""

    def live() -> None:
        asker = Asker(street)
        asker.live(lambda: asker.apply(within_s=within_s), asker.wait)

    for call, names_survive in itertools.product(calls, (True, False)):
        if call in WRITES and not names_survive:
            continue  # the same as at the sync that follows
        for count in itertools.count(1):
            disk.go_back("clean")
            inject = ("-e", f"inject={call}:signal=KILL:when={count}")
            code, told = watched(live, *inject, *more)
            assert code in (0, -signal.SIGKILL), f"the child failed before {call} {count}"
            disk.cut(names_survive=names_survive)
            disk.power_on()
            yield examined(street, disk, f"{call} {count} {names_survive}", told)
            if code == 0:
                break


def watched(live: Callable[[], None], *options: str) -> tuple[int, bytes]:
    """Live in a child, under strace; return how it ended and what it told."""
    begin, let_begin = os.pipe()
    reading, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(let_begin)
            os.read(begin, 1)
            tell(telling)
            live()
        except BaseException:  # noqa: BLE001  (a child must not come back into the test)
            os._exit(1)
        os._exit(0)
    os.close(telling)
    strace = subprocess.Popen(
        ["strace", "-o", "/dev/null", *options, "-p", str(child)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    assert "attached" in strace.stderr.readline()
    os.write(let_begin, b"!")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    strace.communicate(timeout=WAIT_S)
    with open(reading, "rb") as stream:  # noqa: PTH123  (a pipe)
        told = stream.read()
    os.close(begin)
    os.close(let_begin)
    return code, told


def tell(place: int) -> None:
    """Have this process tell of what it has committed; not by `write`, which is counted."""
    append, write = Spool.append, Applied.write

    def appends(self: Spool, *arguments: object, **more: object) -> object:
        found = append(self, *arguments, **more)  # type: ignore[arg-type]
        os.writev(place, [RECORD])
        return found

    def writes(self: Applied, entry: Entry) -> None:
        write(self, entry)
        what = {"confirmed": CONFIRMED, "returned": RETURNED}.get(entry.outcome)
        if what is not None:
            os.writev(place, [what])

    Spool.append, Applied.write = appends, writes  # type: ignore[method-assign,assignment]


def examined(street: Street, disk: Ext4Image, step: str, told: bytes) -> Cut:
    """Look at what is there, start, and look at what runs."""
    spool = disk.mount_point / "spool.db"
    wrong = check(spool, lambda: True)
    records = waiting(spool)
    street.ran += [spool] * 5  # the child has used the next runs' names
    runs_cm = height_cm(street)
    found = entries(street)
    outcomes = [each.outcome for each in found if each.by != "file"]
    return Cut(
        step,
        told,
        wrong,
        records,
        outcomes[-1] if outcomes else "none",
        runs_cm,
        [each.outcome for each in found].count("trial"),
    )


@pytest.mark.parametrize("calls", KINDS, ids="+".join)
def test_at_each_disk_call_one_good_configuration_runs_and_nothing_told_is_lost(
    street: Street,
    disk: Ext4Image,
    calls: tuple[str, ...],
    record_property: Callable[[str, object], None],
) -> None:
    found = list(cuts(street, disk, WAIT_S, calls))
    record_property("cuts", len(found))
    assert [cut for cut in found if not cut.keeps_all] == []
    # The new one if it was confirmed, and only then.
    after = {(cut.outcome, cut.runs_cm) for cut in found}
    assert after == {("none", 350.0), ("returned", 350.0), ("confirmed", 300.0)}


@pytest.mark.parametrize("calls", KINDS, ids="+".join)
def test_at_each_disk_call_of_one_that_fails_the_one_before_runs(
    street: Street,
    disk: Ext4Image,
    calls: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    found = list(cuts(street, disk, 0.02, calls))
    record_property("cuts", len(found))
    assert [cut for cut in found if not cut.keeps_all] == []
    assert {(cut.outcome, cut.runs_cm) for cut in found} == {("none", 350.0), ("returned", 350.0)}


def test_without_any_sync_records_and_what_was_confirmed_are_lost(
    street: Street, disk: Ext4Image
) -> None:
    skipped = ("-e", f"inject={SYNCS}:retval=0")
    found = list(cuts(street, disk, WAIT_S, ("rename",), *skipped))
    assert any(cut.records < 1 + cut.told.count(RECORD) for cut in found)
    assert any(CONFIRMED in cut.told and cut.runs_cm == 350.0 for cut in found)


def test_without_the_syncs_of_the_history_what_was_confirmed_is_lost(
    street: Street, disk: Ext4Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # the spool's own are SQLite's
    found = list(cuts(street, disk, WAIT_S, ("rename",)))
    assert any(CONFIRMED in cut.told and cut.runs_cm == 350.0 for cut in found)
