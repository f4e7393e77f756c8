"""`yukimi read` where the running gateway holds the bus: it is asked what it reads.

Of a sensor that counts people it tells the state and nothing more, consent or not: what passes
over the socket cannot be kept to those who agreed. Whoever wants to see crossings stops it.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from agent.asking import Asking, NotAnsweredError, socket_path

from . import OK, UNREACHABLE, WRONG, complain
from .display import printable
from .language import Text, said
from .read import INTRODUCED, NOT_SHOWN, TOO_FEW, print_set

if TYPE_CHECKING:
    from agent.plan import PlannedSensor

SPARE_S = 10.0
HELD = Text(
    "{sensor}: the running gateway reads it, and tells nobody who passes. Stop it for the time"
    " being: systemctl stop yukimi; and afterwards: systemctl start yukimi",
    "{sensor}: 稼働中のゲートウェイが使用しており、通過の様子は外に出しません。"
    "一時的に停止してください: systemctl stop yukimi 終わったら: systemctl start yukimi",
)
BY_GATEWAY = Text("(as the running gateway reads it)", "（稼働中のゲートウェイの読み取り）")
SILENT = Text("{sensor}: it does not answer: {why}", "{sensor}: 応答がありません: {why}")
NOT_READY = Text("{sensor}: not ready: {state}", "{sensor}: 準備ができていません: {state}")
UNKNOWN = Text("reason unknown", "原因不明")


def read(sensor: PlannedSensor, arguments: argparse.Namespace) -> int | None:
    """Ask the gateway for the sensor's newest; return the exit code, None if it has it not."""
    wanted = arguments.n or 1
    try:
        with Asking(socket_path(arguments.config)) as asking:
            found = asking.ask("sensor", sensor=sensor.table.id)["sensor"]
            if (found["driver"], found["bus"]) != (sensor.table.driver, sensor.bus.name):
                return None  # another gateway's, of the same name
            if sensor.counts_people and arguments.consent:
                complain(HELD.filled(sensor=sensor.table.id))
                return UNREACHABLE
            reader = _Asked(found, as_json=arguments.json)
            code = reader.state()
            if code == OK and not sensor.counts_people:
                usual_s = (wanted + 2) / found["nominal_rate_hz"] + SPARE_S
                code = reader.follow(asking, wanted, arguments.timeout or usual_s)
    except NotAnsweredError as exc:
        if exc.code == "forbidden":  # it may well hold the bus
            complain(exc)
        return None
    reader.close()
    return code


class _Asked:
    """What the gateway says of one sensor, printed as it comes, or at the end as JSON."""

    def __init__(self, found: dict[str, Any], *, as_json: bool) -> None:
        self._found = found
        self._as_json = as_json
        self._started_s = time.monotonic()
        self._document: dict[str, Any] = {
            "schema": "yukimi.read/1",
            "sensor": found["id"],
            "driver": found["driver"],
            "bus": found["bus"],
            "by": "gateway",
            "state": found["state"],
        }
        if not as_json:
            named = {"sensor": found["id"], "driver": found["driver"], "bus": found["bus"]}
            print(f"{said(INTRODUCED, **named)} {said(BY_GATEWAY)}")

    def state(self) -> int:
        """Say how it is; return the exit code."""
        found, name = self._found, self._found["id"]
        if not self._as_json and found["kind"] == "people":
            print(f"  {found['state']}")
            print(f"  {said(NOT_SHOWN)}")
        if found["state"] in ("silent", "ignored"):
            error = found["error"]
            text = None if error is None else error["text"]
            self._document["error"] = text
            complain(SILENT.filled(sensor=name, why=UNKNOWN if text is None else printable(text)))
            return UNREACHABLE
        if found["kind"] == "people" and found["state"] != "ok":
            complain(NOT_READY.filled(sensor=name, state=found["state"]))
            return WRONG
        return OK

    def follow(self, asking: Asking, wanted: int, timeout_s: float) -> int:
        """Take the next readings, as many as wanted; return the exit code."""
        until_s = time.monotonic() + timeout_s
        self._document |= {"units": {}, "readings": []}
        given, has_value = 0, False
        try:
            for line in asking.stream("read", until_s=until_s, sensor=self._found["id"], n=wanted):
                if "readings" in line:
                    given += 1
                    has_value = self._take(line["readings"], line["raw"]) or has_value
                if given >= wanted:  # it begins anew where the gateway does
                    break
        except NotAnsweredError as exc:
            if exc.code != "late":
                complain(exc)
                return UNREACHABLE
        if given >= wanted and has_value:
            return OK
        told = {"sensor": self._found["id"], "given": given, "wanted": wanted}
        complain(TOO_FEW.filled(seconds=timeout_s, **told))
        return WRONG

    def close(self) -> None:
        """Print what is printed at the end."""
        if self._as_json:
            print(json.dumps(self._document, ensure_ascii=False))

    def _take(self, readings: dict[str, Any], raw: list[dict[str, Any]]) -> bool:
        """Print a set of readings; tell whether there is a value among them."""
        values = {name: each["value"] for name, each in readings.items()}
        reasons = {name: each["reasons"] for name, each in readings.items()}
        units = {name: each["unit"] for name, each in readings.items()}
        missing = [value is None for value in values.values()]
        flag = "missing" if all(missing) else "suspect" if any(missing) else "good"
        quality: dict[str, Any] = {"flag": flag}
        if any(reasons.values()):
            quality["reasons"] = sorted({why for each in reasons.values() for why in each})
        t_s = round(time.monotonic() - self._started_s, 3)
        line = {"t_s": t_s, "values": values, "quality": quality}
        self._document["units"] |= units
        self._document["readings"].append(line | {"raw": raw})
        if not self._as_json:
            print_set(line, units, reasons, raw)
        return not all(missing)
