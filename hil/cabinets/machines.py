"""Cabinets with something wrong in the board, its disk, its clock, its software; and sound ones."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from agent.clock import Stamp
from agent.doctor.clock import NTP_EPOCH_S
from agent.record import Record
from agent.spool import Spool
from hil.relay import hold_port

from .scenarios import cabinet
from .workshop import GATEWAY, Workshop

DAY_NS = 86_400 * 10**9
BATCH = 50  # records a commit


@cabinet("sound", None)
def sound(w: Workshop) -> None:
    """Nothing is wrong."""


@cabinet("under-voltage", "YK-PWR-01", "power supply")
def under_voltage(w: Workshop) -> None:
    """The supply is below 4.63 V."""
    w.file("/sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")


@cabinet("configuration-missing", "YK-CFG-01", "--config")
def missing(w: Workshop) -> None:
    """There is no configuration file."""
    w.has_configuration = False


@cabinet("configuration-invalid", "YK-CFG-02", "yukimi config check")
def invalid(w: Workshop) -> None:
    """A key is misspelt, and nothing ever ran."""
    w.sensor("snow-1")["options"]["mount_hight_cm"] = 350.0


@cabinet("configuration-refused", "YK-CFG-02", "yukimi config check")
def refused(w: Workshop) -> None:
    """A new file is wrong, the last good one runs."""
    from agent import lastgood
    from agent.plan import load_plan

    w.plug_terminals()
    w.start_broker()
    plan = load_plan(w.configure())
    file = lastgood.file_for(w.config_file, w.spool_path())
    file.parent.mkdir(parents=True)
    lastgood.store(lastgood.of_plan(plan), file)
    w.sensor("air-1")["options"]["address"] = 0x50
    w.configure()


@cabinet("password-open", "YK-CFG-04", "sudo chmod 640")
def password_open(w: Workshop) -> None:
    """Anybody may read the password, so the gateway does not use it."""
    (w.folder / "broker-password").chmod(0o644)


@cabinet("secrets-open", "YK-CFG-04", "chmod o-w")
def secrets_open(w: Workshop) -> None:
    """Anybody may write the configuration."""
    w.plug_terminals()
    w.start_broker()
    w.configure().chmod(0o666)


@cabinet("unit-masked", "YK-SVC-01", "systemctl unmask yukimi")
def masked(w: Workshop) -> None:
    """Somebody masked the service."""
    w.service(LoadState="masked", UnitFileState="masked", ActiveState="inactive", SubState="dead")


@cabinet("restart-loop", "YK-SVC-02", "journalctl -u yukimi")
def loop(w: Workshop) -> None:
    """The service ends again and again."""
    w.service(
        ActiveState="activating",
        SubState="auto-restart",
        NRestarts=41,
        Result="exit-code",
        ExecMainStatus=1,
    )


@cabinet("disk-full", "YK-DSK-02", "journalctl --vacuum-size", needs_root=True)
def full(w: Workshop) -> None:
    """No byte is left for the spool."""
    folder = _mount(w, "size=256k")
    with suppress(OSError), (folder / "log").open("wb", buffering=0) as log:
        while log.write(bytes(4096)):
            pass


@cabinet("disk-read-only", "YK-DSK-01", "replace the card", needs_root=True)
def read_only(w: Workshop) -> None:
    """The kernel has made the disk read-only."""
    folder = _mount(w, "size=16m")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@cabinet("flash-worn", "YK-DSK-04", "replace the card")
def worn(w: Workshop) -> None:
    """The eMMC has reached its end."""
    w.file("/sys/block/mmcblk0/device/life_time", "0x0b 0x0a\n")


@cabinet("spool-damaged", "YK-SPL-01", "salvages it")
def damaged(w: Workshop) -> None:
    """A page of the spool is overwritten."""
    path = fill(w, share=0.02)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 1024 * 1024
    content[middle : middle + 2048] = b"\xa5" * 2048
    path.write_bytes(content)


@cabinet("spool-nearly-full", "YK-SPL-02", "yukimi spool export")
def nearly_full(w: Workshop) -> None:
    """The records of a long outage fill the spool."""
    w.document["spool"]["max_bytes"] = w.spool_bytes = 2 * 2**20
    fill(w, share=0.93)


@cabinet("long-outage", "YK-NET-04", "broker started")
def outage(w: Workshop) -> None:
    """The broker is down, and has been for so long that the spool is nearly full."""
    nearly_full(w)
    w.start_broker()
    holder = hold_port()
    w.stack.callback(holder.close)
    w.uplink(brokers=[f"mqtts://localhost:{holder.getsockname()[1]}"])


@cabinet("clock-wrong", "YK-CLK-02", "timedatectl set-time")
def clock_wrong(w: Workshop) -> None:
    """No RTC, no network time: it says 2020."""
    _without_rtc(w)
    utc_ns = 1_585_699_200 * 10**9
    w.look = w.look._replace(utc_ns=utc_ns, synchronised=False, error_s=None)


@cabinet("clock-off", "YK-CLK-03", "timedatectl set-ntp")
def clock_off(w: Workshop) -> None:
    """The clock is three hours off, says a time server."""
    _without_rtc(w)
    w.look = w.look._replace(utc_ns=w.look.utc_ns + 3 * 3600 * 10**9, synchronised=False)
    _time_server(w)


@cabinet("clock-and-certificate", "YK-CLK-02", "timedatectl set-time")
def clock_and_certificate(w: Workshop) -> None:
    """With a clock of 2020 no certificate is valid."""
    clock_wrong(w)
    w.papers.begins_days = 30.0  # for the TLS library, whose clock is the true one


@cabinet("rtc-lost", "YK-CLK-01", "hwclock --systohc")
def rtc_lost(w: Workshop) -> None:
    """The clock's battery is empty."""
    w.file("/sys/class/rtc/rtc0/since_epoch", "946684800\n")


