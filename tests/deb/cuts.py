"""A machine whose power goes at a chosen step of a command; its disk loses what is not synced.

A Debian system (deb/rootfs.py) in a chroot, whose changes are on an ext4 of its own. strace ends
the command before its Nth call of a kind; all else is killed, the ext4 is shut down and mounted
again, and what then is there is what a boot would find. Two small packages stand for two versions,
and a program that answers at the control socket for the gateway. There is no systemd: `boot` does
what it would do with the gate.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import pytest

from hil.faults.ext4 import Ext4Image, UnavailableError
from tests.deb.conftest import PROJECT
from tests.deb.systems import WAIT_S, wait

DISK_BYTES = 96 * 2**20
FILES = 60  # in a package
CONTROL = """\
Package: yukimi
Version: {version}
Architecture: all
Maintainer: nobody
Description: stands for the real one
"""
# Of a version that is no good nobody ever hears anything. Each life has a name of its own.
DAEMON = """
import json, os, pathlib, socket, sys
place, *good = sys.argv[1:]
version = pathlib.Path("../../opt/yukimi/0")
listening = socket.socket(socket.AF_UNIX)
listening.bind(place)
listening.listen()
print("up", flush=True)
uplink = {"connected_since": "x", "acknowledged": "x", "broker": None, "nobody_subscribes": []}
while True:
    client, _ = listening.accept()
    client.recv(4096)
    runs = version.read_text() if version.exists() else ""
    if runs in good:
        gateway = {"run": f"{runs}-{os.getpid()}", "refused": [], "applied": None}
        answer = {"gateway": gateway, "uplink": uplink, "sensors": []}
        client.sendall(json.dumps({"ok": True, "answer": answer}).encode() + b"\\n")
    client.close()
