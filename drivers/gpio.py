"""Pins: edges with the kernel's time stamps, through gpiozero.

Drivers see `PinBus`: they ask for some pins once and take the edges since their last poll. The
pin factory comes from outside: the system's own on a Pi (lgpio), gpiozero's MockFactory on the
bench. `GpiozeroPins` is the only place that sees gpiozero's and lgpio's errors: they leave here
as BusError with the pin and what a technician can do.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .base import BusError, Clock, Withheld

if TYPE_CHECKING:
    from gpiozero.pins import Factory, Pin

Pull = Literal["up", "down", "none"]

# A person in two beams makes four edges; this many between two polls is noise on the cable.
EDGES_LIMIT = 4096

_PULLS = {"up": "up", "down": "down", "none": "floating"}


@dataclass(frozen=True, slots=True, repr=False)
class Edge(Withheld):
    """A pin changed to the electrical level `level` (0 or 1) at `at_boot_ns`."""

    pin: int
    level: int
    at_boot_ns: int


class PinWatch(Protocol):
    """The pins of one driver."""

    def edges(self) -> list[Edge]:
        """Take the edges since the last call, oldest first. Raises BusError if some were lost."""
        ...

    def level(self, pin: int) -> int:
        """Return the electrical level now."""
        ...

    def close(self) -> None:
        """Give the pins back. Never raises."""
        ...


class PinBus(Protocol):
    """All pins of the board."""

    def watch(self, pins: Sequence[int], *, pull: Pull) -> PinWatch:
        """Take `pins` (BCM numbers) as inputs. Raises BusError if one is taken or unknown."""
        ...


def boot_ns() -> int:
    """Return the boot-time clock, which also runs while the board sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class GpiozeroPins:
    """The board's pins through gpiozero; `factory` None means lgpio, the kernel's own interface.

    gpiozero's own choice of a factory falls back to libraries without kernel time stamps and
    without the Pi 5, so lgpio is asked for by name. A factory that was given is not closed here.
    """

    def __init__(self, factory: Factory | None = None, *, now_ns: Clock = boot_ns) -> None:
        self._given = factory
        self._now_ns = now_ns
        self._factory: Factory | None = None
        self._taken: set[int] = set()

    def open(self) -> None:
        """Take hold of the board's pins. Raises BusError."""
        if self._factory is None:
            self._factory = self._given or _lgpio_factory()

    def close(self) -> None:
        """Let go of the board's pins."""
        factory, self._factory = self._factory, None
        if factory is not None and factory is not self._given:
            with suppress(*_library_errors()):
                factory.close()

    def watch(self, pins: Sequence[int], *, pull: Pull) -> PinWatch:
        """Take `pins` (BCM numbers) as inputs. Raises BusError if one is taken or unknown."""
        if self._factory is None:
            raise BusError("gpio: bus is not open")
        for number in pins:
            # gpiozero hands the same pin to anybody who asks, and the last one gets the edges.
            if number in self._taken or pins.count(number) > 1:
                raise BusError(
                    f"pin {number} (BCM) is taken by another sensor: give each its own pin"
                )
        watch = _Watch(self._factory, self._taken, self._now_ns)
        try:
            for number in pins:
                watch.take(number, pull)
        except BusError:
            watch.close()
            raise
        return watch


class OpenDrain:
    """A pin that pulls a line low or lets it go; it never drives it high.

    For a wire with a pull-up and other talkers: the clock of an I2C bus that is stuck.
    """

    def __init__(self, number: int, factory: Factory | None = None) -> None:
        self._number = number
        self._given = factory

    def pulse(self, times: int) -> None:
        """Pull the line low and let it go, `times` times. Raises BusError."""
        factory = self._given or _lgpio_factory()
        try:
            pin = factory.pin(self._number)
            for _ in range(times):
                # Python's own pace, some ten kilohertz, is slow enough for any device.
                pin.output_with_state(0)
                pin.input_with_pull("floating")
        except _library_errors() as exc:
            raise BusError(_advice(self._number, exc)) from exc
        finally:
            if factory is not self._given:
                with suppress(*_library_errors()):
                    factory.close()


class OutputPin:
    """One pin that is driven, high for on; `factory` as in GpiozeroPins."""

    def __init__(self, number: int, factory: Factory | None = None) -> None:
        """Take the pin (BCM number) and switch it off. Raises BusError."""
        self._number = number
        self._given = factory
        self._factory = factory or _lgpio_factory()
        self._pin: Pin | None = None
        try:
            self._pin = self._factory.pin(number)
            self._pin.output_with_state(0)
        except _library_errors() as exc:
            self.close()
            raise BusError(_advice(number, exc)) from exc

    def set(self, on: bool) -> None:
        """Switch it. Raises BusError."""
        try:
            if self._pin is not None:
                self._pin.state = int(on)
        except _library_errors() as exc:
            raise BusError(_advice(self._number, exc)) from exc

    def close(self) -> None:
        """Let go of the pin."""
        with suppress(*_library_errors()):
            if self._pin is not None:
                self._pin.close()
            if self._factory is not self._given:
                self._factory.close()


