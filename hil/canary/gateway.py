"""The canary's gateway: every people sensor there is, most of them beside the counters with frames,
and what is no people sensor; alerts on crowds, and windows of a second.
"""

from __future__ import annotations

from pathlib import Path

from .pattern import PINS

GATEWAY = "canary"
CONTROL_SOCKET = "ask"  # beside the configuration

# A pack of as many records fits into one page of the spool's file: it is whole in dead pages too.
PACK_RECORDS = 40

PEOPLE = {
    **dict.fromkeys(PINS, "pulse-counter"),
    "door-1": "beam-pair",
    "gate-1": "benewake-tf-pair",
    "hall-1": "grideye-amg88xx",
    "hall-2": "omron-d6t",
    "passage-1": "hlk-ld2450",
}
OPTIONS = {
    **{
        name: f"pin_towards = {towards}, pin_away = {away}, min_gap_ms = 3.0"
        for name, (towards, away) in PINS.items()
    },
    "door-1": "pin_a = 20, pin_b = 21",
    "gate-1": 'model = "tfmini-s", port_b = "/dev/ttyUSB1", warmup_s = 2.0',
    "hall-1": "warmup_s = 0.0",
    "hall-2": 'model = "44L-06"',
    "passage-1": "line_y_mm = 1500",
    "road-1": 'model = "irs31pro", interval_s = 1.0',
    "snow-1": 'model = "shm31", interval_s = 1.0',
    "snow-2": "mount_height_cm = 350.0",
}
OTHERS = {
    "road-1": "lufft-umb",
    "snow-1": "lufft-umb",
    "snow-2": "maxbotix-hrxl",
    "air-1": "bme280",
    "supply-1": "ina219",
    "board-1": "pi-health",
    "place-1": "nmea-gnss",
}

_CONFIG = """\
[gateway]
id = "{gateway}"
label = {{ ja = "試験場", en = "Bench" }}
[uplink]
brokers = ["mqtt://127.0.0.1:{port}"]
offset_s = 2.5
batch_records = {pack}
backlog_bytes_per_s = 400000
[spool]
path = "{spool}"
[clock]
trust = "system"
[control]
socket = "{socket}"
[privacy.flow]
window_s = 1
[alerts.crowding]
persons = 50
"""
_BUS = """\
[[buses]]
id = "{bus}"
kind = "simulated"
"""
_SENSOR = """\
[[sensors]]
id = "{name}"
driver = "{driver}"
bus = "{bus}"
options = {{ {options} }}
"""


def configuration(port: int, spool: Path) -> str:
    """Return its TOML, for a broker on this port of 127.0.0.1."""
    text = _CONFIG.format(
        gateway=GATEWAY, port=port, pack=PACK_RECORDS, spool=spool, socket=CONTROL_SOCKET
    )
    text += "".join(_BUS.format(bus=bus) for bus in dict.fromkeys(map(_bus, PEOPLE | OTHERS)))
    for name, driver in (PEOPLE | OTHERS).items():
        options = OPTIONS.get(name, "")
        text += _SENSOR.format(name=name, driver=driver, bus=_bus(name), options=options)
        text += "" if name in PEOPLE else "window_s = 1\n"
    return text


def _bus(name: str) -> str:
    """Return a sensor's bus: the pins are one; who sends frames has its own, and keeps its rate."""
    if PEOPLE.get(name) in ("pulse-counter", "beam-pair"):
        return "pins"
    return f"bus-{name}" if name in PEOPLE else "rest"
