"""The gateway in the pictures: simulated devices, a broker with TLS, a city that listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from agent.asking import NotAnsweredError, ask
from hil.cabinets import Workshop
from hil.cabinets.workshop import USER

from .stage import BROKER, UNPLUGGED, Stage
from .terminal import Terminal

LOCALES = {"en": "C.UTF-8", "ja": "ja_JP.UTF-8"}
GATEWAY = "chikaho-03"
START_S = 60.0
STOP_S = 30.0
WINDOW_S = 5  # a minute is too long for a picture; of people: 900 on the street
SENSORS = ("hall-1", "road-1", "snow-1", "air-1")


class Scene:
    """A running gateway whose sensors are all well, until one is unplugged."""

    def __init__(self) -> None:
        self._shop = Workshop()
        self._stage = self._shop.folder / "stage.json"
        self._gateway: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        shop = self._shop
        shop.papers.names = [BROKER]
        shop.access = [f"user {USER}", f"topic readwrite yukimi/v1/{GATEWAY}/#"]
        broker = shop.start_broker()
        shop.service()
        shop.document = self._document(shop.document["uplink"])
        (shop.folder / "state").mkdir()
        Stage(broker.port, {k: str(v) for k, v in shop.roots.items()}, shop.programs).write(
            self._stage
        )
        shop.configure()
        log = shop.stack.enter_context((shop.folder / "gateway.log").open("wb"))
        self._gateway = subprocess.Popen(
            self._command("run"), stderr=log, cwd=shop.folder, env=os.environ | self._environment()
        )
        shop.stack.callback(self._stop)
        self.wait_status(lambda said: all(_is_measured(each) for each in said["sensors"]))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._shop.__exit__(*exc_info)

    def unplug(self) -> None:
        """Pull the snow sensor's plug, and wait until the gateway has noticed."""
        if self._gateway is None:
            raise ValueError("the scene has not begun")
        self._gateway.send_signal(signal.SIGUSR1)
        self.wait_status(
            lambda said: any(
                each["id"] == UNPLUGGED and each["state"] == "silent" for each in said["sensors"]
            )
        )

    def type(self, line: str, language: str) -> Terminal:
        """Let somebody type a command line (`yukimi ...`) in a language."""
        words = line.removeprefix("sudo ").removeprefix("yukimi ").split()
        environment = self._environment() | {"LC_ALL": LOCALES[language]}
        return Terminal(self._command(*words), line, self._shop.folder, environment)

    def wait_status(self, is_so: Callable[[Mapping[str, Any]], bool]) -> None:
        """Wait until the gateway says what it must. Raises TimeoutError."""
        until_s = time.monotonic() + START_S
        while True:
            try:
                if is_so(ask(self._shop.folder / "control.sock", "status")):
                    return
            except NotAnsweredError:
                pass  # it starts
            if time.monotonic() > until_s:
                log = (self._shop.folder / "gateway.log").read_text(errors="replace")
                raise TimeoutError(f"the gateway never got there; its log:\n{log}")
            time.sleep(0.1)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hil.pictures.stage", self._stage.name, *words]

    def _environment(self) -> dict[str, str]:
        project = os.pathsep.join(filter(None, sys.path))
        return {"YUKIMI_CONFIG": "gateway.toml", "PYTHONPATH": project}

    def _stop(self) -> None:
        if self._gateway is not None and self._gateway.poll() is None:
            self._gateway.terminate()
            try:
                self._gateway.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._gateway.kill()
                self._gateway.wait()

    def _document(self, uplink: Mapping[str, Any]) -> dict[str, Any]:
        people: dict[str, Any] = {"warmup_s": 2.0}
        road, snow = ({"model": model, "interval_s": 1.0} for model in ("irs31pro", "shm31"))
        bench: dict[str, Any] = {"bus": "cabinet", "window_s": WINDOW_S}
        return {
            "gateway": {
                "id": GATEWAY,
                "label": {"ja": "チ・カ・ホ 北3条", "en": "Chi-Ka-Ho N3"},
                "location": {"latitude": 43.0640, "longitude": 141.3510},
            },
            "uplink": {**uplink, "brokers": [f"mqtts://{BROKER}"], "offset_s": 0.5},
            "spool": {"path": "state/spool.db", "max_bytes": 64 * 2**20},
            "control": {"socket": "control.sock"},
            "clock": {"trust": "system"},
            "privacy.flow": {"window_s": 3 * WINDOW_S},
            "buses": [{"id": "cabinet", "kind": "simulated"}],
            "sensors": [
                {"id": "hall-1", "driver": "grideye-amg88xx", "bus": "cabinet", "options": people},
                bench | {"id": "road-1", "driver": "lufft-umb", "options": road},
                bench | {"id": "snow-1", "driver": "lufft-umb", "options": snow},
                bench | {"id": "air-1", "driver": "bme280"},
            ],
        }


def _is_measured(sensor: Mapping[str, Any]) -> bool:
    return bool(sensor["state"] == "ok")
