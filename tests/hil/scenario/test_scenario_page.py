"""The page about scenarios is right: what it shows works, and it leaves nothing out."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import pytest

from hil.__main__ import main as bench
from hil.scenario.load import load, names
from hil.scenario.model import Accuracy, AlertExpected, CrowdAccuracy, Expect
from hil.scenario.series import WAYS
from hil.scenario.tables import verb_table

PAGE = Path(__file__).parents[3] / "docs" / "scenarios.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def block(page: str, name: str) -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w*\n(.*?)```", page, re.DOTALL)
    assert found, name
    return found[1]


def test_the_first_scenario_works_as_it_is_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my-first.toml").write_text(block(page, "my-first.toml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = shlex.split(block(page, "run"))
    assert command[:3] == ["python", "-m", "hil"]
    assert bench(command[3:]) == 0
    said = capsys.readouterr().out
    assert "PASS  the account closes" in said
    assert (tmp_path / "my-first.html").stat().st_size > 10_000


def test_what_the_page_says_to_break_breaks(page: str, tmp_path: Path) -> None:
    file = tmp_path / "my-first.toml"
    text = block(page, "my-first.toml")
    assert "rms_max = 0.3" in text
    file.write_text(text.replace("rms_max = 0.3", "rms_max = 0.001"), encoding="utf-8")
    assert bench(["run", str(file)]) == 1


def test_the_table_of_verbs_is_the_code_s(page: str) -> None:
    assert verb_table() in page


def test_every_expectation_is_named(page: str) -> None:
    for model in (Expect, Accuracy, CrowdAccuracy, AlertExpected):
        for name, field in model.model_fields.items():
            assert (field.alias or name) in page, name


def test_every_series_is_named_and_every_scenario(page: str) -> None:
    for way in WAYS:
        assert way in page or way == "constant"
    for name in names():
        assert f"`{name}`" in page, name


def test_every_example_of_a_series_is_one(page: str, tmp_path: Path) -> None:
    head = block(page, "my-first.toml")
    (tmp_path / "depth.csv").write_text("t_s,depth\n0,1\n60,2\n")
    lines = re.findall(r"^\| `(depth_cm = .*?|\{ .*? \})` \|", page, re.MULTILINE)
    assert len(lines) == len(WAYS)
    for line in lines:
        series = line.removeprefix("depth_cm = ")
        if "recording" in series:
            continue  # of what is not in this repository
        text = re.sub(r"^depth_cm = .*$", lambda _, s=series: f"depth_cm = {s}", head, flags=re.M)
        file = tmp_path / "series.toml"
        file.write_text(text, encoding="utf-8")
        assert math.isfinite(load(file).truths()["snow-1"]["depth_cm"](60.0))
