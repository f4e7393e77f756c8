"""What a running gateway answers by itself: its state, its sensors, its last day.

Others add their own questions to the `Answers` that this returns.
"""

from __future__ import annotations

from collections.abc import Callable

from . import __version__
from .answers import Answers, Arguments, AskError, Document, text_of
from .snapshot import Snapshot
from .words import Words

NO_SUCH_SENSOR = Words(
    "センサー「{name}」はありません。設定されているもの: {known}",
    'no sensor "{name}"; there are: {known}',
)
NAME_SHOWN = 64


class Replies:
    """The answers of one life of the gateway, all given on the control socket's thread."""

    def __init__(self, snapshot: Snapshot, *, boot_s: Callable[[], float]) -> None:
        self._snapshot = snapshot
        self._boot_s = boot_s
        self.answers = Answers()
        self.answers.add("ping", self._ping)
        self.answers.add("status", self._status)
        self.answers.add("sensor", self._sensor)
        self.answers.add("spool", self._spool)

    def _ping(self, _arguments: Arguments) -> Document:
        return {"version": __version__, "asks": self.answers.names}

    def _status(self, _arguments: Arguments) -> Document:
        return self._snapshot.document()

    def _sensor(self, arguments: Arguments) -> Document:
        return {"sensor": self._known(text_of(arguments, "sensor"))}

    def _spool(self, _arguments: Arguments) -> Document:
        return {"spool": self._snapshot.spool(self._boot_s())}

    def _known(self, name: str) -> Document:
        """Return a sensor's part of the snapshot. Raises AskError."""
        document = self._snapshot.sensor(name)
        if document is None:
            known = ", ".join(self._snapshot.sensor_ids)
            raise AskError(
                "no_such_sensor", NO_SUCH_SENSOR.filled(name=name[:NAME_SHOWN], known=known)
            )
        return document
