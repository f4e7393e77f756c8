"""How a ranger hangs: the same geometry for every one of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import drivers
from drivers.base import Reading
from drivers.depth import MountedOptions, Overhead, depth, distance
from hil.rig import Rig

RANGERS = ["benewake-tf", "campbell-sr50a", "maxbotix-hrxl"]


@given(st.floats(50.0, 1000.0), st.floats(0.0, 300.0), st.floats(0.0, 60.0), st.floats(-20.0, 20.0))
def test_snow_square_to_a_slope_is_as_deep_as_it_is(
    height_cm: float, snow_cm: float, slope_deg: float, zero_cm: float
) -> None:
    """Seen along the beam, a layer of a depth is longer by 1/cos; the zero is wrong by itself."""
    along_beam_cm = (snow_cm + zero_cm) / math.cos(math.radians(slope_deg))
    options = MountedOptions(mount_height_cm=height_cm, zero_cm=zero_cm, slope_deg=slope_deg)
    assert options.depth_cm(height_cm - along_beam_cm) == pytest.approx(snow_cm, abs=1e-6)


def test_what_it_says_over_bare_ground_becomes_the_zero() -> None:
    hung = MountedOptions(mount_height_cm=350.0, slope_deg=10.0)
    bare_cm = hung.depth_cm(347.3)
    assert bare_cm is not None
    zeroed = hung.model_copy(update={"zero_cm": bare_cm})
    assert zeroed.depth_cm(347.3) == 0.0


def test_without_a_height_there_is_a_distance_only() -> None:
    options = MountedOptions()
    overhead = Overhead(distance(30.0, 500.0, "far"), depth(500.0), options)
    assert list(overhead.quantities) == ["distance_cm"]
    assert overhead.measured(123.456, 7) == [Reading("distance_cm", 123.46, 7)]
    assert overhead.nothing("obstructed", 7) == [Reading("distance_cm", None, 7, ("obstructed",))]
    (missing,) = options.missing_to_measure()
    assert missing.startswith("mount_height_cm")


@pytest.mark.parametrize("name", RANGERS)
def test_every_ranger_hangs_alike(name: str) -> None:
    def measured(**options: float) -> dict[str, float]:
        rig = Rig(name, **options)
        found: dict[str, float] = {}
        for each in rig.run(60.0):
            if isinstance(each, Reading) and isinstance(each.value, float):
                found[each.quantity] = each.value
        return found

    plain = measured()
    assert plain["depth_cm"] == pytest.approx(350.0 - plain["distance_cm"], abs=0.01)
    hung = measured(zero_cm=-1.5, slope_deg=12.0)
    assert hung["distance_cm"] == plain["distance_cm"]
    expected_cm = (350.0 - hung["distance_cm"]) * math.cos(math.radians(12.0)) + 1.5
    assert hung["depth_cm"] == pytest.approx(expected_cm, abs=0.01)


@pytest.mark.parametrize("name", RANGERS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"mount_height_cm": 0.0},
        {"mount_height_cm": 3500.0},  # millimetres
        {"zero_cm": 100.0},
        {"slope_deg": -1.0},
        {"slope_deg": 90.0},
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        drivers.load(name).Options(**wrong)


@pytest.mark.parametrize("name", [*RANGERS, "lufft-umb"])
def test_depths_say_what_is_believed_of_them(name: str) -> None:
    (depth_cm,) = [q for q in drivers.load(name).spec.quantities if q.name == "depth_cm"]
    assert depth_cm.limits.outlier == 3.0
    assert depth_cm.limits.range is not None
    assert depth_cm.limits.suspect_range is not None
    low_cm, high_cm = depth_cm.limits.suspect_range
    assert depth_cm.limits.range[0] <= low_cm < 0 < high_cm <= depth_cm.limits.range[1]
