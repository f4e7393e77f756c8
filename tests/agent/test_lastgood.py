"""The last good configuration is kept whole, and found again only where it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import lastgood, replacing
from agent.lastgood import LastGood, file_for, find, of_plan, store
from agent.plan import load_plan
from config.load import ConfigError
from tests.agent.steps import failed_at_each_call, killed_at_each_line

TEXT = """
[uplink]
brokers = ["mqtts://broker.example"]
username = "gw"
password_file = "secret"
[control]
socket = "control.sock"

[spool]
path = "{spool}"
[[buses]]
id = "sim"
kind = "simulated"
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "sim"
[sensors.options]
mount_height_cm = 350.0
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file, whose spool is in a folder of its own."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "secret").write_text("hunter2", encoding="utf-8")
    file = folder / "gateway.toml"
    file.write_text(TEXT.format(spool=tmp_path / "var" / "spool.db"), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No folder of the machine is looked at."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(lastgood, "DEFAULT_FOLDER", tmp_path / "default")
    return tmp_path / "state"


def keep(config: Path) -> tuple[LastGood, Path]:
    kept = of_plan(load_plan(config))
    file = file_for(config, kept.places[0])
    store(kept, file)
    return kept, file


def test_what_was_kept_is_planned_again_as_it_was(config: Path) -> None:
    (config.parent / "gateway.d").mkdir()
    extra = config.parent / "gateway.d" / "snow.toml"
    extra.write_text(
        '[[sensors]]\nid = "snow-2"\ndriver = "maxbotix-hrxl"\nbus = "sim"\n'
        "[sensors.options]\nmount_height_cm = 300.0\n",
        encoding="utf-8",
    )
    plan = load_plan(config)
    keep(config)
    found = find(config)
    assert found is not None
    again = found[0].plan()
    assert again == plan
    assert again.loaded.config_id == plan.loaded.config_id
    assert again.loaded.problem(("sensors", 1, "id"), "").file == str(extra)
    assert again.loaded.file("secret") == config.parent / "secret"


def test_it_is_for_its_owners_eyes_and_holds_no_secret(config: Path) -> None:
    _, file = keep(config)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "hunter2" not in file.read_text(encoding="utf-8")


def test_without_a_state_directory_it_is_beside_the_spool(config: Path, tmp_path: Path) -> None:
    assert keep(config)[1].parent == tmp_path / "var"


def test_a_state_directory_is_preferred_and_needs_no_readable_configuration(
    config: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{state}:/another")
    kept, file = keep(config)
    assert file.parent == state
    config.write_text("this is no TOML", encoding="utf-8")
    assert find(config) == (kept, file)
    config.unlink()
    assert find(config) == (kept, file)


def test_an_invalid_configuration_still_tells_where_its_spool_is(config: Path) -> None:
    kept, file = keep(config)
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("brokers", "brookers"), encoding="utf-8")
    assert find(config) == (kept, file)


def test_one_that_is_no_toml_leaves_the_default_folder_only(config: Path) -> None:
    kept, _ = keep(config)
    config.write_text("this is no TOML", encoding="utf-8")
    assert find(config) is None
    file = file_for(config, lastgood.DEFAULT_FOLDER / "spool.db")
    store(kept, file)
    assert find(config) == (kept, file)


def test_two_gateways_on_one_machine_keep_one_each(config: Path) -> None:
    _, file = keep(config)
    other = config.with_name("other.toml")
    other.write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
    assert find(other) is None
    _, other_file = keep(other)
    assert file != other_file
    assert find(config) is not None


def damages(content: str) -> Iterator[str]:
    outer = json.loads(content)
    yield ""
    yield content[: len(content) // 2]
    yield content.replace("350.0", "35.0")
    yield "[]"
    yield '"text"'
    yield "{}"
    yield "[" * 100_000
    yield json.dumps(outer | {"schema": "yukimi.last-good/2"})
    yield json.dumps(outer | {"body": None})
    yield json.dumps(outer | {"sha256": 1})


def test_a_damaged_or_newer_one_is_passed_over(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, file = keep(config)
    for content in damages(file.read_text(encoding="utf-8")):
        file.write_text(content, encoding="utf-8")
        assert find(config) is None
        assert "passed over" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe")
    assert find(config) is None
    file.unlink()
    file.mkdir()
    assert find(config) is None


def test_one_of_another_configuration_file_is_passed_over(config: Path) -> None:
    kept, file = keep(config)
    store(replace(kept, config_file=Path("/etc/other.toml")), file)
    assert find(config) is None


def test_one_that_the_drivers_no_longer_take_is_refused_when_planned(config: Path) -> None:
    kept, file = keep(config)
    sensor = kept.document["sensors"][0] | {"driver": "gone"}
    store(replace(kept, document=kept.document | {"sensors": [sensor]}), file)
    found = find(config)
    assert found is not None
    with pytest.raises(ConfigError, match='unknown driver "gone"'):
        found[0].plan()


def test_the_same_again_is_not_written_again(config: Path) -> None:
    kept, file = keep(config)
    before = file.stat().st_ino
    store(kept, file)
    assert file.stat().st_ino == before


# At each step


def earlier_and_newer(config: Path) -> tuple[LastGood, LastGood, Path]:
    earlier, file = keep(config)
    document = earlier.document | {"gateway": {"id": "newer", "owner": "x" * 100_000}}
    return earlier, replace(earlier, document=document), file


def test_a_death_at_any_step_leaves_the_earlier_or_the_newer_one(config: Path) -> None:
    earlier, newer, file = earlier_and_newer(config)
    deaths = 0
    for _ in killed_at_each_line(replacing, lambda: store(newer, file)):
        assert find(config) in ((earlier, file), (newer, file))
        store(earlier, file)
        deaths += 1
    assert deaths >= 10
    assert find(config) == (newer, file)


def test_a_disk_that_fails_at_any_step_leaves_the_earlier_or_the_newer_one(config: Path) -> None:
    earlier, newer, file = earlier_and_newer(config)
    failures = 0
    for failed in failed_at_each_call(lambda: store(newer, file), (OSError,)):
        assert find(config) in ((earlier, file), (newer, file))
        store(earlier, file)
        failures += failed
    assert failures > 4
    assert find(config) == (newer, file)


def test_the_content_is_synced_before_it_has_the_name_and_the_name_after(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, newer, file = earlier_and_newer(config)
    steps = []
    sync, rename, sync_folder = replacing.os.fsync, Path.replace, replacing.sync_folder
    monkeypatch.setattr(replacing.os, "fsync", lambda fd: (steps.append("file"), sync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("name"), rename(self, to)))
    monkeypatch.setattr(
        replacing, "sync_folder", lambda folder: (steps.append("folder"), sync_folder(folder))
    )
    store(newer, file)
    assert steps[:3] == ["file", "name", "folder"]


def careless(kept: LastGood, file: Path) -> None:
    content = lastgood._encode(kept)
    with file.open("wb") as stream:
        for start in range(0, len(content), 30_000):
            stream.write(content[start : start + 30_000])


def test_the_checks_find_a_careless_way_to_store(config: Path) -> None:
    """The negative control: the file is written in its place."""
    import tests.agent.test_lastgood as here

    earlier, newer, file = earlier_and_newer(config)
    found = 0
    for _ in killed_at_each_line(here, lambda: careless(newer, file)):
        found += find(config) not in ((earlier, file), (newer, file))
        store(earlier, file)
    assert found > 0
