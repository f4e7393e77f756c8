"""What is plugged in: serial ports, I2C addresses, 1-Wire devices, pins, and what each looks like.

Nothing that a configuration names is touched, unless it is asked for by name; a port that somebody
has open is left to him; a port on which somebody unknown talks is listened to and not talked into.
The time is bounded, all ports are looked at side by side, and each has its share of it.

Devices that talk are listened to at every speed that one of them is found at. The others are
asked who they are, by the drivers that know how to. On I2C every address is asked for a sign as
`i2cdetect` does it: a reading of one byte where a chip may take an empty write for a command, an
empty write elsewhere, where a chip may take a reading for one.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

import drivers
from config.text import Text, joined
from drivers import nodes
from drivers.base import (
    BusError,
    Clock,
    Driver,
    DriverError,
    Found,
    LineSettings,
    Options,
    SerialDriver,
    Spec,
    SpeedError,
)
from drivers.buses import I2cBus, LinuxI2c, LinuxSerial, Openable, SerialPort

from . import kernel
from .configured import Configured
from .findings import (
    ALL_CONFIGURED,
    ANSWERS,
    CONFIGURED,
    CONSOLE,
    DRIVER_FAILED,
    HANGS,
    HEARD,
    HELD,
    HELD_LOW,
    MAYBE,
    NO_PERMISSION,
    NO_TIME,
    NOBODY,
    PINS,
    SILENT,
    UNKNOWN,
)
from .logs import place_of
from .tap import errno_name

FIRST_ADDRESS, LAST_ADDRESS = 0x08, 0x77
# Memories and clocks that take an empty write for a command; the others are asked with one.
READ_TO_PROBE = frozenset((*range(0x30, 0x38), *range(0x50, 0x60)))
STUCK_AFTER = 3  # addresses in a row that time out

LISTEN_FIRST_S = 2.5  # somebody who talks at all is heard by then, at whatever speed
LISTEN_S = 1.5
LISTEN_LONGEST_S = 6.0  # where one frame came and more are wanted
LISTEN_SHARE = 0.6  # of a port's time; the rest is for asking
OWN_SPEED_WEIGHT = 4  # of asking at the speed that a device is delivered with
FRAMES_WANTED = 3
STEP_S = 0.1
GRACE_S = 5.0  # for a port that hangs in the kernel

Kind = Literal["serial", "i2c", "w1", "gpio"]
State = Literal["free", "found", "unknown", "configured", "in use", "kernel", "failed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device model that something looks like."""

    driver: str
    what: str  # how one can tell
    options: Mapping[str, object]
    baud: int | None = None  # serial only: where the model's own speed is another


@dataclass(slots=True)
class Place:
    """One port, address, thermometer or chip of pins, and what is there."""

    kind: Kind
    bus: str  # as a configuration names it
    state: State
    says: str  # one sentence for a person
    address: int | None = None
    node: str = ""  # what the kernel calls it now, where `bus` is a lasting name
    found: list[Candidate] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """Everything a scan saw."""

    places: list[Place] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # what a person must put right


class Port(SerialPort, Openable, Protocol):
    """A serial port with a life."""