def _without_rtc(w: Workshop) -> None:
    for file in ("since_epoch", "hctosys"):
        w.at(f"/sys/class/rtc/rtc0/{file}").unlink()
    w.at("/sys/class/rtc/rtc0").rmdir()


def _time_server(w: Workshop) -> None:
    """Tell the true time to whoever asks (SNTP)."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", 0))
    line.settimeout(0.2)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            with suppress(TimeoutError):
                _, asker = line.recvfrom(512)
                now_s = time.time() + NTP_EPOCH_S
                part = int(now_s % 1 * 2**32)
                line.sendto(b"\x24\x02" + bytes(38) + struct.pack("!II", int(now_s), part), asker)

    thread = threading.Thread(target=serve, name="cabinet: time server")
    thread.start()

    def stop() -> None:
        stopping.set()
        thread.join()
        line.close()

    w.stack.callback(stop)
    w.file("/etc/systemd/timesyncd.conf", f"[Time]\nNTP=127.0.0.1#{line.getsockname()[1]}\n")


def _mount(w: Workshop, options: str) -> Path:
    folder = w.spool_path().parent
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "cabinet", str(folder)], check=True)
    w.stack.callback(subprocess.run, ["umount", str(folder)], check=True)
    return folder


def fill(w: Workshop, *, share: float) -> Path:
    """Let so much wait as takes this share of the spool, as a gateway's that could not send."""
    path = w.spool_path()
    path.parent.mkdir()
    spool = Spool(path, max_bytes=w.spool_bytes, run="f00d", boot_id="bench", gateway=GATEWAY)
    minute = 0
    try:
        while True:
            spool.append([_record(minute + n) for n in range(BATCH)], "9f2c1ab04d77")
            minute += BATCH
            figures = spool.figures(5.0)
            if figures is not None and figures.used_bytes >= share * figures.room_bytes:
                return path
    finally:
        spool.close(clean=True)


def _record(minute: int) -> Record:
    start_ns = time.time_ns() - DAY_NS + minute * 60 * 10**9 // 1000
    quality = {"flag": "good", "n": 60, "expected": 60}
    values = {"depth_cm": {"mean": 42.1, "note": f"{minute:032x}"}}
    end_ns = start_ns + 60 * 10**9
    stamp = Stamp("synced", 0.02)
    return Record("snow-1", "snow", start_ns, end_ns, start_ns, end_ns, stamp, quality, values)
