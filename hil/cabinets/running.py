"""Cabinets whose gateway runs: it holds the buses and the connection, and tells the doctor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from agent import kernel
from agent.asking import NotAnsweredError, ask
from hil.buses import Pty

from .networks import appear
from .scenarios import cabinet
from .workshop import GATEWAY, USER, Workshop, until

START_S = 60.0
Status = Mapping[str, Any]


@cabinet("running", None)
def sound(w: Workshop) -> None:
    """The gateway runs, and nothing is wrong."""
    run_gateway(w, lambda said: _state(said, "snow-1") == "ok" and _state(said, "air-1") == "ok")


@cabinet("running-edited", None)
def edited(w: Workshop) -> None:
    """The file was edited and not reloaded: a warning, no failure."""
    run_gateway(w, lambda said: _state(said, "snow-1") == "ok")
    w.document["gateway"]["owner"] = "Somebody"
    w.configure()


@cabinet("running-refused", "YK-CFG-02", "yukimi config check")
def refused(w: Workshop) -> None:
    """A wrong configuration was refused, and the old one goes on."""
    gateway = run_gateway(w, lambda said: _state(said, "snow-1") == "ok")
    w.sensor("snow-1")["driver"] = "maxbotics"
    w.configure()
    gateway.send_signal(signal.SIGHUP)
    until(lambda: bool(_ask(w)["gateway"]["refused"]), START_S)


@cabinet("running-dead", "YK-SEN-01", "power and wires", subject="road-1")
def dead(w: Workshop) -> None:
    """A sensor of a running gateway has no power."""
    run_gateway(w, lambda said: _state(said, "road-1") == "silent", silent=True)


@cabinet("nobody-subscribed", "YK-MQ-04", "subscriber started")
def nobody(w: Workshop) -> None:
    """The city's subscriber is stopped."""
    w.has_city = False
    run_gateway(w, lambda said: bool(said["uplink"]["nobody_subscribes"]))


@cabinet("running-not-authorised", "YK-MQ-03", "permitted")
def not_authorised(w: Workshop) -> None:
    """The access list permits all but live records."""
    lanes = ("status", "alert/#", "alarm/#", "health", "backlog/#")
    own = f"yukimi/v1/{GATEWAY}"
    w.access = [f"user {USER}", *(f"topic readwrite {own}/{lane}" for lane in lanes)]
    run_gateway(w, lambda said: bool(said["uplink"]["not_authorised"]))


@cabinet("running-id-twice", "YK-MQ-05", "[gateway] id")
def twice(w: Workshop) -> None:
    """A cloned card throws the running gateway out."""
    run_gateway(w, lambda said: said["uplink"]["connected_since"] is not None)
    clone = appear(w)
    until(lambda: _ask(w)["uplink"]["clone_seen"] is not None, START_S)
    clone.disconnect()
    clone.loop_stop()
    until(lambda: _ask(w)["uplink"]["connected_since"] is not None, START_S)


def run_gateway(
    w: Workshop, is_so: Callable[[Status], bool], *, silent: bool = False
) -> subprocess.Popen[bytes]:
    """Start `yukimi run` on real terminals and simulated I2C; wait until it says what it must."""
    w.start_broker()
    w.document["clock"] = {"trust": "system"}
    w.document["uplink"]["offset_s"] = 0.1
    w.document["buses"] = [{"id": "bench", "kind": "simulated"}]
    w.sensor("air-1")["bus"] = "bench"
    for name, device in (("snow-1", w.snow), ("road-1", w.road)):
        terminal = w.stack.enter_context(Pty([device], kernel.boot_s))
        if silent and name == "road-1":
            terminal.line.silence()
        w.sensor(name)["bus"] = terminal.path
    for table in w.document["sensors"]:
        table["window_s"] = 1
    w.spool_path().parent.mkdir()
    log = (w.folder / "gateway.log").open("wb")
    w.stack.callback(log.close)
    gateway = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--config", str(w.configure())],
        stderr=log,
        env=os.environ | {"STATE_DIRECTORY": str(w.folder)},
    )
    w.stack.callback(gateway.wait)
    w.stack.callback(gateway.kill)
    w.service(MainPID=gateway.pid)
    w.real_process(gateway.pid)
    w.site_changes["ask_daemon"] = lambda: ask(_socket(w), "status")

    def is_ready() -> bool:
        try:
            return is_so(_ask(w))
        except NotAnsweredError:
            if gateway.poll() is not None:
                said = (w.folder / "gateway.log").read_text(errors="replace")
                raise RuntimeError(f"the gateway ended:\n{said}") from None
            return False

    until(is_ready, START_S)
    return gateway


def _ask(w: Workshop) -> Status:
    answer: Status = ask(_socket(w), "status")
    return answer


def _socket(w: Workshop) -> Any:
    return w.folder / "control.sock"


def _state(said: Status, sensor: str) -> str:
    return next((str(each["state"]) for each in said["sensors"] if each["id"] == sensor), "")
