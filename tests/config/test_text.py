"""Texts in two languages: what each reader gets, and that both say the same."""

from __future__ import annotations

import ast
import json
import string
from pathlib import Path

import pytest

from config.text import Text, joined, text_of

PROJECT = Path(__file__).resolve().parents[2]
ONE = Text("{n} records wait", "未送信の記録が{n}件あります")


def test_whoever_takes_it_for_a_string_gets_english() -> None:
    text = ONE.filled(n=3)
    assert text == "3 records wait"
    assert json.dumps({"text": text}) == '{"text": "3 records wait"}'
    assert f"{text}." == "3 records wait."
    assert text.of("ja") == text.ja == "未送信の記録が3件あります"


def test_texts_join_in_each_language() -> None:
    assert (ONE.filled(n=1) + Text("; hurry", "。お急ぎください")).ja.endswith(
        "件あります。お急ぎください"
    )
    assert ("snow-1: " + ONE.filled(n=1)).ja == "snow-1: 未送信の記録が1件あります"
    assert ("snow-1: " + ONE.filled(n=1)) == "snow-1: 1 records wait"
    both = joined(": ", ("file", Text("wrong", "誤り")))
    assert (both, both.ja) == ("file: wrong", "file: 誤り")


def test_an_error_that_holds_a_text_is_told_in_both_languages() -> None:
    error = ValueError(Text("wrong", "誤り"))
    assert text_of(error).ja == "誤り"
    assert str(error) == "wrong"
    assert Text("no: {why}", "不可: {why}").filled(why=error).ja == "不可: 誤り"
    assert text_of(OSError(2, "No such file")).ja == str(OSError(2, "No such file"))


def test_a_missing_field_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        ONE.filled(m=3)


def _texts(file: Path) -> list[tuple[int, str, str]]:
    """Return where a file pairs two literal texts, and both."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        literal = [each.value for each in node.args if isinstance(each, ast.Constant)]
        if node.func.id in ("Text", "Sentence") and len(literal) == len(node.args) == 2:
            found.append((node.lineno, *map(str, literal)))
    return found


def _fields(text: str) -> set[str] | None:
    try:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:  # braces of its own
        return None


def test_both_languages_have_the_same_fields_everywhere() -> None:
    files = [file for room in ("agent", "config", "hil") for file in (PROJECT / room).rglob("*.py")]
    pairs = [(file, *pair) for file in files for pair in _texts(file)]
    assert len(pairs) > 300
    wrong = [
        f"{file.relative_to(PROJECT)}:{line}: {en!r} {ja!r}"
        for file, line, en, ja in pairs
        if _fields(en) != _fields(ja) or bool(en) != bool(ja)
    ]
    assert not wrong, "\n".join(wrong)
