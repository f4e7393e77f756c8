"""Small scenarios as texts, and how a test plays one."""

from __future__ import annotations

from pathlib import Path

from hil.scenario.load import Loaded, load
from hil.scenario.run import Outcome, run

HEAD = """\
lasts = "{lasts}"
start = 2027-01-15T00:00:00+09:00
seed = 7
title = {{ en = "A test", ja = "試験" }}
summary = {{ en = "A test.", ja = "試験です。" }}
"""

LINE = """\
[[config.sensors]]
id = "snow-1"
driver = "lufft-umb"
bus = "/dev/ttyUSB0"
options = { model = "shm31", interval_s = 5.0 }
[truth.snow-1]
depth_cm = { keyframes = [["0h", 30.0], ["1h", 36.0]] }
"""

SURFACE = """\
[[config.sensors]]
id = "surface-1"
driver = "mlx90614"
bus = "/dev/i2c-1"
options = { address = 0x5A, emissivity = 0.95 }
[truth.surface-1]
surface_temperature_c = 6.0
"""

GATE = """\
[[config.sensors]]
id = "gate"
driver = "contact"
bus = "gpio"
options = { pin = 22, measures = "open" }
[truth.gate]
open = "no"
"""


def text(*parts: str, lasts: str = "20m") -> str:
    return "\n".join((HEAD.format(lasts=lasts), *parts))


def fault(verb: str, at: str, for_: str = "0s", **parameters: object) -> str:
    lines = [f'verb = "{verb}"', f'at = "{at}"', f'for = "{for_}"']
    for name, value in parameters.items():
        shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
        lines.append(f"{name} = {shown}")
    return "\n".join(("[[faults]]", *lines))


def loaded(folder: Path, *parts: str, lasts: str = "20m") -> Loaded:
    path = folder / "a-test.toml"
    path.write_text(text(*parts, lasts=lasts), encoding="utf-8")
    return load(path)


def played(folder: Path, *parts: str, lasts: str = "20m") -> Outcome:
    return run(loaded(folder, *parts, lasts=lasts))