class Bus(I2cBus, Openable, Protocol):
    """An I2C bus with a life."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a scan looks at; the bench has others."""

    root: Path = Path("/")  # of the folders that are listed
    open_serial: Callable[[str, LineSettings], Port] = LinuxSerial
    open_i2c: Callable[[str], Bus] = LinuxI2c
    now_ns: Clock = kernel.boot_ns

    def serial_ports(self) -> list[str]:
        """List the ports that are real, by the name that stays with the adapter."""
        nodes_found = [
            path
            for pattern in ("ttyAMA*", "ttyS*", "ttyUSB*", "ttyACM*")
            for path in sorted((self.root / "dev").glob(pattern))
            if self._is_real(path.name)
        ]
        return [nodes.lasting_name(str(path)) or str(path) for path in nodes_found]

    def i2c_buses(self) -> list[str]:
        """List the I2C buses."""
        found = (self.root / "dev").glob("i2c-*")
        return sorted(map(str, found), key=lambda name: int(name.rpartition("-")[2]))

    def thermometers(self) -> list[str]:
        """List what the kernel has found on 1-Wire buses."""
        found = (self.root / "sys/bus/w1/devices").glob("[0-9a-f][0-9a-f]-*")
        return sorted(path.name for path in found)

    def pin_chips(self) -> list[str]:
        """List the chips of pins."""
        return sorted(map(str, (self.root / "dev").glob("gpiochip*")))

    def is_console(self, path: str) -> bool:
        """Tell whether the kernel itself, or a login, talks on a port."""
        try:
            text = (self.root / "sys/class/tty/console/active").read_text(encoding="ascii")
        except OSError:
            return False
        return Path(os.path.realpath(path)).name in text.split()

    def _is_real(self, name: str) -> bool:
        # The kernel makes ttyS0 to ttyS3 whether or not there is a chip behind them.
        if not name.startswith("ttyS"):
            return True
        try:
            kind = (self.root / "sys/class/tty" / name / "type").read_text(encoding="ascii")
        except OSError:
            return False
        return kind.strip() != "0"


def scan(
    machine: Machine,
    configured: Configured,
    *,
    seconds: float,
    only: Sequence[str] = (),
    models: Sequence[type[Driver]] | None = None,
) -> Report:
    """Look at everything, or only at the ports and buses named, for at most about `seconds`."""
    models = known_models() if models is None else models
    until_ns = machine.now_ns() + round(seconds * 1e9)
    looks: list[tuple[str, Callable[[], list[Place]]]] = []
    report = Report()
    for path in only or machine.serial_ports():
        if _is_i2c(path):
            continue
        owner = configured.ports.get(os.path.realpath(path))
        if not only and owner is not None:
            report.places.append(
                Place("serial", path, "configured", CONFIGURED.filled(owner=owner))
            )
        elif not only and machine.is_console(path):
            report.places.append(Place("serial", path, "in use", CONSOLE))
        else:
            looks.append((path, _later(look_at_port, machine, path, until_ns, models)))
    for path in filter(_is_i2c, only or machine.i2c_buses()):
        spared = {} if only else configured.addresses.get(os.path.realpath(path), {})
        looks.append((path, _later(look_at_i2c, machine, path, until_ns, models, spared)))
    report.places += _side_by_side(looks, seconds + GRACE_S)
    if not only:
        report.places += look_at_thermometers(machine, configured, models)
        report.places += look_at_pins(machine)
    for place in report.places:
        if not place.node:
            node = os.path.realpath(place.bus) if place.bus.startswith("/") else place.bus
            place.node = node if node != place.bus else ""
        if place.state == "failed":
            report.problems.append(joined(": ", (place.bus, place.says)))
    return report


def known_models() -> list[type[Driver]]:
    """Load every driver whose library is there."""
    found = []
    for name in drivers.names():
        try:
            found.append(drivers.load(name))
        except ImportError:
            continue
    return found


def _later(look: Callable[..., list[Place]], *arguments: Any) -> Callable[[], list[Place]]:
    return lambda: look(*arguments)


def _is_i2c(path: str) -> bool:
    return re.search(r"i2c-\d+\Z", path) is not None


def _kind(path: str) -> Kind:
    return "i2c" if _is_i2c(path) else "serial"


