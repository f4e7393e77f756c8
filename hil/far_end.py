"""`yukimi-city run` as a process of its own: one life after another, on one database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

WAIT_S = 60.0  # for anything that must happen; no promise about how fast it does


class FarEndError(Exception):
    """The process did not do what it should; the message holds what it said."""


class FarEnd:
    """A process of the city. `fault` is Python that breaks the program before it runs."""

    def __init__(
        self,
        broker_url: str,
        database: str,
        *,
        instance: str = "1",
        more: tuple[str, ...] = (),
        fault: str = "",
    ) -> None:
        self._command = [sys.executable, "-m", "hil.city.cli"]
        if fault:
            program = f"import sys\nfrom hil.city.cli import main\n{fault}\nsys.exit(main())"
            self._command = [sys.executable, "-c", program]
        self._command += ["run", "--broker", broker_url, "--database", database]
        self._command += ["--instance", instance, *more]
        self._folder = Path(tempfile.mkdtemp(prefix="yukimi-city-"))
        self._log_file = self._folder / "city.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What it has said in all its lives."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def pid(self) -> int:
        """Of the present life. Raises FarEndError."""
        if self._process is None:
            raise FarEndError("it does not run")
        return self._process.pid

    def start(self, *more: str) -> None:
        """Begin a life; what it said before is no longer waited for."""
        self._begun = len(self.log)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *more], stderr=log, stdout=log, env=os.environ
            )

    def wait_log(self, *words: str) -> None:
        """Wait until this life has said a line with all of `words`."""
        until_s = time.monotonic() + WAIT_S
        while not any(
            all(word in line for word in words) for line in self.log[self._begun :].splitlines()
        ):
            self.check()
            if time.monotonic() > until_s:
                raise FarEndError(f"it never said {words}:\n{self.log}")
            time.sleep(0.02)

    def wait_connected(self) -> None:
        """Wait until it has subscribed."""
        self.wait_log("event=connected")

    def check(self) -> None:
        """Raise FarEndError if it ended although nobody told it to."""
        if self._process is not None and self._process.poll() is not None:
            raise FarEndError(f"it ended by itself, {self._process.returncode}:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def wait_end(self) -> int:
        """Wait until it ends by itself; return the exit code."""
        process, self._process = self._process, None
        if process is None:
            raise FarEndError("it does not run")
        return process.wait(WAIT_S)

    def close(self) -> None:
        """Leave nothing behind, and make sure that it never met a bug."""
        self._end(signal.SIGKILL)
        log = self.log
        for file in self._folder.iterdir():
            file.unlink()
        self._folder.rmdir()
        if "Traceback" in log:
            raise FarEndError(log)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(WAIT_S)
