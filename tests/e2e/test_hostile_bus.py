"""A device that floods its port with 1 MB/s, and chips that answer with ones: nobody else is late.

The port is a real one, flooded by a process of its own; the chips share a bus with an honest one.
What is judged are the others' windows: all there, one after another, and good.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site

WINDOW_S = 5
WINDOWS = 3

FLOOD = """
import os, sys, time
end, said = int(sys.argv[1]), {said}
os.set_blocking(end, False)
block = said * (10_000 // len(said))
while True:
    began_s = time.monotonic()
    for at in range(0, len(block), 4096):
        try:
            os.write(end, block[at:at + 4096])
        except BlockingIOError:  # like a wire, it does not wait for who does not read
            pass
    time.sleep(max(0.0, began_s + len(block) / 1e6 - time.monotonic()))
"""
FLOODS = {
    "flood-1": ("maxbotix-hrxl", r'b"R0670\r"', "mount_height_cm = 350.0"),
    "flood-2": ("lufft-umb", "os.urandom(5000)", 'model = "shm31", interval_s = 1.0'),
}
ONES = ("mlx90614", "ina219")
# The chips of the sensors "ones-N" answer everything with ones.
ALL_ONES = """
from hil import simulated
class Ones:
    def write(self, data, now_s): pass
    def read(self, length, now_s): return b"\\xff" * length
honest = simulated.SimulatedBus._i2c
def hostile(self, addresses):
    self.devices.update({name: Ones() for name in addresses if name.startswith("ones-")})
    return honest(self, addresses)
simulated.SimulatedBus._i2c = hostile
"""


@contextmanager
def flooded(said: str) -> Iterator[str]:
    """A port that is flooded by somebody else; return its path."""
    ours, hosts = os.openpty()
    tty.setraw(hosts)
    command = [sys.executable, "-c", FLOOD.format(said=said), str(ours)]
    with subprocess.Popen(command, pass_fds=[ours]) as flood:
        try:
            yield os.ttyname(hosts)
        finally:
            flood.kill()
            os.close(ours)
            os.close(hosts)


def configure(site: Site, ports: dict[str, str]) -> Path:
    """Add the hostile ones, and an honest chip beside them."""
    path = site.configure(("door-1", "snow-1", "snow-2"), window_s=WINDOW_S)
    tables = [
        sensor("air-1", "bme280", "walkway", ""),
        *(sensor(f"ones-{n}", name, "walkway", "") for n, name in enumerate(ONES)),
        *(sensor(name, FLOODS[name][0], port, FLOODS[name][2]) for name, port in ports.items()),
    ]
    path.write_text(path.read_text(encoding="utf-8") + "".join(tables), encoding="utf-8")
    return path


def sensor(name: str, driver: str, bus: str, options: str) -> str:
    return (
        f'[[sensors]]\nid = "{name}"\ndriver = "{driver}"\nbus = "{bus}"\n'
        f"window_s = {WINDOW_S}\noptions = {{ {options} }}\n"
    )


def faults(records: list[dict[str, Any]]) -> list[str]:
    """Say what is wrong with a stream, its first and last window, which are partial, left out."""
    whole = records[1:-1]
    found = [f"not good: {each['quality']}" for each in whole if each["quality"]["flag"] != "good"]
    found += [
        f"a hole before {later['start']}"
        for earlier, later in pairwise(whole)
        if earlier["end"] != later["start"]
    ]
    return found


@pytest.mark.slow
def test_a_flood_and_chips_that_answer_with_ones_keep_nobody_waiting(site: Site) -> None:
    with flooded(FLOODS["flood-1"][1]) as one, flooded(FLOODS["flood-2"][1]) as two:
        configure(site, {"flood-1": one, "flood-2": two})
        site.start(fault=ALL_ONES)
        honest = ("door-1", "snow-1", "snow-2", "air-1")
        for stream in honest:
            site.wait_until(
                lambda stream=stream: len(site.records(stream)) >= WINDOWS + 2, f"all of {stream}"
            )
        for n, _ in enumerate(ONES):
            site.wait_until(lambda n=n: bool(site.records(f"ones-{n}")), "the chips' records")
        assert site.stop() == 0
    for stream in honest:
        assert faults(site.records(stream)) == [], stream
    for n, _ in enumerate(ONES):
        flags = {each["quality"]["flag"] for each in site.records(f"ones-{n}")}
        assert "good" not in flags, n
    assert not site.daemon.said("readings are dropped")
    assert not site.daemon.said("a thread hangs")
    site.close_account()


@pytest.mark.slow
def test_a_window_that_is_missed_is_found_out(site: Site) -> None:
    site.configure(("door-1", "snow-2"), window_s=1)
    site.start()
    site.wait_records("snow-2", 2)
    site.post.unplug()
    site.wait_until(
        lambda: any(each["quality"]["n"] == 0 for each in site.records("snow-2")), "its absence"
    )
    site.post.plug()
    site.wait_records("snow-2", 2)
    assert site.stop() == 0
    records = site.records("snow-2")
    assert any("not good" in fault for fault in faults(records))
    assert any("a hole" in fault for fault in faults(records[:3] + records[4:]))
