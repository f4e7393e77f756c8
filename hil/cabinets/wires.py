"""Cabinets with something wrong between the sensors and the board."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from agent import kernel
from hil.buses import Pty
from hil.devices.ds3231 import Ds3231Device
from hil.devices.lufft import irs31pro, shm31
from hil.emulation import load as emulation
from hil.polarity import Reversed

from .scenarios import cabinet
from .workshop import AIR_ADDRESS, MOUNT_HEIGHT_CM, Workshop

_HOLD = "import os, sys, time; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(1, flush=True)"


@cabinet("wrong-baud", "YK-SEN-03", "baud = 9600", subject="snow-1")
def wrong_baud(w: Workshop) -> None:
    """A ranger that talks at 9600, configured at 19200."""
    w.snow.baud = 9600  # type: ignore[attr-defined]
    w.document["buses"].append(
        {"id": "mast", "kind": "serial", "port": "/dev/serial0", "baud": 19200}
    )


@cabinet(
    "wrong-baud-asked",
    "YK-SEN-03",
    "baud = 19200",
    subject="road-1",
)
def wrong_baud_asked(w: Workshop) -> None:
    """A device to be asked at 19200, configured at 9600."""
    w.road.baud = 19200  # type: ignore[attr-defined]
    w.document["buses"][0]["baud"] = 9600


@cabinet("swapped-pair", "YK-SEN-04", "swap A and B", subject="snow-1")
def swapped(w: Workshop) -> None:
    """A and B are swapped."""
    device: Any = Reversed(w.snow)
    w.plug("/dev/serial0", device)
    w.site_changes["line_errors"] = lambda path: (
        (device.framing_errors, device.breaks) if path.endswith("serial0") else None
    )


@cabinet("bus-short", "YK-BUS-06", "SDA and SCL", subject="/dev/i2c-1")
def bus_short(w: Workshop) -> None:
    """SDA is held low: every address times out."""
    w.wire.stick()


@cabinet(
    "address-clash",
    "YK-SEN-02",
    "another address",
    subject="air-1",
)
def clash(w: Workshop) -> None:
    """Another device sits at the thermometer's address."""
    w.wire.devices[AIR_ADDRESS] = emulation("mlx90614").build(w.options("mlx90614"), 3)


@cabinet("clock-at-its-address", "YK-SEN-02", "another address", subject="hall-1")
def clock_there(w: Workshop) -> None:
    """A DS3231 clock and a Grid-EYE both want 0x68, and the clock answers."""
    w.wire.devices[0x68] = Ds3231Device()
    table = {"id": "hall-1", "driver": "grideye-amg88xx", "bus": "/dev/i2c-1"}
    w.document["sensors"].append(table | {"options": {"address": 0x68}})


@cabinet("wrong-address", "YK-SEN-02", "address = 0x77", subject="air-1")
def wrong_address(w: Workshop) -> None:
    """The thermometer is jumpered to 0x77."""
    w.wire.devices[0x77] = w.wire.devices.pop(AIR_ADDRESS)


@cabinet("port-stolen", "YK-BUS-05", "sudo kill")
def stolen(w: Workshop) -> None:
    """A terminal that was left open holds the port."""
    terminal = w.plug("/dev/serial0", w.snow)
    thief = subprocess.Popen(
        [sys.executable, "-c", f"{_HOLD}; time.sleep(600)", terminal.path], stdout=subprocess.PIPE
    )
    w.stack.callback(thief.wait)
    w.stack.callback(thief.kill)
    assert thief.stdout is not None  # noqa: S101
    w.stack.callback(thief.stdout.close)
    thief.stdout.readline()
    w.real_process(thief.pid)


@cabinet("sensor-dead", "YK-SEN-01", "power and wires", subject="snow-1")
def dead(w: Workshop) -> None:
    """The ranger has no power."""
    w.plug("/dev/serial0", w.snow).line.silence()


@cabinet("one-of-two-dead", "YK-SEN-01", "power and wires", subject="road-1")
def one_of_two(w: Workshop) -> None:
    """Of two devices on one RS-485 line one has no power."""
    other = shm31(depth_cm=lambda _: 42.0)
    terminal = w.stack.enter_context(Pty([w.road, other], kernel.boot_s))
    w.at("/dev/ttyRS485").symlink_to(os.path.realpath(terminal.path))
    terminal.line.silence(w.road)
    table = {"id": "snow-2", "driver": "lufft-umb", "bus": "rs485"}
    w.document["sensors"].append(table | {"options": {"model": "shm31"}})


