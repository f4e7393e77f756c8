"""Other gateways, started as their documents advise, each to read the same numbered lines.

thingsboard-gateway  3.8.5 from PyPI in an environment of its own; its shipped serial connector and
                     converter, one device a line; no remote configuration, no shell, statistics
                     off; storage in memory, files or SQLite with the sizes that it ships with.
bare paho            lines_to_mqtt.py, a queue without a limit.
Mosquitto bridge     persistence, saved after each change; a queue without a limit; a session
                     that stays. Lines come to it by bare paho, which is not in its figures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..broker import Mosquitto
from .install import environment, site_packages
from .process import BenchError

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


class Rival(Protocol):
    """A gateway of others, in a folder of its own."""

    name: str

    def start(self) -> None:
        """Start it, or start it again with what it left on its disk."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def close(self) -> None:
        """End all of it for good."""
        ...

    @property
    def pid(self) -> int:
        """Of the process that is measured."""
        ...


class ThingsBoard:
    """thingsboard-gateway with one of its storages."""

    @classmethod
    def with_storage(cls, storage: str) -> Callable[[Path, int, Sequence[str]], ThingsBoard]:
        """Return what builds one."""
        return partial(cls, storage)

    def __init__(self, storage: str, folder: Path, port: int, terminals: Sequence[str]) -> None:
        self.name = f"thingsboard-gateway-{storage}"
        self._folder = folder
        self._environment = environment("thingsboard", *THINGSBOARD)
        shipped = site_packages(self._environment) / "thingsboard_gateway" / "config"
        settings = folder / "config"
        shutil.copytree(shipped, settings)
        (folder / "data").mkdir()
        (folder / "logs").mkdir()
        main = json.loads((shipped / "tb_gateway.json").read_text())
        own = main["thingsboard"]
        own |= {"host": "127.0.0.1", "port": port, "remoteConfiguration": False}
        own["security"] = {"type": "accessToken", "accessToken": TOKEN}
        own["statistics"]["enable"] = False
        main["storage"] = _STORAGE[storage]
        serial = {"type": "serial", "name": "lines", "configuration": "serial.json"}
        main["connectors"] = [serial | {"class": "SerialConnector"}]
        (settings / "tb_gateway.json").write_text(json.dumps(main))
        devices = [_device(at, path) for at, path in enumerate(terminals)]
        lines = {"name": "lines", "logLevel": "INFO", "uplinkQueueSize": 100_000}
        (settings / "serial.json").write_text(json.dumps(lines | {"devices": devices}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._process = _started(
            [str(self._environment / "bin" / "python"), "-m", "thingsboard_gateway.tb_gateway"],
            self._folder,
            {"TB_GW_CONFIG_DIR": str(self._folder / "config"), "https_proxy": NOWHERE},
        )

    def kill(self) -> None:
        """SIGKILL."""
        _kill(self._process)

    close = kill

    @property
    def pid(self) -> int:
        """Its process."""
        return _pid(self._process)


class BarePaho:
    """A loop around paho-mqtt."""

    name = "bare-paho"

    def __init__(self, folder: Path, port: int, terminals: Sequence[str]) -> None:
        python = environment("paho", *PAHO) / "bin" / "python"
        folder.mkdir()
        self._folder = folder
        self._command = [str(python), str(_LINES_TO_MQTT), str(port), *terminals]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._process = _started(self._command, self._folder, {})

    def kill(self) -> None:
        """SIGKILL."""
        _kill(self._process)

    close = kill

    @property
    def pid(self) -> int:
        """Its process."""
        return _pid(self._process)


class Bridge:
    """A Mosquitto of its own beside the lines, bridged to the city's."""

    name = "mosquitto-bridge"

    def __init__(self, folder: Path, port: int, terminals: Sequence[str]) -> None:
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
        self._feeder = BarePaho(folder, self._broker.port, terminals)
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

    def close(self) -> None:
        """End both for good."""
        self._feeder.kill()
        self._broker.close()

    @property
    def pid(self) -> int:
        """The broker's."""
        return self._broker.pid


def numbers(payload: bytes) -> Iterator[tuple[str, int]]:
    """Yield (line, number) of a message of any rival."""
    try:
        document = json.loads(payload)
    except ValueError:
        return
    for line, said in document.items() if isinstance(document, dict) else ():
        for each in said if isinstance(said, list) else [said]:
            value = each.get("values", each).get("v") if isinstance(each, dict) else each
            if value is not None:
                yield line, int(value)


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


def _started(
    command: Sequence[str], folder: Path, further: dict[str, str]
) -> subprocess.Popen[bytes]:
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | further
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=surroundings, stdout=log, stderr=log)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def _pid(process: subprocess.Popen[bytes] | None) -> int:
    if process is None or process.poll() is not None:
        raise BenchError("it does not run")
    return process.pid
