"""The real daemon in a process of its own: one life after another on one spool.

What each life produced is read from the spool's file, without the daemon's help. It may be hurried,
with its own waits shortened for short runs, and it may be made unsafe: then it takes a message for
delivered when it is published, as a control of those who count what arrives.
"""

from __future__ import annotations

import importlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.cli import OK
from agent.cli import main as agent_main
from agent.spool import Spool

from .ledger import glance

WAIT_S = 120.0  # for anything that must happen; no promise about how fast it does

# What the daemon waits for by itself: longer than a short run.
HURRIED = {
    "agent.route.BACKOFF_CAP_S": 1.5,
    "agent.outbox.HOLD_S": 1.5,
    "agent.outbox.ACK_TIMEOUT_S": 3.0,
}


def live(hurried: bool, unsafe: bool) -> int:
    """Be the daemon, with other constants or with a defect planted; the body of a process."""
    for name, value in HURRIED.items() if hurried else ():
        module, _, constant = name.rpartition(".")
        place = importlib.import_module(module)
        assert getattr(place, constant) > 0  # noqa: S101  (else it has another name by now)
        setattr(place, constant, value)
    if unsafe:
        _acknowledge_at_once()
    return agent_main(sys.argv[1:])


def _acknowledge_at_once() -> None:
    honest = mqtt.Client.publish

    def hasty(self: mqtt.Client, *args: Any, **options: Any) -> mqtt.MQTTMessageInfo:
        info = honest(self, *args, **options)
        tell: Callable[..., None] | None = self.on_publish
        if tell is not None:
            tell(self, None, info.mid, ReasonCode(PacketTypes.PUBACK), None)
        return info

    mqtt.Client.publish = hasty  # type: ignore[method-assign]


class Daemon:
    """One life of the daemon after another, on one spool, and what each produced."""

    def __init__(self, folder: Path, *, hurried: bool, unsafe: bool) -> None:
        self.lives = 0
        self.findings: list[str] = []
        self._folder = folder
        self._spool = folder / "spool.db"
        self._log = folder / "daemon.log"
        python = ["-m", "agent"]
        if hurried or unsafe:
            child = f"import sys; from hil import lives; sys.exit(lives.live({hurried}, {unsafe}))"
            python = ["-c", child]
        self._command = [sys.executable, *python, "run", "--config", str(folder / "gateway.toml")]
        self._process: subprocess.Popen[bytes] | None = None
        self._run_before: str | None = None

    def start(self) -> None:
        """Begin a life."""
        self.lives += 1
        self._run_before = self._latest_run()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, cwd=self._folder)

    def wait_begun(self) -> None:
        """Wait until this life has committed something."""
        until_s = time.monotonic() + WAIT_S
        while self._latest_run() == self._run_before:
            if self._look_for_death() or time.monotonic() > until_s:
                self.findings.append(f"life {self.lives} does not begin")
                return
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        self._look_for_death()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM; it must end in order."""
        self._look_for_death()
        if self._process is None:
            return
        self._process.terminate()
        try:
            code = self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.findings.append(f"life {self.lives} does not stop")
            self.kill()
        else:
            # Until it has begun there is nothing to put in order, and the signal just ends it.
            is_early = code == -signal.SIGTERM and self._latest_run() == self._run_before
            if code != OK and not is_early:
                self.findings.append(f"life {self.lives} ended with exit code {code}")

    def close(self) -> None:
        """End it, whatever it is doing, and look for bugs in what it said."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        self.findings += [line for line in log.splitlines() if "bug in a thread" in line]
        if "Traceback" in log:
            self.findings.append("Traceback" + log.partition("Traceback")[2][:2000])

    def produced(self) -> tuple[str, dict[str, int]] | None:
        """Return the latest run and the highest number of each of its streams, from the file."""
        if not self._spool.exists():
            return None
        with glance(self._spool) as database:
            if not database.execute("PRAGMA user_version").fetchone()[0]:
                return None  # not begun
            row = database.execute("SELECT id, run FROM run ORDER BY id DESC").fetchone()
            if row is None:
                return None
            numbers = database.execute("SELECT stream, seq FROM produced WHERE run = ?", row[:1])
            return row[1], dict(numbers.fetchall())

    def waiting(self) -> int:
        """Return how much the spool of a daemon that is stopped still holds."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            for file in self._folder.glob(f"{self._spool.name}*"):
                shutil.copyfile(file, Path(folder, file.name))
            copy = Path(folder, self._spool.name)
            spool = Spool(copy, max_bytes=2**40, run="the examiner", boot_id="")
            try:
                return sum(spool.waiting_by_run().values())
            finally:
                spool.close(clean=False)

    def _latest_run(self) -> str | None:
        """Return the latest run that committed anything."""
        told = self.produced()
        return told[0] if told is not None and told[1] else self._run_before

    def _look_for_death(self) -> bool:
        if self._process is None or self._process.poll() is None:
            return False
        code = self._process.returncode
        self.findings.append(f"life {self.lives} ended by itself, with exit code {code}")
        return True
