"""The body of the daemon's process: `yukimi run` whose simulated devices play the pattern.

The gateway's own code is untouched but for waits that are shortened, and for an ear at its
innermost place: the observations as the pipeline takes them, and what the frames' devices said. By
the ear the bench knows what the process held in memory, to the nanosecond and to the byte. What it
hears goes through a pipe into the bench's memory, and nowhere else.

A gateway may be spoiled: each of `LEAKS` lets something out that must be found.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from agent.app import Gateway
from agent.cli import main as agent_main
from agent.pipeline import Pipeline
from agent.privacy import policy
from agent.privacy.ledger import Claim
from agent.privacy.release import Sealed
from agent.record import Record
from agent.spool import Spool
from drivers.base import Crossing

from .. import emulation, simulated
from ..devices.beams import BeamCrowd
from ..devices.benewake import TfDevice, Way
from ..devices.d6t import D6tDevice, Doorway
from ..devices.grideye import GridEyeDevice, Scene
from ..devices.ld2450 import Ld2450Device, Passageway
from ..lives import HURRIED
from .pattern import PINS, Pattern, PatternPins, Unmoved

SHORTENED = HURRIED | {"agent.uplink.HEALTH_INTERVAL_S": 1.0, "agent.pipeline.REMEMBER_S": 2.0}
PERSONS_PER_MINUTE = 60.0  # of the devices that send frames
FRAME_BYTES = 32  # an I2C answer of as many is a picture, a shorter one a register

Tell = Callable[[str, object], None]


def live() -> int:
    """Be the daemon; its arguments follow the pipe, seed and origin of the pattern, and leaks."""
    pipe, seed, origin_ns, leaks = json.loads(sys.argv[1])
    for name, value in SHORTENED.items():
        module, _, constant = name.rpartition(".")
        place = importlib.import_module(module)
        assert getattr(place, constant) > 0  # noqa: S101  (else it has another name by now)
        setattr(place, constant, value)
    faulthandler.register(signal.SIGUSR1)  # all threads, into the log
    tell = _teller(pipe)
    _play(Pattern(seed, origin_ns), tell)
    _listen(tell)
    for leak in leaks:
        LEAKS[leak]()
    return agent_main(sys.argv[2:])


def _teller(pipe: int) -> Tell:
    lock = threading.Lock()

    def tell(what: str, value: object) -> None:
        rest = json.dumps([what, value]).encode() + b"\n"
        with lock:
            while rest:
                rest = rest[os.write(pipe, rest) :]

    return tell


# Devices


def _tf_pair(options: Any, seed: int) -> tuple[TfDevice, TfDevice]:
    way = Way.with_people(seed, PERSONS_PER_MINUTE)
    a, b = (TfDevice(way.beam(at), model=options.model, seed=seed + at) for at in (0, 1))
    return a, b


BUILD: Mapping[str, Callable[[Any, int], Any]] = {
    "pulse-counter": lambda _options, _seed: Unmoved(),
    "beam-pair": lambda options, seed: BeamCrowd(
        seed, PERSONS_PER_MINUTE, options.pin_a, options.pin_b
    ),
    "hlk-ld2450": lambda options, seed: Ld2450Device(
        Passageway.crowd(seed, PERSONS_PER_MINUTE, line_mm=options.line_y_mm), seed=seed
    ),
    "grideye-amg88xx": lambda _options, seed: GridEyeDevice(
        Scene.crowd(seed, PERSONS_PER_MINUTE), seed=seed
    ),
    "omron-d6t": lambda options, seed: D6tDevice(
        Doorway.crowd(seed, PERSONS_PER_MINUTE), options.model, seed=seed
    ),
    "benewake-tf-pair": _tf_pair,
}


def _play(pattern: Pattern, tell: Tell) -> None:
    """Put the pattern, crowds, and devices that are overheard behind the simulated bus."""
    vars(simulated)["SimulatedPins"] = partial(PatternPins, pattern)
    honest = emulation.load

    def load(driver: str) -> emulation.Emulation:
        found = honest(driver)
        if driver not in BUILD:
            return found

        def build(options: Any, seed: int) -> Any:
            device = BUILD[driver](options, seed)
            for each in device if isinstance(device, tuple) else (device,):
                _overhear(each, tell)
            return device

        return replace(found, build=build)

    emulation.load = load


def _overhear(device: Any, tell: Tell) -> None:
    """Tell what a device that sends frames says to its host."""
    if hasattr(device, "speak"):
        speak = device.speak

        def overheard(now_s: float) -> bytes:
            said: bytes = speak(now_s)
            if said:
                tell("serial", said.hex())
            return said

        device.speak = overheard
    elif hasattr(device, "read"):
        read = device.read

        def looked(length: int, now_s: float) -> bytes:
            said: bytes = read(length, now_s)
            if length >= FRAME_BYTES:
                tell("i2c", said.hex())
            return said

        device.read = looked


def _listen(tell: Tell) -> None:
    """Tell every crossing as the pipeline takes it: sensor, direction, boot time, UTC."""
    take = Pipeline._take

    def heard(self: Pipeline, collected: Any, look: Any) -> None:
        crossed = [
            (collected.sensor_id, each.direction, each.at_boot_ns, utc_ns(each.at_boot_ns))
            for utc_ns in (self._clock.utc_ns,)
            for each in collected.observations
            if isinstance(each, Crossing)
        ]
        take(self, collected, look)
        if crossed:
            tell("crossed", crossed)

    Pipeline._take = heard  # type: ignore[method-assign]


# Gateways that leak


def log_time() -> None:
    """Log every fiftieth crossing with its time, at a level that nobody reads."""
    take, seen = Pipeline._take, [0]

    def heard(self: Pipeline, collected: Any, look: Any) -> None:
        for each in collected.observations:
            if isinstance(each, Crossing):
                seen[0] += 1
                if not seen[0] % 50:
                    at_s = f"{each.at_boot_ns / 1e9:.6f}"
                    structlog.get_logger().debug("edge", sensor=collected.sensor_id, at_s=at_s)
        take(self, collected, look)

    Pipeline._take = heard  # type: ignore[method-assign]


def health_count() -> None:
    """Tell in the health message how much one counter had to do in its last window."""
    latest: dict[str, int] = {}
    _with_counts(lambda record, counts: latest.update({record.stream: sum(counts.values())}))
    message = Gateway.health_message

    def told(self: Gateway) -> dict[str, object]:
        return message(self) | {"events": latest.get("counter-3", 0)}

    Gateway.health_message = told  # type: ignore[method-assign]


def frame_file() -> None:
    """Keep the latest picture of a thermal array beside the spool, as one would to debug it."""
    read = GridEyeDevice.read

    def kept(self: GridEyeDevice, length: int, now_s: float) -> bytes:
        said = read(self, length, now_s)
        if length >= FRAME_BYTES:
            Path(os.environ["STATE_DIRECTORY"], "last-frame.txt").write_text(repr(said))
        return said

    GridEyeDevice.read = kept  # type: ignore[method-assign]


def spool_count() -> None:
    """Keep the true count beside the released record, in a column of its own."""
    true: deque[tuple[str, int, int]] = deque()
    _with_counts(
        lambda record, counts: true.append((record.stream, record.end_ns, counts.get("towards", 0)))
    )
    append = Spool.append

    def with_column(self: Spool, *args: Any, **options: Any) -> Any:
        entries = append(self, *args, **options)
        with self._lock:
            columns = [row[1] for row in self._db.execute("PRAGMA table_info(record)")]
            if "load" not in columns:
                self._db.execute("ALTER TABLE record ADD COLUMN load INTEGER")
            while true:
                stream, end_ns, count = true.popleft()
                self._db.execute(
                    "UPDATE record SET load = ? WHERE end_ns = ? AND series IN"
                    " (SELECT id FROM series WHERE stream = ?)",
                    (count, end_ns, stream),
                )
        return entries

    Spool.append = with_column  # type: ignore[method-assign]


def no_noise() -> None:
    """Draw zero as noise, always."""
    vars(policy)["discrete_laplace"] = lambda *_: 0


def _with_counts(use: Callable[[Record, dict[str, int]], object]) -> None:
    """Let `use` have every record of a counter's window with its true counts."""
    honest = Sealed.release

    def spoiled(self: Sealed, claim: Claim) -> Record:
        counts = dict(self.counts._counts)
        record = honest(self, claim)
        if record.stream in PINS:
            use(record, counts)
        return record

    Sealed.release = spoiled  # type: ignore[method-assign]


LEAKS: Mapping[str, Callable[[], None]] = {
    each.__name__: each for each in (log_time, health_count, frame_file, spool_count, no_noise)
}
