"""How a configuration would name what a scan has found."""

from __future__ import annotations

import drivers

from .scan import Candidate, Place, parsed
from .toml import toml_value


def proposal(place: Place, candidate: Candidate, taken: set[str]) -> str:
    """Return the lines of a configuration for `candidate`; its id joins those `taken`."""
    model = drivers.load(candidate.driver)
    name = _free(model.spec.kind, taken)
    bus = place.bus
    lines = []
    if candidate.baud is not None:
        bus = _free("serial", taken)
        lines += ["[[buses]]", f'id = "{bus}"', 'kind = "serial"', f'port = "{place.bus}"']
        lines += [f"baud = {candidate.baud}", ""]
    lines += ["[[sensors]]", f'id = "{name}"', f'driver = "{candidate.driver}"', f'bus = "{bus}"']
    if candidate.options:
        inside = ", ".join(
            f"{key} = {toml_value(key, value)}" for key, value in candidate.options.items()
        )
        lines.append(f"options = {{ {inside} }}")
    options = parsed(model, candidate.options)
    lines += (
        [f"# still needed in options: {what}" for what in options.missing_to_measure()]
        if (options is not None)
        else []
    )
    return "\n".join(lines) + "\n"


def _free(stem: str, taken: set[str]) -> str:
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    taken.add(f"{stem}-{number}")
    return f"{stem}-{number}"
