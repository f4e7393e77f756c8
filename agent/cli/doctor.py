"""`yukimi doctor`: what is wrong, in one minute; and what to do about it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import OK, USAGE, WRONG, add_config, add_json, complain
from .language import Text, language, said

if TYPE_CHECKING:
    from agent.doctor.run import Result

    from .display import Style

CAUSE = Text("First to put right: {id}, {title}", "最初の対処: {id}（{title}）")
MORE = Text(
    "step by step: yukimi doctor --explain {id}", "手順の詳細: yukimi doctor --explain {id}"
)
LOOKING = Text("looking, for at most 15 s", "点検中です（最大15秒）")
SUDO = Text(
    "with sudo it sees more: who holds a port, the spool, secrets",
    "sudo を付けると、ポートの使用者、保存記録、秘密情報も点検できます",
)
COUNTS = Text(
    "{PASS} passed, {WARN} warned, {FAIL} failed, {SKIP} skipped, in {elapsed_s} s",
    "正常 {PASS}、注意 {WARN}、異常 {FAIL}、省略 {SKIP}（{elapsed_s} 秒）",
)
HEALTHY = Text("Nothing is wrong.", "異常はありません。")
LOOK = Text(
    "It works; look at what is warned of.", "動作していますが、注意の項目を確認してください。"
)
UNKNOWN = Text("there is no check {id}{near}", "点検 {id} はありません{near}")
EXAMPLES = (
    ("yukimi doctor", Text("what is wrong?", "異常の原因を調べます")),
    (
        "yukimi doctor --explain YK-NET-02",
        Text("one check, step by step", "点検項目1つの説明と手順を表示します"),
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--explain",
        metavar="ID",
        help=said(
            Text(
                "say what a check looks at, why, and what to do",
                "点検の内容・理由・対処を表示します",
            )
        ),
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help=said(
            Text("list what passed and what was skipped, too", "正常と省略の項目も表示します")
        ),
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything, or explain one check."""
    if arguments.explain is not None:
        return _explain(arguments.explain, as_json=arguments.json)
    from agent.doctor.order import CHECKS
    from agent.doctor.run import run as run_checks
    from agent.doctor.site import local
    from config.places import default_path

    if sys.stderr.isatty() and not arguments.json:
        complain(LOOKING)
    began_s = time.monotonic()
    with _silent_logs():
        results = run_checks(CHECKS, local(arguments.config or default_path()))
    elapsed_s = round(time.monotonic() - began_s, 1)
    if arguments.json:
        _print_json(results, elapsed_s)
    else:
        _print(results, elapsed_s, everything=arguments.all)
    return WRONG if any(each.done.status == "FAIL" for each in results) else OK


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Keep what the looked-at parts log out of the answer: their findings say it."""
    from agent.lean import without_extras

    with without_extras():
        import structlog
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    try:
        yield
    finally:
        structlog.configure(**before)


def _explain(name: str, *, as_json: bool) -> int:
    from agent.doctor.order import BY_ID
    from agent.doctor.pages import explained

    check = BY_ID.get(name.upper())
    if check is None:
        from config.load import nearest

        complain(said(UNKNOWN, id=name, near=nearest(name.upper(), BY_ID)))
        return USAGE
    if not as_json:
        from .display import line_cells, wrap

        for line in explained(check, language()).split("\n"):
            hang = " " * (len(line) - len(line.lstrip()) + 3 * line.startswith(" "))
            print(*wrap(line, line_cells(), first=hang[:2], hang=hang), sep="\n")
        return OK
    page = check.page
    document = {
        "schema": "yukimi.doctor/1",
        "id": check.id,
        "title": _pair(check.title),
        "what": _pair(page.what),
        "why": _pair(page.why),
        "do": [_pair(step) for step in page.do],
        "needs": check.needs,
        "blinks": check.blink.value,
    }
    print(json.dumps(document, ensure_ascii=False))
    return OK


def _print(results: Sequence[Result], elapsed_s: float, *, everything: bool) -> None:
    from agent.doctor.run import first_failure

    from .display import beside, line_cells, paint, printable, wrap

    styles: dict[str, Style] = {"PASS": "good", "WARN": "warn", "FAIL": "bad", "SKIP": "dim"}
    width = line_cells()
    for result in results:
        found = result.done
        is_news = found.status in ("WARN", "FAIL") or result.is_excused
        if not (is_news or everything):
            continue
        subject = f" [{printable(result.name)}]" if result.name else ""
        evidence = printable(said(found.evidence))
        text = f"{result.check.id} {said(result.check.title)}{subject}: {evidence}"
        lines = wrap(text, width, first=" " * 6, hang=" " * 8)
        print(paint(found.status, styles[found.status]) + lines[0][4:])
        print(*lines[1:], sep="\n", end="\n" if lines[1:] else "")
        if found.next is not None:
            print(*wrap(printable(said(found.next)), width, first="   -> ", hang=" " * 6), sep="\n")
    counts = {s: sum(each.done.status == s for each in results) for s in styles}
    print(beside("", said(COUNTS, elapsed_s=elapsed_s, **counts)))
    if os.geteuid() != 0:
        print(beside("", said(SUDO)))
    first = first_failure(results)
    if first is None:
        print(said(LOOK if counts["WARN"] else HEALTHY))
        return
    print(paint(said(CAUSE, id=first.check.id, title=first.check.title), "bad"))
    print(f"   {said(MORE, id=first.check.id)}")


def _print_json(results: Sequence[Result], elapsed_s: float) -> None:
    from agent.doctor.run import first_failure

    first = first_failure(results)
    statuses = {each.done.status for each in results}
    verdict = next(each for each in ("FAIL", "WARN", "PASS", "SKIP") if each in statuses)
    document = {
        "schema": "yukimi.doctor/1",
        "verdict": verdict,
        "first": None if first is None else first.check.id,
        "blinks": 0 if first is None else first.check.blink.value,
        "elapsed_s": elapsed_s,
        "checks": [
            {
                "id": each.check.id,
                "subject": each.name or None,
                "status": each.done.status,
                "title": _pair(each.check.title),
                "evidence": _pair(each.done.evidence),
                "next": None if each.done.next is None else _pair(each.done.next),
                "cause": each.cause,
                "blinks": each.check.blink.value,
            }
            for each in results
        ],
    }
    print(json.dumps(document, ensure_ascii=False))


def _pair(text: Text) -> dict[str, str]:
    return {"ja": text.ja, "en": text.en}
