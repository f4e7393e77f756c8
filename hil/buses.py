"""The bench's wires: pseudo-terminals, an I2C bus in memory, pins that nobody soldered.

The wires here carry any device that has one of the ends in hil/ends.py, and they are what breaks: a
device keeps working while nobody can hear it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import struct
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Self

from drivers.base import BusError
from drivers.buses import INPUT_LIMIT_BYTES, UNSTICK_CLOCKS, BusGoneError

from .ends import FileDevice as FileDevice
from .ends import I2cDevice as I2cDevice
from .ends import NackError as NackError
from .ends import PinActor as PinActor
from .ends import SerialDevice as SerialDevice
from .faults.i2c import I2cFaults
from .faults.serial import SerialFaults

PTY_POLL_S = 0.005  # how finely a device's turn-around time is kept
KERNEL_NAME = "ttyUSB0"  # of an adapter that is the first one
STUCK_S = 0.1  # what a transfer on a stuck I2C bus costs
BITS_PER_BYTE = 10  # on a serial line, with start and stop
_TCGETS2 = 0x802C542A  # termios with speeds as numbers; x86 and Arm


class SerialLine(SerialFaults):
    """The wires between a host and its devices; on RS-485 everybody hears everybody.

    Faults are on the wires and add up. With `echo` the host also hears itself, as on two-wire
    adapters; with `paced` bytes take the time that they take at the host's speed. The same seed
    damages the same bytes.
    """

    def __init__(
        self,
        devices: Iterable[SerialDevice],
        *,
        echo: bool = False,
        paced: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(Random(seed))
        self.devices = tuple(devices)
        self._echo = echo
        self._paced = paced
        self._under_way: list[tuple[float, bytes]] = []  # (when the host hears it, what)

    def takes_s(self, length: int) -> float:
        """Return how long so many bytes are on the wire; 0 unless it is paced."""
        return length * BITS_PER_BYTE / self.host_baud if self._paced and self.host_baud else 0.0

    def carry(self, sent: bytes, now_s: float) -> bytes:
        """Take what the host sent, and return what it hears until `now_s`."""
        heard = bytearray(sent if self._echo else b"")
        present = [each for each in self.devices if not self._is_cut_off(each)]
        if sent := self._past_stall("devices", sent):
            for device in present:
                device.hear(self._damaged(self._at_speed(sent, device)), now_s)
        for device in self.devices:
            said = device.speak(now_s)
            if not said or device not in present:
                continue
            arriving = self._damaged(self._at_speed(said, device)) * self._times()
            late_s = self._late_s() + self.takes_s(len(arriving))
            # Never before what was said earlier.
            due_s = max([now_s + late_s, *(due_s for due_s, _ in self._under_way[-1:])])
            self._under_way.append((due_s, arriving))
            for other in present:
                if other is not device:
                    other.hear(said, now_s)
        while self._under_way and self._under_way[0][0] <= now_s:
            heard += self._under_way.pop(0)[1]
        return self._past_stall("host", self._among_rubbish(bytes(heard), now_s))

    def _all_devices(self) -> tuple[SerialDevice, ...]:
        return self.devices


class Pty:
    """A real pseudo-terminal with devices behind it, for code that opens a path.

    `path` is a symlink that stays the same, as udev's by-id links do; it leads to `kernel_path`,
    the name that the kernel gave, which may be another with each `plug`. A thread carries bytes
    while it is plugged in.
    """

    def __init__(
        self,
        devices: Iterable[SerialDevice],
        now_s: Callable[[], float],
        *,
        echo: bool = False,
        seed: int = 0,
    ) -> None:
        self.line = SerialLine(devices, echo=echo, seed=seed)
        self._now_s = now_s
        self._folder = Path(tempfile.mkdtemp(prefix="yukimi-pty-"))
        self.path = str(self._folder / "tty")
        self.kernel_path = str(self._folder / KERNEL_NAME)
        self._ends: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        """Plug in."""
        self.plug()
        return self

    def __exit__(self, *exc: object) -> None:
        """Unplug for good."""
        self.close()

    def plug(self, kernel_name: str = KERNEL_NAME) -> None:
        """Appear at `path`, and under the kernel's name. Does nothing if it is there already."""
        if self._ends is not None:
            return
        # The host's end stays open here too: closed by the host, it would make every read of our
        # end fail, and the speed that the host had set would be forgotten.
        ours, hosts = self._ends = os.openpty()
        tty.setraw(hosts)
        os.set_blocking(ours, False)
        self.kernel_path = str(self._folder / kernel_name)
        Path(self.kernel_path).symlink_to(os.ttyname(hosts))
        Path(self.path).symlink_to(kernel_name)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._carry, args=(ours,), name=f"pty {self.path}")
        self._thread.start()

    def unplug(self) -> None:
        """Vanish: a host that has it open gets errors. Does nothing if it is not there."""
        if self._ends is None or self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        Path(self.path).unlink()
        Path(self.kernel_path).unlink()
        for end in self._ends:
            os.close(end)
        self._ends = self._thread = None

    def close(self) -> None:
        """Unplug and leave nothing behind."""
        self.unplug()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def baud(self) -> int:
        """The speed that the host has set; pseudo-terminals carry bytes at any."""
        if self._ends is None:
            raise BusError(f"{self.path}: not plugged in")
        settings = fcntl.ioctl(self._ends[1], _TCGETS2, bytes(44))
        speed: int = struct.unpack("=4I20s2I", settings)[-1]
        return speed

    def _carry(self, ours: int) -> None:
        while not self._stopping.is_set():
            ready, _, _ = select.select([ours], [], [], PTY_POLL_S)
            self.line.host_baud = self.baud
            heard = self.line.carry(os.read(ours, 4096) if ready else b"", self._now_s())
            # Like a wire, it does not wait for a host that does not read.
            with suppress(BlockingIOError):
                os.write(ours, heard)


