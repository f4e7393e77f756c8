"""The command `yukimi`: one file a verb; each parses, calls, prints and returns an exit code."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from config.places import borrowing, hidden_id

from .language import Text, said
from .parsing import Example, Parser

# Before anything can import numpy: its threads would cost memory and gain nothing here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

OK, WRONG, USAGE, UNREACHABLE, IO_ERROR, BAD_CONFIG = 0, 1, 2, 69, 74, 78

VERBS = {  # in the order in which somebody needs them
    "run": Text(
        "the daemon: read, aggregate, deliver, until SIGTERM",
        "常駐プログラム。SIGTERMまで測定・集計・送信を続けます",
    ),
    "demo": Text(
        "the whole thing on this machine, without hardware, broker or network",
        "機器・中継サーバー・通信回線なしで、この計算機だけで全体を実演します",
    ),
    "init": Text(
        "guided set-up: scan, propose, check, read every sensor once; overwrites nothing",
        "対話形式で初期設定を作成します。既存のファイルは上書きしません",
    ),
    "config": Text(
        "check a configuration; apply one on trial, list, compare, go back",
        "設定の検査、試験付きの適用、履歴の一覧・比較・復元を行います",
    ),
    "status": Text(
        "how the running gateway is, on one screen",
        "稼働中のゲートウェイの状況を一画面で表示します",
    ),
    "watch": Text(
        "the running gateway, live; records as they leave",
        "稼働中のゲートウェイを実況します。送信された記録も表示します",
    ),
    "doctor": Text(
        "what is wrong, in one minute, and what to do", "異常の原因と対処を1分以内に示します"
    ),
    "scan": Text(
        "what is plugged in, which device it looks like, how to configure it",
        "接続されている機器を調べ、機種の候補と設定例を示します",
    ),
    "read": Text(
        "read one sensor now, directly; publishes nothing",
        "センサー1台を今すぐ直接読みます。送信は行いません",
    ),
    "commission": Text(
        "an acceptance test at the sensor, with a record of it",
        "設置したセンサーの受入試験を行い、記録を残します",
    ),
    "spool": Text(
        "what waits to be sent, is it intact, a copy to carry by hand",
        "未送信の記録の状況を示し、検査し、手渡し用に複写します",
    ),
    "diag": Text(
        "a report as one HTML file; a tarball for a ticket, without secrets",
        "診断レポート（HTML）や、問い合わせ用の資料一式（秘密情報を除く）を作成します",
    ),
    "privacy": Text(
        "what is published about people, and proof that nothing was released twice",
        "通行者について公表する内容の掲示と、二重の公表がないことの検査",
    ),
    "drivers": Text("the device models it can read", "対応している機器の一覧です"),
    "record": Text(
        "capture the raw traffic of one sensor to a file",
        "センサー1台の生の通信をファイルに記録します",
    ),
    "replay": Text("play a recording through a driver", "記録した通信をドライバーで再生します"),
    "completion": Text(
        "what a shell offers when Tab is pressed", "シェルのTabキー補完の定義を出力します"
    ),
}

DESCRIPTION = Text(
    "Edge gateway for people counters, road-surface and snow sensors.",
    "通行者数・路面・積雪センサーのためのエッジゲートウェイです。",
)
SENTENCE = Text("{about}.", "{about}。")
EXIT_CODES = Text(
    "Exit codes: 0 done; 1 done, and something is wrong; 2 wrong usage; 69 not reachable;"
    " 74 I/O error; 78 the configuration must be edited.",
    "終了コード: 0 正常終了、1 終了したが異常あり、2 使い方の誤り、69 接続不可、"
    "74 入出力エラー、78 設定の修正が必要。",
)
NO_OUTPUT = Text("the output cannot be written: {why}", "出力を書き込めません: {why}")
OUTPUT_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE))
EXAMPLES: Sequence[Example] = (
    (
        "yukimi config check --config config/examples/simulated.toml",
        Text("is the configuration right, and what would be done?", "設定の内容と誤りを確認します"),
    ),
    ("yukimi read --help", Text("about one verb", "コマンド1つの説明を表示します")),
)
ASK_S = 2.0
UNSURE = Text(
    "[gateway] id is not in the configuration, and {file}, where it may be, is for the service"
    " only: the host's name is taken; start the service, or run this with sudo",
    "[gateway] id が設定になく、{file} はサービスだけが読み取れるため、ホスト名を使います。"
    "サービスを起動するか、sudo を付けて実行してください",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _settle_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has enough
        _discard_output()
        return OK
    except OSError as exc:
        if arguments[:1] == ["run"]:  # it prints nothing
            raise
        if is_of_output(exc):
            _discard_output()
            complain(NO_OUTPUT.filled(why=exc.strerror))
        elif exc.filename is not None:
            complain(f"{exc.filename}: {exc.strerror}")
        else:
            raise
        return IO_ERROR
    return code


def is_of_output(error: OSError) -> bool:
    """Tell whether it came of printing: an error of a file that was opened has a name."""
    return error.filename is None and error.errno in OUTPUT_ERRORS


def _run(arguments: Sequence[str]) -> int:
    parser = parser_for(next((word for word in arguments if word in VERBS), None))
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from agent import __version__
        from agent.build import build

        print(" ".join(filter(None, (f"yukimi {__version__}", build() and f"({build()})"))))
        return OK
    if parsed.verb is None:
        parser.print_usage(sys.stderr)
        complain(
            said(
                Text(
                    "name a verb; `yukimi --help` lists them",
                    "コマンドを指定してください。一覧は `yukimi --help` で表示されます",
                )
            )
        )
        return USAGE
    _settle_output(for_machines=getattr(parsed, "json", False))
    with _as_the_service(parsed):
        code: int = parsed.run(parsed)
    return code


def _as_the_service(parsed: argparse.Namespace) -> AbstractContextManager[None]:
    """Let a tool know what the service knows; what is itself a gateway knows it by itself."""
    if parsed.verb in ("run", "demo") or not hasattr(parsed, "config"):
        return nullcontext()
    return borrowing(cache(partial(_ask_id, parsed.config)))


def _ask_id(config_file: Path | None) -> str | None:
    """Ask the running gateway who it is; say so where nobody can tell."""
    from agent.asking import NotAnsweredError, ask, socket_path

    try:
        return str(ask(socket_path(config_file), "status", timeout_s=ASK_S)["gateway"]["id"])
    except (NotAnsweredError, LookupError, TypeError):
        hidden = hidden_id()
        if hidden is not None:
            complain(said(UNSURE, file=hidden))
        return None


def _settle_streams() -> None:
    """Let no file that is opened later take the place of a stream that the shell has closed."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _discard_output() -> None:
    """Let the end of the program write nowhere what is still to be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _settle_output(*, for_machines: bool) -> None:
    """JSON is UTF-8 whatever the locale; for people, what an encoding lacks becomes "?"."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if for_machines:
            sys.stdout.reconfigure(encoding="utf-8")
        else:
            sys.stdout.reconfigure(errors="replace")


