"""What happens on an I2C bus between a host and its devices."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from random import Random

from ..ends import I2cDevice, NackError
from .ongoing import Heal, Ongoing, either


class Clash:
    """Devices at one address: all hear what is written, and a 0 of any wins over a 1."""

    def __init__(self, devices: Sequence[I2cDevice]) -> None:
        self._devices = devices

    def write(self, data: bytes, now_s: float) -> None:
        """Let all take it. Raises NackError if none acknowledges."""
        acknowledged = False
        for device in self._devices:
            with suppress(NackError):
                device.write(data, now_s)
                acknowledged = True
        if not acknowledged:
            raise NackError

    def read(self, length: int, now_s: float) -> bytes:
        """Let all drive the bus at once. Raises NackError if none does."""
        answers = []
        for device in self._devices:
            with suppress(NackError):
                answers.append(device.read(length, now_s))
        if not answers:
            raise NackError
        both = bytearray(b"\xff" * length)
        for answer in answers:
            for at, byte in enumerate(answer):
                both[at] &= byte
        return bytes(both)


class I2cFaults:
    """The faults of one bus; they add up. Those that happen once are counted from the call."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self._stuck = Ongoing[list[int]]()  # the clocks left until it lets go; []: never
        self._transfers = 0
        self._reads = 0
        self._nacked = Ongoing[int]()
        self._refused = Ongoing[float]()
        self._stretched = Ongoing[int]()
        self._blank = Ongoing[int]()
        self._spoiled = Ongoing[int]()
        self._clashing = Ongoing[tuple[int, I2cDevice]]()
        self._nack_at = Ongoing[int]()  # the number of the transfer
        self._flip_at = Ongoing[tuple[int, int]]()  # number of the read, bit

    def nack(self, address: int) -> Heal:
        """Let nobody answer at `address`."""
        return self._nacked.begin(address)

    def nack_once(self, nth: int = 1) -> Heal:
        """Let the `nth` transfer from now on be refused, whoever it is for."""
        return self._nack_at.begin(self._transfers + nth)

    def refuse(self, share: float) -> Heal:
        """Let this share of the transfers be refused, as a loose wire does."""
        return self._refused.begin(share)

    def flip(self, nth: int = 1, *, bit: int = 0) -> Heal:
        """Let the `nth` read from now on have one wrong bit; bit 0 is the first byte's lowest."""
        return self._flip_at.begin((self._reads + nth, bit))

    def stretch(self, address: int) -> Heal:
        """Let the device at `address` hold the clock until the adapter gives up.

        Only transfers to it time out: between them the bus is free.
        """
        return self._stretched.begin(address)

    def blank(self, address: int) -> Heal:
        """Let what is at `address` acknowledge and drive nothing: every bit reads 1."""
        return self._blank.begin(address)

    def spoil_pec(self, address: int) -> Heal:
        """Let the last byte of each answer be wrong: the packet error code, where there is one.

        Of a device without one it is the last byte of a value.
        """
        return self._spoiled.begin(address)

    def clash(self, address: int, other: I2cDevice) -> Heal:
        """Let another device answer at `address` as well, or alone where there is none."""
        return self._clashing.begin((address, other))

    def stick(self, clocks: int | None = None) -> Heal:
        """Hold the bus low, as a device does that was interrupted in the middle of a byte.

        It lets go after so many clocks, 9 at most, or never.
        """
        return self._stuck.begin([] if clocks is None else [clocks])

    def clock(self, times: int) -> None:
        """Pulse SCL from outside."""
        for left in self._stuck:
            left[:] = [each - times for each in left]

    def heal(self) -> None:
        """Undo every fault."""
        self._stuck.heal()
        for kind in (self._nacked, self._stretched, self._blank, self._spoiled, self._nack_at):
            kind.heal()
        self._refused.heal()
        self._clashing.heal()
        self._flip_at.heal()

    # What the bus asks

    def _is_refused(self, address: int) -> bool:
        """Count a transfer; say whether it is refused."""
        self._transfers += 1
        refused = either(self._refused)
        by_chance = bool(refused) and self.dice.random() < refused
        return by_chance or self._transfers in self._nack_at or address in self._nacked

    def _is_held(self, address: int) -> bool:
        is_stuck = any(not left or left[0] > 0 for left in self._stuck)
        return is_stuck or address in self._stretched

    def _answering(self, address: int, own: I2cDevice | None) -> I2cDevice | None:
        """Return who answers at `address`, where `own` is on the bus."""
        others = [other for at, other in self._clashing if at == address]
        everyone = [own, *others] if own is not None else others
        if len(everyone) < 2:
            return next(iter(everyone), None)
        return Clash(everyone)

    def _as_heard(self, address: int, answer: bytes) -> bytes:
        """Count a read; return what the host hears of `answer`."""
        self._reads += 1
        if not answer:
            return answer
        if address in self._blank:
            return b"\xff" * len(answer)
        heard = bytearray(answer)
        for number, bit in self._flip_at:
            if number == self._reads:
                heard[bit // 8 % len(heard)] ^= 1 << bit % 8
        if address in self._spoiled:
            heard[-1] ^= self.dice.randrange(1, 256)
        return bytes(heard)
