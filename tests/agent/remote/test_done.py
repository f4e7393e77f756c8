"""What was done stays known through kills and failing disks, and costs the card little."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from agent import replacing
from agent.remote import done as done_module
from agent.remote.command import RefusedError
from agent.remote.done import FOLDER, REPLY_BYTES, Done
from tests.agent.steps import failed_at_each_call, killed_at_each_line

NOW_NS = 1_800_000_000 * 10**9
KEYS = ("restart/a", "maintenance/b")
DAYS_3_NS = 3 * 86_400 * 10**9


def serve(folder: Path, effects: Path, key: str, now_ns: int = NOW_NS) -> str:
    """Do a command as the desk does; return what became of it."""
    done = Done(folder)
    try:
        if done.before(key) is not None:
            return "answered"
        done.begin(key, now_ns)
    except RefusedError as exc:
        return exc.why
    with effects.open("a") as file:
        file.write(f"{key}\n")
    done.end(key, {"ok": True, "answer": {"key": key}})
    return "done"


@pytest.mark.parametrize("module", [done_module, replacing], ids=["done", "replacing"])
def test_killed_at_each_line_no_command_is_done_twice(tmp_path: Path, module: object) -> None:
    folder, effects = tmp_path / "state", tmp_path / "effects"

    def live() -> None:
        for key in KEYS:
            serve(folder, effects, key)

    deaths = 0
    for _ in killed_at_each_line(module, live):  # type: ignore[arg-type]
        deaths += 1
        for key in KEYS:  # the next life is asked the same
            assert serve(folder, effects, key) in ("done", "answered", "repeated")
        counts = Counter(effects.read_text().split())
        assert set(counts.values()) == {1}
        for key in KEYS:
            assert serve(folder, effects, key) in ("answered", "repeated")
        # Anew, with what was begun to be written left behind.
        for file in (folder / FOLDER).glob("*.json"):
            file.unlink()
        effects.unlink()
    assert deaths > 10


def test_whatever_of_the_disk_fails_no_command_is_done_twice(tmp_path: Path) -> None:
    Done(tmp_path).begin("restart/a", NOW_NS)
    begun, said, numbers = {"restart/a"}, Counter[str](), iter(range(1000))

    def live() -> None:
        key = f"restart/{next(numbers)}"
        done = Done(tmp_path)
        try:
            done.begin(key, NOW_NS)
        except RefusedError as exc:
            said[exc.why] += 1
            return
        said["begun"] += 1
        begun.add(key)
        done.end(key, {"ok": True})

    for _ in failed_at_each_call(live, ()):
        known = Done(tmp_path)
        assert known.why_barred is None
        assert all(known.is_begun(key) for key in begun)
    assert said["failed"] > 3
    assert said["begun"] > 3


def test_a_write_that_was_cut_off_would_bar_all_which_is_why_it_is_replaced_in_one_step(
    tmp_path: Path,
) -> None:
    """The negative control of the two above: half a file is noticed."""
    Done(tmp_path).begin("restart/a", NOW_NS)
    (file,) = (tmp_path / FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:20])
    done = Done(tmp_path)
    assert done.why_barred is not None
    with pytest.raises(RefusedError):
        done.begin("restart/b", NOW_NS)


def test_a_command_costs_the_card_the_same_however_many_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def replace(file: Path, content: bytes) -> None:
        written.append(len(content))
        replacing.replace_file(file, content)

    monkeypatch.setattr(done_module, "replace_file", replace)
    done = Done(tmp_path)
    costs = []
    for number in range(100):
        written.clear()
        done.begin(f"maintenance/{number:03}", NOW_NS)
        done.end(f"maintenance/{number:03}", {"ok": True, "answer": {"for_s": 60}})
        costs.append(sum(written))
    assert set(costs) == {costs[0]}
    written.clear()
    done.end("maintenance/000", {"ok": True, "answer": {"for_s": 60}})  # as is known already
    assert written == []
    assert Done(tmp_path).before("maintenance/099") == {"ok": True, "answer": {"for_s": 60}}


def test_a_large_answer_is_kept_as_done(tmp_path: Path) -> None:
    done = Done(tmp_path)
    done.begin("restart/a", NOW_NS)
    done.end("restart/a", {"ok": True, "answer": {"x": "x" * REPLY_BYTES}})
    assert Done(tmp_path).before("restart/a") == {"ok": True}
    (file,) = (tmp_path / FOLDER).iterdir()
    assert len(file.read_bytes()) < 1000


def test_what_has_long_expired_is_forgotten_and_revived_by_no_clock(tmp_path: Path) -> None:
    done = Done(tmp_path)
    done.begin("restart/a", NOW_NS)
    done.begin("restart/b", NOW_NS + DAYS_3_NS)
    names = sorted(file.name for file in (tmp_path / FOLDER).iterdir())
    assert names == ["not-before.json", "restart.b.json"]
    assert json.loads((tmp_path / FOLDER / "not-before.json").read_text())["not_before_ns"] > NOW_NS
    with pytest.raises(RefusedError) as caught:
        Done(tmp_path).begin("restart/a", NOW_NS)
    assert caught.value.why == "time_unknown"


def test_a_folder_that_may_not_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Done(tmp_path).begin("restart/a", NOW_NS)

    def refuse(*_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)  # which iterdir goes by, and scandir glob
    monkeypatch.setattr(os, "scandir", refuse)
    assert Done(tmp_path).why_barred is not None
