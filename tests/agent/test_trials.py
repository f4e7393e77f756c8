"""Whatever ends a trial, and at whatever step, one good configuration runs at the next start."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agent import applied, daemon, dryrun, lastgood, replacing, trials
from agent.answers import Answers, AskError
from agent.applied import KEPT, Applied, Entry
from agent.applying import changes
from agent.before import Before
from agent.daemon import Daemon
from agent.firstlook import Look
from agent.health import Health
from agent.plan import Plan, load_plan
from agent.trials import Trials
from config.text import Text
from tests.agent.test_daemon import Street, waiting

WAIT_S = 60.0


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Street:
    return street_at(tmp_path, tmp_path, monkeypatch)


def street_at(folder: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Street:
    """A street on which every sensor answers, and whatever starts is settled."""
    monkeypatch.setenv("STATE_DIRECTORY", str(disk / "state"))
    monkeypatch.setattr(lastgood, "DEFAULT_FOLDER", folder / "default")
    monkeypatch.setattr(trials, "SETTLED_S", 0.0)
    monkeypatch.setattr(trials, "LOOK_S", 0.01)
    monkeypatch.setattr(dryrun, "why_not", lambda *_, **__: None)
    (folder / "secret").touch()
    street = Street(folder)
    street.write(disk / "spool.db")
    monkeypatch.setattr(daemon, "Gateway", street.gateway)
    return street


class Asker:
    """Somebody who applies a configuration to the daemon of a street."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.daemon = Daemon(street.path, street, say=street.said.append)
        self.answers: list[dict[str, Any]] = []
        self.refusals: list[str] = []

    @property
    def trials(self) -> Trials:
        return self.daemon._trials

    def apply(self, mount_height_cm: float = 300.0, **more: Any) -> None:
        document = tomllib.loads(self.street.path.read_text("utf-8"))
        document["sensors"][0]["options"]["mount_height_cm"] = mount_height_cm
        try:
            self.answers.append(self.trials.submit(document, by="local:root", **more))
        except AskError as exc:
            self.refusals.append(exc.code)

    def wait(self) -> None:
        """Let a trial come to its verdict."""
        until_s = time.monotonic() + WAIT_S
        while (trial := self.trials.trial) is not None and trial.stage == "tried":
            assert time.monotonic() < until_s
            time.sleep(0.005)

    def live(self, *orders: Callable[[], None]) -> None:
        self.street.orders, self.street.must_stop = list(orders), False
        self.daemon.run()


def entries(street: Street) -> list[Entry]:
    return applied.find(street.path).entries()


def height_cm(street: Street) -> float:
    """Return the mount height by which it would measure at the next start."""
    plans: list[Plan] = []
    gateway = street.gateway

    def remember(plan: Plan, **more: Any) -> Any:
        plans.append(plan)
        return gateway(plan, **more)

    daemon.Gateway, real = remember, daemon.Gateway  # type: ignore[misc,assignment]
    try:
        street.live()
    finally:
        daemon.Gateway = real  # type: ignore[misc]
    return float(plans[-1].sensors[0].table.options["mount_height_cm"])


def test_what_is_confirmed_holds_until_the_file_is_edited(street: Street) -> None:
    asker = Asker(street)
    asker.live(asker.apply, asker.wait)
    assert [(each.by, each.outcome) for each in entries(street)] == [
        ("file", "confirmed"),
        ("local:root", "confirmed"),
    ]
    assert height_cm(street) == 300.0
    assert any("was applied, runs" in said for said in street.said)
    text = street.path.read_text("utf-8")
    street.path.write_text("no TOML", "utf-8")
    assert height_cm(street) == 300.0  # as the last good one
    street.path.write_text(text, "utf-8")
    assert height_cm(street) == 300.0
    street.path.write_text(text.replace("350.0", "340.0"), "utf-8")
    assert height_cm(street) == 340.0
    assert any("was edited since" in said for said in street.said)
    street.path.write_text(text, "utf-8")
    assert height_cm(street) == 350.0  # what was applied long ago does not come back


