"""An HLK-LD2450 radar from its own side, at the end of a passage in which people walk.

The passage knows who really crossed, so that a count can be compared with the truth. The radar
follows three people and no more, those nearest to it first; it trembles, loses somebody for a
moment, and leaves ghosts in slots that it does not use. Each seed is one crowd and one radar,
whenever and however often it is asked.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, radians, tan
from typing import Any, Literal, Self

from ..emulation import PERSONS_PER_MINUTE, Emulation

Way = Literal["towards", "away"]

SLOTS = 3
FAR_MM, NEAR_MM = 6000.0, 300.0  # where people come into its field, or leave it
_FIELD = tan(radians(60.0))
_TREMBLE_MM = 30.0
_RESOLUTION_MM = 360
_KEEPS_MM = 400.0  # who is followed is given up only for somebody nearer by this
_BOOT_S = 1.2
_PAUSE_S = 0.05  # until a command is answered
_FREEZING_MM = (120, 2400)  # where a frozen radar sees somebody for ever

_BAUDS = {1: 9600, 2: 19200, 3: 38400, 4: 57600, 5: 115200, 6: 230400, 7: 256000, 8: 460800}
_BLUETOOTH_ADDRESS = bytes.fromhex("c0ffee112233")
_NO_ADDRESS = bytes.fromhex("080504030201")


@dataclass(frozen=True, slots=True)
class Walker:
    """One person on a straight line along the passage; towards is away from the radar."""

    start_s: float  # at the edge of the field
    way: Way
    x_mm: float = 0.0
    drift: float = 0.0  # sideways, as a share of the speed
    speed_mm_s: float = 1300.0
    turns_after_mm: float = inf  # walked; then the person goes back

    def place(self, at_s: float) -> tuple[float, float]:
        """Return where the person is, in mm."""
        walked = max(0.0, at_s - self.start_s) * self.speed_mm_s
        x_mm = self.x_mm + self.drift * walked
        if walked > self.turns_after_mm:
            walked = 2 * self.turns_after_mm - walked
        return x_mm, (NEAR_MM + walked if self.way == "towards" else FAR_MM - walked)

    def passes_s(self, line_mm: float) -> float:
        """Return when the person passes a line for good; infinity if never."""
        way_mm = line_mm - NEAR_MM if self.way == "towards" else FAR_MM - line_mm
        if self.turns_after_mm < inf:
            return inf
        return self.start_s + way_mm / self.speed_mm_s

    def gone_s(self) -> float:
        """Return when the person has left the field."""
        walked = min(FAR_MM - NEAR_MM, 2 * self.turns_after_mm)
        return self.start_s + walked / self.speed_mm_s


class Passageway:
    """The people in the radar's field, one after another in the order in which they start.

    `crossings` is the truth up to the last look: (seconds, way) of each who passed `line_mm`.
    """

    def __init__(self, walkers: Iterable[Walker] = (), *, line_mm: float = 1500.0) -> None:
        self.line_mm = line_mm
        self.crossings: list[tuple[float, Way]] = []
        self._coming = iter(walkers)
        self._next = next(self._coming, None)
        self._present: list[tuple[int, Walker]] = []
        self._count = 0
        self._looked_s = -inf

    @classmethod
    def crowd(cls, seed: int, persons_per_minute: float, *, line_mm: float = 1500.0) -> Self:
        """Return a passage 2 m wide where people come for ever, at random; some turn back."""
        return cls(_crowd(random.Random(seed), persons_per_minute), line_mm=line_mm)

    def look(self, at_s: float) -> dict[int, tuple[float, float]]:
        """Return where everybody in the field is at `at_s`, which never goes back: number -> mm."""
        while self._next is not None and self._next.start_s <= at_s:
            self._present.append((self._count, self._next))
            self._count += 1
            self._next = next(self._coming, None)
        self.crossings += sorted(
            (passes_s, walker.way)
            for _, walker in self._present
            if self._looked_s < (passes_s := walker.passes_s(self.line_mm)) <= at_s
        )
        self._looked_s = at_s
        self._present = [each for each in self._present if each[1].gone_s() > at_s]
        places = {number: walker.place(at_s) for number, walker in self._present}
        return {number: (x, y) for number, (x, y) in places.items() if abs(x) <= _FIELD * y}


def _crowd(dice: random.Random, persons_per_minute: float) -> Iterator[Walker]:
    start_s = 0.0
    while True:
        start_s += dice.expovariate(persons_per_minute / 60)
        turns = dice.random() < 0.05
        yield Walker(
            start_s,
            way=dice.choice(("towards", "away")),
            x_mm=dice.uniform(-800.0, 800.0),
            drift=dice.gauss(0.0, 0.02),
            speed_mm_s=min(max(dice.gauss(1300.0, 200.0), 700.0), 2200.0),
            turns_after_mm=dice.uniform(200.0, 800.0) if turns else inf,
        )


@dataclass(slots=True)
class _Slot:
    person: int | None = None
    lost_until_s: float = -inf  # the echo is too weak for a moment
    residue: tuple[int, int, int, int] = (0, 0, 0, 0)  # x, y, speed, resolution as left behind
    last_mm: float = 0.0


class Ld2450Device:
    """The radar. Powered up when it is first looked at, where its passage begins.

    The shares say how often, per frame, somebody is lost for a moment, and a ghost flickers.
    """

    def __init__(
        self,
        passage: Passageway,
        *,
        baud: int = 256000,
        frames_per_s: float = 10.6,
        bluetooth: bool = True,
        multi: bool = False,
        lost_share: float = 0.01,
        ghost_share: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.passage = passage
        self.baud = baud
        self.bluetooth = bluetooth  # its radio, as it is on the air
        self.multi = multi
        self.is_deaf = False
        self.restarts = 0
        self.configurations = 0
        self._frames_per_s = frames_per_s
        self._bluetooth_wanted = bluetooth
        self._lost_share = lost_share
        self._ghost_share = ghost_share
        self._random = random.Random(seed)
        self._slots = [_Slot() for _ in range(SLOTS)]
        self._begun_s: float | None = None
        self._next_s = 0.0
        self._silent_until_s = -inf
        self._is_configured = False
        self._is_frozen = False
        self._heard = bytearray()
        self._replies: list[tuple[float, bytes]] = []

    def freeze(self) -> None:
        """Say the same from now on, as if somebody stood still for ever, until a restart."""
        self._is_frozen = True

    def go_deaf(self) -> None:
        """Understand no command any more until power is lost; frames go on."""
        self.is_deaf = True
        self._is_configured = False

    def power_cycle(self, now_s: float, *, off_s: float = 0.0) -> None:
        """Lose power for a while."""
        self.is_deaf = False
        self._boot(now_s + off_s)

    def hear(self, data: bytes, now_s: float) -> None:
        """Take commands."""
        self._begin(now_s)
        if self.is_deaf or now_s < self._silent_until_s:
            return
        self._heard += data
        del self._heard[:-200]
        while (begin := self._heard.find(b"\xfd\xfc\xfb\xfa")) >= 0:
            del self._heard[:begin]
            if len(self._heard) < 6:
                return
            end = 6 + self._heard[4] + 256 * self._heard[5]
            if len(self._heard) < end + 4 and end < 80:
                return
            whole = bytes(self._heard[: end + 4])
            if not whole.endswith(b"\x04\x03\x02\x01"):
                del self._heard[:1]
                continue
            del self._heard[: end + 4]
            self._obey(whole[6:-4], now_s)

    def speak(self, now_s: float) -> bytes:
        """Return what it has said by `now_s`: answers, and every frame due."""
        self._begin(now_s)
        said = b""
        while self._next_s <= now_s:
            at_s = self._next_s
            self._next_s += 1 / self._frames_per_s
            slots = self._see(at_s)
            if at_s >= self._silent_until_s and not self._is_configured:
                said += b"\xaa\xff\x03\x00" + slots + b"\x55\xcc"
        due = [reply for at_s, reply in self._replies if at_s <= now_s]
        self._replies = [each for each in self._replies if each[0] > now_s]
        return b"".join(due) + said

    # -- its settings

    def _obey(self, body: bytes, now_s: float) -> None:
        word, value = body[0] + 256 * body[1], body[2:]
        if word != 0xFF and not self._is_configured:
            return
        status, told = 0, b""
        if word == 0xFF:
            self._is_configured = True
            self.configurations += 1
            told = b"\x01\x00\x40\x00"
        elif word == 0xFE:
            self._is_configured = False
        elif word in (0x80, 0x90):
            self.multi = word == 0x90
        elif word == 0x91:
            told = b"\x02\x00" if self.multi else b"\x01\x00"
        elif word == 0xA0:
            told = bytes.fromhex("0000040215191023")  # V2.04.23101915
        elif word == 0xA1:
            self.baud = _BAUDS.get(value[0], self.baud)
        elif word == 0xA4:
            self._bluetooth_wanted = value[:1] == b"\x01"
        elif word == 0xA5:
            told = _BLUETOOTH_ADDRESS if self.bluetooth else _NO_ADDRESS
        elif word != 0xA3:
            status = 1
        answer = bytes((body[0], body[1] | 1, status, 0)) + told
        self._replies.append(
            (
                now_s + _PAUSE_S,
                b"\xfd\xfc\xfb\xfa" + bytes((len(answer), 0)) + answer + b"\x04\x03\x02\x01",
            )
        )
        if word == 0xA3:
            self._boot(now_s + _PAUSE_S)

    def _begin(self, now_s: float) -> None:
        if self._begun_s is None:
            self._begun_s = self._next_s = now_s

    def _boot(self, at_s: float) -> None:
        self.restarts += 1
        self.bluetooth = self._bluetooth_wanted
        self._is_configured = self._is_frozen = False
        self._silent_until_s = at_s + _BOOT_S
        self._heard.clear()
        self._slots = [_Slot() for _ in range(SLOTS)]

    # -- what it sees

    def _see(self, at_s: float) -> bytes:
        """Return the three slots at `at_s`."""
        people = self.passage.look(at_s - (self._begun_s or 0.0))
        self._assign(people)
        # Always the same number of draws, so that one fault does not change the others.
        draw = self._random
        dice = [
            (*(draw.random() for _ in range(3)), *(draw.gauss(0.0, _TREMBLE_MM) for _ in range(2)))
            for _ in self._slots
        ]
        if self._is_frozen:
            return self._raw(*_FREEZING_MM, 0, _RESOLUTION_MM) + bytes(16)
        return b"".join(
            self._slot(slot, people, at_s, *draws)
            for slot, draws in zip(self._slots, dice, strict=True)
        )

    def _assign(self, people: dict[int, tuple[float, float]]) -> None:
        """Give the slots to the nearest people, keeping who has one already."""
        followed = {slot.person for slot in self._slots}
        by_distance = sorted(
            people,
            key=lambda each: people[each][1] - (_KEEPS_MM if each in followed else 0.0),
        )
        chosen = by_distance[: SLOTS if self.multi else 1]
        for slot in self._slots:
            if slot.person is not None and slot.person not in chosen:
                slot.person = None
        present = {slot.person for slot in self._slots}
        for person in chosen:
            if person not in present:
                free = next(slot for slot in self._slots if slot.person is None)
                free.person, free.last_mm, free.lost_until_s = person, people[person][1], -inf

    def _slot(
        self,
        slot: _Slot,
        people: dict[int, tuple[float, float]],
        at_s: float,
        lost: float,
        ghost: float,
        where: float,
        tremble_x_mm: float,
        tremble_y_mm: float,
    ) -> bytes:
        if slot.person is None:
            if ghost < self._ghost_share:  # for one frame, anywhere
                return self._raw(round(3000 * where - 1500), round(500 + 5000 * ghost * 50), 0, 360)
            return self._raw(*slot.residue)
        if lost < self._lost_share:
            slot.lost_until_s = at_s + 0.2 + 0.4 * where
        x_mm, y_mm = people[slot.person]
        speed_cm_s = round((y_mm - slot.last_mm) * self._frames_per_s / 10)
        slot.last_mm = y_mm
        x, y = round(x_mm + tremble_x_mm), max(1, round(y_mm + tremble_y_mm))
        # What stays when the slot falls free: coordinates without a resolution, or without y.
        slot.residue = (x, y, 0, 0) if where < 0.5 else (x, 0, 0, _RESOLUTION_MM)
        if at_s < slot.lost_until_s:
            return self._raw(*slot.residue)
        return self._raw(x, y, speed_cm_s, _RESOLUTION_MM)

    @staticmethod
    def _raw(x_mm: int, y_mm: int, speed_cm_s: int, resolution_mm: int) -> bytes:
        def field(number: int) -> int:
            return 0 if number == 0 else abs(number) | (0x8000 if number > 0 else 0)

        return struct.pack("<4H", field(x_mm), field(y_mm), field(speed_cm_s), resolution_mm)


def _build(options: Any, seed: int) -> Ld2450Device:
    passage = Passageway.crowd(seed, PERSONS_PER_MINUTE, line_mm=options.line_y_mm)
    return Ld2450Device(passage, seed=seed)


EMULATION = Emulation(_build, options={"line_y_mm": 1500}, measures_after_s=5.0)
