"""What the air's humidity says of water on surfaces: dew point and frost point.

Both by the Magnus formula with the coefficients of Sonntag (1990), which the WMO recommends:

    over water, -45 to 60 degC    6.112 hPa * exp(17.62 t / (243.12 + t))
    over ice,   -65 to  0 degC    6.112 hPa * exp(22.46 t / (272.62 + t))

Against Sonntag's full formula a dew point between -50 and 60 degC is right to 0.11 degC; a frost
point made of a dew point down to -45 degC, to 0.05 degC. Sensors err by far more: 3 % of humidity
are 0.5 degC of dew point in damp air, and 1 degC at 40 %.

Source: WMO-No. 8, annex 4.B; Sonntag, Z. Meteorol. 70 (1990) 340.
"""

from __future__ import annotations

import math

MAGNUS_C = (-45.0, 60.0)  # the air's temperature, where the formula holds


def dew_point_c(air_c: float, relative_percent: float) -> float | None:
    """Return the dew point over water in degC, of humidity over water, as sensors give it.

    None in perfectly dry air, which has none, and where the formula does not hold.
    """
    if relative_percent <= 0 or not MAGNUS_C[0] <= air_c <= MAGNUS_C[1]:
        return None
    logarithm = math.log(relative_percent / 100) + 17.62 * air_c / (243.12 + air_c)
    return 243.12 * logarithm / (17.62 - logarithm)


def frost_point_c(dew_c: float) -> float:
    """Return below what temperature in degC the air lays down water on a surface: dew or frost.

    Below freezing that is the frost point, which is higher than the dew point over water: ice
    holds its water more firmly. Above it is the dew point itself.
    """
    if dew_c >= 0:
        return dew_c
    logarithm = 17.62 * dew_c / (243.12 + dew_c)
    return 272.62 * logarithm / (22.46 - logarithm)
