"""The daemon carries nothing that only the tools for people use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

# Runs the daemon until it has wired and started a gateway; tells what is loaded by then.
RUN = """\
import json, os, signal, sys, threading
{before}
from agent.cli import main

def look():
    while "agent.uplink" not in sys.modules or not any(
        each.name.startswith("uplink") for each in threading.enumerate()
    ):
        threading.Event().wait(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=look, name="onlooker", daemon=True).start()
code = main(["run", "--config", "gateway.toml"])
# Whatever is lazy and was not used is not there.
loaded = [name for name, each in sys.modules.items() if each is not None]
with open("loaded.json", "w") as file:  # a daemon prints nothing
    json.dump({{"code": code, "loaded": loaded}}, file)
"""

CONFIG = """\
[gateway]
id = "lean"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
drain_s = 0.1
[spool]
path = "spool.db"
[clock]
trust = "system"
[[sensors]]
id = "pi-1"
driver = "pi-health"
bus = "system"
"""


def _loaded(folder: Path, *, before: str = "", config: str = CONFIG) -> set[str]:
    (folder / "gateway.toml").write_text(config, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(before=before)],
        cwd=folder,
        env={**os.environ, "STATE_DIRECTORY": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = json.loads((folder / "loaded.json").read_text(encoding="utf-8"))
    assert told["code"] == 0, done.stderr
    return set(told["loaded"])


def _packages(folder: Path, before: str = "") -> set[str]:
    return {name.partition(".")[0] for name in _loaded(folder, before=before)}


def test_a_running_daemon_has_loaded_neither_rich_nor_asyncio(tmp_path: Path) -> None:
    packages = _packages(tmp_path)
    assert {"agent", "structlog", "paho"} <= packages
    assert not packages & {"rich", "asyncio", "pygments", "markdown_it"}


def test_nor_has_one_whose_broker_speaks_plain_text_loaded_what_it_does_not_use(
    tmp_path: Path,
) -> None:
    loaded = _loaded(tmp_path)
    assert "paho.mqtt.client" in loaded
    assert not loaded & {"ssl", "_ssl", "urllib.request", "http.client"}
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & {"numpy", "gpiozero", "lgpio", "smbus2", "serial", "hil"}


def test_without_that_paho_would_bring_tls(tmp_path: Path) -> None:
    assert {"ssl", "urllib.request"} <= _loaded(tmp_path, before="import paho.mqtt.client")


def test_with_a_broker_that_asks_for_it_tls_is_there(tmp_path: Path) -> None:
    assert "ssl" in _loaded(tmp_path, config=CONFIG.replace("mqtt://", "mqtts://"))


def test_without_that_structlog_would_bring_both(tmp_path: Path) -> None:
    assert {"rich", "asyncio"} <= _packages(tmp_path, before="import structlog")


def test_asyncio_is_there_for_whoever_uses_it_later() -> None:
    script = (
        "import agent.logs, structlog.stdlib, sys; assert 'asyncio' not in sys.modules;"
        "assert structlog.stdlib.asyncio.Queue.__module__ == 'asyncio.queues';"
        "import asyncio; print(asyncio.run(asyncio.sleep(0, 'slept')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "slept"


def test_a_window_of_many_samples_does_without_numpy() -> None:
    script = (
        "import sys; from array import array; from agent.aggregate import MANY, summarise;"
        "summarise(array('d', [1.0, 2.0] * MANY)); print('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
