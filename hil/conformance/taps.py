"""What the battery puts between a driver and its bus: it listens, and it breaks things.

A tap passes everything on until it is told otherwise. It can fail one transaction, flip one bit of
what the device says, or replace answers altogether. A freezer sits on a device and lets it repeat
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drivers.base import BusError
from hil.buses import SerialDevice

LATE_S = 0.03  # a frozen device takes this long to answer

Tamper = Callable[[bytes], bytes]


class Tap:
    """Counts what crosses it; the base of one tap for each kind of bus."""

    def __init__(self) -> None:
        self.transactions = 0
        self.fail_at: int | None = None  # the number of the transaction that fails
        self.questions: list[bytes] = []  # what was asked since `listen`
        self.failed_questions: list[bytes] = []
        self.answered_bytes = 0  # since `listen`
        self.flip: tuple[int, int] | None = None  # (byte since `listen`, bit) to turn round
        self.tamper: Tamper | None = None
        self.is_frozen = False

    def listen(self) -> None:
        """Begin to count anew."""
        self.questions.clear()
        self.failed_questions.clear()
        self.answered_bytes = 0

    def ask(self, question: bytes) -> None:
        """Count a transaction, and fail it if it is its turn."""
        number, self.transactions = self.transactions, self.transactions + 1
        self.questions.append(question)
        if number == self.fail_at:
            raise BusError("conformance: this transaction fails on purpose")

    def answer(self, said: bytes) -> bytes:
        """Pass on what the device said, damaged as was asked for."""
        first, self.answered_bytes = self.answered_bytes, self.answered_bytes + len(said)
        if self.flip is not None and first <= self.flip[0] < self.answered_bytes:
            damaged = bytearray(said)
            damaged[self.flip[0] - first] ^= 1 << self.flip[1]
            said = bytes(damaged)
        return said if self.tamper is None or not said else self.tamper(said)


class SerialTap(Tap):
    """A SerialPort."""

    def __init__(self, port: Any, now_ns: Callable[[], int]) -> None:
        super().__init__()
        self._port = port
        self._now_ns = now_ns
        self.heard: list[tuple[int, bytes]] | None = None  # (when, what) the host has read

    def read(self, timeout_s: float) -> bytes:
        """Read."""
        self.transactions += 1
        if self.transactions - 1 == self.fail_at:
            raise BusError("conformance: this transaction fails on purpose")
        said = self.answer(self._port.read(timeout_s))
        if said and self.heard is not None:
            self.heard.append((self._now_ns(), said))
        return said

    def write(self, data: bytes) -> None:
        """Write."""
        self.ask(data)
        self._port.write(data)

    def discard_input(self) -> None:
        """Discard."""
        self._port.discard_input()

    def set_baud(self, baud: int) -> None:
        """Set the speed; what is asked at another is another question."""
        self.questions.clear()
        self._port.set_baud(baud)


class PairTap:
    """A SerialPair: a tap on the first port, and the second as it is."""

    def __init__(self, a: SerialTap, b: Any) -> None:
        self.a = a
        self.b = b


class I2cTap(Tap):
    """An I2cBus."""

    def __init__(self, bus: Any) -> None:
        super().__init__()
        self._bus = bus
        self._written: dict[int, bytes] = {}
        self._remembered: dict[tuple[int, bytes, int], bytes] = {}

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Read."""
        key = (address, write or self._written.get(address, b""), length)
        question = bytes((address, *write, length % 256))
        said: bytes = self._tried(question, self._bus.read, address, write, length)
        if self.is_frozen:
            said = self._remembered.get(key, said)
        self._remembered[key] = said
        return self.answer(said)

    def write(self, address: int, data: bytes) -> None:
        """Write."""
        self._written[address] = data
        self._tried(bytes((address, *data)), self._bus.write, address, data)

    def _tried(self, question: bytes, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self.ask(question)
            return act(*arguments)
        except BusError:
            self.failed_questions.append(question)
            raise


class FilesTap(Tap):
    """A Files tree."""

    def __init__(self, files: Any) -> None:
        super().__init__()
        self._files = files
        self._remembered: dict[str, str] = {}

    def read(self, path: str) -> str:
        """Read."""
        try:
            self.ask(path.encode())
            text: str = self._files.read(path)
        except BusError:
            self.failed_questions.append(path.encode())
            raise
        if self.is_frozen:
            text = self._remembered.get(path, text)
        self._remembered[path] = text
        return self.answer(text.encode()).decode("utf-8", "replace")

    def names(self, folder: str) -> list[str]:
        """List."""
        names: list[str] = self._files.names(folder)
        return names


class PinsTap(Tap):
    """A PinBus."""

    def __init__(self, pins: Any) -> None:
        super().__init__()
        self._pins = pins

    def watch(self, pins: Sequence[int], *, pull: Any) -> Any:
        """Watch."""
        self.ask(bytes(pins))
        return self._pins.watch(pins, pull=pull)


class Frozen:
    """A serial device that goes on repeating what it said before `freeze`.

    One that is asked gives the answer that it gave to the same question; one that talks says
    `frame` as often as it would have said something.
    """

    def __init__(self, device: SerialDevice) -> None:
        self._device = device
        self._question = b""
        self._answers: dict[bytes, bytes] = {}
        self._due: list[tuple[float, bytes]] = []
        self._owed_bytes = 0
        self._is_frozen = False
        self._is_known = False
        self._frame = b""
        if hasattr(device, "baud"):
            self.baud = device.baud

    def freeze(self, frame: bytes) -> None:
        """Stop measuring. `frame` is what a talker says from now on; empty if it is no talker."""
        self._is_frozen = True
        self._frame = frame

    def hear(self, data: bytes, now_s: float) -> None:
        """Take a question."""
        self._is_known = data in self._answers
        if self._is_frozen and self._is_known:
            self._due.append((now_s + LATE_S, self._answers[data]))
            return
        self._question = data
        self._answers[data] = b""
        self._device.hear(data, now_s)

    def speak(self, now_s: float) -> bytes:
        """Say what the device says, or said."""
        said = self._device.speak(now_s)
        if not self._is_frozen:
            if self._question:
                self._answers[self._question] += said
            return said
        if said and not self._frame and not self._is_known:
            return said  # to a question that it was never asked: it cannot repeat itself
        if self._frame:
            self._owed_bytes += len(said)
            times, self._owed_bytes = divmod(self._owed_bytes, len(self._frame))
            return self._frame * times
        due = [answer for at_s, answer in self._due if at_s <= now_s]
        self._due = [(at_s, answer) for at_s, answer in self._due if at_s > now_s]
        return b"".join(due)


class Slow:
    """A serial device whose bytes come `bytes_per_s`, and not before `late_s` after their time."""

    def __init__(self, device: SerialDevice, *, bytes_per_s: float, late_s: float = 0.0) -> None:
        self._device = device
        self._bytes_per_s = bytes_per_s
        self.late_s = late_s
        self._waiting: list[tuple[float, bytes]] = []
        self._said_s: float | None = None
        self._owed = 0.0
        if hasattr(device, "baud"):
            self.baud = device.baud

    def hear(self, data: bytes, now_s: float) -> None:
        """Take what the host sent."""
        self._device.hear(data, now_s)

    def speak(self, now_s: float) -> bytes:
        """Say what the line has had time for."""
        self._waiting += (
            [(now_s + self.late_s, said)] if (said := self._device.speak(now_s)) else []
        )
        due = b"".join(said for at_s, said in self._waiting if at_s <= now_s)
        later = [(at_s, said) for at_s, said in self._waiting if at_s > now_s]
        # What a line had no time for while it had nothing to say is not saved up.
        passed_s = 0.0 if self._said_s is None else now_s - self._said_s
        self._said_s = now_s
        self._owed = min(self._owed + passed_s * self._bytes_per_s, len(due))
        count = int(self._owed)
        self._owed -= count
        self._waiting = [(now_s, due[count:]), *later] if due[count:] else later
        return due[:count]


TAPS: Mapping[str, type[I2cTap] | type[FilesTap] | type[PinsTap]] = {
    "i2c": I2cTap,
    "gpio": PinsTap,
    "w1": FilesTap,
    "system": FilesTap,
}
