"""What runs here: versions of the program, of what it rests on, and of the machine."""

from __future__ import annotations

import platform
import re
import sqlite3
import ssl
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from . import __version__
from .build import build

MODEL = Path("/proc/device-tree/model")  # of a Pi and its like


def versions() -> dict[str, str]:
    """Return versions by name; what cannot be told is left out."""
    found = {
        "yukimi": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "TLS": ssl.OPENSSL_VERSION,
        "kernel": f"{platform.release()} {platform.machine()}",
    }
    if build():
        found["build"] = build()
    with suppress(OSError):
        found["system"] = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    with suppress(OSError):
        found["board"] = MODEL.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    return found | packages()


def packages() -> dict[str, str]:
    """Return the versions of the packages that this one asks for, where they are installed."""
    found: dict[str, str] = {}
    try:
        wanted = metadata.requires("yukimi") or []
    except metadata.PackageNotFoundError:
        return found
    for line in wanted:
        name = re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0]
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return dict(sorted(found.items()))
