"""Play a scenario on the virtual Pi and judge it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..scenario.judge import Verdict
from ..scenario.load import Loaded
from .image import image
from .layers import BuildError
from .stage import REAL_S, VpiStage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    verdicts: Sequence[Verdict]
    notes: Sequence[str]

    @property
    def holds(self) -> bool:
        """Whether every expectation that can be judged there holds."""
        return all(verdict.holds for verdict in self.verdicts)


def play(
    loaded: Loaded,
    *,
    speed: float | None = None,
    progress: Callable[[float], None] = lambda _now_s: None,
) -> Outcome:
    """Play it, `speed` times as fast as it is, by default in some minutes.

    Raises BuildError, NotHereError, MachineError.
    """
    made = image(lambda line: print(line, file=sys.stderr, flush=True))
    real_s = REAL_S if speed is None else loaded.scenario.lasts / speed
    with (
        tempfile.TemporaryDirectory(prefix="yukimi-scenario-") as folder,
        VpiStage(loaded, made, Path(folder), real_s=real_s) as stage,
    ):
        stage.play(progress)
        return Outcome(stage.judge(), tuple(stage.book.notes))


__all__ = ["BuildError", "Outcome", "play"]
