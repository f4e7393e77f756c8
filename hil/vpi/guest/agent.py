"""The guest's side of `hil.vpi.agent`: commands in, answers out, a line of JSON each.

Runs with Debian's own Python, as root, from boot on; knows nothing of the product.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/vpi.agent")
BOARD = Path("/sys/devices/platform/gpio-sim.0")


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; return what comes of it."""
    if "pins" in asked:
        (chip,) = BOARD.glob("gpiochip*")
        for pin, level in asked["pins"]:
            (chip / f"sim_gpio{pin}" / "pull").write_text("pull-up" if level else "pull-down")
        return {}
    if "file" in asked:
        path = Path(asked["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(asked["text"])
        return {}
    done = subprocess.run(
        ["/bin/sh", "-c", asked["run"]], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return {
        "code": done.returncode,
        "out": done.stdout.decode(errors="replace"),
        "err": done.stderr.decode(errors="replace"),
    }


def main() -> None:
    """Answer for ever."""
    with PORT.open("r+b", buffering=0) as port:
        rest = b""
        while True:
            some = port.read(65536)
            *lines, rest = (rest + (some or b"")).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                try:
                    said = answer(asked)
                except Exception as exc:  # noqa: BLE001  (it goes to whoever asked)
                    said = {"error": repr(exc)}
                left = json.dumps({"id": asked["id"], **said}).encode() + b"\n"
                while left:
                    left = left[port.write(left) :]


if __name__ == "__main__":
    main()
