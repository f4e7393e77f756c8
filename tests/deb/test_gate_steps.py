"""The power goes at every step of an update, with real dpkg and small packages: what is left ends
with one version that is whole, and with the old one where the new one is no good.

The gate is killed by strace at each sync, each rename and each program that it starts; dpkg at
moments spread over what it does. At the next boot systemd starts the gate if its state is there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deb.conftest import PROJECT
from tests.deb.systems import System

CONTROL = """\
Package: yukimi
Version: {version}
Architecture: all
Maintainer: nobody
Description: stands for the real one
"""
FILES = 60  # in a package
CALLS = ("fsync", "rename", "vfork")
ARM = ("env", "PYTHONPATH=/source", "python3", "-m", "agent.gate", "arm")
GATE = ("python3", "-I", "/var/lib/yukimi-update/gate.pyz", "run")
# The old version delivers; of the new one nobody ever hears anything.
DAEMON = """
import json, pathlib, socket, sys
version = pathlib.Path("../../opt/yukimi/0")
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
print("up", flush=True)
uplink = {"connected_since": "x", "acknowledged": "x", "broker": None, "nobody_subscribes": []}
gateway = {"run": "old", "refused": [], "applied": None}
answer = {"gateway": gateway, "uplink": uplink, "sensors": []}
while True:
    client, _ = listening.accept()
    client.recv(4096)
    if version.exists() and version.read_text() == "1":
        client.sendall(json.dumps({"ok": True, "answer": answer}).encode() + b"\\n")
    client.close()
"""


class Machine:
    """A machine whose power can be cut while one command runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/yukimi-update/state.json"
        self.pin = root / "etc/apt/preferences.d/yukimi-refused.pref"

    def start_over(self) -> None:
        """Have the old version installed and delivering, and no trace of an update."""
        shutil.rmtree(self.root / "var/lib/yukimi-update", ignore_errors=True)
        self.pin.unlink(missing_ok=True)
        self.run("dpkg", "--force-downgrade", "-i", "/old.deb")
        assert self.ends_with("1")

    def run(self, *command: str) -> None:
        """Run a command to its end."""
        done = subprocess.run(
            ["chroot", str(self.root), *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def is_cut_at(self, call: str, count: int, *command: str) -> bool:
        """Run a command and cut the power at the count-th such call; False if it ended before."""
        strace = ("strace", "-q", "-o", "/dev/null", "-e", f"trace={call}")
        inject = ("-e", f"inject={call}:signal=KILL:when={count}")
        return self._is_cut([*strace, *inject, "chroot", str(self.root), *command], None)

    def is_cut_after(self, seconds: float, *command: str) -> bool:
        """Run a command and cut the power after a while; False if it ended before."""
        return self._is_cut(["chroot", str(self.root), *command], seconds)

    def boot(self) -> None:
        """Do what systemd does with the gate."""
        if self.state.exists():
            self.run(*GATE)
        assert not self.state.exists()

    def ends_with(self, version: str) -> bool:
        """Whether the package is installed in this version, and every file of it is."""
        show = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "yukimi"]
        command = ["chroot", str(self.root), *show]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        files = [*(self.root / "opt/yukimi").iterdir()]
        texts = {file.read_text() for file in files}
        return (said, texts, len(files)) == (f"ii {version}", {version}, FILES)

    def _is_cut(self, command: list[str], seconds: float | None) -> bool:
        process = subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return code == -signal.SIGKILL


@contextmanager
def delivering(machine: Machine) -> Iterator[None]:
    """Let the old version run."""
    place = machine.root / "run/yukimi/control.sock"
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    # Bound by a short name: a socket's path is at most 107 bytes.
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, place.name],
        cwd=place.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "up\n"
    try:
        yield
    finally:
        daemon.kill()
        daemon.communicate()


@pytest.fixture
def machine(system: Callable[[str], System], tmp_path: Path) -> Machine:
    root = system("bookworm").root
    for name, version in (("old", "1"), ("new", "2")):
        tree = tmp_path / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(CONTROL.format(version=version))
        (tree / "opt/yukimi").mkdir(parents=True)
        for number in range(FILES):
            (tree / f"opt/yukimi/{number}").write_text(version)
        (tree / "usr/share/doc/yukimi").mkdir(parents=True)
        (tree / "usr/share/doc/yukimi/copyright").touch()
        build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, root / f"{name}.deb"]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    for name in ("agent/__init__.py", "agent/asking.py", "config/places.py", "config/text.py"):
        target = root / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, target)
    (root / "source/config/__init__.py").touch()
    shutil.copytree(PROJECT / "agent/gate", root / "source/agent/gate")
    (root / "etc/default").mkdir(exist_ok=True)
    (root / "etc/default/yukimi").write_text("UPDATE_TRIAL_S=0.4\nUPDATE_SETTLE_S=0.1\n")
    return Machine(root)


