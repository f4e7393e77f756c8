"""A spool moves to another path whole, whatever stops the move."""

from __future__ import annotations

import errno
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent import relocate
from agent.clock import Stamp
from agent.record import Record
from agent.relocate import BothHoldError, clash, holds_spool, move
from agent.spool import Spool, SpoolError, claim
from tests.agent.steps import failed_at_each_call, killed_at_each_line

RECORDS = 20


def record(number: int) -> Record:
    quality = {"flag": "good", "n": 60, "expected": 60}
    stamp = Stamp("synced", 0.1)
    times = (number * 10**9, (number + 1) * 10**9)
    return Record("snow-1", "snow", *times, *times, stamp, quality, {"text": "x" * 500})


def fill(path: Path, run: str = "one") -> None:
    """Leave a spool as a killed gateway does: records in its write-ahead log."""
    spool = Spool(path, max_bytes=2**24, run=run, boot_id="boot")
    spool.append([record(number) for number in range(RECORDS)], "config")
    kept = {
        part: part.read_bytes() for part in path.parent.iterdir() if part.name.startswith(path.name)
    }
    spool.close(clean=False)
    for part, content in kept.items():
        part.write_bytes(content)
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def waiting(path: Path) -> dict[str, int]:
    """Return what a gateway would find at `path`."""
    spool = Spool(path, max_bytes=2**24, run="later", boot_id="boot")
    found = spool.waiting_by_run()
    spool.close(clean=True)
    return found


@pytest.fixture
def old(tmp_path: Path) -> Path:
    fill(tmp_path / "old" / "spool.db")
    return tmp_path / "old" / "spool.db"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new" / "deep" / "spool.db"


@pytest.fixture(params=["one filesystem", "two filesystems"])
def filesystems(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two filesystems":
        rename = Path.rename

        def only_within(self: Path, target: Path) -> Path:
            if self.parent != target.parent:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", only_within)


@pytest.mark.usefixtures("filesystems")
def test_all_records_are_at_the_new_path_and_nothing_at_the_old(old: Path, new: Path) -> None:
    move(old, new)
    assert waiting(new) == {"one": RECORDS}
    assert [file.name for file in old.parent.iterdir()] == ["spool.db.lock"]


def test_between_real_filesystems_too(old: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == old.stat().st_dev:
        pytest.skip("no second filesystem")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        new = Path(folder) / "spool" / "spool.db"
        move(old, new)
        assert waiting(new) == {"one": RECORDS}
        assert not old.exists()


def test_where_nothing_waits_nothing_is_moved(tmp_path: Path, new: Path) -> None:
    move(tmp_path / "never" / "spool.db", new)
    assert list(tmp_path.iterdir()) == []


def test_another_name_of_the_same_file_is_no_other_spool(old: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(old.parent)
    linked = tmp_path / "linked" / "spool.db"
    assert clash(old, linked) is None
    move(old, linked)
    assert waiting(old) == {"one": RECORDS}


def test_two_spools_are_not_made_one_and_both_stay(old: Path, new: Path) -> None:
    fill(new, run="two")
    assert "both there" in (clash(old, new) or "")
    with pytest.raises(BothHoldError, match=r"move .* away, or delete it; or name .* again"):
        move(old, new)
    assert waiting(old) == {"one": RECORDS}
    assert waiting(new) == {"two": RECORDS}


def test_a_spool_in_use_is_not_moved(old: Path, new: Path) -> None:
    with closing(claim(old)), pytest.raises(SpoolError, match="another gateway"):
        move(old, new)
    assert waiting(old) == {"one": RECORDS}


def test_a_spool_that_is_read_is_not_moved(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(old)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM record").fetchone()
        with pytest.raises(SpoolError, match="cannot be moved"):
            move(old, new)
    assert not holds_spool(new)
    assert waiting(old) == {"one": RECORDS}


def test_a_log_that_lost_its_database_does_not_get_into_the_one_that_comes(
    old: Path, new: Path
) -> None:
    fill(new, run="two")
    new.unlink()
    move(old, new)
    assert waiting(new) == {"one": RECORDS}


def test_what_an_interrupted_copy_left_is_replaced(old: Path, new: Path, filesystems: None) -> None:
    new.parent.mkdir(parents=True)
    new.with_name("spool.db.moving").write_bytes(b"half")
    move(old, new)
    assert waiting(new) == {"one": RECORDS}


class Moves:
    """One move after another, each of a new spool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.begin()

    def begin(self) -> None:
        self._count += 1
        self.old = self._folder / str(self._count) / "old.db"
        self.new = self._folder / str(self._count) / "deep" / "new.db"
        fill(self.old)

    def move(self) -> None:
        move(self.old, self.new)

    def check(self, *, goes_back: bool = False) -> None:
        """Finish, in either direction, and find every record once."""
        old, new = (self.new, self.old) if goes_back else (self.old, self.new)
        assert holds_spool(old) or holds_spool(new), "no spool is left"
        move(old, new)
        assert not holds_spool(old)
        assert waiting(new) == {"one": RECORDS}


@pytest.fixture
def moves(tmp_path: Path) -> Moves:
    return Moves(tmp_path)


@pytest.mark.usefixtures("filesystems")
@pytest.mark.parametrize("goes_back", [False, True])
def test_a_death_at_any_step_leaves_one_complete_spool(moves: Moves, goes_back: bool) -> None:
    deaths = 0
    for _ in killed_at_each_line(relocate, moves.move):
        moves.check(goes_back=goes_back)
        moves.begin()
        deaths += 1
    assert deaths > 20
    moves.check()


@pytest.mark.usefixtures("filesystems")
def test_a_disk_that_fails_at_any_step_leaves_one_complete_spool(moves: Moves) -> None:
    failures = 0
    for failed in failed_at_each_call(moves.move, (SpoolError,)):
        moves.check()
        moves.begin()
        failures += failed
    assert failures > 10
    moves.check()


def test_the_checks_find_a_move_that_is_careless(
    moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the original goes first, and the copy grows in its place."""

    def careless(source: Path, target: Path) -> None:
        content = source.read_bytes()
        source.unlink()
        target.write_bytes(content[: len(content) // 2])
        target.write_bytes(content)

    monkeypatch.setattr(relocate, "_transfer", careless)
    here = sys.modules[__name__]  # whose lines are those of `careless`
    found = 0
    for _ in killed_at_each_line(here, moves.move):
        try:
            moves.check()
        except (AssertionError, SpoolError):
            found += 1
        moves.begin()
    assert found > 0


def test_the_copy_is_synced_before_it_has_the_name_and_the_original_goes_last(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch, filesystems: None
) -> None:
    steps: list[str] = []
    watch(monkeypatch, "agent.relocate.os.fsync", lambda _: steps.append("fsync"))
    watch(monkeypatch, "pathlib.Path.rename", lambda *_: steps.append("rename"))
    unlink = Path.unlink

    def noted(self: Path, missing_ok: bool = False) -> None:
        if self == old:
            steps.append("unlink")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    move(old, new)
    copied = ["rename", "fsync", "rename", "fsync", "unlink", "fsync"]  # the first one is refused
    assert steps in (copied, ["rename", "fsync", "unlink", "fsync"])


def watch(monkeypatch: pytest.MonkeyPatch, name: str, tell: Callable[..., None]) -> None:
    module, _, attribute = name.rpartition(".")
    owner = relocate.os if module.endswith("os") else Path
    real = getattr(owner, attribute)

    def told(*arguments: object) -> object:
        tell(*arguments)
        return real(*arguments)

    monkeypatch.setattr(owner, attribute, told)
