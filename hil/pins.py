"""A board whose pins nobody soldered: gpiozero's mock pins, moved by actors.

Everything behind the pin is the real thing: gpiozero's callback, the queue, the clock's
conversion. The actors are played millisecond by millisecond up to the present whenever a driver
looks, and each edge carries the millisecond it belongs to, as the kernel's own time stamp would:
a machine under load looks later, and counts the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Self

from gpiozero.pins.mock import MockFactory, MockPin
from gpiozero.pins.pi import PiPin

from drivers.base import Clock
from drivers.gpio import Edge, GpiozeroPins, PinWatch, Pull, boot_ns

from .ends import PinActor
from .faults.pins import PinFaults

STEP_NS = 1_000_000


class SimulatedPins(PinFaults):
    """A PinBus on which `actors` move the pins. Their time begins at 0 with the first `open`."""

    def __init__(
        self, actors: Sequence[PinActor], *, now_ns: Clock = boot_ns, seed: int = 0
    ) -> None:
        super().__init__(Random(seed))
        self._actors = actors
        self._now_ns = now_ns
        self._factory = _BenchFactory(now_ns)
        self._pins = GpiozeroPins(self._factory, now_ns=now_ns)
        self._begin_ns: int | None = None
        self._played_ns = 0  # since the beginning

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        """Let the actors begin; a bus that is opened again has missed nothing they did."""
        self._pins.open()
        if self._begin_ns is None:
            self._begin_ns = self._now_ns()
        self._play()

    def close(self) -> None:
        """Let go of the pins."""
        self._pins.close()

    def watch(self, pins: Sequence[int], *, pull: Pull) -> PinWatch:
        """Take `pins` as inputs. Raises BusError if one is taken or unknown."""
        self._play()
        return _PlayedWatch(self._pins.watch(pins, pull=pull), self._play)

    def _resting_level(self, pin: int) -> int:
        return int(self._factory.pin(pin).state)

    def _play(self) -> None:
        """Let everything happen that is due by now."""
        if self._begin_ns is None:
            return
        until_ns = self._now_ns() - self._begin_ns
        self._pass_over(until_ns)
        while self._played_ns <= until_ns:
            at_ns, self._played_ns = self._played_ns, self._played_ns + STEP_NS
            changes = [each for actor in self._actors for each in actor.levels(at_ns / 1e9)]
            for when_ns, pin, level in self._as_shown(changes, at_ns, self._played_ns):
                self._factory.drive(pin, level, self._begin_ns + when_ns)
            self._pass_over(until_ns)

    def _pass_over(self, until_ns: int) -> None:
        """Go to the next millisecond in which something moves, where all actors know theirs."""
        if self.is_worn:
            return
        nexts_s = [getattr(actor, "next_s", 0.0) for actor in self._actors]
        soonest_s = min(nexts_s, default=math.inf)
        end_ns = until_ns // STEP_NS * STEP_NS + STEP_NS
        if soonest_s * 1e9 < end_ns:
            end_ns = math.ceil(soonest_s * 1e9 / STEP_NS) * STEP_NS
        self._played_ns = max(self._played_ns, end_ns)


class _PlayedWatch:
    """A PinWatch that brings the actors up to the present before it looks."""

    def __init__(self, watch: PinWatch, play: Callable[[], None]) -> None:
        self._watch = watch
        self._play = play

    def edges(self) -> list[Edge]:
        self._play()
        return self._watch.edges()

    def level(self, pin: int) -> int:
        self._play()
        return self._watch.level(pin)

    def close(self) -> None:
        self._watch.close()


class _BenchFactory(MockFactory):  # type: ignore[misc]
    """Mock pins whose ticks are the bench's clock, and whose edges carry the actors' time."""

    def __init__(self, now_ns: Clock) -> None:
        super().__init__(pin_class=_BenchPin)
        self._now_ns = now_ns

    def ticks(self) -> float:
        return self._now_ns() / 1e9

    def drive(self, number: int, level: int, at_ns: int) -> None:
        pin = self.pin(number)
        pin.stamp_s = at_ns / 1e9
        pin.is_driven = True
        if level:
            pin.drive_high()
        else:
            pin.drive_low()


class _BenchPin(MockPin):  # type: ignore[misc]
    """A mock pin on which an actor's output is stronger than the board's pull resistor."""

    def __init__(self, factory: Any, info: Any) -> None:
        self.stamp_s = 0.0
        self.is_driven = False
        super().__init__(factory, info)

    def _set_pull(self, value: str) -> None:
        level = self._state
        super()._set_pull(value)
        if self.is_driven:
            self._change_state(level)

    def _call_when_changed(self) -> None:
        PiPin._call_when_changed(self, self.stamp_s, self._state)