def test_what_is_lost_by_it_is_said_and_the_one_before_runs(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    asker = Asker(street)
    asker.live(lambda: asker.apply(within_s=0.05), asker.wait)
    assert "no connection to the broker" in entries(street)[-1].why
    assert "no connection to the broker" in street.refused[0].what
    assert entries(street)[-1].outcome == "returned"
    assert height_cm(street) == 350.0


def test_a_reload_during_a_trial_ends_it_and_is_followed(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    asker = Asker(street)

    def edit() -> None:
        text = street.path.read_text("utf-8")
        street.path.write_text(text.replace("350.0", "340.0"), "utf-8")

    asker.live(asker.apply, edit)
    assert [each.outcome for each in entries(street)] == ["confirmed", "returned", "confirmed"]
    assert height_cm(street) == 340.0


def test_a_stop_during_a_trial_is_no_confirmation(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    asker = Asker(street)
    asker.live(asker.apply)
    assert entries(street)[-1].outcome == "trial"
    assert height_cm(street) == 350.0
    assert entries(street)[-1].outcome == "returned"
    assert "started again" in street.refused[0].what


def test_when_the_mains_fail_during_a_trial_the_one_before_runs(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "POWER_REST_S", 0.05)
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    asker = Asker(street)
    street.loses_power = [frozenset(), frozenset({"ups"})]
    asker.live(asker.apply, lambda: None)
    assert [each.outcome for each in entries(street)] == ["confirmed", "returned"]
    assert len(street.ran) == 3
    assert height_cm(street) == 350.0


def test_one_at_a_time_and_what_tells_where_the_gateway_is_stays(street: Street) -> None:
    asker = Asker(street)

    def ask_twice() -> None:
        asker.apply(350.0)
        asker.apply(300.0)
        asker.apply(310.0)

    asker.live(ask_twice, asker.wait)
    assert asker.refusals == ["unchanged", "busy_trial"]
    running = load_plan(street.path)
    for table, key, value in (
        ("gateway", "id", "another"),
        ("spool", "path", "/elsewhere/spool.db"),
        ("control", "socket", "/elsewhere/control.sock"),
    ):
        document = running.loaded.document
        document = document | {table: document.get(table, {}) | {key: value}}
        with pytest.raises(AskError, match="configuration file only") as refused:
            asker.trials.submit(document, by="local:root")
        assert refused.value.code == "refused"


def test_what_the_file_brings_and_what_is_asked_for_get_numbers_of_their_own(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker(street)
    meanwhile: list[threading.Thread] = []
    next_number = Applied.next_number

    def ask_meanwhile(self: Applied) -> int:
        number = next_number(self)
        if not meanwhile:
            meanwhile.append(threading.Thread(target=asker.apply, args=[-1.0]))
            meanwhile[0].start()
            meanwhile[0].join(0.2)  # time to take the same, if it may
        return number

    def wait() -> None:
        meanwhile[0].join()

    monkeypatch.setattr(Applied, "next_number", ask_meanwhile)
    asker.live(wait)
    assert asker.refusals == ["refused"]
    assert [(each.number, each.outcome) for each in entries(street)] == [
        (1, "confirmed"),
        (2, "refused"),
    ]


def test_a_trial_whose_watcher_dies_returns_and_bars_no_other(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Before.missing
    bugs = [KeyError("a bug")]

    def fails_once(self: Before, *arguments: Any) -> list[Text]:
        if bugs:
            raise bugs.pop()
        return missing(self, *arguments)

    monkeypatch.setattr(Before, "missing", fails_once)
    asker = Asker(street)
    asker.live(asker.apply, asker.wait, lambda: asker.apply(320.0), asker.wait)
    assert asker.refusals == []
    assert [each.outcome for each in entries(street)] == ["confirmed", "returned", "confirmed"]
    assert "this is a bug" in entries(street)[1].why
    assert height_cm(street) == 320.0


def test_soon_after_a_start_nothing_is_tried(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SETTLED_S", 60.0)
    asker = Asker(street)
    asker.live(asker.apply)
    assert asker.refusals == ["just_started"]


def test_what_is_refused_is_noted_without_its_content(street: Street) -> None:
    asker = Asker(street)

    def ask() -> None:
        for url in ("mqtt://mika:hunter2@broker", "http://mika:hunter2@broker"):
            document = {"uplink": {"brokers": [url], "password": "hunter2"}}
            with pytest.raises(AskError):
                asker.trials.submit(document, by="local:root")

    asker.live(ask)
    assert [each.outcome for each in entries(street)] == ["confirmed", "refused", "refused"]
    assert "brokers" in entries(street)[-1].why
    folder = applied.find(street.path).folder
    assert not any(b"hunter2" in file.read_bytes() for file in folder.iterdir())


def test_ten_are_kept_and_what_never_held_makes_room_first(tmp_path: Path) -> None:
    book = Applied(tmp_path / "config")
    entry = Entry(0, "confirmed", "file", "2027-01-15T00:00:00.000Z", "", "")
    for number in range(1, KEPT + 1):
        book.write(replace(entry, number=number))
    for number in range(KEPT + 1, KEPT + 30):
        book.write(replace(entry, number=number, outcome="refused"))
    kept = book.entries()
    assert len(kept) == KEPT
    assert [each.outcome for each in kept].count("confirmed") == KEPT - 1
    assert book.next_number() == KEPT + 30
    newest = max(book.folder.iterdir())
    newest.write_bytes(newest.read_bytes().replace(b"refused", b"comfirm"))
    assert len(book.entries()) == KEPT - 1


def test_only_root_and_the_gateway_itself_may(street: Street) -> None:
    answers = Answers()
    for name, change in changes(Trials(street.path, street.wake.set)).items():
        answers.add_change(name, change)
    for user in (None, os.geteuid() + 12345):
        with pytest.raises(AskError, match="only root may"):
            answers.ask("config-apply", {"document": {}}, user=user)
    with pytest.raises(AskError, match="has just started"):
        answers.ask("config-apply", {"document": {}}, user=os.geteuid())
    for wrong in ({}, {"document": {}, "within_s": 4}, {"document": {}, "within_s": True}):
        with pytest.raises(AskError) as refused:
            answers.ask("config-apply", wrong, user=0)
        assert refused.value.code == "wrong_argument"


# What must be as before


def test_only_what_was_so_before_must_be_so_again() -> None:
    health = Health()
    health.sensor("snow-1").state = "silent"
    health.sensor("snow-2").state = "ok"
    assert Before.of(health) == Before(measuring=frozenset({"snow-2"}))
    assert Before.of(health).missing(health, 5.0) == []
    health.uplink.broker, health.uplink.acknowledged_s = "mqtt://b", 1.0
    before = Before.of(health)
    assert (before.is_connected, before.is_taken) == (True, True)
    later = Health()
    later.sensor("snow-2").state = "starting"
    assert len(before.missing(later, 5.0)) == 2
    later.uplink.broker, later.uplink.acknowledged_s = "mqtt://b", 1.0  # of an older run
    later.sensor("snow-2").state = "ok"
    assert "took no record" in before.missing(later, 5.0)[0]
    later.uplink.own_acknowledged_s = 2.0
    assert before.missing(later, 5.0) == []


def test_a_sensor_that_is_missed_is_named_and_a_bug_costs_its_sensor_only(street: Street) -> None:
    plan = load_plan(street.path)
    looks: dict[str, Callable[[], Look]] = {
        "silent": lambda: Look("snow-1", "silent", error="no answer"),
        "bug": lambda: Look(str(1 // 0), "ok"),
        "warm": lambda: Look("snow-1", "warmup"),
    }

    def why(kind: str, *measured: str) -> Text | None:
        return DRY_RUN(plan, measured, goes_on=lambda: True, look=lambda _sensor: looks[kind]())

    assert "no answer" in (why("silent", "snow-1") or "")
    assert why("silent") is None  # it did not measure before
    assert "its driver failed" in (why("bug", "snow-1") or "")
    assert why("warm", "snow-1") is None


def test_a_bus_that_never_comes_back_is_not_waited_for(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dryrun, "LONGEST_S", 0.0)
    monkeypatch.setattr(dryrun, "SPARE_S", 0.05)
    is_over = threading.Event()

    def hang(_sensor: object) -> Look:
        is_over.wait(WAIT_S)
        return Look("snow-1", "ok")

    why = DRY_RUN(load_plan(street.path), ["snow-1"], goes_on=lambda: True, look=hang)
    is_over.set()
    assert "snow-1 measured before" in (why or "")


DRY_RUN = dryrun.why_not  # before a street replaces it

# At each step


WATCHED = {module.__file__ for module in (applied, daemon, replacing, trials)}
STRIDE = 25  # lines between two deaths: every line of a step is hit by one or another


def killed_at_lines(live: Callable[[], None], first: int = 1) -> Iterator[int]:
    """Let a child die at every STRIDE-th line of what is watched; yield the line after each."""
    for step in range(first, 10**6, STRIDE):
        child = os.fork()
        if child == 0:
            try:
                _die_at(step)
                live()
            except BaseException:  # noqa: BLE001  (a child must not come back into the test)
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), f"the child failed at line {step}"
        if code == 0:
            return
        yield step


def _die_at(step: int) -> None:
    left = step

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def deaths(street: Street, tmp_path: Path, *, is_good: bool) -> list[tuple[str, float]]:
    """Kill the daemon at the lines of an apply; return the outcome and what then runs of each."""
    street.live()  # the file's own, noted and good
    clean = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    found = []

    def live() -> None:
        asker = Asker(street)
        asker.live(lambda: asker.apply(within_s=WAIT_S if is_good else 0.02), asker.wait)

    for _ in killed_at_lines(live):
        before = waiting(tmp_path / "spool.db")
        runs_cm = height_cm(street)
        outcomes = [each.outcome for each in entries(street) if each.by != "file"]
        assert waiting(tmp_path / "spool.db") == before + 1
        found.append((outcomes[-1] if outcomes else "none", runs_cm))
        for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
            file.unlink()
        for file, content in clean.items():
            file.write_bytes(content)
    return found


def test_killed_at_any_step_one_good_configuration_runs_and_no_record_is_lost(
    street: Street, tmp_path: Path
) -> None:
    found = deaths(street, tmp_path, is_good=True)
    # The new one if it was confirmed, and only then.
    assert {each for each in found if each[1] == 300.0} <= {("confirmed", 300.0)}
    assert set(found) == {("none", 350.0), ("returned", 350.0), ("confirmed", 300.0)}


def test_killed_at_any_step_of_one_that_fails_the_one_before_runs(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    found = deaths(street, tmp_path, is_good=False)
    assert set(found) == {("none", 350.0), ("returned", 350.0)}


def test_without_the_mark_of_a_trial_the_wrong_one_would_run(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what is tried is written down as if it were confirmed."""
    monkeypatch.setattr(Before, "of", lambda _health: Before(is_connected=True))
    encoded = applied._encoded

    def careless(entry: Entry) -> bytes:
        is_tried = entry.outcome == "trial"
        return encoded(replace(entry, outcome="confirmed") if is_tried else entry)

    monkeypatch.setattr(applied, "_encoded", careless)
    monkeypatch.setattr("tests.agent.test_trials.STRIDE", 60)
    assert ("confirmed", 300.0) in deaths(street, tmp_path, is_good=False)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_at_any_step_leaves_the_old_one_running(
    street: Street, error: int
) -> None:
    asker = Asker(street)

    def fails(*_: object, **__: object) -> Any:
        raise OSError(error, os.strerror(error))

    def ask() -> None:
        for where, name in (
            (replacing.os, "open"),
            (replacing.os, "fsync"),
            (Path, "mkdir"),
            (Path, "replace"),
            (replacing, "sync_folder"),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(where, name, fails)
                asker.apply()
            assert asker.trials.trial is None

    asker.live(ask)
    assert asker.refusals == ["no_disk"] * 5
    assert [each.by for each in entries(street)] == ["file"]
    assert height_cm(street) == 350.0


def test_where_it_cannot_be_written_down_that_it_is_good_it_returns(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Applied.write

    def full(self: Applied, entry: Entry) -> None:
        if entry.outcome == "confirmed" and entry.by != "file":
            raise OSError(28, "No space left on device")
        real(self, entry)

    monkeypatch.setattr(Applied, "write", full)
    asker = Asker(street)
    asker.live(asker.apply, asker.wait)
    assert entries(street)[-1].outcome == "returned"
    assert "No space left" in entries(street)[-1].why
    assert height_cm(street) == 350.0
