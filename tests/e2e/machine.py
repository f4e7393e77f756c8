"""A small Debian that boots the very unit: systemd-nspawn, in less than two seconds.

Its root is built once by mmdebstrap and kept in ~/.cache; each boot sees it through an overlay in
memory. The gateway is this checkout, in the interpreter that runs the tests. The network is the
host's own, so that a broker and a city outside can be talked to. Needs root.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

import pytest

PROJECT = Path(__file__).resolve().parents[2]
UNIT = PROJECT / "systemd" / "yukimi.service"
# libbpf1 comes with iproute2 everywhere; with it systemd of Debian 13 enforces SocketBindDeny.
PACKAGES = ("systemd", "systemd-sysv", "udev", "python3", "libbpf1")
SUITE = os.environ.get("YUKIMI_SUITE", "bookworm")
PROGRAMS = ("systemd-nspawn", "mmdebstrap", "nsenter")
ENVIRONMENT = (
    "PYTHONPATH=/opt/patch:/opt/checkout",
    "PYTHONPYCACHEPREFIX=/opt/compiled",
    "PYTHONDONTWRITEBYTECODE=",
    "LD_LIBRARY_PATH=/opt/python/lib",
)
COMPILE = "import agent.daemon, agent.cli.run, agent.cli.status, hil.simulated"
BOOT_S, DONE_S = 60.0, 60.0


def need() -> None:
    """Skip the test where no machine can be booted; fail where one must be."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        reason = f"to boot a machine there is no {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def root() -> Path:
    """Return the root of a Debian, built at the first call."""
    recipe = "\n".join((SUITE, *PACKAGES))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    folder = Path("~/.cache").expanduser() / f"yukimi-rootfs-{digest}"
    if not folder.is_dir():
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        folder.parent.mkdir(exist_ok=True)
        include = f"--include={','.join(PACKAGES)}"
        command = ["mmdebstrap", "-q", "--variant=minbase", include, SUITE, str(building)]
        subprocess.run(command, check=True)
        try:
            building.rename(folder)
        except OSError:  # somebody else was faster
            shutil.rmtree(building)
    return folder


def new_group() -> Path | None:
    """Make a control group; None where that cannot be."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, place, kind, *_ in mounts:
        if kind == "cgroup2":
            group = Path(place) / f"yukimi-{secrets.token_hex(4)}"
            with suppress(OSError):
                group.mkdir()
                return group
    return None


class Machine:
    """One boot. `folder` holds what lasts: etc, state, and what is patched for the test."""

    def __init__(
        self, folder: Path, *, binds: Mapping[Path | str, str] = MappingProxyType({})
    ) -> None:
        self.folder = folder
        self.etc = self._make("etc")
        self.state = self._make("state")
        self.patch = self._make("patch")  # Python that is imported before the daemon
        self.dropins = self._make("dropins")
        self.compiled = self._make("compiled")
        self._binds = dict(binds)
        self._leader = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._group: Path | None = None  # its control group

    def __enter__(self) -> Self:
        self._lay_out()
        self._group = new_group()
        command = ["systemd-nspawn", "--boot", f"--directory={root()}", "--volatile=overlay"]
        command += [
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--console=pipe",
            "--quiet",
        ]
        # What a container is not given by itself: locked memory, and the kernel's filters for
        # devices and addresses, which systemd loads as BPF programs.
        command += [
            "--rlimit=MEMLOCK=infinity",
            "--capability=CAP_BPF,CAP_NET_ADMIN",
            "--system-call-filter=bpf",
        ]
        command += [f"--bind={self.compiled}:/opt/compiled"]
        command += [f"--bind={what}:{where}" for what, where in self._binds.items()]
        command += [f"--bind-ro={what}:{where}" for what, where in self._read_only().items()]
        self._log = (self.folder / "console.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "systemd.unit=basic.target"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            preexec_fn=self._enter_group,  # noqa: PLW1509  (it writes one line to one file)
        )
        self.wait(self._has_booted, "a machine that has booted", BOOT_S)
        self.run("env", *ENVIRONMENT, "/opt/yukimi/bin/python", "-c", COMPILE)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        self.run("systemctl", "poweroff", "--force", "--force", check=False)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        if self._group is not None:  # from the leaves up; the kernel's own files need no removal
            for folder, _, _ in os.walk(self._group, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()

    # Acting

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the machine, as root."""
        return subprocess.run(
            ["nsenter", f"--target={self._leader}", "--all", "--wd=/", *command],
            check=check,
            capture_output=True,
            text=True,
            timeout=DONE_S,
        )

    def drop_in(self, name: str, lines: Sequence[str]) -> None:
        """Write a drop-in of the service's unit, below [Service]."""
        file = self.dropins / f"{name}.conf"
        file.write_text("\n".join(["[Service]", *lines, ""]), encoding="utf-8")
        self.run("systemctl", "daemon-reload")

    # Looking

    def show(self, *names: str) -> dict[str, str]:
        """Return properties of the service."""
        said = self.run("systemctl", "show", "yukimi", f"--property={','.join(names)}").stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self) -> str:
        """Return what the service and systemd have said of it."""
        return self.run("journalctl", "--unit=yukimi", "--output=cat", check=False).stdout

    def wait(self, is_so: Callable[[], bool], what: str, within_s: float = DONE_S) -> None:
        """Wait until something is so."""
        until_s = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > until_s:
                console = (self.folder / "console.log").read_text(errors="replace")[-3000:]
                journal = self.journal()[-6000:] if self._leader else ""
                pytest.fail(f"never came: {what}\n{console}\n{journal}")
            time.sleep(0.05)

    def _has_booted(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True  # and what comes next fails
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return False
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                self._leader = int(child)
        if not self._leader:
            return False
        done = self.run("systemctl", "is-active", "basic.target", check=False)
        return done.stdout.strip() == "active"

    # The tree

    def _make(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def _lay_out(self) -> None:
        """Make /opt/yukimi: the interpreter of the tests, under a path that the unit may see."""
        place = self._make("opt")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        home = "/usr/bin" if self._is_systems_own else "/opt/python/bin"
        (place / "bin").mkdir(exist_ok=True)
        (place / "lib" / version / "site-packages").mkdir(parents=True, exist_ok=True)
        (place / "pyvenv.cfg").write_text(f"home = {home}\n")
        (place / "bin" / "python").unlink(missing_ok=True)
        (place / "bin" / "python").symlink_to(f"{home}/{version}")
        script = place / "bin" / "yukimi"
        script.write_text(
            "#!/opt/yukimi/bin/python\nimport sys\nfrom agent.cli import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
        for folder in (self.folder, *self.folder.iterdir()):
            if folder.is_dir():
                folder.chmod(0o755)
        (self.folder / "journald.conf").write_text("[Journal]\nStorage=volatile\n")
        (self.dropins / "checkout.conf").write_text(
            f"[Service]\nEnvironment={' '.join(ENVIRONMENT)}\n"
        )

    def _enter_group(self) -> None:
        """Begin in a control group of its own: two in one would kill each other's units."""
        if self._group is not None:
            (self._group / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def _is_systems_own(self) -> bool:
        return sys.base_prefix == "/usr"

    def _read_only(self) -> dict[Path | str, str]:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        binds: dict[Path | str, str] = {
            PROJECT: "/opt/checkout",
            self.folder / "opt": "/opt/yukimi",
            sysconfig.get_path("purelib"): f"/opt/yukimi/lib/{version}/site-packages",
            self.patch: "/opt/patch",
            self.etc: "/etc/yukimi",
            self.folder / "journald.conf": "/etc/systemd/journald.conf.d/test.conf",
            self.dropins: "/etc/systemd/system/yukimi.service.d",
            UNIT: "/etc/systemd/system/yukimi.service",
        }
        for file, place in (
            ("yukimi.sysusers", "/usr/lib/sysusers.d/yukimi.conf"),
            ("yukimi.tmpfiles", "/usr/lib/tmpfiles.d/yukimi.conf"),
            ("60-yukimi-devices.rules", "/usr/lib/udev/rules.d/60-yukimi-devices.rules"),
            ("60-yukimi-led.rules", "/usr/lib/udev/rules.d/60-yukimi-led.rules"),
        ):
            binds[UNIT.parent / file] = place
        if not self._is_systems_own:
            binds[sys.base_prefix] = "/opt/python"
        return binds