@cabinet("i2c-sensor-dead", "YK-SEN-01", "power and wires", subject="air-1")
def i2c_dead(w: Workshop) -> None:
    """The thermometer has no power."""
    w.wire.nack(AIR_ADDRESS)


@cabinet("obstructed", "YK-SEN-05", "clean it", subject="snow-1")
def obstructed(w: Workshop) -> None:
    """Snow hangs right before the ranger."""
    w.snow.depth_cm = lambda _: MOUNT_HEIGHT_CM - 30.0


@cabinet("no-echo", "YK-SEN-05", "clean it", subject="snow-1")
def no_echo(w: Workshop) -> None:
    """The ranger looks into the air."""
    w.snow.no_target_share = 1.0


@cabinet("wrong-height", "YK-SEN-07", "310 cm to the surface", subject="snow-1")
def wrong_height(w: Workshop) -> None:
    """Mount_height_cm is 60 cm too small."""
    w.sensor("snow-1")["options"]["mount_height_cm"] = MOUNT_HEIGHT_CM - 60.0


@cabinet("probe-broken", "YK-SEN-06", "replace the probe", subject="road-1")
def probe(w: Workshop) -> None:
    """The road's thermometer says what cannot be."""
    w.road = irs31pro(surface_c=lambda _: 140.0)


@cabinet("getty", "YK-BUS-03", "disable --now serial-getty@")
def getty(w: Workshop) -> None:
    """A log-in waits on the sensor's port."""
    w.plug("/dev/serial0", w.snow)
    w.process(611, "agetty", "/sbin/agetty -o -p -- \\u --keep-baud 115200 ttyS0", "/dev/serial0")


@cabinet("modem-manager", "YK-BUS-04", "disable --now ModemManager")
def modem_manager(w: Workshop) -> None:
    """ModemManager looks for a modem on the adapter."""
    w.plug("/dev/ttyRS485", w.road)
    w.process(702, "ModemManager", "/usr/sbin/ModemManager", "/dev/ttyRS485")


@cabinet(
    "serial-console",
    "YK-PI-03",
    "remove console=serial0",
    subject="/dev/serial0",
)
def console(w: Workshop) -> None:
    """The kernel's console is on the sensor's port."""
    line = "console=serial0,115200 console=tty1 root=PARTUUID=0b2c1d33-02 rootwait\n"
    w.file("/boot/firmware/cmdline.txt", line)
    w.file("/proc/cmdline", line.replace("serial0", "ttyS0"))
    w.file("/sys/class/tty/console/active", "ttyS0 tty1\n")


@cabinet("i2c-off", "YK-PI-01", "dtparam=i2c_arm=on", subject="/dev/i2c-1")
def i2c_off(w: Workshop) -> None:
    """I2C is off in config.txt."""
    w.file("/boot/firmware/config.txt", "#dtparam=i2c_arm=on\nenable_uart=1\n[all]\n")
    w.at("/dev/i2c-1").unlink()


@cabinet("uart-off", "YK-PI-02", "enable_uart=1", subject="/dev/serial0")
def uart_off(w: Workshop) -> None:
    """The serial port is off in config.txt."""
    w.absent.add("/dev/serial0")
    w.file("/boot/firmware/config.txt", "dtparam=i2c_arm=on\n[pi5]\nenable_uart=1\n[all]\n")


@cabinet("other-i2c-bus", "YK-BUS-01", "there: i2c-1")
def other_bus(w: Workshop) -> None:
    """An I2C bus is configured that this board does not have."""
    w.sensor("air-1")["bus"] = "/dev/i2c-3"


@cabinet("adapter-gone", "YK-BUS-01", "plug it in", subject="/dev/ttyRS485")
def adapter_gone(w: Workshop) -> None:
    """The RS-485 adapter is not plugged in."""
    w.absent.add("/dev/ttyRS485")


@cabinet(
    "not-in-group", "YK-BUS-02", "usermod -aG i2c yukimi", subject="/dev/i2c-1", needs_root=True
)
def not_in_group(w: Workshop) -> None:
    """User yukimi is not in group i2c."""
    w.plug_terminals()
    w.start_broker()
    w.configure().chmod(0o644)
    (w.folder / "broker-password").chmod(0o640)
    os.chown(w.folder / "broker-password", -1, 64990)
    w.at("/dev/i2c-1").chmod(0o660)
    w.file("/etc/passwd", "yukimi:x:64990:64990::/:/bin/false\n")
    w.file("/etc/group", f"i2c:x:{os.getgid()}:pi\nyukimi:x:64990:\n")
    for name in ("serial0", "ttyRS485"):  # these are for all
        w.at(f"/dev/{name}").resolve().chmod(0o666)