class SimulatedSerial:
    """A `SerialPort` with devices behind it in the same process, in any time.

    `wait_s` is how it passes time while the host waits: the clock's own `advance` where time is
    simulated.
    """

    def __init__(
        self,
        devices: Iterable[SerialDevice],
        now_s: Callable[[], float],
        *,
        wait_s: Callable[[float], object] = time.sleep,
        echo: bool = False,
        paced: bool = False,
        seed: int = 0,
        path: str = "simulated serial",
        baud: int | None = None,
        look_s: float = PTY_POLL_S,
    ) -> None:
        self.line = SerialLine(devices, echo=echo, paced=paced, seed=seed)
        self._opened_baud = self.line.host_baud = baud
        self._now_s = now_s
        self._wait_s = wait_s
        self._look_s = look_s  # how finely it is heard what arrives while the host waits
        self._path = path
        self._is_open = False
        self._is_plugged = True
        self._arrived = bytearray()

    def unplug(self) -> None:
        """Vanish: every call fails from now on."""
        self._is_plugged = False

    def plug(self, path: str | None = None) -> None:
        """Come back, maybe under another name; whoever had it open must open it anew."""
        self._path = path or self._path
        self._is_open = False
        self._is_plugged = True

    def open(self) -> None:
        """Open. Raises BusError while unplugged."""
        if not self._is_plugged:
            raise BusGoneError(f"{self._path}: {os.strerror(errno.ENOENT)}")
        self._is_open = True
        self.line.host_baud = self._opened_baud
        self.discard_input()

    def close(self) -> None:
        """Close."""
        self._is_open = False

    def read(self, timeout_s: float) -> bytes:
        """Return what the devices have said, waiting up to `timeout_s` for the first byte."""
        left_s = timeout_s
        self._carry()
        while not self._arrived and left_s > 0:
            step_s = min(self._look_s, left_s)
            self._wait_s(step_s)
            left_s -= step_s
            self._carry()
        arrived = bytes(self._arrived)
        self._arrived.clear()
        return arrived

    def write(self, data: bytes) -> None:
        """Send `data` to every device."""
        if left_s := self.line.takes_s(len(data)):
            self._wait_s(left_s)
        self._carry(data)

    def discard_input(self) -> None:
        """Forget what arrived unread."""
        self._carry()
        self._arrived.clear()

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open line."""
        self._carry()
        self.line.host_baud = baud

    def _carry(self, sent: bytes = b"") -> None:
        if not self._is_plugged:
            raise BusGoneError(f"{self._path}: {os.strerror(errno.EIO)}")
        if not self._is_open:
            raise BusError(f"{self._path}: port is not open")
        # As in the kernel's buffer, what comes when it is full is lost.
        self._arrived += self.line.carry(sent, self._now_s())
        del self._arrived[INPUT_LIMIT_BYTES:]


class SimulatedPair:
    """The two simulated ports of one sensor that needs both."""

    def __init__(self, a: SimulatedSerial, b: SimulatedSerial) -> None:
        self.a = a
        self.b = b

    def open(self) -> None:
        """Open both. Raises BusError."""
        self.a.open()
        self.b.open()

    def close(self) -> None:
        """Close both."""
        self.a.close()
        self.b.close()


class SimulatedI2c(I2cFaults):
    """An `I2cBus` with devices by address, failing in Linux's words.

    With `wait_s` transfers take the time that they take at `clock_hz`. With `scl_pin` the bus is
    given nine clocks whenever it is opened, as one is that has a pin wired to SCL. Faults add up,
    and those that happen once are counted from the call.
    """

    def __init__(
        self,
        devices: Mapping[int, I2cDevice],
        now_s: Callable[[], float],
        *,
        path: str = "simulated i2c",
        wait_s: Callable[[float], object] | None = None,
        clock_hz: int = 100_000,
        scl_pin: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(Random(seed))
        self.devices = dict(devices)
        self._now_s = now_s
        self._path = path
        self._wait_s = wait_s
        self._clock_hz = clock_hz
        self._scl_pin = scl_pin
        self._is_open = False

    def open(self) -> None:
        """Open."""
        self._is_open = True
        if self._scl_pin:
            self.clock(UNSTICK_CLOCKS)

    def close(self) -> None:
        """Close."""
        self._is_open = False

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Write `write`, then read `length` bytes. Raises BusError."""
        device = self._addressed(address, len(write) + length)
        try:
            if write:
                device.write(write, self._now_s())
            answer = device.read(length, self._now_s())
        except NackError:
            raise self._unanswered(address) from OSError(errno.EREMOTEIO, "nobody acknowledged")
        return self._as_heard(address, answer)

    def write(self, address: int, data: bytes) -> None:
        """Write in one transaction. Raises BusError."""
        try:
            device = self._addressed(address, len(data))
            if data:  # an empty one only asks whether somebody is there
                device.write(data, self._now_s())
        except NackError:
            raise self._unanswered(address) from OSError(errno.EREMOTEIO, "nobody acknowledged")

    def _addressed(self, address: int, length: int) -> I2cDevice:
        where = f"{self._path} 0x{address:02x}"
        if not self._is_open:
            raise BusError(f"{where}: bus is not open")
        refused = self._is_refused(address)
        if self._is_held(address):
            self._pass(STUCK_S)
            cause = OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            raise BusError(f"{where}: {cause.strerror}") from cause
        device = self._answering(address, self.devices.get(address))
        if device is None or refused:
            raise self._unanswered(address) from OSError(errno.EREMOTEIO, "nobody acknowledged")
        self._pass((length + 2) * 9 / self._clock_hz)
        return device

    def _pass(self, time_s: float) -> None:
        if self._wait_s is not None:
            self._wait_s(time_s)

    def _unanswered(self, address: int) -> BusError:
        return BusError(f"{self._path} 0x{address:02x}: {os.strerror(errno.EREMOTEIO)}")