"""
ARM = (
    *("env", "PYTHONPATH=/source", "PYTHONDONTWRITEBYTECODE=1"),
    *("python3", "-m", "agent.gate", "arm"),
)
GATE = ("python3", "-I", "/var/lib/yukimi-update/gate.pyz", "run")
OLD, NEW = ("dpkg", "--force-downgrade", "-i", "/old.deb"), ("dpkg", "-i", "/new.deb")
SYNCS = "fsync,fdatasync,sync,syncfs,sync_file_range,msync"


class Machine:
    """A context manager; `root` is the machine's file system."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base = base
        self._image = Ext4Image(folder, keeps_its_word=True, size_bytes=DISK_BYTES)
        self.root = folder / "root"
        self.root.mkdir()
        self.state = self.root / "var/lib/yukimi-update/state.json"
        self.pin = self.root / "etc/apt/preferences.d/yukimi-refused.pref"
        units = self.root / "etc/systemd/system"
        self.unit = units / "yukimi-update-gate.service"
        self.wanted = units / "multi-user.target.wants/yukimi-update-gate.service"
        self._daemon: subprocess.Popen[str] | None = None
        self._is_up = False
        self.good = ["1"]  # versions of the gateway that deliver
        self.cuts = 0

    def __enter__(self) -> Self:
        try:
            self._image.make()
        except UnavailableError as exc:
            if os.environ.get("CI"):
                pytest.fail(str(exc))
            pytest.skip(str(exc))
        with ExitStack() as undo:
            undo.callback(self._image.abandon)
            (self._image.mount_point / "upper").mkdir()
            (self._image.mount_point / "work").mkdir()
            self._mount()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._image.close()

    def save(self, name: str) -> None:
        """Keep what is on the disk, all of it, under a name."""
        self._stop()
        self._image.save(name)
        self.go_back(name)

    def go_back(self, name: str) -> None:
        """Be as when it was kept, switched on, with the gateway running."""
        self._stop()
        self._image.go_back(name)
        self._mount()
        self._start_daemon()

    def run(self, *command: str, skips_syncs: bool = False) -> str:
        """Run a command to its end, and return what it said.

        Without the syncs that itself asks for, if it skips them.
        """
        options = ("-e", f"trace={SYNCS}", "-e", f"inject={SYNCS}:retval=0")
        before = ("strace", "-q", "-o", "/dev/null", *options) if skips_syncs else ()
        done = subprocess.run(
            [*before, "chroot", str(self.root), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def run_without_sync(self, number: int, *command: str) -> str:
        """Run a command and skip one sync; return what was not synced, "" if there was no such."""
        told = self.root.with_name("strace.txt")
        skip = ("-e", "trace=fsync", "-e", f"inject=fsync:retval=0:when={number}")
        done = subprocess.run(
            ["strace", "-q", "-y", "-o", told, *skip, "chroot", self.root, *command],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        skipped = [line for line in told.read_text().splitlines() if "INJECTED" in line]
        return Path(skipped[0].partition("<")[2].partition(">")[0]).name if skipped else ""

    def is_cut_at(
        self,
        call: str,
        count: int,
        *command: str,
        names_survive: bool = False,
        in_children: bool = False,
        skips_syncs: bool = False,
    ) -> bool:
        """Run a command and cut the power at the count-th such call; False if it ended before.

        `in_children` counts in each process that it starts as well, and cuts at the first.
        """
        told = self.root.with_name("strace.txt")
        told.write_text("")  # of the cut before
        told_of = f"{call},{SYNCS}" if skips_syncs else call
        options = ["-o", str(told), "-e", f"trace={told_of}"]
        options += ["-e", f"inject={call}:signal=KILL:when={count}"]
        options += ["-f"] if in_children else []
        options += ["-e", f"inject={SYNCS}:retval=0"] if skips_syncs else []
        process = self._start("strace", "-q", *options, "chroot", str(self.root), *command)
        if in_children:
            wait(
                lambda: process.poll() is not None or "killed by SIGKILL" in told.read_text(),
                poll_s=0.005,
            )
        else:
            process.wait(WAIT_S)
        is_cut = "killed by SIGKILL" in told.read_text()
        _end(process)
        assert is_cut or process.returncode == 0, told.read_text()[-2000:]
        if is_cut:
            self.cut_power(names_survive=names_survive)
        return is_cut

    def is_cut_after(self, seconds: float, *command: str) -> bool:
        """Run a command and cut the power after a while; False if it ended before."""
        process = self._start("chroot", str(self.root), *command)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        is_cut = process.poll() is None
        _end(process)
        self.cut_power()
        return is_cut

    def cut_power(self, *, names_survive: bool = False) -> None:
        """Lose what was not synced, and be switched on again; nothing but the disk remembers."""
        self._end_daemon()
        self._image.cut(names_survive=names_survive)
        self._unmount()
        self._image.power_on()
        self._mount()
        self._start_daemon()
        self.cuts += 1

    def boot(self) -> None:
        """Do what systemd does with the gate: start it if its unit is there, and wanted."""
        if self.wanted.is_symlink() and self.unit.exists():
            text = self.unit.read_text()
            assert f"\nExecStart=/usr/bin/{' '.join(GATE)}\n" in text
            self.run(*GATE)

    def left(self) -> set[str]:
        """Return what is left of the gate, but for the kept package and the program."""
        there = {
            "state": self.state.exists(),
            "unit": self.unit.exists(),
            "wanted": self.wanted.is_symlink(),
        }
        return {name for name, is_there in there.items() if is_there}

    def silence(self) -> None:
        """Let no version answer any more."""
        self._end_daemon()

    def ends_with(self, version: str) -> bool:
        """Whether the package is installed in this version, and every file of it is."""
        show = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "yukimi"]
        command = ["chroot", str(self.root), *show]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return said == f"ii {version}" and self.is_unpacked(version)

    def is_unpacked(self, version: str) -> bool:
        """Whether every file of the package is there in this version, and no other."""
        files = [*(self.root / "opt/yukimi").iterdir()]
        return len(files) == FILES and {file.read_text() for file in files} == {version}

    @staticmethod
    def _start(*command: str) -> subprocess.Popen[bytes]:
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            command, start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing
        )

    def _start_daemon(self) -> None:
        self._end_daemon()
        place = self.root / "run/yukimi/control.sock"
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        # Bound by a short name: a socket's path is at most 107 bytes.
        self._daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, place.name, *self.good],
            cwd=place.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._daemon.stdout is not None
        assert self._daemon.stdout.readline() == "up\n"

    def _end_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.communicate()
        self._daemon = None

    def _stop(self) -> None:
        self._end_daemon()
        self._unmount()

    def _mount(self) -> None:
        disk = self._image.mount_point
        layers = f"lowerdir={self._base},upperdir={disk}/upper,workdir={disk}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        self._is_up = True

    def _unmount(self) -> None:
        def is_gone() -> bool:  # what was killed may not have let go yet
            done = subprocess.run(["umount", self.root], capture_output=True, check=False)
            return done.returncode == 0

        if self._is_up:
            wait(is_gone, poll_s=0.005)
        self._is_up = False


def installed_machine(machine: Machine, folder: Path) -> None:
    """Have the old version installed, and keep that as "old"."""
    root = machine.root
    for name, version in (("old", "1"), ("new", "2")):
        tree = folder / name
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
    (root / "etc/default/yukimi").write_text("UPDATE_TRIAL_S=0.8\nUPDATE_SETTLE_S=0.1\n")
    # The system was made without dpkg's syncs (deb/rootfs.py); no gateway lives like that.
    for file in (root / "etc/dpkg/dpkg.cfg.d").iterdir():
        if "force-unsafe-io" in file.read_text():
            file.unlink()
    machine.run(*OLD)
    # Once there and back: an overlay syncs what it copies up, and nothing is left to be.
    machine.run(*NEW)
    machine.run(*OLD)
    assert machine.ends_with("1")
    machine.save("old")


def each_cut(
    machine: Machine,
    start: str,
    calls: Sequence[str],
    *command: str,
    every: int = 1,
    in_children: bool = False,
    skips_syncs: bool = False,
) -> Iterator[tuple[str, bool]]:
    """Begin at `start`, and cut at one such call of a command after the other, in both ways.

    Yields a name of each, and whether names survived it; the last of each call is not cut.
    """
    for call, names_survive in itertools.product(calls, (False, True)):
        if call == "vfork" and names_survive:
            continue  # whatever it has done so far is synced
        for count in itertools.count(1, every):
            machine.go_back(start)
            if not machine.is_cut_at(
                call,
                count,
                *command,
                names_survive=names_survive,
                in_children=in_children,
                skips_syncs=skips_syncs,
            ):
                break
            yield f"{call} {count}{', names survive' if names_survive else ''}", names_survive


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
