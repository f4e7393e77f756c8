"""One option changed in a file of a person's: that one, and nothing else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.amend import amend, amended

FILE = """\
# a cabinet
[uplink]
brokers = ["mqtt://b"]   # the city's

[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS1"
[sensors.options]
mount_height_cm = 350.0          # by tape
# zero_cm = 0.0                  # found when commissioned
[sensors.quality.depth_cm]
range = [-50.0, 400.0]

[[sensors]]
id = "snow-2"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS2"
options = { mount_height_cm = 350.0 }

[[ sensors ]]
id = "hall-1"
driver = "hlk-ld2450"
bus = "/dev/ttyS3"
[ sensors.options ]  # none yet
"""


def changed(old: str, new: str) -> list[tuple[str, str]]:
    pairs = zip(old.splitlines(), new.splitlines(), strict=True)
    return [pair for pair in pairs if pair[0] != pair[1]]


def test_a_value_is_replaced_and_its_comment_stays_where_it_was() -> None:
    new = amended(FILE, "snow-1", "mount_height_cm", 352.1)
    assert new is not None
    assert changed(FILE, new) == [
        (
            "mount_height_cm = 350.0          # by tape",
            "mount_height_cm = 352.1          # by tape",
        )
    ]


def test_a_commented_default_becomes_the_line() -> None:
    new = amended(FILE, "snow-1", "zero_cm", -2.1)
    assert new is not None
    ((_, line),) = changed(FILE, new)
    assert line.startswith("zero_cm = -2.1 ")
    assert line.endswith("# found when commissioned")


def test_a_new_key_goes_first() -> None:
    new = amended(FILE, "hall-1", "flip", True)
    assert new is not None
    assert new.endswith("[ sensors.options ]  # none yet\nflip = true\n")


@pytest.mark.parametrize("sensor", ["snow-2", "snow-9"])
def test_what_is_not_plain_is_left(sensor: str) -> None:
    assert amended(FILE, sensor, "zero_cm", 1.0) is None


@pytest.mark.parametrize(
    "text",
    [
        "[[[",
        "sensors = 1",
        "sensors = [{ id = 'snow-1', options = { zero_cm = 1.0 } }]",
        '[[sensors]]\nid = "snow-1"\n[sensors.options]\nlabel = """\nzero_cm = 1\n"""\n',
        '[[sensors]]\nid = "snow-1"\noptions.zero_cm = 1.0\n',
        'x = """\n[[sensors]]\n"""\n[[sensors]]\nid = "snow-1"\n[sensors.options]\n',
    ],
)
def test_a_file_of_another_shape_is_left_or_changed_rightly(text: str) -> None:
    new = amended(text, "snow-1", "zero_cm", 2.0)
    if new is not None:
        document = tomllib.loads(text)
        document["sensors"][0]["options"]["zero_cm"] = 2.0
        assert tomllib.loads(new) == document


lines = st.sampled_from(FILE.splitlines(keepends=True))


@given(text=st.lists(lines, max_size=30).map("".join), value=st.floats(-50, 50))
def test_of_any_file_nothing_but_the_option_changes(text: str, value: float) -> None:
    new = amended(text, "snow-1", "zero_cm", value)
    if new is None:
        return
    document = tomllib.loads(text)
    index = [table.get("id") for table in document["sensors"]].index("snow-1")
    document["sensors"][index].setdefault("options", {})["zero_cm"] = value
    assert tomllib.loads(new) == document


def test_a_link_stays_a_link_to_the_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "real.toml"
    file.write_text(FILE)
    link = tmp_path / "gateway.toml"
    link.symlink_to(file)
    assert amend(link, "snow-1", "zero_cm", 1.5)
    assert link.is_symlink()
    assert "zero_cm = 1.5" in file.read_text()
    assert not amend(link, "snow-2", "zero_cm", 1.5)
    assert sorted(tmp_path.iterdir()) == [link, file]
