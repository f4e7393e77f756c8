"""The virtual Pi's kernel: Debian's own, unpacked, with two modules that Debian leaves out.

gpio-sim and i2c-virtio are part of Linux 6.1 but not of Debian's configuration: they are compiled
from Debian's kernel source, with the headers of the same version, in some seconds. The initramfs
holds what it takes to mount the disk. Nothing is installed on the machine that builds.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import tarfile
from pathlib import Path

from .layers import BuildError, run

IMAGE = "linux-image-amd64"
SERIES = "6.1"
XZ_MAGIC = b"\xfd7zXZ\x00"

SOURCES = (
    "drivers/gpio/gpio-sim.c",
    "drivers/gpio/gpiolib.h",
    "drivers/i2c/busses/i2c-virtio.c",
    "kernel/irq/irq_sim.c",
)
# What is changed in them: (file, from, to).
CHANGES = (
    # Linux does not export what this calls; the exported way to the same handler takes the number.
    ("irq_sim.c", "handle_simple_irq(irq_to_desc(irqnum))", "generic_handle_irq(irqnum)"),
    # A transfer that nobody acknowledges would count as one of no messages, without an error. A
    # Raspberry Pi's adapter says EREMOTEIO.
    (
        "i2c-virtio.c",
        "\tkfree(reqs);\n\treturn count;",
        "\tkfree(reqs);\n\treturn count < num ? -EREMOTEIO : count;",
    ),
    # It gives requests back to the kernel's memory as soon as one fails or its caller is killed,
    # while the other end still writes into them: then anything in the kernel falls over.
    (
        "i2c-virtio.c",
        """\
\t\tif (!failed) {
\t\t\tif (wait_for_completion_interruptible(&req->completion))
\t\t\t\tfailed = true;
\t\t\telse if (req->in_hdr""",
        """\
\t\twait_for_completion(&req->completion);
\t\tif (!failed) {
\t\t\tif (req->in_hdr""",
    ),
)
MAKEFILE = """\
obj-m := gpio-sim.o i2c-virtio.o
gpio-sim-y := gpio-sim-main.o irq_sim.o
ccflags-y := -DCONFIG_IRQ_SIM=1
"""
# In the order of need; each brings those that it depends on.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
MODULES = (
    *BOOT_MODULES,
    "virtio_net",
    "virtio_console",
    "configfs",
    "gpio-sim",
    "i2c-dev",
    "i2c-virtio",
    "i2c-stub",
    "xhci_pci",
    "ftdi_sio",
    "autofs4",
    "i6300esb",
    "softdog",
)
INIT = """\
#!/bin/sh
/bin/busybox mkdir -p /proc /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox sh
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""


def build(folder: Path) -> None:
    """Fill `folder`: vmlinux, initramfs.gz, lib/modules/VERSION. Raises BuildError."""
    work = folder / "work"
    work.mkdir()
    version = _unpack(work)
    _write_vmlinux(work / f"boot/vmlinuz-{version}", folder / "vmlinux")
    extra = work / f"lib/modules/{version}/extra"
    extra.mkdir()
    _compile(work, version, extra)
    run("depmod", "-b", work, version)
    needed = _needed(work, version, MODULES)
    for path in needed:
        target = folder / path.relative_to(work)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copyfile(
            work / f"lib/modules/{version}/{name}", folder / f"lib/modules/{version}/{name}"
        )
    run("depmod", "-b", folder, version)
    _write_initramfs(work, _needed(work, version, BOOT_MODULES), folder / "initramfs.gz")
    shutil.rmtree(work)


def version_of(folder: Path) -> str:
    """Return the kernel's version, as `uname -r` says it."""
    (place,) = (folder / "lib/modules").iterdir()
    return place.name


def _unpack(work: Path) -> str:
    """Download and unpack Debian's packages; return the kernel's version."""
    found = re.search(r"Depends: linux-image-(\S+)", run("apt-cache", "depends", IMAGE))
    if found is None:
        raise BuildError(f"apt knows no {IMAGE}: run apt-get update")
    version = found[1]
    run(
        "apt-get",
        "download",
        "-q",
        "-o",
        "APT::Sandbox::User=root",  # its own user may not write here
        f"linux-image-{version}",
        f"linux-headers-{version}",
        f"linux-headers-{version.removesuffix('-amd64')}-common",
        f"linux-kbuild-{SERIES}",
        f"linux-source-{SERIES}",
        cwd=work,
    )
    for package in work.glob("*.deb"):
        run("dpkg-deb", "-x", package, work)
        package.unlink()
    return version


def _write_vmlinux(bzimage: Path, vmlinux: Path) -> None:
    """Cut the kernel out of its self-extracting image: qemu starts it at once."""
    packed = bzimage.read_bytes()
    at = packed.find(XZ_MAGIC)
    if at < 0:
        raise BuildError(f"{bzimage.name} is not compressed with xz")
    vmlinux.write_bytes(lzma.LZMADecompressor().decompress(packed[at:]))


def _compile(work: Path, version: str, into: Path) -> None:
    place = work / "modules"
    place.mkdir()
    wanted = set(SOURCES)
    # A stream, left as soon as all is found: the source is 1.3 GB.
    with tarfile.open(work / f"usr/src/linux-source-{SERIES}.tar.xz", "r|xz") as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if name in wanted and (file := archive.extractfile(member)) is not None:
                (place / Path(name).name).write_bytes(file.read())
                wanted.discard(name)
                if not wanted:
                    break
    for name, before, after in CHANGES:
        text = (place / name).read_text()
        if before not in text:
            raise BuildError(f"{name} is another than the one that is known here")
        (place / name).write_text(text.replace(before, after))
    (place / "gpio-sim.c").rename(place / "gpio-sim-main.c")
    (place / "Makefile").write_text(MAKEFILE)
    headers = work / f"usr/src/linux-headers-{version}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{work}/usr/src/"))
    run("make", "-j2", "-C", headers, f"M={place}", "modules")
    for module in place.glob("*.ko"):
        shutil.copyfile(module, into / module.name)


def _needed(tree: Path, version: str, names: tuple[str, ...]) -> list[Path]:
    """Return the files of `names` and of what they depend on, in the order to load them."""
    found: dict[Path, None] = {}
    for name in names:
        said = run("modprobe", "-d", tree, "-S", version, "--show-depends", name)
        for line in said.splitlines():
            if line.startswith("insmod "):
                found[Path(line.split()[1])] = None
    return list(found)


def _write_initramfs(work: Path, modules: list[Path], target: Path) -> None:
    tree = work / "initramfs"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for module in modules:
        shutil.copyfile(module, tree / module.name)
    (tree / "modules").write_text("".join(f"/{module.name}\n" for module in modules))
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    (tree / "bin/sh").symlink_to("busybox")
    run("sh", "-c", "find . | cpio -o -H newc -R 0:0 > ../initramfs.cpio", cwd=tree)
    target.write_bytes(gzip.compress((work / "initramfs.cpio").read_bytes(), 1))
