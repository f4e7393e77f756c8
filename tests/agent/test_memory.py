"""What is remembered over a restart comes back whole, or not at all, and never stops anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import replacing
from agent.memory import Memory, digest_of, file_of, follow
from tests.agent.steps import killed_at_each_line

DIGESTS = {"snow-1": digest_of("maxbotix-hrxl", {"mount_height_cm": 350.0}), "road-1": "r"}
STATES: dict[str, dict[str, Any]] = {"snow-1": {"depth_cm": 42.5}, "road-1": {"errors": [1, 2]}}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def test_what_was_kept_comes_back(spool: Path) -> None:
    Memory(spool, DIGESTS).keep(STATES)
    later = Memory(spool, DIGESTS)
    assert {name: later.of(name) for name in STATES} == STATES
    assert later.of("snow-9") is None


@given(state=st.dictionaries(st.text(), json_values, max_size=4))
def test_any_state_comes_back(state: dict[str, Any], tmp_path_factory: Any) -> None:
    spool = tmp_path_factory.mktemp("memory") / "spool.db"
    Memory(spool, DIGESTS).keep({"snow-1": state})
    assert Memory(spool, DIGESTS).of("snow-1") == state


def test_another_mount_begins_anew(spool: Path) -> None:
    Memory(spool, DIGESTS).keep(STATES)
    moved = DIGESTS | {"snow-1": digest_of("maxbotix-hrxl", {"mount_height_cm": 300.0})}
    later = Memory(spool, moved)
    assert later.of("snow-1") is None
    assert later.of("road-1") == STATES["road-1"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"schema": "yukimi.memory/9", "sensors": {}}',
        b'{"schema": "yukimi.memory/1", "sensors": []}',
        b'{"schema": "yukimi.memory/1", "sensors": {"road-1": {"digest": "r"}}}',
        b'{"schema": "yukimi.memory/1", "sensors": {"road-1": {"digest": "r", "state": 7}}}',
        b"[" * 100_000,
    ],
)
def test_what_makes_no_sense_is_left(spool: Path, content: bytes) -> None:
    spool.with_name("spool.db.memory").write_bytes(content)
    memory = Memory(spool, DIGESTS)
    assert memory.of("road-1") is None
    memory.keep(STATES)
    assert Memory(spool, DIGESTS).of("road-1") == STATES["road-1"]


def test_a_death_at_any_step_leaves_the_earlier_or_the_newer(spool: Path) -> None:
    memory = Memory(spool, DIGESTS)
    memory.keep(STATES)
    newer = STATES | {"snow-1": {"depth_cm": 50.0, "more": "x" * 100_000}}
    seen = []
    for _ in killed_at_each_line(replacing, lambda: Memory(spool, DIGESTS).keep(newer)):
        seen.append(Memory(spool, DIGESTS).of("snow-1"))
        assert seen[-1] in (STATES["snow-1"], newer["snow-1"])
        memory._written = None
        memory.keep(STATES)
    assert STATES["snow-1"] in seen
    assert Memory(spool, DIGESTS).of("snow-1") == newer["snow-1"]


def test_what_has_not_changed_is_not_written_again(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr("agent.memory.replace_file", lambda _file, content: writes.append(content))
    memory = Memory(spool, DIGESTS)
    for depth_cm in (1.0, 1.0, 2.0, 2.0):
        memory.keep({"snow-1": {"depth_cm": depth_cm}})
    assert [json.loads(each)["sensors"]["snow-1"]["state"]["depth_cm"] for each in writes] == [1, 2]


def test_a_disk_that_fails_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = Memory(tmp_path / "file" / "spool.db", DIGESTS)  # a folder that cannot be
    memory.keep(STATES)
    assert memory.of("snow-1") is None


@pytest.mark.parametrize("wrong", [float("nan"), {1, 2}])
def test_a_state_that_cannot_be_written_stops_nobody_and_leaves_the_earlier(
    spool: Path, wrong: object
) -> None:
    memory = Memory(spool, DIGESTS)
    memory.keep(STATES)
    memory.keep({"snow-1": {"depth_cm": wrong}})
    assert Memory(spool, DIGESTS).of("snow-1") == STATES["snow-1"]


def test_it_goes_where_the_spool_goes(tmp_path: Path) -> None:
    old, new = tmp_path / "a.db", tmp_path / "b.db"
    Memory(old, DIGESTS).keep(STATES)
    follow(old, new)
    follow(old, new)  # there is nothing any more
    assert not file_of(old).exists()
    assert Memory(new, DIGESTS).of("snow-1") == STATES["snow-1"]
