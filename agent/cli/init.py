"""`yukimi init`: a guided set-up; scans, proposes, checks, reads every sensor once, writes."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.load import ConfigError, default_path
from config.places import DEFAULT_PATH

from . import BAD_CONFIG, IO_ERROR, OK, USAGE, WRONG, add_config, add_json, complain
from .language import Text, language, said

if TYPE_CHECKING:
    from agent.firstlook import Look
    from agent.interview import Interview
    from agent.plan import Plan
    from agent.setup import Chosen

SCAN_S = 30.0

EXAMPLES = (
    (
        "yukimi init",
        Text("ask everything, and set up the service", "質問に答えながらサービスを設定します"),
    ),
    (
        "yukimi init --yes --config t.toml --broker mqtt://localhost --sensors simulated",
        Text("ask nothing: a gateway with emulated devices", "質問なしで模擬機器の設定を作ります"),
    ),
)
FLAGS: tuple[tuple[str, str, Text], ...] = (
    ("--id", "ID", Text("id of the gateway", "ゲートウェイのID")),
    ("--label-ja", "TEXT", Text("its name in Japanese", "名称（日本語）")),
    ("--label-en", "TEXT", Text("its name in English", "名称（英語）")),
    ("--location", "LAT,LON", Text("where it is, in degrees", "緯度・経度（度）")),
    ("--broker", "URL", Text("the city's broker; several with commas", "中継サーバー（複数可）")),
    ("--username", "NAME", Text("user name at the broker", "中継サーバーの利用者名")),
    (
        "--password-file",
        "FILE",
        Text(
            "a file that holds the password; it is named, not copied",
            "パスワードを収めたファイル（複製せず、その場所を設定に書きます）",
        ),
    ),
    ("--ca-file", "FILE", Text("the city's certificate authority", "市の認証局の証明書")),
    ("--window", "S", Text("seconds to a record", "記録の間隔（秒）")),
    ("--spool", "FILE", Text("where records wait for the network", "送信待ちの記録の保管先")),
    ("--clock", "kernel|system", Text("which clock is believed", "信頼する時計")),
)

SCANNING = Text(
    "Looking for devices, for at most {seconds:g} s ...", "機器を探しています（最長{seconds:g}秒）…"
)
BEGIN = Text(
    "A few questions. Enter takes what is in [ ], ? explains, Ctrl-C ends it and leaves nothing.",
    "順に質問します。Enterで [ ] の値、? で説明、Ctrl-Cで中止します（中止すると何も残りません）。",
)
EXISTS = Text(
    "{file} is there already, and nothing is overwritten; edit it, or name another file with "
    "--config, or move it away",
    "{file} は既にあります。上書きはしません。そのファイルを編集するか、--config で別のファイルを"
    "指定するか、移動してください",
)
NO_FOLDER = Text(
    "{folder} cannot be written to; use sudo, or name another file with --config",
    "{folder} に書き込めません。sudo を使うか、--config で別のファイルを指定してください",
)
MISSING = Text(
    "nobody can be asked here (no terminal), and these have no answer: {flags}; give them, or "
    "--yes for all defaults",
    "端末がないため質問できません。次の指定が必要です: {flags}。既定値でよい項目は --yes で"
    "省けます",
)
UNKNOWN_SENSORS = Text(
    "--set {names}: no such sensor was taken; there are: {known}",
    "--set {names}: そのセンサーはありません。あるもの: {known}",
)
READING = Text("Reading every sensor once ...", "各センサーを1回ずつ読みます…")
COMMENTS = Text(
    "(and all other keys that matter, as comments)", "（このほか主な項目をコメントで付けます）"
)
WRITE = Text("Write {file}?", "{file} に書き込みますか")
NOT_WRITTEN = Text("nothing was written", "何も書き込みませんでした")
WRITTEN = Text("written: {file}", "書き込みました: {file}")
NEXT = Text("next:  {command}", "次の操作: {command}")
EDIT_NEXT = Text(
    "edit {file}: it needs a sensor; then: yukimi config check --config {file}",
    "{file} を編集してセンサーを追加し、yukimi config check --config {file} で確認してください",
)
LEFT_OUT = Text(
    "{sensor} is in the file as a comment only: {what}",
    "{sensor} はコメントとしてのみ書きました: {what}",
)
NO_SERVICE_USER = Text(
    "there is no user yukimi yet: once there is, chown root:yukimi {file}, and chown yukimi the "
    "password's file, so that the service can read them",
    "利用者 yukimi がまだありません。作成後に chown root:yukimi {file} を実行し、パスワードの"
    "ファイルの所有者も yukimi にしてください（サービスが読めるようにするため）",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    for flag, metavar, about in FLAGS:
        parser.add_argument(flag, metavar=metavar, help=said(about))
    parser.add_argument(
        "--sensors",
        choices=("found", "simulated", "template"),
        help=said(
            Text(
                "those that a scan finds (default), emulated ones, or an empty template",
                "検出したもの（省略時）、模擬機器、または空のひな形",
            )
        ),
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SENSOR.KEY=VALUE",
        help=said(
            Text(
                "a sensor's option: snow-1.mount_height_cm=352 (repeatable)",
                "センサーの項目。例: snow-1.mount_height_cm=352（複数可）",
            )
        ),
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="PROPOSED=ID",
        help=said(
            Text(
                "another id than the one proposed: snow-1=n3-mast (repeatable)",
                "候補と異なるIDを付けます。例: snow-1=n3-mast（複数可）",
            )
        ),
    )
    parser.add_argument(
        "--port",
        action="append",
        default=[],
        metavar="PATH",
        help=said(Text("look at this port or bus only (repeatable)", "調べるポート（複数可）")),
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SCAN_S,
        metavar="S",
        help=said(Text("how long the scan may take", "機器を探す時間の上限（秒）")),
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help=said(Text("take every default, ask only what has none", "既定値のある質問を省きます")),
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, look, check, show, write."""
    from agent.interview import WrongAnswerError
    from agent.typed import folder_that_can_be_written

    path: Path = arguments.config or default_path()
    if os.path.lexists(path):
        complain(said(EXISTS, file=path))
        return USAGE
    if not folder_that_can_be_written(path.parent):
        complain(said(NO_FOLDER, folder=path.parent))
        return IO_ERROR
    try:
        return _Setup(arguments, path).run()
    except WrongAnswerError as exc:
        complain(f"{exc.flag} {exc.answer}: {said(exc.why)}")
        return USAGE
    except KeyboardInterrupt:
        complain(said(NOT_WRITTEN))
        return 130


