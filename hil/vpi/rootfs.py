"""The virtual Pi's disk: Debian 12, the gateway in /opt/yukimi, the bench's own hands.

Three layers. Debian and an empty virtual environment; what the gateway depends on, as
constraints.txt pins it; the checkout, which takes seconds when only code has changed. Each is a
tree of files made from the one before with hard links: files are added and never written into.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

from .layers import BuildError, run

PROJECT = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).with_name("guest")

SUITE = "bookworm"
PACKAGES = (
    "systemd,systemd-sysv,udev,dbus,python3,python3-venv,i2c-tools,gpiod,kmod,iproute2,e2fsprogs"
)
NOT_NEEDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
DISK_BYTES = 1024 * 2**20
UUID = "0b5e6f2c-3a7d-4f2e-9d53-7f0c6a1e5d10"  # the same in every build, as its contents are
MACHINE_ID = "3f0d5a1c9e7b4d2f8a6c1b5e7d9f0a2c"
# On a Raspberry Pi the extra `pi` brings it; its wheel for this machine's kind is not in there.
LGPIO = "lgpio==0.2.2.0"
VENV = "opt/yukimi"
MODULES_LOADED = ("i2c-dev", "i2c-virtio", "virtio_net", "virtio_console", "xhci_pci", "ftdi_sio")
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "getty@tty1.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
)


def dependencies() -> list[str]:
    """Return what the gateway depends on, as pyproject.toml has it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names: list[str] = project["dependencies"]
    return names


