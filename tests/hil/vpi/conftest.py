from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.broker import MOSQUITTO
from hil.vpi.image import Image, image, missing
from hil.vpi.layers import BuildError


@pytest.fixture(scope="session")
def pi_image() -> Image:
    """What a virtual Pi boots from; built once a machine, in some minutes."""
    absent = missing()
    if not Path(MOSQUITTO).exists():
        absent.append("mosquitto")
    if absent:
        refuse(f"apt-get install --no-install-recommends {' '.join(absent)}")
    if os.geteuid() != 0:
        refuse("a virtual Pi's disk is built as root")
    try:
        return image(print)
    except BuildError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no virtual Pi: {exc}")


def refuse(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
