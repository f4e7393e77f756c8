"""Gateways that are measured beside each other, ours among them, each to read eight numbered lines.

SETTINGS says how each is set: as its documents advise where nothing may be lost. A rival is a
program with a folder of its own; how it writes a number down is its own affair, so it brings along
who reads that (`told`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..broker import Mosquitto
from ..city.payloads import unpack
from .install import Install, environment, site_packages
from .process import BenchError
from .site import write_config

COLLECTD = "/usr/sbin/collectd"
PAHO = ("paho-mqtt==2.2.0",)
THINGSBOARD = ("thingsboard-gateway==3.8.5", "pyserial==3.5")  # it installs the latter when asked
NOWHERE = "http://127.0.0.1:9"  # it would look for a newer one
TELEMETRY = "v1/gateway/telemetry"
TOKEN = "gateway"  # noqa: S105  (a name, on loopback)
# Its own requests must not come back to it.
ACCESS = f"""\
topic readwrite #
user {TOKEN}
topic write v1/devices/me/rpc/request/#
topic readwrite v1/gateway/#
topic readwrite v1/devices/me/telemetry
topic readwrite v1/devices/me/attributes/#
topic readwrite v1/devices/me/rpc/response/#
"""

_LINES_TO_MQTT = Path(__file__).with_name("lines_to_mqtt.py")
_STORAGE: Mapping[str, Mapping[str, Any]] = {
    "memory": {"type": "memory", "read_records_count": 100, "max_records_count": 100_000},
    "file": {
        "type": "file",
        "data_folder_path": "./data/",
        "max_file_count": 10,
        "max_read_records_count": 10,
        "max_records_per_file": 10_000,
    },
    "sqlite": {
        "type": "sqlite",
        "data_file_path": "./data/",
        "messages_ttl_check_in_hours": 1,
        "messages_ttl_in_days": 7,
    },
}

OWN_WINDOWS_S = (1, 60)
FIRST_MM = 1000  # what our lines say is a distance: number 0 is a metre

SETTINGS: Mapping[str, str] = {
    **{
        f"thingsboard-gateway-{storage}": "3.8.5 (PyPI); its shipped serial connector, one device a"
        f" line; {what}; no remote configuration, no shell, no statistics"
        for storage, what in (
            ("memory", "memory storage of 100,000 records"),
            ("file", "file storage, 10 files of 10,000 records"),
            ("sqlite", "SQLite storage, 7 days"),
        )
    },
    "mosquitto-bridge": "persistence, saved after each change; no limit to its queue; a session"
    " that stays, QoS 1. Bare paho brings it the lines, and is not in its figures",
    "collectd-mqtt": "Debian's collectd-core; exec plugin with an awk a line, not in its figures;"
    " mqtt plugin with QoS 1; Interval 1. It has no store to turn on",
    "bare-paho": "paho-mqtt 2.2.0 (PyPI), loop_start, QoS 1, no limit to its queue",
    **{
        f"yukimi-{window_s}s": "as shipped; each line is a snow gauge that says millimetres;"
        f" windows of {window_s} s. Started is born. A window tells of each number that lies in it"
        for window_s in OWN_WINDOWS_S
    },
}

Told = Iterator[tuple[int, int]]  # line, number
_LINE = re.compile(r"(?:line-)?(\d+)")


class Program(Protocol):
    """What is measured, in a folder of its own."""

    def start(self) -> None:
        """Start it, or start it again with what it left on its disk."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def rest(self) -> None:
        """End all of it, to be started afresh."""
        ...

    def close(self) -> None:
        """End all of it for good."""
        ...

    @property
    def pid(self) -> int:
        """Of the process that is measured."""
        ...


@dataclass(frozen=True, slots=True)
class Rival:
    """One of them: how it is made, and how it is understood."""

    name: str
    build: Callable[[Path, int, Sequence[str]], Program]  # folder, broker's port, terminals
    topics: tuple[str, ...]
    told: Callable[[str, bytes], Told]  # topic, payload -> line, number
    says: Callable[[int], bytes] = lambda number: b"%d\n" % number
    is_up: Callable[[str], bool] = lambda _topic: False  # by this message, before any number
    folder: Path | None = None  # of its environment
    every_s: int = 1  # how often it sends


