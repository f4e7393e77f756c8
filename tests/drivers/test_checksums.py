from __future__ import annotations

from drivers.checksums import crc8_maxim, crc16_mcrf4xx


def test_crc16_mcrf4xx_gives_the_catalogues_check_value() -> None:
    assert crc16_mcrf4xx(b"123456789") == 0x6F91


def test_crc16_mcrf4xx_of_nothing_is_its_initial_value() -> None:
    assert crc16_mcrf4xx(b"") == 0xFFFF


def test_crc8_maxim_gives_the_catalogues_check_value_and_that_of_maxims_own_example() -> None:
    assert crc8_maxim(b"123456789") == 0xA1
    assert crc8_maxim(bytes.fromhex("021CB801000000")) == 0xA2
