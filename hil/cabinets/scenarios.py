"""The cabinets: what is broken in each, and the check that must name it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from .workshop import Workshop

Break = Callable[[Workshop], None]


@dataclass(frozen=True, slots=True)
class Cabinet:
    """One scenario."""

    name: str
    about: str
    cause: str | None  # the check that must be the first to FAIL; None: nothing may
    step: str  # what its next step must say
    breaks: Break
    subject: str = ""  # of that check: sensor, bus; "" where it does not matter
    needs_root: bool = False


CABINETS: dict[str, Cabinet] = {}


def cabinet(
    name: str, cause: str | None, step: str = "", *, subject: str = "", needs_root: bool = False
) -> Callable[[Break], Break]:
    """List a cabinet; what is broken in it is the function's docstring."""

    def add(breaks: Break) -> Break:
        about = (breaks.__doc__ or "").rstrip(".")
        CABINETS[name] = Cabinet(name, about, cause, step, breaks, subject, needs_root)
        return breaks

    return add


def skip_reason(each: Cabinet) -> str | None:
    """Say why a cabinet cannot be built here; None where it can."""
    if each.needs_root and os.geteuid() != 0:
        return "a file system is mounted for it, which needs root"
    return None


from . import machines, networks, running, wires  # noqa: E402, F401  (they list themselves)
