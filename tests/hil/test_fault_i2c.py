"""Faults of an I2C bus, as a host and as real drivers see them."""

from __future__ import annotations

from random import Random

import pytest

from drivers.base import BusError, Reading
from hil.buses import NackError, SimulatedI2c
from hil.faults.i2c import Clash
from hil.rig import Now, Rig


class Says:
    """An I2C device that answers the same bytes, for ever, or refuses."""

    def __init__(self, answer: bytes, *, refuses: bool = False) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._refuses = refuses

    def write(self, data: bytes, now_s: float) -> None:
        if self._refuses:
            raise NackError
        self.heard.append(data)

    def read(self, length: int, now_s: float) -> bytes:
        if self._refuses:
            raise NackError
        return self._answer[:length]


def wire(**devices: Says) -> SimulatedI2c:
    now = Now(0.0)
    bus = SimulatedI2c({int(name[1:], 16): each for name, each in devices.items()}, now)
    bus.open()
    return bus


def test_a_device_that_holds_the_clock_times_out_and_its_neighbours_do_not() -> None:
    now = Now(0.0)
    bus = SimulatedI2c({0x40: Says(b"\x01"), 0x41: Says(b"\x02")}, now, wait_s=now.advance)
    bus.open()
    heal = bus.stretch(0x40)
    with pytest.raises(BusError, match="0x40: Connection timed out"):
        bus.read(0x40, b"\x00", 1)
    assert now.s >= 0.1  # as long as the adapter waits
    assert bus.read(0x41, b"\x00", 1) == b"\x02"
    heal()
    assert bus.read(0x40, b"\x00", 1) == b"\x01"


def test_two_devices_at_one_address_are_a_wired_and() -> None:
    bus = wire(x40=Says(b"\xf0\x0f"))
    other = Says(b"\x3c\xff")
    heal = bus.clash(0x40, other)
    assert bus.read(0x40, b"\x07", 2) == b"\x30\x0f"
    assert other.heard == [b"\x07"]
    heal()
    assert bus.read(0x40, b"\x07", 2) == b"\xf0\x0f"
    assert other.heard == [b"\x07"]


def test_in_a_clash_one_acknowledgement_is_enough_and_none_is_none() -> None:
    refuses, answers = Says(b"\x00", refuses=True), Says(b"\x5a")
    assert Clash([refuses, answers]).read(1, 0.0) == b"\x5a"
    Clash([refuses, answers]).write(b"\x01", 0.0)
    for act in (lambda each: each.read(1, 0.0), lambda each: each.write(b"\x01", 0.0)):
        with pytest.raises(NackError):
            act(Clash([refuses, refuses]))


def test_a_device_that_drives_nothing_reads_as_ones() -> None:
    bus = wire(x40=Says(b"\x12\x34"))
    heal = bus.blank(0x40)
    assert bus.read(0x40, b"\x00", 2) == b"\xff\xff"
    heal()
    assert bus.read(0x40, b"\x00", 2) == b"\x12\x34"


def test_only_the_last_byte_is_spoilt_and_always() -> None:
    bus = wire(x5a=Says(b"\x12\x34\x56"))
    bus.dice = Random(1)
    heal = bus.spoil_pec(0x5A)
    answers = [bus.read(0x5A, b"\x07", 3) for _ in range(50)]
    assert {answer[:2] for answer in answers} == {b"\x12\x34"}
    assert all(answer[2] != 0x56 for answer in answers)
    heal()
    assert bus.read(0x5A, b"\x07", 3) == b"\x12\x34\x56"


def test_a_share_of_transfers_is_refused_by_the_given_dice() -> None:
    def refused(seed: int) -> list[bool]:
        bus = wire(x40=Says(b"\x01"))
        bus.dice = Random(seed)
        bus.refuse(0.3)
        told = []
        for _ in range(200):
            try:
                bus.read(0x40, b"\x00", 1)
                told.append(False)
            except BusError:
                told.append(True)
        return told

    assert 30 < sum(refused(1)) < 90
    assert refused(1) == refused(1) != refused(2)


def test_faults_on_one_bus_add_up_and_each_heals_by_itself() -> None:
    bus = wire(x40=Says(b"\x00\x00"))
    heal_nack = bus.nack(0x40)
    bus.flip(1, bit=0)
    heal_spoilt = bus.spoil_pec(0x40)
    with pytest.raises(BusError, match="Remote I/O"):
        bus.read(0x40, b"\x00", 2)
    heal_nack()
    answer = bus.read(0x40, b"\x00", 2)
    assert answer[0] == 1
    assert answer[1] != 0
    heal_spoilt()
    assert bus.read(0x40, b"\x00", 2) == b"\x00\x00"


def test_a_bus_that_is_held_twice_is_free_when_both_have_let_go() -> None:
    bus = wire(x40=Says(b"\x00\x00"))
    heal_first, heal_second = bus.stick(), bus.stick()
    heal_second()
    with pytest.raises(BusError):
        bus.read(0x40, b"\x00", 2)
    heal_first()
    assert bus.read(0x40, b"\x00", 2) == b"\x00\x00"


@pytest.mark.parametrize(
    ("driver", "verb", "address"),
    [
        ("mlx90614", "spoil_pec", 0x5A),
        ("mlx90614", "stretch", 0x5A),
        ("mlx90614", "blank", 0x5A),
        ("bme280", "stretch", 0x76),
        ("bme280", "nack", 0x76),
        ("ina219", "stretch", 0x40),
    ],
)
def test_a_driver_measures_before_not_meanwhile_and_again_afterwards(
    driver: str, verb: str, address: int
) -> None:
    rig = Rig(driver)
    bus = rig.wires[0]

    def measured() -> int:
        seen = rig.run(30.0)
        return sum(isinstance(each, Reading) and not each.reasons for each in seen)

    assert measured() > 20
    assert rig.failures == 0  # the control
    heal = getattr(bus, verb)(address)
    assert measured() == 0
    assert rig.failures > 5
    heal()
    rig.run(5.0)
    failures = rig.failures
    assert measured() > 20
    assert rig.failures == failures


def test_a_clash_of_two_thermometers_never_passes_for_one_where_there_is_a_checksum() -> None:
    rig = Rig("mlx90614")
    stranger = Rig("mlx90614", seed=9).device
    stranger.surface_c = lambda _: 30.0
    truth = [each.value for each in rig.run(30.0) if isinstance(each, Reading)]
    heal = rig.wires[0].clash(0x5A, stranger)
    seen = [each.value for each in rig.run(60.0) if isinstance(each, Reading)]
    assert rig.failures > 10
    assert all(min(truth) - 2 < value < max(truth) + 2 for value in seen)
    heal()
    failures = rig.failures
    rig.run(5.0)
    assert [each for each in rig.run(30.0) if isinstance(each, Reading)]
    assert rig.failures <= failures + 1
