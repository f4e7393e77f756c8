"""After an upgrade, the copy of the gate watches until the new version stays or the old is back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .keep import UNIT, UNITS, WANTED
from .machine import (
    ANSWERS,
    LEVELS,
    PACKAGE,
    SERVICE,
    SILENT,
    ask_status,
    dpkg,
    installed,
    is_dpkg_running,
    is_stopped_by_hand,
    level,
    notify_ready,
    say,
    systemctl,
    takes_connections,
)
from .state import OUTCOME, STATE, State, put, read_state, sha256, take_away, write_state

LOOK_S = 5.0
REMOVED = ("c", "n", "")  # what dpkg says of a package that is not there
REFUSED = Path("/etc/apt/preferences.d/yukimi-refused.pref")


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
    say("on trial", version=version, old=state.old, wanted=LEVELS[state.wanted])
    return disarm("kept", state) if is_well(state) else go_back(state)


def is_well(
    state: State,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Watch the new version; True once it is well, False once its time is up."""
    noted_s, last_s = state.waited_s, now_s()
    life, well_since_s = "", last_s
    while True:
        sleep(min(LOOK_S, state.settle_s / 3))
        elapsed_s, last_s = now_s() - last_s, now_s()
        reached, seen = look(state)
        if reached >= state.wanted and seen == life:
            if last_s - well_since_s >= state.settle_s:
                return True
            continue
        # One that dies soon after each start is well in a new life each time.
        life, well_since_s = (seen if reached >= state.wanted else ""), last_s
        if life == "" and _says_nothing(state, reached):
            continue
        state = replace(state, waited_s=state.waited_s + elapsed_s)
        if state.waited_s >= state.trial_s:
            say("the new version is not well in time", it=LEVELS[reached], old=LEVELS[state.wanted])
            return False
        if state.waited_s - noted_s >= state.note_s:
            noted_s = state.waited_s
            write_state(state)


def look(state: State) -> tuple[int, str]:
    """Return what the new version does, and in which life."""
    try:
        status = ask_status(Path(state.socket))
        life = str(status["gateway"]["run"])
        return (SILENT if life == state.run else level(status)), life
    except (OSError, ValueError, LookupError, TypeError):
        return SILENT, ""


def _says_nothing(state: State, reached: int) -> bool:
    """Whether what is missing is no fault of the version."""
    if is_dpkg_running():
        return True  # yet another version comes
    if reached >= ANSWERS:
        return not takes_connections(state.broker)
    return is_stopped_by_hand()


def go_back(state: State) -> int:
    """Install the kept package, for as long as it takes."""
    if installed()[0] in REMOVED and not state.goes_back:  # by somebody, meanwhile
        return disarm("removed", state)
    if not Path(state.python).exists():  # an upgrade of the distribution took it away
        return disarm("cannot go back", state)
    if sha256(Path(state.kept)) != state.sha256:
        return disarm("cannot go back", state)
    if not state.goes_back:
        _refuse(installed()[1])
        state = replace(state, goes_back=True)
        write_state(state)
    while installed() != ("i", state.old):
        dpkg("--force-confold", "--force-downgrade", "--install", state.kept)
        if installed() != ("i", state.old):
            time.sleep(LOOK_S)
            dpkg("--force-confold", "--configure", "-a")
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
    if outcome == "rolled back":
        systemctl("daemon-reload")
        systemctl("--no-block", "restart", SERVICE)
    told = {"outcome": outcome, "installed": installed()[1], "old": state.old, "kept": state.kept}
    say("decided", **told)
    with suppress(OSError):
        put(OUTCOME, json.dumps(told | {"time": time.time()}).encode() + b"\n")
    if outcome == "kept":
        take_away(REFUSED)
    for file in (STATE, WANTED, UNITS / UNIT):  # without the first, the others do nothing
        take_away(file)
    systemctl("--no-block", "daemon-reload")
    return 0
