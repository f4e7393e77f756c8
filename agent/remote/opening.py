"""Puts the desk together for a gateway that allows commands; loaded only by such a one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agent.answers import Answers
from agent.lastgood import file_for, spool_path
from agent.plan import Plan

from .applying import Applying
from .desk import Desk, Surroundings
from .done import Done
from .verbs import Gateway, Verbs


def open_desk(
    plan: Plan,
    around: Surroundings,
    *,
    answers: Answers,
    answering: threading.Lock,
    maintain: Callable[[str, float], None],
    reload: Callable[[], None],
    apply: Applying | None,
) -> Desk:
    """Return the desk of one life; `apply` takes configurations to be tried."""
    loaded = plan.loaded
    commands = loaded.config.commands
    verbs = Verbs(
        Gateway(
            loaded.path,
            loaded.config_id,
            loaded.document,
            frozenset(sensor.table.id for sensor in plan.sensors),
            answers,
            answering,
            maintain,
            reload,
        )
    )
    signers = commands.allowed_signers
    return Desk(
        around,
        verbs.by_name(),
        allowed=frozenset(commands.allow),
        allowed_signers=None if signers is None else lambda: loaded.file(signers),
        done=Done(file_for(loaded.path, spool_path(plan)).parent),
        stop=verbs.stop,
        apply=apply,
    )
