"""The state of a road's surface in the contract's classes, and the makers' codes for it.

One class comes of every code, `unknown` of one that its maker's table does not have; the code
itself is always kept beside it, as `condition_code`.

Sources: Lufft manual IRS31Pro-UMB V10 01.2020 (channel 900); Fintraffic's vocabulary of its road
stations, sensors 23 and 24 (Vaisala ROSA and DSC). [K]: 100 or 200 more is one of Vaisala's
warnings or alarms.
"""

from __future__ import annotations

from collections.abc import Mapping

from .base import Quantity

CONDITIONS = (
    "dry",
    "moist",
    "wet",
    "wet_salt",
    "slush",
    "frost",
    "snow",
    "packed_snow",
    "ice",
    "unknown",
    "fault",
)

# 25 is "moist with salt"; the contract has one class for both of the salted ones.
LUFFT: Mapping[int, str] = {
    10: "dry",
    15: "moist",
    20: "wet",
    25: "wet_salt",
    30: "wet_salt",
    35: "ice",
    40: "snow",
    45: "frost",
}
VAISALA: Mapping[int, str] = {
    0: "fault",
    1: "dry",
    2: "moist",
    3: "wet",
    4: "wet_salt",
    5: "frost",
    6: "snow",
    7: "ice",
    8: "wet_salt",  # "probably moist and salty"
    9: "slush",
}
VAISALA_WARNING, VAISALA_ALARM = 100, 200  # added to the code

CONDITION_CODE = Quantity(
    "condition_code",
    "1",
    "the device's own code of the condition",
    classes=tuple(str(code) for code in range(256)),
)


def lufft(code: int) -> str:
    """Return the class for a code of Lufft's channel 900."""
    return LUFFT.get(code, "unknown")


def vaisala(code: int) -> str:
    """Return the class for a surface state of Vaisala's, with or without warning or alarm."""
    if code >= VAISALA_ALARM:
        code -= VAISALA_ALARM
    elif code >= VAISALA_WARNING:
        code -= VAISALA_WARNING
    return VAISALA.get(code, "unknown")


def condition(codes: Mapping[int, str]) -> Quantity:
    """Return the quantity `condition` of a device that tells it by `codes`."""
    told = {*codes.values(), "unknown"}
    return Quantity(
        "condition",
        "1",
        "condition of the road surface",
        classes=tuple(name for name in CONDITIONS if name in told),
    )
