"""Turn raw captures of other people's devices into recordings that `yukimi replay` plays.

    python -m hil.recordings grideye IN.bin OUT.jsonl
    python -m hil.recordings umb IN.txt OUT.jsonl
    python -m hil.recordings ld2450 IN.bin OUT.jsonl
    python -m hil.recordings nmea IN.log OUT.jsonl

A capture tells the time between its frames, not the day: `started` is then on 1970-01-01.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GRIDEYE_FRAME_BYTES = 128
GRIDEYE_FRAMES_PER_S = 10
GRIDEYE_ADDRESS = 0x69

LD2450_FRAME_START = bytes.fromhex("aaff0300")
LD2450_FRAME_BYTES = 30
LD2450_FRAMES_PER_S = 12

NMEA_PAUSE_S = 3600.0
_NMEA_TIME = re.compile(rb"\$..(?:RMC|GGA),(\d\d)(\d\d)(\d\d(?:\.\d+)?),")

UMB_MASTER = bytes.fromhex("01f0")  # F001h, the low byte first
_UMB_LINE = re.compile(
    r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d\.\d{3})"
    r" <[^:>]*: (?P<baud>\d+) (?P<data_bits>[78])(?P<parity>[NEO])(?P<stop_bits>[12])>"
    r" (?P<bytes>.+)"
)


def from_grideye(capture: bytes) -> Iterator[dict[str, Any]]:
    """Yield the recording of register images 0x80..0xFF that follow each other at 10 a second.

    Raises ValueError where that is not what `capture` is.
    """
    frames, rest = divmod(len(capture), GRIDEYE_FRAME_BYTES)
    if rest or not frames:
        raise ValueError(
            f"{len(capture)} bytes are not frames of {GRIDEYE_FRAME_BYTES}: {rest} left over"
        )
    yield _header("i2c", "grideye-amg88xx", {"warmup_s": 0}, line={}, clock="00:00:00")
    for frame in range(frames):
        image = capture[frame * GRIDEYE_FRAME_BYTES :][:GRIDEYE_FRAME_BYTES]
        yield {
            "t_s": frame / GRIDEYE_FRAMES_PER_S,
            "address": GRIDEYE_ADDRESS,
            "write": "80",
            "read": image.hex(),
        }


def from_umb(capture: bytes) -> Iterator[dict[str, Any]]:
    """Yield the recording of a dialogue in lines of `HH:MM:SS.mmm <PORT: 19200 8N1> 01 10 ...`.

    What the master F001h sent is `tx`, all else `rx`. Raises ValueError naming the first line
    that is not like that.
    """
    first_s: float | None = None
    for number, text in enumerate(capture.decode("ascii", "replace").splitlines(), start=1):
        if not text.strip():
            continue
        parts = _UMB_LINE.fullmatch(text.strip())
        if parts is None:
            raise ValueError(f"line {number} is not `HH:MM:SS.mmm <PORT: BAUD 8N1> hex bytes`")
        try:
            frame = bytes.fromhex(parts["bytes"])
        except ValueError:
            raise ValueError(f"line {number}: {parts['bytes']!r} is not hexadecimal") from None
        if frame[:1] != b"\x01" or len(frame) < 6:
            raise ValueError(
                f"line {number}: no UMB frame, which begins with 01, version, to, from"
            )
        at_s = int(parts["hour"]) * 3600 + int(parts["minute"]) * 60 + float(parts["second"])
        if first_s is None:
            first_s = at_s
            line = {
                "baud": int(parts["baud"]),
                "data_bits": int(parts["data_bits"]),
                "parity": parts["parity"],
                "stop_bits": int(parts["stop_bits"]),
            }
            yield _header("serial", "lufft-umb", {}, line, clock=text.strip()[:12])
        sender = frame[4:6]
        yield {
            "t_s": round((at_s - first_s) % 86400, 3),  # across midnight, too
            "tx" if sender == UMB_MASTER else "rx": frame.hex(),
        }
    if first_s is None:
        raise ValueError("no lines")


def from_ld2450(capture: bytes) -> Iterator[dict[str, Any]]:
    """Yield the recording of a radar's bytes as they came, cut at its pace of 12 frames a second.

    Raises ValueError where there is no frame's beginning in them.
    """
    if LD2450_FRAME_START not in capture:
        raise ValueError("no frame of the radar begins in these bytes (AA FF 03 00)")
    yield _header("serial", "hlk-ld2450", {}, line={"baud": 256000}, clock="00:00:00")
    for count, at in enumerate(range(0, len(capture), LD2450_FRAME_BYTES), start=1):
        chunk = capture[at : at + LD2450_FRAME_BYTES]
        yield {"t_s": round(count / LD2450_FRAMES_PER_S, 3), "rx": chunk.hex()}


def from_nmea(capture: bytes) -> Iterator[dict[str, Any]]:
    """Yield the recording of a GNSS receiver's bytes, each at the time its sentences name.

    Comments before the first byte of the receiver ("# ...", as gpsd's logs have them) are left
    out; all else stays, binary noise too. Raises ValueError where nothing is left.
    """
    lines = capture.splitlines(keepends=True)
    while lines and lines[0].startswith(b"#"):
        del lines[0]
    if not lines:
        raise ValueError("no bytes of a receiver")
    yield _header("serial", "nmea-gnss", {}, line={"baud": 9600}, clock="00:00:00")
    first_s: float | None = None
    at_s = 0.0
    for line in lines:
        told = _NMEA_TIME.search(line)
        if told:
            day_s = int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])
            first_s = day_s if first_s is None else first_s
            since_s = (day_s - first_s) % 86400
            # A receiver that finds the time jumps; a recording does not go back, nor by hours.
            if at_s < since_s < at_s + NMEA_PAUSE_S:
                at_s = since_s
        yield {"t_s": round(at_s, 3), "rx": line.hex()}


def _header(
    bus: str, driver: str, options: dict[str, Any], line: dict[str, Any], clock: str
) -> dict[str, Any]:
    return {
        "yukimi": "recording/1",
        "bus": bus,
        "driver": driver,
        "options": options,
        "line": line,
        "started": f"1970-01-01T{clock}Z",
    }


CAPTURES: dict[str, Callable[[bytes], Iterator[dict[str, Any]]]] = {
    "grideye": from_grideye,
    "umb": from_umb,
    "ld2450": from_ld2450,
    "nmea": from_nmea,
}


def main(arguments: list[str] | None = None) -> int:
    """Convert one file. Exit codes as for `yukimi`: 1 wrong content, 74 cannot read or write."""
    parser = argparse.ArgumentParser(prog="python -m hil.recordings", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kind", choices=sorted(CAPTURES), help="what IN is a capture of")
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("target", metavar="OUT", type=Path)
    given = parser.parse_args(arguments)
    try:
        lines = [json.dumps(entry) for entry in CAPTURES[given.kind](given.source.read_bytes())]
        given.target.write_text("\n".join(lines) + "\n", encoding="ascii")
    except OSError as exc:
        print(f"{exc.filename}: {exc.strerror}", file=sys.stderr)
        return 74
    except ValueError as exc:
        print(f"{given.source}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
