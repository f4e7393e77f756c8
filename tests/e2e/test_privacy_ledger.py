"""People's windows through a daemon that is killed at every step: none is released twice."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.conftest import PROJECT, Site

# Each kills the daemon at a step of the third window's release.
STEPS = {
    "before it is reserved": ("agent.spool.Spool", "reserve", "before"),
    "when it is reserved": ("agent.spool.Spool", "reserve", "after"),
    "when noise was drawn": ("agent.privacy.policy.Policy", "release", "after"),
    "before it is committed": ("agent.spool.Spool", "append", "before"),
    "when it is committed": ("agent.spool.Spool", "append", "after"),
    "before it is published": ("agent.delivery.Delivery", "_let_go", "before"),
    "when it is published": ("agent.delivery.Delivery", "_let_go", "after"),
}

KILL = """
import os, signal
from importlib import import_module
module, _, name = "{where}".rpartition(".")
owner = getattr(import_module(module), name)
step = getattr(owner, "{step}")
times = []
def dies(self, *what, **how):
    if {is_it}:
        times.append(1)
    if "{when}" == "before" and len(times) >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    done = step(self, *what, **how)
    if "{when}" == "after" and len(times) >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(owner, "{step}", dies)
"""

# Only those of people, where other records go the same way.
IS_IT = {
    "append": "any(getattr(each, 'settles', None) is not None for each in what[0])",
    "_let_go": "any(each.send.topic.endswith('/people') for each in what[0])",
}

TWICE = """
from dataclasses import replace
from agent import pipeline
release = pipeline.release
def again(closed, spool):
    counts = [dict(each.counts._counts) for each in closed if hasattr(each, "counts")]
    records = release(closed, spool)
    if len(counts) == len(records) == 1:
        records += [replace(records[0], values=closed[0].policy.release(counts[0]))]
    return records
pipeline.release = again
"""


def audit(site: Site, *more: str) -> tuple[int, dict[str, Any]]:
    """Ask as an auditor would, of a gateway that runs or of its file."""
    command = [sys.executable, "-m", "agent", "privacy", "audit", "--json"]
    done = subprocess.run(
        [*command, "--config", str(site.folder / "gateway.toml"), *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PROJECT,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def received(site: Site) -> str:
    """Write down what the city received of people; return the file's name."""
    file = site.folder / "received.jsonl"
    batches = [
        message.document for message in list(site.heard) if message.topic.endswith("/people")
    ]
    file.write_text("".join(json.dumps(batch) + "\n" for batch in batches))
    return str(file)


def spans(site: Site) -> list[tuple[str, str]]:
    """Return from when to when figures were published, in order, each record once."""
    found = {
        (message.document["run"], record["seq"]): (record["start"], record["end"])
        for message in list(site.heard)
        for record in message.records
        if record["stream"] == "door-1" and (record["values"] or {}).get("towards")
    }
    return sorted(found.values())


def is_burned(record: dict[str, Any]) -> bool:
    return record["stream"] == "door-1" and "burned" in record["quality"].get("reasons", ())


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_releases_no_window_twice(site: Site, step: str) -> None:
    site.configure(("door-1",))
    where, name, when = STEPS[step]
    site.start(fault=KILL.format(where=where, step=name, when=when, is_it=IS_IT.get(name, "True")))
    site.wait_until(lambda: site.daemon.has_died, f"a kill {step}")
    site.daemon.kill()
    site.start()
    site.wait_online()
    site.wait_records("door-1", 3)
    code, running = audit(site)
    assert (code, running["broken"]) == (0, None)
    assert running["windows"]["waiting"] <= 1  # the present one, just now
    assert site.stop() == 0
    code, finding = audit(site, "--published", received(site))
    assert (code, finding["broken"]) == (0, None)
    assert finding["windows"]["waiting"] == 0
    assert finding["records"] > 3
    must_burn = step in ("when it is reserved", "when noise was drawn", "before it is committed")
    assert len([each for each in site.records() if is_burned(each)]) == int(must_burn)
    assert finding["windows"]["burned"] == int(must_burn)
    assert all(before[1] <= after[0] for before, after in pairwise(spans(site)))


def test_a_gateway_that_draws_twice_is_found_by_the_audit(site: Site) -> None:
    site.configure(("door-1",))
    site.start(fault=TWICE)
    site.wait_records("door-1", 3)
    assert site.stop() == 0
    code, finding = audit(site)
    assert code == 1
    assert "settles a window that was released before" in finding["broken"]["what"]
