from __future__ import annotations

from drivers.checksums import crc16_mcrf4xx


def test_crc16_mcrf4xx_gives_the_catalogues_check_value() -> None:
    assert crc16_mcrf4xx(b"123456789") == 0x6F91


def test_crc16_mcrf4xx_of_nothing_is_its_initial_value() -> None:
    assert crc16_mcrf4xx(b"") == 0xFFFF
