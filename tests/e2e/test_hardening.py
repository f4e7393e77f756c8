"""What the daemon holds of people stays in its memory: shown on the real process.

Each test has its negative control: the same process, with that door left open.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIG = """
[gateway]
id = "doors"
[uplink]
brokers = ["mqtt://127.0.0.1:9"]
[spool]
path = "spool.db"
[[buses]]
id = "walkway"
kind = "simulated"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "walkway"
options = { pin_a = 17, pin_b = 27 }
"""
RUN = "import sys; from agent.cli import main; sys.exit(main(['run', '--config', 'gateway.toml']))"
OPEN = "from agent import hardening; hardening.keep_memory_to_itself = lambda: None; "
UNLOCKED = "from agent import hardening; hardening.lock_memory = lambda: False; "
WAIT_S = 90.0
PR_CAPBSET_DROP, CAP_IPC_LOCK, CAPS = 24, 14, 64
LOOK = "import sys; open(sys.argv[1], 'rb').read(1)"
libc = ctypes.CDLL(None)


@contextmanager
def daemon(
    folder: Path, before: str = "", begin: Callable[[], None] = lambda: None
) -> Iterator[subprocess.Popen[str]]:
    """A running daemon."""
    (folder / "gateway.toml").write_text(CONFIG)
    with subprocess.Popen(
        [sys.executable, "-c", before + RUN],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=begin,  # noqa: PLW1509  (of a process that has no other thread)
    ) as process:
        assert process.stderr is not None
        try:
            while "event=started" not in (line := process.stderr.readline()):
                assert line, "the daemon ended"
            yield process
        finally:
            process.kill()


def allow_cores() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def be_nobody_special() -> None:
    """Have no capability from here on, as the service has none; root has all of them."""
    for number in range(CAPS):
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # where there is none it fails: as well


def may_read(path: str) -> bool:
    """Whether somebody of the daemon's own user may."""

    done = subprocess.run(
        [sys.executable, "-c", LOOK, path],
        capture_output=True,
        check=False,
        preexec_fn=be_nobody_special,
    )
    return done.returncode == 0


def status(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise KeyError(name)


def test_nobody_of_the_same_user_looks_into_its_memory(tmp_path: Path) -> None:
    with daemon(tmp_path, begin=be_nobody_special) as process:
        for door in ("maps", "mem", "environ"):
            assert not may_read(f"/proc/{process.pid}/{door}"), door
        assert may_read(f"/proc/{process.pid}/statm")  # how much memory it has is everybody's
    with daemon(tmp_path, OPEN, be_nobody_special) as process:
        assert may_read(f"/proc/{process.pid}/maps")


def test_it_leaves_no_core_whoever_allows_it(tmp_path: Path) -> None:
    with daemon(tmp_path, begin=allow_cores) as process:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = (each for each in limits.splitlines() if each.startswith("Max core file size"))
        assert line.split()[4:6] == ["0", "0"]
    if Path("/proc/sys/kernel/core_pattern").read_text()[:1] in "|/":
        pytest.skip("this machine hands cores to a program, or to another folder")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("nobody here may write cores")
    assert cores(tmp_path, "") == 0
    # Each of the two shuts it alone.
    only_limit = "from agent import hardening; hardening._libc.prctl = lambda *_: 0; "
    assert cores(tmp_path, only_limit) == 0
    only_flag = "import resource; resource.setrlimit = lambda *_: None; "
    assert cores(tmp_path, only_flag) == 0
    assert cores(tmp_path, OPEN) == 1


def cores(folder: Path, before: str) -> int:
    """Abort a daemon as a watchdog does; return how many cores it left."""
    with daemon(folder, before, allow_cores) as process:
        process.send_signal(signal.SIGABRT)
        assert process.wait(WAIT_S) == -signal.SIGABRT
    found = [file for file in folder.iterdir() if file.name.startswith("core")]
    for file in found:
        file.unlink()
    return len(found)


def test_its_pages_are_locked_where_it_may(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] != resource.RLIM_INFINITY and not (
        int(status(os.getpid(), "CapEff"), 16) >> CAP_IPC_LOCK & 1
    ):
        pytest.skip("this user may not lock memory; the unit lets the service")
    with daemon(tmp_path) as process:
        assert status(process.pid, "VmLck") != "0 kB"
    with daemon(tmp_path, UNLOCKED) as process:
        assert status(process.pid, "VmLck") == "0 kB"


def test_the_unit_says_the_same() -> None:
    unit = Path(__file__).resolve().parents[2] / "systemd" / "yukimi.service"
    lines = unit.read_text(encoding="utf-8").splitlines()
    for needed in ("LimitCORE=0", "LimitMEMLOCK=infinity", "MemorySwapMax=0"):
        assert needed in lines
    # gpiozero's lgpio makes a pipe, mode 0664, in the directory it is started from.
    assert "WorkingDirectory=%S/yukimi" in lines
    assert "StateDirectoryMode=0700" in lines
