from __future__ import annotations

import pytest

from drivers.checksums import crc8_maxim, crc8_smbus, crc16_mcrf4xx


def test_crc16_mcrf4xx_gives_the_catalogues_check_value() -> None:
    assert crc16_mcrf4xx(b"123456789") == 0x6F91


def test_crc16_mcrf4xx_of_nothing_is_its_initial_value() -> None:
    assert crc16_mcrf4xx(b"") == 0xFFFF


def test_crc8_maxim_gives_the_catalogues_check_value_and_that_of_maxims_own_example() -> None:
    assert crc8_maxim(b"123456789") == 0xA1
    assert crc8_maxim(bytes.fromhex("021CB801000000")) == 0xA2


def test_crc8_smbus_gives_the_catalogues_check_value() -> None:
    assert crc8_smbus(b"123456789") == 0xF4


def test_crc8_smbus_of_nothing_is_its_initial_value() -> None:
    assert crc8_smbus(b"") == 0x00


@pytest.mark.parametrize(
    ("on_the_wire", "pec"),
    [
        # Omron's own initial settings of a D6T-8L-09H, after the write address.
        ("14 02 00 01", 0xEE),
        ("14 05 90 3A", 0xB8),
        ("14 03 00 03", 0x8B),
        ("14 03 00 07", 0x97),
        ("14 02 00 00", 0xE9),
        # Words of an MLX90614: the data sheet's reading, and a write.
        ("B4 07 B5 D2 3A", 0x30),
        ("B4 22 07 C8", 0x48),
    ],
)
def test_crc8_smbus_is_what_the_makers_put_on_the_wire(on_the_wire: str, pec: int) -> None:
    assert crc8_smbus(bytes.fromhex(on_the_wire)) == pec
