"""What happens to the bytes of a serial line between a host and its devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import Literal

from drivers.buses import INPUT_LIMIT_BYTES

from ..ends import SerialDevice
from .ongoing import Heal, Ongoing, either

Side = Literal["host", "devices"]  # who is to hear it


class SerialFaults(ABC):
    """The faults of one line; they add up. The same `dice` damage the same bytes."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.host_baud: int | None = None  # None: nobody minds
        self._garbled = Ongoing[float]()
        self._dropped = Ongoing[float]()
        self._doubled = Ongoing[float]()
        self._delayed = Ongoing[float]()
        self._stalled = Ongoing[bool]()  # whether what comes meanwhile is lost
        self._mistuned = Ongoing[int]()
        self._flooded = Ongoing[float]()
        self._silent = Ongoing[frozenset[int]]()
        self._flooded_until_s: float | None = None
        self._held: dict[Side, bytearray] = {"host": bytearray(), "devices": bytearray()}

    def garble(self, share: float) -> Heal:
        """Turn one bit in this share of the bytes, in either direction."""
        return self._garbled.begin(share)

    def drop(self, share: float) -> Heal:
        """Lose this share of the bytes, in either direction."""
        return self._dropped.begin(share)

    def duplicate(self, share: float) -> Heal:
        """Let the host hear twice this share of what devices say."""
        return self._doubled.begin(share)

    def delay(self, by_s: float) -> Heal:
        """Let the host hear later by this what devices say from now on."""
        return self._delayed.begin(by_s)

    def stall(self, *, lose: bool = False) -> Heal:
        """Hold back every byte in either direction, as an adapter does that hangs.

        Healed, all that was held comes at once; as much as a kernel's buffer takes, the rest is
        lost. With `lose` all of it is.
        """
        return self._stalled.begin(lose)

    def mistune(self, baud: int) -> Heal:
        """Let the devices speak and understand this speed only: to a host at another, garbage."""
        return self._mistuned.begin(baud)

    def flood(self, bytes_per_s: float) -> Heal:
        """Let the host hear so much rubbish, before, after and within what devices say."""
        return self._flooded.begin(bytes_per_s)

    def silence(self, *devices: SerialDevice) -> Heal:
        """Cut the wires of `devices`, or of all; none of them hears or is heard."""
        return self._silent.begin(frozenset(id(each) for each in devices or self._all_devices()))

    def heal(self) -> None:
        """Undo every fault; what a stall held back is heard."""
        for kind in (self._garbled, self._dropped, self._doubled, self._delayed, self._flooded):
            kind.heal()
        self._stalled.heal()
        self._mistuned.heal()
        self._silent.heal()

    @abstractmethod
    def _all_devices(self) -> tuple[SerialDevice, ...]:
        """Return who is on the line."""

    # What the wire asks

    def _is_cut_off(self, device: SerialDevice) -> bool:
        return any(id(device) in each for each in self._silent)

    def _late_s(self) -> float:
        return sum(self._delayed)

    def _times(self) -> int:
        """Return how often the host hears what a device said once."""
        doubled = either(self._doubled)
        return 2 if doubled and self.dice.random() < doubled else 1

    def _at_speed(self, data: bytes, device: SerialDevice) -> bytes:
        """Turn what passes between two who sample at different speeds into garbage.

        A faster listener takes one bit for several, a slower one several for one.
        """
        own = next(reversed(list(self._mistuned)), None) or getattr(device, "baud", None)
        if not data or own is None or self.host_baud == own:
            return data
        if self.host_baud is None and not self._mistuned:
            return data
        ratio = min(4.0, self.host_baud / own) if self.host_baud else 1.0
        return self.dice.randbytes(max(1, round(len(data) * ratio)))

    def _damaged(self, data: bytes) -> bytes:
        if dropped := either(self._dropped):
            data = bytes(byte for byte in data if self.dice.random() >= dropped)
        garbled = either(self._garbled)
        if not garbled:
            return data
        return bytes(
            byte ^ (1 << self.dice.randrange(8)) if self.dice.random() < garbled else byte
            for byte in data
        )

    def _among_rubbish(self, heard: bytes, now_s: float) -> bytes:
        """Return `heard` with the rubbish that came since this was last asked, anywhere in it."""
        rate = sum(self._flooded)
        since_s, self._flooded_until_s = self._flooded_until_s, now_s if rate else None
        if since_s is None or not rate:
            return heard
        length = int((now_s - since_s) * rate)
        self._flooded_until_s = since_s + length / rate  # a slow one comes to a byte as well
        rubbish = self.dice.randbytes(min(length, INPUT_LIMIT_BYTES))
        mixed, taken = bytearray(), 0
        for at, byte in zip(
            sorted(self.dice.randint(0, len(rubbish)) for _ in heard), heard, strict=True
        ):
            mixed += rubbish[taken:at]
            mixed.append(byte)
            taken = at
        return bytes(mixed + rubbish[taken:])

    def _past_stall(self, to: Side, data: bytes) -> bytes:
        """Return what of `data`, and of what was held before, passes now."""
        held = self._held[to]
        if any(self._stalled):
            held.clear()
            return b""
        held += data
        if self._stalled:
            del held[INPUT_LIMIT_BYTES:]
            return b""
        passing = bytes(held)
        held.clear()
        return passing
