"""A configuration tried on the wires before anything runs with it: every sensor is read once.

The buses are looked at side by side, the sensors of one bus one after another. Who measured before
and does not answer now is a reason not to go on; one that is new may be silent, as at any start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from config.text import Text, joined

from .firstlook import LONGEST_S, Look, look_at
from .logs import logger, place_of
from .plan import Plan, PlannedSensor

log = logger("dry run")

SPARE_S = 10.0  # for a bus to be opened and closed
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
    seen: dict[str, Text | None] = {}  # each thread its own sensors
    until_s = time.monotonic()
    threads = []
    for bus in plan.buses:
        sensors = [each for each in plan.sensors if each.bus is bus]
        until_s = max(until_s, time.monotonic() + sum(map(_longest_s, sensors)))
        threads.append(
            threading.Thread(
                target=_look_along,
                args=(sensors, look, goes_on, seen),
                name=f"dry run {bus.name}",
                daemon=True,
            )
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and goes_on() and time.monotonic() < until_s:
            thread.join(LOOK_S)
    if not goes_on():
        return None
    # A bus that never comes back must not keep the gateway: who was not reached is silent.
    names = [sensor.table.id for sensor in plan.sensors]
    unseen = {name: SILENT.filled(sensor=name) for name in names if name not in seen}
    found = unseen | {name: why for name, why in seen.items() if why is not None}
    wrong = {name: why for name, why in found.items() if name in measured}
    for name in found.keys() - wrong.keys():
        log.warning("does not answer", sensor=name, why=str(found[name]))
    if not wrong:
        return None
    return joined("; ", [wrong[name] for name in sorted(wrong)])


def _longest_s(sensor: PlannedSensor) -> float:
    return float(getattr(sensor.options, "warmup_s", 0.0)) + LONGEST_S + SPARE_S


def _look_along(
    sensors: list[PlannedSensor],
    look: LookAt,
    goes_on: Callable[[], bool],
    seen: dict[str, Text | None],
) -> None:
    for sensor in sensors:
        name = sensor.table.id
        if not goes_on():
            return
        try:
            told = look(sensor)
        except Exception as exc:  # noqa: BLE001  (a driver's bug must not cost the gateway)
            seen[name] = BUG.filled(sensor=name, where=place_of(exc))
            continue
        log.info("looked at", sensor=name, state=told.state)
        seen[name] = None
        if told.state in ("silent", "garbled"):
            # Of a people sensor not even a broken frame is told: it shows persons.
            is_told = bool(told.error) and not (sensor.counts_people and told.state == "garbled")
            what = SILENT.filled(sensor=name)
            seen[name] = UNHEARD.filled(what=what, why=told.error) if is_told else what
