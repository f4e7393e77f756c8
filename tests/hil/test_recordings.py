"""Captures become recordings, and what is no capture is refused with the reason."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.grideye import decode_frame
from hil.recordings import main

FRAME = bytes(range(128))
DIALOGUE = (
    "17:28:16.178 <COM1: 19200 8N1> 01 10 09 70 01 F0 03 02 2D 10 13 03 C1 C0 04\n"
    "17:28:16.234 <COM1: 19200 8N1> 01 10 01 F0 09 70 07 02 21 10 00 0F 00 01 19 03 03 04 04\n"
)


RADAR = bytes.fromhex("aaff0300" + 24 * "00" + "55cc")
NMEA = (
    b"# a comment\r\n$GPRMC,235959.0,A,...*00\r\n\xb5\x62\x01\r\n"
    b"$GPGGA,000000.5,...*00\r\n# not a comment\r\n$GPRMC,120000.0,V,...*00\r\n"
)


def convert(kind: str, capture: bytes, folder: Path) -> list[dict[str, Any]]:
    (folder / "in").write_bytes(capture)
    assert main([kind, str(folder / "in"), str(folder / "out.jsonl")]) == 0
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_a_grideye_capture_becomes_one_transaction_a_frame(tmp_path: Path) -> None:
    header, *entries = convert("grideye", FRAME + FRAME[::-1], tmp_path)
    assert header["yukimi"] == "recording/1"
    assert (header["bus"], header["driver"]) == ("i2c", "grideye-amg88xx")
    assert header["options"] == {"warmup_s": 0}
    assert entries == [
        {"t_s": 0.0, "address": 105, "write": "80", "read": FRAME.hex()},
        {"t_s": 0.1, "address": 105, "write": "80", "read": FRAME[::-1].hex()},
    ]


def test_a_dialogue_is_split_by_who_sent(tmp_path: Path) -> None:
    header, *entries = convert("umb", DIALOGUE.encode(), tmp_path)
    assert (header["bus"], header["driver"]) == ("serial", "lufft-umb")
    assert header["line"] == {"baud": 19200, "data_bits": 8, "parity": "N", "stop_bits": 1}
    assert entries == [
        {"t_s": 0.0, "tx": "0110097001f003022d101303c1c004"},
        {"t_s": 0.056, "rx": "011001f0097007022110000f00011903030404"},
    ]


def test_a_dialogue_over_midnight_goes_on(tmp_path: Path) -> None:
    late = DIALOGUE.replace("17:28:16.178", "23:59:59.900").replace("17:28:16.234", "00:00:00.100")
    _, *entries = convert("umb", late.encode(), tmp_path)
    assert [entry["t_s"] for entry in entries] == [0.0, 0.2]


def test_a_radars_bytes_are_cut_at_its_pace_and_none_is_lost(tmp_path: Path) -> None:
    capture = RADAR * 24 + RADAR[:7]
    header, *entries = convert("ld2450", capture, tmp_path)
    assert (header["bus"], header["driver"]) == ("serial", "hlk-ld2450")
    assert b"".join(bytes.fromhex(entry["rx"]) for entry in entries) == capture
    assert entries[23]["t_s"] == 2.0


def test_a_receivers_bytes_come_when_its_sentences_say_and_its_noise_stays(tmp_path: Path) -> None:
    header, *entries = convert("nmea", NMEA, tmp_path)
    assert (header["bus"], header["driver"]) == ("serial", "nmea-gnss")
    said = b"".join(bytes.fromhex(entry["rx"]) for entry in entries)
    assert said == NMEA.partition(b"\n")[2]
    assert [entry["t_s"] for entry in entries] == [0.0, 0.0, 1.5, 1.5, 1.5]


@pytest.mark.parametrize("kind", ["grideye", "umb"])
def test_the_start_is_a_time(kind: str, tmp_path: Path) -> None:
    header, *_ = convert(kind, FRAME if kind == "grideye" else DIALOGUE.encode(), tmp_path)
    assert datetime.fromisoformat(header["started"]).tzinfo is not None


@pytest.mark.parametrize(
    ("kind", "capture", "reason"),
    [
        ("grideye", FRAME[:-1], "127 bytes are not frames of 128"),
        ("grideye", b"", "0 bytes are not frames of 128"),
        ("umb", b"", "no lines"),
        ("ld2450", bytes(60), "no frame of the radar"),
        ("nmea", b"# nothing else\r\n", "no bytes of a receiver"),
        ("umb", DIALOGUE.encode() + b"and so on\n", "line 3 is not"),
        ("umb", FRAME, "line 1 is not"),
        ("umb", b"17:28:16.178 <COM1: 19200 8N1> 01 1X\n", "line 1: '01 1X' is not hexadecimal"),
        ("umb", b"17:28:16.178 <COM1: 19200 8N1> 02 10\n", "line 1: no UMB frame"),
    ],
)
def test_wrong_input_is_named(
    kind: str, capture: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_bytes(capture)
    assert main([kind, str(tmp_path / "in"), str(tmp_path / "out.jsonl")]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["umb", str(tmp_path / "nowhere"), str(tmp_path / "out.jsonl")]) == 74
    assert "nowhere: No such file" in capsys.readouterr().err


def test_the_real_captures_convert(recordings: Path, tmp_path: Path) -> None:
    capture = (recordings / "grideye/background.regs80_FF.bin").read_bytes()
    _, *frames = convert("grideye", capture, tmp_path)
    assert len(frames) == 500
    assert all(decode_frame(bytes.fromhex(frame["read"])).shape == (8, 8) for frame in frames)
    _, *dialogue = convert("umb", (recordings / "umb/ws10_dialogue.txt").read_bytes(), tmp_path)
    assert [("tx" in entry) for entry in dialogue] == [True, False] * 7
