"""One option of one sensor, changed in a configuration file that a person has written.

Comments and layout stay. The change is made only where it is plain: the sensor has its options in
a table of their own, `[sensors.options]`, a line a key. It is proved before it is kept: read again,
the new text must differ from the old one in that option and in nothing else.
"""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .newfile import named_beside
from .toml import toml_value

_TABLE = re.compile(r"\s*\[\[?\s*(?P<name>[^]]+?)\s*\]\]?\s*(#.*)?$")


def amended(text: str, sensor: str, key: str, value: object) -> str | None:
    """Return the text with a sensor's option set; None where that cannot be done plainly."""
    try:
        document = tomllib.loads(text)
        index = [table.get("id") for table in document["sensors"]].index(sensor)
    except (tomllib.TOMLDecodeError, AttributeError, LookupError, TypeError, ValueError):
        return None
    lines = text.splitlines(keepends=True)
    options = _options_of(lines, index)
    if options is None:
        return None
    wanted: dict[str, Any] = copy.deepcopy(document)
    wanted["sensors"][index].setdefault("options", {})[key] = value
    written = f"{key} = {toml_value(key, value)}"
    changed = "".join(_set(lines, options, key, written))
    try:
        return changed if tomllib.loads(changed) == wanted else None
    except tomllib.TOMLDecodeError:
        return None


def amend(file: Path, sensor: str, key: str, value: object) -> bool:
    """Set a sensor's option in a file, in one step; False where that cannot be done plainly.

    Owner and mode stay. Raises OSError.
    """
    file = file.resolve()
    changed = amended(file.read_text(encoding="utf-8"), sensor, key, value)
    if changed is None:
        return False
    old = file.stat()
    with named_beside(file) as out:
        os.fchown(out.fileno(), old.st_uid, old.st_gid)
        os.fchmod(out.fileno(), old.st_mode & 0o777)
        out.write(changed.encode())
    return True


def _options_of(lines: Sequence[str], index: int) -> range | None:
    """Return which lines a sensor's own table of options has, its head excluded."""
    sensors = -1
    begin: int | None = None
    for number, line in enumerate(lines):
        found = _TABLE.match(line)
        if found is None:
            continue
        if begin is not None:
            return range(begin, number)
        if found["name"] == "sensors":
            sensors += 1
        elif found["name"] == "sensors.options" and sensors == index:
            begin = number + 1
    return None if begin is None else range(begin, len(lines))


def _set(lines: Sequence[str], options: range, key: str, written: str) -> list[str]:
    """Put `written` in the place of the key's line, of its commented default, or first."""
    changed = list(lines)
    for mark in ("", "# "):
        form = re.compile(rf"(?P<all>{mark}{re.escape(key)}\s*=\s*[^#\n]*?)(?P<rest>\s*(#.*)?)\n?$")
        for number in options:
            found = form.fullmatch(changed[number])
            if found is not None:
                room = max(0, len(found["all"]) + len(found["rest"]) - len(written))
                comment = found["rest"].strip()
                gap = " " * max(2, room - len(comment)) if comment else ""
                changed[number] = f"{written}{gap}{comment}\n"
                return changed
    changed.insert(options.start, f"{written}\n")
    return changed
