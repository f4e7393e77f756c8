"""How a configuration would name what a scan has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import drivers
from drivers.base import Options

from . import kernel
from .scan import Candidate, Place, parsed
from .toml import toml_value


@dataclass(slots=True)
class Proposed:
    """A sensor as a configuration would have it, and the bus where that needs a table."""

    id: str
    driver: str
    bus: str
    options: dict[str, object] = field(default_factory=dict)
    port: str = ""  # of the bus, where it has a table of its own
    baud: int | None = None

    def bus_lines(self) -> list[str]:
        """Return the table of the bus, none where it needs none."""
        if self.baud is None:
            return []
        return [
            *("[[buses]]", f'id = "{self.bus}"', 'kind = "serial"', f'port = "{self.port}"'),
            f"baud = {self.baud}",
        ]

    def head_lines(self) -> list[str]:
        """Return the sensor's table up to its options."""
        return [
            *("[[sensors]]", f'id = "{self.id}"', f'driver = "{self.driver}"'),
            f'bus = "{self.bus}"',
        ]

    def missing(self) -> Sequence[str]:
        """Say what it needs besides, one sentence each: "mount_height_cm: the height of ..."."""
        options = self.parsed()
        return options.missing_to_measure() if options is not None else []

    def parsed(self) -> Options | None:
        """Return the options as the driver takes them, None if it does not."""
        return parsed(drivers.load(self.driver), self.options)


def propose(place: Place, candidate: Candidate, taken: set[str]) -> Proposed:
    """Name `candidate` and its bus; what they are called joins those `taken`."""
    name = free_id(_kind_of(candidate), taken)
    found = Proposed(name, candidate.driver, place.bus, dict(candidate.options))
    if candidate.baud is not None:
        found.bus, found.port = free_id("serial", taken), place.bus
        found.baud = candidate.baud
    return found


def proposal(place: Place, candidate: Candidate, taken: set[str]) -> str:
    """Return the lines of a configuration for `candidate`; its id joins those `taken`."""
    found = propose(place, candidate, taken)
    lines = found.bus_lines()
    lines += [*([""] if lines else []), *found.head_lines()]
    if found.options:
        lines.append(f"options = {inline(found.options)}")
    lines += [f"# still needed in options: {what}" for what in found.missing()]
    return "\n".join(lines) + "\n"


def inline(options: Mapping[str, object]) -> str:
    """Write options in one line."""
    inside = ", ".join(f"{key} = {toml_value(key, value)}" for key, value in options.items())
    return f"{{ {inside} }}"


def _kind_of(candidate: Candidate) -> str:
    """Return the kind of a device: its model's, unless its options choose, as for a bus of many."""
    model: Any = drivers.load(candidate.driver)
    options = parsed(model, candidate.options)
    if options is None:
        return str(model.spec.kind)
    # No driver does anything with its bus before it is opened.
    return str(getattr(model(None, options, kernel.boot_ns), "kind", model.spec.kind))


def free_id(stem: str, taken: set[str]) -> str:
    """Return the first of stem-1, stem-2 ... that is free; it is then taken."""
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    taken.add(f"{stem}-{number}")
    return f"{stem}-{number}"
