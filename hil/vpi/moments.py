"""Every moment of something that must survive a power cut, taken in one go.

While it runs, the machine is frozen at each step that a program tells (guest/plant.py) and at
intervals in between: its disk as it is then, with what was flushed and what was only in its cache,
and what the city has heard. Afterwards the machine is put back to one moment after the other, what
was not flushed is lost, or half of it survives in no order, and it boots: as after a cut there.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from .machine import VirtualPi
from .nbd import Moment
from .qmp import MachineError
from .site import Message, Site

PERIOD_S = 2.0  # between steps that are told


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment at which the power may go."""

    step: str  # the one that was about to be taken; "STEP, and 3": the third look after it
    disk: Moment
    heard: Sequence[Message]  # by the city

    @property
    def is_step(self) -> bool:
        """Whether a program told it."""
        return ", and " not in self.step


class Steps:
    """Tells steps from mere repetitions: a trial's clock is written down again and again."""

    def __init__(self) -> None:
        self._all: set[str] = set()
        self._lately: set[str] = set()  # since one was told that never was before

    def is_new(self, step: str) -> bool:
        """Note a step; tell whether it was not taken since the last one that never was before."""
        if step not in self._all:
            self._lately.clear()
        is_new = step not in self._lately
        self._all.add(step)
        self._lately.add(step)
        return is_new


class Recorder:
    """Takes moments from the first step that is told until it is left; a context.

    With `until`, the last one is of the first step whose name begins so.
    """

    def __init__(self, pi: VirtualPi, site: Site, *, until: str | None = None) -> None:
        self._pi = pi
        self._site = site
        self._until = until
        self.cuts: list[Cut] = []
        self.reached = threading.Event()  # that last one
        self._stopping = threading.Event()
        self._failure: MachineError | OSError | None = None
        self._steps = Steps()
        self._thread = threading.Thread(target=self._run, name="moments", daemon=True)

    def __enter__(self) -> Self:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line.connect(str(self._pi.witness_socket))
        self._line.settimeout(PERIOD_S)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._line.close()
        if self._failure is not None:  # all that failed after it failed by it
            raise self._failure

    def _run(self) -> None:
        last, looks, flushes = "", 0, -1
        try:
            while not self._stopping.is_set():
                step = self._next()
                if step is not None:
                    is_new = self._steps.is_new(step)
                    last, looks = step if is_new else "", 0
                    if is_new:
                        self._take(step)
                    if self._until is not None and step.startswith(self._until):
                        self.reached.set()
                        return  # it waits there for its answer until its power goes
                    self._line.sendall(b"\n")
                elif last and flushes != self._pi.disk.flushes:
                    looks += 1
                    self._take(f"{last}, and {looks}")
                flushes = self._pi.disk.flushes
        except (MachineError, OSError) as exc:
            self._failure = exc
            self.reached.set()

    def _next(self) -> str | None:
        """Return the step that is told next; None if none is for a while."""
        said = b""
        with suppress(TimeoutError):
            while not said.endswith(b"\n"):
                some = self._line.recv(4096)
                if not some:
                    raise MachineError("it hung up while its steps were told")
                said += some
        return said.decode().strip() or None

    def _take(self, step: str) -> None:
        with self._pi.frozen():
            heard = self._site.heard_all()
            self.cuts.append(Cut(step, self._pi.disk.moment(), heard))


def return_to(pi: VirtualPi, site: Site, cut: Cut, survives: float) -> None:
    """Take the machine's power, and have it lose what it would have lost there."""
    pi.cut()
    pi.disk.return_to(cut.disk)
    pi.disk.cut(survives)
    site.return_to(cut.heard)


def spread(cuts: Sequence[Cut], count: int | None) -> list[Cut]:
    """Return so many of them, spread over all; all of them without a count."""
    if count is None or count >= len(cuts):
        return list(cuts)
    return [cuts[(2 * number + 1) * len(cuts) // (2 * count)] for number in range(count)]
