"""`yukimi commission SENSOR`: an acceptance test at the sensor, and the record of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.load import default_path

from . import IO_ERROR, OK, UNREACHABLE, USAGE, WRONG, add_config, add_json, complain
from .language import Text, said

if TYPE_CHECKING:
    from agent.commissioned import Acceptance
    from agent.commissioning import Verdict
    from agent.plan import PlannedSensor

    from ._acceptance import AcceptanceTest

SAMPLES, WALKS = 30, 10  # as _acceptance.py has them

EXAMPLES = (
    (
        "yukimi commission snow-1 --bare-ground",
        Text(
            "the zero of a snow sensor over bare ground", "積雪のない地面で積雪計の基準を確認します"
        ),
    ),
    (
        "yukimi commission hall-1",
        Text("a walk-through of a people counter", "通行者カウンターの下を歩いて確認します"),
    ),
)
MISSING = Text(
    "nobody can be asked here (no terminal), and these have no answer: {flags}",
    "端末がないため質問できません。次の指定が必要です: {flags}",
)
NO_STATE = Text(
    "{folder} cannot be written to, and the record of the test must go there; use sudo",
    "試験の記録を {folder} に書き込めません。sudo を使ってください",
)
ENDED = Text("ended: nothing was recorded", "中止しました。記録は残していません")
WRITE = Text("Write it into {file}?", "{file} に書き込みますか")
WRITTEN = Text(
    "written into {file}; test again: yukimi commission {sensor} (a running gateway takes it on "
    "with: systemctl reload yukimi)",
    "{file} に書き込みました。再度試験してください: yukimi commission {sensor}"
    "（稼働中のゲートウェイへの反映: systemctl reload yukimi）",
)
NOT_PLAIN = Text(
    "{file} is not plain enough to be changed by a program; write the line into the options of "
    "{sensor} yourself",
    "{file} は自動では変更できない書き方です。{sensor} の options に手で書いてください",
)
PASSED, FAILED = Text("PASS", "合格"), Text("FAIL", "不合格")
RECORDED = Text("recorded: {file}", "記録しました: {file}")
NAMED = Text(
    "the birth certificate names it from the gateway's next start: systemctl restart yukimi",
    "次回の起動から出生証明に載ります: systemctl restart yukimi",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""

    def flag(name: str, about: Text, **more: Any) -> None:
        parser.add_argument(name, help=said(about), **more)

    flag("sensor", Text("its id in the configuration", "設定にあるセンサーのID"), metavar="SENSOR")
    flag(
        "-n",
        Text(f"how many samples (default: {SAMPLES})", f"測定回数（省略時 {SAMPLES}）"),
        type=int,
        metavar="N",
    )
    flag(
        "--bare-ground",
        Text("the ground below is bare, and nobody stands there", "地面に雪がなく、誰もいません"),
        action="store_true",
    )
    flag(
        "--depth",
        Text("there is snow: its depth by a stick, cm", "積雪がある場合、物差しで測った深さ（cm）"),
        metavar="CM",
    )
    flag(
        "--thermometer",
        Text("what another thermometer says there, degC", "同じ場所の温度計の値（℃）"),
        metavar="C",
    )
    flag(
        "--walk-in",
        Text(f"walks inwards (default: {WALKS})", f"入の通行回数（省略時 {WALKS}）"),
        type=int,
        metavar="N",
    )
    flag("--walk-out", Text("walks outwards", "出の通行回数"), type=int, metavar="N")
    flag(
        "--consent",
        Text("everybody who passes knows and agrees", "通る人全員が了承しています"),
        action="store_true",
    )
    flag(
        "--by", Text("who tests (default: the user)", "試験者（省略時は利用者名）"), metavar="NAME"
    )
    flag(
        "--seconds",
        Text("give up after so many seconds", "この秒数で打ち切ります"),
        type=float,
        metavar="S",
    )
    flag(
        "--write",
        Text(
            "where one line of the options would put it right, write it into the configuration",
            "設定の1行で直る場合、その行を設定ファイルに書き込みます",
        ),
        action="store_true",
    )
    flag("--yes", Text("take every default", "既定値のある質問を省きます"), action="store_true")
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Test the sensor; say how it went, and keep the record."""
    from agent.applied import plan_in_force
    from agent.asking import NotAnsweredError
    from agent.interview import WrongAnswerError
    from agent.lastgood import spool_path
    from agent.typed import folder_that_can_be_written
    from drivers.base import DriverError

    from . import _sensor
    from ._acceptance import Measured, NotNowError, Walked

    counts = (arguments.n, arguments.walk_in, arguments.walk_out, arguments.seconds)
    if any(each is not None and each < 1 for each in counts):
        complain(
            said(
                Text(
                    "-n, --walk-in, --walk-out and --seconds must be 1 or more",
                    "-n、--walk-in、--walk-out、--seconds は1以上にしてください",
                )
            )
        )
        return USAGE
    path: Path = arguments.config or default_path()
    found = _sensor.find(arguments.sensor, path)
    if isinstance(found, int):
        return found
    sensor, thermometer = found
    loaded = plan_in_force(path)
    spool = spool_path(loaded)
    if not folder_that_can_be_written(spool.parent):
        complain(said(NO_STATE, folder=spool.parent))
        return IO_ERROR
    kind = Walked if sensor.counts_people else Measured
    try:
        test = kind(arguments, sensor, thermometer, loaded.loaded.config_id)
        if not test.ask():
            complain(said(MISSING, flags=test.interview.missing))
            return USAGE
        verdict = test.test()
    except (NotNowError, NotAnsweredError) as exc:
        complain(said(exc))
        return UNREACHABLE
    except WrongAnswerError as exc:
        complain(f"{exc.flag} {exc.answer}: {said(exc.why)}")
        return USAGE
    except DriverError as exc:
        return _sensor.failed(sensor, exc)
    except KeyboardInterrupt:
        complain(said(ENDED))
        return 130
    gateway = loaded.loaded.config.gateway
    record = _record(sensor, test, verdict, gateway.id, gateway.timezone)
    index = [each.id for each in loaded.loaded.config.sensors].index(sensor.table.id)
    holder = Path(loaded.loaded.problem(("sensors", index), "").file)
    code = _close(record, test, verdict, spool, as_json=arguments.json)
    return _put_right(verdict, test, holder) or code


