"""What the verbs that touch one sensor share: to find it, and to say why it cannot be read."""

from __future__ import annotations

from pathlib import Path

from agent.plan import PlannedSensor
from config.load import ConfigError, default_path, nearest
from drivers.base import BusError, FrameError

from . import BAD_CONFIG, UNREACHABLE, USAGE, WRONG, complain


def find(name: str, path: Path | None) -> PlannedSensor | int:
    """Return the sensor called `name`, or, having said why not, the exit code."""
    from agent.plan import load_plan

    try:
        plan = load_plan(path or default_path())
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    for sensor in plan.sensors:
        if sensor.table.id == name:
            return sensor
    known = [sensor.table.id for sensor in plan.sensors]
    complain(f'no sensor "{name}" in {plan.loaded.path}' + nearest(name, known))
    return USAGE


def failed(sensor: PlannedSensor, error: Exception) -> int:
    """Say why a sensor cannot be read, and what to do; return the exit code."""
    where = f"{sensor.table.id} ({sensor.table.driver} on {sensor.bus.name})"
    if isinstance(error, FrameError):
        complain(f"{where}: it answers, and nothing sensible: {error}")
        return WRONG
    words = str(error)
    if isinstance(error, BusError) and ("in use" in words or "busy" in words):
        words += (
            "; if the daemon holds it, stop it for the time being: systemctl stop yukimi, "
            "and afterwards systemctl start yukimi"
        )
    complain(f"{where}: {words}")
    return UNREACHABLE
