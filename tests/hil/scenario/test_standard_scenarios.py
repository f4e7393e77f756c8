"""The scenarios that come with the bench hold: the longest shortened; `make soak` is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.faults.ext4 import UnavailableError
from hil.scenario.load import load, names, path_of
from hil.scenario.run import run
from hil.scenario.spans import seconds

# What two cores can play in a test; left out: the whole.
SHORTENED = {"brown-out-week": "2d", "soak-month": "2d"}
# What only the whole can hold: caches and the allocator settle in the first weeks.
NOT_IN_SHORT = ("memory, growth a day",)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_it_holds(name: str) -> None:
    loaded = load(path_of(name))
    if name in SHORTENED:
        loaded = loaded.lasting(seconds(SHORTENED[name]))
    try:
        outcome = run(loaded)
    except UnavailableError as exc:
        pytest.skip(str(exc))
    broken = [each for each in outcome.verdicts if not each.holds]
    if name in SHORTENED:
        broken = [each for each in broken if each.what not in NOT_IN_SHORT]
    assert not broken, broken
    assert outcome.ran.played_s >= loaded.scenario.lasts


@pytest.mark.parametrize("name", names())
def test_it_says_what_it_teaches_in_both_languages(name: str) -> None:
    scenario = load(path_of(name)).scenario
    assert scenario.title.ja != scenario.title.en
    assert scenario.summary.ja and scenario.summary.en
    assert Path(path_of(name)).read_text(encoding="utf-8").startswith("# ")
