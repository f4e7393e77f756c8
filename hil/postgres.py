"""The bench's PostgreSQL: Debian's binaries, a cluster of its own in a temporary folder.

It refuses to run as root, so root lends it the user `postgres` (or `nobody`). It keeps one port of
127.0.0.1 for life, as the brokers do.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Self

from .relay import HOST, hold_port

_START_S = 60.0
_STOP_S = 30.0
_QUIET = ("-c", "log_min_messages=fatal", "-c", "max_connections=40")


class PostgresError(Exception):
    """PostgreSQL did not start or stop; the message holds what it said."""


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs, None where it is not installed."""
    on_path = [Path(folder) for folder in os.get_exec_path()]
    # Debian keeps them off PATH, by version, and puts some of them there.
    of_debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in [*of_debian, *on_path]:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_isready")):
            return folder
    return None


class Postgres:
    """A server on `url`, which stays the same through every start; `folder` may be given.

    `options` are more settings of the server, `name=value`.
    """

    def __init__(self, *, folder: Path | None = None, options: tuple[str, ...] = ()) -> None:
        programs = binaries()
        if programs is None:
            raise PostgresError("no PostgreSQL: apt install postgresql")
        self._programs = programs
        self._owner = _owner()
        self._holder = hold_port()
        self.port: int = self._holder.getsockname()[1]
        self.url = f"postgresql://city@{HOST}:{self.port}/postgres"
        self._own_folder = Path(tempfile.mkdtemp(prefix="yukimi-postgres-"))
        self.folder = folder or self._own_folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = self._own_folder / "postgres.log"
        self._options = _QUIET + tuple(word for each in options for word in ("-c", each))
        for each in (self._own_folder, self.folder):
            if self._owner is not None:
                os.chown(each, self._owner.pw_uid, self._owner.pw_gid)
        self._data = self.folder / "data"
        initdb = ["initdb", "-D", str(self._data), "-U", "city", "-A", "trust", "-E", "UTF8"]
        made = self._program([*initdb, "--locale=C.UTF-8", "--no-sync"], stdout=subprocess.PIPE)
        said, _ = made.communicate()
        if made.returncode:
            raise PostgresError(f"initdb: {said.decode()}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What it has said in all its lives."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def is_running(self) -> bool:
        """Whether the server's first process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when it takes connections. Raises PostgresError."""
        if self.is_running():
            return
        with self._log_file.open("ab") as log:
            server = ["postgres", "-D", str(self._data), "-h", HOST, "-p", str(self.port)]
            sockets = ["-k", str(self._own_folder)]
            self._process = self._program([*server, *sockets, *self._options], stdout=log)
        ready = ["pg_isready", "-q", "-h", HOST, "-p", str(self.port), "-t", "5"]
        deadline_s = time.monotonic() + _START_S
        while self._program(ready, stdout=subprocess.DEVNULL).wait():
            if not self.is_running() or time.monotonic() > deadline_s:
                raise PostgresError(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does: no checkpoint, every connection torn."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        self._end(signal.SIGINT)

    def close(self) -> None:
        """Stop it; its folder is gone afterwards."""
        self._end(signal.SIGQUIT)
        self._holder.close()
        shutil.rmtree(self._data, ignore_errors=True)
        shutil.rmtree(self._own_folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _program(self, command: list[str], *, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
        owner = self._owner
        return subprocess.Popen(
            [str(self._programs / command[0]), *command[1:]],
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self._own_folder,
            user=None if owner is None else owner.pw_uid,
            group=None if owner is None else owner.pw_gid,
            extra_groups=() if owner is not None else None,
        )


def _owner() -> pwd.struct_passwd | None:
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL does not run as root, and there is no user to lend it")
