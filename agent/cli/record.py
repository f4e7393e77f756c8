"""`yukimi record SENSOR -o FILE`: the raw traffic of one sensor, with its timing, into a file."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import IO_ERROR, OK, UNREACHABLE, USAGE, WRONG, add_config, add_json, complain

if TYPE_CHECKING:
    from agent.direct import Direct
    from agent.plan import PlannedSensor
    from agent.recordfile import RecordFile
    from agent.tap import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("sensor", metavar="SENSOR", help="its id in the configuration")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="a new file"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="how long (default: until Ctrl-C)"
    )
    parser.add_argument(
        "--consent",
        action="store_true",
        help="everybody in front of a people sensor agrees to be recorded",
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Record until the time is over or Ctrl-C."""
    from . import _sensor

    path: Path = arguments.output
    if arguments.seconds is not None and arguments.seconds <= 0:
        complain("--seconds must be more than 0")
        return USAGE
    found = _sensor.find(arguments.sensor, arguments.config)
    if isinstance(found, int):
        return found
    sensor, _ = found
    if sensor.counts_people and not arguments.consent:
        complain(
            f"{sensor.table.id} counts people. A recording holds each single person's passage and "
            "its time, which nothing else here ever keeps: name --consent only if everybody in "
            "front of the sensor has agreed, and delete the file when it has served"
        )
        return USAGE
    if path.exists() or path.is_symlink():
        complain(f"{path}: is there already, and is not overwritten; name another file")
        return USAGE
    return _Recorder(sensor, path).run(arguments.seconds, as_json=arguments.json)


class _Recorder:
    def __init__(self, sensor: PlannedSensor, path: Path) -> None:
        from agent.direct import Direct

        self.sensor = sensor
        self.path = path
        self.file: RecordFile | None = None
        self.readings = 0
        self.crossings = 0
        self.error: Exception | None = None
        self.direct: Direct = Direct(sensor, self.note)

    def note(self, entry: Entry) -> None:
        if self.file is not None:
            self.file.add(entry)

    def run(self, seconds: float | None, *, as_json: bool) -> int:
        from drivers.base import BusError

        from . import _sensor

        try:
            with self.direct:
                self.record(seconds, as_json=as_json)
        except BusError as exc:
            return _sensor.failed(self.sensor, exc)
        except OSError as exc:
            kept = "; what was recorded until then is in it" if self.file is not None else ""
            complain(f"{self.path}: {exc.strerror or exc}{kept}")
            return IO_ERROR
        return self.account(as_json=as_json)

    def record(self, seconds: float | None, *, as_json: bool) -> None:
        from agent.record import utc_text
        from agent.recordfile import RecordFile, header_of
        from agent.replay import Played

        header = header_of(self.sensor, utc_text(time.time_ns()))
        with RecordFile(self.path, header, is_private=self.sensor.counts_people) as self.file:
            if not as_json:
                until = "Ctrl-C ends it" if seconds is None else f"for {seconds:g} s"
                complain(f"recording {self.sensor.table.id} into {self.path}; {until}")
            with suppress(KeyboardInterrupt):
                for told in self.direct.rounds(seconds):
                    self.error = told.error or self.error
                    for line in Played(told.t_s, told.observations).lines():
                        self.readings += "values" in line
                        self.crossings += "crossing" in line

    def account(self, *, as_json: bool) -> int:
        from drivers.base import FrameError

        driver = self.direct.driver
        entries = self.file.entries if self.file is not None else 0
        seconds = round(self.direct.elapsed_s, 1)
        if as_json:
            document = {
                "schema": "yukimi.record/1",
                "sensor": self.sensor.table.id,
                "file": str(self.path),
                "seconds": seconds,
                "entries": entries,
                "readings": self.readings,
                "crossings": self.crossings,
                "frames": driver.frames,
                "frame_errors": driver.frame_errors,
            }
            print(json.dumps(document, ensure_ascii=False))
        else:
            print(
                f"{self.path}: {entries} entries in {seconds:g} s: {driver.frames} frames, "
                f"{driver.frame_errors} frame errors, {self.readings} readings"
            )
        if driver.frames:
            return OK
        complain(f"{self.sensor.table.id}: no good frame: {self.error or 'it said nothing'}")
        heard = driver.frame_errors or isinstance(self.error, FrameError)
        return WRONG if heard else UNREACHABLE
