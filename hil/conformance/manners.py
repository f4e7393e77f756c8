"""What every driver promises besides measuring: it tidies up, stays small, and says who it is."""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from drivers import base
from drivers.base import BusError, DriverError, Found, FrameError
from hil import emulation
from hil.buses import SimulatedI2c, SimulatedSerial
from hil.rig import Now

from .lawful import BrokenPromiseError, broken, expect
from .trial import SEED, Subject, Trial, held_bytes

MEMORY_POLLS = 1500
GROWTH_BYTES = 64 * 1024
SCAN_S = 10.0
LISTEN_S = 15.0
POLLED_EACH_S = (0.01, 3600.0)

_FILES = Path("/proc/self/fd")
_ATTRIBUTES = ("interval_s", "rate_hz", "frames", "frame_errors", "identity", "quantities")


def test_many_polls_hold_no_more_memory(subject: Subject) -> None:
    """A gateway runs for years: what a driver keeps is bounded."""
    trial = Trial(subject)
    trial.measure()
    held = []
    for _ in range(2):
        trial.run(0.0, at_least=MEMORY_POLLS)
        held.append(held_bytes(trial.driver, beside=(trial.clock, trial.wire, trial.device, trial)))
    expect(
        held[1] - held[0] < GROWTH_BYTES,
        f"{MEMORY_POLLS} more polls, and the driver holds {held[1] - held[0]} bytes more: "
        "bound every list",
    )


def test_it_closes_cleanly(subject: Subject) -> None:
    """Closing never raises, twice or before opening; nothing is left running or open."""
    threads, files = set(threading.enumerate()), set(_FILES.iterdir())
    trial = Trial(subject)
    _close(trial, "before it was opened")
    trial.measure()
    _close(trial, "while it measured")
    _close(trial, "a second time")
    trial.close()
    if subject.spec.bus not in ("w1", "system"):
        try:
            trial.driver.poll()
        except DriverError:
            pass
        except Exception as exc:
            raise BrokenPromiseError(
                f"poll() after close() raised {type(exc).__name__}: {exc}; a BusError is right"
            ) from exc
        else:
            broken("poll() after close(), the bus closed too, raised no BusError")
    left = set(threading.enumerate()) - threads
    expect(not left, f"threads are left running: {left}; a driver starts none")
    still = set(_FILES.iterdir()) - files
    expect(len(still) <= 1, f"file descriptors are left open: {still}")  # listing opens one
    fresh = Trial(subject)
    fresh.measure("another of the same driver does not measure after the first was closed")


def _close(trial: Trial, when: str) -> None:
    try:
        trial.driver.close()
    except Exception as exc:
        raise BrokenPromiseError(
            f"close() {when} raised {type(exc).__name__}: {exc}; it never raises"
        ) from exc


def test_building_it_touches_nothing(subject: Subject) -> None:
    """A driver does no I/O before `open`, and has what every driver has."""
    trial = Trial(subject)
    expect(trial.tap.transactions == 0, "it talked to its bus before open()")
    for name in _ATTRIBUTES:
        expect(hasattr(trial.driver, name), f"it has no attribute `{name}` (drivers.base.Driver)")
    if subject.is_serial:
        expect(isinstance(trial.driver, base.SerialDriver), "a serial driver has feed()")
    low_s, high_s = POLLED_EACH_S
    interval_s, rate_hz = trial.driver.interval_s, trial.driver.rate_hz
    expect(low_s <= interval_s <= high_s, f"interval_s = {interval_s}: between {low_s}, {high_s}")
    expect(0.0001 <= rate_hz <= 1000, f"rate_hz = {rate_hz}: valid samples a second, nominally")
    if subject.is_people:
        expect(rate_hz == 1.0, f"rate_hz = {rate_hz}; of people sensors it is the seconds alive: 1")
        expect(not trial.driver.quantities, "a people sensor has no quantities: it counts")


