"""docs/faults.md names the verbs that there are, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hil.buses import Pty, SerialLine, SimulatedI2c
from hil.faults import machine
from hil.faults.broker import FaultyBroker
from hil.faults.clock import Timeline
from hil.faults.disk import FaultyDisk
from hil.faults.namespace import Namespace
from hil.faults.resolver import Resolver
from hil.pins import SimulatedPins
from hil.relay import Relay

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

OBJECTS: dict[str, tuple[object, ...]] = {
    "Serial lines": (SerialLine, Pty),
    "I2C": (SimulatedI2c,),
    "Pins": (SimulatedPins,),
    "Network": (Relay, Namespace, Resolver),
    "Broker": (FaultyBroker,),
    "Disk": (FaultyDisk,),
    "Machine": (machine, Timeline),
}


def sections() -> dict[str, str]:
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {re.split(r"[:,\n]", part)[0].strip(): part for part in parts}


def test_each_section_is_of_something() -> None:
    assert sections().keys() == OBJECTS.keys()


@pytest.mark.parametrize("name", OBJECTS)
def test_each_verb_of_the_page_exists(name: str) -> None:
    rows = "\n".join(line for line in sections()[name].splitlines() if line.startswith("| "))
    verbs = re.findall(r"`(?:[A-Z]\w+)?\.?([a-z_0-9]+)\(", rows)
    assert verbs
    for verb in verbs:
        assert any(hasattr(each, verb) for each in OBJECTS[name]), verb


@pytest.mark.parametrize("name", OBJECTS)
def test_each_verb_that_exists_is_on_the_page(name: str) -> None:
    of_life = {
        "heal",
        "close",
        "clock",
        "plug",
        "carry",
        "takes_s",
        "open",
        "read",
        "write",
        "watch",
    }
    of_life |= {"resume", "look", "boot_ns", "count", "dataclass", "suppress", "sweep"}
    for each in OBJECTS[name]:
        for verb, what in vars(each).items():
            if callable(what) and verb.islower() and not verb.startswith("_"):
                assert verb in of_life or f"{verb}(" in sections()[name], verb


def test_the_example_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(program, str(PAGE), "exec"), {})
