"""From what a person typed to a value, or a ValueError; nothing else is raised.

What a configuration demands is asked of its model, so that both demand the same.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from pydantic import ValidationError

from config.model import ID_PATTERN, Location, SensorTable, SpoolTable, UplinkTable

# What would be shown as something else than it is, or end a line of the file.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b-\u200f\u202a-\u202e\ufffd]")


def plain(answer: str) -> str:
    """Return wide letters and digits, as a Japanese keyboard gives them, as plain ones."""
    return unicodedata.normalize("NFKC", answer).strip()


def identifier(answer: str) -> str:
    """Return the id of a gateway or sensor."""
    answer = plain(answer)
    if not ID_PATTERN.match(answer):
        raise ValueError(answer)
    return answer


def printable(answer: str) -> str:
    """Return one line of text."""
    if UNPRINTABLE.search(answer):
        raise ValueError("not printable")
    return answer.strip()


def secret(answer: str) -> str:
    """Return a password."""
    if not answer or "\n" in answer or "\r" in answer:
        raise ValueError("not one line")
    return answer


def location(answer: str) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees; None for an empty answer."""
    if not answer.strip():
        return None
    latitude, longitude = (float(part) for part in re.split(r"[,、\s]+", plain(answer)))
    Location(latitude=latitude, longitude=longitude)
    return latitude, longitude


def brokers(answer: str) -> list[str]:
    """Return the URLs of brokers."""
    urls = [url for url in re.split(r"[,、\s]+", plain(answer)) if url]
    try:
        return UplinkTable(brokers=urls).brokers
    except ValidationError as exc:
        raise ValueError(answer) from exc


def file(answer: str) -> str:
    """Return the absolute path of a file that can be read; empty for an empty answer."""
    if not answer:
        return ""
    try:
        with Path(answer).open("rb"):
            return str(Path(answer).absolute())
    except OSError as exc:
        raise ValueError(answer) from exc


def window_s(answer: str) -> int:
    """Return the length of a window in seconds."""
    window_s = int(plain(answer))
    SensorTable(id="x", driver="", bus="", window_s=window_s)
    return window_s


def spool(answer: str) -> str:
    """Return the absolute path of a file that can be made."""
    path = Path(SpoolTable(path=answer).path).absolute()
    if path.is_dir() or not folder_that_can_be_written(path.parent):
        raise ValueError(answer)
    return str(path)


def depth_cm(answer: str) -> float:
    """Return a depth of snow in cm."""
    return _number(answer, 0.0, 1000.0)


def temperature_c(answer: str) -> float | None:
    """Return a temperature in degC; None for an empty answer."""
    return _number(answer, -60.0, 80.0) if answer.strip() else None


def _number(answer: str, low: float, high: float) -> float:
    value = float(plain(answer))
    if not low <= value <= high:
        raise ValueError(answer)
    return value


def trust(answer: str) -> str:
    """Return which clock is believed."""
    if answer not in ("kernel", "system"):
        raise ValueError(answer)
    return answer


def folder_that_can_be_written(folder: Path) -> bool:
    """Tell whether a folder can be written to, or made."""
    at = folder.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    return at.is_dir() and os.access(at, os.W_OK | os.X_OK)
