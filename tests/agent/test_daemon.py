"""Which configuration runs, and where its records are, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent import daemon, lastgood, relocate
from agent.daemon import Daemon
from agent.health import Health
from agent.plan import Plan
from agent.privacy.ledger import Terms
from agent.spool import Spool, SpoolError
from agent.wake import Wake
from config.load import Problem
from tests.agent.test_lastgood import TEXT
from tests.agent.test_relocate import record


class Killed(BaseException):
    """The process ends here."""


class Street:
    """What the gateways of one test share: what is asked of them, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gateway.toml"
        self.wake = Wake()
        self.must_stop = False
        self.said: list[str] = []
        self.refused: list[Problem] = []
        self.ran: list[Path] = []
        self.bad_spools: set[Path] = set()
        self.orders: list[Callable[[], None]] = []
        self.loses_power: list[frozenset[str]] = []  # each gateway in turn, at its end
        self.without_power: list[frozenset[str]] = []  # as each gateway was told

    def write(self, spool: Path) -> None:
        self.path.write_text(TEXT.format(spool=spool), encoding="utf-8")

    def live(self, *orders: Callable[[], None]) -> None:
        """Run a daemon; it reloads after each of `orders`, and stops after the last."""
        self.orders, self.must_stop, self.said = list(orders), False, []
        Daemon(self.path, self, say=self.said.append).run()

    def gateway(
        self,
        plan: Plan,
        *,
        needs_disk: bool = False,
        without_power: frozenset[str] = frozenset(),
        **_control_and_history: object,
    ) -> Gateway:
        self.without_power.append(without_power)
        return Gateway(plan, self, needs_disk=needs_disk)


class Gateway:
    """Commits one record a life."""

    lost_power: frozenset[str] = frozenset()

    def __init__(self, plan: Plan, street: Street, *, needs_disk: bool) -> None:
        self._street = street
        self.health = Health()
        self._path = lastgood.spool_path(plan)
        if self._path in street.bad_spools:
            raise SpoolError(f"{self._path}: injected")
        street.refused = list(plan.refused)
        run = f"{self._path.name}-{len(street.ran)}"
        terms = Terms(plan.policy, "Asia/Tokyo", "")
        self.spool = Spool(self._path, max_bytes=2**24, run=run, boot_id="boot", terms=terms)
        if needs_disk and self.spool.is_volatile:
            raise SpoolError(f"{self._path}: {self.spool.why_volatile}")

    def run(self, _wake: Wake, goes_on: Callable[[], bool], started: Callable[[], None]) -> None:
        self.spool.append([record(1)], "config")
        self.spool.begin_ledger(10**9)
        self._street.ran.append(self._path)
        started()
        going = True
        while going:
            if self._street.orders:
                self._street.orders.pop(0)()
            else:
                self._street.must_stop = True
            if self._street.loses_power:
                self.lost_power = self._street.loses_power.pop(0)
            going = not self.lost_power and goes_on()
        self.spool.close(clean=True)

    def config_refused(self, problems: Sequence[Problem]) -> None:
        self._street.refused = list(problems)


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Street:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(lastgood, "DEFAULT_FOLDER", tmp_path / "default")
    (tmp_path / "secret").touch()
    street = Street(tmp_path)
    monkeypatch.setattr(daemon, "Gateway", street.gateway)
    return street


def waiting(path: Path) -> int:
    spool = Spool(path, max_bytes=2**24, run="later", boot_id="boot")
    found = spool.waiting_by_run()
    spool.close(clean=True)
    return sum(found.values())