class Command:
    """A program that is one command; what it starts goes with it."""

    def __init__(self, folder: Path, command: Sequence[str], **further: str) -> None:
        self._folder = folder
        self._command = command
        self._surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | further
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._surroundings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, as systemd would: to all of it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    rest = close = kill

    @property
    def pid(self) -> int:
        """Of its first process."""
        if self._process is None or self._process.poll() is not None:
            raise BenchError(f"{self._command[0]} does not run: {self._folder / 'log'}")
        return self._process.pid


def rivals(installed: Install) -> list[Rival]:
    """Return all that can be had here; what has an environment of its own gets it now."""
    thingsboard, paho = environment("thingsboard", *THINGSBOARD), environment("paho", *PAHO)
    found = [
        Rival(
            f"thingsboard-gateway-{storage}",
            partial(_thingsboard, thingsboard, storage),
            (TELEMETRY, "v1/devices/me/rpc/request/+"),
            numbers,
            folder=thingsboard,
        )
        for storage in _STORAGE
    ]
    found.append(Rival("mosquitto-bridge", partial(Bridge, paho), ("lines",), numbers))
    found.append(Rival("bare-paho", partial(_bare_paho, paho), ("lines",), numbers))
    if Path(COLLECTD).exists():
        found.append(Rival("collectd-mqtt", _collectd, ("collectd/#",), of_collectd))
    found += [
        Rival(
            f"yukimi-{window_s}s",
            partial(_yukimi, installed, window_s),
            ("yukimi/v1/#",),
            of_windows,
            says=lambda number: b"R%04d\r" % (FIRST_MM + number),
            is_up=lambda topic: topic.endswith("/status"),
            folder=installed.folder,
            every_s=window_s,
        )
        for window_s in OWN_WINDOWS_S
    ]
    return found


def _thingsboard(
    own: Path, storage: str, folder: Path, port: int, terminals: Sequence[str]
) -> Command:
    shipped = site_packages(own) / "thingsboard_gateway" / "config"
    settings = folder / "config"
    shutil.copytree(shipped, settings)
    (folder / "data").mkdir()
    (folder / "logs").mkdir()
    main = json.loads((shipped / "tb_gateway.json").read_text())
    thingsboard = main["thingsboard"]
    thingsboard |= {"host": "127.0.0.1", "port": port, "remoteConfiguration": False}
    thingsboard["security"] = {"type": "accessToken", "accessToken": TOKEN}
    thingsboard["statistics"]["enable"] = False
    main["storage"] = _STORAGE[storage]
    serial = {"type": "serial", "name": "lines", "configuration": "serial.json"}
    main["connectors"] = [serial | {"class": "SerialConnector"}]
    (settings / "tb_gateway.json").write_text(json.dumps(main))
    devices = [_device(at, path) for at, path in enumerate(terminals)]
    lines = {"name": "lines", "logLevel": "INFO", "uplinkQueueSize": 100_000}
    (settings / "serial.json").write_text(json.dumps(lines | {"devices": devices}))
    return Command(
        folder,
        [str(own / "bin" / "python"), "-m", "thingsboard_gateway.tb_gateway"],
        TB_GW_CONFIG_DIR=str(settings),
        https_proxy=NOWHERE,
    )


def _device(at: int, path: str) -> dict[str, object]:
    return {
        "name": f"line-{at}",
        "type": "default",
        "port": path,
        "baudrate": 115_200,
        "converter": "SerialUplinkConverter",
        "downlink_converter": "SerialDownlinkConverter",
        "telemetry": [{"type": "int", "key": "v", "untilDelimiter": "\n"}],
        "attributes": [],
    }


def _bare_paho(own: Path, folder: Path, port: int, terminals: Sequence[str]) -> Command:
    python = str(own / "bin" / "python")
    return Command(folder, [python, str(_LINES_TO_MQTT), str(port), *terminals])


