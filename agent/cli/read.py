"""`yukimi read SENSOR`: what a sensor says now, decoded and raw; nothing is published."""

from __future__ import annotations

import argparse
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import OK, USAGE, WRONG, add_config, add_json, add_sensor, complain
from .display import beside, pad, printable
from .language import Text, said
from .names import FLAGS, UNITS, named
from .parsing import Example
from .raw import raw_text

if TYPE_CHECKING:
    from agent.direct import Direct, ReadSet
    from agent.plan import PlannedSensor
    from agent.tap import Entry

CONSENT_S = 60.0  # for somebody to walk to and fro
RAW_SHOWN = 12  # lines of raw traffic to a set of readings, for people
RAW_KEPT_JSON = 5000  # the newest entries of a people sensor


EXAMPLES: tuple[Example, ...] = (
    ("yukimi read snow-1 -n 3", Text("three readings, decoded and raw", "3回分の値と生データです")),
    (
        "yukimi read hall-1 --consent",
        Text(
            "a people sensor, live, if everybody in front of it agrees",
            "通行者数センサーの様子をその場で見ます。前にいる全員の同意が必要です",
        ),
    ),
)

HOW_MANY = Text(
    "how many readings (default: 1); of a people sensor: crossings (default: no end)",
    "読む回数（省略時は1）。通行者数センサーでは通過の数（省略時は無制限）",
)
AGREED = Text(
    "those in front of a people sensor agree to be seen: show crossings and raw bytes",
    "通行者数センサーの前にいる人が同意しています。通過と生データを表示します",
)
GIVE_UP = Text(
    "give up after so many seconds (default: warm-up, 3 intervals and 10 s)",
    "この秒数であきらめます（省略時は準備時間と測定間隔3回分と10秒）",
)
NOT_POSITIVE = Text(
    "-n and --timeout must be more than 0", "-n と --timeout は0より大きい値にしてください"
)
WARMS_UP = Text("{sensor}: it warms up; wait", "{sensor}: 準備中です。お待ちください")
WARMS_UP_FOR = Text(
    "{sensor}: it warms up, {seconds:g} s; wait",
    "{sensor}: 準備中です（{seconds:g}秒）。お待ちください",
)
INTRODUCED = Text("{sensor}: {driver} on {bus}", "{sensor}: {driver}（{bus}）")
LABELS = {
    "device": Text("device", "機器"),
    "state": Text("state", "状態"),
    "raw": Text("raw", "生"),
}
GIVES_NO_VALUE = Text(
    "{sensor}: it answers, and gives no value", "{sensor}: 応答はありますが、値が得られません"
)
TOO_FEW = Text(
    "{sensor}: {given} of {wanted} readings in {seconds:g} s",
    "{sensor}: {seconds:g}秒で{wanted}回のうち{given}回だけ読めました",
)
MORE_RAW = Text("... {count} more; --json has all", "... ほか{count}行。--json ですべて出力します")
NOT_READY = Text(
    "{sensor}: not ready after {seconds:g} s",
    "{sensor}: {seconds:g}秒待ちましたが、準備ができません",
)
NOT_SHOWN = Text(
    "what it sees of people is shown with --consent only",
    "通行者の様子は --consent を指定したときだけ表示します",
)
WALK = Text("walk past it now; Ctrl-C ends it", "センサーの前を歩いてください。Ctrl-Cで終わります")
CROSSING = Text("crossing {way}", "通過 {way}")
COUNTED = Text("counted {counts}", "通過の合計 {counts}")
HEAD = Text(
    "{sensor}: {driver}   {seconds:.0f} s   Ctrl-C ends it",
    "{sensor}: {driver}   {seconds:.0f}秒   Ctrl-Cで終わります",
)
LABEL_CELLS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_sensor(parser)
    parser.add_argument(
        "-n",
        type=int,
        metavar="N",
        help=said(HOW_MANY),
    )
    parser.add_argument(
        "--consent",
        action="store_true",
        help=said(AGREED),
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help=said(GIVE_UP),
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the sensor directly and print what it says."""
    if (arguments.n is not None and arguments.n < 1) or (arguments.timeout or 1.0) <= 0:
        complain(NOT_POSITIVE)
        return USAGE
    from . import _sensor

    found = _sensor.find(arguments.sensor, arguments.config)
    if isinstance(found, int):
        return found
    sensor, thermometer = found
    from . import _asked

    code = _asked.read(sensor, arguments)
    if code is not None:
        return code
    reader = (_People if sensor.counts_people else _Measured)(sensor, arguments)
    if thermometer is not None:
        _sensor.lend_temperature(reader.direct, thermometer)
    return reader.run()


class _Reader(ABC):
    """One sensor being read: what is printed at once, and what at the end as JSON."""

    def __init__(self, sensor: PlannedSensor, arguments: argparse.Namespace) -> None:
        from agent.direct import Direct

        self.sensor = sensor
        self.as_json: bool = arguments.json
        self.wanted: int | None = arguments.n
        self.timeout_s: float | None = arguments.timeout
        self.consent: bool = arguments.consent
        self.is_warming = False
        self.is_introduced = False
        self.document: dict[str, Any] = {}
        self.direct: Direct = Direct(sensor, self.note)

    @abstractmethod
    def note(self, entry: Entry) -> None:
        """Take a transaction."""

    @abstractmethod
    def read(self) -> int:
        """Read until enough is known; return the exit code."""

    def run(self) -> int:
        """Read, and say how it went."""
        from agent.logs import words_of
        from drivers.base import DriverError, NoGlimpseError

        from . import _sensor

        code = OK
        try:
            with self.direct:
                code = self.read()
        except (DriverError, NoGlimpseError) as exc:
            self.document["error"] = words_of(exc, of_people=self.sensor.counts_people)
            code = _sensor.failed(self.sensor, exc)
        except KeyboardInterrupt:
            code = 130 if self.wanted_more() else OK
        if self.as_json:
            head = {
                "schema": "yukimi.read/1",
                "sensor": self.sensor.table.id,
                "driver": self.sensor.table.driver,
                "bus": self.sensor.bus.name,
                "identity": self.direct.driver.identity,
            }
            print(json.dumps(head | self.document, ensure_ascii=False))
        return code

    def wanted_more(self) -> bool:
        """Tell whether nothing was learned so far."""
        return True

    def warming(self) -> None:
        """Say once that the device warms up."""
        if not self.is_warming:
            self.is_warming = True
            seconds = self.direct.warmup_s
            warms = WARMS_UP_FOR if seconds else WARMS_UP
            complain(warms.filled(sensor=self.sensor.table.id, seconds=seconds))

    def introduce(self) -> None:
        """Say once who it is."""
        if self.is_introduced or self.as_json:
            return
        self.is_introduced = True
        table = self.sensor.table
        print(said(INTRODUCED, sensor=table.id, driver=table.driver, bus=self.sensor.bus.name))
        if self.direct.driver.identity:
            print(f"  {_label('device')}  {printable(self.direct.driver.identity)}")


class _Measured(_Reader):
    """A sensor of things: values and raw bytes."""

    def __init__(self, sensor: PlannedSensor, arguments: argparse.Namespace) -> None:
        from agent.direct import Assembly

        self.assembly: Assembly | None = None
        super().__init__(sensor, arguments)
        self.assembly = Assembly(self.direct.driver)
        self.document |= {"units": {}, "readings": []}

    def note(self, entry: Entry) -> None:
        if self.assembly is not None:
            self.assembly.note(entry)

    def read(self) -> int:
        from agent.direct import Assembly, read_sets

        wanted = self.wanted or 1
        timeout_s = self.timeout_s or self.direct.usual_s(wanted)
        assembly = self.assembly or Assembly(self.direct.driver)
        given, has_value = 0, False
        for found in read_sets(self.direct, assembly, timeout_s, self.warming):
            self.introduce()
            self.show(found)
            has_value = has_value or found.has_value
            given += 1
            if given >= wanted:
                break
        if not has_value:
            complain(GIVES_NO_VALUE.filled(sensor=self.sensor.table.id))
            return WRONG
        if given < wanted:
            told = {"sensor": self.sensor.table.id, "given": given, "wanted": wanted}
            complain(TOO_FEW.filled(seconds=timeout_s, **told))
            return WRONG
        return OK

    def wanted_more(self) -> bool:
        return not self.document["readings"]

    def show(self, found: ReadSet) -> None:
        from agent.replay import Played

        units = {name: q.unit for name, q in self.direct.driver.quantities.items()}
        (line,) = Played(round(found.t_s, 3), found.observations).lines()
        self.document["units"] = units
        self.document["readings"].append(line | {"raw": found.raw})
        if not self.as_json:
            reasons = {name: each.reasons for name, each in found.readings.items()}
            print_set(line, units, reasons, found.raw)


def print_set(
    line: Mapping[str, Any],
    units: Mapping[str, str],
    reasons: Mapping[str, Sequence[str]],
    raw: Sequence[Mapping[str, Any]],
) -> None:
    """Print one set of readings for people, and the bytes that it came from."""
    flag = line["quality"]["flag"]
    at = f"{line['t_s']:9.3f} s"
    for name, value in line["values"].items():
        why = " ".join(reasons.get(name, ()))
        unit = units.get(name, "1")
        shown = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else value
        if isinstance(value, dict):
            shown = "  ".join(f"{key} {part}" for key, part in value.items())
        unit = "" if value is None else UNITS.get(unit, unit)
        text = f"{name:<24} {shown}{f' {unit}' if unit else ''}"
        print(beside(f"{at:>11}  ", f"{text}  [{why or named(FLAGS, flag)}]"))
        at = ""
    label = f"{'':11}  {said(LABELS['raw'])}  "
    for entry in raw[:RAW_SHOWN]:
        print(beside(label, raw_text(entry)))
    if len(raw) > RAW_SHOWN:
        print(beside(label, said(MORE_RAW, count=len(raw) - RAW_SHOWN)))


class _People(_Reader):
    """A sensor of people: whether it works; with consent, who passes."""

    def __init__(self, sensor: PlannedSensor, arguments: argparse.Namespace) -> None:
        super().__init__(sensor, arguments)
        self.document |= {"state": "silent", "alive_s": 0, "reasons": []}
        self.window: _Window | None = None
        if self.consent:
            self.document |= {"crossings": [], "raw": []}
            if not self.as_json:
                self.window = _Window(self)

    def note(self, entry: Entry) -> None:
        if not self.consent:
            return
        if self.as_json:
            self.document["raw"].append(entry)
            del self.document["raw"][:-RAW_KEPT_JSON]

    def read(self) -> int:
        direct, document = self.direct, self.document
        usual_s = direct.usual_s(1) + (CONSENT_S if self.consent else 0.0)
        timeout_s = self.timeout_s or usual_s
        try:
            error = self.look(timeout_s)
        finally:
            if self.window is not None:
                self.window.close()
        if document["state"] != "ok":
            if error is not None:
                raise error
            complain(NOT_READY.filled(sensor=self.sensor.table.id, seconds=timeout_s))
            return WRONG
        if not self.as_json:
            self.introduce()
            print(f"  {_label('state')}  {document['state']}")
            if not self.consent:
                print(f"  {said(NOT_SHOWN)}")
        return OK

    def look(self, timeout_s: float) -> Exception | None:
        """Take what it says; return what went wrong, if it did not come to work."""
        from agent.direct import SILENT_AFTER
        from drivers.base import Alive, BusError, Crossing, DriverError, Trouble, glimpses

        document = self.document
        error: DriverError | None = None
        silent = 0
        for told in self.direct.rounds(timeout_s):
            error = told.error
            silent = silent + 1 if isinstance(error, BusError) else 0
            if silent >= SILENT_AFTER:
                document["state"] = "silent"
                return error
            for seen in glimpses(told.observations):
                match seen:
                    case Alive():
                        self.started()
                        document["alive_s"] += 1
                    case Trouble(reason=reason):
                        if reason == "warmup":
                            self.warming()
                            document["state"] = "warmup"
                        if reason not in document["reasons"]:
                            document["reasons"].append(reason)
                    case Crossing() if self.consent:
                        self.crossed(round(told.t_s, 1), seen.direction)
                    case _:
                        pass
            if self.window is not None:
                self.window.look(told.t_s)
            if self.is_enough():
                break
        return error

    def started(self) -> None:
        """Say once that it works."""
        if self.document["state"] != "ok" and self.window is not None:
            self.introduce()
            print(f"  {said(WALK)}", flush=True)
        self.document["state"] = "ok"

    def crossed(self, t_s: float, direction: str) -> None:
        """Show a crossing; it is kept for the document only if that is asked for."""
        if self.as_json:
            self.document["crossings"].append({"t_s": t_s, "crossing": direction})
        else:
            self.document["crossings"].append(None)
            if self.window is not None:
                self.window.crossed(t_s, direction)

    def is_enough(self) -> bool:
        if not self.consent:
            return bool(self.document["alive_s"] >= (self.wanted or 1))
        return self.wanted is not None and len(self.document["crossings"]) >= self.wanted

    def wanted_more(self) -> bool:
        return bool(self.document["state"] != "ok")


class _Window:
    """What a people sensor sees, shown on this terminal and nowhere else.

    On a terminal it is a picture that moves; else each crossing has a line, and a picture.
    """

    def __init__(self, people: _People) -> None:
        import sys

        from .picture import Look, Screen

        self._people = people
        self._screen = Screen() if sys.stdout.isatty() else None
        self._look = Look.of(sys.stdout)
        self._counts: dict[str, int] = dict.fromkeys(people.sensor.driver.spec.directions, 0)
        self._last = ""

    def look(self, t_s: float) -> None:
        """Show what is seen now."""
        if self._screen is not None and (lines := self._lines(t_s)):
            self._screen.show(lines, t_s)

    def crossed(self, t_s: float, direction: str) -> None:
        """Count a crossing, and show it."""
        self._counts[direction] += 1
        self._last = f"{t_s:9.1f} s  {said(CROSSING, way=direction)}"
        lines = self._lines(t_s)
        if self._screen is None or not lines:
            print("\n".join([self._last, *lines[1:-1]]), flush=True)

    def close(self) -> None:
        """Give the terminal back; say what was counted."""
        if self._screen is not None:
            self._screen.close()
            if any(self._counts.values()):
                counted = "   ".join(f"{way} {count}" for way, count in self._counts.items())
                print(f"  {said(COUNTED, counts=counted)}", flush=True)

    def _lines(self, t_s: float) -> list[str]:
        from drivers.base import Pictures

        from .picture import drawn

        driver = self._people.direct.driver
        scene = driver.picture() if isinstance(driver, Pictures) else None
        if scene is None:
            return []
        table = self._people.sensor.table
        head = said(HEAD, sensor=table.id, driver=table.driver, seconds=t_s)
        return [head, *drawn(scene, self._counts, self._look), self._last]


def _label(name: str) -> str:
    return pad(said(LABELS[name]), LABEL_CELLS)
