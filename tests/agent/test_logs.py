"""What a log line can hold, and what a crash, a warning or a library gets into the journal."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent import logs
from drivers.base import Crossing

SECRET = "917.25"


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the log is written on, as the daemon configures it."""
    before = structlog.get_config()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.configure("debug")
    yield sys.stderr
    structlog.configure(**before)


def test_a_tool_has_its_answer_on_stdout_and_the_log_beside_it() -> None:
    script = "from agent.logs import logger; logger('test').warning('passed over'); print('{}')"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "{}\n"
    assert "passed over" in said.stderr


def test_a_line_is_key_and_value(paper: io.StringIO) -> None:
    logs.logger("part").info("an event", number=7, ratio=0.5, none=None, names=["a", "b"])
    (line,) = paper.getvalue().splitlines()
    assert line.startswith("timestamp=")
    assert 'level=info part=part event="an event" number=7 ratio=0.5' in line


@pytest.mark.parametrize(
    "value",
    [
        Crossing("towards", 91725),
        [Crossing("towards", 91725)] * 3,
        {"towards": 91725},
        ("towards", 91725),
        b"91725",
        bytearray(b"91725"),
        {91725},
        type("Number", (float,), {})(91725),
        type("Text", (str,), {})("91725"),
        Exception("91725"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_value_never_gets_into_a_line(paper: io.StringIO, value: object) -> None:
    told: Any = logs.logger("part")  # the type checker would refuse it
    told.info("an event", value=value)
    (line,) = paper.getvalue().splitlines()
    assert f"value={type(value).__name__}(withheld)" in line.replace('"', "")
    assert "91725" not in line
    assert line.count("towards") == 0


CRASHES = {
    "in the main thread": "raise ValueError(secret)",
    "with a cause": "try:\n    raise KeyError(secret)\nexcept KeyError as e:\n"
    "    raise ValueError(secret) from e",
    "in a thread": "t = threading.Thread(target=int, args=('x' + secret,)); t.start(); t.join()",
    "where nobody can hear it": "class A:\n    def __del__(self): raise ValueError(secret)\nA()",
}
WORDS = {
    "a forgotten print": "print(secret)",
    "a warning": "warnings.warn(secret)",
    "numpy's own": "import numpy as np; np.float64(917.25) / np.float64(0)",
    "a library's log": "logging.getLogger('driver').error('seen %s', secret)",
    "a library's own handler": "log = logging.getLogger('driver');"
    "log.addHandler(logging.StreamHandler()); log.critical('seen %s', secret)",
}


def said(words: str, *, hushed: bool = True) -> str:
    """Run `words` as the daemon would, and return all that they said."""
    begin = "import logging, threading, warnings\nfrom agent import logs\nlogs.configure()\n"
    hush = "logs.hush()\n" if hushed else ""
    done = subprocess.run(
        [sys.executable, "-c", f"{begin}{hush}secret = '{SECRET}'\n{words}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_says_where_and_nothing_of_what(how: str) -> None:
    told = said(CRASHES[how])
    assert 'event="bug in a thread"' in told
    assert "<string>:" in told or "threading.py:" in told
    assert "Error" in told
    assert SECRET not in told
    assert SECRET in said(CRASHES[how], hushed=False)


@pytest.mark.parametrize("how", WORDS)
def test_others_say_nothing_of_what_they_hold(how: str) -> None:
    told = said(WORDS[how])
    assert SECRET not in told
    assert told.count("\n") <= 1
    assert said(WORDS[how], hushed=False).count("\n") >= 1


def test_a_thread_may_just_end() -> None:
    assert said("t = threading.Thread(target=exit); t.start(); t.join()") == ""


def test_the_level_may_change_while_it_runs(paper: io.StringIO) -> None:
    log = logs.logger("part")
    try:
        for level in ("info", "debug", "warning"):
            logs.set_level(level)
            log.debug("small", level_now=level)
            log.info("usual", level_now=level)
            log.error("bad", level_now=level)
    finally:
        logs.set_level("info")
    assert [line.partition("event=")[2] for line in paper.getvalue().splitlines()] == [
        "usual level_now=info",
        "bad level_now=info",
        "small level_now=debug",
        "usual level_now=debug",
        "bad level_now=debug",
        "bad level_now=warning",
    ]


def test_no_thread_dies_of_a_log_for_which_there_is_no_room() -> None:
    script = (
        "from agent.logs import configure, logger; configure(); log = logger('test')\n"
        "for number in range(2000): log.warning('a line', file=str(number))\n"
        "print('alive')"
    )
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=True,
        )
    assert said.stdout == "alive\n"
