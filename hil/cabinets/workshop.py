"""A cabinet on the bench: a Pi's files, devices on real terminals, a real broker, and the doctor.

It is built whole and well; a scenario then breaks one thing. What a bench has is real: terminals
with emulated devices, Mosquitto with TLS and access lists, the processes, the disk where it may be
mounted. What only a board has is a tree of files in the shape of its /proc, /sys, /dev and /boot.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import drivers
from agent import kernel
from agent.clock import Look
from agent.doctor.order import CHECKS
from agent.doctor.run import Result, run
from agent.doctor.site import Budget, Site
from agent.scan import Machine
from hil.broker import Mosquitto, Tls
from hil.buses import Pty, SimulatedI2c
from hil.city.subscriber import City
from hil.devices.lufft import irs31pro
from hil.devices.maxbotix import MaxBotixDevice
from hil.emulation import load as emulation

from .papers import Papers

GATEWAY = "cabinet-07"
USER, PASSWORD = GATEWAY, "yuki-no-hi"
MOUNT_HEIGHT_CM = 350.0
DEPTH_CM = 40.0
AIR_ADDRESS = 0x76
# Who is well answers at once; on a busy machine the others may be given a little longer.
BUDGET = Budget(
    total_s=90.0,
    check_s=80.0,
    name_s=4.0,
    connect_s=3.0,
    answer_s=3.0,
    listen_s=3.0,
    bus_s=9.0,
    search_s=7.0,
)
CONFIG_TXT = """\
# For more options and information see http://rptl.io/configtxt
dtparam=i2c_arm=on
dtoverlay=vc4-kms-v3d
enable_uart=1
dtoverlay=disable-bt
[all]
"""
CMDLINE = "console=tty1 root=PARTUUID=0b2c1d33-02 rootfstype=ext4 fsck.repair=yes rootwait\n"


class Workshop:
    """One cabinet; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="yukimi-cabinet-"))
        self.root = self.folder / "root"
        self.roots = {f"/{name}": self.root / name for name in ("proc", "sys", "dev", "boot")}
        self.roots |= {f"/{name}": self.root / name for name in ("etc", "run")}
        self.stack = ExitStack()
        self.snow = MaxBotixDevice(lambda _: DEPTH_CM, mount_height_cm=MOUNT_HEIGHT_CM)
        self.road = irs31pro(surface_c=lambda _: -4.0)
        air = emulation("bme280")
        self.i2c: dict[int, Any] = {AIR_ADDRESS: air.build(self.options("bme280"), 1)}
        self.wire = SimulatedI2c(self.i2c, kernel.boot_s)
        self.papers = Papers(self.folder)
        self.access: list[str] = [f"user {USER}", f"topic readwrite yukimi/v1/{GATEWAY}/#"]
        self.broker: Mosquitto | None = None
        self.has_city = True
        self.city: City | None = None
        self.city_heard: set[tuple[str, bytes]] = set()
        self.absent: set[str] = set()  # what is not plugged in
        self.has_configuration = True
        self.spool_bytes = 16 * 2**20
        self.programs: dict[str, str] = {}  # what systemctl says, by the start of its arguments
        self.look = Look(kernel.boot_ns(), time.time_ns(), True, 0.01)
        self.site_changes: dict[str, Any] = {}
        self.document = self._document()
        self.board_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What a scenario changes

    def file(self, path: str, text: str) -> Path:
        """Write a file of the board."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def board_files(self) -> None:
        """Write the files of a Raspberry Pi 4 that is well."""
        self.file("/sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        self.file("/sys/devices/platform/soc/soc:firmware/get_throttled", "0\n")
        self.file("/sys/class/thermal/thermal_zone0/temp", "41200\n")
        self.file("/sys/class/rtc/rtc0/since_epoch", f"{int(time.time())}\n")
        self.file("/sys/class/rtc/rtc0/hctosys", "1\n")
        self.file("/sys/class/net/eth0/operstate", "up\n")
        self.file("/sys/class/net/lo/operstate", "unknown\n")
        self.file("/sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
        self.file("/sys/block/mmcblk0/device/life_time", "0x01 0x01\n")
        self.file("/sys/class/tty/console/active", "tty1\n")
        self.file("/boot/firmware/config.txt", CONFIG_TXT)
        self.file("/boot/firmware/cmdline.txt", CMDLINE)
        self.file("/proc/cmdline", CMDLINE)
        self.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
        self.file("/dev/i2c-1", "")
        uid, gid = os.getuid(), os.getgid()
        self.file("/etc/passwd", f"root:x:0:0::/root:/bin/sh\nyukimi:x:{uid}:{gid}::/:/bin/false\n")
        self.file("/etc/group", "dialout:x:20:yukimi\ni2c:x:998:yukimi\ngpio:x:997:yukimi\n")
        self.file("/etc/resolv.conf", "nameserver 127.0.0.53\n")

    def process(self, pid: int, name: str, line: str, *open_paths: str) -> None:
        """Let a process be seen that has devices open."""
        self.file(f"/proc/{pid}/comm", f"{name}\n")
        self.file(f"/proc/{pid}/cmdline", line.replace(" ", "\0"))
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(exist_ok=True)
        for at, path in enumerate(open_paths, 3):
            (folder / str(at)).symlink_to(os.path.realpath(self.at(path)))

    def real_process(self, pid: int) -> None:
        """Let a real process be seen."""
        (self.root / f"proc/{pid}").symlink_to(f"/proc/{pid}")

    def service(self, **facts: object) -> None:
        """Let systemd run, and say this of the service."""
        (self.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        well = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}
        well |= {"SubState": "running", "NRestarts": "0", "Result": "success"}
        well |= {"ExecMainStatus": "0", "MainPID": "0", "User": "yukimi", "MemorySwapMax": "0"}
        said = well | {name: str(value) for name, value in facts.items()}
        self.programs["show yukimi"] = "".join(f"{k}={v}\n" for k, v in said.items())

    def at(self, path: str) -> Path:
        """Return where a path of the board is."""
        return self.root / path.lstrip("/")

    # Parts

    def plug_terminals(self) -> None:
        """Put the serial devices on terminals, if they are not there."""
        for path, device in (("/dev/serial0", self.snow), ("/dev/ttyRS485", self.road)):
            if path not in self.absent and not os.path.lexists(self.at(path)):
                self.plug(path, device)

    def plug(self, path: str, device: Any) -> Pty:
        """Put a device on a terminal that the board has at `path`."""
        terminal = self.stack.enter_context(Pty([device], kernel.boot_s))
        self.at(path).symlink_to(os.path.realpath(terminal.path))
        return terminal

    def start_broker(self) -> Mosquitto:
        """Start Mosquitto with TLS, passwords and an access list; done by itself if nobody does."""
        if self.broker is None:
            self.papers.write()
            access = self.folder / "access"
            access.write_text("\n".join([*self.access, "user city", "topic readwrite #"]) + "\n")
            tls = Tls(self.papers.ca, self.papers.broker_cert, self.papers.broker_key)
            passwords = self._passwords({USER: PASSWORD, "city": "machi"})
            self.broker = self.stack.enter_context(
                Mosquitto(tls=tls, password_file=passwords, extra=(f"acl_file {access}",))
            )
            self.uplink(brokers=[f"mqtts://localhost:{self.broker.port}"])
            if self.has_city:
                self._let_city_listen()
        return self.broker

    def _let_city_listen(self) -> None:
        assert self.broker is not None  # noqa: S101
        trust = ssl.create_default_context(cafile=str(self.papers.true_ca))
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE  # it knows its own broker
        self.city = city = City(
            self.broker.host,
            self.broker.port,
            tls=trust,
            credentials=("city", "machi"),
            on_message=lambda topic, payload, _records: self.city_heard.add((topic, payload)),
        )
        self.stack.callback(city.close)
        city.start()
        city.wait_subscribed()

    def uplink(self, **changes: object) -> None:
        """Change [uplink]."""
        self.document["uplink"] |= changes

    def sensor(self, name: str) -> dict[str, Any]:
        """Return a sensor's table, to be changed."""
        found: dict[str, Any] = next(s for s in self.document["sensors"] if s["id"] == name)
        return found

    @property
    def config_file(self) -> Path:
        """The configuration file."""
        return self.folder / "gateway.toml"

    def configure(self) -> Path:
        """Write the configuration."""
        self.config_file.write_text(_toml(self.document), encoding="utf-8")
        self.config_file.chmod(0o640)
        return self.config_file

    def spool_path(self) -> Path:
        """Return where records wait."""
        return Path(self.document["spool"]["path"])

    # The doctor

    def site(self) -> Site:
        """Return what the doctor sees."""
        machine = Machine(open_i2c=lambda _path: self.wire)
        known: dict[str, Any] = {
            "roots": self.roots,
            "budget": BUDGET,
            "run_program": self._run_program,
            "look": lambda: self.look,
            "machine": machine,
            "line_errors": lambda _path: None,
        }
        return Site(self.config_file, **(known | self.site_changes))

    def examine(self) -> list[Result]:
        """Finish the cabinet, and let the doctor look at it."""
        self.plug_terminals()
        self.start_broker()
        if self.has_configuration and not self.config_file.exists():
            self.configure()
        return run(CHECKS, self.site())

    def _run_program(self, command: Sequence[str]) -> str | None:
        told = " ".join(command[1:])
        return next((text for start, text in self.programs.items() if told.startswith(start)), None)

    def _passwords(self, known: Mapping[str, str]) -> Path:
        file = self.folder / "passwords"
        file.touch(mode=0o600)
        for name, password in known.items():
            subprocess.run(
                ["mosquitto_passwd", "-b", str(file), name, password],
                check=True,
                capture_output=True,
            )
        return file

    def _document(self) -> dict[str, Any]:
        secret = self.folder / "broker-password"
        secret.write_text(f"{PASSWORD}\n")
        secret.chmod(0o600)
        return {
            "gateway": {"id": GATEWAY},
            "uplink": {
                "brokers": [],
                "username": USER,
                "password_file": str(secret),
                "tls": {"ca_file": str(self.papers.ca)},
            },
            "spool": {"path": str(self.folder / "state/spool.db"), "max_bytes": self.spool_bytes},
            "control": {"socket": str(self.folder / "control.sock")},
            "buses": [
                {"id": "rs485", "kind": "serial", "port": "/dev/ttyRS485", "baud": 19200},
            ],
            "sensors": [
                {
                    "id": "snow-1",
                    "driver": "maxbotix-hrxl",
                    "bus": "/dev/serial0",
                    "options": {"mount_height_cm": MOUNT_HEIGHT_CM},
                },
                {
                    "id": "road-1",
                    "driver": "lufft-umb",
                    "bus": "rs485",
                    "options": {"model": "irs31pro"},
                },
                {
                    "id": "air-1",
                    "driver": "bme280",
                    "bus": "/dev/i2c-1",
                    "options": {"address": AIR_ADDRESS},
                },
            ],
        }

    @staticmethod
    def options(driver: str) -> Any:
        """Return a driver's default options."""
        return drivers.load(driver).Options.model_validate({})


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that must happen. Raises TimeoutError."""
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("what had to happen did not")
        time.sleep(0.02)


def _toml(document: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for name, value in document.items():
        is_list = isinstance(value, list)
        for table in value if is_list else [value]:
            lines.append(f"[[{name}]]" if is_list else f"[{name}]")
            lines += [f"{key} = {_inline(item)}" for key, item in table.items()]
    return "\n".join(lines) + "\n"


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
