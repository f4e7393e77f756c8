from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.broker import MOSQUITTO
from hil.vpi.image import Image, image, missing
from hil.vpi.image import fresh_image as fresh
from hil.vpi.layers import BuildError


@pytest.fixture(scope="session")
def pi_image() -> Image:
    """What a virtual Pi boots from; built once a machine, in some minutes."""
    return built(image)


@pytest.fixture(scope="session")
def fresh_image() -> Image:
    """The same without a gateway on it, and with its packages."""
    return built(fresh)


def built(build: Callable[[Callable[[str], None]], Image]) -> Image:
    absent = missing()
    if not Path(MOSQUITTO).exists():
        absent.append("mosquitto")
    if absent:
        refuse(f"apt-get install --no-install-recommends {' '.join(absent)}")
    if os.geteuid() != 0:
        refuse("a virtual Pi's disk is built as root")
    try:
        return build(print)
    except BuildError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no virtual Pi: {exc}")


def refuse(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
