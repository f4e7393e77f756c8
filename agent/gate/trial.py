"""After an upgrade, the copy of the gate watches until the new version stays or the old is back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from .keep import UNIT, UNITS, WANTED
from .machine import (
    ACCEPTS,
    CONNECTS,
    DELIVERS,
    PACKAGE,
    READS,
    RUNS,
    SERVICE,
    ask_status,
    deeds,
    dpkg,
    installed,
    is_dpkg_running,
    is_stopped_by_hand,
    is_there,
    notify_ready,
    say,
    systemctl,
)
from .state import (
    OUTCOME,
    STATE,
    State,
    put,
    read_state,
    sha256,
    sha256_of_configuration,
    take_away,
    write_state,
)

LOOK_S = 5.0
KNOCK_S = 60.0  # between two questions to the broker
REMOVED = ("c", "n", "")  # what dpkg says of a package that is not there
REFUSED = Path("/etc/apt/preferences.d/yukimi-refused.pref")

Clock = Callable[[], float]
Sleep = Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a gateway does, and in which life; "" where it is silent."""

    life: str = ""
    done: frozenset[str] = frozenset()
    nobody_listens: bool = False
    applied: int | None = None


def run() -> int:
    """Go on from wherever it stands; return the exit code. Raises OSError: systemd tries again."""
    try:
        state = read_state()
    except ValueError as exc:  # a damaged disk: what is installed stays
        say("given up", why=exc)
        take_away(STATE)
        state = None
    if state is None:
        notify_ready()
        if not is_dpkg_running():  # else the units may be of an update that begins just now
            _take_units_away()
        return 0
    if is_dpkg_running():
        notify_ready()  # dpkg may wait for the gateway's start, and that waits for us
        while is_dpkg_running():
            time.sleep(1.0)
    if state.goes_back:
        return go_back(state)
    if installed()[0] not in ("i", *REMOVED):
        say("dpkg was interrupted and goes on", status=installed()[0])
        dpkg("--force-confold", "--configure", "-a")
    status, version = installed()
    if status in REMOVED:
        return disarm("removed", state)
    if (status, version) == ("i", state.old):
        return disarm("not updated", state)
    if status != "i":
        return go_back(state)
    notify_ready()
    systemctl("--no-block", "start", SERVICE)
    state = replace(state, waited_s=state.waited_s + state.note_s)
    write_state(state)
    say("on trial", version=version, old=state.old, wanted=state.wanted)
    state = on_trial(state)
    return go_back(state) if state.missing else disarm("kept", state)


class Broker:
    """The broker that the old version had, asked seldom: who knocks too often may be shut out."""

    def __init__(self, state: State, now_s: Clock) -> None:
        self._state, self._now_s = state, now_s
        self._was_there, self._again_s = True, now_s()

    def is_there(self) -> bool:
        """Whether it answers, as far as known."""
        if self._now_s() >= self._again_s:
            self._was_there = is_there(self._state.broker, speaks=self._state.speaks)
            self._again_s = self._now_s() + KNOCK_S
        return self._was_there


def on_trial(state: State, now_s: Clock = time.monotonic, sleep: Sleep = time.sleep) -> State:
    """Watch the new version; return the state with what is `missing`: nothing, and it stays."""
    noted, counted_s = state, now_s()
    life, well_since_s = "", counted_s
    broker = Broker(state, now_s)
    can: frozenset[str] = frozenset()  # a sensor that was read may die: that is not the version
    while True:
        sleep(min(LOOK_S, state.settle_s / 3))
        sight = look(state)
        can |= {deed for deed in sight.done if deed.startswith((READS, ACCEPTS))}
        missing = frozenset(_wanted(state, sight)) - sight.done - can
        if not missing and sight.life == life:
            if now_s() - well_since_s >= state.settle_s:
                return state
            continue
        # One that dies soon after each start is well in a new life each time.
        life, well_since_s = ("" if missing else sight.life), now_s()
        elapsed_s, counted_s = now_s() - counted_s, now_s()
        if is_dpkg_running() or (RUNS in missing and is_stopped_by_hand()):
            continue  # yet another version comes; or nothing, until somebody starts it
        if _is_outside(broker, sight, missing):
            state = replace(state, outside_s=state.outside_s + elapsed_s)
            if state.outside_s >= state.outside_limit_s:
                say("others are in the way for too long: it stays", missing=sorted(missing))
                return state
        else:
            state = replace(state, waited_s=state.waited_s + elapsed_s)
            if state.waited_s >= state.trial_s + (0.0 if missing else state.settle_s):
                say("the new version is not well in time", missing=sorted(missing))
                return replace(state, missing=sorted(missing or {RUNS}), run=sight.life)
        if not state.is_noted(noted):
            noted = state
            write_state(state)