class SimulatedFiles:
    """A tree of files that devices show, failing in Linux's words."""

    def __init__(self, devices: Iterable[FileDevice], now_s: Callable[[], float]) -> None:
        self.devices = tuple(devices)
        self._now_s = now_s
        self._gone: set[str] = set()

    def remove(self, path: str) -> None:
        """Let nothing be at `path` or below it."""
        self._gone.add(path)

    def heal(self) -> None:
        """Undo every fault."""
        self._gone.clear()

    def open(self) -> None:
        """Open."""

    def close(self) -> None:
        """Close."""

    def read(self, path: str) -> str:
        """Return a file's text. Raises BusError."""
        text = self._tree().get(path)
        if text is None:
            raise BusError(f"{path}: {os.strerror(errno.ENOENT)}")
        if isinstance(text, OSError):
            raise BusError(f"{path}: {text.strerror}")
        return text

    def names(self, folder: str) -> list[str]:
        """List what is in a folder."""
        head = folder.rstrip("/") + "/"
        inside = [path[len(head) :] for path in self._tree() if path.startswith(head)]
        return sorted({name.split("/")[0] for name in inside})

    def _tree(self) -> dict[str, str | OSError]:
        tree: dict[str, str | OSError] = {}
        for device in self.devices:
            tree |= device.files(self._now_s())
        return {
            path: text
            for path, text in tree.items()
            if not any(path == gone or path.startswith(gone + "/") for gone in self._gone)
        }
