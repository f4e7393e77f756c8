"""`yukimi record SENSOR -o FILE`: the raw traffic of one sensor, with its timing, into a file."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import (
    IO_ERROR,
    OK,
    UNREACHABLE,
    USAGE,
    WRONG,
    add_config,
    add_json,
    add_sensor,
    complain,
)
from .language import Text, said
from .parsing import Example

if TYPE_CHECKING:
    from agent.direct import Direct
    from agent.plan import PlannedSensor
    from agent.recordfile import RecordFile
    from agent.tap import Entry


EXAMPLES: tuple[Example, ...] = (
    (
        "yukimi record snow-1 -o snow-1.jsonl --seconds 60",
        Text("a minute of a snow sensor", "積雪センサーの通信を1分間記録します"),
    ),
    (
        "yukimi record hall-1 -o hall-1.jsonl --consent",
        Text(
            "of a people sensor, only if everybody in front of it agrees",
            "通行者数センサー。前を通る全員が同意している場合に限ります",
        ),
    ),
)

A_FILE = Text("a new file", "新しく作るファイル")
HOW_LONG = Text("how long (default: until Ctrl-C)", "記録する秒数（省略時はCtrl-Cまで）")
AGREED = Text(
    "everybody in front of a people sensor agrees to be recorded",
    "通行者数センサーの前にいる全員が、記録に同意しています",
)
NOT_POSITIVE = Text("--seconds must be more than 0", "--seconds は0より大きい値にしてください")
NEEDS_CONSENT = Text(
    "{sensor} counts people. A recording holds each single person's passage and its time, which "
    "nothing else here ever keeps: name --consent only if everybody in front of the sensor has "
    "agreed, and delete the file when it has served",
    "{sensor} は通行者を数えるセンサーです。記録には一人ひとりの通過とその時刻が残ります。"
    "この装置が通常は決して残さない情報です。センサーの前にいる全員が同意している場合に限り "
    "--consent を指定し、用が済んだらファイルを削除してください",
)
IS_THERE = Text(
    "{path}: is there already, and is not overwritten; name another file",
    "{path}: 既にあるため上書きしません。別のファイル名を指定してください",
)
KEPT = Text("; what was recorded until then is in it", "。それまでの記録はファイルに残っています")
RECORDING = Text(
    "recording {sensor} into {path}; {until}", "{sensor} の通信を {path} に記録しています。{until}"
)
UNTIL_KEY = Text("Ctrl-C ends it", "Ctrl-Cで終わります")
FOR_SECONDS = Text("for {seconds:g} s", "{seconds:g}秒で終わります")
ACCOUNT = Text(
    "{path}: {entries} entries in {seconds:g} s: {frames} frames, {bad} frame errors, "
    "{readings} readings",
    "{path}: {seconds:g}秒で{entries}行。フレーム{frames}、フレームの誤り{bad}、測定値{readings}",
)
NO_FRAME = Text("{sensor}: no good frame: {why}", "{sensor}: 正しいフレームがありません: {why}")
NOTHING = Text("it said nothing", "何も送られてきませんでした")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_sensor(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=said(A_FILE)
    )
    parser.add_argument("--seconds", type=float, metavar="N", help=said(HOW_LONG))
    parser.add_argument(
        "--consent",
        action="store_true",
        help=said(AGREED),
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Record until the time is over or Ctrl-C."""
    from . import _sensor

    path: Path = arguments.output
    if arguments.seconds is not None and arguments.seconds <= 0:
        complain(NOT_POSITIVE)
        return USAGE
    found = _sensor.find(arguments.sensor, arguments.config)
    if isinstance(found, int):
        return found
    sensor, _ = found
    if sensor.counts_people and not arguments.consent:
        complain(NEEDS_CONSENT.filled(sensor=sensor.table.id))
        return USAGE
    if path.exists() or path.is_symlink():
        complain(IS_THERE.filled(path=path))
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
            kept = KEPT if self.file is not None else ""
            complain(f"{self.path}: {exc.strerror or exc}" + kept)
            return IO_ERROR
        return self.account(as_json=as_json)

    def record(self, seconds: float | None, *, as_json: bool) -> None:
        from agent.record import utc_text
        from agent.recordfile import RecordFile, header_of
        from agent.replay import Played

        header = header_of(self.sensor, utc_text(time.time_ns()))
        with RecordFile(self.path, header, is_private=self.sensor.counts_people) as self.file:
            if not as_json:
                until = UNTIL_KEY if seconds is None else FOR_SECONDS.filled(seconds=seconds)
                sensor = self.sensor.table.id
                complain(RECORDING.filled(sensor=sensor, path=self.path, until=until))
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
            counted = {"frames": driver.frames, "bad": driver.frame_errors}
            counted |= {"entries": entries, "readings": self.readings}
            print(said(ACCOUNT, path=self.path, seconds=seconds, **counted))
        if driver.frames:
            return OK
        complain(NO_FRAME.filled(sensor=self.sensor.table.id, why=self.error or NOTHING))
        heard = driver.frame_errors or isinstance(self.error, FrameError)
        return WRONG if heard else UNREACHABLE
