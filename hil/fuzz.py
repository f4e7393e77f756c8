"""Feed every decoder what no device ever said.

    python -m hil.fuzz                          # 10 million bytes of each kind, every driver
    python -m hil.fuzz --megabytes 1 --driver lufft-umb
    python -m hil.fuzz --guided 60              # seconds of coverage-guided input, where it pays

Random bytes, and as many mutated real frames: those of the emulated device, and of a recording
where there is one ($YUKIMI_RECORDINGS), cut, joined, repeated and with bits turned. Whatever comes
in, no exception may come out, no reading outside of what the device can say, no observation that a
people sensor may not make; memory stays bounded, time linear; and the first good frames afterwards
are understood.

I2C devices have no stream: there the answers to the driver's questions are random, or mutated.
The guided run needs atheris (the extra `fuzz`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import drivers
from agent.kernel import rss_bytes
from drivers.base import BusError, Driver, FrameError, Observation, SerialDriver

from . import emulation
from .conformance.lawful import expect_lawful
from .recordings import CAPTURES
from .rig import Rig

FULL_BYTES = 10_000_000
CAPTURE_S = 120.0  # simulated: what is mutated
CHUNK_BYTES = 512  # what a port gives at a time, at most
GROWTH_LIMIT_BYTES = 4 * 2**20  # of the process, from the first tenth to the end
RARE_ANSWERS = 10  # a question that was asked less often was one of `open`
TRUE_SHARE = 0.9  # of the answers to those
# Where other people's devices were recorded: driver -> (kind of capture, file).
RECORDED = {
    "hlk-ld2450": ("ld2450", "ld2450/office-desk-30s.bin"),
    "lufft-umb": ("umb", "umb/ws10_dialogue.txt"),
    "nmea-gnss": ("nmea", "nmea/neo-m8n.log"),
}
GUIDED = ("hlk-ld2450", "lufft-umb", "nmea-gnss", "vaisala-md30")


class FuzzError(Exception):
    """A decoder did what it must not; says which, and with what input it does it again."""


def judge(seen: Sequence[Observation], driver: Driver, now_ns: int) -> None:
    """Hold observations against what any driver may say. Raises BrokenPromiseError."""
    known = {quantity.name: quantity for quantity in driver.spec.quantities}
    expect_lawful(driver.spec, seen, now_ns, {**known, **driver.quantities})


def noise(dice: Random, amount: int) -> Iterator[bytes]:
    """Yield `amount` random bytes in chunks."""
    while amount > 0:
        chunk = dice.randbytes(min(amount, dice.randint(1, CHUNK_BYTES)))
        amount -= len(chunk)
        yield chunk


def mutated(dice: Random, said: list[bytes], amount: int) -> Iterator[bytes]:
    """Yield `amount` bytes of what was really `said`, damaged in every way that wires know."""
    whole = b"".join(said)
    while amount > 0:
        begin = dice.randrange(len(whole))
        chunk = bytearray(whole[begin : begin + dice.randint(1, CHUNK_BYTES)])
        for _ in range(dice.choice((0, 1, 1, 2, 5))):
            _damage(dice, chunk, whole)
        amount -= max(1, len(chunk))
        yield bytes(chunk)


def _damage(dice: Random, chunk: bytearray, whole: bytes) -> None:
    at = dice.randrange(len(chunk) + 1)
    length = dice.randint(1, 40)
    match dice.randrange(6):
        case 0 if at < len(chunk):
            chunk[at] ^= 1 << dice.randrange(8)
        case 1:
            del chunk[at : at + length]
        case 2:
            chunk[at:at] = chunk[at : at + length]
        case 3:
            other = dice.randrange(len(whole))
            chunk[at:at] = whole[other : other + length]
        case 4 if at < len(chunk):
            chunk[at] = dice.choice((0x00, 0xFF, 0x59, 0x24, 0xAA, 0x0D, 0x7F, 0x80))
        case _:
            chunk[at:at] = dice.randbytes(length)


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What one driver went through."""

    driver: str
    amount: int  # bytes, each kind
    seconds: float
    frame_errors: int


