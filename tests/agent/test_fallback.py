"""Where nobody can read what holds, nothing older is published under a looser policy."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent import applied, daemon, dryrun, lastgood, trials
from agent.plan import Plan
from agent.privacy import ledger
from agent.privacy.ledger import Head
from agent.privacy.policy import Policy
from tests.agent.test_daemon import Street
from tests.agent.test_trials import Asker, entries

LOOSE, TIGHT = Fraction(1, 4), Fraction(1, 8)


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Street:
    """A street whose file says LOOSE, and on which TIGHT was applied and confirmed."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(lastgood, "DEFAULT_FOLDER", tmp_path / "default")
    monkeypatch.setattr(trials, "SETTLED_S", 0.0)
    monkeypatch.setattr(trials, "LOOK_S", 0.01)
    monkeypatch.setattr(dryrun, "why_not", lambda *_, **__: None)
    (tmp_path / "secret").touch()
    street = Street(tmp_path)
    street.write(tmp_path / "spool.db")
    monkeypatch.setattr(daemon, "Gateway", street.gateway)
    asker = Asker(street)

    def apply() -> None:
        document = tomllib.loads(street.path.read_text("utf-8"))
        document["privacy"] = {"flow": {"epsilon": "1/8", "window_s": 1800}}
        document["sensors"][0]["options"]["mount_height_cm"] = 300.0
        asker.trials.submit(document, by="local:root")

    asker.live(apply, asker.wait)
    assert [each.outcome for each in entries(street)] == ["confirmed", "confirmed"]
    return street


def next_start(street: Street, *orders: Callable[[], None]) -> tuple[Fraction, int, float]:
    """Return epsilon, window and mount height of what runs at last."""
    plans: list[Plan] = []
    gateway = street.gateway

    def remember(plan: Plan, **more: Any) -> Any:
        plans.append(plan)
        return gateway(plan, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon, "Gateway", remember)
        street.live(*orders)
    height_cm = plans[-1].sensors[0].table.options["mount_height_cm"]
    return plans[-1].policy.epsilon, plans[-1].policy.window_s, float(height_cm)


def damage(street: Street, number: int) -> None:
    (applied.find(street.path).folder / f"{number:06}.json").write_bytes(b"\0" * 100)


def edit(street: Street, old: str, new: str) -> None:
    street.path.write_text(street.path.read_text("utf-8").replace(old, new), "utf-8")


def last_good(street: Street) -> Path:
    found = lastgood.find(street.path)
    assert found is not None
    return found[1]


def test_what_ran_last_runs_on_where_its_entry_is_damaged(street: Street) -> None:
    damage(street, 2)
    assert next_start(street) == (TIGHT, 1800, 300.0)
    assert "000002.json: is damaged" in street.refused[0].what
    assert entries(street)[-1].by == applied.BY_ITSELF
    assert next_start(street) == (TIGHT, 1800, 300.0)
    assert street.refused == []  # told once: now it is known again


def test_an_older_one_runs_under_the_policy_that_was_last(street: Street) -> None:
    damage(street, 2)
    last_good(street).unlink()
    assert next_start(street) == (TIGHT, 1800, 350.0)
    assert "no more about people than was said last" in street.refused[1].what
    assert next_start(street) == (TIGHT, 1800, 350.0)


def test_where_nothing_is_known_at_all_something_runs_and_says_so(
    street: Street, tmp_path: Path
) -> None:
    """The negative control too: it is the ledger that tightens."""
    damage(street, 2)
    last_good(street).unlink()
    (tmp_path / "spool.db").unlink()
    assert next_start(street) == (LOOSE, 900, 350.0)
    assert "is damaged" in street.refused[0].what


def test_a_last_good_one_that_is_out_of_date_is_tightened_too(street: Street) -> None:
    file = last_good(street)
    kept, _ = lastgood.find(street.path) or pytest.fail("there is none")
    document = tomllib.loads(street.path.read_text("utf-8"))
    lastgood.store(lastgood.LastGood(street.path, document, {}, kept.places), file)
    street.path.write_text("no TOML", "utf-8")
    assert next_start(street) == (TIGHT, 1800, 350.0)


def test_whoever_edits_the_file_is_followed(street: Street) -> None:
    damage(street, 2)
    edit(street, "350.0", "340.0")
    assert next_start(street) == (LOOSE, 900, 340.0)
    assert street.refused == []


def test_a_damaged_entry_that_something_newer_replaced_does_not_matter(street: Street) -> None:
    damage(street, 1)
    assert next_start(street) == (TIGHT, 1800, 300.0)
    assert street.refused == []


def test_a_reload_brings_nothing_older_either(street: Street) -> None:
    assert next_start(street, lambda: damage(street, 2)) == (TIGHT, 1800, 300.0)
    assert "is damaged" in street.refused[0].what


def test_the_last_policy_is_that_of_the_last_line() -> None:
    loose, tight = Policy(900, LOOSE), Policy(1800, TIGHT)
    head, rows = Head(), []
    for policy in (loose, tight):
        text, head = head.add(ledger.policy(policy), 0, policy.sha256)
        rows.append((head.n, text))
    boot, _ = head.add(ledger.boot("boot", "run", ""), 0, tight.sha256)
    texts = [text for _, text in rows]
    assert ledger.last_policy([]) is None
    assert ledger.last_policy(texts) == tight
    closed, _ = head.add(ledger.closed_day("2027-01-15", rows), 0, tight.sha256)
    assert ledger.last_policy([closed, boot]) == tight
    assert ledger.last_policy([boot]) is None  # its terms are lost
