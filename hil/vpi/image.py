"""Everything that a virtual Pi boots from, built or taken from the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import kernel, rootfs
from .layers import BuildError, key_of, layer

TOOLS = (  # the commands that it takes, and Debian's packages that have them
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-io", "qemu-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("depmod", "kmod"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("make", "make"),
    ("gcc", "gcc"),
    ("mkfs.ext4", "e2fsprogs"),
)


@dataclass(frozen=True, slots=True)
class Image:
    """What qemu is given."""

    vmlinux: Path
    initramfs: Path
    disk: Path  # never written to


def missing() -> list[str]:
    """Return Debian's packages that are needed and not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [package for command, package in TOOLS if shutil.which(command, path=path) is None]


def image(say: Callable[[str], None]) -> Image:
    """Build what is not in the cache. Raises BuildError."""
    if absent := missing():
        raise BuildError(f"apt-get install --no-install-recommends {' '.join(absent)}")
    kernel_key = key_of(Path(kernel.__file__))
    made_kernel = layer("kernel", kernel_key, kernel.build, say=say)
    debian_key = key_of(rootfs.SUITE, rootfs.PACKAGES, rootfs.VENV, *rootfs.NOT_NEEDED)
    debian = layer("debian", debian_key, rootfs.build_debian, say=say)
    project = rootfs.PROJECT
    dependencies_key = key_of(
        debian_key, rootfs.LGPIO, project / "constraints.txt", *rootfs.dependencies()
    )
    dependencies = layer(
        "dependencies",
        dependencies_key,
        lambda folder: rootfs.build_dependencies(folder, debian),
        say=say,
    )
    product_key = key_of(kernel_key, dependencies_key, project / "pyproject.toml", *_in_guest())
    product = layer(
        "product",
        product_key,
        lambda folder: rootfs.build_product(folder, dependencies, made_kernel),
        say=say,
    )
    return Image(made_kernel / "vmlinux", made_kernel / "initramfs.gz", product / "disk")


def _in_guest() -> list[Path]:
    """Return what decides how the guest behaves: all rooms, but of this one its own side only."""
    rooms = [rootfs.PROJECT / name for name in ("agent", "drivers", "config", "systemd")]
    bench = [each for each in sorted((rootfs.PROJECT / "hil").iterdir()) if each.name != "vpi"]
    return [*rooms, *bench, Path(rootfs.__file__), rootfs.GUEST]
