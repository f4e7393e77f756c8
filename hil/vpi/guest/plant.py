"""What the bench plants in the guest's Python: threads that hang, steps that are told.

Debian's Python imports it before anything else, in every program (as sitecustomize). It does
nothing but what PLANT asks for, which is gone after a boot.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PLANT = Path("/run/vpi-plant.json")
PORT = "/dev/virtio-ports/vpi.witness"
BUSY_S = 0.05
RUNTIME = Path("/run/yukimi")  # outlives a life of the service, not a boot

PROGRAMS = {  # by what their command line holds
    "keep": "agent.gate arm",
    "gate": "gate.pyz run",
    "gateway": "/bin/yukimi run",
}
# Where each thread hangs, once in each of its steps.
THREADS = {
    "pipeline": ("pipeline", "Pipeline", "_tend_clock"),
    "uplink": ("uplink", "Uplink", "_pump"),
    "control": ("control", "Control", "_step"),
    "main": ("supervisor", "Supervisor", "look"),
}
COLLECTOR = ("collector", "Collector", "_poll")


def hang(threads: list[str]) -> None:
    """Let one thread hang in each life of the gateway, in turn; then none any more."""
    number = len(list(RUNTIME.glob("hung-*")))
    if number >= len(threads):
        return
    name = threads[number]
    module, kind, method = THREADS.get(name, COLLECTOR)
    whose = name.removeprefix("bus ") if name not in THREADS else None
    of = getattr(import_module(f"agent.{module}"), kind)
    honest = getattr(of, method)

    def hangs(self: Any, *arguments: Any) -> Any:
        if whose is not None and self.name != whose:
            return honest(self, *arguments)
        (RUNTIME / f"hung-{number}").touch()
        if hasattr(self, "pulse"):
            self.pulse.due_s = 0.0  # nobody need wait until its next step is due
        return threading.Event().wait()

    setattr(of, method, hangs)


def be_impatient() -> None:
    """Let a life that died young be followed by the next at once."""
    import_module("agent.comeback").FREE = 10**6  # type: ignore[attr-defined]


def mark_nothing() -> None:
    """Let a configuration on trial be written down as confirmed: the control."""
    applied: Any = import_module("agent.applied")
    honest = applied._encoded

    def encoded(entry: Any) -> Any:
        is_trial = entry.outcome == "trial"
        return honest(dataclasses.replace(entry, outcome="confirmed") if is_trial else entry)

    applied._encoded = encoded


def tell_steps(who: str) -> None:
    """Tell each sync, rename, removal and program before it, and wait for an answer."""
    lock, sync = threading.Lock(), os.fsync

    def tell(what: str) -> None:
        with lock:
            while True:
                try:
                    port = os.open(PORT, os.O_RDWR)
                    break
                except OSError:  # another program tells something
                    time.sleep(BUSY_S)
            os.write(port, f"{who}: {what}\n".encode())
            os.read(port, 1)
            os.close(port)

    def told(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            tell(f"rename to {Path(os.fsdecode(arguments[1])).name}")
        elif event == "os.remove" and arguments[1] != -1:
            return  # one of thousands, in a folder that goes
        elif event in ("os.remove", "os.symlink", "shutil.rmtree"):
            tell(f"{event.partition('.')[2]} {Path(os.fsdecode(arguments[-2])).name}")
        elif event == "subprocess.Popen":
            tell(f"run {' '.join(map(str, arguments[1][:2]))}")

    def synced(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        tell(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(file)

    sys.addaudithook(told)
    os.fsync = synced  # type: ignore[assignment]


def main() -> None:
    """Do what is asked for, in the programs that it is about."""
    line = " ".join(sys.orig_argv)
    who = next((name for name, part in PROGRAMS.items() if part in line), None)
    if who is None or not PLANT.exists():
        return
    asked: dict[str, Callable[[], None]] = {}
    wanted = json.loads(PLANT.read_text())
    if who == "gateway":
        asked = {
            "hang": lambda: hang(wanted["hang"]),
            "impatient": be_impatient,
            "unmarked": mark_nothing,
        }
    asked["tell"] = lambda: tell_steps(who) if who in wanted["tell"] else None
    for name in wanted:
        if name in asked:
            asked[name]()


main()
