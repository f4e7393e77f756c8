"""What a verb is: something that can be broken, when, for how long, and what undoes it.

A verb is a model: its fields are its parameters, with units in their names. It acts on a stage,
which says what there is; where the same verb can act on several stages it has one name.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from config.model import Table
from config.text import Text

from ...faults.ongoing import Heal
from ..spans import Span
from ..stage import Stage

StageName = Literal["process", "vpi"]
# What is broken; of the first three `target` names a sensor, whose wires they are.
Acts = Literal["serial", "i2c", "gpio", "network", "broker", "disk", "clock", "power", "machine"]
OF_A_SENSOR: frozenset[Acts] = frozenset(("serial", "i2c", "gpio"))

WHEN = Text(
    "needs `at`, or `every` for a fault that comes again and again",
    "at か、繰り返す場合は every が必要です",
)
ENDLESS = Text(
    "`for` must be given, and shorter than `every`: it would still be there when it comes again",
    "every を使う場合は、それより短い for が必要です",
)


class Fault(Table):
    """The base of every verb's table in a scenario: `[[faults]]`."""

    acts: ClassVar[Acts]
    stages: ClassVar[tuple[StageName, ...]] = ("process", "vpi")
    is_moment: ClassVar[bool] = False  # it happens, and is over: `for` means nothing

    verb: str
    target: str | None = None  # a sensor, whose wire it is; others have none
    at: Span | None = None  # since the start
    for_: Span = Field(default=0.0, alias="for")  # 0: for good
    every: Span | None = None  # again and again, from `at` on
    jitter: Span = 0.0  # each time later by up to this much, from the seed
    until: Span | None = None  # with `every`

    @model_validator(mode="after")
    def _when(self) -> Fault:
        if self.at is None and self.every is None:
            raise ValueError(WHEN)
        is_longer = self.for_ >= (self.every or math.inf) or not (self.for_ or self.is_moment)
        if self.every is not None and is_longer:
            raise ValueError(ENDLESS)
        return self

    @property
    def sensor(self) -> str:
        """The sensor whose wires it is on."""
        return self.target or ""

    def begin(self, stage: Stage) -> Heal:
        """Break it; return what undoes it."""
        return self._begin(stage)

    @abstractmethod
    def _begin(self, stage: Stage) -> Heal:
        """Do it to the stage."""

    def parameters(self) -> dict[str, object]:
        """Return what it was given beyond when and where."""
        common = set(Fault.model_fields)
        return {name: getattr(self, name) for name in type(self).model_fields if name not in common}


def nothing() -> None:
    """Heal what is over by itself."""
