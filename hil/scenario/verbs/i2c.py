"""What breaks on an I2C bus."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...faults.ongoing import Heal
from ..stage import Stage
from .base import Acts, Fault


class _OnTheBus(Fault):
    acts: ClassVar[Acts] = "i2c"


class I2cNack(_OnTheBus):
    """Let nobody answer at the sensor's address."""

    verb: Literal["i2c_nack"]

    def _begin(self, stage: Stage) -> Heal:
        heal: Heal = stage.bus(self.sensor).nack(stage.address(self.sensor))
        return heal


class I2cLoose(_OnTheBus):
    """Let a share of all transfers on the bus be refused, as a loose wire does."""

    verb: Literal["i2c_loose"]
    share: float = Field(gt=0, le=1)

    def _begin(self, stage: Stage) -> Heal:
        heal: Heal = stage.bus(self.sensor).refuse(self.share)
        return heal


class I2cStuck(_OnTheBus):
    """Hold SDA low: nobody on the bus can talk, until so many clocks free it (0: never)."""

    verb: Literal["i2c_stuck"]
    freed_by_clocks: int = Field(default=0, ge=0, le=9)

    def _begin(self, stage: Stage) -> Heal:
        heal: Heal = stage.bus(self.sensor).stick(self.freed_by_clocks or None)
        return heal


class I2cTimeout(_OnTheBus):
    """Let the device stretch the clock until the adapter gives up; its neighbours go on."""

    verb: Literal["i2c_timeout"]

    def _begin(self, stage: Stage) -> Heal:
        heal: Heal = stage.bus(self.sensor).stretch(stage.address(self.sensor))
        return heal


class I2cWrongPec(_OnTheBus):
    """Let the last byte of each answer be wrong: the packet error code, where there is one."""

    verb: Literal["i2c_wrong_pec"]

    def _begin(self, stage: Stage) -> Heal:
        heal: Heal = stage.bus(self.sensor).spoil_pec(stage.address(self.sensor))
        return heal


class I2cBlank(_OnTheBus):
    """Let the device acknowledge and drive nothing: every bit reads 1."""

    verb: Literal["i2c_blank"]

    def _begin(self, stage: Stage) -> Heal:
        heal: Heal = stage.bus(self.sensor).blank(stage.address(self.sensor))
        return heal


class I2cClash(_OnTheBus):
    """Let a second device of the same model, with a truth of its own, answer at the address."""

    verb: Literal["i2c_clash"]

    def _begin(self, stage: Stage) -> Heal:
        address, other = stage.address(self.sensor), stage.twin(self.sensor)
        heal: Heal = stage.bus(self.sensor).clash(address, other)
        return heal


FAULTS: tuple[type[Fault], ...] = (
    I2cNack,
    I2cLoose,
    I2cStuck,
    I2cTimeout,
    I2cWrongPec,
    I2cBlank,
    I2cClash,
)
