"""A Raspberry Pi's own health, as its kernel shows it in small files."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from typing import Any

from ..emulation import Complaint, Emulation

FIRMWARE = "/sys/devices/platform/soc/soc:firmware"
_DAY_S = 86400.0

# Of the firmware's word; the same 16 bits higher remember.
UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 1, 2, 4, 8


class BoardDevice:
    """A FileDevice: a board with or without a firmware that talks, an eMMC, and a name.

    `now` holds the firmware's bits of this moment; what was once there is remembered.
    """

    def __init__(
        self,
        *,
        model: str = "Raspberry Pi Compute Module 4 Rev 1.1",
        has_firmware: bool = True,
        life_time: str | None = "0x01 0x02",
        idle_c: float = 48.0,
        zone_type: str = "cpu-thermal",
        seed: int = 0,
    ) -> None:
        self.now = 0
        self.idle_c = idle_c
        self.life_time = life_time
        self.is_garbled = False  # every file says nonsense
        self.is_gone = False  # every file fails, as where /sys is not mounted
        self._model = model
        self._has_firmware = has_firmware
        self._zone_type = zone_type
        self._ever = 0
        self._phase = seed % 997 / 997

    def files(self, now_s: float) -> Mapping[str, str | OSError]:
        """Return the files that bear on the board's health."""
        self._ever |= self.now
        files: dict[str, str | OSError] = {
            "/sys/class/thermal/thermal_zone0/type": self._zone_type + "\n",
            "/sys/class/thermal/thermal_zone0/temp": f"{self._milli_c(now_s)}\n",
            "/sys/block/mmcblk0/size": "61071360\n",
            "/sys/block/mmcblk0boot0/size": "8192\n",
            "/sys/devices/platform/serial8250/driver_override": "(null)\n",
        }
        if self._model:
            files["/sys/firmware/devicetree/base/model"] = self._model + "\0"
        if self._has_firmware:
            files[f"{FIRMWARE}/get_throttled"] = f"{self._ever << 16 | self.now:x}\n"
        if self.life_time is not None:
            files["/sys/block/mmcblk0/device/life_time"] = self.life_time + "\n"
        if self.is_gone:
            return {path: OSError(errno.EIO, os.strerror(errno.EIO)) for path in files}
        if self.is_garbled:
            return dict.fromkeys(files, "\0?garbage\n")
        return files

    def _milli_c(self, now_s: float) -> int:
        """Follow the day in the cabinet, in steps of the sensor (487 m degC)."""
        swing_c = 6.0 * math.sin(2 * math.pi * (now_s / _DAY_S + self._phase))
        ripple_c = 1.5 * math.sin(now_s / 7.0)
        return round((self.idle_c + swing_c + ripple_c) * 1000 / 487) * 487


def _build(_options: Any, seed: int) -> BoardDevice:
    return BoardDevice(seed=seed)


EMULATION = Emulation(
    _build,
    options={},
    truth={
        "cpu_temperature_c": (35.0, 60.0),
        "throttled": frozenset(("no",)),
        "disk_life_percent": (80.0, 80.0),
    },
    complaints={
        "impossible temperature": Complaint(
            lambda device: setattr(device, "idle_c", -274.0), "out_of_range"
        ),
    },
)
