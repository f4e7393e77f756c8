"""Replaying what is not on a wire: files, found levels, two ports, failed writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from agent.replay import Played, RecordingError, Replay
from drivers.base import Alive, Crossing, Observation
from drivers.maxbotix import MaxBotix

FOLDER = "/sys/bus/w1/devices"
NAME = "28-00000d1efbf6"
WARM = "f4 00 4b 46 7f ff 0c 10 fa : crc=fa YES\nf4 00 4b 46 7f ff 0c 10 fa t=15250\n"


def replayed(
    bus: str, driver: str, entries: Iterable[dict[str, Any]], **options: object
) -> list[Played]:
    header = {"yukimi": "recording/1", "bus": bus, "driver": driver, "options": options}
    return list(Replay([json.dumps(line) for line in (header, *entries)], None, {}))


def values(played: list[Played]) -> list[dict[str, Any]]:
    return [line for moment in played for line in moment.lines()]


def of(kind: type, played: list[Played]) -> list[Observation]:
    return [seen for moment in played for seen in moment.observations if isinstance(seen, kind)]


def w1(t_s: float, **what: object) -> dict[str, Any]:
    return {"t_s": t_s, "path": f"{FOLDER}/{NAME}/w1_slave"} | what


def test_a_thermometer_is_read_from_the_recorded_files() -> None:
    listing = {"t_s": 0.0, "path": FOLDER, "names": [NAME, "w1_bus_master1"]}
    entries = [listing, w1(0.1, text=WARM), w1(10.0, text=WARM)]
    lines = values(replayed("w1", "ds18b20", entries))
    assert [line["values"] for line in lines] == [{"air_temperature_c": 15.25}] * 2


def test_a_file_that_could_not_be_read_fails_again_and_the_driver_begins_anew() -> None:
    listing = {"path": FOLDER, "names": [NAME]}
    entries = [
        {"t_s": 0.0} | listing,
        w1(0.1, text=WARM),
        w1(10.0, error="ENOENT"),
        {"t_s": 20.0, "path": FOLDER, "error": "EIO"},
        {"t_s": 30.0} | listing,
        w1(30.1, text=WARM),
    ]
    assert len(values(replayed("w1", "ds18b20", entries))) == 2


@pytest.mark.parametrize(
    "what",
    [{}, {"path": 7, "text": ""}, {"path": "/x"}, {"path": "/x", "names": [1]}],
)
def test_a_file_entry_that_is_none_is_told_by_its_line(what: dict[str, Any]) -> None:
    with pytest.raises(RecordingError, match="line 2: needs"):
        replayed("w1", "ds18b20", [{"t_s": 0.0} | what])


def test_levels_that_were_found_are_no_edges() -> None:
    entries: list[dict[str, Any]] = [
        {"t_s": 0.0, "pin": 17, "level": 0, "edge": False},
        {"t_s": 0.0, "pin": 27, "level": 0, "edge": False},
    ]
    # A blocked beam is high here: both are clear from the beginning, against the pull.
    for at_s, pin, level in ((5.0, 17, 1), (5.1, 27, 1), (5.3, 17, 0), (5.4, 27, 0)):
        entries.append({"t_s": at_s, "pin": pin, "level": level})
    played = replayed("gpio", "beam-pair", entries, pin_a=17, pin_b=27, active="high")
    assert [seen.direction for seen in of(Crossing, played)] == ["towards"]  # type: ignore[attr-defined]
    assert len(of(Alive, played)) >= 4  # the time before the first edge was lived, too


def test_pins_that_never_moved_were_alive_all_the_same() -> None:
    entries = [{"t_s": 0.0, "pin": pin, "level": 1, "edge": False} for pin in (17, 27)]
    assert of(Alive, replayed("gpio", "beam-pair", entries, pin_a=17, pin_b=27))


def test_the_second_port_has_a_decoder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    def feed_b(self: MaxBotix, chunk: bytes, at_boot_ns: int) -> list[Observation]:
        heard.append(chunk)
        return []

    monkeypatch.setattr(MaxBotix, "feed_b", feed_b, raising=False)
    entries = [{"t_s": 0.0, "rx": "41", "port": "b"}, {"t_s": 0.1, "rx": "42"}]
    replayed("serial", "maxbotix-hrxl", entries)
    assert heard == [b"A"]


def test_a_port_that_the_driver_does_not_have_is_told() -> None:
    with pytest.raises(RecordingError, match="line 2: maxbotix-hrxl has no such port"):
        replayed("serial", "maxbotix-hrxl", [{"t_s": 0.0, "rx": "41", "port": "b"}])


def test_what_else_a_serial_recording_tells_is_for_people() -> None:
    entries = [{"t_s": 0.0, "baud": 9600}, {"t_s": 0.1, "error": "EIO"}, {"t_s": 0.2, "rx": "52"}]
    assert len(replayed("serial", "maxbotix-hrxl", entries)) == 1


def test_a_write_that_failed_fails_again() -> None:
    image = b"".join((100 + index % 3).to_bytes(2, "little") for index in range(64)).hex()
    read = {"address": 0x69, "write": "80", "read": image}
    failed = {"t_s": 0.0, "address": 0x69, "write": "0000", "error": "EREMOTEIO"}
    good = replayed("i2c", "grideye-amg88xx", [{"t_s": 0.1} | read], warmup_s=0)
    assert of(Alive, good)
    later = replayed("i2c", "grideye-amg88xx", [failed, {"t_s": 0.1} | read], warmup_s=0)
    assert [moment.t_s for moment in later if moment.observations] == [0.1]
