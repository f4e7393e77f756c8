"""Play a scenario and judge it: what the command line, the tests and the bench's tools share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .book import Book
from .judge import Ran, Verdict, judge
from .load import Loaded
from .process import ProcessStage, new_folder
from .report import page


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run and what came of it."""

    loaded: Loaded
    verdicts: Sequence[Verdict]
    ran: Ran
    notes: Sequence[str]
    page: str | None  # the report, where one was wanted

    @property
    def holds(self) -> bool:
        """Whether every expectation holds."""
        return all(verdict.holds for verdict in self.verdicts)

    def verdict(self, what: str) -> Verdict:
        """Return the verdict whose name begins so. Raises StopIteration."""
        return next(each for each in self.verdicts if each.what.startswith(what))


def run(
    loaded: Loaded,
    *,
    speed: float | None = None,
    with_page: bool = False,
    progress: Callable[[float], None] = lambda _now_s: None,
    look: Callable[[Book], None] = lambda _book: None,
) -> Outcome:
    """Play it in this process. Raises BrokerError where there is no Mosquitto."""
    speed = loaded.scenario.speed if speed is None else speed
    with new_folder() as folder, ProcessStage(loaded, Path(folder)) as stage:
        stage.play(speed=speed, progress=progress)
        ran = Ran(
            stage.report(),
            stage.played_s,
            stage.took_s,
            stage.cpu_s,
            stage.settled_s,
            stage.lives,
            speed is not None,
        )
        verdicts = judge(loaded.scenario.expect, ran, stage.book, loaded.truths())
        look(stage.book)
        told = page(loaded, verdicts, ran, stage.book) if with_page else None
        return Outcome(loaded, verdicts, ran, tuple(stage.book.notes), told)