def recorded(name: str) -> list[bytes]:
    """Return what a real device of `name` was recorded to say; nothing where nobody recorded."""
    kind, path = RECORDED.get(name, ("", ""))
    file = Path(os.environ.get("YUKIMI_RECORDINGS", "../shared/recordings")) / path
    if not kind or not file.is_file():
        return []
    entries = CAPTURES[kind](file.read_bytes())
    return [bytes.fromhex(entry["rx"]) for entry in entries if "rx" in entry]


def fuzz(name: str, *, amount: int = FULL_BYTES, seed: int = 0) -> Fuzzed:
    """Fuzz one driver with `amount` bytes of each kind. Raises FuzzError."""
    began_s = time.monotonic()
    rig = Rig(name)
    rig.run(CAPTURE_S)
    if isinstance(rig.driver, SerialDriver):
        errors = _fuzz_stream(name, rig, amount, seed)
    else:
        errors = _fuzz_answers(name, rig, amount, seed)
    return Fuzzed(name, amount, time.monotonic() - began_s, errors)


def passive(name: str, options: Any) -> tuple[Driver, Callable[[bytes, int], Any]]:
    """Return a driver that decodes without a bus, as a replay does, and its `feed`."""
    build: Any = drivers.load(name)
    driver = build(None, options, lambda: 0)
    return driver, driver.feed


def _fuzz_stream(name: str, rig: Rig, amount: int, seed: int) -> int:
    said = [chunk for _, chunk in rig.heard] + recorded(name)
    kinds: dict[str, Callable[[Random], Iterator[bytes]]] = {
        "random bytes": lambda dice: noise(dice, amount),
        "mutated frames": lambda dice: mutated(dice, said, amount),
    }
    errors = 0
    for kind, chunks in kinds.items():
        driver, feed = passive(name, rig.options)
        at_ns, fed, settled_bytes = 0, 0, 0
        for number, chunk in enumerate(chunks(Random(seed))):
            at_ns += 10_000_000
            try:
                judge(feed(chunk, at_ns), driver, at_ns)
            except Exception as exc:
                raise FuzzError(
                    f"{name}: {kind}, seed {seed}, chunk {number}: {type(exc).__name__}: {exc}"
                ) from exc
            fed += len(chunk)
            if not settled_bytes and fed >= amount / 10:
                settled_bytes = rss_bytes()
        growth_bytes = rss_bytes() - settled_bytes
        if growth_bytes > GROWTH_LIMIT_BYTES:
            raise FuzzError(f"{name}: {kind}: memory grew by {growth_bytes / 2**20:.1f} MiB")
        understood = driver.frames
        for at, chunk in rig.heard:
            feed(chunk, at_ns + at)
        if driver.frames == understood:
            raise FuzzError(f"{name}: after {kind}, good frames are not understood any more")
        errors += driver.frame_errors
    return errors


def _fuzz_answers(name: str, rig: Rig, amount: int, seed: int) -> int:
    """Fuzz an I2C driver: whatever it asks, the answers are wrong in some way."""
    build: Any = drivers.load(name)
    errors = 0
    for share_mutated in (0.0, 1.0):
        bus = _WrongAnswers(Random(seed), rig.answers, share_mutated)
        now = [0]
        driver: Driver = build(bus, rig.options, lambda now=now: now[0])
        is_open = False
        while bus.given < amount:
            before = bus.given
            now[0] += round(max(driver.interval_s, 0.1) * 1e9)
            try:
                if not is_open:
                    driver.open()
                    is_open = True
                judge(driver.poll(), driver, now[0])
            except BusError:
                is_open = False
                driver.close()
            except FrameError:
                pass
            except Exception as exc:
                raise FuzzError(f"{name}: seed {seed}: {type(exc).__name__}: {exc}") from exc
            bus.given += 1 if bus.given == before else 0
        errors += driver.frame_errors
    return errors


