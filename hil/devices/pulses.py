"""A people counter with pulse outputs, from its own side: relay contacts that close for a moment.

Each seed is one crowd, whatever the steps in which it is watched. The contacts bounce at both
ends of a pulse, the cable picks up spikes, and what really happened is kept for comparison.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..emulation import PERSONS_PER_MINUTE, Emulation

PULSE_S = (0.06, 0.15)
REST_MIN_S = 0.1  # between two pulses: the counter makes them wait for each other
_BOUNCE_GAP_S = (0.0002, 0.002)
_BOUNCES_MAX = 4
_SPIKE_S = (0.001, 0.008)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One person, as the counter told it."""

    way: str
    end_s: float  # when the contact first opened again


class PulsingCounter:
    """A PinActor: the outputs of a counter; `pins` says which way each pin stands for.

    `persons_per_minute` pass on average, in ways chosen at random; in `spike_share` of the pauses
    between them a spike comes in on the cable. `pulses` holds the truth about everybody whose
    last edge has been given out.
    """

    def __init__(
        self,
        seed: int,
        persons_per_minute: float,
        pins: Mapping[int, str],
        *,
        active_level: int = 0,
        spike_share: float = 0.2,
    ) -> None:
        self.pulses: list[Pulse] = []
        self._random = random.Random(seed)
        self._spacing_s = 60.0 / persons_per_minute
        self._pins = dict(pins)
        self._active_level = active_level
        self._spike_share = spike_share
        self._stuck: dict[int, bool] = {}  # pin -> whether that has been shown
        self._changes = self._pass()
        self._next = next(self._changes)

    def stick(self, pin: int) -> None:
        """Hold an output active from now on, whoever passes."""
        self._stuck.setdefault(pin, False)

    def release(self) -> None:
        """Let go of what sticks; it opens with the end of the next pulse at the latest."""
        self._stuck.clear()

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        """Return the (pin, electrical level) changes due by `now_s`, in order, each once."""
        due = []
        for pin, is_shown in self._stuck.items():
            if not is_shown:
                self._stuck[pin] = True
                due.append((pin, self._active_level))
        while self._next[0] <= now_s:
            _, pin, level = self._next
            if pin not in self._stuck:
                due.append((pin, level))
            # The generator writes a pulse down when it is asked for what comes after it.
            self._next = next(self._changes)
        return due

    def _pass(self) -> Iterator[tuple[float, int, int]]:
        for pin in self._pins:
            yield 0.0, pin, 1 - self._active_level
        end_s = 0.0
        while True:
            start_s = end_s + self._pause_s()
            if self._random.random() < self._spike_share:
                yield from self._spike(end_s, start_s)
            pin = self._random.choice(sorted(self._pins))
            yield from self._edge(start_s, pin, self._active_level)
            end_s = start_s + self._random.uniform(*PULSE_S)
            yield from self._edge(end_s, pin, 1 - self._active_level)
            self.pulses.append(Pulse(self._pins[pin], end_s))

    def _pause_s(self) -> float:
        mean_s = self._spacing_s - sum(PULSE_S) / 2 - REST_MIN_S
        return REST_MIN_S + (self._random.expovariate(1 / mean_s) if mean_s > 0 else 0.0)

    def _spike(self, after_s: float, before_s: float) -> Iterator[tuple[float, int, int]]:
        """Disturb some pin, well away from the pulses around."""
        at_s = self._random.uniform(after_s + 0.04, before_s - 0.04)
        pin = self._random.choice(sorted(self._pins))
        yield at_s, pin, self._active_level
        yield at_s + self._random.uniform(*_SPIKE_S), pin, 1 - self._active_level

    def _edge(self, at_s: float, pin: int, level: int) -> Iterator[tuple[float, int, int]]:
        yield at_s, pin, level
        for _ in range(self._random.randint(0, _BOUNCES_MAX)):
            for bounced in (1 - level, level):
                at_s += self._random.uniform(*_BOUNCE_GAP_S)
                yield at_s, pin, bounced


def _build(options: Any, seed: int) -> PulsingCounter:
    outputs = {options.pin: "total", options.pin_towards: "towards", options.pin_away: "away"}
    return PulsingCounter(
        seed,
        PERSONS_PER_MINUTE,
        {pin: way for pin, way in outputs.items() if pin is not None},
        active_level=0 if options.active == "low" else 1,
    )


EMULATION = Emulation(_build, options={"pin_towards": 5, "pin_away": 6})
