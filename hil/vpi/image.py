"""Everything that a virtual Pi boots from, built or taken from the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import kernel, packages, rootfs
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
    base = _base(say)
    project = rootfs.PROJECT
    dependencies_key = key_of(
        base.debian_key, rootfs.LGPIO, project / "constraints.txt", *rootfs.dependencies()
    )
    dependencies = layer(
        "dependencies",
        dependencies_key,
        lambda folder: rootfs.build_dependencies(folder, base.debian),
        say=say,
    )
    product_key = key_of(
        base.kernel_key, dependencies_key, project / "pyproject.toml", *_in_guest()
    )
    product = layer(
        "product",
        product_key,
        lambda folder: rootfs.build_product(folder, dependencies, base.kernel),
        say=say,
    )
    return base.image(product)


def fresh_image(say: Callable[[str], None]) -> Image:
    """Build, or take from the cache, a machine that never had a gateway. Raises BuildError."""
    base = _base(say)
    project = rootfs.PROJECT
    inputs = [project / name for name in ("deb", "pyproject.toml", "uv.lock")]
    made_of = key_of(Path(packages.__file__), *inputs, *_in_guest())
    shipped = layer("packages", made_of, packages.build_packages, say=say)
    fresh = layer(
        "fresh",
        key_of(base.kernel_key, base.debian_key, made_of),
        lambda folder: rootfs.build_fresh(folder, base.debian, base.kernel, shipped),
        say=say,
    )
    return base.image(fresh)


@dataclass(frozen=True, slots=True)
class _Base:
    """What every machine is made of."""

    kernel: Path
    kernel_key: str
    debian: Path
    debian_key: str

    def image(self, grown: Path) -> Image:
        """Return what boots the disk of a layer."""
        return Image(self.kernel / "vmlinux", self.kernel / "initramfs.gz", grown / "disk")


def _base(say: Callable[[str], None]) -> _Base:
    if absent := missing():
        raise BuildError(f"apt-get install --no-install-recommends {' '.join(absent)}")
    kernel_key = key_of(Path(kernel.__file__))
    made_kernel = layer("kernel", kernel_key, kernel.build, say=say)
    debian_key = key_of(rootfs.SUITE, rootfs.PACKAGES, rootfs.VENV, *rootfs.NOT_NEEDED)
    debian = layer("debian", debian_key, rootfs.build_debian, say=say)
    return _Base(made_kernel, kernel_key, debian, debian_key)


def _in_guest() -> list[Path]:
    """Return what decides how the guest behaves: all rooms, but of this one its own side only."""
    rooms = [rootfs.PROJECT / name for name in ("agent", "drivers", "config", "systemd")]
    bench = [each for each in sorted((rootfs.PROJECT / "hil").iterdir()) if each.name != "vpi"]
    return [*rooms, *bench, Path(rootfs.__file__), rootfs.GUEST]