def look(state: State) -> Sight:
    """Ask the gateway; the life that was before the last change of versions is not meant."""
    try:
        status = ask_status(Path(state.socket))
        life = str(status["gateway"]["run"])
        if life == state.run:
            return Sight()
        nobody_listens = bool(status["uplink"]["nobody_subscribes"])
        return Sight(life, deeds(status), nobody_listens, status["gateway"]["applied"])
    except (OSError, ValueError, LookupError, TypeError):
        return Sight()


def _wanted(state: State, sight: Sight) -> list[str]:
    """Return what the new version must do: only run, where it was given another configuration."""
    is_edited = sha256_of_configuration(Path(state.config)) != state.configuration
    if is_edited or sight.applied not in (None, state.applied):
        return [RUNS]
    return state.wanted


def _is_outside(broker: Broker, sight: Sight, missing: frozenset[str]) -> bool:
    """Tell whether what is missing is certainly others' fault."""
    if not missing or not missing <= {CONNECTS, DELIVERS}:
        return False
    if CONNECTS in missing:
        return not broker.is_there()
    return sight.nobody_listens


def does_more(state: State, now_s: Clock = time.monotonic, sleep: Sleep = time.sleep) -> bool:
    """Tell whether the old version, which is back, does anything of what the new one did not."""
    until_s = now_s() + state.trial_s
    life, since_s = "", now_s()
    while life or now_s() < until_s:
        sleep(min(LOOK_S, state.settle_s / 3))
        sight = look(state)
        does = sight.life if sight.done & frozenset(state.missing) else ""
        if does and does == life and now_s() - since_s >= state.settle_s:
            return True
        if does != life:
            life, since_s = (does if now_s() < until_s else ""), now_s()
    return False


def go_back(state: State) -> int:
    """Install the kept package, for as long as it takes; see whether that was right."""
    if installed()[0] in REMOVED and not state.goes_back:  # by somebody, meanwhile
        return disarm("removed", state)
    if not Path(state.python).exists():  # an upgrade of the distribution took it away
        return disarm("cannot go back", state)
    if sha256(Path(state.kept)) != state.sha256:
        return disarm("cannot go back", state)
    if not state.goes_back:
        if state.missing:  # else dpkg was interrupted: nobody has seen what that version does
            _refuse(installed()[1])
        state = replace(state, goes_back=True)
        write_state(state)
    while installed() != ("i", state.old):
        dpkg("--force-confold", "--force-downgrade", "--install", state.kept)
        if installed() != ("i", state.old):
            time.sleep(LOOK_S)
            dpkg("--force-confold", "--configure", "-a")
    notify_ready()
    systemctl("daemon-reload")
    systemctl("--no-block", "restart", SERVICE)
    if state.missing and not does_more(state):
        say("the old version does no more: the new one is not refused", missing=state.missing)
        take_away(REFUSED)
    return disarm("rolled back", state)


def _refuse(version: str) -> None:
    """Keep apt from installing that version again; a newer one is welcome."""
    text = f"Explanation: was not well, so the one before came back\nPackage: {PACKAGE}\n"
    text += f"Pin: version {version}\nPin-Priority: -1\n"
    if version and REFUSED.parent.is_dir():
        put(REFUSED, text.encode(), mode=0o644)


def disarm(outcome: str, state: State) -> int:
    """Note how it ended, and take the gate away; the kept package stays."""
    notify_ready()
    told: dict[str, object] = {
        "outcome": outcome,
        "installed": installed()[1],
        "old": state.old,
        "kept": state.kept,
        "missing": state.missing,
        "refused": REFUSED.exists(),
    }
    say("decided", **told)
    with suppress(OSError):
        put(OUTCOME, json.dumps(told | {"time": time.time()}).encode() + b"\n")
    if outcome == "kept":
        take_away(REFUSED)
    take_away(STATE)
    _take_units_away()
    return 0


def _take_units_away() -> None:
    """Last, and at the next boot where the power went before."""
    take_away(WANTED, UNITS / UNIT)
    systemctl("--no-block", "daemon-reload")
