"""What the verbs that touch one sensor share: to find it, and to say why it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent import kernel
from agent.logs import words_of
from agent.plan import PlannedSensor
from config.load import ConfigError, default_path, nearest
from config.text import Text
from drivers.base import BusError, DriverError, FrameError, HearsTemperature, NoGlimpseError

if TYPE_CHECKING:
    from agent.direct import Direct


from . import BAD_CONFIG, UNREACHABLE, USAGE, WRONG, complain

NO_SENSOR = Text('no sensor "{name}" in {path}', "{path} に「{name}」というセンサーはありません")
NO_TEMPERATURE = Text(
    "{name}, whose air temperature is needed: {error}",
    "気温の測定に必要な {name} を読めません: {error}",
)
NO_VALUE = Text(
    "{name}, whose air temperature is needed, gives no value",
    "気温の測定に必要な {name} の値が得られません",
)
NONSENSE = Text(
    "{where}: it answers, and nothing sensible: {error}",
    "{where}: 応答はありますが、内容が正しくありません: {error}",
)
A_BUG = Text(
    "{where}: a bug in its driver: {error}", "{where}: ドライバーに不具合があります: {error}"
)
IN_USE = Text(
    "; if the daemon holds it, stop it for the time being: systemctl stop yukimi, "
    "and afterwards systemctl start yukimi",
    "。常駐プログラムが使用中の場合は、一時的に停止し（systemctl stop yukimi）、"
    "終わったら再開してください（systemctl start yukimi）",
)


def find(name: str, path: Path | None) -> tuple[PlannedSensor, PlannedSensor | None] | int:
    """Return the sensor called `name`, and the one whose air temperature it needs, if any.

    Where there is none: the exit code, having said why not.
    """
    from agent.applied import plan_in_force

    try:
        plan = plan_in_force(path or default_path())
    except ConfigError as exc:
        complain(exc)
        return BAD_CONFIG
    by_id = {sensor.table.id: sensor for sensor in plan.sensors}
    if name in by_id:
        return by_id[name], by_id.get(by_id[name].options.listens_to() or "")
    complain(NO_SENSOR.filled(name=name, path=plan.loaded.path) + nearest(name, list(by_id)))
    return USAGE


def lend_temperature(direct: Direct, thermometer: PlannedSensor) -> None:
    """Let a sensor that corrects by another's air temperature have it; say where there is none."""
    from agent.direct import air_temperature_c

    driver, name = direct.driver, thermometer.table.id
    if not isinstance(driver, HearsTemperature):
        return
    try:
        measured_c = air_temperature_c(thermometer)
    except DriverError as exc:
        complain(NO_TEMPERATURE.filled(name=name, error=exc))
        return
    if measured_c is None:
        complain(NO_VALUE.filled(name=name))
    else:
        driver.hear_temperature(measured_c, kernel.boot_ns())


def failed(sensor: PlannedSensor, error: Exception) -> int:
    """Say why a sensor cannot be read, and what to do; return the exit code."""
    where = f"{sensor.table.id} ({sensor.table.driver} on {sensor.bus.name})"
    words = words_of(error, of_people=sensor.counts_people)
    if isinstance(error, NoGlimpseError):
        complain(A_BUG.filled(where=where, error=words))
        return WRONG
    if isinstance(error, FrameError):
        complain(NONSENSE.filled(where=where, error=words))
        return WRONG
    if isinstance(error, BusError) and ("in use" in words or "busy" in words):
        words += IN_USE
    complain(f"{where}: " + words)
    return UNREACHABLE