def test_the_spec_says_what_a_technician_must_know(subject: Subject) -> None:
    """Every field that is printed, documented and built upon is filled."""
    spec = subject.spec
    expect(spec.name == subject.name, f'Spec.name is "{spec.name}", and it goes by {subject.name}')
    for name in ("title", "evidence_note", "source"):
        expect(getattr(spec, name).strip(), f"Spec.{name} is empty")
    for name in ("wiring", "quirks"):
        said = getattr(spec, name)
        expect(said and all(each.strip() for each in said), f"Spec.{name}: at least one sentence")
    if spec.bus != "system":
        expect(
            spec.header and all(a.strip() and b.strip() for a, b in spec.header),
            'Spec.header: each wire and its place, such as ("SDA", "pin 3 (GPIO 2)")',
        )
    if spec.bus == "serial":
        expect(spec.line, "Spec.line: how the line is set by default")
    if spec.bus == "i2c":
        expect(spec.addresses, "Spec.addresses: where such a device can be")
        expect(
            all(0x08 <= address <= 0x77 for address in spec.addresses),
            "Spec.addresses: 7-bit addresses are 0x08 to 0x77",
        )
    if subject.is_people:
        expect(spec.directions and not spec.quantities, "people: directions, and no quantities")
    elif spec.kind != "position":
        named = spec.quantities or Trial(subject).driver.quantities
        expect(named, "Spec.quantities: all it may report, or what the options name")
    for quantity in spec.quantities:
        bounded = quantity.low is not None and quantity.high is not None
        expect(
            quantity.is_class or bounded,
            f"Spec.quantities: {quantity.name} needs low and high, what the device can say at all",
        )
        if quantity.low is not None and quantity.high is not None:
            expect(quantity.low < quantity.high, f"{quantity.name}: low is not below high")


def test_every_option_says_what_it_is(subject: Subject) -> None:
    """A technician reads the descriptions; the example of the emulation is complete."""
    for name, _, _, means in base.describe(subject.driver.Options):
        expect(means.strip(), f"option {name} has no description")
    missing = subject.options().missing_to_measure()
    expect(not missing, f"EMULATION.options is no complete sensor: {missing}")
    try:
        subject.options(no_such_option=1)
    except ValueError:
        pass
    else:
        broken("an unknown option is accepted: derive Options from drivers.base.Options")
    claims = subject.options().claims()
    if subject.spec.bus == "i2c":
        address = getattr(subject.options(), "address", None)
        expect(
            address in subject.spec.addresses,
            f"option address {address!r} is none of Spec.addresses",
        )
        wanted = f"i2c address 0x{address:02x}"
        expect(wanted in claims, f'Options.claims() is {claims}; it names "{wanted}"')
    if subject.spec.bus == "gpio":
        expect(
            claims and all(claim.startswith("pin ") for claim in claims),
            f'Options.claims() is {claims}; it names each pin, "pin 17"',
        )


def test_its_page_is_complete(subject: Subject) -> None:
    """`yukimi drivers NAME` tells the quantities, the options, the wiring and the source."""
    paper = io.StringIO()
    with contextlib.redirect_stdout(paper), contextlib.redirect_stderr(paper):
        code = cli.main(["drivers", subject.name])
    page = " ".join(paper.getvalue().split())
    expect(code == 0, f"`yukimi drivers {subject.name}` ended with {code}: {page}")
    spec = subject.spec
    wanted = [spec.name, spec.title, spec.source, spec.evidence, *spec.wiring]
    wanted += [quantity.name for quantity in spec.quantities]
    wanted += list(subject.driver.Options.model_fields)
    missing = [text for text in wanted if " ".join(text.split()) not in page]
    expect(not missing, f"`yukimi drivers {subject.name}` does not say {missing}")


def test_a_scan_finds_its_device(subject: Subject) -> None:
    """`recognise` on I2C; on a serial line `discover`, or listening to one that talks."""
    kind = subject.spec.bus
    if kind not in ("i2c", "serial"):
        pytest.skip("nothing to scan for: pins are silent, and the kernel lists its files")
    found = _scanned(subject, subject)
    expect(found, f"a scan does not find the device behind EMULATION ({_how(subject)})")
    for each in found:
        expect(each.what.strip(), "Found.what is empty: name the device for a person")
        unknown = sorted(set(each.options) - set(subject.driver.Options.model_fields))
        expect(not unknown, f"Found.options names {unknown}, which are no options of the driver")
        subject.options(**dict(each.options))