def _record(
    sensor: PlannedSensor, test: AcceptanceTest, verdict: Verdict, gateway: str, timezone: str
) -> Acceptance:
    import time
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    from agent import __version__, kernel
    from agent.commissioned import Acceptance
    from agent.memory import digest_of
    from agent.record import utc_text

    now_ns = time.time_ns()
    local = datetime.fromtimestamp(now_ns // 10**9, tz=UTC).astimezone(ZoneInfo(timezone))
    return Acceptance(
        gateway=gateway,
        sensor=sensor.table.id,
        driver=sensor.table.driver,
        options=digest_of(sensor.table.driver, sensor.table.options),
        time=utc_text(now_ns),
        date=f"{local:%Y-%m-%d}",
        clock="synced" if kernel.look().synchronised else "estimated",
        by=test.by,
        version=__version__,
        test=test.kind,
        measured=verdict.measured,
        passed=verdict.passed,
    )


def _close(
    record: Acceptance, test: AcceptanceTest, verdict: Verdict, spool: Path, *, as_json: bool
) -> int:
    from agent import commissioned

    from ._terminal import undisturbed

    code = OK if verdict.passed else WRONG
    file: Path | None = None
    try:
        with undisturbed():
            file = commissioned.keep(record, spool)
    except OSError as exc:
        complain(f"{exc.filename or commissioned.folder_of(spool)}: {exc.strerror or exc}")
        code = IO_ERROR
    if as_json:
        document = {
            "schema": "yukimi.commission/1",
            "sensor": record.sensor,
            "driver": record.driver,
            "test": record.test,
            "passed": verdict.passed,
            "measured": verdict.measured,
            "says": [text.en for text in verdict.says],
            "lines": verdict.lines,
            "date": record.date,
            "record": record.record,
            "file": str(file) if file is not None else None,
        }
        print(json.dumps(document | test.shown_only, ensure_ascii=False))
        return code
    for text in verdict.says:
        print(f"  {said(text)}")
    for line in verdict.lines:
        print(f"      {line}")
    print(f"{record.sensor}: {said(PASSED if verdict.passed else FAILED)}")
    if file is not None:
        print(said(RECORDED, file=file))
        if verdict.passed:
            print(said(NAMED))
    return code


def _put_right(verdict: Verdict, test: AcceptanceTest, file: Path) -> int:
    """Write what would put the sensor right, if that is wanted; 0, or why it did not work."""
    from agent.amend import amend

    from ._terminal import undisturbed

    named = {"file": file, "sensor": test.sensor.table.id}
    for key, value in verdict.puts_right.items():
        wanted = test.arguments.write or (
            test.terminal is not None and test.interview.agree(WRITE, default=False, **named)
        )
        if not wanted:
            continue
        try:
            with undisturbed():
                is_done = amend(file, test.sensor.table.id, key, value)
        except OSError as exc:
            complain(f"{exc.filename or file}: {exc.strerror or exc}")
            return IO_ERROR
        complain(said(WRITTEN if is_done else NOT_PLAIN, **named))
    return OK
