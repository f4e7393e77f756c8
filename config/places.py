"""Where things are unless somebody says otherwise, for tools that must answer at once.

Imports next to nothing: what only asks a running gateway need not load the configuration's model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEFAULT_PATH = Path("/etc/yukimi/gateway.toml")
# While the service runs, what it was handed; else where systemd takes it from.
CREDENTIALS = ("/run/credentials/yukimi.service", "/etc/credstore")
ENCRYPTED = "/etc/credstore.encrypted"
STORES = ("/etc/credstore", ENCRYPTED)
GATEWAY_ID = "gateway-id"
CONTROL_SOCKET = "/run/yukimi/control.sock"


def default_path() -> Path:
    """Return where the configuration is when nobody says: $YUKIMI_CONFIG, else /etc."""
    return Path(os.environ.get("YUKIMI_CONFIG") or DEFAULT_PATH)


def control_socket(name: str, config_file: Path) -> Path:
    """Return the path of the control socket; a relative one is beside the configuration file."""
    return config_file.absolute().parent / name


_who_knows: list[Callable[[], str | None]] = []  # a tool's way to ask


@contextmanager
def borrowing(ask_id: Callable[[], str | None]) -> Iterator[None]:
    """Let a tool find what the service was handed, and be the gateway that it is.

    `ask_id` is asked who that is where neither the configuration nor a credential says so.
    """
    before = os.environ.get("CREDENTIALS_DIRECTORY")
    folder = next((each for each in CREDENTIALS if os.access(each, os.R_OK | os.X_OK)), None)
    if before is None and folder is not None:
        os.environ["CREDENTIALS_DIRECTORY"] = folder
    _who_knows.append(ask_id)
    try:
        yield
    finally:
        _who_knows.remove(ask_id)
        if before is None:
            os.environ.pop("CREDENTIALS_DIRECTORY", None)


def told_id() -> str | None:
    """Return who the gateway is, by whom there is to ask."""
    return next(filter(None, (ask() for ask in _who_knows)), None)


def hidden_id() -> str | None:
    """Return where a credential may say who the gateway is that only the service can read."""
    for folder in STORES:
        path = os.path.join(folder, GATEWAY_ID)  # noqa: PTH118  (Path.exists may raise)
        is_closed = os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK)  # noqa: PTH112
        if is_closed or (folder == ENCRYPTED and os.path.exists(path)):  # noqa: PTH110
            return path
    return None