def test_a_scan_leaves_other_devices_to_their_drivers(subject: Subject) -> None:
    """Another device at the same address or on the same line is not claimed."""
    kind = subject.spec.bus
    if kind not in ("i2c", "serial"):
        pytest.skip("nothing to scan for")
    for name in emulation.emulated():
        if name == subject.name:
            continue
        try:
            other = Subject.named(name)
        except ImportError:
            continue  # a library of that driver is missing
        if other.spec.bus != kind or _product(other) is _product(subject):
            continue
        found = _scanned(subject, other)
        expect(
            not found,
            f"a {name} was taken for a {subject.name}: {found}; look at what only yours says "
            "(an identity, a checksum, reserved bits)",
        )
    if kind == "i2c":
        for byte in (0x00, 0xFF):
            found = _ask(subject, _Same(byte), subject.spec.addresses[0], Now())
            expect(
                not found, f"one that says nothing but {byte:02X} was taken for a {subject.name}"
            )


def _product(subject: Subject) -> type:
    """Return what the device is: two drivers may be for the same, one for two of it."""
    device: Any = subject.emulation.build(subject.options(), SEED)
    return type(device[0] if isinstance(device, tuple) else device)


def _how(subject: Subject) -> str:
    if subject.spec.bus == "i2c":
        return "classmethod recognise(bus, address)"
    if subject.spec.talks:
        return f"Spec.talks is set, and feed() finds no frame in {LISTEN_S:g} s of listening"
    return "classmethod discover(port, now_ns, until_ns); or set Spec.talks if it sends unasked"


def _scanned(subject: Subject, other: Subject) -> list[Found]:
    """Scan as the driver of `subject` does where the device of `other` is."""
    options, clock = other.options(), Now()
    device: Any = other.emulation.build(options, SEED)
    if options.second_port() is not None:
        device = device[0]
    if subject.spec.bus == "i2c":
        return _recognised(subject, other, device, clock)
    line = subject.options().line() or subject.spec.line
    expect(line is not None, "a serial driver has Spec.line")
    port = SimulatedSerial(
        [device], clock, wait_s=clock.advance, baud=None if line is None else line.baud
    )
    port.open()
    if hasattr(subject.driver, "discover"):
        until_ns = clock.ns() + round(SCAN_S * 1e9)
        try:
            found = list(subject.driver.discover(port, clock.ns, until_ns))
        except (BusError, FrameError):
            found = []
        late_s = (clock.ns() - until_ns) / 1e9
        expect(late_s <= 1.0, f"discover() went on {late_s:.1f} s after `until_ns`")
        if found or not subject.spec.talks:
            return found
    if not subject.spec.talks:
        return []
    fed, end_s = subject.passive(), clock() + LISTEN_S
    while clock() < end_s:
        fed.feed(port.read(0.5), clock.ns())
        clock.advance(0.01)
    heard = fed.driver.frames > max(1, fed.driver.frame_errors)
    return [Found(subject.spec.title, {})] if heard else []


def _recognised(subject: Subject, other: Subject, device: Any, clock: Now) -> list[Found]:
    """Ask at the other's address: the own one, or each at which both can be."""
    own = getattr(other.options(), "address", None)
    both = set(subject.spec.addresses) & set(other.spec.addresses)
    found = []
    for address in [int(str(own))] if subject is other else sorted(both):
        clock.advance(max(1.0, other.emulation.measures_after_s))
        for _ in range(2):  # the first may find it booting
            found += _ask(subject, device, address, clock)
            clock.advance(1.0)
    return found


def _ask(subject: Subject, device: Any, address: int, clock: Now) -> list[Found]:
    expect(hasattr(subject.driver, "recognise"), f"a scan cannot find it ({_how(subject)})")
    bus = SimulatedI2c({address: device}, clock)
    bus.open()
    try:
        found = subject.driver.recognise(bus, address)
    except (BusError, FrameError):
        return []
    return [] if found is None else [found]


class _Same:
    """An I2C device that says one byte whatever it is asked: a bus held low, an empty memory."""

    def __init__(self, byte: int) -> None:
        self._byte = byte

    def write(self, data: bytes, now_s: float) -> None:
        """Take anything."""

    def read(self, length: int, now_s: float) -> bytes:
        """Say the byte."""
        return bytes((self._byte,)) * length
