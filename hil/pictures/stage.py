"""`yukimi` on a board whose files, broker and name server are the bench's.

    python -m hil.pictures.stage STAGE.json VERB...

Nothing of the program is another: the broker's name and address lead to the bench's Mosquitto, the
doctor reads a sound Raspberry Pi's files, and a run has the same id each time, so that a picture
changes only where the program does. SIGUSR1 pulls a sensor's plug in the running gateway.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BROKER, ADDRESS = "broker.example", "192.0.2.10"  # RFC 2606, RFC 5737: nobody's
RUN = "5a9907e1c0ffee23"
UNPLUGGED = "snow-1"


@dataclass(frozen=True, slots=True)
class Stage:
    """What is elsewhere than the program would look for it."""

    broker_port: int  # on this machine
    roots: Mapping[str, str]  # "/sys" -> where it is instead
    programs: Mapping[str, str]  # what systemctl says, by the start of its arguments

    def write(self, path: Path) -> None:
        """Write it for the processes that play on it."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Set the stage, and run the command line on it."""
    stage = Stage(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    _lead_to(stage.broker_port)
    if "run" in arguments:
        _name_the_run()
        _listen_for_the_plug()
    if "doctor" in arguments:
        _show_the_board(stage)
    from agent.cli import main as command_line

    return command_line(list(arguments[1:]))


def resolved(host: Any, *rest: Any, **named: Any) -> Any:
    """Know the broker's name; ask the system for all others."""
    return _resolve(ADDRESS if host == BROKER else host, *rest, **named)


_resolve = socket.getaddrinfo


def _lead_to(port: int) -> None:
    connect = socket.socket.connect

    def redirected(line: socket.socket, address: Any) -> None:
        is_broker = isinstance(address, tuple) and address[0] == ADDRESS
        connect(line, ("127.0.0.1", port) if is_broker else address)

    vars(socket)["getaddrinfo"] = resolved
    setattr(socket.socket, "connect", redirected)  # noqa: B010  (mypy forbids it as an assignment)


def _name_the_run() -> None:
    from agent import app

    vars(app)["secrets"] = SimpleNamespace(token_hex=lambda _bytes: RUN)


def _listen_for_the_plug() -> None:
    from hil import simulated

    class Bus(simulated.SimulatedBus):
        """Knows where the plug is."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)

            def pull(*_signal: object) -> None:
                wire: Any = self.wire(UNPLUGGED)
                wire.line.silence(self.devices[UNPLUGGED])

            signal.signal(signal.SIGUSR1, pull)

    vars(simulated)["SimulatedBus"] = Bus


def _show_the_board(stage: Stage) -> None:
    from agent.doctor import site

    here = site.local

    def there(config_file: Path) -> site.Site:
        def told(command: Sequence[str]) -> str | None:
            words = " ".join(command[1:])
            return next((t for start, t in stage.programs.items() if words.startswith(start)), None)

        return replace(
            here(config_file),
            roots={name: Path(path) for name, path in stage.roots.items()},
            run_program=told,
            resolve=resolved,
            way_to=lambda _address: None,
        )

    vars(site)["local"] = there


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
