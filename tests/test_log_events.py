"""Every line of the log stands in docs/log-events.md, with its level, and nothing else does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LEVELS = ("debug", "info", "warning", "error")
ROW = re.compile(r"^\| `(?P<event>[^`]+)` \| (?P<level>[a-z]+) \| (?P<means>.+) \|$")


def logged(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield event and level of each call of a log."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        whose = ast.unparse(node.func.value)
        if node.func.attr in LEVELS and (whose == "log" or whose.startswith("logger(")):
            event = ast.literal_eval(node.args[0])  # a literal: what is said is known beforehand
            yield event, node.func.attr


def in_code() -> set[tuple[str, str]]:
    return {
        each
        for folder in ("agent", "drivers", "config")
        for file in sorted((PROJECT / folder).rglob("*.py"))
        for each in logged(ast.parse(file.read_text(encoding="utf-8")))
    }


def in_document() -> list[tuple[str, str]]:
    text = (PROJECT / "docs" / "log-events.md").read_text(encoding="utf-8")
    rows = [ROW.match(line) for line in text.splitlines()]
    return [(row["event"], row["level"]) for row in rows if row]


def test_every_event_is_explained_and_every_explanation_has_its_event() -> None:
    told, known = in_document(), in_code()
    assert len(known) > 50  # it does find them
    assert sorted(known - set(told)) == []
    assert sorted(set(told) - known) == []
    assert len(told) == len(set(told))


def test_an_event_that_is_put_together_is_found_out() -> None:
    good = 'log.warning("sensor is silent", sensor=name)'
    assert list(logged(ast.parse(good))) == [("sensor is silent", "warning")]
    for bad in ('log.warning(f"{name} is silent")', "log.warning(text)"):
        try:
            found = list(logged(ast.parse(bad)))
        except ValueError:
            continue
        raise AssertionError(found)
