"""One gateway after another on the same spool: what each takes over, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.app import Gateway
from agent.clock import Stamp
from agent.plan import load_plan
from agent.record import AlertRecord

CONFIG = """
[gateway]
id = "site-01"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[spool]
path = "{folder}/spool.db"
[[buses]]
id = "sim"
kind = "simulated"
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "sim"
options = {{ mount_height_cm = 350.0 }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return file


@contextmanager
def life(file: Path) -> Iterator[Gateway]:
    """A gateway that is wired, and whose threads do not run."""
    gateway = Gateway(load_plan(file))
    with closing(gateway._claim):
        yield gateway
        gateway.spool.close(clean=True)


def test_each_life_of_a_gateway_is_a_run_of_its_own(file: Path) -> None:
    runs = []
    for _ in range(3):
        with life(file) as gateway:
            runs.append(gateway.spool.run)
            gateway.pipeline.announce()
            assert gateway.spool.produced() == {"gateway": 1}
    assert len(set(runs)) == 3


def test_a_gateway_knows_the_alarms_that_the_one_before_it_left(file: Path) -> None:
    raised = AlertRecord(
        sensor="snow-1", kind="snow", alert="sensor_missing", id="e1", state="raised",
        severity="warning", time_ns=10**18, since_ns=10**18, clock=Stamp("synced", 0.0),
        text={"ja": "x", "en": "x"}, values={},
    )  # fmt: skip
    with life(file) as gateway:
        gateway.spool.append([raised], "c1")
    with life(file) as gateway:
        assert gateway._book.ids() == ["e1"]
