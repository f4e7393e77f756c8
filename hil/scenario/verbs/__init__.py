"""The vocabulary of what can be broken: one name for each, whatever the stage."""

from __future__ import annotations

from typing import get_args

from . import broker, disk, i2c, machine, network, pins, serial
from .base import Fault

VERBS: dict[str, type[Fault]] = {
    get_args(kind.model_fields["verb"].annotation)[0]: kind
    for module in (serial, i2c, pins, disk, network, broker, machine)
    for kind in module.FAULTS
}
