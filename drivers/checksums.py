"""The checksums devices send, each with its catalogue check value over b"123456789".

Names and parameters: "Catalogue of parametrised CRC algorithms" (reveng).
"""

from __future__ import annotations


def _reflected_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ polynomial if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC16_CCITT_REFLECTED = _reflected_table(0x8408)
_CRC8_MAXIM_REFLECTED = _reflected_table(0x8C)


def crc16_mcrf4xx(message: bytes) -> int:
    """CRC-16/MCRF4XX, as Lufft's UMB protocol uses it; check value 0x6F91."""
    crc = 0xFFFF
    for byte in message:
        crc = (crc >> 8) ^ _CRC16_CCITT_REFLECTED[(crc ^ byte) & 0xFF]
    return crc


def crc8_maxim(message: bytes) -> int:
    """CRC-8/MAXIM-DOW, as 1-Wire devices use it; check value 0xA1."""
    crc = 0
    for byte in message:
        crc = _CRC8_MAXIM_REFLECTED[crc ^ byte]
    return crc