def build_debian(folder: Path) -> None:
    """Fill `folder`/root with Debian and an empty virtual environment. Raises BuildError."""
    if os.geteuid() != 0:
        raise BuildError("building the virtual Pi needs root, to own the files of its disk")
    tree = folder / "root"
    excluded = [f"--dpkgopt=path-exclude={path}" for path in NOT_NEEDED]
    run(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={PACKAGES}",
        *excluded,
        f'--customize-hook=chroot "$1" python3 -m venv /{VENV}',
        SUITE,
        tree,
    )
    for left in ("var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(tree / left, ignore_errors=True)


def build_dependencies(folder: Path, debian: Path) -> None:
    """Add what the gateway depends on. Raises BuildError."""
    tree = _grown_from(debian, folder)
    wheels = tree / "wheels"
    host_pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    wanted = [*dependencies(), LGPIO]
    run(
        *host_pip,
        "download",
        "--only-binary=:all:",
        "--python-version=3.11",
        "--implementation=cp",
        "-c",
        PROJECT / "constraints.txt",
        "-d",
        wheels,
        *wanted,
    )
    _pip_inside(tree, "--find-links=/wheels", *wanted)
    shutil.rmtree(wheels)


def build_product(folder: Path, dependencies: Path, kernel_layer: Path) -> None:
    """Add the checkout as an installation places it; write `folder`/disk. Raises BuildError."""
    tree = _grown_from(dependencies, folder)
    wheels = tree / "wheels"
    run(
        *(sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"),
        *("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", wheels, PROJECT),
    )
    (wheel,) = wheels.iterdir()
    _pip_inside(tree, "--no-deps", f"/wheels/{wheel.name}")
    shutil.rmtree(wheels)
    _install_gateway(tree)
    _write_disk(folder, tree, kernel_layer)


def build_fresh(folder: Path, debian: Path, kernel_layer: Path, packages: Path) -> None:
    """Write `folder`/disk: no gateway, and its packages in /packages. Raises BuildError."""
    tree = _grown_from(debian, folder)
    shutil.rmtree(tree / VENV)
    shutil.copytree(packages, tree / "packages")
    _write_disk(folder, tree, kernel_layer)


def _write_disk(folder: Path, tree: Path, kernel_layer: Path) -> None:
    """Add what makes a tree this machine's; write `folder`/disk, and remove the tree."""
    shutil.copytree(kernel_layer / "lib/modules", tree / "usr/lib/modules", dirs_exist_ok=True)
    _install_bench(tree)
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    run("mkfs.ext4", "-q", "-F", "-U", UUID, "-L", "vpi", "-d", tree, disk)
    shutil.rmtree(tree)


def _grown_from(before: Path, folder: Path) -> Path:
    tree = folder / "root"
    run("cp", "-al", before / "root", tree)
    return tree


def _pip_inside(tree: Path, *wanted: str) -> None:
    pip = (f"/{VENV}/bin/python", "-m", "pip", "install", "-q", "--no-index", "--no-cache-dir")
    run("chroot", tree, *pip, "--disable-pip-version-check", *wanted)


def _install_gateway(tree: Path) -> None:
    """Place what is in systemd/ where a package would."""
    places = {
        ".service": "etc/systemd/system/{}",
        ".rules": "etc/udev/rules.d/{}",
        ".sysusers": "usr/lib/sysusers.d/yukimi.conf",
        ".tmpfiles": "usr/lib/tmpfiles.d/yukimi.conf",
    }
    for file in sorted((PROJECT / "systemd").iterdir()):
        if (place := places.get(file.suffix)) is not None:
            _place(file, tree / place.format(file.name))
    for group in ("gpio", "i2c"):  # as Raspberry Pi OS has them
        run("chroot", tree, "groupadd", "-f", "--system", group)
    if (tree / places[".sysusers"]).exists():
        run("chroot", tree, "systemd-sysusers", "yukimi.conf")
    else:
        run("chroot", tree, "useradd", "--system", "--user-group", "--no-create-home", "yukimi")
    (tree / "usr/local/bin/yukimi").symlink_to(f"/{VENV}/bin/yukimi")


def _install_bench(tree: Path) -> None:
    for name in ("agent.py", "board.sh"):
        _place(GUEST / name, tree / "usr/local/lib/vpi" / name)
    for name in ("vpi-agent.service", "vpi-board.service"):
        _place(GUEST / name, tree / "etc/systemd/system" / name)
    _place(GUEST / "99-vpi.rules", tree / "etc/udev/rules.d/99-vpi.rules")
    _place(GUEST / "20-wired.network", tree / "etc/systemd/network/20-wired.network")
    # The unit's /proc is its own (ProtectProc=): what board.sh lays over a file is not in it.
    board = "[Service]\nBindReadOnlyPaths=/run/cpuinfo:/proc/cpuinfo\n"
    _write(tree / "etc/systemd/system/yukimi.service.d/vpi.conf", board)
    getty = tree / "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf"
    _place(GUEST / "autologin.conf", getty)
    _write(tree / "etc/hostname", "virtual-pi\n")
    _write(tree / "etc/hosts", "127.0.0.1 localhost virtual-pi\n")
    # With one there is no first boot, which would enable every service.
    _write(tree / "etc/machine-id", f"{MACHINE_ID}\n")
    _write(tree / "etc/modules-load.d/vpi.conf", "".join(f"{each}\n" for each in MODULES_LOADED))
    # One that survives a boot, as a technician would set it.
    _write(tree / "etc/systemd/journald.conf.d/vpi.conf", "[Journal]\nStorage=persistent\n")
    # A machine that has little time is slow, not broken; the gateway's own watchdog stays.
    slow = "DefaultTimeoutStartSec=1h\nDefaultTimeoutStopSec=1h\nDefaultDeviceTimeoutSec=1h\n"
    _write(tree / "etc/systemd/system.conf.d/vpi.conf", f"[Manager]\n{slow}")
    for name in ("journald", "udevd", "networkd", "logind"):
        unit = tree / f"etc/systemd/system/systemd-{name}.service.d/vpi.conf"
        _write(unit, "[Service]\nWatchdogSec=0\n")
    enabled = ("vpi-agent", "vpi-board", "systemd-networkd")
    run("chroot", tree, "systemctl", "-q", "enable", *enabled)
    run("chroot", tree, "systemctl", "-q", "mask", *MASKED)
    run("chroot", tree, "passwd", "-q", "-d", "root")
    # Else the first boot compiles the hardware data base anew, which takes longer than the rest.
    for name in ("etc/.updated", "var/.updated"):
        _write(tree / name, "")


def _place(source: Path, target: Path) -> None:
    _write(target, source.read_text(encoding="utf-8"))


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # it may be a hard link into the layer below
    target.write_text(text, encoding="utf-8")
