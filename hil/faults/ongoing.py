"""Faults that have begun and not healed: any number at once, each until its own end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

What = TypeVar("What")

# Ends one fault, and none of the others; a second call does nothing.
Heal = Callable[[], None]


class Ongoing(Generic[What]):
    """The faults of one kind on one wire, oldest first; another thread may look at them."""

    def __init__(self) -> None:
        self._now: tuple[tuple[object, What], ...] = ()

    def begin(self, what: What) -> Heal:
        """Begin one; return what ends it."""
        key = object()
        self._now = (*self._now, (key, what))

        def heal() -> None:
            self._now = tuple(each for each in self._now if each[0] is not key)

        return heal

    def heal(self) -> None:
        """End all."""
        self._now = ()

    def __iter__(self) -> Iterator[What]:
        return iter([what for _, what in self._now])

    def __bool__(self) -> bool:
        return bool(self._now)


def either(shares: Iterable[float]) -> float:
    """Return the chance that one of several independent chances comes true."""
    spared = 1.0
    for share in shares:
        spared *= 1.0 - share
    return 1.0 - spared


def every(*heals: Heal) -> Heal:
    """Return what ends all of `heals`."""

    def heal() -> None:
        for each in heals:
            each()

    return heal
