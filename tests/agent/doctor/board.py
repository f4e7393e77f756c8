"""A board for the doctor's tests: a tree of files, and what a gateway would say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent import kernel
from agent.clock import Look
from agent.doctor.findings import Finding
from agent.doctor.order import BY_ID, CHECKS
from agent.doctor.run import Result, run
from agent.doctor.site import Site

GATEWAY = """
[uplink]
brokers = ["mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2"]
[spool]
path = "{folder}/spool.db"
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "air-1"
driver = "bme280"
bus = "/dev/i2c-1"
[[sensors]]
id = "road-1"
driver = "mlx90614"
bus = "/dev/i2c-1"
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyUSB0"
options = {{ mount_height_cm = 350.0 }}
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "bench"
"""


class Board:
    """A site whose files are below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("proc", "sys", "dev", "boot", "etc", "run")
        self.roots = {f"/{name}": folder / name for name in names}
        for root in self.roots.values():
            root.mkdir()
        self.config_file = folder / "gateway.toml"
        self.config_file.write_text(GATEWAY.format(folder=folder))
        self.config_file.chmod(0o640)
        self.says: dict[str, Any] | None = None  # the running gateway
        self.programs: dict[str, str] = {}
        self.look_at_the_clock(synchronised=True)

    def look_at_the_clock(self, *, synchronised: bool) -> None:
        """Let the kernel vouch for its clock, or not."""
        error_s = 0.01 if synchronised else None
        self.clock = Look(kernel.boot_ns(), time.time_ns(), synchronised, error_s)

    def file(self, path: str, text: str = "") -> Path:
        """Write a file of the board."""
        file = self.roots[f"/{path.split('/')[1]}"] / path.split("/", 2)[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def process(self, pid: int, name: str, line: str) -> None:
        """Let a process be seen."""
        self.file(f"/proc/{pid}/comm", f"{name}\n")
        self.file(f"/proc/{pid}/cmdline", line.replace(" ", "\0"))

    def gateway_says(self, sensors: Mapping[str, Mapping[str, Any]], **parts: Any) -> None:
        """Let a running gateway answer; of the shape of `yukimi status --json`."""
        known = {name: {"id": name, "state": "ok", "error": None} for name in
                 ("air-1", "road-1", "snow-1", "hall-1")}  # fmt: skip
        self.says = {
            "gateway": {"config": self.site().wanted.loaded.config_id, "refused": []},  # type: ignore[union-attr]
            "sensors": [known[name] | dict(sensors.get(name, {})) for name in known],
            "uplink": {"broker": None, "connected_since": None},
            "alerts": [],
            "spool": {},
        } | parts

    def site(self) -> Site:
        """Return what the doctor sees."""
        says = self.says

        def programs(command: Any) -> str | None:
            told = " ".join(command[1:])
            return next((t for start, t in self.programs.items() if told.startswith(start)), None)

        clock = self.clock
        return Site(
            self.config_file,
            roots=self.roots,
            look=lambda: clock,
            run_program=programs,
            ask_daemon=None if says is None else lambda: says,
        )

    def look(self, name: str, subject: str = "") -> Finding:
        """Return what one check finds of a sensor, a bus, a broker or the board."""
        site, check = self.site(), BY_ID[name]
        plan = site.plan
        of: Any = None
        if plan is not None and check.over != "gateway":
            known = {s.table.id: s for s in plan.sensors} | {b.name: b for b in plan.buses}
            of = known.get(subject, subject)  # type: ignore[call-overload]
        return check.look(site, of)

    def run(self, *names: str) -> dict[str, Result]:
        """Run some checks, with all their rules."""
        results = run([each for each in CHECKS if each.id in names], self.site())
        return {f"{each.check.id} {each.name}".strip(): each for each in results}
