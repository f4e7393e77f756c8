"""A configuration tried on the wires before anything runs with it: every sensor is read once.

The buses are looked at side by side, the sensors of one bus one after another. Who measured before
and does not answer now is a reason not to go on; one that is new may be silent, as at any start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from config.text import Text, joined

from .firstlook import Look, look_at
from .logs import logger, place_of
from .plan import Plan, PlannedSensor

log = logger("dry run")

LOOK_S = 0.5  # between two looks at whether to stop

SILENT = Text("{sensor} measured before, and does not answer", "{sensor} の応答がなくなりました")
BUG = Text("{sensor}: its driver failed in {where}", "{sensor}: ドライバーの不具合（{where}）")
UNHEARD = Text("{what}: {why}", "{what}: {why}")

LookAt = Callable[[PlannedSensor], Look]


def why_not(
    plan: Plan,
    measured: Collection[str],
    *,
    goes_on: Callable[[], bool],
    look: LookAt = look_at,
) -> Text | None:
    """Read every sensor once; return why the plan must not run, None if it may.

    `measured` are the sensors that must answer; `goes_on` is asked now and then, and ends it.
    """
    found: dict[str, Text] = {}  # each thread its own sensors
    threads = [
        threading.Thread(
            target=_look_along,
            args=([each for each in plan.sensors if each.bus is bus], look, goes_on, found),
            name=f"dry run {bus.name}",
            daemon=True,
        )
        for bus in plan.buses
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and goes_on():
            thread.join(LOOK_S)
    wrong = {name: why for name, why in found.items() if name in measured}
    for name in found.keys() - wrong.keys():
        log.warning("does not answer", sensor=name, why=str(found[name]))
    if not wrong:
        return None
    return joined("; ", [wrong[name] for name in sorted(wrong)])


def _look_along(
    sensors: list[PlannedSensor],
    look: LookAt,
    goes_on: Callable[[], bool],
    found: dict[str, Text],
) -> None:
    for sensor in sensors:
        name = sensor.table.id
        if not goes_on():
            return
        try:
            seen = look(sensor)
        except Exception as exc:  # noqa: BLE001  (a driver's bug must not cost the gateway)
            found[name] = BUG.filled(sensor=name, where=place_of(exc))
            continue
        log.info("looked at", sensor=name, state=seen.state)
        if seen.state in ("silent", "garbled"):
            # Of a people sensor not even a broken frame is told: it shows persons.
            is_told = bool(seen.error) and not (sensor.counts_people and seen.state == "garbled")
            what = SILENT.filled(sensor=name)
            found[name] = UNHEARD.filled(what=what, why=seen.error) if is_told else what
