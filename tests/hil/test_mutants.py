"""Planted defects: each fits the source and names tests that exist; the trial itself is not fooled.

All of them are tried by `make mutants`; here a few, one a way of failing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.mutants import CATALOGUE, MUTANTS, Mutant, StaleError
from hil.mutants.tree import Case, Told
from hil.mutants.trial import BaselineError, Trial, judged
from hil.mutants.verb import page

ROOT = Path(__file__).resolve().parents[2]
# A driver, the arithmetic, the wall around people, a broken record.
A_FEW = ("eighty-five-degrees", "median-for-mean", "one-noise-for-both-ways", "evict-newest")


# What there is


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_fits_the_source(mutant: Mutant) -> None:
    changed = mutant.applied(ROOT)
    assert mutant.new in changed
    assert mutant.story.endswith(".")
    assert mutant.caught_by


def test_there_are_many_on_every_floor_and_no_name_twice() -> None:
    names = Counter(each.name for each in MUTANTS)
    assert max(names.values()) == 1
    assert len(MUTANTS) >= 40
    assert min(map(len, CATALOGUE.values())) >= 5


def test_the_tests_that_they_name_are_there() -> None:
    nodes = list(dict.fromkeys(node for each in MUTANTS for node in each.caught_by))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *nodes], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_page_is_as_committed() -> None:
    committed = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    told = "run `python -m hil mutants --list --markdown > docs/mutants.md`"
    assert committed == page(), told


# The trial, on a source of three lines

COUNT = "def count(seen):\n    return len(seen)\n"
TESTS = """
import pytest
from agent.count import count

def test_all_are_counted():
    assert count([1, 2, 3]) == 3

def test_nobody_is_nobody():
    assert count([]) == 0

def test_that_fails_anyway():
    assert count([]) == 1

def test_that_is_not_run_here():
    pytest.skip("no such board")
"""
COUNTED = "tests/test_count.py::test_all_are_counted"
ONE_LESS = Mutant(
    name="one-less",
    story="One is forgotten.",
    file="agent/count.py",
    old="len(seen)",
    new="len(seen[1:])",
    caught_by=(COUNTED,),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for name, text in (
        ("agent/__init__.py", ""),
        ("agent/logs.py", ""),  # the conftest's
        ("agent/count.py", COUNT),
        ("tests/test_count.py", TESTS),
        ("tests/conftest.py", (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n'),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_defect_is_caught_or_survives_and_the_source_stays_as_it_is(source: Path) -> None:
    unseen = replace(
        ONE_LESS, name="unseen", caught_by=("tests/test_count.py::test_nobody_is_nobody",)
    )
    with Trial(source) as trial:
        trial.prove_sound([ONE_LESS, unseen])
        verdicts = {each.mutant.name: each for each in trial.verdicts([ONE_LESS, unseen])}
    assert verdicts["one-less"].outcome == "caught"
    assert verdicts["one-less"].by.endswith("test_all_are_counted")
    assert verdicts["unseen"].outcome == "survived"
    assert (source / ONE_LESS.file).read_text() == COUNT


def test_a_defect_that_only_breaks_the_program_is_not_caught(source: Path) -> None:
    broken = replace(ONE_LESS, new="len(sight)")
    complained = replace(broken, says="name 'sight' is not defined")
    absent = replace(ONE_LESS, old="def count(seen)", new="def tally(seen)")
    with Trial(source) as trial:
        found = [trial.verdict(each).outcome for each in (broken, complained, absent)]
    assert found == ["wrong reason", "caught", "wrong reason"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"old": "len(them)"}, "stands 0 times in agent/count.py, not once"),
        ({"old": "seen"}, "stands 2 times in agent/count.py, not once"),
        ({"new": "len(seen"}, "does not compile"),
        ({"new": "len(seen)  # all of them"}, "changes nothing that runs"),
        ({"file": "agent/gone.py"}, "No such file"),
        ({"file": "tests/test_count.py"}, "is no file of agent, drivers, config"),
    ],
)
def test_a_defect_that_does_not_fit_the_source_any_more_is_said_to_be_stale(
    source: Path, changed: dict[str, str], said: str
) -> None:
    stale = replace(ONE_LESS, **changed)  # type: ignore[arg-type]
    with pytest.raises(StaleError, match=said):
        stale.applied(source)
    with Trial(source) as trial:
        verdict = trial.verdict(stale)
    assert (verdict.outcome, said in verdict.why) == ("stale", True)


@pytest.mark.parametrize(
    "names", [("that_fails_anyway", "that_is_not_run_here"), ("that_is_not_there",)]
)
def test_tests_that_do_not_pass_without_any_defect_prove_nothing(
    source: Path, names: tuple[str, ...]
) -> None:
    nodes = (COUNTED, *(f"tests/test_count.py::test_{name}" for name in names))
    with Trial(source) as trial, pytest.raises(BaselineError) as caught:
        trial.prove_sound([replace(ONE_LESS, caught_by=nodes)])
    assert all(name in str(caught.value) for name in names)


def test_a_test_that_was_only_too_slow_has_noticed_nothing() -> None:
    slow = Case("t", "failed", "Failed: Timeout (>60.0s) from pytest-timeout.", "AssertionError")
    assert judged(replace(ONE_LESS, says="Assertion"), Told([slow], "", 60.0)).outcome == (
        "wrong reason"
    )
    assert judged(ONE_LESS, Told([], "no end after 240 s", 240.0)).outcome == "wrong reason"


# The trial, on the source itself


def test_a_few_are_planted_and_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "mutants.json"
    assert main(["mutants", "--only", *A_FEW, "--json", str(written)]) == 0
    assert f"{len(A_FEW)} of {len(A_FEW)} caught" in capsys.readouterr().out
    document = json.loads(written.read_text())
    assert document["schema"] == "yukimi.mutants/1"
    assert {each["name"]: each["outcome"] for each in document["mutants"]} == dict.fromkeys(
        A_FEW, "caught"
    )


def test_a_survivor_of_the_source_itself_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own,) = (each for each in MUTANTS if each.name == "median-for-mean")
    blind = replace(
        own, caught_by=("tests/agent/test_aggregate.py::test_equal_samples_do_not_differ",)
    )
    monkeypatch.setattr("hil.mutants.verb.MUTANTS", [blind])
    assert main(["mutants"]) == 1
    assert "survived: median-for-mean" in capsys.readouterr().out


def test_a_name_that_there_is_not_is_a_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants", "--only", "no-such"]) == 2
    assert "no such mutant: no-such" in capsys.readouterr().err
