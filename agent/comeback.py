"""A gateway that dies young again and again comes back more and more slowly.

systemd starts it again for ever, the thousandth time as soon as the first: it learned to wait
longer each time with version 254 only. Each life writes to the card, so who dies of the same thing
at every start must not do so each three seconds for a winter. What is counted is in the service's
runtime folder, which is memory: it is gone after a reboot, a stop, and a good end.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

YOUNG_S = 60.0  # who lived for longer has not died of starting
FREE = 3  # so often in a row nobody waits
FIRST_S = 2.0
CAP_S = 60.0


@dataclass(frozen=True, slots=True)
class Rest:
    """How long to wait before a life begins, and after how many that ended young."""

    wait_s: float
    deaths: int


def rest_s(deaths: int) -> float:
    """Return how long to wait after so many lives in a row that ended young."""
    if deaths <= FREE:
        return 0.0
    return float(min(CAP_S, FIRST_S * 2 ** min(deaths - FREE - 1, 16)))


def begin(folder: Path | None, now_s: float) -> Rest:
    """Note that a life begins at `now_s` (boot-time clock), and return what to wait before.

    Without a folder, or where it cannot be written, nobody waits.
    """
    if folder is None:
        return Rest(0.0, 0)
    deaths, file = 0, _file(folder)
    with suppress(OSError, ValueError, KeyError, TypeError):
        earlier = json.loads(file.read_text(encoding="ascii"))
        is_young = now_s - float(earlier["began_s"]) < YOUNG_S
        deaths = int(earlier["deaths"]) + 1 if is_young else 0
    rest = Rest(rest_s(deaths), deaths)
    with suppress(OSError):
        told = {"deaths": deaths, "began_s": round(now_s + rest.wait_s, 3)}
        file.write_text(json.dumps(told), encoding="ascii")
    return rest


def end(folder: Path | None) -> None:
    """Note that a life ended as it should: the next one does not wait."""
    if folder is not None:
        with suppress(OSError):
            _file(folder).unlink()


def runtime_folder() -> Path | None:
    """Return the folder in memory that systemd keeps for the service; None without systemd."""
    name = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(name) if name else None


def _file(folder: Path) -> Path:
    return folder / "starts.json"