def _collectd(folder: Path, port: int, terminals: Sequence[str]) -> Command:
    for path in terminals:
        Path(path).resolve().chmod(0o666)  # what it executes may not be root
    readers = "".join(
        f'  Exec "nobody:nogroup" "/usr/bin/awk"'
        f' "{{print \\"PUTVAL gateway/line-{at}/gauge-v interval=1 N:\\" $1; fflush()}}"'
        f' "{Path(path).resolve()}"\n'
        for at, path in enumerate(terminals)
    )
    settings = folder / "collectd.conf"
    settings.write_text(f"""\
Hostname "gateway"
Interval 1
BaseDir "{folder}"
PIDFile "{folder}/pid"
TypesDB "/usr/share/collectd/types.db"
LoadPlugin exec
LoadPlugin mqtt
<Plugin exec>
{readers}</Plugin>
<Plugin mqtt>
  <Publish "city">
    Host "127.0.0.1"
    Port {port}
    ClientId "collectd"
    QoS 1
    Prefix "collectd"
  </Publish>
</Plugin>
""")
    return Command(folder, [COLLECTD, "-f", "-C", str(settings)])


def _yukimi(
    installed: Install, window_s: int, folder: Path, port: int, terminals: Sequence[str]
) -> Command:
    sensors = "".join(
        f'[[sensors]]\nid = "line-{at}"\ndriver = "maxbotix-hrxl"\nbus = "{path}"\n'
        f"window_s = {window_s}\n[sensors.options]\nmount_height_cm = 500.0\nrate_hz = 1.0\n"
        for at, path in enumerate(terminals)
    )
    config = write_config(folder, port, sensors=sensors)
    return Command(folder, [installed.python, "-m", "agent", "run", "--config", str(config)])


class Bridge:
    """A Mosquitto of its own beside the lines, bridged to the city's."""

    def __init__(self, own: Path, folder: Path, port: int, terminals: Sequence[str]) -> None:
        self._broker = Mosquitto(
            persistence=True,
            extra=(
                "max_queued_messages 0",
                "autosave_interval 1",
                "autosave_on_changes true",
                "connection up",
                f"address 127.0.0.1:{port}",
                "topic # out 1",
                "cleansession false",
                "notifications false",
                "restart_timeout 1 5",
            ),
        )
        self._feeder = _bare_paho(own, folder, self._broker.port, terminals)
        self._is_fed = False

    def start(self) -> None:
        """Start it; its feeder lives on."""
        self._broker.start()
        if not self._is_fed:
            self._feeder.start()
            self._is_fed = True

    def kill(self) -> None:
        """SIGKILL the broker beside the lines."""
        self._broker.kill()

    def rest(self) -> None:
        """SIGKILL both."""
        self._feeder.kill()
        self._broker.kill()
        self._is_fed = False

    def close(self) -> None:
        """End both for good."""
        self._feeder.kill()
        self._broker.close()

    @property
    def pid(self) -> int:
        """The broker's."""
        return self._broker.pid


def numbers(_topic: str, payload: bytes) -> Told:
    """Yield (line, number) of a message of thingsboard-gateway or of bare paho."""
    try:
        document = json.loads(payload)
    except ValueError:
        return
    for name, said in document.items() if isinstance(document, dict) else ():
        line = _LINE.fullmatch(name)
        for each in said if isinstance(said, list) else [said]:
            value = each.get("values", each).get("v") if isinstance(each, dict) else each
            if line is not None and value is not None:
                yield int(line[1]), int(value)


def of_collectd(topic: str, payload: bytes) -> Told:
    """Yield (line, number) of a message of collectd: time:value, and a zero byte."""
    if line := _LINE.fullmatch(topic.split("/")[2]):
        yield int(line[1]), int(float(payload.rstrip(b"\0").split(b":")[1]))


def of_windows(topic: str, payload: bytes) -> Told:
    """Yield (line, number) of a batch of ours.

    A window says its least, its most, and how many there were: as many as lie from the one to the
    other, or it tells of none.
    """
    if topic.split("/")[3] not in ("live", "backlog"):
        return
    for record in unpack(payload)["records"]:
        line = _LINE.fullmatch(record["stream"])
        told = record.get("values", {}).get("distance_cm")
        if line is not None and told is not None:
            least, most = (round(told[key] * 10) - FIRST_MM for key in ("min", "max"))
            if told["n"] == most - least + 1:
                yield from ((int(line[1]), number) for number in range(least, most + 1))
