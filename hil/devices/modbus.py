"""A Modbus RTU device from its own side: registers, exceptions, and the patience of its kind.

Written from the protocol's description, not from the driver, with a CRC of its own. It knows a
frame by the silence after it, as the protocol wants it, not by its length.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from ..emulation import Complaint, Emulation

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY = 1, 2, 3, 6
PAUSE_S = 0.003  # three and a half characters at 9600 baud are 0.004: what follows is a new frame
DAY_S = 86400.0

Source = Callable[[float], bytes]  # the bytes of one or two registers at a time in seconds


class ModbusDevice:
    """`holding` and `inputs` hold sources by the number of their first register.

    `exception` is what it answers to everything: set it to make it fail in-band.
    """

    def __init__(
        self,
        address: int,
        holding: Mapping[int, Source],
        inputs: Mapping[int, Source] | None = None,
        *,
        name: str | None = None,
        turnaround_s: float = 0.02,
    ) -> None:
        self.address = address
        self.holding = dict(holding)
        self.inputs = dict(inputs or {})
        self.exception = 0
        self.turnaround_s = turnaround_s
        self.questions = 0
        self._name = name
        self._heard = b""
        self._heard_s = -math.inf
        self._answers: list[tuple[float, bytes]] = []

    def hear(self, data: bytes, now_s: float) -> None:
        """Listen to the line, and answer what is asked of this address."""
        if now_s - self._heard_s > PAUSE_S:
            self._heard = b""
        self._heard_s = now_s
        self._heard = (self._heard + data)[-256:]
        frame = self._heard
        if len(frame) < 4 or _crc(frame[:-2]) != frame[-2:]:
            return
        self._heard = b""
        if frame[0] != self.address:
            return
        self.questions += 1
        self._answers.append((now_s + self.turnaround_s, self._answer(frame[1:-2], now_s)))

    def speak(self, now_s: float) -> bytes:
        """Return the answers whose time has come."""
        due = [answer for at_s, answer in self._answers if at_s <= now_s]
        self._answers = [(at_s, answer) for at_s, answer in self._answers if at_s > now_s]
        return b"".join(due)

    def _answer(self, asked: bytes, now_s: float) -> bytes:
        answer = self._said(asked, now_s)
        if isinstance(answer, int):
            answer = bytes((asked[0] | 0x80, answer))
        frame = bytes((self.address,)) + answer
        return frame + _crc(frame)

    def _said(self, asked: bytes, now_s: float) -> bytes | int:
        if self.exception:
            return self.exception
        match asked[0]:
            case 3 | 4 if len(asked) == 5:
                first, count = struct.unpack(">HH", asked[1:])
                if not 1 <= count <= 125:
                    return ILLEGAL_VALUE
                registers = self._registers(self.holding if asked[0] == 3 else self.inputs, now_s)
                try:
                    said = b"".join(registers[at] for at in range(first, first + count))
                except KeyError:
                    return ILLEGAL_ADDRESS
                return bytes((asked[0], 2 * count)) + said
            case 0x2B if self._name is not None and asked[1:4] == b"\x0e\x01\x00":
                texts = [text.encode() for text in (*self._name.split(" ", 1), "1.0")]
                objects = b"".join(bytes((i, len(t))) + t for i, t in enumerate(texts))
                return b"\x2b\x0e\x01\x01\x00\x00" + bytes((len(texts),)) + objects
        return ILLEGAL_FUNCTION

    def _registers(self, sources: Mapping[int, Source], now_s: float) -> dict[int, bytes]:
        registers = {}
        for first, source in sources.items():
            said = source(now_s)
            for index in range(len(said) // 2):
                registers[first + index] = said[2 * index : 2 * index + 2]
        return registers


def _crc(message: bytes) -> bytes:
    """CRC-16/MODBUS bit by bit, as it goes over the line."""
    crc = 0xFFFF
    for byte in message:
        for bit in range(8):
            differs = (crc ^ (byte >> bit)) & 1
            crc >>= 1
            if differs:
                crc ^= 0xA001
    return crc.to_bytes(2, "little")


def packed(type_: str, word_order: str, raw: float) -> bytes:
    """Return one or two registers that hold `raw`, bytes in the order of the letters."""
    letter = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "f32": "f"}[type_]
    plain = struct.pack(">" + letter, raw if type_ == "f32" else round(raw))
    if len(plain) == 2:
        return plain if word_order in ("ABCD", "CDAB") else plain[::-1]
    return bytes(plain["ABCD".index(letter)] for letter in word_order)


def winter_air_c(now_s: float) -> float:
    """Air over a winter's day: 0 degC in the afternoon, -8 before dawn."""
    return -4.0 - 4.0 * math.cos(2 * math.pi * (now_s / DAY_S - 14.0 / 24.0 - 0.5))


def _truth(quantity: str, now_s: float) -> float:
    """Return what anything may measure that a configuration thought of."""
    return winter_air_c(now_s) if quantity.endswith("_c") else 50.0


def _build(options: Any, seed: int) -> ModbusDevice:
    random = Random(seed)

    def source(each: Any) -> Source:
        def said(now_s: float) -> bytes:
            value = _truth(each.quantity, now_s) + random.gauss(0.0, 0.05)
            return packed(each.type, each.word_order, (value - each.offset) / each.scale)

        return said

    tables: dict[int, dict[int, Source]] = {3: {}, 4: {}}
    for each in options.registers:
        tables[each.function][each.register_] = source(each)
    return ModbusDevice(options.address, tables[3], tables[4], name="Yukimi Bench")


def _says_invalid(device: ModbusDevice) -> None:
    device.inputs[0] = lambda _: b"\x7f\xff"
    device.inputs[1] = lambda _: b"\xff\xff"


def _answers(exception: int) -> Callable[[ModbusDevice], object]:
    return lambda device: setattr(device, "exception", exception)


EMULATION = Emulation(
    _build,
    options={
        "address": 7,
        "kind": "weather",
        "registers": [
            {
                "register": 0,
                "function": 4,
                "type": "s16",
                "scale": 0.1,
                "quantity": "air_temperature_c",
                "unit": "Cel",
                "invalid": [0x7FFF],
                "low": -40.0,
                "high": 60.0,
            },
            {
                "register": 1,
                "function": 4,
                "type": "u16",
                "scale": 0.1,
                "quantity": "humidity_percent",
                "unit": "%",
                "invalid": [0xFFFF],
                "low": 0.0,
                "high": 100.0,
            },
        ],
    },
    truth={"air_temperature_c": (-8.5, 0.5), "humidity_percent": (49.0, 51.0)},
    complaints={
        "no value": Complaint(_says_invalid, "weak_signal"),
        "busy": Complaint(_answers(BUSY), "warmup"),
    },
)