def test_killed_after_the_move_and_broken_since_the_records_come_back(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    street.write(old)
    street.live()
    street.write(new)
    real = relocate.move

    def move_and_die(*paths: Path) -> None:
        real(*paths)
        raise Killed

    monkeypatch.setattr(relocate, "move", move_and_die)
    with pytest.raises(Killed):
        street.live()
    assert new.exists()
    assert not old.exists()
    monkeypatch.setattr(relocate, "move", real)
    street.path.write_text("this is no TOML", encoding="utf-8")
    street.live()
    assert street.ran == [old, old]
    assert "is not valid TOML" in street.refused[0].what
    assert waiting(old) == 2
    assert not new.exists()


def test_a_start_that_fails_after_the_move_takes_the_records_back(
    street: Street, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    street.write(old)
    street.bad_spools = {new}
    street.live(lambda: street.write(new))
    assert street.ran == [old, old]
    assert street.refused[0].path == "spool.path"
    assert waiting(old) == 2
    assert not new.exists()


def test_from_a_disk_that_is_dead_the_gateway_goes_without_and_remembers(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    street.write(old)
    street.live()
    street.write(new)
    street.bad_spools = {old}

    def dead(*_paths: Path) -> None:
        raise SpoolError("input/output error")

    real = relocate.move
    monkeypatch.setattr(relocate, "move", dead)
    street.live()
    assert street.ran == [old, new]
    assert any("records stay at" in said for said in street.said)
    monkeypatch.setattr(relocate, "move", real)
    street.live()  # it answers again: two spools now, and a human is told at each start
    assert street.ran == [old, new, new]
    assert "move" in street.refused[0].what
    assert (waiting(old), waiting(new)) == (1, 2)


def test_a_drivers_bug_while_it_checks_is_no_end(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.write(tmp_path / "spool.db")

    def bug(_path: Path) -> Any:
        raise ZeroDivisionError("in a driver")

    street.live(lambda: monkeypatch.setattr(daemon, "load_plan", bug))
    assert len(street.ran) == 1
    assert "this is a bug" in street.refused[0].what


def test_what_is_put_right_is_taken_and_nothing_is_refused_any_more(
    street: Street, tmp_path: Path
) -> None:
    spool = tmp_path / "spool.db"
    street.write(spool)
    street.live(
        lambda: street.path.write_text("this is no TOML", encoding="utf-8"),
        lambda: street.write(spool),
    )
    assert len(street.ran) == 2
    assert street.refused == []


def test_a_stop_while_the_next_one_is_prepared_builds_no_gateway(
    street: Street, tmp_path: Path
) -> None:
    street.write(tmp_path / "spool.db")

    class Stopping(Daemon):
        def _attempts(self, *plans: Any) -> Any:
            attempts = super()._attempts(*plans)
            street.must_stop = bool(street.ran)
            return attempts

    street.orders = [lambda: None]
    Stopping(street.path, street, say=street.said.append).run()
    assert len(street.ran) == 1


def after_the_mains_failed(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *orders: Callable[[], None]
) -> None:
    """Let the first gateway end because the mains failed, and the next ones by `orders`."""
    monkeypatch.setattr(daemon, "POWER_REST_S", 0.2)
    street.write(tmp_path / "spool.db")
    street.loses_power = [frozenset({"ups"})]
    street.live(*orders)


def test_after_the_mains_failed_it_rests_and_goes_on_with_what_it_knew(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_the_mains_failed(street, tmp_path, monkeypatch, lambda: None)
    assert street.without_power == [frozenset(), frozenset({"ups"})]
    assert len(street.ran) == 2


def test_a_wrong_configuration_meanwhile_is_refused_and_the_old_one_goes_on(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil() -> None:
        street.path.write_text("nonsense", encoding="utf-8")

    monkeypatch.setattr(lastgood, "find", lambda _path: None)  # could not be stored
    after_the_mains_failed(street, tmp_path, monkeypatch, spoil)
    assert len(street.ran) == 2
    assert any("refused" in said for said in street.said)


def test_a_reload_to_a_wrong_configuration_is_refused_and_the_same_gateway_goes_on(
    street: Street, tmp_path: Path
) -> None:
    def spoil() -> None:
        street.path.write_text("nonsense", encoding="utf-8")

    went_on: list[int] = []
    street.write(tmp_path / "spool.db")
    street.live(spoil, lambda: went_on.append(len(street.ran)))
    assert went_on == [1]
    assert len(street.ran) == 1
    assert [problem.file for problem in street.refused] == [str(street.path)]


def test_a_reload_to_another_spool_takes_the_records_along(street: Street, tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    street.write(old)
    street.live(lambda: street.write(new))
    assert street.ran == [old, new]
    assert waiting(new) == 2
    assert not old.exists()