class _WrongAnswers:
    """An I2cBus on which somebody answers with noise, or with damaged answers of the device.

    Questions for settings and identities mostly get the true answer, else no driver would ever
    come to measure.
    """

    def __init__(
        self, dice: Random, said: Mapping[tuple[bytes, int], list[bytes]], share_mutated: float
    ) -> None:
        self._dice = dice
        self._said = said
        self._share_mutated = share_mutated
        self.given = 0

    def read(self, _address: int, write: bytes, length: int) -> bytes:
        """Answer."""
        self.given += length
        if self._dice.random() < 0.001:
            raise BusError("fuzz: nobody answers")
        known = self._said.get((write, length))
        if known is None:
            return self._dice.randbytes(length)
        asked_rarely = len(known) < RARE_ANSWERS
        if asked_rarely and self._dice.random() < TRUE_SHARE:
            return self._dice.choice(known)
        if self._dice.random() >= self._share_mutated:
            return self._dice.randbytes(length)
        answer = bytearray(self._dice.choice(known))
        for _ in range(self._dice.choice((0, 0, 1, 2))):
            answer[self._dice.randrange(length)] ^= 1 << self._dice.randrange(8)
        return bytes(answer)

    def write(self, _address: int, _data: bytes) -> None:
        """Accept anything."""


def fuzzable() -> list[str]:
    """List the drivers that take bytes from a device."""
    return [
        name
        for name in drivers.names()
        if name in emulation.emulated() and drivers.load(name).spec.bus in ("serial", "i2c")
    ]


def guided(name: str, seconds: int) -> None:
    """Let coverage find the input; ends the process, with a code other than 0 at a finding."""
    import atheris

    with atheris.instrument_imports(include=["drivers"], enable_loader_override=False):
        build: Any = drivers.load(name)
    options = build.Options.model_validate(dict(emulation.load(name).options))

    def one(data: bytes) -> None:
        driver = build(None, options, lambda: 0)
        at = data[0] if data else 0  # where the stream is cut in two
        judge(driver.feed(data[1 : 1 + at], 1), driver, 1)
        judge(driver.feed(data[1 + at :], 2), driver, 2)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=600", *_seeds(name)], one)
    atheris.Fuzz()


def _seeds(name: str) -> list[str]:
    """Write what the device really says where the guided run begins."""
    folder = Path(os.environ["YUKIMI_FUZZ_CORPUS"])
    rig = Rig(name)
    rig.run(CAPTURE_S)
    said = b"".join(chunk for _, chunk in rig.heard)
    for number in range(0, min(len(said), 5000), 250):
        (folder / f"{number}").write_bytes(bytes((100,)) + said[number : number + 250])
    return [str(folder)]


def _guide(seconds: int) -> bool:
    """Run the guided fuzzing of each driver in a process of its own; tell whether all is well."""
    import tempfile

    well = True
    for name in GUIDED:
        if name not in drivers.names():
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-m", "hil.fuzz", "--guided", str(seconds), "--driver", name],
                env={**os.environ, "YUKIMI_FUZZ_CORPUS": folder},
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
        said = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#", "=="))]
        print(f"{name}: guided: {'well' if done.returncode == 0 else 'FOUND'}: {said[-1:]}")
        if done.returncode:
            print(done.stderr[-3000:])
            well = False
    return well


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; 1 if a decoder did what it must not."""
    parser = argparse.ArgumentParser(prog="python -m hil.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--megabytes", type=float, default=FULL_BYTES / 1e6, metavar="N")
    parser.add_argument(
        "--driver",
        action="append",
        metavar="NAME",
        choices=fuzzable(),
        help="only this, on a serial line or I2C (repeatable)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", type=int, metavar="SECONDS", help="coverage-guided, instead")
    given = parser.parse_args(arguments)
    if given.guided:
        if "YUKIMI_FUZZ_CORPUS" in os.environ:
            guided(given.driver[0], given.guided)
        return 0 if _guide(given.guided) else 1
    for name in given.driver or fuzzable():
        try:
            done = fuzz(name, amount=round(given.megabytes * 1e6), seed=given.seed)
        except FuzzError as exc:
            print(exc)
            return 1
        print(
            f"{name}: {done.amount / 1e6:g} MB of noise and of mutated frames each in"
            f" {done.seconds:.0f} s; {done.frame_errors} frame errors, nothing else"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
