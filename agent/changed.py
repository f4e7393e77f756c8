"""What changed from one configuration to another, without secrets; and all that is known of it."""

from __future__ import annotations

import difflib
from itertools import pairwise
from pathlib import Path
from typing import Any

from config.load import ConfigError, Toml, read

from . import applied
from .redaction import redacted
from .toml import toml_text
from .trials import told

FILE = "file"  # the side that is no entry


def difference(a: tuple[str, Toml], b: tuple[str, Toml]) -> list[str]:
    """Return how two configurations differ, given by name and content, line by line."""
    (a_name, a_lines), (b_name, b_lines) = (
        (name, toml_text(redacted(document)).splitlines()) for name, document in (a, b)
    )
    return list(difflib.unified_diff(a_lines, b_lines, a_name, b_name, lineterm=""))


def history(config_file: Path) -> dict[str, Any]:
    """Return which configurations there were, and what each changed. Raises OSError."""
    entries = applied.find(config_file).entries()
    holds = applied.newest_confirmed(entries)
    sides = [(str(each.number), each.document) for each in entries if each.document]
    base = ""
    try:
        document, _ = read(config_file)
    except ConfigError:
        pass  # what is wrong with it is told elsewhere
    else:
        base = applied.digest(document)
        sides.append((FILE, document))
    return {
        "holds": None if holds is None else holds.number,
        "file_edited": holds is not None and base != holds.base,
        "entries": [told(each) for each in entries],
        "changes": [{"a": a[0], "b": b[0], "diff": difference(a, b)} for a, b in pairwise(sides)],
    }
