"""How what really happens gets into the devices: the quantities of each, and who passes it.

A device is told its truth as a function of its own time, which begins when the gateway boots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any

from ..devices import d6t, grideye, ld2450
from ..devices.beams import BeamCrowd
from ..devices.benewake import TfDevice, Way
from ..devices.board import BoardDevice
from ..devices.contact import ContactDevice
from ..devices.lufft import F32, U8

# How a device is told the truth: (device, driver's options, function of the device's time).
Put = Callable[[Any, Any, Callable[[float], Any]], None]
Crossing = tuple[float, str]  # the device's time, "towards" or "away"


def _attribute(name: str, *, factor: float = 1.0) -> Put:
    def put(device: Any, _options: Any, truth: Callable[[float], Any]) -> None:
        setattr(device, name, truth if factor == 1.0 else lambda at_s: truth(at_s) * factor)

    return put


def _below_mount(device: TfDevice, options: Any, truth: Callable[[float], Any]) -> None:
    device.distance_cm = lambda at_s: float(options.mount_height_cm) - truth(at_s)


ROAD_CODES = {"dry": 10, "moist": 15, "wet": 20, "ice": 35, "snow": 40, "frost": 45}


def _channel(number: int, type_: int, code: Callable[[Any], float] = float) -> Put:
    def put(device: Any, _options: Any, truth: Callable[[float], Any]) -> None:
        noise = Random(device._random.getrandbits(32))

        def said(at_s: float) -> float:
            value = code(truth(at_s))
            return value + noise.gauss(0.0, 0.05) if type_ == F32 else value

        device.channels[number] = (type_, said)
        if number == 101:  # the same in hundredths of a degree, which some models are asked for
            kind = device.channels[1049][0]
            device.channels[1049] = (kind, lambda at_s: 10 * said(at_s))

    return put


def _contact(device: ContactDevice, options: Any, truth: Callable[[float], Any]) -> None:
    """Let a contact follow a yes and no: "open" is bad of a door, "no" is bad of the mains."""
    bad = options.measures == "open"
    device.follow(lambda at_s: (truth(at_s) in (True, "yes")) != bad)


BOARD_STEP_C = 0.487  # of its sensor


def _board_temperature(device: BoardDevice, _options: Any, truth: Callable[[float], Any]) -> None:
    def milli_c(now_s: float) -> int:
        return 487 * round(float(truth(now_s)) / BOARD_STEP_C)

    device._milli_c = milli_c  # type: ignore[method-assign]


def _board_throttled(device: BoardDevice, _options: Any, truth: Callable[[float], Any]) -> None:
    files = device.files

    def told(now_s: float) -> Mapping[str, str | OSError]:
        device.now = 1 if truth(now_s) == "under_voltage" else 0  # bit 0
        device._ever |= device.now
        return files(now_s)

    device.files = told  # type: ignore[method-assign]


QUANTITIES: Mapping[str, Mapping[str, Put]] = {
    "benewake-tf": {"depth_cm": _below_mount, "distance_cm": _attribute("distance_cm")},
    "bme280": {
        "air_temperature_c": _attribute("temperature_c"),
        "humidity_percent": _attribute("humidity_percent"),
        "pressure_hpa": _attribute("pressure_pa", factor=100.0),
    },
    "campbell-sr50a": {
        "depth_cm": _attribute("depth_cm"),
        "air_temperature_c": _attribute("air_c"),
    },
    "contact": {"open": _contact, "power_ok": _contact},
    "ds18b20": {"air_temperature_c": _attribute("air_c")},
    "ina219": {"supply_v": _attribute("voltage_v"), "current_a": _attribute("current_a")},
    "lufft-umb": {
        "surface_temperature_c": _channel(101, F32),
        "condition": _channel(900, U8, lambda name: ROAD_CODES[str(name)]),
        "depth_cm": _channel(604, F32),
    },
    "maxbotix-hrxl": {"depth_cm": _attribute("depth_cm")},
    "mlx90614": {"surface_temperature_c": _attribute("surface_c")},
    "pi-health": {"cpu_temperature_c": _board_temperature, "throttled": _board_throttled},
    "vaisala-md30": {"surface_temperature_c": _attribute("surface_c")},
}

_YES_OR_NO = ("yes", "no", True, False)
# Of a quantity that is a class: what a device can be told.
CLASSES: Mapping[tuple[str, str], tuple[str | bool, ...]] = {
    ("contact", "open"): _YES_OR_NO,
    ("contact", "power_ok"): _YES_OR_NO,
    ("lufft-umb", "condition"): tuple(ROAD_CODES),
    ("pi-health", "throttled"): ("no", "under_voltage"),
}


def put(
    driver: str, device: Any, options: Any, quantity: str, truth: Callable[[float], Any]
) -> None:
    """Let a device measure `truth`, a function of its own time."""
    QUANTITIES[driver][quantity](device, options, truth)


# People


def _thinned(people: Iterable[Any], share: Callable[[float], float], dice: Random) -> Iterator[Any]:
    """Let only some of a dense crowd come: at each moment the share that belongs to it."""
    for person in people:
        if dice.random() < share(person.start_s):
            yield person


class VaryingBeams(BeamCrowd):
    """A crowd in single file whose density changes: pauses are drawn for the moment they begin."""

    rate: Callable[[float], float]

    def _walk(self) -> Iterator[tuple[float, int, int]]:
        for change in super()._walk():
            self._spacing_s = 60.0 / max(0.01, self.rate(change[0]))
            yield change


Rate = Callable[[float], float]  # persons a minute, at the device's time


def _grideye(device: Any, _options: Any, rate: Rate, peak: float, seed: int) -> None:
    people = grideye._crowd(Random(seed), peak)
    device.scene = grideye.Scene(_thinned(people, lambda s: rate(s) / peak, Random(seed + 1)))


def _d6t(device: Any, _options: Any, rate: Rate, peak: float, seed: int) -> None:
    people = d6t._crowd(Random(seed), peak, 0.8)
    device.scene = d6t.Doorway(_thinned(people, lambda s: rate(s) / peak, Random(seed + 1)))


def _ld2450(device: Any, options: Any, rate: Rate, peak: float, seed: int) -> None:
    people = ld2450._crowd(Random(seed), peak)
    thinned = _thinned(people, lambda s: rate(s) / peak, Random(seed + 1))
    device.passage = ld2450.Passageway(thinned, line_mm=options.line_y_mm)


def _beams(device: Any, options: Any, rate: Rate, _peak: float, seed: int) -> None:
    device.__class__ = VaryingBeams
    device.rate = rate
    level = 0 if options.active == "low" else 1
    VaryingBeams.__init__(
        device, seed, max(0.01, rate(0.0)), options.pin_a, options.pin_b, blocked_level=level
    )


def _lidars(pair: Any, _options: Any, rate: Rate, _peak: float, seed: int) -> None:
    crowd = VaryingBeams.__new__(VaryingBeams)
    crowd.rate = rate
    VaryingBeams.__init__(crowd, seed, max(0.01, rate(0.0)), 0, 1, blocked_level=1)
    way = Way(crowd)
    for number, device in enumerate(pair):
        device.distance_cm = way.beam(number)
        device.way = way


CROWDS: Mapping[str, Callable[[Any, Any, Rate, float, int], None]] = {
    "beam-pair": _beams,
    "benewake-tf-pair": _lidars,
    "grideye-amg88xx": _grideye,
    "hlk-ld2450": _ld2450,
    "omron-d6t": _d6t,
}


def bring_crowd(
    driver: str, device: Any, options: Any, rate: Rate, *, peak: float, seed: int
) -> None:
    """Let people pass a device: `rate` a minute by its own time, at most `peak`."""
    CROWDS[driver](device, options, rate, max(0.01, peak), seed)


def take_crossings(driver: str, device: Any) -> list[Crossing]:
    """Return who passed since the last call, by the device's own time; nothing is kept."""
    if driver == "beam-pair":
        return _taken(device.passages)
    if driver == "benewake-tf-pair":
        return _taken(device[0].way.crowd.passages)
    place = device.passage if driver == "hlk-ld2450" else device.scene
    taken = [(at_s, str(way)) for at_s, way in place.crossings]
    place.crossings.clear()
    return taken


def _taken(passages: list[Any]) -> list[Crossing]:
    taken = [(each.end_s, each.way) for each in passages if each.way != "turned_back"]
    passages.clear()
    return taken
