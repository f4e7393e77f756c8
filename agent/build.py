"""Which build this is, where the package that installed it says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FILE = Path(sys.prefix) / "build.json"  # of the environment that we run in


def build() -> str:
    """Return the package's version and commit; "" where no package installed us."""
    try:
        told = json.loads(FILE.read_text(encoding="utf-8"))
        return f"package {told['package']} {told['architecture']}, commit {told['commit']}"
    except (OSError, ValueError, LookupError, TypeError):
        return ""
