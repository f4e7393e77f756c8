"""The Debian package on a virtual Pi that never had a gateway: a little of what `make vpi` does."""

from __future__ import annotations

import pytest

from hil.vpi.field import Extent, check_field
from hil.vpi.image import Image
from hil.vpi.steps import without_panic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = 3
# The configuration on trial begins to run. Of an update's power cuts, see tests/deb.
CONFIG = "gateway: rename to control.sock"


def test_installed_it_delivers_and_comes_back_from_a_hang_kills_and_cuts(
    fresh_image: Image,
) -> None:
    extent = Extent(
        steps=("hangs", "kills", "config"),
        threads=("uplink",),
        kills=KILLS,
        until={"good configuration": CONFIG},
    )
    found = without_panic(lambda: check_field(fresh_image, print, extent)).evidence
    assert found["install"]["sensors"] == ["snow-1", "weather-1"]
    assert list(found["hangs"]) == ["uplink"]
    assert found["kills"]["kills"] == KILLS
    assert list(found["good configuration"].values()) == ["before"]