def parser_for(*wanted: str | None) -> Parser:
    """Build the parser: all verbs by name, and those wanted in full.

    Only what is in use is imported: `--help` answers at once, on a slow card too.
    """
    parser = Parser(prog="yukimi", description=said(DESCRIPTION), epilog=said(EXIT_CODES))
    parser.show(EXAMPLES)
    parser.add_argument(
        "--version",
        action="store_true",
        help=said(Text("print the version and exit", "バージョンを表示して終了します")),
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, text in VERBS.items():
        about = said(text)
        verb = verbs.add_parser(
            name, help=about, description=said(SENTENCE, about=f"{about[0].upper()}{about[1:]}")
        )
        if name in wanted:
            module = import_module(f".{name}", __name__)
            module.add_arguments(verb)
            verb.show(getattr(module, "EXAMPLES", ()))
            verb.set_defaults(run=module.run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option that names the configuration."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=said(
            Text(
                "configuration (default: $YUKIMI_CONFIG, else /etc/yukimi/gateway.toml)",
                "設定ファイル（省略時は $YUKIMI_CONFIG、なければ /etc/yukimi/gateway.toml）",
            )
        ),
    )


def add_sensor(parser: argparse.ArgumentParser) -> None:
    """Give a verb the sensor that it is about."""
    about = Text("its id in the configuration", "設定ファイルでのセンサーのID")
    parser.add_argument("sensor", metavar="SENSOR", help=said(about))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option of machine-readable output."""
    parser.add_argument(
        "--json",
        action="store_true",
        help=said(Text("print JSON on stdout, nothing else", "標準出力にはJSONだけを出力します")),
    )


def complain(error: object) -> None:
    """Say on stderr what is wrong, in the user's language where it is a Text or holds one."""
    print(f"yukimi: {said(error)}", file=sys.stderr)
