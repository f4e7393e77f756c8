"""Configurations on trial: one is taken, tried, and kept only where nothing is lost by it.

A trial is written down before anything is done for it. Then the life that runs ends as at any
reload, every sensor is read once, and a life with the new configuration begins. Within its time it
must do what was done before: be connected and have records of its own taken by the broker if that
was so, and measure with every sensor that measured. Then it is confirmed, which again is written
down first. Otherwise, and whatever else ends it, the one before runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from config.load import ConfigError, Problem, Toml, Where, read
from config.text import Text, joined

from . import applied, kernel
from .answers import AskError
from .applied import BY_FILE, BY_ITSELF, NO_TEXT, Applied, Entry
from .before import Before
from .health import Health
from .logs import logger, place_of
from .plan import Plan, plan_of
from .record import utc_text

log = logger("trial")

WITHIN_S = 120.0
LEAST_WITHIN_S, MOST_WITHIN_S = 5.0, 3600.0
LOOK_S = 0.2
SETTLED_S = 60.0  # after a start: who does not work by then did not work before a trial
REPLY_S = 2.0  # an answer to somebody far away leaves first
WHY_CHARACTERS = 4000

# What tells where the gateway is and who: the tools find it there when it does not run.
IN_THE_FILE: tuple[tuple[str, str], ...] = (
    ("gateway", "id"),
    ("spool", "path"),
    ("control", "socket"),
)

BUSY = Text(
    "configuration {number} is still on trial; wait for its end: yukimi config list",
    "設定 {number} の試験中です。終了をお待ちください: yukimi config list",
)
NOT_READY = Text(
    "the gateway has just started, and what works is not known yet; try again in a minute",
    "起動直後のため、正常な状態をまだ把握できません。1分後にもう一度お試しください",
)
RUNS_ALREADY = Text(
    "nothing to do: this configuration runs already", "変更はありません。この設定で運転中です"
)
MUST_STAY = Text(
    "{path} is changed in the configuration file only: the tools find the gateway by it",
    "{path} は設定ファイルでのみ変更できます（各コマンドがゲートウェイを見つけるために使います）",
)
NO_DISK = Text(
    "it cannot be written down, and so is not tried: {file}: {error}",
    "記録できないため、試験を行いません: {file}: {error}",
)
NO_SUCH = Text(
    "there is no configuration {number} to go back to; see: yukimi config list",
    "設定 {number} はありません。一覧: yukimi config list",
)
NO_EARLIER = Text("there is no earlier configuration to go back to", "戻せる以前の設定がありません")
INTERRUPTED = Text(
    "the gateway started again before it was confirmed", "確認の前にゲートウェイが再起動しました"
)
GIVEN_UP = Text(
    "a reload or a restart came before it was confirmed", "確認の前に再読み込みされました"
)
IN_DOUBT = Text(
    "{file}: {error}; which configuration holds nobody can tell, so the one that ran last does;"
    " apply the one that is wanted: sudo yukimi config apply FILE",
    "{file}: {error}。どの設定が有効か判断できないため、直前の設定で運転します。"
    "希望する設定を適用してください: sudo yukimi config apply ファイル",
)
DAMAGED = Text("is damaged", "破損しています")
NOT_WATCHED = Text(
    "nobody can tell whether it is good: {where} failed; this is a bug",
    "正常かどうか判定できません（{where}）。プログラムの不具合です",
)
NOT_KEPT = Text(
    "that it is good cannot be written down: {error}", "確認の結果を記録できません: {error}"
)
Stage = Literal["accepted", "tried", "good", "bad"]


@dataclass(slots=True)
class Trial:
    """A configuration that is tried, and how far it came."""

    entry: Entry
    plan: Plan
    is_forced: bool  # silent sensors are no reason to return
    before: Before
    stage: Stage = "accepted"
    why: Text = NO_TEXT  # it is bad


class Trials:
    """What is on trial, and what was before; `submit` is for other threads."""

    def __init__(self, config_file: Path, wake: Callable[[], None]) -> None:
        self._config_file = config_file
        self._wake = wake
        self._lock = threading.Lock()
        self._applied = applied.find(config_file)
        self._running: tuple[Plan, Health, float] | None = None  # since when, boot-time clock
        self.trial: Trial | None = None
        self.settled: list[Entry] = []  # asked for from afar, and not yet told of there

    # Which one runs

    def begin(self) -> list[Entry]:
        """Read what there is at a start; what was on trial has returned. Return these entries."""
        with self._lock:
            self.trial, self._running = None, None
            self._applied = applied.find(self._config_file)
        found = self.entries()
        interrupted = [each for each in found if each.outcome == "trial"]
        return [self._settle(each, "returned", INTERRUPTED) for each in interrupted]

    def wanted(self) -> tuple[Entry | None, bool]:
        """Return what was applied last, if anything, and whether the file was edited since."""
        return applied.standing(self.entries(), self._config_file)

    def doubt(self) -> Text | None:
        """Return why nobody knows what holds; None: it is known."""
        folder = self._applied.folder
        try:
            lost = applied.in_doubt(self._applied, self._config_file)
        except OSError as exc:
            return IN_DOUBT.filled(file=folder, error=exc.strerror or exc)
        if lost is None:
            return None
        return IN_DOUBT.filled(file=folder / f"{lost:06}.json", error=DAMAGED)

    def numbered(self, plan: Plan) -> Plan:
        """Return the last good plan, with the number under which it was applied if it was."""
        newest = applied.newest_confirmed(self.entries())
        is_applied = newest is not None and newest.by != BY_FILE
        if newest is None or not is_applied or newest.document != plan.loaded.document:
            return plan
        return replace(plan, applied=newest.number)

    def entries(self) -> list[Entry]:
        """Return all that is known, oldest first."""
        try:
            return self._applied.entries()
        except OSError as exc:
            log.error(
                "what was applied is not known", folder=str(self._applied.folder), why=str(exc)
            )
            return []

    def runs(self, plan: Plan, spool: Path, health: Health) -> None:
        """Note what runs; what the file brought becomes an entry, to be able to go back to it."""
        with self._lock:  # somebody else may take a number meanwhile
            self._applied = Applied(applied.folder_for(self._config_file, spool))
            self._running = (plan, health, kernel.boot_s())
            try:
                self._note(plan)
            except (ConfigError, OSError) as exc:
                log.warning("the configuration is not noted", why=str(exc))

    def _note(self, plan: Plan) -> None:
        if self.doubt() is not None:  # what runs now is what holds from now on
            self._write(plan, BY_ITSELF, read(self._config_file)[0])
            return
        entry, is_edited = self.wanted()
        if plan.applied is not None or (entry is not None and not is_edited):
            return  # it was applied, or only takes the place of what was
        loaded = plan.loaded
        newest = applied.newest_confirmed(self.entries())
        if newest is not None and newest.document == loaded.document and newest.by == BY_FILE:
            return
        document, _ = read(self._config_file)
        if document != loaded.document:
            return  # the last good one runs in its place
        self._write(plan, BY_FILE, document)

    def _write(self, plan: Plan, by: str, file: Toml) -> None:
        loaded, number = plan.loaded, self._applied.next_number()
        entry = Entry(number, "confirmed", by, _now(), loaded.config_id, applied.digest(file))
        self._applied.write(replace(entry, document=loaded.document, origins=loaded.origins))

    # Asking for one

    def submit(
        self,
        document: Toml,
        *,
        by: str,
        origin: str = "",
        within_s: float = WITHIN_S,
        is_forced: bool = False,
        command: str | None = None,
        refuse: Callable[[Plan, Plan], list[str]] = lambda _running, _new: [],
    ) -> dict[str, Any]:
        """Take a configuration to be tried; return what is answered. Raises AskError.

        `origin` is the file it is from. `refuse` says what else is against it.
        """
        origins: Mapping[Where, str] = {(): origin or str(self._config_file)}
        asked = Entry(
            0, "trial", by, _now(), "", "", document, origins, within_s=within_s, command=command
        )
        return self._take(asked, is_forced=is_forced, refuse=refuse)

    def submit_earlier(
        self,
        number: int | None,
        *,
        by: str,
        within_s: float = WITHIN_S,
        is_forced: bool = False,
    ) -> dict[str, Any]:
        """Take an earlier configuration, the one before this without a number. Raises AskError."""
        earlier = [each for each in self.entries() if each.document]
        if number is None:
            running = None if self._running is None else self._running[0].loaded.document
            good = [each for each in earlier if each.outcome == "confirmed"]
            found = next((each for each in reversed(good) if each.document != running), None)
            if found is None:
                raise AskError("no_such_configuration", NO_EARLIER)
        else:
            found = next((each for each in earlier if each.number == number), None)
            if found is None:
                raise AskError("no_such_configuration", NO_SUCH.filled(number=number))
        asked = Entry(
            0, "trial", by, _now(), "", "", found.document, found.origins,
            within_s=within_s, again=found.number,
        )  # fmt: skip
        return self._take(asked, is_forced=is_forced, refuse=lambda _running, _new: [])

    def _take(
        self, asked: Entry, *, is_forced: bool, refuse: Callable[[Plan, Plan], list[str]]
    ) -> dict[str, Any]:
        with self._lock:
            if self.trial is not None:
                raise AskError("busy_trial", BUSY.filled(number=self.trial.entry.number))
            if self._running is None:
                raise AskError("just_started", NOT_READY)
            running, health, since_s = self._running
            if not _is_settled(health) and kernel.boot_s() < since_s + SETTLED_S:
                raise AskError("just_started", NOT_READY)
            try:
                base = applied.digest(read(self._config_file)[0])
                plan = plan_of(asked.document, self._config_file, asked.origins)
                _refuse_moves(running, plan)
                others = refuse(running, plan)
                if others:
                    raise ConfigError(Problem("", "", why) for why in others)
            except ConfigError as exc:
                why = joined("\n", [each.text for each in exc.problems])
                self._note_refused(asked, why)
                raise AskError("refused", why) from exc
            if plan.loaded.document == running.loaded.document:
                raise AskError("unchanged", RUNS_ALREADY)
            entry = replace(asked, base=base, config_id=plan.loaded.config_id)
            try:
                entry = replace(entry, number=self._applied.next_number())
                self._applied.write(entry)
            except OSError as exc:
                self._applied.forget(entry.number)
                what = NO_DISK.filled(file=self._applied.folder, error=exc.strerror or exc)
                raise AskError("no_disk", what) from exc
            plan = replace(plan, applied=entry.number)
            before = Before.of(health)
            if asked.command is not None:  # it came that way, be it down just now or not
                before = before._replace(is_connected=True)
            trial = self.trial = Trial(entry, plan, is_forced, before)
        log.warning("configuration on trial", number=entry.number, by=entry.by)
        if asked.command is None:
            self._wake()
        else:
            soon = threading.Timer(REPLY_S, self._begin_soon, [trial])
            soon.daemon = True
            try:
                soon.start()
            except RuntimeError:  # no thread is to be had: then the answer may come too late
                self._wake()
        return told(entry) | {
            "folder": str(self._applied.folder),
            "warnings": [str(each) for each in plan.warnings],
        }

    def _begin_soon(self, trial: Trial) -> None:
        if trial.stage == "accepted":  # else somebody else woke the daemon, and it has begun
            self._wake()

    def _note_refused(self, asked: Entry, why: Text) -> None:
        from .redaction import without_user

        said = Text(without_user(why.en)[:WHY_CHARACTERS], without_user(why.ja)[:WHY_CHARACTERS])
        try:
            number = self._applied.next_number()
            self._applied.write(
                replace(asked, number=number, outcome="refused", document={}, why=said)
            )
        except OSError as exc:
            log.warning("a refusal cannot be noted", why=str(exc))

    # Trying it

    def must_measure(self, trial: Trial) -> frozenset[str]:
        """Return the sensors without which it returns."""
        return frozenset() if trial.is_forced else trial.before.measuring

    def watch(self, trial: Trial, health: Health, is_over: threading.Event) -> None:
        """Look on, in a thread, until all is as before, or the time is up; then wake."""
        trial.stage = "tried"
        threading.Thread(
            target=self._watch, args=(trial, health, is_over), name="trial", daemon=True
        ).start()

    def _watch(self, trial: Trial, health: Health, is_over: threading.Event) -> None:
        try:
            self._look_on(trial, health, is_over)
        except Exception as exc:  # noqa: BLE001  (a trial without an end would bar all others)
            log.error("bug in a trial", number=trial.entry.number, error=place_of(exc))
            trial.why, trial.stage = NOT_WATCHED.filled(where=place_of(exc)), "bad"
        if not is_over.is_set():
            self._wake()

    def _look_on(self, trial: Trial, health: Health, is_over: threading.Event) -> None:
        within_s = trial.entry.within_s or WITHIN_S
        until_s = kernel.boot_s() + within_s
        before = trial.before._replace(measuring=self.must_measure(trial))
        while trial.stage == "tried" and not is_over.wait(LOOK_S):
            missing = before.missing(health, within_s)
            if not missing:
                trial.stage = "good"
            elif kernel.boot_s() >= until_s:
                trial.why, trial.stage = joined("; ", missing), "bad"

    def confirm(self, trial: Trial) -> bool:
        """Write down that it is good; tell whether that was possible. Then it holds."""
        entry = replace(trial.entry, outcome="confirmed")
        try:
            self._applied.write(entry)
        except OSError as exc:
            trial.why = NOT_KEPT.filled(error=exc)
            return False
        log.warning("configuration confirmed", number=entry.number, config=entry.config_id)
        self._end(entry)
        return True

    def give_up(self, trial: Trial, why: Text) -> None:
        """Write down that it has returned. It does not run again, be there a disk or not."""
        self._end(self._settle(trial.entry, "returned", why))

    def _settle(self, entry: Entry, outcome: applied.Outcome, why: Text) -> Entry:
        entry = replace(entry, outcome=outcome, why=why)
        log.warning("configuration returned", number=entry.number, why=str(why))
        try:
            self._applied.write(entry)
        except OSError as exc:
            log.error("that it returned cannot be written down", why=str(exc))
        if entry.command is not None:
            self.settled.append(entry)
        return entry

    def _end(self, entry: Entry) -> None:
        if entry.command is not None and entry not in self.settled:
            self.settled.append(entry)
        with self._lock:
            self.trial = None


def told(entry: Entry) -> dict[str, Any]:
    """Return what is told of an entry to programs: all but the configuration itself."""
    return {
        "number": entry.number,
        "outcome": entry.outcome,
        "config": entry.config_id,
        "by": entry.by,
        "time": entry.time,
        "within_s": entry.within_s,
        "again": entry.again,
        "why": str(entry.why),
    }


def _is_settled(health: Health) -> bool:
    """Tell whether everything was seen to work."""
    return health.uplink.broker is not None and set(health.states().values()) <= {"ok"}


def _refuse_moves(running: Plan, plan: Plan) -> None:
    """Raise ConfigError where it says who the gateway is, or where, and says it otherwise."""
    old, new = running.loaded.config, plan.loaded.config
    moved = [
        plan.loaded.problem((table, key), MUST_STAY.filled(path=f"[{table}] {key}"))
        for table, key in IN_THE_FILE
        if getattr(getattr(old, table), key) != getattr(getattr(new, table), key)
    ]
    if moved:
        raise ConfigError(moved)


def _now() -> str:
    return utc_text(time.time_ns())