def test_a_power_cut_while_the_old_version_keeps_itself_changes_nothing(machine: Machine) -> None:
    cuts = 0
    machine.start_over()
    with delivering(machine):
        for call in CALLS:
            count = 1
            while machine.is_cut_at(call, count, *ARM):
                machine.boot()
                assert machine.ends_with("1"), (call, count)
                cuts, count = cuts + 1, count + 1
            assert machine.state.exists()  # that time it came to its end
            machine.boot()
    assert cuts > 15


def test_without_the_documentation_that_dpkg_leaves_out_it_keeps_itself_too(
    machine: Machine,
) -> None:
    shutil.rmtree(machine.root / "usr/share/doc/yukimi", ignore_errors=True)
    lean = machine.root / "etc/dpkg/dpkg.cfg.d/lean"
    lean.write_text("path-exclude=/usr/share/doc/*\n")
    machine.start_over()
    assert not (machine.root / "usr/share/doc/yukimi").exists()
    with delivering(machine):
        machine.run(*ARM)
    assert machine.state.exists()
    machine.run("dpkg", "-i", "/new.deb")
    machine.boot()
    assert machine.ends_with("1")


def test_a_power_cut_during_dpkg_ends_with_the_old_version_whole(machine: Machine) -> None:
    machine.start_over()
    begin_s = time.monotonic()
    machine.run("dpkg", "-i", "/new.deb")
    took_s = time.monotonic() - begin_s
    broken, moments = 0, 8
    for moment in range(moments):
        machine.start_over()
        with delivering(machine):
            machine.run(*ARM)
        machine.is_cut_after(took_s * (moment + 0.5) / moments, "dpkg", "-i", "/new.deb")
        was_broken = not (machine.ends_with("1") or machine.ends_with("2"))
        broken += was_broken
        machine.boot()
        assert machine.ends_with("1"), moment
        # Nobody has seen what that version does.
        assert not (was_broken and machine.pin.exists()), moment
    assert broken  # else nothing was tried: the gate had something to mend


def test_a_power_cut_while_the_old_version_comes_back_only_delays_it(machine: Machine) -> None:
    cuts = 0
    for call in ("fsync", "rename"):  # before each program it starts, it has written something down
        count = 1
        while True:
            machine.start_over()
            with delivering(machine):
                machine.run(*ARM)
                machine.run("dpkg", "-i", "/new.deb")
                is_cut = machine.is_cut_at(call, count, *GATE)
                machine.boot()
            assert machine.ends_with("1"), (call, count)
            assert "Pin: version 2\n" in machine.pin.read_text()
            if not is_cut:
                break
            cuts, count = cuts + 1, count + 1
    assert cuts > 10


def test_a_version_is_not_refused_if_the_old_one_does_no_more(machine: Machine) -> None:
    machine.start_over()
    with delivering(machine):
        machine.run(*ARM)
    machine.run("dpkg", "-i", "/new.deb")  # and from now on nobody answers, old or new
    machine.boot()
    assert machine.ends_with("1")
    assert not machine.pin.exists()


def test_what_is_removed_while_it_is_on_trial_stays_removed(machine: Machine) -> None:
    machine.start_over()
    settings = machine.root / "etc/default/yukimi"
    settings.write_text(settings.read_text().replace("0.4", "3"))
    with delivering(machine):
        machine.run(*ARM)
    machine.run("dpkg", "-i", "/new.deb")
    gate = subprocess.Popen(["chroot", str(machine.root), *GATE], stderr=subprocess.DEVNULL)
    machine.run("dpkg", "-r", "yukimi")
    assert gate.wait() == 0
    assert not (machine.root / "opt/yukimi").exists()
    assert not machine.state.exists()


def test_without_the_gate_a_bad_version_stays(machine: Machine) -> None:
    machine.start_over()
    machine.run("dpkg", "-i", "/new.deb")
    machine.boot()
    assert machine.ends_with("2")
