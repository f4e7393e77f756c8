"""A people counter is commissioned by somebody at a terminal, while people walk who know of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.kernel import boot_s
from hil.buses import Pty
from hil.devices.ld2450 import Ld2450Device, Passageway, Walker, Way
from tests.e2e.terminal import PATIENCE_S, Person

CONFIG = """
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[spool]
path = "{spool}"
[[sensors]]
id = "hall-1"
driver = "hlk-ld2450"
bus = "{port}"
directions = {{ towards = {{ en = "to Odori" }} }}
"""


class Watched(Passageway):
    """A passage that knows what time it is in it."""

    now_s = 0.0

    def look(self, at_s: float) -> dict[int, tuple[float, float]]:
        self.now_s = at_s
        return super().look(at_s)


def one_by_one(ways: str, *, from_s: float) -> Iterator[Walker]:
    """Let people walk one after the other: i for in, o for out."""
    way: dict[str, Way] = {"i": "towards", "o": "away"}
    for number, each in enumerate(ways):
        yield Walker(from_s + 4.0 * number, way[each], speed_mm_s=1800.0)


@pytest.mark.slow
def test_somebody_walks_in_and_out_and_presses_enter(tmp_path: Path) -> None:
    empty = Watched()
    device = Ld2450Device(empty, lost_share=0.0, ghost_share=0.0)
    config = tmp_path / "gateway.toml"
    with Pty([device], boot_s) as port:
        config.write_text(CONFIG.format(spool=tmp_path / "spool.db", port=port.path))
        words = ("commission", "hall-1", "--walk-in", "2")
        with Person(tmp_path, *words, folder=tmp_path, config=config) as person:
            person.answers("knows of the test and agrees", "what?")
            person.reads("answer y or n")
            person.answers("knows of the test and agrees", "y")
            person.answers("Who tests [")
            person.reads("Walk through once, in")
            walked = device.passage = Passageway(one_by_one("ioio", from_s=empty.now_s + 1.0))
            person.reads("counted.", "in 2, out 2", "press Enter")
            until_s = time.monotonic() + PATIENCE_S
            while len(walked.crossings) < 4 and time.monotonic() < until_s:
                time.sleep(0.1)
            time.sleep(5.0)  # nobody presses Enter before he is through
            person.screen.sendline()
            person.reads("in: walked 2, counted 2", "out: walked 2, counted 2", "hall-1: PASS")
            assert person.leaves() == 0
    (file,) = (tmp_path / "commissioned").iterdir()
    assert "counted" not in json.dumps(json.loads(file.read_bytes())["measured"])