def _side_by_side(
    looks: Sequence[tuple[str, Callable[[], list[Place]]]], patience_s: float
) -> Iterator[Place]:
    """Look at all ports at once; a port that hangs in the kernel is left behind."""
    results: dict[str, list[Place]] = {}

    def look(path: str, at: Callable[[], list[Place]]) -> None:
        try:
            results[path] = at()
        except Exception as exc:  # noqa: BLE001  (a driver's bug must not hide the other ports)
            # Not the message: a driver may hold people.
            says = DRIVER_FAILED.filled(where=place_of(exc))
            results[path] = [Place(_kind(path), path, "failed", says)]

    threads = [
        threading.Thread(target=look, args=each, name=f"scan {each[0]}", daemon=True)
        for each in looks
    ]
    for thread in threads:
        thread.start()
    until_s = kernel.boot_s() + patience_s
    for (path, _), thread in zip(looks, threads, strict=True):
        thread.join(max(0.0, until_s - kernel.boot_s()))
        hung = Place(_kind(path), path, "failed", HANGS)
        yield from results.get(path, [hung])


# Serial ports


def look_at_port(
    machine: Machine, path: str, until_ns: int, models: Iterable[type[Driver]]
) -> list[Place]:
    """Listen on a port for devices that talk; where nobody does, ask the others who they are."""
    place = Place("serial", path, "free", SILENT)
    serial = [model for model in models if model.spec.bus == "serial" and model.spec.line]
    now_ns = machine.now_ns()
    listen_until_ns = now_ns + round(LISTEN_SHARE * (until_ns - now_ns))
    try:
        heard = _listen_at_each_speed(machine, path, listen_until_ns, serial, place)
        if not heard:
            _ask_each(machine, path, until_ns, serial, place)
    except BusError as exc:
        place.says = str(exc).removeprefix(f"{path}: ")
        place.state = "in use" if "in use" in place.says else "failed"
        return [place]
    if place.found:
        place.state = "found"
    elif heard:
        place.state = "unknown"
        place.says = HEARD.filled(count=heard)
    return [place]


def _listen_at_each_speed(
    machine: Machine, path: str, until_ns: int, serial: Iterable[type[Driver]], place: Place
) -> int:
    """Look for devices that talk; return how many bytes were heard."""
    talkers: dict[LineSettings, list[type[Driver]]] = {}
    for is_own in (True, False):  # the speeds they are delivered with first
        for model in serial:
            if model.spec.talks and not _needs_two_ports(model):
                for line in _lines(model.spec, own=is_own):
                    talkers.setdefault(line, []).append(model)
    if not talkers:
        talkers[LineSettings(9600)] = []  # whether anybody talks is worth knowing
    heard = 0
    for line, listeners in talkers.items():
        if machine.now_ns() >= until_ns:
            break
        longest_s = LISTEN_S if heard else LISTEN_FIRST_S
        port = machine.open_serial(path, line)
        try:
            port.open()
        except SpeedError:
            continue  # nobody can be there at this one
        try:
            count, said = _listen(machine, port, listeners, longest_s, until_ns)
        finally:
            port.close()
        heard += count
        place.found += [
            Candidate(
                driver.spec.name,
                f"{driver.frames} frames at {line.baud} baud",
                _options(type(driver), {}),
                _other_baud(type(driver), {}, line.baud),
            )
            for driver in said
        ]
        if place.found or not heard:
            break  # who is silent at one speed is silent at all
    return heard


def _listen(
    machine: Machine, port: Port, models: Iterable[type[Driver]], longest_s: float, until_ns: int
) -> tuple[int, list[Driver]]:
    """Return how many bytes were heard, and the drivers that make sense of them, best first."""
    listeners = [driver for model in models if (driver := _build(model, port, machine)) is not None]
    began_ns = machine.now_ns()
    enough_ns = min(until_ns, began_ns + round(longest_s * 1e9))
    heard = 0
    while (now_ns := machine.now_ns()) < enough_ns:
        chunk = port.read(min(STEP_S, (enough_ns - now_ns) / 1e9))
        heard += len(chunk)
        for driver in listeners:
            driver.feed(chunk, machine.now_ns())  # what it saw, of things or people, is dropped
        if any(map(_makes_sense, listeners)):
            break
        if any(driver.frames for driver in listeners):
            enough_ns = min(until_ns, began_ns + round(LISTEN_LONGEST_S * 1e9))
    sensible = [driver for driver in listeners if _makes_sense(driver)]
    return heard, sorted(sensible, key=lambda driver: -driver.frames)


