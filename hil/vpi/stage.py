"""A scenario on the virtual Pi: the same file, on a real kernel, some minutes long.

What really happens, and what breaks, comes faster, by a factor; the gateway lives in real time,
with short windows. So what hangs on its own hours (alerts, sums, forecasts) is not judged here, nor
what a simulated clock makes exact; the account, its lives and the accuracy are. Sensors on wires
that this machine does not have are left out, and a note says which.
"""

from __future__ import annotations

import copy
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

from agent.kernel import boot_s
from agent.plan import PlannedSensor
from agent.record import utc_ns, utc_text

from .. import emulation
from ..faults.broker import FaultyBroker
from ..faults.ongoing import Heal
from ..relay import Relay
from ..scenario import truths
from ..scenario.book import Book
from ..scenario.judge import Ran, Verdict, judge
from ..scenario.load import Loaded
from ..scenario.model import Expect
from ..scenario.timeline import Episode
from .image import Image
from .machine import HOST_FOR_GUEST, VirtualPi
from .qmp import MachineError
from .site import Site
from .wires import SerialWire

S = 1_000_000_000
WINDOW_S = 10
REAL_S = 240.0  # how long a run takes, without its first boot and its end
CARRIED = ("serial", "i2c")
I2C_BUS = "/dev/i2c-0"
VALID_SHARE_MIN = 0.8  # a window of ten seconds is a long time of the scenario's
SETTLES_S = 86_400.0  # how fast it does is not judged
UARTS = "/dev/ttyS"


class NotHereError(Exception):
    """The scenario asks for what this machine does not have."""


@dataclass(slots=True)
class Port:
    """A serial port of the guest's, as verbs see it."""

    stage: VpiStage
    wire: SerialWire
    serial: str | None  # of its USB adapter; None: a UART, which nobody can pull
    _heal: Heal = lambda: None

    @property
    def line(self) -> Any:
        """The wires behind it."""
        return self.wire.line

    def unplug(self) -> None:
        """Pull its adapter out; of a UART the plug of its cable."""
        if self.serial is None:
            self._heal = self.wire.line.silence()
        else:
            self.stage.pi.pull(self.serial)

    def plug(self) -> None:
        """Put it back."""
        if self.serial is None:
            self._heal()
        else:
            self.stage.pi.put_back(self.serial)