class _Setup:
    """One set-up, step by step."""

    def __init__(self, arguments: argparse.Namespace, path: Path) -> None:
        from agent.interview import Interview

        from ._terminal import Terminal

        self.arguments, self.path = arguments, path
        self.is_json: bool = arguments.json
        self.terminal = Terminal.where_there_is_one(on_stderr=self.is_json)
        flags = {flag: getattr(arguments, flag[2:].replace("-", "_")) for flag, _, _ in FLAGS}
        given = {flag: answer for flag, answer in flags.items() if answer is not None}
        if arguments.sensors not in (None, "found"):
            given["--sensors"] = arguments.sensors
        self.settings: dict[str, str] = {}
        for text in arguments.set:
            key, _, value = text.partition("=")
            self.settings[key.strip()] = value.strip()
            given[f"--set {key.strip()}"] = value.strip()
        for text in arguments.name:
            key, _, value = text.partition("=")
            given[f"--name {key.strip()}"] = value.strip()
        self.interview: Interview = Interview(
            self.terminal, given, language=language(), takes_defaults=arguments.yes
        )
        self.document: dict[str, Any] = {"schema": "yukimi.init/1", "file": str(path)}

    def run(self) -> int:
        """Go through it; return the exit code."""
        from agent import kernel, setup
        from agent.draft import draft
        from agent.questions import ask_about_gateway

        if not self.arguments.yes:
            self.interview.say(BEGIN)
        answers, secret = ask_about_gateway(
            self.interview,
            self.path,
            password=self._password_file(),
            is_clock_synced=kernel.look().synchronised,
        )
        if self._lacks_answers():
            return USAGE
        chosen = self._choose()
        if self._lacks_answers() or self._knows_not(chosen):
            return USAGE
        secrets: dict[str, str] = {}
        if secret is not None:
            answers.password_file = setup.secret_name(self.path.parent)
            secrets[answers.password_file] = secret
        text = draft(answers, chosen.sensors, left_out=chosen.left_out, language=language())
        looks: list[Look] = []
        if chosen.sensors:
            try:
                plan = setup.check(text, self.path)
            except ConfigError as exc:
                complain(said(exc))
                return BAD_CONFIG
            looks = self._read(plan)
        if self.terminal is not None and not self.arguments.yes:
            active = [line for line in text.splitlines() if line and not line.startswith("#")]
            self.terminal.say("\n".join(["", *active, "", said(COMMENTS)]))
            if not self.interview.agree(WRITE, file=self.path):
                complain(said(NOT_WRITTEN))
                return WRONG
        return self._write(text, secrets, chosen, looks)

    def _password_file(self) -> str | None:
        """Return the name of the password's file as the configuration has it, if it is given."""
        from agent import typed
        from agent.interview import WrongAnswerError
        from agent.questions import CA_FILE

        name: str | None = self.arguments.password_file
        if name is None:
            return None
        try:
            file = Path(typed.file(name))
        except ValueError:
            raise WrongAnswerError("--password-file", name, CA_FILE.wrong) from None
        return file.name if file.parent == self.path.absolute().parent else str(file)

    def _choose(self) -> Chosen:
        from agent import scan, setup
        from agent.configured import Configured

        arguments, interview = self.arguments, self.interview
        if arguments.sensors == "simulated":
            return setup.simulated()
        if arguments.sensors == "template":
            return setup.Chosen()
        interview.say(SCANNING, seconds=arguments.seconds)
        machine = scan.Machine()
        report = scan.scan(machine, Configured(), seconds=arguments.seconds, only=arguments.port)
        for problem in report.problems:
            complain(said(problem))
        chosen = setup.choose(interview, report, self.settings)
        if any(place.kind == "gpio" for place in report.places):
            interview.say(setup.ON_PINS)
        if not (chosen.sensors or chosen.left_out):
            interview.say(setup.NOTHING_FOUND)
            wanted = interview.ask(setup.SENSORS)
            return setup.simulated() if wanted == "simulated" else chosen
        board = None if arguments.port else setup.board_of(machine, [s.id for s in chosen.sensors])
        if board is not None and interview.agree(setup.BOARD):
            chosen.sensors.append(board)
        return chosen

    def _lacks_answers(self) -> bool:
        missing = self.interview.missing
        if missing:
            complain(said(MISSING, flags=missing))
        return bool(missing)

    def _knows_not(self, chosen: Chosen) -> bool:
        """Say which settings are for nobody."""
        ids = [sensor.id for sensor in (*chosen.sensors, *chosen.left_out)]
        lost = [key for key in self.settings if key.partition(".")[0] not in ids]
        if lost:
            complain(said(UNKNOWN_SENSORS, names=lost, known=ids))
        return bool(lost)

    def _read(self, plan: Plan) -> list[Look]:
        from agent.firstlook import look_at

        from ._looks import shown

        self.interview.say(READING)
        looks: list[Look] = []
        for sensor in plan.sensors:
            looks.append(look_at(sensor))
            if not self.is_json:
                print(*shown(looks[-1], is_people=sensor.counts_people), sep="\n", flush=True)
        return looks

    def _write(self, text: str, secrets: dict[str, str], chosen: Chosen, looks: list[Look]) -> int:
        from agent import setup
        from agent.plan import load_plan

        from ._terminal import undisturbed

        try:
            with undisturbed():
                files = setup.write(self.path, text, secrets)
        except FileExistsError as exc:  # somebody else was faster
            complain(said(EXISTS, file=exc.filename2 or self.path))
            return USAGE
        except OSError as exc:
            complain(f"{exc.filename or self.path}: {exc.strerror}")
            return IO_ERROR
        code = OK if all(look.state in ("ok", "warmup") for look in looks) else WRONG
        if chosen.sensors:
            try:
                load_plan(self.path)  # together with what is in gateway.d
            except ConfigError as exc:
                complain(said(exc))
                code = BAD_CONFIG
        else:
            code = BAD_CONFIG
        self._tell(files, chosen, looks)
        return code

    def _tell(self, files: list[Path], chosen: Chosen, looks: list[Look]) -> None:
        from agent import setup

        from ._looks import json_of

        for sensor in chosen.left_out:
            complain(said(LEFT_OUT, sensor=sensor.id, what=list(sensor.missing())))
        if os.geteuid() == 0 and self._is_the_services and setup.service_owner() is None:
            complain(said(NO_SERVICE_USER, file=self.path))
        if self.is_json:
            self.document |= {
                "files": [str(file) for file in files],
                "sensors": [json_of(look) for look in looks],
                "left_out": [sensor.id for sensor in chosen.left_out],
            }
            print(json.dumps(self.document, ensure_ascii=False))
            return
        for file in files:
            print(said(WRITTEN, file=file))
        if not chosen.sensors:
            print(said(EDIT_NEXT, file=self.path))
            return
        where = "" if self.path == default_path() else f" --config {self.path}"
        command = "systemctl enable --now yukimi" if self._is_the_services else f"yukimi run{where}"
        print(said(NEXT, command=command))

    @property
    def _is_the_services(self) -> bool:
        return self.path == DEFAULT_PATH
