"""The verbs as a table for people: what docs/scenarios.md shows of them."""

from __future__ import annotations

from pydantic_core import PydanticUndefined

from .verbs import VERBS
from .verbs.base import Fault

ON = {
    "serial": "a serial sensor's line",
    "i2c": "an I2C sensor's bus",
    "gpio": "a sensor's pins",
    "disk": "the spool's disk",
    "network": "the network",
    "broker": "the broker",
    "clock": "the system clock",
    "power": "the gateway's power",
    "machine": "the gateway's computer",
}


def verb_table() -> str:
    """Return every verb with its parameters, what it does, and where it can act."""
    lines = ["| verb | acts on | parameters | does | `--on` |", "|---|---|---|---|---|"]
    for name, verb in VERBS.items():
        sentence = " ".join((verb.__doc__ or "").split())
        parameters = ", ".join(_parameters(verb)) or "–"
        stages = " ".join(verb.stages)
        lines.append(f"| `{name}` | {ON[verb.acts]} | {parameters} | {sentence} | {stages} |")
    return "\n".join(lines)


def _parameters(verb: type[Fault]) -> list[str]:
    found = []
    for name, field in verb.model_fields.items():
        if name in Fault.model_fields:
            continue
        default = field.default
        shown = "" if default in (PydanticUndefined, None) else f" = {str(default).lower()}"
        found.append(f"`{name}`{shown}")
    return found


if __name__ == "__main__":
    print(verb_table())