class VpiStage:
    """A virtual Pi, its devices, network, broker and city; a context."""

    name = "vpi"

    def __init__(
        self, loaded: Loaded, image: Image, folder: Path, *, real_s: float = REAL_S
    ) -> None:
        self.loaded = loaded
        self.speed = loaded.scenario.lasts / real_s
        self.book = Book(folder, loaded.start_ns)
        self.lives = 0
        self._began_s = boot_s()
        self._began_ns = time.time_ns()
        self._sensors = _carried(loaded.plan.sensors)
        self._devices = {
            each.table.id: emulation.load(each.table.driver).build(each.options, _seed(each))
            for each in self._sensors
        }
        self._tell_truths()
        omitted = {each.table.id for each in loaded.plan.sensors} - self._devices.keys()
        if omitted:
            names = ", ".join(sorted(omitted))
            self.book.notes.append(f"left out, for want of their wires: {names}")
        self._ports: dict[str, Port] = {}  # by the path in the scenario
        self._serials: dict[str, str] = {}  # path in the scenario -> path in the guest
        self._ongoing: list[tuple[Episode, Heal]] = []
        self._stack = ExitStack()
        self._is_on = False
        i2c = {
            int(getattr(each.options, "address", None) or each.driver.spec.addresses[0]): device
            for each in self._sensors
            if each.driver.spec.bus == "i2c"
            for device in [self._devices[each.table.id]]
        }
        lines = self._lines()
        uarts = [path for path in sorted(lines) if path.startswith(UARTS)]
        # The first is /dev/ttyS1: on ttyS0 is the console.
        self.pi = VirtualPi(image, i2c=i2c, uarts=[lines[path] for path in uarts])
        for number, path in enumerate(uarts):
            self._serials[path] = f"{UARTS}{number + 1}"
            self._ports[path] = Port(self, self.pi.uarts[number], None)
        for number, path in enumerate(sorted(lines.keys() - set(uarts))):
            serial = f"YK{number:04}"
            self._serials[path] = f"/dev/serial/by-id/usb-QEMU_QEMU_USB_SERIAL_{serial}-if00-port0"
            self._ports[path] = Port(self, self.pi.plug(serial, lines[path]), serial)
        self.faulty = FaultyBroker(dice=Random(loaded.setting.seed))
        gateway = str(loaded.config["gateway"]["id"])
        self.site = Site(self.pi, gateway, broker=self.faulty.broker, on_records=self._take_records)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.book.close)
            stack.enter_context(self.pi)
            stack.enter_context(self.faulty)
            stack.enter_context(self.site)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def play(self, progress: Callable[[float], None] = lambda _now_s: None) -> None:
        """Boot, play the scenario to its end, and let the gateway deliver. Raises MachineError."""
        self.pi.boot()
        self._is_on, self.lives = True, 1
        self.site.install(self._config())
        self._began_s, self._began_ns = boot_s(), time.time_ns()
        began_s = time.monotonic()
        for at_s, episode, begins in self._events():
            self._wait(at_s, progress)
            if begins:
                heal = episode.fault.begin(self)
                if not episode.fault.is_moment:
                    self._ongoing.append((episode, heal))
            else:
                self._heal(episode)
        self._wait(self.loaded.scenario.lasts, progress)
        for _, heal in reversed(self._ongoing):
            heal()
        self._ongoing.clear()
        self.restore_power()
        self.pi.run("systemctl is-active --quiet yukimi || systemctl start yukimi")
        settling_s = time.monotonic()
        self.report = self.site.close_account()
        self.settled_s = time.monotonic() - settling_s
        self.took_s = time.monotonic() - began_s

    def judge(self) -> list[Verdict]:
        """Hold what came against what must hold, as far as it can be judged here."""
        played_s = self.loaded.scenario.lasts
        ran = Ran(self.report, played_s, self.took_s, 0.0, self.settled_s, self.lives, True)
        expect, kept = self.loaded.scenario.expect, self._devices
        accuracy = [
            each.model_copy(
                update={
                    "error_max": None,
                    "valid_share_min": each.valid_share_min and VALID_SHARE_MIN,
                }
            )
            for each in expect.accuracy
            if each.sensor in kept and each.statistic != "mode"
        ]
        here = Expect(
            gaps=expect.gaps,
            delivered_min=expect.delivered_min,
            lives_min=expect.lives_min,
            settles_within=SETTLES_S,
            accuracy=accuracy,
        )
        return judge(here, ran, self.book, self.loaded.truths())

    # What verbs ask of the stage

    @property
    def network(self) -> Relay:
        """The way to the broker."""
        return self.faulty.relay

    @property
    def broker(self) -> FaultyBroker:
        """The city's broker."""
        return self.faulty

    @property
    def disk(self) -> Any:
        """Where the spool lies: it loses power here, and does nothing else."""
        raise NotHereError("the virtual Pi's disk loses power only: run with --on process")

    @property
    def clock(self) -> Any:
        """The gateway's clock is the kernel's."""
        raise NotHereError("the virtual Pi's clock cannot be broken: run with --on process")

    def tell_time(self) -> None:
        """Its clock is never without time."""
        raise NotHereError("the virtual Pi's clock cannot be broken: run with --on process")

    @property
    def machine(self) -> Any:
        """What else runs there."""
        raise NotHereError("nothing else runs on the virtual Pi: run with --on process")

    def ports(self, sensor: str) -> Sequence[Port]:
        """Return the serial port that a sensor is on."""
        return (self._ports[str(self._planned(sensor).bus.path)],)

    def plug(self, port: Port, _kernel_name: str | None) -> None:
        """Plug a serial port in again; the kernel numbers it as it does."""
        port.plug()

    def devices(self, sensor: str) -> Sequence[Any]:
        """Return the device behind a sensor."""
        return (self._devices[sensor],)

    def bus(self, _sensor: str) -> Any:
        """Return the I2C bus; there is one."""
        return self.pi.i2c.bus

    def address(self, sensor: str) -> int:
        """Return a sensor's address on it."""
        device = self._devices[sensor]
        return next(at for at, each in self.pi.i2c.bus.devices.items() if each is device)

    def pins(self, sensor: str) -> tuple[int, ...]:
        """Pins are moved by nobody here."""
        raise NotHereError(f"{sensor}: pins are not played on the virtual Pi")

    def twin(self, sensor: str) -> Any:
        """Build another device like the one behind a sensor."""
        planned = self._planned(sensor)
        return emulation.load(planned.table.driver).build(planned.options, 4711)

    def cut_power(self) -> None:
        """Take the whole machine's power."""
        if self._is_on:
            self._is_on = False
            self.pi.cut(0.5)

    def restore_power(self) -> None:
        """Let it boot."""
        if not self._is_on:
            self._is_on = True
            self.lives += 1
            self.pi.start()

    # Putting it together

    def _planned(self, sensor: str) -> PlannedSensor:
        return next(each for each in self.loaded.plan.sensors if each.table.id == sensor)

    def _lines(self) -> dict[str, list[Any]]:
        """Return the devices on each serial port that the scenario names."""
        lines: dict[str, list[Any]] = {}
        for each in self._sensors:
            if each.driver.spec.bus == "serial":
                if each.bus.second_path is not None:
                    raise NotHereError(f"{each.table.id} has two ports: run with --on process")
                lines.setdefault(str(each.bus.path), []).append(self._devices[each.table.id])
        return lines

    def _tell_truths(self) -> None:
        told = self.loaded.truths()
        for each in self._sensors:
            name = each.table.id
            for quantity, truth in told.get(name, {}).items():
                played = self._played(truth)
                truths.put(each.table.driver, self._devices[name], each.options, quantity, played)

    def _played(self, truth: Callable[[float], Any]) -> Callable[[float], Any]:
        return lambda at_s: truth(self._scenario_s(at_s))

    def _scenario_s(self, at_s: float) -> float:
        """Turn the devices' time into the scenario's."""
        played_s = (at_s - self._began_s) * self.speed
        return min(max(0.0, played_s), self.loaded.scenario.lasts)

    def _config(self) -> str:
        """Write the scenario's configuration as this machine's wires have it."""
        config: dict[str, Any] = copy.deepcopy(dict(self.loaded.config))
        config["uplink"] = {
            **config["uplink"],
            "brokers": [f"mqtt://{HOST_FOR_GUEST}:{self.faulty.relay.port}"],
            "offset_s": 0.0,
            "drain_s": 30,
        }
        config.pop("spool", None)
        config["sensors"] = [
            {**table, "window_s": WINDOW_S, "bus": self._path_here(table["bus"])}
            for table in config["sensors"]
            if table["id"] in self._devices
        ]
        for table in config.get("buses", []):
            for key in ("port", "device"):
                if key in table:
                    table[key] = self._path_here(table[key])
        return _toml(config)

    def _path_here(self, path: str) -> str:
        if path.startswith("/dev/i2c-"):
            return I2C_BUS
        return self._serials.get(path, path)

    # Playing

    def _events(self) -> list[tuple[float, Episode, bool]]:
        """Return (when, what, whether it begins), in order; an end goes before a beginning."""
        found = []
        for episode in self.loaded.episodes():
            if episode.fault.target is not None and episode.fault.target not in self._devices:
                self.book.notes.append(f"{episode.fault.verb} of {episode.fault.target}: left out")
                continue
            found.append((episode.begin_s, 1, episode))
            if not math.isinf(episode.end_s) and not episode.fault.is_moment:
                found.append((episode.end_s, 0, episode))
        ordered = sorted(found, key=lambda each: each[:2])
        return [(at_s, episode, bool(begins)) for at_s, begins, episode in ordered]

    def _wait(self, until_s: float, progress: Callable[[float], None]) -> None:
        while (now_s := (boot_s() - self._began_s) * self.speed) < until_s:
            progress(now_s)
            time.sleep(min(1.0, (until_s - now_s) / self.speed))

    def _heal(self, episode: Episode) -> None:
        for number, (each, heal) in enumerate(self._ongoing):
            if each is episode:
                del self._ongoing[number]
                heal()
                return

    def _take_records(self, records: list[dict[str, Any]]) -> None:
        """Give what came to the book, with its times made the scenario's."""
        told = []
        for record in records:
            if "gap" in record or "alert" in record:
                continue
            span = {name: self._scenario_time(record[name]) for name in ("start", "end")}
            if utc_ns(span["end"]) <= self._end_ns:  # afterwards nobody knows the truth
                told.append({**record, **span})
        self.book.take(told)

    @property
    def _end_ns(self) -> int:
        return self.loaded.start_ns + round(self.loaded.scenario.lasts * S)

    def _scenario_time(self, text: str) -> str:
        played_ns = round((utc_ns(text) - self._began_ns) * self.speed)
        return utc_text(self.loaded.start_ns + played_ns)


def _carried(sensors: Sequence[PlannedSensor]) -> list[PlannedSensor]:
    """Return those whose wires this machine has, and the wires of what they take the air from."""
    kept = [each for each in sensors if each.driver.spec.bus in CARRIED]
    names = {each.table.id for each in kept}
    return [
        each for each in kept if getattr(each.options, "temperature_from", None) in {None, *names}
    ]


def _seed(sensor: PlannedSensor) -> int:
    return zlib.crc32(sensor.table.id.encode())


def _toml(document: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for name, value in document.items():
        is_list = isinstance(value, list)
        for table in value if is_list else [value]:
            lines.append(f"[[{name}]]" if is_list else f"[{name}]")
            lines += [f"{key} = {_inline(item)}" for key, item in table.items()]
    return "\n".join(lines) + "\n"


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


__all__ = ["MachineError", "NotHereError", "Port", "VpiStage"]
