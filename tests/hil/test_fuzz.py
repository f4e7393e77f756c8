"""Every decoder takes a tenth of `make fuzz`; a decoder with a planted defect is found out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import drivers
from drivers.base import Crossing, Observation, Reading
from drivers.maxbotix import MaxBotix
from hil import emulation
from hil.fuzz import FULL_BYTES, FuzzError, fuzz, fuzzable
from hil.rig import Rig


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzable())
def test_whatever_comes_in_nothing_wrong_comes_out(name: str) -> None:
    done = fuzz(name, amount=FULL_BYTES // 10)
    assert done.frame_errors > 0, "noise that is no error was not looked at"


class Planted(MaxBotix):
    """A decoder with the defect of a subclass."""


class ForgetsTheUnit(Planted):
    def _readings(self, distance: int, at_boot_ns: int) -> list[Reading]:
        return [Reading("distance_cm", float(distance), at_boot_ns)]


class Raises(Planted):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        chunk.decode("ascii")
        return super().feed(chunk, at_boot_ns)


class Remembers(Planted):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        self.all = [*getattr(self, "all", []), b"x" * 300_000]
        return super().feed(chunk, at_boot_ns)


class GivesUp(Planted):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        if self.frame_errors > 3:
            return []
        return super().feed(chunk, at_boot_ns)


class TellsOfPeople(Planted):
    def feed(self, chunk: bytes, at_boot_ns: int) -> Sequence[Observation]:
        return [*super().feed(chunk, at_boot_ns), Crossing("towards", at_boot_ns)]


@pytest.mark.parametrize(
    ("defect", "finding"),
    [
        (ForgetsTheUnit, "outside the 30 to 999.8"),
        (Raises, "UnicodeDecodeError"),
        (Remembers, "memory grew"),
        (GivesUp, "not understood any more"),
        (TellsOfPeople, "snow is not people, and it reported Crossing"),
    ],
)
def test_a_planted_defect_is_found(
    defect: type[Planted], finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Any = drivers.load
    monkeypatch.setattr(
        drivers, "load", lambda name: defect if name == "maxbotix-hrxl" else load(name)
    )
    with pytest.raises(FuzzError, match=finding):
        fuzz("maxbotix-hrxl", amount=200_000)


@pytest.mark.parametrize("name", emulation.emulated())
def test_a_rig_hears_its_device_and_nothing_fails(name: str) -> None:
    rig = Rig(name)
    seen = rig.run(60.0)
    assert seen, "not even a sign of life"
    assert rig.failures == 0
