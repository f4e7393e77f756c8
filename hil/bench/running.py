"""Gateways that run side by side, each with its devices and its broker, and what they spend."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import wire
from .delivery import two_doors
from .ear import Ear, Heard
from .eight import EightOutside, RoadSensors
from .install import Install
from .process import Daemon, Rates, memory_kb, rates
from .site import RealDevices, write_config

START_S = 180.0  # on a machine that many share
MINUTE_S, AFTER_THE_MINUTE_S = 60.0, 25.0
# As Debian ships it: its acknowledgements of one moment leave together. The bench's does not.
AS_SHIPPED = "set_tcp_nodelay false"
SYNCS = "fsync,fdatasync,sync_file_range,msync,syncfs,sync"

Devices = EightOutside | RoadSensors | RealDevices


@dataclass(frozen=True, slots=True)
class Load:
    """What a gateway is given to do."""

    devices: Callable[[], Devices]
    uplink: str = ""
    counts_syncs: bool = False  # by strace, at whose pace it then runs


@dataclass(frozen=True, slots=True)
class Spent:
    """What one came to."""

    rss_mb: float
    pss_mb: float
    threads: int
    rates: Sequence[Rates]
    wire_kb_per_hour: float
    syncs_per_hour: float

    @property
    def cpu_percent(self) -> list[float]:
        """Of one core, in each slice of the time."""
        return [round(100 * each.cpu_s, 3) for each in self.rates]

    @property
    def wakeups_per_s(self) -> list[float]:
        """Voluntary context switches of all threads, in each slice of the time."""
        return [round(each.wakeups, 1) for each in self.rates]

    @property
    def disk_mb_per_hour(self) -> float:
        """Scaled from the whole time."""
        written = sum(each.written_bytes for each in self.rates) / len(self.rates)
        return round(written * 3600 / 2**20, 2)


@dataclass(frozen=True, slots=True)
class Running:
    """One that runs."""

    daemon: Daemon
    ear: Ear
    port: int
    syncs: Path

    def birth(self, patience_s: float = START_S) -> Heard:
        """Wait until it is born, and return that. Raises BenchError."""

        def is_birth(heard: Heard) -> bool:
            return heard.packet.topic.endswith("/status") and b'"online"' in heard.packet.payload

        return self.ear.wait_for(is_birth, self.daemon.check_alive, patience_s)

    def synced(self) -> int:
        """Return how often it has let its files reach the disk, where that is counted."""
        return self.syncs.read_bytes().count(b"\n") if self.syncs.exists() else 0


@contextmanager
def gateway(install: Install, load: Load, under: tuple[str, ...] = ()) -> Iterator[Running]:
    """Start one, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="yukimi-bench-") as name,
        two_doors(AS_SHIPPED) as (broker, city_port),
        Ear(broker.host, city_port) as ear,
        load.devices() as row,
    ):
        folder = Path(name)
        config = write_config(folder, broker.port, uplink=load.uplink, sensors=row.sensors())
        syncs = folder / "syncs"
        if load.counts_syncs:
            under = ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={SYNCS}")
            under += ("-e", "signal=none", "-o", str(syncs))
        with Daemon(config, python=install.python, under=under) as daemon:
            yield Running(daemon, ear, broker.port, syncs)


def side_by_side(
    install: Install, loads: Sequence[Load], *, settle_s: float, seconds: float, slices: int
) -> list[Spent]:
    """Run one for each load, side by side, until they have settled and `seconds` longer.

    From a minute on that begins between two windows, so that none is cut in two. Raises BenchError.
    """
    with ExitStack() as stack:
        all_of_them = [stack.enter_context(gateway(install, load)) for load in loads]
        for each in all_of_them:
            each.birth()
        time.sleep(settle_s)
        if seconds >= MINUTE_S:
            time.sleep((AFTER_THE_MINUTE_S - time.time()) % MINUTE_S)
        taps = [stack.enter_context(wire.Tap(each.port)) for each in all_of_them]
        synced, began_s = [each.synced() for each in all_of_them], time.monotonic()
        found = rates([each.daemon.pid for each in all_of_them], seconds, slices)
        per_hour = 3600 / (time.monotonic() - began_s)
        spent = []
        for each, tap, before, of_each in zip(all_of_them, taps, synced, found, strict=True):
            each.daemon.check_alive()
            sent = wire.weigh(tap.take(), "live")
            spent.append(
                Spent(
                    memory_kb(each.daemon.pid, "Rss") / 1024,
                    memory_kb(each.daemon.pid, "Pss") / 1024,
                    len(list(Path(f"/proc/{each.daemon.pid}/task").iterdir())),
                    of_each,
                    (sent.record_bytes + sent.other_bytes) / 1024 * per_hour,
                    (each.synced() - before) * per_hour,
                )
            )
        return spent
