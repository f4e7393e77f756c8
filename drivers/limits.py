"""What a believable series keeps to: the limits that the drivers' quantities have by default.

They are the climate's and the medium's, not a device's: what Hokkaido's weather and roads have
done, with room beyond it, and changes that no front, cloud, shower or plough makes. A limit that
rejects a true extreme is worse than none, so where the true thing jumps (films, friction, what a
moving vehicle sees) there is none, and by default nothing is rejected for being flat: melting holds
a surface at 0 degC for hours. The configuration overrides each of them. Pure.

Sources: JMA, observed extremes (Hokkaido: air -41.0 degC at Asahikawa in 1902, 39.5 degC at Saroma
in 2019); WMO, records of dew point (35 degC) and of temperature change (27 degC in two minutes).
"""

from __future__ import annotations

from collections.abc import Mapping

from .base import AIR_TEMPERATURE, Limits

NONE = Limits()

AIR_C = Limits(
    range=(-45.0, 50.0),
    suspect_range=(-42.0, 42.0),
    spike=5.0,  # samples are up to minutes apart; a step of 10 degC between two is no weather
    suspect_spike=2.0,
    rate_per_s=1.0,  # the fastest rise on record was 0.23
    suspect_flat_s=43_200.0,  # half a day holds a night and a morning
)
HUMIDITY_PERCENT = Limits(
    range=(0.0, 100.0),
    suspect_range=(2.0, 100.0),
    spike=30.0,
    suspect_spike=10.0,
    rate_per_s=10.0,  # a door, a breath
    # no flat line: fog and falling snow hold it at 100 % for days
)
PRESSURE_HPA = Limits(
    range=(780.0, 1070.0),  # from 900 hPa at sea level, seen from 1,200 m
    spike=10.0,  # a car's door, a lorry in a tunnel: up to 5
    suspect_spike=5.0,
    rate_per_s=5.0,
    suspect_flat_s=21_600.0,  # the atmosphere's own tide moves it by more than 0.1 hPa
)
DEW_POINT_C = Limits(
    range=(-65.0, 36.0),
    spike=15.0,  # computed, and steep where the air is dry
    suspect_spike=5.0,
    rate_per_s=3.0,
)
SURFACE_C = Limits(
    range=(-50.0, 75.0),  # a clear night cools it below the air; dark asphalt in the sun
    suspect_range=(-40.0, 70.0),
    spike=5.0,  # a car's bonnet under an infrared thermometer
    suspect_spike=2.0,
    rate_per_s=1.0,  # a shower on hot asphalt: 0.3
    suspect_flat_s=86_400.0,  # wet snow holds it at 0 degC through an afternoon, not a day
)
HOUSING_C = Limits(range=(-45.0, 90.0), spike=5.0, suspect_spike=2.0, rate_per_s=1.0)
# Rangers are good for about a centimetre; a surface of snow is uneven by another, and a window's
# depth may move by a shower's. What is farther off is a flake, a passer-by or a second reflection.
# Flakes come in crowds: tests that look at neighbours would reject the surface for them.
OUTLIER_CM = 3.0

# Below the ground by more than the zero may be wrong, or deeper than any street's snow; deeper
# than anybody measured (Mount Ibuki, 1182 cm).
DEPTH_CM = Limits(range=(-50.0, 1200.0), suspect_range=(-5.0, 400.0), outlier=OUTLIER_CM)

# For the devices whose quantities the configuration names.
_BY_NAME: Mapping[str, Limits] = {
    AIR_TEMPERATURE: AIR_C,
    "humidity_percent": HUMIDITY_PERCENT,
    "pressure_hpa": PRESSURE_HPA,
    "dew_point_c": DEW_POINT_C,
    "surface_temperature_c": SURFACE_C,
    "depth_cm": DEPTH_CM,
}


def of(quantity: str) -> Limits:
    """Return the limits of a quantity of that name; of an unknown one nobody knows."""
    return _BY_NAME.get(quantity, NONE)


def under_way(limits: Limits) -> Limits:
    """Return them for a sensor on a vehicle: what it sees jumps from place to place, truly."""
    return Limits(range=limits.range, suspect_range=limits.suspect_range)