def _makes_sense(driver: Driver) -> bool:
    # One error is the frame in whose middle the listening began.
    return driver.frames >= FRAMES_WANTED and driver.frame_errors <= 1 + driver.frames // 4


def _ask_each(
    machine: Machine, path: str, until_ns: int, serial: Iterable[type[Driver]], place: Place
) -> None:
    """Ask for an identity in each protocol, at the speeds its devices are delivered with first."""
    askable: list[tuple[Any, LineSettings, int]] = [
        (model, line, OWN_SPEED_WEIGHT if is_own else 1)
        for is_own in (True, False)
        for model in serial
        if hasattr(model, "discover")
        for line in _lines(model.spec, own=is_own)
    ]
    weights = sum(weight for _, _, weight in askable)
    for model, line, weight in askable:
        now_ns = machine.now_ns()
        if now_ns >= until_ns:
            return
        share_ns = now_ns + (until_ns - now_ns) * weight // weights
        weights -= weight
        port = machine.open_serial(path, line)
        try:
            port.open()
        except SpeedError:
            continue
        try:
            for found in model.discover(port, machine.now_ns, share_ns):
                options = _options(model, found.options)
                baud = _other_baud(model, options, line.baud)
                place.found.append(Candidate(model.spec.name, found.what, options, baud))
                if machine.now_ns() >= share_ns:
                    break
        except DriverError:
            pass  # not this protocol's devices
        finally:
            port.close()
        if place.found:
            return


def _lines(spec: Spec, *, own: bool) -> list[LineSettings]:
    line = spec.line
    if line is None:
        return []
    if own:
        return [line]
    return [
        LineSettings(baud, line.data_bits, line.parity, line.stop_bits)
        for baud in spec.bauds
        if baud != line.baud
    ]


def _build(model: Any, port: Port, machine: Machine) -> Any:
    """Build a driver that only listens; None where it cannot."""
    options = parsed(model, _options(model, {}))
    if options is None or not issubclass(model, SerialDriver):
        return None
    return model(port, options, machine.now_ns)


def _needs_two_ports(model: type[Driver]) -> bool:
    return model.Options.second_port is not Options.second_port


def _options(model: type[Driver], known: Mapping[str, object]) -> dict[str, object]:
    """Return what is known of a device's options, with the example's for what has no default."""
    if parsed(model, known) is not None:
        return dict(known)
    return {**model.spec.example, **known}


def parsed(model: type[Driver], options: Mapping[str, object]) -> Options | None:
    """Return the options as the driver takes them, None if it does not."""
    try:
        return model.Options.model_validate(dict(options))
    except ValidationError:
        return None


def _other_baud(model: type[Driver], known: Mapping[str, object], baud: int) -> int | None:
    options = parsed(model, known)
    line = (options.line() if options is not None else None) or model.spec.line
    return baud if line is not None and line.baud != baud else None


# I2C


