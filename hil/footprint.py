"""What a running gateway costs: memory, CPU, start, and what it writes to its disk.

`python -m hil.footprint [--seconds N] [--json]` runs the real daemon with the tour's five sensors
at their real rates against Mosquitto. The serial devices are emulated outside its process; the
thermal array and the beams inside, so their emulation is in its figures, on the safe side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .bench.process import counters, memory_kb
from .broker import start_broker
from .buses import Pty
from .city.subscriber import City
from .demo import now_s
from .devices.lufft import irs31pro, shm31, winter_snow_cm
from .devices.maxbotix import MaxBotixDevice

_CONFIG = """\
[gateway]
id = "footprint"
[uplink]
brokers = ["mqtt://127.0.0.1:{port}"]
protocol = "{protocol}"
[control]
socket = "control.sock"

[spool]
path = "spool.db"
[clock]
trust = "system"
[[buses]]
id = "walkway"
kind = "simulated"
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "walkway"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "walkway"
options = {{ pin_a = 17, pin_b = 27 }}
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "{rs485}"
options = {{ model = "irs31pro" }}
[[sensors]]
id = "snow-1"
driver = "lufft-umb"
bus = "{rs485}"
options = {{ model = "shm31" }}
[[sensors]]
id = "snow-2"
driver = "maxbotix-hrxl"
bus = "{ranger}"
options = {{ mount_height_cm = 350.0 }}
"""

SETTLE_S = 30.0  # imports, warm-up and the first commits are not the running cost
COMMIT_LOOK_S = 0.25


def measure(seconds: float) -> dict[str, float]:
    """Run a gateway for SETTLE_S + `seconds`; return its figures, names ending in their units."""
    with (
        tempfile.TemporaryDirectory(prefix="yukimi-footprint-") as folder,
        start_broker() as broker,
        City(broker.host, broker.port, protocol=5 if broker.speaks_mqtt5 else 311) as city,
        Pty([irs31pro(), shm31()], now_s) as rs485,
        Pty([MaxBotixDevice(winter_snow_cm)], now_s) as ranger,
    ):
        city.wait_subscribed()
        config = Path(folder) / "gateway.toml"
        config.write_text(
            _CONFIG.format(
                port=broker.port,
                protocol="5" if broker.speaks_mqtt5 else "3.1.1",
                rs485=rs485.path,
                ranger=ranger.path,
            )
        )
        began_s = time.monotonic()
        command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
            try:
                if not city.wait_for(lambda account: account.report().delivered > 0, 30.0):
                    raise TimeoutError("the gateway published nothing within 30 s")
                figures = {"start_to_first_record_s": round(time.monotonic() - began_s, 2)}
                time.sleep(SETTLE_S)
                return figures | _running(process.pid, Path(folder) / "spool.db", seconds)
            finally:
                process.terminate()


def _running(pid: int, spool: Path, seconds: float) -> dict[str, float]:
    log = spool.with_name(f"{spool.name}-wal")
    commits, version = 0, None
    before, began_s = counters(pid), time.monotonic()
    while time.monotonic() - began_s < seconds:
        now = log.stat().st_mtime_ns  # nothing else is written there
        commits += version is not None and now != version
        version = now
        time.sleep(COMMIT_LOOK_S)
    after, took_s = counters(pid), time.monotonic() - began_s
    spent = {name: after[name] - before[name] for name in after}
    return {
        "rss_mb": round(memory_kb(pid, "Rss") / 1024, 1),
        "pss_mb": round(memory_kb(pid, "Pss") / 1024, 1),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "cpu_percent": round(100 * spent["cpu_s"] / took_s, 2),
        "wakeups_per_s": round(spent["wakeups"] / took_s, 1),
        "commits_per_hour": round(commits * 3600 / took_s),
        "disk_kb_per_hour": round(spent["written_bytes"] / 1024 * 3600 / took_s),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m hil.footprint", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to measure")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if os.geteuid() != 0:  # a gateway lets nobody of its own user look
        parser.error("only root may count a gateway's memory and disk writes: use sudo")
    figures = measure(arguments.seconds)
    if arguments.json:
        print(json.dumps({"schema": "yukimi.footprint/1", "figures": figures}))
    else:
        for name, value in figures.items():
            print(f"{name:<24} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
