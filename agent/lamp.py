"""A lamp that blinks what is wrong: the board's own, or one on a pin.

A lamp that cannot be had costs a line in the log and nothing else. The board's lamp is given back
to whoever had it: the kernel lets it show the card's activity.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from drivers.base import BusError
from drivers.gpio import OutputPin

from .blink import Blinker, Vitals, pattern
from .logs import logger

log = logger("lamp")

LEDS = Path("/sys/class/leds")
OLD_NAMES = {"ACT": "led0", "PWR": "led1"}  # before Linux 6


class Light(Protocol):
    """Something that can be on or off. Its calls raise BusError."""

    def set(self, on: bool) -> None:
        """Switch it."""

    def close(self) -> None:
        """Give it back."""


class BoardLight:
    """A lamp of the kernel's, by its name in /sys/class/leds."""

    def __init__(self, name: str, folder: Path = LEDS) -> None:
        """Take it over. Raises BusError."""
        names = (name, OLD_NAMES.get(name, name))
        self._folder = next((folder / each for each in names if (folder / each).is_dir()), None)
        if self._folder is None:
            there = ", ".join(sorted(each.name for each in folder.glob("*"))) or "none"
            raise BusError(f'there is no lamp "{name}" in {folder}; there are: {there}')
        self._trigger = self._chosen_trigger()
        self._write("trigger", "none")

    def set(self, on: bool) -> None:
        """Switch it. Raises BusError."""
        self._write("brightness", "1" if on else "0")

    def close(self) -> None:
        """Let it show again what it showed before."""
        with suppress(BusError):
            self.set(False)
            self._write("trigger", self._trigger)

    def _chosen_trigger(self) -> str:
        with suppress(OSError):
            chosen = re.search(r"\[(\S+)\]", self._file("trigger").read_text())
            if chosen:
                return chosen[1]
        return "none"

    def _write(self, name: str, text: str) -> None:
        try:
            self._file(name).write_text(text)
        except OSError as exc:
            raise BusError(
                f"{self._file(name)}: {exc.strerror}: may user yukimi write it?"
                " systemd/60-yukimi-led.rules permits it"
            ) from exc

    def _file(self, name: str) -> Path:
        if self._folder is None:
            raise BusError("there is no lamp")
        return self._folder / name


def light_of(led: str | int) -> Light:
    """Return the lamp of a configuration: a name, or a pin by its BCM number. Raises BusError."""
    return OutputPin(led) if isinstance(led, int) else BoardLight(led)


class Lamp:
    """The thread that blinks, for one life of the gateway."""

    def __init__(
        self,
        led: str | int,
        vitals: Callable[[], Vitals],
        *,
        make: Callable[[str | int], Light] = light_of,
    ) -> None:
        self._led = led
        self._vitals = vitals
        self._make = make
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lamp", daemon=True)

    def start(self) -> None:
        """Begin to blink."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and give the lamp back."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            light = self._make(self._led)
        except BusError as exc:
            log.warning("the lamp cannot be used", led=self._led, error=str(exc))
            return
        blinker = Blinker()
        try:
            while not self._stopping.is_set():
                for is_on, lasts_s in pattern(blinker.code(self._vitals())):
                    light.set(is_on)
                    if self._stopping.wait(lasts_s):
                        break
        except BusError as exc:
            log.warning("the lamp does not obey any more", led=self._led, error=str(exc))
        finally:
            light.close()
