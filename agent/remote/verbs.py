"""What each verb does. What changes anything is signed; that is seen to before it comes here."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import __version__, logs, ownverbs
from agent.answers import Answers, AskError
from agent.redaction import redacted
from config.model import Verb

from .command import RefusedError
from .desk import Do, Document

LONGEST_LOG_S = 3600
LONGEST_WORK_S = 86_400
RESTART_IN_S = 2.0  # the answer leaves first
SLOW_S = 90.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the verbs may use of the gateway."""

    config_file: Path
    config_id: str
    document: Mapping[str, Any]  # the configuration that runs
    sensors: frozenset[str]
    answers: Answers  # of the control socket
    asking: threading.Lock  # held while one of them is given
    maintain: Callable[[str, float], None]
    reload: Callable[[], None]  # begin a new life


class Verbs:
    """The verbs, by name."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._log_ends: threading.Timer | None = None
        self._usual_level = logs.level()

    def by_name(self) -> Mapping[Verb, Do]:
        """Return what does each."""
        return {
            "ping": lambda _arguments, _by: {"version": __version__},
            "status": lambda _arguments, _by: self._ask("status"),
            "doctor": lambda _arguments, _by: self._own("doctor"),
            "report": lambda _arguments, _by: self._own("privacy", "report"),
            "config-get": self._config_get,
            "set-log-level": self._set_log_level,
            "maintenance": self._maintenance,
            "restart": self._restart,
        }

    def stop(self) -> None:
        """Do now what would be done later: nobody is there to do it then."""
        if self._log_ends is not None:
            self._log_ends.cancel()
            logs.set_level(self._usual_level)
            self._log_ends = None

    def _ask(self, name: str) -> Document:
        gateway = self._gateway
        try:
            with gateway.asking:
                answer = gateway.answers.ask(name, {})
        except AskError as exc:
            raise RefusedError("failed", str(exc.text)) from exc
        return answer if isinstance(answer, dict) else {}  # what goes on is not for here

    def _own(self, *verb: str) -> Document:
        found = ownverbs.document(verb, str(self._gateway.config_file), time_s=SLOW_S)
        if isinstance(found, str):
            raise RefusedError("failed", found)
        return found

    def _config_get(self, _arguments: Mapping[str, Any], _by: str | None) -> Document:
        document: Document = redacted(self._gateway.document)
        return {"config": self._gateway.config_id, "document": document}

    def _set_log_level(self, arguments: Mapping[str, Any], _by: str | None) -> Document:
        level = arguments.get("level")
        if level not in logs.LEVELS:
            raise RefusedError("wrong_argument", f"level is one of {', '.join(logs.LEVELS)}")
        for_s = _whole(arguments, "for_s", 1, LONGEST_LOG_S)
        self.stop()
        usual = self._usual_level = logs.level()
        logs.set_level(level)
        self._log_ends = threading.Timer(for_s, logs.set_level, [usual])
        self._log_ends.daemon = True
        self._log_ends.start()
        return {"level": level, "for_s": for_s, "then": usual}

    def _maintenance(self, arguments: Mapping[str, Any], _by: str | None) -> Document:
        sensor = arguments.get("sensor")
        if sensor not in self._gateway.sensors:
            known = ", ".join(sorted(self._gateway.sensors))
            raise RefusedError("wrong_argument", f"sensor is one of {known}"[:400])
        for_s = _whole(arguments, "for_s", 0, LONGEST_WORK_S)
        self._gateway.maintain(sensor, float(for_s))
        return {"sensor": sensor, "for_s": for_s}

    def _restart(self, _arguments: Mapping[str, Any], _by: str | None) -> Document:
        # Under systemd the process ends and is started again; without, a new life begins in it.
        if "NOTIFY_SOCKET" in os.environ:
            what, act = "process", lambda: os.kill(os.getpid(), signal.SIGTERM)
        else:
            what, act = "life", self._gateway.reload
        soon = threading.Timer(RESTART_IN_S, act)
        soon.daemon = True
        soon.start()
        return {"restarts": what, "in_s": RESTART_IN_S}


def _whole(arguments: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = arguments.get(name)
    if type(value) is not int or not least <= value <= most:
        raise RefusedError("wrong_argument", f"{name} is a whole number from {least} to {most}")
    return value