class _Watch:
    """The pins of one driver, and the queue between gpiozero's thread and the driver's."""

    def __init__(self, factory: Factory, taken: set[int], now_ns: Clock) -> None:
        self._factory = factory
        self._taken = taken
        self._now_ns = now_ns
        self._pins: dict[int, Pin] = {}
        self._listeners: list[_Listener] = []  # gpiozero keeps only weak references
        self._queue: queue.Queue[tuple[int, int, Any]] = queue.Queue(EDGES_LIMIT)

    def take(self, number: int, pull: Pull) -> None:
        """Make one pin an input and listen to it. Raises BusError."""
        listener = _Listener(number, self._queue)
        try:
            pin = self._factory.pin(number)
            self._taken.add(number)
            self._pins[number] = pin
            pin.input_with_pull(_PULLS[pull])
            pin.edges = "both"
            # The pin, not gpiozero's Button: a device's callback has lost the kernel's time. No
            # bounce filter either: it moves the edges, and where it ends is the driver's matter.
            pin.when_changed = listener.changed
        except _library_errors() as exc:
            raise BusError(_advice(number, exc)) from exc
        self._listeners.append(listener)

    def edges(self) -> list[Edge]:
        """Take the edges since the last call, oldest first. Raises BusError if some were lost."""
        raw: list[tuple[int, int, Any]] = []
        while len(raw) < EDGES_LIMIT:
            try:
                raw.append(self._queue.get_nowait())
            except queue.Empty:
                break
        lost = sum(listener.take_lost() for listener in self._listeners)
        if lost:
            # What came before the hole is dropped with it: half a passage is nobody's.
            pins = ", ".join(str(number) for number in self._pins)
            raise BusError(f"pins {pins} (BCM): edges were lost; look for a loose contact or noise")
        # Both clocks are read after the last edge, so that no edge is younger than now.
        now_ns, now_ticks = self._now_ns(), self._factory.ticks()
        edges = [
            Edge(pin, level, now_ns - round(self._factory.ticks_diff(now_ticks, ticks) * 1e9))
            for pin, level, ticks in raw
        ]
        return sorted(edges, key=lambda edge: edge.at_boot_ns)

    def level(self, pin: int) -> int:
        """Return the electrical level now. Raises BusError."""
        if pin not in self._pins:
            raise BusError(f"pin {pin} (BCM) is not watched")
        try:
            return int(self._pins[pin].state)
        except _library_errors() as exc:
            raise BusError(_advice(pin, exc)) from exc

    def close(self) -> None:
        """Give the pins back."""
        pins, self._pins = self._pins, {}
        for number, pin in pins.items():
            with suppress(*_library_errors()):
                pin.when_changed = None
            self._taken.discard(number)


class _Listener:
    """Takes one pin's edges on gpiozero's thread, and only puts them on the queue."""

    def __init__(self, number: int, edges: queue.Queue[tuple[int, int, Any]]) -> None:
        self._number = number
        self._queue = edges
        self._lost = 0  # written by gpiozero's thread only
        self._told = 0  # written by the driver's thread only

    def changed(self, ticks: Any, state: int) -> None:
        try:
            self._queue.put_nowait((self._number, int(state), ticks))
        except queue.Full:
            self._lost += 1

    def take_lost(self) -> int:
        lost = self._lost - self._told
        self._told += lost
        return lost


def _lgpio_factory() -> Factory:
    try:
        from gpiozero.pins.lgpio import LGPIOFactory
    except ImportError as exc:
        raise BusError(
            f"gpio: no lgpio library ({exc}): install python3-lgpio, or yukimi with its extra 'pi'"
        ) from exc
    except OSError as exc:
        # lgpio makes a pipe in the working directory when it is imported.
        raise BusError(f"gpio: lgpio cannot write its working directory: {exc}") from exc
    try:
        return LGPIOFactory()
    except _library_errors() as exc:
        raise BusError(
            f"gpio: cannot open the board's pins ({exc}): "
            "is this a Raspberry Pi, and may this user read /dev/gpiochip* (group gpio)?"
        ) from exc


def _library_errors() -> tuple[type[Exception], ...]:
    """Return what gpiozero lets through; lgpio's error has no base but Exception."""
    from gpiozero.exc import GPIOZeroError

    lgpio = sys.modules.get("lgpio")
    return (GPIOZeroError, OSError, *([lgpio.error] if lgpio else []))


def _advice(number: int, exc: Exception) -> str:
    from gpiozero.exc import PinFixedPull, PinInvalidPin

    if isinstance(exc, PinInvalidPin):
        return f"pin {number} (BCM) is not on this board: use a BCM number, not the header's"
    if isinstance(exc, PinFixedPull):
        return f"pin {number} (BCM) has a pull-up on the board: set pull = 'up' or use another pin"
    return f"pin {number} (BCM): {exc}; is it used by another program or a device tree overlay?"
