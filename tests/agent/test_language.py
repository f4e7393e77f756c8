"""Japanese where the locale says so and the terminal can show it, English everywhere else."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib import import_module

import pytest

from agent.cli import EXAMPLES, VERBS, parser_for
from agent.cli.language import Text, language, said


@pytest.mark.parametrize(
    ("environment", "encoding", "expected"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "utf-8", "ja"),
        ({"LANG": "ja"}, "utf-8", "ja"),
        ({"LANG": "ja_JP.eucJP"}, "euc_jp", "ja"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ja_JP.UTF-8"}, "utf-8", "ja"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ja_JP.UTF-8", "LC_MESSAGES": "C"}, "utf-8", "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C.UTF-8"}, "utf-8", "en"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": ""}, "utf-8", "ja"),
        ({"LANG": "de_DE.UTF-8"}, "utf-8", "en"),
        ({}, "utf-8", "en"),
        ({"LANG": "ja_JP.UTF-8", "TERM": "linux"}, "utf-8", "en"),
        ({"LANG": "ja_JP.UTF-8", "TERM": "xterm-256color"}, "utf-8", "ja"),
        ({"LANG": "ja_JP.UTF-8"}, "ascii", "en"),
        ({"LANG": "ja_JP.UTF-8"}, "latin-1", "en"),
    ],
)
def test_the_locale_and_the_terminal_decide(
    environment: dict[str, str], encoding: str, expected: str
) -> None:
    assert language(environment, encoding) == expected


def test_fields_are_named_and_may_be_texts_labels_and_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = Text("{place}: {what}, {n} times, on {buses}", "{place}：{what}（{n}回、{buses}）")
    fields = {
        "place": {"en": "N3", "ja": "北3条"},
        "what": Text("silent", "応答なし"),
        "n": 3,
        "buses": ["a", "b"],
    }
    assert said(text, **fields) == "N3: silent, 3 times, on a, b"
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    assert said(text, **fields) == "北3条：応答なし（3回、a、b）"
    with pytest.raises(KeyError):
        said(text, place="x")


def _yukimi(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_all_of_the_help_is_japanese_in_japan(verb: str) -> None:
    said = _yukimi(*filter(None, [verb]), "--help", LC_ALL="ja_JP.UTF-8")
    assert said.returncode == 0
    for english in ("usage", "options:", "arguments", "show", "examples:", "default", "exit codes"):
        assert english not in said.stdout.lower(), said.stdout


def test_wrong_usage_is_told_in_japanese_in_japan() -> None:
    for arguments in (("read",), ("read", "--depth"), ("drivers", "a", "b"), ("snow",)):
        said = _yukimi(*arguments, LC_ALL="ja_JP.UTF-8")
        assert said.returncode == 2
        assert "エラー" in said.stderr
        assert "error" not in said.stderr


def test_on_the_text_console_of_linux_it_is_english() -> None:
    assert "usage" in _yukimi("--help", LC_ALL="ja_JP.UTF-8", TERM="linux").stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_examples_and_they_are_valid_command_lines(verb: str) -> None:
    examples = import_module(f"agent.cli.{verb}").EXAMPLES
    assert examples
    for line, about in examples:
        program, *arguments = shlex.split(line.removeprefix("sudo "))
        assert program == "yukimi"
        assert arguments[0] == verb
        parser_for(verb).parse_args(arguments)  # would exit
        assert about.en and about.ja


ACTIONS = {
    "config": ("check", "schema", "sandbox", "apply", "rollback", "list", "diff"),
    "spool": ("status", "verify", "export"),
    "diag": ("report", "collect"),
    "privacy": ("report", "audit"),
}


@pytest.mark.parametrize("words", [(verb, a) for verb, of in ACTIONS.items() for a in of])
def test_each_action_has_an_example(
    words: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parser_for(words[0]).parse_args([*words, "--help"])
    shown = capsys.readouterr().out
    assert f"  yukimi {' '.join(words)}" in shown.replace("sudo ", "")


def test_the_examples_of_the_command_itself_are_valid_command_lines() -> None:
    for line, _ in EXAMPLES:
        program, verb, *_ = arguments = shlex.split(line)
        assert program == "yukimi"
        if "--help" not in arguments:
            parser_for(verb).parse_args(arguments[1:])


def test_the_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom agent.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'numpy', 'structlog', 'rich', 'asyncio', 'importlib.metadata'}\n"
        "print('loaded:', *sorted(heavy & set(sys.modules)), 'end')"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[-1] == "loaded: end"
