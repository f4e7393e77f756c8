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


# CRC-8/SMBUS: the packet error code (PEC) of SMBus devices.


def _table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc << 1) & 0xFF ^ polynomial if crc & 0x80 else crc << 1
        table.append(crc)
    return tuple(table)


_CRC8_SMBUS = _table(0x07)


def crc8_smbus(message: bytes) -> int:
    """CRC-8/SMBUS, the PEC of MLX90614 and Omron D6T; check value 0xF4.

    It covers the address bytes as they are on the wire (7-bit address * 2, + 1 for reading).
    """
    crc = 0
    for byte in message:
        crc = _CRC8_SMBUS[crc ^ byte]
    return crc