def look_at_i2c(
    machine: Machine,
    path: str,
    until_ns: int,
    models: Iterable[type[Driver]],
    spared: Mapping[int, str],
) -> list[Place]:
    """Find who answers on a bus, and what he looks like; `spared` addresses are not touched."""
    if len(spared) > LAST_ADDRESS:
        owner = next(iter(spared.values()))
        return [Place("i2c", path, "configured", ALL_CONFIGURED.filled(owner=owner))]
    places = [
        Place("i2c", path, "configured", CONFIGURED.filled(owner=owner), address)
        for address, owner in sorted(spared.items())
    ]
    bus = machine.open_i2c(path)
    try:
        bus.open()
    except BusError as exc:
        says = str(exc).removeprefix(f"{path}: ")
        return [*places, Place("i2c", path, "in use" if "in use" in says else "failed", says)]
    timed_out = 0
    try:
        for address in range(FIRST_ADDRESS, LAST_ADDRESS + 1):
            if address in spared:
                continue
            holder = nodes.kernel_driver(path, address)
            if holder is not None:
                says = HELD.filled(driver=holder)
                places.append(Place("i2c", path, "kernel", says, address))
                continue
            if machine.now_ns() >= until_ns:
                says = NO_TIME.filled(address=address)
                places.append(Place("i2c", path, "failed", says))
                break
            try:
                answers = _answers(bus, address)
            except BusError:
                timed_out += 1
                if timed_out >= STUCK_AFTER:
                    places.append(Place("i2c", path, "failed", HELD_LOW))
                    break
                continue
            timed_out = 0
            place = _recognised(bus, path, address, models)
            # Some answer to a question only, and not to a sign.
            if answers or place.found:
                places.append(place)
    finally:
        bus.close()
    if not places:
        return [Place("i2c", path, "free", NOBODY)]
    return sorted(places, key=lambda place: -1 if place.address is None else place.address)


def _answers(bus: I2cBus, address: int) -> bool:
    """Tell whether somebody answers. Raises BusError where the bus itself is in trouble."""
    try:
        if address not in READ_TO_PROBE:
            try:
                bus.write(address, b"")
            except BusError as exc:
                if errno_name(exc) not in ("ENOTSUP", "EOPNOTSUPP", "EINVAL"):
                    raise
            else:
                return True  # adapters without empty messages are asked by reading
        bus.read(address, b"", 1)
    except BusError as exc:
        if errno_name(exc) in ("ETIMEDOUT", "ENODEV", "EBADF"):
            raise
        return False
    return True


def _recognised(bus: I2cBus, path: str, address: int, models: Iterable[type[Driver]]) -> Place:
    here: list[Any] = [model for model in models if address in model.spec.addresses]
    found: list[Candidate] = []
    maybe: list[str] = []
    for model in here:
        if not hasattr(model, "recognise"):
            maybe.append(model.spec.name)
            continue
        try:
            told: Found | None = model.recognise(bus, address)
        except DriverError:
            continue
        if told is not None:
            found.append(Candidate(model.spec.name, told.what, dict(told.options)))
    if found:
        return Place("i2c", path, "found", ANSWERS, address, found=found)
    says = UNKNOWN
    if maybe:
        says = MAYBE.filled(names=Text(" or ".join(maybe), " か ".join(maybe)))
    return Place("i2c", path, "unknown", says, address)


# 1-Wire and pins


def look_at_thermometers(
    machine: Machine, configured: Configured, models: Iterable[type[Driver]]
) -> list[Place]:
    """Name what the kernel has found on the 1-Wire bus."""
    places = []
    on_w1 = [model for model in models if model.spec.bus == "w1"]
    for name in machine.thermometers():
        owner = configured.w1.get(name) or configured.w1.get("")
        if owner is not None:
            places.append(
                Place("w1", "w1", "configured", CONFIGURED.filled(owner=owner), node=name)
            )
            continue
        found = [
            Candidate(model.spec.name, f"1-Wire family {name[:2]}", {"id": name})
            for model in on_w1
            if parsed(model, {"id": name}) is not None
        ]
        state: State = "found" if found else "unknown"
        says = ANSWERS if found else UNKNOWN
        places.append(Place("w1", "w1", state, says, node=name, found=found))
    return places


def look_at_pins(machine: Machine) -> list[Place]:
    """Say which chips of pins there are; what is wired to them cannot be told from outside."""
    places = []
    for path in machine.pin_chips():
        if os.access(path, os.R_OK | os.W_OK):
            places.append(Place("gpio", "gpio", "free", PINS, node=path))
        else:
            places.append(
                Place("gpio", "gpio", "failed", NO_PERMISSION.filled(path=path), node=path)
            )
    return places
