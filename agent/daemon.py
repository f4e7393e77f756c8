"""One gateway after another: with the configuration that is wanted, or with the last good one.

A wrong configuration costs neither data nor reach. One that is invalid is refused, at a start and
at a reload, and so is one with which no gateway starts. What is refused is said with every problem
and told to the gateway that runs instead. Only where nothing is known to be good, it ends.

A change of [spool] path takes the records along. Where they cannot come along the change is
refused; only where nothing else starts, the gateway runs without them, and they are remembered.
A change of [gateway] id does not touch the records: what waits leaves under the new id, each record
with the run that measured it, and a run's id is never used twice.

A configuration that is applied is tried first (`trials`), and runs in the place of the file for as
long as the file stays as it is. Only what is confirmed becomes the last good one.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from config.load import ConfigError, Problem
from config.places import control_socket
from config.text import Text, text_of

from . import commissioned, kernel, lastgood, memory, relocate
from .app import Gateway
from .applied import Entry
from .control import Control
from .history import History
from .lastgood import LastGood, spool_path
from .notify import notify
from .plan import Plan, load_plan
from .spool import SpoolError
from .trials import GIVEN_UP, Trial, Trials
from .wake import Wake

POWER_REST_S = 30.0

# What is said to the person who looks after the gateway.
REFUSED_LAST = Text(
    "configuration refused, the last good one runs:\n{problems}",
    "設定に誤りがあるため、直前の正しい設定で運転します:\n{problems}",
)
REFUSED_OLD = Text(
    "configuration refused, the old one goes on:\n{problems}",
    "設定に誤りがあるため、これまでの設定で運転を続けます:\n{problems}",
)
RELOAD_REFUSED = Text(
    "reload refused, the old configuration goes on:\n{problems}",
    "再読み込みした設定に誤りがあるため、これまでの設定で運転を続けます:\n{problems}",
)
REFUSED = Text(
    "configuration {config} refused:\n{problems}", "設定 {config} では運転できません:\n{problems}"
)
REFUSED_NEXT = Text(
    "configuration {config} refused, the next one is tried:\n{problems}",
    "設定 {config} では運転できないため、次の設定を試します:\n{problems}",
)
WARNING = Text("warning: {what}", "注意: {what}")
RESTING = Text(
    "mains power has failed: resting for {seconds:.0f} s",
    "商用電源が停止しました。{seconds:.0f}秒間待機します",
)
STAY = Text("records stay at {place}: {error}", "記録は {place} に残ります: {error}")
MOVED = Text("the records at {place} were moved to {here}", "{place} の記録を {here} に移しました")
NOT_KEPT = Text(
    "{file}: the last good configuration cannot be kept: {error}",
    "{file}: 正しい設定の控えを保存できません: {error}",
)
RETURNED = Text(
    "configuration {number} returned: {why}; the one before runs",
    "設定 {number} を取り消しました: {why}。以前の設定で運転します",
)
RETURNED_WHY = Text("configuration {number}: {why}", "設定 {number}: {why}")
CONFIRMED = Text("configuration {number} is confirmed", "設定 {number} を確定しました")
APPLIED_RUNS = Text(
    "configuration {number}, which was applied, runs in the place of {file}",
    "{file} の代わりに、適用された設定 {number} で運転します",
)
FILE_WINS = Text(
    "{file} was edited since configuration {number} was applied over it: the file is followed",
    "設定 {number} の適用後に {file} が編集されたため、ファイルの内容に従います",
)
NO_USE = Text(
    "configuration {number}, which was applied, is of no use any more; {file} is "
    "followed:\n{problems}",
    "適用された設定 {number} は使えなくなったため、{file} に従います:\n{problems}",
)
NEW_ID = Text(
    "warning: {count} records measured as {old} leave under {new}",
    "注意: {old} として測定した{count}件の記録は、{new} として送信されます",
)
USELESS = Text("the last good one is no use either", "直前の正しい設定の控えも使えません")
NOT_CHECKED = Text(
    "cannot be checked: {error} in {where}; this is a bug",
    "検査できません: {error}（{where}）。プログラムの不具合です",
)
NOT_STARTED = Text(
    "cannot be started: {error} in {where}", "運転を始められません: {error}（{where}）"
)


class Orders(Protocol):
    """What the outside wants: `wake` is set at each order."""

    wake: Wake
    must_stop: bool  # else reload


class _Attempt(NamedTuple):
    """A plan to be tried."""

    plan: Plan
    must_gather: bool  # not without the records that wait elsewhere
    trial: Trial | None = None


class _NotTriedError(Exception):
    """A configuration on trial must not run; the argument says why."""


class Daemon:
    """The life of the process, from one configuration to the next."""

    def __init__(self, path: Path, orders: Orders, *, say: Callable[[str], None]) -> None:
        self._path = path
        self._orders = orders
        self._say = say  # to the person who looks after the gateway
        self._gateway: Gateway | None = None
        self._has_started = False
        self._good: Plan | None = None  # what runs, or ran before the present attempt
        self._kept: LastGood | None = None
        self._files: set[Path] = set()  # in which it is kept
        self._next: list[_Attempt] = []
        self._without_power: frozenset[str] = frozenset()  # sensors that saw the mains go
        self._control = Control(kernel.boot_s)
        self._history = History(kernel.boot_s())
        self._trials = Trials(path, orders.wake.set)

    def run(self) -> None:
        """Run until told to stop. Raises ConfigError, SpoolError, ThreadDiedError."""
        try:
            attempts = self._first()
            while attempts and not self._orders.must_stop:
                attempts = self._live(attempts)
        finally:
            self._control.stop()

    def _first(self) -> list[_Attempt]:
        wrong = good = None
        returned = [self._returned(each) for each in self._trials.begin()]
        try:
            wanted = self._load()
        except ConfigError as exc:
            wrong = exc
        found = lastgood.find(self._path)
        if found is not None:
            self._kept, file = found
            self._files = {file}
            try:
                good = self._trials.numbered(_checked(file, self._kept.plan))
            except ConfigError as exc:
                if wrong is not None:
                    useless = Problem(str(file), "", USELESS)
                    wrong = ConfigError([*wrong.problems, useless, *exc.problems])
        if wrong is None:
            wanted = replace(wanted, refused=[*wanted.refused, *returned])
            return self._attempts(wanted, good)
        attempt = self._in_place_of(wrong, good, returned)
        self._say(REFUSED_LAST.filled(problems=wrong))
        return [attempt]

    def _in_place_of(
        self, wrong: ConfigError, good: Plan | None, returned: list[Problem]
    ) -> _Attempt:
        """Return what runs in the place of what is wrong. Raises ConfigError: nothing can."""
        if good is None:
            if self._trials.doubt() is None:
                raise wrong
            good = self._standing()  # an older one
        from .fallback import strict  # loaded only where something is wrong

        plan = _checked(self._path, partial(strict, good))
        plan = replace(plan, refused=[*wrong.problems, *plan.refused, *returned])
        return _Attempt(plan, must_gather=False)

    def _attempts(self, wanted: Plan, good: Plan | None) -> list[_Attempt]:
        """List what to try: what is wanted, what is known to run, at last less than is wanted."""
        attempts = [_Attempt(wanted, must_gather=True)]
        if good is not None and good.loaded.document != wanted.loaded.document:
            attempts.append(_Attempt(good, must_gather=False))
        if self._elsewhere(wanted):
            attempts.append(_Attempt(wanted, must_gather=False))
        return attempts

    def _live(self, attempts: list[_Attempt]) -> list[_Attempt]:
        """Live one life with the first plan that starts; return what to try next."""
        failures: list[Exception] = []
        refused: list[Problem] = []
        for attempt in attempts:
            if self._orders.must_stop:
                return []
            plan = replace(attempt.plan, refused=[*attempt.plan.refused, *refused])
            for warning in plan.warnings:
                self._say(WARNING.filled(what=warning.text))
            self._next, self._gateway, self._has_started = [], None, False
            is_over = threading.Event()
            try:
                if not self._reads(attempt.trial):
                    return []
                self._gather(attempt)
                # A place that does not work is left to memory only where there is no other.
                others = (spool_path(each.plan) for each in attempts[attempts.index(attempt) + 1 :])
                is_better = any(other != spool_path(plan) for other in others)
                self._gateway = Gateway(
                    plan,
                    needs_disk=is_better,
                    without_power=self._without_power,
                    control=self._control,
                    history=self._history,
                    trials=self._trials,
                )
                # Not before the spool is ours: another gateway may run with this configuration.
                self._control.serve(
                    control_socket(plan.loaded.config.control.socket, plan.loaded.path)
                )
                self._gateway.run(
                    self._orders.wake,
                    self._goes_on,
                    partial(self._started, plan, attempt.trial, is_over),
                )
            except Exception as exc:
                if self._has_started:
                    raise
                refused.append(_why_not(plan, exc))
                if attempt.trial is not None:
                    refused[-1] = self._give_up(attempt.trial, text_of(refused[-1].what))
                    continue
                failures.append(exc)
                told = REFUSED_NEXT if attempt is not attempts[-1] else REFUSED
                problem = refused[-1].text
                self._say(told.filled(config=plan.loaded.config_id, problems=problem))
            else:
                self._without_power = self._gateway.lost_power
                return self._wait_for_power(attempt) if self._without_power else self._next
            finally:
                is_over.set()
        raise failures[0]

    def _wait_for_power(self, attempt: _Attempt) -> list[_Attempt]:
        """Sit out what may be the end; whoever is still alive then has power, and goes on.

        Nothing waits in memory and nothing is open, so that the power may go at any instant.
        """
        self._say(RESTING.filled(seconds=POWER_REST_S))
        until_s = time.monotonic() + POWER_REST_S
        while time.monotonic() < until_s and not self._orders.must_stop:
            notify("WATCHDOG=1")
            self._orders.wake.wait(1.0)
            self._orders.wake.clear()  # a reload takes effect at the end of the rest
        try:
            return self._first()
        except ConfigError as exc:
            self._say(REFUSED_OLD.filled(problems=exc))
            plan = attempt.plan if attempt.trial is None or self._good is None else self._good
            return [_Attempt(plan, must_gather=False)]

    def _goes_on(self) -> bool:
        """Whether the gateway, woken by a signal, goes on as it is."""
        if self._orders.must_stop:
            notify("STOPPING=1")
            return False
        trial = self._trials.trial
        if trial is not None and self._good is not None:
            if trial.stage == "good" and self._confirm(trial):
                if not self._trials.wanted()[1]:
                    return True
            else:
                self._next = self._after(trial, self._good)
                return False
        try:
            wanted = self._load()
            self._refuse_clash(wanted)
        except ConfigError as exc:
            self._say(RELOAD_REFUSED.filled(problems=exc))
            if self._gateway is not None:
                self._gateway.config_refused(exc.problems)
            return True
        # STOPPING=1 would have systemd kill us when its time is up.
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._next = self._attempts(wanted, self._good)
        return False

    def _load(self) -> Plan:
        """Plan what is wanted. Raises ConfigError, too, where nobody knows what that is."""
        doubt = self._trials.doubt()
        if doubt is not None:
            raise ConfigError([Problem("", "", doubt)])
        return self._standing()

    def _standing(self) -> Plan:
        """Plan what was applied over the file, or the file. Raises ConfigError."""
        entry, is_edited = self._trials.wanted()
        if entry is None or is_edited:
            plan = _checked(self._path, partial(load_plan, self._path))
            if entry is not None:
                self._say(FILE_WINS.filled(file=self._path, number=entry.number))
            return plan
        told = {"file": self._path, "number": entry.number}
        try:
            plan = _checked(self._path, partial(entry.plan, self._path))
        except ConfigError as exc:
            self._say(NO_USE.filled(problems=exc, **told))
            plan = _checked(self._path, partial(load_plan, self._path))
            return replace(plan, refused=exc.problems)
        self._say(APPLIED_RUNS.filled(**told))
        return replace(plan, applied=entry.number)

    # A trial

    def _reads(self, trial: Trial | None) -> bool:
        """Read every sensor once; tell whether to go on. Raises _NotTriedError where one is missed.

        Only a trial needs it.
        """
        if trial is None:
            return True
        from . import dryrun  # most lives see no trial

        def goes_on() -> bool:
            notify("WATCHDOG=1")
            return not self._orders.must_stop

        measured = self._trials.must_measure(trial)
        why = dryrun.why_not(trial.plan, measured, goes_on=goes_on)
        if why is not None:
            raise _NotTriedError(why)
        return not self._orders.must_stop

    def _after(self, trial: Trial, good: Plan) -> list[_Attempt]:
        """Return what to try now that a trial begins, or has failed."""
        if trial.stage == "accepted":
            tried = _Attempt(trial.plan, must_gather=False, trial=trial)
            return [tried, _Attempt(good, must_gather=False)]
        is_reload = not trial.why
        problem = self._give_up(trial, trial.why or GIVEN_UP)
        if is_reload:
            with suppress(ConfigError):
                wanted = self._load()
                return self._attempts(replace(wanted, refused=[*wanted.refused, problem]), good)
        return [_Attempt(replace(good, refused=[problem]), must_gather=False)]

    def _confirm(self, trial: Trial) -> bool:
        if not self._trials.confirm(trial):
            return False
        self._say(CONFIRMED.filled(number=trial.entry.number))
        self._is_good(trial.plan)
        self._tell_settled()
        return True

    def _give_up(self, trial: Trial, why: Text) -> Problem:
        self._trials.give_up(trial, why)
        return self._returned(replace(trial.entry, why=why))

    def _returned(self, entry: Entry) -> Problem:
        """Say that the one before runs; return it as what is wrong with the one that was wanted."""
        told = {"number": entry.number, "why": entry.why}
        self._say(RETURNED.filled(**told))
        return Problem("", "", RETURNED_WHY.filled(**told))

    def _tell_settled(self) -> None:
        while self._trials.settled and self._gateway is not None:
            self._gateway.command_settled(self._trials.settled.pop(0))

    def _refuse_clash(self, wanted: Plan) -> None:
        """Raise ConfigError where the records cannot follow to the spool that is wanted."""
        for place in self._elsewhere(wanted):
            why = relocate.clash(place, spool_path(wanted))
            if why is not None:
                raise ConfigError([wanted.loaded.problem(("spool", "path"), why)])

    def _elsewhere(self, plan: Plan) -> list[Path]:
        """Return the spools of this gateway at other paths than the plan's."""
        places = self._kept.places if self._kept is not None else ()
        here = spool_path(plan)
        return [place for place in places if place != here and relocate.holds_spool(place)]

    def _gather(self, attempt: _Attempt) -> None:
        """Bring the records to the spool of the attempt. Raises SpoolError."""
        elsewhere = self._elsewhere(attempt.plan)
        if not elsewhere or self._kept is None:
            return
        here = spool_path(attempt.plan)
        # Before the first step: whatever stops us, the next start knows both paths.
        places = tuple(dict.fromkeys((*self._kept.places, here)))
        self._kept = replace(self._kept, places=places)
        self._files.add(lastgood.file_for(self._path, here))
        for file in self._files:
            self._store(self._kept, file)
        for place in elsewhere:
            try:
                relocate.move(place, here)
                memory.follow(place, here)
                commissioned.follow(place, here)
            except SpoolError as exc:
                if attempt.must_gather:
                    raise
                self._say(STAY.filled(place=place, error=exc))
            else:
                self._say(MOVED.filled(place=place, here=here))

    def _started(self, plan: Plan, trial: Trial | None, is_over: threading.Event) -> None:
        """Note that a plan runs, and that it is good unless it is on trial."""
        self._has_started = True
        if self._gateway is None:
            return
        if trial is not None:
            self._trials.watch(trial, self._gateway.health, is_over)
            return
        self._tell_new_id(plan)
        self._is_good(plan)
        self._tell_settled()
        if self._trials.trial is not None:  # it was taken while the last life ended
            self._orders.wake.set()

    def _is_good(self, plan: Plan) -> None:
        """Keep what runs as the last good one."""
        self._good = replace(plan, refused=[])
        self._kept = lastgood.of_plan(plan, tuple(self._elsewhere(plan)))
        file = lastgood.file_for(self._path, spool_path(plan))
        if self._store(self._kept, file):
            for other in self._files - {file}:  # it would tell of a spool that is gone
                with suppress(OSError):
                    other.unlink()
            self._files = {file}
        if self._gateway is not None:
            self._trials.runs(plan, spool_path(plan), self._gateway.health)

    def _store(self, kept: LastGood, file: Path) -> bool:
        try:
            lastgood.store(kept, file)
        except OSError as exc:
            self._say(NOT_KEPT.filled(file=file, error=exc))
            return False
        return True

    def _tell_new_id(self, plan: Plan) -> None:
        """Say so where records of another id wait."""
        new_id = plan.loaded.config.gateway.id
        old_id = self._kept.document.get("gateway", {}).get("id") if self._kept else None
        if old_id in (None, new_id) or self._gateway is None:
            return
        spool = self._gateway.spool
        waiting = 0
        with suppress(SpoolError):
            waiting = sum(n for run, n in spool.waiting_by_run().items() if run != spool.run)
        if waiting:
            self._say(NEW_ID.filled(count=waiting, old=old_id, new=new_id))


def _checked(file: Path, load: Callable[[], Plan]) -> Plan:
    """Load a plan. Raises ConfigError, whatever is wrong with it."""
    try:
        return load()
    except ConfigError:
        raise
    except Exception as exc:  # a driver's bug must not cost the gateway
        what = NOT_CHECKED.filled(error=repr(exc), where=_place(exc))
        raise ConfigError([Problem(str(file), "", what)]) from exc


def _why_not(plan: Plan, exc: Exception) -> Problem:
    if isinstance(exc, SpoolError):
        return plan.loaded.problem(("spool", "path"), str(exc))
    if isinstance(exc, _NotTriedError):
        return Problem("", "", text_of(exc))
    what = NOT_STARTED.filled(error=repr(exc), where=_place(exc))
    return Problem(str(plan.loaded.path), "", what)


def _place(exc: Exception) -> str:
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
