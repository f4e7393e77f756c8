"""What a recorded sensor said, its recording says again."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import drivers
from agent.direct import Direct
from agent.recordfile import RecordFile, header_of
from agent.replay import Replay
from drivers.base import Crossing, Fix, Observation, Options, Reading
from hil import emulation
from hil.buses import SimulatedI2c

from .sensors import Clock, opener, planned

SECONDS = 60.0

# One reading for what came within a second of the clock: in a replay seconds begin elsewhere, and
# what was heard while the device was set up is decoded, too.
BY_THE_SECOND = {"benewake-tf"}


def said(observations: list[Observation], *, is_level: bool) -> dict[str, list[Any]]:
    """What was measured or counted, by quantity; a level that stands is told as often as asked."""
    told: dict[str, list[Any]] = {}
    for seen in observations:
        match seen:
            case Reading(value=None):
                pass
            case Reading():
                told.setdefault(seen.quantity, []).append(seen.value)
            case Crossing():
                told.setdefault("crossings", []).append(seen.direction)
            case Fix():
                told.setdefault("fixes", []).append((seen.latitude_deg, seen.longitude_deg))
            case _:
                pass
    if is_level:
        return {name: [value for value, _ in groupby(values)] for name, values in told.items()}
    return told


def record(driver: str, path: Path) -> list[Observation]:
    clock = Clock()
    sensor = planned(driver)
    lines: list[dict[str, Any]] = []
    live: list[Observation] = []
    warm_s = emulation.load(driver).measures_after_s + float(
        getattr(sensor.options, "warmup_s", 0.0)
    )
    direct = Direct(
        sensor, lines.append, now_ns=clock.ns, wait_s=clock.advance, opener=opener(clock)
    )
    with (
        direct,
        RecordFile(path, header_of(sensor, "2027-01-15T00:00:00.000Z"), is_private=False) as file,
    ):
        for told in direct.rounds(SECONDS + warm_s):
            assert told.error is None
            live += told.observations
        for line in lines:
            file.add(line)
    return live


@pytest.mark.parametrize("driver", emulation.emulated())
def test_a_recording_says_what_the_sensor_said(driver: str, tmp_path: Path) -> None:
    model = drivers.load(driver)
    if model.Options.second_port is not Options.second_port and not hasattr(model, "feed_b"):
        pytest.xfail("its driver decodes one of its two ports only")
    path = tmp_path / "recording.jsonl"
    live = record(driver, path)
    with path.open(encoding="utf-8") as lines:
        replay = Replay(lines, None, {})
        played = [seen for moment in replay for seen in moment.observations]
    is_level = json.loads(path.read_text().splitlines()[0])["bus"] == "gpio"
    expected = said(live, is_level=is_level)
    assert expected
    found = said(played, is_level=is_level)
    if driver not in BY_THE_SECOND:
        assert found == expected
        return
    for name, values in expected.items():
        assert abs(len(found[name]) - len(values)) <= 2
        assert fmean(found[name]) == pytest.approx(fmean(values), rel=0.01)


def test_an_outage_is_played_as_it_was(tmp_path: Path) -> None:
    clock = Clock()
    sensor = planned("grideye-amg88xx", {"warmup_s": 0.0})
    lines: list[dict[str, Any]] = []
    made = opener(clock)(sensor.bus, [sensor])
    wire: SimulatedI2c = made[0]
    direct = Direct(
        sensor,
        lines.append,
        now_ns=clock.ns,
        wait_s=clock.advance,
        opener=lambda *_: made,
    )
    live: list[Observation] = []
    with direct:
        for told in direct.rounds(60.0):
            live += told.observations
            if 20.0 < told.t_s < 30.0:
                wire.nack(0x69)
            else:
                wire.heal()
    assert any("error" in line for line in lines)
    texts = [json.dumps(line) for line in (header_of(sensor, ""), *lines)]
    played = [seen for moment in Replay(texts, None, {}) for seen in moment.observations]
    assert said(live, is_level=False)["crossings"]
    assert said(played, is_level=False) == said(live, is_level=False)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import agent.recordfile

    path = tmp_path / "recording.jsonl"
    real = agent.recordfile.os.write
    room = [400]

    def write(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = real(file, bytes(data[: room[0]]))
        room[0] -= taken
        return taken

    with RecordFile(path, {"yukimi": "recording/1"}, is_private=True) as file:
        monkeypatch.setattr(agent.recordfile.os, "write", write)
        with pytest.raises(OSError, match="No space"):
            for _ in range(100):
                file.add({"t_s": 0.0, "rx": "00" * 30})
    lines = path.read_text().splitlines()
    assert len(lines) == file.entries + 1 > 2
    assert all(json.loads(line) for line in lines)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        RecordFile(path, {}, is_private=False)
    assert path.read_text() == "mine"
