"""One virtual Pi: its power, its wires, its network, and a hand inside it.

`VirtualPi` is put together, then switched on and off as often as one likes; the disk, the devices
and their folder stay. Emulated in software: expect some seconds for what a board does in one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from agent.kernel import boot_s

from ..buses import I2cDevice, SerialDevice
from .image import Image
from .nbd import NbdServer, VolatileDisk
from .qmp import GuestAgent, MachineError, Qmp, Ran
from .vhost import I2cAdapter
from .wires import SerialWire

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 512
HOST_FOR_GUEST = "10.0.2.2"  # the guest's name for this machine's 127.0.0.1
WAIT_S = 600.0  # for anything that must happen; no promise about how fast it does
POLL_S = 0.3
CONSOLE_SHOWN = 4000
_KERNEL_OPTIONS = "console=ttyS0,115200 quiet net.ifnames=0 oops=panic panic=-1"
WITNESS_PORT = "vpi.witness"


class VirtualPi:
    """A machine with a disk, an I2C bus, serial lines, pins and a network.

    `uarts` are the devices on /dev/ttyS1, ttyS2 …; USB adapters are plugged with `plug`.
    """

    def __init__(
        self,
        image: Image,
        *,
        i2c: Mapping[int, I2cDevice] | None = None,
        uarts: Iterable[Iterable[SerialDevice]] = (),
        liar: bool = False,
        seed: int = 0,
        now_s: Callable[[], float] = boot_s,
    ) -> None:
        self._image = image
        self._now_s = now_s
        self._stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="yukimi-vpi-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.disk = VolatileDisk(image.disk, liar=liar, seed=seed)
        self._stack.callback(self.disk.close)
        self._nbd = self._stack.enter_context(NbdServer(self.folder / "disk", self.disk))
        adapter = I2cAdapter(self.folder / "i2c", i2c or {}, now_s)
        self.i2c = self._stack.enter_context(adapter)
        self.uarts = [self._wire(f"uart{at}", devices) for at, devices in enumerate(uarts)]
        self.usb: dict[str, SerialWire] = {}  # by the adapter's serial number
        self.boots = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._agent: GuestAgent | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()
        self._stack.close()

    @property
    def console(self) -> str:
        """All that it has said on its console, in all its lives."""
        with suppress(OSError):
            return (self.folder / "console.log").read_text(errors="replace")
        return ""

    @property
    def console_socket(self) -> Path:
        """Where its console listens."""
        return self.folder / "console"

    @property
    def witness_socket(self) -> Path:
        """Where the guest's second port, /dev/virtio-ports/vpi.witness, listens."""
        return self.folder / "witness"

    def start(self, *, options: str = "") -> None:
        """Switch it on, with more options for its kernel and systemd. Raises MachineError."""
        if self._process is not None:
            raise MachineError("it is on")
        self.boots += 1
        for name in ("qmp", "agent", "witness", "console"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(options), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait((self.folder / "console").exists, "qemu does not start")
        self._wait((self.folder / "qmp").exists, "qemu does not start")
        self._qmp = Qmp(self.folder / "qmp", WAIT_S)
        self._agent = GuestAgent(self.folder / "agent")
        for serial in self.usb:
            self._insert(serial)

    def boot(self) -> None:
        """Switch it on, and return when it can be spoken to. Raises MachineError."""
        self.start()
        self.run("true")

    def cut(self, survives: float = 0.0) -> int:
        """Take its power; return how many blocks its disk lost. Does nothing while it is off."""
        process, self._process = self._process, None
        if process is None:
            return 0
        lost = self._nbd.cut(survives)
        process.kill()
        process.wait()
        for each in (self._qmp, self._agent):
            if each is not None:
                each.close()
        self._qmp = self._agent = None
        return lost

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold it still, as a whole: nothing in it goes on, nothing leaves it."""
        if self._process is None:
            raise MachineError("it is off")
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def check_on(self, what: str) -> None:
        """Raise MachineError if it went off by itself: its kernel fell over."""
        if self._process is not None and self._process.poll() is not None:
            raise MachineError(f"it went off, waiting for {what}:\n{self._tail()}")

    def shut_down(self) -> None:
        """Let it shut down in order; return when it is off. Raises MachineError."""
        with suppress(MachineError):  # it may be gone before it answers
            self.run("systemctl --no-block poweroff")
        self._wait(lambda: self._process is None or self._process.poll() is not None, "stays on")
        self.cut()

    # Inside

    def run(self, command: str, *, check: bool = True) -> Ran:
        """Run a command in the guest, as root. Raises MachineError if it fails and `check`."""
        try:
            ran = self._inside().run(command, timeout_s=WAIT_S)
        except MachineError as exc:
            raise MachineError(f"{exc}\n{self._tail()}") from exc
        if check and ran.code:
            raise MachineError(f"{command}: exit code {ran.code}\n{ran.out}{ran.err}")
        return ran

    def write(self, path: str, text: str) -> None:
        """Write a file of the guest's."""
        self._inside().write(path, text, timeout_s=WAIT_S)

    def drive(self, *levels: tuple[int, int]) -> None:
        """Set pins (BCM) to electrical levels, one after the other."""
        self._inside().drive(list(levels), timeout_s=WAIT_S)

    def wait(
        self, command: str, what: str, *, poll_s: float = POLL_S, within_s: float = WAIT_S
    ) -> Ran:
        """Wait until a command of the guest's succeeds. Raises MachineError."""
        ran = self.run(command, check=False)
        until_s = time.monotonic() + within_s
        while ran.code:
            if time.monotonic() > until_s:
                raise MachineError(f"{what}:\n{ran.out}{ran.err}\n{self._tail()}")
            time.sleep(poll_s)
            ran = self.run(command, check=False)
        return ran

    def show(self, *names: str, unit: str = "yukimi") -> dict[str, str]:
        """Return what systemd says of a unit. Raises MachineError."""
        said = self.run(f"systemctl show {unit} {' '.join(f'-p {name}' for name in names)}").out
        return dict(line.partition("=")[::2] for line in said.splitlines())

    # Around it

    def plug(self, serial: str, devices: Iterable[SerialDevice]) -> SerialWire:
        """Plug in a USB adapter that never was there, with devices behind it."""
        wire = self._wire(f"usb-{serial}", devices)
        self.usb[serial] = wire
        if self._qmp is not None:
            self._insert(serial)
        return wire

    def pull(self, serial: str) -> None:
        """Pull a USB adapter out; return when the guest's kernel knows."""
        self._monitor().execute("device_del", id=f"usb-{serial}")
        self._monitor().wait_event("DEVICE_DELETED")

    def put_back(self, serial: str) -> None:
        """Plug an adapter that was pulled in again."""
        self._insert(serial, is_known=True)

    def link(self, *, up: bool) -> None:
        """Plug the network's cable in, or pull it."""
        self._monitor().execute("set_link", name="nic", up=up)

    def _insert(self, serial: str, *, is_known: bool = False) -> None:
        monitor = self._monitor()
        name = f"usb-{serial}"
        if not is_known:
            monitor.execute(
                "chardev-add",
                id=f"line-{name}",
                backend={
                    "type": "socket",
                    "data": {
                        "addr": {"type": "unix", "data": {"path": str(self.folder / name)}},
                        "server": False,
                        "reconnect": 1,
                    },
                },
            )
        monitor.execute(
            "device_add",
            driver="usb-serial",
            id=name,
            bus="usb.0",
            chardev=f"line-{name}",
            serial=serial,
        )

    def _wire(self, name: str, devices: Iterable[SerialDevice]) -> SerialWire:
        wire = SerialWire(self.folder / name, devices, self._now_s)
        self._stack.callback(wire.close)
        return wire

    def _monitor(self) -> Qmp:
        if self._qmp is None:
            raise MachineError("it is off")
        return self._qmp

    def _inside(self) -> GuestAgent:
        if self._agent is None:
            raise MachineError("it is off")
        return self._agent

    def _wait(self, happened: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + WAIT_S
        while not happened():
            if self._process is not None and self._process.poll() is not None:
                raise MachineError(f"qemu ended, {self._process.returncode}:\n{self._tail()}")
            if time.monotonic() > until_s:
                raise MachineError(f"{what}:\n{self._tail()}")
            time.sleep(0.05)

    def _tail(self) -> str:
        log = (self.folder / "qemu.log").read_text(errors="replace")
        return f"{log}{self.console[-CONSOLE_SHOWN:]}"

    def _command(self, options: str) -> list[str]:
        disk = {
            "driver": "nbd",
            "node-name": "disk",
            "server": {"type": "unix", "path": str(self._nbd.path)},
            "cache": {"direct": True, "no-flush": False},
        }
        memory = f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M,share=on"
        command = [
            *("setpriv", "--pdeathsig", "KILL", "--"),  # it must not outlive us
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-M", "pc,memory-backend=ram", "-object", memory, "-m", str(MEMORY_MIB)),
            *(
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "Nehalem,+rdrand",
                "-smp",
                str(os.cpu_count() or 1),
            ),
            *("-kernel", str(self._image.vmlinux), "-initrd", str(self._image.initramfs)),
            *("-append", f"{_KERNEL_OPTIONS} {options}"),
            *("-blockdev", json.dumps(disk)),
            *("-device", "virtio-blk-pci,drive=disk,write-cache=on"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,id=nic"),
            *("-device", "qemu-xhci,id=usb", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=i2c,path={self.folder / 'i2c'}"),
            # qemu itself would offer the guest event_idx, and our end does not speak it.
            *("-device", "vhost-user-i2c-pci,chardev=i2c,event_idx=off"),
        ]
        for name in ("qmp", "agent", "witness", "console"):
            log = (
                f",logfile={self.folder / 'console.log'},logappend=on" if name == "console" else ""
            )
            path = self.folder / name
            command += ["-chardev", f"socket,id={name},path={path},server=on,wait=off{log}"]
        command += ["-mon", "chardev=qmp,mode=control", "-serial", "chardev:console"]
        for name in ("agent", "witness"):
            command += ["-device", f"virtserialport,chardev={name},name=vpi.{name}"]
        for at, wire in enumerate(self.uarts):
            command += ["-chardev", f"socket,id=uart{at},path={wire.path}"]
            command += ["-serial", f"chardev:uart{at}"]
        return command
