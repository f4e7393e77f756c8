"""Where things are unless somebody says otherwise, for tools that must answer at once.

Imports next to nothing: what only asks a running gateway need not load the configuration's model.
"""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_PATH = Path("/etc/yukimi/gateway.toml")
# While the service runs, what it was handed; else where systemd takes it from.
CREDENTIALS = ("/run/credentials/yukimi.service", "/etc/credstore")
CONTROL_SOCKET = "/run/yukimi/control.sock"


def default_path() -> Path:
    """Return where the configuration is when nobody says: $YUKIMI_CONFIG, else /etc."""
    return Path(os.environ.get("YUKIMI_CONFIG") or DEFAULT_PATH)


def control_socket(name: str, config_file: Path) -> Path:
    """Return the path of the control socket; a relative one is beside the configuration file."""
    return config_file.absolute().parent / name


def borrow_credentials() -> None:
    """Let a tool find the service's secrets where it may; else it would call them missing."""
    for folder in CREDENTIALS:
        if os.access(folder, os.R_OK | os.X_OK):
            os.environ.setdefault("CREDENTIALS_DIRECTORY", folder)
            return
