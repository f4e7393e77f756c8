"""The record of an acceptance test: whole or not there, traceable, and only while it holds."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import commissioned, newfile
from agent.commissioned import Acceptance
from agent.memory import digest_of
from tests.agent.steps import killed_at_each_line

DIGEST = digest_of("maxbotix-hrxl", {"mount_height_cm": 352.1})


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def accepted(*, passed: bool = True, options: str = DIGEST, sensor: str = "snow-1") -> Acceptance:
    return Acceptance(
        gateway="route-230-07",
        sensor=sensor,
        driver="maxbotix-hrxl",
        options=options,
        time="2027-01-15T00:10:00.000Z",
        date="2027-01-15",
        clock="synced",
        by="technician",
        version="0.1.0",
        test="known_depth",
        measured={"zero_cm": 352.1, "spread_cm": 0.3},
        passed=passed,
    )


def test_a_test_that_passed_is_in_the_birth_by_its_hash(spool: Path) -> None:
    test = accepted()
    file = commissioned.keep(test, spool)
    held = json.loads(file.read_bytes())
    assert commissioned.birth_of("snow-1", DIGEST, spool) == {
        "date": "2027-01-15",
        "record": held["record"],
    }
    # Anybody with the file can compute it, without this program.
    salt = held.pop("salt")
    del held["schema"], held["record"]
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(f"{salt}{text}".encode()).hexdigest() == test.record


def test_equal_tests_have_different_hashes() -> None:
    assert accepted().record != accepted().record  # else a guess could be confirmed


def test_the_file_can_be_read_by_the_group_and_written_by_nobody_else(spool: Path) -> None:
    file = commissioned.keep(accepted(), spool)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_root_follows_no_link_that_the_daemon_left(tmp_path: Path) -> None:
    """It would give the daemon's user what is at its end, such as /etc."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "commissioned").symlink_to(tmp_path / "etc")
    with pytest.raises(OSError, match="is a link"):
        commissioned.keep(accepted(), tmp_path / "state" / "spool.db")
    assert list((tmp_path / "etc").iterdir()) == []


def test_a_test_under_other_options_holds_no_more(spool: Path) -> None:
    commissioned.keep(accepted(), spool)
    moved = digest_of("maxbotix-hrxl", {"mount_height_cm": 300.0})
    assert commissioned.birth_of("snow-1", moved, spool) is None


def test_the_newest_test_counts_and_the_older_ones_stay(spool: Path) -> None:
    first = commissioned.keep(accepted(), spool)
    commissioned.keep(accepted(passed=False), spool)
    assert commissioned.birth_of("snow-1", DIGEST, spool) is None
    last = accepted()
    commissioned.keep(last, spool)
    birth = commissioned.birth_of("snow-1", DIGEST, spool)
    assert birth is not None
    assert birth["record"] == last.record
    assert first.exists()
    assert len(list(commissioned.folder_of(spool).iterdir())) == 3


def test_each_sensor_has_its_own(spool: Path) -> None:
    commissioned.keep(accepted(sensor="snow-11"), spool)
    assert commissioned.birth_of("snow-1", DIGEST, spool) is None


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"[]", lambda raw: raw.replace(b"352.1", b"350.0")]
)
def test_a_file_that_was_damaged_or_changed_is_no_test(
    spool: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = commissioned.keep(accepted(), spool)
    file.write_bytes(damage(file.read_bytes()))
    assert commissioned.birth_of("snow-1", DIGEST, spool) is None


def test_without_a_folder_nobody_was_tested(spool: Path) -> None:
    assert commissioned.birth_of("snow-1", DIGEST, spool) is None


def test_a_kill_at_any_line_leaves_a_file_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "it"
    seen = set()
    for _ in killed_at_each_line(newfile, lambda: newfile.create_file(file, b"all", 0o640)):
        seen.add(file.read_bytes() if file.exists() else None)
        file.unlink(missing_ok=True)
    assert seen == {None, b"all"}


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "it"
    file.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        newfile.create_file(file, b"yours", 0o640)
    assert file.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [file]


def test_the_tests_go_where_the_spool_goes(spool: Path, tmp_path: Path) -> None:
    test = accepted()
    commissioned.keep(test, spool)
    moved = tmp_path / "card" / "spool.db"
    commissioned.follow(spool, moved)
    assert commissioned.latest("snow-1", moved) == test
